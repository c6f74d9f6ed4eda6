"""Verdicts for a whole class: one process for each hand-in, near copies, marks, feedback.

A hand-in that is hostile or broken costs its own verdict alone: its process has limits on time and
memory. What was judged is written at once.
"""

import csv
import itertools
import json
import multiprocessing
import os
import re
import shutil
import signal
import tempfile
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import numpy as np
from tqdm import tqdm

from digitlib.errors import ParameterError
from digitlib.handin import systems
from digitlib.handin.evidence import plain

TIMEOUT = 120  # seconds for one hand-in
MEMORY = 2**30  # bytes that judging one may take, beside the libraries
# How near honest runs of different seeds never are (docs/grader.md): half the sum of differences of
# probabilities, mean over rows; and distance of weights, relative to their size.
NEAR, NEAR_WEIGHTS = 0.001, 0.1
TITLES = ("authors", "course", "title")
COLUMNS = ("student", "student_id", "path", "verdict", "accuracy", "writers", "model", "retrained")
COLUMNS += ("nearest", "distance", "points", "notes", "feedback", "file", *TITLES)
COLUMNS += ("does_not_hold", "cannot_be_checked", "identical_to", "sha256")
REMEDY = "Hand in the zip file that `make submission` wrote, unchanged."


def verify(path, retrain=False, run_code=False, out=None):
    """The verdict on one hand-in, judged in this process.

    Parameters
    ----------
    path : str or path-like
        A hand-in, or the folder it was unpacked into.
    retrain, run_code : bool
        As for :func:`verify_files`.
    out : str, path-like or None
        Where a folder ``report``, made by this digitlib from the hand-in's data, shall be written.

    Returns
    -------
    dict
        ``file``, ``sha256``, ``authors``, ``course``, ``title``, ``verdict`` (the worst of its
        claims), ``claims`` (list of ``claim``, ``verdict``, ``why``), ``accuracy`` (recomputed, or
        None), ``model``, ``code`` (differences), ``stated`` (what nobody can check), ``report``,
        ``identical_to``, ``nearest``, ``distance``, ``notes``, ``feedback``, ``seconds``.
    """
    from digitlib.handin import judge  # brings torch, which a wrong path need not wait for

    verdict, _ = judge.judge(path, out=out, retrain=retrain, run_code=run_code)
    return _finished(verdict)


def verify_files(
    paths,
    retrain=False,
    marks=None,
    out=".",
    jobs=None,
    run_code=False,
    timeout=TIMEOUT,
    against=None,
    moodle=None,
    canvas=None,
    points=None,
):
    """Judge hand-ins, print the verdicts, write verdicts, reports, marks and feedback.

    Parameters
    ----------
    paths : list of str or path-like
        See :func:`digitlib.handin.systems.find`.
    retrain : bool
        Train again, with this package's code and the recorded settings and seeds.
    marks : str or path-like or None
        CSV file to write, one line per hand-in.
    out : str or path-like
        For one hand-in, the folder of ``verdict.html``, ``verdict.json`` and ``report``; for a
        class, of a folder for each, and of ``index.html``.
    jobs : int or None
        Hand-ins at once; None: one per core.
    run_code : bool, default=False
        Let a student's own ``model.py`` run, in a process with limits on time and memory.
    timeout : float
        Seconds for one hand-in.
    against : str or path-like or None
        Earlier hand-ins: only to find copies of them.
    moodle, canvas : str or path-like or None
        The teacher's worksheet or gradebook, to be filled in a copy.
    points : str or None
        See :func:`digitlib.handin.systems.points`.

    Returns
    -------
    int
        0 if every claim of every hand-in holds, else 1.

    Raises
    ------
    ParameterError
        A file is not there, is given twice, a number is not allowed, or there is no place for what
        is written.
    """
    out = Path(out)
    _check_arguments(marks, out, jobs, timeout, points)
    slots = [_shown(slot) for slot in systems.find(paths)]
    earlier = [_shown(slot) for slot in systems.find([against])] if against else []
    single = len(slots) == 1 and not against
    folders = [out] if single else [out / name for name in _names(slots)]
    folders += [None] * len(earlier)
    options = {"retrain": retrain, "run_code": run_code}
    verdicts, known = [], []
    jobs = min(jobs or os.cpu_count() or 1, len(slots) + len(earlier))
    with tempfile.TemporaryDirectory() as scratch, ThreadPoolExecutor(jobs) as workers:
        multiprocessing.set_forkserver_preload(["ipykernel.kernelapp", "digitlib.handin.judge"])
        tasks = {
            workers.submit(_in_process, slot, folder, Path(scratch, str(n)), options, timeout): n
            for n, (slot, folder) in enumerate(zip([*slots, *earlier], folders, strict=True))
        }
        try:
            done = as_completed(tasks)
            for task in tqdm(done, total=len(tasks), unit="hand-in", disable=single or None):
                verdict, near = task.result()
                _nearest(verdict, near, known)
                known.append((verdict, near))
                if tasks[task] < len(slots):
                    verdicts.append((tasks[task], verdict))
                    latest = tasks[task]
                    _write(verdicts, folders, marks, points, None if single else out, latest)
        except BaseException:
            for task in tasks:
                task.cancel()
            _Judging.kill_all()
            raise
    _write(verdicts, folders, marks, points, None if single else out)  # with all near copies
    verdicts = [verdict for _, verdict in sorted(verdicts, key=lambda pair: pair[0])]
    for verdict in verdicts:
        print("\n".join(table(verdict)))
    _to_systems(verdicts, out, moodle, canvas)
    return int(any(verdict["verdict"] != "holds" for verdict in verdicts))


def _check_arguments(marks, out, jobs, timeout, points):
    if jobs is not None and jobs < 1:
        raise ParameterError(f"jobs={jobs}: takes an integer from 1 up")
    if not 1 <= timeout <= 86400:
        raise ParameterError(f"timeout={timeout:g}: takes seconds from 1 to 86400")
    if marks is not None and not Path(marks).resolve().parent.is_dir():
        raise ParameterError(f"csv={str(marks)!r}: its folder does not exist; make it first")
    if out.exists() and not out.is_dir():
        raise ParameterError(f"out={str(out)!r}: takes a folder")
    if points is not None:
        systems.check_points(points)


def _shown(slot):
    """The slot with texts that a terminal, a table and a page may show."""
    texts = {name: getattr(slot, name) for name in ("student", "student_id", "path", "fault")}
    return replace(slot, **{name: plain(text) for name, text in texts.items()})


def _names(slots):
    """A folder's name for each hand-in, numbered where two would be the same."""
    names = [slot.student or Path(slot.path).name.removesuffix(".zip") for slot in slots]
    names = [re.sub(r"[^\w-]+", "-", name)[:60].strip("-") or "hand-in" for name in names]
    taken, unique = set(), []
    for name in names:
        numbers = itertools.chain([""], (f"-{number}" for number in itertools.count(2)))
        unique.append(next(name + n for n in numbers if (name + n).lower() not in taken))
        taken.add(unique[-1].lower())
    return unique


# ---- a process for each --------------------------------------------------------------------------


class _Judging:
    """The processes that are at work."""

    running: set = set()  # noqa: RUF012

    @classmethod
    def kill_all(cls):
        """End them and their kernels."""
        for process in list(cls.running):
            with suppress(OSError, TypeError):
                os.killpg(process.pid, signal.SIGKILL)


def _in_process(slot, folder, scratch, options, timeout):
    """Verdict and what copies are found by, from a process that may die of what it reads."""
    scratch.mkdir()
    given = {"student": slot.student, "student_id": slot.student_id, "path": slot.path}
    if slot.fault:
        return _unreadable(slot, slot.fault), {}
    fork = multiprocessing.get_context("forkserver").Process
    words = (slot.archive, slot.inside, folder, scratch, {**options, **given})
    process = fork(target=_judge, args=words)
    process.start()
    _Judging.running.add(process)
    process.join(timeout)
    late = process.is_alive()
    with suppress(OSError):
        os.killpg(process.pid, signal.SIGKILL)  # its kernel, too, if it has one
    process.kill()  # it may not have come as far as to lead a group
    process.join()
    _Judging.running.discard(process)
    if not (scratch / "verdict.json").exists():
        ended = f"judging it ended with {process.exitcode}: too large, or hostile"
        why = f"judging it took more than {timeout:g} s; give --timeout" if late else ended
        return _unreadable(slot, why), {}
    verdict = json.loads((scratch / "verdict.json").read_text("utf-8"))
    with np.load(scratch / "near.npz", allow_pickle=False) as arrays:
        return verdict, dict(arrays)


def _judge(archive, inside, folder, scratch, options):
    """What that process does."""
    import resource  # of Unix, as the fork server is

    from digitlib.handin import judge

    os.setsid()
    with open("/proc/self/statm") as file:
        here = int(file.read().split()[5]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_DATA, (here + MEMORY, here + MEMORY))
    tempfile.tempdir = str(scratch)
    verdict, near = judge.judge(archive, inside, folder, **options)
    np.savez(scratch / "near.npz", **near)
    part = scratch / "verdict.part"
    part.write_text(json.dumps(verdict), encoding="utf-8")
    part.rename(scratch / "verdict.json")


def _unreadable(slot, why):
    """The verdict on what could not be judged."""
    empty = dict.fromkeys(("sha256", *TITLES, "code", "model", "stated", "settings"), "")
    return {
        "file": plain(Path(slot.inside or slot.archive).name),
        "student": slot.student,
        "student_id": slot.student_id,
        "path": slot.path,
        **empty,
        "verdict": "unreadable",
        "claims": [{"claim": "archive", "verdict": "does not hold", "why": why}],
        "accuracy": None,
        "report": None,
        "identical_to": [],
        "retrained": False,
        "seconds": 0.0,
    }


# ---- near copies ---------------------------------------------------------------------------------


def _nearest(verdict, near, known):
    """Compare with those judged before; note the nearest, in both directions."""
    verdict |= {"nearest": "", "distance": None, "notes": [], "alike": []}
    for other, theirs in known:
        if not near or not theirs or near["p"].shape != theirs["p"].shape:
            continue
        distance = float(np.abs(near["p"] - theirs["p"]).sum(axis=1).mean() / 2)
        weights = _apart(near["w"], theirs["w"])
        for one, two in ((verdict, other), (other, verdict)):
            if one["distance"] is None or distance < one["distance"]:
                one |= {"nearest": two["path"], "distance": distance}
        same = np.array_equal(near["digest"], theirs["digest"])
        alike = verdict["settings"] == other["settings"]
        if same and distance == 0 and alike:
            for one, two in ((verdict, other), (other, verdict)):
                one["alike"].append(two["path"])
            continue
        elif same:
            said = "the same weights, though other settings or another seed are stated"
        elif distance < NEAR or weights < NEAR_WEIGHTS:
            also = "; the same settings on another machine may end as near" if alike else ""
            said = (
                f"near copy: probabilities differ by {distance:.2g}, weights by {weights:.2g}{also}"
            )
        else:
            continue
        for one, two in ((verdict, other), (other, verdict)):
            one["identical_to"].append(f"{two['path']} ({said})")
            one["notes"].append(f"{two['student'] or two['path']}: {said}")


def _by_design(verdict):
    """A sentence on runs that cannot but be identical, where there are such."""
    if verdict["alike"]:
        first, more = verdict["alike"][0], len(verdict["alike"]) - 1
        others = f" and {more} more" if more else ""
        yield f"identical by design (same code, data, settings, seed): {first}{others}"


def _apart(one, other):
    """Distance of weights, relative to their size; infinite between different networks.

    Medians: counters and sums that stand among the weights are large, and the same for all seeds.
    """
    if one.shape != other.shape or not len(one):
        return float("inf")
    return float(np.nanmedian(np.abs(one - other)) / (np.nanmedian(np.abs(one)) or 1.0))


# ---- what is written -----------------------------------------------------------------------------


def _finished(verdict):
    """The verdict with feedback for the student: two plain sentences."""
    for key, value in (("nearest", ""), ("distance", None), ("notes", []), ("alike", [])):
        verdict.setdefault(key, value)
    wrong, open_ = (
        ", ".join(line["claim"] for line in verdict["claims"] if line["verdict"] == kind)
        for kind in ("does not hold", "cannot be checked")
    )
    share = f"{100 * (verdict['accuracy'] or 0):.2f} %"
    read = f"By your files, {share} of the digits were read correctly."
    verdict["feedback"] = {
        "holds": f"{read} Everything that you handed in agrees with them.",
        "holds in part": f"{read} Nothing is wrong, but this could not be checked: {open_}.",
        "does not hold": f"Some of what you handed in does not follow from your files: {wrong}. "
        "Make the report again, hand in what `make submission` writes, or ask your teacher.",
        "unreadable": f"Your hand-in could not be read: {verdict['claims'][0]['why']}. {REMEDY}",
    }[verdict["verdict"]]
    return verdict


def table(verdict):
    """Lines of text for a terminal."""
    width = max(len(line["claim"]) for line in verdict["claims"])
    whose = f": {verdict['title']} by {verdict['authors']}" if verdict["authors"] else ""
    yield (verdict["path"] or verdict["file"]) + whose
    for line in verdict["claims"]:
        yield f"  {line['claim']:{width}}  {line['verdict']:17}  {line['why']}"
    for note in [*verdict["notes"], *_by_design(verdict)]:
        yield f"  {note}"
    yield f"  {'=> ':>{width}}{verdict['verdict']}  ({verdict['seconds']} s)"


def _write(verdicts, folders, marks, points, overview, only=None):
    """Marks and overview of those judged so far; all verdicts, or that of one number."""
    from digitlib.handin import judge

    rows = []
    for number, verdict in sorted(verdicts, key=lambda pair: pair[0]):
        folder, _ = folders[number], _finished(verdict)
        verdict["points"] = systems.points(points, verdict) if points else None
        rows.append((folder.name, verdict))
        if only not in (None, number):
            continue
        folder.mkdir(parents=True, exist_ok=True)
        text = json.dumps(verdict, indent=2, ensure_ascii=False) + "\n"
        (folder / "verdict.json").write_text(text, encoding="utf-8")
        judge.write_page(folder / "verdict.html", judge.template("verdict.html.j2", v=verdict))
    if overview is not None:
        judge.write_page(overview / "index.html", judge.template("class.html.j2", rows=rows))
    if marks is not None:
        part = Path(marks).with_name(f".{Path(marks).name}.part")
        with open(part, "w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, COLUMNS)
            writer.writeheader()
            writer.writerows(_marks(verdict) for _, verdict in rows)
        shutil.move(part, marks)


def _marks(verdict):
    """One hand-in's line of the CSV file, by column."""

    def claims(kind):
        return "; ".join(line["claim"] for line in verdict["claims"] if line["verdict"] == kind)

    cells = {name: verdict.get(name) for name in COLUMNS} | {
        "accuracy": "" if verdict["accuracy"] is None else f"{verdict['accuracy']:.4f}",
        "distance": "" if verdict["distance"] is None else f"{verdict['distance']:.2g}",
        "retrained": next((c["why"] for c in verdict["claims"] if c["claim"] == "retraining"), ""),
        "notes": "; ".join([*verdict["notes"], *_by_design(verdict)]),
        "identical_to": "; ".join(verdict["identical_to"]),
        "does_not_hold": claims("does not hold"),
        "cannot_be_checked": claims("cannot be checked"),
    }
    return {
        name: systems.no_formula("" if cell is None else str(cell)) for name, cell in cells.items()
    }


def _to_systems(verdicts, out, moodle, canvas):
    """Fill the teacher's files; pack feedback for Moodle."""
    for sheet, fill in ((moodle, systems.fill_moodle), (canvas, systems.fill_canvas)):
        if sheet is not None:
            path, missing = fill(sheet, verdicts, out)
            print(f"{path}{': no row for ' + ', '.join(missing) if missing else ''}")
    if any("_assignsubmission_" in verdict["path"] for verdict in verdicts):
        print(systems.feedback_zip(verdicts, out))
