"""Digits that are not bundled: a CSV file of the user's, a live fetch from the UCI archive."""

import contextlib
import csv
import gzip
import io
import os
import subprocess
import sys
import tempfile
import zipfile
import zlib
from pathlib import Path

import numpy as np

from digitlib.errors import DataError

FORM = "each row needs 64 integer pixels 0..16 and a class 0..9, separated by commas"
MAX_BYTES = 500_000_000  # about 3 million digits; more is a mistake (or a compression bomb), not a table for this package


def read_table(path):
    """Read and check a ``.csv`` or ``.csv.gz`` file of digits.

    Parameters
    ----------
    path : str or path-like
        64 integer pixels 0..16, then a class 0..9 per line; a header line is allowed.

    Returns
    -------
    ndarray of shape (n, 65), uint8

    Raises
    ------
    DataError
        The first thing that is wrong, with its row (line of the file) and column counted from 1.
    """
    lines, rows = _rows(path)
    if rows and _is_header(rows[0]):
        lines, rows = lines[1:], rows[1:]
    if not rows:
        raise DataError(f"{path}: no rows of data; {FORM}")
    for line, row in zip(lines, rows, strict=True):
        if len(row) != 65:
            raise DataError(f"{path}: row {line} has {len(row)} columns instead of 65; {FORM}")
    try:
        values = np.array(rows, dtype=float)
    except ValueError:
        values = np.array(
            [[float(cell) if _is_number(cell) else np.inf for cell in row] for row in rows]
        )
    _check(values, rows, lines, path)
    return values.astype(np.uint8)


def _rows(path):
    path = Path(path)
    try:
        if path.is_dir():
            raise DataError(
                f"{path}: is a folder; source takes bundled, uci, sklearn or the path of a .csv or"
                " .csv.gz file"
            )
        data = _contents(path)
    except FileNotFoundError:
        raise DataError(
            f"{path}: no such file; source takes bundled, uci, sklearn or the path of a .csv or"
            " .csv.gz file"
        ) from None
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(
            f"{path}: cannot be read ({error}); check the file and its permissions"
        ) from error
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(
            f"{path}: not a text file (byte {error.start}); save it as CSV in UTF-8"
        ) from error
    try:
        reader = csv.reader(io.StringIO(text))
        # An empty line is no row, but it counts: the lines in messages are those that an editor
        # shows.
        numbered = [(reader.line_num, [cell.strip() for cell in row]) for row in reader if row]
    except csv.Error as error:
        raise DataError(f"{path}: not a CSV file ({error}); {FORM}") from error
    return [line for line, _ in numbered], [row for _, row in numbered]


def _contents(path):
    opener = gzip.open if path.suffix == ".gz" else open
    with opener(path, "rb") as file:
        data = file.read(MAX_BYTES + 1)
    if len(data) > MAX_BYTES:
        raise DataError(
            f"{path}: more than {MAX_BYTES // 1_000_000} MB of text; give a smaller table"
        )
    return data


def _is_header(row):
    """No cell is a number, or the pixels are numbered as pandas names columns: both cannot be a
    digit.
    """
    counted = [[str(i) for i in range(start, start + 64)] for start in (0, 1)]
    return len(row) == 65 and (row[:64] in counted or not any(map(_is_number, row)))


def _is_number(cell):
    try:
        float(cell)
    except ValueError:
        return False
    return True


def _check(values, rows, lines, path):
    """Raise for the first bad cell, each kind with its own words."""
    upper = np.r_[np.full(64, 16), 9]
    bad = ~(
        (values >= 0) & (values <= upper) & (values == np.floor(values))
    )  # NaN compares false, so it is bad too
    if bad.any():
        row, column = np.argwhere(bad)[0]
        cell, value = rows[row][column], values[row, column]
        kind, kinds = ("pixel", "pixels") if column < 64 else ("class", "classes")
        allowed = f"{kinds} are integers 0..{upper[column]}"
        if cell == "" or np.isnan(value):
            problem = f"the {kind} is missing ({cell or 'empty cell'})"
        elif not _is_number(cell):
            problem = f"{cell[:20]!r} is not a number"
        elif value != np.floor(value):
            problem = f"{cell[:20]} is a fraction"
        else:
            problem = f"{cell[:20]} is out of range"
        raise DataError(f"{path}: row {lines[row]}, column {column + 1}: {problem}; {allowed}")
    missing = sorted(set(range(10)) - set(values[:, 64].astype(int)))
    if missing:
        raise DataError(
            f"{path}: column 65: no row of class {missing[0]}; every class 0..9 needs rows"
        )


def cache_folder():
    """The cache folder: what ``DIGITLIB_CACHE`` says, else the platform's folder for this user."""
    from platformdirs import user_cache_path

    override = os.environ.get("DIGITLIB_CACHE")
    return Path(override) if override else user_cache_path("digitlib")


DATASET_ID = 80
TIME_LIMIT = (
    60.0  # seconds for the whole fetch; override with the environment variable DIGITLIB_UCI_TIMEOUT
)
REMEDY = 'try again later, or use source="bundled", which has the same rows and needs no network'


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
    place of the archive's ``/api/dataset``), ``DIGITLIB_CACHE`` (folder in place of the user's
    cache folder).
    """
    cached = cache_folder() / f"uci-{DATASET_ID}.npy"
    try:
        table = np.load(cached, allow_pickle=False)
        if np.array_equal(table, expected):
            return table
    except (OSError, ValueError, EOFError, zipfile.BadZipFile):
        pass  # nothing cached yet, or a damaged file: fetch anew
    table = _compare(_fetch_in_child(), expected)
    _save(table, cached)
    return table


def _save(table, path):
    """Write under a temporary name, then rename: a reader never sees half a file. A full disk costs
    only the cache.
    """
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with part.open("wb") as file:
            np.save(file, table, allow_pickle=False)
        os.replace(part, path)
    except OSError as error:
        with contextlib.suppress(OSError):
            part.unlink()
        print(
            f"digitlib: the fetched table could not be cached in {path.parent} ({error})",
            file=sys.stderr,
        )


def _time_limit():
    text = os.environ.get("DIGITLIB_UCI_TIMEOUT", str(TIME_LIMIT))
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < 86400:
        raise DataError(
            f"DIGITLIB_UCI_TIMEOUT={text!r}: takes seconds, more than 0 and less than 86400"
        )
    return seconds


def _fetch_in_child():
    """Rows of the archive as floats, shape (m, 65)."""
    limit = _time_limit()
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder, "table.csv")
        try:
            child = subprocess.run(
                [sys.executable, "-m", "digitlib.sources", str(out)],
                timeout=limit,
                capture_output=True,
                text=True,
            )
        except subprocess.TimeoutExpired:
            raise DataError(
                f"the UCI archive did not deliver data set {DATASET_ID} within {limit:g} s;"
                f" {REMEDY}"
            ) from None
        if child.returncode != 0 or not out.is_file():
            said = child.stderr.strip().splitlines()
            raise DataError(
                f"the UCI archive did not deliver data set {DATASET_ID}"
                f" ({said[-1] if said else 'no answer'}); {REMEDY}"
            )
        try:
            return np.loadtxt(out, delimiter=",", ndmin=2)
        except ValueError as error:
            raise DataError(
                f"what the UCI archive sent is not a table of numbers ({error}); {REMEDY}"
            ) from error


def _compare(table, expected):
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


def _child(out):
    import json
    from http.client import HTTPException

    import ucimlrepo.fetch
    from pandas.errors import ParserError

    ucimlrepo.fetch.API_BASE_URL = os.environ.get("DIGITLIB_UCI_URL", ucimlrepo.fetch.API_BASE_URL)
    try:
        data = ucimlrepo.fetch.fetch_ucirepo(id=DATASET_ID).data
        data.features.assign(target=data.targets.iloc[:, 0]).to_csv(out, index=False, header=False)
    except json.JSONDecodeError:
        sys.exit("it answered with something other than JSON, perhaps an error page")
    except (ParserError, KeyError, AttributeError, TypeError) as error:
        _exit(f"its answer has an unexpected form, {type(error).__name__}: {error}")
    except (OSError, HTTPException, ValueError, ucimlrepo.fetch.DatasetNotFoundError) as error:
        # ucimlrepo answers every trouble with "Error connecting to server"; what urllib had said is
        # the error before.
        _exit(f"{error.__context__ or error}")


def _exit(message):
    """End the child with one line for the parent, which shows it to the user; KeyErrors of pandas
    list every column.
    """
    message = " ".join(message.split())
    sys.exit(message if len(message) <= 200 else f"{message[:200]}...")


if __name__ == "__main__":
    _child(sys.argv[1])
