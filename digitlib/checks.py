"""Checks: the list of what must hold for an evaluation to be trusted, each with a stable code.

A check takes a :class:`digitlib.runs.Run` (and the digits, if it needs data or a little training)
and returns whether it passed and a sentence with the numbers behind that. A report, the command
``digitlib check`` and the verdict on a hand-in use the same list.
"""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from unittest import mock

import numpy as np
import torch
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.neighbors import KNeighborsClassifier

from digitlib import crossval, metrics, model, runs
from digitlib.data import SHA256, SOURCES, load_digits
from digitlib.errors import DataError, RunError
from digitlib.scaling import PixelScaler

FILE = "checks.json"
LIST = {}  # code -> (title, whether it needs the data, function)


@dataclass
class Result:
    """Outcome of one check; ``detail`` is one sentence with the numbers behind it."""

    code: str
    title: str
    passed: bool
    detail: str

    def __str__(self):
        return f"{self.code} {'passed' if self.passed else 'FAILED'}: {self.title} ({self.detail})"


def check(code, title, with_data=False):
    """Put a function on the list. Codes are for good: a check that goes takes its code with it."""

    def listed(function):
        LIST[code] = title, with_data, function
        return function

    return listed


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
        return [Result("DL000", LIST["DL000"][0], False, str(error))]
    digits = load_digits(run.info["data"]["source"]) if everything else None
    return [
        _result(code, title, function, *[run, digits][: 1 + with_data])
        for code, (title, with_data, function) in sorted(LIST.items())
        if everything or not with_data
    ]


def _result(code, title, function, *arguments):
    try:
        passed, detail = function(*arguments)
    except (ValueError, KeyError, IndexError, TypeError, OSError) as error:
        passed, detail = False, f"could not be completed: {type(error).__name__}: {error}"
    return Result(code, title, bool(passed), detail)


def write(folder, results):
    """Write ``checks.json``: a list of ``code``, ``title``, ``passed``, ``detail``."""
    text = json.dumps([asdict(result) for result in results], indent=2)
    return runs.write_text(Path(folder) / FILE, f"{text}\n")


# ---- from the run folder alone -------------------------------------------------------------------


@check("DL000", "the run folder is whole and readable")
def readable(run):
    """Every file is there and holds what it should."""
    return True, f"{len(run.y):,} rows"


@check("DL004", "each row is predicted exactly once")
def each_row_once(run):
    """Rows 0 to n - 1 each stand once in ``predictions.csv``, in a fold that exists."""
    n, splits = run.info["data"]["rows"], run.parameters["splits"]
    times = np.bincount(run.row[(run.row >= 0) & (run.row < n)], minlength=n)
    strange = (run.row < 0) | (run.row >= n) | (run.folds < 1) | (run.folds > splits)
    once, used = int((times == 1).sum()), len(np.unique(run.folds))
    told = f"{once:,} of {n:,} rows predicted once, in {used} of {splits} folds"
    return once == n and not strange.any(), told


@check("DL005", "probabilities sum to 1")
def proper_probabilities(run):
    """Probabilities lie in 0..1, sum to 1, and the prediction is the most probable class."""
    p = run.probabilities
    off = float(np.abs(p.sum(axis=1) - 1).max())  # NaN, of a line cut off, passes no comparison
    # Classes may be labels other than 0..9: the prediction must name one column, the largest.
    named = np.searchsorted(np.unique(run.y), run.predicted).clip(max=p.shape[1] - 1)
    largest = p[np.arange(len(p)), named] == p.max(axis=1)
    passed = off < 1e-5 and (p >= 0).all() and (p <= 1).all() and largest.all()
    return passed, (
        f"sums differ from 1 by at most {off:.1g}; {int((~largest).sum())} predictions are not the"
        " most probable class"
    )


@check("DL006", "better than the majority class")
def better_than_majority(run):
    """The whole 95 % interval lies above the share of the most frequent class."""
    share = np.unique(run.y, return_counts=True)[1].max() / len(run.y)
    low, _ = metrics.wilson_interval((run.y == run.predicted).sum(), len(run.y))
    return low > share, f"at least {100 * low:.2f} % (95 % interval) against {100 * share:.2f} %"


@check("DL008", "the data is known by its hash")
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


@check("DL010", "the score in run.json is the score of predictions.csv")
def score_recomputed(run):
    """The score in ``run.json`` is that of ``predictions.csv``, in total and fold by fold."""
    right, told, numbers = (
        run.y == run.predicted,
        run.info["scores"],
        range(1, 1 + run.parameters["splits"]),
    )
    folds = [right[run.folds == k].mean() for k in numbers if (run.folds == k).any()]
    claimed, found = [told["accuracy"], *told["fold_accuracies"]], [right.mean(), *folds]
    same = (told["correct"], told["total"]) == (right.sum(), len(right))
    same = same and len(claimed) == len(found) and np.allclose(claimed, found, rtol=0, atol=1e-12)
    return same, (
        f"run.json says {told['correct']:,} of {told['total']:,}; predictions.csv gives"
        f" {right.sum():,} of {len(right):,}"
    )


# ---- with the data and a little training ---------------------------------------------------------


@check("DL001", "with labels shuffled, accuracy is near chance", with_data=True)
def shuffled_labels(run, digits):
    """With labels shuffled nothing can be learned: more than chance would mean that answers leak.

    The run's recipe for a few epochs, and 1-nearest-neighbour, which remembers every row and so
    would betray a row on both sides.
    """
    rows, y = _sample(digits, 600)
    y = np.random.default_rng(0).permutation(y)
    chance = np.unique(y, return_counts=True)[1].max() / len(y)
    limit = chance + 4 * (chance * (1 - chance) / len(y)) ** 0.5
    asked = {run.info["recipe"]["name"]: _brief(run, 2)}
    asked["1-nearest-neighbour"] = KNeighborsClassifier(1)
    found = {
        name: _folds(classifier, digits.data[rows], y, n_splits=2).accuracy
        for name, classifier in asked.items()
    }
    words = ", ".join(f"{name} {100 * accuracy:.1f} %" for name, accuracy in found.items())
    told = f"{words} on {len(y):,} rows; chance gives up to {100 * limit:.1f} %"
    return max(found.values()) < limit, told


class _Witness(ClassifierMixin, BaseEstimator):
    """Learns nothing. Its rows are row numbers; it tells which of them it was given to learn."""

    def fit(self, X, y):
        """Remember the row numbers in `X`; return self."""
        self.classes_, self.seen_ = np.unique(y), X[:, 0]
        return self

    def predict_proba(self, X):
        """Certain of the second class where a row was seen in fit, else of the first."""
        return np.eye(len(self.classes_))[np.isin(X[:, 0], self.seen_).astype(int)]


@check("DL002", "no row is both trained on and tested", with_data=True)
def disjoint_rows(run, digits):
    """No row is trained on and tested in the same fold; and the folds are those of the run."""
    seen = _folds(_Witness(), np.arange(len(digits.target))[:, None], digits.target, run)
    both = int(seen.probabilities[:, 1].sum())
    moved = int((seen.folds != run.folds[np.argsort(run.row, kind="stable")]).sum())
    return not both and not moved, (
        f"{both} rows both trained on and tested; {moved} rows not in the fold that the split puts"
        " them in"
    )


@check("DL003", "the scaler is blind to held-out rows", with_data=True)
def blind_scaler(run, digits):
    """The scaler in each fold's weights file is the one that the other folds' rows give."""
    order, off = np.argsort(run.row, kind="stable"), 0.0
    for number in range(1, run.parameters["splits"] + 1):
        kept = run.fold(number).scaler_
        blind = PixelScaler(kept.kind).fit(digits.data[run.folds[order] != number])
        off = max(off, np.abs(kept.mean_ - blind.mean_).max())
        off = max(off, np.abs(kept.scale_ - blind.scale_).max())
    seen = "; it has seen held-out rows (scaling='all' asks for that)" if off > 1e-6 else ""
    return off <= 1e-6, f"differs from one fitted on training rows alone by at most {off:.1g}{seen}"


@check("DL007", "better than 1-nearest-neighbour", with_data=True)
def better_than_neighbour(run, digits):
    """More rows right than 1-nearest-neighbour in the same folds."""
    other = _folds(KNeighborsClassifier(1), digits.data, digits.target, run)
    right, theirs = int((run.y == run.predicted).sum()), int((other.predicted == other.y).sum())
    return right > theirs, f"{right:,} right, 1-nearest-neighbour {theirs:,}"


@check("DL009", "seeds reach initialisation and shuffling", with_data=True)
def seeds_reach(run, digits):
    """The seed decides first weights and order of rows: the same repeats both, another neither."""
    rows, y = _sample(digits, 200)
    (start_a, order_a), (start_b, order_b), (start_c, order_c) = (
        _watch(_brief(run, 1, seed), digits.data[rows], y) for seed in (1, 1, 2)
    )
    start = start_a == start_b != start_c
    order = order_a == order_b and (order_a != order_c or not order_a)
    shuffled = "order of rows" if order_a else "order of rows (none is drawn)"
    words = {True: "as", False: "NOT as"}
    return start and order, (
        f"first weights: {words[start]} the seed says; {shuffled}: {words[order]} the seed says"
    )


def _watch(classifier, X, y):
    """First weights and orders of rows that a fit draws, as lists of bytes.

    Where no network is built, what comes out stands for the first weights.
    """
    starts, orders, build, randperm = [], [], model.build, torch.randperm

    def built(*arguments, **options):
        network = build(*arguments, **options)
        values = [t.detach().contiguous().numpy().tobytes() for t in network.state_dict().values()]
        starts.append(b"".join(values))
        return network

    def drawn(*arguments, **options):
        orders.append(randperm(*arguments, **options))
        return orders[-1]

    with mock.patch.object(model, "build", built), mock.patch.object(torch, "randperm", drawn):
        classifier.fit(X, y)
    orders = [order.numpy().tobytes() for order in orders]
    return starts or [classifier.predict_proba(X).tobytes()], orders


def _folds(classifier, X, y, run=None, **split):
    """A quiet cross-validation, in the folds of `run`."""
    if run is not None:
        split = {"n_splits": run.parameters["splits"], "random_state": run.parameters["split_seed"]}
    return crossval.cross_validate(classifier, X, y, n_jobs=1, progress="off", **split)


def _sample(digits, n):
    """`n` rows spread over the data, and their labels."""
    rows = np.linspace(0, len(digits.target) - 1, min(n, len(digits.target))).astype(int)
    return rows, digits.target[rows]


def _brief(run, epochs, seed=0):
    """The run's classifier with at most so many epochs, where it has any."""
    classifier = run.classifier().set_params(random_state=seed)
    recipe = classifier.settings()
    return (
        classifier.set_params(epochs=min(epochs, recipe.epochs)) if recipe.learned else classifier
    )
