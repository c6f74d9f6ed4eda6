"""Every figure: arrays in, Axes out, with a sentence that describes it and its numbers.

Each function returns its Axes (an array of Axes where there are several). ``alt_text(axes)`` is
what the picture says in words, ``numbers(axes)`` the DataFrame it was drawn from. After
``notebook_style()`` a notebook's figures carry the alt text.
"""
# ruff: noqa: F403 (each module says in its __all__ what is meant for readers)

from digitlib.plots.basics import *
from digitlib.plots.comparison import *
from digitlib.plots.evaluation import *
from digitlib.plots.handwriting import *
