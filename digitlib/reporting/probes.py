"""Checks of an evaluation that need the data or a little training: a Run and the digits in,
(passed, detail) out.
"""

from unittest import mock

import numpy as np
import torch
from sklearn.base import BaseEstimator, ClassifierMixin

from digitlib import crossval, model
from digitlib.classifier import DigitClassifier
from digitlib.compare import classifier_of
from digitlib.scaling import PixelScaler


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
