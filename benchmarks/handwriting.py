"""How well a run reads digits that are not from its data.

    python benchmarks/handwriting.py reports/handwriting                   # 200 digits in 20 fonts
    python benchmarks/handwriting.py reports/handwriting benchmarks/tuning.jpg
    python benchmarks/handwriting.py reports/handwriting IMAGES.gz LABELS.gz  # in MNIST's format

Forms and ranges of :mod:`digitlib.augmentation` were chosen on the second sheet, 400 digits in 10
other fonts, on digits in 89 more fonts and on 1,000 digits that people drew; the first confirms.
"""

import gzip
import sys
from pathlib import Path

import numpy as np
from PIL import Image

from digitlib import find_digits, load_model
from digitlib.errors import ImageError
from digitlib.metrics import confusion_counts

SHEET = Path(__file__).parents[1] / "tests" / "handwriting.jpg"


def of_sheet(path):
    """Cells of 64 by 64 pixels, the digits 0 to 9 again and again, and their labels."""
    sheet = np.asarray(Image.open(path))
    height, width = sheet.shape
    places = [(y, x) for y in range(0, height, 64) for x in range(0, width, 64)]
    return [sheet[y : y + 64, x : x + 64] for y, x in places], np.arange(len(places)) % 10


def of_idx(images, labels):
    """Two files of Y. LeCun's MNIST format: sizes as big-endian integers after four bytes."""
    X, y = (
        np.frombuffer(gzip.decompress(Path(path).read_bytes()), np.uint8)
        for path in (images, labels)
    )
    return X[16:].reshape(-1, *X[4:16].view(">u4")[1:]), y[8:]


def main(run, *files):
    cells, labels = of_idx(*files) if len(files) == 2 else of_sheet(*files or [SHEET])
    digits = np.zeros((len(cells), 64), np.uint8)
    for pixels, cell in zip(digits, cells, strict=True):
        try:
            pixels[:] = find_digits(cell, single=True)[0].pixels
        except ImageError:
            continue  # blank: counted as whatever the model reads
    predicted = load_model(run).predict(digits)
    correct = (predicted == labels).sum()
    print(f"{run}: {correct} of {len(labels)} correct, {100 * correct / len(labels):.1f} %")
    print(confusion_counts(labels, predicted).to_string())


if __name__ == "__main__":
    main(*sys.argv[1:])
