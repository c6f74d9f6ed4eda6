"""Cross-validation: every image is read once, by a classifier that never saw it."""

import inspect
import os
import sys
import time
from dataclasses import dataclass
from typing import Any

import joblib
import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from sklearn.base import clone
from sklearn.model_selection import KFold, StratifiedKFold
from sklearn.utils import check_consistent_length
from tqdm.auto import tqdm

from digitlib.errors import ParameterError

FOLDS = {"kfold": KFold, "stratified": StratifiedKFold}
BATCH = "DIGITLIB_BATCH"  # a variable of the environment that is set where nobody watches


@dataclass(repr=False)
class CrossValidation:
    """Out-of-fold result of :func:`cross_validate`.

    Attributes
    ----------
    y : ndarray of shape (n,)
        The labels.
    classes : ndarray of shape (n_classes,)
    probabilities : ndarray of shape (n, n_classes), float64
        In row order; row i comes from the fold in which i was held out.
    folds : ndarray of shape (n,), int
        The fold, from 1, in which each row was held out.
    rows : ndarray of shape (n,), int
        Which rows of the data these are: all, if the folds hold out all.
    history : DataFrame
        ``fold``, ``epoch``, ``learning_rate``, ``loss``, ``held_out_loss``, ``held_out_accuracy``;
        empty if the classifier keeps none.
    estimators : list
        The fitted classifier of each fold.
    seconds : float
        Wall time of the whole call.
    split : dict
        How the folds were made: ``splits``, ``split_seed``, ``scaling``, ``folds``.
    """

    y: np.ndarray
    classes: np.ndarray
    probabilities: np.ndarray
    folds: np.ndarray
    rows: np.ndarray
    history: pd.DataFrame
    estimators: list
    seconds: float
    split: dict

    def __repr__(self):
        right, kind = (self.predicted == self.y).sum(), type(self.estimators[0]).__name__
        return (
            f"{right:,} of {len(self.y):,} correct, {100 * self.accuracy:.2f} %\n"
            f"{len(self.estimators)} fitted {kind}: see .estimators, .probabilities, .history"
        )

    @property
    def predicted(self) -> np.ndarray:
        """Most probable class of each row, shape (n,)."""
        return self.classes[self.probabilities.argmax(axis=1)]

    @property
    def accuracy(self) -> float:
        """Share of rows predicted correctly, 0..1."""
        return float((self.predicted == self.y).mean())


def cross_validate(
    classifier: Any,
    X: ArrayLike,
    y: ArrayLike,
    *,
    n_splits: int = 4,
    random_state: int = 30,
    folds: Any = "kfold",
    scaling: str = "train",
    n_jobs: int = -1,
    progress: bool = True,
) -> CrossValidation:
    """Predict every row by a classifier that never saw it, in K folds.

    Parameters
    ----------
    classifier : estimator with predict_proba
        Cloned for every fold; never fitted itself.
    X : array of shape (n, n_features)
    y : array of shape (n,)
    n_splits : int, default=4
        Folds, from ``KFold(n_splits, shuffle=True, random_state=random_state)``.
    random_state : int, default=30
        Decides which row is in which fold, and nothing else. The published split is 4 folds with
        30.
    folds : {"kfold", "stratified"} or splitter, default="kfold"
        ``"stratified"``: each fold has the same share of every class. A splitter of scikit-learn's
        that holds out no row twice takes the place of `n_splits` and `random_state`.
    scaling : {"train", "all"}, default="train"
        ``"train"``: a fold's scaler sees that fold's training rows. ``"all"``: the published leaky
        variant, in which it has seen all of `X`; for comparison only.
    n_jobs : int, default=-1
        Folds at once; -1: as many as there are cores. The result has the same bits whatever it is,
        and whatever backend a surrounding :func:`joblib.parallel_config` names.
    progress : bool, default=True
        A bar for a person who watches, a line per fold in a log.

    Returns
    -------
    CrossValidation
        Of the rows that were held out, in order.

    Raises
    ------
    ParameterError
        The classifier gives no probabilities, or `scaling` has no effect on it.
    ValueError
        From scikit-learn: the folds cannot be made.

    Examples
    --------
    >>> import digitlib
    >>> X, y = digitlib.load_digits(return_X_y=True)
    >>> classifier = digitlib.DigitClassifier(random_state=0, epochs=1)
    >>> result = digitlib.cross_validate(classifier, X[:800], y[:800], progress=False)
    >>> result.probabilities.shape, result.accuracy > 0.5
    ((800, 10), True)
    """
    X, y = np.asarray(X), np.asarray(y)
    _check(classifier, X, y, scaling)
    splits, start = _splits(X, y, n_splits, random_state, folds), time.perf_counter()
    run = joblib.Parallel(n_jobs, prefer="threads", return_as="generator_unordered")
    work = (joblib.delayed(_fold)(k, classifier, X, y, scaling, *s) for k, s in enumerate(splits))
    parts = sorted(_shown(run(work), splits, y, progress), key=lambda part: part[0])
    classes, numbers, records = np.unique(y), np.zeros(len(y), dtype=np.int64), []
    probabilities = np.zeros((len(y), len(classes)))
    for number, fitted, given, _ in parts:
        test = splits[number][1]
        # A class without training rows has no column: its probability is 0.
        probabilities[np.ix_(test, np.searchsorted(classes, fitted.classes_))] = given
        numbers[test] = number + 1
        records += [{"fold": number + 1, **each} for each in getattr(fitted, "history_", [])]
    if any(getattr(fitted, "in_turn_", False) for _, fitted, *_ in parts):
        print("the network draws random numbers itself: its folds ran in turn", file=sys.stderr)
    rows, estimators = np.flatnonzero(numbers), [fitted for _, fitted, *_ in parts]
    split = {"splits": len(splits), "split_seed": random_state, "scaling": scaling}
    split["folds"] = folds if isinstance(folds, str) else type(folds).__name__
    held_out, history = (y[rows], classes, probabilities[rows]), pd.DataFrame(records)
    seconds = time.perf_counter() - start
    return CrossValidation(*held_out, numbers[rows], rows, history, estimators, seconds, split)


def _fold(number, classifier, X, y, scaling, train, test):
    """Train on `train`, predict `test`: only the fitted classifier leaves the training rows."""
    fitted, start = clone(classifier), time.perf_counter()
    more = {"scale_on": X} if scaling == "all" else {}
    # A class without training rows has no probability, so no loss.
    if _takes(fitted, "held_out") and np.isin(y[test], y[train]).all():
        more["held_out"] = X[test], y[test]  # measured after each epoch, never learned from
    fitted.fit(X[train], y[train], **more)
    return number, fitted, fitted.predict_proba(X[test]), time.perf_counter() - start


def _takes(classifier, name):
    return name in inspect.signature(classifier.fit).parameters


def _shown(parts, splits, y, progress):
    """Pass `parts` on as they come: under a bar if somebody watches, else with a line for each."""
    shell = "IPython" in sys.modules and sys.modules["IPython"].get_ipython()
    watched = sys.stderr.isatty() or (hasattr(shell, "kernel") and BATCH not in os.environ)
    for part in tqdm(parts, total=len(splits), unit="fold", disable=not (progress and watched)):
        number, fitted, given, seconds = part
        if progress and not watched:
            right = fitted.classes_[given.argmax(axis=1)] == y[splits[number][1]]
            said = f"accuracy {100 * right.mean():.2f} %, {seconds:.1f} s"
            print(f"fold {number + 1}/{len(splits)}: {said}", file=sys.stderr, flush=True)
        yield part


def _check(classifier, X, y, scaling):
    name = type(classifier).__name__
    check_consistent_length(X, y)
    if not hasattr(classifier, "predict_proba"):
        remedy = f"take one that has, or CalibratedClassifierCV({name}())"
        raise ParameterError(f"{name} has no predict_proba; {remedy}")
    if scaling not in ("train", "all"):
        raise ParameterError(f"scaling={scaling!r}: takes train or all")
    if scaling == "all" and not _takes(classifier, "scale_on"):
        raise ParameterError(f"scaling='all' has no effect on {name}; leave it at 'train'")


def _splits(X, y, n_splits, random_state, folds):
    """List of (training rows, test rows), one pair a fold."""
    if isinstance(folds, str):
        if folds not in FOLDS:
            raise ParameterError(f"folds={folds!r}: takes {' or '.join(FOLDS)}")
        folds = FOLDS[folds](n_splits, shuffle=True, random_state=random_state)
    splits = list(folds.split(X, y))
    if np.bincount(np.concatenate([test for _, test in splits])).max() > 1:
        raise ParameterError(f"folds={folds!r}: takes a splitter that holds out no row twice")
    return splits
