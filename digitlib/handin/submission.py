"""From a report folder to one file that can be handed in, and that a grader can check."""

import itertools
import json
import re
import shutil
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from zipfile import ZIP_DEFLATED, ZipFile

import digitlib
from digitlib.errors import DigitlibError, ParameterError, RunError
from digitlib.files import check_folder, replacing
from digitlib.handin import colab, render
from digitlib.handin.evidence import MANIFEST, TITLE_PAGE
from digitlib.report import pdf
from digitlib.report.make import check_name

# Every report has these, and the weights of each fold; others of its folder come along.
STORY = [f"{stem}{suffix}" for stem in colab.STORY for suffix in (".html", ".ipynb")]
REPORT_PARTS = ("index.html", *STORY, "run.json", "predictions.csv", "history.csv")
PARTS = (".html", ".ipynb", ".json", ".csv", ".safetensors", ".skops", ".py")  # what is copied


def make_submission(name, title_page, reports="reports", out="dist"):
    """Pack ``reports/<name>/`` into ``<out>/<name>-submission.zip``.

    Parameters
    ----------
    name : str
        A finished report.
    title_page : dict
        ``authors``, ``course`` and ``title``, as text; they are escaped on the pages.
    reports, out : str or path-like

    Returns
    -------
    Path, list of str
        The file, and what the manifest notes: no browser for PDF, changed code, an own model.

    Raises
    ------
    ParameterError, RunError
        A part is missing, a notebook failed or did not run in order, or a text of the title page is
        empty, too long or not plain. Nothing is written then.
    """
    title_page = _checked(title_page)
    check_folder(out, "out")
    folder = Path(reports) / check_name(name)
    if not folder.is_dir():
        raise RunError(f"{folder}: no such report; make it with `make report NAME={name}`")
    _need(folder, REPORT_PARTS)
    books = sorted(folder.glob("*.ipynb"))
    if faults := [f for path in books for f in notebook_faults(path.read_bytes(), path.name)]:
        raise RunError(f"{folder}: {'; '.join(faults)}")
    # pandas and scikit-learn: nobody waits for them to hear of a fault
    from digitlib import runs

    run = runs.load(folder)
    _need(folder, run.info["model"]["files"])
    notes = []
    if run.info.get("code", {}).get("changed"):
        notes.append(
            f"the run was made with changed code: {', '.join(run.info['code']['changed'])}"
        )
    if run.own:
        notes.append("the model is your own: a grader can repeat nothing without running model.py")
    packed = Path(out) / f"{name}-submission.zip"
    with tempfile.TemporaryDirectory() as scratch:
        staging = Path(scratch) / name
        shutil.copytree(folder, staging, ignore=_no_parts, copy_function=shutil.copyfile)
        for page in staging.glob("*.html"):
            text = add_title_page(page.read_text(encoding="utf-8"), title_page)
            page.write_text(text, encoding="utf-8")
        printed = _write_pdf(staging)
        notes += [] if printed["made"] else [f"no PDF: {printed['why']}"]
        parts = sorted(staging.iterdir())
        manifest = {
            "name": name,
            **title_page,
            "digitlib": digitlib.__version__,
            "commit": run.info.get("commit"),
            "created": datetime.now(UTC).isoformat(timespec="seconds"),
            "pdf": printed,
            "notes": notes,
        }
        packed.parent.mkdir(parents=True, exist_ok=True)
        with replacing(packed) as half, ZipFile(half, "w", ZIP_DEFLATED) as archive:
            archive.writestr(MANIFEST, json.dumps(manifest, indent=2, ensure_ascii=False) + "\n")
            for part in parts:
                archive.write(part, part.name)
    return packed, notes


# ---- what a hand-in must be ----------------------------------------------------------------------


def _checked(title_page):
    """The texts of the title page, without space around them."""
    for field in TITLE_PAGE:
        text = title_page[field]
        if not text.strip() or len(text) > 200 or not text.isprintable():
            takes = "takes one line of 1 to 200 printable characters"
            raise ParameterError(f"{field}={text[:40]!r}: {takes}")
    return {field: title_page[field].strip() for field in TITLE_PAGE}


def _need(folder, parts):
    if missing := [part for part in parts if not (folder / part).is_file()]:
        raise RunError(f"{folder}: {', '.join(missing)} missing; make the report again")


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
        code = [cell for cell in json.loads(content)["cells"] if cell["cell_type"] == "code"]
        code = [cell for cell in code if "".join(cell["source"]).strip()]
        # papermill adds a cell of injected parameters and numbers it like any other.
        counts = [cell["execution_count"] for cell in code]
        outputs = [(cell["execution_count"], out) for cell in code for out in cell["outputs"]]
        failed = [(at, out["ename"]) for at, out in outputs if out["output_type"] == "error"]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        return [f"{name}: not a readable notebook ({type(error).__name__})"]
    faults = [f"cell [{at}] ended in {error}; mend it and run again" for at, error in failed]
    never = sum(not isinstance(count, int) for count in counts)
    if not code:
        faults.append("no code was run")
    elif never:
        faults.append(f"{never} of {len(code)} cells were never run; run all of it")
    elif counts != sorted(set(counts)):
        at = next(count for count, following in itertools.pairwise(counts) if following <= count)
        faults.append(f"cells did not run in order (after [{at}]); restart the kernel and run all")
    return [f"{name}: {fault}" for fault in faults]


# ---- the parts -----------------------------------------------------------------------------------


def _no_parts(folder, names):
    return [name for name in names if not (name.endswith(PARTS) and Path(folder, name).is_file())]


def add_title_page(page, title_page):
    """The HTML `page` with authors, course and title, escaped, first in its main part."""
    header = render("title-page.html.j2", **title_page)
    # Inside <main>: that is what is printed.
    found, count = re.subn(r"<main\b[^>]*>", lambda main: f"{main[0]}\n{header}", page, count=1)
    if not count:
        raise RunError("a page of the report has no main part; make the report again")
    return found


def _write_pdf(staging):
    """Print the pages as one PDF, or say why not."""
    try:
        made = pdf.make_pdf(staging.name, staging.parent)
    except DigitlibError as error:  # no browser: its line says what to install
        return {"made": False, "why": str(error)}
    return {"made": True, "pages": [made.name]}
