"""Accuracy against time: every recipe beside what a user would pick instead, and beside a yardstick
run in the same minutes.

    make bench            # five seeds (three of the slow ones); writes bench.csv, bench.png, README
    make bench QUICK=1    # one seed, without the slow ones; prints only

P1: correct out of 5,620 in KFold(4, shuffle, random_state=30). P2: trained on the 30 training
writers, tested on the 13 others. Seconds: the whole 4-fold cross-validation (training and held-out
prediction) in a warm process, imports excluded. Ratio: seconds of ``benchmarks/yardstick.py`` (the
reference experiment in its plain form, in a process of its own, imports excluded), run before and
after, divided by the seconds; absolute seconds drift with the machine, the ratio much less.
"""

import argparse
import os
import platform
import re
import subprocess
import sys
import tempfile
from functools import partial
from importlib.metadata import version
from pathlib import Path

os.environ["OMP_NUM_THREADS"] = "1"  # folds run side by side, with one thread each

import joblib
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from sklearn.ensemble import HistGradientBoostingClassifier

from digitlib import DigitClassifier, cross_validate, load_digits
from digitlib.compare.competitors import competitors
from digitlib.compare.kernel import FilterKernel
from digitlib.recipes import RECIPES

HERE = Path(__file__).parent
README = HERE.parent / "README.md"
DIGITS = load_digits()
X, Y, OURS = DIGITS.data, DIGITS.target, DIGITS.writers == "train"
SLOW = ("best", "handwriting")  # three seeds; five for all others of ours
INSTEAD = "what a user would pick instead"
PLAIN = 16.0  # seconds of the yardstick, to which the README's seconds are scaled: machines drift
WHAT = {
    "coursework": "the published experiment",
    "kernel": "kernel ridge regression on fixed random filters, not learned",
    "accurate": "rewritten digits, averaged weights, shifted views",
    "best": "the same network, more than three times the epochs",
    "handwriting": "for digits not from this data",
}


def makers():
    """Name -> what makes the classifier of a seed."""
    found = {name: partial(DigitClassifier, name, device="cpu") for name in RECIPES}
    found = {"coursework": found.pop("coursework"), "kernel": FilterKernel, **found}
    others = competitors() | {"gradient boosting": HistGradientBoostingClassifier(random_state=0)}
    others.pop("majority class")
    return found | {name: partial(_same, one) for name, one in others.items()}


def _same(classifier, seed):
    return classifier


def yardstick(table):
    """Seconds of the reference loop."""
    command = [sys.executable, HERE / "yardstick.py", table]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return float(re.search(r"seconds ([\d.]+)", said)[1])


def measure(make, seeds):
    """P1, P2 in percent and seconds of the cross-validation, one of each for every seed."""
    cross_validate(make(0), X[:600], Y[:600], progress=False)  # warm
    rows = []
    for seed in range(seeds):
        result = cross_validate(make(seed), X, Y, progress=False)
        times = [result.seconds]
        while sum(times) < 1.0:  # one measurement of a tenth of a second says little
            times.append(cross_validate(make(seed), X, Y, progress=False).seconds)
        p2 = 100 * make(seed).fit(X[OURS], Y[OURS]).score(X[~OURS], Y[~OURS])
        rows.append((100 * result.accuracy, p2, np.median(times)))
    return pd.DataFrame(rows, columns=["P1", "P2", "seconds"])


def everything(quick, table):
    """One line for each recipe and competitor, with the yardstick run before and after each."""
    lines = []
    for name, make in makers().items():
        if quick and name in SLOW:
            continue
        before = yardstick(table)
        rows = measure(make, 1 if quick or name not in WHAT else 3 if name in SLOW else 5)
        reference = (before + yardstick(table)) / 2
        line = {"name": name, "n": len(rows), "yardstick": reference}
        line |= {"ratio": reference / rows["seconds"].median()}
        for column in rows:
            line[column] = rows[column].median() if column == "seconds" else rows[column].mean()
            line |= {f"{column} {end}": getattr(rows[column], end)() for end in ("min", "max")}
        lines.append(line)
        shown = pd.DataFrame([line])[["name", "n", "P1", "P2", "seconds", "ratio"]]
        print(shown.to_string(index=False, header=len(lines) == 1, float_format="%.3f"), flush=True)
    return pd.DataFrame(lines)


def readme_table(bench):
    """The README's table, in Markdown."""
    names = ["recipe", "4-fold accuracy", "new writers", "seconds, 4 folds", "times the plain loop"]
    lines = [f"| {' | '.join([*names, 'what it is'])} |", "|---" * 6 + "|"]
    for row in bench.to_dict("records"):
        name = f"`{row['name']}`" if row["name"] in WHAT else row["name"]
        short = [f"{float(format(n, '.2g')):g}" for n in (PLAIN / row["ratio"], row["ratio"])]
        cells = [f"{row['P1']:.2f} %", f"{row['P2']:.2f} %", *short, WHAT.get(row["name"], INSTEAD)]
        lines.append(f"| {' | '.join([name, *cells])} |")
    return "\n".join(lines)


def picture(bench, facts):
    """Accuracy against seconds, of both kinds."""
    figure, axes = plt.subplots(1, 2, figsize=(11, 4.6), sharex=True, layout="constrained")
    titles = {"P1": "4-fold cross-validation", "P2": "writers never seen in training"}
    for ax, (column, title) in zip(axes, titles.items(), strict=True):
        for mine, colour, marker in ((True, "#0072b2", "o"), (False, "#d55e00", "s")):
            part = bench[bench["name"].isin(WHAT) == mine]
            look = {"c": colour, "marker": marker, "s": 46}
            ax.scatter(
                part["seconds"], part[column], label="digitlib" if mine else "others", **look
            )
        ax.set(xscale="log", xlabel="seconds for 4 folds (log)", ylabel=f"{column}: accuracy (%)")
        ax.set_title(title, fontsize=11)
        ax.grid(alpha=0.3)
        for row in bench.to_dict("records"):
            place = row["seconds"], row[column]
            ax.annotate(row["name"], place, (6, 4), textcoords="offset points")
        ax.set_xlim(right=10 * bench["seconds"].max())
    axes[0].legend(loc="lower right")
    figure.suptitle(facts, fontsize=8)
    figure.savefig(HERE / "bench.png", dpi=110)


def write_readme():
    """Put the table of bench.csv between the README's two marks."""
    start, end, text = "<!-- bench: start -->\n", "\n<!-- bench: end -->", README.read_text()
    head, tail = text.split(start)[0], text.split(end)[1]
    table = readme_table(pd.read_csv(HERE / "bench.csv"))
    README.write_text(head + start + table + end + tail)


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="one seed, without the slow recipes")
    parser.add_argument("--readme", action="store_true", help="only write the README's table anew")
    asked = parser.parse_args()
    if asked.readme:
        return write_readme()
    libraries = [f"{name} {version(name)}" for name in ("torch", "scikit-learn", "numpy")]
    machine = f"{joblib.cpu_count()} cores, {platform.machine()} {platform.system()}"
    facts = ", ".join([machine, f"Python {platform.python_version()}", *libraries])
    print(facts)
    with tempfile.TemporaryDirectory() as folder:
        table = Path(folder, "table.csv")
        np.savetxt(table, np.column_stack([X, Y]), fmt="%d", delimiter=",")
        bench = everything(asked.quick, table)
    if not asked.quick:
        bench.assign(machine=facts).to_csv(HERE / "bench.csv", index=False, float_format="%.4f")
        picture(bench, facts)
        write_readme()
    return None


if __name__ == "__main__":
    main()
