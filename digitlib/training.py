"""Training: the one loop that finds the weights, for any network and any recipe.

What to expect of a 4-fold cross-validation of the 5,620 digits on two cores (means of five seeds,
three for ``best`` and ``handwriting``; ``make bench`` measures them anew):

============  =========  ========
recipe        accuracy   seconds
============  =========  ========
coursework    98.26 %    8.2
kernel        99.39 %    0.25
accurate      99.59 %    15
best          99.70 %    87
handwriting   99.54 %    120
============  =========  ========

The published figure of the first is 98.11 %.
"""

import math
import threading
from contextlib import contextmanager, nullcontext

import torch
from torch.nn import functional as F
from torch.optim.adamw import adamw

from digitlib.augmentation import augment, shifted
from digitlib.errors import ParameterError
from digitlib.model import Similarity

# What torch has as defaults, too.
ADAMW = {"beta1": 0.9, "beta2": 0.999, "eps": 1e-8, "amsgrad": False, "maximize": False}

LINEAR_PENALTY = 0.01  # of the readout that says which rows are hard, on its own good for 99.0 %
ROUNDING = 1e-4  # at least, on the diagonal of a kernel in float32, which may lack that much

_lock = threading.Lock()
_inside = 0
_threads_before = 1
_inside_here = threading.local()


@contextmanager
def one_thread():
    """Compute with one intra-op thread in this thread, and restore the number afterwards.

    The number of intra-op threads changes the order of sums and so the last bits of the weights.
    With one each, folds trained side by side give the same bits as one after another, in 0.75 of
    the time that two threads a fold take. What is restored is what was set before the first of all
    concurrent users came.
    """
    global _inside, _threads_before
    if getattr(_inside_here, "value", False):  # as when predicting at the end of an epoch
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
    _inside_here.value = True
    try:
        yield
    finally:
        _inside_here.value = False
        with _lock:
            _inside -= 1
            # Of this thread alone: those still inside keep their one.
            torch.set_num_threads(_threads_before)


@contextmanager
def own_stream(device):
    """On CUDA, queue work on a stream of this thread's own; on the CPU, nothing.

    With a stream each, folds trained side by side fill the device.
    """
    if device.type != "cuda":
        yield
        return
    # The first linear algebra of a process loads a library, which threads must not do at once.
    with _lock:
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
    if recipe.network == "kernel":
        loss = _fit_kernel(network, x, y, recipe)
        history = [{"epoch": 0, "learning_rate": 0.0, "loss": loss}]
    return history


def _measure(network, held_out):
    if held_out is None:
        return {}
    x, y = held_out
    log_probabilities = _in_batches(network.eval(), x)
    accuracy = (log_probabilities.argmax(1) == y).float().mean().item()
    loss = F.nll_loss(log_probabilities, y).item()
    return {"held_out_loss": loss, "held_out_accuracy": accuracy}


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
            spread = -recipe.label_smoothing * log_probabilities.mean()
            loss = (1 - recipe.label_smoothing) * loss + spread
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
        self.recipe, self.steps_per_epoch, self.done = recipe, steps_per_epoch, 0
        self.weights = [p for p in network.parameters() if p.requires_grad]
        self.moments = [[torch.zeros_like(p) for p in self.weights] for _ in range(2)]
        self.counts = [torch.zeros((), device=p.device) for p in self.weights]
        # Running statistics of normalisation are averaged together with the weights they belong to.
        state = network.state_dict().values() if recipe.averaging else ()
        self.averaged = [t for t in state if t.is_floating_point()]
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
        # What a network of the user's does not use has no gradient.
        gradients = [torch.zeros_like(w) if w.grad is None else w.grad for w in self.weights]
        recipe = self.recipe
        now = {"lr": self.learning_rate(), "weight_decay": recipe.weight_decay, **ADAMW}
        adamw(self.weights, gradients, *self.moments, [], self.counts, fused=True, **now)
        for weight in self.weights:
            weight.grad = None
        self.done += 1
        if self.average:
            # The average starts short and lengthens, so that the first weights are forgotten.
            decay = min(recipe.averaging, self.done / (self.done + 10))
            torch._foreach_lerp_(self.average, self.averaged, 1 - decay)

    @torch.no_grad()
    def finish(self):
        """Put the averaged weights into the network."""
        for value, mean in zip(self.averaged, self.average, strict=True):
            value.copy_(mean)


def _margins(features, right):
    """How clearly a linear readout, by ridge regression, scores the right class above the others.

    `right` (n, n_classes), bool: the class of each row.
    """
    targets, centred = right.to(features.dtype), features - features.mean(0)
    gram = _lower_gram(centred)
    gram.diagonal().add_(LINEAR_PENALTY)
    factor, shares = torch.linalg.cholesky(gram), targets.mean(0)
    weights = torch.cholesky_solve(centred.T @ (targets - shares), factor)  # (d, n_classes)
    scores = centred @ weights + shares
    return scores[right] - scores.masked_fill(right, -torch.inf).amax(1)


def _set_head(head, weights, shares, left_out, y):
    """Put the readout into the last layer, scaled so that softmax gives probabilities.

    The scale is the one of 16 factors (inverse temperatures) with the highest likelihood of the
    rows left out, of which the mean negative logarithm is returned.
    """
    scales = torch.logspace(0, 2, 16, device=y.device)
    losses = torch.stack([F.cross_entropy(scale * left_out, y) for scale in scales])
    scale = scales[losses.argmin()]
    head.weight.copy_((weights * scale).T)
    head.bias.copy_(scale * shares)
    return losses.min().item()


@torch.no_grad()
def _fit_kernel(network, x, y, recipe):
    """Kernel ridge regression on the hardest rows; see :func:`digitlib.model.kernel_network`.

    Time grows with the cube of the rows that take part, and most rows teach nothing: they lie far
    from every border. So a linear readout is fitted first, and the centres are the rows to which it
    gives the least margin (score of the right class over the best of the others), as the support
    vectors of an SVM would be. They alone are fitted.

    Returns
    -------
    float
        Mean negative logarithm of the likelihood of the rows left out.
    """
    bank, layer, head = network[:-3].eval(), network[-3], network[-2]
    features = _in_batches(bank, x)
    right = F.one_hot(y, head.out_features).bool()
    margins, shares = _margins(features, right), right.float().mean(0)
    spread = 2 * (features - features.mean(0)).square().sum() / len(y)  # mean squared distance
    hard = margins.argsort(stable=True)[: len(layer.images)]
    layer.gamma.copy_(recipe.gamma / spread.clamp(min=1e-12))
    layer.images[: len(hard)] = x[hard].half()
    place_centres(network)
    kernel = layer(layer.centres)[: len(hard), : len(hard)]
    kernel.diagonal().add_(max(recipe.ridge, ROUNDING))
    factor = torch.linalg.cholesky(kernel)
    fitted = torch.cholesky_solve(right[hard].float() - shares, factor)
    some = torch.arange(0, len(y), max(1, len(y) // 250), device=y.device)
    left_out = layer(features[some])[:, : len(hard)] @ fitted + shares
    # Of a row that was fitted the residual without it is its weight / an entry of the inverse.
    among, at = (some[:, None] == hard).nonzero(as_tuple=True)
    unit = torch.eye(len(hard), device=x.device)[:, at]
    inverse = torch.linalg.solve_triangular(factor, unit, upper=False).square().sum(0)
    left_out[among] = right[some[among]].float() - fitted[at] / inverse[:, None]
    blank = len(layer.images) - len(hard)  # where there are fewer rows than centres
    return _set_head(head, F.pad(fitted, (0, 0, 0, blank)), shares, left_out, y[some])


@torch.no_grad()
def place_centres(network):
    """Compute what files leave out: the features of the kernel's centres, if there is a kernel."""
    if isinstance(network[-3], Similarity):
        network[-3].centres.copy_(_in_batches(network[:-3], network[-3].images.float()))


def _lower_gram(features, block=128):
    """The lower triangle of ``features.T @ features``, which is all that Cholesky reads.

    It takes little over half the time of the whole.
    """
    d = features.shape[1]
    gram = features.new_zeros(d, d)
    for start in range(0, d, block):
        below, columns = features[:, start:], features[:, start : start + block]
        torch.mm(below.T, columns, out=gram[start:, start : start + block])
    return gram


@torch.no_grad()
def _in_batches(network, x, batch_size=128):
    # 128 images of the reference network's widest layer just fit into a core's second-level cache.
    return torch.cat([network(images) for images in x.split(batch_size)])


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
    views = [_in_batches(network.eval(), view) for view in shifted(x, test_shift)]
    return (sum(view.double() for view in views) / len(views)).softmax(1).float()
