"""The run folder: written whole, read back; its fold networks as one classifier."""

import hashlib
import json
import os
import platform
import shutil
import subprocess
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

import digitlib
from digitlib import metrics
from digitlib.crossval import Fold
from digitlib.errors import RunError
from digitlib.recipes import from_dict

LIBRARIES = (
    *("torch", "torchmetrics", "numpy", "pandas", "scikit-learn", "scipy"),
    *("matplotlib", "seaborn", "papermill", "nbconvert"),
)
TRAINING = ".training"  # a file with this name says that a run is still being made in its folder


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

    def classifier(self):
        """The classifier, not fitted, that the run was made with."""
        seed = self.info["parameters"]["seed"]
        return _digit_classifier()(from_dict(self.info["recipe"]), random_state=seed)

    def fitted(self, fold):
        """The fitted classifier of a fold, counted from 1; RunError if its file is damaged."""
        return _digit_classifier().load(self.path / f"fold-{fold}.safetensors")

    def ensemble(self):
        """The fitted classifiers of all folds as one, a :class:`FoldEnsemble`."""
        folds = range(1, self.info["parameters"]["splits"] + 1)
        return FoldEnsemble([self.fitted(fold) for fold in folds])


def _digit_classifier():
    # Not at the top: a run is read and drawn without torch, which takes a second to load.
    from digitlib.classifier import DigitClassifier

    return DigitClassifier


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
    # With a local suffix such as "+cpu", which may explain differences in the last bit.
    try:
        return version(name)
    except PackageNotFoundError:
        return None  # papermill and nbconvert, where a notebook is run by hand as in Colab


def _commit():
    root = Path(digitlib.__file__).parents[1]
    if not (root / ".git").exists():
        return None
    try:
        differs = _git(root, "status", "--porcelain", "--untracked-files=no")
        return _git(root, "rev-parse", "HEAD") + ("-dirty" if differs else "")
    except (OSError, subprocess.CalledProcessError):
        return None


def _git(root, *words):
    command = ["git", "-C", root, *words]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


@cache
def code_hash():
    """SHA-256 over the sources of the package: any change of code gives another one."""
    root, digest = Path(digitlib.__file__).parent, hashlib.sha256()
    for path in sorted([*root.rglob("*.py"), *root.glob("*.toml")]):
        name = path.relative_to(root).as_posix().encode()
        digest.update(name + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()


def where_am_i():
    """One line for the top of a notebook: version, Python, torch, commit."""
    commit = (_commit() or "not from a git checkout")[:9]
    return (
        f"digitlib {digitlib.__version__}, Python {platform.python_version()}, torch"
        f" {_version('torch')}, commit {commit}"
    )


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
    _predictions(result).to_csv(folder / "predictions.csv", index=False, float_format="%.9g")
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


def _predictions(result):
    # One line per image; p0 ... p9, or as many as there are classes.
    columns = {"fold": result.folds, "label": result.y, "predicted": result.predicted}
    probabilities = pd.DataFrame(result.probabilities, columns=[f"p{c}" for c in result.classes])
    return pd.DataFrame(columns).rename_axis("row").reset_index().join(probabilities)


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
    """Write `text` to `path`, whole or not at all."""
    with replacing(path) as part:
        part.write_text(text, encoding="utf-8")


def load(folder, consistent=True):
    """Read a run folder; one in which training goes on is waited for.

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
    while (folder / TRAINING).exists() and not (folder / "run.json").is_file():
        time.sleep(0.05)
    if not (folder / "run.json").is_file():
        raise RunError(
            f"{folder}: no run.json, so no complete run; make one with 2_train.ipynb or `digitlib"
            " report`"
        )
    try:
        run = _read(folder)
        wrong = _disagreement(run) if consistent else None
    except (OSError, ValueError, KeyError, TypeError) as error:
        said = " ".join(f"{type(error).__name__}: {error}".split())
        raise RunError(f"{folder}: damaged run folder ({said}); make the run again") from error
    if wrong:
        raise RunError(f"{folder}: predictions.csv {wrong}; make the run again")
    return run


def _read(folder):
    info = json.loads((folder / "run.json").read_text(encoding="utf-8"))
    table = pd.read_csv(folder / "predictions.csv")
    probabilities = table.filter(regex=r"^p\d+$").to_numpy(float)
    columns = (table[name].to_numpy(np.int64) for name in ("row", "fold", "label", "predicted"))
    run = Run(folder, info, *columns, probabilities, pd.read_csv(folder / "history.csv"))
    for part, number in (("data", "rows"), ("scores", "correct"), ("parameters", "splits")):
        if not isinstance(info[part][number], int):
            raise TypeError(f"{part}: {number} is no integer")
    return run


def _disagreement(run):
    """What the predictions have that the rest of the run contradicts; None if all fits."""
    rows, correct = run.info["data"]["rows"], run.info["scores"]["correct"]
    if len(run.y) != rows:
        return f"has {len(run.y)} rows but run.json says {rows}"
    # NaN, where the last line is cut off, is not close to 1.
    if not np.allclose(run.probabilities.sum(axis=1), 1, atol=1e-4):
        return "holds probabilities that do not sum to 1"
    if (found := (run.predicted == run.y).sum()) != correct:
        return f"has {found} correct, run.json says {correct}"
    return None


def load_model(folder):
    """The networks of a run as one fitted classifier with scikit-learn's interface.

    Parameters
    ----------
    folder : str or path-like
        Such as ``reports/coursework``. Only numbers and text are read from it, nothing in it is
        executed.

    Returns
    -------
    FoldEnsemble

    Raises
    ------
    RunError
        The folder is no complete run, or a file in it is damaged.
    """
    return load(folder).ensemble()


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
    finished = list(Path(reports).glob("[!.]*/run.json"))
    if not finished:
        raise RunError(
            f"{reports}/: no finished run; make one with `digitlib report`, or name one with --run"
        )
    return max(finished, key=lambda path: path.stat().st_mtime).parent


class FoldStore:
    """Finished folds of a run that is still going on, for the next attempt if this one is stopped.

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
        facts = repr((settings, decisive, _version("torch"), code_hash())).encode()
        data = [np.asarray(part).tobytes() for part in (X, y)]
        self.key = hashlib.sha256(b"\0".join([facts, *data])).hexdigest()
        self.reproducible = isinstance(classifier.random_state, int | np.integer)

    def get(self, number, test):
        """The :class:`digitlib.crossval.Fold` kept under this number, or None."""
        try:
            estimator = _digit_classifier().load(self.folder / f"{number}.safetensors")
            kept = np.load(self.folder / f"{number}.npz", allow_pickle=False)
            facts, history = estimator.metadata_, estimator.history_
            if facts["key"] != self.key or not np.array_equal(kept["test"], test):
                return None
            return Fold(number, test, kept["probabilities"], estimator, history, facts["seconds"])
        except (RunError, OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
            return None  # not there, or cut off while it was written

    def put(self, fold):
        """Keep a finished fold; nothing is kept when the seed is not fixed."""
        if not self.reproducible:
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        weights = self.folder / f"{fold.number}.safetensors"
        arrays = {"test": fold.test, "probabilities": fold.probabilities}
        # Weights are removed first and written last: whatever stops this, they never stand beside
        # probabilities of another attempt.
        weights.unlink(missing_ok=True)
        np.savez(self.folder / f"{fold.number}.npz", **arrays)
        with replacing(weights) as part:
            fold.estimator.save(part, key=self.key, seconds=fold.seconds)

    def clear(self):
        """Remove what was kept: the run folder now holds it."""
        shutil.rmtree(self.folder, ignore_errors=True)


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
        """Mean of the networks' probabilities, float32 (n, n_classes); each row sums to 1."""
        return np.mean([estimator.predict_proba(X) for estimator in self.estimators], axis=0)

    def predict(self, X):
        """The most probable class of each row, shape (n,)."""
        return self.classes_[self.predict_proba(X).argmax(axis=1)]
