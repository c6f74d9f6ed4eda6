"""How good is a classifier on rows it has not seen? K folds, each row predicted exactly once, by a
model that never saw it.
"""

import inspect
import time
from dataclasses import dataclass, field

import joblib
import numpy as np
import pandas as pd
from sklearn.base import clone
from sklearn.model_selection import KFold

from digitlib.data import check_splits
from digitlib.errors import DataError, ParameterError
from digitlib.progress import Progress


@dataclass
class Fold:
    """What one fold leaves behind: ``number`` (from 1), ``test`` (row indices), ``probabilities``
    (len(test), n_classes), the fitted ``estimator``, ``history`` (list of dict) and ``seconds``
    (fit and prediction)."""

    number: int
    test: np.ndarray
    probabilities: np.ndarray
    estimator: object
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

    @property
    def predicted(self):
        """Most probable class of each row, shape (n,)."""
        return self.classes[self.probabilities.argmax(axis=1)]

    @property
    def accuracy(self):
        """Share of rows predicted correctly, 0..1."""
        return float((self.predicted == self.y).mean())

    @property
    def fold_accuracies(self):
        """Accuracy of each fold, shape (n_splits,)."""
        correct = self.predicted == self.y
        return np.array([correct[self.folds == k].mean() for k in range(1, self.folds.max() + 1)])


def cross_validate(
    classifier,
    X,
    y,
    *,
    n_splits=4,
    random_state=30,
    n_jobs=None,
    scaling="train",
    store=None,
    progress="auto",
    protocol="folds",
    writers=None,
):
    """Out-of-sample predictions of any classifier with ``predict_proba``: K folds, or writers it
    has never seen.

    Parameters
    ----------
    classifier : estimator
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
        there are cores. The result has the same bits whatever it is, and whatever joblib backend
        runs it.
    scaling : {"train", "all"}, default="train"
        ``"train"``: a fold's scaler sees that fold's training rows. ``"all"``: the published leaky
        variant, in which it has seen all of `X`; for comparison only.
    store : object or None
        Keeps finished folds for a later attempt: ``store.get(number, test)`` gives a :class:`Fold`
        or None, ``store.put(fold)`` keeps one.
    progress : {"auto", "bar", "log", "off"}, default="auto"
        See :class:`digitlib.progress.Progress`.
    protocol : {"folds", "writers"}, default="folds"
        ``"folds"``: K folds, in which a writer's images are on both sides. ``"writers"``: one fold,
        trained on the rows whose entry in `writers` is "train" and tested on those with "test", as
        the data's authors divided them; `n_splits` and `random_state` are not used.
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
    """
    X, y = np.asarray(X), np.asarray(y)
    if X.shape[:1] != y.shape:
        raise ParameterError(
            f"X of shape {X.shape} and y of shape {y.shape} do not fit; give one row and one label"
            " per image"
        )
    if not hasattr(classifier, "predict_proba"):
        raise ParameterError(
            f"{type(classifier).__name__} has no predict_proba; give a classifier that has, or wrap"
            " it in CalibratedClassifierCV"
        )
    splits = _splits(X, y, n_splits, random_state, protocol, writers)
    if scaling not in ("train", "all"):
        raise ParameterError(f"scaling={scaling!r}: takes 'train' or 'all'")
    if scaling == "all" and "scale_on" not in inspect.signature(classifier.fit).parameters:
        raise ParameterError(
            f"scaling='all' has no effect on {type(classifier).__name__}; leave it at 'train'"
        )
    start = time.perf_counter()
    bar = Progress(len(splits), progress)
    if n_jobs is None:
        n_jobs = joblib.parallel.get_active_backend()[1] or min(joblib.cpu_count(), len(splits))
    shared = getattr(
        joblib.parallel.get_active_backend(prefer="threads")[0], "supports_sharedmem", False
    )
    try:
        folds = joblib.Parallel(n_jobs=n_jobs, prefer="threads")(
            # Another process can neither move this bar nor, perhaps, see the store's disk.
            joblib.delayed(_fold)(
                classifier,
                X,
                y,
                number,
                train,
                test,
                scaling,
                store if shared else None,
                bar if shared else None,
            )
            for number, (train, test) in enumerate(splits, 1)
        )
    finally:
        bar.close()
    # Kept folds cost nothing now; their time counts as if they had trained side by side as the
    # others do.
    seconds = max(
        time.perf_counter() - start,
        sum(fold.seconds for fold in folds) / min(joblib.effective_n_jobs(n_jobs), len(folds)),
    )
    return _assemble(folds, y, seconds)


def _splits(X, y, n_splits, random_state, protocol, writers):
    """List of (training rows, test rows)."""
    if protocol == "folds":
        if writers is not None:
            raise ParameterError(
                "writers has no effect with protocol='folds'; leave it out, or use"
                " protocol='writers'"
            )
        check_splits(y, n_splits)
        return list(KFold(n_splits, shuffle=True, random_state=random_state).split(X))
    if protocol != "writers":
        raise ParameterError(f"protocol={protocol!r}: takes 'folds' or 'writers'")
    train, test = (np.flatnonzero(np.asarray(writers) == part) for part in ("train", "test"))
    if not len(train) or not len(test):
        raise DataError(
            f"protocol='writers' needs rows of training and of test writers, here {len(train)} and"
            f" {len(test)}; use source bundled or uci"
        )
    return [(train, test)]


def _fold(classifier, X, y, number, train, test, scaling, store, bar):
    """Train on `train`, predict `test`; all that leaves the training rows is the fitted estimator."""
    if store is not None and (kept := store.get(number, test)) is not None:
        _report(bar, kept, y, " (kept from an earlier attempt)")
        return kept
    start = time.perf_counter()
    estimator = clone(classifier)
    accepted = inspect.signature(estimator.fit).parameters
    extras = {}
    if "on_epoch" in accepted:  # other libraries have an eval_set too, of another form
        extras["on_epoch"] = bar and (
            lambda record: bar.epoch(number, record, estimator.recipe_.epochs)
        )
        if np.isin(
            y[test], y[train]
        ).all():  # a class without training rows has no probability, so no loss
            extras["eval_set"] = (X[test], y[test])
    if scaling == "all":
        extras["scale_on"] = X
    estimator.fit(
        X[train], y[train], **{name: value for name, value in extras.items() if name in accepted}
    )
    fold = Fold(
        number,
        test,
        np.asarray(estimator.predict_proba(X[test]), dtype=float),
        estimator,
        getattr(estimator, "history_", []),
    )
    fold.seconds = time.perf_counter() - start
    if store is not None:
        store.put(fold)
    _report(bar, fold, y)
    return fold


def _report(bar, fold, y, note=""):
    if bar is not None:
        correct = fold.estimator.classes_[fold.probabilities.argmax(axis=1)] == y[fold.test]
        bar.fold(fold.number, correct.mean(), fold.seconds, note)


def _assemble(folds, y, seconds):
    classes, rows = np.unique(y), np.sort(np.concatenate([fold.test for fold in folds]))
    probabilities, numbers = (
        np.full((len(y), len(classes)), np.nan),
        np.zeros(len(y), dtype=np.int64),
    )
    for fold in folds:
        # A fold whose training rows lack a class has no column for it: that probability is 0.
        columns = np.searchsorted(classes, fold.estimator.classes_)
        probabilities[fold.test] = 0.0
        probabilities[np.ix_(fold.test, columns)] = fold.probabilities
        numbers[fold.test] = fold.number
    history = pd.DataFrame(
        [{"fold": fold.number, **record} for fold in folds for record in fold.history]
    )
    return CrossValidation(
        y[rows],
        classes,
        probabilities[rows],
        numbers[rows],
        history,
        seconds,
        [f.seconds for f in folds],
        [f.estimator for f in folds],
        rows,
    )
