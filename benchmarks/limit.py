"""The limit that labels and 8x8 pixels set: rows that every seed of a recipe gets wrong.

    python benchmarks/limit.py [RECIPE [SEEDS]]       # best, 3: five minutes on two cores

Writes ``limit.csv`` (a line for each row that any seed gets wrong: label, what each seed read,
what the average of the probabilities reads) and ``limit.png`` (those that all get wrong) beside
this file.
"""

import sys
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

from digitlib import DigitClassifier, cross_validate, load_digits

HERE = Path(__file__).parent


def main(recipe="best", seeds="3"):
    digits = load_digits()
    names = [f"seed {seed}" for seed in range(int(seeds))]
    runs = [
        cross_validate(DigitClassifier(recipe, random_state=seed), digits.data, digits.target)
        for seed in range(int(seeds))
    ]
    read = pd.DataFrame({name: run.predicted for name, run in zip(names, runs, strict=True)})
    read.insert(0, "label", digits.target)
    wrong = read[names].ne(digits.target, axis=0)
    read["average"] = np.mean([run.probabilities for run in runs], axis=0).argmax(axis=1)
    read[wrong.any(axis=1)].to_csv(HERE / "limit.csv", index_label="row")
    always, average = wrong.all(axis=1), (read["average"] != digits.target).sum()
    print(f"{recipe}: wrong {wrong.sum().tolist()} times; {always.sum()} rows every time, ", end="")
    print(f"{wrong.any(axis=1).sum()} at least once; the average of all is wrong {average} times")
    figure, axes = plt.subplots(
        1, always.sum(), figsize=(1.1 * always.sum(), 1.7), layout="constrained"
    )
    for ax, row in zip(np.atleast_1d(axes), np.flatnonzero(always), strict=True):
        ax.imshow(digits.images[row], cmap="gray_r", vmin=0, vmax=16)
        ax.set_axis_off()
        others = ", ".join(map(str, sorted(set(read.loc[row, names]))))
        ax.set_title(f"{digits.target[row]}, read {others}\nrow {row}", fontsize=8)
    figure.savefig(HERE / "limit.png", dpi=110)


if __name__ == "__main__":
    main(*sys.argv[1:])
