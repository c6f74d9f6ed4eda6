"""Notebooks in JupyterLab: a real server, a real browser, Run All, and no cell fails."""

import json
import os
import re
import subprocess
import sys
import time
import urllib.error
import urllib.request

import pytest
from conftest import ROOT, needs_browser

from digitlib.provenance import notebook_folder

NOTEBOOKS = ("2_train.ipynb", "3_evaluate.ipynb")  # one that writes, one that reads
# Real digits and a real training, only less of both.
SMALL = {"source": '"sklearn"', "epochs": "1"}
pytestmark = needs_browser


def copy_with_small_parameters(folder):
    for name in NOTEBOOKS:
        notebook = json.loads((notebook_folder() / name).read_text(encoding="utf-8"))
        for cell in notebook["cells"]:
            if "parameters" in cell["metadata"].get("tags", []):
                source = "".join(cell["source"])
                for parameter, value in SMALL.items():
                    line = re.compile(rf"^{parameter} = .*?(?=  #)", re.MULTILINE)
                    source = line.sub(f"{parameter} = {value}", source)
                cell["source"] = source
        (folder / name).write_text(json.dumps(notebook), encoding="utf-8")


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    """Address of a running JupyterLab whose folder ``notebooks`` has copies of all notebooks."""
    folder = tmp_path_factory.mktemp("lab")
    (folder / "notebooks").mkdir()
    copy_with_small_parameters(folder / "notebooks")
    places = ("JUPYTER_CONFIG_DIR", "JUPYTERLAB_WORKSPACES_DIR", "JUPYTERLAB_SETTINGS_DIR")
    places = (*places, "JUPYTER_RUNTIME_DIR", "IPYTHONDIR")
    own = {name: str(folder / name) for name in places}
    options = [
        *("--no-browser", "--allow-root", "--ip=127.0.0.1", "--port=0"),
        "--IdentityProvider.token=t",
        "--LabApp.expose_app_in_browser=True",
        "--LabApp.news_url=None",
        "--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate",
        f"--ServerApp.root_dir={folder}",
    ]
    with (
        open(folder / "log.txt", "w") as log,
        subprocess.Popen(
            [sys.executable, "-m", "jupyterlab", *options],
            env={**os.environ, "PYTHONPATH": str(ROOT), **own},
            stdout=log,
            stderr=log,
        ) as server,
    ):
        try:
            yield address_of(server, folder)
        finally:
            server.terminate()
            try:
                server.wait(10)
            except subprocess.TimeoutExpired:
                server.kill()


def address_of(server, folder, seconds=120):
    end = time.monotonic() + seconds
    while time.monotonic() < end and server.poll() is None:
        for path in (folder / "JUPYTER_RUNTIME_DIR").glob("jpserver-*.json"):
            try:
                address = json.loads(path.read_text())["url"]
                urllib.request.urlopen(f"{address}api?token=t", timeout=5).close()
                return address
            except (ValueError, urllib.error.URLError):
                pass  # still starting
        time.sleep(0.2)
    pytest.fail(f"JupyterLab did not start: {(folder / 'log.txt').read_text()[-2000:]}")


OPEN = """async (path) => {
  await window.jupyterapp.commands.execute("docmanager:open", { path });
}"""
READY = """(name) => {
  const panel = window.jupyterapp?.shell.currentWidget;
  const idle = panel?.sessionContext?.session?.kernel?.status === "idle";
  return idle && panel.title.label === name && panel.content.model?.cells.length > 5;
}"""
OUTPUTS = """() => {
  const cells = [...window.jupyterapp.shell.currentWidget.content.model.cells];
  const code = cells.filter((cell) => cell.type === "code" && cell.sharedModel.source.trim());
  const outputs = code.flatMap((cell) => cell.outputs.toJSON());
  const errors = outputs.filter((output) => output.output_type === "error");
  const shown = outputs.map((output) => [output.data?.["text/html"] ?? []].flat().join(""));
  const open = (cell) => cell.executionCount === null || cell.executionState === "running";
  return {
    failed: errors.map((error) => `${error.ename}: ${error.evalue}`),
    waiting: code.filter(open).length,
    types: outputs.flatMap((output) => Object.keys(output.data ?? {})),
    figures: shown.filter((text) => text.startsWith("<figure")),
    warnings: outputs.filter((output) => output.name === "stderr").map((output) => output.text),
  };
}"""
DONE = f"() => {{ const now = ({OUTPUTS})(); return now.failed.length || now.waiting === 0; }}"
# Cells out of sight are not in the page.
SCROLL = """async (text) => {
  const notebook = window.jupyterapp.shell.currentWidget.content;
  const has = ({ model }) => model.type === "code" && model.sharedModel.source.includes(text);
  notebook.activeCellIndex = notebook.widgets.findIndex(has);
  await notebook.scrollToCell(notebook.activeCell, "start");
}"""


@pytest.fixture(scope="module")
def page(lab, chromium):
    """JupyterLab in the browser: loaded once, all notebooks are opened in it."""
    page = chromium.new_page(viewport={"width": 1440, "height": 1000})
    page.goto(f"{lab}lab?token=t&reset")
    page.wait_for_function("() => window.jupyterapp?.shell.currentWidget", timeout=120_000)
    yield page
    page.close()


# In the order in which a person runs them: 3 and later read what 2 has written.
@pytest.mark.parametrize("name", NOTEBOOKS)
def test_run_all_in_jupyterlab(page, name):
    page.evaluate(OPEN, f"notebooks/{name}")
    page.wait_for_function(READY, arg=name, timeout=120_000)
    page.get_by_role("menuitem", name="Run", exact=True).click()
    page.get_by_role("menuitem", name="Run All Cells", exact=True).click()
    page.wait_for_function(DONE, timeout=200_000)
    done = page.evaluate(OUTPUTS)
    assert done["failed"] == []
    assert done["waiting"] == 0
    assert len(done["figures"]) > 3
    assert all("<figcaption>" in figure for figure in done["figures"])
    assert [text for text in done["warnings"] if "arning" in str(text)] == []
    if name.startswith("2_"):
        assert "application/vnd.jupyter.widget-view+json" in done["types"], "no widget"
        the_progress_bar_has_moved(page)


def the_progress_bar_has_moved(page):
    page.evaluate(SCROLL, "cross_validate(")
    bar = page.locator(".widget-hprogress .progress-bar")
    bar.wait_for(state="visible", timeout=30_000)
    assert bar.bounding_box()["width"] > 50
