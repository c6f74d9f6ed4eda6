"""Write a file whole or not at all."""

import os
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def replacing(path):
    """A path beside `path` to write to, which takes its place when the block ends well.

    A reader never sees half a file; if the block raises, `path` is as it was before.
    """
    part = Path(path).with_name(f".{Path(path).name}.part")
    try:
        yield part
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


def write_text(path, text):
    """Write `text` to `path`, whole or not at all; return `path`."""
    with replacing(path) as part:
        part.write_text(text, encoding="utf-8")
    return path
