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
        ``path``, ``number``; ``name``, ``course``, ``title`` as the student states them; ``model``
        in words; ``accuracy`` and ``writers`` (of the test writers' rows), 0..1 or None; ``lines``
        (name -> word, reason); ``settings`` (equal: the same run by design); ``pages`` and
        ``source`` (whether there are pages, and one of model.py); ``repeatable`` (whether the
        training can be repeated).
    """
    texts = ("name", "course", "title", "model", "settings")
    verdict = dict.fromkeys(texts, "") | dict.fromkeys(("accuracy", "writers"))
    verdict |= dict.fromkeys(("pages", "source", "repeatable"), False)
    facts = {"path": plain(slot.path), "number": slot.number}
    return verdict | facts | {"lines": {"file": [WRONG, plain(fault, 300)]}}


def overall(lines):
    """The verdict in a word or two, from the lines."""
    words = {word for word, _ in lines.values()}
    if lines["file"][0] == WRONG:
        return "unreadable"
    if WRONG in words:
        return WRONG
    if STATED in words:
        return "holds as stated"
    return "holds, training not repeated" if NOT_REPEATED in words else HOLDS


def conclude(verdict):
    """Fill in what follows from the lines: the copy line, the verdict, its reason, the feedback."""
    lines = verdict["lines"]
    if "copy" in lines:
        lines["copy"] = _copy(verdict)
    verdict["verdict"] = overall(lines)
    worst = next((w for w in (WRONG, LOOK, STATED, NOT_REPEATED) if w in dict(lines.values())), "")
    reasons = [f"{name}: {why}" for name, (word, why) in lines.items() if word == worst]
    verdict["reason"] = "".join(reasons[:1])
    verdict["feedback"] = _feedback(verdict)


def _copy(verdict):
    """The line about copies; whoever's training could be repeated is not the copier."""
    others = [other for other in verdict["near"] if other["settings"] != verdict["settings"]]
    alike = [other for other in verdict["near"] if other["settings"] == verdict["settings"]]
    if others:
        path, trained = others[0]["path"], lambda one: one["lines"]["training"][0] == HOLDS
        if trained(verdict):
            return [HOLDS, f"{path} is nearly the same; the training repeated here is this one's"]
        if trained(others[0]):
            return [WRONG, f"nearly the same as {path}, which is the run that its settings give"]
        return [LOOK, f"nearly the same as {path}, with other settings: look at both"]
    if alike:
        more = f" and {len(alike) - 1} more" if len(alike) > 1 else ""
        return [HOLDS, f"same run by design (same settings and seed) as {alike[0]['path']}{more}"]
    if verdict["distance"] is None:
        return [HOLDS, "nothing to compare with"]
    return [HOLDS, f"nearest is {verdict['nearest']}, {verdict['distance']:.2g} away"]


def _feedback(verdict):
    """What the student is told: two plain sentences."""
    if verdict["verdict"] == "unreadable":
        remedy = "Hand in the zip file that `make submission` wrote, unchanged."
        return f"Your hand-in could not be read: {verdict['reason'].partition(': ')[2]}. {remedy}"
    read = f"By your files, {100 * verdict['accuracy']:.2f} % of the digits were read correctly."
    if verdict["verdict"] == WRONG:
        wrong = [name for name, (word, _) in verdict["lines"].items() if word == WRONG]
        return f"{read} What you handed in does not hold: {', '.join(wrong)}. Ask your teacher."
    if verdict["verdict"] == HOLDS:
        return f"{read} All that you handed in was computed again and agrees."
    return f"{read} Not all of it could be computed again: {verdict['reason']}."


def write_marks(path, verdicts):
    """Write marks.csv, a line for each verdict."""
    with replacing(path) as part, open(part, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(MARKS)
        for v in verdicts:
            shares = ["" if v[n] is None else f"{v[n]:.4f}" for n in ("accuracy", "writers")]
            training = ": ".join(v["lines"].get("training", ()))
            distance = "" if v["distance"] is None else f"{v['distance']:.2g}"
            cells = [v["path"], v["number"], v["name"], v["verdict"], *shares, training]
            cells += [v["nearest"], distance, v["reason"], v["feedback"]]
            writer.writerow(map(_no_formula, cells))


def _no_formula(text):
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
