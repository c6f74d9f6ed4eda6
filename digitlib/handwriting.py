"""From a photo or a drawing to 64 pixels like the data's.

Finding the ink is this module's; the way from a digit's ink to its 64 counts is
:mod:`digitlib.normalisation`.

References
----------
.. [1] N. Otsu (1979). A threshold selection method from gray-level histograms. IEEE Trans. SMC
   9(1), 62-66.
.. [2] J. Canny (1986). A computational approach to edge detection. IEEE Trans. PAMI 8(6), 679-698
   (thresholding with hysteresis).
"""

from dataclasses import dataclass, field

import numpy as np
from scipy import ndimage
from skimage.filters import apply_hysteresis_threshold, threshold_otsu
from skimage.measure import label, regionprops
from skimage.transform import resize

from digitlib import normalisation
from digitlib.errors import ImageError
from digitlib.pictures import read_picture

FAINTEST = 0.08  # ink must differ from its paper by this share of the range from black to white
MOST_DIGITS = 100


@dataclass
class Digit:
    """One digit that was found in a picture.

    Attributes
    ----------
    pixels : ndarray of shape (64,), uint8, 0..16
        What the network sees, row-major 8x8.
    box : tuple of int
        Top, left, bottom, right in ``steps["ink"]``.
    steps : dict of str to ndarray
        Pictures of the way, in order: ``grey``, ``paper``, ``ink`` (of the whole picture), ``crop``
        (this digit's ink) and those of :func:`digitlib.normalisation.steps`.
    """

    pixels: np.ndarray
    box: tuple
    steps: dict = field(repr=False)


def prepare_image(image):
    """The one digit in a picture, in the form of the data.

    Parameters
    ----------
    image : str, path-like, bytes, PIL image or ndarray
        PNG, JPEG, WebP, BMP, TIFF or GIF of one frame; or an array (rows, columns), (rows, columns,
        3 or 4): bool, unsigned integers (whole range of the type) or floats 0..1. Dark ink on light
        paper or the reverse; uneven light is evened out.

    Returns
    -------
    ndarray of shape (64,), uint8, 0..16
        Row-major 8x8, 0 is paper.

    Raises
    ------
    ImageError
        This is no picture, it is too large, it holds no ink, or it holds several digits.
    """
    digits = find_digits(image)
    if len(digits) > 1:
        raise ImageError(
            f"picture holds {len(digits)} digits; prepare_image takes one: crop the picture, or"
            " call find_digits for all"
        )
    return digits[0].pixels


def find_digits(image, single=False):
    """All digits of one line of writing, from left to right.

    Parameters
    ----------
    image
        As for :func:`prepare_image`.
    single : bool, default=False
        All ink belongs to one digit, however broken.

    Returns
    -------
    list of Digit
        At least one.

    Raises
    ------
    ImageError
    """
    grey = read_picture(image)
    paper, ink = find_ink(grey)
    masks = [ink] if single else split_digits(ink)
    whole = {"grey": grey, "paper": paper, "ink": ink}
    return [_normalise(mask, whole) for mask in masks]


def find_ink(grey):
    """Part ink from paper.

    Paper is what most of the neighbourhood looks like: a median over two thirds of the picture,
    which follows soft shadows and keeps the edge of hard ones. Ink is what stands out on the side,
    darker or lighter, that stands out more; Otsu's threshold [1]_ among all that is clear of the
    noise parts it from smudges, and what is at least 0.4 as strong belongs to it where it is joined
    to it [2]_.

    Parameters
    ----------
    grey : ndarray of shape (rows, columns), float32, 0 (black) to 1

    Returns
    -------
    paper : ndarray of shape (rows, columns), float32
    ink : ndarray of shape (rows, columns), bool

    Raises
    ------
    ImageError
        Nothing stands out.
    """
    coarse = resize(
        grey, np.ceil(np.multiply(grey.shape, 32 / max(grey.shape))).astype(int), anti_aliasing=True
    )
    paper = resize(
        ndimage.median_filter(coarse, size=21, mode="nearest"), grey.shape, order=1
    ).astype(np.float32)
    smooth = ndimage.gaussian_filter(grey, 1)
    contrast = smooth - paper
    contrast *= np.sign((contrast**3).mean()) or 1
    noise = 1.4826 * np.median(np.abs(contrast - np.median(contrast)))
    clear = contrast > max(4 * noise, FAINTEST / 2)
    if clear.sum() < 8 or np.ptp(contrast[clear]) < FAINTEST / 2:
        raise ImageError(
            "picture holds no ink that stands out from its paper; write with a darker pen, or crop"
            " closer"
        )
    middle = threshold_otsu(contrast[clear])
    ink = apply_hysteresis_threshold(contrast, max(0.4 * middle, 2.5 * noise), middle)
    grain = 1.4826 * np.median(
        np.abs(smooth - ndimage.gaussian_filter(smooth, 4))
    )  # noise alone, without what is left of shadows
    if contrast[ink].mean() < max(FAINTEST, 6 * grain):
        raise ImageError(
            "picture holds no ink that stands out from its paper; write with a darker pen, or crop"
            " closer"
        )
    return paper, ink


def split_digits(ink):
    """Group the connected pieces of ink into digits.

    A piece above or below another (the bar of a 5) belongs to it; so does a small one close beside
    it. Specks, dots and dashes between digits, and what runs in from the edge of the picture, are
    left out.

    Parameters
    ----------
    ink : ndarray of shape (rows, columns), bool

    Returns
    -------
    list of ndarray of shape (rows, columns), bool
        From left to right.

    Raises
    ------
    ImageError
        Only specks, or more pieces than a line of digits can have.
    """
    pieces = label(ink, connectivity=2)
    regions = regionprops(pieces)
    inside = _inside(regions, ink.shape)
    size = max(_height(r.bbox) for r in inside)
    tall = [r for r in inside if _height(r.bbox) > 0.4 * size]
    if len(tall) > MOST_DIGITS:
        raise ImageError(
            f"picture holds {len(tall)} pieces of ink, more than {MOST_DIGITS} digits; crop it, or"
            " even out the light"
        )
    boxes, members = [], []
    for region in sorted(tall, key=lambda r: r.bbox[1]):
        if boxes and _overlap(boxes[-1], region.bbox) > 0.4:
            boxes[-1] = _hull(boxes[-1], region.bbox)
            members[-1].append(region.label)
        else:
            boxes.append(region.bbox)
            members.append([region.label])
    for region in inside:
        if region not in tall and region.area > 0.002 * size * size:
            near = [
                max(_overlap(box, region.bbox), _close(box, region.bbox, 0.12 * size))
                for box in boxes
            ]
            if max(near) > 0.4:
                members[int(np.argmax(near))].append(region.label)
    return [np.isin(pieces, labels) for labels in members]


def _inside(regions, shape):
    """Regions that do not run in from the edge of the picture; all, if none of some height is left."""
    inner = [
        r
        for r in regions
        if r.bbox[0] > 0 and r.bbox[1] > 0 and r.bbox[2] < shape[0] and r.bbox[3] < shape[1]
    ]
    height = max(_height(r.bbox) for r in regions)
    return inner if any(_height(r.bbox) > height / 4 for r in inner) else regions


def _height(box):
    return box[2] - box[0]


def _overlap(a, b):
    """Share of the narrower one's columns that both boxes (top, left, bottom, right) cover, if they
    touch or nearly touch in height.
    """
    columns = min(a[3], b[3]) - max(a[1], b[1])
    gap = max(a[0], b[0]) - min(a[2], b[2])
    return columns / min(a[3] - a[1], b[3] - b[1]) if gap < 0.3 * _height(a) else 0


def _close(group, piece, distance):
    """1 if the piece lies beside the group, no more than `distance` away and within its height; 0
    otherwise.
    """
    gap = max(group[1], piece[1]) - min(group[3], piece[3])
    return float(gap < distance and piece[0] < group[2] and piece[2] > group[0])


def _hull(a, b):
    return (min(a[0], b[0]), min(a[1], b[1]), max(a[2], b[2]), max(a[3], b[3]))


def _normalise(mask, whole):
    rows, columns = (np.flatnonzero(mask.any(axis=axis)) for axis in (1, 0))
    box = (int(rows[0]), int(columns[0]), int(rows[-1]) + 1, int(columns[-1]) + 1)
    crop = mask[box[0] : box[2], box[1] : box[3]]
    steps = {
        **whole,
        "crop": crop,
        **{name: step[0] for name, step in normalisation.steps(crop[None]).items()},
    }
    return Digit(steps["counts"].ravel(), box, steps)
