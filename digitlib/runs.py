"""The run folder: written whole, read back; its fold networks as one classifier."""

import hashlib
import json
import os
import shutil
import time
import zipfile
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import fastjsonschema
import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from sklearn.base import BaseEstimator, ClassifierMixin

from digitlib import metrics
from digitlib.crossval import Fold
from digitlib.errors import ParameterError, RunError
from digitlib.files import check_file, replacing, write_text
from digitlib.forward import Forward
from digitlib.provenance import code_hash, library_version, provenance, where_am_i
from digitlib.recipes import from_dict

__all__ = ["FoldEnsemble", "FoldStore", "Run", "code_hash", "label", "load", "load_model"]
__all__ += ["newest_run", "provenance", "replacing", "save", "summary", "where_am_i", "write_text"]

# What `run.json` may hold: types, ranges, no text that a page could take for more.
# Not by jsonschema, whose import takes most of a second.
SCHEMA = json.loads(Path(__file__).with_name("run.schema.json").read_text(encoding="utf-8"))
_validate = fastjsonschema.compile(SCHEMA)
NO_HISTORY = ["fold", "epoch", "learning_rate", "loss"]  # of a classifier without epochs
MOST_BYTES = 64_000_000  # of a table; that of 200,000 digits has 30
# Characters of weights on the page to draw on, 8 / 3 a weight: enough for four reference networks.
MOST_DRAWN = 1_650_000
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
    run_code: bool = False  # whether the run's own model.py may be executed

    @property
    def kind(self) -> str:
        """Of the model: ``recipe``, ``settings``, ``network`` or ``estimator``."""
        return self.info["model"]["kind"]

    @property
    def unkept(self) -> str | None:
        """Why models of the user's own could not be kept; None if all models are there."""
        return self.info["model"].get("kept") if self.own else None

    @property
    def undrawn(self) -> str | None:
        """Why there is no page to draw on, ``draw.html``; None if there is one."""
        if self.own:
            return "its model is code of your own, which runs in Python alone"
        weights = self.path / "fold-1.safetensors"
        if not weights.is_file():
            return "the weights of its networks are not there"
        large = weights.stat().st_size / 4 * 8 / 3 > MOST_DRAWN  # 4 bytes a weight
        return "its networks are too large for a page" if large else None

    @property
    def own(self) -> bool:
        """Whether the model needs code of the user's."""
        return self.kind in ("network", "estimator")

    @property
    def model_files(self) -> list[str]:
        """Names of the files of the fitted models, fold by fold; none if they were not kept."""
        ending = "skops" if self.kind == "estimator" else "safetensors"
        splits = 0 if self.unkept else self.info["parameters"]["splits"]
        return [f"fold-{number}.{ending}" for number in range(1, splits + 1)]

    def classifier(self, seed: int | None = None) -> Any:
        """The classifier, not fitted, that the run was made with; with another `seed` if given."""
        seed = self.info["parameters"]["seed"] if seed is None else seed
        if self.own:
            return _own().made_by(self.path, seed, self.run_code)
        return _own().DigitClassifier(from_dict(self.info["recipe"]), random_state=seed)

    def fitted(self, fold: int) -> Any:
        """The fitted classifier of a fold, counted from 1; RunError if it cannot be read."""
        if self.own:
            seed = self.info["parameters"]["seed"]
            return _own().load_fold(self.path, fold, seed, self.kind, self.run_code)
        return _own().DigitClassifier.load(self.path / f"fold-{fold}.safetensors")

    def ensemble(self, light: bool = False) -> "FoldEnsemble":
        """The fitted classifiers of all folds as one, a :class:`FoldEnsemble`.

        `light`: without torch where a network is of this package, see :mod:`digitlib.forward`.
        """
        folds = range(1, self.info["parameters"]["splits"] + 1)
        if light and not self.own:
            return FoldEnsemble([Forward(self.path / f"fold-{fold}.safetensors") for fold in folds])
        return FoldEnsemble([self.fitted(fold) for fold in folds])


def _own():
    # Not at the top: a run is read and drawn without torch, which takes a second to load.
    from digitlib import own

    return own


def label(info):
    """What was run, in words, from ``run.json``: `coursework, changed: dropout 0.3 (0.5)`."""
    model = info["model"]
    words = {
        "network": f"own network {model['name']}, trained as {info['recipe']['name']}",
        "estimator": f"own classifier {model['name']}",
    }.get(model["kind"], model["name"])
    changed = [f"{name} {value} ({usual})" for name, (value, usual) in model["changed"].items()]
    words = f"{words}, changed: {', '.join(changed)}" if changed else words
    files = [Path(name).name for name in info.get("code", {}).get("changed") or ()]
    said = f"{len(files)} files" if len(files) > 2 else ", ".join(files)  # the index has all
    return f"{words}, with changed code: {said}" if files else words


def summary(info):
    """The recipe in a sentence; where something was changed, that it is not the recipe."""
    if info["model"]["kind"] == "recipe" and not info.get("code", {}).get("changed"):
        return info["recipe"]["summary"]
    if info["model"]["kind"] == "estimator":
        return "A classifier of the user's own, in the same folds as every other run."
    return f"Not recipe {info['recipe']['name']} as it is known: what was changed is named."


def save(
    result, digits, folder, *, seed, scaling="train", split_seed=30, folds="kfold", source=None
):
    """Write a cross-validation as a run folder.

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
    folds : str
        How the folds were made: ``"kfold"``, ``"stratified"``, or a splitter's own words.
    source : str or None
        Text of a Python file that makes the classifier, see :func:`digitlib.own.source_of`; kept
        as ``model.py`` if the model is the user's own.

    Returns
    -------
    Path
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    for stale in [*folder.glob("fold-*.s*"), folder / "model.py", folder / "run.json"]:
        stale.unlink(missing_ok=True)
    facts, kept = {"seed": seed, "split_seed": split_seed, "data": digits.sha256}, []
    for number, estimator in enumerate(result.estimators, 1):
        path = folder / f"fold-{number}.safetensors"
        if hasattr(estimator, "recipe_"):
            kept.append(estimator.save(path, fold=number, **facts))
        else:
            kept.append(_own().keep(estimator, path))
    _predictions(result).to_csv(folder / "predictions.csv", index=False, float_format="%.9g")
    history = result.history if len(result.history) else pd.DataFrame(columns=NO_HISTORY)
    history.to_csv(folder / "history.csv", index=False, float_format="%.9g")
    recipe = getattr(result.estimators[0], "recipe_", None)
    model = _model(result.estimators[0], recipe, source)
    model["kept"] = next(filter(None, kept), None)
    if model["source"]:
        write_text(folder / "model.py", source)
    own = {"name": model["name"], "summary": "A classifier of the user's own."}
    info = {
        "recipe": own if recipe is None else recipe.as_dict(),
        "model": model,
        "parameters": {
            "seed": seed,
            "splits": len(result.estimators),
            "split_seed": split_seed,
            "epochs": None if recipe is None else recipe.epochs,
            "scaling": scaling,
            "folds": folds,
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
    if result.engine:
        info["machine"]["engine"] = result.engine
    write_text(folder / "run.json", json.dumps(info, indent=2) + "\n")
    return folder


def _model(estimator, recipe, source):
    """What ``run.json`` says of the model: kind, name, changed settings, source and its hash."""
    changed = {} if recipe is None else recipe.changes()
    network = getattr(estimator, "network", None)
    if recipe is None:
        kind, steps = "estimator", getattr(estimator, "steps", [(None, estimator)])
        name = " + ".join(type(step).__name__ for _, step in steps)
    elif network is not None:
        kind, name = "network", getattr(network, "__name__", type(network).__name__)
    else:
        kind, name = "settings" if changed else "recipe", recipe.name
    facts = {"kind": kind, "name": name, "changed": changed, "source": None, "sha256": None}
    if source is not None and kind in ("network", "estimator"):
        facts |= {"source": "model.py", "sha256": hashlib.sha256(source.encode()).hexdigest()}
    return facts


def _predictions(result):
    # One line per image; p0 ... p9, or as many as there are classes.
    columns = {"fold": result.folds, "label": result.y, "predicted": result.predicted}
    probabilities = pd.DataFrame(result.probabilities, columns=[f"p{c}" for c in result.classes])
    return pd.DataFrame(columns).rename_axis("row").reset_index().join(probabilities)


def load(folder: str | os.PathLike, consistent: bool = True, run_code: bool = False) -> Run:
    """Read a run folder; one in which training goes on is waited for.

    Parameters
    ----------
    folder : str or path-like
    consistent : bool, default=True
        Refuse files that do not belong together. False is for checks that are to say what exactly
        is wrong with them.
    run_code : bool, default=False
        Allow what is read to execute the run's own ``model.py``, where its model needs that.

    Returns
    -------
    Run

    Raises
    ------
    RunError
        A file is missing or damaged, or the files do not belong together.
    """
    folder = Path(folder)
    there = partial(os.path.isfile, folder / "run.json")  # False for whatever is no path
    while os.path.exists(folder / TRAINING) and not there():
        time.sleep(0.05)
    if not there():
        raise RunError(
            f"{folder}: no run.json, so no complete run; make one with 2_train.ipynb or `digitlib"
            " report`"
        )
    for name in ("run.json", "predictions.csv", "history.csv"):
        check_file(folder / name, RunError, "make the run again", MOST_BYTES)
    try:
        run = _read(folder)
        run.run_code = run_code
        wrong = _disagreement(run) if consistent else None
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        said = " ".join(f"{type(error).__name__}: {error}".split())[:200]
        raise RunError(f"{folder}: damaged run folder ({said}); make the run again") from error
    if wrong:
        raise RunError(f"{folder}: predictions.csv {wrong}; make the run again")
    return run


def _read(folder):
    info = read_info((folder / "run.json").read_bytes())
    table = pd.read_csv(folder / "predictions.csv")
    probabilities = table.filter(regex=r"^p\d+$").to_numpy(float)
    whole = table[["row", "fold", "label", "predicted"]].to_numpy(float)
    if not ((whole == whole.round()) & (abs(whole) < 2**31)).all():  # neither is NaN
        raise ValueError("predictions.csv: a row, fold or digit is no integer")
    history = pd.read_csv(folder / "history.csv")
    if len(history) and len(history.select_dtypes("number").columns) < len(history.columns):
        raise ValueError("history.csv: holds what is no number")
    return Run(folder, info, *whole.astype(np.int64).T, probabilities, history)


def read_info(content):
    """What ``run.json`` says, given its bytes; ValueError for what ``run.schema.json`` refuses.

    Runs of version 0.1, which had recipes alone, get a ``model``.
    """
    info = json.loads(content, parse_constant=_no_number)
    try:
        _validate(info, name_prefix="run.json")
    except fastjsonschema.JsonSchemaException as error:
        raise ValueError(error.message[:200]) from None
    changed = from_dict(info["recipe"]).changes() if "model" not in info else {}
    before = {"kind": "settings" if changed else "recipe", "name": info["recipe"]["name"]}
    info.setdefault("model", {**before, "changed": changed, "source": None, "sha256": None})
    return info


def _no_number(name):
    raise ValueError(f"{name} is no number")


def _disagreement(run):
    """What the predictions have that the rest of the run contradicts; None if all fits."""
    rows, correct = run.info["data"]["rows"], run.info["scores"]["correct"]
    if len(run.y) != rows:
        return f"has {len(run.y)} rows but run.json says {rows}"
    if set(run.folds) != set(range(1, run.info["parameters"]["splits"] + 1)):
        return "has other folds than run.json"
    # NaN, where the last line is cut off, is not close to 1.
    if not np.allclose(run.probabilities.sum(axis=1), 1, atol=1e-4):
        return "holds probabilities that do not sum to 1"
    if (found := (run.predicted == run.y).sum()) != correct:
        return f"has {found} correct, run.json says {correct}"
    return None


def load_model(folder: str | os.PathLike, run_code: bool = False) -> "FoldEnsemble":
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

    Examples
    --------
    >>> import digitlib
    >>> model = digitlib.load_model("reports/small")
    >>> model.predict(digitlib.load_digits("sklearn").data).shape
    (1797,)
    """
    return load(folder, run_code=run_code).ensemble()


def newest_run(
    reports: str | os.PathLike = "reports", notebook: bool = False, prefer: str | None = None
) -> Path:
    """The run that was made last.

    Parameters
    ----------
    reports : str or path-like
    notebook : bool, default=False
        Whether the remedy in an error is for a person in a notebook.
    prefer : str or None
        A recipe: its newest run, where there is one.

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
        remedy = "run 2_train.ipynb first, or set `run`"
        if not notebook:
            remedy = "make one with `digitlib report`, or name one with --run"
        raise RunError(f"{reports}/: no finished run; {remedy}")
    preferred = [path for path in finished if prefer and _is_of(path, prefer)]
    return max(preferred or finished, key=lambda path: path.stat().st_mtime).parent


def _is_of(path, recipe):
    """Whether a ``run.json`` is of that recipe; not if it cannot be read."""
    try:
        return read_info(path.read_bytes())["model"]["name"] == recipe
    except (OSError, ValueError, TypeError, ParameterError):
        return False


class FoldStore:
    """Finished folds of a run that is still going on, for the next attempt if this one is stopped.

    A fold is kept under a key made of everything that decides its result; with any other key it is
    not found.

    Parameters
    ----------
    folder : str or path-like
    classifier : estimator
        Not fitted; folds of a :class:`digitlib.DigitClassifier` with a fixed seed are kept.
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
        # A network of the user's has an address in memory for a text; its source is in `decisive`.
        settings = [(k, "own" if k == "network" and v is not None else v) for k, v in settings]
        facts = repr((settings, decisive, library_version("torch"), code_hash())).encode()
        data = [np.asarray(part).tobytes() for part in (X, y)]
        self.key = hashlib.sha256(b"\0".join([facts, *data])).hexdigest()
        self.network, seed = (getattr(classifier, n, None) for n in ("network", "random_state"))
        self.reproducible = hasattr(classifier, "settings") and isinstance(seed, int | np.integer)

    def get(self, number, test):
        """The :class:`digitlib.crossval.Fold` kept under this number, or None."""
        try:
            path = self.folder / f"{number}.safetensors"
            estimator = _own().DigitClassifier.load(path, network=self.network)
            kept = np.load(self.folder / f"{number}.npz", allow_pickle=False)
            facts, history = estimator.metadata_, estimator.history_
            if facts["key"] != self.key or not np.array_equal(kept["test"], test):
                return None
            more = history, facts["seconds"], facts["hard"]
            return Fold(number, test, kept["probabilities"], estimator, *more)
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
            fold.estimator.save(part, key=self.key, seconds=fold.seconds, hard=fold.hard)

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

    def predict_proba(self, X: ArrayLike) -> np.ndarray:
        """Mean of the networks' probabilities, float32 (n, n_classes); each row sums to 1."""
        return np.mean([estimator.predict_proba(X) for estimator in self.estimators], axis=0)

    def predict(self, X: ArrayLike) -> np.ndarray:
        """The most probable class of each row, shape (n,)."""
        return self.classes_[self.predict_proba(X).argmax(axis=1)]
