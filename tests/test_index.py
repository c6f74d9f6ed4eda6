"""``index.html`` is computed from the files of the run folder: what it says must follow them."""

import html
import json
import re
import shlex
import shutil

import pytest

from digitlib import cli
from digitlib.errors import RunError
from digitlib.report import index


@pytest.fixture
def folder(small_report, tmp_path):
    return shutil.copytree(small_report, tmp_path / "mine")


def page(folder):
    return index.write_index(folder, folder.name).read_text(encoding="utf-8")


def command(text):
    return shlex.split(html.unescape(re.search(r'class="command"><code>(.*?)</code>', text)[1]))


def change_info(folder, part, **values):
    info = json.loads((folder / "run.json").read_text())
    info[part] |= values
    (folder / "run.json").write_text(json.dumps(info))


def test_the_command_shown_is_one_that_the_command_line_takes(folder):
    words = command(page(folder))
    assert words[:4] == ["python", "-m", "digitlib", "report"]
    given = cli.report.make_context("report", words[4:]).params
    asked = {"name": "mine", "recipe": "coursework", "seed": "3", "set": ("epochs=1",)}
    asked |= {"source": "sklearn", "compare": False}
    assert given | asked == given
    shutil.copy(folder / "3_evaluate.ipynb", folder / "4_compare.ipynb")
    assert command(page(folder))[-1] == "--compare"


@pytest.mark.parametrize("source", ["/nowhere/gone.csv", "bundled"], ids=["gone", "another"])
def test_errors_whose_images_are_gone_are_still_told_of(folder, source):
    assert "cannot be shown" not in page(folder)
    change_info(folder, "data", source=source)
    text = page(folder)
    assert f"cannot be shown: {source} is no longer the file that this run read" in text
    assert 'id="errors"' in text and 'class="gallery"' not in text


def test_a_damaged_folder_is_said_to_be(folder):
    (folder / "history.csv").unlink()
    said = r"mine.history.csv: no such file; a complete run has it: make one with "
    with pytest.raises(RunError, match=said):
        page(folder)
