"""Figures of one picture: how it was prepared, what the networks make of it, and why."""

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure

from digitlib.plots.basics import INK, WIDTH, colour, described, new_axes, show

__all__ = ["importance", "preparation", "verdict", "verdict_figure"]

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
SHARES = [1, 2.2]  # of the width: the image, and the bars beside it


def preparation(digit):
    """Each step from the picture to the 8x8 counts, side by side.

    `digit` is a :class:`digitlib.handwriting.Digit`.
    """
    axes = new_axes(1.7, columns=len(STEPS), width=1.25 * WIDTH)
    for ax, (name, title) in zip(axes, STEPS.items(), strict=True):
        cmap = "gray" if name in ("grey", "paper") else INK
        show(ax, digit.steps[name], title, cmap, high=16 if name == "counts" else 1, fontsize=9)
    steps = ["box", "weight", "straight", "counts"]
    ink = [int(digit.steps[name].sum()) for name in steps]
    amounts = f"{ink[0]} of 1,024 pixels are ink when stretched, {ink[1]} at even weight"
    alt = f"From picture to 8 by 8 counts in {len(STEPS)} steps; {amounts}."
    return described(axes, alt, pd.DataFrame({"step": steps, "ink": ink}))


def verdict(reading, axes=None):
    """What the network sees, beside the probability of every digit.

    Parameters
    ----------
    reading : digitlib.reading.Reading
    axes : two Axes or None
        To draw into, in place of a new figure.
    """
    if axes is None:
        axes = new_axes(2.6, columns=2, width_ratios=SHARES)
    _show_seen(axes[0], reading)
    ranked = {"digit": reading.classes, "probability": reading.probabilities}
    table = pd.DataFrame(ranked).sort_values("digit", ignore_index=True)
    sns.barplot(table, x="digit", y="probability", color=colour(0), ax=axes[1])
    axes[1].set(ylim=(0, 1), title=f"read as {reading.classes[0]}")
    pairs = zip(reading.classes[:2], reading.probabilities[:2], strict=True)
    guesses = ", then ".join(f"{digit} with {100 * share:.1f} %" for digit, share in pairs)
    alt = f"The 8 by 8 image and the probability of each digit: {guesses}."
    return described(axes, alt, table)


def verdict_figure(readings):
    """Figure of :func:`verdict` for the first of `readings`.

    It is made without pyplot, so that a widget may draw it at any time.
    """
    figure = Figure(figsize=(4.2, 1.8), layout="constrained")
    verdict(readings[0], figure.subplots(1, 2, width_ratios=SHARES))
    return figure


def importance(reading, drops):
    """The 8x8 image beside what covering its ink costs the first guess.

    `drops` (8, 8) is how much of the first guess's probability is lost where ink is covered.
    """
    axes, first = new_axes(2.6, columns=2, width=0.7 * WIDTH), reading.classes[0]
    _show_seen(axes[0], reading)
    most = max(np.abs(drops).max(), 1e-9)
    title = f"what speaks for {first}"
    shown = show(axes[1], drops, title, "RdBu_r", low=-most, high=most)
    axes[1].figure.colorbar(shown, ax=axes[1], label="probability lost when covered")
    row, column = np.unravel_index(drops.argmax(), drops.shape)
    lost = f"where {first} loses {drops.max():.2f} of its probability"
    place = f"most at row {row + 1}, column {column + 1}"
    alt = f"Where covering ink changes the verdict: {place}, {lost}."
    return described(axes, alt, pd.DataFrame(drops))


def _show_seen(ax, reading):
    pixels = reading.found.pixels.reshape(8, 8)
    show(ax, pixels, "what the network sees", high=16, fontsize=9)
