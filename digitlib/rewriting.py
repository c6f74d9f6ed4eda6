"""What would the same digit look like, written by another hand? Training images whose strokes are
bent before the data's preprocessing.

An 8x8 image is blown up to a picture of ink, which is turned, slanted, stretched and bent like
rubber (Simard, Steinkraus & Platt 2003, "Best practices for convolutional neural networks", ICDAR),
written with a thinner or thicker pen, and then goes the way that the data's authors sent theirs
(:mod:`digitlib.normalisation`). To bend the 8x8 images themselves would make pictures that this
preprocessing never leaves: digits that lean, or do not fill their box.
"""

import numpy as np
import torch
from torch.nn import functional as F

from digitlib import normalisation

SIDE = 40  # pixels of the picture in which strokes are bent, 4 to a block; it shows 10 by 10 blocks, so that a turned digit stays inside
TURN = 18.0  # degrees, either way
SLANT = 0.35  # columns per row, either way
STRETCH = 0.35  # of the logarithm of the width, either way
BEND = 0.3  # blocks that the knots of a 4x4 grid move, standard deviation
PEN = (0.3, 0.65)  # darkness from which a pixel is ink, 0..1


def rewrite(X, generator, chunk=1024):
    """Every image once more, in another hand.

    Parameters
    ----------
    X : ndarray of shape (n, 64)
        0..16, row-major 8x8.
    generator : torch.Generator
    chunk : int
        Images at a time; decides memory and, with the generator, the result.

    Returns
    -------
    ndarray of shape (n, 64), uint8, 0..16
        An image that bending would have left without ink is returned as it was.
    """
    written = np.array(X, dtype=np.uint8)
    for start in range(0, len(X), chunk):
        images = (
            torch.from_numpy(np.asarray(X[start : start + chunk], dtype=np.float32)).view(
                -1, 1, 8, 8
            )
            / 16
        )
        ink = _bend(images, generator).numpy()
        some = ink.any(axis=(1, 2))
        written[start : start + chunk][some] = normalisation.steps(ink[some])["counts"].reshape(
            -1, 64
        )
    return written


def _bend(images, generator):
    """Images (n, 1, 8, 8), 0..1, to bitmaps (n, SIDE, SIDE), bool."""
    n = len(images)

    def uniform(limit, *shape):
        return (2 * torch.rand(n, *shape, generator=generator) - 1) * limit

    turn, slant, stretch = uniform(np.deg2rad(TURN)), uniform(SLANT), uniform(STRETCH).exp()
    across = torch.stack([turn.cos() * stretch, turn.cos() * slant - turn.sin(), torch.zeros(n)], 1)
    down = torch.stack([turn.sin() * stretch, turn.sin() * slant + turn.cos(), torch.zeros(n)], 1)
    # Coordinates of grid_sample: -1..1 is the 8x8 image.
    places = (
        10
        / 8
        * F.affine_grid(torch.stack([across, down], 1), (n, 1, SIDE, SIDE), align_corners=False)
    )
    knots = torch.randn(n, 2, 4, 4, generator=generator) * BEND / 4
    places = places + F.interpolate(
        knots, (SIDE, SIDE), mode="bicubic", align_corners=True
    ).permute(0, 2, 3, 1)
    grey = F.grid_sample(images, places, mode="bicubic", align_corners=False)[:, 0]
    darkness = PEN[0] + (PEN[1] - PEN[0]) * torch.rand(n, 1, 1, generator=generator)
    return grey > darkness
