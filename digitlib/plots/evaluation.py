"""Figures of one classifier's predictions: confusions, errors on show, calibration."""

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.collections import PatchCollection
from matplotlib.patches import Rectangle

from digitlib import metrics
from digitlib.plots.basics import (
    CENTRED,
    INK,
    MEAN_LINE,
    WIDTH,
    alt_text,
    colour,
    described,
    new_axes,
    numbers,
    whiskers,
)

__all__ = [
    "confused_images",
    "confusion",
    "fold_confusions",
    "gallery",
    "recall_by_class",
    "reliability",
]

COMPACT = {"width": 6.4, "height": 5.4}  # inches, of a figure that would be too large at full width


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
        The number of errors drawn darkest, for several matrices on one scale.
    """
    counts = metrics.confusion_counts(y_true, y_predicted)
    table, form = (metrics.confusion_percent(counts), "{:.1f}") if percent else (counts, "{:d}")
    right = np.eye(len(table), dtype=bool)
    errors = np.ma.masked_array(table.to_numpy(dtype=float), right)
    alone = ax is None
    ax = new_axes(**COMPACT) if alone else ax
    ax.set_facecolor("#e8e8e8")  # shows through where the diagonal is left out
    ax.grid(False)
    # Not seaborn's heatmap: it draws the whole figure once for every matrix in it.
    scale = mpl.colors.Normalize(0, most or max(errors.max(), 1e-9))
    edges, style = np.arange(len(table) + 1), {"edgecolors": "white", "linewidth": 0.5}
    mesh = ax.pcolormesh(edges, edges, errors, cmap="rocket_r", norm=scale, **style)
    for (i, j), value in np.ndenumerate(table.to_numpy()):
        if value:
            pale = not right[i, j] and scale(value) > 0.5
            text = form.format(value)
            ax.text(j + 0.5, i + 0.5, text, color="white" if pale else "#222", **CENTRED)
    middles = edges[:-1] + 0.5
    ax.set(xticks=middles, xticklabels=table.columns, yticks=middles, yticklabels=table.index)
    ax.set(aspect="equal", title=title, xlabel="predicted", ylabel="true digit")
    ax.invert_yaxis()
    ax.tick_params(length=0)
    if alone:
        label = "errors, % of the digit's images" if percent else "errors"
        ax.figure.colorbar(mesh, ax=ax, label=label)
    return described(ax, _confusion_words(counts, percent), table)


def _confusion_words(counts, percent):
    values, wrong = counts.to_numpy(), np.where(np.eye(len(counts), dtype=bool), 0, counts)
    kind = " in row percentages" if percent else ""
    words = f"Confusion matrix{kind}: {values.trace():,} of {values.sum():,} correct"
    if wrong.any():
        i, j = np.unravel_index(wrong.argmax(), wrong.shape)
        error = f"{counts.index[i]} read as {counts.columns[j]}, {_times(wrong.max())}"
        share = f" ({100 * wrong.max() / values[i].sum():.1f} % of them)" if percent else ""
        words += f"; most frequent error {error}{share}"
    return words + "."


def _times(count):
    return "once" if count == 1 else f"{count} times"


def fold_confusions(y_true, y_predicted, folds):
    """One confusion matrix for each fold, side by side in pairs."""
    names = np.unique(folds)
    parts = [(y_true[folds == name], y_predicted[folds == name]) for name in names]
    most = max([1, *(n for part in parts for n in metrics.confused_pairs(*part)["count"])])
    axes = new_axes(4 * (-(-len(names) // 2)), -(-len(names) // 2), 2, squeeze=False)
    for ax in axes.flat[len(names) :]:
        ax.set_axis_off()
    sentences, tables = [], []
    with mpl.rc_context({"font.size": 8}):
        for ax, name, part in zip(axes.flat, names, parts, strict=False):
            confusion(*part, f"fold {name}", ax, most=most)
            sentences.append(f"Fold {name}: {alt_text(ax).removeprefix('Confusion matrix: ')}")
            tables.append(numbers(ax))
    alt = "Confusion matrices of the folds. " + " ".join(sentences)
    return described(axes, alt, pd.concat(tables, keys=names, names=["fold"]))


def recall_by_class(y_true, y_predicted):
    """Recall of each digit with its 95 % interval, in per cent."""
    table = metrics.per_class(y_true, y_predicted)
    values, low, high = (100 * table[name] for name in ("recall", "recall low", "recall high"))
    everybody = 100 * (np.asarray(y_true) == np.asarray(y_predicted)).mean()
    ax, places = new_axes(3.2), np.arange(len(table))
    ax.errorbar(places, values, whiskers(values, low, high), fmt="o", capsize=4, lw=1.5)
    ax.axhline(everybody, label="all digits", **MEAN_LINE)
    ax.set(xticks=places, xticklabels=table.index, xlabel="digit", ylabel="recall (%)")
    ax.legend()
    worst, best = (f"{i}, {values[i]:.1f} %" for i in (values.idxmin(), values.idxmax()))
    alt = f"Recall of each digit with its 95 % interval: lowest for {worst}, highest for {best}."
    return described(ax, alt, table)


# ---- images on show ------------------------------------------------------------------------------


def gallery(images, titles, columns=10, alt=None):
    """At least one of `images` (n, rows, columns) in a grid, each under its title.

    A title may have several lines.
    """
    cells = [
        (*divmod(i, columns), image, title)
        for i, (image, title) in enumerate(zip(images, titles, strict=True))
    ]
    words = "; ".join(title.replace("\n", " ") for title in titles[:20])
    words += f"; and {len(titles) - 20} more" if len(titles) > 20 else ""
    alt = alt or f"{len(images)} images of digits: {words}."
    return described(_mosaic(cells, columns), alt, pd.DataFrame({"title": list(titles)}))


def confused_images(images, y_true, y_predicted, pairs=5, each=6):
    """The digits most often taken for each other, a pair a line.

    On the left some of one read as the other, on the right the reverse.
    """
    wrong = metrics.confused_pairs(y_true, y_predicted)
    either = wrong[["true", "predicted"]]
    either = [either.min(axis=1).rename("one"), either.max(axis=1).rename("other")]
    totals = wrong.groupby(either)["count"].sum()
    totals = totals.sort_values(ascending=False, kind="stable").head(pairs)
    cells, table = [], []
    for line, (one, other) in enumerate(totals.index):
        for half, (true, read) in enumerate([(one, other), (other, one)]):
            rows, left = np.flatnonzero((y_true == true) & (y_predicted == read)), half * (each + 1)
            table.append({"true": true, "predicted": read, "count": len(rows)})
            label = f"{true} read as {read}: {_times(len(rows)) if len(rows) else 'never'}"
            cells.append((line, left, images[rows[0]] if len(rows) else None, label))
            cells += [(line, left + i, images[row], "") for i, row in enumerate(rows[1:each], 1)]
    words = [f"{one} and {other}, {_times(count)}" for (one, other), count in totals.items()]
    alt = f"Images of the digits most often taken for each other: {'; '.join(words)}."
    return described(_mosaic(cells, 2 * each + 1), alt, pd.DataFrame(table))


def _mosaic(cells, columns):
    """One picture made of many, in a tenth of the time of an Axes each.

    `cells` are tuples: row and column in the grid, image or None, title.
    """
    side, size = max(max(image.shape) for _, _, image, _ in cells if image is not None), 8.0
    inches = WIDTH / columns / (side + 2)  # of one pixel
    lines = max(1 + title.count("\n") for *_, title in cells)
    # Of a cell with its title, in pixels.
    height = side + int(np.ceil(1.5 + 1.2 * lines * size / 72 / inches))
    rows = 1 + max(row for row, *_ in cells)
    canvas = np.zeros((rows * height, columns * (side + 2)))
    ax = plt.figure(figsize=(WIDTH, rows * height * inches)).add_axes((0, 0, 1, 1))
    frames = []
    for row, column, image, title in cells:
        left, top = column * (side + 2) + 1, (row + 1) * height - side - 1
        ax.text(left, top - 0.4, title, fontsize=size, va="bottom", linespacing=1.1)
        if image is not None:
            canvas[top : top + image.shape[0], left : left + image.shape[1]] = image
            frames.append(Rectangle((left, top), side, side))
    extent = (0, canvas.shape[1], canvas.shape[0], 0)
    ax.imshow(canvas, cmap=INK, vmin=0, vmax=max(16, canvas.max()), extent=extent)
    ax.add_collection(PatchCollection(frames, facecolor="none", edgecolor="#999", linewidth=0.6))
    ax.set_axis_off()
    return ax


# ---- calibration ---------------------------------------------------------------------------------


def reliability(y_true, probabilities, classes, n_bins=10):
    """Reliability diagram: accuracy against confidence, above the number of images in each bin.

    Accuracy has its 95 % interval.
    """
    table = metrics.calibration_table(y_true, probabilities, classes, n_bins)
    error = metrics.calibration_error(y_true, probabilities, classes)
    upper, lower = axes = new_axes(rows=2, height_ratios=[5, 2], sharex=True, **COMPACT)
    upper.plot([0, 1], [0, 1], label="perfect calibration", **MEAN_LINE)
    spread = whiskers(table["accuracy"], table["low"], table["high"])
    style = {"fmt": "o-", "capsize": 4, "label": "images of a bin, 95 % interval"}
    upper.errorbar(table["confidence"], table["accuracy"], yerr=spread, **style)
    upper.set(ylabel="share read correctly", ylim=(-0.02, 1.02), xlim=(0, 1.01))
    upper.legend(loc="upper left")
    bars = {"width": 0.94 / n_bins, "align": "edge", "color": colour(0)}
    lower.bar(table.index / n_bins, table["images"], **bars)
    lower.set(yscale="log", ylim=(0.8, None), ylabel="images (log scale)")
    lower.set(xlabel="probability of the predicted digit")
    sure = table.iloc[-1]
    surest = f"the {sure['images']:,.0f} surest images"
    shares = f"on average {100 * sure['confidence']:.1f} % sure, {100 * sure['accuracy']:.1f} %"
    calibration = f"expected calibration error {100 * error:.2f} %"
    alt = f"Reliability diagram: {calibration}; of {surest}, {shares} were read correctly."
    return described(axes, alt, table)
