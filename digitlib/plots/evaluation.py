"""Figures of one classifier's predictions: confusions, errors on show, calibration."""

import matplotlib as mpl
import numpy as np
import pandas as pd
import seaborn as sns

from digitlib import metrics
from digitlib.plots.shown import PALETTE, alt_text, boxed, canvas, described, numbers

__all__ = ["confusion", "confusion_table", "fold_confusions", "recall_by_class", "reliability"]
__all__ += ["selective"]


def confusion(y_true, y_predicted, title="", ax=None, percent=False, most=None):
    """Heat map of the confusion matrix, the diagonal dimmed so that errors show (torchmetrics).

    Parameters
    ----------
    y_true, y_predicted : array of shape (n,)
    title : str
    ax : Axes or None
        Drawn into, without a colour bar, in place of a new figure.
    percent : bool
        Row percentages in place of counts.
    most : float or None
        The number of errors drawn darkest, for several matrices on one scale: small ones, which
        give the numbers of errors alone.
    """
    counts = metrics.confusion_counts(y_true, y_predicted)
    table, form = counts, "{:d}"
    if percent:
        table, form = 100 * counts.div(counts.sum(axis=1).clip(lower=1), axis=0), "{:.1f}"
    right, alone = np.eye(len(table), dtype=bool), ax is None
    ax = canvas(4.8) if alone else ax
    ax.set_facecolor("#e8e8e8")  # shows through where the diagonal is left out
    bar = {"label": "errors, % of the digit's images" if percent else "errors"}
    written, errors = table.map(form.format).where(table != 0, ""), table.mask(right)
    look = {"cmap": "rocket_r", "linewidths": 0.5, "square": True, "cbar": alone, "cbar_kws": bar}
    top = most or max(np.nanmax(errors), 1e-9)
    sns.heatmap(errors, vmin=0, vmax=top, annot=written, fmt="", ax=ax, **look)
    for i in range(0 if most else len(table)):
        ax.text(i + 0.5, i + 0.5, written.iloc[i, i], ha="center", va="center", color="#222")
    ax.grid(False)
    ax.tick_params(length=0, rotation=0)
    ax.set(title=title, xlabel="predicted", ylabel="true digit")
    return described(ax, confusion_words(counts, percent), table)


def confusion_words(counts, percent=False):
    """What a confusion matrix says, in a sentence."""
    values, wrong = counts.to_numpy(), np.where(np.eye(len(counts), dtype=bool), 0, counts)
    form = " in row percentages" if percent else ""
    words = f"Confusion matrix{form}: {values.trace():,} of {values.sum():,} correct"
    if wrong.any():
        i, j = np.unravel_index(wrong.argmax(), wrong.shape)
        words += f"; most frequent error {counts.index[i]} read as {counts.columns[j]}, "
        words += _times(wrong.max())
        words += f" ({100 * wrong.max() / values[i].sum():.1f} % of them)" if percent else ""
    return words + "."


def _times(count):
    return "once" if count == 1 else f"{count} times"


def fold_confusions(y_true, y_predicted, folds):
    """One confusion matrix for each fold, side by side in pairs."""
    numbers_ = np.unique(folds)
    rows = -(-len(numbers_) // 2)
    axes = canvas(2.9 * rows, rows, 2, squeeze=False)
    each = {fold: (y_true[folds == fold], y_predicted[folds == fold]) for fold in numbers_}
    pairs = [metrics.confused_pairs(*labels)["count"] for labels in each.values()]
    most, sentences, tables = max(1, *pd.concat(pairs), 1), [], []
    for ax in axes.flat[len(numbers_) :]:
        ax.set_axis_off()
    with mpl.rc_context({"font.size": 13}):  # on a phone it is shown at 0.6 of its size
        for ax, fold in zip(axes.flat, numbers_, strict=False):
            confusion(*each[fold], f"fold {fold}", ax, most=most)
            sentences.append(f"Fold {fold}: {alt_text(ax)[len('Confusion matrix: ') :]}")
            tables.append(numbers(ax))
    alt = f"Confusion matrices of the folds, errors alone. {' '.join(sentences)}"
    return described(axes, alt, pd.concat(tables, keys=numbers_, names=["fold"]))


def recall_by_class(y_true, y_predicted):
    """Recall of each digit with its 95 % interval, in per cent."""
    table = metrics.per_class(y_true, y_predicted)
    values, low, high = (100 * table[name] for name in ("recall", "recall low", "recall high"))
    ax, places = canvas(3.2), np.arange(len(table))
    # Rounding can put the end of an interval a hair inside its point.
    spread = [(values - low).clip(0), (high - values).clip(0)]
    ax.errorbar(places, values, yerr=spread, fmt="o", capsize=4, lw=1.5)
    accuracy = 100 * (np.asarray(y_true) == np.asarray(y_predicted)).mean()
    ax.axhline(accuracy, ls="--", color="grey", label="all digits")
    ax.set_xticks(places, table.index)
    ax.set(xlabel="digit", ylabel="recall (%)")
    ax.legend()
    worst, best = values.idxmin(), values.idxmax()
    alt = (
        f"How many images of each digit were found, with 95 % intervals. The fewest: of digit"
        f" {worst}, {values[worst]:.1f} %. The most: of digit {best}, {values[best]:.1f} %."
    )
    return described(ax, alt, table)


def confusion_table(y_true, y_predicted, gallery=None):
    """The confusion matrix as a table, the more frequent an error the stronger its colour.

    Parameters
    ----------
    y_true, y_predicted : array of shape (n,)
    gallery : str or None
        The name of an :func:`image_grid` on the same page, with ``pairs``: each number of errors
        leads to their images.

    Returns
    -------
    IPython.display.HTML
    """
    counts = metrics.confusion_counts(y_true, y_predicted)
    most = max(1, np.where(np.eye(len(counts), dtype=bool), 0, counts).max())
    head = "".join(f'<th scope="col">{label}</th>' for label in counts)
    lines = []
    for true, row in counts.iterrows():
        cells = "".join(_cell(true, *cell, most, gallery) for cell in row.items())
        lines.append(f'<tr><th scope="row">{true}</th>{cells}</tr>')
    words = confusion_words(counts)
    how = f"{words} Rows: the digit as written; columns: as read."
    if gallery:
        how += " Choose a number of errors to see their images."
    text = f'<table class="matrix"><caption>{how}</caption><thead><tr><td></td>{head}</tr></thead>'
    return described(boxed(f"{text}<tbody>{''.join(lines)}</tbody></table>", words), words, counts)


def _cell(true, read, count, most, gallery):
    if true == read or not count:
        return f'<td class="{"right" if true == read else "none"}">{count or "·"}</td>'
    # The colours after the commas are for notebooks, which have no style sheet of ours.
    step = 1 + sum(4 * count > part * most for part in (1, 2, 3))
    ink = "var(--on-e4, #fff)" if step == 4 else "var(--ink, #1c2530)"
    paper = f"var(--e{step}, {('#fdf0d2', '#fbd494', '#f3a966', '#8c1d18')[step - 1]})"
    if gallery:
        words = f"{count}: images of {true} read as {read}"
        link = f'href="#{gallery}" data-pair="{true}-{read}" aria-label="{words}"'
        count = f'<a {link} style="color: {ink}">{count}</a>'
    return f'<td style="background: {paper}; color: {ink}">{count}</td>'


# ---- calibration ---------------------------------------------------------------------------------


def reliability(y_true, probabilities, classes, n_bins=10):
    """Accuracy with its 95 % interval against confidence, above the images in each bin."""
    rows = metrics.judged_rows(y_true, probabilities, classes)
    bins = (rows["probability"] * n_bins).astype(int).clip(upper=n_bins - 1)
    means = {"confidence": ("probability", "mean"), "accuracy": ("right", "mean")}
    table = rows.groupby(bins.to_numpy()).agg(**means, images=("right", "size"))
    right = (table["accuracy"] * table["images"]).round()
    table[["low", "high"]] = metrics.intervals(right, table["images"])
    error = metrics.calibration_error(y_true, probabilities, classes)
    axes = canvas(5.4, 2, 1, height_ratios=[5, 2], sharex=True)
    right, label = table["accuracy"], "images of a bin, 95 % interval"
    spread = [(right - table["low"]).clip(0), (table["high"] - right).clip(0)]
    axes[0].plot([0, 1], [0, 1], ls="--", color="grey", label="perfect calibration")
    axes[0].errorbar(table["confidence"], right, yerr=spread, fmt="o-", capsize=4, label=label)
    axes[0].set(ylabel="share read correctly", ylim=(-0.02, 1.02), xlim=(0, 1.01))
    axes[0].legend(loc="upper left")
    bars = {"width": 0.94 / n_bins, "align": "edge", "color": sns.color_palette(PALETTE)[0]}
    axes[1].bar(table.index / n_bins, table["images"], **bars)
    axes[1].set(yscale="log", ylim=(0.8, None), ylabel="images (log scale)")
    axes[1].set_xlabel("probability of the predicted digit")
    sure = table.iloc[-1]
    alt = (
        f"Is the classifier as often right as it says? On the {sure['images']:,.0f} images where it"
        f" is most sure, it says {100 * sure['confidence']:.1f} % on average, and"
        f" {100 * sure['accuracy']:.1f} % are right. Its expected calibration error is"
        f" {100 * error:.2f} %."
    )
    return described(axes, alt, table)


def selective(y_true, probabilities, classes):
    """Accuracy of the answers against the share of images answered, the surest first."""
    shares = np.linspace(0.7, 1, 61)
    table = metrics.answered(y_true, probabilities, classes, shares)
    named = metrics.answered(y_true, probabilities, classes)
    ax = canvas(3.6)
    ax.fill_between(100 * shares, 100 * table["low"], 100 * table["high"], alpha=0.2, lw=0)
    ax.plot(100 * shares, 100 * table["accuracy"], label="accuracy, 95 % interval")
    ax.plot(100 * named["share"], 100 * named["accuracy"], "o", label="lines of the table")
    ax.set(xlabel="images answered (%), the rest left to a person", ylabel="accuracy (%)")
    ax.invert_xaxis()
    ax.legend(loc="lower right")
    named = named[["share", "accuracy"]].itertuples(index=False)
    words = "; ".join(f"{100 * a:.2f} % if {100 * s:g} % are answered" for s, a in named)
    return described(ax, f"Share read correctly, the surest answered first: {words}.", table)
