"""From a photo or a drawing to 64 pixels like those of the data.

A picture of any kind becomes one grey array, or one line that says why not; ink is parted from
paper and grouped into digits. The way from a digit's ink to its 64 counts is
:mod:`digitlib.handwriting.normalise`.

References
----------
.. [1] N. Otsu (1979). A threshold selection method from gray-level histograms. IEEE Trans. SMC
   9(1), 62-66.
.. [2] J. Canny (1986). A computational approach to edge detection. IEEE Trans. PAMI 8(6), 679-698
   (thresholding with hysteresis).
"""

import io
import os
import warnings
from contextlib import suppress
from dataclasses import dataclass, field

import numpy as np
from PIL import ExifTags, Image
from scipy import ndimage
from skimage.color import rgb2gray
from skimage.exposure import rescale_intensity
from skimage.filters import apply_hysteresis_threshold, threshold_otsu
from skimage.measure import label, regionprops
from skimage.morphology import remove_small_objects
from skimage.segmentation import clear_border
from skimage.transform import resize

from digitlib.errors import ImageError
from digitlib.files import check_file
from digitlib.handwriting import normalise

FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "TIFF", "GIF")
MOST_BYTES = 100_000_000
WORKING_SIDES = (160, 1400)  # of the longer side: smooth edges, bounded work
FAINTEST = 0.08  # ink must differ from its paper by this share of the range from black to white
NO_INK = "no ink stands out from the paper; write with a darker pen, or crop closer"
WEAKEST = 0.4  # of the threshold, for ink that is joined to ink above it
MOST_DIGITS = 100
# Shares of the tallest piece's height: what is lower is no digit by itself; gaps within digits.
TALL, JOINED_ROWS, JOINED_COLUMNS = 0.4, 0.16, 0.08
# How a picture is turned upright, for the orientations 2 to 8 of its EXIF tag.
TURNS = dict(enumerate(map(Image.Transpose, (0, 3, 1, 5, 4, 6, 2)), 2))
Picture = str | os.PathLike | bytes | Image.Image | np.ndarray


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
        (this digit's ink) and those of :func:`digitlib.handwriting.normalise.steps`.
    left_out : ndarray of shape (rows, columns), bool
        Ink of the whole picture that was given to no digit: dashes, specks, the edge.
    """

    pixels: np.ndarray
    box: tuple
    steps: dict = field(repr=False)
    left_out: np.ndarray = field(repr=False)


def prepare_image(image: Picture, single: bool = False) -> np.ndarray:
    """The one digit in a picture, in the form of the data.

    Parameters
    ----------
    image : str, path-like, bytes, PIL image or ndarray
        PNG, JPEG, WebP, BMP, TIFF or GIF (its first frame); or an array of numbers (rows, columns),
        (rows, columns, 3 or 4). Dark ink on light paper or the reverse; uneven light is evened out.
    single : bool, default=False
        All ink belongs to one digit, however broken; only blots that lie apart are left out.

    Returns
    -------
    ndarray of shape (64,), uint8, 0..16
        Row-major 8x8, 0 is paper.

    Raises
    ------
    ImageError
        This is no picture, it is too large, it holds no ink, or it holds several digits.

    Examples
    --------
    >>> import digitlib, numpy as np
    >>> page = np.ones((60, 60))  # white paper
    >>> page[10:50, 28:33] = 0  # a stroke of ink
    >>> pixels = digitlib.prepare_image(page)
    >>> pixels.shape, bool(0 < pixels.max() <= 16)
    ((64,), True)
    """
    digits = find_digits(image, single)
    if len(digits) > 1:
        told = "crop it, call find_digits for all, or say single=True if they are parts of one"
        raise ImageError(f"picture holds {len(digits)} digits, not one: {told}")
    return digits[0].pixels


def find_digits(image: Picture, single: bool = False) -> list[Digit]:
    """All digits in a picture: row by row, each from left to right.

    Parameters
    ----------
    image
        As for :func:`prepare_image`.
    single : bool, default=False
        All ink belongs to one digit, however broken; only blots that lie apart are left out.

    Returns
    -------
    list of Digit
        At least one.

    Raises
    ------
    ImageError

    Examples
    --------
    >>> import digitlib, numpy as np
    >>> page = np.ones((60, 90))
    >>> page[10:50, 20:25] = page[10:50, 60:65] = 0  # two strokes
    >>> len(digitlib.find_digits(page))
    2
    """
    try:
        grey = read_picture(image)
        paper, ink = find_ink(grey)
        regions = regionprops(_without_blots(ink)) if single else split_digits(ink)
    except ImageError as error:
        name = image if isinstance(image, str | os.PathLike) else "picture"
        raise ImageError(f"{name}: {error}") from None
    left_out = ink.copy()
    for region in regions:
        left_out[region.slice] &= ~region.image
    whole = {"grey": grey, "paper": paper, "ink": ink}
    return [_digit(region, whole, left_out) for region in regions]


def _digit(region, whole, left_out):
    steps = {name: step[0] for name, step in normalise.steps(region.image[None]).items()}
    steps = {**whole, "crop": region.image, **steps}
    return Digit(steps["counts"].ravel(), region.bbox, steps, left_out)


# ---- reading pictures ----------------------------------------------------------------------------


def read_picture(image):
    """A picture as one grey array.

    Parameters
    ----------
    image : str, path-like, bytes, PIL image or ndarray
        See :func:`prepare_image`.

    Returns
    -------
    ndarray of shape (rows, columns), float32, 0 (black) to 1 (white)
        Upright as its EXIF tag says, on white (light ink: on black) where it was transparent; the
        longer side has 160 to 1,400 pixels.

    Raises
    ------
    ImageError
        Not a picture, damaged, or too large.
    """
    picture = Image.fromarray(_grey(image if isinstance(image, np.ndarray) else _opened(image)))
    scale = np.clip(max(picture.size), *WORKING_SIDES) / max(picture.size)
    size = np.rint(np.multiply(picture.size, scale)).astype(int).clip(1).tolist()
    picture = picture.resize(size, Image.Resampling.BICUBIC, reducing_gap=2.0)
    return np.asarray(picture).clip(0, 1)


def _opened(source):
    """The pixels of a picture's file, of its bytes, or of a Pillow image."""
    if not isinstance(source, bytes | Image.Image):
        remedy = "give the path of one picture, such as photo.jpg"
        source = check_file(source, ImageError, remedy, MOST_BYTES).read_bytes()
    try:
        # Pillow warns of pictures beyond 89 megapixels and of odd tags; these are read nonetheless.
        with warnings.catch_warnings(action="ignore"):
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            if isinstance(source, bytes):
                source = Image.open(io.BytesIO(source), formats=FORMATS)
            return _unpacked(source)
    except Exception as error:  # Pillow's readers raise whatever a damaged file brings them to
        said = " ".join(str(error).split("<")[0].split())[:110] or type(error).__name__
        takes = f"takes {', '.join(FORMATS)}; save it anew so, HEIC as JPEG, a huge one smaller"
        raise ImageError(f"not a picture that can be read ({said}); {takes}") from None


def _unpacked(picture):
    """The pixels of a Pillow image, upright: grey, or with opacity, or of more than 8 bits."""
    picture.draft(None, (2 * WORKING_SIDES[1],) * 2)  # a JPEG: unpack no more than is needed
    picture.load()
    with suppress(Exception):  # no orientation, or EXIF that cannot be read: it stays as it is
        picture = picture.transpose(TURNS[picture.getexif()[ExifTags.Base.Orientation]])
    if picture.mode[0] not in "FI":
        picture = picture.convert("RGBA" if picture.has_transparency_data else "L")
    return np.asarray(picture)


def _grey(array):
    """Brightness, 0..1: of 8 bits, of floats within 0..1, or else by the pixels' own range."""
    sides, layers = array.shape[:2], array.shape[2:]
    fits = len(sides) == 2 and min(sides) >= 8 and layers in ((), (3,), (4,))
    if not (fits and array.dtype.kind in "bufi" and np.isfinite(array).all()):
        takes = "finite numbers in (rows, columns) or (rows, columns, 3 or 4), at least 8 by 8"
        raise ImageError(f"pixels of shape {array.shape}, {array.dtype}, do not fit; takes {takes}")
    values = array.astype(np.float32) / (255 if array.dtype == np.uint8 else 1)
    if values.min() < 0 or values.max() > 1:
        values = rescale_intensity(values, out_range=(0, 1))
    grey = values if values.ndim == 2 else rgb2gray(values[..., :3])
    if layers == (4,):
        opacity = values[..., 3]
        light_ink = opacity.min() < 0.5 and (grey * opacity).sum() > 0.5 * opacity.sum()
        grey = grey * opacity + (not light_ink) * (1 - opacity)
    return grey


# ---- finding ink ---------------------------------------------------------------------------------


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
    smooth = ndimage.gaussian_filter(grey, 1)
    # The median of a small picture: what most of a neighbourhood looks like.
    sides = np.ceil(np.multiply(grey.shape, 32 / max(grey.shape))).astype(int)
    coarse = ndimage.median_filter(resize(grey, sides, anti_aliasing=True), 21, mode="nearest")
    paper = resize(coarse, grey.shape, order=1).astype(np.float32)
    middle = np.median(grey)
    # Drawn, most pixels are alike: paper without shade or grain.
    paper = np.where(np.mean(grey == middle) > 0.5, middle, paper)
    contrast = smooth - paper
    side = np.sign((contrast**3).mean()) or 1
    contrast *= side / paper.clip(0.3)  # in a shadow, ink and paper are darker alike
    noise = _spread(contrast - np.median(contrast))
    clear = contrast[contrast > max(4 * noise, FAINTEST / 2)]
    # Noise alone, without what is left of shadows.
    grain = _spread(contrast - ndimage.gaussian_filter(contrast, 4))
    if clear.size < 8 or clear.mean() < max(FAINTEST, 6 * grain):
        raise ImageError(NO_INK)
    middle = threshold_otsu(clear)
    ink = apply_hysteresis_threshold(contrast, max(WEAKEST * middle, 2.5 * noise), middle)
    return paper, ink


def _spread(deviations):
    """Standard deviation, from the median: ink, being little, does not count."""
    return 1.4826 * np.median(np.abs(deviations))


# ---- from ink to digits --------------------------------------------------------------------------


def split_digits(ink):
    """Group ink into digits.

    Pieces that nearly touch are one, above each other (the bar of a 5) more than side by side.
    What is low (specks, dashes between digits) or runs in from the edge of the picture is left out.

    Parameters
    ----------
    ink : ndarray of shape (rows, columns), bool

    Returns
    -------
    list of skimage.measure.RegionProperties
        Row by row, each from left to right; a row ends where the next digit is half a digit lower.

    Raises
    ------
    ImageError
        More pieces than digits may be.
    """
    pieces = label(ink)
    inner = clear_border(pieces)
    if _tallest(inner) <= _tallest(pieces) / 4:  # the edge cuts digits off: better than none
        inner = pieces
    size = _tallest(inner)
    pieces = _joined(inner > 0, int(JOINED_ROWS * size), int(JOINED_COLUMNS * size))
    digits = [piece for piece in regionprops(pieces) if piece.image.shape[0] > TALL * size]
    if len(digits) > MOST_DIGITS:
        raise ImageError(f"{len(digits)} pieces of ink; at most {MOST_DIGITS} are read: crop it")
    tops, lefts, bottoms, _ = np.transpose([digit.bbox for digit in digits])
    middles = (tops + bottoms) / 2
    down = np.sort(middles)
    rows = np.searchsorted(down[1:][np.diff(down) > 0.5 * size], middles, side="right")
    return [digits[place] for place in np.lexsort((lefts, rows))]


def _tallest(pieces):
    """Rows of the tallest of labelled pieces, 0 if there is none."""
    return max((piece.image.shape[0] for piece in regionprops(pieces)), default=0)


def _joined(ink, rows, columns):
    """Labels of pieces: what a frame of so many rows and columns can touch at once is one."""
    return label(ndimage.maximum_filter(ink, (rows + 1, columns + 1))) * ink


def _without_blots(ink):
    """All ink as one piece, without what is far smaller than the whole: 1 is ink."""
    return remove_small_objects(ink, max_size=ink.sum() // 16, connectivity=2).astype(int)
