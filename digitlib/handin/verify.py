"""Verdicts for a whole class: one process for each hand-in; what was judged is written at once.

A hand-in that is hostile or broken costs its own verdict alone: its process has limits on time and
memory.
"""

import itertools
import json
import multiprocessing
import os
import re
import signal
import tempfile
import time
from contextlib import chdir, closing, suppress
from dataclasses import replace
from multiprocessing import forkserver
from multiprocessing.connection import wait
from pathlib import Path
from unittest import mock

import numpy as np
from tqdm import tqdm

from digitlib import files
from digitlib.errors import ParameterError
from digitlib.handin import copies, render, systems, verdicts

TIMEOUT = 120  # seconds for one hand-in
MEMORY = 2**30  # bytes that judging one may take, beside the libraries


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
        See :func:`digitlib.handin.verdicts.make`.
    """
    slot = systems.Submitted(path=str(path), archive=str(path))
    return _judge(slot, out, retrain=retrain, run_code=run_code)[0]


def _judge(slot, out, **options):
    from digitlib.handin import judge  # brings torch, which a wrong path need not wait for

    return judge.judge(slot, out, **options)


def verify_files(
    paths,
    retrain=False,
    marks=None,
    out=".",
    jobs=None,
    run_code=False,
    timeout=TIMEOUT,
    against=None,
):
    """Judge hand-ins, print the verdicts, write verdicts, reports and marks.

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
    _check_arguments(marks, out, jobs, timeout)
    slots = systems.find(paths)
    earlier = systems.find([against]) if against else []
    single = len(slots) == 1 and not against
    folders = [out] if single else [out / name for name in _names(slots)]
    tasks = list(itertools.zip_longest([*slots, *earlier], folders))
    jobs = min(jobs or os.cpu_count() or 1, len(tasks))
    options = {"retrain": retrain, "run_code": run_code}
    known, judged = [], [None] * len(slots)
    with closing(_in_processes(tasks, jobs, options, timeout)) as found:
        progress = tqdm(found, total=len(tasks), unit="hand-in", disable=single or None)
        for number, verdict, probabilities in progress:
            copies.compare(verdict, probabilities, known)
            known.append((verdict, probabilities))
            if number < len(slots):
                judged[number] = verdict
                verdicts.write(verdict, folders[number])
            # All of those judged so far: any of them may have become a near copy.
            _write_class(judged, folders, marks, None if single else out)
    for verdict, folder in zip(judged, folders, strict=True):
        verdicts.write(verdict, folder)  # again, with near copies that came later
        print(verdicts.table(verdict))
    return int(any(verdict["verdict"] != "holds" for verdict in judged))


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


def _write_class(judged, folders, marks, out):
    """Write marks, and the overview into `out`, of those judged so far."""
    pairs = zip(folders, judged, strict=True)
    rows = [(folder.name, verdict) for folder, verdict in pairs if verdict is not None]
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
        verdicts.write_page(out / "index.html", render("class.html.j2", rows=rows))
    if marks is not None:
        verdicts.write_marks(marks, [verdict for _, verdict in rows])


# ---- a process for each --------------------------------------------------------------------------


def _in_processes(tasks, jobs, options, timeout):
    """Judge each slot, its report into its folder, in a process that may die of what it reads.

    Yields number, verdict and probabilities of each as soon as it is known.
    """
    for number, (slot, _) in enumerate(tasks):
        if slot.fault:
            yield number, *_unreadable(slot, slot.fault)
    multiprocessing.set_forkserver_preload(["digitlib.report.warm", "digitlib.handin.judge"])
    start = multiprocessing.get_context("forkserver").Process
    waiting = [(number, *task) for number, task in enumerate(tasks) if not task[0].fault]
    running = {}
    temporary = tempfile.TemporaryDirectory(dir=files.scratch(), ignore_cleanup_errors=True)
    # A new Python would import from where the grader stands, perhaps an unpacked hand-in.
    with mock.patch.dict(os.environ, PYTHONSAFEPATH="1"), temporary as scratch:
        with chdir(files.scratch()):  # where matplotlib finds no settings, either
            forkserver.ensure_running()
        try:
            while waiting or running:
                while waiting and len(running) < jobs:
                    number, slot, folder = waiting.pop(0)
                    where = Path(scratch, str(number))
                    where.mkdir()
                    process = start(target=_process, args=(slot, folder, where, options))
                    process.start()
                    running[process] = number, slot, where, time.monotonic() + timeout
                next_end = min(end for *_, end in running.values())
                wait([process.sentinel for process in running], next_end - time.monotonic())
                for process, (number, slot, where, end) in list(running.items()):
                    late = process.is_alive()
                    if late and time.monotonic() < end:
                        continue
                    _end(process)
                    del running[process]
                    why = f"judging it ended with {process.exitcode}: too large, or hostile"
                    if late:
                        why = f"judging it took more than {timeout:g} s; give --timeout"
                    yield number, *_read(where, slot, why)
        finally:
            for process in running:
                _end(process)


def _process(slot, folder, scratch, options):
    """What such a process does."""
    import resource  # of Unix, as the fork server is

    os.setsid()
    with suppress(OSError), open("/proc/self/statm") as file:  # macOS has none, and no such limit
        here = int(file.read().split()[5]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_DATA, (here + MEMORY, here + MEMORY))
    slot = replace(slot, archive=str(Path(slot.archive).absolute()))
    folder = folder and folder.absolute()
    os.chdir(scratch)
    tempfile.tempdir = str(scratch)
    verdict, found = _judge(slot, folder, **options)
    if found is not None:
        np.save(scratch / "found.npy", found)
    files.write_text(scratch / "verdict.json", json.dumps(verdict))


def _end(process):
    """End a process and its kernel."""
    with suppress(OSError):
        os.killpg(process.pid, signal.SIGKILL)
    process.kill()  # it may not have come as far as to lead a group
    process.join()


def _read(scratch, slot, why):
    """The verdict and the probabilities that a process left; if it did not, `why`."""
    if not (scratch / "verdict.json").exists():
        return _unreadable(slot, why)
    verdict = json.loads((scratch / "verdict.json").read_text("utf-8"))
    there = scratch / "found.npy"
    return verdict, np.load(there, allow_pickle=False) if there.exists() else None


def _unreadable(slot, why):
    return verdicts.make([("archive", "does not hold", why)], slot), None
