"""Scaling: pixels become network inputs, by statistics of the training rows alone."""

import numpy as np
from sklearn.preprocessing import StandardScaler


class PixelScaler:
    """Affine scaling of pixels, fitted on training rows.

    Parameters
    ----------
    kind : {"standard", "range"}
        ``"standard"``: each pixel to mean 0 and (population) standard deviation 1; a constant pixel
        becomes 0. ``"range"``: all pixels divided by the largest value seen, which keeps 0 at 0 and
        neighbours comparable.

    Attributes
    ----------
    mean_, scale_ : ndarray of shape (n_pixels,), float64
        A scaled row is ``(row - mean_) / scale_``. No entry of ``scale_`` is 0.
    """

    def __init__(self, kind="standard"):
        self.kind = kind

    def fit(self, X):
        """Take the statistics of `X`, shape (n, n_pixels), any numeric dtype; return self."""
        if self.kind == "range":
            self.mean_ = np.zeros(X.shape[1])
            self.scale_ = self.mean_ + (float(np.abs(X).max()) or 1.0)
        else:
            scaler = StandardScaler().fit(X)
            self.mean_, self.scale_ = scaler.mean_, scaler.scale_
        return self

    def transform(self, X):
        """Scaled copy of `X`, shape (n, n_pixels), float32."""
        return ((X - self.mean_) / self.scale_).astype(np.float32)
