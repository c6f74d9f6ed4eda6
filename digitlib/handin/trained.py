"""Claims about training, checked on the weights: are they what the run says they are?"""

import functools
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd

from digitlib import runs
from digitlib.classifier import DigitClassifier
from digitlib.crossval import cross_validate
from digitlib.data import load_digits
from digitlib.errors import ParameterError
from digitlib.handin.evidence import SOURCES, CannotBeChecked, DoesNotHold, Unreadable
from digitlib.recipes import RECIPES, from_dict
from digitlib.scaling import PixelScaler

# Another processor or torch rounds differently: seen up to 1e-6. Another run differs by 0.1 and
# more.
SAME_PROBABILITY = 1e-4
SAME_SCALER = 1e-9
# Rounding grows in training: on another machine the same seed ends in other weights. Plain reruns
# differ by up to 0.23 points.
RETRAINED_ACCURACY = 0.005
RETRAINED_DIGITS = 0.98
STUDENT_SECONDS, STUDENT_BYTES = 120, 8 * 2**30  # for the student's own code, if it may run
READ = ("run.json", "predictions.csv", "history.csv")
OWN = {"network": "the student's own network", "estimator": "the student's own classifier"}
# Sources that decide what weights give on an image.
DECISIVE = ("model.py", "training.py", "classifier.py", "recipes.py", "recipes.toml", "scaling.py")
DECISIVE += ("augmentation.py", "strokes.toml", "normalisation.py", "crossval.py", "data.py")


def recipe(evidence):
    """The settings are those of the recipe they are named after, but for the stated changes."""
    if evidence.model["kind"] == "estimator":
        raise CannotBeChecked(OWN["estimator"])
    claimed = evidence.stated("recipe", kind=dict)
    epochs = evidence.stated("parameters", kind=dict).get("epochs")
    name = claimed.get("name")
    if not isinstance(name, str) or name not in RECIPES:
        raise CannotBeChecked(f"{name!r} is not a recipe of this digitlib ({', '.join(RECIPES)})")
    try:
        ours = from_dict(claimed)
    except (ParameterError, TypeError) as error:
        raise DoesNotHold(f"{name}: {error}") from error
    if ours.epochs != epochs:
        raise DoesNotHold(f"{name} has epochs={ours.epochs}, the run {epochs!r}")
    if ours.summary != RECIPES[name].summary:
        raise DoesNotHold(f"{name} has another summary than the recipe")
    # Version 0.1 could change nothing but the epochs.
    before = "model" not in evidence.info
    stated = {"epochs"} if before else evidence.model.get("changed") or {}
    changed = {setting: list(pair) for setting, pair in ours.changes().items()}
    for setting, (value, usual) in changed.items():
        if setting not in stated or (
            isinstance(stated, dict) and stated[setting] != [value, usual]
        ):
            raise DoesNotHold(f"{name} has {setting}={usual!r}, the run {value!r}")
    if extra := sorted(set(stated) - changed.keys() - {"epochs"}):
        raise DoesNotHold(f"{extra[0]} is said to be changed, and is not")
    words = ", ".join(f"{setting} {value} ({usual})" for setting, (value, usual) in changed.items())
    own = "the student's own network, trained as " if evidence.model["kind"] == "network" else ""
    return f"{own}{name}, changed: {words} (as stated)" if words else f"{own}{name}"


def history(evidence):
    """``history.csv`` and the weights tell the same story of training."""
    if evidence.model["kind"] == "estimator":
        return "no epochs"
    lines = evidence.content("history.csv").decode("ascii", "replace").splitlines()
    epochs = evidence.stated("parameters", kind=dict).get("epochs")  # None: whatever was recorded
    names = lines[0].split(",") if lines else []
    kept = []
    for number in range(1, len(evidence.splits) + 1):
        for record in evidence.weights_header(number).get("history", []):
            kept.append(",".join(_cell({**record, "fold": number}.get(name)) for name in names))
    if lines[1:] != kept or (epochs and len(kept) != len(evidence.splits) * epochs):
        told = f"history.csv ({len(lines) - 1} lines)"
        raise DoesNotHold(f"{told} is not what the weights recorded ({len(kept)})")
    return f"{len(kept)} records in {len(evidence.splits)} folds"


def _cell(value):
    """A value as it stands in ``history.csv``; what is missing or NaN is empty."""
    if value is None or value != value:
        return ""
    return f"{value:.9g}" if isinstance(value, float) else str(value)


def weights(evidence):
    """Each fold has weights, made with the claimed recipe, seed, split and data."""
    if evidence.model["kind"] == "estimator":
        raise CannotBeChecked(f"{OWN['estimator']}: its files are not opened, they could run code")
    parameters = evidence.stated("parameters", kind=dict)
    expected = {
        "recipe": evidence.stated("recipe", kind=dict),
        "data": evidence.stated("data", "sha256", kind=str),
        **{key: parameters.get(key) for key in ("seed", "split_seed")},
    }
    for number in range(1, len(evidence.splits) + 1):
        header = evidence.weights_header(number)
        for key, value in {**expected, "fold": number}.items():
            if header.get(key) != value:
                made = f"fold-{number}.safetensors was made with {key} {str(header.get(key))[:60]}"
                raise DoesNotHold(f"{made}, the run claims {str(value)[:60]}")
    return f"{len(evidence.splits)} files of numbers, none of code"


def _only_if(evidence, *checks):
    """Go no further with files or settings that are not ours."""
    for check in checks:
        try:
            check(evidence)
        except DoesNotHold as error:
            raise CannotBeChecked(f"because {error}") from error


def _classifiers(evidence):
    """Number, training rows, held-out rows and fitted classifier of each fold.

    They are loaded by safetensors alone, and only where recipe and headers are ours.
    """
    if own := OWN.get(evidence.model["kind"]):
        raise CannotBeChecked(own)
    _only_if(evidence, recipe, weights)
    with tempfile.TemporaryDirectory() as scratch:
        for number, (train, test) in enumerate(evidence.splits, 1):
            path = Path(scratch) / f"fold-{number}.safetensors"
            path.write_bytes(evidence.content(path.name))
            yield number, train, test, DigitClassifier.load(path)


def _unless_changed(check):
    """A check whose failure proves nothing where the student changed the code that decides it."""

    @functools.wraps(check)
    def judged(evidence):
        try:
            return check(evidence)
        except (CannotBeChecked, Unreadable):
            raise
        except Exception:
            names = evidence.changed_code if "sources.json" in evidence.files else ()
            if decisive := [name for name in names if name.removeprefix("digitlib/") in DECISIVE]:
                raise CannotBeChecked(f"the student changed {', '.join(decisive)}") from None
            raise

    return judged


@_unless_changed
def probabilities(evidence):
    """The weights, run on the rows that each fold held out, give the stored probabilities."""
    X, worst = evidence.digits[0], 0.0
    if evidence.model["kind"] in OWN and evidence.run_code:
        off = np.abs(_by_student_code(evidence) - evidence.table["p"]).max()
        if not off <= SAME_PROBABILITY:
            raise DoesNotHold(f"the student's own code gives others, by up to {off:.3g}")
        return f"the student's own code gives the same, to {off:.1g}"
    for number, _, test, classifier in _classifiers(evidence):
        off = np.abs(classifier.predict_proba(X[test]) - evidence.table["p"][test]).max(axis=1)
        wrong = np.flatnonzero(~(off <= SAME_PROBABILITY))  # NaN is wrong as well
        if len(wrong):
            many = f"{len(wrong):,} of {len(test):,} rows differ by up to {off.max():.3g}"
            raise DoesNotHold(f"fold {number}: {many}, first row {test[wrong[0]]}")
        worst = max(worst, off.max())
    return f"the same for {len(X):,} rows, to {worst:.1g} (tolerance {SAME_PROBABILITY:g})"


def _by_student_code(evidence):
    """Out-of-fold probabilities as the student's model.py gives them, in a process of its own.

    It is given no stored probabilities, and has limits on time and memory; it is not shut off from
    files and network.
    """
    with tempfile.TemporaryDirectory() as scratch:
        folder, out = Path(scratch, "run"), Path(scratch, "out.npy")
        folder.mkdir()
        for name, content in evidence.files.items():
            if name.endswith((".safetensors", ".skops", ".py")) or name in READ:
                (folder / name).write_bytes(content)
        table = pd.read_csv(folder / "predictions.csv")
        table.loc[:, "p0":] = 1 / 10
        table.to_csv(folder / "predictions.csv", index=False)
        command = [sys.executable, "-m", "digitlib.handin.trained", str(folder), str(out)]
        try:
            done = subprocess.run(command, timeout=STUDENT_SECONDS, capture_output=True, text=True)
        except subprocess.TimeoutExpired:
            raise CannotBeChecked(f"its code took more than {STUDENT_SECONDS} s") from None
        if done.returncode or not out.is_file():
            said = [*done.stderr.strip().splitlines(), "no word"][-1] if done.stderr.strip() else ""
            raise CannotBeChecked(f"its code ended with {done.returncode}: {said[:200]}")
        return np.load(out, allow_pickle=False)


def _student_process(folder, out):
    """What the process of :func:`_by_student_code` does."""
    import resource  # of Unix; a grader on another system leaves student code alone

    resource.setrlimit(resource.RLIMIT_AS, (STUDENT_BYTES, STUDENT_BYTES))
    run = runs.load(folder, consistent=False, run_code=True)
    source = run.info["data"]["source"]
    X, given = load_digits(SOURCES[source]).data, np.zeros_like(run.probabilities)
    for number in np.unique(run.folds):
        rows = run.folds == number
        given[rows] = run.fitted(int(number)).predict_proba(X[run.row[rows]])
    np.save(out, given)


@_unless_changed
def training_rows(evidence):
    """The scaler in each fold's weights is that of the claimed training rows.

    A held-out row among them would show.
    """
    X, leaky = evidence.digits[0], evidence.stated("parameters", "scaling", kind=str) == "all"
    for number, train, test, classifier in _classifiers(evidence):
        theirs = classifier.scaler_
        ours = PixelScaler(classifier.recipe_.scaling).fit(X if leaky else X[train])
        off = np.abs([ours.mean_ - theirs.mean_, ours.scale_ - theirs.scale_]).max()
        if not off <= SAME_SCALER:
            rows = f"{len(train):,} for training ({len(test):,} are held out)"
            raise DoesNotHold(f"fold {number}: its scaler saw other rows than the {rows}")
    if leaky:
        return "scaler fitted on all rows, as stated: the published leak"
    if classifier.recipe_.scaling == "range":
        hint = "this recipe's scaler hardly depends on rows; --retrain tells more"
        return f"scaler fitted on them alone ({hint})"
    return "scaler fitted on them alone"


@_unless_changed
def retraining(evidence):
    """Our own code, with the recorded recipe, seeds and epochs, ends where the submission does."""
    if own := OWN.get(evidence.model["kind"]):
        raise CannotBeChecked(own)
    _only_if(evidence, recipe)
    X, y, _ = evidence.digits
    seed = evidence.stated("parameters", "seed", kind=int)
    split_seed = evidence.stated("parameters", "split_seed", kind=int)
    scaling = evidence.stated("parameters", "scaling", kind=str)
    if not 0 <= seed < 2**32 or scaling not in ("train", "all"):
        raise CannotBeChecked(f"seed {seed}, scaling {scaling!r} are not parameters of a run")
    ours = from_dict(evidence.info["recipe"])
    again = cross_validate(
        DigitClassifier(ours, random_state=seed),
        X,
        y,
        n_splits=len(evidence.splits),
        random_state=split_seed,
        folds=evidence.info["parameters"].get("folds", "kfold"),
        scaling=scaling,
        progress="off",
    )
    off = np.abs(again.probabilities - evidence.table["p"]).max()
    if off <= SAME_PROBABILITY:
        return f"the same probabilities, to {off:.1g}"
    agree, claimed = (again.predicted == evidence.table["predicted"]).mean(), evidence.hits.mean()
    accuracies = f"accuracy {100 * again.accuracy:.2f} % (claimed {100 * claimed:.2f} %)"
    said = f"{accuracies}, {100 * agree:.2f} % of digits the same"
    if abs(again.accuracy - claimed) > RETRAINED_ACCURACY or agree < RETRAINED_DIGITS:
        allowed = f"{100 * RETRAINED_ACCURACY:g} points and {100 * RETRAINED_DIGITS:g} %"
        raise DoesNotHold(f"{said}; allowed are {allowed}")
    return f"{said}: within what another machine's rounding does"


if __name__ == "__main__":
    _student_process(*sys.argv[1:])
