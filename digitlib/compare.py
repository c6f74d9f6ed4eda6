"""Comparison: recipes and other classifiers on the same rows, tested in pairs; a learning curve.

Expect, of 5,620 rows in 4 folds: 1-nearest-neighbour 98.56 %, RBF SVC 99.25 %, logistic regression
97.10 %. What was measured before under the same facts comes from the user's cache folder.
"""

import pickle
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version

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
from threadpoolctl import threadpool_limits

from digitlib import metrics
from digitlib.classifier import DigitClassifier
from digitlib.crossval import cross_validate
from digitlib.errors import ParameterError
from digitlib.recipes import RECIPES, get_recipe
from digitlib.runs import code_hash
from digitlib.sources import remember

BUDGET = 10.0  # seconds of cross-validation above which a recipe is compared only by name
SHARES = (0.125, 0.25, 0.5)  # of the training rows; the whole is what a run has measured


class HardVotes(ClassifierMixin, BaseEstimator):
    """`estimator` with probability 1 for what it predicts: an SVC has none, accuracy needs none."""

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
    """The classifiers that a recipe has to beat, by name; scikit-learn's defaults but for these."""
    return {
        "majority class": DummyClassifier(strategy="most_frequent"),
        "logistic regression": make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000)),
        "1-nearest-neighbour": KNeighborsClassifier(1),
        # On pixels divided by 16, gamma is 0.2: the same kernel.
        "RBF SVC": HardVotes(SVC(C=10, gamma=0.2 / 16**2)),
        "extra trees": ExtraTreesClassifier(200, random_state=0),
        "scikit-learn MLP": make_pipeline(StandardScaler(), MLPClassifier(random_state=0)),
    }


# ---- one classifier ------------------------------------------------------------------------------


@dataclass
class Measured:
    """One classifier under one protocol.

    ``rows``, ``folds``, ``predicted`` (n,); ``seconds`` to train and predict all folds;
    ``milliseconds`` to predict 1,000 images; ``bytes`` of one fitted classifier, pickled; ``created``
    (UTC date).
    """

    rows: np.ndarray
    folds: np.ndarray
    predicted: np.ndarray
    seconds: float
    milliseconds: float
    bytes: int
    created: str


def measure(estimator, digits, protocol="folds", n_splits=4, random_state=30):
    """Cross-validate `estimator`, or take what was measured under the same facts from the cache.

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
    split = {"protocol": protocol}
    if protocol == "folds":
        split |= {"n_splits": n_splits, "random_state": random_state}
    facts = {"data": digits.sha256, **split, **decisive(estimator)}
    return remember(_measured, ["estimator", "digits"])(facts, estimator, digits, **split)


def _measured(facts, estimator, digits, protocol, **split):
    # Folds train side by side; two threads inside each would get in each other's way.
    with threadpool_limits(1):
        result = cross_validate(
            estimator,
            digits.data,
            digits.target,
            progress="off",
            protocol=protocol,
            **split,
            writers=digits.writers if protocol == "writers" else None,
        )
        weight = _weigh(result.estimators[0], digits.data)
    today = f"{datetime.now(UTC):%Y-%m-%d}"
    return Measured(result.rows, result.folds, result.predicted, result.seconds, *weight, today)


def decisive(estimator):
    """All that decides what `estimator` learns from given rows, as a dictionary of text."""
    packages = ["numpy", "scipy", "scikit-learn"]
    facts = {"class": type(estimator).__name__, "parameters": repr(sorted_parameters(estimator))}
    if isinstance(estimator, DigitClassifier):
        packages.append("torch")
        settings = (estimator.settings(), estimator.random_state, estimator.device)
        facts |= {"parameters": repr(settings), "code": code_hash()}
    return facts | {"versions": {name: version(name) for name in packages}}


def sorted_parameters(estimator):
    """Names and values of an estimator's parameters, its parts' included, as text, in order."""
    return [(name, repr(value)) for name, value in sorted(estimator.get_params().items())]


def _weigh(estimator, X):
    """Milliseconds to predict 1,000 rows (the best of three), and bytes of the estimator."""
    times = []
    for _ in range(3):
        start = time.perf_counter()
        estimator.predict(X[:1000])
        times.append(time.perf_counter() - start)
    return 1000 * min(times) * 1000 / len(X[:1000]), len(pickle.dumps(estimator))


def measure_run(run):
    """The cross-validation that a :class:`digitlib.runs.Run` holds; nothing is trained."""
    estimator = run.fold(1)
    weight = _weigh(estimator, np.zeros((1000, estimator.n_features_in_), dtype=np.uint8))
    seconds, created = run.info["seconds"]["cross_validation"], run.info["created"][:10]
    return Measured(run.row, run.folds, run.predicted, seconds, *weight, created)


def choose_recipes(recipes, budget, digits, n_splits=4, run=None):
    """Names of the recipes to compare, and a dict of those left out with their expected seconds.

    Parameters
    ----------
    recipes : str
        ``"quick"`` (those expected to stay within `budget` seconds), ``"all"``, or names with
        commas between.
    budget : float
    digits : Bunch
        Their number scales the expected seconds.
    n_splits : int
    run : Run or None
        A run that is measured already; its time tells how fast this machine is.

    Raises
    ------
    ParameterError
        A name is unknown.
    """
    if recipes == "all":
        return list(RECIPES), {}
    if recipes != "quick":
        return [get_recipe(name.strip()).name for name in recipes.split(",")], {}
    known = None if run is None else run.info["recipe"]["name"]
    pace = len(digits.target) / 5620 * (n_splits - 1) / 3  # rows that are trained on, in all folds
    expected = {name: recipe.seconds * pace for name, recipe in RECIPES.items()}
    if known in expected and run.info["recipe"] == RECIPES[known].as_dict():
        machine = run.info["seconds"]["cross_validation"] / expected[known]
        expected = {name: seconds * machine for name, seconds in expected.items()}
    expected.pop(known, None)
    slow = {name: seconds for name, seconds in expected.items() if seconds > budget}
    return [name for name in expected if name not in slow], slow


# ---- the comparison ------------------------------------------------------------------------------


@dataclass
class Comparison:
    """What :func:`compare` found.

    ``reference`` (a name), ``table``, ``pairs`` (the reference against each other one) and
    ``left_out`` (dict: recipes that were too slow, and the seconds they would have taken).
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
        ``table``: the most accurate first; ``correct``, ``total``, ``accuracy``, ``low``, ``high``,
        ``writers``, ``writers low``, ``writers high`` (0..1, NaN if the data does not tell writers
        apart), ``seconds``, ``milliseconds``, ``bytes``, ``ours``, ``measured``.
    """
    reference = None
    if run is not None:
        if run.info["data"]["sha256"] != digits.sha256:
            raise ParameterError(
                "run: it was made on other data than is loaded; load the source that its run.json"
                " names"
            )
        seed, n_splits, random_state = (
            run.info["parameters"][name] for name in ("seed", "splits", "split_seed")
        )
        reference = run.info["recipe"]["name"]
    names, left_out = choose_recipes(recipes, budget, digits, n_splits, run)
    ours = {name: DigitClassifier(name, random_state=seed) for name in names}
    classifiers, measured = {**competitors(), **ours}, {}
    if run is not None:
        classifiers[reference] = run.classifier()
        measured[reference, "folds"] = measure_run(run)
    protocols = ["folds"] + ["writers"] * ({"train", "test"} <= set(digits.writers))
    for name, classifier in classifiers.items():
        for key in ((name, protocol) for protocol in protocols):
            if key not in measured:
                measured[key] = measure(classifier, digits, key[1], n_splits, random_state)
    rows = [_summary(name, measured, digits.target) for name in classifiers]
    table = pd.DataFrame(rows, index=pd.Index(classifiers, name="classifier"))
    table["ours"] = [isinstance(classifiers[name], DigitClassifier) for name in table.index]
    table = table.sort_values(["accuracy", "seconds"], ascending=[False, True])
    reference = reference or table.index[table["ours"]][0]
    others = [name for name in table.index if name != reference]
    pairs = _pairs(reference, others, measured, digits.target)
    return Comparison(reference, table, pairs, left_out)


def _summary(name, measured, y):
    """The row of a classifier in the table of :func:`compare`."""
    row = {}
    for protocol, accuracy, prefix in (
        ("folds", "accuracy", ""),
        ("writers", "writers", "writers "),
    ):
        one = measured.get((name, protocol))
        correct, total = (
            (0, 0) if one is None else ((one.predicted == y[one.rows]).sum(), len(one.rows))
        )
        row |= {f"{prefix}correct": int(correct), f"{prefix}total": total}
        interval = metrics.wilson_interval(correct, total) if total else (np.nan, np.nan)
        row[f"{prefix}low"], row[f"{prefix}high"] = interval
        row[accuracy] = correct / total if total else np.nan
    one = measured[name, "folds"]
    row |= {"seconds": one.seconds, "milliseconds": one.milliseconds}
    return row | {"bytes": one.bytes, "measured": one.created}


def _pairs(reference, others, measured, y):
    """The reference against each other one; p-values adjusted by Holm for their number."""
    right = {key: one.predicted == y[one.rows] for key, one in measured.items()}
    folds, rows = measured[reference, "folds"].folds, []
    numbers = np.unique(folds)
    for other in others:
        ours, theirs = right[reference, "folds"], right[other, "folds"]
        gains = [ours[folds == k].mean() - theirs[folds == k].mean() for k in numbers]
        only_reference, only_other, p = metrics.mcnemar(ours, theirs)
        t, t_p = metrics.corrected_resampled_t(gains, 1 / (len(numbers) - 1))
        row = {"classifier": other, "points": 100 * np.mean(gains)}
        row |= {"only reference": only_reference, "only other": only_other}
        row |= {"McNemar p": p, "t": t, "t-test p": t_p, "writers McNemar p": np.nan}
        if (reference, "writers") in right:
            strangers = right[reference, "writers"], right[other, "writers"]
            row["writers McNemar p"] = metrics.mcnemar(*strangers)[2]
        rows.append(row)
    table = pd.DataFrame(rows).set_index("classifier")
    for column in ("McNemar p", "t-test p", "writers McNemar p"):
        table[f"{column}, Holm"] = metrics.holm(table[column])
    return table


BECAUSE = {  # by McNemar, by the t-test over folds: is chance ruled out?
    (True, True): "both tests rule out chance",
    (True, False): "not by chance on these rows (McNemar), but it varies too much over folds to"
    " promise that of new trainings",
    (False, True): "steady over folds, but on too few rows to rule out chance (McNemar)",
    (False, False): "no more than chance may give, so neither may be called better",
}


def conclude(comparison, level=0.05):
    """What each line of ``comparison.pairs`` allows to conclude: sentences in the table's order."""
    sentences, reference = [], comparison.reference
    for other, row in comparison.pairs.iterrows():
        sure = tuple(bool(row[f"{name}, Holm"] < level) for name in ("McNemar p", "t-test p"))
        surplus = int(row["only reference"] - row["only other"])
        winner, loser = (reference, other) if surplus > 0 else (other, reference)
        if surplus:
            said = (
                f"{winner} is right on {abs(surplus):,} more images than {loser}: {BECAUSE[sure]}."
            )
        else:
            said = f"{reference} and {other} are right equally often."
        sentences.append(said)
    return sentences


def left_out(comparison):
    """A sentence on the recipes that were too slow to be compared; empty if none was."""
    slow = [f"{name} (about {seconds:.0f} s)" for name, seconds in comparison.left_out.items()]
    if not slow:
        return ""
    return f"Left out, being slow: {', '.join(slow)}; to have them, name them as recipes."


def as_text(comparison):
    """``comparison.table`` in plain lines, for a terminal."""
    table = comparison.table
    shown = table[["seconds", "measured"]].copy()
    shown.insert(0, "accuracy %", 100 * table["accuracy"])
    shown.insert(1, "new writers %", 100 * table["writers"])
    shown.insert(3, "ms per 1,000", table["milliseconds"])
    shown.insert(4, "kB", table["bytes"] / 1000)
    lines = [shown.rename_axis(None).to_string(float_format="{:,.2f}".format), left_out(comparison)]
    return "\n".join(filter(None, lines))


# ---- would more data, or more epochs, help? ------------------------------------------------------


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
    info = getattr(result, "info", None)
    seconds = result.seconds if info is None else info["seconds"]["cross_validation"]
    within = np.cumsum(shares) * seconds <= budget
    shares = tuple(share for share, fits in zip(shares, within, strict=True) if fits)
    right, n_train = result.predicted == result.y, round(len(result.y) * (1 - 1 / n_splits))
    table = [(n_train, k, right[result.folds == k].mean()) for k in range(1, n_splits + 1)]
    if shares:
        split = {"shares": shares, "n_splits": n_splits, "random_state": random_state}
        facts = {"data": digits.sha256, **decisive(classifier)}
        curve = remember(_curve, ["classifier", "digits"])(facts, classifier, digits, **split)
        table += [(n, k, a) for n, row in zip(*curve, strict=True) for k, a in enumerate(row, 1)]
    columns = ["images", "fold", "accuracy"]
    return pd.DataFrame(table, columns=columns).sort_values(columns[:2], ignore_index=True)


def _curve(facts, classifier, digits, shares, n_splits, random_state):
    """Numbers of images, and accuracies of the folds for each."""
    folds = KFold(n_splits, shuffle=True, random_state=random_state)
    with joblib.parallel_config("threading", n_jobs=min(joblib.cpu_count(), n_splits)):
        images, _, accuracies = sklearn_learning_curve(
            classifier,
            digits.data,
            digits.target,
            train_sizes=shares,
            cv=folds,
            shuffle=True,
            random_state=random_state,
        )
    return images, accuracies


def more_data(curve):
    """A sentence on whether more images would help, from a table of :func:`learning_curve`."""
    wide = curve.pivot(index="images", columns="fold", values="accuracy")
    if len(wide) < 2:
        return (
            "Training on fewer images was left out, it would have taken too long: whether more"
            " would help cannot be told."
        )
    (n1, a1), (n2, a2) = ((n, row.to_numpy()) for n, row in wide.iloc[-2:].iterrows())
    gains, (e1, e2) = a2 - a1, (100 * (1 - a.mean()) for a in (a1, a2))
    _, p = metrics.corrected_resampled_t(gains, 1 / (len(gains) - 1))
    down = f"down in {(gains > 0).sum()} of {len(gains)} folds"
    start = (
        f"From {n1:,} to {n2:,} training images the error went from {e1:.2f} to {e2:.2f} %, {down}"
    )
    if gains.mean() <= 0 or p > 0.05:
        return (
            f"{start} (p = {p:.2f}): no more than folds differ by chance, so these numbers do not"
            " show that more images would help."
        )
    # Errors fall roughly as a power of the number of images (Hestness et al. 2017,
    # arXiv:1712.00409).
    ahead = e2 * (e2 / e1) ** (np.log(2) / np.log(n2 / n1))
    chance = "p < 0.001" if p < 0.001 else f"p = {p:.3f}"
    return (
        f"{start} ({chance}). If it keeps that pace, {2 * n2:,} images would bring about"
        f" {ahead:.2f} %: **more data would help**."
    )


def more_epochs(history):
    """A sentence on whether more epochs would help, from ``history.csv``."""
    if "held_out_loss" not in history or history["epoch"].max() < 3:
        return "There is no curve over epochs to tell whether more of them would help."
    losses = history.pivot(index="epoch", columns="fold", values="held_out_loss")
    mean, last = losses.mean(axis=1), losses.index.max()
    best, step = mean.idxmin(), last - max(1, last // 5)
    gains = (losses.loc[step] - losses.loc[last]).to_numpy()
    rates = history.groupby("epoch")["learning_rate"].mean()
    if mean[last] > 1.05 * mean[best]:
        return (
            f"Held-out loss is lowest after epoch {best} ({mean[best]:.4f}) and has risen to"
            f" {mean[last]:.4f} after epoch {last}: **fewer epochs would do**."
        )
    down = f"down in {(gains > 0).sum()} of {len(gains)} folds"
    change = (
        f"From epoch {step} to {last} held-out loss went from {mean[step]:.4f} to {mean[last]:.4f},"
        f" {down}"
    )
    _, p = metrics.corrected_resampled_t(gains, 1 / (len(gains) - 1)) if len(gains) > 1 else (0, 1)
    if gains.mean() > 0.05 * mean[last] and p <= 0.05:
        return f"{change}: it still falls, **more epochs would help**."
    tail = (
        f"the learning rate has come down to {100 * rates[last] / rates.max():.0f} % of its largest"
    )
    return f"{change}: it has all but levelled out, more epochs alone would hardly help ({tail})."
