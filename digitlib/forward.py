"""A fitted network in NumPy alone: a picture is read before torch, a second's import, is there.

:mod:`digitlib.model` says what the networks are; tests hold the two equal.
"""

import json
import math
from itertools import product

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from safetensors import safe_open
from scipy import ndimage
from scipy.spatial.distance import cdist
from scipy.special import erf, softmax

from digitlib.errors import RunError
from digitlib.files import check_file
from digitlib.recipes import from_dict

EPS = 1e-5  # that of torch's batch normalisation


class Forward:
    """The classifier of a fold, read from what :meth:`digitlib.DigitClassifier.save` wrote.

    Parameters
    ----------
    path : str or path-like

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)

    Raises
    ------
    RunError
        The file is missing, damaged, or of a network of the user's own.
    """

    def __init__(self, path):
        try:
            header = header_of(path)
            with safe_open(path, "np") as file:
                # It has keys, and is no dictionary all the same.
                tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
            if any(np.isnan(values).any() for values in tensors.values()):
                raise ValueError("holds weights that are no numbers")
            self.recipe, self.classes_ = from_dict(header["recipe"]), np.array(header["classes"])
            self.mean, self.scale = tensors.pop("scaler.mean"), tensors.pop("scaler.scale")
            self.weights = {key.removeprefix("network."): tensors[key] for key in tensors}
            self.predict_proba(np.zeros((1, len(self.mean)), np.uint8))
        except Exception as error:
            said = " ".join(f"{type(error).__name__}: {error}".split())
            raise RunError(f"{path}: not a digitlib weights file ({said}); train again") from error

    def predict_proba(self, X):
        """Probabilities of shape (n, n_classes), float64, of rows of pixels (n, n_pixels)."""
        side = math.isqrt(len(self.mean))
        images = ((X - self.mean) / self.scale).astype(np.float32).reshape(-1, side, side, 1)
        far = self.recipe.test_shift * side / 8
        views = product((-far, 0.0, far), repeat=2) if far else [(0.0, 0.0)]
        how = {"order": 1, "mode": "grid-constant"}  # bilinear, paper all around
        scores = [self._scores(ndimage.shift(images, (0, *view, 0), **how)) for view in views]
        return softmax(np.mean(scores, axis=0), axis=1)

    def _scores(self, images):
        last = max(int(key.split(".")[0]) for key in self.weights)
        return self._linear(self._seen(images), last)

    def _seen(self, x):
        """What the last layer is given, (n, d), of images (n, rows, columns, 1)."""
        if self.recipe.network == "reference":
            x = np.maximum(self._convolved(x, 0), 0)
            x = np.maximum(_pooled(self._convolved(x, 2), 2, np.max), 0)
            return np.maximum(self._linear(x.reshape(len(x), -1), 7), 0)
        if self.recipe.network == "compact":
            return self._compact(x)
        features = self._filtered(x)
        if self.recipe.network == "random-filters":
            return features
        images = self.weights["4.images"].transpose(0, 2, 3, 1).astype(np.float32)
        return np.exp(
            -self.weights["4.gamma"] * cdist(features, self._filtered(images), "sqeuclidean")
        )

    def _compact(self, x):
        place = 0
        for word in self.recipe.layers.split():
            x, place = self._convolved(x, place), place + 1
            if word.endswith("p"):
                x, place = _pooled(x, 2, np.max), place + 1
            weight, bias, mean, variance = (
                self.weights[f"{place}.{name}"]
                for name in ("weight", "bias", "running_mean", "running_var")
            )
            x, place = (x - mean) / np.sqrt(variance + EPS) * weight + bias, place + 2
            x = x / 2 * (1 + erf(x / math.sqrt(2)))  # GELU
        return x.reshape(len(x), -1)

    def _filtered(self, x):
        x = np.maximum(self._convolved(x, 0, pad=0), 0)
        x = _pooled(x, max(2, x.shape[1] // 6), np.mean)
        return x.reshape(len(x), -1)

    def _convolved(self, x, place, pad=1):
        weight = self.weights[f"{place}.weight"]
        x = np.pad(x, ((0, 0), (pad, pad), (pad, pad), (0, 0)))
        windows = sliding_window_view(x, weight.shape[2:], axis=(1, 2))
        return np.tensordot(windows, weight, ((3, 4, 5), (1, 2, 3))) + self._bias(place)

    def _linear(self, x, place):
        return x @ self.weights[f"{place}.weight"].T + self._bias(place)

    def _bias(self, place):
        return self.weights.get(f"{place}.bias", np.float32(0))


def header_of(path):
    """What a weights file says beside its numbers: recipe, classes, history, facts."""
    check_file(path, ValueError, "it should be one that save wrote")
    with safe_open(path, "np") as file:
        return {key: json.loads(value) for key, value in (file.metadata() or {}).items()}


def _pooled(x, size, join):
    """Blocks of `size` rows and columns become one; what is left over at the edges is left out."""
    n, rows, columns, channels = x.shape
    left = rows // size, columns // size
    x = x[:, : left[0] * size, : left[1] * size].reshape(n, left[0], size, left[1], size, channels)
    return join(x, axis=(2, 4))
