"""How are weights found? The one training loop, for any network and any recipe."""

import threading
from contextlib import contextmanager

import torch
from torch.nn import functional as F

_lock = threading.Lock()
_inside = 0
_threads_before = 1
_depth = threading.local()


@contextmanager
def one_thread():
    """Compute with one intra-op thread in this thread; restores what was set before the first of all concurrent users came.

    The number of intra-op threads changes the order of sums and so the last bits of the weights. With one each, folds
    trained side by side give the same bits as one after another, in 0.75 of the time that two threads a fold take.
    """
    global _inside, _threads_before
    if getattr(_depth, "value", 0):  # this thread is inside already, for instance predicting at the end of an epoch
        yield
        return
    with _lock:
        # Asking a new thread makes torch give it what was set last in any thread: without that, torch would do so later, inside.
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
            torch.set_num_threads(_threads_before)  # of this thread alone: those still inside keep their one


def train(network, x, y, recipe, generator, held_out=None, on_epoch=None):
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
        Draws the order of the rows.
    held_out : tuple of Tensor or None
        ``(x, y)`` to measure after each epoch; it is read under ``no_grad`` and influences nothing.
    on_epoch : callable or None
        Called with each record when its epoch ends; what it raises ends the training.

    Returns
    -------
    list of dict
        Per epoch: ``epoch`` (from 1), ``learning_rate``, ``loss`` (mean over the epoch's training rows, dropout on) and, with `held_out`,
        ``held_out_loss``, ``held_out_accuracy`` (0..1).
    """
    network.to(memory_format=torch.channels_last)
    optimizer = torch.optim.Adam(network.parameters(), lr=recipe.learning_rate, fused=True)
    schedule = torch.optim.lr_scheduler.StepLR(optimizer, step_size=1, gamma=recipe.decay)
    history = []
    for epoch in range(1, recipe.epochs + 1):
        record = {"epoch": epoch, "learning_rate": schedule.get_last_lr()[0]}
        record["loss"] = _one_epoch(network, x, y, recipe.batch_size, optimizer, generator)
        schedule.step()
        if held_out is not None:
            log_probabilities = predict(network, held_out[0])
            record["held_out_loss"] = F.nll_loss(log_probabilities, held_out[1]).item()
            record["held_out_accuracy"] = (log_probabilities.argmax(1) == held_out[1]).float().mean().item()
        history.append(record)
        if on_epoch is not None:
            on_epoch(record)
    return history


def _one_epoch(network, x, y, batch_size, optimizer, generator):
    """Mean training loss of one pass over the rows in random order."""
    network.train()
    order = torch.randperm(len(x), generator=generator)
    x, y = x[order].contiguous(memory_format=torch.channels_last), y[order]
    total = torch.zeros(())
    for start in range(0, len(x), batch_size):
        images, labels = x[start : start + batch_size], y[start : start + batch_size]
        optimizer.zero_grad()
        loss = F.nll_loss(network(images), labels)
        loss.backward()
        optimizer.step()
        total += loss.detach() * len(labels)
    return (total / len(x)).item()


@torch.no_grad()
def predict(network, x, batch_size=128):
    """Log-probabilities (n, n_classes) of images `x` (n, 1, side, side), in evaluation mode."""
    network.eval()
    return torch.cat([network(images) for images in x.split(batch_size)])
