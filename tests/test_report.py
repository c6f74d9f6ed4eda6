"""`digitlib report`: the folder it leaves, what it refuses, and what survives when it dies."""

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import nbformat
import pandas as pd
import psutil
import pytest
from conftest import ROOT, SMALL

from digitlib.errors import NotebookFailed
from digitlib.reporting import kernels, report

FILES = {"index.html", "run.json", "predictions.csv", "history.csv", "checks.json"}
STEMS = ("1_eda", "2_train", "3_evaluate", "5_predict")


def test_folder_holds_every_part_of_a_run(small_report):
    pages = {f"{stem}.{kind}" for stem in STEMS for kind in ("html", "ipynb")}
    weights = {f"fold-{k}.safetensors" for k in (1, 2, 3, 4)}
    assert {path.name for path in small_report.iterdir()} == FILES | pages | weights
    beside = sorted(path.name for path in small_report.parent.iterdir())
    assert beside == ["index.html", "small"], "something is left beside the report and the list"


def test_run_json_records_what_was_asked_for(small_report):
    info = json.loads((small_report / "run.json").read_text())
    asked = {"seed": 3, "splits": 4, "epochs": 1, "split_seed": 30}
    assert info["parameters"] | asked == info["parameters"]
    assert (info["recipe"]["name"], info["data"]["source"]) == ("coursework", "sklearn")
    assert info["data"]["rows"] == 1797 and info["versions"]["torch"]


def test_each_row_is_predicted_once_and_the_score_is_theirs(small_report):
    table = pd.read_csv(small_report / "predictions.csv")
    assert list(table) == ["row", "fold", "label", "predicted", *(f"p{k}" for k in range(10))]
    assert table["row"].tolist() == list(range(1797))
    scores = json.loads((small_report / "run.json").read_text())["scores"]
    assert scores["correct"] == (table["label"] == table["predicted"]).sum()
    assert (table.filter(regex="^p[0-9]").to_numpy().argmax(axis=1) == table["predicted"]).all()


def test_index_links_to_every_page_and_shows_the_headline(small_report):
    html = (small_report / "index.html").read_text()
    linked = set(re.findall(r'href="([^"#]+)"', html))
    assert {f"{stem}.html" for stem in STEMS} <= linked
    accuracy = json.loads((small_report / "run.json").read_text())["scores"]["accuracy"]
    assert f"{100 * accuracy:.2f}" in html


def test_a_part_of_the_data_is_called_a_part_on_each_page(small_report):
    for stem in STEMS:
        text = (small_report / f"{stem}.html").read_text()
        assert "1,797 rows of the 13 test writers" in text, stem


def test_notebooks_ran_in_order_without_errors_and_name_no_folder_of_this_machine(small_report):
    for path in small_report.glob("*.ipynb"):
        notebook = nbformat.read(path, 4)
        counts = [cell.execution_count for cell in notebook.cells if cell.cell_type == "code"]
        assert counts == list(range(1, len(counts) + 1))
        assert str(small_report.parent.parent) not in path.read_text()


def test_no_connection_leaves_the_process_or_its_kernels(small_report, hostile_environment):
    log = Path(hostile_environment["CONNECTIONS"])
    assert not log.exists(), log.read_text()


def test_the_watch_on_connections_works(hostile_environment, tmp_path):
    log = tmp_path / "connections.txt"
    code = "import socket; socket.socket().connect_ex(('127.0.0.1', 9))"
    environment = {**os.environ, **hostile_environment, "CONNECTIONS": str(log)}
    subprocess.run([sys.executable, "-c", code], env=environment, check=True)
    assert "127.0.0.1" in log.read_text()


def test_same_seed_gives_the_same_predictions_byte_for_byte(
    small_report, digitlib_command, tmp_path
):
    assert digitlib_command("report", "--name", "again", *SMALL, cwd=tmp_path).returncode == 0
    again = (tmp_path / "reports" / "again" / "predictions.csv").read_bytes()
    assert again == (small_report / "predictions.csv").read_bytes()


# ---- failures ------------------------------------------------------------------------------------


@pytest.fixture
def notebooks_with_a_bad_cell(tmp_path, monkeypatch):
    """A function that puts a cell with `source` into a notebook."""
    monkeypatch.setattr(os, "environ", os.environ.copy())

    def prepare(source, name="1_eda"):
        folder = tmp_path / "notebooks"
        shutil.copytree(ROOT / "notebooks", folder)
        path = folder / f"{name}.ipynb"
        notebook = nbformat.read(path, 4)
        notebook.cells.insert(4, nbformat.v4.new_code_cell(source))
        nbformat.write(notebook, path)
        monkeypatch.setattr(kernels, "notebook_folder", lambda: folder)

    return prepare


def small_parameters():
    return report.check_parameters(source="sklearn", epochs=1)


def test_failing_cell_is_named_and_the_notebook_kept(notebooks_with_a_bad_cell, tmp_path):
    (tmp_path / "reports" / "mine").mkdir(parents=True)
    (tmp_path / "reports" / "mine" / "index.html").write_text("the report before")
    notebooks_with_a_bad_cell("colour = 1 / 0")
    said = (
        r"^1_eda\.ipynb, cell \[\d+\]: ZeroDivisionError: division by zero \(kept: .*mine-failed\)$"
    )
    with pytest.raises(NotebookFailed, match=said):
        report.make_report("mine", small_parameters(), tmp_path / "reports")
    assert "ZeroDivisionError" in (tmp_path / "reports" / "mine-failed" / "1_eda.ipynb").read_text()
    assert not list((tmp_path / "reports" / "mine-failed").glob("*.html"))
    assert (tmp_path / "reports" / "mine" / "index.html").read_text() == "the report before"


def test_failed_training_is_told_before_those_who_wait_for_it(notebooks_with_a_bad_cell, tmp_path):
    notebooks_with_a_bad_cell("colour = 1 / 0", "2_train")
    with pytest.raises(NotebookFailed, match=r"^2_train\.ipynb, cell .*ZeroDivisionError"):
        report.make_report("mine", small_parameters(), tmp_path / "reports")
    assert wait_until_gone(tmp_path / "reports") == []
    assert not (tmp_path / "reports" / ".mine.partial" / ".training").exists()


def test_checks_that_cannot_be_run_are_no_report(tmp_path):
    staging = tmp_path / ".mine.partial"
    staging.mkdir()
    with pytest.raises(NotebookFailed, match=r"the checks could not be run: .*no run\.json"):
        report._check(staging)


def test_dead_kernel_is_said_to_be_dead(notebooks_with_a_bad_cell, tmp_path):
    notebooks_with_a_bad_cell("import os, signal; os.kill(os.getpid(), signal.SIGKILL)")
    with pytest.raises(NotebookFailed, match=r"^1_eda\.ipynb: its kernel died"):
        report.make_report("mine", small_parameters(), tmp_path / "reports")
    assert not (tmp_path / "reports" / "mine").exists()


@pytest.fixture
def report_in_training(tmp_path):
    """A report process whose first fold is finished and whose others are not."""
    words = ["report", "--name", "cut", "--source", "sklearn", "--epochs", "12"]
    process = subprocess.Popen(
        [sys.executable, "-m", "digitlib", *words],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT), "JOBLIB_CPU_COUNT": "1"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    kept = tmp_path / "reports" / ".cut.partial" / ".folds" / "1.safetensors"
    deadline = time.monotonic() + 120
    while not kept.exists() and time.monotonic() < deadline and process.poll() is None:
        time.sleep(0.02)
    assert kept.exists(), "the first fold never finished"
    yield process, words
    process.kill()
    process.wait()


def wait_until_gone(folder, seconds=20):
    """Kernel processes whose working directory lies in `folder`, when their time is up."""
    deadline = time.monotonic() + seconds
    while True:
        left = []
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                if process.cwd().startswith(str(folder)):
                    left.append(process)
        if not left or time.monotonic() > deadline:
            return left
        time.sleep(0.1)


def test_killed_run_leaves_no_report_and_the_next_attempt_goes_on(
    report_in_training, digitlib_command, tmp_path
):
    process, words = report_in_training
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert not (tmp_path / "reports" / "cut").exists()
    assert wait_until_gone(tmp_path / "reports") == [], "kernels outlive the process"
    second = digitlib_command(*words, cwd=tmp_path)
    assert second.returncode == 0, second.stderr
    assert "(kept from an earlier attempt)" in second.stderr
    third = digitlib_command(*[word.replace("cut", "whole") for word in words], cwd=tmp_path)
    assert "(kept from an earlier attempt)" not in third.stderr
    cut, whole = (tmp_path / "reports" / name / "predictions.csv" for name in ("cut", "whole"))
    assert cut.read_bytes() == whole.read_bytes()


def test_terminated_run_says_so_and_takes_its_kernels_along(report_in_training, tmp_path):
    process, _ = report_in_training
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=30) == 130
    said = process.stderr.read().splitlines()[-1]
    assert said.startswith("digitlib: interrupted; finished folds are kept")
    assert wait_until_gone(tmp_path / "reports") == []
    assert not (tmp_path / "reports" / "cut").exists()


def test_second_process_for_the_same_name_is_refused(
    report_in_training, digitlib_command, tmp_path
):
    _, words = report_in_training
    done = digitlib_command(*words, cwd=tmp_path)
    assert done.returncode == 2
    assert "another process is making this report" in done.stderr


def test_report_caught_between_two_renames_is_brought_back(tmp_path):
    (tmp_path / ".mine.old").mkdir()
    (tmp_path / ".mine.old" / "index.html").write_text("the report before")
    report._restore(tmp_path / "mine")
    assert (tmp_path / "mine" / "index.html").read_text() == "the report before"
