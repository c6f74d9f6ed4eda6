"""Accuracy against time: every recipe beside what a user would pick instead, and beside a yardstick
run in the same minutes.

    make bench            # five seeds (three for `best` and `handwriting`), about 20 minutes on two
    cores make bench QUICK=1    # one seed, without the slow ones, under two minutes

P1: correct out of 5,620 in KFold(4, shuffle, random_state=30). P2: trained on the 30 training
writers, tested on the 13 others. Seconds: the whole 4-fold cross-validation (training and held-out
prediction) in a warm process, imports excluded. Ratio: seconds of ``benchmarks/yardstick.py`` (the
reference experiment in its plain form, in a process of its own, imports excluded), run before and
after, divided by the seconds; absolute seconds drift with the machine, the ratio much less. Writes
``bench.csv`` and ``bench.png`` beside this file (``quick.*`` with --quick).
"""

import argparse
import os
import platform
import re
import subprocess
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path

os.environ["OMP_NUM_THREADS"] = "1"  # folds run side by side, with one thread each

import joblib
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from sklearn.ensemble import ExtraTreesClassifier, HistGradientBoostingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler
from sklearn.svm import SVC

from digitlib import DigitClassifier, cross_validate, load_digits
from digitlib.recipes import RECIPES

HERE = Path(__file__).parent
DIGITS = load_digits()
X, Y, OURS = DIGITS.data, DIGITS.target, DIGITS.writers == "train"

SEEDS = {"best": 3, "handwriting": 3}  # the slow ones; five for all others


class HardSVC(SVC):
    """SVC whose classes are its probabilities: calibration would only slow it down here."""

    def predict_proba(self, X):
        return np.eye(10)[self.predict(X)]


COMPETITORS = {
    "1-nearest-neighbour": lambda: KNeighborsClassifier(1),
    "SVC(C=10, gamma=0.2)": lambda: make_pipeline(
        FunctionTransformer(lambda x: x / 16), HardSVC(C=10, gamma=0.2)
    ),
    "logistic regression": lambda: make_pipeline(
        StandardScaler(), LogisticRegression(max_iter=1000)
    ),
    "extra trees": lambda: ExtraTreesClassifier(200, random_state=0),
    "histogram gradient boosting": lambda: HistGradientBoostingClassifier(random_state=0),
}


def yardstick(table):
    """Seconds of the reference loop, and its accuracy in percent."""
    said = subprocess.run(
        [sys.executable, HERE / "yardstick.py", table], capture_output=True, text=True, check=True
    ).stdout
    return float(re.search(r"seconds ([\d.]+)", said)[1]), float(
        re.search(r"accuracy ([\d.]+)", said)[1]
    )


def measure(make, seeds, x=X, y=Y, with_writers=True):
    """P1, P2 in percent and seconds of the cross-validation, one of each for every seed."""
    cross_validate(make(0), x[:600], y[:600], progress="off")  # warm
    rows = []
    for seed in range(seeds):
        result = cross_validate(make(seed), x, y, progress="off")
        times = [result.seconds]
        while sum(times) < 1.0:  # one measurement of a tenth of a second says little
            times.append(cross_validate(make(seed), x, y, progress="off").seconds)
        p2 = (
            100 * make(seed).fit(X[OURS], Y[OURS]).score(X[~OURS], Y[~OURS])
            if with_writers
            else np.nan
        )
        rows.append((100 * result.accuracy, p2, np.median(times)))
    return np.array(rows).T


def line(name, measured, reference):
    p1, p2, seconds = measured
    return {
        "name": name,
        "n": len(p1),
        "P1": p1.mean(),
        "P1 min": p1.min(),
        "P1 max": p1.max(),
        "P2": p2.mean(),
        "P2 min": p2.min(),
        "P2 max": p2.max(),
        "seconds": np.median(seconds),
        "seconds min": seconds.min(),
        "seconds max": seconds.max(),
        "yardstick": reference,
        "ratio": reference / np.median(seconds),
    }


def everything(quick, table):
    """One line for each recipe and competitor, with the yardstick run before and after each slow
    block.
    """
    lines = []
    before, accuracy = yardstick(table)
    lines.append(
        {
            "name": "yardstick",
            "n": 1,
            "P1": accuracy,
            "seconds": before,
            "yardstick": before,
            "ratio": 1.0,
        }
    )
    makers = {
        name: lambda seed, name=name: DigitClassifier(name, random_state=seed, device="cpu")
        for name in RECIPES
    }
    makers |= {name: lambda seed, make=make: make() for name, make in COMPETITORS.items()}
    for name, make in makers.items():
        if quick and name in SEEDS:
            continue
        seeds = 1 if quick or name in COMPETITORS else SEEDS.get(name, 5)
        measured = measure(
            make, seeds, with_writers=not (quick and name in ("accurate", "coursework"))
        )
        if not quick and name in RECIPES:
            after, _ = yardstick(table)
            before, reference = after, (before + after) / 2
        else:
            reference = before
        lines.append(line(name, measured, reference))
        show(pd.DataFrame(lines[-1:]), header=len(lines) == 2)
    measured = pd.DataFrame(lines)
    if (
        quick
    ):  # one mean for all, at the end; what was shown so far rests on the first of its two runs
        measured["yardstick"] = (before + yardstick(table)[0]) / 2
        measured["ratio"] = measured["yardstick"] / measured["seconds"]
        show(measured)
    return measured


def show(table, header=True):
    columns = ["name", "n", "P1", "P1 min", "P1 max", "P2", "P2 min", "P2 max", "seconds", "ratio"]
    print(
        table.reindex(columns=columns).to_string(
            index=False, header=header, float_format="%.3f", col_space=9
        ),
        flush=True,
    )


def picture(table, path, facts):
    figure, axes = plt.subplots(1, 2, figsize=(11, 4.6), sharex=True, layout="constrained")
    for ax, column in zip(axes, ("P1", "P2"), strict=True):
        for mine, colour, marker in ((True, "#0072b2", "o"), (False, "#d55e00", "s")):
            part = table[table["name"].isin(RECIPES) == mine].dropna(subset=[column])
            ax.scatter(
                part["seconds"],
                part[column],
                c=colour,
                marker=marker,
                s=46,
                label="digitlib" if mine else "others",
            )
        ax.set(
            xscale="log",
            xlabel="seconds for 4 folds (log)",
            ylabel=f"{column}: accuracy (%)",
            xlim=(0.06, 600),
        )
        ax.set_title(
            "4-fold cross-validation" if column == "P1" else "writers never seen in training",
            fontsize=11,
        )
        ax.grid(alpha=0.3)
    axes[0].legend(loc="lower right")
    figure.suptitle(facts, fontsize=8)
    for ax, column in zip(axes, ("P1", "P2"), strict=True):
        part = table.dropna(subset=[column])
        for row in part.to_dict("records"):
            ax.annotate(
                row["name"], (row["seconds"], row[column]), (6, 4), textcoords="offset points"
            )
    figure.savefig(path, dpi=110)


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true")
    quick = parser.parse_args().quick
    stem = "quick" if quick else "bench"
    facts = ", ".join(
        [
            f"{joblib.cpu_count()} cores, {platform.machine()} {platform.system()}, Python"
            f" {platform.python_version()}"
        ]
        + [f"{name} {version(name)}" for name in ("torch", "scikit-learn", "numpy")]
    )
    print(facts)
    start = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        csv = Path(folder, "table.csv")
        np.savetxt(csv, np.column_stack([X, Y]), fmt="%d", delimiter=",")
        table = everything(quick, csv)
    table.assign(machine=facts).to_csv(HERE / f"{stem}.csv", index=False, float_format="%.4f")
    picture(table, HERE / f"{stem}.png", facts)
    print(
        f"{time.monotonic() - start:.0f} s; written: benchmarks/{stem}.csv, benchmarks/{stem}.png"
    )


if __name__ == "__main__":
    main()
