"""Would more data, or more epochs, help? Curves over both, and sentences drawn from their numbers."""

import joblib
import numpy as np
import pandas as pd
from sklearn.model_selection import KFold
from sklearn.model_selection import learning_curve as sklearn_learning_curve

from digitlib.cache import remembered
from digitlib.competitors import decisive
from digitlib.metrics import corrected_resampled_t

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
