"""Would more images, or more epochs, help? Learning curves, and what may be read off them."""

import joblib
import numpy as np
import pandas as pd
from sklearn.model_selection import learning_curve as sklearn_learning_curve

from digitlib.compare.competitors import split_of
from digitlib.compare.paired import corrected_resampled_t
from digitlib.crossval import FOLDS

SHARES = (0.125, 0.25, 0.5)  # of the training rows; the whole is what a run has measured


def learning_curve(digits, run, budget=30.0):
    """Accuracy on the held-out rows of each fold after training on part of the others.

    Parameters
    ----------
    digits : Bunch
    run : Run
        On all training rows: its accuracy of each fold is the curve's end, its time decides what
        the budget allows.
    budget : float
        Seconds. The largest shares are left out that would take longer.

    Returns
    -------
    DataFrame
        ``images`` (mean over folds), ``fold``, ``accuracy`` (0..1).
    """
    split = split_of(run)
    shares = np.array(SHARES)[np.cumsum(SHARES) * run.info["seconds"] <= budget]
    whole = pd.Series(run.predicted == run.y).groupby(run.folds).mean()
    folds = {round(len(run.y) * (1 - 1 / split["n_splits"])): whole.tolist()}
    if len(shares):
        how = {"shuffle": True, "random_state": split["random_state"]}
        cv = FOLDS[split["folds"]](split["n_splits"], **how)
        with joblib.parallel_config("threading", n_jobs=-1):
            images, _, accuracies = sklearn_learning_curve(
                *(run.classifier(), digits.data, digits.target), cv=cv, train_sizes=shares, **how
            )
        folds |= dict(zip(images.tolist(), accuracies.tolist(), strict=True))
    rows = [(n, k, a) for n, accuracies in folds.items() for k, a in enumerate(accuracies, 1)]
    table = pd.DataFrame(rows, columns=["images", "fold", "accuracy"])
    return table.sort_values(["images", "fold"], ignore_index=True)


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
    p = corrected_resampled_t(gains, 1 / (len(gains) - 1))[1] if len(gains) > 1 else 1.0
    return f"down in {(gains > 0).sum()} of {len(gains)} folds", p
