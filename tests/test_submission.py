"""One file to hand in: what is in it, and when it is refused."""

import hashlib
import io
import json
import re
import shutil
import zipfile

import nbformat
import pytest
from conftest import TITLE_PAGE, judged_line, needs_browser
from pypdf import PdfReader

from digitlib.errors import ParameterError, RunError
from digitlib.handin import submission
from digitlib.reporting import pdf


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


def test_every_part_is_in_it_with_its_sha256(packed, handed_in):
    assert list(handed_in.parent.iterdir()) == [handed_in]
    parts, manifest = packed
    weights = {f"fold-{k}.safetensors" for k in (1, 2, 3, 4)}
    assert set(parts) >= {*submission.REQUIRED, *weights}
    assert set(manifest["files"]) == set(parts) - {"MANIFEST.json"}
    for name, facts in manifest["files"].items():
        assert facts["sha256"] == hashlib.sha256(parts[name]).hexdigest(), name


def test_complete_notebook_repeats_this_run_not_the_default_one(packed):
    complete = nbformat.reads(packed[0]["digits_complete.ipynb"], as_version=4)
    (parameters,) = [
        cell.source for cell in complete.cells if "parameters" in cell.metadata.get("tags", ())
    ]
    assert "seed = 3  #" in parameters
    assert 'source = "sklearn"  #' in parameters


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


@needs_browser
def test_pdf_has_one_title_page_and_says_in_its_properties_who_wrote_it(packed):
    parts, manifest = packed
    document = PdfReader(io.BytesIO(parts[manifest["pdf"]["pages"][0]]))
    said = document.metadata
    assert (said.title, said.author, said.subject) == tuple(
        TITLE_PAGE[field] for field in ("title", "authors", "course")
    )
    texts = [page.extract_text() for page in document.pages]
    assert "Digits, read" in texts[0] and not any("Digits, read" in text for text in texts[1:])
    assert len(texts) <= 20


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


@pytest.mark.parametrize(
    ("code", "said"),
    [
        (None, "did not record its code"),
        ({"sha256": "0" * 64}, "is not what it was when the run was made"),
        ({"changed": None}, "cannot be compared with a commit or a release"),
        ({"changed": ["digitlib/model.py"]}, "not committed or released: digitlib/model.py"),
    ],
)
def test_code_that_a_grader_does_not_know(reports, code, said):
    def change(info):
        if code is None:
            del info["code"]
        else:
            info["code"] |= code

    _rewrite(reports / "mine" / "run.json", change)
    with pytest.raises(RunError, match=said):
        _pack(reports)
    path, notes = _pack(reports, any_code=True)
    assert any(said in note for note in notes)
    with zipfile.ZipFile(path) as archive:
        assert json.loads(archive.read("MANIFEST.json"))["notes"] == notes


def test_a_notebook_that_ran_other_code_than_is_here(reports, tmp_path):
    """Changed, run, and put back: the pages still show what the other code gave."""

    def change(book):
        code = [cell for cell in book["cells"] if cell["cell_type"] == "code"]
        code[-1]["source"] = "print('99.87 %')"

    # The run itself is unchanged, whatever this checkout is.
    _rewrite(reports / "mine" / "run.json", lambda info: info["code"].update(changed=[]))
    _rewrite(reports / "mine" / "3_evaluate.ipynb", change)
    with pytest.raises(RunError, match=r"3_evaluate.ipynb ran other code than the notebooks"):
        _pack(reports)
    packed, _ = _pack(reports, any_code=True)
    found, why = judged_line(packed, "code", tmp_path / "it")
    assert found == "cannot be checked" and "3_evaluate.ipynb" in why


@pytest.mark.parametrize("authors", ["", "  ", "a\nb", "x" * 201, "\x1b[31mred"])
def test_authors_that_are_no_line_of_text(reports, authors):
    with pytest.raises(ParameterError, match="takes one line of 1 to 200 printable characters"):
        submission.make_submission(
            "mine", {**TITLE_PAGE, "authors": authors}, reports, any_code=True
        )


@pytest.mark.parametrize(
    ("content", "error"), [(b"[" * 100_000, "RecursionError"), (b"\x80\x04", "UnicodeDecodeError")]
)
def test_file_that_is_no_notebook(content, error):
    faults = submission.notebook_faults(content, "x.ipynb")
    assert faults == [f"x.ipynb: not a readable notebook ({error})"]


def test_the_card_is_made_of_the_run_and_says_what_only_its_authors_know(packed):
    text, info = packed[0]["card.md"].decode(), json.loads(packed[0]["run.json"])
    assert f"{info['scores']['correct']:,} of {info['scores']['total']:,}" in text
    assert info["data"]["sha256"] in text and "13 people" in text
    items = re.findall(r"^\| (\d[a-g]) \|", text, re.MULTILINE)
    assert len(items) == len(set(items)) == 32, "the items of REFORMS"
    assert "| 1b | why this population | **say it in your report** |" in text
    assert "{" not in text and "None" not in text


def test_a_card_that_was_touched_up_is_noticed(handed_in, tmp_path):
    assert judged_line(handed_in, "pages", tmp_path / "as-it-is")[0] == "holds"
    shutil.unpack_archive(handed_in, tmp_path / "forged")
    card = tmp_path / "forged" / "card.md"
    card.write_text(card.read_text().replace("Over folds", "At least 99.99 %. Over folds"))
    word, said = judged_line(tmp_path / "forged", "pages", tmp_path / "scratch")
    assert (word, said.endswith(": card.md")) == ("does not hold", True)


def test_the_crate_names_each_file_and_who_made_it_of_what(packed):
    parts, manifest = packed
    crate = json.loads(parts["ro-crate-metadata.json"])
    assert crate["@context"] == "https://w3id.org/ro/crate/1.1/context"
    entities = {one["@id"]: one for one in crate["@graph"]}
    root, about = entities["./"], entities["ro-crate-metadata.json"]
    assert (about["conformsTo"], about["about"]) == (
        {"@id": "https://w3id.org/ro/crate/1.1"},
        {"@id": "./"},
    )
    named = {one["@id"] for one in root["hasPart"]}
    assert named == set(manifest["files"]) - {"ro-crate-metadata.json"}
    assert all(entities[name]["contentSize"] == str(len(parts[name])) for name in named)
    assert entities[root["author"]["@id"]]["name"] == TITLE_PAGE["authors"]
    assert entities[root["isBasedOn"]["@id"]]["name"].startswith("Optical Recognition")
