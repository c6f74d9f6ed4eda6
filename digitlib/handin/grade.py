"""Verdicts for a whole class: first on all without training, then the trainings are repeated.

Each hand-in is judged in a process of its own with limits on time and memory, so that a hostile or
broken one costs its own row alone.
"""

import itertools
import json
import multiprocessing
import os
import pkgutil
import re
import signal
import tempfile
from contextlib import chdir, contextmanager, suppress
from multiprocessing import forkserver
from multiprocessing.pool import ThreadPool
from pathlib import Path
from unittest import mock

import numpy as np
from tqdm import tqdm

from digitlib import files
from digitlib.errors import ParameterError, plain
from digitlib.handin import render
from digitlib.handin.unpack import OURS, Slot
from digitlib.handin.verdict import (
    HOLDS,
    NEAR,
    NOT_REPEATED,
    PROVES,
    STATED,
    WRONG,
    blank,
    conclude,
    write_marks,
    write_page,
)

TIMEOUT = 120  # seconds for judging one hand-in
TRAINING = 60  # seconds for repeating its training
MEMORY = 2**30  # bytes that judging one may take, beside the libraries


def verify(
    paths,
    marks=None,
    out=".",
    against=None,
    jobs=None,
    timeout=TIMEOUT,
    retrain=None,
    run_code=False,
):
    """Judge hand-ins; print the verdicts; write pages and marks.

    Parameters
    ----------
    paths : list of str or path-like
        Hand-ins, or zip files and folders that hold them.
    marks : str or path-like or None
        CSV file to write, one line per hand-in.
    out : str or path-like
        For one hand-in, the folder of its pages; for a class, of a folder for each.
    against : str or path-like or None
        Earlier hand-ins: only to find copies of them.
    jobs : int or None
        Hand-ins at once; None: one per core.
    timeout : float
        Seconds for one hand-in, beside its training.
    retrain : bool or None
        Repeat the training however long it takes; None: for at most a minute; False: not at all.
    run_code : bool
        Let a student's own ``model.py`` run.

    Returns
    -------
    int
        0 if every hand-in holds, else 1.

    Raises
    ------
    ParameterError
        A path is not there or given twice, a number is not allowed, or there is no place for what
        is written.
    """
    _check_arguments(marks, out, jobs, timeout)
    paths, out = _places(paths), Path(out).absolute()
    with _processes() as call:
        slots = _slots(paths, call, timeout)
        earlier = _slots(_places([against]), call, timeout) if against else []
        single = len(slots) == 1 and not earlier
        board = Board(slots, out, single, marks)
        jobs = min(jobs or os.cpu_count() or 1, len(slots) + len(earlier))
        try:
            with ThreadPool(jobs) as pool:

                def in_turn(work, tasks):
                    """Results in order, under a bar if somebody watches."""
                    results = pool.imap(work, tasks)
                    return tqdm(results, total=len(tasks), unit="hand-in", disable=single or None)

                tasks = list(itertools.zip_longest([*slots, *earlier], board.folders))
                for verdict, found in in_turn(
                    lambda task: _judge(call, *task, timeout, run_code), tasks
                ):
                    board.add(verdict, found)
                board.write()
                if retrain is not False:
                    limit, cores = None if retrain else TRAINING, (os.cpu_count() or 1) // jobs
                    waiting = [
                        n for n, verdict in enumerate(board.verdicts) if verdict["repeatable"]
                    ]
                    lines = in_turn(
                        lambda n: call(limit, "verify:repeat", slots[n], cores), waiting
                    )
                    for number, line in zip(waiting, lines, strict=True):
                        board.trained(number, line)
        finally:
            board.write()
    for verdict in board.verdicts:
        print(render("verdict.txt.j2", v=verdict).rstrip())
    return int(any(verdict["verdict"] != HOLDS for verdict in board.verdicts))


def _check_arguments(marks, out, jobs, timeout):
    if "forkserver" not in multiprocessing.get_all_start_methods():
        raise ParameterError("verify needs Linux or macOS; on Windows, use WSL")
    if jobs is not None and jobs < 1:
        raise ParameterError(f"jobs={jobs}: takes an integer from 1 up")
    if not 1 <= timeout <= 86400:
        raise ParameterError(f"timeout={timeout:g}: takes seconds from 1 to 86400")
    if marks is not None:
        files.check_target(marks, "csv")
    files.check_room(files.check_folder(out, "out"))


def _places(paths):
    """Each path, absolute, if all are there, each once."""
    for path in map(Path, paths):
        if not path.is_dir():
            files.check_file(path, ParameterError, "give hand-ins or the download of a whole class")
    found = [Path(path).resolve() for path in paths]
    if twice := next((path for path in found if found.count(path) > 1), None):
        raise ParameterError(f"{twice}: given twice; give each file or folder once")
    return found


def _slots(paths, call, timeout):
    """The slots in all paths, in order; a path that cannot be listed is one of them."""
    found = []
    for path in paths:
        # Beside other files, a zip file is one hand-in: no student's shall pass for a whole class.
        listed = call(timeout, "unpack:slots", str(path), len(paths) > 1 and not path.is_dir())
        faulty = [Slot(path.name, str(path), True, listed)] if isinstance(listed, str) else []
        found += faulty or [Slot(*fields) for fields in listed]
    return sorted(found)


def _judge(call, slot, out, timeout, run_code):
    """The verdict on a slot but for its training; its probabilities or None."""
    found = call.scratch / f"{id(slot)}.npy"
    verdict = call(timeout, "verify:judge", slot, out and out / OURS, found)
    if isinstance(verdict, str):
        return blank(slot, verdict), None
    if run_code and verdict["source"]:
        said = call(timeout, "verify:by_student_code", slot)
        # Its process may say what it likes: no word of it makes a verdict better.
        word = WRONG if isinstance(said, list) and WRONG in said else STATED
        verdict["lines"]["model"] = [word, plain(f"the student's code: {said}", 300)]
    return verdict, np.load(found, allow_pickle=False) if found.exists() else None


class Board:
    """The verdicts on all hand-ins as they become known, and where they are written."""

    def __init__(self, slots, out, single, marks):
        names = [slot.path.partition("/")[2] or slot.path for slot in slots]
        names = [re.sub(r"[\W_]+", "-", name.removesuffix(".zip"))[:60] for name in names]
        numbered = [out / f"{number:03}-{name}" for number, name in enumerate(names, 1)]
        self.folders, self.out, self.marks = [out] if single else numbered, out, marks
        self.single, self.verdicts, self.compared = single, [], []

    def add(self, verdict, found):
        """Take a verdict, and the probabilities that show copies; earlier hand-ins come last."""
        for other, theirs in self.compared if found is not None else ():
            if theirs.shape == found.shape:
                distance = float(np.abs(found - theirs).sum(axis=1).mean() / 2)
                for one, two in ((verdict, other), (other, verdict)):
                    if one["distance"] is None or distance < one["distance"]:
                        one |= {"nearest": two["path"], "distance": distance}
                    one["near"] += [two] if distance < NEAR else []
        if found is not None:
            self.compared.append((verdict, found))
        if len(self.verdicts) < len(self.folders):
            self.verdicts.append(verdict)

    def trained(self, number, line):
        """Take what came of repeating a training, which settles other lines as well."""
        lines = self.verdicts[number]["lines"]
        if isinstance(line, str):  # it did not end by itself
            line = [NOT_REPEATED, f"{line} (--retrain sets no limit)"]
        lines["training"] = line
        if lines["model"][0] == NOT_REPEATED:
            lines["model"] = [line[0], "as its training shows"]
        if line[0] == HOLDS and lines["code"][0] == STATED:
            lines["code"] = [HOLDS, f"{lines['code'][1]}; the code here gives the same"]
        self.write(number)

    def write(self, number=None):
        """Write the pages of one hand-in, or of all; and what is of the class."""
        for verdict in self.verdicts:
            conclude(verdict)
        for place in range(len(self.verdicts)) if number is None else [number]:
            page = render("verdict.html.j2", v=self.verdicts[place], proves=PROVES)
            write_page(self.folders[place] / "verdict.html", page)
        if not self.single:
            rows = list(zip([f.name for f in self.folders], self.verdicts, strict=False))
            write_page(self.out / "index.html", render("class.html.j2", rows=rows))
        if self.marks is not None:
            write_marks(self.marks, self.verdicts)


# ---- a process for each --------------------------------------------------------------------------


@contextmanager
def _processes():
    """What calls functions of the package in processes of their own; all end with the block."""
    multiprocessing.set_forkserver_preload(["digitlib.report.warm", "digitlib.handin.verify"])
    temporary = tempfile.TemporaryDirectory(dir=files.scratch(), ignore_cleanup_errors=True)
    # A new Python would import from where the grader stands, perhaps an unpacked hand-in.
    with mock.patch.dict(os.environ, PYTHONSAFEPATH="1"), temporary as scratch:
        with chdir(files.scratch()):  # where matplotlib finds no settings, either
            forkserver.ensure_running()
        try:
            yield Call(Path(scratch))
        finally:
            for process in multiprocessing.active_children():
                _end(process)


class Call:
    """Calls functions of this room in processes with limits on time and memory."""

    def __init__(self, scratch):
        self.scratch, self.numbers = scratch, itertools.count()

    def __call__(self, timeout, name, *given):
        """What a function returns; a text that says why, if it did not come so far."""
        folder = self.scratch / str(next(self.numbers))
        folder.mkdir()
        start = multiprocessing.get_context("forkserver").Process
        process = start(target=_in_process, args=(folder, name, given))
        process.start()
        process.join(timeout)
        late, result = process.is_alive(), folder / "result.json"
        _end(process)
        if late:
            return f"it took more than {timeout:g} s"
        with suppress(OSError, ValueError):
            return json.loads(result.read_text("utf-8"))
        return f"its process ended with {process.exitcode}: too large, or hostile"


def _in_process(folder, name, given):
    """What such a process does: `folder` is where it works, and gets the result."""
    import resource  # of Unix

    os.setsid()
    with suppress(OSError), open("/proc/self/statm") as file:  # macOS has none, and no such limit
        most = int(file.read().split()[5]) * resource.getpagesize() + MEMORY
        resource.setrlimit(resource.RLIMIT_DATA, (most, most))
    os.chdir(folder)
    tempfile.tempdir = str(folder)
    found = pkgutil.resolve_name(f"digitlib.handin.{name}")(*given)
    files.write_text(folder / "result.json", json.dumps(found))


def _end(process):
    """End a process and all that it started."""
    with suppress(OSError):
        os.killpg(process.pid, signal.SIGKILL)
    process.kill()  # it may not have come as far as to lead a group
    process.join()
