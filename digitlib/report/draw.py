"""Write ``draw.html``: digits drawn by hand, read by the run's networks in the reader's browser.

One file. ``template/draw.js`` does there what Python does here; this module gives it the numbers.
"""

import base64

import numpy as np
from torch import nn

from digitlib import runs
from digitlib.data import SHA256, load_again
from digitlib.handwriting import find, normalise
from digitlib.recipes import RECIPES, from_dict
from digitlib.report.page import MOST_DRAWN, facts, fill, links, undrawn

MOST_IMAGES = 6000  # of the data, among which the page looks for similar ones
# What the page's script has to know of the way from ink to counts.
WAY = {"faintest": find.FAINTEST, "weakest": find.WEAKEST, "tall": find.TALL}
WAY |= {"rows": find.JOINED_ROWS, "columns": find.JOINED_COLUMNS}
WAY |= {"thin": normalise.THIN, "veryThin": normalise.VERY_THIN}
WAY |= {"thick": normalise.THICK, "veryThick": normalise.VERY_THICK}
ACTIVATIONS = {nn.ReLU: "relu", nn.GELU: "gelu"}


def write_page(folder, stems=None):
    """Write ``draw.html`` of a run folder, if it can be drawn on; the same run, the same bytes.

    Parameters
    ----------
    folder : Path
        While the run is trained, the page waits.
    stems : iterable of str or None
        As for :func:`digitlib.report.page.write_page`.

    Returns
    -------
    Path or None
        None if :func:`digitlib.report.page.undrawn` says why there is no page.
    """
    run = runs.load(folder)
    if undrawn(run) is not None:
        return None
    stems = [path.stem for path in folder.glob("*.ipynb")] if stems is None else stems
    sure = run.probabilities.max(axis=1)
    told = {"classes": np.unique(run.y).tolist(), "doubt": float(np.quantile(sure, 0.01).round(4))}
    told |= {"shift": run.info["recipe"].get("test_shift", 0.0), "networks": _networks(run)}
    told |= {"way": WAY, **_images(run)}
    trust = {"strangers": _strangers(run), "best": RECIPES["handwriting"].strangers}
    head = {"links": links(stems, run), "facts": facts(run.info)}
    return fill(folder / "draw.html", "draw.html.j2", run=run, told=told, **trust, **head)


def _strangers(run):
    """Of 1,000 digits that other people drew, how many this recipe's networks read, or None.

    It was measured for recipes as they are, trained on all rows of the data.
    """
    recipe, sha256 = from_dict(run.info["recipe"]), run.info["data"]["sha256"]
    as_known = not run.own and not run.info.get("code", {}).get("changed") and sha256 == SHA256
    known = RECIPES.get(recipe.name)
    return known.strangers if as_known and known == recipe else None


def _networks(run):
    """The networks of the folds, as many as fit into a page."""
    found, left = [], MOST_DRAWN
    for fold in range(1, run.info["parameters"]["splits"] + 1):
        classifier = run.fitted(fold)
        stages = _stages(classifier.network_)
        left -= sum(len(stage["weights"]) for stage in stages)
        if left < 0:
            break
        mean, scale = _numbers(classifier.scaler_.mean_), _numbers(classifier.scaler_.scale_)
        found.append({"mean": mean, "scale": scale, "stages": stages})
    return found


def _stages(network, side=8):
    """A network of :mod:`digitlib.model`, each convolution with what follows it as one stage.

    A stage convolves, pools the largest values, multiplies and adds a number for each channel,
    and activates. A linear layer is a convolution as large as its image.
    """
    stages, stage = [], {}
    for layer in network:
        if isinstance(layer, nn.Conv2d | nn.Linear):
            stage = _convolution(layer, side)
            stages.append(stage)
            side += 2 * stage["pad"] - stage["size"] + 1
        elif isinstance(layer, nn.BatchNorm2d):  # after a convolution without a bias
            scale = layer.weight / (layer.running_var + layer.eps).sqrt()
            stage["shift"] = _numbers(layer.bias - layer.running_mean * scale)
            stage["scale"] = _numbers(stage["scale"] * scale.detach().numpy())
        elif isinstance(layer, nn.MaxPool2d):
            stage["most"] = layer.kernel_size
            side //= layer.kernel_size
        elif type(layer) in ACTIVATIONS:
            stage["activation"] = ACTIVATIONS[type(layer)]
    return stages


def _convolution(layer, side):
    """A stage whose weights are 16-bit integers, to be multiplied by the scale of their channel."""
    outputs, convolves = len(layer.weight), isinstance(layer, nn.Conv2d)
    size, pad = (layer.kernel_size[0], layer.padding[0]) if convolves else (side, 0)
    # Rows, columns, inputs: of the first linear layer, too, which is given channels, rows, columns.
    weights = layer.weight.detach().double().numpy().reshape(outputs, -1, size, size)
    weights = weights.transpose(0, 2, 3, 1).reshape(outputs, -1)
    scale = np.abs(weights).max(axis=1).clip(1e-30) / (2**15 - 1)
    whole = np.rint(weights / scale[:, None]).astype("<i2").T  # for each input all outputs
    text = base64.b64encode(whole.tobytes()).decode()
    shift = [0] * outputs if layer.bias is None else layer.bias
    shape = {"inputs": weights.shape[1] // size**2, "outputs": outputs, "size": size, "pad": pad}
    numbers = {"weights": text, "scale": _numbers(scale), "shift": _numbers(shift)}
    return {**shape, **numbers, "most": 1, "activation": "none"}


def _numbers(values):
    return [float(f"{value:.9g}") for value in values]


def _images(run):
    """Evenly spread rows of the data; none if it is gone."""
    if (digits := load_again(run.info["data"])) is None:
        return {"images": "", "labels": []}
    step = -(-len(digits.data) // MOST_IMAGES)
    letters = np.rint(digits.data[::step]).astype(np.uint8) + ord("A")  # one for each pixel
    return {"images": letters.tobytes().decode(), "labels": digits.target[::step].tolist()}
