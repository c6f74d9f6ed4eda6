"""What does a submission say, read with suspicion? Files in memory to arrays and text; nothing is
executed, nothing unpickled.
"""

import io
import json
import re
from functools import cached_property

import numpy as np

from digitlib.data import load_digits

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
        From :func:`digitlib.reporting.unpack.read`.
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
