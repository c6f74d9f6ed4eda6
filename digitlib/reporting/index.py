"""Index pages: ``index.html`` of a report, for a person in a hurry, and the list of all reports.

Everything is computed from the files of the run folder, so the pages can be written again at any
time.
"""

import base64
import io
import json
import shlex
from pathlib import Path

import numpy as np
from jinja2 import Environment, FileSystemLoader
from PIL import Image

from digitlib import metrics, runs
from digitlib.data import fingerprint, load_digits
from digitlib.errors import DataError, RunError
from digitlib.reporting.render import PAGES, TEMPLATES, links

OPTIONS = ("seed", "splits", "epochs", "scaling", "protocol")  # of a run and of `digitlib report`
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
        A run folder; its ``checks.json`` is shown if it is there.
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
    run, checks = runs.load(folder, consistent=False), folder / "checks.json"
    pages = [*folder.glob("*.ipynb"), *folder.glob("[0-9]_*.html")]
    stems = sorted({path.stem for path in pages})
    try:
        facts = {
            "checks": json.loads(checks.read_text(encoding="utf-8")) if checks.is_file() else [],
            "scores": _scores(run),
            "curves": _curves(run.history),
            "samples": _samples(run),
            "command": _command(run.info, name, folder),
        }
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RunError(
            f"{folder}: damaged run folder ({type(error).__name__}: {error}); make the run again"
        ) from error
    facts |= {"info": run.info, "links": links(stems), "what": WHAT, "titles": PAGES}
    return _write(folder / "index.html", "index.html.j2", name=name, stems=stems, **facts)


def write_overview(reports):
    """Write ``reports/index.html``, the list of all finished reports; return its path."""
    listed = []
    for path in Path(reports).glob("[!.]*/run.json"):
        try:
            info = runs.load(path.parent, consistent=False).info
            low, high = metrics.wilson_interval(info["scores"]["correct"], info["scores"]["total"])
            facts = {"name": path.parent.name, "info": info, "flat": dict(_flat(info))}
            listed.append((info["created"], path.parent.name, {**facts, "low": low, "high": high}))
        except (RunError, ValueError, KeyError, TypeError):
            continue  # not one of ours, or damaged: the others are still worth a list
    listed = [facts for *_, facts in sorted(listed, key=lambda run: run[:2], reverse=True)]
    flat = [facts["flat"] for facts in listed]
    return _write(Path(reports) / "index.html", "overview.html.j2", runs=listed, flat=flat)


def _write(path, template, **facts):
    escaped = Environment(
        loader=FileSystemLoader(TEMPLATES), autoescape=lambda name: name.endswith("html.j2")
    )
    return runs.write_text(path, escaped.get_template(template).render(**facts))


def _flat(value, name=""):
    """Pairs of dotted name and text of everything in a nested dictionary."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _flat(inner, f"{name}.{key}" if name else key)
    elif isinstance(value, list):
        texts = (f"{item:.4g}" if isinstance(item, float) else str(item) for item in value)
        yield name, ", ".join(texts)
    else:
        yield name, f"{value:.6g}" if isinstance(value, float) else str(value)


def _scores(run):
    """Headline figures, confusion matrix and the figures of each class, for the template."""
    classes = np.unique(run.y)
    folds = metrics.per_fold(run.y, run.probabilities, run.folds, classes)
    whole, accuracies = folds.loc["all"], folds.drop("all")["accuracy"]
    each = metrics.per_class(run.y, run.predicted).query("support > 0").reset_index()
    each = [
        {
            "label": row["digit"],
            "found": round(row["recall"] * row["support"]),
            "support": row["support"],
            "recall": row["recall"],
            "interval": (row["recall low"], row["recall high"]),
        }
        for row in each.to_dict("records")
    ]
    pairs = metrics.confused_pairs(run.y, run.predicted)[["count", "true", "predicted"]]
    counts = metrics.confusion_counts(run.y, run.predicted)
    return {
        "correct": int(whole["correct"]),
        "total": int(whole["total"]),
        "accuracy": whole["accuracy"],
        "interval": (whole["low"], whole["high"]),
        "folds": accuracies.tolist(),
        "mean": accuracies.mean(),
        "spread": accuracies.std() if len(accuracies) > 1 else 0.0,
        "loss": whole["loss"],
        "second": metrics.row_losses(run.y, run.probabilities, classes)["top-2 accuracy"].mean(),
        "classes": counts.index.tolist(),
        "counts": counts.to_numpy().tolist(),
        "each": each,
        "pairs": pairs.to_numpy().tolist(),
        "most": int(pairs["count"].max()) if len(pairs) else 0,
        "hardest": min(each, key=lambda one: one["recall"]),
    }


def _samples(run):
    """The surest errors, each with a PNG; none if the images are gone or have become other ones."""
    try:
        X, y = load_digits(run.info["data"]["source"], return_X_y=True)
    except DataError:
        return []
    if fingerprint(X, y) != run.info["data"]["sha256"]:
        return []
    sure = run.probabilities.max(axis=1)
    wrong = np.flatnonzero(run.predicted != run.y)
    wrong = wrong[np.argsort(-sure[wrong], kind="stable")][:N_THUMBNAILS]
    return [
        {
            "row": run.row[i],
            "label": run.y[i],
            "predicted": run.predicted[i],
            "sure": sure[i],
            "png": _png(X[run.row[i]].reshape(8, 8)),
        }
        for i in wrong
    ]


def _png(image):
    """Base64 text of a grey PNG of `image` (8, 8), 0..16, ink dark, enlarged without smoothing."""
    grey = Image.fromarray((255 - image.astype(int) * 255 // 16).astype("uint8"))
    buffer = io.BytesIO()
    grey.resize((128, 128), Image.Resampling.NEAREST).save(buffer, "png")
    return base64.b64encode(buffer.getvalue()).decode()


def _curves(history):
    """Mean over folds of both losses at each epoch, and points of a 640 x 220 drawing of them."""
    losses = history.reindex(columns=["held_out_loss", "loss"]).groupby(history["epoch"]).mean()
    losses.columns = ["held out", "training"]
    losses = losses.dropna(axis=1)  # not every run measures both
    if len(losses) < 2 or losses.empty:
        return None
    top = losses.to_numpy().max()
    step = 10 ** (len(str(int(top))) - 1 if top >= 1 else -1)
    step *= next(m for m in (0.5, 1, 2, 5, 10) if top / (m * step) <= 5)
    across = np.linspace(40, 640, len(losses))

    def high(value):
        return 190 - 180 * value / top

    lines, labels, below = {}, [], -99.0  # names at the right end, kept from lying on one another
    for name, values in losses.items():
        points = " ".join(f"{x:.1f},{high(v):.1f}" for x, v in zip(across, values, strict=True))
        lines[name] = {"points": points, "last": values.iloc[-1]}
    for name in losses.iloc[-1].sort_values(ascending=False).index:
        below = max(high(lines[name]["last"]) + 4, below + 18)
        labels.append((name, below))
    every = -(-len(losses) // 12)
    return {
        "lines": lines,
        "labels": labels,
        "ticks": [(high(i * step), f"{i * step:g}") for i in range(int(top / step) + 1)],
        "epochs": list(zip(across, losses.index, strict=True))[::every],
        "last": losses.index[-1],
    }


def _command(info, name, folder):
    """The command that makes this report again, given the same version and machine."""
    options = {"name": name, "recipe": info["recipe"]["name"]}
    options |= {
        key: info["parameters"][key] for key in OPTIONS if info["parameters"].get(key) is not None
    }
    options["source"] = info["data"]["source"]
    compare = " --compare" * (folder / "4_compare.ipynb").is_file()
    return (
        "python -m digitlib report "
        + " ".join(f"--{key} {shlex.quote(str(value))}" for key, value in options.items())
        + compare
    )
