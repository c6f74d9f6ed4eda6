"""Folds on other engines give the same bits; images of other sizes; CUDA where there is some."""

import joblib
import numpy as np
import pytest
import torch

from digitlib import DigitClassifier, cross_validate, load_digits
from digitlib.recipes import RECIPES


@pytest.fixture(scope="module")
def rows():
    X, y = load_digits(return_X_y=True)
    return X[:800], y[:800]


@pytest.fixture(scope="module")
def here(rows):
    """The result of the default engine, threads of this process."""
    return cross_validate(
        DigitClassifier("fast", random_state=0, device="cpu"), *rows, progress="off"
    )


def test_folds_on_a_dask_cluster_have_the_same_bits(rows, here):
    distributed = pytest.importorskip(
        "distributed", reason="distributed is a development dependency"
    )
    with (
        distributed.LocalCluster(
            n_workers=2, threads_per_worker=1, host="127.0.0.1", dashboard_address=None
        ) as cluster,
        distributed.Client(cluster) as client,
        joblib.parallel_config(backend="dask"),
    ):
        there = cross_validate(
            DigitClassifier("fast", random_state=0, device="cpu"), *rows, progress="off"
        )
        workers = client.run(lambda dask_worker: dask_worker.state.executed_count)
    assert sum(workers.values()) >= 4, "the folds ran on the cluster"
    assert len([count for count in workers.values() if count]) == 2, "on both of its workers"
    np.testing.assert_array_equal(there.probabilities, here.probabilities)
    np.testing.assert_array_equal(there.folds, here.folds)


def test_threads_of_the_caller_are_restored(rows):
    before = torch.get_num_threads()
    cross_validate(DigitClassifier("instant", random_state=0, device="cpu"), *rows, progress="off")
    assert torch.get_num_threads() == before


@pytest.mark.parametrize("recipe", ["fast", "balanced"])  # without and with augmentation
def test_images_of_28_by_28_with_255_values(recipe):
    digits = load_digits()
    large = np.zeros((900, 28, 28), dtype=np.uint8)
    large[:, 2:26, 2:26] = np.kron(digits.images[:900], np.ones((3, 3))) * 255 // 16
    X, y = large.reshape(900, -1), digits.target[:900]
    settings = RECIPES[recipe].changed(epochs=1)
    classifier = DigitClassifier(settings, random_state=0, device="cpu").fit(X[:700], y[:700])
    assert classifier.scaler_.scale_.max() == 255, "the range comes from the data"
    assert classifier.score(X[700:], y[700:]) > 0.9


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device on this machine")
@pytest.mark.parametrize("recipe", ["coursework", "fast", "balanced"])
def test_cuda_agrees_with_the_cpu(recipe, rows):
    """Same first weights, order, dropout and augmentation; only the order of sums differs, so all
    but a few answers agree.
    """
    results = [
        cross_validate(DigitClassifier(recipe, random_state=0, device=d), *rows, progress="off")
        for d in ("cpu", "cuda")
    ]
    assert (results[0].predicted == results[1].predicted).mean() > 0.98
    assert abs(results[0].accuracy - results[1].accuracy) < 0.01
