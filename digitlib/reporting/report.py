"""Reports: from parameters to a finished folder, whole under its name or not there at all."""

import fcntl
import json
import os
import re
import shutil
import tempfile
from contextlib import contextmanager
from pathlib import Path

from digitlib.data import SOURCES, check_splits, load_digits
from digitlib.errors import NotebookFailed, ParameterError
from digitlib.recipes import get_recipe

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
    return source if source in SOURCES else str(Path(source).resolve())


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
    # Here, not at the top: a bad parameter is told in a moment, without all that runs notebooks.
    from digitlib.reporting import index, kernels

    target = Path(reports).resolve() / check_name(name)
    here = {"run": "."}
    plan = {"1_eda": {"source": parameters["source"]}, "2_train": {**parameters, **here}}
    plan |= {"3_evaluate": here, **({"4_compare": here} if compare else {}), "5_predict": here}
    _restore(target)
    with _staging(target) as staging, tempfile.TemporaryDirectory() as scratch:
        kernels.prepare_environment(scratch)
        try:
            kernels.run_all(plan, staging)
        except NotebookFailed as error:
            raise NotebookFailed(f"{error} (kept: {_keep_failed(staging, target)})") from error
        index.write_index(staging, name)
        _publish(staging, target)
        index.write_overview(target.parent)
    return target


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


def summary(folder):
    """Two lines: recipe, correct, total, accuracy; how many checks passed, and which did not."""
    info, results = (
        json.loads((folder / name).read_text(encoding="utf-8"))
        for name in ("run.json", "checks.json")
    )
    scores = info["scores"]
    failed = [
        f"; NOT passed: {r['code']} {r['title']} ({r['detail']})"
        for r in results
        if not r["passed"]
    ]
    return (
        f"{info['recipe']['name']}: {scores['correct']:,} of {scores['total']:,} correct,"
        f" {100 * scores['accuracy']:.2f} %\n"
        f"checks: {len(results) - len(failed)} of {len(results)} passed{''.join(failed)}"
    )
