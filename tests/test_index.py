"""``index.html`` is computed from the files of the run folder: what it says must follow them."""

import html
import json
import re
import shlex
import shutil

import pytest

from digitlib import cli, metrics
from digitlib.errors import RunError
from digitlib.reporting import index


@pytest.fixture
def folder(small_report, tmp_path):
    return shutil.copytree(small_report, tmp_path / "mine")


def page(folder):
    return index.write_index(folder, folder.name).read_text(encoding="utf-8")


def command(text):
    return shlex.split(html.unescape(re.search(r'class="command"><code>(.*?)</code>', text)[1]))


def test_the_command_shown_is_one_that_the_command_line_takes(folder):
    words = command(page(folder))
    assert words[:4] == ["python", "-m", "digitlib", "report"]
    given = vars(cli._parser().parse_args(words[3:]))
    asked = {
        "name": "mine",
        "recipe": "coursework",
        "seed": "3",
        "epochs": "1",
        "source": "sklearn",
        "compare": False,
    }
    assert {key: given[key] if key == "compare" else str(given[key]) for key in asked} == asked


def test_a_recipe_without_epochs_is_not_asked_for_some(folder):
    info = json.loads((folder / "run.json").read_text())
    info["parameters"]["epochs"] = None
    (folder / "run.json").write_text(json.dumps(info))
    assert "--epochs" not in command(page(folder))


def test_a_report_with_a_comparison_is_made_again_with_one(folder):
    shutil.copy(folder / "3_evaluate.ipynb", folder / "4_compare.ipynb")
    assert command(page(folder))[-1] == "--compare"


def test_the_recipe_says_what_it_is(folder):
    info = json.loads((folder / "run.json").read_text())
    info["recipe"] |= {"name": "instant", "summary": "Filters that are NOT learned."}
    (folder / "run.json").write_text(json.dumps(info))
    assert "Recipe instant: Filters that are NOT learned." in page(folder)


@pytest.mark.parametrize(
    "change", [{"source": "/nowhere/gone.csv"}, {"source": "bundled"}], ids=["gone", "another"]
)
def test_errors_whose_images_are_gone_are_still_told_of(folder, change):
    assert "cannot be shown" not in page(folder)
    info = json.loads((folder / "run.json").read_text())
    info["data"] |= change
    (folder / "run.json").write_text(json.dumps(info))
    text = page(folder)
    assert (
        f"The images cannot be shown: {change['source']} is no longer the file that this run read"
        in text
    )
    assert 'class="thumbs"' not in text


def test_a_damaged_folder_is_said_to_be(folder):
    (folder / "history.csv").unlink()
    with pytest.raises(
        RunError, match=r"mine: damaged run folder \(FileNotFoundError.*make the run again$"
    ):
        page(folder)


@pytest.mark.parametrize(("correct", "total"), [(0, 7), (7, 7), (5523, 5620)])
def test_intervals_are_those_of_the_metrics(correct, total):
    assert index.wilson(correct, total) == pytest.approx(
        metrics.wilson_interval(correct, total), abs=1e-12
    )
