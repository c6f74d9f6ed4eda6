"""Run as a process: what a student's own model.py gives for the rows that each fold held out."""

import resource
import sys

import numpy as np

from digitlib import runs
from digitlib.handin.judge import our_digits

MEMORY = 8 * 2**30  # bytes


def main(folder, out):
    """Write the out-of-fold probabilities of the run in `folder` as a NumPy file `out`."""
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    run = runs.load(folder, run_code=True)
    X, given = our_digits(run.info).data, np.zeros_like(run.probabilities)
    for number in np.unique(run.folds):
        rows = run.folds == number
        given[rows] = run.fitted(int(number)).predict_proba(X[run.row[rows]])
    np.save(out, given)


if __name__ == "__main__":
    main(*sys.argv[1:])
