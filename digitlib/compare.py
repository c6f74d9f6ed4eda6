"""Comparison: recipes and competitors on the same rows, tested in pairs, and a learning curve."""

import hashlib
import json
import os
import pickle
import sys
import tempfile
import time
import zipfile
import zlib
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from importlib.metadata import version

import joblib
import numpy as np
import pandas as pd
from sklearn.base import BaseEstimator, ClassifierMixin, clone
from sklearn.model_selection import KFold
from sklearn.model_selection import learning_curve as sklearn_learning_curve

from digitlib import metrics
from digitlib.classifier import DigitClassifier
from digitlib.crossval import cross_validate
from digitlib.errors import ParameterError
from digitlib.metrics import corrected_resampled_t
from digitlib.recipes import RECIPES, from_dict, get_recipe
from digitlib.runs import code_hash
from digitlib.sources import cache_folder


def remembered(kind, facts, compute):
    """What ``compute()`` gives, from the cache if it was computed before under the same facts.

    Parameters
    ----------
    kind : str
        Start of the file's name.
    facts : dict
        Everything that decides the result, anything JSON can say. A fact left out here is a wrong
        result later.
    compute : callable
        Takes nothing, returns a dict of arrays.

    Returns
    -------
    tuple
        The dict of arrays, and whether it came from the cache. A damaged file counts as none; a
        full disk costs only the cache.
    """
    key = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()
    path = cache_folder() / f"{kind}-{key[:32]}.npz"
    try:
        with np.load(path, allow_pickle=False) as kept:
            return dict(kept), True
    except (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile, zlib.error):
        arrays = compute()
    _save(path, arrays)
    return arrays, False


def _save(path, arrays):
    """Under a temporary name first, so that a reader never sees half a file."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=path.parent, suffix=".part", delete=False) as file:
            np.savez_compressed(file, **arrays)
        os.replace(file.name, path)
    except OSError as error:
        print(
            f"digitlib: the result could not be cached in {path.parent} ({error})", file=sys.stderr
        )


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
        facts["code"] = code_hash()
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


# ---- which recipes -------------------------------------------------------------------------------


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


@dataclass
class Comparison:
    """``reference`` (a name), ``table`` (:func:`compare`), ``pairs`` (the reference against each
    other one) and ``left_out`` (dict).
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
    if run is not None:
        if run.info["data"]["sha256"] != digits.sha256:
            raise ParameterError(
                "run: it was made on other data than is loaded; load the source that its run.json"
                " names"
            )
        seed, n_splits, random_state = (
            run.info["parameters"][name] for name in ("seed", "splits", "split_seed")
        )
    reference = None if run is None else run.info["recipe"]["name"]
    names, left_out = choose_recipes(recipes, budget, digits, n_splits, known=reference)
    classifiers, measured = (
        {**competitors(), **{name: DigitClassifier(name, random_state=seed) for name in names}},
        {},
    )
    if run is not None:
        classifiers[reference] = classifier_of(run)
        measured[reference, "folds"] = measure_run(run)
    protocols = ["folds"] + ["writers"] * ({"train", "test"} <= set(digits.writers))
    for name, classifier in classifiers.items():
        for protocol in protocols:
            if (name, protocol) not in measured:
                measured[name, protocol] = measure(
                    classifier, digits, protocol, n_splits, random_state
                )
    table = pd.DataFrame(
        {name: _summary(name, measured, digits.target) for name in classifiers}
    ).T.infer_objects()
    table.index.name = "classifier"
    table["ours"] = [isinstance(classifiers[name], DigitClassifier) for name in table.index]
    table = table.sort_values(["accuracy", "seconds"], ascending=[False, True])
    reference = reference or table.index[table["ours"]][0]
    return Comparison(
        reference,
        table,
        _pairs(reference, [n for n in table.index if n != reference], measured, digits.target),
        left_out,
    )


def classifier_of(run):
    """The classifier, not fitted, that `run` was made with."""
    return DigitClassifier(
        from_dict(run.info["recipe"]), random_state=run.info["parameters"]["seed"]
    )


def _summary(name, measured, y):
    summary = {}
    for protocol, prefix in (("folds", ""), ("writers", "writers ")):
        one = measured.get((name, protocol))
        correct, total = (
            (0, 0) if one is None else (int((one.predicted == y[one.rows]).sum()), len(one.rows))
        )
        low, high = metrics.wilson_interval(correct, total) if total else (np.nan, np.nan)
        summary |= {
            f"{prefix}correct": correct,
            f"{prefix}total": total,
            f"{prefix}low": low,
            f"{prefix}high": high,
        }
        summary[prefix.strip() or "accuracy"] = correct / total if total else np.nan
    one = measured[name, "folds"]
    return summary | {
        "seconds": one.seconds,
        "milliseconds": one.milliseconds,
        "bytes": one.bytes,
        "measured": one.created,
    }


def _pairs(reference, others, measured, y):
    """The reference against each other classifier; p-values adjusted by Holm over these
    comparisons.
    """
    right = {key: one.predicted == y[one.rows] for key, one in measured.items()}
    folds = measured[reference, "folds"].folds
    numbers = np.unique(folds)
    rows = []
    for other in others:
        gains = [
            (
                right[reference, "folds"][folds == k].mean()
                - right[other, "folds"][folds == k].mean()
            )
            for k in numbers
        ]
        only_reference, only_other, p = metrics.mcnemar(
            right[reference, "folds"], right[other, "folds"]
        )
        t, t_p = metrics.corrected_resampled_t(gains, 1 / (len(numbers) - 1))
        row = {
            "classifier": other,
            "points": 100 * np.mean(gains),
            "only reference": only_reference,
            "only other": only_other,
        }
        row |= {"McNemar p": p, "t": t, "t-test p": t_p, "writers McNemar p": np.nan}
        if (reference, "writers") in right:
            row["writers McNemar p"] = metrics.mcnemar(
                right[reference, "writers"], right[other, "writers"]
            )[2]
        rows.append(row)
    table = pd.DataFrame(rows).set_index("classifier")
    for column in ("McNemar p", "t-test p", "writers McNemar p"):
        table[f"{column}, Holm"] = metrics.holm(table[column])
    return table


def conclude(comparison, level=0.05):
    """What may be concluded from each line of ``comparison.pairs``: a list of sentences, in the
    table's order.
    """
    sentences, reference = [], comparison.reference
    for other, row in comparison.pairs.iterrows():
        sure = [row[f"{name}, Holm"] < level for name in ("McNemar p", "t-test p")]
        winner, loser = (
            (reference, other) if row["only reference"] > row["only other"] else (other, reference)
        )
        surplus = abs(int(row["only reference"] - row["only other"]))
        if not surplus:
            sentences.append(f"{reference} and {other} are right equally often.")
            continue
        because = {
            (True, True): "both tests rule out chance",
            (True, False): (
                "not by chance on these rows (McNemar), but it varies too much over folds to"
                " promise that of new trainings"
            ),
            (False, True): "steady over folds, but on too few rows to rule out chance (McNemar)",
            (False, False): "no more than chance may give, so neither may be called better",
        }[tuple(sure)]
        sentences.append(f"{winner} is right on {surplus:,} more images than {loser}: {because}.")
    return sentences


def left_out(comparison):
    """A sentence on the recipes that were too slow to be compared; empty if none was."""
    slow = ", ".join(
        f"{name} (about {seconds:.0f} s)" for name, seconds in comparison.left_out.items()
    )
    return f"Left out, being slow: {slow}; to have them, name them as recipes." if slow else ""


def as_text(comparison):
    """``comparison.table`` in plain lines, for a terminal."""
    table = comparison.table
    shown = pd.DataFrame(
        {
            "accuracy %": 100 * table["accuracy"],
            "new writers %": 100 * table["writers"],
            "seconds": table["seconds"],
            "ms per 1,000": table["milliseconds"],
            "kB": table["bytes"] / 1000,
            "measured": table["measured"],
        }
    ).rename_axis(None)
    return "\n".join(
        [shown.to_string(float_format="{:,.2f}".format), *filter(None, [left_out(comparison)])]
    )


SHARES = (0.125, 0.25, 0.5)  # of the training rows; the whole is what a run has measured


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
    within = np.cumsum(shares) * seconds <= budget
    shares = [share for share, fits in zip(shares, within, strict=True) if fits]
    correct = result.predicted == result.y
    full = [correct[result.folds == k].mean() for k in range(1, n_splits + 1)]
    n_train = round(len(result.y) * (1 - 1 / n_splits))
    table = [(n_train, k, accuracy) for k, accuracy in enumerate(full, 1)]
    if shares:
        split = {"shares": shares, "n_splits": n_splits, "random_state": random_state}
        curve, _ = remembered(
            "learning",
            {"data": digits.sha256, **split, **decisive(classifier)},
            lambda: _curve(classifier, digits, **split),
        )
        table += [
            (n, k, a)
            for n, row in zip(curve["images"], curve["accuracies"], strict=True)
            for k, a in enumerate(row, 1)
        ]
    return pd.DataFrame(table, columns=["images", "fold", "accuracy"]).sort_values(
        ["images", "fold"], ignore_index=True
    )


def _curve(classifier, digits, shares, n_splits, random_state):
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
    return {"images": images, "accuracies": accuracies}


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
    _, p = corrected_resampled_t(gains, 1 / (len(gains) - 1))
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
    _, p = corrected_resampled_t(gains, 1 / (len(gains) - 1)) if len(gains) > 1 else (0, 1)
    if gains.mean() > 0.05 * mean[last] and p <= 0.05:
        return f"{change}: it still falls, **more epochs would help**."
    tail = (
        f"the learning rate has come down to {100 * rates[last] / rates.max():.0f} % of its largest"
    )
    return f"{change}: it has all but levelled out, more epochs alone would hardly help ({tail})."
