"""Does what a submission claims hold? One line per claim, for one file or a whole class; nothing in
a file is trusted or run.
"""

import csv
import hashlib
import json
import multiprocessing
import os
import time
from concurrent.futures import ProcessPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

from jinja2 import Environment, PackageLoader, select_autoescape

import digitlib
from digitlib.errors import ParameterError
from digitlib.handin import claims
from digitlib.handin import evidence as hand_in
from digitlib.handin.evidence import Evidence, Unreadable
from digitlib.handin.submission import TITLE_PAGE

MARKS = (
    "file",
    *TITLE_PAGE,
    "verdict",
    "accuracy",
    "does_not_hold",
    "cannot_be_checked",
    "identical_to",
    "sha256",
)


def verify_files(paths, retrain=False, marks=None, out=".", jobs=None):
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
    for path in paths:
        if path.is_dir():
            raise ParameterError(
                f"{path}: a folder; give the zip file that `digitlib submission` wrote"
            )
        if not path.is_file():
            raise ParameterError(
                f"{path}: no such file; give the zip files that `digitlib submission` wrote"
            )
    if len({path.resolve() for path in paths}) < len(paths):
        raise ParameterError("a file is given twice")
    if jobs is not None and jobs < 1:
        raise ParameterError(f"jobs={jobs}: takes an integer from 1 up")
    if marks is not None and not Path(marks).resolve().parent.is_dir():
        raise ParameterError(f"csv={str(marks)!r}: its folder does not exist; make it first")
    if out.exists() and not out.is_dir():
        raise ParameterError(f"out={str(out)!r}: takes a folder")
    verdicts = _all(paths, retrain, min(jobs or os.cpu_count() or 1, len(paths)))
    _flag_identical(verdicts)
    for verdict, folder in zip(verdicts, _folders(paths, out), strict=True):
        print("\n".join(table(verdict)))
        _write(verdict, folder)
    if marks is not None:
        _write_marks(verdicts, Path(marks))
    return int(any(verdict["verdict"] != "holds" for verdict in verdicts))


def verify(path, retrain=False):
    """The verdict on one submission.

    Parameters
    ----------
    path : str or path-like
    retrain : bool

    Returns
    -------
    dict
        ``file``, ``sha256``, ``authors``, ``course``, ``title``, ``verdict`` (the worst of its
        claims), ``claims`` (list of ``claim``, ``verdict``, ``why``), ``accuracy`` (recomputed, or
        None), ``identity`` (digests of weights and predictions), ``seconds``.
    """
    path, start = Path(path), time.perf_counter()
    lines, evidence = [], None
    try:
        evidence = Evidence(hand_in.read(path))
        lines.append(("archive", "holds", f"{len(evidence.files)} plain files"))
    except hand_in.Unsafe as error:
        lines.append(("archive", "does not hold", str(error)))
    for name in claims.CLAIMS:
        if name != "retraining" or retrain:
            lines.append(
                (
                    name,
                    *(
                        claims.check(name, evidence)
                        if evidence
                        else ("cannot be checked", "the archive was not opened")
                    ),
                )
            )
    worst = max(
        (line[1] for line in lines), key=("holds", "cannot be checked", "does not hold").index
    )
    return {
        "file": path.name,
        "sha256": _digest(path),
        **_who(evidence),
        "verdict": worst,
        "claims": [
            {"claim": claim, "verdict": verdict, "why": _plain(why)}
            for claim, verdict, why in lines
        ],
        "accuracy": _accuracy(evidence),
        "identity": _identity(evidence),
        "identical_to": [],
        "retrained": retrain,
        "digitlib": digitlib.__version__,
        "checked": datetime.now(UTC).isoformat(timespec="seconds"),
        "seconds": round(time.perf_counter() - start, 1),
    }


def table(verdict):
    """Lines of text for a terminal."""
    width = max(len(line["claim"]) for line in verdict["claims"])
    yield (
        f"{_plain(verdict['file'])}: {verdict['title']} by {verdict['authors']}"
        if verdict["authors"]
        else _plain(verdict["file"])
    )
    for line in verdict["claims"]:
        yield f"  {line['claim']:{width}}  {line['verdict']:17}  {line['why']}"
    for other in verdict["identical_to"]:
        yield f"  identical to {other}"
    yield f"  {'=> ':>{width}}{verdict['verdict']}  ({verdict['seconds']} s)"


# ---- one submission ------------------------------------------------------------------------------


def _digest(path):
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _plain(text):
    """Without control characters: a submission must not steer the grader's terminal."""
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)


def _who(evidence):
    try:
        return {field: _plain(str(evidence.manifest.get(field, "")))[:200] for field in TITLE_PAGE}
    except (AttributeError, Unreadable):
        return dict.fromkeys(TITLE_PAGE, "")


def _accuracy(evidence):
    try:
        return float(evidence.hits.mean())
    except Exception:  # whatever is wrong is said by the claims
        return None


def _identity(evidence):
    """Digests of what two students cannot share by chance: each fold's numbers, whatever the header
    says, and all probabilities.
    """
    found = {}
    for name, content in sorted(evidence.files.items()) if evidence else ():
        if name.endswith(".safetensors"):
            found[
                hashlib.sha256(content[8 + int.from_bytes(content[:8], "little") :]).hexdigest()
            ] = "weights"
    try:
        found[hashlib.sha256(evidence.table["p"].round(5).tobytes()).hexdigest()] = "predictions"
    except Exception:  # there are no predictions that could be the same
        return found
    return found


# ---- a class -------------------------------------------------------------------------------------


def _all(paths, retrain, jobs):
    if jobs == 1:
        return [verify(path, retrain) for path in paths]
    # Started afresh: a forked copy of a process in which torch has threads may hang.
    with ProcessPoolExecutor(jobs, mp_context=multiprocessing.get_context("spawn")) as pool:
        return list(pool.map(verify, paths, [retrain] * len(paths)))


def _flag_identical(verdicts):
    for verdict in verdicts:
        for other in verdicts:
            shared = {
                verdict["identity"][digest]
                for digest in verdict["identity"].keys() & other["identity"].keys()
            }
            if other is not verdict and shared:
                verdict["identical_to"].append(f"{other['file']} ({' and '.join(sorted(shared))})")


def _folders(paths, out):
    """`out` itself for a single file; else a folder each, numbered where two files have the same
    name.
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
    (folder / "verdict.json").write_text(
        json.dumps(verdict, indent=2, ensure_ascii=False) + "\n", encoding="utf-8"
    )
    environment = Environment(
        loader=PackageLoader("digitlib.handin", "template"),
        autoescape=select_autoescape(("html", "j2")),
    )
    page = environment.get_template("verdict.html.j2").render(v=verdict)
    (folder / "verdict.html").write_text(page, encoding="utf-8")


def _write_marks(verdicts, path):
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(MARKS)
        for verdict in verdicts:
            by = {
                kind: "; ".join(c["claim"] for c in verdict["claims"] if c["verdict"] == kind)
                for kind in ("does not hold", "cannot be checked")
            }
            share = "" if verdict["accuracy"] is None else f"{verdict['accuracy']:.4f}"
            row = [
                verdict["file"],
                *(verdict[field] for field in TITLE_PAGE),
                verdict["verdict"],
                share,
            ]
            row += [
                by["does not hold"],
                by["cannot be checked"],
                "; ".join(verdict["identical_to"]),
                verdict["sha256"],
            ]
            writer.writerow([_no_formula(cell) for cell in row])


def _no_formula(cell):
    """A spreadsheet runs a cell that starts like a formula; an apostrophe keeps it text."""
    return f"'{cell}" if cell[:1] in ("=", "+", "-", "@") else cell
