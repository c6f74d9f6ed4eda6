"""The list of checks that a run must pass, each with a stable code."""

import json
import os
from collections.abc import Callable, Collection
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import chi2_contingency
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.neighbors import KNeighborsClassifier

from digitlib import crossval, files, metrics, own, runs
from digitlib.classifier import DigitClassifier
from digitlib.data import load_again, load_digits
from digitlib.errors import NotebookFailed, ParameterError, RunError, plain
from digitlib.scaling import PixelScaler

# Another processor or torch rounds differently: seen up to 1e-6. Another run differs by 0.1.
SAME_PROBABILITY = 1e-4
RISEN = 1.25  # of the held-out loss, from its best epoch to the last one
SAME_SCALER = 1e-6
UNLIKELY = 0.001  # p of a test
IMPOSSIBLE = 1e-4  # probability of a label
NOT_KEPT = "the models could not be kept"
NEIGHBOUR = KNeighborsClassifier(1)  # remembers every row, and so betrays one on both sides


@dataclass
class Result:
    """Outcome of one check; ``detail`` is one sentence with the numbers behind it.

    ``passed``: None if there was nothing to run it on. ``kind``: a check not passed is a ``fault``,
    for which the report cannot be trusted, or a ``finding`` about a model, in a report that is
    sound.
    """

    code: str
    title: str
    passed: bool | None
    detail: str
    kind: str = "fault"

    @property
    def state(self) -> str:
        """In a word or two."""
        lost = "worth knowing" if self.kind == "finding" else "FAILED"
        return {True: "passed", None: "not run"}.get(self.passed, lost)

    def __str__(self):
        no = "not " if self.state == "worth knowing" else ""
        return f"{self.code} {self.state}: {no}{self.title} ({self.detail})"


@dataclass(frozen=True)
class Check:
    """One entry of the list.

    Attributes
    ----------
    code, title : str
        What stands in ``checks.json``.
    judge : callable
        Takes a :class:`digitlib.runs.Run`, and the run's data if `needs_data`; returns whether it
        passed, and the detail.
    needs_data : bool
        Needs the data and, most of them, a little training.
    kind : str
        ``fault`` or ``finding``, see :class:`Result`.
    """

    code: str
    title: str
    judge: Callable
    needs_data: bool
    kind: str = "fault"

    def result(self, *arguments):
        """The :class:`Result`; a check that cannot be completed has not passed."""
        kind = self.kind
        try:
            passed, detail = self.judge(*arguments)
        except (ValueError, KeyError, IndexError, TypeError, OSError, RuntimeError) as error:
            passed, detail = False, f"could not be completed: {type(error).__name__}: {error}"
            kind = "fault"
        passed = None if passed is None else bool(passed)
        return Result(self.code, self.title, passed, plain(detail), kind)


CHECKS: dict[str, Check] = {}  # by code


def check(code, title, needs_data=False, kind="fault"):
    """Put the function below on the list.

    Codes are for good: a check that goes takes its code with it, a new one gets the next.
    """

    def enter(judge):
        CHECKS[code] = Check(code, title, judge, needs_data, kind)
        return judge

    return enter


def check_folder(
    folder: str | os.PathLike,
    everything: bool = False,
    run_code: bool = False,
    leave: Collection[str] = (),
) -> list[Result]:
    """Check a run folder.

    Parameters
    ----------
    folder : str or path-like
    everything : bool
        Also run the checks that need the data and a little training, about three seconds.
    run_code : bool
        Allow the run's own ``model.py`` to be executed.
    leave : collection of str
        Codes of checks to leave out.

    Returns
    -------
    list of Result
        In the order of their codes.

    Raises
    ------
    RunError
        The folder is no complete run, or is damaged.
    ParameterError
        There is no check with a code in `leave`.
    """
    if unknown := sorted(set(leave) - CHECKS.keys()):
        known = ", ".join(sorted(CHECKS))
        raise ParameterError(f"no check {unknown[0]!r} to ignore; there are {known}")
    run = runs.load(folder, run_code=run_code)
    digits = load_digits(run.info["data"]["source"]) if everything else None
    return check_run(run, digits, leave)


def check_run(run: runs.Run, digits: Any = None, leave: Collection[str] = ()) -> list[Result]:
    """Results of all checks but those in `leave`; without `digits`, of those that need none."""
    return [
        entry.result(run, digits) if entry.needs_data else entry.result(run)
        for code, entry in sorted(CHECKS.items())
        if code not in leave and (digits is not None or not entry.needs_data)
    ]


def write(folder: str | os.PathLike, results: list[Result]) -> None:
    """Write ``checks.json`` into the run folder: all fields of each :class:`Result`."""
    entries = [asdict(result) for result in results]
    files.write_text(Path(folder) / "checks.json", json.dumps(entries, indent=2) + "\n")


def read(folder: str | os.PathLike) -> list[Result]:
    """Results as ``checks.json`` of a run folder has them; none if there is no such file.

    Raises
    ------
    RunError
        It is no list of results.
    """
    path = Path(folder) / "checks.json"
    if not path.is_file():
        return []
    try:
        return [Result(**entry) for entry in json.loads(path.read_text("utf-8"))]
    except (ValueError, TypeError) as error:
        remedy = "write it again: digitlib check --all"
        raise RunError(f"{path}: damaged ({error}); {remedy}") from error


def check_and_write(folder):
    """Run all checks of a report that is being made, the user's own model included."""
    try:
        write(folder, check_folder(folder, everything=True, run_code=True))
    except Exception as error:
        raise NotebookFailed(f"the checks could not be run: {error}") from error


# ---- what the run folder alone shows -------------------------------------------------------------


@check("DL006", "better than the majority class")
def better_than_majority(run):
    """The whole 95 % interval lies above the share of the most frequent class."""
    share = np.unique(run.y, return_counts=True)[1].max() / len(run.y)
    low, _ = metrics.wilson_interval((run.y == run.predicted).sum(), len(run.y))
    return low > share, f"at least {100 * low:.2f} % (95 % interval) against {100 * share:.2f} %"


@check("DL008", "the data is known by its hash")
def known_data(run):
    """The data is the published one; of an own file, that it is still the same."""
    facts = run.info["data"]
    still = load_again(facts) is not None
    said = "the hash of these rows" if still else "these rows are gone, or are other ones now"
    return still, f"{facts['source']}: {facts['sha256'][:12]}, {said}"


@check("DL017", "free of over-fitting", kind="finding")
def no_over_fitting(run):
    """The held-out loss has not risen again while the training loss fell far below it."""
    if "held_out_loss" not in run.history:
        return True, "no held-out loss was recorded"
    losses = run.history.groupby("epoch")[["loss", "held_out_loss"]].mean()
    (train, held_out), best = losses.iloc[-1], losses["held_out_loss"].min()
    detail = f"loss at the end: held-out {held_out:.3g}, at its best {best:.3g}, train {train:.3g}"
    stop = f"; stop after epoch {losses['held_out_loss'].idxmin():.0f}, or try dropout"
    over = held_out > RISEN * best and train < held_out / 2
    return not over, detail + stop if over else detail


@check("DL018", "stable over folds", kind="finding")
def stable_folds(run):
    """Folds differ no more in accuracy than chance gives: chi-squared test of all folds alike."""
    counts = pd.crosstab(run.folds, run.y != run.predicted)
    if (errors := (run.y != run.predicted).sum()) < len(counts):
        return True, f"{errors} errors in {len(counts)} folds"
    shares, p = 100 * (1 - counts[True] / counts.sum(axis=1)), chi2_contingency(counts).pvalue
    detail = f"{shares.min():.2f} to {shares.max():.2f} %, p = {p:.2g}"
    advice = f"; look at fold {shares.idxmin()} in 2_train and 3_evaluate, or train longer"
    return p >= UNLIKELY, detail if p >= UNLIKELY else detail + advice


@check("DL019", "free of suspected label errors", kind="finding")
def no_label_suspected(run):
    """Nowhere is the label next to impossible for networks that never saw the image."""
    judged = metrics.judged_rows(run.y, run.probabilities, np.unique(run.y))
    suspects = judged[judged["p_label"] < IMPOSSIBLE].sort_values("p_label", kind="stable")
    if suspects.empty:
        return True, f"each label has a probability of at least {IMPOSSIBLE:g}"
    first = suspects.iloc[0]
    words = f"{len(suspects)}, first row {run.row[suspects.index[0]]} (label {first.label}, read as"
    advice = "look in 3_evaluate: is the label wrong, or are the networks too sure?"
    return False, f"{words} {first.predicted}); {advice}"


@check("DL020", "model.py makes the model that was used")
def source_makes_model(run):
    """The kept file builds a classifier with the parameters of the one that was trained."""
    found = run.info["model"].get("differs")
    if not run.own or "sha256" not in run.info["model"]:
        return True, "no model.py: the model is one of digitlib's recipes"
    return not found, found or "both have the same parameters"


# ---- what needs the data and a little training ---------------------------------------------------


@check("DL001", "with labels shuffled, accuracy is near chance", needs_data=True)
def shuffled_labels(run, digits):
    """With labels shuffled, nothing can be learned: more than chance would mean that answers leak.

    The run's recipe for a few epochs, and 1-nearest-neighbour, which remembers every row and so
    would betray a row on both sides.
    """
    X, y = _sample(digits, 600)
    y = np.random.default_rng(0).permutation(y)
    chance = np.unique(y, return_counts=True)[1].max() / len(y)
    limit = chance + 4 * (chance * (1 - chance) / len(y)) ** 0.5
    classifiers = {own.label(run.info): _brief(run, 2), "1-nearest-neighbour": NEIGHBOUR}
    split, found = {"splits": 2, "split_seed": 30}, {}
    for name, classifier in classifiers.items():
        found[name] = _cross_validate(classifier, X, y, split).accuracy
    words = ", ".join(f"{name} {100 * accuracy:.1f} %" for name, accuracy in found.items())
    detail = f"{words} on {len(y):,} rows; chance gives up to {100 * limit:.1f} %"
    return max(found.values()) < limit, detail


class _Witness(ClassifierMixin, BaseEstimator):
    """Learns nothing; tells which rows it was given to learn from. Its rows are row numbers."""

    def fit(self, X, y):
        """Remember the row numbers in `X`; return self."""
        self.classes_, self.seen_ = np.unique(y), X[:, 0]
        return self

    def predict_proba(self, X):
        """Certain of the second class where a row was seen in fit, of the first where not."""
        return np.eye(len(self.classes_))[np.isin(X[:, 0], self.seen_).astype(int)]


@check("DL002", "no row is both trained on and tested", needs_data=True)
def disjoint_rows(run, digits):
    """No row is trained on and tested in the same fold; and the folds are those of the run."""
    numbers = np.arange(len(digits.target))[:, None]
    seen = _cross_validate(_Witness(), numbers, digits.target, run.info["parameters"])
    both = int(seen.probabilities[:, 1].sum())
    moved = int((seen.folds != _folds_by_row(run)).sum())
    detail = f"{both} rows both trained on and tested; {moved} rows not in the fold of the split"
    return not both and not moved, detail


@check("DL003", "the scaler is blind to held-out rows", needs_data=True)
def blind_scaler(run, digits):
    """The scaler in each fold's weights file is the one that the other folds' rows give."""
    if run.info["model"]["unkept"]:
        return None, NOT_KEPT
    if not run.info["model"]["files"][0].endswith(".safetensors"):
        return True, "no scaler of digitlib's: what the classifier holds is fitted by fold (DL002)"
    off = scaler_distance(run, digits)
    seen = "; it has seen held-out rows (scaling='all' asks for that)" if off > SAME_SCALER else ""
    detail = f"at most {off:.1g} away from a scaler of the training rows alone{seen}"
    return off <= SAME_SCALER, detail


def scaler_distance(run, digits, leaky=False):
    """How far the kept scalers are from those of the training rows; if `leaky`, of all rows."""
    folds, off = _folds_by_row(run), []
    for number in range(1, run.info["parameters"]["splits"] + 1):
        kept = run.fitted(number).scaler_
        ours = PixelScaler(kept.kind).fit(digits.data if leaky else digits.data[folds != number])
        off += [np.abs(kept.mean_ - ours.mean_).max(), np.abs(kept.scale_ - ours.scale_).max()]
    return np.max(off)  # NaN, where one is


@check("DL011", "labels are those of the data", needs_data=True)
def published_labels(run, digits):
    """``predictions.csv`` scores against the labels that the data has."""
    wrong = np.flatnonzero(run.y != digits.target[run.row])
    first = f", first row {run.row[wrong[0]]}" if len(wrong) else ""
    return not len(wrong), f"{len(wrong):,} labels are other ones{first}"


@check("DL015", "the kept models give the predictions", needs_data=True)
def models_give_predictions(run, digits):
    """Each fold's model, on the rows it held out, gives the stored probabilities."""
    if run.info["model"]["unkept"]:
        return None, NOT_KEPT
    worst = 0.0
    for number in np.unique(run.folds):
        rows = np.flatnonzero(run.folds == number)
        given = run.fitted(int(number)).predict_proba(digits.data[run.row[rows]])
        off = np.abs(given - run.probabilities[rows]).max(axis=1)
        if wrong := int((~(off <= SAME_PROBABILITY)).sum()):  # NaN is wrong as well
            many = f"{wrong:,} of {len(rows):,} rows differ by up to {off.max():.3g}"
            first = run.row[rows[~(off <= SAME_PROBABILITY)][0]]
            return False, f"fold {number}: {many}, first row {first}"
        worst = max(worst, off.max())
    return True, f"{len(run.y):,} rows; no probability differs by more than {worst:.1g}"


@check("DL007", "better than 1-nearest-neighbour", needs_data=True, kind="finding")
def better_than_neighbour(run, digits):
    """More rows right than 1-nearest-neighbour in the same folds; told with the time of both."""
    other = _cross_validate(NEIGHBOUR, digits.data, digits.target, run.info["parameters"])
    ours, theirs = ((one.predicted == one.y).sum() for one in (run, other))
    # The run's folds trained side by side, these one after another: slower is said too rarely.
    took, there = run.info["seconds"], other.seconds
    than = "slower than " if ours <= theirs and took > there else ""
    detail = f"{100 * ours / len(run.y):.2f} % right in {took:.1f} s, {than}1-nearest-neighbour"
    detail += f" with {100 * theirs / len(run.y):.2f} % in {there:.1f} s"
    advice = "; try another recipe, such as kernel"
    if run.info["recipe"].get("dropout"):
        advice += ", more epochs or less dropout"
    return ours > theirs, detail if ours > theirs else detail + advice


def _sample(digits, n):
    """`n` rows spread over the data, and their labels."""
    rows = np.linspace(0, len(digits.target) - 1, min(n, len(digits.target))).astype(int)
    return digits.data[rows], digits.target[rows]


def _brief(run, epochs, seed=0):
    """The run's classifier with at most so many epochs, where it has any."""
    classifier = run.classifier(seed)
    if not isinstance(classifier, DigitClassifier):
        return classifier
    return classifier.set_params(epochs=min(epochs, classifier.settings().epochs))


def _folds_by_row(run):
    return run.folds[np.argsort(run.row, kind="stable")]


def _cross_validate(classifier, X, y, parameters):
    """In the folds that these `parameters` of a run make."""
    split = {"n_splits": parameters["splits"], "random_state": parameters["split_seed"]}
    split["folds"] = parameters.get("folds", "kfold")
    return crossval.cross_validate(classifier, X, y, **split, n_jobs=1, progress=False)
