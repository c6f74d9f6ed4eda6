"""The training loop: what it records, what it may never see, and the threads it borrows."""

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import same_weights
from sklearn.kernel_ridge import KernelRidge
from sklearn.metrics import log_loss
from torch.nn import functional as F

from digitlib import DigitClassifier, load_digits
from digitlib.training import one_thread

X, Y = (part[:300] for part in load_digits("sklearn", return_X_y=True))


@pytest.fixture
def two_threads():
    """Two intra-op threads, whatever the machine has: a number that is not restored shows."""
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def fit(X=X, y=Y, epochs=1, eval_set=None, on_epoch=None, **options):
    classifier = DigitClassifier(epochs=epochs, **{"random_state": 0, **options})
    return classifier.fit(X, y, eval_set=eval_set, on_epoch=on_epoch)


# ---- threads -------------------------------------------------------------------------------------


def test_one_thread_lasts_to_the_outer_end_and_restores_the_number_before(two_threads):
    with one_thread():
        with one_thread():
            assert torch.get_num_threads() == 1
        assert torch.get_num_threads() == 1
    assert torch.get_num_threads() == 2
    with pytest.raises(ZeroDivisionError), one_thread():
        1 / 0  # noqa: B018 (what is raised inside is the point)
    assert torch.get_num_threads() == 2


def test_fit_and_predict_restore_the_threads_and_do_not_depend_on_them(two_threads):
    expected = fit()
    assert torch.get_num_threads() == 2
    expected.predict_proba(X)
    assert torch.get_num_threads() == 2
    torch.set_num_threads(1)
    assert same_weights(fit(), expected)


# ---- what training may see -----------------------------------------------------------------------


def test_held_out_data_never_influences_the_weights():
    plain = fit(X[:200], Y[:200], epochs=2)
    for eval_set in ((X[200:], Y[200:]), (X[200:] * 0, Y[200:][::-1])):
        measured = fit(X[:200], Y[:200], epochs=2, eval_set=eval_set)
        assert same_weights(measured, plain)
        assert [r["loss"] for r in measured.history_] == [r["loss"] for r in plain.history_]
        assert "held_out_loss" in measured.history_[0]
    assert "held_out_loss" not in plain.history_[0]


def test_callback_that_predicts_changes_no_weight():
    other = fit(random_state=1)
    watched = fit(epochs=2, on_epoch=lambda record: other.predict(X))
    assert same_weights(watched, fit(epochs=2))


def test_the_generator_of_the_process_is_left_alone():
    torch_before, numpy_before = torch.get_rng_state(), np.random.get_state()[1].copy()
    fit().predict(X)
    assert torch.equal(torch.get_rng_state(), torch_before)
    np.testing.assert_array_equal(np.random.get_state()[1], numpy_before)


# ---- what training records -----------------------------------------------------------------------


def test_history_has_loss_learning_rate_and_held_out_figures_of_each_epoch():
    seen, held_out = [], (X[200:], Y[200:])
    classifier = fit(X[:200], Y[:200], epochs=4, eval_set=held_out, on_epoch=seen.append)
    assert seen == classifier.history_
    history = pd.DataFrame(seen)
    assert history["epoch"].tolist() == [1, 2, 3, 4]
    np.testing.assert_allclose(history["learning_rate"], 1e-3 * 0.7 ** np.arange(4))
    assert history["loss"].is_monotonic_decreasing
    # The last record measures the network as it was left.
    loss = log_loss(Y[200:], classifier.predict_proba(X[200:]))
    assert seen[-1]["held_out_loss"] == pytest.approx(loss, rel=1e-5)
    assert seen[-1]["held_out_accuracy"] == pytest.approx(classifier.score(*held_out))


def test_every_row_is_trained_on():
    """With one batch, the first loss is the mean over all rows, whatever their order."""
    losses = [fit(batch_size=size).history_[0]["loss"] for size in (300, 10_000, 7)]
    assert losses[0] == losses[1] > losses[2]


def best_loss(left_out, y):
    """Of the scales that are tried, that of the one with the highest likelihood."""
    scales = np.logspace(0, 2, 16)
    return min(F.cross_entropy(scale * left_out, y).item() for scale in scales)


# ---- kernel ridge regression ---------------------------------------------------------------------


def kernel_on(rows, **changes):
    changes = {"filters": 6, "gamma": 0.5, "ridge": 0.05, **changes}
    return DigitClassifier("kernel", 0, changes=changes).fit(X[:rows], Y[:rows])


def after(classifier, layers, rows):
    """What comes out of these layers of the network."""
    x = torch.from_numpy(classifier.scaler_.transform(rows)).view(-1, 1, 8, 8)
    return classifier.network_[:layers](x).detach().double().numpy()


def by_scikit_learn(features, targets, fitted, asked, penalty=0.05):
    """Scores of the rows `asked` by kernel ridge regression on the rows `fitted`."""
    spread = 2 * features.var(axis=0).sum()
    kernel = {"kernel": "rbf", "gamma": 0.5 / spread, "alpha": penalty}
    model = KernelRidge(**kernel).fit(features[fitted], targets[fitted])
    return model.predict(features[asked])


@pytest.mark.parametrize("centres", [300, 1000])
def test_with_all_rows_as_centres_it_is_scikit_learns_kernel_ridge(centres):
    ours = kernel_on(300, centres=centres)
    features, shares = after(ours, 4, X), np.eye(10)[Y].mean(axis=0)
    scores = by_scikit_learn(features, np.eye(10)[Y] - shares, slice(None), slice(None)) + shares
    logits = after(ours, -1, X)
    scale = (logits * scores).sum() / (scores**2).sum()
    np.testing.assert_allclose(logits / scale, scores, atol=1e-3)


def test_the_loss_of_left_out_rows_is_that_of_real_refits():
    ours = kernel_on(120, centres=120)
    features, y = after(ours, 4, X[:120]), Y[:120]
    shares, rows = np.eye(10)[y].mean(axis=0), np.arange(120)
    refits = [by_scikit_learn(features, np.eye(10)[y] - shares, rows != i, [i]) for i in rows]
    left_out, y = torch.from_numpy(np.vstack(refits) + shares), torch.from_numpy(y)
    assert ours.history_[0]["loss"] == pytest.approx(best_loss(left_out, y), rel=0.01)
