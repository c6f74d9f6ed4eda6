"""Every figure: arrays in, Axes out, with one sentence of alt text and the numbers behind it.

Each function returns its Axes (an array of Axes where there are several). ``alt_text(axes)`` is
what the picture says in words, ``numbers(axes)`` the DataFrame it was drawn from. After
``notebook_style()`` a notebook's figures carry the alt text.
"""

from digitlib.plots.basics import *
from digitlib.plots.comparison import *
from digitlib.plots.evaluation import *
from digitlib.plots.handwriting import *
from digitlib.plots.listed import *
