"""Verdicts for a whole class: first on all without training, then the trainings are repeated.

Each hand-in is judged in a process of its own with limits on time and memory, so that a hostile or
broken one costs its own row alone. What was judged is written at once.
"""

import itertools
import json
import multiprocessing
import os
import pkgutil
import re
import resource
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
from digitlib.handin.unpack import Slot
from digitlib.handin.verdict import (
    HOLDS,
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
NEAR = 0.001  # honest runs of different seeds are never so near (docs/grader.md)


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
    out = Path(out).absolute()
    with _scratch() as scratch:
        call = Limited(scratch)
        slots = _find(paths, call, timeout)
        earlier = _find([against], call, timeout) if against else []
        single = len(slots) == 1 and not against
        folders = [out] if single else [out / name for name in _names(slots)]
        board = Board(slots, folders, None if single else out, marks)
        jobs = min(jobs or os.cpu_count() or 1, len(slots) + len(earlier))
        with ThreadPool(jobs) as pool:
            tasks = list(itertools.zip_longest([*slots, *earlier], folders))
            judged = pool.imap(lambda task: call.judge(*task, timeout, run_code), tasks)
            for number, (verdict, found) in enumerate(_shown(judged, tasks, single)):
                board.add(number, verdict, found)
            if retrain is not False:
                limit, cores = None if retrain else TRAINING, max(1, (os.cpu_count() or 1) // jobs)
                waiting = [n for n, verdict in enumerate(board.verdicts) if verdict["repeatable"]]
                lines = pool.imap(lambda n: call.repeat(slots[n], limit, cores), waiting)
                for number, line in zip(waiting, _shown(lines, waiting, single), strict=True):
                    board.trained(number, line)
    board.finish()
    return int(any(verdict["verdict"] != HOLDS for verdict in board.verdicts))


def _shown(results, tasks, single):
    """`results` as they come, under a bar if somebody watches."""
    return tqdm(results, total=len(tasks), unit="hand-in", disable=single or None)


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


def _find(paths, call, timeout):
    """The slots in all paths, in order."""
    found, seen = [], set()
    for path in map(Path, paths):
        if not path.is_dir():
            files.check_file(path, ParameterError, "give hand-ins or the download of a whole class")
        if path.resolve() in seen:
            raise ParameterError(f"{path}: given twice; give each file or folder once")
        seen.add(path.resolve())
        # Beside other files, a zip file is one hand-in: no student's shall pass for a whole class.
        whole = len(paths) > 1 and not path.is_dir()
        found += call.slots(path.absolute(), whole, timeout)
    return sorted(found, key=lambda slot: slot.path)


def _names(slots):
    """A folder's name for each hand-in, numbered where two would be the same."""
    taken, unique = set(), []
    for slot in slots:
        name = (slot.path.partition("/")[2] or slot.path).removesuffix(".zip")
        name = re.sub(r"[^\w-]+", "-", name)[:60].strip("-") or "hand-in"
        numbers = itertools.chain([""], (f"-{number}" for number in itertools.count(2)))
        unique.append(next(name + n for n in numbers if (name + n).lower() not in taken))
        taken.add(unique[-1].lower())
    return unique


# ---- what was judged -----------------------------------------------------------------------------


class Board:
    """The verdicts on all hand-ins as they become known; each change is written at once."""

    def __init__(self, slots, folders, out, marks):
        self.folders, self.out, self.marks = folders, out, marks
        self.verdicts, self.compared = [], []

    def add(self, number, verdict, found):
        """A verdict, and the probabilities by which copies are found; earlier ones are not told."""
        verdict |= {"nearest": "", "distance": None, "near": []}
        for other, theirs in self.compared if found is not None else ():
            if theirs.shape == found.shape:
                distance = float(np.abs(found - theirs).sum(axis=1).mean() / 2)
                _note_distance(verdict, other, distance)
                _note_distance(other, verdict, distance)
        if found is not None:
            self.compared.append((verdict, found))
        if number < len(self.folders):
            self.verdicts.append(verdict)
            self._write(number)

    def trained(self, number, line):
        """What came of repeating a training, which settles other lines as well."""
        lines = self.verdicts[number]["lines"]
        lines["training"] = line
        if lines["model"][0] == NOT_REPEATED:
            lines["model"] = [line[0], "as its training shows"]
        if line[0] == HOLDS and lines["code"][0] == STATED:
            lines["code"] = [HOLDS, f"{lines['code'][1]}; the code here gives the same"]
        self._write(number)

    def finish(self):
        """Write all once more, since copies may have come later, and print the verdicts."""
        for number, verdict in enumerate(self.verdicts):
            self._write(number)
            print(render("verdict.txt.j2", v=verdict).rstrip())

    def _write(self, number):
        for verdict in self.verdicts:
            conclude(verdict)
        verdict, folder = self.verdicts[number], self.folders[number]
        page = render("verdict.html.j2", v=verdict, proves=PROVES)
        write_page(folder / "verdict.html", page)
        if self.out is not None:
            rows = list(zip([folder.name for folder in self.folders], self.verdicts, strict=False))
            write_page(self.out / "index.html", render("class.html.j2", rows=rows))
        if self.marks is not None:
            write_marks(self.marks, self.verdicts)


def _note_distance(verdict, other, distance):
    if verdict["distance"] is None or distance < verdict["distance"]:
        verdict |= {"nearest": other["path"], "distance": distance}
    if distance < NEAR:
        verdict["near"].append(other)


# ---- a process for each --------------------------------------------------------------------------


@contextmanager
def _scratch():
    """A folder for the processes, which are copies of one that has imported all; they end with it.

    A new Python would import from where the grader stands, perhaps an unpacked hand-in.
    """
    multiprocessing.set_forkserver_preload(["digitlib.report.warm", "digitlib.handin.verify"])
    temporary = tempfile.TemporaryDirectory(dir=files.scratch(), ignore_cleanup_errors=True)
    with mock.patch.dict(os.environ, PYTHONSAFEPATH="1"), temporary as scratch:
        with chdir(files.scratch()):  # where matplotlib finds no settings, either
            forkserver.ensure_running()
        try:
            yield Path(scratch)
        finally:
            for process in multiprocessing.active_children():
                _end(process)


class Limited:
    """Calls functions of the package in processes with limits on time and memory."""

    def __init__(self, scratch):
        self.scratch, self.numbers = scratch, itertools.count()

    def slots(self, path, whole, timeout):
        """The slots in a path."""
        found, _ = self._call(timeout, "unpack:slots", str(path), whole)
        if isinstance(found, str):
            return [Slot(path.name, str(path), fault=found)]
        return [Slot(*fields) for fields in found]

    def judge(self, slot, out, timeout, run_code):
        """The verdict on a slot, and its probabilities or None."""
        verdict, folder = self._call(timeout, "verify:judge", slot, out)
        if isinstance(verdict, str):
            return blank(slot, verdict), None
        if run_code and verdict["source"]:
            said, _ = self._call(timeout, "verify:by_student_code", slot)
            word, why = [STATED, f"the student's code: {said}"] if isinstance(said, str) else said
            # Its process may say what it likes: no word of it makes a verdict better.
            verdict["lines"]["model"] = [WRONG if word == WRONG else STATED, plain(str(why), 300)]
        found = folder / "found.npy"
        return verdict, np.load(found, allow_pickle=False) if found.exists() else None

    def repeat(self, slot, timeout, cores):
        """The line about a training that was repeated."""
        found, _ = self._call(timeout, "verify:repeat", slot, cores)
        return (
            [NOT_REPEATED, f"{found}: --retrain sets no limit"] if isinstance(found, str) else found
        )

    def _call(self, timeout, name, *given):
        """What a function returns, or a text that says why it did not; and the folder it had."""
        folder = self.scratch / str(next(self.numbers))
        folder.mkdir()
        start = multiprocessing.get_context("forkserver").Process
        process = start(target=_in_process, args=(folder, name, given))
        process.start()
        process.join(timeout)
        late, result = process.is_alive(), folder / "result.json"
        _end(process)
        if late:
            return f"it took more than {timeout:g} s", folder
        if not result.exists():
            return f"the process ended with {process.exitcode}: too large, or hostile", folder
        return json.loads(result.read_text("utf-8")), folder


def _in_process(folder, name, given):
    """What such a process does: `folder` is where it works, and gets the result."""
    os.setsid()
    with suppress(OSError), open("/proc/self/statm") as file:  # macOS has none, and no such limit
        here = int(file.read().split()[5]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_DATA, (here + MEMORY, here + MEMORY))
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
