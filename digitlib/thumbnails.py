"""One image of a digit as a small PNG in text, for pages that show many."""

import base64
import io

from PIL import Image


def png(image):
    """Base64 text of a grey PNG of `image` (rows, columns), 0..16, ink dark; a page enlarges it.

    Not compressed: that saves nothing here, and the bytes are the same whatever zlib is installed.
    """
    buffer = io.BytesIO()
    grey = 255 - image.clip(0, 16).astype(float) * 255 // 16
    Image.fromarray(grey.astype("uint8")).save(buffer, "png", compress_level=0)
    return base64.b64encode(buffer.getvalue()).decode()
