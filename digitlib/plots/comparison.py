"""Figures that set classifiers, protocols and amounts of data side by side."""

import numpy as np
import seaborn as sns

from digitlib.plots.shown import PALETTE, canvas, described

__all__ = ["accuracy_against_time", "learning_curve", "protocols"]


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
    shown = table[table["accuracy"] >= table["accuracy"].max() - span / 100]
    shown, ax = shown.sort_values("accuracy", ascending=False), canvas(4.6)
    percent = 100 * shown[["accuracy", "low", "high"]]
    colours = sns.color_palette(PALETTE)
    for ours, colour, marker, label in (
        (True, colours[0], "o", "digitlib recipe"),
        (False, colours[1], "s", "competitor"),
    ):
        part, look = (
            percent[shown["ours"] == ours],
            {"fmt": marker, "color": colour, "label": label},
        )
        spread = [part["accuracy"] - part["low"], part["high"] - part["accuracy"]]
        seconds = shown.loc[part.index, "seconds"]
        ax.errorbar(seconds, part["accuracy"], yerr=spread, capsize=3, lw=1, ms=7, **look)
    ax.set(xscale="log", xlabel="seconds to train all folds (log scale)", ylabel="accuracy (%)")
    ax.set_xlim(ax.get_xlim()[0], ax.get_xlim()[1] * 4)  # room for the rightmost names
    for number, (name, row) in enumerate(shown.iterrows()):
        # Above and below in turn: those of like accuracy would cover each other.
        beside = {"xytext": (7, -11 if number % 2 else 4), "textcoords": "offset points"}
        ax.annotate(name, (row["seconds"], 100 * row["accuracy"]), fontsize=9, **beside)
    left_out = table.index.difference(shown.index, sort=False)
    words = "; ".join(
        f"{name} {100 * row['accuracy']:.2f} % in {row['seconds']:.2g} s"
        for name, row in shown.iterrows()
    )
    if len(left_out):
        far = 100 * table.loc[left_out, "accuracy"]
        below = ", ".join(f"{name} ({value:.1f} %)" for name, value in far.items())
        ax.set_title(f"below the picture: {below}", fontsize=9, loc="left")
        words += f"; below the picture {below}"
    ax.legend(loc="lower right")
    best, quick = shown.index[0], shown["seconds"].idxmin()
    caption = f"{best} is the most accurate, with {percent.loc[best, 'accuracy']:.2f} %; {quick} is"
    caption += f" the quickest, in {shown.loc[quick, 'seconds']:.2g} s."
    return described(ax, f"Accuracy against training time: {words}.", table, caption)


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
    ax = canvas(1.6 + 0.34 * len(shown))
    lines, colours = np.arange(len(shown)), sns.color_palette(PALETTE)
    ax.hlines(lines, shown.min(axis=1), shown.max(axis=1), color="lightgrey", lw=3)
    for column, colour, marker, label in (
        ("folds", colours[0], "o", "folds: writers mixed"),
        ("writers", colours[1], "s", "writers never seen"),
    ):
        look = {"color": colour, "marker": marker, "label": label}
        ax.scatter(shown[column], lines, s=50, zorder=3, **look)
    ax.set_yticks(lines, shown.index)
    ax.set(xlabel="accuracy (%)", ylabel="classifier")
    ax.legend(loc="lower left", bbox_to_anchor=(0, 1), frameon=False)
    words = "; ".join(
        f"{name} {row['folds']:.2f} and {row['writers']:.2f} %"
        for name, row in shown[::-1].iterrows()
    )
    lost = shown["folds"] - shown["writers"]
    caption = f"Writers never seen cost {lost.min():.2f} points ({lost.idxmin()}) to"
    caption += f" {lost.max():.2f} points ({lost.idxmax()})."
    alt = f"Accuracy with writers mixed, and on writers never seen: {words}."
    return described(ax, alt, table, caption)


def learning_curve(table):
    """Accuracy against the number of training images: each fold, and their mean.

    Parameters
    ----------
    table : DataFrame
        Columns ``images``, ``fold``, ``accuracy`` (0..1).
    """
    shown = table.assign(accuracy=100 * table["accuracy"])
    means = shown.groupby("images")["accuracy"].mean()
    ax = canvas(3.6)
    axes = {"x": "images", "y": "accuracy", "ax": ax}
    label = "mean and standard deviation of the folds"
    sns.lineplot(shown, errorbar=("sd", 1), marker="o", label=label, **axes)
    dots = {"color": "grey", "s": 18, "linewidth": 0, "zorder": 3}
    sns.scatterplot(shown, label="a fold", **dots, **axes)
    ax.set_xscale("log", base=2)
    ax.minorticks_off()
    ax.set_xticks(means.index, [f"{n:,}" for n in means.index])
    ax.set(xlabel="training images (log scale)", ylabel="accuracy (%)")
    ax.legend(loc="lower right")
    words = ", ".join(f"{value:.2f} % with {n:,}" for n, value in means.items())
    return described(ax, f"Mean accuracy with more and more training images: {words}.", table)
