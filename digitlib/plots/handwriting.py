"""Figures of one picture: how it was prepared, what the networks make of it, and why."""

import numpy as np
import pandas as pd
import seaborn as sns

from digitlib.plots.shown import INK, PALETTE, bare, canvas, described

__all__ = ["importance", "preparation", "verdict"]

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
    """Each step from picture to 8x8 counts; `digit` is a :class:`digitlib.handwriting.Digit`."""
    axes = canvas(3.1, 2, len(STEPS) // 2)
    for ax, (name, title) in zip(axes.flat, STEPS.items(), strict=True):
        photo = name in ("grey", "paper")
        most = 16 if name == "counts" else 1
        bare(ax, title, fontsize=9).imshow(
            digit.steps[name], cmap="gray" if photo else INK, vmin=0, vmax=most
        )
    ink = [int(digit.steps[name].sum()) for name in ("box", "weight", "straight", "counts")]
    alt = (
        f"From the picture to 8 by 8 counts in {len(STEPS)} steps. After stretching, {ink[0]} of"
        f" 1,024 pixels are ink; at an even weight, {ink[1]}."
    )
    steps = ["box", "weight", "straight", "counts"]
    return described(axes, alt, pd.DataFrame({"step": steps, "ink": ink}))


def _seen(ax, reading):
    image = reading.found.pixels.reshape(8, 8)
    bare(ax, "what the network sees", fontsize=9).imshow(image, cmap=INK, vmin=0, vmax=16)


def verdict(reading):
    """What the network sees, beside the probability of every digit.

    `reading` : a :class:`digitlib.handwriting.read.Reading`.
    """
    axes = canvas(2.6, columns=2, width_ratios=[1, 2.2])
    _seen(axes[0], reading)
    table = pd.DataFrame({"digit": reading.classes, "probability": reading.probabilities})
    table = table.sort_values("digit", ignore_index=True)
    sns.barplot(table, x="digit", y="probability", color=sns.color_palette(PALETTE)[0], ax=axes[1])
    axes[1].set(ylim=(0, 1), title=f"read as {reading.classes[0]}")
    first, second = (
        f"{d} with {100 * p:.1f} %"
        for d, p in zip(reading.classes[:2], reading.probabilities[:2], strict=True)
    )
    alt = f"What the network sees, and the probability of each digit: {first}, then {second}."
    return described(axes, alt, table)


def importance(reading, drops):
    """The 8x8 image beside `drops` (8, 8): probability of the first guess lost where covered."""
    axes = canvas(2.6, columns=2)
    _seen(axes[0], reading)
    most = max(np.abs(drops).max(), 1e-9)
    right = bare(axes[1], f"what speaks for {reading.classes[0]}")
    shown = right.imshow(drops, cmap="RdBu_r", vmin=-most, vmax=most)
    axes[1].figure.colorbar(shown, ax=axes[1], label="probability lost when covered")
    row, column = np.unravel_index(drops.argmax(), drops.shape)
    place = f"row {row + 1}, column {column + 1}"
    alt = (
        f"What happens when ink is covered: {reading.classes[0]} loses most at {place},"
        f" {drops.max():.2f} of its probability."
    )
    return described(axes, alt, pd.DataFrame(drops))
