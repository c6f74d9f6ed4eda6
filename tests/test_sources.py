"""Every way in which a user's table or the UCI archive's answer can be wrong, each with its line.

Of the archive: the real ``ucimlrepo`` against a server on 127.0.0.1 that answers well and badly.
"""

import gzip
import json
import re
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest

import digitlib
from digitlib import sources
from digitlib.data import FEATURE_NAMES, read_bundled
from digitlib.errors import DataError

TABLE = read_bundled()
ROWS = TABLE[-1797:][:40].astype(str).tolist()  # each class four times or so


def lines_of(rows):
    return "".join(",".join(map(str, row)) + "\n" for row in rows)


# ---- a user's table that is right ----------------------------------------------------------------


def write(path, content):
    content = content if isinstance(content, bytes) else content.encode()
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)
    return path


HEADER = lines_of([[*FEATURE_NAMES, "target"]])
GOOD = lines_of(ROWS)
RIGHT = {
    "plain.csv": GOOD,
    "packed.csv.gz": GOOD,
    "header.csv": HEADER + GOOD,
    "byte_order_mark.csv": "\ufeff" + GOOD,
    "windows_line_ends.csv": GOOD.replace("\n", "\r\n"),
    "blank_lines.csv": "\n" + lines_of(ROWS[:3]) + "\n\n" + lines_of(ROWS[3:]) + "\n",
    "semicolons.csv": HEADER.replace(",", ";") + GOOD.replace(",", ";"),
    "quotes.csv": lines_of([[f'"{cell}"' for cell in row] for row in ROWS]),
    "whole_numbers_with_a_point.csv": lines_of([[f"{cell}.0" for cell in row] for row in ROWS]),
}


@pytest.mark.parametrize("name", RIGHT)
def test_right_file_gives_its_rows(name, tmp_path):
    path = str(write(tmp_path / name, RIGHT[name]))
    digits = digitlib.load_digits(path)
    np.testing.assert_array_equal(np.column_stack([digits.data, digits.target]), TABLE[-1797:][:40])
    assert digits.data.dtype == np.uint8
    assert digits.source == path
    assert set(digits.writers) == {"unknown"}


# ---- a user's table that is wrong ----------------------------------------------------------------


def with_cell(row, column, cell, rows=ROWS):
    """The rows, with another cell in `row` and `column`, both counted from 1 as in the messages."""
    rows = [list(cells) for cells in rows]
    rows[row - 1][column - 1] = cell
    return lines_of(rows)


FORM = "each row needs 64 integer pixels 0..16 and a class 0..9, separated by commas"


def columns(row, count):
    return f"row {row} has {count} columns instead of 65; {FORM}"


def at(row, column, problem="'abc' is not a number"):
    allowed = "pixels are integers 0..16" if column < 65 else "classes are integers 0..9"
    return f"row {row}, column {column}: {problem}; {allowed}"


def wrong_cell(row, column, cell, problem):
    return with_cell(row, column, cell), at(row, column, problem)


not_text = "not a text file (byte {}); save it as CSV in UTF-8".format
NO_ROWS = f"no rows of data; {FORM}"
EMPTY = "the pixel is missing (empty cell)"
NO_3 = "column 65: no row of class 3; every class 0..9 needs rows"
# name of the file: (what to write, what the message says after the path)
WRONG = {
    "text.csv": wrong_cell(3, 7, "abc", "'abc' is not a number"),
    "empty_cell.csv": wrong_cell(1, 1, "", EMPTY),
    "fraction.csv": wrong_cell(40, 30, "3.5", "3.5 is a fraction"),
    "pixel_17.csv": wrong_cell(9, 12, "17", "17 is out of range"),
    "class_10.csv": wrong_cell(6, 65, "10", "10 is out of range"),
    "header_then_text.csv": (HEADER + with_cell(1, 2, "abc"), at(2, 2)),
    "header_in_the_middle.csv": (GOOD + HEADER, at(41, 1, "'pixel_0_0' is not a number")),
    "66_columns_in_row_4.csv": (lines_of([*ROWS[:3], [*ROWS[3], "0"], *ROWS[4:]]), columns(4, 66)),
    "cut_off.csv": (GOOD[:-20], columns(40, 57)),
    "long_line.csv": ("," * 20_000, f"row 1 has more than 10,000 characters; {FORM}"),
    "header_only.csv": (HEADER, NO_ROWS),
    "class_3_missing.csv": (lines_of([row for row in ROWS if row[64] != "3"]), NO_3),
    "picture.csv": (b"\x89PNG\r\n\x1a\n\x00\x00", not_text(0)),
    "packed_without_gz.csv": (gzip.compress(GOOD.encode()), not_text(1)),
}


def message_for(path):
    """The message for `path`, which must be one line and begin with the path."""
    with pytest.raises(DataError, match=rf"^{re.escape(str(path))}: .{{,250}}$") as caught:
        digitlib.load_digits(path)
    return str(caught.value).removeprefix(f"{path}: ")


@pytest.mark.parametrize("name", WRONG)
def test_wrong_file_gets_its_own_line(name, tmp_path):
    content, expected = WRONG[name]
    assert message_for(write(tmp_path / name, content)) == expected


PACKED = gzip.compress(GOOD.encode())


@pytest.mark.parametrize(
    "content",
    [PACKED[: len(PACKED) // 2], GOOD.encode(), PACKED[:60] + bytes(30) + PACKED[90:]],
    ids=["truncated", "not packed", "damaged"],
)
def test_broken_gzip_cannot_be_read(content, tmp_path):
    (tmp_path / "broken.csv.gz").write_bytes(content)
    said = message_for(tmp_path / "broken.csv.gz")
    assert said.startswith("cannot be read (")
    assert said.endswith("; check the file and its permissions")


def test_what_is_no_file_is_said_to_be_none(tmp_path):
    takes = "source takes bundled, uci, sklearn or the path of a .csv or .csv.gz file"
    assert message_for(tmp_path / "missing.csv") == f"no such file; {takes}"
    assert message_for("bundeld") == f"no such file; {takes}"
    assert message_for(tmp_path) == f"is a folder; {takes}"


def test_a_table_of_more_than_the_limits_is_refused_while_it_is_read(tmp_path, monkeypatch):
    path = write(tmp_path / "bomb.csv.gz", GOOD * 1000)
    monkeypatch.setattr(sources, "MAX_ROWS", 30_000)
    assert message_for(path) == "more than 30,000 rows; give a smaller table"
    monkeypatch.setattr(sources, "MAX_BYTES", 1_000_000)
    assert message_for(path) == "more than 1 MB of text; give a smaller table"


# ---- what need not be had twice ------------------------------------------------------------------


@pytest.fixture
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("DIGITLIB_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


# ---- the archive ---------------------------------------------------------------------------------

NAMES = [*(f"Attribute{i}" for i in range(1, 65)), "class"]
REMEDY = 'try again later, or use source="bundled", which has the same rows and needs no network'
API, CSV = "/api/dataset?id=80", "/static/public/80/data.csv"
HTML = b"<!DOCTYPE html>\n<html><body>Down for maintenance, sorry.</body></html>\n"


def csv_of(table):
    return lines_of([NAMES, *table.tolist()]).encode()


WHOLE = csv_of(TABLE)


class Archive(ThreadingHTTPServer):
    """Answers with JSON, then with the CSV that it names; tests spoil one of the two."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server_port}"
        roles = [{"name": name, "role": "Feature"} for name in NAMES]
        roles[-1]["role"] = "Target"
        facts = {"uci_id": 80, "name": "Digits", "data_url": self.url + CSV, "variables": roles}
        facts |= {"additional_info": None, "intro_paper": None}
        answer = json.dumps({"status": 200, "data": facts}).encode()
        # Of each path: status, body and, if not that of the body, the length that is announced.
        self.answers = {API: (200, answer), CSV: (200, WHOLE)}
        self.step, self.pause, self.requests = 2**20, 0, []


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        self.server.requests.append(self.path)
        status, body, *length = self.server.answers[self.path]
        self.send_response(status)
        self.send_header("Content-Length", str(*length or [len(body)]))
        self.end_headers()
        try:
            for start in range(0, len(body), self.server.step):
                self.wfile.write(body[start : start + self.server.step])
                time.sleep(self.server.pause)
        except OSError:
            self.server.requests.append("client gone")

    def log_message(self, *words):
        pass


@pytest.fixture
def archive(own_cache, monkeypatch):
    server = Archive()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    monkeypatch.setenv("DIGITLIB_UCI_URL", f"{server.url}/api/dataset")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.delenv("DIGITLIB_UCI_TIMEOUT", raising=False)
    yield server
    server.shutdown()
    server.server_close()
    thread.join(10)


def failure():
    """The message of a failed fetch: one line that names the remedy, and nothing in the cache."""
    with pytest.raises(DataError, match=f"^.*UCI archive.*; {REMEDY}$") as caught:
        digitlib.load_digits("uci")
    assert len(str(caught.value)) < 450
    assert not list(sources.cache_folder().rglob("*.pkl"))
    return str(caught.value)


def test_good_fetch_is_served_from_the_cache_afterwards(archive):
    bundled = digitlib.load_digits()
    for _ in range(2):
        digits = digitlib.load_digits("uci")
        for part in ("data", "target", "writers"):
            np.testing.assert_array_equal(digits[part], bundled[part])
        assert (digits.sha256, digits.source) == (bundled.sha256, "uci")
    assert archive.requests == [API, CSV]


CHANGED = TABLE.copy()
CHANGED[4321, 10] ^= 1
SWAPPED = WHOLE.replace(b"Attribute19,Attribute20", b"Attribute20,Attribute19")
PART = "sent 3000 rows of 65 columns instead of 5620 of 65 (cut off or changed)"
DIFFERS = "differs from the published one in"
# What the archive does: (path, its answer to that, what the message says)
BROKEN = {
    "bad gateway": (API, (502, HTML), "502"),
    "HTML instead of JSON": (API, (200, HTML), "something other than JSON, perhaps an error page"),
    "HTML instead of CSV": (CSV, (200, HTML), "its answer has an unexpected form"),
    "CSV cut off at a line": (CSV, (200, csv_of(TABLE[:3000])), PART),
    "a changed row": (CSV, (200, csv_of(CHANGED)), f"{DIFFERS} 1 rows, first in row 4322"),
    "columns in another order": (CSV, (200, SWAPPED), DIFFERS),
}


@pytest.mark.parametrize("name", BROKEN)
def test_broken_archive_gets_its_own_line(name, archive):
    path, answer, said = BROKEN[name]
    archive.answers[path] = answer
    assert said in failure()


def test_server_that_is_down_is_said_to_be(own_cache, monkeypatch):
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setenv("DIGITLIB_UCI_URL", "http://127.0.0.1:1")
    assert "Connection refused" in failure()


def test_slow_drip_ends_at_the_time_limit(archive, monkeypatch):
    """Bytes keep coming, so that no socket times out; the fetch does, and its process is gone."""
    archive.step, archive.pause = 1, 0.05  # each byte comes long before any socket's time limit
    monkeypatch.setenv("DIGITLIB_UCI_TIMEOUT", "4")
    start = time.monotonic()
    assert "did not deliver data set 80 within 4 s" in failure()
    assert time.monotonic() - start < 15
    deadline = time.monotonic() + 10
    while "client gone" not in archive.requests and time.monotonic() < deadline:
        time.sleep(0.05)
    assert archive.requests == [API, "client gone"]
