"""`digitlib report`: the folder it leaves, what it refuses, and what survives when it dies."""

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
import pytest
from conftest import ROOT, SMALL

from digitlib.errors import NotebookFailed
from digitlib.reporting import kernels, report

FILES = {"index.html", "run.json", "predictions.csv", "history.csv"}


def test_folder_holds_every_part_of_a_run(small_report):
    names = {path.name for path in small_report.iterdir()}
    pages = {
        f"{stem}.{kind}"
        for stem in ("1_eda", "2_train", "3_evaluate", "5_predict")
        for kind in ("html", "ipynb")
    }
    weights = {f"fold-{k}.safetensors" for k in (1, 2, 3, 4)}
    assert names >= FILES | pages | weights
    beside = sorted(path.name for path in small_report.parent.iterdir())
    assert beside == ["index.html", "small"], (
        "nothing is left beside the report and the list of reports"
    )


def test_run_json_records_what_was_asked_for(small_report):
    info = json.loads((small_report / "run.json").read_text())
    assert (
        info["parameters"] | {"seed": 3, "splits": 4, "epochs": 1, "split_seed": 30}
        == info["parameters"]
    )
    assert (info["recipe"]["name"], info["data"]["source"], info["data"]["rows"]) == (
        "coursework",
        "sklearn",
        1797,
    )
    assert info["versions"]["torch"]


def test_each_row_is_predicted_once_and_the_score_is_theirs(small_report):
    table = pd.read_csv(small_report / "predictions.csv")
    assert list(table) == ["row", "fold", "label", "predicted", *(f"p{k}" for k in range(10))]
    assert table["row"].tolist() == list(range(1797))
    scores = json.loads((small_report / "run.json").read_text())["scores"]
    assert scores["correct"] == (table["label"] == table["predicted"]).sum()
    assert (table.filter(regex="^p[0-9]").to_numpy().argmax(axis=1) == table["predicted"]).all()


def test_index_links_to_every_page_and_shows_the_headline(small_report):
    html = (small_report / "index.html").read_text()
    assert {"1_eda.html", "2_train.html", "3_evaluate.html", "5_predict.html"} <= set(
        re.findall(r'href="([^"#]+)"', html)
    )
    accuracy = json.loads((small_report / "run.json").read_text())["scores"]["accuracy"]
    assert f"{100 * accuracy:.2f}" in html


def test_a_part_of_the_data_is_called_a_part_on_each_page(small_report):
    for page in ("1_eda.html", "2_train.html", "3_evaluate.html", "5_predict.html"):
        assert "1,797 rows of the 13 test writers" in (small_report / page).read_text(), page


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
    subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, **hostile_environment, "CONNECTIONS": str(log)},
        check=True,
    )
    assert "127.0.0.1" in log.read_text()


def test_same_seed_gives_the_same_predictions_byte_for_byte(
    small_report, digitlib_command, tmp_path
):
    assert digitlib_command("report", "--name", "again", *SMALL, cwd=tmp_path).returncode == 0
    again = (tmp_path / "reports" / "again" / "predictions.csv").read_bytes()
    assert again == (small_report / "predictions.csv").read_bytes()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--recipe", "nope"], r"recipe 'nope' is unknown; choose one of: coursework"),
        (["--seed", "x"], r"seed='x': takes an integer 0\.\."),
        (["--seed", "-1"], r"seed=-1: out of range"),
        (["--splits", "1"], r"splits=1: out of range, takes an integer 2\.\."),
        (["--splits", "900"], r"class \d has \d+ row\(s\), fewer than the 900 folds"),
        (["--epochs", "0"], r"epochs=0: out of range, takes an integer 1\.\."),
        (["--epochs", "2.5"], r"epochs='2.5': takes an integer"),
        (
            ["--source", "no/such.csv"],
            r"no/such\.csv: no such file; source takes bundled, uci, sklearn or the path",
        ),
        (["--scaling", "some"], r"scaling='some': takes train or all"),
        (["--colour", "red"], r"unrecognized arguments: --colour red"),
        (["--name", "../x"], r"name='\.\./x': takes one plain folder name"),
        (["--name", "/x"], r"name='/x': takes one plain folder name"),
        (["--name", ""], r"name='': takes one plain folder name"),
        (["--name", ".."], r"name='\.\.': takes one plain folder name"),
        (["--name", "a\nb"], r"name='a\\nb': takes one plain folder name"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(words, said, digitlib_command, tmp_path):
    done = digitlib_command("report", *words, cwd=tmp_path)
    assert done.returncode == 2
    assert re.fullmatch(rf"digitlib: .*{said}.*\n", done.stderr), done.stderr
    assert list(tmp_path.iterdir()) == []


def test_starting_the_command_imports_neither_torch_nor_pandas():
    code = (
        "import sys, digitlib.cli, digitlib; digitlib.cli._parser(); print({'torch', 'pandas',"
        " 'sklearn'} & set(sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "set()"


def test_the_paper_wing_imports_no_torch():
    code = "import sys, digitlib.reporting.report; print('torch' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "False"


# ---- failures ------------------------------------------------------------------------------------


@pytest.fixture
def notebooks_with_a_bad_cell(tmp_path, monkeypatch):
    """Returns a function that puts a cell with `source` into 1_eda, which runs beside the training."""
    monkeypatch.setattr(os, "environ", os.environ.copy())

    def prepare(source):
        folder = tmp_path / "notebooks"
        shutil.copytree(ROOT / "notebooks", folder)
        path = folder / "1_eda.ipynb"
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
    with pytest.raises(
        NotebookFailed,
        match=(
            r"^1_eda\.ipynb, cell \[\d+\]: ZeroDivisionError: division by zero \(kept:"
            r" .*mine-failed\)$"
        ),
    ):
        report.make_report("mine", small_parameters(), tmp_path / "reports")
    assert "ZeroDivisionError" in (tmp_path / "reports" / "mine-failed" / "1_eda.ipynb").read_text()
    assert not list((tmp_path / "reports" / "mine-failed").glob("*.html"))
    assert (tmp_path / "reports" / "mine" / "index.html").read_text() == "the report before"


def test_dead_kernel_is_said_to_be_dead(notebooks_with_a_bad_cell, tmp_path):
    notebooks_with_a_bad_cell("import os, signal; os.kill(os.getpid(), signal.SIGKILL)")
    with pytest.raises(NotebookFailed, match=r"^1_eda\.ipynb: its kernel died"):
        report.make_report("mine", small_parameters(), tmp_path / "reports")
    assert not (tmp_path / "reports" / "mine").exists()


@pytest.fixture
def report_in_training(tmp_path):
    """A report process whose first fold is finished and whose others are not."""
    words = ["report", "--name", "cut", "--source", "sklearn", "--epochs", "12"]
    command = [sys.executable, "-m", "digitlib", *words]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "JOBLIB_CPU_COUNT": "1"}
    process = subprocess.Popen(
        command,
        cwd=tmp_path,
        env=environment,
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


def kernels_of(folder):
    """Kernel processes whose working directory lies in `folder`."""
    import psutil

    found = []
    for process in psutil.process_iter():
        try:
            if process.cwd().startswith(str(folder)):
                found.append(process)
        except psutil.Error:
            continue
    return found


def wait_until_gone(folder, seconds=20):
    deadline = time.monotonic() + seconds
    while (left := kernels_of(folder)) and time.monotonic() < deadline:
        time.sleep(0.1)
    return left


def test_killed_run_leaves_no_report_and_the_next_attempt_goes_on(
    report_in_training, digitlib_command, tmp_path
):
    process, words = report_in_training
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert not (tmp_path / "reports" / "cut").exists()
    assert wait_until_gone(tmp_path / "reports") == [], (
        "kernels end with the process that started them"
    )
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
    assert (
        process.stderr.read()
        .splitlines()[-1]
        .startswith("digitlib: interrupted; finished folds are kept")
    )
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
