"""Fixtures that several test files share: one small real report, and a way to run the command line
as a person does.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from digitlib.reporting import pdf

ROOT = Path(__file__).parents[1]
BROWSER = next((found for name in pdf.BROWSERS if (found := shutil.which(name))), None)
needs_browser = pytest.mark.skipif(
    BROWSER is None, reason="no Chromium or Chrome on PATH (apt install chromium)"
)
QUIET = (
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
SMALL = (
    "--source",
    "sklearn",
    "--epochs",
    "1",
    "--seed",
    "3",
)  # 1,797 rows, one epoch: seconds, not half a minute


@pytest.fixture(scope="session")
def digitlib_command():
    """Call ``python -m digitlib ...`` in a folder; returns the finished process with its output as
    text.
    """

    def call(*words, cwd, env=None, **options):
        environment = {**os.environ, "PYTHONPATH": str(ROOT), **(env or {})}
        command = [sys.executable, "-m", "digitlib", *map(str, words)]
        return subprocess.run(
            command,
            cwd=cwd,
            env=environment,
            capture_output=True,
            text=True,
            timeout=240,
            **options,
        )

    return call


@pytest.fixture(scope="session")
def hostile_environment(tmp_path_factory):
    """A user whose Jupyter has a broken ``python3`` kernel and whose IPython start-up fails; all
    connections are written to a file.
    """
    folder = tmp_path_factory.mktemp("user")
    kernel = folder / "jupyter" / "kernels" / "python3"
    kernel.mkdir(parents=True)
    (kernel / "kernel.json").write_text(
        '{"argv": ["/bin/false"], "display_name": "broken", "language": "python"}'
    )
    startup = folder / "ipython" / "profile_default" / "startup"
    startup.mkdir(parents=True)
    (startup / "00-break.py").write_text("raise SystemExit('a start-up file of the user ran')\n")
    audit = folder / "audit"
    audit.mkdir()
    (audit / "sitecustomize.py").write_text(
        "import os, sys\ndef hook(event, args):\n    if event in ('socket.connect',"
        " 'socket.getaddrinfo', 'socket.sendto') and not isinstance(args[-1], (str, bytes)):\n     "
        "   with open(os.environ['CONNECTIONS'], 'a') as file: print(event, args[1:],"
        " file=file)\nsys.addaudithook(hook)\n"
    )
    return {
        "JUPYTER_PATH": str(folder / "jupyter"),
        "JUPYTER_PREFER_ENV_PATH": "0",
        "IPYTHONDIR": str(folder / "ipython"),
        "PYTHONPATH": f"{audit}:{ROOT}",
        "CONNECTIONS": str(folder / "connections.txt"),
    }


@pytest.fixture(scope="session")
def small_report(tmp_path_factory, digitlib_command, hostile_environment):
    """A finished report of the smallest real run, made by the command line; do not change the
    folder.
    """
    folder = tmp_path_factory.mktemp("work")
    done = digitlib_command(
        "report", "--name", "small", *SMALL, cwd=folder, env=hostile_environment
    )
    assert done.returncode == 0, done.stderr
    return folder / "reports" / "small"


@pytest.fixture(scope="session")
def chromium():
    """A real browser, one for all tests of a process: playwright allows no second one beside it."""
    playwright = pytest.importorskip(
        "playwright.sync_api", reason="playwright is a development dependency"
    )
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(
            executable_path=BROWSER, args=["--no-sandbox", "--disable-gpu", *QUIET]
        )
        yield browser
        browser.close()
