"""What a hand-in says, read with suspicion: archive, notebooks, files become arrays; nothing runs."""

import io
import itertools
import json
import re
import stat
import zipfile
from functools import cached_property

import numpy as np

from digitlib.data import load_digits

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


def faults(content, name):
    """What is wrong with an executed notebook.

    Parameters
    ----------
    content : bytes
        The ``.ipynb`` file; it is read, never run.
    name : str
        What to call it.

    Returns
    -------
    list of str
        One line per fault; empty if every code cell ran, in order, without an error.
    """
    try:
        cells = json.loads(content)["cells"]
        code = [
            cell
            for cell in cells
            if cell["cell_type"] == "code" and "".join(cell["source"]).strip()
        ]
        counts = [cell["execution_count"] for cell in code]
        errors = [
            (cell, output)
            for cell in code
            for output in cell["outputs"]
            if output["output_type"] == "error"
        ]
        # papermill adds a cell of injected parameters and numbers it like any other.
        said = [
            f"{name}: cell [{cell['execution_count']}] ended in {output['ename']}; mend it and run"
            " again"
            for cell, output in errors
        ]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        return [f"{name}: not a readable notebook ({type(error).__name__})"]
    if not code:
        return [f"{name}: no code was run"]
    if not all(isinstance(count, int) for count in counts):
        return [
            *said,
            (
                f"{name}: {sum(not isinstance(count, int) for count in counts)} of {len(code)}"
                " cells were never run; run all of it"
            ),
        ]
    if counts != sorted(set(counts)):
        at = next(count for count, following in itertools.pairwise(counts) if following <= count)
        return [
            *said,
            f"{name}: cells did not run in order (after [{at}]); restart the kernel and run all",
        ]
    return said


SOURCES = {
    "bundled": "bundled",
    "uci": "bundled",
    "sklearn": "sklearn",
}  # uci has the rows of bundled; a file of the student's is not here
MAX_HEADER = 1_000_000
MAX_SPLITS = 200


class DoesNotHold(Exception):
    """The recomputed value is another one; the message gives both."""


class CannotBeChecked(Exception):
    """What would be needed to check the claim is not there."""


class Unreadable(Exception):
    """A part is missing or damaged: its own claim does not hold, others that need it cannot be
    checked.
    """

    def __init__(self, part, why):
        super().__init__(f"{part} {why}")
        self.part = part


class Evidence:
    """A submission's files, read piece by piece when a claim asks for them.

    Parameters
    ----------
    files : dict of str to bytes
        From :func:`digitlib.handin.evidence.read`.
    """

    def __init__(self, files):
        self.files = files

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
        """The rows that the run claims to have used, from this package and never from the
        submission: X, y, SHA-256.
        """
        source = self.stated("data", "source", kind=str)
        if source not in SOURCES:
            raise Unreadable("data", "is a file of the student's own, which is not here")
        bunch = load_digits(SOURCES[source])
        return bunch.data, bunch.target, bunch.sha256

    @cached_property
    def splits(self):
        """Training rows and held-out rows of each claimed fold."""
        from sklearn.model_selection import KFold

        count, seed = (
            self.stated("parameters", "splits", kind=int),
            self.stated("parameters", "split_seed", kind=int),
        )
        if not 2 <= count <= MAX_SPLITS or not 0 <= seed < 2**32:
            raise Unreadable("run.json", f"says {count} folds and split seed {seed}, out of range")
        return list(KFold(count, shuffle=True, random_state=seed).split(self.digits[0]))

    @cached_property
    def table(self):
        """``predictions.csv`` as a dictionary of columns: ``row``, ``fold``, ``label``,
        ``predicted`` int64 and ``p`` (n, 10) float64.
        """
        text, part = self.content("predictions.csv"), "predictions.csv"
        header, _, body = text.partition(b"\n")
        names = ["row", "fold", "label", "predicted", *(f"p{digit}" for digit in range(10))]
        if header.decode("ascii", "replace").strip().split(",") != names:
            raise Unreadable(part, f"has other columns than {','.join(names[:5])} ... p9")
        if body.count(b"\n") > len(self.digits[1]) + 1:
            raise Unreadable(part, f"has more rows than the data, {len(self.digits[1]):,}")
        try:
            values = np.loadtxt(io.BytesIO(body), delimiter=",", ndmin=2, comments=None)
        except (ValueError, OverflowError) as error:
            raise Unreadable(part, "holds something that is not a number") from error
        if values.shape != (len(self.digits[1]), 14) or not np.isfinite(values).all():
            raise Unreadable(part, f"is not {len(self.digits[1]):,} rows of 14 finite numbers")
        if (values[:, :4] != values[:, :4].round()).any() or np.abs(values[:, :4]).max() > 1e6:
            raise Unreadable(part, "holds a row, fold or digit that is not a small integer")
        columns = {name: values[:, n].astype(np.int64) for n, name in enumerate(names[:4])}
        return {**columns, "p": values[:, 4:]}

    @cached_property
    def hits(self):
        """Which rows are predicted correctly, against the bundled labels; shape (n,), bool."""
        return self.table["predicted"] == self.digits[1]

    def weights_header(self, number):
        """Metadata of a fold's safetensors file, each value decoded; the layout is checked without
        loading anything.
        """
        name = f"fold-{number}.safetensors"
        content = self.content(name)
        length = int.from_bytes(content[:8], "little")
        if not 2 <= length <= min(MAX_HEADER, len(content) - 8) or content[8:9] != b"{":
            raise Unreadable(
                name, "is not a safetensors file (a pickle or an archive is never opened)"
            )
        try:
            header = json.loads(content[8 : 8 + length])
            metadata = {key: json.loads(value) for key, value in header["__metadata__"].items()}
            shapes = [header[f"scaler.{what}"]["shape"] for what in ("mean", "scale")]
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise Unreadable(
                name, f"has a header that digitlib did not write ({type(error).__name__})"
            ) from error
        if shapes != [[64], [64]] or metadata.get("classes") != list(range(10)):
            raise Unreadable(name, "is not for 64 pixels and 10 classes")
        return metadata

    @cached_property
    def pages(self):
        """Every HTML page, parsed: name -> BeautifulSoup."""
        from bs4 import BeautifulSoup

        return {
            name: BeautifulSoup(self.files[name], "html.parser")
            for name in sorted(self.files)
            if name.endswith(".html")
        }

    def page(self, name):
        """One parsed page."""
        self.content(name)
        return self.pages[name]

    def visible(self, name):
        """Text of a page as a person reads it, runs of white space made one space."""
        hidden = ("script", "style", "template", "title")
        return re.sub(
            r"\s+",
            " ",
            " ".join(
                text
                for text in self.page(name).find_all(string=True)
                if text.parent.name not in hidden
            ),
        )
