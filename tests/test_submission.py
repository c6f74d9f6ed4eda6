"""One file to hand in: what is in it, and when it is refused."""

import json
import shutil
import zipfile

import pytest
from conftest import TITLE_PAGE

from digitlib.errors import ParameterError, RunError
from digitlib.handin import submission
from digitlib.report import pdf


@pytest.fixture
def reports(small_report, tmp_path, monkeypatch):
    """A folder of reports with a copy of the small one, for changing; nothing prints it."""
    monkeypatch.setattr(pdf, "BROWSERS", ())
    shutil.copytree(small_report, tmp_path / "reports" / "mine")
    return tmp_path / "reports"


def _pack(reports, **options):
    out = reports.parent / "dist"
    return submission.make_submission("mine", TITLE_PAGE, reports, out, **options)


def _rewrite(path, change):
    """Change the JSON of a file in place."""
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


@pytest.fixture(scope="module")
def packed(handed_in):
    """Files of a hand-in by name, and its manifest."""
    with zipfile.ZipFile(handed_in) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    return parts, json.loads(parts["MANIFEST.json"])


def test_every_part_is_in_it(packed, handed_in):
    assert list(handed_in.parent.iterdir()) == [handed_in]
    weights = {f"fold-{k}.safetensors" for k in (1, 2, 3, 4)}
    assert set(packed[0]) >= {*submission.REPORT_PARTS, *weights, "MANIFEST.json"}


def test_title_page_is_escaped_on_every_report(packed):
    pages = [content.decode() for name, content in packed[0].items() if name.endswith(".html")]
    assert len(pages) >= 4
    for page in pages:
        assert page.count("Ada &lt;script&gt;alert(1)&lt;/script&gt; &amp; O&#39;Neil") == 1
        assert "<script>alert(1)" not in page
        assert "Learning 1" in page
        assert "Digits, read" in page


def test_pdf_is_there_or_the_manifest_says_why_not(packed):
    parts, manifest = packed
    printed = {name for name in parts if name.endswith(".pdf")}
    if manifest["pdf"]["made"]:
        assert set(manifest["pdf"]["pages"]) == printed != set()
    else:
        assert f"no PDF: {manifest['pdf']['why']}" in manifest["notes"]
        assert not printed


def _fail(code):
    error = {"output_type": "error", "ename": "ValueError", "evalue": "no", "traceback": []}
    code[3]["outputs"] = [error]


def _swap(code):
    counts = [cell["execution_count"] for cell in code]
    code[2]["execution_count"], code[3]["execution_count"] = counts[3], counts[2]


def _forget(code):
    code[-1]["execution_count"] = None


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (_fail, r"cell \[\d+\] ended in ValueError"),
        (_swap, "cells did not run in order"),
        (_forget, r"1 of \d+ cells were never run"),
    ],
)
def test_notebook_that_did_not_run_from_top_to_bottom(reports, change, said):
    def spoil(book):
        change([cell for cell in book["cells"] if cell["cell_type"] == "code"])

    _rewrite(reports / "mine" / "2_train.ipynb", spoil)
    with pytest.raises(RunError, match=rf"2_train\.ipynb: {said}"):
        _pack(reports)
    assert not (reports.parent / "dist").exists()


@pytest.mark.parametrize("part", ["2_train.html", "run.json", "fold-3.safetensors", "history.csv"])
def test_missing_part(reports, part):
    (reports / "mine" / part).unlink()
    with pytest.raises(RunError, match=f"{part} missing"):
        _pack(reports)


@pytest.mark.parametrize("authors", ["", "  ", "a\nb", "x" * 201, "\x1b[31mred"])
def test_authors_that_are_no_line_of_text(reports, authors):
    with pytest.raises(ParameterError, match="takes one line of 1 to 200 printable characters"):
        submission.make_submission("mine", {**TITLE_PAGE, "authors": authors}, reports)
