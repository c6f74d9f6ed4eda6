"""Competitors: simpler classifiers and other recipes on the rows of a run, tested in pairs."""

import pickle
import time
from dataclasses import dataclass

import numpy as np
import pandas as pd
from sklearn.base import BaseEstimator, ClassifierMixin, clone
from sklearn.dummy import DummyClassifier
from sklearn.ensemble import ExtraTreesClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import PredefinedSplit
from sklearn.neighbors import KNeighborsClassifier
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

from digitlib import metrics, own
from digitlib.compare.paired import corrected_resampled_t, holm, mcnemar
from digitlib.crossval import FOLDS, cross_validate
from digitlib.errors import ParameterError, RunError
from digitlib.recipes import KERNEL, RECIPES

QUICK = (KERNEL, "coursework")  # recipes that take seconds


class HardVotes(ClassifierMixin, BaseEstimator):
    """`estimator` with probability 1 for whatever it predicts.

    An SVC has no probabilities of its own, and accuracy needs none.
    """

    def __init__(self, estimator):
        self.estimator = estimator

    def fit(self, X, y):
        """Fit a clone of the estimator; return self."""
        self.estimator_ = clone(self.estimator).fit(X, y)
        self.classes_ = self.estimator_.classes_
        return self

    def predict(self, X):
        """What the estimator predicts, shape (n,)."""
        return self.estimator_.predict(X)

    def predict_proba(self, X):
        """One 1 in each row, shape (n, n_classes)."""
        return (self.predict(X)[:, None] == self.classes_).astype(float)


def competitors():
    """The classifiers that a recipe has to beat, by name; scikit-learn's defaults otherwise."""
    return {
        "majority class": DummyClassifier(strategy="most_frequent"),
        "logistic regression": make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000)),
        "1-nearest-neighbour": KNeighborsClassifier(1),
        # On pixels divided by 16, gamma is 0.2: the same kernel.
        "RBF SVC": HardVotes(SVC(C=10, gamma=0.2 / 16**2)),
        "extra trees": ExtraTreesClassifier(200, random_state=0),
        "scikit-learn MLP": make_pipeline(StandardScaler(), MLPClassifier(random_state=0)),
    }


def choose(recipes, name):
    """Names of the recipes to compare with a run's own, `name`, and of those left out.

    `recipes`: ``"quick"``, ``"all"``, or names with commas between.
    """
    known = [KERNEL, *RECIPES]
    wanted = {"quick": QUICK, "all": known}.get(recipes, recipes.replace(" ", "").split(","))
    if unknown := [one for one in wanted if one not in known]:
        raise ParameterError(f"recipe {unknown[0]!r} is unknown; choose from: {', '.join(known)}")
    slow = [one for one in known if recipes == "quick" and one not in wanted and one != name]
    return [one for one in wanted if one != name], slow


@dataclass
class Comparison:
    """What :func:`compare` found.

    Attributes
    ----------
    reference : str
        The run's name.
    table : DataFrame
        One line per classifier, the most accurate first: ``accuracy``, ``low``, ``high``,
        ``writers``, ``writers low``, ``writers high`` (0..1; on writers never seen, where the data
        tells them apart), ``seconds``, ``milliseconds`` (for 1,000 images), ``kB`` (of a fitted
        classifier, pickled), ``ours``.
    pairs : DataFrame
        The run against each other one.
    left_out : list of str
        Recipes too slow to be compared unasked.
    """

    reference: str
    table: pd.DataFrame
    pairs: pd.DataFrame
    left_out: list


def compare(digits, run, recipes="quick"):
    """Measure competitors and recipes on the rows of a run, by its folds and by writers.

    Parameters
    ----------
    digits : Bunch
        That the run was made of.
    run : Run
        Its out-of-fold predictions are used as they are.
    recipes : str
        As for :func:`choose`.

    Returns
    -------
    Comparison
    """
    if run.info["data"]["sha256"] != digits.sha256:
        raise ParameterError("run: it was made on other data; load what its run.json names")
    X, y, seed, reference = (
        digits.data,
        digits.target,
        run.info["parameters"]["seed"],
        own.label(run.info),
    )
    names, left_out = choose(recipes, reference)
    others = competitors() | {name: own.classifier(name, seed) for name in names}
    split, by_folds, by_writers = {**split_of(run), "progress": False}, {reference: run}, {}
    by_folds |= {name: cross_validate(one, X, y, **split) for name, one in others.items()}
    if {"train", "test"} <= set(digits.writers):
        # As the data's authors divided it. Rows of fold -1 are always trained on.
        split["folds"] = PredefinedSplit(np.where(digits.writers == "test", 0, -1))
        everybody = {reference: run.classifier(), **others}
        by_writers = {n: cross_validate(one, X, y, **split) for n, one in everybody.items()}
    rows = {}
    for name, result in by_folds.items():
        seconds = result.info["seconds"] if result is run else result.seconds
        rows[name] = {**_score(result, ""), **_score(by_writers.get(name), "writers ")}
        rows[name] |= {"seconds": seconds, **_weight(result, X)}
    table = pd.DataFrame.from_dict(rows, orient="index").rename_axis("classifier")
    table = table.rename(columns={"writers accuracy": "writers"})
    table["ours"] = [name not in competitors() for name in table.index]
    table = table.sort_values(["accuracy", "seconds"], ascending=[False, True])
    pairs = _pairs(reference, table.index.drop(reference), by_folds, by_writers)
    return Comparison(reference, table, pairs, left_out)


def split_of(run):
    """How :func:`digitlib.cross_validate` makes the folds of a run."""
    parameters = run.info["parameters"]
    folds = parameters["folds"] if parameters["folds"] in FOLDS else "kfold"
    split = parameters["splits"], parameters["split_seed"], folds
    return dict(zip(("n_splits", "random_state", "folds"), split, strict=True))


def _score(result, prefix):
    """Accuracy and its interval; NaN, where there is no result."""
    values = [np.nan] * 3
    if result is not None:
        right = result.predicted == result.y
        values = [right.mean(), *metrics.wilson_interval(right.sum(), len(right))]
    return {f"{prefix}{n}": v for n, v in zip(("accuracy", "low", "high"), values, strict=True)}


def _weight(result, X):
    """Milliseconds to predict 1,000 rows (the best of three), and size of a fitted classifier."""
    try:
        fitted = result.estimators[0] if hasattr(result, "estimators") else result.fitted(1)
    except RunError:  # it could not be kept
        return {"milliseconds": np.nan, "kB": np.nan}
    times = []
    for _ in range(3):
        start = time.perf_counter()
        fitted.predict(X[:1000])
        times.append(time.perf_counter() - start)
    size = len(pickle.dumps(fitted)) / 1000
    return {"milliseconds": 1e6 * min(times) / len(X[:1000]), "kB": size}


def _pairs(reference, others, by_folds, by_writers):
    """The reference against each other classifier; p-values adjusted by Holm over all of them."""
    right = {name: one.predicted == one.y for name, one in by_folds.items()}
    apart = {name: one.predicted == one.y for name, one in by_writers.items()}
    folds, ours, rows = by_folds[reference].folds, right[reference], {}
    for other in others:
        gains = pd.Series(ours.astype(int) - right[other]).groupby(folds).mean()
        only_ours, only_theirs, p = mcnemar(ours, right[other])
        t, t_p = corrected_resampled_t(gains, 1 / (len(gains) - 1))
        p_writers = mcnemar(apart[reference], apart[other])[2] if apart else np.nan
        rows[other] = [100 * gains.mean(), only_ours, only_theirs, t, p, t_p, p_writers]
    tests = ["McNemar p", "t-test p", "writers McNemar p"]
    columns = ["points", "only reference", "only other", "t", *tests]
    table = pd.DataFrame.from_dict(rows, orient="index", columns=columns)
    for test in tests:
        table[f"{test}, Holm"] = holm(table[test])
    return table.rename_axis("classifier")


def conclude(comparison, level=0.05):
    """What may be concluded from each line of ``comparison.pairs``: a list of sentences."""
    sentences, reference = [], comparison.reference
    because = {
        (True, True): "both tests rule out chance",
        (True, False): "chance alone hardly gives this on these rows (McNemar), but the folds"
        " differ too much to expect it of a new training",
        (False, True): "it is so in nearly every fold, but the rows are too few to rule out"
        " chance (McNemar)",
        (False, False): "no more than chance may give, so neither may be called better",
    }
    for other, row in comparison.pairs.iterrows():
        surplus = int(row["only reference"] - row["only other"])
        if not surplus:
            sentences.append(f"{reference} and {other} are right equally often.")
            continue
        winner, loser = (reference, other) if surplus > 0 else (other, reference)
        why = because[row["McNemar p, Holm"] < level, row["t-test p, Holm"] < level]
        sentences.append(f"{winner} is right on {abs(surplus):,} more images than {loser}: {why}.")
    if comparison.left_out:
        slow = ", ".join(comparison.left_out)
        sentences.append(f"Left out, being slow: {slow}; name them to have them.")
    return sentences
