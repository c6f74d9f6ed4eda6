"""``digitlib predict``: pictures, or a labelled set in the MNIST format, read with the networks of
a run.
"""

import gzip
import json
import sys
import zlib
from pathlib import Path

import numpy as np

from digitlib.errors import DigitlibError, ImageError, ParameterError
from digitlib.handwriting import find_digits

MOST_BYTES = 500_000_000  # unpacked; MNIST's 60,000 training images have 47 million


def run(arguments):
    """Handle the command line; prints the answer."""
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
    from digitlib.ensemble import load_model
    from digitlib.metrics import confusion_counts
    from digitlib.reading import newest_run

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
