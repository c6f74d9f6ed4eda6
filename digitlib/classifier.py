"""DigitClassifier: the networks as a scikit-learn classifier."""

import math
import pkgutil
from contextlib import nullcontext
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import ArrayLike
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.preprocessing import LabelEncoder
from sklearn.utils import check_random_state
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, validate_data

from digitlib import model, training
from digitlib.errors import ParameterError
from digitlib.recipes import Recipe, get_recipe, refuse_unknown
from digitlib.scaling import PixelScaler

# What adds rewritten and drawn digits to the training rows: looked up by name, since it is built on
# the way from a picture to pixels, of which the core knows nothing.
ENLARGE = "digitlib.handwriting.hands:enlarge"


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
    epochs : int or None, default=None
        In place of the recipe's.
    changes : dict or None, default=None
        Other settings in place of the recipe's, such as ``{"dropout": 0.3}``.
    network : callable or None, default=None
        A network of your own: ``network(side, n_classes)`` returns a :class:`torch.nn.Module` that
        maps float32 images (n, 1, side, side) to scores (n, n_classes), before any softmax. The
        recipe says how it is trained.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
    n_features_in_ : int
        Pixels of an image, a square number.
    history_ : list of dict
        Per epoch: ``epoch``, ``learning_rate``, ``loss`` and, if `fit` was given `held_out` rows,
        ``held_out_loss``, ``held_out_accuracy``. Empty if it was read from a run folder.
    network_ : torch.nn.Module
        Scaled images (n, 1, side, side) to log-probabilities (n, n_classes).
    scaler_ : PixelScaler
    recipe_ : Recipe
        The settings that were used, changes applied.
    in_turn_ : bool
        Whether the network draws from torch's own generator, so that it was trained alone.

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
        random_state: Any = None,
        *,
        device: str = "auto",
        epochs: int | None = None,
        changes: dict | None = None,
        network: Any = None,
    ):
        self.recipe = recipe
        self.random_state = random_state
        self.device = device
        self.epochs = epochs
        self.changes = changes
        self.network = network

    def fit(self, X: ArrayLike, y: ArrayLike, held_out: Any = None, scale_on: Any = None) -> Self:
        """Train on `X`, `y`.

        Parameters
        ----------
        X : array of shape (n, n_pixels), any real dtype
            Row-major square images.
        y : array of shape (n,)
            Labels of at least two classes.
        held_out : tuple of array or None
            ``(X, y)`` measured after every epoch, for the loss curve; never trained on.
        scale_on : array of shape (m, n_pixels) or None
            Rows for the scaler's statistics in place of `X`: only for showing what leakage does.

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
        self.recipe_, device, labels = self.settings(), self._device(), LabelEncoder().fit(y)
        self.classes_, side = labels.classes_, math.isqrt(X.shape[1])
        if len(self.classes_) < 2:
            raise ParameterError(f"y holds 1 class, {y[0]!r}; a classifier needs at least 2")
        if side * side != X.shape[1] or side < 2:
            said = f"X has {X.shape[1]} feature(s), not a square image"
            raise ParameterError(f"{said}; give 4, 9, 16, ... such as 64 for 8x8")
        seed = int(check_random_state(self.random_state).randint(2**31 - 1))
        generator = torch.Generator().manual_seed(seed)
        self.scaler_ = PixelScaler(self.recipe_.scaling).fit(X if scale_on is None else scale_on)
        network = model.build(self.recipe_, side, len(self.classes_), seed, self.network)
        self.in_turn_ = getattr(network, "draws_itself", False)
        for layer in network.modules():
            if isinstance(layer, model.Dropout):
                layer.generator = generator
        if self.network is None:  # one of the user's may call view(), which needs the usual layout
            network.to(memory_format=torch.channels_last)
        with training.one_thread(), model.seeded(seed) if self.in_turn_ else nullcontext():
            targets = labels.transform(y)
            if getattr(self.recipe_, "rewrites", 0) or getattr(self.recipe_, "drawn", 0):
                enlarge = pkgutil.resolve_name(ENLARGE)
                X, targets = enlarge(X, targets, self.classes_, self.recipe_, generator)
            rows = self._images(X, device), torch.from_numpy(targets).to(device)
            if held_out is not None:
                known = torch.from_numpy(labels.transform(held_out[1])).to(device)
                held_out = self._images(np.asarray(held_out[0]), device), known
            network, recipe = network.to(device), self.recipe_
            self.history_ = training.train(network, *rows, recipe, generator, held_out)
        self.network_ = network.cpu()
        return self

    def predict_proba(self, X: ArrayLike) -> np.ndarray:
        """Probabilities of shape (n, n_classes), float32; each row sums to 1.

        Columns are in the order of ``classes_``.
        """
        check_is_fitted(self)
        X, device = validate_data(self, X, dtype="numeric", reset=False), self._device()
        network, shift = self.network_.to(device), self.recipe_.test_shift
        with training.one_thread():
            return training.predict(network, self._images(X, device), shift).cpu().numpy()

    def predict(self, X: ArrayLike) -> np.ndarray:
        """The most probable class of each row, shape (n,)."""
        best = self.predict_proba(X).argmax(axis=1)
        return self.classes_[best]

    def _images(self, X, device):
        side = math.isqrt(X.shape[1])
        return torch.from_numpy(self.scaler_.transform(X)).view(-1, 1, side, side).to(device)

    def _device(self):
        there = ["cpu", "cuda"] if torch.cuda.is_available() else ["cpu"]
        if self.device not in ("auto", *there):
            raise ParameterError(f"device={self.device!r}: takes auto or {' or '.join(there)} here")
        return there[-1] if self.device == "auto" else self.device

    # ---- settings --------------------------------------------------------------------------------

    def settings(self) -> Recipe:
        """The :class:`Recipe` with this estimator's changes applied, checked."""
        recipe, changes = get_recipe(self.recipe), dict(self.changes or {})
        if self.network is not None:  # it has layers of its own
            known = [name for name in recipe.settings() if name not in ("layers", "dropout")]
            for name in changes:
                refuse_unknown(name, known, "a network of your own")
        more = {} if self.epochs is None else {"epochs": self.epochs}
        return recipe.changed(**(changes | more))

    def blank_network(self, side=8, n_classes=10):
        """The network before training, for a look at its layers."""
        return model.build(self.settings(), side, n_classes, 0, self.network)

    # ---- as plain arrays, so that skops, pickle and joblib take it -------------------------------

    def __getstate__(self):
        state = super().__getstate__().copy()
        if "network_" in state:
            weights = state.pop("network_").state_dict()
            arrays = {name: value.cpu().contiguous().numpy() for name, value in weights.items()}
            state["weights_"] = arrays
        return state

    def __setstate__(self, state):
        weights = state.pop("weights_", None)
        super().__setstate__(state)
        if weights is not None:
            side = math.isqrt(self.n_features_in_)
            self.network_ = model.build(self.recipe_, side, len(self.classes_), 0, self.network)
            weights = {name: torch.as_tensor(value) for name, value in weights.items()}
            self.network_.load_state_dict(weights)
            if self.network is None:
                self.network_.to(memory_format=torch.channels_last)
