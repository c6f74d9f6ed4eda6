"""Is the user's CSV file a table of digits? If not, say where it fails and what would be right."""

import csv
import gzip
import io
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
