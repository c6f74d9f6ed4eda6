"""The run folder: written whole, read back; its fold models as one classifier.

Nothing else reads or writes ``run.json``, ``predictions.csv`` and ``history.csv``.
"""

import hashlib
import json
import os
import platform
import shutil
import subprocess
import sys
import time
import zipfile
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import numpy as np
import pandas as pd
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils.validation import validate_data

import digitlib
from digitlib import metrics
from digitlib.errors import RunError

LIBRARIES = ("torch", "torchmetrics", "numpy", "pandas", "scikit-learn", "scipy", "matplotlib")
LIBRARIES += ("seaborn", "papermill", "nbconvert")
COMING = ".training"  # a file of this name in a folder: its run is being made, wait for it


@dataclass
class Run:
    """A run folder, read back.

    Attributes
    ----------
    path : Path
    info : dict
        ``run.json``.
    row, folds, y, predicted : ndarray of shape (n,), int64
        Columns of ``predictions.csv``: row of the table from 0, fold from 1, label, most probable
        class.
    probabilities : ndarray of shape (n, n_classes), float64
        Out of fold.
    history : DataFrame
        ``history.csv``.
    """

    path: Path
    info: dict
    row: np.ndarray
    folds: np.ndarray
    y: np.ndarray
    predicted: np.ndarray
    probabilities: np.ndarray
    history: pd.DataFrame

    @property
    def parameters(self):
        """Seed, number of folds and the like, as ``run.json`` has them."""
        return self.info["parameters"]

    def fold(self, number):
        """The fitted classifier of a fold, from 1."""
        return _classifiers().DigitClassifier.load(self.path / f"fold-{number}.safetensors")

    def classifier(self):
        """The classifier, not fitted, that the run was made with."""
        seed = self.parameters["seed"]
        return _classifiers().DigitClassifier(self.recipe(), random_state=seed)

    def recipe(self):
        """The :class:`digitlib.recipes.Recipe` of the run."""
        return _classifiers().from_dict(self.info["recipe"])


def _classifiers():
    # Pages and notebooks that only read a run do without torch, which costs a second.
    from digitlib import classifier

    return classifier


# ---- provenance ----------------------------------------------------------------------------------


def provenance():
    """Versions, machine and commit of this process, as a dictionary for JSON.

    Returns
    -------
    dict
        ``created`` (UTC, ISO 8601), ``versions``, ``machine``, ``commit`` (hash, "-dirty" appended
        if files differ; None outside a git checkout).
    """
    return {
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "versions": {
            "digitlib": digitlib.__version__,
            "python": platform.python_version(),
            **{name: _version(name) for name in LIBRARIES},
        },
        "machine": {
            "system": platform.system(),
            "processor": platform.machine(),
            "cores": os.cpu_count(),
        },
        "commit": _commit(),
    }


def _version(name):
    # A local suffix such as "+cpu" says how torch was packed, not which release it is; but it may
    # explain last-bit differences.
    try:
        return version(name)
    except PackageNotFoundError:  # papermill and nbconvert are missing in Colab
        return None


def _commit():
    root = Path(digitlib.__file__).parents[1]
    if not (root / ".git").exists():
        return None

    def git(*words):
        done = subprocess.run(
            ["git", "-C", root, *words], capture_output=True, text=True, check=True
        )
        return done.stdout.strip()

    try:
        changed = git("status", "--porcelain", "--untracked-files=no")
        return git("rev-parse", "HEAD") + ("-dirty" if changed else "")
    except (OSError, subprocess.CalledProcessError):
        return None


def where_am_i():
    """One line for the top of a notebook: version, Python, torch, commit."""
    commit = (_commit() or "not from a git checkout")[:9]
    return (
        f"digitlib {digitlib.__version__}, Python {sys.version.split()[0]}, torch"
        f" {_version('torch')}, commit {commit}"
    )


@cache
def code_hash():
    """SHA-256 over the sources of the package: any change of code gives another one."""
    root, digest = Path(digitlib.__file__).parent, hashlib.sha256()
    for path in sorted([*root.rglob("*.py"), *root.glob("*.toml")]):
        name = path.relative_to(root).as_posix()
        digest.update(name.encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()


# ---- writing -------------------------------------------------------------------------------------


@contextmanager
def replacing(path):
    """A path beside `path` to write to, which takes its place when the block ends well.

    A reader never sees half a file; if the block raises, `path` is as it was before.
    """
    part = Path(path).with_name(f".{Path(path).name}.part")
    try:
        yield part
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


def write_text(path, text):
    """Write `text` to `path`, whole or not at all; return `path`."""
    with replacing(path) as part:
        part.write_text(text, encoding="utf-8")
    return path


def save(result, digits, folder, *, seed, scaling="train", split_seed=30):
    """Write a cross-validation of :class:`digitlib.DigitClassifier` as a run folder.

    Parameters
    ----------
    result : CrossValidation
    digits : Bunch
        From :func:`digitlib.load_digits`.
    folder : str or path-like
        Made if it is missing. Files in it that belong to an earlier run are replaced; ``run.json``
        is written last, so that a folder with one is complete.
    seed, split_seed : int
        Of the classifier, and of the split into folds.
    scaling : {"train", "all"}
        As given to :func:`digitlib.cross_validate`.

    Returns
    -------
    Path
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    for stale in [folder / "run.json", *folder.glob("fold-*.safetensors")]:
        stale.unlink(missing_ok=True)
    facts = {"seed": seed, "split_seed": split_seed, "data": digits.sha256}
    for number, estimator in enumerate(result.estimators, 1):
        estimator.save(folder / f"fold-{number}.safetensors", fold=number, **facts)
    predictions_frame(result).to_csv(folder / "predictions.csv", index=False, float_format="%.9g")
    result.history.to_csv(folder / "history.csv", index=False, float_format="%.9g")
    recipe = result.estimators[0].recipe_
    info = {
        "recipe": recipe.as_dict(),
        "parameters": {
            "seed": seed,
            "splits": len(result.estimators),
            "split_seed": split_seed,
            "epochs": recipe.epochs,
            "scaling": scaling,
        },
        "data": {"source": digits.source, "sha256": digits.sha256, "rows": len(result.y)},
        "scores": {
            "correct": int((result.predicted == result.y).sum()),
            "total": len(result.y),
            "accuracy": result.accuracy,
            "fold_accuracies": result.fold_accuracies.tolist(),
            "confusion": metrics.confusion_counts(result.y, result.predicted).to_numpy().tolist(),
        },
        "seconds": {"cross_validation": result.seconds, "folds": result.fold_seconds},
        **provenance(),
    }
    write_text(folder / "run.json", json.dumps(info, indent=2) + "\n")
    return folder


def predictions_frame(result):
    """One row per image: ``row``, ``fold``, ``label``, ``predicted``, ``p0`` ... for each class."""
    columns = {"row": np.arange(len(result.y)), "fold": result.folds}
    frame = pd.DataFrame({**columns, "label": result.y, "predicted": result.predicted})
    probabilities = pd.DataFrame(result.probabilities, columns=[f"p{c}" for c in result.classes])
    return frame.join(probabilities)


# ---- reading -------------------------------------------------------------------------------------


def load(folder, consistent=True):
    """Read a run folder; waits for a run that a report is making there.

    Parameters
    ----------
    folder : str or path-like
    consistent : bool, default=True
        Refuse files that do not belong together. False is for checks that are to say what exactly
        is wrong with them.

    Returns
    -------
    Run

    Raises
    ------
    RunError
        A file is missing or damaged, or the files do not belong together.
    """
    folder = Path(folder)
    while (folder / COMING).exists() and not (folder / "run.json").exists():
        time.sleep(0.05)
    if not (folder / "run.json").is_file():
        raise RunError(
            f"{folder}: no run.json, so no complete run; make one with 2_train.ipynb or `digitlib"
            " report`"
        )
    try:
        info = json.loads((folder / "run.json").read_text(encoding="utf-8"))
        table = pd.read_csv(folder / "predictions.csv")
        history = pd.read_csv(folder / "history.csv")
        columns = [name for name in table if name.startswith("p") and name[1:].isdigit()]
        numbers = [table[name].to_numpy(np.int64) for name in ("row", "fold", "label", "predicted")]
        run = Run(folder, info, *numbers, table[columns].to_numpy(float), history)
        rows, correct = info["data"]["rows"], info["scores"]["correct"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        said = " ".join(f"{type(error).__name__}: {error}".split())
        raise RunError(f"{folder}: damaged run folder ({said}); make the run again") from error
    found = (run.predicted == run.y).sum()
    faults = {
        f"has {len(table)} rows but run.json says {rows}": len(table) != rows,
        # NaN, where the last line is cut off, is not close to 1.
        "holds probabilities that do not sum to 1": not np.allclose(
            run.probabilities.sum(axis=1), 1, atol=1e-4
        ),
        f"has {found} correct, run.json says {correct}": found != correct,
    }
    if consistent and any(faults.values()):
        fault = next(fault for fault, there in faults.items() if there)
        raise RunError(f"{folder}: predictions.csv {fault}; make the run again")
    return run


def newest_run(reports="reports"):
    """The run that was made last.

    Returns
    -------
    Path

    Raises
    ------
    RunError
        There is none.
    """
    finished = [path.parent for path in Path(reports).glob("[!.]*/run.json")]
    if not finished:
        raise RunError(
            f"{reports}/: no finished run; make one with `digitlib report`, or name one with --run"
        )
    return max(finished, key=lambda folder: (folder / "run.json").stat().st_mtime)


class FoldEnsemble(ClassifierMixin, BaseEstimator):
    """Fitted classifiers that vote with their probabilities.

    Parameters
    ----------
    estimators : list of DigitClassifier
        Fitted, on the same classes.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
    n_features_in_ : int
    """

    def __init__(self, estimators):
        self.estimators = estimators

    @property
    def classes_(self):
        return self.estimators[0].classes_

    @property
    def n_features_in_(self):
        return self.estimators[0].n_features_in_

    def __sklearn_is_fitted__(self):
        return True

    def predict_proba(self, X):
        """Mean of the folds' probabilities, shape (n, n_classes); each row sums to 1."""
        X = validate_data(self, X, dtype="numeric", reset=False)
        return np.mean([estimator.predict_proba(X) for estimator in self.estimators], axis=0)

    def predict(self, X):
        """The most probable class of each row, shape (n,)."""
        return self.classes_[self.predict_proba(X).argmax(axis=1)]


def load_model(folder):
    """The networks of a run as one fitted classifier with scikit-learn's interface.

    Parameters
    ----------
    folder : str, path-like or Run
        Such as ``reports/coursework``: a folder with ``run.json`` and ``fold-1.safetensors`` ...
        Only numbers and text are read from it, nothing in it is executed.

    Returns
    -------
    FoldEnsemble

    Raises
    ------
    RunError
        The folder is no complete run, or a file in it is damaged.
    """
    run = folder if isinstance(folder, Run) else load(folder)
    return FoldEnsemble([run.fold(n) for n in range(1, run.parameters["splits"] + 1)])


# ---- folds of a run that is still going on -------------------------------------------------------


class FoldStore:
    """Finished folds, kept for the next attempt if this one is stopped.

    A fold is kept under a key made of everything that decides its result; with any other key it is
    not found.

    Parameters
    ----------
    folder : str or path-like
    classifier : DigitClassifier
        Not fitted.
    X, y : ndarray
        The whole data.
    **decisive
        Further facts that decide the result, such as ``n_splits``.
    """

    def __init__(self, folder, classifier, X, y, **decisive):
        self.folder = Path(folder)
        # All parameters: the repr of an estimator leaves out what is default, and the middle of
        # what is long.
        settings = sorted(classifier.get_params().items())
        facts = [repr(settings), repr(decisive), str(_version("torch")), code_hash()]
        digest = hashlib.sha256("\0".join(facts).encode())
        for array in (X, y):
            digest.update(np.asarray(array).tobytes())
        self.key = digest.hexdigest()
        self.reproducible = isinstance(classifier.random_state, int | np.integer)

    def get(self, number, test):
        """The :class:`digitlib.crossval.Fold` kept under this number, or None."""
        from digitlib.crossval import Fold  # the same reason as in _classifiers

        try:
            estimator = _classifiers().DigitClassifier.load(self.folder / f"{number}.safetensors")
            kept = np.load(self.folder / f"{number}.npz", allow_pickle=False)
            facts = estimator.metadata_
            if facts["key"] != self.key or not np.array_equal(kept["test"], test):
                return None
            return Fold(
                number, test, kept["probabilities"], estimator, estimator.history_, facts["seconds"]
            )
        except (RunError, OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
            return None  # not there, or cut off while it was written

    def put(self, fold):
        """Keep a finished fold; nothing is kept when the seed is not fixed."""
        if not self.reproducible:
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        # Weights are removed first and written last: whatever stops this, they never stand beside
        # probabilities of another attempt.
        weights = self.folder / f"{fold.number}.safetensors"
        weights.unlink(missing_ok=True)
        np.savez(weights.with_suffix(".npz"), test=fold.test, probabilities=fold.probabilities)
        with replacing(weights) as part:
            fold.estimator.save(part, key=self.key, seconds=fold.seconds)

    def clear(self):
        """Remove what was kept: the run folder now holds it."""
        shutil.rmtree(self.folder, ignore_errors=True)
