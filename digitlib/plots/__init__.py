"""Every figure: arrays in, Axes out, with one sentence of alt text and the numbers behind the
picture.

Each function returns its Axes (an array of Axes where there are several). ``alt_text(axes)`` is
what the picture says in words, ``numbers(axes)`` the DataFrame it was drawn from. After
``notebook_style()`` a notebook's figures carry the alt text.
"""

from digitlib.plots.basics import (
    INK,
    PALETTE,
    WIDTH,
    alt_text,
    class_counts,
    class_means,
    described,
    examples_by_class,
    fold_accuracies,
    image_numbers,
    learning_rate,
    loss_curves,
    notebook_style,
    numbers,
    projection,
    scaling_effect,
)
from digitlib.plots.comparison import accuracy_against_time, learning_curve, protocols
from digitlib.plots.evaluation import (
    confused_images,
    confusion,
    fold_confusions,
    gallery,
    recall_by_class,
    reliability,
)
from digitlib.plots.handwriting import importance, preparation, verdict, verdict_figure

__all__ = [
    "INK",
    "PALETTE",
    "WIDTH",
    "accuracy_against_time",
    "alt_text",
    "class_counts",
    "class_means",
    "confused_images",
    "confusion",
    "described",
    "examples_by_class",
    "fold_accuracies",
    "fold_confusions",
    "gallery",
    "image_numbers",
    "importance",
    "learning_curve",
    "learning_rate",
    "loss_curves",
    "notebook_style",
    "numbers",
    "preparation",
    "projection",
    "protocols",
    "recall_by_class",
    "reliability",
    "scaling_effect",
    "verdict",
    "verdict_figure",
]
