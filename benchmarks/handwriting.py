"""How well a run reads 200 digits that are not from its data, in 20 fonts (tests/handwriting.jpg).

    python benchmarks/handwriting.py reports/handwriting [benchmarks/tuning.jpg]

Forms and ranges of :mod:`digitlib.augmentation` were chosen on the second sheet, 400 digits in 10
other fonts, on digits in 89 more fonts and on 1,000 digits that people drew; the first confirms.
"""

import sys
from pathlib import Path

import numpy as np
from PIL import Image

from digitlib import find_digits, load_model
from digitlib.metrics import confusion_counts

SHEET = Path(__file__).parents[1] / "tests" / "handwriting.jpg"


def main(run, sheet=SHEET):
    sheet = np.asarray(Image.open(sheet))
    height, width = sheet.shape
    cells = [
        sheet[y : y + 64, x : x + 64] for y in range(0, height, 64) for x in range(0, width, 64)
    ]
    labels = np.arange(len(cells)) % 10
    digits = np.stack([find_digits(cell, single=True)[0].pixels for cell in cells])
    predicted = load_model(run).predict(digits)
    correct = (predicted == labels).sum()
    print(f"{run}: {correct} of {len(labels)} correct, {100 * correct / len(labels):.1f} %")
    print(confusion_counts(labels, predicted).to_string())


if __name__ == "__main__":
    main(*sys.argv[1:])
