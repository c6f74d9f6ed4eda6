"""Which page does a person in a hurry open first? ``index.html`` of a report, and the list of all
reports.

Everything is computed from the files of the run folder, so the pages can be written again at any
time.
"""

import base64
import io
import json
import shlex
from collections import Counter
from csv import DictReader
from math import log, sqrt
from statistics import NormalDist, fmean, stdev

from digitlib.errors import DigitlibError, RunError
from digitlib.reporting.render import PAGES, TEMPLATES, links

OPTIONS = (
    "seed",
    "splits",
    "epochs",
    "scaling",
    "protocol",
)  # parameters of a run that are options of `digitlib report`
N_THUMBNAILS = 18
WHAT = {
    "1_eda": "what the data is and what to watch for",
    "2_train": "recipe, network, folds and loss curves",
    "3_evaluate": "how good, where it fails, every error on show",
    "4_compare": "against other methods on the same folds",
    "5_predict": "the classifier on new images",
}


def wilson(correct, total, level=0.95):
    """Interval for a proportion.

    Parameters
    ----------
    correct, total : int
        0 <= correct <= total, total at least 1.
    level : float
        Confidence, between 0 and 1.

    Returns
    -------
    tuple of float
        Lower and upper end, 0..1.

    Notes
    -----
    E. B. Wilson (1927), Probable inference, the law of succession, and statistical inference, JASA
    22(158).
    """
    z = NormalDist().inv_cdf((1 + level) / 2)
    share, weight = correct / total, z * z / total
    centre = (share + weight / 2) / (1 + weight)
    half = z / (1 + weight) * sqrt(share * (1 - share) / total + weight / (4 * total))
    return max(0.0, centre - half), min(1.0, centre + half)


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
    try:
        info = json.loads((folder / "run.json").read_text(encoding="utf-8"))
        rows, classes = _predictions(folder / "predictions.csv")
        history = _rows(folder / "history.csv")
        checks = folder / "checks.json"
        facts = {
            "checks": json.loads(checks.read_text(encoding="utf-8")) if checks.is_file() else [],
            "scores": _scores(rows, classes),
            "curves": _curves(history),
            "samples": _samples(rows, info),
            "command": _command(info, name, folder),
        }
    except (OSError, ValueError, KeyError, TypeError) as error:
        if isinstance(error, DigitlibError):
            raise
        raise RunError(
            f"{folder}: damaged run folder ({type(error).__name__}: {error}); make the run again"
        ) from error
    stems = sorted(
        {path.stem for path in folder.glob("*.ipynb")}
        | {path.stem for path in folder.glob("[0-9]_*.html")}
    )
    return _write(
        folder / "index.html",
        "index.html.j2",
        name=name,
        info=info,
        links=links(stems),
        what=WHAT,
        titles=PAGES,
        stems=stems,
        **facts,
    )


def write_overview(reports):
    """Write ``reports/index.html``, the list of all finished reports; return its path."""
    runs = []
    for path in sorted(reports.glob("[!.]*/run.json")):
        try:
            info = json.loads(path.read_text(encoding="utf-8"))
            low, high = wilson(info["scores"]["correct"], info["scores"]["total"])
            runs.append(
                {
                    "name": path.parent.name,
                    "info": info,
                    "low": low,
                    "high": high,
                    "flat": dict(_flat(info)),
                }
            )
        except (OSError, ValueError, KeyError, TypeError, ZeroDivisionError):
            continue  # not one of ours, or damaged: the others are still worth a list
    runs.sort(key=lambda run: run["info"]["created"], reverse=True)
    return _write(
        reports / "index.html", "overview.html.j2", runs=runs, flat=[run["flat"] for run in runs]
    )


def _write(path, template, **facts):
    from jinja2 import Environment, FileSystemLoader

    environment = Environment(
        loader=FileSystemLoader(TEMPLATES), autoescape=lambda name: name.endswith("html.j2")
    )
    path.write_text(environment.get_template(template).render(**facts), encoding="utf-8")
    return path


def _flat(value, name=""):
    """Pairs of dotted name and text of everything in a nested dictionary."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _flat(inner, f"{name}.{key}" if name else key)
    elif isinstance(value, list):
        yield (
            name,
            ", ".join(f"{item:.4g}" if isinstance(item, float) else str(item) for item in value),
        )
    else:
        yield name, f"{value:.6g}" if isinstance(value, float) else str(value)


def _rows(path):
    with open(path, newline="", encoding="utf-8") as file:
        return list(DictReader(file))


def _predictions(path):
    """Rows of ``predictions.csv`` as dictionaries of numbers (with ``p``, the probabilities), and
    the classes.
    """
    table = _rows(path)
    columns = [name for name in table[0] if name[0] == "p" and name[1:].isdigit()]
    rows = [
        {
            **{k: int(row[k]) for k in ("row", "fold", "label", "predicted")},
            "p": [float(row[c]) for c in columns],
        }
        for row in table
    ]
    return rows, [int(name[1:]) for name in columns]


def _scores(rows, classes):
    """Headline figures, confusion matrix and the figures of each class."""
    counts = Counter((row["label"], row["predicted"]) for row in rows)
    correct = sum(counts[c, c] for c in classes)
    folds = Counter(row["fold"] for row in rows)
    right = Counter(row["fold"] for row in rows if row["label"] == row["predicted"])
    accuracies = [right[fold] / folds[fold] for fold in sorted(folds)]
    each = []
    for label in classes:
        support, found = sum(counts[label, c] for c in classes), counts[label, label]
        if support:
            each.append(
                {
                    "label": label,
                    "found": found,
                    "support": support,
                    "recall": found / support,
                    "interval": wilson(found, support),
                }
            )
    place = {label: i for i, label in enumerate(classes)}
    pairs = sorted(
        ((n, a, b) for (a, b), n in counts.items() if a != b), key=lambda pair: (-pair[0], pair[1:])
    )
    return {
        "correct": correct,
        "total": len(rows),
        "accuracy": correct / len(rows),
        "interval": wilson(correct, len(rows)),
        "folds": accuracies,
        "mean": fmean(accuracies),
        "spread": stdev(accuracies) if len(accuracies) > 1 else 0.0,
        "loss": fmean(-log(max(row["p"][place[row["label"]]], 1e-15)) for row in rows),
        "second": (
            sum(
                row["label"] in [c for _, c in sorted(zip(row["p"], classes, strict=True))[-2:]]
                for row in rows
            )
            / len(rows)
        ),
        "classes": classes,
        "counts": [[counts[a, b] for b in classes] for a in classes],
        "each": each,
        "pairs": pairs,
        "most": pairs[0][0] if pairs else 0,
        "hardest": min(each, key=lambda one: one["recall"]),
    }


def _samples(rows, info):
    """The surest errors, each with a PNG of its image; none if the images cannot be had any more or
    are other ones.
    """
    from digitlib.data import fingerprint, load_digits

    wrong = sorted(
        (row for row in rows if row["label"] != row["predicted"]), key=lambda row: -max(row["p"])
    )[:N_THUMBNAILS]
    try:
        X, y = load_digits(
            info["data"]["source"], return_X_y=True
        )  # a Bunch would import scikit-learn
    except DigitlibError:
        return []
    if fingerprint(X, y) != info["data"]["sha256"]:
        return []
    return [
        {**row, "sure": max(row["p"]), "png": _png(X[row["row"]].reshape(8, 8))} for row in wrong
    ]


def _png(image):
    """Base64 text of a grey PNG of `image` (8, 8), 0..16, ink dark, enlarged without smoothing."""
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray((255 - image.astype(int) * 255 // 16).astype("uint8")).resize(
        (128, 128), Image.Resampling.NEAREST
    ).save(buffer, "png")
    return base64.b64encode(buffer.getvalue()).decode()


def _curves(history):
    """Mean over folds of both losses at each epoch, and points of a 640 x 220 drawing of them."""
    epochs = sorted({int(row["epoch"]) for row in history})
    series = {}
    for column, name in (("held_out_loss", "held out"), ("loss", "training")):
        try:
            series[name] = [
                fmean(float(row[column]) for row in history if int(row["epoch"]) == epoch)
                for epoch in epochs
            ]
        except (KeyError, ValueError):
            continue  # not every run measures it
    if len(epochs) < 2 or not series:
        return None
    top = max(max(values) for values in series.values())
    step = 10 ** (len(str(int(top))) - 1 if top >= 1 else -1)
    step *= next(m for m in (0.5, 1, 2, 5, 10) if top / (m * step) <= 5)
    across = [600 * i / (len(epochs) - 1) + 40 for i in range(len(epochs))]

    def high(value):
        return 190 - 180 * value / top

    lines = {
        name: {
            "points": " ".join(
                f"{x:.1f},{high(v):.1f}" for x, v in zip(across, values, strict=True)
            ),
            "last": values[-1],
            "y": high(values[-1]),
        }
        for name, values in series.items()
    }
    labels, below = [], -99.0  # names at the right end, kept from lying on one another
    for name, line in sorted(lines.items(), key=lambda item: item[1]["y"]):
        below = max(line["y"] + 4, below + 18)
        labels.append((name, below))
    ticks = [(high(i * step), f"{i * step:g}") for i in range(int(top / step) + 1)]
    every = -(-len(epochs) // 12)
    return {
        "lines": lines,
        "labels": labels,
        "ticks": ticks,
        "epochs": [(x, e) for x, e in zip(across, epochs, strict=True)][::every],
        "last": epochs[-1],
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
