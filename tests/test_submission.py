"""One file to hand in: what is in it, and when it is refused."""

import hashlib
import json
import shutil
import zipfile

import nbformat
import pytest

from digitlib.errors import ParameterError, RunError
from digitlib.handin import evidence as executed
from digitlib.handin import submission

TITLE_PAGE = {
    "authors": "Ada <script>alert(1)</script> & O'Neil",
    "course": "Learning 1",
    "title": "Digits, read",
}


@pytest.fixture
def reports(small_report, tmp_path):
    """A folder of reports with a copy of the small one, for changing."""
    shutil.copytree(small_report, tmp_path / "reports" / "mine")
    return tmp_path / "reports"


def _pack(reports, **options):
    return submission.make_submission(
        "mine", TITLE_PAGE, reports, reports.parent / "dist", **{"any_code": True, **options}
    )


def _rewrite(path, change):
    """Change the JSON of a file in place."""
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def test_every_part_is_in_it_with_its_sha256(reports):
    path, _ = _pack(reports)
    assert path == reports.parent / "dist" / "mine-submission.zip"
    with zipfile.ZipFile(path) as archive:
        names = set(archive.namelist())
        assert names >= {
            *submission.REQUIRED,
            "MANIFEST.json",
            *(f"fold-{k}.safetensors" for k in (1, 2, 3, 4)),
        }
        manifest = json.loads(archive.read("MANIFEST.json"))
        assert set(manifest["files"]) == names - {"MANIFEST.json"}
        for name, facts in manifest["files"].items():
            assert facts["sha256"] == hashlib.sha256(archive.read(name)).hexdigest(), name
        complete = nbformat.reads(archive.read("digits_complete.ipynb"), as_version=4)
    parameters = next(
        cell.source for cell in complete.cells if "parameters" in cell.metadata.get("tags", ())
    )
    assert (
        "seed = 3  #" in parameters
    )  # the complete notebook repeats this run, not the default one
    assert 'source = "sklearn"  #' in parameters


def test_title_page_is_escaped_on_every_report(reports):
    path, _ = _pack(reports)
    with zipfile.ZipFile(path) as archive:
        pages = [
            archive.read(name).decode() for name in archive.namelist() if name.endswith(".html")
        ]
    assert len(pages) >= 4
    for page in pages:
        assert page.count("Ada &lt;script&gt;alert(1)&lt;/script&gt; &amp; O&#x27;Neil") == 1
        assert "<script>alert(1)" not in page
        assert "Learning 1" in page
        assert "Digits, read" in page


def test_pdf_is_there_or_the_manifest_says_why_not(reports):
    path, notes = _pack(reports)
    with zipfile.ZipFile(path) as archive:
        manifest, names = json.loads(archive.read("MANIFEST.json")), archive.namelist()
    if manifest["pdf"]["made"]:
        assert (
            set(manifest["pdf"]["pages"])
            == {name for name in names if name.endswith(".pdf")}
            != set()
        )
    else:
        assert f"no PDF: {manifest['pdf']['why']}" in notes
        assert not [name for name in names if name.endswith(".pdf")]
    assert manifest["notes"] == notes


def test_notebook_with_an_error(reports):
    def fail(book):
        code = [cell for cell in book["cells"] if cell["cell_type"] == "code"]
        code[3]["outputs"] = [
            {"output_type": "error", "ename": "ValueError", "evalue": "no", "traceback": []}
        ]

    _rewrite(reports / "mine" / "2_train.ipynb", fail)
    with pytest.raises(RunError, match=r"2_train.ipynb: cell \[\d+\] ended in ValueError"):
        _pack(reports)
    assert not (reports.parent / "dist").exists()


def test_notebook_run_out_of_order(reports):
    def swap(book):
        code = [cell for cell in book["cells"] if cell["cell_type"] == "code"]
        code[2]["execution_count"], code[3]["execution_count"] = (
            code[3]["execution_count"],
            code[2]["execution_count"],
        )

    _rewrite(reports / "mine" / "3_evaluate.ipynb", swap)
    with pytest.raises(RunError, match=r"3_evaluate\.ipynb: cells did not run in order"):
        _pack(reports)


def test_notebook_with_a_cell_never_run(reports):
    def forget(book):
        [cell for cell in book["cells"] if cell["cell_type"] == "code"][-1]["execution_count"] = (
            None
        )

    _rewrite(reports / "mine" / "1_eda.ipynb", forget)
    with pytest.raises(RunError, match=r"1_eda.ipynb: 1 of \d+ cells were never run"):
        _pack(reports)


@pytest.mark.parametrize("part", ["2_train.html", "run.json", "fold-3.safetensors", "history.csv"])
def test_missing_part(reports, part):
    (reports / "mine" / part).unlink()
    with pytest.raises(RunError, match=f"{part} missing"):
        _pack(reports)


@pytest.mark.parametrize(
    ("commit", "said"),
    [
        (None, "not made in a git checkout"),
        ("2" * 40 + "-dirty", "changes to commit 222222222 that are not committed"),
        ("2" * 40, "is not what it was at commit 222222222"),
    ],
)
def test_code_that_is_not_committed(reports, commit, said):
    _rewrite(reports / "mine" / "run.json", lambda info: info.update(commit=commit))
    with pytest.raises(RunError, match=said):
        _pack(reports, any_code=False)
    _, notes = _pack(reports)
    assert any(said in note for note in notes)


@pytest.mark.parametrize("authors", ["", "  ", "a\nb", "x" * 201, "\x1b[31mred"])
def test_authors_that_are_no_line_of_text(reports, authors):
    with pytest.raises(ParameterError, match="takes one line of 1 to 200 printable characters"):
        submission.make_submission(
            "mine", {**TITLE_PAGE, "authors": authors}, reports, any_code=True
        )


def test_command_line_says_it_in_one_line(digitlib_command, tmp_path):
    words = ("submission", "--name", "none", "--authors", "A", "--course", "C", "--title", "T")
    done = digitlib_command(*words, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.count("\n") == 1
    assert "no such report" in done.stderr


def test_file_that_is_no_notebook():
    assert executed.faults(b"[" * 100_000, "deep.ipynb") == [
        "deep.ipynb: not a readable notebook (RecursionError)"
    ]
    assert executed.faults(b"\x80\x04", "pickle.ipynb") == [
        "pickle.ipynb: not a readable notebook (UnicodeDecodeError)"
    ]
