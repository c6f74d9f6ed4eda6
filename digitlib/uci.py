"""Are the bundled rows the published ones? A live fetch from the UCI archive, with a time limit and
a cache.

``ucimlrepo`` sets no time limit, so it runs in a child process (``python -m digitlib.uci OUT.csv``)
that can be stopped for good however slowly the server drips.
"""

import contextlib
import os
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

import numpy as np

from digitlib import cache
from digitlib.errors import DataError

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
    cached = cache.folder() / f"uci-{DATASET_ID}.npy"
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
                [sys.executable, "-m", "digitlib.uci", str(out)],
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
