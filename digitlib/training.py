"""Training: the one loop that finds the weights, for any network and any recipe."""

import math
from contextlib import contextmanager

import torch
from torch.nn import functional as F

from digitlib.augmentation import augment, shifted
from digitlib.errors import ParameterError


@contextmanager
def one_thread():
    """Compute with one intra-op thread, and restore the number afterwards.

    The number of threads changes the order of sums, and so the last bits of the weights. With one
    each, folds side by side give the same bits as one after another, in less time.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def train(network, x, y, recipe, generator, held_out=None):
    """Train `network` in place.

    Parameters
    ----------
    network : torch.nn.Module
        Maps images to log-probabilities.
    x : Tensor of shape (n, 1, side, side), float32
    y : Tensor of shape (n,), int64
        Class indices.
    recipe : Recipe
    generator : torch.Generator
        Draws the order of the rows and the augmentation; on the CPU.
    held_out : tuple of Tensor or None
        ``(x, y)`` to measure after each epoch; nothing is learned from it.

    Returns
    -------
    list of dict
        Per epoch: ``epoch`` (from 1), ``learning_rate``, ``loss`` (mean over the epoch's training
        rows, dropout on) and, with `held_out`, ``held_out_loss``, ``held_out_accuracy`` (0..1).

    Raises
    ------
    ParameterError
        The loss is no number any more.
    """
    weights = [p for p in network.parameters() if p.requires_grad]
    options = {"lr": recipe.learning_rate, "weight_decay": recipe.weight_decay, "fused": True}
    optimizer = torch.optim.AdamW(weights, **options)
    steps = math.ceil(len(x) / recipe.batch_size)  # of an epoch
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, learning_rate(recipe, steps))
    average = Average(network, recipe.averaging) if recipe.averaging else None
    history = []
    for epoch in range(1, recipe.epochs + 1):
        network.train()
        record = {"epoch": epoch, "learning_rate": schedule.get_last_lr()[0]}
        order = torch.randperm(len(x), generator=generator).to(x.device)
        images, labels, total = augment(x[order], recipe.augmentation, generator), y[order], 0.0
        batches = images.split(recipe.batch_size), labels.split(recipe.batch_size)
        for batch, targets in zip(*batches, strict=True):
            optimizer.zero_grad()
            loss = smoothed_loss(network(batch), targets, recipe.label_smoothing)
            loss.backward()
            optimizer.step()
            schedule.step()
            if average:
                average.update()
            total += loss.detach() * len(targets)
        record["loss"] = float(total) / len(x)
        if not math.isfinite(record["loss"]):
            said = f"learning_rate={recipe.learning_rate:g}: the loss became {record['loss']}"
            raise ParameterError(f"{said} in epoch {epoch}; try a smaller one")
        if held_out is not None:
            record |= measure(network, *held_out)
        history.append(record)
    if average:
        average.apply()
    return history


def smoothed_loss(log_probabilities, targets, smoothing):
    """Cross-entropy; a share `smoothing` of each target is spread over all classes."""
    loss = F.nll_loss(log_probabilities, targets)
    return (1 - smoothing) * loss - smoothing * log_probabilities.mean() if smoothing else loss


def learning_rate(recipe, steps):
    """The learning rate at a step, as a share of the recipe's: down by `decay` each epoch, or
    one-cycle, up for a fifth of all steps and down to 0.
    """
    if recipe.schedule == "step":
        return lambda step: recipe.decay ** (step // steps)
    last = recipe.epochs * steps + 1
    return lambda step: min((step + 1) / last / 0.2, (1 - (step + 1) / last) / 0.8)


class Average:
    """Moving average of a network's weights and running statistics."""

    def __init__(self, network, decay):
        self.now = [t for t in network.state_dict().values() if t.is_floating_point()]
        self.mean, self.decay, self.steps = [t.clone() for t in self.now], decay, 0

    @torch.no_grad()
    def update(self):
        """Take the weights of this step in; it starts short, so that the first are forgotten."""
        self.steps += 1
        share = 1 - min(self.decay, self.steps / (self.steps + 10))
        for mean, now in zip(self.mean, self.now, strict=True):
            mean.lerp_(now, share)

    @torch.no_grad()
    def apply(self):
        """Put the average into the network."""
        for now, mean in zip(self.now, self.mean, strict=True):
            now.copy_(mean)


def measure(network, x, y):
    """Loss and accuracy on rows that are not trained on."""
    log_probabilities = in_batches(network, x)
    accuracy = (log_probabilities.argmax(1) == y).float().mean().item()
    return {"held_out_loss": F.nll_loss(log_probabilities, y).item(), "held_out_accuracy": accuracy}


@torch.no_grad()
def in_batches(network, x, size=128):
    """What `network` gives for all images, `size` at a time."""
    network.eval()
    return torch.cat([network(images) for images in x.split(size)])


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
    views = [in_batches(network, view).double() for view in shifted(x, test_shift)]
    return (sum(views) / len(views)).softmax(1).float()
