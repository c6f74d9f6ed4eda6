"""Networks and the weights they start with: the reference CNN, smaller ones, and your own."""

import torch
from torch import nn

from digitlib.errors import ParameterError


class Dropout(nn.Module):
    """Dropout that draws from a generator of its own.

    ``torch.nn.Dropout`` draws from the process-wide generator, so folds trained side by side would
    change each other's results. Bits are drawn 64 at a time and cut into four 16-bit numbers, an
    eighth of the time of ``bernoulli_``.

    Parameters
    ----------
    p : float
        Share of activations set to 0, rounded to a multiple of 1/65536; the rest are multiplied by
        1 / (1 - p).
    generator : torch.Generator or None
        Needed in training mode only.
    """

    def __init__(self, p, generator=None):
        super().__init__()
        self.p, self.generator = p, generator

    def forward(self, x):
        if not self.training or self.p == 0:
            return x
        bits = torch.empty((x.numel() + 3) // 4, dtype=torch.int64).random_(
            -(2**63), None, generator=self.generator
        )
        kept = bits.view(torch.int16)[: x.numel()].view(x.shape) >= round(self.p * 65536) - 32768
        # Drawn on the CPU, so that every device drops the same.
        return x * kept.to(x.device) / (1 - self.p)


class Flatten(nn.Module):
    """(n, channels, rows, columns) -> (n, rows * columns * channels).

    In channels-last memory no value has to move.
    """

    def forward(self, x):
        return x.permute(0, 2, 3, 1).flatten(1)


def reference_network(side=8, n_classes=10, dropout=0.5, generator=None):
    """The reference CNN: two convolutions, one pooling, two linear layers.

    It has 151,306 parameters for 8x8 images and 10 classes.

    Parameters
    ----------
    side : int
        Rows and columns of an image, at least 2.
    n_classes : int
    dropout : float
    generator : torch.Generator or None
        Draws the first weights (Kaiming uniform for convolutions, Xavier uniform for linear layers;
        biases as in torch, uniform within 1 / sqrt(fan-in)) and the dropout masks.

    Returns
    -------
    torch.nn.Sequential
        Maps float32 images (n, 1, side, side) to log-probabilities (n, n_classes).
    """
    network = nn.Sequential(
        nn.Conv2d(1, 32, 3, padding=1, device="meta"),  # (n, 32, 8, 8)
        nn.ReLU(inplace=True),
        nn.Conv2d(32, 64, 3, padding=1, device="meta"),  # (n, 64, 8, 8)
        # The reference has ReLU, then pooling. Both keep order, so the exchange changes no value,
        # and ReLU has a quarter to do.
        nn.MaxPool2d(2),  # (n, 64, 4, 4)
        nn.ReLU(inplace=True),
        Dropout(dropout, generator),
        Flatten(),  # (n, 1024)
        nn.Linear(64 * (side // 2) ** 2, 128, device="meta"),
        nn.ReLU(inplace=True),
        Dropout(dropout, generator),
        nn.Linear(128, n_classes, device="meta"),
        nn.LogSoftmax(dim=1),
    )
    return _initialise(network, generator)


def compact_network(layers, side=8, n_classes=10, dropout=0.0, generator=None):
    """Convolutions with batch normalisation, then one linear layer.

    Parameters
    ----------
    layers : str
        Channels of each 3x3 convolution, "p" appended where a 2x2 max-pooling follows, as in
        "16 32p 64".
    side, n_classes, dropout, generator
        As for :func:`reference_network`; `side` must allow the poolings.

    Returns
    -------
    torch.nn.Sequential
        Maps float32 images (n, 1, side, side) to log-probabilities (n, n_classes).
    """
    stages, channels = [], 1
    for word in layers.split():
        width = int(word.removesuffix("p"))
        stages.append(nn.Conv2d(channels, width, 3, padding=1, bias=False, device="meta"))
        if word.endswith("p"):
            # Before normalisation and activation, which then have a quarter of the values to do.
            stages.append(nn.MaxPool2d(2))
            side //= 2
        stages += [nn.BatchNorm2d(width, device="meta"), nn.GELU()]
        channels = width
    if side == 0:
        raise ParameterError(
            f"layers={layers!r}: the images are too small for so many poolings; use fewer p"
        )
    head = nn.Linear(channels * side**2, n_classes, device="meta")
    network = nn.Sequential(
        *stages, Flatten(), Dropout(dropout, generator), head, nn.LogSoftmax(dim=1)
    )
    _initialise(network, generator)
    with torch.no_grad():
        head.weight *= 0.5  # a smaller head starts nearer to "no opinion", which helps short runs
    return network


class Similarity(nn.Module):
    """Features (n, d) -> similarity to each centre (n, centres): exp(-gamma d^2), 1 where equal.

    Parameters
    ----------
    centres : int
        Training images that are compared with. Those that are never placed are blank.
    d : int
        Features of an image.
    side : int

    Attributes
    ----------
    images : Tensor of shape (centres, 1, side, side), float16
        Scaled. That is exact for 16ths and half the bytes of a file; features take ten times more.
    centres : Tensor of shape (centres, d), float32
        Features of the images, not kept in files: :func:`digitlib.training.place_centres`.
    gamma : Tensor of shape ()
    """

    def __init__(self, centres, d, side):
        super().__init__()
        self.register_buffer("images", torch.zeros(centres, 1, side, side, dtype=torch.float16))
        self.register_buffer("centres", torch.zeros(centres, d), persistent=False)
        self.register_buffer("gamma", torch.ones(()))

    def forward(self, x):
        squares = x.square().sum(1, keepdim=True) + self.centres.square().sum(1)
        # (a - b)^2 = a^2 + b^2 - 2 a b: one matrix product in place of n * centres differences.
        return torch.addmm(squares, x, self.centres.T, alpha=-2).mul_(-self.gamma).exp_()


def kernel_network(filters, size, centres, side=8, n_classes=10, generator=None):
    """Fixed random filters, mean-pooled; a kernel on what comes out; a linear readout.

    Nothing but the readout is ever fitted [1]_, [2]_.

    Parameters
    ----------
    filters : int
        Each of mean 0 and length 1, and used with its negative.
    size : int
        Rows and columns of a filter.
    centres : int
        As in :class:`Similarity`.
    side, n_classes, generator
        As for :func:`reference_network`.

    Returns
    -------
    torch.nn.Sequential
        Maps float32 images (n, 1, side, side) to log-probabilities (n, n_classes).

    References
    ----------
    .. [1] A. Coates, H. Lee and A. Y. Ng (2011). An analysis of single-layer networks in
       unsupervised feature learning. AISTATS 15, 215-223.
    .. [2] C. Saunders, A. Gammerman and V. Vovk (1998). Ridge regression learning algorithm in dual
       variables. ICML, 515-521.
    """
    least = size + 1  # so that one 2x2 block is left to pool
    if side < least:
        raise ParameterError(
            f"random filters of size {size} take images of {least}x{least} pixels or more, not"
            f" {side}x{side}; choose another recipe"
        )
    left = side - size + 1  # rows and columns after the filters: 6 for 8x8 images and size 3
    # Larger images get larger blocks: the readout's cost grows with the cube of its inputs.
    pool = max(2, left // 6)
    bank = nn.Conv2d(1, 2 * filters, size, device="meta")  # (n, 2 * filters, left, left)
    bank.requires_grad_(False)
    similarity = Similarity(centres, 2 * filters * (left // pool) ** 2, side)
    head = nn.Linear(centres, n_classes, device="meta")
    layers = bank, nn.ReLU(inplace=True), nn.AvgPool2d(pool), Flatten(), similarity, head
    network = nn.Sequential(*layers, nn.LogSoftmax(dim=1))
    weights = torch.randn(filters, 1, size, size, generator=generator)
    _initialise(nn.ModuleList([bank, head]), generator)
    weights -= weights.mean((1, 2, 3), keepdim=True)
    weights /= weights.square().sum((1, 2, 3), keepdim=True).sqrt()
    bank.weight.copy_(torch.cat([weights, -weights]))
    bank.bias.fill_(-0.15)  # the threshold below which a match counts as none
    return network


def _initialise(network, generator):
    # Layers are made on the "meta" device, without values: torch's own initialisation would draw
    # from the process-wide generator. This is what `to_empty` does, whose first call would import
    # sympy for half a second.
    network._apply(lambda tensor: torch.empty(tensor.shape, dtype=tensor.dtype))
    for layer in network.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_uniform_(layer.weight, nonlinearity="relu", generator=generator)
        elif isinstance(layer, nn.Linear):
            nn.init.xavier_uniform_(layer.weight, generator=generator)
        elif isinstance(layer, nn.BatchNorm2d):
            layer.reset_running_stats()
            nn.init.ones_(layer.weight)
            nn.init.zeros_(layer.bias)
        if isinstance(layer, nn.Conv2d | nn.Linear) and layer.bias is not None:
            bound = layer.weight[0].numel() ** -0.5
            nn.init.uniform_(layer.bias, -bound, bound, generator=generator)
    return network


def build(recipe, side, n_classes, generator=None):
    """The network that `recipe` names, for square images of `side` pixels."""
    if recipe.network == "reference":
        return reference_network(side, n_classes, recipe.dropout, generator)
    if recipe.network == "compact":
        return compact_network(recipe.layers, side, n_classes, recipe.dropout, generator)
    fixed = recipe.filters, recipe.filter_size, recipe.centres
    return kernel_network(*fixed, side, n_classes, generator)


def own(build, side, n_classes):
    """A network of the user's, followed by a log-softmax; tried once on two blank images.

    Parameters
    ----------
    build : callable
        ``build(side, n_classes)`` returns a :class:`torch.nn.Module` that maps float32 images
        (n, 1, side, side) to scores (n, n_classes), logits or log-probabilities.
    side, n_classes : int

    Returns
    -------
    torch.nn.Sequential

    Raises
    ------
    ParameterError
        It is no module, has nothing to learn, or does not take or give the right shape.
    """
    name = getattr(build, "__name__", type(build).__name__)
    network, last = build(side, n_classes), ["its forward"]
    if not isinstance(network, nn.Module):
        raise ParameterError(f"network {name} gave {type(network).__name__}, not a torch.nn.Module")
    if not any(p.requires_grad for p in network.parameters()):
        raise ParameterError(
            f"network {name} has no parameters that can be learned; give it layers"
        )

    def entered(layer, path):
        def note(_, inputs):
            shape = tuple(inputs[0].shape) if inputs and hasattr(inputs[0], "shape") else "?"
            last[0] = f"layer {path} ({type(layer).__name__}), which was given {shape}"

        return layer.register_forward_pre_hook(note)

    hooks = [entered(layer, path) for path, layer in network.named_modules() if path]
    try:
        with torch.no_grad():
            scores = network.eval()(torch.zeros(2, 1, side, side))
    except Exception as error:
        said = [*str(error).splitlines(), ""][0]
        raise ParameterError(f"network {name} failed in {last[0]}: {said}") from error
    for hook in hooks:
        hook.remove()
    shape = tuple(getattr(scores, "shape", ()))
    if shape != (2, n_classes):
        raise ParameterError(
            f"network {name} gave {shape or type(scores).__name__} for 2 images; takes"
            f" (2, {n_classes}), a score for each class"
        )
    return nn.Sequential(network, nn.LogSoftmax(dim=1))


def parameter_table(network, side=8):
    """One row per layer that is called for a blank image.

    Returns
    -------
    list of dict
        ``layer``, ``output`` (shape of one image's, as text) and ``parameters`` (count).
    """
    rows = []

    def note(layer, _, output):
        count = sum(p.numel() for p in layer.parameters())
        shape = " x ".join(map(str, output.shape[1:]))
        name = f"{len(rows)} {type(layer).__name__}"
        rows.append({"layer": name, "output": shape, "parameters": count})

    leaves = [layer for layer in network.modules() if not list(layer.children())]
    hooks = [layer.register_forward_hook(note) for layer in leaves]
    with torch.no_grad():
        network.eval()(torch.zeros(1, 1, side, side))
    for hook in hooks:
        hook.remove()
    return rows
