"""What is in a zip file that a stranger sent? Read into memory, or refused; nothing is ever written
where the archive says.
"""

import re
import stat
import zipfile

NAME = re.compile(
    r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}"
)  # a hand-in is flat: no folder, so no way out of one
MAX_ARCHIVE = 200_000_000
MAX_FILES = 500
MAX_FILE = 64_000_000
MAX_TOTAL = 400_000_000


class Unsafe(Exception):
    """The archive is not one that may be unpacked; the message says what is wrong with it."""


def read(path):
    """Content of every file of the zip archive `path`.

    Parameters
    ----------
    path : Path

    Returns
    -------
    dict of str to bytes
        Names are plain file names.

    Raises
    ------
    Unsafe
        No zip file, more or larger files than a hand-in has, a name that is a path, a link, a name
        twice, encryption, damage.
    """
    if (size := path.stat().st_size) > MAX_ARCHIVE:
        raise Unsafe(f"the file has {size:,} bytes, more than {MAX_ARCHIVE:,}")
    try:
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
            _check(entries)
            return {entry.filename: _content(archive, entry) for entry in entries}
    except (
        zipfile.BadZipFile,
        OSError,
        EOFError,
        ValueError,
        RuntimeError,
        NotImplementedError,
    ) as error:
        raise Unsafe(f"not a readable zip file ({error})") from error
    except (
        Exception
    ) as error:  # zlib.error, struct.error, MemoryError: whatever a damaged archive provokes
        if isinstance(error, Unsafe):
            raise
        raise Unsafe(f"not a readable zip file ({type(error).__name__})") from error


def _check(entries):
    """Look at names and sizes before a single byte is unpacked."""
    if len(entries) > MAX_FILES:
        raise Unsafe(f"{len(entries):,} files, more than {MAX_FILES}")
    seen = set()
    for entry in entries:
        name, mode = entry.filename, entry.external_attr >> 16
        if not NAME.fullmatch(name):
            raise Unsafe(
                f"{name[:80]!r} is no plain file name; it could be written outside the folder"
            )
        if stat.S_IFMT(mode) not in (0, stat.S_IFREG):
            raise Unsafe(f"{name} is a {'symbolic link' if stat.S_ISLNK(mode) else 'special file'}")
        if name.lower() in seen:
            raise Unsafe(f"{name} is in it twice")
        if entry.flag_bits & 1:
            raise Unsafe(f"{name} is encrypted")
        if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise Unsafe(f"{name} is packed by an unusual method")
        if entry.file_size > MAX_FILE:
            raise Unsafe(
                f"{name} would unpack to {entry.file_size:,} bytes, more than {MAX_FILE:,}"
            )
        seen.add(name.lower())
    if (total := sum(entry.file_size for entry in entries)) > MAX_TOTAL:
        raise Unsafe(f"it would unpack to {total:,} bytes, more than {MAX_TOTAL:,}")


def _content(archive, entry):
    with archive.open(entry) as file:
        content = file.read(
            entry.file_size + 1
        )  # never more than was declared and found small enough
    if len(content) != entry.file_size:
        raise Unsafe(f"{entry.filename} is not as long as the archive says")
    return content
