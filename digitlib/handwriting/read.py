"""Reading: a picture in, each digit in it and the reasons out."""

import json
import sys
from dataclasses import dataclass
from types import SimpleNamespace

import numpy as np
from PIL import Image, ImageDraw
from scipy import ndimage
from skimage.measure import euler_number
from sklearn.neighbors import NearestNeighbors

from digitlib import metrics, own, runs
from digitlib.data import load_again
from digitlib.handwriting.find import Digit, find_digits

PREFERRED = "handwriting"  # the recipe for digits of one's own, wherever no run is named
RED, ORANGE, BLUE = (200, 30, 30), (230, 120, 0), (20, 80, 200)
DOUBT = 0.01  # share of the run's own held-out digits that a limit may wrongly call doubtful
FOREIGN = 1.3  # times the limit of distance: pens and hands differ from those of the data
WIDE = 1.3  # times the height: a digit is hardly wider, two that touch are
NOT_SURE = "Not sure: {} is less than 99 % of held-out digits had; check the answer."
UNUSUAL = "Unusual shape: no training digit is much like it, or digits touch; check the answer."
DISTURBED = "Not sure what is ink: lines, shadow or edge disturb; use plain paper, crop closer."


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
        Rows of the data with the most similar images, and how far they are; empty without the data.
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
        names = "digit", "second_guess", "probability", "second_probability"
        values = [*self.classes[:2].tolist(), *self.probabilities[:2].round(4).tolist()]
        place = {"box": self.found.box, "pixels": self.found.pixels.tolist()}
        return {**dict(zip(names, values, strict=True)), "warnings": self.warnings, **place}


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
    limits : SimpleNamespace
        Where "looks like a digit" ends, so that 99 % of the run's held-out digits are within:
        ``probability``, the least of the most probable digit;
        ``distance``, the largest to the most similar other image (Euclidean, 64 pixels of 0..16),
        infinite without the data.
    digits : Bunch or None
        The run's data; None if it is no longer to be had.

    Raises
    ------
    RunError
        The folder is no complete run.
    """

    def __init__(self, run=None, run_code=False):
        found = runs.load(runs.newest_run(prefer=PREFERRED) if run is None else run, run_code)
        self.run, self.label = found.path, own.label(found.info)
        self.model = found.ensemble()
        self.digits = load_again(found.info["data"])
        sure = float(np.quantile(found.probabilities.max(axis=1), DOUBT))
        self.limits = SimpleNamespace(probability=sure, distance=np.inf)
        if self.digits is not None:
            rows = self.digits.data.astype(float)
            # A tree: by brute force, threads decide which of two equally similar ones comes first.
            self._similar = NearestNeighbors(algorithm="ball_tree").fit(rows)
            quick = NearestNeighbors(n_neighbors=1, algorithm="brute").fit(rows)
            nearest, _ = quick.kneighbors()  # of each row, but itself
            self.limits.distance = float(np.quantile(nearest, 1 - DOUBT))

    def read(self, image, single=False):
        """Every digit in a picture, row by row: as :func:`find_digits` finds them, a list of
        :class:`Reading`.
        """
        return self.classify(find_digits(image, single=single))

    def classify(self, found):
        """A :class:`Reading` of each :class:`Digit` in the list `found`."""
        X = np.stack([digit.pixels for digit in found])
        return list(map(self._reading, found, self.model.predict_proba(X)))

    def _reading(self, digit, probabilities):
        order = probabilities.argsort()[::-1]
        similar, distances = np.empty(0, int), np.empty(0)
        if self.digits is not None:
            distances, similar = (each[0] for each in self._similar.kneighbors([digit.pixels]))
        sure, words = probabilities[order[0]], []
        if sure < self.limits.probability:
            words.append(NOT_SURE.format(metrics.percent(sure, 1)))
        top, left, bottom, right = digit.box
        far = distances[:1].sum() / self.limits.distance
        # One piece less its holes: 8 has -1. Closing fills the grain of a pencil.
        scribble = euler_number(ndimage.binary_closing(digit.steps["box"]), connectivity=2) < -1
        if far > (1 if scribble else FOREIGN) or (right - left) > WIDE * (bottom - top):
            words.append(UNUSUAL)
        if digit.left_out.sum() > digit.steps["crop"].sum():  # a digit may be among it
            words.append(DISTURBED)
        guesses = self.model.classes_[order], probabilities[order]
        return Reading(digit, *guesses, similar, distances, words)

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
        squares = np.zeros((9 - side, 9 - side, 8, 8), bool)
        for row, column in np.ndindex(squares.shape[:2]):
            squares[row, column, row : row + side, column : column + side] = True
        squares = squares.reshape(-1, 64)
        covered = np.where(squares, 0, reading.found.pixels)
        first = self.model.classes_.tolist().index(reading.classes[0])
        drops = reading.probabilities[0] - self.model.predict_proba(covered)[:, first]
        return (drops @ squares / squares.sum(axis=0)).reshape(8, 8)


def describe(name, readings):
    """Lines of text for the readings of one picture."""
    answer = "".join(str(reading.classes[0]) for reading in readings)
    lines = [f"{name}: {answer} ({len(readings)} digits)"] * (len(readings) > 1)
    for place, reading in enumerate(readings, 1):
        where = f"  {place}." if lines else f"{name}:"
        lines.append(f"{where} {reading.guess(0)}, second guess {reading.guess(1)}")
        lines += [f"  {warning}" for warning in reading.warnings]
    if readings[0].found.left_out.any():
        lines.append("  some ink was left out: see --show")
    return lines


def show(readings):
    """The picture: each digit in its box with its reading, orange if warned of; left out: red."""
    found = readings[0].found
    image = Image.fromarray(np.uint8(255 * found.steps["grey"])).convert("RGB")
    image.paste(RED, mask=Image.fromarray(found.left_out))
    canvas = ImageDraw.Draw(image)
    for reading in readings:
        top, left, bottom, right = reading.found.box
        colour = ORANGE if reading.warnings else BLUE
        canvas.rectangle((left - 2, top - 2, right + 1, bottom + 1), outline=colour, width=2)
        canvas.text((left, max(0, top - 26)), str(reading.classes[0]), colour, font_size=24)
    return image


def predict(pictures, run=None, as_json=False, run_code=False, picture=None):
    """Read pictures and print the answer: the command ``digitlib predict``.

    Parameters
    ----------
    pictures : list of (str, list of Digit)
        The name of each to print, and what was found in it.
    run, run_code
        As for :class:`Reader`.
    as_json : bool, default=False
    picture : str, path-like or None
        Where to write the first picture with what was read, see :func:`show`.
    """
    reader = Reader(run, run_code)
    read = [(name, reader.classify(found)) for name, found in pictures]
    if picture is not None:
        show(read[0][1]).save(picture, format="PNG")
    if as_json:
        answers = [{"file": path, "digits": [r.as_dict() for r in each]} for path, each in read]
        print(json.dumps({"run": str(reader.run), "pictures": answers}))
        return
    chosen = "" if run else f"; no run was named: {PREFERRED} is preferred, then the newest"
    print(f"read by {reader.run} ({reader.label}){chosen}", file=sys.stderr)
    for path, each in read:
        print(*describe(path, each), sep="\n")
