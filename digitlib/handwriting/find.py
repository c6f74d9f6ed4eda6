"""From a photo or a drawing to 64 pixels like those of the data.

Pictures of many kinds become one grey array, or one line that says why not; ink is parted from
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
from PIL import Image, ImageOps, UnidentifiedImageError
from scipy import ndimage
from skimage.filters import apply_hysteresis_threshold, threshold_otsu
from skimage.measure import regionprops
from skimage.transform import resize

from digitlib.errors import ImageError
from digitlib.files import check_file
from digitlib.handwriting import normalise

FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "TIFF", "GIF")
HEIC = (b"heic", b"heix", b"hevc", b"mif1", b"msf1")  # of the format that many phones write
with suppress(ImportError):  # who has installed it wants it used
    import pillow_heif

    pillow_heif.register_heif_opener()
    FORMATS += ("HEIF",)
MOST_MEGAPIXELS = 64  # a phone's largest photos have 50; more is refused before a pixel is unpacked
TOO_LARGE = f"takes at most {MOST_MEGAPIXELS} megapixels; crop it or save it smaller"
MOST_BYTES = 100_000_000
WORKING_SIDES = (160, 1400)  # of the longer side: smooth edges, bounded work
FAINTEST = 0.08  # ink must differ from its paper by this share of the range from black to white
MOST_DIGITS = 100
WHOLE = 0.9  # share of the ink that stands in tall pieces, unless strokes are broken
LUMA = np.array([0.299, 0.587, 0.114], np.float32)  # shares of red, green and blue, ITU-R BT.601
Picture = str | os.PathLike | bytes | Image.Image | np.ndarray
NO_INK = (
    "picture holds no ink that stands out from its paper; write with a darker pen, or crop closer"
)


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
    left_out: np.ndarray | None = field(default=None, repr=False)


def prepare_image(image: Picture, single: bool = False) -> np.ndarray:
    """The one digit in a picture, in the form of the data.

    Parameters
    ----------
    image : str, path-like, bytes, PIL image or ndarray
        PNG, JPEG, WebP, BMP, TIFF or GIF of one frame; or an array (rows, columns), (rows, columns,
        3 or 4): bool, unsigned integers (whole range of the type) or floats 0..1. Dark ink on light
        paper or the reverse; uneven light is evened out.
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
        raise ImageError(
            f"picture holds {len(digits)} digits; prepare_image takes one: crop the picture, call"
            " find_digits for all, or say single=True if they are parts of one"
        )
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
    grey = read_picture(image)
    paper, ink = find_ink(grey)
    whole = {"grey": grey, "paper": paper, "ink": ink}
    masks = [_without_blots(ink)] if single else split_digits(ink)
    left_out = ink & ~np.any(masks, axis=0)
    return [_normalise(mask, whole, left_out) for mask in masks]


def _normalise(mask, whole, left_out):
    rows, columns = (np.flatnonzero(mask.any(axis=axis)) for axis in (1, 0))
    box = (int(rows[0]), int(columns[0]), int(rows[-1]) + 1, int(columns[-1]) + 1)
    crop = mask[box[0] : box[2], box[1] : box[3]]
    steps = {name: step[0] for name, step in normalise.steps(crop[None]).items()}
    return Digit(steps["counts"].ravel(), box, {**whole, "crop": crop, **steps}, left_out)


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
        Not a picture, damaged, too large, or moving.
    """
    if isinstance(image, np.ndarray):
        grey = _array_to_grey(image)
    elif isinstance(image, Image.Image):
        grey = _pillow_to_grey(image)
    else:
        grey = _file_to_grey(image)
    picture = Image.fromarray(grey)
    side = max(picture.size)
    wanted = np.clip(side, *WORKING_SIDES)
    if side != wanted:
        size = [max(1, round(length * wanted / side)) for length in picture.size]
        picture = picture.resize(size, Image.Resampling.BICUBIC, reducing_gap=2.0)
    return np.asarray(picture).clip(0, 1)


def _file_to_grey(source):
    name, content = "picture", source
    if not isinstance(source, bytes | bytearray):
        remedy = "give the path of one picture, such as photo.jpg"
        name = check_file(source, ImageError, remedy, MOST_BYTES)
        content = name.read_bytes()
    if not content:
        raise ImageError(f"{name}: the file is empty (0 bytes); save the picture again")
    try:
        # Pillow warns about large pictures; MOST_MEGAPIXELS is what counts here.
        with (
            warnings.catch_warnings(action="ignore"),
            Image.open(io.BytesIO(content), formats=FORMATS) as image,
        ):
            return _pillow_to_grey(image, name)
    except ImageError:
        raise
    except UnidentifiedImageError:
        what = f"not a picture; takes {', '.join(FORMATS)}"
        if content[4:8] == b"ftyp" and content[8:12] in HEIC:
            remedy = "pip install pillow-heif, or save it as JPEG (phones: camera, most compatible)"
            what = f"a HEIC picture, which cannot be read here; {remedy}"
        raise ImageError(f"{name}: {what}") from None
    except Image.DecompressionBombError:
        raise ImageError(f"{name}: far too many pixels; {TOO_LARGE}") from None
    except (OSError, ValueError, SyntaxError, EOFError) as error:
        said = str(error).partition("\n")[0] or type(error).__name__
        raise ImageError(f"{name}: damaged picture ({said}); save it again") from None


def _pillow_to_grey(picture, name="picture"):
    if getattr(picture, "n_frames", 1) > 1 and picture.format != "MPO":  # a JPEG
        raise ImageError(
            f"{name}: {picture.format} of {picture.n_frames} frames; takes one: save the frame you"
            " mean as PNG"
        )
    pixels = picture.width * picture.height
    if pixels > MOST_MEGAPIXELS * 1e6:
        raise ImageError(f"{name}: {pixels / 1e6:.0f} megapixels; {TOO_LARGE}")
    # JPEG only: unpack at a half, quarter or eighth of the size.
    picture.draft(None, (2 * WORKING_SIDES[1],) * 2)
    picture = ImageOps.exif_transpose(picture)
    if picture.mode.startswith("F"):
        return _array_to_grey(np.asarray(picture))
    if picture.mode.startswith("I"):
        return _array_to_grey(np.asarray(picture).clip(0, 65535).astype(np.uint16))
    mode = "RGBA" if picture.has_transparency_data else "L"
    return _array_to_grey(np.asarray(picture.convert(mode)))


def _array_to_grey(array):
    shape, kind = array.shape, array.dtype.kind
    layers = shape[2] if array.ndim == 3 else 1
    if array.ndim not in (2, 3) or layers not in (1, 3, 4) or 0 in shape or kind not in "bufi":
        raise ImageError(
            f"array of shape {shape}, {array.dtype}: not a picture; takes (rows, columns) or"
            " (rows, columns, 3 or 4) of numbers"
        )
    if shape[0] * shape[1] > MOST_MEGAPIXELS * 1e6:
        raise ImageError(f"array of shape {shape}: {TOO_LARGE}")
    if min(shape[:2]) < 8:
        raise ImageError(
            f"picture of {shape[1]} by {shape[0]} pixels: too small; takes at least 8 by 8"
        )
    values = array.astype(np.float32)
    values /= _white(array, values)
    if array.ndim == 2:
        return values
    colour = values[..., 0] if layers == 1 else values[..., :3] @ LUMA
    if layers < 4:
        return colour
    opacity = values[..., 3]
    light_ink = opacity.min() < 0.5 and (colour * opacity).sum() > 0.5 * opacity.sum()
    return colour * opacity + (0.0 if light_ink else 1.0) * (1 - opacity)


def _white(array, values):
    """The number that is white in `array`: the largest of unsigned types, else 1 or 255."""
    kind = array.dtype.kind
    if kind in "bu":
        return 1 if kind == "b" else np.iinfo(array.dtype).max
    if not np.isfinite(values).all() or values.min() < 0:
        raise ImageError(
            "array holds values that are negative or not finite; takes 0..1, or 0..255"
        )
    return 1 if kind == "f" and values.max() <= 1 else 255


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
    middle = np.median(grey)
    flat = np.mean(grey == middle) > 0.5  # drawn or cleaned: paper without shade or grain
    paper = np.full_like(grey, middle) if flat else _paper(grey)
    contrast = smooth - paper
    contrast *= np.sign((contrast**3).mean()) or 1
    noise = _spread(contrast - np.median(contrast))
    clear = contrast > max(4 * noise, FAINTEST / 2)
    if clear.sum() < 8 or np.ptp(contrast[clear]) < FAINTEST / 2:
        raise ImageError(NO_INK)
    middle = threshold_otsu(contrast[clear])
    ink = apply_hysteresis_threshold(contrast, max(0.4 * middle, 2.5 * noise), middle)
    # Noise alone, without what is left of shadows.
    grain = 0 if flat else _spread(smooth - ndimage.gaussian_filter(smooth, 4))
    if contrast[ink].mean() < max(FAINTEST, 6 * grain):
        raise ImageError(NO_INK)
    return paper, ink


def _paper(grey):
    """What most of the neighbourhood looks like, everywhere."""
    small = np.ceil(np.multiply(grey.shape, 32 / max(grey.shape))).astype(int)
    coarse = resize(grey, small, anti_aliasing=True)
    median = ndimage.median_filter(coarse, size=21, mode="nearest")
    dark = ((coarse - median) ** 3).mean() < 0
    fill = ndimage.grey_closing if dark else ndimage.grey_opening
    filled = fill(ndimage.median_filter(coarse, 3), 11, mode="nearest")
    return resize(filled, grey.shape, order=1).astype(np.float32)


def label(ink):
    """Pieces of ink that touch, if only by a corner: the number of each pixel's, 0 without ink."""
    return ndimage.label(ink, np.ones([3] * ink.ndim))[0]


def _spread(deviations):
    """Standard deviation, from the median: ink, being little, does not count."""
    return 1.4826 * np.median(np.abs(deviations))


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
        Row by row, each from left to right.

    Raises
    ------
    ImageError
        Only specks, or more pieces than a line of digits can have.
    """
    pieces = label(ink)
    inside, size, tall = _sorted_out(pieces)
    if sum(piece.area for piece in tall) < WHOLE * sum(piece.area for piece in inside):
        # Faint pencil comes in scraps: those that nearly touch are one piece.
        near = ndimage.binary_dilation(ink, iterations=max(ink.shape) // 150)
        pieces = label(near) * ink
        inside, size, tall = _sorted_out(pieces)
    if len(tall) > MOST_DIGITS:
        raise ImageError(
            f"picture holds {len(tall)} pieces of ink, more than {MOST_DIGITS} digits; crop it, or"
            " even out the light"
        )
    boxes, members, row = [], [], _rows(tall, len(ink), 0.3 * size)
    for piece in sorted(tall, key=lambda piece: (row[piece.label], piece.bbox[1])):
        if boxes and _overlap(boxes[-1], piece.bbox) > 0.4:
            boxes[-1] = _hull(boxes[-1], piece.bbox)
            members[-1].append(piece.label)
        else:
            boxes.append(piece.bbox)
            members.append([piece.label])
    for piece in inside:
        if piece not in tall and piece.area > 0.002 * size * size:
            near = [
                max(_overlap(box, piece.bbox), _beside(box, piece.bbox, 0.12 * size))
                for box in boxes
            ]
            if max(near) > 0.4:
                members[int(np.argmax(near))].append(piece.label)
    return [np.isin(pieces, labels) for labels in members]


def _without_blots(ink):
    """Ink without what is far smaller than the rest, and farther away than strokes of a digit."""
    if label(ink).max() == 1:
        return ink
    gap = np.ptp(np.flatnonzero(ink.any(axis=1))) // 10  # shorter ones stand within broken strokes
    near = ndimage.binary_dilation(ink, iterations=max(1, gap // 2))
    pieces = label(near) * ink
    found = regionprops(pieces)
    least = max(_height(piece.bbox) for piece in found) / 4
    kept = [piece.label for piece in found if max(piece.image.shape) > least]
    return np.isin(pieces, kept)


def _rows(pieces, height, gap):
    """Row of each piece, by label: rows lie apart where the pieces' middles leave a `gap` free."""
    free = np.ones(height, bool)
    for piece in pieces:
        margin = _height(piece.bbox) // 5
        free[piece.bbox[0] + margin : piece.bbox[2] - margin] = False
    bands = label(ndimage.binary_opening(free, np.ones(int(gap) + 1)) ^ True)
    return {piece.label: bands[(piece.bbox[0] + piece.bbox[2]) // 2] for piece in pieces}


def _sorted_out(pieces):
    """Pieces inside the picture, the height of the tallest, and those about as tall."""
    inside = _inside(regionprops(pieces), pieces.shape)
    size = max(_height(piece.bbox) for piece in inside)
    return inside, size, [piece for piece in inside if _height(piece.bbox) > 0.4 * size]


def _inside(regions, shape):
    """Those that do not run in from the edge of the picture; all, if only low ones are left."""
    rows, columns = shape
    inner = [
        region
        for region in regions
        if min(region.bbox[:2]) > 0 and region.bbox[2] < rows and region.bbox[3] < columns
    ]
    least = max(_height(region.bbox) for region in regions) / 4
    return inner if any(_height(region.bbox) > least for region in inner) else regions


# Boxes are (top, left, bottom, right), as scikit-image has them.


def _height(box):
    return box[2] - box[0]


def _hull(a, b):
    return (min(a[0], b[0]), min(a[1], b[1]), max(a[2], b[2]), max(a[3], b[3]))


def _overlap(a, b):
    """Share of the narrower box's columns that both cover; 0 unless they nearly touch in height."""
    columns = min(a[3], b[3]) - max(a[1], b[1])
    gap = max(a[0], b[0]) - min(a[2], b[2])
    return columns / min(a[3] - a[1], b[3] - b[1]) if gap < 0.3 * _height(a) else 0


def _beside(group, piece, distance):
    """Whether the piece lies beside the group, within `distance` and its height."""
    gap = max(group[1], piece[1]) - min(group[3], piece[3])
    return gap < distance and piece[0] < group[2] and piece[2] > group[0]
