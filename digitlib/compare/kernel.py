"""FilterKernel: kernel ridge regression on fixed random filters, as good as a network in a second.

References
----------
.. [1] A. Coates, H. Lee and A. Y. Ng (2011). An analysis of single-layer networks in unsupervised
   feature learning. AISTATS 15, 215-223.
.. [2] C. Saunders, A. Gammerman and V. Vovk (1998). Ridge regression learning algorithm in dual
   variables. ICML, 515-521.
"""

import math

import numpy as np
import torch
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted, validate_data
from torch.nn import functional as F

from digitlib.errors import ParameterError
from digitlib.training import one_thread

THRESHOLD = 0.15  # below it a match with a filter counts as none
LINEAR_PENALTY = 0.01  # of the readout that says which rows are hard
SCALES = torch.logspace(0, 2, 16)  # of the scores before the softmax, to choose from
N_LEFT_OUT = 250  # rows on which the scale is chosen


class FilterKernel(ClassifierMixin, BaseEstimator):
    """Classifier of square images; nothing is learned but a readout.

    Images are compared with 3x3 filters that are drawn at random and stay as they are [1]_. Of the
    pooled results, the rows that a linear readout finds hardest are the centres of a kernel ridge
    regression [2]_: rows that lie far from every border take time and teach nothing.

    Parameters
    ----------
    random_state : int, RandomState or None, default=None
        Draws the filters.
    filters : int, default=28
        Each is used with its negative.
    centres : int, default=1250
        Images that are kept.
    gamma : float, default=0.5
        Of the kernel ``exp(-gamma d^2 / mean d^2)``.
    ridge : float, default=1e-3

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
    """

    def __init__(self, random_state=None, filters=28, centres=1250, gamma=0.5, ridge=1e-3):
        self.random_state = random_state
        self.filters = filters
        self.centres = centres
        self.gamma = gamma
        self.ridge = ridge

    def fit(self, X, y):
        """Fit to `X` (n, n_pixels), square images from 4x4 up, and labels `y` (n,); return self."""
        X, y = validate_data(self, X, y)
        self.classes_, targets = np.unique(y, return_inverse=True)
        side = math.isqrt(X.shape[1])
        if side * side != X.shape[1] or side < 4 or len(self.classes_) < 2:
            found = f"X has {X.shape[1]} features, y {len(self.classes_)} class(es)"
            raise ParameterError(f"{found}; takes square images from 4x4 up, 2 classes or more")
        filters = check_random_state(self.random_state).standard_normal((self.filters, 9))
        filters -= filters.mean(axis=1, keepdims=True)
        filters /= np.linalg.norm(filters, axis=1, keepdims=True)
        self.filters_ = np.r_[filters, -filters].astype(np.float32).reshape(-1, 1, 3, 3)
        self.largest_ = float(np.abs(X).max()) or 1.0
        with one_thread():
            right = F.one_hot(torch.from_numpy(targets), len(self.classes_)).float()
            self._fit(self._features(X), right)
        return self

    def _fit(self, features, right):
        """`features` (n, d); `right` (n, n_classes): 1 for the class of a row, else 0."""
        hard = margins(features, right).argsort(stable=True)[: self.centres]
        centres, shares = features[hard], right.mean(dim=0)
        self.centres_, self.shares_ = centres.numpy(), shares.numpy()
        self.gamma_ = self.gamma / max(2 * float(features.var(dim=0).sum()), 1e-12)
        factor = torch.linalg.cholesky(self._kernel(centres) + self.ridge * torch.eye(len(hard)))
        weights = torch.cholesky_solve(right[hard] - shares, factor)
        self.weights_ = weights.numpy()
        # Scores of some rows, each by a fit without it: the residual of a row that was fitted is
        # then its weight divided by its entry of the inverse (Cook & Weisberg 1982, section 3.6).
        some = torch.arange(0, len(right), max(1, len(right) // N_LEFT_OUT))
        at, among = (hard[:, None] == some).nonzero(as_tuple=True)
        unit = torch.eye(len(hard))[:, at]
        inverse = torch.linalg.solve_triangular(factor, unit, upper=False).square().sum(dim=0)
        left_out = self._scores(features[some])
        left_out[among] = right[hard[at]] - weights[at] / inverse[:, None]
        losses = [F.cross_entropy(scale * left_out, right[some]) for scale in SCALES]
        self.scale_ = float(SCALES[int(torch.stack(losses).argmin())])

    def predict_proba(self, X):
        """Probabilities of shape (n, n_classes), in the order of ``classes_``."""
        check_is_fitted(self)
        X = validate_data(self, X, reset=False)
        with one_thread():
            return (self.scale_ * self._scores(self._features(X))).softmax(dim=1).numpy()

    def predict(self, X):
        """The most probable class of each row, shape (n,)."""
        best = self.predict_proba(X).argmax(axis=1)
        return self.classes_[best]

    def _features(self, X):
        """Matches with the filters, averaged over 2x2 places: (n, d)."""
        side = math.isqrt(X.shape[1])
        pool = max(2, (side - 2) // 6)  # larger images, more
        x = torch.from_numpy((X / self.largest_).astype(np.float32)).view(-1, 1, side, side)
        filters = torch.from_numpy(self.filters_)
        above = torch.full((len(filters),), -THRESHOLD)
        parts = [F.conv2d(part, filters, above).relu_() for part in x.split(256)]
        return torch.cat([F.avg_pool2d(part, pool).flatten(1) for part in parts])

    def _kernel(self, features):
        """Similarity to each centre, 1 where equal; by (a - b)^2 = a^2 + b^2 - 2ab."""
        centres = torch.from_numpy(self.centres_)
        squares = features.square().sum(dim=1, keepdim=True) + centres.square().sum(dim=1)
        distances = torch.addmm(squares, features, centres.T, alpha=-2)
        return (-self.gamma_ * distances).exp()

    def _scores(self, features):
        weights, shares = torch.from_numpy(self.weights_), torch.from_numpy(self.shares_)
        return self._kernel(features) @ weights + shares


def margins(features, right):
    """How far a linear readout scores the right class above all others, (n,)."""
    centred, shares = features - features.mean(dim=0), right.mean(dim=0)
    gram = centred.T @ centred + LINEAR_PENALTY * torch.eye(centred.shape[1])
    readout = torch.cholesky_solve(centred.T @ (right - shares), torch.linalg.cholesky(gram))
    scores = centred @ readout + shares
    best_other = scores.masked_fill(right == 1, -torch.inf).max(dim=1).values
    return scores[right == 1] - best_other
