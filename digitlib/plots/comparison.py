"""Figures that set classifiers, protocols and amounts of data side by side."""

import matplotlib.pyplot as plt
import numpy as np
import seaborn as sns
from matplotlib.transforms import Bbox

from digitlib.plots.basics import PALETTE, WIDTH, described

PAPER = {
    "fc": "white",
    "ec": "none",
    "alpha": 0.7,
    "pad": 0.5,
}  # behind names, so that no line crosses them

# Points to the right, up, and which end of the name is there: first those beside the point, then
# above and below.
NAME_PLACES = (
    (6, 3, "left"),
    (6, -11, "left"),
    (-6, 3, "right"),
    (-6, -11, "right"),
    (0, 28, "center"),
    (0, -36, "center"),
)


def accuracy_against_time(table, span=6.0):
    """Accuracy with its 95 % interval against training time.

    Parameters
    ----------
    table : DataFrame
        Index: names. Columns ``accuracy``, ``low``, ``high`` (0..1), ``seconds``, ``ours`` (bool).
    span : float
        Whoever is more than so many points below the best is left out of the picture, and named
        below it.
    """
    shown = table[table["accuracy"] >= table["accuracy"].max() - span / 100].sort_values(
        "accuracy", ascending=False
    )
    _, ax = plt.subplots(figsize=(WIDTH, 4.6), layout="constrained")
    colours = sns.color_palette(PALETTE)
    for ours, colour, marker, label in (
        (True, colours[0], "o", "digitlib recipe"),
        (False, colours[1], "s", "competitor"),
    ):
        part = 100 * shown.loc[shown["ours"] == ours, ["accuracy", "low", "high"]]
        spread = [part["accuracy"] - part["low"], part["high"] - part["accuracy"]]
        seconds = shown.loc[part.index, "seconds"]
        ax.errorbar(
            seconds,
            part["accuracy"],
            yerr=spread,
            fmt=marker,
            color=colour,
            capsize=3,
            lw=1,
            ms=7,
            label=label,
        )
    ax.set(xscale="log", xlabel="seconds to train all folds (log scale)", ylabel="accuracy (%)")
    ax.set_xlim(ax.get_xlim()[0], ax.get_xlim()[1] * 4)  # room for the rightmost names
    place_names(
        ax,
        shown.index,
        shown["seconds"],
        *(100 * shown[column] for column in ("accuracy", "low", "high")),
    )
    left_out = table.index.difference(shown.index, sort=False)
    words = "; ".join(
        f"{name} {100 * row['accuracy']:.2f} % in {row['seconds']:.2g} s"
        for name, row in shown.iterrows()
    )
    if len(left_out):
        below = ", ".join(
            f"{name} ({100 * table.loc[name, 'accuracy']:.1f} %)" for name in left_out
        )
        ax.set_title(f"below the picture: {below}", fontsize=9, loc="left")
        words += f"; below the picture {below}"
    ax.legend(loc="lower right")
    return described(ax, f"Accuracy against training time: {words}.", table)


def place_names(ax, names, x, y, low, high):
    """Write each name beside its point, where it covers no other point, whisker or name; at the
    right if it always would.

    Parameters
    ----------
    ax : Axes
        Scales and limits are final.
    names : sequence of str
    x, y, low, high : sequence of float
        Points and the ends of their whiskers, in data coordinates.
    """
    ax.figure.draw_without_rendering()  # settles the layout, and with it what lies where
    ends = [
        ax.transData.transform([(one, bottom), (one, top)])
        for one, bottom, top in zip(x, low, high, strict=True)
    ]
    reach = 6.5 * ax.figure.dpi / 72  # half a marker's width and a little, in pixels
    points = [Bbox([bottom - reach, top + reach]) for bottom, top in ends]
    lines = [
        Bbox([bottom - 1, top + 1]) for bottom, top in ends
    ]  # a name may touch its own marker, not cross its whisker
    written = []
    for i, (name, *point) in enumerate(zip(names, x, y, strict=True)):
        taken = [*points[:i], *points[i + 1 :], lines[i], *written]
        for place, (dx, dy, side) in enumerate([*NAME_PLACES, NAME_PLACES[0]]):
            text = ax.annotate(
                name,
                point,
                xytext=(dx, dy),
                textcoords="offset points",
                ha=side,
                fontsize=9,
                bbox=PAPER,
            )
            box = text.get_window_extent()
            inside = (
                ax.bbox.x0 < box.x0
                and box.x1 < ax.bbox.x1
                and ax.bbox.y0 < box.y0
                and box.y1 < ax.bbox.y1
            )
            if place == len(NAME_PLACES) or (
                inside and not any(box.overlaps(other) for other in taken)
            ):
                break
            text.remove()
        written.append(box)


def protocols(table, span=10.0):
    """Accuracy of each classifier by folds and by new writers, joined by a line.

    Parameters
    ----------
    table : DataFrame
        Index: names. Columns ``folds`` and ``writers``, 0..1.
    span : float
        Whoever is more than so many points below the best is left out of the picture.
    """
    shown = 100 * table[["folds", "writers"]].dropna().sort_values("folds")
    shown = shown[shown["folds"] >= shown["folds"].max() - span]
    _, ax = plt.subplots(figsize=(WIDTH, 1.4 + 0.34 * len(shown)), layout="constrained")
    lines, colours = np.arange(len(shown)), sns.color_palette(PALETTE)
    ax.hlines(lines, shown.min(axis=1), shown.max(axis=1), color="lightgrey", lw=3)
    ax.scatter(
        shown["folds"], lines, color=colours[0], s=50, label="folds: writers mixed", zorder=3
    )
    ax.scatter(
        shown["writers"],
        lines,
        color=colours[1],
        s=50,
        marker="s",
        label="writers never seen",
        zorder=3,
    )
    ax.set(yticks=lines, yticklabels=shown.index, xlabel="accuracy (%)")
    ax.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=2, frameon=False)
    words = "; ".join(
        f"{name} {row['folds']:.2f} and {row['writers']:.2f} %"
        for name, row in shown[::-1].iterrows()
    )
    return described(ax, f"Accuracy with writers mixed, and on writers never seen: {words}.", table)


def learning_curve(table):
    """Accuracy against the number of training images: each fold, and their mean.

    Parameters
    ----------
    table : DataFrame
        Columns ``images``, ``fold``, ``accuracy`` (0..1).
    """
    shown = table.assign(accuracy=100 * table["accuracy"])
    means = shown.groupby("images")["accuracy"].mean()
    _, ax = plt.subplots(figsize=(WIDTH, 3.6), layout="constrained")
    sns.lineplot(
        shown,
        x="images",
        y="accuracy",
        errorbar=("sd", 1),
        marker="o",
        ax=ax,
        label="mean and standard deviation of the folds",
    )
    sns.scatterplot(
        shown,
        x="images",
        y="accuracy",
        color="grey",
        s=18,
        linewidth=0,
        ax=ax,
        label="a fold",
        zorder=3,
    )
    ax.set_xscale("log", base=2)
    ax.minorticks_off()
    ax.set(
        xticks=means.index,
        xticklabels=[f"{n:,}" for n in means.index],
        xlabel="training images (log scale)",
        ylabel="accuracy (%)",
    )
    ax.legend(loc="lower right")
    words = ", ".join(f"{value:.2f} % with {n:,}" for n, value in means.items())
    return described(ax, f"Mean accuracy over folds against training images: {words}.", table)
