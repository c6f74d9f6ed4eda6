"""Networks: the reference CNN of the course, a compact one, and the check of a network of your own.

A network maps float32 images (n, 1, side, side) to log-probabilities (n, n_classes).
"""

import copy
import threading
from contextlib import contextmanager

import torch
from torch import nn

from digitlib.errors import ParameterError

_turn = threading.Lock()


@contextmanager
def seeded(seed):
    """Let torch's process-wide generator start at `seed`, for one thread at a time.

    torch's constructors and ``F.dropout`` draw from it. Afterwards it is as it was before.
    """
    with _turn, torch.random.fork_rng():
        torch.manual_seed(seed)
        yield


class Dropout(nn.Dropout):
    """Dropout that draws from a generator of its own, so that folds may train side by side."""

    def __init__(self, p=0.5):
        super().__init__(p)
        self.generator = torch.Generator()  # a fit puts its own here

    def forward(self, x):
        if not self.training or self.p == 0:
            return x
        # Drawn on the CPU, so that every device drops the same.
        kept = torch.rand(x.shape, generator=self.generator) >= self.p
        return x * (kept / (1 - self.p)).to(x.device)


def reference_network(side=8, n_classes=10, dropout=0.5):
    """The reference CNN: two convolutions, one pooling, two linear layers; 151,306 parameters."""
    return nn.Sequential(
        nn.Conv2d(1, 32, 3, padding=1),  # (n, 32, 8, 8)
        nn.ReLU(inplace=True),
        # The course has ReLU, then pooling. Both keep order, so the exchange changes no value, and
        # ReLU has a quarter to do; in place it needs no second copy.
        nn.Conv2d(32, 64, 3, padding=1),  # (n, 64, 8, 8)
        nn.MaxPool2d(2),  # (n, 64, 4, 4)
        nn.ReLU(inplace=True),
        Dropout(dropout),
        nn.Flatten(),  # (n, 1024)
        nn.Linear(64 * (side // 2) ** 2, 128),
        nn.ReLU(inplace=True),
        Dropout(dropout),
        nn.Linear(128, n_classes),
        nn.LogSoftmax(dim=1),
    )


def compact_network(layers, side=8, n_classes=10, dropout=0.0):
    """3x3 convolutions with batch normalisation, then one linear layer.

    `layers`: channels of each convolution, "p" where a 2x2 max-pooling follows: "16 32p 64".
    """
    stages, channels = [], 1
    for word in layers.split():
        width = int(word.removesuffix("p"))
        stages.append(nn.Conv2d(channels, width, 3, padding=1, bias=False))
        if word.endswith("p"):
            stages.append(nn.MaxPool2d(2))
            side //= 2
        stages += [nn.BatchNorm2d(width), nn.GELU()]
        channels = width
    if side == 0:
        raise ParameterError(f"layers={layers!r}: too many poolings for these images; use fewer p")
    head = nn.Linear(channels * side**2, n_classes)
    return nn.Sequential(*stages, nn.Flatten(), Dropout(dropout), head, nn.LogSoftmax(dim=1))


def initialise(network, gain=1.0):
    """Kaiming uniform for convolutions, Xavier uniform for linear layers; biases as torch does."""
    for layer in network:
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_uniform_(layer.weight, nonlinearity="relu")
        elif isinstance(layer, nn.Linear):
            nn.init.xavier_uniform_(layer.weight, gain)
    return network


def build(recipe, side, n_classes, seed, own=None):
    """The network of a recipe, or the one that `own` builds, with its first weights.

    Parameters
    ----------
    recipe : Recipe
    side, n_classes : int
        Rows and columns of an image; classes.
    seed : int
    own : callable or None
        ``own(side, n_classes)`` gives a :class:`torch.nn.Module`: images in, scores out.

    Returns
    -------
    torch.nn.Sequential
        One of the user's has ``draws_itself``: it draws from torch's own generator in training.

    Raises
    ------
    ParameterError
        `own` gives nothing that can be trained here.
    """
    with seeded(seed):
        if own is not None:
            network = nn.Sequential(checked(own, side, n_classes), nn.LogSoftmax(dim=1))
            network.draws_itself = tried(network[0], name_of(own), side, n_classes)
            return network
        if hasattr(recipe, "layers"):
            network = compact_network(recipe.layers, side, n_classes, recipe.dropout)
            return initialise(network, gain=0.5)  # nearer to "no opinion", which helps short runs
        return initialise(reference_network(side, n_classes, recipe.dropout))


def name_of(own):
    """What a user calls a network of their own."""
    return getattr(own, "__name__", type(own).__name__)


def checked(own, side, n_classes):
    """The network that `own` builds; its ``nn.Dropout`` becomes ours."""
    name = name_of(own)
    takes = f"takes a class or function of (side, n_classes), such as {name}, not {name}(...)"
    try:
        network = own(side, n_classes)
    except TypeError as error:
        raise ParameterError(f"network {name}: {error}; {takes}") from error
    if not isinstance(network, nn.Module):
        hint = "is a return missing?" if network is None else takes
        raise ParameterError(f"network {name} gave {network!r:.40}, no torch.nn.Module; {hint}")
    if not any(p.requires_grad for p in network.parameters()):
        raise ParameterError(f"network {name} has nothing to learn; give it layers with weights")
    for module in list(network.modules()):
        for place, child in list(module.named_children()):
            if type(child) is nn.Dropout:
                setattr(module, place, Dropout(child.p))
    return network


def tried(network, name, side, n_classes):
    """Whether `network` draws random numbers itself; raises unless it scores two images."""
    seen, images = ["its forward"], torch.linspace(0, 1, 2 * side * side).view(2, 1, side, side)

    def note(module, inputs):
        shapes = [str(tuple(x.shape)) for x in inputs if hasattr(x, "shape")]
        seen.append(f"{type(module).__name__}, which was given {', '.join(shapes)}")

    trial, before = copy.deepcopy(network).train(), torch.get_rng_state()
    for module in trial.modules():
        module.register_forward_pre_hook(note)
    try:
        with torch.no_grad():
            scores = trial(images)
        shape = tuple(scores.shape)
    except Exception as error:
        said = str(error).partition("\n")[0]
        raise ParameterError(f"network {name} failed in {seen[-1]}: {said}") from error
    if shape != (2, n_classes):
        raise ParameterError(f"network {name} gave {shape} for 2 images; takes {(2, n_classes)}")
    if (scores >= 0).all() and torch.allclose(scores.sum(dim=1), torch.ones(2), atol=1e-4):
        raise ParameterError(f"network {name} gives probabilities; give scores: leave out softmax")
    return not torch.equal(torch.get_rng_state(), before)
