"""Comparison: recipes and competitors on the same rows, tested in pairs; a learning curve."""

import pickle
import time
from dataclasses import dataclass
from itertools import product

import joblib
import numpy as np
import pandas as pd
from sklearn.base import BaseEstimator, ClassifierMixin, clone
from sklearn.dummy import DummyClassifier
from sklearn.ensemble import ExtraTreesClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import KFold
from sklearn.model_selection import learning_curve as sklearn_learning_curve
from sklearn.neighbors import KNeighborsClassifier
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

from digitlib import metrics, runs
from digitlib.classifier import DigitClassifier
from digitlib.crossval import FOLDS, cross_validate
from digitlib.errors import ParameterError
from digitlib.recipes import RECIPES, get_recipe

BUDGET = 10.0  # seconds; a recipe expected to take longer is compared only when asked for by name
SHARES = (0.125, 0.25, 0.5)  # of the training rows; the whole is what a run has measured


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


# ---- measured -------------------------------------------------------------------------------


@dataclass
class Measured:
    """One classifier under one protocol.

    Attributes
    ----------
    rows, folds, predicted : ndarray of shape (n,)
    seconds : float
        To train and predict all folds.
    milliseconds : float
        To predict 1,000 images.
    bytes : int
        Of one fitted classifier, pickled.
    """

    rows: np.ndarray
    folds: np.ndarray
    predicted: np.ndarray
    seconds: float
    milliseconds: float
    bytes: int

    def right(self, y):
        """Whether each row was predicted as its label in `y`, those of the whole data."""
        return self.predicted == y[self.rows]


def measure(classifier, digits, protocol="folds", n_splits=4, random_state=30, folds="kfold"):
    """Cross-validate `classifier`.

    Parameters
    ----------
    classifier : estimator
        With ``predict_proba``.
    digits : Bunch
        From :func:`digitlib.load_digits`.
    protocol, n_splits, random_state, folds
        As for :func:`digitlib.cross_validate`.

    Returns
    -------
    Measured
    """
    split = {"n_splits": n_splits, "random_state": random_state, "folds": folds}
    if protocol == "writers":
        split = {"protocol": protocol, "writers": digits.writers}
    result = cross_validate(classifier, digits.data, digits.target, progress="off", **split)
    weight = _weigh(result.estimators[0], digits.data)
    return Measured(result.rows, result.folds, result.predicted, result.seconds, *weight)


def _weigh(classifier, X):
    """Milliseconds to predict 1,000 rows (the best of three), and bytes of the classifier."""
    times = []
    for _ in range(3):
        start = time.perf_counter()
        classifier.predict(X[:1000])
        times.append(time.perf_counter() - start)
    return 1000 * min(times) * 1000 / len(X[:1000]), len(pickle.dumps(classifier))


def measure_run(run):
    """The cross-validation that a :class:`digitlib.runs.Run` holds; nothing is trained."""
    weight = np.nan, 0  # of a model that could not be kept
    if not run.info["model"].get("kept"):
        classifier = run.fitted(1)
        some = np.zeros((1000, classifier.n_features_in_), dtype=np.uint8)
        weight = _weigh(classifier, some)
    seconds = run.info["seconds"]["cross_validation"]
    return Measured(run.row, run.folds, run.predicted, seconds, *weight)


# ---- which recipes -------------------------------------------------------------------------------


def expected_seconds(digits, n_splits=4, run=None):
    """How long a cross-validation of each recipe may take, in seconds by name.

    The recipes' reference seconds, scaled by the number of rows trained on; or, for the rows of a
    `run`, by how long that took.
    """
    scale = len(digits.target) / 5620 * (n_splits - 1) / 3
    known = None if run is None or run.own else RECIPES.get(run.info["recipe"]["name"])
    if known is not None:
        epochs = run.info["recipe"].get("epochs", 1) / (known.epochs or 1)
        scale = run.info["seconds"]["cross_validation"] / (known.seconds * epochs)
    return {name: recipe.seconds * scale for name, recipe in RECIPES.items()}


def choose_recipes(recipes, budget, digits, n_splits=4, run=None):
    """Names of the recipes to compare, and those left out with the seconds they would take.

    Parameters
    ----------
    recipes : str
        ``"quick"`` (those expected to stay within `budget` seconds), ``"all"``, or names with
        commas between.
    budget : float
    digits : Bunch
    n_splits : int
    run : Run or None
        Its recipe is measured already, and its time tells how fast this machine is.

    Raises
    ------
    ParameterError
        A name is unknown.
    """
    if recipes == "all":
        return list(RECIPES), {}
    if recipes != "quick":
        return [get_recipe(name.strip()).name for name in recipes.split(",")], {}
    expected = expected_seconds(digits, n_splits, run)
    if run is not None:
        expected.pop(runs.label(run.info), None)
    slow = {name: seconds for name, seconds in expected.items() if seconds > budget}
    return [name for name in expected if name not in slow], slow


@dataclass
class Comparison:
    """What :func:`compare` found.

    Attributes
    ----------
    reference : str
        Its name.
    table : DataFrame
        One line per classifier, the most accurate first: ``correct``, ``total``, ``accuracy``,
        ``low``, ``high``, ``writers``, ``writers low``, ``writers high`` (0..1, NaN if the data
        does not tell writers apart), ``seconds``, ``milliseconds``, ``bytes``, ``ours``.
    pairs : DataFrame
        The reference against each other one.
    left_out : dict
        Recipes too slow to be compared, with the seconds they would have taken.
    """

    reference: str
    table: pd.DataFrame
    pairs: pd.DataFrame
    left_out: dict


def compare(digits, run=None, recipes="quick", budget=BUDGET, seed=0, n_splits=4, random_state=30):
    """Measure competitors and recipes on the same rows, by folds and by writers.

    Parameters
    ----------
    digits : Bunch
    run : Run or None
        A run on `digits`; its folds are then everybody's, its out-of-fold predictions are used as
        they are, and it is the reference. Without one, the most accurate recipe is.
    recipes, budget
        As for :func:`choose_recipes`.
    seed : int
        Of the recipes.
    n_splits, random_state : int
        Of the folds, if there is no `run`.

    Returns
    -------
    Comparison
    """
    split = {"n_splits": n_splits, "random_state": random_state}
    if run is not None:
        if run.info["data"]["sha256"] != digits.sha256 or len(run.y) != len(digits.target):
            raise ParameterError(
                "run: it was made on other data than is loaded; load the source that its run.json"
                " names"
            )
        seed, split = run.info["parameters"]["seed"], _split_of(run)
    names, left_out = choose_recipes(recipes, budget, digits, split["n_splits"], run)
    classifiers = competitors() | {name: DigitClassifier(name, seed) for name in names}
    reference, measured = None, {}
    if run is not None:
        reference = runs.label(run.info)
        classifiers[reference] = run.classifier()
        measured[reference, "folds"] = measure_run(run)
    protocols = ["folds"] + ["writers"] * ({"train", "test"} <= set(digits.writers))
    for name, protocol in product(classifiers, protocols):
        if (name, protocol) not in measured:
            measured[name, protocol] = measure(classifiers[name], digits, protocol, **split)
    table = pd.DataFrame({name: _summary(name, measured, digits.target) for name in classifiers})
    table = table.T.infer_objects().rename_axis("classifier")
    table["ours"] = [isinstance(classifiers[name], DigitClassifier) for name in table.index]
    table = table.sort_values(["accuracy", "seconds"], ascending=[False, True])
    reference = reference or table.index[table["ours"]][0]
    pairs = _pairs(reference, table.index.drop(reference), measured, digits.target)
    return Comparison(reference, table, pairs, left_out)


def _split_of(run):
    """How :func:`digitlib.cross_validate` makes the folds of a run; K folds for other splitters."""
    parameters = run.info["parameters"]
    split = {"n_splits": parameters["splits"], "random_state": parameters["split_seed"]}
    folds = parameters.get("folds")
    return split | {"folds": folds} if folds in FOLDS else split


def _summary(name, measured, y):
    one = measured[name, "folds"]
    summary = {"seconds": one.seconds, "milliseconds": one.milliseconds, "bytes": one.bytes}
    for protocol, share, prefix in (("folds", "accuracy", ""), ("writers", "writers", "writers ")):
        one = measured.get((name, protocol))
        right = np.empty(0, bool) if one is None else one.right(y)
        interval = metrics.wilson_interval(right.sum(), len(right)) if one else (np.nan, np.nan)
        summary[f"{prefix}correct"], summary[f"{prefix}total"] = int(right.sum()), len(right)
        summary[share] = right.mean() if one else np.nan
        summary[f"{prefix}low"], summary[f"{prefix}high"] = interval
    return summary


def _pairs(reference, others, measured, y):
    """The reference against each other classifier; p-values adjusted by Holm over all of them."""
    right = {key: one.right(y) for key, one in measured.items()}
    ours, folds = right[reference, "folds"], measured[reference, "folds"].folds
    rows = {}
    for other in others:
        theirs = right[other, "folds"]
        gains = pd.Series(ours.astype(int) - theirs).groupby(folds).mean()
        only_ours, only_theirs, p = metrics.mcnemar(ours, theirs)
        t, t_p = metrics.corrected_resampled_t(gains, 1 / (len(gains) - 1))
        by_writers = np.nan
        if (other, "writers") in right:
            pair = (right[name, "writers"] for name in (reference, other))
            by_writers = metrics.mcnemar(*pair)[2]
        rows[other] = [100 * gains.mean(), only_ours, only_theirs, t, p, t_p, by_writers]
    tests = ["McNemar p", "t-test p", "writers McNemar p"]
    columns = ["points", "only reference", "only other", "t", *tests]
    table = pd.DataFrame.from_dict(rows, orient="index", columns=columns)
    for test in tests:
        table[f"{test}, Holm"] = metrics.holm(table[test])
    return table.rename_axis("classifier")


def conclude(comparison, level=0.05):
    """What may be concluded from each line of ``comparison.pairs``: a list of sentences."""
    sentences, reference = [], comparison.reference
    for other, row in comparison.pairs.iterrows():
        surplus = int(row["only reference"] - row["only other"])
        if not surplus:
            sentences.append(f"{reference} and {other} are right equally often.")
            continue
        winner, loser = (reference, other) if surplus > 0 else (other, reference)
        because = {
            (True, True): "both tests rule out chance",
            (True, False): "chance alone hardly gives this on these rows (McNemar), but the folds"
            " differ too much to expect it of a new training",
            (False, True): "it is so in nearly every fold, but the rows are too few to rule out"
            " chance (McNemar)",
            (False, False): "no more than chance may give, so neither may be called better",
        }[row["McNemar p, Holm"] < level, row["t-test p, Holm"] < level]
        more = f"{abs(surplus):,} more images"
        sentences.append(f"{winner} is right on {more} than {loser}: {because}.")
    return sentences


def left_out(comparison):
    """A sentence on the recipes that were too slow to be compared; empty if none was."""
    slow = [f"{name} (about {seconds:.0f} s)" for name, seconds in comparison.left_out.items()]
    named = f"Left out, being slow: {', '.join(slow)}; to have them, name them as recipes."
    return named if slow else ""


# ---- would more images, or more epochs, help? ----------------------------------------------------


def learning_curve(
    classifier, digits, result, *, shares=SHARES, n_splits=4, random_state=30, budget=30.0
):
    """Accuracy on the held-out rows of each fold after training on part of the others.

    Parameters
    ----------
    classifier : estimator
    digits : Bunch
    result : CrossValidation or Run
        On all training rows: its accuracy of each fold is the curve's end, its time decides what
        the budget allows.
    shares : tuple of float
        Of the training rows, drawn once for each fold, the smaller in the larger.
    n_splits, random_state : int
        Of the folds, those of `result`.
    budget : float
        Seconds. The largest shares are left out that would take longer.

    Returns
    -------
    DataFrame
        ``images`` (mean over folds), ``fold``, ``accuracy`` (0..1).
    """
    seconds = (
        result.info["seconds"]["cross_validation"] if hasattr(result, "info") else result.seconds
    )
    shares = tuple(np.array(shares)[np.cumsum(shares) * seconds <= budget].tolist())
    correct = pd.Series(result.predicted == result.y)
    folds = {round(len(correct) * (1 - 1 / n_splits)): correct.groupby(result.folds).mean()}
    if shares:
        folds |= _curve(classifier, digits, shares, n_splits, random_state)
    rows = [(n, k, a) for n, accuracies in folds.items() for k, a in enumerate(accuracies, 1)]
    table = pd.DataFrame(rows, columns=["images", "fold", "accuracy"])
    return table.sort_values(["images", "fold"], ignore_index=True)


def _curve(classifier, digits, shares, n_splits, seed):
    """Accuracies of all folds, by number of images trained on."""
    folds = KFold(n_splits, shuffle=True, random_state=seed)
    options = {"train_sizes": shares, "shuffle": True, "random_state": seed}
    with joblib.parallel_config("threading", n_jobs=min(joblib.cpu_count(), n_splits)):
        images, _, accuracies = sklearn_learning_curve(
            classifier, digits.data, digits.target, cv=folds, **options
        )
    return dict(zip(images.tolist(), accuracies.tolist(), strict=True))


def more_data(curve):
    """A sentence on whether more images would help, from a table of :func:`learning_curve`."""
    wide = curve.pivot(index="images", columns="fold", values="accuracy")
    if len(wide) < 2:
        return (
            "Training on fewer images was left out, it would have taken too long: whether more"
            " would help cannot be told."
        )
    (n1, n2), (a1, a2) = wide.index[-2:], wide.to_numpy()[-2:]
    e1, e2 = (100 * (1 - accuracies.mean()) for accuracies in (a1, a2))
    steady, p = _steadiness(a2 - a1)
    change = f"From {n1:,} to {n2:,} training images the error went from {e1:.2f} to {e2:.2f} %"
    if a2.mean() <= a1.mean() or p > 0.05:
        return (
            f"{change}, {steady} (p = {p:.2f}): no more than folds differ by chance, so these"
            " numbers do not show that more images would help."
        )
    # Errors fall roughly as a power of the number of images (Hestness et al. 2017,
    # arXiv:1712.00409).
    ahead = e2 * (e2 / e1) ** (np.log(2) / np.log(n2 / n1))
    chance = "p < 0.001" if p < 0.001 else f"p = {p:.3f}"
    return (
        f"{change}, {steady} ({chance}). If it keeps that pace, {2 * n2:,} images would bring about"
        f" {ahead:.2f} %: **more data would help**."
    )


def more_epochs(history):
    """A sentence on whether more epochs would help, from ``history.csv``."""
    if "held_out_loss" not in history or history["epoch"].max() < 3:
        return "There is no curve over epochs to tell whether more of them would help."
    losses = history.pivot(index="epoch", columns="fold", values="held_out_loss")
    mean, last = losses.mean(axis=1), losses.index.max()
    best, step = mean.idxmin(), last - max(1, last // 5)
    if mean[last] > 1.05 * mean[best]:
        return (
            f"Held-out loss is lowest after epoch {best} ({mean[best]:.4f}) and has risen to"
            f" {mean[last]:.4f} after epoch {last}: **fewer epochs would do**."
        )
    gains = (losses.loc[step] - losses.loc[last]).to_numpy()
    steady, p = _steadiness(gains)
    numbers = f"from {mean[step]:.4f} to {mean[last]:.4f}, {steady}"
    change = f"From epoch {step} to {last} held-out loss went {numbers}"
    if gains.mean() > 0.05 * mean[last] and p <= 0.05:
        return f"{change}: it still falls, **more epochs would help**."
    rates = history.groupby("epoch")["learning_rate"].mean()
    return (
        f"{change}: it has almost levelled out. More epochs alone would hardly help. The learning"
        f" rate has come down to {100 * rates[last] / rates.max():.0f} % of its largest value."
    )


def _steadiness(gains):
    """In how many folds something went down, in words; and the p-value of that."""
    p = metrics.corrected_resampled_t(gains, 1 / (len(gains) - 1))[1] if len(gains) > 1 else 1.0
    return f"down in {(gains > 0).sum()} of {len(gains)} folds", p
