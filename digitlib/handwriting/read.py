"""Reading: a picture in, each digit in it and the reasons out."""

import json
import sys
from collections import Counter
from dataclasses import dataclass
from itertools import product

import numpy as np
from PIL import Image, ImageDraw
from scipy import ndimage
from skimage.measure import regionprops
from sklearn.neighbors import NearestNeighbors

from digitlib import metrics, own, runs
from digitlib.data import load_again
from digitlib.handwriting.find import Digit, find_digits, label

PREFERRED = "handwriting"  # the recipe for digits of one's own, wherever no run is named
RED, ORANGE, BLUE = (200, 30, 30), (230, 120, 0), (20, 80, 200)
DOUBT = 0.01  # share of the run's own held-out digits that a limit may wrongly call doubtful
UNUSUAL = "Unusual shape: no training digit looks much like this; check the answer."
MOST_PROBES = 1500  # held-out rows on which distances are calibrated: enough for a 99th percentile


@dataclass
class Limits:
    """Where "looks like a digit" ends.

    99 % of the digits that the run held out are within each limit.

    Attributes
    ----------
    probability : float
        Least probability of the most probable digit, from ``predictions.csv``.
    unusual : float
        The same of 98.5 %: above it an unusual shape is no reason to doubt, unless it has more
        holes than an 8.
    distance : float
        Largest distance (Euclidean, 64 pixels of 0..16) to the most similar image of the data,
        where held-out images are compared with the images of other folds. Infinite if the run's
        data is no longer there.
    ink : float
        Largest mean pixel, 0..16.
    """

    probability: float
    unusual: float
    distance: float
    ink: float


@dataclass
class Reading:
    """One digit as the run reads it.

    Attributes
    ----------
    found : Digit
        Where it was found and how it was prepared.
    classes : ndarray of shape (n_classes,)
        From the most probable to the least.
    probabilities : ndarray of shape (n_classes,)
        In the same order.
    similar, distances : ndarray of shape (5,)
        Rows of the data with the most similar images, and how far they are.
    warnings : list of str
        Why it may be no digit; empty if nothing speaks against it.
    """

    found: Digit
    classes: np.ndarray
    probabilities: np.ndarray
    similar: np.ndarray
    distances: np.ndarray
    warnings: list

    def guess(self, place):
        """The guess at this place, from 0, and its probability in words: ``3 (98.2 %)``."""
        return f"{self.classes[place]} ({metrics.percent(self.probabilities[place], 1)})"

    def as_dict(self):
        """Digit, probability, second guess, warnings, place and pixels, fit for JSON."""
        first, second = self.classes[:2].tolist()
        return {
            "digit": first,
            "probability": round(float(self.probabilities[0]), 4),
            "second_guess": second,
            "second_probability": round(float(self.probabilities[1]), 4),
            "warnings": self.warnings,
            "box": self.found.box,
            "pixels": self.found.pixels.tolist(),
        }


class Reader:
    """Reads pictures with the networks of a run.

    Parameters
    ----------
    run : str, path-like or None
        Such as ``reports/coursework``; None: the newest under ``reports`` of the recipe
        ``handwriting``, and without one the newest.
    run_code : bool, default=False
        Whether the run's own ``model.py`` may be executed; needed for models of the user's own.

    Attributes
    ----------
    run : Path
    label : str
        What was run, in words.
    model : FoldEnsemble
    limits : Limits
    source : str
        Of the run's data, as in its ``run.json``.
    digits : Bunch or None
        That data; None if it is no longer to be had.

    Raises
    ------
    RunError
        The folder is no complete run.
    """

    def __init__(self, run=None, run_code=False):
        run = runs.newest_run(prefer=PREFERRED) if run is None else run
        found = runs.load(run, run_code=run_code)
        self.run, self.label = found.path, own.label(found.info)
        self.model = found.ensemble()
        self.source = found.info["data"]["source"]
        self.digits = load_again(found.info["data"])
        self.limits = _limits(found, self.digits)
        # A tree: by brute force, threads decide which of two equally similar images comes first.
        self._similar = None
        if self.digits is not None:
            self._similar = _neighbours(self.digits.data, 5, "ball_tree")

    def read(self, image, single=False):
        """Every digit in a picture, from left to right.

        Parameters
        ----------
        image
            As for :func:`digitlib.prepare_image`.
        single : bool, default=False
            All ink belongs to one digit.

        Returns
        -------
        list of Reading
        """
        return self.classify(find_digits(image, single=single))

    def classify(self, found):
        """A :class:`Reading` of each :class:`Digit` in the list `found`."""
        X = np.stack([digit.pixels for digit in found])
        return [
            self._reading(digit, row)
            for digit, row in zip(found, self.model.predict_proba(X), strict=True)
        ]

    def _reading(self, digit, probabilities):
        order = probabilities.argsort()[::-1]
        similar, distances = np.empty(0, int), np.zeros(1)
        if self._similar is not None:
            distances, similar = (each[0] for each in self._similar.kneighbors([digit.pixels]))
        limits, sure, warnings = self.limits, probabilities[order[0]], []
        if sure < limits.probability:
            warnings.append(
                f"Not sure: {metrics.percent(sure, 1)} is less than 99 % of held-out digits had;"
                " check the answer."
            )
        # Pens differ from those of the data: an odd shape that is read with ease is no warning.
        odd = distances[0] > limits.distance or digit.pixels.mean() > limits.ink
        if odd and (sure < limits.unusual or _holes(digit.steps["box"]) > 2):
            warnings.append(UNUSUAL)
        top, left, bottom, right = digit.box
        # A digit may be wide; one that is not read with ease may be two.
        if right - left > (1.0 if warnings else 1.6) * (bottom - top):
            warnings.append("Wide shape: digits may be touching; write them apart.")
        guesses = self.model.classes_[order], probabilities[order]
        return Reading(digit, *guesses, similar, distances, warnings)

    def importance(self, reading, side=2):
        """How much probability the first guess loses where a square is covered with paper.

        Parameters
        ----------
        reading : Reading
        side : int, default=2
            Pixels of the square's side.

        Returns
        -------
        ndarray of shape (8, 8), float
            Mean over all squares that cover a pixel; negative where covering helps.

        Notes
        -----
        M. D. Zeiler and R. Fergus (2014). Visualizing and understanding convolutional networks.
        ECCV, section 2.2 (occlusion).
        """
        first = self.model.classes_.tolist().index(reading.classes[0])
        image = reading.found.pixels.reshape(8, 8)
        places = list(product(range(9 - side), repeat=2))
        covered = np.repeat(image[None], len(places), axis=0)
        squares = np.zeros(covered.shape, bool)
        for square, (row, column) in zip(squares, places, strict=True):
            square[row : row + side, column : column + side] = True
        covered[squares] = 0
        with_ink, *without = self.model.predict_proba(np.stack([image, *covered]).reshape(-1, 64))
        drops = with_ink[first] - np.array(without)[:, first]
        return (drops[:, None, None] * squares).sum(axis=0) / squares.sum(axis=0)


def _neighbours(rows, count, algorithm):
    return NearestNeighbors(n_neighbors=min(count, len(rows)), algorithm=algorithm).fit(rows)


def _holes(box):
    """How many holes ink has; those of up to 5 pixels are the grain of a pencil."""
    holes = ndimage.binary_fill_holes(box) & ~box
    return sum(hole.area > 5 for hole in regionprops(label(holes)))


def _limits(run, digits):
    distance = ink = np.inf
    if digits is not None and len(digits.data) == len(run.folds):
        rows, nearest = digits.data.astype(float), []
        probes = np.arange(len(rows)) % -(-len(rows) // MOST_PROBES) == 0
        for fold in np.unique(run.folds):
            others = _neighbours(rows[run.folds != fold], 1, "brute")
            nearest.append(others.kneighbors(rows[probes & (run.folds == fold)])[0])
        distance = np.quantile(np.concatenate(nearest), 1 - DOUBT)
        ink = np.quantile(rows.mean(axis=1), 1 - DOUBT)
    sure, unusual = np.quantile(run.probabilities.max(axis=1), [DOUBT, 1.5 * DOUBT])
    return Limits(float(sure), float(unusual), float(distance), float(ink))


def describe(name, readings):
    """Lines of text for the readings of one picture."""
    several, lines = len(readings) > 1, []
    if several:
        answer = "".join(str(reading.classes[0]) for reading in readings)
        lines.append(f"{name}: {answer} ({len(readings)} digits)")
    for place, reading in enumerate(readings, 1):
        where = f"  {place}." if several else f"{name}:"
        lines.append(f"{where} {reading.guess(0)}, second guess {reading.guess(1)}")
        lines += [f"  {warning}" for warning in reading.warnings]
    return lines + [f"  {words}" for words in left_out(readings[0].found)]


def left_out(found):
    """Lines of text for the ink of a picture that was given to no digit."""
    size, places = found.left_out.shape, Counter()
    for piece in regionprops(label(found.left_out)):
        (top, left), (down, right) = piece.bbox[:2], np.subtract(size, piece.bbox[2:])
        edges = {"left": left, "right": right, "top": top, "bottom": down}
        nearest = min(edges, key=edges.get)
        places[f" at the {nearest} edge" if edges[nearest] <= 2 else ""] += 1
    return [
        f"{n} piece{'s'[: n > 1]} of ink{place} {'were' if n > 1 else 'was'} left out"
        for place, n in sorted(places.items())
    ]


def show(readings):
    """The picture: each digit in its box with its reading, orange if warned of; left out: red."""
    found = readings[0].found
    picture = np.repeat(np.uint8(255 * found.steps["grey"])[..., None], 3, axis=2)
    picture[found.left_out] = RED
    image = Image.fromarray(picture)
    canvas = ImageDraw.Draw(image)
    for reading in readings:
        top, left, bottom, right = reading.found.box
        colour = ORANGE if reading.warnings else BLUE
        canvas.rectangle((left - 2, top - 2, right + 1, bottom + 1), outline=colour, width=2)
        canvas.text((left, max(0, top - 26)), str(reading.classes[0]), colour, font_size=24)
    return image


# ---- digitlib predict ----------------------------------------------------------------------------


def predict(pictures, run=None, as_json=False, run_code=False, picture=None):
    """Read pictures and print the answer.

    Parameters
    ----------
    pictures : list of (str, list of Digit)
        The name of each to print, and what was found in it.
    run : str, path-like or None
        As for :class:`Reader`.
    as_json : bool, default=False
    run_code : bool, default=False
        As for :class:`Reader`.
    picture : str, path-like or None
        Where to write the first picture with what was read, see :func:`show`.

    Raises
    ------
    RunError
        There is no such run.
    """
    reader = Reader(run, run_code)
    read = [(name, reader.classify(found)) for name, found in pictures]
    if picture is not None:
        show(read[0][1]).save(picture, format="PNG")
    if as_json:
        answers = [{"file": path, "digits": [r.as_dict() for r in each]} for path, each in read]
        print(json.dumps({"run": str(reader.run), "pictures": answers}))
        return
    why = (
        "" if run is not None else f"; no run was named: {PREFERRED} is preferred, then the newest"
    )
    print(f"read by {reader.run} ({reader.label}){why}", file=sys.stderr)
    for path, each in read:
        print("\n".join(describe(path, each)))
