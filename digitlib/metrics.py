"""Scores, their uncertainty and paired tests: arrays in, small tables out.

Wherever a function takes ``y_true`` (n,), ``probabilities`` (n, n_classes, rows summing to 1) and
``classes`` (n_classes,), the columns of the probabilities are in the order of the classes, and row
i was predicted by a model that has not seen it.
"""

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy.stats import binomtest
from scipy.stats import t as student
from sklearn.metrics import precision_recall_fscore_support

Array = np.ndarray
CONFIDENCE = 0.95  # of every interval
ANSWERED = (1.0, 0.99, 0.98, 0.95, 0.9)  # shares of the images, the rest left to a person
PROMISE = 0.995  # share of the sets of digits that are to hold the true one


def percent(share: float, digits: int = 2) -> str:
    """A share as all pages write it: 0.98274 is ``98.27 %``."""
    return f"{100 * share:.{digits}f} %"


def confusion_counts(y_true: ArrayLike, y_predicted: ArrayLike) -> pd.DataFrame:
    """Confusion matrix, by torchmetrics.

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
    true, predicted = (np.searchsorted(classes, y) for y in (y_true, y_predicted))
    n = max(2, len(classes))
    counts = _torchmetrics("multiclass_confusion_matrix", predicted, true, num_classes=n)
    return pd.DataFrame(
        counts.numpy()[: len(classes), : len(classes)],
        index=pd.Index(classes, name="true"),
        columns=pd.Index(classes, name="predicted"),
    )


def _torchmetrics(name, predicted, true, **options):
    """A metric of torchmetrics; `true` (n,) counts classes from 0."""
    # Not at the top: whoever reads or draws a run needs no torch, which takes a second to load.
    import torch
    from torchmetrics.functional import classification

    metric = getattr(classification, name)
    return metric(torch.from_numpy(predicted), torch.from_numpy(true), **options)


def confusion_percent(counts: pd.DataFrame) -> pd.DataFrame:
    """Of each digit's images in :func:`confusion_counts`, the percentage read as each digit."""
    return 100 * counts / counts.sum(axis=1).to_numpy()[:, None].clip(min=1)


def per_class(y_true: ArrayLike, y_predicted: ArrayLike) -> pd.DataFrame:
    """Precision, recall, F1 (0..1) and support of each class, by scikit-learn.

    A class never predicted has precision 0. ``recall low``, ``recall high``: its Wilson interval.
    Precision and F1 have no interval as simple, their denominators are random too.
    """
    classes = np.union1d(y_true, y_predicted)
    values = precision_recall_fscore_support(y_true, y_predicted, labels=classes, zero_division=0)
    table = pd.DataFrame(
        dict(zip(("precision", "recall", "F1", "support"), values, strict=True)),
        index=pd.Index(classes, name="digit"),
    )
    right = (table["recall"] * table["support"]).round()
    table[["recall low", "recall high"]] = _intervals(right, table["support"])
    return table


def wilson_interval(correct: int, total: int) -> tuple[float, float]:
    """95 % interval (low, high) of a share, by scipy.

    It says how far the share may lie from what many more images *of the same kind* would give. It
    does not contain the luck of a training run, nor that the models of two folds share training
    rows, nor writers of another kind.

    Notes
    -----
    E. B. Wilson (1927). Probable inference, the law of succession, and statistical inference. JASA
    22. https://doi.org/10.2307/2276774
    """
    interval = binomtest(int(correct), int(total)).proportion_ci(CONFIDENCE, method="wilson")
    return float(interval.low), float(interval.high)


def per_fold(y_true: Array, probabilities: Array, folds: Array, classes: Array) -> pd.DataFrame:
    """Scores of each fold, and of all rows together (last line, "all").

    ``correct``, ``total``, ``accuracy`` (0..1), its Wilson interval ``low`` to ``high``, and
    ``loss``, the mean log-loss.
    """
    right = classes[probabilities.argmax(axis=1)] == y_true
    losses = row_losses(y_true, probabilities, classes)["log-loss"]
    parts = {str(k): folds == k for k in np.unique(folds)} | {"all": np.full(len(folds), True)}
    counts = [(int(right[rows].sum()), int(rows.sum())) for rows in parts.values()]
    index = pd.Index(parts, name="fold")
    table = pd.DataFrame(counts, columns=["correct", "total"], index=index)
    table["accuracy"] = table["correct"] / table["total"]
    table[["low", "high"]] = _intervals(table["correct"], table["total"])
    table["loss"] = [losses[rows].mean() for rows in parts.values()]
    return table


def _intervals(correct, total):
    """Wilson intervals; of a share of nothing, all that is possible."""
    pairs = zip(correct, total, strict=True)
    return [wilson_interval(c, n) if n else (0.0, 1.0) for c, n in pairs]


def row_losses(y_true: Array, probabilities: Array, classes: Array) -> pd.DataFrame:
    """What each row costs, a DataFrame of shape (n, 3).

    ``log-loss``, ``Brier score`` (0..2, summed over classes), ``top-2 accuracy`` (0 or 1).
    """
    columns = np.searchsorted(classes, y_true)
    own = probabilities[np.arange(len(columns)), columns]
    guesses = _ranking(probabilities)[:, :2]
    return pd.DataFrame(
        {
            "log-loss": -np.log(own.clip(np.finfo(float).eps)),
            "Brier score": ((probabilities - np.eye(len(classes))[columns]) ** 2).sum(axis=1),
            "top-2 accuracy": (guesses == columns[:, None]).any(axis=1).astype(float),
        }
    )


def _ranking(probabilities):
    """Columns of each row, the most probable first."""
    return np.argsort(-probabilities, axis=1, kind="stable")


def scores(y_true: Array, probabilities: Array, classes: Array, n_bins: int = 15) -> pd.DataFrame:
    """Log-loss, Brier score, top-2 accuracy and expected calibration error.

    Columns ``value``, ``low``, ``high``, ``what`` (it means). The intervals of losses are mean plus
    and minus 1.96 standard errors over rows. Calibration error cannot be negative, so that chance
    alone makes it positive: its ``low`` and ``high`` are where 95 % of perfectly calibrated
    classifiers with these confidences would be.
    """
    rows = row_losses(y_true, probabilities, classes)
    half = 1.959964 * rows.std() / len(rows) ** 0.5
    table = pd.DataFrame(
        {"value": rows.mean(), "low": rows.mean() - half, "high": rows.mean() + half}
    )
    table.loc["top-2 accuracy", ["low", "high"]] = wilson_interval(
        rows["top-2 accuracy"].sum(), len(rows)
    )
    confidence = probabilities.max(axis=1)
    table.loc["calibration error"] = [
        calibration_error(y_true, probabilities, classes, n_bins),
        *_calibrated_by_chance(confidence, n_bins),
    ]
    table["what"] = [
        "minus the log of the probability given to the true digit; punishes sure mistakes",
        "squared distance between the probabilities and the truth, 0 to 2",
        "the true digit is the first or the second guess",
        f"mean distance between confidence and accuracy over {n_bins} bins;"
        " low and high: what perfect calibration would show",
    ]
    return table


def calibration_error(
    y_true: Array, probabilities: Array, classes: Array, n_bins: int = 15
) -> float:
    """Expected calibration error, 0..1, by torchmetrics.

    Notes
    -----
    C. Guo et al. (2017). On calibration of modern neural networks. https://arxiv.org/abs/1706.04599
    """
    options = {"num_classes": len(classes), "n_bins": n_bins}
    true = np.searchsorted(classes, y_true)
    return float(_torchmetrics("multiclass_calibration_error", probabilities, true, **options))


def _calibrated_by_chance(confidence, n_bins, draws=400):
    """Range of the calibration error if each row were right with exactly its confidence.

    Notes
    -----
    J. Bröcker and L. A. Smith (2007). Increasing the reliability of reliability diagrams.
    https://doi.org/10.1175/WAF993.1
    """
    bins = np.eye(n_bins)[_bin(confidence, n_bins)]
    right = np.random.default_rng(0).random((draws, len(confidence))) < confidence
    errors = np.abs((right - confidence) @ bins).sum(axis=1) / len(confidence)
    return np.quantile(errors, [0.5 - CONFIDENCE / 2, 0.5 + CONFIDENCE / 2])


def _bin(confidence, n_bins):
    return np.minimum((confidence * n_bins).astype(int), n_bins - 1)


def calibration_table(
    y_true: Array, probabilities: Array, classes: Array, n_bins: int = 10
) -> pd.DataFrame:
    """Rows grouped by the probability of their prediction.

    ``confidence``, ``accuracy`` (means), ``low``, ``high``, ``images`` of each bin.
    """
    confidence, right = probabilities.max(axis=1), classes[probabilities.argmax(axis=1)] == y_true
    rows = pd.DataFrame({"confidence": confidence, "right": right})
    table = rows.groupby(_bin(confidence, n_bins)).agg(
        confidence=("confidence", "mean"), correct=("right", "sum"), images=("right", "size")
    )
    table[["low", "high"]] = _intervals(table["correct"], table["images"])
    table["accuracy"] = table["correct"] / table["images"]
    return table[["confidence", "accuracy", "low", "high", "images"]]


def confused_pairs(y_true: ArrayLike, y_predicted: ArrayLike) -> pd.DataFrame:
    """Errors by kind, the most frequent first: ``true``, ``predicted``, ``count``."""
    pairs = pd.DataFrame({"true": np.asarray(y_true), "predicted": np.asarray(y_predicted)})
    pairs = pairs[pairs["true"] != pairs["predicted"]].value_counts(sort=False).reset_index()
    order = {"by": ["count", "true", "predicted"], "ascending": [False, True, True]}
    return pairs.sort_values(**order, ignore_index=True)


def judged_rows(y_true: Array, probabilities: Array, classes: Array) -> pd.DataFrame:
    """One line per row, in order.

    ``label``, ``predicted``, ``probability`` (of the prediction), ``second`` (next guess),
    ``margin`` (distance between the two probabilities), ``p_label`` (probability of the label),
    ``right``.
    """
    columns, order = np.searchsorted(classes, y_true), _ranking(probabilities)
    ranked = np.take_along_axis(probabilities, order, axis=1)
    return pd.DataFrame(
        {
            "label": y_true,
            "predicted": classes[order[:, 0]],
            "probability": ranked[:, 0],
            "second": classes[order[:, 1]],
            "margin": ranked[:, 0] - ranked[:, 1],
            "p_label": probabilities[np.arange(len(columns)), columns],
            "right": order[:, 0] == columns,
        }
    )


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
    columns = np.searchsorted(classes, y_true)
    own = pd.Series(probabilities[np.arange(len(columns)), columns])
    thresholds = own.groupby(columns).mean().reindex(range(len(classes)), fill_value=np.inf)
    reached = np.where(probabilities >= thresholds.to_numpy(), probabilities, 0.0)
    suggestion = reached.argmax(axis=1)
    suspect = (reached.max(axis=1) > 0) & (suggestion != columns)
    return (
        judged_rows(y_true, probabilities, classes)
        .assign(suggestion=classes[suggestion])[suspect]
        .sort_values("p_label", kind="stable")
    )


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
    table[["low", "high"]] = _intervals(right, count)
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
        Index: groups. ``images``, ``held`` (sets with the true digit), ``coverage`` (their share),
        ``low``, ``high`` (its Wilson interval), ``mean size``, ``empty``, ``one``, ``several``
        (images whose set is so large), ``threshold`` (of the probability; 0 if the other groups
        have too few rows for the promise).

    Notes
    -----
    Split-conformal prediction with the score 1 - p: V. Vovk, A. Gammerman and G. Shafer (2005).
    Algorithmic learning in a random world. Springer. A. N. Angelopoulos and S. Bates (2023).
    Conformal prediction: a gentle introduction. https://doi.org/10.1561/2200000101, section 1.
    """
    own = probabilities[np.arange(len(y_true)), np.searchsorted(classes, y_true)]
    lines = {}
    for group in np.unique(groups):
        test = groups == group
        calibration = -np.sort(-own[~test])
        place = int(np.ceil((len(calibration) + 1) * promise))
        threshold = calibration[place - 1] if place <= len(calibration) else 0.0
        sizes, held = (probabilities[test] >= threshold).sum(axis=1), own[test] >= threshold
        counts = np.bincount(sizes.clip(max=2), minlength=3)
        coverage = held.mean(), *wilson_interval(held.sum(), len(held))
        lines[group] = [len(held), held.sum(), *coverage, sizes.mean(), *counts, threshold]
    columns = ["images", "held", "coverage", "low", "high", "mean size"]
    columns += ["empty", "one", "several", "threshold"]
    table = pd.DataFrame.from_dict(lines, orient="index", columns=columns)
    counted = ["images", "held", "empty", "one", "several"]
    return table.astype(dict.fromkeys(counted, int))


# ---- two classifiers on the same rows ------------------------------------------------------------


def mcnemar(right_a: np.ndarray, right_b: np.ndarray) -> tuple[int, int, float]:
    """McNemar's exact test: do two classifiers err equally often on the same rows?

    Parameters
    ----------
    right_a, right_b : array of shape (n,), bool
        Whether each row was predicted correctly.

    Returns
    -------
    tuple
        Rows that only a got right, rows that only b got right, two-sided p.

    Notes
    -----
    Q. McNemar (1947), https://doi.org/10.1007/BF02295996; the exact form is a binomial test of the
    rows on which they differ. Its p holds for these fitted models, not for the training procedures:
    it knows nothing of what another seed would have given.
    """
    only_a, only_b = int((right_a & ~right_b).sum()), int((right_b & ~right_a).sum())
    p = float(binomtest(only_a, only_a + only_b).pvalue) if only_a + only_b else 1.0
    return only_a, only_b, p


def corrected_resampled_t(differences: ArrayLike, test_per_train: float) -> tuple[float, float]:
    """Corrected resampled t-test: do two classifiers differ over the same folds?

    Its variance is enlarged because the folds share training rows.

    Parameters
    ----------
    differences : array of shape (k,)
        Accuracy of one minus accuracy of the other, fold by fold; k at least 2.
    test_per_train : float
        Test rows per training row: 1 / (k - 1) for k folds.

    Returns
    -------
    tuple of float
        t and p, from Student's t with k - 1 degrees of freedom. No difference at all gives t 0, p
        1.

    Notes
    -----
    C. Nadeau and Y. Bengio (2003). Inference for the generalization error. Machine Learning 52.
    https://doi.org/10.1023/A:1024068626366
    """
    differences = np.asarray(differences, dtype=float)
    if not differences.any():
        return 0.0, 1.0
    k = len(differences)
    with np.errstate(divide="ignore"):
        t = differences.mean() / np.sqrt((1 / k + test_per_train) * differences.var(ddof=1))
    return float(t), float(2 * student.sf(abs(t), k - 1))


def holm(p_values: ArrayLike) -> np.ndarray:
    """P-values adjusted for the number of comparisons, in the order given.

    Notes
    -----
    S. Holm (1979). A simple sequentially rejective multiple test procedure.
    https://www.jstor.org/stable/4615733
    """
    p_values = np.asarray(p_values, dtype=float)
    order = p_values.argsort()
    adjusted = np.maximum.accumulate(p_values[order] * np.arange(len(p_values), 0, -1)).clip(max=1)
    return adjusted[order.argsort()]
