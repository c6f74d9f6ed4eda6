"""Are the weights what they are said to be? The claims about training, checked on safetensors
alone.
"""

import dataclasses
import tempfile
from pathlib import Path

import numpy as np

from digitlib.handin.evidence import CannotBeChecked, DoesNotHold
from digitlib.recipes import RECIPES

SAME_PROBABILITY = 1e-4  # another processor or torch rounds differently: seen up to 1e-6; another run differs by 0.1 and more
SAME_SCALER = 1e-9
# Rounding grows in training: on another machine the same seed ends in other weights. Plain reruns
# differ by up to 0.23 points.
RETRAINED_ACCURACY = 0.005
RETRAINED_DIGITS = 0.98


def recipe(evidence):
    """A recipe claimed by name is ours, setting by setting."""
    claimed, epochs = (
        evidence.stated("recipe", kind=dict),
        evidence.stated("parameters", kind=dict).get("epochs"),
    )
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
            raise DoesNotHold(
                f"{name} has {setting}={expected!r}, the run {claimed.get(setting)!r}"
            )
    return (
        name if epochs == usual else f"{name}, with {epochs} epochs in place of {usual} (as stated)"
    )


def history(evidence):
    """``history.csv`` and the weights tell the same story of training."""
    lines = evidence.content("history.csv").decode("ascii", "replace").splitlines()
    epochs = evidence.stated("parameters", kind=dict).get("epochs")  # None: whatever was recorded
    names = lines[0].split(",") if lines else []
    kept = []
    for number in range(1, len(evidence.splits) + 1):
        records = evidence.weights_header(number).get("history", [])
        kept += [
            ",".join(_cell(number if name == "fold" else record.get(name)) for name in names)
            for record in records
        ]
    if lines[1:] != kept or (epochs and len(kept) != len(evidence.splits) * epochs):
        raise DoesNotHold(
            f"history.csv ({len(lines) - 1} lines) is not what the weights recorded ({len(kept)})"
        )
    return f"{len(kept)} records in {len(evidence.splits)} folds"


def _cell(value):
    return (
        ""
        if value is None or value != value
        else f"{value:.9g}"
        if isinstance(value, float)
        else str(value)
    )


def weights(evidence):
    """Each fold has weights, made with the claimed recipe, seed, split and data."""
    parameters = evidence.stated("parameters", kind=dict)
    expected = {
        "recipe": evidence.stated("recipe", kind=dict),
        "data": evidence.stated("data", "sha256", kind=str),
    }
    expected |= {key: parameters.get(key) for key in ("seed", "split_seed")}
    for number in range(1, len(evidence.splits) + 1):
        header = evidence.weights_header(number)
        for key, value in {**expected, "fold": number}.items():
            if header.get(key) != value:
                raise DoesNotHold(
                    f"fold-{number}.safetensors was made with {key} {str(header.get(key))[:60]},"
                    f" the run claims {str(value)[:60]}"
                )
    return f"{len(evidence.splits)} files of numbers, none of code"


def _only_if(evidence, *checks):
    """Go no further with files or settings that are not ours."""
    for check in checks:
        try:
            check(evidence)
        except DoesNotHold as error:
            raise CannotBeChecked(f"because {error}") from error


def _classifiers(evidence):
    """The fitted classifier of each fold, by safetensors alone; only after its header was found to
    be that of a known recipe.
    """
    from digitlib.classifier import DigitClassifier

    _only_if(evidence, recipe, weights)
    with tempfile.TemporaryDirectory() as scratch:
        for number, (train, test) in enumerate(evidence.splits, 1):
            path = Path(scratch) / f"fold-{number}.safetensors"
            path.write_bytes(evidence.content(path.name))
            yield number, train, test, DigitClassifier.load(path)


def probabilities(evidence):
    """The weights, run on the rows that each fold held out, give the stored probabilities."""
    worst = 0.0
    for number, _, test, classifier in _classifiers(evidence):
        off = np.abs(
            classifier.predict_proba(evidence.digits[0][test]) - evidence.table["p"][test]
        ).max(axis=1)
        if not off.max() <= SAME_PROBABILITY:
            rows = np.flatnonzero(~(off <= SAME_PROBABILITY))
            raise DoesNotHold(
                f"fold {number}: {len(rows):,} of {len(test):,} rows differ by up to"
                f" {off.max():.3g}, first row {test[rows[0]]}"
            )
        worst = max(worst, off.max())
    return (
        f"the same for {len(evidence.digits[0]):,} rows, to {worst:.1g} (tolerance"
        f" {SAME_PROBABILITY:g})"
    )


def training_rows(evidence):
    """The scaler in each fold's weights is that of the claimed training rows: a held-out row among
    them would show.
    """
    from digitlib.scaling import PixelScaler

    X, leaky = evidence.digits[0], evidence.stated("parameters", "scaling", kind=str) == "all"
    for number, train, test, classifier in _classifiers(evidence):
        ours, theirs = (
            PixelScaler(classifier.recipe_.scaling).fit(X if leaky else X[train]),
            classifier.scaler_,
        )
        if (
            max(np.abs(ours.mean_ - theirs.mean_).max(), np.abs(ours.scale_ - theirs.scale_).max())
            <= SAME_SCALER
        ):
            continue
        rows = f"{len(train):,} for training ({len(test):,} are held out)"
        raise DoesNotHold(f"fold {number}: its scaler saw other rows than the {rows}")
    if leaky:
        return "scaler fitted on all rows, as stated: the published leak"
    blind = classifier.recipe_.scaling == "range"
    return "scaler fitted on them alone" + (
        " (this recipe's scaler hardly depends on rows; --retrain tells more)" if blind else ""
    )


def retraining(evidence):
    """Our own code, with the recorded recipe, seeds and epochs, ends where the submission does."""
    from digitlib.classifier import DigitClassifier
    from digitlib.crossval import cross_validate

    _only_if(evidence, recipe)
    X, y, _ = evidence.digits
    seed, split_seed = (
        evidence.stated("parameters", name, kind=int) for name in ("seed", "split_seed")
    )
    scaling = evidence.stated("parameters", "scaling", kind=str)
    if not 0 <= seed < 2**32 or scaling not in ("train", "all"):
        raise CannotBeChecked(f"seed {seed}, scaling {scaling!r} are not parameters of a run")
    ours = dataclasses.replace(
        RECIPES[evidence.info["recipe"]["name"]], epochs=evidence.info["parameters"]["epochs"]
    )
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
    agree, gap = (
        (again.predicted == evidence.table["predicted"]).mean(),
        again.accuracy - evidence.hits.mean(),
    )
    said = (
        f"accuracy {100 * again.accuracy:.2f} % (claimed {100 * evidence.hits.mean():.2f} %),"
        f" {100 * agree:.2f} % of digits the same"
    )
    if abs(gap) > RETRAINED_ACCURACY or agree < RETRAINED_DIGITS:
        raise DoesNotHold(
            f"{said}; allowed are {100 * RETRAINED_ACCURACY:g} points and"
            f" {100 * RETRAINED_DIGITS:g} %"
        )
    return f"{said}: within what another machine's rounding does"
