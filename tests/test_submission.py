"""One file to hand in: what is in it, and when it is refused."""

import json
import shutil
import zipfile

import pytest
from conftest import TITLE_PAGE

from digitlib.errors import ParameterError, RunError
from digitlib.handin import pack
from digitlib.report import pdf


@pytest.fixture
def reports(small_report, tmp_path, monkeypatch):
    """A folder of reports with a copy of the small one, for changing; nothing prints it."""
    monkeypatch.setattr(pdf, "BROWSERS", ())
    shutil.copytree(small_report, tmp_path / "reports" / "mine")
    return tmp_path / "reports"


def packed(reports, **changed):
    return pack.pack("mine", TITLE_PAGE | changed, reports, reports.parent / "dist")


def test_every_part_is_in_it_with_an_escaped_title_page(handed_in):
    with zipfile.ZipFile(handed_in) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    weights = {f"fold-{k}.safetensors" for k in (1, 2, 3, 4)}
    books = {f"{stem}.{end}" for stem in ("1_eda", "2_train") for end in ("html", "ipynb")}
    assert set(parts) >= {*pack.NEEDED, *weights, *books, "index.html", "title-page.json"}
    assert json.loads(parts["title-page.json"]) == TITLE_PAGE
    for page in (text.decode() for name, text in parts.items() if name.endswith(".html")):
        assert page.count("Ada &lt;script&gt;alert(1)&lt;/script&gt; &amp; O&#39;Neil") == 1
        assert "<script>alert(1)" not in page


def test_a_run_folder_alone_is_enough(reports):
    for page in [
        *reports.rglob("*.html"),
        *reports.rglob("*.ipynb"),
        *reports.rglob("checks.json"),
    ]:
        page.unlink()
    (reports / "mine" / ".ipynb_checkpoints").mkdir()
    path, notes = packed(reports)
    assert path.is_file() and any("no pages" in note for note in notes)


def fail(code):
    error = {"output_type": "error", "ename": "ValueError", "evalue": "no", "traceback": []}
    code[3]["outputs"] = [error]


def swap(code):
    counts = [cell["execution_count"] for cell in code]
    code[2]["execution_count"], code[3]["execution_count"] = counts[3], counts[2]


def forget(code):
    code[-1]["execution_count"] = None


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (fail, r"cell \[\d+\] ended in ValueError"),
        (swap, "cells did not run in order"),
        (forget, r"1 of \d+ cells were never run"),
    ],
)
def test_notebook_that_did_not_run_from_top_to_bottom(reports, change, said):
    book = json.loads((reports / "mine" / "2_train.ipynb").read_text())
    change([cell for cell in book["cells"] if cell["cell_type"] == "code"])
    (reports / "mine" / "2_train.ipynb").write_text(json.dumps(book))
    with pytest.raises(RunError, match=rf"2_train\.ipynb: {said}"):
        packed(reports)
    assert not (reports.parent / "dist").exists()


def test_missing_part_and_authors_that_are_no_line_of_text(reports):
    for authors in ("", "a\nb", "x" * 201, "\x1b[31mred"):
        with pytest.raises(ParameterError, match="takes one line of 1 to 200 printable characters"):
            packed(reports, authors=authors)
    (reports / "mine" / "fold-3.safetensors").unlink()
    with pytest.raises(RunError, match=r"fold-3\.safetensors missing"):
        packed(reports)
