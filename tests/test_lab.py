"""Every notebook in JupyterLab itself: a real server, a real browser, Run All, and no cell fails."""

import json
import os
import re
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest
from conftest import needs_browser

from digitlib.reporting import kernels

ROOT = Path(__file__).parents[1]
NOTEBOOKS = sorted(path.name for path in kernels.notebook_folder().glob("*.ipynb"))
SMALL = {
    "source": '"sklearn"',
    "epochs": "3",
    "splits": "2",
}  # real digits and a real training, only less of both
pytestmark = needs_browser


def _copy_with_small_parameters(folder):
    for name in NOTEBOOKS:
        notebook = json.loads((kernels.notebook_folder() / name).read_text(encoding="utf-8"))
        for cell in notebook["cells"]:
            if "parameters" in cell["metadata"].get("tags", []):
                source = "".join(cell["source"])
                for parameter, value in SMALL.items():
                    source = re.sub(
                        rf"^{parameter} = .*?(?=  #)",
                        f"{parameter} = {value}",
                        source,
                        flags=re.MULTILINE,
                    )
                cell["source"] = source
        (folder / name).write_text(json.dumps(notebook), encoding="utf-8")


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    """Address of a running JupyterLab whose folder ``notebooks`` has copies of all notebooks."""
    folder = tmp_path_factory.mktemp("lab")
    (folder / "notebooks").mkdir()
    _copy_with_small_parameters(folder / "notebooks")
    runtime = folder / "runtime"
    environment = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "JUPYTER_CONFIG_DIR": str(folder / "config"),
        "JUPYTER_RUNTIME_DIR": str(runtime),
        "JUPYTERLAB_WORKSPACES_DIR": str(folder / "workspaces"),
        "JUPYTERLAB_SETTINGS_DIR": str(folder / "settings"),
        "IPYTHONDIR": str(folder / "ipython"),
    }
    command = [
        sys.executable,
        "-m",
        "jupyterlab",
        "--no-browser",
        "--allow-root",
        "--ip=127.0.0.1",
        "--port=0",
        "--IdentityProvider.token=t",
        "--LabApp.expose_app_in_browser=True",
        "--LabApp.news_url=None",
        "--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate",
        f"--ServerApp.root_dir={folder}",
    ]
    with (
        open(folder / "log.txt", "w") as log,
        subprocess.Popen(command, env=environment, stdout=log, stderr=log) as server,
    ):
        try:
            yield _wait_for(server, runtime, folder / "log.txt")
        finally:
            server.terminate()
            try:
                server.wait(10)
            except subprocess.TimeoutExpired:
                server.kill()


def _wait_for(server, runtime, log, seconds=120):
    end = time.monotonic() + seconds
    while time.monotonic() < end and server.poll() is None:
        for path in runtime.glob("jpserver-*.json"):
            try:
                address = json.loads(path.read_text())["url"]
                urllib.request.urlopen(f"{address}api?token=t", timeout=5).close()
                return address
            except (ValueError, urllib.error.URLError):
                pass  # still starting
        time.sleep(0.2)
    pytest.fail(f"JupyterLab did not start: {log.read_text()[-2000:]}")


READY = """(name) => {
  const panel = window.jupyterapp?.shell.currentWidget;
  const kernel = panel?.sessionContext?.session?.kernel;
  return panel?.title.label === name && panel.content.model?.cells.length > 5 && kernel?.status === "idle";
}"""
OUTPUTS = """() => {
  const panel = window.jupyterapp.shell.currentWidget;
  const cells = [...panel.content.model.cells].filter((cell) => cell.type === "code" && cell.sharedModel.source.trim());
  const outputs = cells.flatMap((cell) => cell.outputs.toJSON());
  const failed = outputs.filter((output) => output.output_type === "error").map((output) => `${output.ename}: ${output.evalue}`);
  const waiting = cells.filter((cell) => cell.executionCount === null || cell.executionState === "running").length;
  const types = outputs.flatMap((output) => Object.keys(output.data ?? {}));
  const alts = outputs.filter((output) => output.data?.["image/png"]).map((output) => output.metadata["image/png"]?.alt ?? "");
  return { failed, waiting, types, alts };
}"""

SCROLL = """async () => {
  const notebook = window.jupyterapp.shell.currentWidget.content;
  const isBar = (output) => "application/vnd.jupyter.widget-view+json" in (output.data ?? {});
  const place = notebook.widgets.findIndex((cell) => cell.model.type === "code" && cell.model.outputs.toJSON().some(isBar));
  notebook.activeCellIndex = place;  // cells out of sight are not in the page
  await notebook.scrollToCell(notebook.widgets[place]);
}"""


# In the order in which a person runs them: 3 and later read what 2 has written.
@pytest.mark.parametrize("name", NOTEBOOKS)
def test_run_all_in_jupyterlab(lab, chromium, name):
    page = chromium.new_page(viewport={"width": 1440, "height": 900})
    page.goto(f"{lab}lab/tree/notebooks/{name}?token=t&reset")
    page.wait_for_function(READY, arg=name, timeout=120_000)
    page.get_by_role("menuitem", name="Run", exact=True).click()
    page.get_by_role("menuitem", name="Run All Cells", exact=True).click()
    page.wait_for_function(
        f"() => {{ const now = ({OUTPUTS})(); return now.failed.length > 0 || now.waiting ==="
        " 0; }",
        timeout=200_000,
    )
    done = page.evaluate(OUTPUTS)
    assert done["failed"] == []
    assert done["waiting"] == 0
    assert all(len(alt) > 30 for alt in done["alts"])
    if name.startswith("2_"):
        assert "application/vnd.jupyter.widget-view+json" in done["types"], (
            "the progress bar is no widget"
        )
        page.evaluate(SCROLL)
        bar = page.locator(".widget-hprogress .progress-bar")
        bar.wait_for(state="visible", timeout=30_000)
        assert bar.bounding_box()["width"] > 50, "the bar has not moved"
