"""The run folder: written whole, read back; its fold networks as one classifier."""

import hashlib
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import fastjsonschema
import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from sklearn.base import BaseEstimator, ClassifierMixin

from digitlib.errors import ParameterError, RunError
from digitlib.files import check_file, write_text
from digitlib.provenance import provenance
from digitlib.recipes import from_dict

# What `run.json` may hold: types, ranges, no text that a page could take for more.
# Not by jsonschema, whose import takes most of a second.
SCHEMA = json.loads(Path(__file__).with_name("run.schema.json").read_text(encoding="utf-8"))
_validate = fastjsonschema.compile(SCHEMA)
NO_HISTORY = ["fold", "epoch", "learning_rate", "loss"]  # of a classifier without epochs
MOST_BYTES = 64_000_000  # of a table; that of 200,000 digits has 30
# Characters of weights on the page to draw on, 8 / 3 a weight: enough for four reference networks.
MOST_DRAWN = 1_650_000


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
        """Of the model: ``recipe``, ``network`` or ``estimator``."""
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
        path = self.path / f"fold-{fold}.safetensors"
        classifier = _own().DigitClassifier.load(path)
        if classifier.recipe_ != from_dict(self.info["recipe"]):
            raise RunError(f"{path}: was made with other settings than run.json says; train again")
        return classifier

    def ensemble(self) -> "FoldEnsemble":
        """The fitted classifiers of all folds as one."""
        folds = range(1, self.info["parameters"]["splits"] + 1)
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
    changes = [f"{name} {value} ({usual})" for name, (value, usual) in changed(info).items()]
    words = f"{words}, changed: {', '.join(changes)}" if changes else words
    files = [Path(name).name for name in info.get("code", {}).get("changed") or ()]
    said = f"{len(files)} files" if len(files) > 2 else ", ".join(files)  # the index has all
    return f"{words}, with changed code: {said}" if files else words


def changed(info):
    """Settings that are not the recipe's: name -> (value, the recipe's)."""
    if info["model"]["kind"] == "estimator":
        return {}
    return from_dict(info["recipe"]).changes()


def summary(info):
    """The recipe in a sentence; where something was changed, that it is not the recipe."""
    other_code = info.get("code", {}).get("changed")
    if info["model"]["kind"] == "recipe" and not changed(info) and not other_code:
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
    kept = []
    for number, estimator in enumerate(result.estimators, 1):
        path = folder / f"fold-{number}.safetensors"
        if hasattr(estimator, "recipe_"):
            kept.append(estimator.save(path))
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
            "scaling": scaling,
            "folds": folds,
        },
        "data": {"source": digits.source, "sha256": digits.sha256, "rows": len(result.y)},
        "scores": {
            "correct": int((result.predicted == result.y).sum()),
            "total": len(result.y),
            "accuracy": result.accuracy,
        },
        "seconds": {"cross_validation": result.seconds, "folds": result.fold_seconds},
        **provenance(),
    }
    if result.engine:
        info["machine"]["engine"] = result.engine
    write_text(folder / "run.json", json.dumps(info, indent=2) + "\n")
    return folder


def _model(estimator, recipe, source):
    """What ``run.json`` says of the model: kind, name, source and its hash."""
    network = getattr(estimator, "network", None)
    if recipe is None:
        kind, steps = "estimator", getattr(estimator, "steps", [(None, estimator)])
        name = " + ".join(type(step).__name__ for _, step in steps)
    elif network is not None:
        kind, name = "network", getattr(network, "__name__", type(network).__name__)
    else:
        kind, name = "recipe", recipe.name
    facts = {"kind": kind, "name": name, "source": None, "sha256": None}
    if source is not None and kind in ("network", "estimator"):
        facts |= {"source": "model.py", "sha256": hashlib.sha256(source.encode()).hexdigest()}
    return facts


def _predictions(result):
    # One line per image; p0 ... p9, or as many as there are classes.
    columns = {"fold": result.folds, "label": result.y, "predicted": result.predicted}
    probabilities = pd.DataFrame(result.probabilities, columns=[f"p{c}" for c in result.classes])
    return pd.DataFrame(columns).rename_axis("row").reset_index().join(probabilities)


def load(folder: str | os.PathLike, run_code: bool = False) -> Run:
    """Read a run folder, and refuse one whose files do not belong together.

    Parameters
    ----------
    folder : str or path-like
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
    if not os.path.isfile(folder / "run.json"):  # False for whatever is no path
        raise RunError(
            f"{folder}: no run.json, so no complete run; make one with 2_train.ipynb or `digitlib"
            " report`"
        )
    for name in ("run.json", "predictions.csv", "history.csv"):
        check_file(folder / name, RunError, "make the run again", MOST_BYTES)
    try:
        run = _read(folder)
        run.run_code = run_code
        wrong = _disagreement(run)
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
    """What ``run.json`` says, given its bytes; ValueError for what ``run.schema.json`` refuses."""
    info = json.loads(content, parse_constant=_no_number)
    try:
        _validate(info, name_prefix="run.json")
    except fastjsonschema.JsonSchemaException as error:
        raise ValueError(error.message[:200]) from None
    return info


def _no_number(name):
    raise ValueError(f"{name} is no number")


def _disagreement(run):
    """What the predictions have that the rest of the run contradicts; None if all fits."""
    info, scores = run.info, run.info["scores"]
    if not np.array_equal(np.sort(run.row), np.arange(info["data"]["rows"])):
        return f"does not have each of the {info['data']['rows']:,} rows once"
    if set(run.folds) != set(range(1, info["parameters"]["splits"] + 1)):
        return "has other folds than run.json"
    p = run.probabilities
    # NaN, where the last line is cut off, is not close to 1.
    if not (np.allclose(p.sum(axis=1), 1, atol=1e-5) and (p >= 0).all()):
        return "holds probabilities that do not sum to 1"
    # Classes may be labels other than 0..9: the prediction names one column, the largest.
    classes = np.unique(run.y)
    columns = np.searchsorted(classes, run.predicted).clip(max=len(classes) - 1)
    if p.shape[1] != len(classes) or (p[np.arange(len(p)), columns] != p.max(axis=1)).any():
        return "holds predictions that are not the most probable class"
    right = int((run.predicted == run.y).sum())
    found = {"correct": right, "total": len(run.y), "accuracy": right / len(run.y)}
    if any(abs(scores[name] - value) > 1e-9 for name, value in found.items()):
        return f"has {right:,} of {len(run.y):,} correct, run.json says other scores"
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
