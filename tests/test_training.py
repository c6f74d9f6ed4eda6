"""The training loop: what it records, what it may never see, and the threads it borrows."""

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import same_weights
from sklearn.metrics import log_loss

from digitlib import DigitClassifier, load_digits
from digitlib.errors import ParameterError
from digitlib.recipes import RECIPES
from digitlib.training import Average, learning_rate

X, Y = (part[:300] for part in load_digits("sklearn", return_X_y=True))


def fit(X=X, y=Y, held_out=None, **changes):
    classifier = DigitClassifier(random_state=0, changes={"epochs": 1, **changes})
    return classifier.fit(X, y, held_out)


def test_the_threads_and_the_generator_of_the_process_are_left_alone():
    before = torch.get_num_threads(), torch.get_rng_state(), np.random.get_state()[1].copy()
    try:
        torch.set_num_threads(2)
        expected = fit()
        expected.predict(X)
        assert torch.get_num_threads() == 2
        torch.set_num_threads(1)
        assert same_weights(fit(), expected), "their number changes no bit"
    finally:
        torch.set_num_threads(before[0])
    assert torch.equal(torch.get_rng_state(), before[1])
    np.testing.assert_array_equal(np.random.get_state()[1], before[2])


def test_held_out_data_never_influences_the_weights():
    plain = fit(X[:200], Y[:200], epochs=2)
    for held_out in ((X[200:], Y[200:]), (X[200:] * 0, Y[200:][::-1])):
        measured = fit(X[:200], Y[:200], held_out, epochs=2)
        assert same_weights(measured, plain)
        assert [r["loss"] for r in measured.history_] == [r["loss"] for r in plain.history_]
    assert "held_out_loss" not in plain.history_[0]


def test_history_has_loss_learning_rate_and_held_out_figures_of_each_epoch():
    held_out = X[200:], Y[200:]
    classifier = fit(X[:200], Y[:200], held_out, epochs=4)
    history = pd.DataFrame(classifier.history_)
    assert history["epoch"].tolist() == [1, 2, 3, 4]
    np.testing.assert_allclose(history["learning_rate"], 1e-3 * 0.7 ** np.arange(4))
    assert history["loss"].is_monotonic_decreasing
    # The last record measures the network as it was left.
    last, loss = history.iloc[-1], log_loss(Y[200:], classifier.predict_proba(X[200:]))
    assert last["held_out_loss"] == pytest.approx(loss, rel=1e-5)
    assert last["held_out_accuracy"] == pytest.approx(classifier.score(*held_out))


def test_every_row_is_trained_on():
    """With one batch, the first loss is the mean over all rows, whatever their order."""
    losses = [fit(batch_size=size).history_[0]["loss"] for size in (300, 10_000, 7)]
    assert losses[0] == losses[1] > losses[2]


def test_one_cycle_rises_for_a_fifth_of_the_steps_and_falls_to_nothing():
    recipe = RECIPES["accurate"].changed(epochs=10)
    rates = np.array([learning_rate(recipe, steps=20)(step) for step in range(200)])
    assert rates.argmax() == 39 and rates.max() == pytest.approx(1, abs=0.01)
    assert (np.diff(rates[:39]) > 0).all() and (np.diff(rates[40:]) < 0).all()
    assert 0 < rates[-1] < 0.01


def test_the_average_forgets_the_first_weights():
    network = torch.nn.Linear(1, 1, bias=False)
    average = Average(network, 0.9)
    for value in range(100):
        torch.nn.init.constant_(network.weight, value)
        average.update()
    average.apply()
    assert 85 < network.weight.item() < 95  # 99, less about 1 / (1 - 0.9) steps


def test_a_loss_that_is_no_number_ends_the_training_in_one_line():
    class Exploding(torch.nn.Sequential):
        def __init__(self, side, n_classes):
            super().__init__(torch.nn.Flatten(), torch.nn.Linear(side**2, n_classes))

        def forward(self, x):
            return super().forward(x) * float("inf")

    with pytest.raises(
        ParameterError, match=r"^learning_rate=0.001: the loss became nan in epoch 1"
    ):
        DigitClassifier(network=Exploding).fit(X, Y)
