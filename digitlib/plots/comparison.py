"""Figures that set classifiers, protocols and amounts of data side by side."""

import numpy as np
import seaborn as sns
from matplotlib.transforms import Bbox

from digitlib.plots.basics import colour, described, new_axes, whiskers

__all__ = ["accuracy_against_time", "learning_curve", "protocols"]

PAPER = {"fc": "white", "ec": "none", "alpha": 0.7, "pad": 0.5}  # no line shall cross a name
# Points to the right, up, and which end of the name is there: first those beside the point, then
# above and below.
BESIDE = ((6, 3, "left"), (6, -11, "left"), (-6, 3, "right"), (-6, -11, "right"))
NAME_PLACES = (*BESIDE, (0, 28, "center"), (0, -36, "center"))


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
    near = table["accuracy"] >= table["accuracy"].max() - span / 100
    shown = table[near].sort_values("accuracy", ascending=False)
    percent = 100 * shown[["accuracy", "low", "high"]]
    ax = new_axes(4.6)
    kinds = ((True, "o", "digitlib recipe"), (False, "s", "competitor"))
    for number, (ours, marker, label) in enumerate(kinds):
        part, seconds = percent[shown["ours"] == ours], shown.loc[shown["ours"] == ours, "seconds"]
        spread = whiskers(part["accuracy"], part["low"], part["high"])
        style = {"fmt": marker, "color": colour(number), "capsize": 3, "lw": 1, "ms": 7}
        ax.errorbar(seconds, part["accuracy"], yerr=spread, label=label, **style)
    ax.set(xscale="log", xlabel="seconds to train all folds (log scale)", ylabel="accuracy (%)")
    ax.set_xlim(ax.get_xlim()[0], ax.get_xlim()[1] * 4)  # room for the rightmost names
    place_names(ax, shown.index, shown["seconds"], *percent.to_numpy().T)
    words = "; ".join(
        f"{name} {100 * row['accuracy']:.2f} % in {row['seconds']:.2g} s"
        for name, row in shown.iterrows()
    )
    left_out = table.loc[~near, "accuracy"]
    if len(left_out):
        below = ", ".join(f"{name} ({100 * share:.1f} %)" for name, share in left_out.items())
        ax.set_title(f"below the picture: {below}", fontsize=9, loc="left")
        words += f"; below the picture {below}"
    ax.legend(loc="lower right")
    return described(ax, f"Accuracy against training time: {words}.", table)


def place_names(ax, names, x, y, low, high):
    """Write each name beside its point, where it covers nothing; at the right if it always would.

    It may cover no other point, no whisker and no name.

    Parameters
    ----------
    ax : Axes
        Scales and limits are final.
    names : sequence of str
    x, y, low, high : sequence of float
        Points and the ends of their whiskers, in data coordinates.
    """
    ax.figure.draw_without_rendering()  # settles the layout, and with it what lies where
    bottoms, tops = (ax.transData.transform(np.column_stack([x, end])) for end in (low, high))
    reach = 6.5 * ax.figure.dpi / 72  # half a marker's width and a little, in pixels
    points = [Bbox(ends) for ends in zip(bottoms - reach, tops + reach, strict=True)]
    # A name may touch its own marker, not cross its whisker.
    lines = [Bbox(ends) for ends in zip(bottoms - 1, tops + 1, strict=True)]
    written = []
    for i, (name, *point) in enumerate(zip(names, x, y, strict=True)):
        taken = [*points[:i], *points[i + 1 :], lines[i], *written]
        for place in NAME_PLACES:
            text = _write_name(ax, name, point, *place)
            box = text.get_window_extent()
            if _inside(box, ax.bbox) and not any(box.overlaps(other) for other in taken):
                break
            text.remove()
        else:
            box = _write_name(ax, name, point, *NAME_PLACES[0]).get_window_extent()
        written.append(box)


def _write_name(ax, name, point, right, up, side):
    place = {"xytext": (right, up), "textcoords": "offset points", "ha": side}
    return ax.annotate(name, point, fontsize=9, bbox=PAPER, **place)


def _inside(box, outer):
    return outer.x0 < box.x0 and box.x1 < outer.x1 and outer.y0 < box.y0 and box.y1 < outer.y1


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
    ax, lines = new_axes(1.4 + 0.34 * len(shown)), np.arange(len(shown))
    ax.hlines(lines, shown.min(axis=1), shown.max(axis=1), color="lightgrey", lw=3)
    front = {"s": 50, "zorder": 3}
    mixed, unseen = "folds: writers mixed", "writers never seen"
    ax.scatter(shown["folds"], lines, color=colour(0), label=mixed, **front)
    ax.scatter(shown["writers"], lines, color=colour(1), marker="s", label=unseen, **front)
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
    ax = new_axes(3.6)
    what = {"x": "images", "y": "accuracy", "ax": ax}
    label = "mean and standard deviation of the folds"
    sns.lineplot(shown, errorbar=("sd", 1), marker="o", label=label, **what)
    dots = {"color": "grey", "s": 18, "linewidth": 0, "zorder": 3}
    sns.scatterplot(shown, label="a fold", **dots, **what)
    ax.set_xscale("log", base=2)
    ax.minorticks_off()
    ax.set(xticks=means.index, xticklabels=[f"{n:,}" for n in means.index])
    ax.set(xlabel="training images (log scale)", ylabel="accuracy (%)")
    ax.legend(loc="lower right")
    words = ", ".join(f"{value:.2f} % with {n:,}" for n, value in means.items())
    return described(ax, f"Mean accuracy over folds against training images: {words}.", table)
