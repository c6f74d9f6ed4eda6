"""Every figure: arrays in, Axes out, with one sentence of alt text and the numbers behind it.

Each function returns its Axes (an array of Axes where there are several), or HTML.
``alt_text(shown)`` is what is seen in words, ``numbers(shown)`` the DataFrame it was drawn from.
After ``notebook_style()`` a notebook shows figures with captions; ``table`` shows a DataFrame.
"""

from digitlib.plots.comparison import *
from digitlib.plots.data import *
from digitlib.plots.evaluation import *
from digitlib.plots.handwriting import *
from digitlib.plots.shown import *
