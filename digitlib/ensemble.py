"""Which digit, says the whole run? Its fold networks as one classifier, by soft voting."""

import json
from pathlib import Path

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils.validation import validate_data

from digitlib.classifier import DigitClassifier
from digitlib.errors import RunError


class FoldEnsemble(ClassifierMixin, BaseEstimator):
    """Fitted classifiers that vote with their probabilities.

    Parameters
    ----------
    estimators : list of DigitClassifier
        Fitted, on the same classes.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
    n_features_in_ : int
    """

    def __init__(self, estimators):
        self.estimators = estimators

    @property
    def classes_(self):
        return self.estimators[0].classes_

    @property
    def n_features_in_(self):
        return self.estimators[0].n_features_in_

    def __sklearn_is_fitted__(self):
        return True

    def predict_proba(self, X):
        """Mean of the networks' probabilities, shape (n, n_classes), float32; each row sums to 1."""
        X = validate_data(self, X, dtype="numeric", reset=False)
        return np.mean([estimator.predict_proba(X) for estimator in self.estimators], axis=0)

    def predict(self, X):
        """The most probable class of each row, shape (n,)."""
        return self.classes_[self.predict_proba(X).argmax(axis=1)]


def load_model(folder):
    """The networks of a run as one fitted classifier with scikit-learn's interface.

    Parameters
    ----------
    folder : str or path-like
        Such as ``reports/coursework``: a folder with ``run.json`` and ``fold-1.safetensors`` ...
        Only numbers and text are read from it, nothing in it is executed.

    Returns
    -------
    FoldEnsemble

    Raises
    ------
    RunError
        The folder is no complete run, or a file in it is damaged.
    """
    folder = Path(folder)
    try:
        splits = json.loads((folder / "run.json").read_text(encoding="utf-8"))["parameters"][
            "splits"
        ]
    except FileNotFoundError:
        raise RunError(
            f"{folder}: no run.json, so no complete run; make one with `digitlib report`"
        ) from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RunError(
            f"{folder}: damaged run.json ({type(error).__name__}: {error}); make the run again"
        ) from error
    return FoldEnsemble(
        [
            DigitClassifier.load(folder / f"fold-{number}.safetensors")
            for number in range(1, splits + 1)
        ]
    )
