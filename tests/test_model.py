"""Facts about the reference network, from its publication, and about our own layers."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from digitlib import model
from digitlib.recipes import RECIPES, get_recipe


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def images(n=32, side=8, seed=1):
    return torch.randn(n, 1, side, side, generator=generator(seed))


def reference(seed=0):
    return model.build(get_recipe("coursework"), 8, 10, generator(seed))


def layers(network, kind):
    return [layer for layer in network.modules() if isinstance(layer, kind)]


def test_reference_network_has_151306_parameters():
    table = model.parameter_table(reference())
    assert sum(p.numel() for p in reference().parameters()) == 151_306
    assert [p for line in table if (p := line["parameters"])] == [320, 18_496, 131_200, 1_290]
    assert sum(line["parameters"] for line in table) == 151_306
    assert [table[i]["output"] for i in (0, 2, 6, 11)] == ["32 x 8 x 8", "64 x 8 x 8", "1024", "10"]


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("recipe", RECIPES)
def test_outputs_are_log_probabilities_and_the_process_generator_is_left_alone(recipe, training):
    before = torch.get_rng_state()
    out = model.build(get_recipe(recipe), 8, 10, generator()).train(training)(images())
    assert out.shape == (32, 10)
    assert (out <= 0).all()
    torch.testing.assert_close(out.exp().sum(dim=1), torch.ones(32))
    out.sum().backward()
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize(("side", "n_classes"), [(2, 2), (3, 4), (8, 3), (9, 10), (28, 10)])
def test_other_image_sizes_and_class_counts(side, n_classes):
    network = model.build(get_recipe("coursework"), side, n_classes, generator()).eval()
    assert network(images(4, side)).shape == (4, n_classes)


def test_initial_weights_fill_the_kaiming_and_xavier_bounds():
    network = reference()
    convolutions, linear = layers(network, nn.Conv2d), layers(network, nn.Linear)
    bounds = [(6 / c.weight[0].numel()) ** 0.5 for c in convolutions]
    bounds += [(6 / sum(f.weight.shape)) ** 0.5 for f in linear]
    for layer, bound in zip(convolutions + linear, bounds, strict=True):
        assert 0.97 * bound < layer.weight.abs().max().item() <= bound
        # The deviation of a uniform distribution is its bound / sqrt(3).
        assert abs(layer.weight.std().item() * 3**0.5 / bound - 1) < 0.1
        assert 0 < layer.bias.abs().max().item() <= layer.weight[0].numel() ** -0.5


def test_exchange_of_pooling_and_relu_changes_no_value():
    """The published order, ReLU before pooling and plain flattening, gives the same values."""
    ours, x = reference().eval(), images(64)
    first, second, third, fourth = layers(ours, nn.Conv2d | nn.Linear)
    hidden = F.max_pool2d(F.relu(second(F.relu(first(x)))), 2).flatten(1)
    # Ours flattens rows, columns, channels; theirs channels, rows, columns.
    columns = third.weight.view(128, 4, 4, 64).permute(0, 3, 1, 2).reshape(128, 1024)
    published = fourth(F.relu(F.linear(hidden, columns, third.bias))).log_softmax(dim=1)
    torch.testing.assert_close(ours(x), published, rtol=1e-5, atol=1e-5)


# ---- dropout -------------------------------------------------------------------------------------


@pytest.mark.parametrize("p", [0.1, 0.5, 0.9])
def test_dropout_drops_its_share_and_keeps_the_mean(p):
    n = 1_000_003  # no multiple of the four numbers cut out of one draw
    out = model.Dropout(p, generator())(torch.ones(n))
    assert set(out.unique().tolist()) == {0.0, torch.ones(1).div(1 - p).item()}
    deviation = (p * (1 - p) / n) ** 0.5
    assert abs((out == 0).float().mean().item() - p) < 5 * deviation
    # Neighbours fall independently, so a pair is dropped with p squared.
    pairs = (out[:-1] == 0) & (out[1:] == 0)
    assert abs(pairs.float().mean().item() - p * p) < 5 * (p * p / n) ** 0.5


def test_dropout_drops_the_same_for_the_same_seed_only_and_nothing_in_evaluation():
    x = images(16)
    first, again, other = (model.Dropout(0.5, generator(seed)) for seed in (0, 0, 1))
    dropped = first(x)
    assert torch.equal(dropped, again(x))
    assert not torch.equal(dropped, other(x)) and not torch.equal(dropped, first(x))
    assert torch.equal(first.eval()(x), x) and torch.equal(model.Dropout(0.0)(x), x)
