"""`digitlib report`: the folder it leaves, what it refuses, and what survives when it dies."""

import contextlib
import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import nbformat
import pandas as pd
import psutil
import pytest
from conftest import ROOT, SMALL

from digitlib import checks, files
from digitlib.errors import NotebookFailed, ParameterError
from digitlib.report import forks, kernels
from digitlib.report import make as report

FILES = {"index.html", "draw.html", "run.json", "predictions.csv", "history.csv", "checks.json"}
STEMS = ("1_eda", "2_train", "3_evaluate", "5_predict")


def test_folder_holds_every_part_of_a_run(small_report):
    pages = {f"{stem}.{kind}" for stem in STEMS for kind in ("html", "ipynb")}
    weights = {f"fold-{k}.safetensors" for k in (1, 2, 3, 4)}
    assert {path.name for path in small_report.iterdir()} == FILES | pages | weights
    beside = sorted(path.name for path in small_report.parent.iterdir())
    assert beside == ["index.html", "small"], "something is left beside the report and the list"


def test_run_json_records_what_was_asked_for(small_report):
    info = json.loads((small_report / "run.json").read_text())
    asked = {"seed": 3, "splits": 4, "split_seed": 30}
    assert info["parameters"] | asked == info["parameters"]
    assert (info["recipe"]["name"], info["data"]["source"]) == ("coursework", "sklearn")
    assert info["recipe"]["epochs"] == 1
    assert info["data"]["rows"] == 1797 and info["versions"]["torch"]
    table = pd.read_csv(small_report / "predictions.csv")
    assert list(table) == ["row", "fold", "label", "predicted", *(f"p{k}" for k in range(10))]


def test_the_headline_is_in_the_index_and_a_part_of_the_data_is_called_a_part_on_each_page(
    small_report,
):
    table = pd.read_csv(small_report / "predictions.csv")
    accuracy = (table["label"] == table["predicted"]).mean()
    text = (small_report / "index.html").read_text()
    assert f"{100 * accuracy:.2f}" in text
    for stem in STEMS:
        assert f'href="{stem}.html' in text
        page = (small_report / f"{stem}.html").read_text()
        assert "1,797 rows of the 13 test writers" in page, stem


def test_notebooks_ran_in_order_without_errors_and_name_no_folder_of_this_machine(small_report):
    for path in small_report.glob("*.ipynb"):
        notebook = nbformat.read(path, 4)
        counts = [cell.execution_count for cell in notebook.cells if cell.cell_type == "code"]
        assert counts == list(range(1, len(counts) + 1))
        assert str(small_report.parent.parent) not in path.read_text()


def test_no_connection_leaves_the_process_or_its_kernels(
    small_report, hostile_environment, tmp_path
):
    log = Path(hostile_environment["CONNECTIONS"])
    assert not log.exists(), log.read_text()
    # The watch works: a connection would have been written down.
    log = tmp_path / "connections.txt"
    code = "import socket; socket.socket().connect_ex(('127.0.0.1', 9))"
    environment = {**os.environ, **hostile_environment, "CONNECTIONS": str(log)}
    subprocess.run([sys.executable, "-c", code], env=environment, check=True)
    assert "127.0.0.1" in log.read_text()


# ---- failures ------------------------------------------------------------------------------------


def small_parameters():
    return report.check_parameters(source="sklearn", epochs=1, seed=3)


def wait_until(found, seconds=120):
    """What `found()` returns as soon as that is true, or when the time is up."""
    deadline = time.monotonic() + seconds
    while not (last := found()) and time.monotonic() < deadline:
        time.sleep(0.01)
    return last


def kernels_in(folder):
    """Processes whose working directory lies in `folder`."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if process.cwd().startswith(str(folder)):
                found.append(process)
    return found


def no_kernels_in(folder):
    return wait_until(lambda: not kernels_in(folder), 20)


@pytest.mark.parametrize("stem", ["2_train", "1_eda"])
def test_a_failed_notebook_is_told_and_kept(stem, tmp_path, monkeypatch):
    monkeypatch.setattr(os, "environ", os.environ.copy())
    folder, reports = tmp_path / "notebooks", tmp_path / "reports"
    shutil.copytree(ROOT / "notebooks", folder)
    notebook = nbformat.read(folder / f"{stem}.ipynb", 4)
    notebook.cells.insert(4, nbformat.v4.new_code_cell("colour = 1 / 0"))
    nbformat.write(notebook, folder / f"{stem}.ipynb")
    monkeypatch.setattr(report, "notebook_folder", lambda: folder)
    (reports / "mine").mkdir(parents=True)
    (reports / "mine" / "index.html").write_text("the report before")
    said = rf"^{stem}\.ipynb, cell \[\d+\]: ZeroDivisionError: division by zero \(kept: .*failed\)$"
    with pytest.raises(NotebookFailed, match=said):
        report.make_report("mine", small_parameters(), reports)
    assert "ZeroDivisionError" in (reports / "mine-failed" / f"{stem}.ipynb").read_text()
    assert not list((reports / "mine-failed").glob("*.html"))
    assert (reports / "mine" / "index.html").read_text() == "the report before"
    assert no_kernels_in(reports)


@pytest.mark.parametrize(
    ("ends", "said"),
    [
        ("import os; os.kill(os.getpid(), 9)", ": its kernel died at cell [2]"),
        ("import sys; sys.exit()", ", cell [2]: it ended the notebook"),
        ("raise SystemExit('enough')", ", cell [2]: SystemExit: enough"),
    ],
)
def test_a_notebook_that_ends_early_is_no_report(ends, said, tmp_path):
    cells = [nbformat.v4.new_code_cell(text) for text in ("1", ends, "2")]
    notebook = nbformat.v4.new_notebook(cells=cells, metadata={"language_info": {"name": "python"}})
    place = tmp_path / "a {brace} in the path"
    place.mkdir()
    nbformat.write(notebook, place / "1_eda.ipynb")
    forks.prepare_environment(place)
    with pytest.raises(NotebookFailed) as failed:
        kernels.run(place / "1_eda.ipynb", place / "out.ipynb", {}, place)
    assert str(failed.value).startswith(f"1_eda.ipynb{said}")


def test_checks_that_cannot_be_run_are_no_report(tmp_path):
    with pytest.raises(NotebookFailed, match=r"the checks could not be run: .*run\.json: no such"):
        checks.check_and_write(tmp_path)


@pytest.fixture
def temporary():
    """A folder for temporary files whose path is short, as that of a socket must be."""
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        yield Path(folder)


@pytest.fixture
def start(tmp_path, temporary):
    """Start the process that makes the report "cut", of the same run as the small report."""
    processes = []
    environment = {"PYTHONPATH": str(ROOT), "JOBLIB_CPU_COUNT": "1", "TMPDIR": str(temporary)}

    def start_one():
        process = subprocess.Popen(
            [sys.executable, "-m", "digitlib", "report", "--name", "cut", *SMALL],
            cwd=tmp_path,
            env={**os.environ, **environment},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        processes.append(process)
        return process

    yield start_one
    for process in processes:
        process.kill()
        process.communicate()


def test_killed_runs_leave_no_report_and_the_next_attempt_gives_the_same_bytes(
    start, small_report, tmp_path, temporary
):
    """Also: the same seed gives the same predictions in another process, however it got there."""
    reports = tmp_path / "reports"
    terminated = start()
    assert wait_until(lambda: kernels_in(reports)), "no kernel was started"
    with pytest.raises(ParameterError, match="another process is making this report"):
        report.make_report("cut", small_parameters(), reports)
    terminated.send_signal(signal.SIGHUP)
    for _ in range(3):  # an impatient person
        time.sleep(0.1)
        terminated.send_signal(signal.SIGINT)
    _, said = terminated.communicate(timeout=30)
    assert terminated.returncode == 130
    assert said.splitlines()[-1] == "digitlib: interrupted"
    assert no_kernels_in(reports), "kernels outlive the terminated process"
    assert not (reports / "cut").exists()

    killed = start()
    assert wait_until(lambda: (reports / ".cut.partial" / "run.json").exists()), "no run was made"
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    assert not (reports / "cut").exists()
    assert no_kernels_in(reports), "kernels outlive the killed process"

    (left,) = temporary.iterdir()
    os.utime(left / "lock", (0, 0))  # as if the kill were long ago
    last = start()
    _, said = last.communicate(timeout=240)
    assert last.returncode == 0, said
    cut, whole = (folder / "predictions.csv" for folder in (reports / "cut", small_report))
    assert cut.read_bytes() == whole.read_bytes()
    assert list(temporary.iterdir()) == [], "what the killed run left is still there"


@pytest.mark.parametrize("make", [os.mkfifo, Path.touch, lambda path: path.symlink_to("..")])
def test_what_is_no_folder_in_the_place_of_a_report_is_left_alone(make, tmp_path):
    make(tmp_path / "mine")
    with pytest.raises(ParameterError, match="is a link or a file, not the folder of a report"):
        report.make_report("mine", small_parameters(), tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]


def test_a_disk_without_room_is_told_before_anything_starts(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "ROOM", 2**60)
    with pytest.raises(ParameterError, match=r"MB free, a report needs .*; make room"):
        report.make_report("mine", small_parameters(), tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_report_caught_between_two_renames_is_brought_back(tmp_path):
    (tmp_path / ".mine.old").mkdir()
    (tmp_path / ".mine.old" / "index.html").write_text("the report before")
    report._restore(tmp_path / "mine")
    assert (tmp_path / "mine" / "index.html").read_text() == "the report before"


# ---- ordinary machines ---------------------------------------------------------------------------


@pytest.mark.parametrize("home", ["/nonexistent", "/dev/null/home"])
def test_a_user_without_a_home_gets_one_for_the_report(home, temporary, monkeypatch):
    monkeypatch.setenv("HOME", home)
    forks.prepare_environment(temporary)
    assert os.environ["HOME"] == str(temporary)


def test_whatever_fails_leaves_nothing_half_done(tmp_path, monkeypatch):
    def refused():
        raise ParameterError("no room for temporary files")

    monkeypatch.setattr(files, "scratch", refused)
    with pytest.raises(ParameterError, match="no room for temporary files"):
        report.make_report("mine", small_parameters(), tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_disk_without_locks_is_not_another_process(tmp_path, monkeypatch):
    def refused(*_):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(files.fcntl, "flock", refused)
    with report._staging(tmp_path / "mine") as staging:
        assert staging.is_dir()


@pytest.mark.parametrize(
    ("before", "after", "code", "said"),
    [
        ("", "--version <&- >&-", 0, ""),
        ("PYTHONOPTIMIZE=2", "--help", 2, "digitlib: python -OO removes texts"),
    ],
)
def test_closed_outputs_do_not_matter_and_missing_texts_are_told(before, after, code, said):
    line = f"PYTHONPATH='{ROOT}' {before} exec '{sys.executable}' -m digitlib {after}"
    done = subprocess.run(["sh", "-c", line], capture_output=True, text=True)
    assert done.returncode == code and done.stderr.startswith(said), done.stderr
    assert "Traceback" not in done.stderr
