"""Digits drawn from scratch, in forms that people use and the 43 writers of the data hardly did: a
1 with a foot, a 4 closed at the top.

Each form is a list of strokes; a stroke is a smooth curve through its points or, marked "-",
straight from point to point. Points are (right, down) in a box of 1 by 1. Drawing moves every point
a little, turns, slants and stretches the whole, and takes a thin or a thick pen; then the picture
goes the way of all ink (:mod:`digitlib.normalisation`).
"""

import numpy as np
from PIL import Image, ImageDraw
from scipy.interpolate import CubicSpline

from digitlib import normalisation
from digitlib.rewriting import SLANT, STRETCH, TURN

SIDE = 64  # pixels of the picture in which a digit is drawn
PEN = (2.0, 10.0)  # pixels
TREMBLE = 0.05  # standard deviation of a point's place, of the box

FORMS = {
    0: [
        ["~ .5 0 .1 .2 0 .5 .1 .8 .5 1 .9 .8 1 .5 .9 .2 .5 0"],
        ["~ .6 0 .2 .15 0 .5 .1 .85 .4 1 .8 .85 1 .5 .9 .15 .45 .02"],
        ["~ .5 0 .1 .2 0 .5 .1 .8 .5 1 .9 .8 1 .5 .9 .2 .5 0", "- .95 .05 .05 .95"],
    ],
    1: [
        ["- .5 0 .5 1"],
        ["- .2 .25 .5 0 .5 1"],
        ["- .1 .4 .6 0 .6 1"],
        ["- .25 .08 .5 0 .5 1"],
        ["- .2 .25 .5 0 .5 1", "- .15 1 .85 1"],
        ["- .3 .12 .5 0 .5 1", "- .25 1 .75 1"],
    ],
    2: [
        ["~ 0 .25 .2 .03 .6 0 .95 .25 .7 .6 0 1", "- 0 1 1 1"],
        ["~ 0 .2 .3 0 .8 .05 .9 .35 .5 .75 .1 .98 .1 .8 .4 .85 1 1"],
        ["~ .05 .25 .4 0 .9 .25 .6 .6 .05 .95", "~ .05 .95 .4 .9 .7 1 1 .93"],
    ],
    3: [
        ["~ 0 .12 .4 0 .9 .2 .7 .42 .35 .48", "~ .35 .48 .8 .52 1 .75 .6 1 0 .9"],
        ["- 0 0 .95 0 .45 .4", "~ .45 .4 .9 .5 1 .78 .6 1 0 .92"],
    ],
    4: [
        ["- .3 0 0 .6 1 .6", "- .75 .25 .75 1"],
        ["- .75 1 .75 0 0 .7 1 .7"],
        ["- .65 1 .65 0 0 .65 .95 .65"],
        ["- .1 0 .05 .5 .9 .5", "- .85 0 .85 1"],
    ],
    5: [
        ["- 1 0 .15 0 .1 .45", "~ .1 .45 .5 .36 .95 .6 .8 .92 .4 1 0 .9"],
        ["~ .95 0 .25 .03 .15 .42 .6 .42 .95 .65 .7 .97 0 .93"],
    ],
    6: [
        ["~ .8 0 .3 .25 .02 .65 .2 .95 .6 1 .95 .75 .7 .52 .3 .55 .05 .75"],
        ["~ .5 0 .15 .35 0 .7 .3 1 .8 .95 .95 .7 .6 .5 .15 .65"],
    ],
    7: [
        ["- 0 0 1 0 .35 1"],
        ["- 0 0 1 0 .35 1", "- .25 .5 .9 .5"],
        ["- 0 .18 0 0 1 0 .4 1"],
        ["~ 0 .05 .5 .06 1 0", "~ 1 0 .6 .45 .45 1"],
    ],
    8: [
        ["~ .9 .15 .5 0 .1 .2 .5 .48 .95 .75 .5 1 .05 .75 .5 .48 .9 .2 .85 .1"],
        ["~ .5 0 .1 .22 .5 .46 .9 .22 .5 0", "~ .5 .46 0 .73 .5 1 1 .73 .5 .46"],
    ],
    9: [
        ["~ .9 .2 .5 0 .05 .25 .4 .5 .88 .3", "- .9 .1 .85 1"],
        ["~ .95 .25 .5 0 .05 .25 .4 .52 .95 .25 .85 .7 .35 1"],
        ["~ .9 .25 .5 0 .1 .28 .5 .5 .9 .25", "~ .9 .25 .9 .8 .5 1 .1 .9"],
    ],
}


def draw(count, seed):
    """`count` pictures of each form of each digit.

    Parameters
    ----------
    count : int
    seed : int

    Returns
    -------
    X : ndarray of shape (n, 64), uint8, 0..16
    y : ndarray of shape (n,), int64, 0..9
    """
    random = np.random.default_rng(seed)
    jobs = [
        (digit, strokes)
        for digit, forms in FORMS.items()
        for strokes in forms
        for _ in range(count)
    ]
    ink = np.stack([_picture(strokes, random) for _, strokes in jobs])
    return normalisation.steps(ink)["counts"].reshape(-1, 64), np.array(
        [digit for digit, _ in jobs]
    )


def _picture(strokes, random):
    """Ink of one digit: bool (SIDE, SIDE)."""
    turn, slant = np.deg2rad(random.uniform(-TURN, TURN)), random.uniform(-SLANT, SLANT)
    width = 0.6 * np.exp(random.uniform(-STRETCH, STRETCH))
    change = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]]) @ np.array(
        [[width, -slant], [0, 1]]
    )
    picture = Image.new("1", (SIDE, SIDE))
    canvas, pen = ImageDraw.Draw(picture), random.uniform(*PEN)
    for stroke in strokes:
        points = (_points(stroke, random) - 0.5) @ change.T * 0.62 * SIDE + SIDE / 2
        canvas.line([tuple(point) for point in points], 1, round(pen), joint="curve")
        for x, y in points[[0, -1]]:
            canvas.ellipse((x - pen / 2, y - pen / 2, x + pen / 2, y + pen / 2), 1)
    return np.asarray(picture)


def _points(stroke, random):
    kind, *numbers = stroke.split()
    points = np.array(numbers, dtype=float).reshape(-1, 2)
    points += random.normal(0, TREMBLE, points.shape)
    if kind == "-":
        return points
    way = np.r_[0, np.hypot(*np.diff(points, axis=0).T).cumsum()]
    return CubicSpline(way, points)(np.linspace(0, way[-1], 40))
