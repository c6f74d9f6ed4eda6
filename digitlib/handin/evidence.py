"""A hand-in's files, unpacked with suspicion: plain files under small limits, into our folder."""

import hashlib
import io
import re
import stat
import zipfile
from pathlib import Path

MANIFEST = "MANIFEST.json"
TITLE_PAGE = ("authors", "course", "title")
NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}")  # flat: no folder, so no way out of one
MAX_ARCHIVE = 200_000_000
MAX_FILES = 500
MAX_TOTAL = 400_000_000
# Largest size of a file, by its ending; HTML is not read, but it may not fill the disk either.
LIMITS = {
    ".csv": 4_000_000,
    ".json": 4_000_000,
    ".ipynb": 16_000_000,
    ".html": 16_000_000,
    ".safetensors": 64_000_000,
    ".skops": 64_000_000,
    ".pdf": 64_000_000,
}
LIMIT = 1_000_000  # of any other kind
PIECE = 1 << 20


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
    dict of str to dict
        By plain file name: ``sha256`` and ``bytes``.

    Raises
    ------
    Unsafe
        No zip file, more or larger files than a hand-in has, a name that is a path, a link, a name
        twice, encryption, damage.
    """
    try:
        where = Path(archive)
        if where.is_dir():
            where = where / inside
        elif inside:
            outer = zipfile.ZipFile(where)
            where = zipfile.Path(outer, inside if inside in outer.namelist() else f"{inside}/")
        entries = _in_folder(where) if where.is_dir() else _in_zip(where)
        found, total = {}, 0
        for name, opened in entries:
            if name.lower() in (known.lower() for known in found):
                raise Unsafe(f"{name} is in it twice")
            found[name] = _copy(name, opened, folder / name, MAX_TOTAL - total)
            total += found[name]["bytes"]
            if len(found) > MAX_FILES:
                raise Unsafe(f"more than {MAX_FILES} files")
    except Unsafe:
        raise
    except Exception as error:  # a damaged archive may provoke anything, zlib.error, MemoryError
        raise Unsafe(f"not a readable zip file ({error or type(error).__name__})") from error
    return found


def _in_folder(folder):
    """Name and opener of each file of a folder, on disk or in an archive."""
    for path in sorted(folder.iterdir(), key=lambda path: path.name):
        if path.name.startswith("."):
            continue
        # A pipe or a device would be waited for; a link leads elsewhere.
        if not path.is_file() or (isinstance(path, Path) and path.is_symlink()):
            raise Unsafe(f"{path.name[:80]!r} is no plain file; a hand-in is flat")
        yield _plain(path.name), lambda path=path: path.open("rb")


def _in_zip(where):
    """Name and opener of each file of a zip file, which may lie in another one."""
    if isinstance(where, Path):
        size, source = where.stat().st_size, where
    else:
        with where.open("rb") as file:
            content = file.read(MAX_ARCHIVE + 1)
        size, source = len(content), io.BytesIO(content)
    if size > MAX_ARCHIVE:
        raise Unsafe(f"the file has more than {MAX_ARCHIVE:,} bytes")
    with zipfile.ZipFile(source) as archive:
        for entry in archive.infolist():
            kind = stat.S_IFMT(entry.external_attr >> 16)
            if kind not in (0, stat.S_IFREG):
                what = "symbolic link" if kind == stat.S_IFLNK else "special file or folder"
                raise Unsafe(f"{entry.filename[:80]} is a {what}")
            if entry.flag_bits & 1:
                raise Unsafe(f"{entry.filename[:80]} is encrypted")
            yield _plain(entry.filename), lambda entry=entry: archive.open(entry)


def _plain(name):
    if not NAME.fullmatch(name):
        raise Unsafe(f"{name[:80]!r} is no plain file name; it could be written outside the folder")
    return name


def _copy(name, opened, target, left):
    """Copy piece by piece, however long the archive says the file is."""
    limit, size = LIMITS.get(Path(name).suffix.lower(), LIMIT), 0
    digest = hashlib.sha256()
    with opened() as source, open(target, "xb") as copy:
        while piece := source.read(PIECE):
            size += len(piece)
            if size > min(limit, left):
                raise Unsafe(f"{name} would unpack to more than {min(limit, left):,} bytes")
            digest.update(piece)
            copy.write(piece)
    return {"sha256": digest.hexdigest(), "bytes": size}
