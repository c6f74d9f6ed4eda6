"""A hand-in's files, unpacked with suspicion: plain files under small limits, into our folder."""

import io
import os
import re
import stat
import zipfile
from contextlib import suppress
from functools import partial
from pathlib import Path

MANIFEST = "MANIFEST.json"
TITLE_PAGE = ("authors", "course", "title")
# Hidden files, and what a verdict leaves in the folder that it was made in.
UNSEEN = re.compile(r"$|\.|verdict\.(json|html)$|report(/|$)")
NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}")  # flat: no folder, so no way out of one
MAX_ARCHIVE = 200_000_000
MAX_FILES = 500
MAX_TOTAL = 400_000_000
# Largest size of a file, by its ending; HTML is not read, but it may not fill the disk either.
LIMITS = dict.fromkeys((".csv", ".json"), 4_000_000)
LIMITS |= dict.fromkeys((".ipynb", ".html"), 16_000_000)
LIMITS |= dict.fromkeys((".safetensors", ".skops", ".pdf"), 64_000_000)
LIMIT = 1_000_000  # of any other kind


class Unsafe(Exception):
    """The archive is not one that may be unpacked; the message says what is wrong with it."""


def unpack(archive, inside, folder):
    """Copy every file of a hand-in into `folder`.

    Parameters
    ----------
    archive : Path
        A zip file, or a folder.
    inside : str
        Name of the hand-in's zip file or folder within it; empty: it is the hand-in itself.
    folder : Path
        Empty, of ours.

    Returns
    -------
    list of str
        Plain file names.

    Raises
    ------
    Unsafe
        No zip file, more or larger files than a hand-in has, a name that is a path, a link, a name
        twice, encryption, damage.
    """
    found, left = [], MAX_TOTAL
    try:
        for name, mode, opened in _hand_in(Path(archive), inside):
            _check(name, mode, found)
            most = min(LIMITS.get(Path(name).suffix.lower(), LIMIT), left)
            content = _read(opened, most, f"{name} would unpack to")
            (folder / name).write_bytes(content)
            found.append(name)
            left -= len(content)
    except Unsafe:
        raise
    except Exception as error:  # a damaged archive may provoke anything, zlib.error, MemoryError
        raise Unsafe(f"not a readable zip file ({error or type(error).__name__})") from error
    return found


def entries(place):
    """Name, mode and opener of all that a folder or zip file holds, as long as one iterates.

    A folder's name ends with a slash; no link is followed. Many zip files say no mode, 0.
    """
    if isinstance(place, Path) and place.is_dir():
        for base, folders, files in os.walk(place):
            for path in (Path(base, name) for name in folders + files):
                mode = 0
                with suppress(OSError):  # a path that is too long: one student's, not the class's
                    mode = path.lstat().st_mode
                name = path.relative_to(place).as_posix() + "/" * stat.S_ISDIR(mode)
                yield name, mode, partial(path.open, "rb")
    else:
        with zipfile.ZipFile(place) as archive:
            for entry in archive.infolist():
                yield (
                    entry.filename,
                    entry.external_attr >> 16,
                    partial(archive.open, entry.filename),
                )


def _hand_in(archive, inside):
    """Entries of the hand-in that `inside` names.

    Of a folder, those that are not hidden, nor written there by an earlier ``digitlib verify .``.
    """
    if archive.is_dir():
        archive, inside = archive / inside, ""
    prefix, is_folder = f"{inside}/" if inside else "", bool(inside) or archive.is_dir()
    for name, mode, opened in entries(
        archive if is_folder else _packed(partial(archive.open, "rb"))
    ):
        rest = name.removeprefix(prefix)
        if inside and name == inside:  # a zip file in a zip file
            yield from entries(_packed(opened))
        elif name.startswith(prefix) and not (is_folder and UNSEEN.match(rest)):
            yield rest, mode, opened


def _packed(opened):
    return io.BytesIO(_read(opened, MAX_ARCHIVE, "the file has"))


def _read(opened, most, words):
    """All bytes of a file, however many the archive says that it has."""
    with opened() as file:
        content = file.read(most + 1)
    if len(content) > most:
        raise Unsafe(f"{words} more than {most:,} bytes")
    return content


def _check(name, mode, found):
    """Unsafe, if this is no plain file with a plain name of its own."""
    # A pipe or a device would be waited for; a link leads elsewhere.
    if (kind := stat.S_IFMT(mode)) not in (0, stat.S_IFREG):
        what = "symbolic link" if kind == stat.S_IFLNK else "special file or folder"
        raise Unsafe(f"{name[:80]} is a {what}")
    if not NAME.fullmatch(name):
        raise Unsafe(f"{name[:80]!r} is no plain file name; it could be written outside the folder")
    if name.lower() in map(str.lower, found):
        raise Unsafe(f"{name} is in it twice")
    if len(found) == MAX_FILES:
        raise Unsafe(f"more than {MAX_FILES} files")
