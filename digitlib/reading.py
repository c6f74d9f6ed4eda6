"""Reading: a picture in, each digit in it and the reasons out; the command ``digitlib predict``."""

import gzip
import json
import sys
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from digitlib.data import load_digits
from digitlib.errors import DataError, DigitlibError, ImageError, ParameterError
from digitlib.handwriting import Digit, find_digits

DOUBT = 0.01  # share of the run's own held-out digits that a limit may wrongly call doubtful
MOST_PROBES = 1500  # held-out rows on which distances are calibrated: enough for a 99th percentile


@dataclass
class Limits:
    """Where "looks like a digit" ends, each limit passed by 99 % of the digits that the run held
    out.

    Attributes
    ----------
    probability : float
        Least probability of the most probable digit, from ``predictions.csv``.
    distance : float
        Largest distance (Euclidean, 64 pixels of 0..16) to the most similar image of the data,
        where held-out images are compared with the images of other folds. Infinite if the run's
        data is no longer there.
    ink : float
        Largest mean pixel, 0..16.
    """

    probability: float
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
    run : str or path-like
        Such as ``reports/coursework``.

    Attributes
    ----------
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

    def __init__(self, run):
        # Here, not at the top: a bad picture is told before torch is loaded, in half a second.
        from sklearn.neighbors import NearestNeighbors

        from digitlib import runs

        self.run = runs.load(run)
        self.model = runs.load_model(self.run)
        self.source = self.run.info["data"]["source"]
        self.digits = self._data()
        self._neighbours = NearestNeighbors(algorithm="brute")
        self.limits = self._calibrate()

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
        similar, distances = self._nearest(digit.pixels)
        limits, warnings = self.limits, []
        if probabilities[order[0]] < limits.probability:
            warnings.append(
                f"low confidence: {_percent(probabilities[order[0]])} is less than 99 % of held-out"
                " digits had"
            )
        if distances[0] > limits.distance:
            warnings.append(
                f"unlike the data: distance {distances[0]:.0f} to the most similar image, 99 % of"
                " held-out digits had less"
            )
        if digit.pixels.mean() > limits.ink:
            warnings.append(
                f"too many strokes: mean ink {digit.pixels.mean():.1f} of 16, 99 % of the digits"
                " have less"
            )
        return Reading(
            digit, self.model.classes_[order], probabilities[order], similar, distances, warnings
        )

    def _nearest(self, pixels, count=5):
        """Rows of the data with the most similar images, and how far they are."""
        if self.digits is None:
            return np.empty(0, int), np.zeros(1)
        distances, rows = self._neighbours.fit(self.digits.data).kneighbors([pixels], count)
        return rows[0], distances[0]

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
        import torch
        from captum.attr import Occlusion

        first = self.model.classes_.tolist().index(reading.classes[0])

        def probability(images):
            return torch.from_numpy(
                self.model.predict_proba(images.numpy().reshape(-1, 64))[:, first]
            )

        image = torch.from_numpy(reading.found.pixels.reshape(1, 8, 8).astype(np.float32))
        return (
            Occlusion(probability)
            .attribute(image, sliding_window_shapes=(side, side), perturbations_per_eval=64)[0]
            .numpy()
        )

    def _data(self):
        # "uci" is checked to be the bundled rows, and needs no fetch here.
        source = "bundled" if self.source == "uci" else self.source
        try:
            digits = load_digits(source)
        except DataError:
            return None
        return digits if digits.sha256 == self.run.info["data"]["sha256"] else None

    def _calibrate(self):
        distance = ink = np.inf
        if self.digits is not None and len(self.digits.data) == len(self.run.row):
            rows, folds = self.digits.data, self.run.folds[self.run.row.argsort()]
            probes = np.arange(0, len(rows), -(-len(rows) // MOST_PROBES))
            nearest = []
            for fold in np.unique(folds):
                others = self._neighbours.fit(rows[folds != fold])
                nearest.append(others.kneighbors(rows[probes[folds[probes] == fold]], 1)[0])
            distance = np.quantile(np.concatenate(nearest), 1 - DOUBT)
            ink = np.quantile(rows.mean(axis=1), 1 - DOUBT)
        sure = np.quantile(self.run.probabilities.max(axis=1), DOUBT)
        return Limits(float(sure), float(distance), float(ink))


def _percent(share):
    return f"{100 * share:.1f} %"


def describe(name, readings):
    """Lines of text for the readings of one picture."""
    lines = (
        []
        if len(readings) == 1
        else [f"{name}: {''.join(str(r.classes[0]) for r in readings)} ({len(readings)} digits)"]
    )
    for place, reading in enumerate(readings, 1):
        where = name if len(readings) == 1 else f"  {place}."
        first, second = (
            f"{d} ({_percent(p)})"
            for d, p in zip(reading.classes[:2], reading.probabilities[:2], strict=True)
        )
        lines.append(
            f"{where}: {first}, second guess {second}"
            if len(readings) == 1
            else f"{where} {first}, second guess {second}"
        )
        lines += [f"  looks like no digit of the data: {warning}" for warning in reading.warnings]
    return lines


MOST_BYTES = 500_000_000  # unpacked; MNIST's 60,000 training images have 47 million


def predict(pictures, run=None, as_json=False, images=None, labels=None):
    """Read pictures, or a labelled set, with the networks of a run; print the answer.

    Parameters
    ----------
    pictures : list of str
    run : str or None
        The run folder; None: the newest.
    as_json : bool
    images, labels : str or None
        Files in the IDX format of MNIST, in place of pictures: accuracy and confusions.

    Raises
    ------
    ParameterError, ImageError, RunError
    """
    if (images is None) != (labels is None) or (images is not None and pictures):
        raise ParameterError(
            "--images and --labels go together, and without pictures; give both, or pictures alone"
        )
    if images is not None:
        _labelled(images, labels, run, as_json)
    elif pictures:
        _pictures(pictures, run, as_json)
    else:
        raise ParameterError(
            "no picture given; try `digitlib predict photo.jpg`, or --images and --labels for a"
            " labelled set"
        )


def _reader(run):
    from digitlib.runs import newest_run  # as in Reader

    return Reader(run or newest_run())


def _pictures(pictures, run, as_json):
    found = [find_digits(path) for path in pictures]  # what is wrong with one is told at once
    reader = _reader(run)
    readings = {path: reader.classify(digits) for path, digits in zip(pictures, found, strict=True)}
    if as_json:
        answer = [
            {"file": p, "digits": [r.as_dict() for r in each]} for p, each in readings.items()
        ]
        print(json.dumps({"run": str(reader.run.path), "pictures": answer}))
        return
    print(
        f"read by {reader.run.path} (recipe {reader.run.info['recipe']['name']})", file=sys.stderr
    )
    for path, each in readings.items():
        print("\n".join(describe(path, each)))


def _labelled(images, labels, run, as_json):
    pixels, y = read_idx(images, 3), read_idx(labels, 1)
    if len(pixels) != len(y):
        raise ParameterError(
            f"{len(pixels):,} images but {len(y):,} labels; give files that belong together"
        )
    from digitlib import metrics, runs  # as in Reader

    folder = run or runs.newest_run()
    model = runs.load_model(folder)
    X, readable = np.zeros((len(pixels), 64), np.uint8), np.ones(len(pixels), bool)
    for i, image in enumerate(pixels):
        try:
            X[i] = find_digits(image, single=True)[0].pixels
        except ImageError:
            readable[i] = False  # blank: counted as an error
    predicted = model.predict(X)
    correct, blank = int(((predicted == y) & readable).sum()), int((~readable).sum())
    table = metrics.confusion_counts(y[readable], predicted[readable])
    if as_json:
        answer = {"run": str(folder), "correct": correct, "total": len(y)}
        answer |= {"accuracy": correct / len(y), "blank": blank, "classes": table.index.tolist()}
        print(json.dumps({**answer, "confusion": table.to_numpy().tolist()}))
        return
    share = 100 * correct / len(y)
    print(f"{correct:,} of {len(y):,} correct, {share:.2f} %; {blank} blank ({folder})")
    print(table.to_string())


def read_idx(path, dimensions):
    """An array from a file in the IDX format of MNIST, packed with gzip or not.

    Parameters
    ----------
    path : str or path-like
    dimensions : {1, 3}
        1: labels; 3: images, rows, columns.

    Returns
    -------
    ndarray of uint8

    Raises
    ------
    ImageError
        The file is missing, damaged, too large or of another kind.

    Notes
    -----
    Y. LeCun, C. Cortes, C. Burges: The MNIST database, "File formats": magic number 0, 0, 8
    (unsigned byte), number of dimensions; their sizes as big-endian 32-bit integers; the data in C
    order.
    """
    path = Path(path)
    try:
        with (
            open(path, "rb") as raw,
            gzip.open(raw) if raw.peek(2)[:2] == b"\x1f\x8b" else raw as file,
        ):
            magic = file.read(4)
            if magic != bytes([0, 0, 8, dimensions]):
                raise ImageError(
                    f"{path}: not an IDX file of {dimensions} dimension(s) (begins"
                    f" {magic.hex() or 'with nothing'}); see MNIST's"
                )
            shape = np.frombuffer(file.read(4 * dimensions), ">u4").astype(int)
            size = int(np.prod(shape, dtype=float))
            if not 0 < size <= MOST_BYTES:
                raise ImageError(f"{path}: says it holds {size:,} bytes; takes 1 to {MOST_BYTES:,}")
            data = file.read(size + 1)
    except DigitlibError:
        raise
    except (OSError, EOFError, ValueError, zlib.error) as error:
        raise ImageError(
            f"{path}: cannot be read ({getattr(error, 'strerror', None) or error}); give an IDX"
            " file such as t10k-images-idx3-ubyte.gz"
        ) from None
    if len(data) != size:
        raise ImageError(
            f"{path}: says it holds {size:,} bytes but holds"
            f" {'more' if len(data) > size else f'{len(data):,}'}; download it again"
        )
    return np.frombuffer(data, np.uint8).reshape(shape)
