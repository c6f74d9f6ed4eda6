"""Who is a recipe to be compared with? Competitors, what each costs, and which recipes are quick
enough to be measured by default.

Expect, of 5,620 rows in 4 folds: 1-nearest-neighbour 98.56 %, RBF SVC 99.25 %, logistic regression
97.10 %.
"""

import pickle
import time
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin, clone

import digitlib
from digitlib.cache import remembered
from digitlib.classifier import DigitClassifier
from digitlib.crossval import cross_validate
from digitlib.recipes import RECIPES, get_recipe
from digitlib.runs import CODE

BUDGET = 10.0  # seconds of cross-validation above which a recipe is compared only when it is asked for by name


class HardVotes(ClassifierMixin, BaseEstimator):
    """`estimator` with probability 1 for whatever it predicts: an SVC has no probabilities of its
    own, and accuracy needs none.
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
    """The classifiers that a recipe has to beat, by name; scikit-learn's defaults where nothing is
    said.
    """
    from sklearn.dummy import DummyClassifier
    from sklearn.ensemble import ExtraTreesClassifier
    from sklearn.linear_model import LogisticRegression
    from sklearn.neighbors import KNeighborsClassifier
    from sklearn.neural_network import MLPClassifier
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler
    from sklearn.svm import SVC

    return {
        "majority class": DummyClassifier(strategy="most_frequent"),
        "logistic regression": make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000)),
        "1-nearest-neighbour": KNeighborsClassifier(1),
        # On pixels divided by 16, gamma is 0.2: the same kernel.
        "RBF SVC": HardVotes(SVC(C=10, gamma=0.2 / 16**2)),
        "extra trees": ExtraTreesClassifier(200, random_state=0),
        "scikit-learn MLP": make_pipeline(StandardScaler(), MLPClassifier(random_state=0)),
    }


@dataclass
class Measured:
    """One classifier under one protocol: ``rows``, ``folds``, ``predicted`` (n,), ``seconds`` to
    train and predict all folds, ``milliseconds`` to predict 1,000 images, ``bytes`` of one fitted
    classifier pickled, and ``created`` (UTC date).
    """

    rows: np.ndarray
    folds: np.ndarray
    predicted: np.ndarray
    seconds: float
    milliseconds: float
    bytes: int
    created: str


def measure(estimator, digits, protocol="folds", n_splits=4, random_state=30):
    """Cross-validate `estimator`, or take the result from the cache if data, parameters, protocol
    and versions are the same.

    Parameters
    ----------
    estimator : estimator
        With ``predict_proba``.
    digits : Bunch
        From :func:`digitlib.load_digits`.
    protocol, n_splits, random_state
        As for :func:`digitlib.cross_validate`.

    Returns
    -------
    Measured
    """
    from threadpoolctl import threadpool_limits

    def compute():
        # Folds train side by side; two threads inside each would get in each other's way.
        with threadpool_limits(1):
            result = cross_validate(
                estimator,
                digits.data,
                digits.target,
                n_splits=n_splits,
                random_state=random_state,
                progress="off",
                protocol=protocol,
                writers=digits.writers if protocol == "writers" else None,
            )
            milliseconds, size = _weigh(result.estimators[0], digits.data)
        return {
            "rows": result.rows,
            "folds": result.folds.astype(np.int16),
            "predicted": result.predicted,
            "seconds": result.seconds,
            "milliseconds": milliseconds,
            "bytes": size,
            "created": f"{datetime.now(UTC):%Y-%m-%d}",
        }

    split = {
        "protocol": protocol,
        **({"n_splits": n_splits, "random_state": random_state} if protocol == "folds" else {}),
    }
    arrays, _ = remembered(
        "compare", {"data": digits.sha256, **split, **decisive(estimator)}, compute
    )
    return Measured(
        **{
            name: value if np.ndim(value) else np.asarray(value).item()
            for name, value in arrays.items()
        }
    )


def decisive(estimator):
    """All that decides what `estimator` learns from given rows, as a dictionary for JSON:
    parameters, versions and, if it is ours, code.
    """
    packages = ["numpy", "scipy", "scikit-learn"]
    facts = {
        "class": type(estimator).__name__,
        "parameters": {name: repr(value) for name, value in estimator.get_params().items()},
    }
    if isinstance(estimator, DigitClassifier):
        packages.append("torch")
        facts["parameters"] = repr((estimator.settings(), estimator.random_state, estimator.device))
        facts["code"] = [
            Path(digitlib.__file__).with_name(f"{name}.py").read_text(encoding="utf-8")
            for name in CODE
        ]
    return facts | {"versions": {name: version(name) for name in packages}}


def _weigh(estimator, X):
    """Milliseconds to predict 1,000 rows (the best of three), and bytes of the pickled estimator."""
    times = []
    for _ in range(3):
        start = time.perf_counter()
        estimator.predict(X[:1000])
        times.append(time.perf_counter() - start)
    return 1000 * min(times) * 1000 / len(X[:1000]), len(pickle.dumps(estimator))


def measure_run(run):
    """The cross-validation that a :class:`digitlib.runs.Run` holds; nothing is trained."""
    estimator = DigitClassifier.load(run.path / "fold-1.safetensors")
    milliseconds, size = _weigh(
        estimator, np.zeros((1000, estimator.n_features_in_), dtype=np.uint8)
    )
    seconds = run.info["seconds"]["cross_validation"]
    return Measured(
        run.row, run.folds, run.predicted, seconds, milliseconds, size, run.info["created"][:10]
    )


# ---- which recipes
# ----------------------------------------------------------------------------------------------------


class _Enough(Exception):
    """Raised after the first epoch of a trial."""


def expected_seconds(classifier, digits, n_splits=4):
    """Guess, from one epoch on some rows of one fold, how long a cross-validation of `classifier`
    takes on two cores; cached.
    """

    def stop(_):
        raise _Enough

    def compute():
        settings, train = (
            classifier.settings(),
            np.flatnonzero(np.arange(len(digits.target)) % n_splits),
        )
        if settings.drawn:  # these do not become fewer with the rows
            settings = replace(settings, drawn=max(1, settings.drawn // 6))
        some, epochs, start = (
            train[:: 6 if len(train) > 600 else 1],
            settings.epochs or 1,
            time.perf_counter(),
        )
        try:
            DigitClassifier(settings, random_state=0).fit(
                digits.data[some], digits.target[some], on_epoch=stop
            )
            epochs = 1  # it has none, or one
        except _Enough:
            pass
        return {
            "seconds": np.array(
                (time.perf_counter() - start) * len(train) / len(some) * epochs * n_splits / 2
            )
        }

    arrays, _ = remembered(
        "cost", {"data": digits.sha256, "n_splits": n_splits, **decisive(classifier)}, compute
    )
    return float(arrays["seconds"])


def choose_recipes(recipes, budget, digits, n_splits=4, known=None):
    """Names of the recipes to compare, and a dict of those left out with the seconds they would
    have taken.

    Parameters
    ----------
    recipes : str
        ``"quick"`` (those expected to stay within `budget` seconds), ``"all"``, or names with
        commas between.
    budget : float
    digits : Bunch
        Rows to try recipes on, for ``"quick"``.
    n_splits : int
    known : str or None
        A recipe that is already measured; it needs no trial.

    Raises
    ------
    ParameterError
        A name is unknown.
    """
    if recipes == "all":
        return list(RECIPES), {}
    if recipes != "quick":
        return [get_recipe(name.strip()).name for name in recipes.split(",")], {}
    expected = {
        name: expected_seconds(DigitClassifier(name, random_state=0), digits, n_splits)
        for name in RECIPES
        if name != known
    }
    return [name for name in expected if expected[name] <= budget], {
        name: s for name, s in expected.items() if s > budget
    }
