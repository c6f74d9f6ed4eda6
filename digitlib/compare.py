"""Is a simpler or quicker classifier as good? Competitors and recipes on the same rows, by folds
and by writers, tested in pairs.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from digitlib import metrics
from digitlib.classifier import DigitClassifier
from digitlib.competitors import BUDGET, choose_recipes, competitors, measure, measure_run
from digitlib.errors import ParameterError
from digitlib.recipes import from_dict


@dataclass
class Comparison:
    """``reference`` (a name), ``table`` (:func:`compare`), ``pairs`` (the reference against each
    other one) and ``left_out`` (dict).
    """

    reference: str
    table: pd.DataFrame
    pairs: pd.DataFrame
    left_out: dict


def compare(digits, run=None, recipes="quick", budget=BUDGET, seed=0, n_splits=4, random_state=30):
    """Measure competitors and recipes on the same rows, by folds and by writers.

    Parameters
    ----------
    digits : Bunch
    run : Run or None
        A run on `digits`; its folds are then everybody's, its out-of-fold predictions are used as
        they are, and it is the reference. Without one, the most accurate recipe is.
    recipes, budget
        As for :func:`choose_recipes`.
    seed : int
        Of the recipes.
    n_splits, random_state : int
        Of the folds, if there is no `run`.

    Returns
    -------
    Comparison
        ``table``: the most accurate first; ``correct``, ``total``, ``accuracy``, ``low``, ``high``,
        ``writers``, ``writers low``, ``writers high`` (0..1, NaN if the data does not tell writers
        apart), ``seconds``, ``milliseconds``, ``bytes``, ``ours``, ``measured``.
    """
    if run is not None:
        if run.info["data"]["sha256"] != digits.sha256:
            raise ParameterError(
                "run: it was made on other data than is loaded; load the source that its run.json"
                " names"
            )
        seed, n_splits, random_state = (
            run.info["parameters"][name] for name in ("seed", "splits", "split_seed")
        )
    reference = None if run is None else run.info["recipe"]["name"]
    names, left_out = choose_recipes(recipes, budget, digits, n_splits, known=reference)
    classifiers, measured = (
        {**competitors(), **{name: DigitClassifier(name, random_state=seed) for name in names}},
        {},
    )
    if run is not None:
        classifiers[reference] = classifier_of(run)
        measured[reference, "folds"] = measure_run(run)
    protocols = ["folds"] + ["writers"] * ({"train", "test"} <= set(digits.writers))
    for name, classifier in classifiers.items():
        for protocol in protocols:
            if (name, protocol) not in measured:
                measured[name, protocol] = measure(
                    classifier, digits, protocol, n_splits, random_state
                )
    table = pd.DataFrame(
        {name: _summary(name, measured, digits.target) for name in classifiers}
    ).T.infer_objects()
    table.index.name = "classifier"
    table["ours"] = [isinstance(classifiers[name], DigitClassifier) for name in table.index]
    table = table.sort_values(["accuracy", "seconds"], ascending=[False, True])
    reference = reference or table.index[table["ours"]][0]
    return Comparison(
        reference,
        table,
        _pairs(reference, [n for n in table.index if n != reference], measured, digits.target),
        left_out,
    )


def classifier_of(run):
    """The classifier, not fitted, that `run` was made with."""
    return DigitClassifier(
        from_dict(run.info["recipe"]), random_state=run.info["parameters"]["seed"]
    )


def _summary(name, measured, y):
    summary = {}
    for protocol, prefix in (("folds", ""), ("writers", "writers ")):
        one = measured.get((name, protocol))
        correct, total = (
            (0, 0) if one is None else (int((one.predicted == y[one.rows]).sum()), len(one.rows))
        )
        low, high = metrics.wilson_interval(correct, total) if total else (np.nan, np.nan)
        summary |= {
            f"{prefix}correct": correct,
            f"{prefix}total": total,
            f"{prefix}low": low,
            f"{prefix}high": high,
        }
        summary[prefix.strip() or "accuracy"] = correct / total if total else np.nan
    one = measured[name, "folds"]
    return summary | {
        "seconds": one.seconds,
        "milliseconds": one.milliseconds,
        "bytes": one.bytes,
        "measured": one.created,
    }


def _pairs(reference, others, measured, y):
    """The reference against each other classifier; p-values adjusted by Holm over these
    comparisons.
    """
    right = {key: one.predicted == y[one.rows] for key, one in measured.items()}
    folds = measured[reference, "folds"].folds
    numbers = np.unique(folds)
    rows = []
    for other in others:
        gains = [
            (
                right[reference, "folds"][folds == k].mean()
                - right[other, "folds"][folds == k].mean()
            )
            for k in numbers
        ]
        only_reference, only_other, p = metrics.mcnemar(
            right[reference, "folds"], right[other, "folds"]
        )
        t, t_p = metrics.corrected_resampled_t(gains, 1 / (len(numbers) - 1))
        row = {
            "classifier": other,
            "points": 100 * np.mean(gains),
            "only reference": only_reference,
            "only other": only_other,
        }
        row |= {"McNemar p": p, "t": t, "t-test p": t_p, "writers McNemar p": np.nan}
        if (reference, "writers") in right:
            row["writers McNemar p"] = metrics.mcnemar(
                right[reference, "writers"], right[other, "writers"]
            )[2]
        rows.append(row)
    table = pd.DataFrame(rows).set_index("classifier")
    for column in ("McNemar p", "t-test p", "writers McNemar p"):
        table[f"{column}, Holm"] = metrics.holm(table[column])
    return table


def conclude(comparison, level=0.05):
    """What may be concluded from each line of ``comparison.pairs``: a list of sentences, in the
    table's order.
    """
    sentences, reference = [], comparison.reference
    for other, row in comparison.pairs.iterrows():
        sure = [row[f"{name}, Holm"] < level for name in ("McNemar p", "t-test p")]
        winner, loser = (
            (reference, other) if row["only reference"] > row["only other"] else (other, reference)
        )
        surplus = abs(int(row["only reference"] - row["only other"]))
        if not surplus:
            sentences.append(f"{reference} and {other} are right equally often.")
            continue
        because = {
            (True, True): "both tests rule out chance",
            (
                True,
                False,
            ): (
                "not by chance on these rows (McNemar), but it varies too much over folds to"
                " promise that of new trainings"
            ),
            (False, True): "steady over folds, but on too few rows to rule out chance (McNemar)",
            (False, False): "no more than chance may give, so neither may be called better",
        }[tuple(sure)]
        sentences.append(f"{winner} is right on {surplus:,} more images than {loser}: {because}.")
    return sentences


def left_out(comparison):
    """A sentence on the recipes that were too slow to be compared; empty if none was."""
    slow = ", ".join(
        f"{name} (about {seconds:.0f} s)" for name, seconds in comparison.left_out.items()
    )
    return f"Left out, being slow: {slow}; to have them, name them as recipes." if slow else ""


def as_text(comparison):
    """``comparison.table`` in plain lines, for a terminal."""
    table = comparison.table
    shown = pd.DataFrame(
        {
            "accuracy %": 100 * table["accuracy"],
            "new writers %": 100 * table["writers"],
            "seconds": table["seconds"],
            "ms per 1,000": table["milliseconds"],
            "kB": table["bytes"] / 1000,
            "measured": table["measured"],
        }
    ).rename_axis(None)
    return "\n".join(
        [shown.to_string(float_format="{:,.2f}".format), *filter(None, [left_out(comparison)])]
    )
