"""From parameters to a finished report folder: whole under its name, or not there at all."""

import fcntl
import json
import os
import re
import shutil
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


def check_parameters(*, recipe="coursework", seed="0", splits="4", epochs=None, source="bundled", scaling="train"):
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
    _, y = load_digits(source, return_X_y=True)  # a live fetch fails here, before a kernel starts, and is cached for the notebooks
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
            f"name={name!r}: takes one plain folder name under reports/: letters, digits, _ . - (at most 80, not starting with . or -)"
        )
    return name


def make_report(name, parameters, reports="reports"):
    """Run the notebooks and build ``reports/<name>/``.

    Parameters
    ----------
    name : str
    parameters : dict
        From :func:`check_parameters`.
    reports : str or path-like
        The folder of all reports; made if missing.

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
            _run_notebooks(staging, parameters)
        except NotebookFailed as error:
            raise NotebookFailed(f"{error} (kept: {_keep_failed(staging, target)})") from error
        index.write_index(staging, name)
        _publish(staging, target)
        index.write_overview(target.parent)
    return target


def _run_notebooks(staging, parameters):
    """Exploration beside training; then evaluation. Pages need the ``run.json`` that training writes, for their headers."""
    plan = {
        "1_eda": {"source": parameters["source"]},
        "2_train": {**parameters, "run": "."},
        "3_evaluate": {"run": "."},
    }

    def in_turn(*notebooks):
        for notebook in notebooks:
            output = staging / f"{notebook}.ipynb"
            kernels.run(kernels.notebook_folder() / f"{notebook}.ipynb", output, plan[notebook], staging)
            with lock:
                executed.append(output)
                while executed and (staging / "run.json").is_file():
                    pages.append(renderer.submit(render.write_page, executed.pop(), plan))

    executed, pages, lock = [], [], threading.Lock()
    with ThreadPoolExecutor(2) as workers, ThreadPoolExecutor(1) as renderer:
        running = [workers.submit(in_turn, "2_train", "3_evaluate"), workers.submit(in_turn, "1_eda")]
        try:
            for future in as_completed(running):  # the first failure ends the other notebook as well
                future.result()
            for page in pages:
                page.result()
        except BaseException:
            kernels.kill_all()
            raise


# ---- one folder, whole or not at all ----------------------------------------------------------------------------------


@contextmanager
def _staging(target):
    """The hidden folder in which a report grows; finished folds of an earlier attempt are still in it."""
    staging = target.with_name(f".{target.name}.partial")
    staging.mkdir(parents=True, exist_ok=True)
    with open(target.with_name(f".{target.name}.lock"), "w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise ParameterError(
                f"name={target.name!r}: another process is making this report; wait for it or choose another name"
            ) from None
        for entry in staging.iterdir():
            if entry.name != ".folds":
                shutil.rmtree(entry) if entry.is_dir() else entry.unlink()
        yield staging
        Path(lock.name).unlink()


def _publish(staging, target):
    """Rename into place. Between the two renames the old report lies under its `.old` name, from where _restore brings it back."""
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
    """Move the executed notebooks of a failed run to where a person finds them; folds stay for the next attempt."""
    kept = target.with_name(f"{target.name}-failed")
    shutil.rmtree(kept, ignore_errors=True)
    kept.mkdir()
    for notebook in staging.glob("*.ipynb"):
        os.replace(notebook, kept / notebook.name)
    return os.path.relpath(kept)


def verdict(folder):
    """One line: recipe, correct, total, accuracy."""
    info = json.loads((folder / "run.json").read_text(encoding="utf-8"))
    scores = info["scores"]
    return f"{info['recipe']['name']}: {scores['correct']:,} of {scores['total']:,} correct, {100 * scores['accuracy']:.2f} %"
