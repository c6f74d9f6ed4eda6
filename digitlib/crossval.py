"""Cross-validation: every image predicted once, by a network that never saw it."""

import inspect
import time
from dataclasses import dataclass, field
from typing import Any

import joblib
import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from sklearn.base import clone
from sklearn.model_selection import KFold, StratifiedKFold

from digitlib import engine
from digitlib.data import check_splits
from digitlib.errors import DataError, ParameterError
from digitlib.progress import Progress

FOLDS = {"kfold": KFold, "stratified": StratifiedKFold}


@dataclass
class Fold:
    """What one fold leaves behind.

    ``number`` (from 1), ``test`` (row indices), ``probabilities`` (len(test), n_classes), the
    fitted ``estimator``, ``history`` (list of dict) and ``seconds`` (fit and prediction).
    """

    number: int
    test: np.ndarray
    probabilities: np.ndarray
    estimator: Any
    history: list = field(default_factory=list)
    seconds: float = 0.0


@dataclass
class CrossValidation:
    """Out-of-fold result of :func:`cross_validate`.

    Attributes
    ----------
    y : ndarray of shape (n,)
        The labels.
    classes : ndarray of shape (n_classes,)
    probabilities : ndarray of shape (n, n_classes), float64
        In row order; row i comes from the fold in which i was held out.
    folds : ndarray of shape (n,), int64
        The fold, from 1, in which each row was held out.
    history : DataFrame
        ``fold``, ``epoch``, ``learning_rate``, ``loss``, ``held_out_loss``, ``held_out_accuracy``;
        empty if the classifier keeps none.
    seconds : float
        Wall time of the whole call.
    fold_seconds : list of float
        Fit and prediction, fold by fold.
    estimators : list
        The fitted classifier of each fold.
    rows : ndarray of shape (n,), int64
        Which rows of the data these are: all of them with ``protocol="folds"``, the test writers'
        with ``protocol="writers"``.
    engine : str
        The cluster that ran the folds, in words; empty for this machine.
    """

    y: np.ndarray
    classes: np.ndarray
    probabilities: np.ndarray
    folds: np.ndarray
    history: pd.DataFrame
    seconds: float
    fold_seconds: list
    estimators: list
    rows: np.ndarray
    engine: str = ""

    @property
    def predicted(self) -> np.ndarray:
        """Most probable class of each row, shape (n,)."""
        return self.classes[self.probabilities.argmax(axis=1)]

    @property
    def accuracy(self) -> float:
        """Share of rows predicted correctly, 0..1."""
        return float((self.predicted == self.y).mean())

    @property
    def fold_accuracies(self) -> np.ndarray:
        """Accuracy of each fold, shape (n_splits,)."""
        correct = self.predicted == self.y
        return np.array([correct[self.folds == k].mean() for k in range(1, self.folds.max() + 1)])


def cross_validate(
    classifier: Any,
    X: ArrayLike,
    y: ArrayLike,
    *,
    n_splits: int = 4,
    random_state: int = 30,
    n_jobs: int | None = None,
    scaling: str = "train",
    progress: Any = "auto",
    protocol: str = "folds",
    writers: ArrayLike | None = None,
    folds: str = "kfold",
    cv: Any = None,
) -> CrossValidation:
    """Predict every row by a classifier that never saw it: K folds, or writers kept apart.

    Parameters
    ----------
    classifier : estimator with predict_proba
        Cloned for every fold; never fitted itself. If its ``fit`` takes ``eval_set`` and
        ``on_epoch`` as that of :class:`digitlib.DigitClassifier` does, held-out curves and progress
        come with the result.
    X : array of shape (n, n_features)
    y : array of shape (n,)
    n_splits : int, default=4
        Folds, from ``KFold(n_splits, shuffle=True, random_state=random_state)``.
    random_state : int, default=30
        Decides which row is in which fold, and nothing else. The published split is 4 folds with
        30.
    n_jobs : int or None, default=None
        Folds at once. None: what a surrounding :func:`joblib.parallel_config` says, else as many as
        there are cores, or as the engine can take, see :mod:`digitlib.engine`. The result has the
        same bits whatever it is, and whatever joblib backend runs it.
    scaling : {"train", "all"}, default="train"
        ``"train"``: a fold's scaler sees that fold's training rows. ``"all"``: the published leaky
        variant, in which it has seen all of `X`; for comparison only.
    progress : {"auto", "bar", "log", "off"}, default="auto"
        See :class:`digitlib.progress.Progress`.
    protocol : {"folds", "writers"}, default="folds"
        ``"folds"``: K folds, in which a writer's images are on both sides. ``"writers"``: one fold,
        trained on the rows whose entry in `writers` is "train" and tested on those with "test", as
        the data's authors divided them; `n_splits` and `random_state` are not used.
    folds : {"kfold", "stratified"}, default="kfold"
        ``"stratified"``: each fold has the same share of every class.
    cv : splitter or None
        Any of scikit-learn's that holds out each row once, in place of `n_splits` and
        `random_state`.
    writers : array of shape (n,) of str or None
        As in :func:`digitlib.load_digits`; for ``protocol="writers"`` only.

    Returns
    -------
    CrossValidation
        Of all rows in order, or of the test writers' rows in order.

    Raises
    ------
    ParameterError, DataError
        The folds cannot be made, the classifier gives no probabilities, or `scaling` has no effect
        on it.

    Examples
    --------
    >>> import digitlib
    >>> X, y = digitlib.load_digits(return_X_y=True)
    >>> classifier = digitlib.DigitClassifier("kernel", random_state=0)
    >>> result = digitlib.cross_validate(classifier, X, y, progress="off")
    >>> result.probabilities.shape, result.accuracy > 0.985
    ((5620, 10), True)
    """
    X, y = np.asarray(X), np.asarray(y)
    _check(classifier, X, y, scaling)
    splits = _splits(X, y, n_splits, random_state, protocol, writers, folds, cv)
    start, bar = time.perf_counter(), Progress(len(splits), progress)
    with engine.running(None if n_jobs is None else "") as place:
        if n_jobs is None:
            configured = joblib.parallel.get_active_backend()[1]
            n_jobs = configured or min(joblib.cpu_count(), len(splits))
        backend = joblib.parallel.get_active_backend(prefer="threads")[0]
        # Another process cannot move this bar.
        watched = bar if getattr(backend, "supports_sharedmem", False) else None
        try:
            finished = joblib.Parallel(n_jobs=n_jobs, prefer="threads")(
                joblib.delayed(_fold)(classifier, X, y, number, *rows, scaling, watched)
                for number, rows in enumerate(splits, 1)
            )
        finally:
            bar.close()
    return _assemble(finished, y, time.perf_counter() - start, place)


def _check(classifier, X, y, scaling):
    name = type(classifier).__name__
    if X.shape[:1] != y.shape:
        raise ParameterError(
            f"X of shape {X.shape} and y of shape {y.shape} do not fit; give one row and one label"
            " per image"
        )
    if not hasattr(classifier, "predict_proba"):
        raise ParameterError(
            f"{name} has no predict_proba; give a classifier that has, or wrap it in"
            " CalibratedClassifierCV"
        )
    if scaling not in ("train", "all"):
        raise ParameterError(f"scaling={scaling!r}: takes 'train' or 'all'")
    if scaling == "all" and "scale_on" not in inspect.signature(classifier.fit).parameters:
        raise ParameterError(f"scaling='all' has no effect on {name}; leave it at 'train'")


def _splits(X, y, n_splits, random_state, protocol, writers, folds, cv):
    """List of (training rows, test rows), one pair a fold."""
    if folds not in FOLDS:
        raise ParameterError(f"folds={folds!r}: takes {' or '.join(FOLDS)}")
    if protocol == "writers":
        return [_writers_apart(writers)]
    if protocol != "folds":
        raise ParameterError(f"protocol={protocol!r}: takes 'folds' or 'writers'")
    if writers is not None:
        raise ParameterError(
            "writers has no effect with protocol='folds'; leave it out, or use protocol='writers'"
        )
    if cv is None:
        check_splits(y, n_splits)
        cv = FOLDS[folds](n_splits, shuffle=True, random_state=random_state)
    splits = list(cv.split(X, y))
    times = np.bincount(np.concatenate([test for _, test in splits]), minlength=len(y))
    if (times != 1).any():
        raise ParameterError(
            f"cv={cv!r}: holds out row {(times != 1).argmax()} {times[times != 1][0]} times; takes"
            " a splitter that holds out each row once"
        )
    return splits


def _writers_apart(writers):
    train, test = (np.flatnonzero(np.asarray(writers) == part) for part in ("train", "test"))
    if not len(train) or not len(test):
        raise DataError(
            f"protocol='writers' needs rows of training and of test writers, here {len(train)} and"
            f" {len(test)}; use source bundled or uci"
        )
    return train, test


def _fold(classifier, X, y, number, train, test, scaling, bar):
    """Train on `train`, predict `test`; only the fitted estimator leaves the training rows."""
    start, estimator, extras = time.perf_counter(), clone(classifier), {}
    accepted = inspect.signature(estimator.fit).parameters
    if "on_epoch" in accepted:  # other libraries have an eval_set too, of another form
        extras["on_epoch"] = bar and (
            lambda record: bar.epoch(number, record, estimator.recipe_.epochs)
        )
        # A class without training rows has no probability, so no loss.
        if "eval_set" in accepted and np.isin(y[test], y[train]).all():
            extras["eval_set"] = (X[test], y[test])
    if scaling == "all":
        extras["scale_on"] = X
    estimator.fit(X[train], y[train], **extras)
    probabilities = np.asarray(estimator.predict_proba(X[test]), dtype=float)
    seconds, history = time.perf_counter() - start, getattr(estimator, "history_", [])
    fold = Fold(number, test, probabilities, estimator, history, seconds)
    _report(bar, fold, y)
    return fold


def _report(bar, fold, y):
    if bar is not None:
        correct = fold.estimator.classes_[fold.probabilities.argmax(axis=1)] == y[fold.test]
        bar.fold(fold.number, correct.mean(), fold.seconds)


def _assemble(folds, y, seconds, place):
    """The folds' results, in the order of the rows."""
    classes, rows = np.unique(y), np.sort(np.concatenate([fold.test for fold in folds]))
    # A fold whose training rows lack a class has no column for it: that probability is 0.
    probabilities = np.zeros((len(y), len(classes)))
    numbers = np.zeros(len(y), dtype=np.int64)
    for fold in folds:
        columns = np.searchsorted(classes, fold.estimator.classes_)
        probabilities[np.ix_(fold.test, columns)] = fold.probabilities
        numbers[fold.test] = fold.number
    records = [{"fold": fold.number, **record} for fold in folds for record in fold.history]
    return CrossValidation(
        y=y[rows],
        classes=classes,
        probabilities=probabilities[rows],
        folds=numbers[rows],
        history=pd.DataFrame(records),
        seconds=seconds,
        fold_seconds=[fold.seconds for fold in folds],
        estimators=[fold.estimator for fold in folds],
        rows=rows,
        engine=place,
    )
