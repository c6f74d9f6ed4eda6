"""Digits of every source; of the UCI archive: the real ``ucimlrepo`` against a server of ours."""

import gzip
import hashlib
import json
import shutil
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pandas as pd
import pytest
from scipy.spatial import KDTree
from sklearn import datasets

import digitlib
from digitlib import data
from digitlib.errors import DataError

# Published figures of the data set, see digitlib/optdigits/README.md.
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
    with pytest.raises(DataError, match=r"bundled table is damaged; reinstall digitlib") as caught:
        digitlib.load_digits()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("source", [None, 5, ["bundled"], "bundeld"])
def test_what_is_no_source_is_refused(source):
    with pytest.raises(DataError, match="; source takes bundled, uci, sklearn or the path of a "):
        digitlib.load_digits(source)


def test_import_of_the_package_is_light():
    """Heavy libraries are imported by what needs them: the command line starts at once."""
    code = (
        "import digitlib, sys; print([n for n in ('numpy', 'pandas', 'torch') if n in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_the_map_is_of_the_bundled_rows_and_puts_like_by_like(digits):
    places = data.places_on_map(digits)
    assert places.shape == (5620, 2) and places.dtype == np.int16
    _, nearest = KDTree(places.astype(float)).query(places, k=2)
    assert (digits.target[nearest[:, 1]] == digits.target).mean() > 0.95
    assert data.places_on_map(digitlib.load_digits("sklearn")) is None


# ---- a table of the user's -----------------------------------------------------------------------

TABLE = data.read_bundled()
ROWS = TABLE[-1797:][:40]  # each class four times or so
UCI = [*(f"Attribute{i}" for i in range(1, 65)), "class"]
BY_TEXT = [*sorted(range(64), key=lambda i: UCI[i]), 64]  # Attribute1, Attribute10, Attribute11 ...


def csv_of(rows, header=None):
    lines = ([] if header is None else [header]) + [list(row) for row in rows]
    return "".join(",".join(map(str, line)) + "\n" for line in lines)


def with_cell(row, column, cell):
    """The rows, with another cell in `row` and `column`, both counted from 1 as in the messages."""
    rows = ROWS.tolist()
    rows[row - 1][column - 1] = cell
    return csv_of(rows)


def write(path, content):
    content = content if isinstance(content, bytes) else content.encode()
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)
    return path


GOOD, NUMBERED = csv_of(ROWS), np.c_[np.arange(40), ROWS]
RIGHT = {
    "plain.csv": GOOD,
    "packed.csv.gz": GOOD,
    "header.csv": csv_of(ROWS, [*data.FEATURE_NAMES, "target"]),
    "header of numbers.csv": csv_of(ROWS, range(65)),
    "columns sorted as text.csv": csv_of(ROWS[:, BY_TEXT], [UCI[i] for i in BY_TEXT]),
    "label first.csv": csv_of(np.roll(ROWS, 1, axis=1), ["label", *UCI[:64]]),
    "index.csv": csv_of(NUMBERED, ["", *UCI]),
    "index and numbers.csv": csv_of(NUMBERED, ["", *range(65)]),
    "byte order mark.csv": "\ufeff" + GOOD,
    "windows line ends.csv": GOOD.replace("\n", "\r\n"),
    "blank lines.csv": "\n" + GOOD.replace("\n", "\n\n", 3),
    "semicolons.csv": GOOD.replace(",", ";"),
    "tabs.csv": GOOD.replace(",", "\t"),
    "quotes and spaces.csv": csv_of([[f' "{cell}"' for cell in row] for row in ROWS]),
    "with a point.csv": csv_of([[f"{cell}.0" for cell in row] for row in ROWS]),
}


@pytest.mark.parametrize("name", RIGHT)
def test_right_file_gives_its_rows(name, tmp_path):
    digits = digitlib.load_digits(write(tmp_path / name, RIGHT[name]))
    np.testing.assert_array_equal(np.column_stack([digits.data, digits.target]), ROWS)
    assert digits.data.dtype == np.uint8 and set(digits.writers) == {"unknown"}


HEADER_OF_NOTHING = [*(f"a{chr(97 + i % 26)}{i // 26}{i}x" for i in range(64)), "class"]
PACKED, GREY = gzip.compress(GOOD.encode(), mtime=0), np.c_[ROWS[:, :64] * 15, ROWS[:, 64]]
# Content -> what the message says after the path.
WRONG = {
    "text": (with_cell(3, 7, "abc"), "row 3, column 7: 'abc' is no pixel"),
    "missing": (with_cell(2, 64, "NaN"), "row 2, column 64: 'NaN' is no pixel"),
    "empty cell": (with_cell(1, 1, ""), "row 1, column 1: '' is no pixel"),
    "fraction": (with_cell(40, 30, "3.5"), "row 40, column 30: '3.5' is no pixel"),
    "pixel 17": (with_cell(9, 12, 17), "row 9, column 12: '17' is no pixel"),
    "class 10": (with_cell(6, 65, 10), "row 6, column 65: '10' is no class"),
    "header, then text": (
        csv_of([UCI]) + with_cell(1, 2, "abc"),
        "row 2, column 2: 'abc' is no pi",
    ),
    "two headers": (GOOD + csv_of([UCI]), "row 41, column 1: 'Attribute1' is no pixel"),
    "66 columns in row 4": (GOOD.replace("\n", ",0\n", 4), "row 1 has 66 columns, not 65"),
    "66 columns later": (GOOD + csv_of([[0] * 66]), "Expected 65 fields in line 41, saw 66"),
    "cut off": (GOOD[:-20], "row 40, column "),
    "long line": ("," * 20_000, "row 1 has 20001 column(s), not 65"),
    "nothing": ("", "row 1 has 1 column(s), not 65"),
    "header only": (csv_of([UCI]), "no row of class 0"),
    "no 3": (csv_of(ROWS[ROWS[:, 64] != 3]), "no row of class 3"),
    "picture": (b"\x89PNG\r\n\x1a\n\0\0", "'utf-8' codec can't decode byte 0x89"),
    "zeros": (bytes(1000), "row 1 has 1 column(s), not 65"),
    "MNIST": (csv_of([[0] * 785]), ": 28x28 images are not read"),
    "grey values": (csv_of(GREY), "these look like grey values 0..255: count ink in 0..16"),
    "label first": (csv_of(np.roll(TABLE[:600], 1, axis=1)), "the class seems to come first"),
    "decimal commas": (
        csv_of([[f"{cell},0" for cell in row] for row in ROWS]),
        ": write decimals w",
    ),
    "strange names": (csv_of(ROWS, HEADER_OF_NOTHING), "the header names no 64 pixels and a class"),
    "one name missing": (csv_of(ROWS, ["", *UCI[1:]]), "the header names no 64 pixels and a class"),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_file_gets_its_own_line(name, tmp_path):
    content, said = WRONG[name]
    path = write(tmp_path / "it.csv", content)
    with pytest.raises(DataError) as caught:
        digitlib.load_digits(path)
    message = str(caught.value)
    assert message.startswith(f"{path}: ") and "\n" not in message and len(message) < 350
    assert said in message and "takes CSV in UTF-8, with 64 integer pixels 0..16 and a " in message


@pytest.mark.parametrize("content", [PACKED[: len(PACKED) // 2], GOOD.encode(), PACKED[:60]])
def test_broken_gzip_cannot_be_read(content, tmp_path):
    (tmp_path / "broken.csv.gz").write_bytes(content)
    with pytest.raises(DataError, match=r"broken\.csv\.gz: .*; takes CSV in UTF-8"):
        digitlib.load_digits(tmp_path / "broken.csv.gz")


def test_a_table_of_more_bytes_than_the_limit_is_refused_also_after_unpacking(
    tmp_path, monkeypatch
):
    path = write(tmp_path / "bomb.csv.gz", GOOD * 1000)
    monkeypatch.setattr(data, "MAX_BYTES", 2_000_000)
    with pytest.raises(DataError, match="more than 2 MB of text"):
        digitlib.load_digits(path)


# ---- the archive ---------------------------------------------------------------------------------

REMEDY = 'use source="bundled", which has the same rows and needs no network, or try again'
API, FILE = "/api/dataset?id=80", "/static/public/80/data.csv"
WHOLE = csv_of(TABLE, UCI).encode()


class Archive(ThreadingHTTPServer):
    """Answers with JSON, then with the CSV that it names; tests spoil one of the two."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server_port}"
        roles = [{"name": name, "role": "Target" if name == "class" else "Feature"} for name in UCI]
        facts = {"uci_id": 80, "name": "Digits", "data_url": self.url + FILE, "variables": roles}
        facts |= {"additional_info": None, "intro_paper": None}
        answer = json.dumps({"status": 200, "data": facts}).encode()
        self.answers, self.pause, self.requests = {API: (200, answer), FILE: (200, WHOLE)}, 0, []


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        self.server.requests.append(self.path)
        status, body = self.server.answers[self.path]
        time.sleep(self.server.pause)
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *words):
        pass


@pytest.fixture
def archive(tmp_path, monkeypatch):
    server = Archive()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    monkeypatch.setattr("ucimlrepo.fetch.API_BASE_URL", f"{server.url}/api/dataset")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    yield server
    server.shutdown()
    server.server_close()
    thread.join(10)


def test_good_fetch_is_served_from_the_cache_afterwards(archive, digits):
    for _ in range(2):
        fetched = digitlib.load_digits("uci")
        for part in ("data", "target", "writers"):
            np.testing.assert_array_equal(fetched[part], digits[part])
        assert (fetched.sha256, fetched.source) == (digits.sha256, "uci")
    assert archive.requests == [API, FILE]


CHANGED = TABLE.copy()
CHANGED[4321, 10] ^= 1
SWAPPED = WHOLE.replace(b"Attribute19,Attribute20", b"Attribute20,Attribute19")
BROKEN = {
    "bad gateway": (API, (502, b"<html>"), "did not deliver data set 80 ("),
    "HTML instead of JSON": (API, (200, b"<html>"), "did not deliver data set 80 ("),
    "HTML instead of CSV": (FILE, (200, b"<html>"), "UCI archive"),
    "cut off": (FILE, (200, csv_of(TABLE[:3000], UCI).encode()), "is not the published one"),
    "a changed row": (FILE, (200, csv_of(CHANGED, UCI).encode()), "is not the published one"),
    "columns in another order": (FILE, (200, SWAPPED), "is not the published one"),
    "too slow": (None, 3, "did not deliver data set 80 (TimeoutError"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_broken_archive_gets_one_line_and_is_not_kept(name, archive, tmp_path, monkeypatch):
    path, answer, said = BROKEN[name]
    if path is None:
        archive.pause = answer
        monkeypatch.setattr(data, "TIME_LIMIT", 1)
    else:
        archive.answers[path] = answer
    with pytest.raises(DataError, match=f"^the UCI archive.*; {REMEDY}$") as caught:
        digitlib.load_digits("uci")
    assert said in str(caught.value) and len(str(caught.value)) < 450
    assert not list(tmp_path.rglob("uci-80*"))
