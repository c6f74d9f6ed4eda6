"""Where do the digits come from? Bundled table, UCI archive, scikit-learn's part, or the user's own
file.
"""

import hashlib
import os
import zlib
from importlib.resources import files
from pathlib import Path

import numpy as np

from digitlib.errors import DataError, ParameterError

SHA256 = "a88fcce34a8912ee99fb04893ce831c603fcf73799df3c49e93ec05a736beef2"
N_TRAIN_WRITERS = 3823  # rows of optdigits.tra; the rows of optdigits.tes follow
SOURCES = ("bundled", "uci", "sklearn")
FEATURE_NAMES = [f"pixel_{row}_{column}" for row in range(8) for column in range(8)]
TARGET_NAMES = np.arange(10)
NOTES = {
    "bundled": "all 5,620 rows, from the table bundled with the package",
    "uci": "all 5,620 rows, fetched from the UCI archive and equal to the bundled table",
    "sklearn": (
        "scikit-learn's copy: ONLY the 1,797 rows of the 13 test writers, not the whole data set"
    ),
}


def load_digits(source="bundled", return_X_y=False, as_frame=False):
    """Load handwritten digits, in the form of :func:`sklearn.datasets.load_digits`.

    Parameters
    ----------
    source : {"bundled", "uci", "sklearn"} or path, default="bundled"
        ``"bundled"``: all 5,620 rows, no network. ``"uci"``: the same rows fetched live from the
        UCI archive, compared with the bundled ones and cached. ``"sklearn"``: the 1,797 rows of the
        test writers. Anything else is the path of a ``.csv`` or ``.csv.gz`` file: 64 integer pixels
        0..16 and a class 0..9 per row, header or not.
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
    """
    if not isinstance(source, str | os.PathLike):
        raise DataError(
            f"source={source!r}: takes bundled, uci, sklearn or the path of a .csv or .csv.gz file"
        )
    table = _TABLES.get(str(source), lambda: _read_user_file(source))()
    X, y = np.ascontiguousarray(table[:, :64]), table[:, 64].astype(np.int64)
    sha256 = fingerprint(X, y)
    if str(source) in SOURCES:
        n_train = len(table) - 1797
        writers = np.repeat(["train", "test"], [n_train, 1797])
    else:
        writers = np.full(len(table), "unknown")
    return _bunch(X, y, str(source), sha256, writers, return_X_y, as_frame)


def fingerprint(X, y):
    """SHA-256 of the (n, 65) uint8 table of pixels `X` and classes `y` in C order, as hexadecimal
    text.
    """
    return hashlib.sha256(np.column_stack([X, y]).astype(np.uint8).tobytes()).hexdigest()


def describe_source(source):
    """One line about where rows come from, fit to stand beside a result.

    Parameters
    ----------
    source : str
        As given to :func:`load_digits`.

    Returns
    -------
    str
    """
    return NOTES.get(source, f"the user's own file {Path(source).name}")


def check_splits(y, n_splits):
    """Raise unless `n_splits` folds can be made of the labels `y`.

    Raises
    ------
    ParameterError
        `n_splits` is no integer from 2 up.
    DataError
        There are no rows, or a class has fewer than there are folds.
    """
    if isinstance(n_splits, bool) or not isinstance(n_splits, int | np.integer) or n_splits < 2:
        raise ParameterError(f"n_splits={n_splits!r}: takes an integer from 2 up")
    classes, counts = np.unique(y, return_counts=True)
    if not len(counts):
        raise DataError(
            f"no rows to make {n_splits} folds of; give at least {n_splits} of each class"
        )
    if counts.min() < n_splits:
        rarest = counts.argmin()
        raise DataError(
            f"class {classes[rarest]} has {counts[rarest]} row(s), fewer than the {n_splits} folds;"
            " add rows or use fewer folds"
        )


def _bunch(X, y, source, sha256, writers, return_X_y, as_frame):
    data, target, frame = X, y, None
    if as_frame:
        import pandas as pd

        data, target = pd.DataFrame(X, columns=FEATURE_NAMES), pd.Series(y, name="target")
        frame = data.assign(target=target)
    if return_X_y:
        return data, target
    from sklearn.utils import Bunch

    return Bunch(
        data=data,
        target=target,
        images=X.reshape(-1, 8, 8),
        frame=frame,
        feature_names=list(FEATURE_NAMES),
        target_names=TARGET_NAMES.copy(),
        DESCR=_describe(),
        source=source,
        sha256=sha256,
        writers=writers,
    )


def _describe():
    return (files("digitlib") / "optdigits" / "README.md").read_text(encoding="utf-8")


def read_bundled():
    """The bundled table.

    Returns
    -------
    ndarray of shape (5620, 65), uint8
        64 pixels 0..16 and the class; the rows of ``optdigits.tra``, then those of
        ``optdigits.tes``.

    Raises
    ------
    DataError
        The file in the installed package is not the published one.
    """
    try:
        # zlib with wbits=31 reads gzip; np.fromstring with a separator is the quickest reader of
        # plain integers.
        text = zlib.decompress(
            (files("digitlib") / "optdigits" / "optdigits.csv.gz").read_bytes(), wbits=31
        )
        table = np.array(
            text.replace(b"\n", b",").rstrip(b",").split(b","), dtype=np.uint8
        ).reshape(-1, 65)
    except (OSError, zlib.error, ValueError) as error:
        raise DataError(
            f"the bundled table cannot be read ({error}); reinstall digitlib"
        ) from error
    if hashlib.sha256(table.tobytes()).hexdigest() != SHA256:
        raise DataError(
            f"the bundled table is damaged: its SHA-256 is not {SHA256[:12]}...; reinstall digitlib"
        )
    return table


def _read_uci():
    from digitlib.sources import fetch

    return fetch(read_bundled())


def _read_sklearn():
    from sklearn.datasets import load_digits as sklearn_digits

    bunch = sklearn_digits()
    return np.column_stack([bunch.data, bunch.target]).astype(np.uint8)


def _read_user_file(source):
    from digitlib.sources import read_table

    return read_table(source)


_TABLES = {"bundled": read_bundled, "uci": _read_uci, "sklearn": _read_sklearn}
