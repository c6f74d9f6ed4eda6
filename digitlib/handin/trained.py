"""Claims about training, checked on the weights: are they what the run says they are?"""

import dataclasses
import tempfile
from pathlib import Path

import numpy as np

from digitlib.classifier import DigitClassifier
from digitlib.crossval import cross_validate
from digitlib.handin.evidence import CannotBeChecked, DoesNotHold
from digitlib.recipes import RECIPES
from digitlib.scaling import PixelScaler

# Another processor or torch rounds differently: seen up to 1e-6. Another run differs by 0.1 and
# more.
SAME_PROBABILITY = 1e-4
SAME_SCALER = 1e-9
# Rounding grows in training: on another machine the same seed ends in other weights. Plain reruns
# differ by up to 0.23 points.
RETRAINED_ACCURACY = 0.005
RETRAINED_DIGITS = 0.98


def recipe(evidence):
    """A recipe claimed by name is ours, setting by setting."""
    claimed = evidence.stated("recipe", kind=dict)
    epochs = evidence.stated("parameters", kind=dict).get("epochs")
    name = claimed.get("name")
    if not isinstance(name, str) or name not in RECIPES:
        raise CannotBeChecked(f"{name!r} is not a recipe of this digitlib ({', '.join(RECIPES)})")
    ours = RECIPES[name].as_dict()
    usual = ours.get("epochs")  # None: the recipe learns nothing in epochs
    if epochs != usual and not (usual and type(epochs) is int and 1 <= epochs <= 10 * usual):
        raise DoesNotHold(f"{name} has epochs={usual}, the run {epochs!r}")
    for setting in sorted(ours.keys() | claimed.keys()):
        expected = epochs if setting == "epochs" else ours.get(setting)
        if claimed.get(setting) != expected:
            theirs = claimed.get(setting)
            raise DoesNotHold(f"{name} has {setting}={expected!r}, the run {theirs!r}")
    if epochs != usual:
        return f"{name}, with {epochs} epochs in place of {usual} (as stated)"
    return name


def history(evidence):
    """``history.csv`` and the weights tell the same story of training."""
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
    _only_if(evidence, recipe, weights)
    with tempfile.TemporaryDirectory() as scratch:
        for number, (train, test) in enumerate(evidence.splits, 1):
            path = Path(scratch) / f"fold-{number}.safetensors"
            path.write_bytes(evidence.content(path.name))
            yield number, train, test, DigitClassifier.load(path)


def probabilities(evidence):
    """The weights, run on the rows that each fold held out, give the stored probabilities."""
    X, worst = evidence.digits[0], 0.0
    for number, _, test, classifier in _classifiers(evidence):
        off = np.abs(classifier.predict_proba(X[test]) - evidence.table["p"][test]).max(axis=1)
        wrong = np.flatnonzero(~(off <= SAME_PROBABILITY))  # NaN is wrong as well
        if len(wrong):
            many = f"{len(wrong):,} of {len(test):,} rows differ by up to {off.max():.3g}"
            raise DoesNotHold(f"fold {number}: {many}, first row {test[wrong[0]]}")
        worst = max(worst, off.max())
    return f"the same for {len(X):,} rows, to {worst:.1g} (tolerance {SAME_PROBABILITY:g})"


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


def retraining(evidence):
    """Our own code, with the recorded recipe, seeds and epochs, ends where the submission does."""
    _only_if(evidence, recipe)
    X, y, _ = evidence.digits
    seed = evidence.stated("parameters", "seed", kind=int)
    split_seed = evidence.stated("parameters", "split_seed", kind=int)
    scaling = evidence.stated("parameters", "scaling", kind=str)
    if not 0 <= seed < 2**32 or scaling not in ("train", "all"):
        raise CannotBeChecked(f"seed {seed}, scaling {scaling!r} are not parameters of a run")
    epochs = evidence.info["parameters"]["epochs"]
    ours = dataclasses.replace(RECIPES[evidence.info["recipe"]["name"]], epochs=epochs)
    again = cross_validate(
        DigitClassifier(ours, random_state=seed),
        X,
        y,
        n_splits=len(evidence.splits),
        random_state=split_seed,
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
