"""Digits that are not bundled: a CSV file of the user's, a live fetch from the UCI archive.

``ucimlrepo`` sets no time limit, so it runs in a child process (``python -m digitlib.sources``
prints the table) that can be stopped for good however slowly the server drips.
"""

import csv
import gzip
import io
import itertools
import json
import logging
import os
import subprocess
import sys
import tempfile
import zlib
from functools import lru_cache
from http.client import HTTPException
from pathlib import Path

import numpy as np
import platformdirs
from joblib import Memory

from digitlib.errors import DataError

FORM = "each row needs 64 integer pixels 0..16 and a class 0..9, separated by commas"
MISSING = ("", "nan", "na", "null", "none")  # in small letters
UPPER = [16] * 64 + [9]  # the largest value of each column
PLAIN = {str(value): value for value in range(17)}  # as cells are written as a rule
MAX_ROWS, MAX_BYTES = 200_000, 64_000_000  # more is a mistake or a compression bomb
MAX_LINE = 10_000  # characters; 65 columns need a few hundred
DATASET_ID = 80
TIME_LIMIT = 60.0  # seconds for the whole fetch; DIGITLIB_UCI_TIMEOUT overrides it
REMEDY = 'try again later, or use source="bundled", which has the same rows and needs no network'


# ---- the user's file -----------------------------------------------------------------------------


def read_table(path):
    """Read and check a ``.csv`` or ``.csv.gz`` file of digits, line by line.

    Parameters
    ----------
    path : Path
        64 integer pixels 0..16, then a class 0..9 per line; a header line is allowed. Between them
        commas, semicolons or tabs. At most `MAX_ROWS` rows and `MAX_BYTES` bytes of text.

    Returns
    -------
    ndarray of shape (n, 65), uint8

    Raises
    ------
    DataError
        The first thing that is wrong, with its row (line of the file) and column counted from 1.
    """
    table, first = bytearray(), True
    try:
        with (gzip.open if path.suffix == ".gz" else open)(path, "rb") as file:
            for line, row in _rows(file):
                if not (first and _is_header(row)):
                    table += _pixels(line, row)
                first = False
    except DataError as error:
        raise DataError(f"{path}: {error}") from None
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(
            f"{path}: cannot be read ({error}); check the file and its permissions"
        ) from error
    except csv.Error as error:
        raise DataError(f"{path}: not a CSV file ({error}); {FORM}") from error
    if not table:
        raise DataError(f"{path}: no rows of data; {FORM}")
    table = np.frombuffer(table, np.uint8).reshape(-1, 65)
    missing = sorted(set(range(10)) - set(table[:, 64]))
    if missing:
        raise DataError(
            f"{path}: column 65: no row of class {missing[0]}; every class 0..9 needs rows"
        )
    return table


def _rows(file):
    """Line of the file, from 1, in which a row ends, and the text of its cells."""
    lines = _lines(file)
    start = next(lines, "")
    comma = max(",;\t", key=start.count)
    rows = csv.reader(itertools.chain([start], lines), delimiter=comma)
    for number, row in enumerate(rows):
        if number > MAX_ROWS:
            raise DataError(f"more than {MAX_ROWS:,} rows; give a smaller table")
        cells = [cell.strip() for cell in row]
        if any(cells) or len(cells) > 1:  # an empty line is no row, but counts, as in an editor
            yield rows.line_num, cells


def _lines(file):
    """Lines of text; DataError as soon as one or all are too long, or are no text."""
    read = number = 0
    while line := file.readline(MAX_LINE + 1):
        read, number = read + len(line), number + 1
        if len(line) > MAX_LINE:
            raise DataError(f"row {number} has more than {MAX_LINE:,} characters; {FORM}")
        if read > MAX_BYTES:
            raise DataError(f"more than {MAX_BYTES // 10**6} MB of text; give a smaller table")
        try:
            yield line.decode("utf-8-sig" if number == 1 else "utf-8")
        except UnicodeDecodeError as error:
            where = f"byte {read - len(line) + error.start}"
            raise DataError(f"not a text file ({where}); save it as CSV in UTF-8") from error


def _pixels(line, row):
    """The 65 numbers of a row as bytes."""
    if len(row) != 65:
        raise DataError(f"row {line} has {len(row)} columns instead of 65; {FORM}")
    if PLAIN.keys() >= set(row) and PLAIN[row[64]] <= UPPER[64]:  # five times as quick
        return bytes(map(PLAIN.__getitem__, row))
    values = [_number(cell) for cell in row]
    for column, (cell, value) in enumerate(zip(row, values, strict=True)):
        if not (0 <= value <= UPPER[column] and value == int(value)):  # NaN is not
            problem = _problem(cell, value, column)
            raise DataError(f"row {line}, column {column + 1}: {problem}")
    return bytes(map(int, values))


@lru_cache(1000)
def _number(cell):
    """The number that a cell holds, NaN if it is none; Python's "1_0" is none."""
    try:
        return float("nan") if "_" in cell else float(cell)
    except ValueError:
        return float("nan")


def _is_header(row):
    """Names and no number, or the pixels are numbered as pandas names columns."""
    counted = [[str(i) for i in range(start, start + 64)] for start in (0, 1)]
    names = [cell for cell in row if cell.lower() not in MISSING]
    words = bool(names) and all(np.isnan(_number(cell)) for cell in names)
    return len(row) == 65 and (row[:64] in counted or words)


def _problem(cell, value, column):
    """What is wrong with a cell, given its text and its value, and what it may hold."""
    kind, kinds = ("pixel", "pixels") if column < 64 else ("class", "classes")
    if cell.lower() in MISSING:
        problem = f"the {kind} is missing ({cell or 'empty cell'})"
    elif np.isnan(value):
        problem = f"{cell[:20]!r} is not a number"
    elif value != np.floor(value):
        problem = f"{cell[:20]} is a fraction"
    else:
        problem = f"{cell[:20]} is out of range"
    return f"{problem}; {kinds} are integers 0..{UPPER[column]}"


# ---- what need not be had twice ------------------------------------------------------------------


def cache_folder():
    """The cache folder: what ``DIGITLIB_CACHE`` says, else the platform's for this user."""
    return Path(os.environ.get("DIGITLIB_CACHE") or platformdirs.user_cache_path("digitlib"))


def _remember(function):
    """`function` with a memory: what it gave for the same arguments comes from the cache folder.

    A damaged entry is computed anew; a folder that cannot be written costs only the cache.
    """
    folder = cache_folder()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder) as probe:
            probe.write(bytes(2**20))  # on a full disk, too, a folder and a file can be made
    except OSError as error:
        print(f"digitlib: results cannot be cached in {folder} ({error})", file=sys.stderr)
        return function
    # joblib would log a traceback for a damaged entry, which the checksum of compression tells.
    logging.getLogger("joblib").setLevel(logging.ERROR)
    return Memory(folder, verbose=0, compress=True).cache(function)


# ---- the UCI archive -----------------------------------------------------------------------------


def fetch(expected):
    """The table as the UCI archive serves it today, from the cache if it was fetched before.

    Parameters
    ----------
    expected : ndarray of shape (n, 65), uint8
        The bundled table, with which the fetched rows are compared.

    Returns
    -------
    ndarray of shape (n, 65), uint8
        Equal to `expected`, row by row.

    Raises
    ------
    DataError
        The server is down or too slow, its answer is no table, or a row differs.

    Notes
    -----
    Environment: ``DIGITLIB_UCI_TIMEOUT`` (seconds), ``DIGITLIB_UCI_URL`` (a mirror's address in
    place of the archive's ``/api/dataset``; empty: `expected` is returned, no request is made),
    ``DIGITLIB_CACHE`` (folder in place of the user's cache folder).
    """
    if os.environ.get("DIGITLIB_UCI_URL") == "":
        return expected
    table = _remember(_fetch_equal)(expected)
    # What lies in the cache may be damaged without looking so.
    return table if np.array_equal(table, expected) else _fetch_equal(expected)


def _fetch_equal(expected):
    table = _fetch_in_child()
    if table.shape != expected.shape:
        raise DataError(
            f"the UCI archive sent {table.shape[0]} rows of {table.shape[1]} columns instead of "
            f"{expected.shape[0]} of {expected.shape[1]} (cut off or changed); {REMEDY}"
        )
    different = np.flatnonzero((table != expected).any(axis=1))
    if len(different):
        raise DataError(
            f"the UCI archive's table differs from the published one in {len(different)} rows,"
            f" first in row {different[0] + 1}; {REMEDY}"
        )
    return table.astype(np.uint8)


def _fetch_in_child():
    """Rows of the archive as floats, shape (m, 65)."""
    text = os.environ.get("DIGITLIB_UCI_TIMEOUT", str(TIME_LIMIT))
    limit = _number(text)
    if not 0 < limit < 86400:
        raise DataError(
            f"DIGITLIB_UCI_TIMEOUT={text!r}: takes seconds, more than 0 and less than 86400"
        )
    failed = f"the UCI archive did not deliver data set {DATASET_ID}"
    command = [sys.executable, "-m", "digitlib.sources"]
    try:
        child = subprocess.run(command, timeout=limit, capture_output=True, text=True)
    except subprocess.TimeoutExpired:
        raise DataError(f"{failed} within {limit:g} s; {REMEDY}") from None
    if child.returncode != 0 or not child.stdout:
        said = child.stderr.strip().splitlines() or ["no answer"]
        raise DataError(f"{failed} ({said[-1]}); {REMEDY}")
    try:
        return np.loadtxt(io.StringIO(child.stdout), delimiter=",", ndmin=2)
    except ValueError as error:
        raise DataError(
            f"what the UCI archive sent is not a table of numbers ({error}); {REMEDY}"
        ) from error


def _child():
    """Print the table, fetched in this process; what goes wrong is one line for the parent."""
    ucimlrepo.fetch.API_BASE_URL = os.environ.get("DIGITLIB_UCI_URL", ucimlrepo.fetch.API_BASE_URL)
    try:
        data = ucimlrepo.fetch.fetch_ucirepo(id=DATASET_ID).data
        table = data.features.assign(target=data.targets.iloc[:, 0])
        return print(table.to_csv(index=False, header=False), end="")
    except json.JSONDecodeError:
        said = "it answered with something other than JSON, perhaps an error page"
    except (ParserError, KeyError, AttributeError, TypeError) as error:
        said = f"its answer has an unexpected form, {type(error).__name__}: {error}"
    except (OSError, HTTPException, ValueError, ucimlrepo.fetch.DatasetNotFoundError) as error:
        # ucimlrepo answers every trouble with "Error connecting to server"; what urllib had said is
        # the error before.
        said = str(error.__context__ or error)
    said = " ".join(said.split())  # KeyErrors of pandas list every column
    return sys.exit(said if len(said) <= 200 else f"{said[:200]}...")


if __name__ == "__main__":
    import ucimlrepo.fetch  # only the child needs these
    from pandas.errors import ParserError

    _child()
