"""What test files share: a small real report, the command line as a person runs it, a browser.

With pytest-xdist, the tests of a file stay in one process; the small report is made by the first
process that needs it.
"""

import fcntl
import os
import shutil
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import pytest

from digitlib import cli, load_digits
from digitlib.report import pdf

ROOT = Path(__file__).parents[1]
BROWSER = next((found for name in pdf.BROWSERS if (found := shutil.which(name))), None)
needs_browser = pytest.mark.skipif(
    BROWSER is None, reason="no Chromium or Chrome on PATH (apt install chromium)"
)
# What is typed into a title page ends on every page of the hand-in, and in the grader's terminal.
TITLE_PAGE = {
    "authors": "Ada <script>alert(1)</script> & O'Neil",
    "course": "Learning 1",
    "title": "Digits, read",
}
# 1,797 rows, one epoch: seconds, not half a minute.
SMALL = ("--source", "sklearn", "--epochs", "1", "--seed", "3")


@pytest.fixture(scope="session")
def shared_folder(tmp_path_factory):
    """One folder for all processes of a test run."""
    own = tmp_path_factory.getbasetemp()
    return own.parent if "PYTEST_XDIST_WORKER" in os.environ else own


@pytest.fixture(scope="session", autouse=True)
def cache(shared_folder):
    """What was measured once is measured for all tests; nothing lands in the user's own cache."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(shared_folder / "cache"))
        yield


@contextmanager
def environment_put_back():
    """What is set for kernels inside is gone afterwards: JupyterLab would inherit it."""
    before = dict(os.environ)
    yield
    for name in os.environ.keys() - before.keys():
        del os.environ[name]
    os.environ.update(before)


@pytest.fixture(autouse=True)
def environment(cache):
    with environment_put_back():
        yield


@pytest.fixture(scope="session")
def digits():
    """All 5,620 rows; do not change them."""
    return load_digits()


def same_weights(first, second):
    """Whether two fitted classifiers are the same to the bit."""
    pairs = zip(first.network_.parameters(), second.network_.parameters(), strict=True)
    return all(bool((one == other).all()) for one, other in pairs)


@pytest.fixture(scope="session")
def digitlib_command():
    """Call ``python -m digitlib ...`` in a folder; returns the finished process."""

    def call(*words, cwd, env=None):
        return subprocess.run(
            [sys.executable, "-m", "digitlib", *map(str, words)],
            cwd=cwd,
            env={**os.environ, "PYTHONPATH": str(ROOT), **(env or {})},
            capture_output=True,
            text=True,
            timeout=240,
        )

    return call


@pytest.fixture
def command(capsys):
    """Call ``digitlib ...`` in this process; returns exit code, standard output and error."""

    def call(*words):
        with pytest.raises(SystemExit) as end:
            cli.main([str(word) for word in words])
        return end.value.code or 0, *capsys.readouterr()

    return call


WATCH = """\
import os, sys
def hook(event, args):
    connects = event in ("socket.connect", "socket.getaddrinfo", "socket.sendto")
    if connects and not isinstance(args[-1], (str, bytes)):
        with open(os.environ["CONNECTIONS"], "a") as file:
            print(event, args[1:], file=file)
sys.addaudithook(hook)
"""


@pytest.fixture(scope="session")
def hostile_environment(shared_folder):
    """A user's Jupyter with a broken ``python3`` kernel and an IPython start-up that fails.

    All connections are written to a file.
    """
    folder = shared_folder / "user"
    kernel = '{"argv": ["/bin/false"], "display_name": "broken", "language": "python"}'
    files = {
        "jupyter/kernels/python3/kernel.json": kernel,
        "ipython/profile_default/startup/00-break.py": "raise SystemExit('of the user')\n",
        "audit/sitecustomize.py": WATCH,
    }
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return {
        "JUPYTER_PATH": f"{folder}/jupyter",
        "JUPYTER_PREFER_ENV_PATH": "0",
        "IPYTHONDIR": f"{folder}/ipython",
        "PYTHONPATH": f"{folder}/audit:{ROOT}",
        "CONNECTIONS": f"{folder}/connections.txt",
    }


@pytest.fixture(scope="session")
def small_report(shared_folder, digitlib_command, hostile_environment):
    """A finished report of the smallest real run, made by the command line; do not change it."""
    folder = shared_folder / "work"
    folder.mkdir(exist_ok=True)
    report = folder / "reports" / "small"
    with open(shared_folder / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not report.exists():
            # Settings of the user's that would end the report, or colour its figures.
            (folder / "matplotlibrc").write_text("text.usetex: True\naxes.titlecolor: red\n")
            words = ("report", "--name", "small", *SMALL)
            done = digitlib_command(*words, cwd=folder, env=hostile_environment)
            assert done.returncode == 0, done.stderr
    return report


@pytest.fixture(scope="session")
def handed_in(small_report, shared_folder):
    """The small report, packed once to be handed in; do not change it."""
    from digitlib.handin import pack

    path = shared_folder / "dist" / "small-submission.zip"
    with open(shared_folder / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not path.exists():
            words = (small_report.name, TITLE_PAGE, small_report.parent, path.parent)
            assert pack.pack(*words)[0] == path
    return path


@pytest.fixture(scope="session")
def chromium():
    """A real browser, one for each process: playwright allows no second one beside it."""
    playwright = pytest.importorskip(
        "playwright.sync_api", reason="playwright is a development dependency"
    )
    with playwright.sync_playwright() as driver:
        quiet = [switch for switch in pdf.SWITCHES if "pdf" not in switch]
        browser = driver.chromium.launch(executable_path=BROWSER, args=["--no-sandbox", *quiet])
        yield browser
        browser.close()
