"""Figures of one picture: how it was prepared, what the networks make of it, and why."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure

from digitlib.plots.basics import INK, PALETTE, WIDTH, described

STEPS = {
    "grey": "picture",
    "paper": "its paper",
    "ink": "ink",
    "crop": "one digit",
    "box": "stretched",
    "weight": "even weight",
    "straight": "straightened",
    "counts": "counted",
}


def preparation(digit):
    """Each step from the picture to the 8x8 counts, side by side; `digit` is a
    :class:`digitlib.handwriting.Digit`.
    """
    figure, axes = plt.subplots(1, len(STEPS), figsize=(1.25 * WIDTH, 1.7), layout="constrained")
    for ax, (name, title) in zip(axes, STEPS.items(), strict=True):
        photo = name in ("grey", "paper")
        _bare(ax, digit.steps[name], "gray" if photo else INK, 16 if name == "counts" else 1, title)
    ink = [int(digit.steps[name].sum()) for name in ("box", "weight", "straight", "counts")]
    alt = (
        f"From picture to 8 by 8 counts in {len(STEPS)} steps; {ink[0]} of 1,024 pixels are ink"
        f" when stretched, {ink[1]} at even weight."
    )
    return described(
        axes, alt, pd.DataFrame({"step": ["box", "weight", "straight", "counts"], "ink": ink})
    )


def _bare(ax, image, cmap, most, title):
    ax.imshow(image, cmap=cmap, vmin=0, vmax=most)
    ax.set_title(title, fontsize=9)
    ax.set(xticks=[], yticks=[])
    ax.grid(False)


def verdict(reading, axes=None):
    """What the network sees, beside the probability of every digit; `reading` is a
    :class:`digitlib.reading.Reading`.

    `axes` : two Axes to draw into, in place of a new figure.
    """
    if axes is None:
        axes = plt.subplots(
            1, 2, figsize=(WIDTH, 2.6), layout="constrained", width_ratios=[1, 2.2]
        )[1]
    _bare(axes[0], reading.found.pixels.reshape(8, 8), INK, 16, "what the network sees")
    table = pd.DataFrame(
        {"digit": reading.classes, "probability": reading.probabilities}
    ).sort_values("digit", ignore_index=True)
    sns.barplot(table, x="digit", y="probability", color=sns.color_palette(PALETTE)[0], ax=axes[1])
    axes[1].set(ylim=(0, 1), title=f"read as {reading.classes[0]}")
    first, second = (
        f"{d} with {100 * p:.1f} %"
        for d, p in zip(reading.classes[:2], reading.probabilities[:2], strict=True)
    )
    return described(
        axes, f"The 8 by 8 image and the probability of each digit: {first}, then {second}.", table
    )


def verdict_figure(readings):
    """Figure of :func:`verdict` for the first of `readings`, made without pyplot so that a widget
    may draw it at any time.
    """
    figure = Figure(figsize=(4.2, 1.8), layout="constrained")
    verdict(readings[0], figure.subplots(1, 2, width_ratios=[1, 2.2]))
    return figure


def importance(reading, drops):
    """The 8x8 image beside `drops` (8, 8): how much of the first guess's probability is lost where
    ink is covered.
    """
    _, axes = plt.subplots(1, 2, figsize=(0.7 * WIDTH, 2.6), layout="constrained")
    _bare(axes[0], reading.found.pixels.reshape(8, 8), INK, 16, "what the network sees")
    most = max(np.abs(drops).max(), 1e-9)
    shown = axes[1].imshow(drops, cmap="RdBu_r", vmin=-most, vmax=most)
    axes[1].set(xticks=[], yticks=[], title=f"what speaks for {reading.classes[0]}")
    axes[1].grid(False)
    axes[1].figure.colorbar(shown, ax=axes[1], label="probability lost when covered")
    row, column = np.unravel_index(drops.argmax(), drops.shape)
    place = f"row {row + 1}, column {column + 1}"
    alt = (
        f"Where covering ink changes the verdict: most at {place}, where {reading.classes[0]} loses"
        f" {drops.max():.2f} of its probability."
    )
    return described(axes, alt, pd.DataFrame(drops))
