"""Networks: facts of the published one, our dropout, what is asked of a network of your own."""

import copy

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from digitlib import DigitClassifier, own
from digitlib.errors import ParameterError
from digitlib.model import Dropout, build
from digitlib.recipes import RECIPES


def images(n=32, side=8):
    return torch.randn(n, 1, side, side, generator=torch.Generator().manual_seed(1))


def reference(side=8, n_classes=10):
    return build(RECIPES["coursework"], side, n_classes, 0)


def test_reference_network_has_151306_parameters_layer_by_layer():
    table = own.layers(DigitClassifier())
    assert [p for p in table["parameters"] if p] == [320, 18_496, 131_200, 1_290]
    assert table["parameters"].sum() == 151_306
    assert table["output"].iloc[[0, 2, 6, 11]].tolist() == [
        "32 x 8 x 8",
        "64 x 8 x 8",
        "1024",
        "10",
    ]


@pytest.mark.parametrize("recipe", RECIPES)
def test_outputs_are_log_probabilities_and_the_process_generator_is_left_alone(recipe):
    before = torch.get_rng_state()
    for training in (True, False):
        out = build(RECIPES[recipe], 8, 10, 0).train(training)(images())
        torch.testing.assert_close(out.exp().sum(dim=1), torch.ones(32))
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize(("side", "n_classes"), [(2, 2), (3, 4), (9, 10), (28, 10)])
def test_other_image_sizes_and_class_counts(side, n_classes):
    assert reference(side, n_classes).eval()(images(4, side)).shape == (4, n_classes)


def test_initial_weights_fill_the_kaiming_and_xavier_bounds():
    for layer in reference():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            fan = layer.weight[0].numel()
            fan = fan if isinstance(layer, nn.Conv2d) else sum(layer.weight.shape)
            bound = (6 / fan) ** 0.5
            assert 0.97 * bound < layer.weight.abs().max().item() <= bound
            # The deviation of a uniform distribution is its bound / sqrt(3).
            assert layer.weight.std().item() * 3**0.5 == pytest.approx(bound, rel=0.1)


def test_exchange_of_pooling_and_relu_changes_no_value():
    ours, x = reference().eval(), images(64)
    first, second, third, fourth = (x for x in ours if isinstance(x, nn.Conv2d | nn.Linear))
    hidden = F.max_pool2d(F.relu(second(F.relu(first(x)))), 2).flatten(1)
    torch.testing.assert_close(ours(x), fourth(F.relu(third(hidden))).log_softmax(dim=1))


# ---- dropout -------------------------------------------------------------------------------------


@pytest.mark.parametrize("p", [0.1, 0.5, 0.9])
def test_dropout_drops_its_share_and_keeps_the_mean(p):
    out, n = Dropout(p)(torch.ones(1_000_000)), 1_000_000
    assert set(out.unique().tolist()) == {0.0, torch.ones(1).div(1 - p).item()}
    assert abs((out == 0).float().mean().item() - p) < 5 * (p * (1 - p) / n) ** 0.5


def test_dropout_draws_from_its_own_generator_and_drops_nothing_in_evaluation():
    layer, x = Dropout(0.5), images(16)
    dropped, again = layer(x), layer(x)
    layer.generator.manual_seed(layer.generator.initial_seed())
    assert torch.equal(layer(x), dropped) and not torch.equal(again, dropped)
    assert torch.equal(copy.deepcopy(layer).eval()(x), x) and torch.equal(Dropout(0.0)(x), x)


# ---- of one's own --------------------------------------------------------------------------------


class Plain(nn.Module):
    """Two layers; `change` spoils it."""

    def __init__(self, side, n_classes):
        super().__init__()
        self.hidden, self.last = nn.Linear(side * side, 20), nn.Linear(20, n_classes)
        self.drop = nn.Dropout(0.5)

    def forward(self, x):
        return self.last(self.drop(self.hidden(x.flatten(1)).relu()))


class Softmax(Plain):
    def forward(self, x):
        return super().forward(x).softmax(1)


class Wrong(Plain):
    def forward(self, x):
        return self.last(x.flatten(1))


class Functional(Plain):
    def forward(self, x):
        return F.dropout(super().forward(x), training=self.training)


class Few(Plain):
    def forward(self, x):
        return super().forward(x)[:, 1:]


def test_its_dropout_becomes_ours_and_one_that_draws_itself_is_found():
    assert isinstance(build(RECIPES["coursework"], 8, 10, 0, Plain)[0].drop, Dropout)
    found = [
        build(RECIPES["coursework"], 8, 10, 0, one).draws_itself for one in (Plain, Functional)
    ]
    assert found == [False, True]


REFUSED = [
    (Softmax, "network Softmax gives probabilities; give scores: leave out softmax"),
    (Plain(8, 10), "not Plain(...)"),
    (lambda: Plain(8, 10), "takes a class or function of (side, n_classes)"),
    (lambda side, n_classes: None, "gave None, no torch.nn.Module; is a return missing?"),
    (lambda side, n_classes: nn.Flatten(), "has nothing to learn"),
    (Wrong, "failed in Linear, which was given (2, 64): "),
    (Few, "gave (2, 9) for 2 images; takes (2, 10)"),
]


@pytest.mark.parametrize(("network", "said"), REFUSED)
def test_what_cannot_be_trained_is_refused_in_one_line(network, said):
    with pytest.raises(ParameterError) as caught:
        DigitClassifier(network=network).blank_network()
    assert said in str(caught.value) and "\n" not in str(caught.value)
