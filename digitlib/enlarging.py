"""Which pictures does a network train on, beyond those of the data? Rewritten, drawn, and augmented
ones.
"""

import numpy as np
import torch

from digitlib import rewriting, strokes
from digitlib.augmentation import augment


def enlarge(X, targets, classes, recipe, generator):
    """Training rows, followed by those that the recipe makes from them or draws.

    Parameters
    ----------
    X : ndarray of shape (n, n_pixels)
        Rewriting and drawing give what the data's own preprocessing makes of ink, counts of 0..16
        in 8x8 blocks, so images that are no such counts are only repeated: as many steps of
        training, on images that augmentation alone tells apart.
    targets : ndarray of shape (n,), int
        Indices into `classes`.
    classes : ndarray
        Labels; digits are drawn only if these are the integers 0..9.
    recipe : Recipe
        With ``rewrites``.
    generator : torch.Generator

    Returns
    -------
    X, targets : ndarray
    """
    times = recipe.rewrites + 1
    if X.shape[1] != 64 or X.min() < 0 or not 8 < X.max() <= 16 or (np.rint(X) != X).any():
        return np.tile(X, (times, 1)), np.tile(targets, times)
    X = np.vstack([X, *(rewriting.rewrite(X, generator) for _ in range(recipe.rewrites))])
    targets = np.tile(targets, times)
    if (
        recipe.drawn is None
        or classes.dtype.kind not in "iu"
        or not np.array_equal(classes, np.arange(10))
    ):
        return X, targets
    drawn, digits = strokes.draw(recipe.drawn, _seed(generator))
    return np.vstack([X, drawn]), np.concatenate([targets, digits])


def examples(images, recipe, seed, copies=3):
    """Images as they are, followed by `copies` versions of all of them as `recipe` trains on them,
    to be judged by eye.

    Parameters
    ----------
    images : array of shape (n, 8, 8), 0..16
    recipe : Recipe
        With ``augmentation``. With ``rewrites``, every version but the first is of rewritten
        images; with ``drawn``, the last one is of drawn digits, 0 to 9 again and again, in their
        place.
    seed : int
    copies : int

    Returns
    -------
    ndarray of shape (n * (copies + 1), 8, 8), float32
    """
    generator, flat = torch.Generator().manual_seed(seed), np.reshape(images, (-1, 64))
    versions = [
        rewriting.rewrite(flat, generator) if recipe.rewrites and k else flat for k in range(copies)
    ]
    if recipe.drawn:
        drawn, digits = strokes.draw(len(flat), _seed(generator))
        pick = np.random.default_rng(seed)
        versions[-1] = np.stack(
            [drawn[pick.choice(np.flatnonzero(digits == i % 10))] for i in range(len(flat))]
        )
    stored, *pictures = (
        torch.as_tensor(version, dtype=torch.float32).view(-1, 1, 8, 8)
        for version in (flat, *versions)
    )
    return torch.cat(
        [stored, *(augment(picture, recipe.augmentation, generator) for picture in pictures)]
    )[:, 0].numpy()


def _seed(generator):
    return int(torch.randint(2**31, (1,), generator=generator))
