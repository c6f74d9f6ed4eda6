"""Digits made harder to read: turned, thicker, thinner, shifted, speckled, partly covered.

In the spirit of MNIST-C [1]_. An image of 8x8 counts becomes ink again. What a writer would do
happens to the ink, which then goes the way that the data's authors sent theirs
(:mod:`digitlib.normalisation`). What a scanner would do happens after it, to the 32x32 bitmap: the
preprocessing would take a shift back, and take a speck for the edge of the digit.

References
----------
.. [1] N. Mu and J. Gilmer (2019). MNIST-C: a robustness benchmark for computer vision.
   https://arxiv.org/abs/1906.02337
"""

import numpy as np
from scipy import ndimage

from digitlib import normalisation
from digitlib.normalisation import BITMAP

MARGIN = 10  # pixels around a bitmap, for ink that is turned or grows


def to_ink(X):
    """Images of counts as bitmaps with as many ink pixels in each 4x4 block as were counted.

    Of a block, those pixels hold ink that are darkest between the counts of its neighbours.

    Parameters
    ----------
    X : ndarray of shape (n, 64), 0..16

    Returns
    -------
    ndarray of shape (n, 32, 32), bool
    """
    counts = np.reshape(X, (-1, 8, 8))
    grey = ndimage.zoom(counts.astype(float), (1, 4, 4), order=1, mode="nearest", grid_mode=True)
    blocks = grey.reshape(-1, 8, 4, 8, 4).transpose(0, 1, 3, 2, 4).reshape(-1, 8, 8, 16)
    ranks = np.argsort(np.argsort(-blocks, axis=-1, kind="stable"), axis=-1)
    ink = (ranks < counts[..., None]).reshape(-1, 8, 8, 4, 4)
    return ink.transpose(0, 1, 3, 2, 4).reshape(-1, BITMAP, BITMAP)


def _turned(ink, degrees, random):
    found = np.empty_like(ink)
    for sign in (1, -1):  # every second one to the left
        part = slice(sign < 0, None, 2)
        angle = {"angle": sign * degrees, "axes": (2, 1), "reshape": False, "order": 1}
        found[part] = ndimage.rotate(ink[part].astype(np.float32), **angle) > 0.5
    return found


def _thicker(ink, pixels, random):
    return ndimage.binary_dilation(ink, normalisation.CROSS, iterations=pixels)


def _thinner(ink, pixels, random):
    return ndimage.binary_erosion(ink, normalisation.CROSS, iterations=pixels)


def _shifted(bitmaps, pixels, random):
    found = np.empty_like(bitmaps)
    for i, (down, right) in enumerate(((0, 1), (0, -1), (1, 0), (-1, 0))):
        step = (0, down * pixels, right * pixels)
        found[i::4] = ndimage.shift(bitmaps[i::4], step, order=0)
    return found


def _speckled(bitmaps, percent, random):
    return bitmaps ^ (random.random(bitmaps.shape) < percent / 100)


def _covered(bitmaps, pixels, random):
    begin = random.integers(0, BITMAP - pixels + 1, (2, len(bitmaps), 1))
    rows, columns = (begin <= np.arange(BITMAP)) & (np.arange(BITMAP) < begin + pixels)
    return bitmaps & ~(rows[:, :, None] & columns[:, None, :])


# What changes, its unit, its strengths. First what a writer does, then what a scanner does.
WRITER = {
    "turned": (_turned, "degrees", (10, 20, 30, 40)),
    "thicker": (_thicker, "pixels of 32", (1, 2, 3)),
    "thinner": (_thinner, "pixels of 32", (1, 2)),
}
SCANNER = {
    "shifted": (_shifted, "pixels of 32", (1, 2, 3, 4)),
    "speckled": (_speckled, "% of pixels", (2, 5, 10, 20)),
    "covered": (_covered, "pixels of 32, a square", (4, 8, 12, 16)),
}


def corrupted(X, seed=0):
    """Every change of every strength.

    Parameters
    ----------
    X : ndarray of shape (n, 64), 0..16
    seed : int
        Of the specks and of the places that are covered.

    Yields
    ------
    tuple
        Name, unit, strength, and the images: uint8 (n, 64). Each name begins with strength 0:
        enlarged and sent through the preprocessing, else unchanged.
    """
    margin = ((0, 0), (MARGIN, MARGIN), (MARGIN, MARGIN))
    ink, random = np.pad(to_ink(X), margin), np.random.default_rng(seed)
    for name, (change, unit, strengths) in (WRITER | SCANNER).items():
        for strength in (0, *strengths):
            written = change(ink, strength, random) if strength and name in WRITER else ink
            # A digit of which nothing would be left stays as it was.
            written = np.where(written.any(axis=(1, 2), keepdims=True), written, ink)
            bitmaps = normalisation.steps(written)["straight"]
            if strength and name in SCANNER:
                bitmaps = change(bitmaps, strength, random)
            yield name, unit, strength, normalisation.count_blocks(bitmaps).reshape(-1, 64)
