"""The real ``ucimlrepo`` against a server on 127.0.0.1 that answers as the archive does, well and
badly.
"""

import json
import socket
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest

import digitlib
from digitlib import sources as uci
from digitlib.data import read_bundled
from digitlib.errors import DataError

NAMES = [*(f"Attribute{i}" for i in range(1, 65)), "class"]
HTML = (
    b"<!DOCTYPE html>\n<html><head><title>UCI</title></head>\n<body>Down for maintenance,"
    b" sorry.</body></html>\n"
)


@pytest.fixture(scope="module")
def table():
    return read_bundled()


def csv_of(table, names=NAMES):
    return (
        ",".join(names) + "\n" + "".join(",".join(map(str, row)) + "\n" for row in table.tolist())
    ).encode()


@pytest.fixture(scope="module")
def good_csv(table):
    return csv_of(table)


class Archive(ThreadingHTTPServer):
    """``/api/dataset?id=80`` as JSON, then the CSV that it names; what a test spoils are the
    attributes.
    """

    daemon_threads = True

    def __init__(self, csv):
        super().__init__(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server_port}"
        self.csv, self.csv_status, self.csv_length, self.drip = csv, 200, len(csv), False
        variables = [
            {
                "name": name,
                "role": "Target" if name == "class" else "Feature",
                "type": "Integer",
                "demographic": None,
                "description": None,
                "units": None,
                "missing_values": "no",
            }
            for name in NAMES
        ]
        self.answer = {
            "status": 200,
            "statusText": "OK",
            "data": {
                "uci_id": 80,
                "name": "Optical Recognition of Handwritten Digits",
                "data_url": f"{self.url}/static/public/80/data.csv",
                "num_instances": 5620,
                "num_features": 64,
                "target_col": ["class"],
                "index_col": None,
                "has_missing_values": "no",
                "dataset_doi": "10.24432/C50P49",
                "intro_paper": None,
                "additional_info": None,
                "variables": variables,
            },
        }
        self.api_status, self.api_body, self.requests = 200, None, []


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        archive = self.server
        archive.requests.append(self.path)
        if self.path == "/api/dataset?id=80":
            body = (
                json.dumps(archive.answer).encode()
                if archive.api_body is None
                else archive.api_body
            )
            self.reply(archive.api_status, body, len(body))
        elif self.path == "/static/public/80/data.csv":
            self.reply(archive.csv_status, archive.csv, archive.csv_length)
        else:
            self.send_error(404)

    def reply(self, status, body, length):
        self.send_response(status)
        self.send_header("Content-Length", str(length))
        self.end_headers()
        if not self.server.drip:
            self.wfile.write(body)
            return
        try:
            for byte in body:  # each byte comes long before any socket's time limit
                self.wfile.write(bytes([byte]))
                time.sleep(0.05)
        except OSError:  # the client has gone
            self.server.requests.append("client gone")

    def log_message(self, *words):
        pass


@pytest.fixture
def archive(good_csv, tmp_path, monkeypatch):
    server = Archive(good_csv)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    monkeypatch.setenv("DIGITLIB_UCI_URL", f"{server.url}/api/dataset")
    monkeypatch.setenv("DIGITLIB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.delenv("DIGITLIB_UCI_TIMEOUT", raising=False)
    yield server
    server.shutdown()
    server.server_close()
    thread.join(10)


def stop(archive):
    """From now on connections are refused."""
    archive.shutdown()
    archive.server_close()


def failure():
    """The message of a failed fetch: one line that names the remedy, and nothing in the cache."""
    with pytest.raises(DataError) as caught:
        digitlib.load_digits("uci")
    message = str(caught.value)
    assert "\n" not in message
    assert "UCI archive" in message
    assert message.endswith(
        '; try again later, or use source="bundled", which has the same rows and needs no network'
    )
    assert len(message) < 450
    assert not list(uci.cache_folder().rglob("*.pkl"))
    return message


# ---- good ----------------------------------------------------------------------------------------


def test_good_fetch_is_served_from_the_cache_afterwards(archive, tmp_path, monkeypatch):
    fetched = digitlib.load_digits("uci")
    assert archive.requests == ["/api/dataset?id=80", "/static/public/80/data.csv"]
    stop(archive)
    cached = digitlib.load_digits("uci")
    bundled = digitlib.load_digits()
    for digits in (fetched, cached):
        np.testing.assert_array_equal(digits.data, bundled.data)
        np.testing.assert_array_equal(digits.target, bundled.target)
        np.testing.assert_array_equal(digits.writers, bundled.writers)
        assert digits.sha256 == bundled.sha256
        assert digits.source == "uci"
    (file,) = (tmp_path / "cache").rglob("*.pkl")
    damaged = {
        "empty": lambda whole: b"",
        "truncated": lambda whole: whole[:1000],
        "text": lambda whole: HTML,
        "pixel_changed": lambda whole: whole[:-1000] + bytes([whole[-1000] ^ 1]) + whole[-999:],
    }
    whole = file.read_bytes()
    # Is refused by whoever would fetch, and so shows at once who would.
    monkeypatch.setenv("DIGITLIB_UCI_TIMEOUT", "0")
    for spoil in damaged.values():
        file.parent.mkdir(exist_ok=True)
        file.write_bytes(spoil(whole))
        with pytest.raises(DataError, match=r"DIGITLIB_UCI_TIMEOUT"):
            digitlib.load_digits("uci")
    file.parent.mkdir(exist_ok=True)
    file.write_bytes(whole)
    digitlib.load_digits("uci")


def test_cache_folder_that_cannot_be_made_costs_the_cache_only(
    archive, tmp_path, monkeypatch, table, capsys
):
    (tmp_path / "a_file").touch()
    monkeypatch.setenv("DIGITLIB_CACHE", str(tmp_path / "a_file" / "cache"))
    np.testing.assert_array_equal(digitlib.load_digits("uci").data, table[:, :64])
    assert capsys.readouterr().err.count("\n") == 1


# ---- broken --------------------------------------------------------------------------------------


def test_server_down(archive):
    stop(archive)
    assert "Connection refused" in failure()


def test_bad_gateway(archive):
    archive.api_status, archive.api_body = 502, HTML
    assert "502" in failure()


def test_html_instead_of_json(archive):
    archive.api_body = HTML
    assert "something other than JSON, perhaps an error page" in failure()


def test_json_of_another_form(archive):
    archive.answer = {"status": 200}
    assert "its answer has an unexpected form, KeyError: 'data'" in failure()


def test_data_set_withdrawn(archive):
    archive.answer = {"status": 404, "message": "Dataset not found"}
    assert "Dataset not found" in failure()


def test_html_instead_of_csv(archive):
    archive.csv, archive.csv_length = HTML, len(HTML)
    assert "its answer has an unexpected form" in failure()


def test_csv_gone(archive):
    archive.csv_status = 404
    assert "404" in failure()


def test_csv_cut_off_at_a_line(archive, table):
    archive.csv = csv_of(table[:3000])
    archive.csv_length = len(archive.csv)
    assert "sent 3000 rows of 65 columns instead of 5620 of 65 (cut off or changed)" in failure()


def test_csv_cut_off_inside_a_row(archive, good_csv):
    archive.csv = good_csv[:100_000]
    archive.csv_length = len(archive.csv)
    assert "is not a table of numbers" in failure()


def test_connection_cut_while_the_csv_is_sent(archive, good_csv):
    archive.csv = good_csv[:100_000]  # of the length announced
    assert "IncompleteRead" in failure()


def test_changed_row(archive, table):
    changed = table.copy()
    changed[4321, 10] ^= 1
    archive.csv = csv_of(changed)
    assert "differs from the published one in 1 rows, first in row 4322" in failure()


def test_rows_in_another_order(archive, table):
    archive.csv = csv_of(np.roll(table, 1, axis=0))
    assert "first in row 1" in failure()


def test_columns_in_another_order(archive):
    variables = archive.answer["data"]["variables"]
    variables[18], variables[19] = variables[19], variables[18]
    assert "differs from the published one in" in failure()


def test_slow_drip_ends_at_the_time_limit(archive, monkeypatch):
    """Bytes keep coming, so that no socket ever times out; the whole fetch does, and its process is
    gone.
    """
    archive.drip = True
    monkeypatch.setenv("DIGITLIB_UCI_TIMEOUT", "4")
    start = time.monotonic()
    assert "did not deliver data set 80 within 4 s" in failure()
    assert time.monotonic() - start < 15
    deadline = time.monotonic() + 10
    while "client gone" not in archive.requests and time.monotonic() < deadline:
        time.sleep(0.05)
    assert archive.requests == ["/api/dataset?id=80", "client gone"]


def test_server_that_never_answers(archive, monkeypatch):
    """A port that accepts connections and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setenv(
            "DIGITLIB_UCI_URL", f"http://127.0.0.1:{silent.getsockname()[1]}/api/dataset"
        )
        monkeypatch.setenv("DIGITLIB_UCI_TIMEOUT", "2")
        assert "did not deliver data set 80 within 2 s" in failure()


@pytest.mark.parametrize("limit", ["soon", "0", "-1", "nan", "inf", ""])
def test_time_limit_that_is_no_number_of_seconds(limit, monkeypatch, tmp_path):
    monkeypatch.setenv("DIGITLIB_CACHE", str(tmp_path))
    monkeypatch.setenv("DIGITLIB_UCI_TIMEOUT", limit)
    with pytest.raises(
        DataError,
        match=r"^DIGITLIB_UCI_TIMEOUT=.*: takes seconds, more than 0 and less than 86400$",
    ):
        digitlib.load_digits("uci")
