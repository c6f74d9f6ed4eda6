"""The sheet of ``5_predict.ipynb`` in JupyterLab itself: a digit is drawn with the mouse in a real
browser and read.
"""

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
from test_reading import small_run  # noqa: F401 (a fixture)

pytestmark = needs_browser
SEVEN = [
    [(70, 60), (130, 58), (205, 52), (170, 140), (125, 235)],
    [(105, 148), (200, 138)],
]  # places on the sheet, of 280 by 280


@pytest.fixture
def lab(tmp_path, small_run):  # noqa: F811
    """Address of a running JupyterLab whose folder has the notebook, its `run` set to a small real
    run.
    """
    notebook = json.loads((ROOT / "notebooks" / "5_predict.ipynb").read_text(encoding="utf-8"))
    for cell in notebook["cells"]:
        if "parameters" in cell["metadata"].get("tags", []):
            cell["source"] = re.sub('run = ".*?"', f'run = "{small_run}"', "".join(cell["source"]))
    (tmp_path / "predict.ipynb").write_text(json.dumps(notebook), encoding="utf-8")
    environment = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "JUPYTER_CONFIG_DIR": f"{tmp_path}/config",
        "JUPYTER_RUNTIME_DIR": f"{tmp_path}/runtime",
        "JUPYTERLAB_WORKSPACES_DIR": f"{tmp_path}/workspaces",
        "JUPYTERLAB_SETTINGS_DIR": f"{tmp_path}/settings",
        "IPYTHONDIR": f"{tmp_path}/ipython",
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
        f"--ServerApp.root_dir={tmp_path}",
    ]
    with (
        open(tmp_path / "log.txt", "w") as log,
        subprocess.Popen(command, env=environment, stdout=log, stderr=log) as server,
    ):
        try:
            yield _address(server, tmp_path)
        finally:
            server.terminate()
            try:
                server.wait(10)
            except subprocess.TimeoutExpired:
                server.kill()


def _address(server, folder, seconds=120):
    end = time.monotonic() + seconds
    while time.monotonic() < end and server.poll() is None:
        for path in (folder / "runtime").glob("jpserver-*.json"):
            try:
                address = json.loads(path.read_text())["url"]
                urllib.request.urlopen(f"{address}api?token=t", timeout=5).close()
                return address
            except (ValueError, urllib.error.URLError):
                pass  # still starting
        time.sleep(0.2)
    pytest.fail(f"JupyterLab did not start: {(folder / 'log.txt').read_text()[-2000:]}")


READY = """() => {
  const panel = window.jupyterapp?.shell.currentWidget;
  return panel?.content?.model?.cells.length > 5 && panel.sessionContext?.session?.kernel?.status === "idle";
}"""
STATE = """() => {
  const cells = [...window.jupyterapp.shell.currentWidget.content.model.cells].filter((cell) => cell.type === "code");
  const errors = cells.flatMap((cell) => cell.outputs.toJSON()).filter((output) => output.output_type === "error");
  return { errors: errors.map((e) => `${e.ename}: ${e.evalue}`), waiting: cells.filter((cell) => cell.executionCount === null).length };
}"""
SCROLL = """async () => {
  const notebook = window.jupyterapp.shell.currentWidget.content;
  const place = notebook.widgets.findIndex((cell) => cell.model.sharedModel.source.includes("Pad("));
  notebook.activeCellIndex = place;  // cells out of sight are not in the page
  await notebook.scrollToCell(notebook.widgets[place], "start");
}"""


def test_a_seven_drawn_with_the_mouse_is_read(lab, chromium):
    page = chromium.new_page(viewport={"width": 1440, "height": 1000})
    page.goto(f"{lab}lab/tree/predict.ipynb?token=t&reset")
    page.wait_for_function(READY, timeout=120_000)
    page.get_by_role("menuitem", name="Run", exact=True).click()
    page.get_by_role("menuitem", name="Run All Cells", exact=True).click()
    page.wait_for_function(
        f"() => {{ const now = ({STATE})(); return now.errors.length > 0 || now.waiting === 0; }}",
        timeout=120_000,
    )
    assert page.evaluate(STATE)["errors"] == []
    page.evaluate(SCROLL)
    sheet = page.locator(".jp-OutputArea canvas").first
    sheet.wait_for(state="visible", timeout=30_000)
    sheet.scroll_into_view_if_needed()
    _draw(page, sheet.bounding_box())
    said = page.get_by_text(re.compile("I read: "))
    said.wait_for(timeout=30_000)
    page.get_by_text(re.compile(r"I read: 7 \(")).wait_for(
        timeout=30_000
    )  # read after each stroke; the second one settles it
    shown = page.locator(".jp-OutputArea .widget-image").last
    shown.wait_for(state="visible", timeout=30_000)
    if "SCREENSHOT" in os.environ:
        page.screenshot(path=os.environ["SCREENSHOT"])
    page.get_by_role("button", name="Clean sheet").click()
    shown.wait_for(state="hidden", timeout=30_000)
    page.close()


def _draw(page, box):
    for stroke in SEVEN:
        (x, y), *rest = [(box["x"] + x, box["y"] + y) for x, y in stroke]
        page.mouse.move(x, y)
        page.mouse.down()
        for x, y in rest:
            page.mouse.move(x, y, steps=8)
        page.mouse.up()
