"""Paired tests: do two classifiers differ on the same rows, or in the same folds?"""

import numpy as np
from numpy.typing import ArrayLike
from scipy.stats import binomtest
from scipy.stats import t as student


def mcnemar(right_a: np.ndarray, right_b: np.ndarray) -> tuple[int, int, float]:
    """McNemar's exact test: do two classifiers err equally often on the same rows?

    Parameters
    ----------
    right_a, right_b : array of shape (n,), bool
        Whether each row was predicted correctly.

    Returns
    -------
    tuple
        Rows that only a got right, rows that only b got right, two-sided p.

    Notes
    -----
    Q. McNemar (1947), https://doi.org/10.1007/BF02295996; the exact form is a binomial test of the
    rows on which they differ. Its p holds for these fitted models, not for the training procedures:
    it knows nothing of what another seed would have given.
    """
    only_a, only_b = int((right_a & ~right_b).sum()), int((right_b & ~right_a).sum())
    p = float(binomtest(only_a, only_a + only_b).pvalue) if only_a + only_b else 1.0
    return only_a, only_b, p


def corrected_resampled_t(differences: ArrayLike, test_per_train: float) -> tuple[float, float]:
    """Corrected resampled t-test: do two classifiers differ over the same folds?

    Its variance is enlarged because the folds share training rows.

    Parameters
    ----------
    differences : array of shape (k,)
        Accuracy of one minus accuracy of the other, fold by fold; k at least 2.
    test_per_train : float
        Test rows per training row: 1 / (k - 1) for k folds.

    Returns
    -------
    tuple of float
        t and p, from Student's t with k - 1 degrees of freedom. No difference at all gives t 0, p
        1.

    Notes
    -----
    C. Nadeau and Y. Bengio (2003). Inference for the generalization error. Machine Learning 52.
    https://doi.org/10.1023/A:1024068626366
    """
    differences = np.asarray(differences, dtype=float)
    if not differences.any():
        return 0.0, 1.0
    k = len(differences)
    with np.errstate(divide="ignore"):
        t = differences.mean() / np.sqrt((1 / k + test_per_train) * differences.var(ddof=1))
    return float(t), float(2 * student.sf(abs(t), k - 1))


def holm(p_values: ArrayLike) -> np.ndarray:
    """P-values adjusted for the number of comparisons, in the order given.

    Notes
    -----
    S. Holm (1979). A simple sequentially rejective multiple test procedure.
    https://www.jstor.org/stable/4615733
    """
    p_values = np.asarray(p_values, dtype=float)
    order = p_values.argsort()
    adjusted = np.maximum.accumulate(p_values[order] * np.arange(len(p_values), 0, -1)).clip(max=1)
    return adjusted[order.argsort()]
