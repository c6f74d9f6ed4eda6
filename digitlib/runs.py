"""The run folder: written whole, read back; the fitted classifiers of its folds as one."""

import hashlib
import json
import os
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import fastjsonschema
import numpy as np
import pandas as pd
from sklearn.ensemble import VotingClassifier
from sklearn.frozen import FrozenEstimator

from digitlib import own
from digitlib.errors import RunError, plain
from digitlib.files import check_file, write_text
from digitlib.provenance import provenance

# What `run.json` may hold: types, ranges, no text that a page could take for more.
SCHEMA = json.loads(Path(__file__).with_name("run.schema.json").read_text(encoding="utf-8"))
_validate = fastjsonschema.compile(SCHEMA)
WHOLE = ("row", "fold", "label", "predicted", "epoch")  # columns of whole numbers
TYPES: dict = defaultdict(lambda: float, dict.fromkeys(WHOLE, np.int64))
NO_HISTORY = ["fold", "epoch", "learning_rate", "loss"]  # of a classifier without epochs
MOST_BYTES = 64_000_000  # of a table; that of 200,000 digits has 30


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
    run_code : bool
        Whether the run's own ``model.py`` may be executed.
    """

    path: Path
    info: dict
    row: np.ndarray
    folds: np.ndarray
    y: np.ndarray
    predicted: np.ndarray
    probabilities: np.ndarray
    history: pd.DataFrame
    run_code: bool = False

    @property
    def own(self) -> bool:
        """Whether the model needs code of the user's."""
        return self.info["model"]["kind"] != "recipe"

    def classifier(self, seed: int | None = None) -> Any:
        """The classifier, not fitted, that the run was made with; with another `seed` if given."""
        return own.made_by(self, self.info["parameters"]["seed"] if seed is None else seed)

    def fitted(self, fold: int) -> Any:
        """The fitted classifier of a fold, counted from 1; RunError if it cannot be read."""
        if not self.info["model"]["files"]:
            reason = plain(self.info["model"]["unkept"] or "")
            raise RunError(f"{self.path}: its models could not be kept ({reason}); train another")
        return own.load_fold(self.path / self.info["model"]["files"][fold - 1], self)

    def ensemble(self) -> "FoldEnsemble":
        """The fitted classifiers of all folds as one."""
        fitted = [self.fitted(fold) for fold in range(1, self.info["parameters"]["splits"] + 1)]
        if len({len(each.classes_) for each in fitted}) > 1:
            raise RunError(f"{self.path}: a fold lacked a class; train with folds=stratified")
        folds = [(f"fold-{i}", FrozenEstimator(each)) for i, each in enumerate(fitted, 1)]
        classes = fitted[0].classes_
        return FoldEnsemble(folds, voting="soft").fit(np.zeros((len(classes), 64)), classes)


def save(result, digits, folder, *, seed, source=None, engine=""):
    """Write a cross-validation as a run folder.

    Parameters
    ----------
    result : CrossValidation
    digits : Bunch
        From :func:`digitlib.load_digits`.
    folder : str or path-like
        Made if it is missing. Files in it that belong to an earlier run are replaced; ``run.json``
        is written last, so that a folder with one is complete.
    seed : int
        Of the classifier.
    source : str or None
        Text of a Python file that makes the classifier, see :func:`digitlib.own.source_of`; kept
        as ``model.py`` if the model is the user's own.
    engine : str
        The cluster that trained the folds, in words; empty for this machine.

    Returns
    -------
    Path
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    for stale in [*folder.glob("fold-*.s*"), folder / "model.py", folder / "run.json"]:
        stale.unlink(missing_ok=True)
    fitted, columns = result.estimators, {"fold": result.folds, "label": result.y}
    kept = [own.keep(each, folder / f"fold-{number}") for number, each in enumerate(fitted, 1)]
    columns |= {"predicted": result.predicted}
    columns |= {f"p{c}": p for c, p in zip(result.classes, result.probabilities.T, strict=True)}
    table = pd.DataFrame(columns).rename_axis("row")
    table.to_csv(folder / "predictions.csv", float_format="%.9g")
    history = result.history if len(result.history) else pd.DataFrame(columns=NO_HISTORY)
    history.to_csv(folder / "history.csv", index=False, float_format="%.9g")
    info, (names, lost) = own.facts(fitted[0]), zip(*kept, strict=True)
    unkept = next(filter(None, lost), None)
    info["model"] |= {"files": [] if unkept else names, "unkept": unkept}
    if source is not None and info["model"]["kind"] != "recipe":
        write_text(folder / "model.py", source)
        info["model"]["sha256"] = hashlib.sha256(source.encode()).hexdigest()
        info["model"]["differs"] = own.differs(folder / "model.py", seed, fitted[0])
    info["parameters"] = {"seed": seed, **result.split}
    info["data"] = {"source": digits.source, "sha256": digits.sha256, "rows": len(result.y)}
    info |= {"seconds": result.seconds, **provenance(engine)}
    write_text(folder / "run.json", json.dumps(info, indent=2) + "\n")
    return folder


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
    remedy = "a complete run has it: make one with 2_train.ipynb or `digitlib report`"
    for name in ("run.json", "predictions.csv", "history.csv"):
        check_file(folder / name, RunError, remedy, MOST_BYTES)
    try:
        run = _read(folder, run_code)
        _check(run)
    except (OSError, ValueError, KeyError, TypeError, IndexError, RecursionError) as error:
        said = " ".join(f"{type(error).__name__}: {error}".split())[:200]
        raise RunError(f"{folder}: damaged run folder ({said}); make the run again") from error
    return run


def _read(folder, run_code):
    info = read_info((folder / "run.json").read_bytes())
    table, history = (
        pd.read_csv(folder / f"{n}.csv", dtype=TYPES) for n in ("predictions", "history")
    )
    probabilities = table.filter(regex=r"^p\d+$").to_numpy(float)
    columns = [table[name].to_numpy() for name in ("row", "fold", "label", "predicted")]
    return Run(folder, info, *columns, probabilities, history, run_code)


def read_info(content):
    """What ``run.json`` says, given its bytes; ValueError for what ``run.schema.json`` refuses."""
    info = json.loads(content)
    try:
        _validate(info, name_prefix="run.json")
    except fastjsonschema.JsonSchemaException as error:
        raise ValueError(error.message[:200]) from None
    return info


def _check(run):
    """Raise ValueError unless the predictions fit together, and to the rest of the run."""
    info, p, classes = run.info, run.probabilities, np.unique(run.y)
    splits, files = info["parameters"]["splits"], len(info["model"]["files"])
    # Classes may be labels other than 0..9: the prediction names one column, the largest.
    named = p[np.arange(len(p)), np.searchsorted(classes, run.predicted).clip(max=p.shape[1] - 1)]
    claims = {
        "each row once": np.array_equal(np.sort(run.row), np.arange(info["data"]["rows"])),
        "the folds of run.json": set(run.folds) == set(range(1, splits + 1)),
        "a model for each fold": files in (0, splits),
        # NaN, where the last line is cut off, is not close to 1.
        "probabilities that sum to 1": np.allclose(p.sum(axis=1), 1, atol=1e-5) and (p >= 0).all(),
        "the most probable class as prediction": p.shape[1] == len(classes)
        and (named == p.max(axis=1)).all(),
    }
    if lacking := [claim for claim, holds in claims.items() if not holds]:
        raise ValueError(f"does not have {lacking[0]}")


def load_model(folder: str | os.PathLike, run_code: bool = False) -> "FoldEnsemble":
    """The fitted classifiers of a run as one, with scikit-learn's interface.

    Parameters
    ----------
    folder : str or path-like
        Such as ``reports/coursework``. Nothing in it is executed unless `run_code` allows it.
    run_code : bool, default=False
        As for :func:`load`.

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
    return load(folder, run_code).ensemble()


def newest_run(reports: str | os.PathLike = "reports", prefer: str = "") -> Path:
    """The run that was made last, or the one in the folder `prefer` if there is one.

    Raises
    ------
    RunError
        There is none.
    """
    found = [path.parent for path in Path(reports).glob("[!.]*/run.json")]
    if not found:
        remedy = "run 2_train.ipynb or `digitlib report`, or name a folder"
        raise RunError(f"{reports}/: no finished run; {remedy}")
    return max(found, key=lambda run: (run.name == prefer, (run / "run.json").stat().st_mtime))


class FoldEnsemble(VotingClassifier):
    """Fitted classifiers that vote with their probabilities, as one classifier."""

    def __repr__(self, N_CHAR_MAX=700):
        kind = type(self.estimators[0][1].estimator).__name__
        return f"{len(self.estimators)} fitted {kind}, averaged\nclasses {self.classes_}"
