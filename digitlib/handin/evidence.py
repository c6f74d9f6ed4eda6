"""What a hand-in says, read with suspicion: its archive and files become arrays, nothing is run."""

import io
import json
import re
import stat
import zipfile
from functools import cached_property

import numpy as np
from bs4 import BeautifulSoup

from digitlib import provenance
from digitlib.crossval import FOLDS
from digitlib.data import load_digits

NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}")  # flat: no folder, so no way out of one
MAX_ARCHIVE = 200_000_000
MAX_FILES = 500
MAX_FILE = 64_000_000
MAX_TOTAL = 400_000_000
MAX_HEADER = 1_000_000
MAX_SPLITS = 200
# Where a hand-in may say its rows are from, and which of ours have the same. A file of the
# student's own is not among them.
SOURCES = {"bundled": "bundled", "uci": "bundled", "sklearn": "sklearn"}
KINDS = ("recipe", "settings", "network", "estimator")
INTEGERS = ["row", "fold", "label", "predicted"]
COLUMNS = [*INTEGERS, *(f"p{digit}" for digit in range(10))]


class Unsafe(Exception):
    """The archive is not one that may be unpacked; the message says what is wrong with it."""


class DoesNotHold(Exception):
    """The recomputed value is another one; the message gives both."""


class CannotBeChecked(Exception):
    """What would be needed to check the claim is not there."""


class Unreadable(Exception):
    """A part is missing or damaged.

    Its own claim does not hold, others that need it cannot be checked.
    """

    def __init__(self, part, why):
        super().__init__(f"{part} {why}")
        self.part = part


# ---- the archive ---------------------------------------------------------------------------------


def unpack(path):
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
    if path.is_dir():
        return _unpacked(path)
    if (size := path.stat().st_size) > MAX_ARCHIVE:
        raise Unsafe(f"the file has {size:,} bytes, more than {MAX_ARCHIVE:,}")
    try:
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
            _check_entries(entries)
            return {entry.filename: _content(archive, entry) for entry in entries}
    except Unsafe:
        raise
    except Exception as error:  # a damaged archive may provoke anything, zlib.error, MemoryError
        raise Unsafe(f"not a readable zip file ({error or type(error).__name__})") from error


def _check_entries(entries):
    """Look at names and sizes before a single byte is unpacked."""
    if len(entries) > MAX_FILES:
        raise Unsafe(f"{len(entries):,} files, more than {MAX_FILES}")
    seen = set()
    for entry in entries:
        name = entry.filename
        if not NAME.fullmatch(name):
            outside = "it could be written outside the folder"
            raise Unsafe(f"{name[:80]!r} is no plain file name; {outside}")
        if name.lower() in seen:
            raise Unsafe(f"{name} is in it twice")
        if fault := _fault(entry):
            raise Unsafe(f"{name} {fault}")
        seen.add(name.lower())
    if (total := sum(entry.file_size for entry in entries)) > MAX_TOTAL:
        raise Unsafe(f"it would unpack to {total:,} bytes, more than {MAX_TOTAL:,}")


def _fault(entry):
    """Why one file of the archive may not be unpacked, or None."""
    kind = stat.S_IFMT(entry.external_attr >> 16)
    if kind not in (0, stat.S_IFREG):
        return f"is a {'symbolic link' if kind == stat.S_IFLNK else 'special file'}"
    if entry.flag_bits & 1:
        return "is encrypted"
    if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        return "is packed by an unusual method"
    if entry.file_size > MAX_FILE:
        return f"would unpack to {entry.file_size:,} bytes, more than {MAX_FILE:,}"
    return None


def _content(archive, entry):
    with archive.open(entry) as file:
        # Never more than was declared and found small enough.
        content = file.read(entry.file_size + 1)
    if len(content) != entry.file_size:
        raise Unsafe(f"{entry.filename} is not as long as the archive says")
    return content


# ---- its files -----------------------------------------------------------------------------------


def _unpacked(folder):
    """The same, of a hand-in that was unpacked already."""
    paths = [path for path in sorted(folder.iterdir()) if not path.name.startswith(".")]
    if any(path.is_symlink() or not path.is_file() for path in paths):
        raise Unsafe("a folder or a link is in it; a hand-in is flat")
    sizes = [path.stat().st_size for path in paths]
    if len(paths) > MAX_FILES or max(sizes, default=0) > MAX_FILE or sum(sizes) > MAX_TOTAL:
        raise Unsafe("more or larger files than a hand-in has")
    return {path.name: path.read_bytes() for path in paths}


class Evidence:
    """A submission's files, read piece by piece when a claim asks for them.

    Parameters
    ----------
    files : dict of str to bytes
        From :func:`unpack`.
    run_code : bool, default=False
        Whether the student's own ``model.py`` may be executed.
    """

    def __init__(self, files, run_code=False):
        self.files, self.run_code = files, run_code

    def content(self, name):
        """Bytes of the file `name`."""
        if name not in self.files:
            raise Unreadable(name, "is missing")
        return self.files[name]

    def json(self, name):
        """The JSON object in the file `name`."""
        try:
            found = json.loads(self.content(name))
        except (ValueError, RecursionError) as error:
            raise Unreadable(name, f"is not JSON ({type(error).__name__})") from error
        if not isinstance(found, dict):
            raise Unreadable(name, "is not a JSON object")
        return found

    @cached_property
    def manifest(self):
        """``MANIFEST.json``."""
        return self.json("MANIFEST.json")

    @cached_property
    def info(self):
        """``run.json``."""
        return self.json("run.json")

    def stated(self, *path, kind=(int, float)):
        """The value at `path` in ``run.json``, of the type `kind`."""
        value = self.info
        for key in path:
            value = value.get(key) if isinstance(value, dict) else None
        if not isinstance(value, kind) or isinstance(value, bool):
            raise Unreadable("run.json", f"says no {'.'.join(path)}")
        return value

    @cached_property
    def digits(self):
        """X, y and SHA-256 of the rows that the run claims to have used.

        They are this package's, never the submission's.
        """
        source = self.stated("data", "source", kind=str)
        if source not in SOURCES:
            raise Unreadable("data", "is a file of the student's own, which is not here")
        bunch = load_digits(SOURCES[source])
        return bunch.data, bunch.target, bunch.sha256

    @cached_property
    def splits(self):
        """Training rows and held-out rows of each claimed fold."""
        count = self.stated("parameters", "splits", kind=int)
        seed = self.stated("parameters", "split_seed", kind=int)
        if not 2 <= count <= MAX_SPLITS or not 0 <= seed < 2**32:
            raise Unreadable("run.json", f"says {count} folds and split seed {seed}, out of range")
        folds = self.info["parameters"].get("folds", "kfold")
        if folds not in FOLDS:
            raise CannotBeChecked(f"the folds are the student's own: {str(folds)[:60]}")
        return list(FOLDS[folds](count, shuffle=True, random_state=seed).split(*self.digits[:2]))

    @cached_property
    def model(self):
        """What ``run.json`` says of the model; runs of version 0.1 had recipes alone."""
        model = self.info.get("model", {"kind": "recipe"})
        if not isinstance(model, dict) or model.get("kind") not in KINDS:
            raise Unreadable("run.json", "says no model.kind")
        return model

    @cached_property
    def changed_code(self):
        """Names of sources that are not this package's, from ``sources.json``."""
        theirs, ours = self.json("sources.json"), provenance.sources()
        return sorted(
            name for name in ours.keys() | theirs.keys() if ours.get(name) != theirs.get(name)
        )

    @cached_property
    def table(self):
        """``predictions.csv`` as a dictionary of columns.

        ``row``, ``fold``, ``label``, ``predicted`` (n,) int64 and ``p`` (n, 10) float64.
        """
        part, rows = "predictions.csv", len(self.digits[1])
        header, _, body = self.content(part).partition(b"\n")
        if header.decode("ascii", "replace").strip().split(",") != COLUMNS:
            raise Unreadable(part, f"has other columns than {','.join(COLUMNS[:5])} ... p9")
        if body.count(b"\n") > rows + 1:
            raise Unreadable(part, f"has more rows than the data, {rows:,}")
        try:
            values = np.loadtxt(io.BytesIO(body), delimiter=",", ndmin=2, comments=None)
        except (ValueError, OverflowError) as error:
            raise Unreadable(part, "holds something that is not a number") from error
        if values.shape != (rows, len(COLUMNS)) or not np.isfinite(values).all():
            raise Unreadable(part, f"is not {rows:,} rows of {len(COLUMNS)} finite numbers")
        whole, p = np.split(values, [len(INTEGERS)], axis=1)
        if (whole != whole.round()).any() or np.abs(whole).max() > 1e6:
            raise Unreadable(part, "holds a row, fold or digit that is not a small integer")
        return {**dict(zip(INTEGERS, whole.T.astype(np.int64), strict=True)), "p": p}

    @cached_property
    def hits(self):
        """Which rows are predicted correctly, against the bundled labels; shape (n,), bool."""
        return self.table["predicted"] == self.digits[1]

    def weights_header(self, number):
        """Metadata of a fold's safetensors file, each value decoded.

        The layout is checked without loading anything.
        """
        name = f"fold-{number}.safetensors"
        content = self.content(name)
        length = int.from_bytes(content[:8], "little")
        if not 2 <= length <= min(MAX_HEADER, len(content) - 8) or content[8:9] != b"{":
            why = "is not a safetensors file (a pickle or an archive is never opened)"
            raise Unreadable(name, why)
        try:
            header = json.loads(content[8 : 8 + length])
            metadata = {key: json.loads(value) for key, value in header["__metadata__"].items()}
            shapes = [header[f"scaler.{what}"]["shape"] for what in ("mean", "scale")]
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            why = f"has a header that digitlib did not write ({type(error).__name__})"
            raise Unreadable(name, why) from error
        if shapes != [[64], [64]] or metadata.get("classes") != list(range(10)):
            raise Unreadable(name, "is not for 64 pixels and 10 classes")
        return metadata

    @cached_property
    def pages(self):
        """Every HTML page, parsed: name -> BeautifulSoup."""
        names = [name for name in sorted(self.files) if name.endswith(".html")]
        return {name: BeautifulSoup(self.files[name], "html.parser") for name in names}

    def page(self, name):
        """One parsed page."""
        self.content(name)
        return self.pages[name]

    def visible(self, name):
        """Text of a page as a person reads it, runs of white space made one space."""
        hidden = ("script", "style", "template", "title")
        texts = self.page(name).find_all(string=True)
        seen = " ".join(text for text in texts if text.parent.name not in hidden)
        return re.sub(r"\s+", " ", seen)
