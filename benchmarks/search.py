"""Candidates for the recipes' settings, scored on the training writers alone, by folds inside their 3,823 rows.

    .venv/bin/python benchmarks/search.py [RECIPE ...]

Rows of the 13 test writers and the published 4-fold split play no part in these scores; the README says where they
played one in the last choice. Each candidate differs from the recipe in the settings it
names. Accuracy is the mean over 4 inner folds (KFold, shuffle, random_state=1) and the seeds; CPU seconds are of this process,
so that other load on the machine matters little. Results are added to ``benchmarks/search.csv``. One error is 0.026 %.

``best`` is `accurate` made wider and longer without a search of its own: one candidate takes minutes.
"""

import csv
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np

import digitlib
from digitlib.recipes import RECIPES

RESULTS = Path(__file__).with_name("search.csv")
SEEDS = {"instant": 5, "fast": 5, "balanced": 4, "accurate": 2}
CANDIDATES = {
    "instant": [{"filters": f, "ridge": r} for f in (20, 28, 36) for r in (0.01, 0.03, 0.1, 1.0)],
    "fast": [
        {"layers": "16p 32", "epochs": 1},
        {"layers": "16p 16", "epochs": 1},
        {"layers": "16p 32", "epochs": 1, "batch_size": 64},
        {"layers": "16p 32", "epochs": 1, "learning_rate": 0.01},
        {"layers": "16p 32", "epochs": 1, "learning_rate": 0.04},
        {"layers": "16p 32", "epochs": 1, "ridge": 0.1},
        {"layers": "16p 32", "epochs": 1, "ridge": 10.0},
        {"layers": "16 16p", "epochs": 1},
        {"layers": "32p 32", "epochs": 1},
        {"layers": "16p 32", "epochs": 1, "batch_size": 256, "learning_rate": 0.04},
        {"layers": "16p 32", "epochs": 2},
        {"layers": "16p 32p", "epochs": 2},
        {"layers": "16p 32p", "epochs": 3, "augmentation": 0.5},
    ],
    "balanced": [
        {"epochs": 6, "layers": "16 32p 64"},
        {"epochs": 3, "layers": "16 32p 64"},
        {"epochs": 4, "layers": "16 32p 64"},
        {"epochs": 6, "layers": "16 32p 64", "ridge": 0.1},
        {"epochs": 6, "layers": "16 32p 64", "ridge": 10.0},
        {"epochs": 6, "layers": "16 32p 64", "augmentation": 0.7},
        {"epochs": 6, "layers": "16p 32 64"},
        {"epochs": 4, "layers": "16p 32 64"},
        {"epochs": 6, "layers": "16p 32 32"},
        {"epochs": 4, "layers": "16 32p 64p"},
        {"epochs": 6, "layers": "16 32p 64p"},
        {"epochs": 6, "layers": "16p 64"},
        {"epochs": 4, "layers": "32p 64"},
        {"epochs": 4, "layers": "16p 32 64", "learning_rate": 0.01},
        {"epochs": 4, "layers": "16p 32 64", "batch_size": 64},
        {"epochs": 4, "layers": "16p 32 64", "test_shift": 0.4},
    ],
    "accurate": [
        {"layers": "16 32p 64 64p", "epochs": 20},
        {"layers": "16 32p 64 64p", "epochs": 20, "ridge": 1.0},
        {"layers": "16 32p 64 64", "epochs": 14},
        {"layers": "32p 64 64p", "epochs": 20},
        {"layers": "16 32p 64 64p", "epochs": 20, "learning_rate": 0.01},
        {"layers": "32p 64 64p", "epochs": 30},
        {"layers": "32p 64 64p", "epochs": 10, "rewrites": 2},
        {"layers": "32p 64 64p", "epochs": 15, "rewrites": 1},
        {"layers": "32p 64 64p", "epochs": 20, "learning_rate": 0.01},
        {"layers": "32p 64 96p", "epochs": 20},
    ],
}


def score(recipe, seeds):
    """Mean accuracy (0..1) over seeds and inner folds, its spread over seeds, and CPU seconds for one cross-validation."""
    digits = digitlib.load_digits()
    inner = digits.writers == "train"
    start, accuracies = time.process_time(), []
    for seed in range(seeds):
        classifier = digitlib.DigitClassifier(recipe, random_state=seed, device="cpu")
        result = digitlib.cross_validate(classifier, digits.data[inner], digits.target[inner], random_state=1, progress="off")
        accuracies.append(result.accuracy)
    return np.mean(accuracies), np.std(accuracies), (time.process_time() - start) / seeds


def main(names):
    for name in names or CANDIDATES:
        for change in CANDIDATES[name]:
            mean, spread, seconds = score(replace(RECIPES[name], **change), SEEDS[name])
            line = [name, str(change), SEEDS[name], f"{100 * mean:.3f}", f"{100 * spread:.3f}", f"{seconds:.2f}"]
            print(*line, sep="  ", flush=True)
            new = not RESULTS.exists()
            with open(RESULTS, "a", newline="") as file:
                csv.writer(file).writerows([["recipe", "change", "seeds", "accuracy_percent", "spread", "cpu_seconds"]] * new + [line])


if __name__ == "__main__":
    main(sys.argv[1:])
