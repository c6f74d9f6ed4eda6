"""What does a submission claim, and does it hold? One function per line of the verdict, each on
recomputed numbers.
"""

import re

import numpy as np

from digitlib.reporting import executed, shown, trained
from digitlib.reporting.evidence import CannotBeChecked, DoesNotHold, Unreadable
from digitlib.reporting.submission import MANIFEST, REQUIRED, TITLE_PAGE, describe


def _same(what, claimed, recomputed):
    if claimed != recomputed:
        raise DoesNotHold(f"{what}: claimed {claimed}, recomputed {recomputed}")


def manifest(evidence):
    """Every file is listed with its size and SHA-256, and nothing is missing."""
    listed, present = evidence.manifest.get("files"), evidence.files.keys() - {MANIFEST}
    if not isinstance(listed, dict):
        raise Unreadable(MANIFEST, "lists no files")
    if missing := sorted((set(listed) | set(REQUIRED)) - present):
        raise DoesNotHold(f"{', '.join(map(str, missing))} missing")
    if extra := sorted(present - set(listed)):
        raise DoesNotHold(f"{', '.join(extra)} not listed")
    if changed := [
        name for name in sorted(listed) if listed[name] != describe(evidence.files[name])
    ]:
        raise DoesNotHold(f"changed after the manifest was written: {', '.join(changed)}")
    notes = evidence.manifest.get("notes") or []
    return f"{len(listed)} files" + "".join(
        f"; noted: {note}" for note in notes if isinstance(note, str)
    )


def title_page(evidence):
    """Authors, course and title stand on every page as plain text, the same as in the manifest."""
    for name, page in evidence.pages.items():
        for field in TITLE_PAGE:
            found, text = page.select(f'[data-title-page="{field}"]'), evidence.manifest.get(field)
            if len(found) != 1:
                raise DoesNotHold(f"{name} has {len(found)} {field} on its title page")
            if found[0].find(True) is not None:
                raise DoesNotHold(
                    f"{name}: {field} is not plain text but holds <{found[0].find(True).name}>"
                )
            if found[0].get_text() != text:
                raise DoesNotHold(
                    f"{name}: {field} is {found[0].get_text()[:60]!r}, in the manifest"
                    f" {str(text)[:60]!r}"
                )
    return f"the same on {len(evidence.pages)} pages"


def active_content(evidence):
    """No page has a script, a handler or a frame that digitlib does not put there: it could change
    what is read.
    """
    allowed = shown.known_scripts()
    for name, page in evidence.pages.items():
        if found := shown.active_parts(page, allowed):
            raise DoesNotHold(f"{name}: {found[0]}")
    return f"nothing foreign on {len(evidence.pages)} pages"


def notebooks(evidence):
    """Each executed notebook ran from top to bottom without an error."""
    books = [
        name
        for name in sorted(evidence.files)
        if name.endswith(".ipynb") and name != "digits_complete.ipynb"
    ]
    if faults := [fault for name in books for fault in executed.faults(evidence.files[name], name)]:
        raise DoesNotHold("; ".join(faults))
    return f"{len(books)} ran in order, without an error"


def data(evidence):
    """The run used the published rows."""
    X, _, sha256 = evidence.digits
    _same("SHA-256 of the data", evidence.stated("data", "sha256", kind=str), sha256)
    _same("rows", evidence.stated("data", "rows", kind=int), len(X))
    return f"{len(X):,} rows, SHA-256 {sha256[:12]}..."


def folds(evidence):
    """Each row was held out in the fold in which the claimed split puts it."""
    expected = np.zeros(len(evidence.digits[1]), dtype=np.int64)
    for number, (_, test) in enumerate(evidence.splits, 1):
        expected[test] = number
    if not np.array_equal(evidence.table["row"], np.arange(len(expected))):
        raise DoesNotHold("predictions.csv does not hold each row once, in order")
    if len(moved := np.flatnonzero(evidence.table["fold"] != expected)):
        raise DoesNotHold(
            f"{len(moved):,} rows are in another fold than the split says, first row {moved[0]}"
        )
    return f"{len(evidence.splits)} folds, split seed {evidence.stated('parameters', 'split_seed')}"


def predictions(evidence):
    """Labels are the published ones, probabilities are probabilities, the digit is the most
    probable.
    """
    table, y = evidence.table, evidence.digits[1]
    if len(wrong := np.flatnonzero(table["label"] != y)):
        raise DoesNotHold(f"{len(wrong):,} labels are not the published ones, first row {wrong[0]}")
    if (table["p"] < 0).any() or np.abs(table["p"].sum(axis=1) - 1).max() > 1e-4:
        raise DoesNotHold("there are rows whose probabilities do not sum to 1")
    best = table["p"].max(axis=1)
    stated = np.take_along_axis(table["p"], table["predicted"].clip(0, 9)[:, None], axis=1)[:, 0]
    if len(
        wrong := np.flatnonzero(
            (stated < best) | (table["predicted"] != table["predicted"].clip(0, 9))
        )
    ):
        raise DoesNotHold(
            f"the digit is not the most probable one in {len(wrong):,} rows, first row {wrong[0]}"
        )
    return f"{len(y):,} rows"


def accuracy(evidence):
    """The scores of ``run.json`` follow from the predictions."""
    hits = evidence.hits
    _same("correct", evidence.stated("scores", "correct", kind=int), int(hits.sum()))
    _same("total", evidence.stated("scores", "total", kind=int), len(hits))
    shares = evidence.stated("scores", "fold_accuracies", kind=list)
    claimed, recomputed = (
        [evidence.stated("scores", "accuracy"), *shares],
        [hits.mean(), *(hits[test].mean() for _, test in evidence.splits)],
    )
    if len(claimed) != len(recomputed) or not np.allclose(
        np.array(claimed, dtype=float), recomputed, rtol=0, atol=1e-9
    ):
        raise DoesNotHold(
            f"accuracy: claimed {claimed[0]} (folds {shares}), recomputed {hits.mean()}"
        )
    return f"{hits.sum():,} of {len(hits):,}, {100 * hits.mean():.2f} %, and each fold's"


def confusion(evidence):
    """The confusion matrix of ``run.json`` follows from the predictions."""
    matrix = np.zeros((10, 10), dtype=int)
    np.add.at(matrix, (evidence.digits[1], evidence.table["predicted"].clip(0, 9)), 1)
    claimed = evidence.stated("scores", "confusion", kind=list)
    if claimed != matrix.tolist():
        raise DoesNotHold("run.json has another matrix than the predictions give")
    return f"100 cells, {matrix.sum() - matrix.trace()} errors"


def figures(evidence):
    """The figures that a reader sees in the pages follow from the predictions."""
    faults, found = shown.compare(evidence)
    if faults:
        raise DoesNotHold(
            "; ".join(faults[:3]) + (f" and {len(faults) - 3} more" if len(faults) > 3 else "")
        )
    if unseen := [what for what, count in found.items() if not count]:
        raise CannotBeChecked(f"not found in the pages: {', '.join(unseen)}")
    return f"{sum(found.values())} figures: {', '.join(found)}"


# Line of the verdict -> check, and the parts (pattern of names) whose damage is this line's fault.
CLAIMS = {
    "manifest": (manifest, MANIFEST),
    "title page": (title_page, None),
    "active content": (active_content, None),
    "notebooks": (notebooks, None),
    "data": (data, None),
    "recipe": (trained.recipe, r"run\.json"),
    "folds": (folds, None),
    "predictions": (predictions, r"predictions\.csv"),
    "accuracy": (accuracy, r"run\.json"),
    "confusion matrix": (confusion, r"run\.json"),
    "figures in the pages": (figures, r".*\.html"),
    "weights": (trained.weights, r"fold-\d+\.safetensors"),
    "probabilities": (trained.probabilities, None),
    "training rows": (trained.training_rows, None),
    "history": (trained.history, r"history\.csv"),
    "retraining": (trained.retraining, None),
}


def check(name, evidence):
    """One line of the verdict.

    Returns
    -------
    str, str
        "holds", "does not hold" or "cannot be checked"; and why, in one line.
    """
    function, owned = CLAIMS[name]
    try:
        return "holds", function(evidence)
    except DoesNotHold as error:
        return "does not hold", str(error)
    except CannotBeChecked as error:
        return "cannot be checked", str(error)
    except Unreadable as error:
        return (
            "does not hold" if owned and re.fullmatch(owned, error.part) else "cannot be checked"
        ), str(error)
    except Exception as error:  # a stranger's file may provoke anything; it must not end the verdict, nor count as held
        return "does not hold", f"a file is damaged ({type(error).__name__}: {str(error)[:120]})"
