"""Write ``index.html``, the page to open first, and the list of all reports.

Everything is computed from the files of the run folder, so the pages can be written again at any
time.
"""

import shlex

import numpy as np

from digitlib import checks, metrics, own, runs
from digitlib.data import load_again
from digitlib.errors import DigitlibError, RunError
from digitlib.plots.listed import png
from digitlib.report.page import PAGES, fill, links, undrawn

OPTIONS = ("seed", "splits", "folds", "scaling")  # parameters of a run and of `report`
N_THUMBNAILS = 18
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
        With ``run.json``, ``predictions.csv``, ``history.csv``; ``checks.json`` (list of ``code``,
        ``title``, ``passed``, ``detail``) is shown if it is there.
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
    run = runs.load(folder)
    try:
        facts = {
            "checks": checks.read(folder),
            "scores": _scores(run),
            "curves": _curves(run.history),
            "samples": _samples(run),
            "command": _command(run.info, name, folder),
        }
    except DigitlibError:
        raise
    except (OSError, ValueError, KeyError, IndexError, TypeError) as error:
        raise RunError(
            f"{folder}: damaged run folder ({type(error).__name__}: {error}); make the run again"
        ) from error
    kinds = ("*.ipynb", "[0-9]_*.html")
    stems = sorted({path.stem for kind in kinds for path in folder.glob(kind)})
    facts |= {"label": own.label(run.info), "summary": own.summary(run.info).replace("`", "")}
    facts |= {"links": links(stems, run), "what": WHAT, "titles": PAGES, "stems": stems}
    facts |= {"undrawn": undrawn(run)}
    return fill(folder / "index.html", "index.html.j2", name=name, info=run.info, **facts)


def write_overview(reports):
    """Write ``reports/index.html``, the list of all finished reports; return its path."""
    rows = []
    for path in sorted(reports.glob("[!.]*/run.json")):
        try:
            run = runs.load(path.parent)
        except (ValueError, KeyError, TypeError):
            continue  # not one of ours, or damaged: the others are still worth a list
        right, total = int((run.y == run.predicted).sum()), len(run.y)
        facts = {"name": path.parent.name, "label": own.label(run.info), "info": run.info}
        facts |= {"correct": right, "total": total, "accuracy": right / total}
        low, high = metrics.wilson_interval(right, total)
        rows.append({**facts, "low": low, "high": high})
    rows.sort(key=lambda row: row["info"]["created"], reverse=True)
    return fill(reports / "index.html", "overview.html.j2", runs=rows)


def lines(folder):
    """What came out, line by line: recipe, correct, total, accuracy; then the checks."""
    run = runs.load(folder)
    right, total = (run.y == run.predicted).sum(), len(run.y)
    said = f"{right:,} of {total:,} correct, {metrics.percent(right / total)}"
    return [f"{own.label(run.info)}: {said}", checks_summary(folder)]


def checks_summary(folder):
    """One line: how many checks passed, and which did not."""
    results = checks.read(folder)
    passed = sum(result.passed is True for result in results)
    others = [f"; {result}" for result in results if not result.passed]
    return f"checks: {passed} of {len(results)} passed{''.join(others)}"


def _scores(run):
    """Headline figures, confusion matrix and the figures of each class."""
    classes = np.unique(run.y)
    folds = metrics.per_fold(run.y, run.probabilities, run.folds, classes)
    total, accuracies = folds.loc["all"], folds["accuracy"].drop("all")
    rows = metrics.row_losses(run.y, run.probabilities, classes)
    counts = metrics.confusion_counts(run.y, run.predicted).to_numpy()
    pairs = metrics.confused_pairs(run.y, run.predicted)
    pairs = list(pairs[["count", "true", "predicted"]].itertuples(index=False, name=None))
    table = metrics.per_class(run.y, run.predicted)
    each = [
        {
            "label": label,
            "found": found,
            "support": int(line["support"]),
            "recall": line["recall"],
            "interval": (line["recall low"], line["recall high"]),
        }
        for (label, line), found in zip(table.iterrows(), counts.diagonal(), strict=True)
    ]
    return {
        "correct": int(total["correct"]),
        "total": int(total["total"]),
        "accuracy": total["accuracy"],
        "interval": (total["low"], total["high"]),
        "folds": accuracies.tolist(),
        "mean": accuracies.mean(),
        "spread": accuracies.std(),
        "loss": total["loss"],
        "second": rows["top-2 accuracy"].mean(),
        "classes": classes.tolist(),
        "counts": counts.tolist(),
        "each": each,
        "pairs": pairs,
        "most": pairs[0][0] if pairs else 0,
        "hardest": min(each, key=lambda one: one["recall"]),
    }


def _samples(run):
    """The surest errors, each with a PNG of its image.

    None, if the images cannot be had any more or are other ones.
    """
    if (digits := load_again(run.info["data"])) is None:
        return []
    sure = run.probabilities.max(axis=1)
    wrong = np.flatnonzero(run.y != run.predicted)
    return [
        {
            "row": run.row[i],
            "label": run.y[i],
            "predicted": run.predicted[i],
            "sure": sure[i],
            "png": png(digits.images[run.row[i]]),
        }
        for i in wrong[np.argsort(-sure[wrong], kind="stable")][:N_THUMBNAILS]
    ]


def _curves(history):
    """Mean over folds of both losses at each epoch, and points of a 640 x 220 drawing of them."""
    names = {"held_out_loss": "held out", "loss": "training"}
    measured = [name for name in names if name in history and history[name].notna().all()]
    means = history.groupby("epoch")[measured].mean().rename(columns=names)
    if len(means) < 2 or not measured:
        return None
    top = means.to_numpy().max()
    step = 10 ** (len(str(int(top))) - 1 if top >= 1 else -1)
    step *= next(m for m in (0.5, 1, 2, 5, 10) if top / (m * step) <= 5)
    across = np.linspace(40, 640, len(means))
    heights = 190 - 180 * means / top
    lines = {
        name: {
            "points": " ".join(f"{x:.1f},{y:.1f}" for x, y in zip(across, column, strict=True)),
            "last": means[name].iloc[-1],
        }
        for name, column in heights.items()
    }
    labels, below = [], -99.0  # names at the right end, kept from lying on one another
    for name, height in heights.iloc[-1].sort_values().items():
        below = max(height + 4, below + 18)
        labels.append((name, below))
    ticks = [(190 - 180 * i * step / top, f"{i * step:g}") for i in range(int(top / step) + 1)]
    every = -(-len(means) // 12)
    return {
        "lines": lines,
        "labels": labels,
        "ticks": ticks,
        "epochs": list(zip(across, means.index, strict=True))[::every],
        "last": means.index[-1],
    }


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
