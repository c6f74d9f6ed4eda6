"""Verdicts on submissions, one line per claim: nothing in a file is trusted, nothing is run.

For one file or for a whole class.
"""

import csv
import functools
import hashlib
import itertools
import json
import multiprocessing
import os
import time
from concurrent.futures import ProcessPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

from jinja2 import Environment, PackageLoader, select_autoescape

import digitlib
from digitlib import provenance
from digitlib.errors import ParameterError
from digitlib.handin.submission import TITLE_PAGE

# A whole submission is judged by the worst of its claims: the word for it.
VERDICTS = {
    "holds": "holds",
    "cannot be checked": "holds in part",
    "does not hold": "does not hold",
}


def verify_files(paths, retrain=False, marks=None, out=".", jobs=None, run_code=False):
    """Check submissions, print the verdicts, write ``verdict.html`` and ``verdict.json``.

    Parameters
    ----------
    paths : list of str or path-like
    retrain : bool
        Train again, with this package's code and the recorded recipe and seeds.
    marks : str or path-like or None
        CSV file to write, one line per submission.
    out : str or path-like
        For one submission, the folder of the two files; for several, the folder of a folder for
        each.
    jobs : int or None
        Submissions at once; None: one per core.
    run_code : bool, default=False
        Let a student's own ``model.py`` run, in a process with limits on time and memory.

    Returns
    -------
    int
        0 if every claim of every submission holds, else 1.

    Raises
    ------
    ParameterError
        A file is not there, is given twice, `jobs` is not positive, or there is no place for what
        is written.
    """
    paths, out = [Path(path) for path in paths], Path(out)
    _check_arguments(paths, marks, out, jobs)
    verdicts = _all(paths, retrain, run_code, min(jobs or os.cpu_count() or 1, len(paths)))
    _flag_identical(verdicts)
    for verdict, folder in zip(verdicts, _folders(paths, out), strict=True):
        print("\n".join(table(verdict)))
        _write(verdict, folder)
    if marks is not None:
        _write_marks(verdicts, Path(marks))
    return int(any(verdict["verdict"] != "holds" for verdict in verdicts))


def _check_arguments(paths, marks, out, jobs):
    for path in paths:
        if not path.is_file() and not path.is_dir():
            what = "neither a file nor a folder" if path.exists() else "no such file"
            remedy = "give the zip files that `digitlib submission` wrote"
            raise ParameterError(f"{path}: {what}; {remedy}")
    if len({path.resolve() for path in paths}) < len(paths):
        raise ParameterError("a file is given twice")
    if jobs is not None and jobs < 1:
        raise ParameterError(f"jobs={jobs}: takes an integer from 1 up")
    if marks is not None and not Path(marks).resolve().parent.is_dir():
        raise ParameterError(f"csv={str(marks)!r}: its folder does not exist; make it first")
    if out.exists() and not out.is_dir():
        raise ParameterError(f"out={str(out)!r}: takes a folder")


def verify(path, retrain=False, run_code=False):
    """The verdict on one submission.

    Parameters
    ----------
    path : str or path-like
        A submission, or the folder it was unpacked into.
    retrain, run_code : bool

    Returns
    -------
    dict
        ``file``, ``sha256``, ``authors``, ``course``, ``title``, ``verdict`` (the worst of its
        claims), ``claims`` (list of ``claim``, ``verdict``, ``why``), ``accuracy`` (recomputed, or
        None), ``identity`` (digests of weights and predictions), ``seconds``.
    """
    # These bring torch, which nobody shall wait for to hear of a wrong path.
    from digitlib.handin import claims, evidence

    path, start = Path(path), time.perf_counter()
    names = [name for name in claims.CLAIMS if name != "retraining" or retrain]
    try:
        hand_in = evidence.Evidence(evidence.unpack(path), run_code)
        lines = [("archive", "holds", f"{len(hand_in.files)} plain files")]
        lines += [(name, *claims.judge(name, hand_in)) for name in names]
    except evidence.Unsafe as error:
        hand_in, lines = None, [("archive", "does not hold", str(error))]
        lines += [(name, "cannot be checked", "the archive was not opened") for name in names]
    worst = max((verdict for _, verdict, _ in lines), key=list(VERDICTS).index)
    return {
        "file": path.name,
        "sha256": _digest(path),
        **_who(hand_in),
        "verdict": VERDICTS[worst] if hand_in else "unreadable",
        "claims": [
            {"claim": claim, "verdict": verdict, "why": _plain(why)}
            for claim, verdict, why in lines
        ],
        "code": _changes(hand_in),
        "accuracy": _accuracy(hand_in),
        "identity": _identity(hand_in),
        "identical_to": [],
        "retrained": retrain,
        "digitlib": digitlib.__version__,
        "checked": datetime.now(UTC).isoformat(timespec="seconds"),
        "seconds": round(time.perf_counter() - start, 1),
    }


def table(verdict):
    """Lines of text for a terminal."""
    width = max(len(line["claim"]) for line in verdict["claims"])
    whose = f": {verdict['title']} by {verdict['authors']}" if verdict["authors"] else ""
    yield _plain(verdict["file"]) + whose
    for line in verdict["claims"]:
        yield f"  {line['claim']:{width}}  {line['verdict']:17}  {line['why']}"
    for other in verdict["identical_to"]:
        yield f"  identical to {other}"
    yield f"  {'=> ':>{width}}{verdict['verdict']}  ({verdict['seconds']} s)"


# ---- one submission ------------------------------------------------------------------------------


def _digest(path):
    if path.is_dir():
        return ""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _plain(text):
    """Without control characters: a submission must not steer the grader's terminal."""
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)


def _who(evidence):
    """What the manifest has on the title page; empty if it cannot be read."""
    try:
        return {field: _plain(str(evidence.manifest.get(field, "")))[:200] for field in TITLE_PAGE}
    except Exception:  # whatever is wrong is said by the claims
        return dict.fromkeys(TITLE_PAGE, "")


def _changes(evidence):
    """What the student changed in the code, as a diff made here; empty if nothing."""
    try:
        theirs, ours = evidence.json("sources.json"), provenance.sources()
        before = {name: ours.get(name, "") for name in evidence.changed_code}
        return provenance.diff(before, {name: str(text) for name, text in theirs.items()})
    except Exception:  # whatever is wrong is said by the claims
        return ""


def _accuracy(evidence):
    try:
        return float(evidence.hits.mean())
    except Exception:  # whatever is wrong is said by the claims
        return None


def _identity(evidence):
    """Digests of what two students cannot share by chance.

    They are of each fold's numbers, whatever the header says, and of all probabilities.
    """
    found = {}
    for name, content in evidence.files.items() if evidence else ():
        if name.endswith(".safetensors"):
            header = 8 + int.from_bytes(content[:8], "little")
            found[hashlib.sha256(content[header:]).hexdigest()] = "weights"
    try:
        found[hashlib.sha256(evidence.table["p"].round(5).tobytes()).hexdigest()] = "predictions"
    except Exception:  # there are no predictions that could be the same
        return found
    return found


# ---- a class -------------------------------------------------------------------------------------


def _all(paths, retrain, run_code, jobs):
    if jobs == 1:
        return [verify(path, retrain, run_code) for path in paths]
    # Started afresh: a forked copy of a process in which torch has threads may hang.
    with ProcessPoolExecutor(jobs, mp_context=multiprocessing.get_context("spawn")) as pool:
        return list(pool.map(functools.partial(verify, retrain=retrain, run_code=run_code), paths))


def _flag_identical(verdicts):
    for verdict, other in itertools.permutations(verdicts, 2):
        shared = verdict["identity"].keys() & other["identity"].keys()
        if shared:
            what = " and ".join(sorted({verdict["identity"][digest] for digest in shared}))
            verdict["identical_to"].append(f"{other['file']} ({what})")


def _folders(paths, out):
    """`out` itself for a single file, else a folder each.

    Their names are numbered where two files have the same name.
    """
    if len(paths) == 1:
        return [out]
    names = [path.stem for path in paths]
    return [
        out / "verdicts" / (name if names.count(name) == 1 else f"{name}-{n}")
        for n, name in enumerate(names, 1)
    ]


def _write(verdict, folder):
    folder.mkdir(parents=True, exist_ok=True)
    text = json.dumps(verdict, indent=2, ensure_ascii=False) + "\n"
    (folder / "verdict.json").write_text(text, encoding="utf-8")
    loader, escape = PackageLoader("digitlib.handin", "template"), select_autoescape(("html", "j2"))
    template = Environment(loader=loader, autoescape=escape).get_template("verdict.html.j2")
    (folder / "verdict.html").write_text(template.render(v=verdict), encoding="utf-8")


def _write_marks(verdicts, path):
    lines = [_marks(verdict) for verdict in verdicts]
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, lines[0])
        writer.writeheader()
        writer.writerows(lines)


def _marks(verdict):
    """One submission's line of the CSV file, by column."""

    def claims(kind):
        return "; ".join(line["claim"] for line in verdict["claims"] if line["verdict"] == kind)

    cells = {
        **{name: verdict[name] for name in ("file", *TITLE_PAGE, "verdict")},
        "accuracy": "" if verdict["accuracy"] is None else f"{verdict['accuracy']:.4f}",
        "does_not_hold": claims("does not hold"),
        "cannot_be_checked": claims("cannot be checked"),
        "identical_to": "; ".join(verdict["identical_to"]),
        "sha256": verdict["sha256"],
    }
    return {column: _no_formula(cell) for column, cell in cells.items()}


def _no_formula(cell):
    """A spreadsheet runs a cell that starts like a formula; an apostrophe keeps it text."""
    return f"'{cell}" if cell[:1] in ("=", "+", "-", "@") else cell
