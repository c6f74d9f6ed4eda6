"""DigitClassifier: any network of this package, as a scikit-learn classifier."""

import json
import math
import os
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import ArrayLike
from safetensors import safe_open
from safetensors.torch import save_file
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils import check_random_state
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, validate_data

from digitlib import model, training
from digitlib.augmentation import enlarge
from digitlib.errors import ParameterError, RunError
from digitlib.files import check_file
from digitlib.recipes import Recipe, from_dict, get_recipe
from digitlib.scaling import PixelScaler

OVERRIDES = ("epochs", "batch_size", "learning_rate")  # settings that are parameters too


class DigitClassifier(ClassifierMixin, BaseEstimator):
    """Convolutional network for square grey images, as a scikit-learn classifier.

    Parameters
    ----------
    recipe : str or Recipe, default="coursework"
        A name from :data:`digitlib.recipes.RECIPES`, or settings of your own.
    random_state : int, RandomState or None, default=None
        Draws first weights, order of rows and dropout. The same integer gives bit-identical weights
        on the same machine.
    device : {"auto", "cpu", "cuda"}, default="auto"
        Where to train. ``"auto"``: CUDA if there is one.
    epochs, batch_size : int or None, default=None
        In place of the recipe's.
    learning_rate : float or None, default=None
        In place of the recipe's.
    changes : dict or None, default=None
        Other settings in place of the recipe's, such as ``{"dropout": 0.3}``.
    network : callable or None, default=None
        A network of your own: ``network(side, n_classes)`` returns a :class:`torch.nn.Module` that
        maps float32 images (n, 1, side, side) to scores (n, n_classes), logits or
        log-probabilities. The recipe says how it is trained.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
    n_features_in_ : int
        Pixels of an image, a square number.
    history_ : list of dict
        Per epoch: ``epoch``, ``learning_rate``, ``loss`` and, if `fit` was given an `eval_set`,
        ``held_out_loss``, ``held_out_accuracy``.
    network_ : torch.nn.Module
        Scaled images (n, 1, side, side) to log-probabilities (n, n_classes).
    scaler_ : PixelScaler
    recipe_ : Recipe
        The settings that were used, overrides applied.

    Examples
    --------
    >>> import digitlib
    >>> X, y = digitlib.load_digits(return_X_y=True)
    >>> classifier = digitlib.DigitClassifier(random_state=0, epochs=2).fit(X[:1000], y[:1000])
    >>> classifier.score(X[1000:], y[1000:]) > 0.8
    True
    """

    def __init__(
        self,
        recipe: str | Recipe = "coursework",
        random_state: int | np.random.RandomState | None = None,
        device: str = "auto",
        epochs: int | None = None,
        batch_size: int | None = None,
        learning_rate: float | None = None,
        changes: dict | None = None,
        network: Callable | None = None,
    ):
        self.recipe = recipe
        self.random_state = random_state
        self.device = device
        self.epochs = epochs
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.changes = changes
        self.network = network

    def fit(
        self,
        X: ArrayLike,
        y: ArrayLike,
        eval_set: tuple[ArrayLike, ArrayLike] | None = None,
        scale_on: ArrayLike | None = None,
        on_epoch: Callable[[dict], Any] | None = None,
    ) -> Self:
        """Train on `X`, `y`.

        Parameters
        ----------
        X : array of shape (n, n_pixels), any real dtype
            Row-major square images.
        y : array of shape (n,)
            Labels of at least two classes.
        eval_set : tuple of array or None
            ``(X, y)`` measured after every epoch, for the loss curve; never trained on.
        scale_on : array of shape (m, n_pixels) or None
            Rows for the scaler's statistics in place of `X`: only for showing what leakage does.
        on_epoch : callable or None
            Called with each new record of ``history_``.

        Returns
        -------
        self

        Raises
        ------
        ParameterError
            A setting is unknown or out of range, or the images are not square.
        """
        X, y = validate_data(self, X, y, dtype="numeric")
        check_classification_targets(y)
        self.recipe_, device = self.settings(), self._device()
        self.classes_, targets = np.unique(y, return_inverse=True)
        if len(self.classes_) < 2:
            raise ParameterError(
                f"y holds 1 class, {self.classes_.tolist()[0]!r}; a classifier needs at least 2"
            )
        side = math.isqrt(X.shape[1])
        if side * side != X.shape[1] or side < 2:
            raise ParameterError(
                f"X has {X.shape[1]} feature(s), not a square image; give 4, 9, 16, ... such as 64"
                " for 8x8"
            )
        recipe, seed = self.recipe_, int(check_random_state(self.random_state).randint(2**31 - 1))
        generator = torch.Generator().manual_seed(seed)
        seen = X if scale_on is None else np.asarray(scale_on)
        self.scaler_ = PixelScaler(recipe.scaling).fit(seen)
        with training.one_thread(), training.own_stream(device):
            if recipe.rewrites:
                X, targets = enlarge(X, targets, self.classes_, recipe, generator)
            n_classes = len(self.classes_)
            network, own_random = self._build(recipe, side, n_classes, seed, generator, device)
            held_out = None if eval_set is None else self._held_out(*eval_set, side, device)
            x, y = self._images(X, side, device), torch.from_numpy(targets).to(device)
            self.history_ = training.train(
                network, x, y, recipe, generator, held_out, on_epoch, own_random
            )
        self.network_ = network.cpu()
        # Prediction draws nothing; without generators the estimator can be pickled.
        for layer in network.modules():
            if isinstance(layer, model.Dropout):
                layer.generator = None
        return self

    def predict_proba(self, X: ArrayLike) -> np.ndarray:
        """Probabilities of shape (n, n_classes), float32; each row sums to 1.

        Columns are in the order of ``classes_``.
        """
        check_is_fitted(self)
        X = validate_data(self, X, dtype="numeric", reset=False)
        device = self._device()
        with training.one_thread():
            x = self._images(X, math.isqrt(X.shape[1]), device)
            probabilities = training.predict(self.network_.to(device), x, self.recipe_.test_shift)
        return probabilities.cpu().numpy()

    def predict(self, X: ArrayLike) -> np.ndarray:
        """The most probable class of each row, shape (n,)."""
        best = self.predict_proba(X).argmax(axis=1)
        return self.classes_[best]

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.non_deterministic = self.random_state is None
        return tags

    # ---- settings --------------------------------------------------------------------------------

    def settings(self) -> Recipe:
        """The :class:`Recipe` with this estimator's overrides applied, checked."""
        overrides = {name: getattr(self, name) for name in OVERRIDES}
        given = {name: value for name, value in overrides.items() if value is not None}
        recipe = get_recipe(self.recipe)
        if self.network is not None:
            if not recipe.learned:
                raise ParameterError(
                    f"recipe {recipe.name} trains no network; network= takes another recipe, such"
                    " as coursework"
                )
            given["network"] = "own"
        recipe = recipe.changed(**(self.changes or {}), **given)
        if recipe.network == "own" and self.network is None:
            raise ParameterError("network='own' needs a function: DigitClassifier(network=build)")
        return recipe

    def blank_network(self, side=8, n_classes=10):
        """The network before training, for a look at its layers."""
        return self._build(self.settings(), side, n_classes, 0, None, torch.device("cpu"))[0]

    def _build(self, recipe, side, n_classes, seed, generator, device):
        """The network with its first weights, and what its random numbers come from."""
        if self.network is None:
            network = model.build(recipe, side, n_classes, generator)
            return network.to(device), nullcontext
        own_random = training.OwnRandom(seed, device)
        with own_random():
            network = model.own(self.network, side, n_classes)
        return network.to(device), own_random

    def _device(self):
        if self.device == "auto":
            return torch.device("cuda" if torch.cuda.is_available() else "cpu")
        if self.device == "cuda" and not torch.cuda.is_available():
            raise ParameterError(
                "device='cuda': torch sees no CUDA device here; use device='auto' or 'cpu'"
            )
        if self.device not in ("cpu", "cuda"):
            raise ParameterError(f"device={self.device!r}: takes 'auto', 'cpu' or 'cuda'")
        return torch.device(self.device)

    def _images(self, X, side, device):
        return torch.from_numpy(self.scaler_.transform(X)).view(-1, 1, side, side).to(device)

    def _held_out(self, X, y, side, device):
        X, y = np.asarray(X), np.asarray(y)
        targets = np.searchsorted(self.classes_, y).clip(max=len(self.classes_) - 1)
        if not np.array_equal(self.classes_[targets], y):
            unknown = np.setdiff1d(y, self.classes_).tolist()[0]
            raise ParameterError(
                f"eval_set holds class {unknown!r}, which y does not; add training rows of it"
            )
        return self._images(X, side, device), torch.from_numpy(targets).to(device)

    # ---- weights on disk -------------------------------------------------------------------------

    def save(self, path: str | os.PathLike, **metadata: Any) -> None:
        """Write weights, scaler and settings as safetensors.

        The file holds numbers and text only, nothing that runs when it is read.

        Parameters
        ----------
        path : str or path-like
        **metadata
            More facts for the file's header, anything JSON can say.
        """
        check_is_fitted(self)
        weights = self.network_.state_dict().items()
        tensors = {f"network.{name}": value.contiguous() for name, value in weights}
        for name in ("mean", "scale"):
            tensors[f"scaler.{name}"] = torch.tensor(getattr(self.scaler_, f"{name}_"))
        header = {"recipe": self.recipe_.as_dict(), "classes": self.classes_.tolist(), **metadata}
        save_file(tensors, path, {key: json.dumps(value) for key, value in header.items()})

    @classmethod
    def load(cls, path: str | os.PathLike, network: Callable | None = None) -> Self:
        """A fitted classifier from what :meth:`save` wrote.

        Parameters
        ----------
        path : str or path-like
        network : callable or None
            That builds the network, if it is one of your own.

        Raises
        ------
        RunError
            The file is missing, damaged, or not from :meth:`save`.
        """
        try:
            header = _header_of(path)
            with safe_open(path, "pt") as file:
                # It has keys, and is no dictionary all the same.
                tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
            classifier = cls(recipe=from_dict(header["recipe"]), network=network)
            classifier._restore(header, tensors)
        except Exception as error:
            # torch lists what does not fit on lines of their own.
            said = " ".join(f"{type(error).__name__}: {error}".split())
            raise RunError(f"{path}: not a digitlib weights file ({said}); train again") from error
        return classifier

    def _restore(self, header, tensors):
        self.recipe_ = self.recipe
        self.classes_ = np.array(header["classes"])
        self.scaler_ = PixelScaler(self.recipe_.scaling)
        for name in ("mean", "scale"):
            setattr(self.scaler_, f"{name}_", tensors.pop(f"scaler.{name}").numpy())
        self.n_features_in_ = len(self.scaler_.mean_)
        side, cpu = math.isqrt(self.n_features_in_), torch.device("cpu")
        self.network_, _ = self._build(self.recipe_, side, len(self.classes_), 0, None, cpu)
        weights = {key.removeprefix("network."): value for key, value in tensors.items()}
        if any(value.isnan().any() for value in weights.values()):
            raise ValueError("holds weights that are no numbers")
        self.network_.load_state_dict(weights)
        if self.network is None:
            self.network_.to(memory_format=torch.channels_last)
            training.place_centres(self.network_)


def _header_of(path):
    """What :meth:`DigitClassifier.save` wrote beside the numbers: recipe, classes, facts."""
    check_file(path, ValueError, "it should be one that save wrote")
    with safe_open(path, "np") as file:
        return {key: json.loads(value) for key, value in (file.metadata() or {}).items()}
