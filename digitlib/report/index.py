"""Write ``index.html``, the page to open first, and the list of all reports.

Everything is computed from the files of the run folder, so the pages can be written again at any
time.
"""

import shlex

import matplotlib.pyplot as plt
import numpy as np

from digitlib import checks, metrics, own, plots, runs
from digitlib.data import load_again
from digitlib.errors import RunError
from digitlib.metrics import percent
from digitlib.report import page

OPTIONS = ("seed", "splits", "folds", "scaling")  # parameters of a run and of `report`
MOST_ERRORS = 18  # that are shown
WHAT = {
    "1_eda": "what the data is and what to watch for",
    "2_train": "recipe, network, folds and loss curves",
    "3_evaluate": "how good, where it fails, every error on show",
    "4_compare": "against other methods on the same folds",
    "5_predict": "the classifier on new images",
}


def write_index(folder, name):
    """Write ``index.html`` of a run folder, with links to whichever notebooks are in it.

    Parameters
    ----------
    folder : Path
        With ``run.json``, ``predictions.csv``, ``history.csv``; what ``checks.json`` says is shown
        if it is there.
    name : str
        Of the report.

    Returns
    -------
    Path

    Raises
    ------
    RunError
        A file is missing or damaged.
    """
    plots.notebook_style()
    run = runs.load(folder)
    kinds = ("*.ipynb", "[0-9]_*.html")
    stems = sorted({path.stem for kind in kinds for path in folder.glob(kind)})
    try:
        facts = _figures(run) | {"checks": checks.read(folder), "numbers": _numbers(run)}
    except (OSError, ValueError, KeyError, IndexError, TypeError) as error:
        if isinstance(error, RunError):
            raise
        raise RunError(
            f"{folder}: damaged run folder ({type(error).__name__}: {error}); make the run again"
        ) from error
    facts |= {"links": page.links(stems, run), "facts": page.facts(run.info), "stems": stems}
    facts |= {"what": WHAT, "titles": page.PAGES, "undrawn": page.undrawn(run)}
    facts |= {"label": own.label(run.info), "summary": own.summary(run.info)}
    facts |= {"command": _command(run.info, name, folder), "info": run.info, "name": name}
    return page.fill(folder / "index.html", "index.html.j2", **facts)


def _numbers(run):
    """Figures of the first screen: what, the number, what it means."""
    classes, wrong = np.unique(run.y), int((run.y != run.predicted).sum())
    table = metrics.per_fold(run.y, run.probabilities, run.folds, classes)
    total, folds = table.loc["all"], 100 * table["accuracy"].drop("all")
    each = metrics.per_class(run.y, run.predicted)
    hardest = each.loc[each["recall"].idxmin()]
    second = metrics.row_losses(run.y, run.probabilities, classes)["top-2 accuracy"].mean()
    low, high = (percent(hardest[f"recall {end}"], 1) for end in ("low", "high"))
    interval = f"{percent(total['low'])} to {percent(total['high'])}"
    spread = f"{folds.min():.2f} to {folds.max():.2f}"
    one_in = f"one in {round(len(run.y) / wrong):,} images" if wrong else "none"
    return {
        "Accuracy": (percent(total["accuracy"]), f"{interval}, Wilson, 95\N{NO-BREAK SPACE}%"),
        "Errors": (f"{wrong:,}", one_in),
        f"Over {len(folds)} folds": (
            f"{folds.mean():.2f} ± {folds.std():.2f}",
            f"per cent, mean and standard deviation; {spread}",
        ),
        "Among the first two": (percent(second), "right answer first or second"),
        "Log-loss": (f"{total['loss']:.4f}", "0 is sure and right every time"),
        "Hardest digit": (
            str(hardest.name),
            f"{percent(hardest['recall'], 1)} found, {low} to {high}",
        ),
    }


def _figures(run):
    """What is shown of the run, as HTML; empty where there is nothing to show."""
    pairs = metrics.confused_pairs(run.y, run.predicted)
    each = metrics.per_class(run.y, run.predicted).drop(columns=["precision", "F1"])
    each.insert(0, "correct", (each["recall"] * each["support"]).round().astype(int))
    share = dict.fromkeys(["recall", "recall low", "recall high"], lambda one: percent(one, 1))
    words = "Share of each digit's images that were read correctly, with its 95 % interval."
    learned = run.history["epoch"].max() > 1
    return {
        "most": next(pairs.itertuples(), None),
        "matrix": plots.confusion_table(run.y, run.predicted).data,
        "bars": _picture(plots.class_counts(run.y)),
        "each": plots.table(each, words, share).data,
        "errors": _errors(run),
        "curves": _picture(plots.loss_curves(run.history)) if learned else "",
    }


def _picture(axes):
    """HTML of a figure that is shown nowhere else."""
    plt.close(axes.figure)
    return plots.as_html(axes.figure)


def _errors(run):
    """The surest errors; empty if there are none, None if their images cannot be had any more."""
    wrong, sure = np.flatnonzero(run.y != run.predicted), run.probabilities.max(axis=1)
    if not len(wrong):
        return ""
    if (digits := load_again(run.info["data"])) is None:
        return None
    some = wrong[np.argsort(-sure[wrong], kind="stable")][:MOST_ERRORS]
    labels = [
        f"{run.y[i]} read as {run.predicted[i]}\n{percent(sure[i], 1)}\nrow {run.row[i]}"
        for i in some
    ]
    words = f"{len(some)} of {len(wrong):,} errors, the surest first: its label, the digit read,"
    words += " how sure that was."
    return plots.image_grid(digits.images[run.row[some]], labels, words).data


def write_overview(reports):
    """Write ``reports/index.html``, the list of all finished reports; return its path."""
    rows = []
    for path in sorted(reports.glob("[!.]*/run.json")):
        try:
            run = runs.load(path.parent)
        except (ValueError, KeyError, TypeError):
            continue  # not one of ours, or damaged: the others are still worth a list
        right, total = int((run.y == run.predicted).sum()), len(run.y)
        low, high = metrics.wilson_interval(right, total)
        facts = {"name": path.parent.name, "label": own.label(run.info), "info": run.info}
        facts |= {"correct": right, "total": total, "low": low, "high": high}
        rows.append(facts)
    rows.sort(key=lambda row: row["info"]["created"], reverse=True)
    return page.fill(reports / "index.html", "overview.html.j2", runs=rows)


def lines(folder):
    """What came out, line by line: recipe, correct, total, accuracy; then the checks."""
    run = runs.load(folder)
    right, total = (run.y == run.predicted).sum(), len(run.y)
    said = f"{right:,} of {total:,} correct, {percent(right / total)}"
    return [f"{own.label(run.info)}: {said}", checks_summary(folder)]


def checks_summary(folder):
    """One line: how many checks passed, and which did not."""
    results = checks.read(folder)
    passed = sum(result.passed is True for result in results)
    others = [f"; {result}" for result in results if not result.passed]
    return f"checks: {passed} of {len(results)} passed{''.join(others)}"


def _command(info, name, folder):
    """The command that makes this report again, given the same version and machine."""
    known, model = {key: info["parameters"].get(key) for key in OPTIONS}, info["model"]
    options = [("name", name)]
    if "sha256" in model:
        options.append(("model", f"{folder.parent.name}/{name}/model.py"))
    else:
        options.append(("recipe", info["recipe"]["name"]))
        changed = own.changed(info).items()
        options += [("set", f"{key}={value}") for key, (value, _) in changed]
    options += [(key, value) for key, value in known.items() if value is not None]
    options.append(("source", info["data"]["source"]))
    words = [f"--{key} {shlex.quote(str(value))}" for key, value in options]
    compare = ["--compare"] * (folder / "4_compare.ipynb").is_file()
    return " ".join(["python -m digitlib report", *words, *compare])
