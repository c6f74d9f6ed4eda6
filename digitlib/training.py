"""How are weights found? The one training loop, for any network and any recipe."""

import math
import threading
from contextlib import contextmanager, nullcontext

import torch
from torch.nn import functional as F
from torch.optim.adamw import adamw

from digitlib.augmentation import augment, shifted
from digitlib.errors import ParameterError

_lock = threading.Lock()
_inside = 0
_threads_before = 1
_depth = threading.local()


@contextmanager
def one_thread():
    """Compute with one intra-op thread in this thread; restores what was set before the first of
    all concurrent users came.

    The number of intra-op threads changes the order of sums and so the last bits of the weights.
    With one each, folds trained side by side give the same bits as one after another, in 0.75 of
    the time that two threads a fold take.
    """
    global _inside, _threads_before
    if getattr(
        _depth, "value", 0
    ):  # this thread is inside already, for instance predicting at the end of an epoch
        yield
        return
    with _lock:
        # Asking a new thread makes torch give it what was set last in any thread: without that,
        # torch would do so later, inside.
        threads = torch.get_num_threads()
        if _inside == 0:
            _threads_before = threads
        _inside += 1
        torch.set_num_threads(1)
    _depth.value = 1
    try:
        yield
    finally:
        _depth.value = 0
        with _lock:
            _inside -= 1
            torch.set_num_threads(
                _threads_before
            )  # of this thread alone: those still inside keep their one


@contextmanager
def own_stream(device):
    """On CUDA, queue work on a stream of this thread's own, so that folds trained side by side fill
    the device; on the CPU, nothing.
    """
    if device.type != "cuda":
        yield
        return
    with (
        _lock
    ):  # the first linear algebra of a process loads a library, which threads must not do at once
        torch.linalg.cholesky(torch.ones(1, 1, device=device))
    stream = torch.cuda.Stream(device)
    with torch.cuda.stream(stream):
        yield
    stream.synchronize()


class OwnRandom:
    """Random numbers of a network that draws from torch's process-wide generator.

    First weights of torch's own and ``nn.Dropout`` draw from it. Inside ``with self():`` it is this
    network's alone, and goes on where it stopped: the same seed gives the same bits, however many
    folds train at once.
    """

    def __init__(self, seed, device):
        self._states, self._device = None, device
        with self():
            torch.manual_seed(seed)

    @contextmanager
    def __call__(self):
        cuda = [torch.cuda] if self._device.type == "cuda" else []
        with _lock:
            before = [place.get_rng_state() for place in (torch, *cuda)]
            for place, state in zip((torch, *cuda), self._states or before, strict=True):
                place.set_rng_state(state)
            try:
                yield
            finally:
                self._states = [place.get_rng_state() for place in (torch, *cuda)]
                for place, state in zip((torch, *cuda), before, strict=True):
                    place.set_rng_state(state)


def train(network, x, y, recipe, generator, held_out=None, on_epoch=None, own_random=nullcontext):
    """Train `network` in place.

    Parameters
    ----------
    network : torch.nn.Sequential
        Maps images to log-probabilities; its last layers are a linear head and a log-softmax.
    x : Tensor of shape (n, 1, side, side), float32
    y : Tensor of shape (n,), int64
        Class indices.
    recipe : Recipe
    generator : torch.Generator
        Draws the order of the rows and the augmentation; on the CPU.
    held_out : tuple of Tensor or None
        ``(x, y)`` to measure after each epoch; it is read under ``no_grad`` and influences nothing.
    on_epoch : callable or None
        Called with each record when its epoch ends; what it raises ends the training.
    own_random : OwnRandom
        For a network that is not digitlib's.

    Returns
    -------
    list of dict
        Per epoch: ``epoch`` (from 1), ``learning_rate``, ``loss`` (mean over the epoch's training
        rows, dropout on) and, with `held_out`, ``held_out_loss``, ``held_out_accuracy`` (0..1), of
        single views with the weights of that moment. Without epochs, one record with ``epoch`` 0
        and the loss of the head on rows left out of its fit.
    """
    # A network of the user's may call view(), which only the usual layout allows.
    usual = recipe.network == "own"
    layout = torch.contiguous_format if usual else torch.channels_last
    network.to(memory_format=layout)
    optimizer = _AdamW(network, recipe, -(-len(x) // recipe.batch_size)) if recipe.learned else None
    history = []
    for epoch in range(1, (recipe.epochs or 0) + 1):
        record = {
            "epoch": epoch,
            "learning_rate": optimizer.learning_rate(),
            "loss": _one_epoch(network, x, y, recipe, optimizer, generator, layout, own_random),
        }
        if not math.isfinite(record["loss"]):
            raise ParameterError(
                f"the loss became {record['loss']} in epoch {epoch}: training fell apart; try a"
                f" smaller learning_rate than {recipe.learning_rate:g}"
            )
        history.append(record | _measure(network, held_out))
        if on_epoch is not None:
            on_epoch(history[-1])
    if optimizer is not None:
        optimizer.finish()
    if recipe.copies:
        x = torch.cat(
            [x, *(augment(x, recipe.augmentation, generator) for _ in range(recipe.copies))]
        )
    if recipe.ridge:
        loss = _refit_head(network, x, y, recipe.ridge)
    if not history:
        history.append({"epoch": 0, "learning_rate": 0.0, "loss": loss})
    return history


def _measure(network, held_out):
    if held_out is None:
        return {}
    log_probabilities = _log_probabilities(network, held_out[0])
    accuracy = (log_probabilities.argmax(1) == held_out[1]).float().mean().item()
    return {
        "held_out_loss": F.nll_loss(log_probabilities, held_out[1]).item(),
        "held_out_accuracy": accuracy,
    }


def _one_epoch(network, x, y, recipe, optimizer, generator, layout, own_random):
    """Mean training loss of one pass over the rows, augmented, in random order."""
    network.train()
    order = torch.randperm(len(x), generator=generator).to(x.device)
    x = augment(x[order], recipe.augmentation, generator).contiguous(memory_format=layout)
    y, total = y[order], torch.zeros((), device=x.device)
    for images, labels in zip(x.split(recipe.batch_size), y.split(recipe.batch_size), strict=True):
        with own_random():
            log_probabilities = network(images)
        loss = F.nll_loss(log_probabilities, labels)
        if recipe.label_smoothing:
            loss = (
                1 - recipe.label_smoothing
            ) * loss - recipe.label_smoothing * log_probabilities.mean()
        loss.backward()
        optimizer.step()
        total += loss.detach() * len(labels)
    return (total / len(x)).item()


class _AdamW:
    """AdamW (Loshchilov & Hutter 2019) with the recipe's schedule and moving average of weights.

    It calls torch's functional AdamW: the first ``torch.optim`` object of a process imports the
    compiler, a second that short runs would notice.
    """

    def __init__(self, network, recipe, steps_per_epoch):
        self.network, self.recipe, self.steps_per_epoch, self.done = (
            network,
            recipe,
            steps_per_epoch,
            0,
        )
        self.weights = [p for p in network.parameters() if p.requires_grad]
        self.moments = [[torch.zeros_like(p) for p in self.weights] for _ in range(2)]
        self.counts = [torch.zeros((), device=p.device) for p in self.weights]
        # Running statistics of normalisation are averaged together with the weights they belong to.
        self.averaged = (
            [t for t in network.state_dict().values() if t.is_floating_point()]
            if recipe.averaging
            else []
        )
        self.average = [t.clone() for t in self.averaged]

    def learning_rate(self):
        """Of the next step."""
        recipe = self.recipe
        if recipe.schedule == "step":
            return recipe.learning_rate * recipe.decay ** (self.done // self.steps_per_epoch)
        progress = (self.done + 1) / (recipe.epochs * self.steps_per_epoch + 1)
        return recipe.learning_rate * min(progress / 0.2, (1 - progress) / 0.8)

    @torch.no_grad()
    def step(self):
        """One step along the gradients, which are cleared."""
        adamw(
            self.weights,
            [p.grad for p in self.weights],
            *self.moments,
            [],
            self.counts,
            fused=True,
            amsgrad=False,
            beta1=0.9,
            beta2=0.999,
            lr=self.learning_rate(),
            weight_decay=self.recipe.weight_decay,
            eps=1e-8,
            maximize=False,
        )
        for weight in self.weights:
            weight.grad = None
        self.done += 1
        if self.average:
            # The average starts short and lengthens, so that the first weights are forgotten.
            decay = min(self.recipe.averaging, self.done / (self.done + 10))
            torch._foreach_lerp_(self.average, self.averaged, 1 - decay)

    @torch.no_grad()
    def finish(self):
        """Put the averaged weights into the network."""
        for value, mean in zip(self.averaged, self.average, strict=True):
            value.copy_(mean)


@torch.no_grad()
def _refit_head(network, x, y, penalty):
    """Fit the last linear layer by ridge regression on one-hot targets, then scale it so that
    softmax gives probabilities.

    `x` holds the rows of `y`, once or several times. The scale (an inverse temperature) is the one
    of 16 with the highest likelihood of some 250 rows, each left out with its copies, whose mean
    negative logarithm is returned; leaving rows out of a ridge regression needs no second fit:
    their residuals are (1 - H)^-1 times the fitted ones, where H is their block of the hat matrix
    (Cook & Weisberg 1982, Residuals and Influence in Regression, section 3.6).
    """
    head, n, times = network[-2], len(y), len(x) // len(y)
    features = _in_batches(network[:-2].eval(), x)  # (times * n, d)
    targets = (
        F.one_hot(y, head.out_features).to(features.dtype).repeat(times, 1)
    )  # (times * n, n_classes)
    centre, shares = features.mean(0), targets.mean(0)
    features -= centre  # so that the intercept needs no column of its own and is not penalised
    gram = _lower_gram(features)
    gram.diagonal().add_(penalty)
    factor = torch.linalg.cholesky(gram)
    weights = torch.cholesky_solve(features.T @ (targets - shares), factor)  # (d, n_classes)
    some = torch.arange(0, n, max(1, n // 250), device=x.device)
    groups = (
        some[:, None] + n * torch.arange(times, device=x.device)
    ).flatten()  # a row, then its copies
    half = torch.linalg.solve_triangular(factor, features[groups].T, upper=False).T.unflatten(
        0, (-1, times)
    )
    hat = half @ half.mT + 1 / len(x)  # (250, times, times)
    residuals = (targets - shares)[groups] - features[groups] @ weights
    identity = torch.eye(times, device=x.device) * (
        1 + 1e-6
    )  # keeps a row that alone decides its own fit from dividing by 0
    left_out = (
        targets[some]
        - torch.linalg.solve(identity - hat, residuals.unflatten(0, (-1, times)))[:, 0]
    )
    scales = torch.logspace(0, 2, 16, device=x.device)
    losses = torch.stack([F.cross_entropy(scale * left_out, y[some]) for scale in scales])
    weights *= scales[losses.argmin()]
    head.weight.copy_(weights.T)
    head.bias.copy_(scales[losses.argmin()] * shares - centre @ weights)
    return losses.min().item()


def _lower_gram(features, block=128):
    """``features.T @ features``, of which only what Cholesky reads is computed: the lower triangle,
    in little over half the time.
    """
    d = features.shape[1]
    gram = features.new_zeros(d, d)
    for start in range(0, d, block):
        torch.mm(
            features[:, start:].T,
            features[:, start : start + block],
            out=gram[start:, start : start + block],
        )
    return gram


@torch.no_grad()
def _in_batches(network, x, batch_size=128):
    # 128 images of the reference network's widest layer just fit into a core's second-level cache.
    return torch.cat([network(images) for images in x.split(batch_size)])


def _log_probabilities(network, x):
    return _in_batches(network.eval(), x)


def predict(network, x, test_shift=0.0):
    """Probabilities of images, averaged over nine shifted views if `test_shift` is not 0.

    Parameters
    ----------
    network : torch.nn.Module
    x : Tensor of shape (n, 1, side, side), float32
    test_shift : float
        Pixels of an 8x8 image.

    Returns
    -------
    Tensor of shape (n, n_classes), float32; rows sum to 1.
    """
    views = [_log_probabilities(network, view) for view in shifted(x, test_shift)]
    return (sum(view.double() for view in views) / len(views)).softmax(1).float()
