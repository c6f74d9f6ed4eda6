"""Load digits: the bundled table, UCI's archive, scikit-learn's part, or a file of the user's.

Only NumPy is imported at the top, so that a bad parameter is answered at once.
"""

import hashlib
import os
import zlib
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np

from digitlib.errors import DataError, ParameterError
from digitlib.files import check_file

SHA256 = "a88fcce34a8912ee99fb04893ce831c603fcf73799df3c49e93ec05a736beef2"
N_TEST_WRITERS = 1797  # rows of optdigits.tes, which follow those of optdigits.tra
BUNDLED = files("digitlib") / "optdigits"
WANTED = "takes bundled, uci, sklearn or the path of a .csv or .csv.gz file"
FEATURE_NAMES = [f"pixel_{row}_{column}" for row in range(8) for column in range(8)]
NOTES = {
    "bundled": "all 5,620 rows, from the table bundled with the package",
    "uci": "all 5,620 rows, fetched from the UCI archive and equal to the bundled table",
    "sklearn": (
        "scikit-learn's copy: ONLY the 1,797 rows of the 13 test writers, not the whole data set"
    ),
}
SOURCES = tuple(NOTES)


def load_digits(
    source: str | os.PathLike = "bundled", return_X_y: bool = False, as_frame: bool = False
) -> Any:
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

    Examples
    --------
    >>> import digitlib
    >>> digits = digitlib.load_digits()
    >>> digits.data.shape, digits.target.shape
    ((5620, 64), (5620,))
    """
    if not isinstance(source, str | os.PathLike):
        raise DataError(f"source={source!r}: {WANTED}")
    table = _read(source)
    X, y = np.ascontiguousarray(table[:, :64]), table[:, 64].astype(np.int64)
    data, target, frame = X, y, None
    if as_frame:
        import pandas as pd  # arrays do without

        data, target = pd.DataFrame(X, columns=FEATURE_NAMES), pd.Series(y, name="target")
        frame = data.assign(target=target)
    if return_X_y:
        return data, target
    from sklearn.utils import Bunch  # takes over half a second; return_X_y does without

    if str(source) in SOURCES:
        writers = np.repeat(["train", "test"], [len(y) - N_TEST_WRITERS, N_TEST_WRITERS])
    else:
        writers = np.full(len(y), "unknown")
    return Bunch(
        data=data,
        target=target,
        images=X.reshape(-1, 8, 8),
        frame=frame,
        feature_names=list(FEATURE_NAMES),
        target_names=np.arange(10),
        DESCR=(BUNDLED / "README.md").read_text(encoding="utf-8"),
        source=str(source),
        sha256=fingerprint(X, y),
        writers=writers,
    )


def _read(source):
    """The table of `source`: ndarray of shape (n, 65), uint8."""
    if str(source) == "bundled":
        return read_bundled()
    if str(source) == "sklearn":
        from sklearn import datasets  # takes over half a second; other sources do without

        digits = datasets.load_digits()
        return np.column_stack([digits.data, digits.target]).astype(np.uint8)
    from digitlib import sources  # joblib, which the bundled table does without

    if str(source) == "uci":
        return sources.fetch(read_bundled())
    return sources.read_table(check_file(source, DataError, f"source {WANTED}"))


def load_again(facts: dict) -> Any:
    """The rows that a run was made of, as a Bunch; None if they are gone or are other ones now.

    Parameters
    ----------
    facts : dict
        ``data`` of the run's ``run.json``.
    """
    source = facts["source"]
    try:
        digits = load_digits("bundled" if source == "uci" else source)  # known to be the same rows
    except DataError:
        return None
    return digits if digits.sha256 == facts["sha256"] else None


def fingerprint(X: np.ndarray, y: np.ndarray) -> str:
    """SHA-256, in hexadecimal, of the (n, 65) uint8 table of pixels and classes in C order."""
    return hashlib.sha256(np.column_stack([X, y]).astype(np.uint8).tobytes()).hexdigest()


def describe_source(source: str) -> str:
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


def check_splits(y: np.ndarray, n_splits: int) -> None:
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


def places_on_map(digits):
    """Where the bundled rows lie on a map that puts like by like; None for other data.

    By t-SNE, once, by ``tools/make_map.py``: int16 (5620, 2), the middle at 0.
    """
    if digits.sha256 != SHA256:
        return None
    with (BUNDLED / "map.npy").open("rb") as file:
        return np.load(file)


def read_bundled() -> np.ndarray:
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
    packed = BUNDLED / "optdigits.csv.gz"
    try:
        # wbits=31: gzip. Splitting the text is the quickest way to plain integers.
        text = zlib.decompress(packed.read_bytes(), wbits=31).strip().replace(b"\n", b",")
        table = np.array(text.split(b","), dtype=np.uint8).reshape(-1, 65)
    except (OSError, zlib.error, ValueError) as error:
        raise DataError(
            f"the bundled table cannot be read ({error}); reinstall digitlib"
        ) from error
    if hashlib.sha256(table.tobytes()).hexdigest() != SHA256:
        raise DataError(
            f"the bundled table is damaged: its SHA-256 is not {SHA256[:12]}...; reinstall digitlib"
        )
    return table
