"""The command line: light to start, one line for what is wrong, an exit code for everything."""

import os
import re
import subprocess
import sys

import pytest
from conftest import ROOT

from digitlib import cli

HEAVY = ("torch", "pandas", "sklearn", "papermill", "nbconvert")


@pytest.mark.parametrize("words", [[], ["report", "--help"], ["report", "--x"]])
def test_help_and_bad_input_load_nothing_heavy(words):
    code = (
        "import atexit, sys\n"
        f"atexit.register(lambda: print('loaded:', set({HEAVY}) & set(sys.modules)))\n"
        f"import digitlib.cli; digitlib.cli.main({words})"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert "loaded: set()" in done.stdout


def test_every_command_explains_itself(command):
    code, listed, _ = command("--help")
    assert code == 0
    for name, described in cli.commands.commands.items():
        assert name in listed
        code, said, _ = command(name, "--help")
        assert code == 0
        options = [option for option in described.params if option.opts[0][0] == "-"]
        assert all(option.opts[0] in said and option.help for option in options), name


SEE = r" \(see digitlib report --help\)"
BAD = [
    ([], r"missing command \(see digitlib --help\)"),
    (["frobnicate"], r"no such command 'frobnicate' \(see digitlib --help\)"),
    (["report", "--colour=a\nb"], rf"no such option '?--colour'?.*{SEE}"),
    (["report", "--see", "1"], r"no such option '?--see'?.*"),
    (["report", "--seed"], rf"option '--seed' requires an argument{SEE}"),
    (["report", "more"], r"got unexpected extra argument \(more\).*"),
    (["check"], r"missing argument 'FOLDER'.*"),
    (["pdf"], r"missing option '--name'.*"),
    (["submission", "--name", "a", "--course", "C"], r"missing option '--authors'.*"),
    (["verify"], r"missing argument 'PATH...'.*"),
    (
        ["report", "--splits", "900"],
        r"splits=900: takes an integer from 2 to \d+, the rows of class \d",
    ),
    (["report", "--name", ""], r"name='': takes one plain folder name.*"),
]


@pytest.mark.parametrize(("words", "said"), BAD)
def test_bad_input_is_one_line_and_exit_code_2(words, said, command, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code, out, error = command(*words)
    assert (code, out) == (2, "")
    assert re.fullmatch(f"digitlib: {said}\n", error), error
    assert list(tmp_path.iterdir()) == []


def test_output_that_nobody_reads_ends_the_command():
    command = [sys.executable, "-m", "digitlib", "--help"]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE) as process:
        process.stdout.close()
    assert process.returncode == 141


@pytest.mark.parametrize(
    ("module", "words", "said"),
    [
        ("skimage", ["predict", "a.png"], r"skimage is not installed.*'\.\[picture\]'"),
        ("papermill", ["report", "--recipe", "kernel"], r"papermill .*'\.\[report\]'"),
        ("jinja2", ["colab"], r"jinja2 is not installed.*'\.\[report\]'"),
    ],
)
def test_a_package_that_is_missing_is_one_line_that_names_its_extra(module, words, said, tmp_path):
    code = f"import sys; sys.modules[{module!r}] = None; import digitlib.cli as c; c.main({words})"
    done = python(code, tmp_path)
    assert (done.returncode, done.stdout) == (1, "")
    assert re.fullmatch(f"digitlib: {said}\n", done.stderr), done.stderr


def test_what_is_not_of_reports_works_where_there_is_no_unix(tmp_path):
    code = (
        "import os, sys; sys.modules |= dict.fromkeys(UNIX_MODULES)\n"
        "for name in UNIX_CALLS: delattr(os, name)\n"
        "import digitlib, digitlib.cli, digitlib.handin.verify, digitlib.handin.grade\n"
        "X, y = digitlib.load_digits(return_X_y=True)\n"
        "print(digitlib.DigitClassifier(epochs=2).fit(X[:900], y[:900]).score(X, y) > 0.8)"
    )
    modules, calls = ("fcntl", "resource", "pwd", "grp", "termios"), ("fork", "setsid", "killpg")
    code = code.replace("UNIX_MODULES", repr(modules)).replace("UNIX_CALLS", repr(calls))
    done = python(code, tmp_path)
    assert done.stdout == "True\n", done.stderr


def test_where_hand_ins_cannot_be_judged_one_line_says_so(monkeypatch, command):
    monkeypatch.setattr("multiprocessing.get_all_start_methods", lambda: ["spawn"])
    said = "digitlib: verify needs Linux or macOS; on Windows, use WSL\n"
    assert command("verify", "a.zip") == (2, "", said)


def python(code, folder):
    """Run `code` in a process of its own."""
    command = [sys.executable, "-c", code]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
