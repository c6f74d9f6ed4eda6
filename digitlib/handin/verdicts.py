"""A verdict: what is in it, and how it is shown to graders and students."""

import base64
import csv
import hashlib
import json
from pathlib import Path

from digitlib.errors import plain
from digitlib.files import replacing, write_text
from digitlib.handin import render
from digitlib.handin.evidence import TITLE_PAGE
from digitlib.handin.systems import no_formula

# The whole hand-in is judged by the worst of its lines, the last of these: the word for it.
WORDS = {"holds": "holds", "cannot be checked": "holds in part", "does not hold": "does not hold"}
TEXTS = ("file", "student", "student_id", "path", "sha256", *TITLE_PAGE, "model", "stated")
TEXTS += ("settings", "nearest", "digitlib", "checked")
NUMBERS = ("accuracy", "writers", "distance", "report")  # None, where there is none
LISTS = ("notes", "alike")
COLUMNS = ("student", "student_id", "path", "verdict", "accuracy", "writers", "model", "retrained")
COLUMNS += ("nearest", "distance", "notes", "feedback", "file", *TITLE_PAGE)
COLUMNS += ("does_not_hold", "cannot_be_checked", "sha256")
POLICY = (
    '<meta http-equiv="Content-Security-Policy" content="default-src \'none\'; img-src data:;'
    " style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; script-src 'sha256-{}'\">"
)


def make(lines, slot, **facts):
    """The verdict that the lines give.

    Parameters
    ----------
    lines : list of tuple
        Name, verdict and reason of each; the first says whether there is anything to be judged.
    slot : Submitted
        Whose hand-in it is, and where.
    **facts
        Of the fields below, those that are known.

    Returns
    -------
    dict
        ``file``, ``student``, ``student_id``, ``path``, ``sha256``, ``authors``, ``course``,
        ``title``, ``verdict`` (the worst of its claims), ``claims`` (list of ``claim``,
        ``verdict``, ``why``), ``accuracy`` (recomputed, 0..1, or None), ``writers`` (the same of
        the test writers' rows), ``model``, ``settings`` (a digest: equal
        for what is the same run), ``stated`` (what nobody can check), ``report`` (address of its
        first page, or None), ``retrained``, ``feedback`` (for the student),
        ``digitlib``, ``checked`` (when), ``seconds``; and of other hand-ins: ``nearest``,
        ``distance``, ``alike`` (by design), ``notes``.
    """
    verdict = dict.fromkeys(TEXTS, "") | dict.fromkeys(NUMBERS) | {name: [] for name in LISTS}
    claims = [{"claim": c, "verdict": v, "why": plain(why)} for c, v, why in lines]
    verdict |= {name: plain(getattr(slot, name)) for name in ("student", "student_id", "path")}
    verdict["file"] = plain(Path(slot.inside or slot.archive).name)
    verdict |= {"retrained": False, "seconds": 0.0, "claims": claims, **facts}
    worst = max((word for _, word, _ in lines), key=list(WORDS).index)
    verdict["verdict"] = WORDS[worst] if lines[0][1] == "holds" else "unreadable"
    wrong, unchecked = _claims(verdict, "does not hold"), _claims(verdict, "cannot be checked")
    told = render("feedback.txt.j2", v=verdict, wrong=wrong, unchecked=unchecked)
    return verdict | {"feedback": told.strip()}


def _claims(verdict, word):
    return [line["claim"] for line in verdict["claims"] if line["verdict"] == word]


def _notes(verdict):
    """What is to be known of other hand-ins, a sentence each."""
    yield from verdict["notes"]
    if verdict["alike"]:
        first, more = verdict["alike"][0], len(verdict["alike"]) - 1
        others = f" and {more} more" if more else ""
        yield f"identical by design (same code, data, settings, seed): {first}{others}"


def table(verdict):
    """Lines of text for a terminal."""
    return render("verdict.txt.j2", v=verdict, notes=_notes(verdict)).rstrip()


def write(verdict, folder):
    """Write ``verdict.json`` and ``verdict.html``."""
    folder.mkdir(parents=True, exist_ok=True)
    text = json.dumps(verdict, indent=2, ensure_ascii=False) + "\n"
    write_text(folder / "verdict.json", text)
    write_page(folder / "verdict.html", render("verdict.html.j2", v=verdict))


def write_marks(path, verdicts):
    """Write a CSV file with one line for each verdict."""
    with replacing(path) as part, open(part, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        writer.writerows(map(_marks, verdicts))


def _marks(verdict):
    """One hand-in's cells, by column; None is an empty one."""
    lines = {line["claim"]: line["why"] for line in verdict["claims"]}
    forms = {"accuracy": ".4f", "writers": ".4f", "distance": ".2g"}
    cells = {name: verdict.get(name) for name in COLUMNS} | {"retrained": lines.get("retraining")}
    cells |= {n: format(verdict[n], form) for n, form in forms.items() if verdict[n] is not None}
    lists = {"notes": _notes(verdict)}
    lists |= {"does_not_hold": _claims(verdict, "does not hold")}
    lists |= {"cannot_be_checked": _claims(verdict, "cannot be checked")}
    cells |= {name: "; ".join(texts) for name, texts in lists.items()}
    return {n: no_formula(cell) if isinstance(cell, str) else cell for n, cell in cells.items()}


def write_page(path, text):
    """Write a page of ours under a policy that lets no script run but its own last one."""
    script = text.rpartition("<script>")[2].partition("</script>")[0] if "<script>" in text else ""
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    head, found, rest = text.partition('<meta charset="utf-8">')
    write_text(Path(path), head + found + POLICY.format(digest) + rest)
