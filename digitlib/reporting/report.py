"""From parameters to a finished report folder: whole under its name, or not there at all."""

import fcntl
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import threading
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from pathlib import Path

from digitlib.data import check_splits, load_digits
from digitlib.errors import NotebookFailed, ParameterError
from digitlib.recipes import get_recipe
from digitlib.reporting import index, kernels, render

NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,79}")


def check_parameters(
    *, recipe="coursework", seed="0", splits="4", epochs=None, source="bundled", scaling="train"
):
    """Check every parameter before anything starts.

    Parameters
    ----------
    recipe, source, scaling : str
    seed, splits, epochs : int or str
        Whole numbers, as numbers or as text.

    Returns
    -------
    dict
        Values for the notebooks' ``parameters`` cells.

    Raises
    ------
    ParameterError, DataError
        With the name, the value, what is allowed.
    """
    settings = get_recipe(recipe)
    parameters = {
        "recipe": recipe,
        "seed": _integer("seed", seed, 0, 2**32 - 1),
        "splits": _integer("splits", splits, 2, 1000),
        "epochs": 0 if epochs is None else _integer("epochs", epochs, 1, 100_000),
        "source": _absolute(source),
        "scaling": scaling,
    }
    if parameters["epochs"]:
        settings.changed(epochs=parameters["epochs"])
    if scaling not in ("train", "all"):
        raise ParameterError(f"scaling={scaling!r}: takes train or all")
    _, y = load_digits(
        source, return_X_y=True
    )  # a live fetch fails here, before a kernel starts, and is cached for the notebooks
    check_splits(y, parameters["splits"])
    return parameters


def _integer(name, value, least, most):
    try:
        number = int(str(value), 10)
    except ValueError:
        raise ParameterError(f"{name}={value!r}: takes an integer {least}..{most}") from None
    if not least <= number <= most:
        raise ParameterError(f"{name}={number}: out of range, takes an integer {least}..{most}")
    return number


def _absolute(source):
    return source if source in ("bundled", "uci", "sklearn") else str(Path(source).resolve())


def check_name(name):
    """`name` if it is one plain folder name.

    Raises
    ------
    ParameterError
    """
    if not NAME.fullmatch(name) or name.endswith("."):
        raise ParameterError(
            f"name={name!r}: takes one plain folder name under reports/: letters, digits, _ . - (at"
            " most 80, not starting with . or -)"
        )
    return name


def make_report(name, parameters, reports="reports", compare=False):
    """Run the notebooks and build ``reports/<name>/``.

    Parameters
    ----------
    name : str
    parameters : dict
        From :func:`check_parameters`.
    reports : str or path-like
        The folder of all reports; made if missing.
    compare : bool
        Also run ``4_compare``.

    Returns
    -------
    Path
        The finished folder. If a report of that name existed, it was replaced in the last step.

    Raises
    ------
    ParameterError
        The name is not allowed, or another process is making the same report.
    NotebookFailed
        A notebook failed; it is kept in ``reports/<name>-failed/``.
    """
    target = Path(reports).resolve() / check_name(name)
    _restore(target)
    with _staging(target) as staging, tempfile.TemporaryDirectory() as scratch:
        kernels.prepare_environment(scratch)
        try:
            _run_notebooks(staging, parameters, compare)
        except NotebookFailed as error:
            raise NotebookFailed(f"{error} (kept: {_keep_failed(staging, target)})") from error
        index.write_index(staging, name)
        _publish(staging, target)
        index.write_overview(target.parent)
    return target


def _run_notebooks(staging, parameters, compare):
    """Exploration beside training; the rest beside the checks, as soon as training has written
    ``run.json``, which pages need too.
    """
    plan = {
        "1_eda": {"source": parameters["source"]},
        "2_train": {**parameters, "run": "."},
        "3_evaluate": {"run": "."},
        **({"4_compare": {"run": "."}} if compare else {}),
        "5_predict": {"run": "."},
    }

    def saved():
        if stopped.is_set():
            raise NotebookFailed("stopped")
        return (staging / "run.json").is_file()

    def in_turn(*notebooks):
        for notebook in notebooks:
            output = staging / f"{notebook}.ipynb"
            kernels.run(
                kernels.notebook_folder() / f"{notebook}.ipynb",
                output,
                plan[notebook],
                staging,
                ready=saved,
            )
            if notebook == "2_train":
                checking.append(_start_checks(staging))
            with lock:
                executed.append(output)
                while executed and saved():
                    pages.append(renderer.submit(render.write_page, executed.pop(), plan))

    executed, pages, checking, lock, stopped = [], [], [], threading.Lock(), threading.Event()
    with ThreadPoolExecutor(3) as workers, ThreadPoolExecutor(1) as renderer:
        lanes = [["2_train"], ["1_eda", "5_predict"], ["3_evaluate", *["4_compare"] * compare]]
        running = [workers.submit(in_turn, *lane) for lane in lanes]
        try:
            for future in as_completed(
                running
            ):  # the first failure ends the other notebooks as well
                future.result()
            for page in pages:
                page.result()
            _end_checks(*checking)
        except BaseException:
            stopped.set()
            kernels.kill_all()
            for process in checking:
                process.kill()
            raise


def _start_checks(staging):
    """The checks in a process of their own: they need torch, which this one does without."""
    command = [sys.executable, "-m", "digitlib", "check", "--all", str(staging)]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)


def _end_checks(process):
    """Wait for ``checks.json``. A check that did not pass is part of the report; checks that could
    not run are no report.
    """
    _, said = process.communicate()
    if process.returncode not in (0, 1) or not (Path(process.args[-1]) / "checks.json").is_file():
        raise NotebookFailed(
            "the checks could not be run:"
            f" {said.strip().splitlines()[-1] if said.strip() else process.returncode}"
        )


# ---- one folder, whole or not at all -------------------------------------------------------------


@contextmanager
def _staging(target):
    """The hidden folder in which a report grows; finished folds of an earlier attempt are still in
    it.
    """
    staging = target.with_name(f".{target.name}.partial")
    staging.mkdir(parents=True, exist_ok=True)
    with open(target.with_name(f".{target.name}.lock"), "w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise ParameterError(
                f"name={target.name!r}: another process is making this report; wait for it or"
                " choose another name"
            ) from None
        for entry in staging.iterdir():
            if entry.name != ".folds":
                shutil.rmtree(entry) if entry.is_dir() else entry.unlink()
        yield staging
        Path(lock.name).unlink()


def _publish(staging, target):
    """Rename into place. Between the two renames the old report lies under its `.old` name, from
    where _restore brings it back.
    """
    shutil.rmtree(staging / ".folds", ignore_errors=True)
    old = target.with_name(f".{target.name}.old")
    if target.exists():
        target.rename(old)
    staging.rename(target)
    shutil.rmtree(old, ignore_errors=True)
    shutil.rmtree(target.with_name(f"{target.name}-failed"), ignore_errors=True)


def _restore(target):
    old = target.with_name(f".{target.name}.old")
    if old.exists() and not target.exists():
        old.rename(target)


def _keep_failed(staging, target):
    """Move the executed notebooks of a failed run to where a person finds them; folds stay for the
    next attempt.
    """
    kept = target.with_name(f"{target.name}-failed")
    shutil.rmtree(kept, ignore_errors=True)
    kept.mkdir()
    for notebook in staging.glob("*.ipynb"):
        os.replace(notebook, kept / notebook.name)
    return os.path.relpath(kept)


def checks_summary(folder):
    """One line: how many checks passed, and which did not."""
    results = json.loads((folder / "checks.json").read_text(encoding="utf-8"))
    failed = [
        f"; NOT passed: {r['code']} {r['title']} ({r['detail']})"
        for r in results
        if not r["passed"]
    ]
    return f"checks: {len(results) - len(failed)} of {len(results)} passed{''.join(failed)}"


def verdict(folder):
    """One line: recipe, correct, total, accuracy."""
    info = json.loads((folder / "run.json").read_text(encoding="utf-8"))
    scores = info["scores"]
    return (
        f"{info['recipe']['name']}: {scores['correct']:,} of {scores['total']:,} correct,"
        f" {100 * scores['accuracy']:.2f} %"
    )
