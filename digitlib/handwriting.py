"""From a photo or a drawing to 64 pixels like those of the data."""

import io
import warnings
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError
from scipy import ndimage
from skimage.filters import apply_hysteresis_threshold, threshold_otsu
from skimage.measure import label, regionprops
from skimage.transform import resize

from digitlib import normalisation
from digitlib.errors import ImageError

FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "TIFF", "GIF")
MOST_MEGAPIXELS = 64  # a phone's largest photos have 50; more is refused before a pixel is unpacked
MOST_BYTES = 100_000_000
# A picture is brought between these, by its longer side: smooth edges, bounded work.
WORKING_SIDES = (160, 1400)
FAINTEST = 0.08  # ink must differ from its paper by this share of the range from black to white
MOST_DIGITS = 100


def read_picture(image):
    """A picture as one grey array.

    Parameters
    ----------
    image : str, path-like, bytes, PIL image or ndarray
        See :func:`digitlib.prepare_image`.

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
    wanted = min(max(side, WORKING_SIDES[0]), WORKING_SIDES[1])
    if side != wanted:
        size = [max(1, round(length * wanted / side)) for length in picture.size]
        picture = picture.resize(size, Image.Resampling.BICUBIC, reducing_gap=2.0)
    return np.asarray(picture).clip(0, 1)


def _file_to_grey(source):
    if isinstance(source, bytes | bytearray):
        name, stream, size = "picture", io.BytesIO(source), len(source)
    else:
        name = stream = Path(source)
        if not stream.is_file():
            raise ImageError(
                f"{name}: {'a folder' if stream.is_dir() else 'no such file'}; give the path of one"
                " picture, such as photo.jpg"
            )
        size = stream.stat().st_size
    if size == 0:
        raise ImageError(f"{name}: the file is empty (0 bytes); save the picture again")
    if size > MOST_BYTES:
        raise ImageError(
            f"{name}: {size / 1e6:.0f} MB; takes at most {MOST_BYTES // 10**6}; save it smaller"
        )
    try:
        # The warning is Pillow's, about size; our limit is lower.
        with (
            warnings.catch_warnings(action="ignore"),
            Image.open(stream, formats=FORMATS) as picture,
        ):
            return _pillow_to_grey(picture, name)
    except ImageError:
        raise
    except Image.DecompressionBombError:
        said = f"far more than {MOST_MEGAPIXELS} megapixels; crop it or save it smaller"
    except UnidentifiedImageError:
        said = f"not a picture; takes {', '.join(FORMATS)}"
    except (OSError, ValueError, SyntaxError, EOFError) as error:
        reason = [*str(error).splitlines(), type(error).__name__][0]
        said = f"damaged picture ({reason}); save it again"
    raise ImageError(f"{name}: {said}")


def _pillow_to_grey(picture, name="picture"):
    if getattr(picture, "n_frames", 1) > 1:
        raise ImageError(
            f"{name}: {picture.format} of {picture.n_frames} frames; takes one: save the frame you"
            " mean as PNG"
        )
    megapixels = picture.width * picture.height / 1e6
    if megapixels > MOST_MEGAPIXELS:
        raise ImageError(
            f"{name}: {megapixels:.0f} megapixels; takes at most {MOST_MEGAPIXELS}; crop it or save"
            " it smaller"
        )
    # JPEG only: unpack at a half, quarter or eighth of the size.
    picture.draft(None, (2 * WORKING_SIDES[1],) * 2)
    picture = ImageOps.exif_transpose(picture)
    if picture.mode.startswith("I"):
        return _array_to_grey(np.asarray(picture).clip(0, 65535).astype(np.uint16))
    if not picture.mode.startswith("F"):
        picture = picture.convert("RGBA" if picture.has_transparency_data else "L")
    return _array_to_grey(np.asarray(picture))


def _array_to_grey(array):
    kind, shape = array.dtype.kind, array.shape
    layered = len(shape) == 3 and shape[2] in (1, 3, 4)
    if not (len(shape) == 2 or layered) or 0 in shape or kind not in "bufi":
        raise ImageError(
            f"array of shape {shape}, {array.dtype}: not a picture; takes (rows, columns) or (rows,"
            " columns, 3 or 4) of numbers"
        )
    if shape[0] * shape[1] > MOST_MEGAPIXELS * 1e6:
        raise ImageError(
            f"array of shape {shape}: takes at most {MOST_MEGAPIXELS} megapixels; crop it"
        )
    if min(shape[:2]) < 8:
        raise ImageError(
            f"picture of {shape[1]} by {shape[0]} pixels: too small; takes at least 8 by 8"
        )
    values = array.astype(np.float32)
    if kind == "f" or (kind == "i" and array.min() < 0):
        if not np.isfinite(values).all() or values.min() < 0:
            raise ImageError(
                "array holds values that are negative or not finite; takes 0..1, or 0..255"
            )
        values /= 1.0 if values.max() <= 1 else 255.0
    else:
        values /= {"b": 1, "i": 255}.get(kind) or np.iinfo(array.dtype).max
    if len(shape) == 2:
        return values
    luma = np.float32([0.299, 0.587, 0.114])  # ITU-R BT.601
    colour = values[..., :3] @ luma if shape[2] >= 3 else values[..., 0]
    if shape[2] < 4:
        return colour
    opacity = values[..., 3]
    light = opacity.min() < 0.5 and (colour * opacity).sum() > 0.5 * opacity.sum()
    return colour * opacity + (0.0 if light else 1.0) * (1 - opacity)


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
            box = region.bbox
            near = [max(_overlap(b, box), _close(b, box, 0.12 * size)) for b in boxes]
            if max(near) > 0.4:
                members[int(np.argmax(near))].append(region.label)
    return [np.isin(pieces, labels) for labels in members]


def _inside(regions, shape):
    """Regions that do not run in from the edge; all, if none of some height is left."""
    inner = [
        r for r in regions if min(r.bbox) > 0 and r.bbox[2] < shape[0] and r.bbox[3] < shape[1]
    ]
    height = max(_height(r.bbox) for r in regions)
    return inner if any(_height(r.bbox) > height / 4 for r in inner) else regions


def _height(box):
    return box[2] - box[0]


def _overlap(a, b):
    """Share of the narrower one's columns that both cover, if they nearly touch in height."""
    columns = min(a[3], b[3]) - max(a[1], b[1])
    gap = max(a[0], b[0]) - min(a[2], b[2])
    return columns / min(a[3] - a[1], b[3] - b[1]) if gap < 0.3 * _height(a) else 0


def _close(group, piece, distance):
    """1 if the piece lies beside the group, at most `distance` away, within its height; else 0."""
    gap = max(group[1], piece[1]) - min(group[3], piece[3])
    return float(gap < distance and piece[0] < group[2] and piece[2] > group[0])


def _hull(a, b):
    return (min(a[0], b[0]), min(a[1], b[1]), max(a[2], b[2]), max(a[3], b[3]))


def _normalise(mask, whole):
    rows, columns = (np.flatnonzero(mask.any(axis=axis)) for axis in (1, 0))
    box = (int(rows[0]), int(columns[0]), int(rows[-1]) + 1, int(columns[-1]) + 1)
    crop = mask[box[0] : box[2], box[1] : box[3]]
    prepared = {name: step[0] for name, step in normalisation.steps(crop[None]).items()}
    steps = {**whole, "crop": crop, **prepared}
    return Digit(steps["counts"].ravel(), box, steps)
