"""From the ink of a digit to 64 counts, as the data's authors did it.

For photos, and for training images that are written anew.

The authors took their bitmaps from NIST's form-based handprint recognition system, which stretches
a character to a box, evens its weight and straightens it. The data show it: 98 % of the images hold
256 to 412 of 1,024 ink pixels, the bounds `THIN` and `THICK`, and in 99 % the top and the bottom
row begin within one column of each other.

References
----------
.. [1] M. D. Garris et al. (1994). NIST Form-Based Handprint Recognition System. NISTIR 5469:
   normalisation and shear of characters. The numbers are those of ``normaliz.c``, ``morphchr.c``
   and ``shear.c`` in its release 2.2 (2003).
.. [2] E. Alpaydin and C. Kaynak (1998). Optical Recognition of Handwritten Digits.
   https://doi.org/10.24432/C50P49: "32x32 bitmaps are divided into nonoverlapping blocks of 4x4
   and the number of on pixels are counted in each block".
"""

import numpy as np
from scipy import ndimage

BITMAP = 32  # rows and columns of the authors' bitmaps
BOX_COLUMNS = 20  # a character is stretched to all rows and to these columns [1]
# Ink pixels of 1,024 below which a character is thickened once and twice, above which thinned [1].
THIN, VERY_THIN = 256, 108
THICK, VERY_THICK = 412, 560
# A pixel's neighbours in the same bitmap: above, below, left, right.
CROSS = ndimage.generate_binary_structure(2, 1)[None]


def steps(ink):
    """Every picture on the way from ink to counts.

    Parameters
    ----------
    ink : ndarray of shape (n, rows, columns), bool
        One digit each, of any size and place, none without ink.

    Returns
    -------
    dict of str to ndarray
        ``box``, ``weight``, ``straight``: bool (n, 32, 32). ``counts``: uint8 (n, 8, 8), 0..16.
    """
    box = stretch(ink)
    weight = even_weight(box)
    straight = straighten(weight)
    return {"box": box, "weight": weight, "straight": straight, "counts": count_blocks(straight)}


def stretch(ink):
    """Stretch each digit, from edge to edge of its ink, to 20 columns of 32x32 pixels [1]_."""
    down, across = _sample(ink.any(axis=2), BITMAP), _sample(ink.any(axis=1), BOX_COLUMNS)
    box = ink[np.arange(len(ink))[:, None, None], down[:, :, None], across[:, None]]
    margin = (BITMAP - BOX_COLUMNS) // 2
    return np.pad(box, ((0, 0), (0, 0), (margin, margin)))


def _sample(used, count):
    """`count` evenly spaced indices from first to last True of each row of `used` (n, length)."""
    first = used.argmax(axis=1)[:, None]
    length = used.shape[1] - used[:, ::-1].argmax(axis=1)[:, None] - first
    return first + ((np.arange(count) + 0.5) * length / count).astype(int)


def even_weight(bitmaps):
    """Thicken thin strokes, thin thick ones, by a pixel or two on every side [1]_.

    bool (n, 32, 32) in and out.
    """
    ink, even = bitmaps.sum(axis=(1, 2)), bitmaps.copy()
    for limit in (THIN, VERY_THIN):
        even[ink < limit] = ndimage.binary_dilation(even[ink < limit], CROSS)
    for limit in (THICK, VERY_THICK):
        even[ink > limit] = ndimage.binary_erosion(even[ink > limit], CROSS)
    return even


def straighten(bitmaps):
    """Shift rows sideways until the third row and the third last begin below each other [1]_.

    bool (n, 32, 32) in and out.
    """
    index = np.arange(len(bitmaps))
    used = bitmaps.any(axis=2)
    top = (used.argmax(axis=1) + 2).clip(max=BITMAP - 1)
    bottom = (BITMAP - 3 - used[:, ::-1].argmax(axis=1)).clip(0)
    # Digits that are shorter or broken there are left as they are.
    whole = used[index, top] & used[index, bottom] & (bottom - top > 1)
    begins = bitmaps.argmax(axis=2)
    lean = whole * (begins[index, top] - begins[index, bottom])
    slope = lean / np.where(whole, bottom - top, 1)
    shifts = np.rint((np.arange(BITMAP) - BITMAP // 2) * slope[:, None]).astype(int)  # (n, 32)
    columns = np.arange(BITMAP) - shifts[:, :, None]  # (n, 32, 32)
    kept = (columns >= 0) & (columns < BITMAP)
    return np.take_along_axis(bitmaps, columns.clip(0, BITMAP - 1), axis=2) & kept


def count_blocks(bitmaps):
    """Ink pixels in each 4x4 block [2]_: bool (n, 32, 32) to uint8 (n, 8, 8), 0..16."""
    return bitmaps.reshape(-1, 8, 4, 8, 4).sum(axis=(2, 4), dtype=np.uint8)
