"""Digits that need no file of the user's and no network (those: test_sources.py)."""

import gzip
import hashlib
import shutil
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from scipy.spatial import KDTree
from sklearn import datasets

import digitlib
from digitlib import data
from digitlib.errors import DataError

# Published figures of the data set, see DESIGN.md and digitlib/optdigits/README.md.
CLASS_COUNTS = [554, 571, 557, 572, 568, 558, 558, 566, 554, 562]
SHA256 = "a88fcce34a8912ee99fb04893ce831c603fcf73799df3c49e93ec05a736beef2"


def test_bundled_table_is_the_published_one(digits):
    assert digits.data.shape == (5620, 64)
    assert digits.data.dtype == np.uint8
    assert (digits.data.min(), digits.data.max()) == (0, 16)
    assert digits.target.dtype == np.int64
    assert np.bincount(digits.target).tolist() == CLASS_COUNTS
    table = np.column_stack([digits.data, digits.target]).astype(np.uint8)
    assert hashlib.sha256(table.tobytes()).hexdigest() == digits.sha256 == SHA256
    assert digits.writers.tolist() == ["train"] * 3823 + ["test"] * 1797


def test_sklearn_source_is_the_test_part_and_says_so(digits):
    theirs, part = datasets.load_digits(), digitlib.load_digits("sklearn")
    for name in ("data", "target", "images"):
        np.testing.assert_array_equal(digits[name][-1797:], theirs[name])
        np.testing.assert_array_equal(part[name], theirs[name])
    assert set(part.writers) == {"test"}
    assert part.source == "sklearn"
    assert part.sha256 != digits.sha256
    assert "ONLY the 1,797 rows" in data.describe_source(part.source)


@pytest.mark.parametrize("as_frame", [False, True])
def test_bunch_is_like_that_of_sklearn(digits, as_frame):
    ours, theirs = digitlib.load_digits(as_frame=as_frame), datasets.load_digits(as_frame=as_frame)
    assert set(theirs) <= set(ours)
    assert set(ours) - set(theirs) == {"source", "sha256", "writers"}
    for name in theirs:
        assert type(ours[name]) is type(theirs[name]), name
    assert ours.feature_names == theirs.feature_names
    np.testing.assert_array_equal(ours.target_names, theirs.target_names)
    assert ours.images.shape == (5620, *theirs.images.shape[1:])
    assert "10.24432/C50P49" in ours.DESCR
    assert "CC BY 4.0" in ours.DESCR
    parts = digitlib.load_digits(return_X_y=True, as_frame=as_frame)
    for name, part in zip(("data", "target"), parts, strict=True):
        assert type(part) is type(theirs[name])
        np.testing.assert_array_equal(part, digits[name])
        np.testing.assert_array_equal(ours[name], digits[name])
    if as_frame:
        assert list(ours.frame) == list(theirs.frame)
        pd.testing.assert_frame_equal(ours.frame, ours.data.assign(target=ours.target))


SPOILT = {
    "truncated": lambda packed: packed[: len(packed) // 2],
    "not_gzip": lambda packed: b"<html>not found</html>",
    "other_columns": lambda packed: gzip.compress(b"0,1,2\n3,4\n"),
    "text": lambda packed: gzip.compress(b"a,b,c\n"),
    "one_pixel": lambda p: gzip.compress(gzip.decompress(p).replace(b",15,", b",14,", 1)),
    "missing": None,
}


@pytest.mark.parametrize("name", SPOILT)
def test_damaged_bundled_file_is_refused(name, tmp_path, monkeypatch):
    shutil.copytree(data.BUNDLED, tmp_path, dirs_exist_ok=True)
    monkeypatch.setattr(data, "BUNDLED", tmp_path)
    assert digitlib.load_digits().sha256 == SHA256
    file, spoil = tmp_path / "optdigits.csv.gz", SPOILT[name]
    file.write_bytes(spoil(file.read_bytes())) if spoil else file.unlink()
    with pytest.raises(DataError, match=r"bundled table .* reinstall digitlib") as caught:
        digitlib.load_digits()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("source", [None, 5, b"bundled", ["bundled"]])
def test_source_of_another_type_is_refused(source):
    with pytest.raises(DataError, match=r"^source=.*: takes bundled, uci, sklearn or the path"):
        digitlib.load_digits(source)


def test_check_splits_counts_the_rarest_class():
    y = np.repeat([0, 1, 2], [9, 3, 5])
    data.check_splits(y, 3)
    rarest = r"^class 1 has 3 row\(s\), fewer than the 4 folds; add rows or use fewer folds$"
    for labels, said in ((y, rarest), ([], r"^no rows to make 4 folds of")):
        with pytest.raises(DataError, match=said):
            data.check_splits(labels, 4)


def test_import_of_the_package_is_light():
    """Heavy libraries are imported by what needs them: the command line starts at once."""
    code = (
        "import digitlib, sys; print([n for n in ('numpy', 'pandas', 'sklearn', 'torch') if n in"
        " sys.modules]); digitlib.load_digits(return_X_y=True); print([n for n in ('pandas',"
        " 'sklearn', 'torch') if n in sys.modules])"
    )
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n[]\n"


def test_the_map_is_of_the_bundled_rows_and_puts_like_by_like(digits):
    places = data.places_on_map(digits)
    assert places.shape == (5620, 2) and places.dtype == np.int16
    _, nearest = KDTree(places.astype(float)).query(places, k=2)
    assert (digits.target[nearest[:, 1]] == digits.target).mean() > 0.95
    assert data.places_on_map(digitlib.load_digits("sklearn")) is None
