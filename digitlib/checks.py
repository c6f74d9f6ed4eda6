"""The list of checks that a run must pass, each with a stable code."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from unittest import mock

import numpy as np
import torch
from sklearn.base import BaseEstimator, ClassifierMixin

from digitlib import crossval, metrics, model, runs
from digitlib.classifier import DigitClassifier
from digitlib.compare import classifier_of
from digitlib.data import SHA256, SOURCES, load_digits
from digitlib.errors import DataError, RunError
from digitlib.scaling import PixelScaler

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


# ---- the checks: a Run in, (passed, detail) out --------------------------------------------------


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


def shuffled_labels(run, digits):
    """With labels shuffled, nothing can be learned: more than chance would mean that answers leak.

    The run's recipe for a few epochs, and 1-nearest-neighbour, which remembers every row and so
    would betray a row on both sides.
    """
    from sklearn.neighbors import KNeighborsClassifier

    rows, y = _sample(digits, 600)
    y = np.random.default_rng(0).permutation(y)
    chance = np.unique(y, return_counts=True)[1].max() / len(y)
    limit = chance + 4 * (chance * (1 - chance) / len(y)) ** 0.5
    found = {}
    for name, classifier in (
        (run.info["recipe"]["name"], _brief(run, 2)),
        ("1-nearest-neighbour", KNeighborsClassifier(1)),
    ):
        found[name] = crossval.cross_validate(
            classifier, digits.data[rows], y, n_splits=2, n_jobs=1, progress="off"
        ).accuracy
    words = ", ".join(f"{name} {100 * accuracy:.1f} %" for name, accuracy in found.items())
    return (
        max(found.values()) < limit,
        f"{words} on {len(y):,} rows; chance gives up to {100 * limit:.1f} %",
    )


class _Witness(ClassifierMixin, BaseEstimator):
    """Learns nothing. Its rows are row numbers; its prediction says which of them it was given to
    learn from.
    """

    def fit(self, X, y):
        """Remember the row numbers in `X`; return self."""
        self.classes_, self.seen_ = np.unique(y), X[:, 0]
        return self

    def predict_proba(self, X):
        """Certain of the second class where a row was seen in fit, of the first where it was not."""
        return np.eye(len(self.classes_))[np.isin(X[:, 0], self.seen_).astype(int)]


def disjoint_rows(run, digits):
    """No row is trained on and tested in the same fold; and the folds are those of the run."""
    splits, seed = run.info["parameters"]["splits"], run.info["parameters"]["split_seed"]
    numbers = np.arange(len(digits.target))[:, None]
    seen = crossval.cross_validate(
        _Witness(),
        numbers,
        digits.target,
        n_splits=splits,
        random_state=seed,
        n_jobs=1,
        progress="off",
    )
    both, moved = (
        int(seen.probabilities[:, 1].sum()),
        int((seen.folds != run.folds[np.argsort(run.row, kind="stable")]).sum()),
    )
    return (
        not both and not moved,
        (
            f"{both} rows both trained on and tested; {moved} rows not in the fold that the split"
            " puts them in"
        ),
    )


def blind_scaler(run, digits):
    """The scaler in each fold's weights file is the one that the other folds' rows give."""
    order, off = np.argsort(run.row, kind="stable"), 0.0
    for number in range(1, run.info["parameters"]["splits"] + 1):
        kept = DigitClassifier.load(run.path / f"fold-{number}.safetensors").scaler_
        blind = PixelScaler(kept.kind).fit(digits.data[run.folds[order] != number])
        off = max(
            off, np.abs(kept.mean_ - blind.mean_).max(), np.abs(kept.scale_ - blind.scale_).max()
        )
    seen = "; it has seen held-out rows (scaling='all' asks for that)" if off > 1e-6 else ""
    return (
        bool(off <= 1e-6),
        f"differs from one fitted on training rows alone by at most {off:.1g}{seen}",
    )


def better_than_neighbour(run, digits):
    """More rows right than 1-nearest-neighbour in the same folds."""
    from sklearn.neighbors import KNeighborsClassifier

    parameters, right = run.info["parameters"], int((run.y == run.predicted).sum())
    other = crossval.cross_validate(
        KNeighborsClassifier(1),
        digits.data,
        digits.target,
        n_splits=parameters["splits"],
        random_state=parameters["split_seed"],
        n_jobs=1,
        progress="off",
    )
    theirs = int((other.predicted == other.y).sum())
    return right > theirs, f"{right:,} right, 1-nearest-neighbour {theirs:,}"


def seeds_reach(run, digits):
    """The seed decides first weights and order of rows: the same seed repeats both, another changes
    both.
    """
    rows, y = _sample(digits, 200)
    (start_a, order_a), (start_b, order_b), (start_c, order_c) = (
        _watch(_brief(run, 1, seed), digits.data[rows], y) for seed in (1, 1, 2)
    )
    start, order = (
        start_a == start_b != start_c,
        order_a == order_b and (order_a != order_c or not order_a),
    )
    shuffled = "order of rows" if order_a else "order of rows (none is drawn)"
    return (
        start and order,
        (
            f"first weights: {'as' if start else 'NOT as'} the seed says; {shuffled}:"
            f" {'as' if order else 'NOT as'} the seed says"
        ),
    )


def _watch(classifier, X, y):
    """First weights (what comes out, where no network is built) and orders of rows that a fit
    draws, as lists of bytes.
    """
    starts, orders, build, randperm = [], [], model.build, torch.randperm

    def built(*arguments, **options):
        network = build(*arguments, **options)
        starts.append(
            b"".join(
                t.detach().contiguous().numpy().tobytes() for t in network.state_dict().values()
            )
        )
        return network

    def drawn(*arguments, **options):
        orders.append(randperm(*arguments, **options))
        return orders[-1]

    with mock.patch.object(model, "build", built), mock.patch.object(torch, "randperm", drawn):
        classifier.fit(X, y)
    return starts or [classifier.predict_proba(X).tobytes()], [
        order.numpy().tobytes() for order in orders
    ]


def _sample(digits, n):
    """`n` rows spread over the data, and their labels."""
    rows = np.linspace(0, len(digits.target) - 1, min(n, len(digits.target))).astype(int)
    return rows, digits.target[rows]


def _brief(run, epochs, seed=0):
    """The run's classifier with at most so many epochs, where it has any."""
    classifier = classifier_of(run).set_params(random_state=seed)
    recipe = classifier.settings()
    return (
        classifier.set_params(epochs=min(epochs, recipe.epochs)) if recipe.learned else classifier
    )


PROBES = {
    "DL001": shuffled_labels,
    "DL002": disjoint_rows,
    "DL003": blind_scaler,
    "DL007": better_than_neighbour,
    "DL009": seeds_reach,
}
