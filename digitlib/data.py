"""Digits: from the bundled table, UCI's archive, scikit-learn's part or a CSV file: one Bunch."""

import gzip
import hashlib
import io
import os
import re
import zlib
from contextlib import suppress
from importlib.resources import files
from multiprocessing.pool import ThreadPool
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import platformdirs
from sklearn import datasets
from sklearn.utils import Bunch

from digitlib.errors import DataError
from digitlib.files import check_file

SHA256 = "a88fcce34a8912ee99fb04893ce831c603fcf73799df3c49e93ec05a736beef2"
N_TEST_WRITERS = 1797  # rows of optdigits.tes, which follow those of optdigits.tra
BUNDLED = files("digitlib") / "optdigits"
WANTED = "takes bundled, uci, sklearn or the path of a .csv or .csv.gz file"
FEATURE_NAMES = [f"pixel_{row}_{column}" for row in range(8) for column in range(8)]
SOURCES = {
    "bundled": "all 5,620 rows, from the table bundled with the package",
    "uci": "all 5,620 rows, fetched from the UCI archive and equal to the bundled table",
    "sklearn": "scikit-learn's copy: ONLY the 1,797 rows of the 13 test writers, not all of them",
}
# Of a CSV file.
FORM = "takes CSV in UTF-8, with 64 integer pixels 0..16 and a class 0..9 in each row"
OTHER_TABLES = dict.fromkeys((784, 785), ": 28x28 images are not read")
OTHER_TABLES |= dict.fromkeys((129, 130), ": write decimals with a point")
LABELS = ("class", "label", "target", "digit", "y")  # what a header may call the class
PIXEL = re.compile(r"([a-z ]*?)[ _-]?(\d+)(?:[ _x-](\d+))?")  # such as attribute1, pixel_0_0, 17
MAX_BYTES = 32_000_000  # of text, after unpacking too: some 200,000 digits
TIME_LIMIT = 60.0  # seconds for the UCI archive


def load_digits(
    source: str | os.PathLike = "bundled", return_X_y: bool = False, as_frame: bool = False
) -> Any:
    """Load handwritten digits, in the form of :func:`sklearn.datasets.load_digits`.

    Parameters
    ----------
    source : {"bundled", "uci", "sklearn"} or path, default="bundled"
        ``"bundled"``: all 5,620 rows, no network. ``"uci"``: the same rows fetched live from the
        UCI archive, compared with the bundled ones and cached. ``"sklearn"``: the 1,797 rows of the
        test writers. Anything else is the path of a ``.csv`` or ``.csv.gz`` file: see
        :func:`read_csv`.
    return_X_y : bool, default=False
        Return ``(data, target)`` instead of a Bunch.
    as_frame : bool, default=False
        Give ``data`` as a DataFrame, ``target`` as a Series, and fill ``frame``.

    Returns
    -------
    Bunch
        ``data`` (n, 64) uint8, 0..16, row-major 8x8; ``target`` (n,) int64, 0..9; ``images`` (n, 8,
        8) uint8; ``frame`` DataFrame or None; ``feature_names``, ``target_names``, ``DESCR``; and
        ``source`` (str), ``sha256`` (of the (n, 65) uint8 table in C order), ``writers`` (n,) str:
        "train" (30 writers), "test" (13 others) or "unknown" (own file).

    Raises
    ------
    DataError
        The rows could not be had, or are not digits; one line with row, column and remedy.

    Notes
    -----
    E. Alpaydin and C. Kaynak (1998). Optical Recognition of Handwritten Digits. UCI Machine
    Learning Repository. https://doi.org/10.24432/C50P49. CC BY 4.0.

    Examples
    --------
    >>> import digitlib
    >>> digits = digitlib.load_digits()
    >>> digits.data.shape, digits.target.shape
    ((5620, 64), (5620,))
    """
    readers = {"bundled": read_bundled, "uci": fetch_uci, "sklearn": read_sklearn}
    if str(source) in readers:
        table = readers[str(source)]()
        writers = np.repeat(["train", "test"], [len(table) - N_TEST_WRITERS, N_TEST_WRITERS])
    else:
        table = read_csv(check_file(source, DataError, f"source {WANTED}", MAX_BYTES))
        writers = np.full(len(table), "unknown")
    X, y = np.ascontiguousarray(table[:, :64]), table[:, 64].astype(np.int64)
    frame = pd.DataFrame(X, columns=FEATURE_NAMES).assign(target=y) if as_frame else None
    data, target = (X, y) if frame is None else (frame[FEATURE_NAMES], frame["target"])
    if return_X_y:
        return data, target
    about: dict = {"DESCR": (BUNDLED / "README.md").read_text("utf-8"), "source": str(source)}
    about |= {"sha256": hashlib.sha256(table.tobytes()).hexdigest(), "writers": writers}
    names = {"feature_names": FEATURE_NAMES, "target_names": np.arange(10)}
    images = X.reshape(-1, 8, 8)
    return Bunch(data=data, target=target, images=images, frame=frame, **names, **about)


def load_again(facts: dict) -> Any:
    """The rows that a run was made of, as a Bunch; None if they are gone or are other ones now.

    `facts`: ``data`` of the run's ``run.json``.
    """
    source = "bundled" if facts["source"] == "uci" else facts["source"]  # known to be the same rows
    with suppress(DataError):
        digits = load_digits(source)
        return digits if digits.sha256 == facts["sha256"] else None


def describe_source(source: str) -> str:
    """One line about where rows come from, fit to stand beside a result."""
    return SOURCES.get(source, f"the user's own file {Path(source).name}")


def places_on_map(digits):
    """Where the bundled rows lie on a map that puts like by like; None for other data.

    By t-SNE, once, by ``tools/make_map.py``: int16 (5620, 2), the middle at 0.
    """
    return np.load(BUNDLED / "map.npy") if digits.sha256 == SHA256 else None


# ---- the table of each source: ndarray of shape (n, 65), uint8, 64 pixels and the class ----------


def read_bundled() -> np.ndarray:
    """The bundled table: the rows of ``optdigits.tra``, then those of ``optdigits.tes``.

    Raises
    ------
    DataError
        The file in the installed package is not the published one.
    """
    try:
        table = pd.read_csv(BUNDLED / "optdigits.csv.gz", header=None, dtype=np.uint8)
        table = np.ascontiguousarray(table.to_numpy())
    except (OSError, EOFError, zlib.error, ValueError):
        table = np.empty(0, np.uint8)
    if hashlib.sha256(table.tobytes()).hexdigest() != SHA256:
        raise DataError("the bundled table is damaged; reinstall digitlib")
    return table


def read_sklearn():
    """The part that comes with scikit-learn: the rows of the test writers."""
    digits = datasets.load_digits()
    return np.column_stack([digits.data, digits.target]).astype(np.uint8)


def fetch_uci():
    """The table as the UCI archive serves it, from the cache if it was fetched before."""
    from ucimlrepo import fetch_ucirepo  # brings certifi; all other sources do without

    bundled, mark = read_bundled(), platformdirs.user_cache_path("digitlib") / "uci-80.sha256"
    if mark.is_file() and mark.read_bytes() == SHA256.encode():
        return bundled  # the archive's table was fetched here once, and was equal
    remedy = 'use source="bundled", which has the same rows and needs no network, or try again'
    try:
        # It sets no time limit: a thread, which ends with the process, can be left behind.
        asked = ThreadPool(1).apply_async(fetch_ucirepo, kwds={"id": 80})
        data = asked.get(TIME_LIMIT).data
        table = np.column_stack([data.features, data.targets])
    except Exception as error:  # each trouble has an error of its own in that library
        said = " ".join(f"{type(error).__name__} {error.__context__ or error}".split())[:200]
        raise DataError(f"the UCI archive did not deliver data set 80 ({said}); {remedy}") from None
    if not np.array_equal(table, bundled):
        raise DataError(f"the UCI archive's table is not the published one; {remedy}")
    with suppress(OSError):  # a full or locked cache: the next call asks the archive again
        mark.parent.mkdir(parents=True, exist_ok=True)
        mark.write_text(SHA256)
    return bundled


def read_csv(path):
    """Read and check a ``.csv`` or ``.csv.gz`` file of digits.

    Parameters
    ----------
    path : Path
        64 integer pixels 0..16 and a class 0..9 per row, with commas, semicolons or tabs between.
        Where a header names the columns (``Attribute1`` or ``pixel_0_0`` and the like; ``class``,
        ``label``, ``target``, ``digit`` or ``y``), they are taken by name; without one, the class
        comes last. An unnamed column that counts the rows from 0 is left out.

    Returns
    -------
    ndarray of shape (n, 65), uint8

    Raises
    ------
    DataError
        The first thing that is wrong, with its row (blank lines do not count) and column from 1.
    """
    try:
        with (gzip.open if path.suffix == ".gz" else open)(path, "rb") as file:
            text = file.read(MAX_BYTES + 1)
        if len(text) > MAX_BYTES:
            raise DataError(f"more than {MAX_BYTES // 10**6} MB of text")
        return _digits(_in_order(_cells(text.decode("utf-8-sig"))))
    except (OSError, EOFError, zlib.error, ValueError) as error:  # pandas' are ValueErrors
        said = " ".join(str(error).removeprefix("Error tokenizing data. C error: ").split())
        raise DataError(f"{path}: {said}; {FORM}") from None


def _cells(text):
    """The table as text, a header among its rows; rows and columns are numbered from 0."""
    first = re.match(r"[^\r\n]*", text.strip())[0]
    comma = next((mark for mark in ";\t" if mark in first), ",")
    if (columns := first.count(comma) + 1) not in (65, 66):
        raise DataError(f"row 1 has {columns} column(s), not 65{OTHER_TABLES.get(columns, '')}")
    form = {"header": None, "sep": comma, "dtype": str, "keep_default_na": False}
    return pd.read_csv(io.StringIO(text), skipinitialspace=True, **form)


def _in_order(cells):
    """The rows below the header; columns of the pixels in order, then that of the class."""
    names = cells.iloc[0].str.strip().str.lower().tolist()
    counted = names[-65:] in ([*map(str, range(65))], [*map(str, range(1, 66))])
    named = any(re.match("[a-z]", name) and name != "nan" for name in names)
    rows = cells.iloc[1:] if counted or named else cells
    numbered = rows[0].tolist() == [*map(str, range(len(rows)))]
    if len(names) == 66 and numbered and (names[0] in ("", "unnamed: 0") or not named):
        rows, names = rows.drop(columns=0), names[1:]
    if len(names) != 65:
        raise DataError(f"row 1 has {len(names)} columns, not 65")
    return rows[[rows.columns[place] for place in _places(names)]] if named else rows


def _places(names):
    """Where the pixels stand, in order, and then the class, by what the header calls them."""
    label = [place for place, name in enumerate(names) if name in LABELS]
    pixels = [place for place in range(65) if place not in label]
    found = [PIXEL.fullmatch(names[place]) for place in pixels]
    if len(label) == 1 and all(found) and len({match[1] for match in found}) == 1:
        pairs = np.array([[int(match[2]), int(match[3] or 0)] for match in found])
        order = (pairs - pairs.min(axis=0)) @ [8 if pairs[:, 1].any() else 1, 1]
        if sorted(order) == list(range(64)):
            return [*np.array(pixels)[order.argsort()], *label]
    raise DataError("the header names no 64 pixels and a class, as Attribute1..64, class would")


def _digits(rows):
    """The table in numbers, after a look at every cell."""
    numbers = rows.apply(pd.to_numeric, errors="coerce").to_numpy(float)
    good = (numbers >= 0) & (numbers <= [16] * 64 + [9]) & (numbers == np.floor(numbers))
    cause = ""
    if len(numbers) and set(numbers[:, 0]) == set(range(10)):
        cause = "; the class seems to come first: put it last, or name the columns"
    elif (numbers > 64).any() and not (numbers > 255).any():
        cause = "; these look like grey values 0..255: count ink in 0..16"
    if not good.all():
        row, place = np.argwhere(~good)[0]
        cell, kind = str(rows.iat[row, place]), "pixel" if place < 64 else "class"
        comma = "; write decimals with a point" if re.fullmatch(r"\d+,\d+", cell) else cause
        where = f"row {rows.index[row] + 1}, column {rows.columns[place] + 1}"
        raise DataError(f"{where}: {cell[:20]!r} is no {kind}{comma}")
    if missing := sorted(set(range(10)) - set(numbers[:, 64])):
        raise DataError(f"no row of class {missing[0]}, and each class needs rows{cause}")
    return numbers.astype(np.uint8)
