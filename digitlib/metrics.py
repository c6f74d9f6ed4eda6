"""Scores and their uncertainty: arrays in, small tables out.

Wherever a function takes ``y_true`` (n,), ``probabilities`` (n, n_classes, rows summing to 1) and
``classes`` (n_classes,), the columns of the probabilities are in the order of the classes, and row
i was predicted by a model that has not seen it.
"""

from collections.abc import Iterable

import numpy as np
import pandas as pd
import torch
from numpy.typing import ArrayLike
from scipy.stats import binomtest, norm
from sklearn.metrics import confusion_matrix, precision_recall_fscore_support
from torchmetrics.functional import classification as torchmetrics

Array = np.ndarray
CONFIDENCE = 0.95  # of every interval
ANSWERED = (1.0, 0.99, 0.98, 0.95, 0.9)  # shares of the images, the rest left to a person
PROMISE = 0.995  # share of the sets of digits that are to hold the true one


def percent(share: float, digits: int = 2) -> str:
    """A share as all pages write it: 0.98274 is ``98.27 %``."""
    return f"{100 * share:.{digits}f} %"


def confusion_counts(y_true: ArrayLike, y_predicted: ArrayLike) -> pd.DataFrame:
    """Confusion matrix, by scikit-learn.

    Parameters
    ----------
    y_true, y_predicted : array of shape (n,)
        Labels.

    Returns
    -------
    DataFrame of shape (n_classes, n_classes), int64
        True class in rows, predicted class in columns.
    """
    classes = np.union1d(y_true, y_predicted)
    counts = confusion_matrix(y_true, y_predicted, labels=classes)
    rows, columns = (pd.Index(classes, name=name) for name in ("true", "predicted"))
    return pd.DataFrame(counts, rows, columns)


def per_class(y_true: ArrayLike, y_predicted: ArrayLike) -> pd.DataFrame:
    """Precision, recall, F1 (0..1) and support of each class, by scikit-learn.

    A class never predicted has precision 0. ``recall low``, ``recall high``: its Wilson interval.
    Precision and F1 have no interval as simple, their denominators are random too.
    """
    classes = np.union1d(y_true, y_predicted)
    values = precision_recall_fscore_support(y_true, y_predicted, labels=classes, zero_division=0)
    names = ("precision", "recall", "F1", "support")
    table = pd.DataFrame(dict(zip(names, values, strict=True)), pd.Index(classes, name="digit"))
    right = (table["recall"] * table["support"]).round()
    table[["recall low", "recall high"]] = intervals(right, table["support"])
    return table


def wilson_interval(correct: int, total: int) -> tuple[float, float]:
    """95 % interval (low, high) of a share, by scipy; of a share of nothing, all that is possible.

    It says how far the share may lie from what many more images *of the same kind* would give. It
    does not contain the luck of a training run, nor that the models of two folds share training
    rows, nor writers of another kind.

    Notes
    -----
    E. B. Wilson (1927). Probable inference, the law of succession, and statistical inference. JASA
    22. https://doi.org/10.2307/2276774
    """
    if not total:
        return 0.0, 1.0
    interval = binomtest(int(correct), int(total)).proportion_ci(CONFIDENCE, method="wilson")
    return float(interval.low), float(interval.high)


def intervals(correct: Iterable, total: Iterable) -> list[tuple[float, float]]:
    """:func:`wilson_interval` of each pair."""
    return [wilson_interval(*pair) for pair in zip(correct, total, strict=True)]


def per_fold(y_true: Array, probabilities: Array, folds: Array, classes: Array) -> pd.DataFrame:
    """Scores of each fold, and of all rows together (last line, "all").

    ``correct``, ``total``, ``accuracy`` (0..1), its Wilson interval ``low`` to ``high``, and
    ``loss``, the mean log-loss.
    """
    right = classes[probabilities.argmax(axis=1)] == y_true
    loss = row_losses(y_true, probabilities, classes)["log-loss"]
    rows = pd.DataFrame({"fold": folds, "right": right, "loss": loss}).sort_values("fold")
    rows = pd.concat([rows.astype({"fold": str}), rows.assign(fold="all")])
    table = rows.groupby("fold", sort=False).agg(
        correct=("right", "sum"), total=("right", "size"), loss=("loss", "mean")
    )
    table["accuracy"] = table["correct"] / table["total"]
    table[["low", "high"]] = intervals(table["correct"], table["total"])
    return table[["correct", "total", "accuracy", "low", "high", "loss"]]


def row_losses(y_true: Array, probabilities: Array, classes: Array) -> pd.DataFrame:
    """What each row costs, a DataFrame of shape (n, 3).

    ``log-loss``, ``Brier score`` (0..2, summed over classes), ``top-2 accuracy`` (0 or 1).
    """
    truth = y_true[:, None] == classes
    own, second = probabilities[truth], np.sort(probabilities, axis=1)[:, -2]
    loss = {"log-loss": -np.log(own.clip(np.finfo(float).eps))}
    loss["Brier score"] = ((probabilities - truth) ** 2).sum(axis=1)
    return pd.DataFrame(loss | {"top-2 accuracy": (own >= second).astype(float)})


def scores(y_true: Array, probabilities: Array, classes: Array, n_bins: int = 15) -> pd.DataFrame:
    """Log-loss, Brier score, top-2 accuracy and expected calibration error.

    Columns ``value``, ``low``, ``high``, ``what`` (it means). The intervals of losses are mean plus
    and minus 1.96 standard errors over rows. Calibration error cannot be negative, so that chance
    alone makes it positive: its ``low`` and ``high`` are where 95 % of perfectly calibrated
    classifiers with these confidences would be.
    """
    rows, confidence = row_losses(y_true, probabilities, classes), probabilities.max(axis=1)
    low, high = norm.interval(CONFIDENCE, rows.mean(), rows.sem())
    table = pd.DataFrame({"value": rows.mean(), "low": low, "high": high})
    right = rows["top-2 accuracy"].sum()
    table.loc["top-2 accuracy", ["low", "high"]] = wilson_interval(right, len(rows))
    error = calibration_error(y_true, probabilities, classes, n_bins)
    table.loc["calibration error"] = [error, *_calibrated_by_chance(confidence, n_bins)]
    table["what"] = [
        "minus the log of the probability given to the true digit; punishes sure mistakes",
        "squared distance between the probabilities and the truth, 0 to 2",
        "the true digit is the first or the second guess",
        f"distance of confidence and accuracy in {n_bins} bins; low, high: if that were chance",
    ]
    return table


def calibration_error(y_true: Array, probabilities: Array, classes: Array, n_bins=15) -> float:
    """Expected calibration error, 0..1, by torchmetrics.

    Notes
    -----
    C. Guo et al. (2017). On calibration of modern neural networks. https://arxiv.org/abs/1706.04599
    """
    given = torch.as_tensor(probabilities), torch.as_tensor(np.searchsorted(classes, y_true))
    return float(torchmetrics.multiclass_calibration_error(*given, len(classes), n_bins))


def _calibrated_by_chance(confidence, n_bins, draws=400):
    """Range of the calibration error if each row were right with exactly its confidence.

    Notes
    -----
    J. Bröcker and L. A. Smith (2007). Increasing the reliability of reliability diagrams.
    https://doi.org/10.1175/WAF993.1
    """
    bins = np.eye(n_bins)[np.minimum((confidence * n_bins).astype(int), n_bins - 1)]
    right = np.random.default_rng(0).random((draws, len(confidence))) < confidence
    errors = np.abs((right - confidence) @ bins).sum(axis=1) / len(confidence)
    return np.quantile(errors, [0.5 - CONFIDENCE / 2, 0.5 + CONFIDENCE / 2])


def confused_pairs(y_true: ArrayLike, y_predicted: ArrayLike) -> pd.DataFrame:
    """Errors by kind, the most frequent first: ``true``, ``predicted``, ``count``."""
    pairs = confusion_counts(y_true, y_predicted).stack().rename("count").reset_index()
    pairs = pairs[(pairs["true"] != pairs["predicted"]) & (pairs["count"] > 0)]
    return pairs.sort_values("count", ascending=False, kind="stable", ignore_index=True)


def judged_rows(y_true: Array, probabilities: Array, classes: Array) -> pd.DataFrame:
    """One line per row, in order.

    ``label``, ``predicted``, ``probability`` (of the prediction), ``second`` (next guess),
    ``margin`` (distance between the two probabilities), ``p_label`` (probability of the label),
    ``right``.
    """
    order = np.argsort(-probabilities, axis=1, kind="stable")
    first, second = np.take_along_axis(probabilities, order[:, :2], axis=1).T
    guesses = {"predicted": classes[order[:, 0]], "probability": first}
    guesses |= {"second": classes[order[:, 1]], "margin": first - second}
    table = pd.DataFrame({"label": y_true} | guesses)
    table["p_label"] = probabilities[y_true[:, None] == classes]
    return table.assign(right=table["label"] == table["predicted"])


def label_suspects(y_true: Array, probabilities: Array, classes: Array) -> pd.DataFrame:
    """Rows whose label may be wrong, the least likely label first.

    Columns of :func:`judged_rows` and ``suggestion``; the index is the position. A class's
    threshold is the mean probability that rows with its label give it. A row is suspect if, among
    the classes whose threshold it reaches, the most probable one is not its label.

    Notes
    -----
    C. Northcutt, L. Jiang and I. Chuang (2021). Confident learning: estimating uncertainty in
    dataset labels. JAIR 70. https://doi.org/10.1613/jair.1.12125. Ranked by self-confidence, as
    there.
    """
    rows = judged_rows(y_true, probabilities, classes)
    thresholds = rows.groupby("label")["p_label"].mean().reindex(classes, fill_value=np.inf)
    reached = np.where(probabilities >= thresholds.to_numpy(), probabilities, 0.0)
    rows["suggestion"] = classes[reached.argmax(axis=1)]
    suspect = (reached.max(axis=1) > 0) & (rows["suggestion"] != rows["label"])
    return rows[suspect].sort_values("p_label", kind="stable")


# ---- when to trust an answer ---------------------------------------------------------------------


def answered(y_true, probabilities, classes, shares=ANSWERED):
    """What the classifier gets right if a person reads the images of which it is least sure.

    Parameters
    ----------
    shares : sequence of float
        Of the images that the classifier answers, those with the most probable predictions first;
        where it is equally sure, in the order of the rows. Each above 0, up to 1.

    Returns
    -------
    DataFrame
        One line per share: ``share``, ``answered``, ``left`` (to a person), ``errors`` (among the
        answered), ``accuracy`` (0..1), ``low``, ``high`` (its Wilson interval), ``least sure``
        (probability of the last answer given).

    Notes
    -----
    Risk and coverage: R. El-Yaniv and Y. Wiener (2010). On the foundations of noise-free selective
    classification. JMLR 11. https://jmlr.org/papers/v11/el-yaniv10a.html
    """
    rows = judged_rows(y_true, probabilities, classes)
    rows = rows.sort_values("probability", ascending=False, kind="stable", ignore_index=True)
    count = np.rint(np.asarray(shares) * len(rows)).astype(int).clip(1)
    right = rows["right"].cumsum().to_numpy()[count - 1]
    table = pd.DataFrame({"share": shares, "answered": count, "left": len(rows) - count})
    table["errors"], table["accuracy"] = count - right, right / count
    table[["low", "high"]] = intervals(right, count)
    return table.assign(**{"least sure": rows["probability"].to_numpy()[count - 1]})


def conformal(y_true, probabilities, classes, groups, promise=PROMISE):
    """Sets of digits that are to hold the true one, calibrated on all other groups' rows.

    A digit is in the set of an image if it is no less probable there than a threshold. The
    threshold is such that, on the rows of the other groups, the true digit would be in the set in a
    share `promise` of the cases. For another row that is *exchangeable* with those, the promise
    holds whatever the classifier is worth.

    Parameters
    ----------
    groups : array of shape (n,)
        At least two: folds, or who wrote the row.
    promise : float
        0..1.

    Returns
    -------
    DataFrame
        Index: groups. ``images``, ``held`` (sets with the true digit), ``empty``, ``one``,
        ``several`` (images whose set is so large), ``coverage`` (share of sets that hold), ``low``,
        ``high`` (its Wilson interval), ``mean size``, ``threshold`` (of the probability; 0 if the
        other groups have too few rows for the promise).

    Notes
    -----
    Split-conformal prediction with the score 1 - p: V. Vovk, A. Gammerman and G. Shafer (2005).
    Algorithmic learning in a random world. Springer. A. N. Angelopoulos and S. Bates (2023).
    Conformal prediction: a gentle introduction. https://doi.org/10.1561/2200000101, section 1.
    """
    own, lines = probabilities[y_true[:, None] == classes], {}
    for group in np.unique(groups):
        test = groups == group
        calibration = -np.sort(-own[~test])
        place = int(np.ceil((len(calibration) + 1) * promise))
        threshold = calibration[place - 1] if place <= len(calibration) else 0.0
        sizes, held = (probabilities[test] >= threshold).sum(axis=1), own[test] >= threshold
        counts = [len(held), held.sum(), *np.bincount(sizes.clip(max=2), minlength=3)]
        coverage = held.mean(), *wilson_interval(held.sum(), len(held))
        lines[group] = [*map(int, counts), *coverage, sizes.mean(), threshold]
    columns = ["images", "held", "empty", "one", "several", "coverage", "low", "high"]
    return pd.DataFrame.from_dict(lines, "index", columns=[*columns, "mean size", "threshold"])
