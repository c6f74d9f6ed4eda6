"""How does a picture get in? Files, bytes and arrays of many kinds become one grey array, or one
line that says why not.
"""

import io
import warnings
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from digitlib.errors import ImageError

FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "TIFF", "GIF")
MOST_MEGAPIXELS = 64  # a phone's largest photos have 50; more is refused before a pixel is unpacked
MOST_BYTES = 100_000_000
WORKING_SIDES = (
    160,
    1400,
)  # a picture is brought between these, by its longer side: smooth edges, bounded work


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
        with warnings.catch_warnings():
            warnings.simplefilter(
                "ignore"
            )  # Pillow's warning about large pictures; ours is the limit below
            with Image.open(stream, formats=FORMATS) as picture:
                return _pillow_to_grey(picture, name)
    except (UnidentifiedImageError, Image.DecompressionBombError) as error:
        if isinstance(error, Image.DecompressionBombError):
            raise ImageError(
                f"{name}: far more than {MOST_MEGAPIXELS} megapixels; crop it or save it smaller"
            ) from None
        raise ImageError(f"{name}: not a picture; takes {', '.join(FORMATS)}") from None
    except (OSError, ValueError, SyntaxError, EOFError) as error:
        if isinstance(error, ImageError):
            raise
        raise ImageError(
            f"{name}: damaged picture"
            f" ({str(error).splitlines()[0] if str(error) else type(error).__name__}); save it"
            " again"
        ) from None


def _pillow_to_grey(picture, name="picture"):
    if getattr(picture, "n_frames", 1) > 1:
        raise ImageError(
            f"{name}: {picture.format} of {picture.n_frames} frames; takes one: save the frame you"
            " mean as PNG"
        )
    pixels = picture.width * picture.height
    if pixels > MOST_MEGAPIXELS * 1e6:
        raise ImageError(
            f"{name}: {pixels / 1e6:.0f} megapixels; takes at most {MOST_MEGAPIXELS}; crop it or"
            " save it smaller"
        )
    picture.draft(
        None, (2 * WORKING_SIDES[1],) * 2
    )  # JPEG only: unpack at a half, quarter or eighth of the size
    picture = ImageOps.exif_transpose(picture)
    if picture.mode.startswith(("I", "F")):
        array = np.asarray(picture)
        return _array_to_grey(
            array if picture.mode == "F" else array.clip(0, 65535).astype(np.uint16)
        )
    return _array_to_grey(
        np.asarray(picture.convert("RGBA" if picture.has_transparency_data else "L"))
    )


def _array_to_grey(array):
    kind = array.dtype.kind
    if (
        array.ndim not in (2, 3)
        or (array.ndim == 3 and array.shape[2] not in (1, 3, 4))
        or 0 in array.shape
        or kind not in "bufi"
    ):
        raise ImageError(
            f"array of shape {array.shape}, {array.dtype}: not a picture; takes (rows, columns) or"
            " (rows, columns, 3 or 4) of numbers"
        )
    if array.shape[0] * array.shape[1] > MOST_MEGAPIXELS * 1e6:
        raise ImageError(
            f"array of shape {array.shape}: takes at most {MOST_MEGAPIXELS} megapixels; crop it"
        )
    if min(array.shape[:2]) < 8:
        raise ImageError(
            f"picture of {array.shape[1]} by {array.shape[0]} pixels: too small; takes at least 8"
            " by 8"
        )
    values = array.astype(np.float32)
    if kind == "f" or (kind == "i" and array.min() < 0):
        if not np.isfinite(values).all() or values.min() < 0:
            raise ImageError(
                "array holds values that are negative or not finite; takes 0..1, or 0..255"
            )
        values /= 1.0 if values.max() <= 1 else 255.0
    else:
        values /= {"b": 1, "u": np.iinfo(array.dtype).max if kind == "u" else 1}.get(kind) or 255
    if array.ndim == 2:
        return values
    colour = (
        values[..., :3] @ np.float32([0.299, 0.587, 0.114])
        if array.shape[2] >= 3
        else values[..., 0]
    )  # ITU-R BT.601 luma
    if array.shape[2] < 4:
        return colour
    opacity = values[..., 3]
    behind = 0.0 if opacity.min() < 0.5 and (colour * opacity).sum() > 0.5 * opacity.sum() else 1.0
    return colour * opacity + behind * (1 - opacity)
