"""Make a report: parameters in, a finished folder out, whole under its name or not there at all.

What imports papermill or torch is imported when the parameters have been found good.
"""

import os
import re
import shutil
import tempfile
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np

from digitlib import files
from digitlib.crossval import FOLDS
from digitlib.data import SOURCES, load_digits
from digitlib.errors import NotebookFailed, ParameterError
from digitlib.files import check_folder
from digitlib.provenance import notebook_folder, state_of_code
from digitlib.recipes import KERNEL, CompactRecipe, get_recipe, refuse_unknown, takes
from digitlib.report import forks

NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,79}")


def check_parameters(
    *,
    recipe="coursework",
    seed="0",
    splits="4",
    epochs=None,
    source="bundled",
    scaling="train",
    folds="kfold",
    changes=(),
    model=None,
):
    """Check every parameter before anything starts.

    Parameters
    ----------
    recipe, source, scaling, folds : str
    seed, splits, epochs : int or str
        Whole numbers, as numbers or as text.
    changes : sequence of str
        Settings in place of the recipe's, such as ``"dropout=0.3"``.
    model : str or None
        ``"my_model.py"`` or ``"my_model.py:function"``, in place of a recipe.

    Returns
    -------
    dict
        Values for the notebooks' ``parameters`` cells.

    Raises
    ------
    ParameterError, DataError
        With the name, the value, what is allowed.
    """
    changes = parse_settings(changes)
    if epochs is not None:
        changes["epochs"] = _integer("epochs", epochs, 1, 100_000)
    if recipe == KERNEL and changes:
        raise ParameterError("recipe kernel has no settings that can be changed; leave them out")
    if recipe != KERNEL:
        get_recipe(recipe).changed(**changes)
    if model is not None:
        given = {"epochs": epochs is not None, "recipe": recipe != "coursework", "set": changes}
        for name in filter(given.get, given):
            raise ParameterError(f"{name} has no effect beside model={model!r}; leave it out")
        from digitlib import own  # torch, which no other parameter waits for

        own.from_file(model, _integer("seed", seed, 0, 2**32 - 1))
    parameters = {
        "recipe": recipe,
        "seed": _integer("seed", seed, 0, 2**32 - 1),
        "splits": _integer("splits", splits, 2, 1000),
        "epochs": 0 if epochs is None else changes.pop("epochs"),
        "source": source if source in SOURCES else os.path.abspath(source),
        "scaling": scaling,
        "folds": folds,
        "changes": changes,
        "model": "" if model is None else os.path.abspath(model),
    }
    if scaling not in ("train", "all"):
        raise ParameterError(f"scaling={scaling!r}: takes train or all")
    # A live fetch fails here, before a kernel starts, and is cached for the notebooks.
    _, y = load_digits(source, return_X_y=True)
    check_splits(y, parameters["splits"], folds)
    return parameters


def check_splits(y, n_splits, folds):
    """Raise unless `n_splits` folds of that kind can be made of the labels `y`."""
    if folds not in FOLDS:
        raise ParameterError(f"folds={folds!r}: takes {' or '.join(FOLDS)}")
    classes, counts = np.unique(y, return_counts=True)
    if n_splits > counts.min():
        rarest = f"{counts.min()}, the rows of class {classes[counts.argmin()]}"
        raise ParameterError(f"splits={n_splits}: takes an integer from 2 to {rarest}")


def parse_settings(texts):
    """Settings from texts such as ``"dropout=0.3"``; a text may hold several, with ; between.

    Raises
    ------
    ParameterError
        A text is no setting, or the setting is unknown or does not take the value.
    """
    settings, known = {}, CompactRecipe.settings()
    for text in filter(str.strip, ";".join(texts).split(";")):
        name, equals, value = (part.strip() for part in text.partition("="))
        if not equals:
            raise ParameterError(f"set={text.strip()!r}: takes setting=value, such as dropout=0.3")
        refuse_unknown(name, known, "a recipe")
        try:
            settings[name] = known[name].type(value)
        except ValueError:
            raise ParameterError(f"{name}={value!r}: takes {takes(known[name])}") from None
    return settings


def _integer(name, value, least, most):
    try:
        number = int(str(value), 10)
    except ValueError:
        raise ParameterError(f"{name}={value!r}: takes an integer {least}..{most}") from None
    if not least <= number <= most:
        raise ParameterError(f"{name}={number}: out of range, takes an integer {least}..{most}")
    return number


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


def make_report(name, parameters, reports="reports", compare=False, say=str):
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
    say : callable
        Called with each line about what came out, such as ``print``.

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
    target = check_folder(os.path.realpath(reports), "reports") / check_name(name)
    for place in (target, _staging_of(target)):
        if os.path.islink(place) or (place.exists() and not place.is_dir()):
            raise ParameterError(
                f"name={name!r}: {os.path.relpath(place)} is a link or a file, not the folder of a"
                " report; move it away or choose another name"
            )
    files.check_room(target.parent)
    _restore(target)
    with _staging(target) as staging, _processes() as (run, processes):
        try:
            _run_notebooks(staging, parameters, compare, run, processes)
        except NotebookFailed as error:
            raise NotebookFailed(f"{error} (kept: {_keep_failed(staging, target)})") from error
        processes.run("report.index:write_index", staging, name)
        _publish(staging, target)
        processes.run("report.index:write_overview", target.parent)
        for line in processes.run("report.index:lines", target):
            say(line)
        if refusal := state_of_code()[2]:
            say(f"note: the commit is not recorded: {refusal}")
    return target


@contextmanager
def _processes():
    """What kernels and all else of a report run in: copies of one process that has imported it."""
    with tempfile.TemporaryDirectory(dir=files.scratch(), ignore_cleanup_errors=True) as scratch:
        forks.prepare_environment(scratch)
        with forks.Processes(2) as processes:
            processes.submit("errors:plain", "")  # they start while this process imports papermill
            from digitlib.report import kernels

            try:
                yield kernels.run, processes
            except BrokenProcessPool as error:
                raise NotebookFailed(
                    "a process that writes pages died, perhaps killed or out of memory; run it"
                    " again"
                ) from error
            finally:
                forks.kill_all()


def _run_notebooks(staging, parameters, compare, run, processes):
    """Run exploration beside training; then what reads the run, beside the checks and pages."""
    plan = {
        "1_eda": {"source": parameters["source"]},
        "2_train": {**parameters, "run": "."},
        "3_evaluate": {"run": "."},
        **({"4_compare": {"run": "."}} if compare else {}),
        "5_predict": {"run": "."},
    }
    running, ready, pages = {}, [], []

    def make(stem):
        output = staging / f"{stem}.ipynb"
        run(notebook_folder() / output.name, output, plan[stem], staging)

    with ThreadPoolExecutor(len(plan)) as workers:

        def start(*stems):
            running.update({workers.submit(make, stem): stem for stem in stems})

        try:
            start("1_eda", "2_train")
            while running:
                for done in wait(running, return_when=FIRST_COMPLETED).done:
                    ready.append(running.pop(done))
                    done.result()  # the first failure ends the other notebooks as well
                    if ready[-1] == "2_train":
                        start(*[stem for stem in plan if stem[0] > "2"])
                        # A check that did not pass is part of the report; checks that could not be
                        # run are no report. The user's own model has just been run by the user:
                        # its code may run once more.
                        pages.append(processes.submit("checks:check_and_write", staging))
                        pages.append(processes.submit("report.draw:write_page", staging, [*plan]))
                if (staging / "run.json").exists():  # a page says of which run it is
                    for stem in ready:
                        book = staging / f"{stem}.ipynb"
                        pages.append(processes.submit("report.page:write_page", book, [*plan]))
                    ready.clear()
            for page in pages:
                page.result()
        except BaseException:
            forks.kill_all()
            while wait(running, timeout=0.1).not_done:  # a kernel may just have been starting
                forks.kill_all()
            raise


# ---- one folder, whole or not at all -------------------------------------------------------------


def _staging_of(target):
    return target.with_name(f".{target.name}.partial")


@contextmanager
def _staging(target):
    """The hidden folder in which a report grows, empty."""
    staging = _staging_of(target)
    staging.mkdir(parents=True, exist_ok=True)
    with open(target.with_name(f".{target.name}.lock"), "w") as lock:
        try:
            files.lock(lock)
        except BlockingIOError:
            raise ParameterError(
                f"name={target.name!r}: another process is making this report; wait for it or"
                " choose another name"
            ) from None
        try:
            for entry in staging.iterdir():
                shutil.rmtree(entry) if entry.is_dir() else entry.unlink()
            yield staging
        finally:  # whatever refused or failed: nothing half-done stays
            shutil.rmtree(staging, ignore_errors=True)
            Path(lock.name).unlink()


def _publish(staging, target):
    """Rename into place.

    Between the two renames the old report lies under its `.old` name, from where
    :func:`_restore` brings it back.
    """
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
    """Move the executed notebooks of a failed run to where a person finds them."""
    kept = target.with_name(f"{target.name}-failed")
    shutil.rmtree(kept, ignore_errors=True)
    with suppress(OSError):  # a full disk may be what failed
        kept.mkdir()
        for notebook in staging.glob("*.ipynb"):
            os.replace(notebook, kept / notebook.name)
    return os.path.relpath(kept)
