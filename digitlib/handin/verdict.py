"""The verdict in words: from six lines to a word, a reason, a feedback, a row of marks.csv."""

import base64
import csv
import hashlib
import re

from digitlib.errors import plain
from digitlib.files import replacing, write_text

# Name of each line, and what it proves.
PROVES = {
    "file": "it is whole, and its parts fit together",
    "data": "our rows, labels and folds, each row once; the scores are computed here",
    "model": "the handed-in weights give these predictions; their scalers saw training rows alone",
    "training": "trained again with the stated seed and settings, the same comes out",
    "code": "the run was made with the code that is here",
    "copy": "no other hand-in is nearly the same",
}
HOLDS, STATED, NOT_REPEATED, WRONG = "holds", "as stated", "not repeated", "does not hold"
LOOK = "look at it"  # in the line about copies: it does not change the verdict
NEAR = 0.001  # honest runs of different seeds are never so near (docs/grader.md)
MARKS = ("path", "number", "name", "verdict", "accuracy", "on the test writers", "training")
MARKS += ("nearest", "distance", "reason", "feedback")  # columns of marks.csv
POLICY = (
    '<meta http-equiv="Content-Security-Policy" content="default-src \'none\'; img-src data:;'
    " style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; script-src 'sha256-{}'\">"
)


def blank(slot, fault):
    """The verdict on a hand-in that is not judged because of a `fault`.

    Returns
    -------
    dict
        ``path``, ``number``; ``authors``, ``course``, ``title`` as the student states them;
        ``model`` in words; ``accuracy`` and ``writers`` (of the test writers' rows), 0..1 or None;
        ``lines`` (name -> word, reason); ``settings`` (equal: the same run by design); ``pages``
        and ``source`` (whether there are pages, and one of model.py); ``repeatable`` (whether the
        training can be repeated); ``nearest`` and ``distance`` of the others, ``near`` copies.
    """
    verdict = dict.fromkeys(("authors", "course", "title", "model", "settings", "nearest"), "")
    verdict |= dict.fromkeys(("pages", "source", "repeatable"), False) | {"near": []}
    verdict |= dict.fromkeys(("accuracy", "writers", "distance"))
    verdict |= {"path": plain(slot.path), "number": slot.number}
    return verdict | {"lines": {"file": [WRONG, plain(fault, 300)]}}


def conclude(verdict):
    """Fill in what follows from the lines: the copy line, the verdict, its reason, the feedback."""
    lines = verdict["lines"]
    if "copy" in lines:
        lines["copy"] = _copy(verdict)
    words = {word for word, _ in lines.values()}
    verdict["verdict"] = HOLDS
    if NOT_REPEATED in words:
        verdict["verdict"] = "holds, training not repeated"
    if STATED in words:
        verdict["verdict"] = "holds as stated"
    if WRONG in words:
        verdict["verdict"] = "unreadable" if lines["file"][0] == WRONG else WRONG
    worst = next((word for word in (WRONG, LOOK, STATED, NOT_REPEATED) if word in words), None)
    reasons = (f"{name}: {why}" for name, (word, why) in lines.items() if word == worst)
    verdict["reason"] = next(reasons, "")
    verdict["feedback"] = _feedback(verdict)


def _copy(verdict):
    """The line about copies; whoever's training could be repeated is not the copier."""
    alike = [other["path"] for other in verdict["near"] if other["settings"] == verdict["settings"]]
    others = [other for other in verdict["near"] if other["settings"] != verdict["settings"]]
    trained = [one["lines"]["training"][0] == HOLDS for one in (verdict, *others)]
    if others and trained[0]:
        return [HOLDS, f"{others[0]['path']} is nearly the same; the training is this one's"]
    if others and any(trained):
        path = others[trained.index(True) - 1]["path"]
        return [WRONG, f"nearly the same as {path}, which is what its own settings give"]
    if others:
        return [LOOK, f"nearly the same as {others[0]['path']}, said to have other settings"]
    if alike:
        more = f" and {len(alike) - 1} more" if len(alike) > 1 else ""
        return [HOLDS, f"same run by design as {alike[0]}{more}: the same settings and seed"]
    if verdict["distance"] is None:
        return [HOLDS, "nothing to compare with"]
    return [HOLDS, f"nearest is {verdict['nearest']}, {verdict['distance']:.2g} away"]


def _feedback(verdict):
    """What the student is told: two plain sentences."""
    if verdict["verdict"] == "unreadable":
        remedy = "Hand in the zip file that `make submission` wrote, unchanged."
        return f"Your hand-in could not be read: {verdict['lines']['file'][1]}. {remedy}"
    read = f"By your files, {100 * verdict['accuracy']:.2f} % of the digits were read correctly."
    if verdict["verdict"] == WRONG:
        wrong = [name for name, (word, _) in verdict["lines"].items() if word == WRONG]
        return f"{read} Some of what you handed in does not hold: {', '.join(wrong)}."
    if verdict["verdict"] == HOLDS:
        return f"{read} All that you handed in was computed again and agrees."
    return f"{read} Not all of it was computed again: {verdict['reason']}."


def write_marks(path, verdicts):
    """Write marks.csv, a line for each verdict."""
    with replacing(path) as part, open(part, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(MARKS)
        for v in verdicts:
            shares = [
                "" if v[name] is None else f"{v[name]:.4f}" for name in ("accuracy", "writers")
            ]
            cells = [v["path"], v["number"], v["authors"], v["verdict"], *shares]
            cells += [": ".join(v["lines"].get("training", ())), v["nearest"]]
            cells += ["" if v["distance"] is None else f"{v['distance']:.2g}"]
            writer.writerow(map(no_formula, [*cells, v["reason"], v["feedback"]]))


def no_formula(text):
    """A spreadsheet runs a cell that starts like a formula; an apostrophe keeps it text.

    Where commas are decimal, a cell starts after a semicolon, too.
    """
    return re.sub(r"(^|;)(?=\s*[=+\-@])", r"\1'", text)


def write_page(path, text):
    """Write a page of ours under a policy that lets no script run but its own last one."""
    script = text.rpartition("<script>")[2].partition("</script>")[0] if "<script>" in text else ""
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    head, found, rest = text.partition('<meta charset="utf-8">')
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, head + found + POLICY.format(digest) + rest)
