"""From a report folder to one file that can be handed in, and that a grader can check."""

import hashlib
import html
import itertools
import json
import re
import shutil
import tempfile
import zipfile
from datetime import UTC, datetime
from importlib.metadata import distributions
from pathlib import Path

import digitlib
from digitlib import provenance
from digitlib.errors import DigitlibError, ParameterError, RunError
from digitlib.handin import colab
from digitlib.reporting import pdf
from digitlib.reporting.report import check_name

MANIFEST = "MANIFEST.json"
FORMAT = 1
TITLE_PAGE = ("authors", "course", "title")
# Every report has these, and the weights of each fold; others of its folder come along.
REPORT_PARTS = (
    "index.html",
    *(f"{stem}{suffix}" for stem in colab.STORY for suffix in (".html", ".ipynb")),
    *("run.json", "predictions.csv", "history.csv"),
)
PARTS = (".ipynb", ".json", ".csv", ".safetensors", ".skops", ".py")  # copied as they are
SOURCES = "sources.json"  # the package's code, and the notebooks'
REQUIRED = (*REPORT_PARTS, f"{colab.COMPLETE}.ipynb", "requirements.lock")
_TITLE_PAGE = """
<header class="title-page" style="margin: 0 0 2rem; padding-bottom: 1rem; border-bottom: 1px solid">
<p data-title-page="course">{course}</p>
<p data-title-page="title" style="font-size: 2rem; font-weight: bold; margin: .3em 0">{title}</p>
<p data-title-page="authors">{authors}</p>
</header>
"""


def make_submission(name, title_page, reports="reports", out="dist", any_code=False):
    """Pack ``reports/<name>/`` into ``<out>/<name>-submission.zip``.

    Parameters
    ----------
    name : str
        A finished report.
    title_page : dict
        ``authors``, ``course`` and ``title``, as text; they are escaped on the pages.
    reports, out : str or path-like
    any_code : bool
        Pack even if the code of the run is not what is committed; the manifest notes it.

    Returns
    -------
    Path, list of str
        The file, and what the manifest notes: no browser for PDF, code that is not committed.

    Raises
    ------
    ParameterError, RunError
        A part is missing, a notebook failed or did not run in order, the code differs from what is
        committed, or a text of the title page is empty, too long or not plain. Nothing is written
        then.
    """
    _check_title_page(title_page)
    folder = Path(reports) / check_name(name)
    _check_parts(folder)
    from digitlib import runs  # brings torch, which nobody shall wait for to hear of a wrong name

    run = runs.load(folder)
    _check_weights(run)
    notes = _notes_on_code(run, any_code)
    packed = Path(out) / f"{name}-submission.zip"
    with tempfile.TemporaryDirectory() as scratch:
        staging = Path(scratch) / name
        staging.mkdir()
        _copy_parts(folder, staging, title_page)
        _write_sources(staging)
        written = complete_notebook(run.info, Path(scratch))
        shutil.copyfile(written, staging / written.name)
        _lock_file(staging)
        printed = _write_pdf(staging)
        notes += [] if printed["made"] else [f"no PDF: {printed['why']}"]
        manifest = {
            "format": FORMAT,
            "name": name,
            **{field: title_page[field].strip() for field in TITLE_PAGE},
            "digitlib": digitlib.__version__,
            "commit": run.info.get("commit"),
            "created": datetime.now(UTC).isoformat(timespec="seconds"),
            "pdf": printed,
            "notes": notes,
            "files": {path.name: describe(path.read_bytes()) for path in sorted(staging.iterdir())},
        }
        text = json.dumps(manifest, indent=2, ensure_ascii=False) + "\n"
        (staging / MANIFEST).write_text(text, encoding="utf-8")
        packed.parent.mkdir(parents=True, exist_ok=True)
        with runs.replacing(packed) as part:
            _zip(staging, part)
    return packed, notes


def describe(content):
    """``sha256`` and ``bytes`` of a file's content."""
    return {"sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content)}


# ---- what a hand-in must be ----------------------------------------------------------------------


def _check_title_page(title_page):
    for field in TITLE_PAGE:
        text = title_page[field]
        if not text.strip() or len(text) > 200 or not text.isprintable():
            raise ParameterError(
                f"{field}={text[:40]!r}: takes one line of 1 to 200 printable characters"
            )


def _check_parts(folder):
    """A report folder in which nothing is missing and every notebook ran in order."""
    if not folder.is_dir():
        raise RunError(f"{folder}: no such report; make it with `make report NAME={folder.name}`")
    missing = [part for part in REPORT_PARTS if not (folder / part).is_file()]
    if missing:
        raise RunError(f"{folder}: {', '.join(missing)} missing; make the report again")
    faults = []
    for path in sorted(folder.glob("*.ipynb")):
        faults += notebook_faults(path.read_bytes(), path.name)
    if faults:
        raise RunError(f"{folder}: {'; '.join(faults)}")


def _check_weights(run):
    ending = "skops" if run.kind == "estimator" else "safetensors"
    parts = [f"fold-{number}.{ending}" for number in range(1, run.folds.max() + 1)]
    missing = [part for part in parts if not (run.path / part).is_file()]
    if missing and not run.info["model"].get("kept"):
        raise RunError(f"{run.path}: {', '.join(missing)} missing; make the report again")


def notebook_faults(content, name):
    """What is wrong with an executed notebook.

    Parameters
    ----------
    content : bytes
        The ``.ipynb`` file; it is read, never run.
    name : str
        What to call it.

    Returns
    -------
    list of str
        One line per fault; empty if every code cell ran, in order, without an error.
    """
    try:
        cells = json.loads(content)["cells"]
        code = [
            cell
            for cell in cells
            if cell["cell_type"] == "code" and "".join(cell["source"]).strip()
        ]
        # papermill adds a cell of injected parameters and numbers it like any other.
        counts = [cell["execution_count"] for cell in code]
        faults = [
            f"cell [{cell['execution_count']}] ended in {output['ename']}; mend it and run again"
            for cell in code
            for output in cell["outputs"]
            if output["output_type"] == "error"
        ]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        return [f"{name}: not a readable notebook ({type(error).__name__})"]
    never = sum(not isinstance(count, int) for count in counts)
    if not code:
        faults.append("no code was run")
    elif never:
        faults.append(f"{never} of {len(code)} cells were never run; run all of it")
    elif counts != sorted(set(counts)):
        at = next(count for count, following in itertools.pairwise(counts) if following <= count)
        faults.append(f"cells did not run in order (after [{at}]); restart the kernel and run all")
    return [f"{name}: {fault}" for fault in faults]


def _notes_on_code(run, any_code):
    """What a grader will not be able to check; code that changed is refused unless `any_code`."""
    notes, fault = [], code_fault(run.info, run.path)
    if fault and not any_code:
        remedy = "commit and make the report again (or --any-code, which notes it in the manifest)"
        raise RunError(f"{run.path}: {fault}; {remedy}")
    if fault:
        notes.append(fault)
    if run.own:
        what = "network" if run.kind == "network" else "classifier"
        notes.append(
            f"the {what} is your own: whether the fitted models give these predictions can be"
            " checked only by a grader who lets model.py run"
        )
    return notes


def code_fault(info, folder):
    """Why the code of a run, from its ``run.json``, is not known to a grader; None if it is."""
    code = info.get("code")
    if code is None:
        return "the run was made with a version that did not record its code"
    if code["sha256"] != provenance.code_hash():
        return "digitlib/ is not what it was when the run was made"
    if code["changed"] is None:
        return "the run's code cannot be compared with a commit or a release"
    if code["changed"]:
        files = ", ".join(code["changed"])
        return f"the run was made with changes that are not committed or released: {files}"
    books = {path.name: path.read_text(encoding="utf-8") for path in folder.glob("*.ipynb")}
    if other := provenance.ran_other_code(books):
        return f"{', '.join(other)} ran other code than the notebooks that are here now"
    return None


# ---- the parts -----------------------------------------------------------------------------------


def _copy_parts(folder, staging, title_page):
    for path in sorted(folder.iterdir()):
        if path.suffix == ".html":
            page = add_title_page(path.read_text(encoding="utf-8"), title_page)
            (staging / path.name).write_text(page, encoding="utf-8")
        elif path.suffix in PARTS and path.is_file():
            shutil.copyfile(path, staging / path.name)


def _write_sources(staging):
    """The code as data, so that a grader's tool can compare it; and what changed, to be read."""
    texts = provenance.sources()
    text = json.dumps(texts, indent=0, ensure_ascii=False)
    (staging / SOURCES).write_text(text, encoding="utf-8")
    before = provenance.committed(provenance.changed_files() or ())
    if changes := provenance.diff(before, texts):
        (staging / "changes.diff").write_text(changes, encoding="utf-8")


def add_title_page(page, title_page):
    """The HTML `page` with authors, course and title, escaped, first in its main part."""
    texts = {field: html.escape(title_page[field].strip()) for field in TITLE_PAGE}
    header = _TITLE_PAGE.format(**texts)
    # Inside <main>: that is what is printed.
    found, count = re.subn(r"<main\b[^>]*>", lambda match: match[0] + header, page, count=1)
    if not count:
        raise RunError("a page of the report has no main part; make the report again")
    return found


def complete_notebook(info, scratch):
    """Write the notebook that carries the package and repeats this run; return its path."""
    names = ("seed", "splits", "folds", "scaling", "epochs")
    values = {name: info["parameters"].get(name) for name in names}
    values = {name: value for name, value in values.items() if value is not None}
    values["source"] = info["data"]["source"]
    if info["model"]["source"]:
        values |= {"model": info["model"]["source"], "epochs": 0}
    else:
        changed = {name: value for name, (value, _) in info["model"]["changed"].items()}
        values |= {"recipe": info["recipe"]["name"], "changes": changed}
    return colab.build(scratch / "colab", values=values)[-1]


def _lock_file(staging):
    """Exact versions: the checkout's lock file, or what is installed if it has none."""
    lock = colab.ROOT / "requirements.lock"
    if lock.is_file():
        text = lock.read_text(encoding="utf-8")
    else:
        installed = {f"{found.name}=={found.version}" for found in distributions()}
        heading = "# Versions installed when this was handed in."
        text = "\n".join([heading, *sorted(installed, key=str.lower), ""])
    (staging / "requirements.lock").write_text(text, encoding="utf-8")


def _write_pdf(staging):
    """Print the pages as one PDF, or say why not."""
    try:
        made = pdf.make_pdf(staging.name, staging.parent)
    except DigitlibError as error:  # no browser: its line says what to install
        for half in staging.glob("*.pdf"):
            half.unlink()
        return {"made": False, "why": str(error)}
    return {"made": True, "pages": [made.name]}


def _zip(staging, path):
    """Flat, in order of name, manifest first."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in sorted(staging.iterdir(), key=lambda file: (file.name != MANIFEST, file.name)):
            archive.write(file, file.name)
