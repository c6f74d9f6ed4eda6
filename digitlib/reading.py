"""Reading: a picture in, each digit in it and the reasons out."""

import csv
import gzip
import json
import sys
import zlib
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import numpy as np

from digitlib.data import load_digits
from digitlib.errors import DataError, DigitlibError, ImageError, ParameterError, RunError
from digitlib.handwriting import Digit, find_digits
from digitlib.runs import load_model

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
        self.run = Path(run)
        self.model = load_model(run)
        self.source = _run_info(self.run)["data"]["source"]
        self.digits = self._data()
        self._rows = None if self.digits is None else self.digits.data.astype(np.float32)
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
        if self._rows is None:
            return np.empty(0, int), np.zeros(1)
        squares = ((self._rows - pixels) ** 2).sum(axis=1)
        nearest = squares.argsort()[:count]
        return nearest, np.sqrt(squares[nearest])

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
        info = _run_info(self.run)["data"]
        try:
            digits = load_digits(
                "bundled" if info["source"] == "uci" else info["source"]
            )  # "uci" is checked to be the bundled rows
        except DataError:
            return None
        return digits if digits.sha256 == info["sha256"] else None

    def _calibrate(self):
        try:
            with open(self.run / "predictions.csv", encoding="utf-8", newline="") as file:
                header, *lines = csv.reader(file)
            table = np.array(lines, dtype=np.float64)
            folds = table[:, header.index("fold")]
            sure = table[:, header.index("predicted") + 1 :].max(axis=1)
        except (OSError, ValueError, IndexError) as error:
            raise RunError(
                f"{self.run}: damaged predictions.csv ({type(error).__name__}: {error}); make the"
                " run again"
            ) from error
        distance = ink = np.inf
        if self._rows is not None and len(self._rows) == len(folds):
            rows = self._rows
            probes = np.arange(0, len(rows), -(-len(rows) // MOST_PROBES))
            squares = (
                (rows[probes] ** 2).sum(1)[:, None] + (rows**2).sum(1) - 2 * rows[probes] @ rows.T
            )
            squares[folds[probes][:, None] == folds] = np.inf
            distance = np.quantile(np.sqrt(squares.min(axis=1).clip(0)), 1 - DOUBT)
            ink = np.quantile(rows.mean(axis=1), 1 - DOUBT)
        return Limits(float(np.quantile(sure, DOUBT)), float(distance), float(ink))


def _run_info(run):
    return json.loads((run / "run.json").read_text(encoding="utf-8"))


def newest_run(reports="reports"):
    """The run that was made last.

    Returns
    -------
    Path

    Raises
    ------
    RunError
        There is none.
    """
    finished = [path.parent for path in Path(reports).glob("[!.]*/run.json")]
    if not finished:
        raise RunError(
            f"{reports}/: no finished run; make one with `digitlib report`, or name one with --run"
        )
    return max(finished, key=lambda folder: (folder / "run.json").stat().st_mtime)


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
    """The command ``digitlib predict``; prints the answer."""
    arguments = SimpleNamespace(
        pictures=pictures, run_folder=run, json=as_json, images=images, labels=labels
    )
    labelled = arguments.images is not None or arguments.labels is not None
    if labelled and (arguments.images is None or arguments.labels is None or arguments.pictures):
        raise ParameterError(
            "--images and --labels go together, and without pictures; give both, or pictures alone"
        )
    if not labelled and not arguments.pictures:
        raise ParameterError(
            "no picture given; try `digitlib predict photo.jpg`, or --images and --labels for a"
            " labelled set"
        )
    if labelled:
        _labelled(arguments)
    else:
        _pictures(arguments)


def _pictures(arguments):
    found = [find_digits(path) for path in arguments.pictures]
    from digitlib.reading import (
        Reader,
        describe,
        newest_run,
    )  # imports torch; a bad picture has been told by now, in half a second

    folder = arguments.run_folder or newest_run()
    reader = Reader(folder)
    readings = [reader.classify(digits) for digits in found]
    if arguments.json:
        pictures = [
            {"file": path, "digits": [r.as_dict() for r in each]}
            for path, each in zip(arguments.pictures, readings, strict=True)
        ]
        print(json.dumps({"run": str(folder), "pictures": pictures}))
        return
    print(f"read by {folder} (recipe {reader.model.estimators[0].recipe_.name})", file=sys.stderr)
    for path, each in zip(arguments.pictures, readings, strict=True):
        print("\n".join(describe(path, each)))


def _labelled(arguments):
    images, labels = read_idx(arguments.images, 3), read_idx(arguments.labels, 1)
    if len(images) != len(labels):
        raise ParameterError(
            f"{len(images):,} images but {len(labels):,} labels; give files that belong together"
        )
    from digitlib.metrics import confusion_counts
    from digitlib.reading import newest_run
    from digitlib.runs import load_model

    folder = arguments.run_folder or newest_run()
    model = load_model(folder)
    X, readable = np.zeros((len(images), 64), np.uint8), np.ones(len(images), bool)
    for i, image in enumerate(images):
        try:
            X[i] = find_digits(image, single=True)[0].pixels
        except ImageError:
            readable[i] = False  # blank: counted as an error
    predicted = model.predict(X)
    correct = int(((predicted == labels) & readable).sum())
    table = confusion_counts(labels[readable], predicted[readable])
    answer = {
        "run": str(folder),
        "correct": correct,
        "total": len(labels),
        "accuracy": correct / len(labels),
        "blank": int((~readable).sum()),
    }
    if arguments.json:
        print(
            json.dumps(
                {**answer, "classes": table.index.tolist(), "confusion": table.to_numpy().tolist()}
            )
        )
        return
    print(
        f"{correct:,} of {len(labels):,} correct, {100 * answer['accuracy']:.2f} %;"
        f" {answer['blank']} blank ({folder})"
    )
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
