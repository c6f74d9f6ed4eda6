"""The Makefile's own logic, with a stand-in for Python that only writes down what it shall do."""

import os
import shutil
import subprocess
import time

import pytest
from conftest import ROOT

FAKE_PYTHON = """#!/bin/sh
echo "${0##*/} $*" >> calls.txt
case "$*" in
    -c*) exit 0 ;;
    *"venv --clear"*) rm -rf .venv; mkdir -p .venv/bin
        for name in python ruff mypy nbstripout; do cp "$0" .venv/bin/$name; done
        if [ -e no-venv ]; then echo "apt install python3-venv"; exit 1; fi ;;
    *"pip install"*) env | grep PIP_ >> calls.txt
        if [ -e die ]; then kill -9 $PPID; fi
        if [ -e conflict ]; then echo "The conflict is caused by: a 1"; exit 1; fi ;;
esac
"""


@pytest.fixture
def checkout(tmp_path):
    for name in ("Makefile", "requirements.lock", "pyproject.toml"):
        shutil.copy(ROOT / name, tmp_path)
    fake = tmp_path / "python"
    fake.write_text(FAKE_PYTHON)
    fake.chmod(0o755)
    return tmp_path


def make(folder, *words, **variables):
    """Run make; returns the exit code and the calls of the stand-in since the last time."""
    calls = folder / "calls.txt"
    calls.unlink(missing_ok=True)
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("MAKE", "PIP"))}
    environment |= variables
    command = ["make", f"PYTHON={folder / 'python'}", *words]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    lines = calls.read_text().splitlines() if calls.exists() else []
    return done, [line for line in lines if " -c import" not in line]


def modules(calls):
    """What ``python -m`` was called with, in order."""
    return [call.split()[2] for call in calls if call.startswith("python -m ")]


def test_first_call_sets_up_and_later_ones_only_add_what_has_changed(checkout):
    done, calls = make(checkout, "report")
    assert done.returncode == 0, done.stderr
    assert modules(calls) == ["venv", "pip", "digitlib"]
    start = time.monotonic()
    assert make(checkout, "report")[1] == ["python -m digitlib report"]
    assert time.monotonic() - start < 1
    assert modules(make(checkout, "test")[1]) == ["pip", "pytest"]
    # A Python that was upgraded away.
    (checkout / ".venv" / "bin" / "python").unlink()
    _, calls = make(checkout, "report")
    assert calls[0].startswith("python -m venv --clear")
    # A lock that is newer than the installation; last, since it stays newer.
    os.utime(checkout / "requirements.lock", (time.time() + 5, time.time() + 5))
    _, calls = make(checkout, "report")
    assert modules(calls) == ["pip", "digitlib"]
    assert "-c requirements.lock" in calls[0]


def test_tests_on_a_fresh_machine_install_once_and_reports_need_nothing_more(checkout):
    done, calls = make(checkout, "test")
    assert done.returncode == 0, done.stderr
    assert modules(calls) == ["venv", "pip", "pytest"]
    assert calls[1].endswith("-e .[report,picture,dev]")
    assert modules(make(checkout, "report")[1]) == ["digitlib"]
    assert modules(make(checkout, "test")[1]) == ["pytest"]


@pytest.mark.parametrize(
    ("fault", "said"),
    [("die", ""), ("no-venv", "apt install python3-venv"), ("conflict", "The conflict is caused")],
)
def test_installation_that_fails_says_why_each_time_until_it_works(fault, said, checkout):
    (checkout / fault).touch()
    for _ in range(2):
        done, calls = make(checkout, "report")
        assert done.returncode != 0 and said in done.stdout + done.stderr
        assert modules(calls)[0] == "venv" and "digitlib" not in modules(calls)
    (checkout / fault).unlink()
    assert modules(make(checkout, "report")[1]) == ["venv", "pip", "digitlib"]


def test_a_folder_that_was_renamed_or_copied_is_set_up_afresh(checkout):
    make(checkout, "report")
    moved = checkout.rename(checkout.with_name("kurs {ml} 2026"))
    assert modules(make(moved, "report")[1]) == ["venv", "pip", "digitlib"]
    assert modules(make(moved, "report")[1]) == ["digitlib"]


def test_variables_of_the_environment_do_not_count(checkout):
    variables = ["NAME", "RECIPE", "SET", "MODEL", "SEED", "SOURCE", "COMPARE", "PYTHON"]
    _, calls = make(checkout, "report", **dict.fromkeys(variables, "LAPTOP"))
    assert calls[-1] == "python -m digitlib report"
    done, _ = make(checkout, "submission", NAME="LAPTOP", AUTHORS="A", COURSE="C", TITLE="T")
    assert done.returncode == 2 and "needs NAME" in done.stderr
    (checkout / ".venv" / "place").unlink()
    elsewhere = {"PIP_USER": "1", "PIP_TARGET": "/tmp/x", "PIP_PREFIX": "/tmp/x"}
    _, calls = make(checkout, "report", **elsewhere, PIP_INDEX_URL="https://example.org")
    settings = sorted(line for line in calls if line.startswith("PIP_"))
    assert settings == ["PIP_INDEX_URL=https://example.org", "PIP_USER=0"]


def test_variables_reach_the_command_quotes_are_kept_and_compare_can_be_switched_off(checkout):
    words = {"NAME": "O'Neil's run", "RECIPE": "coursework", "SEED": "1", "SPLITS": "5"}
    words |= {"EPOCHS": "2", "SOURCE": "a b.csv", "SCALING": "all"}
    _, calls = make(checkout, "report", *(f"{k}={v}" for k, v in words.items()))
    expected = " ".join(f"--{k.lower()} {v}" for k, v in words.items())
    assert calls[-1] == f"python -m digitlib report {expected}"
    for value, compared in (("1", True), ("0", False), ("no", False)):
        _, calls = make(checkout, "report", f"COMPARE={value}")
        assert calls[-1].endswith("--compare") == compared


def test_what_needs_a_name_says_so(checkout):
    for target in ("pdf", "submission"):
        done, _ = make(checkout, target)
        assert done.returncode == 2
        assert f"make {target}" in done.stderr and "NAME" in done.stderr


def test_help_lists_every_target_and_variable(checkout):
    done, calls = make(checkout)
    targets = ("report", "test", "lab", "bench", "lint", "clean", "help")
    assert all(f"make {target} " in done.stdout for target in targets)
    variables = ("NAME", "RECIPE", "SEED", "SPLITS", "EPOCHS", "SOURCE", "SCALING")
    assert all(f" {variable}=" in done.stdout for variable in variables)
    assert calls == [], "help needs no environment"
