"""Is the evaluation sound? Checks with stable codes, each of which can fail, in the spirit of a
linter.

Those here need only the run folder; :mod:`digitlib.reporting.probes` has those that need the data
or a little training.
"""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from digitlib import metrics, runs
from digitlib.data import SHA256, SOURCES, load_digits
from digitlib.errors import DataError, RunError

FILE = "checks.json"


@dataclass
class Result:
    """Outcome of one check: ``code``, ``title``, ``passed`` and ``detail``, one sentence with the
    numbers behind it.
    """

    code: str
    title: str
    passed: bool
    detail: str

    def __str__(self):
        return f"{self.code} {'passed' if self.passed else 'FAILED'}: {self.title} ({self.detail})"


# Codes are for good: a check that goes takes its code with it, a new one gets the next.
TITLES = {
    "DL000": "the run folder is whole and readable",
    "DL001": "with labels shuffled, accuracy is near chance",
    "DL002": "no row is both trained on and tested",
    "DL003": "the scaler is blind to held-out rows",
    "DL004": "each row is predicted exactly once",
    "DL005": "probabilities sum to 1",
    "DL006": "better than the majority class",
    "DL007": "better than 1-nearest-neighbour",
    "DL008": "the data is known by its hash",
    "DL009": "seeds reach initialisation and shuffling",
    "DL010": "the score in run.json is the score of predictions.csv",
}


def check_folder(folder, everything=False):
    """Check a run folder.

    Parameters
    ----------
    folder : str or path-like
    everything : bool
        Also run the checks that need the data and a little training, about three seconds.

    Returns
    -------
    list of Result
        In the order of their codes. A check that cannot be completed has not passed.

    Raises
    ------
    RunError
        There is no ``run.json``: this is no run folder at all.
    """
    try:
        run = runs.load(folder, consistent=False)
    except RunError as error:
        if not (Path(folder) / "run.json").is_file():
            raise
        return [Result("DL000", TITLES["DL000"], False, str(error))]
    results = [Result("DL000", TITLES["DL000"], True, f"{len(run.y):,} rows")]
    results += [_result(code, check, run) for code, check in FOLDER_CHECKS.items()]
    if everything:
        from digitlib.reporting.probes import PROBES

        digits = load_digits(run.info["data"]["source"])
        results += [_result(code, check, run, digits) for code, check in PROBES.items()]
    return sorted(results, key=lambda result: result.code)


def _result(code, check, *arguments):
    try:
        passed, detail = check(*arguments)
    except (ValueError, KeyError, IndexError, TypeError, OSError) as error:
        passed, detail = False, f"could not be completed: {type(error).__name__}: {error}"
    return Result(code, TITLES[code], bool(passed), detail)


def write(folder, results):
    """Write ``checks.json`` into the run folder: a list of ``code``, ``title``, ``passed``,
    ``detail``.
    """
    runs.write_text(
        Path(folder) / FILE, json.dumps([asdict(result) for result in results], indent=2) + "\n"
    )


# ---- the checks: a Run in, (passed, detail) out
# ------------------------------------------------------------------------


def each_row_once(run):
    """Rows 0 to n - 1 each stand once in ``predictions.csv``, in a fold that exists."""
    n, splits = run.info["data"]["rows"], run.info["parameters"]["splits"]
    times = np.bincount(run.row[(run.row >= 0) & (run.row < n)], minlength=n)
    strange = (run.row < 0) | (run.row >= n) | (run.folds < 1) | (run.folds > splits)
    wrong = int((times != 1).sum() + strange.sum())
    return (
        not wrong,
        (
            f"{n - int((times != 1).sum()):,} of {n:,} rows predicted once, in"
            f" {len(np.unique(run.folds))} of {splits} folds"
        ),
    )


def proper_probabilities(run):
    """Probabilities lie in 0..1, sum to 1, and the prediction is the most probable class."""
    p = run.probabilities
    off = float(
        np.abs(p.sum(axis=1) - 1).max()
    )  # NaN, where a line is cut off, passes no comparison
    # Classes may be labels other than 0..9: the prediction must name one column, and that one must
    # be the largest.
    largest = p[
        np.arange(len(p)), np.searchsorted(np.unique(run.y), run.predicted).clip(max=p.shape[1] - 1)
    ] == p.max(axis=1)
    passed = bool(off < 1e-5 and (p >= 0).all() and (p <= 1).all() and largest.all())
    return (
        passed,
        (
            f"sums differ from 1 by at most {off:.1g}; {int((~largest).sum())} predictions are not"
            " the most probable class"
        ),
    )


def better_than_majority(run):
    """The whole 95 % interval lies above the share of the most frequent class."""
    share = np.unique(run.y, return_counts=True)[1].max() / len(run.y)
    low, _ = metrics.wilson_interval((run.y == run.predicted).sum(), len(run.y))
    return (
        bool(low > share),
        f"at least {100 * low:.2f} % (95 % interval) against {100 * share:.2f} %",
    )


def known_data(run):
    """The data is the published one; of an own file, that it is still the same."""
    source, recorded = run.info["data"]["source"], run.info["data"]["sha256"]
    if source in SOURCES:
        known = load_digits("sklearn").sha256 if source == "sklearn" else SHA256
        return recorded == known, f"{source}: {recorded[:12]}, published {known[:12]}"
    try:
        found = load_digits(source).sha256
    except DataError as error:
        return False, f"own file, cannot be compared: {error}"
    return found == recorded, f"own file: {recorded[:12]} when trained, {found[:12]} now"


def score_recomputed(run):
    """The score in ``run.json`` is the one that ``predictions.csv`` gives, in total and fold by
    fold.
    """
    right, told = run.y == run.predicted, run.info["scores"]
    folds = [
        right[run.folds == k].mean()
        for k in range(1, run.info["parameters"]["splits"] + 1)
        if (run.folds == k).any()
    ]
    same = (
        told["correct"] == right.sum()
        and told["total"] == len(right)
        and np.isclose(told["accuracy"], right.mean(), rtol=0, atol=1e-12)
        and np.shape(told["fold_accuracies"]) == np.shape(folds)
        and np.allclose(told["fold_accuracies"], folds, rtol=0, atol=1e-12)
    )
    return (
        bool(same),
        (
            f"run.json says {told['correct']:,} of {told['total']:,}; predictions.csv gives"
            f" {right.sum():,} of {len(right):,}"
        ),
    )


FOLDER_CHECKS = {
    "DL004": each_row_once,
    "DL005": proper_probabilities,
    "DL006": better_than_majority,
    "DL008": known_data,
    "DL010": score_recomputed,
}
