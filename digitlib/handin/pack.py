"""From a report's folder to one file that can be handed in, and that a grader can check."""

import itertools
import json
import re
import shutil
import tempfile
from pathlib import Path
from zipfile import ZIP_DEFLATED, ZipFile

from digitlib import runs
from digitlib.errors import DigitlibError, ParameterError, RunError
from digitlib.files import check_folder, replacing
from digitlib.handin import render
from digitlib.handin.unpack import FACTS
from digitlib.report import pdf
from digitlib.report.make import check_name

NEEDED = ("run.json", "predictions.csv", "history.csv")
TAKEN = ("*.html", "*.ipynb", "model.py", "checks.json")  # what comes along where it is there


def pack(name, title_page, reports="reports", out="dist"):
    """Pack ``reports/<name>/`` into ``<out>/<name>-submission.zip``.

    Parameters
    ----------
    name : str
        A report, or any run folder.
    title_page : dict
        ``authors``, ``course`` and ``title``, as text; they are escaped on the pages.
    reports, out : str or path-like

    Returns
    -------
    Path, list of str
        The file, and what is to be known: no browser for a PDF, changed code, a model of one's own.

    Raises
    ------
    ParameterError, RunError
        A part is missing, a notebook failed or did not run in order, or a text of the title page is
        empty, too long or not plain. Nothing is written then.
    """
    for field, text in title_page.items():
        if not text.strip() or len(text) > 200 or not text.isprintable():
            takes = "takes one line of 1 to 200 printable characters"
            raise ParameterError(f"{field}={text[:40]!r}: {takes}")
    folder, packed = Path(reports) / check_name(name), Path(out) / f"{name}-submission.zip"
    if not folder.is_dir():
        raise RunError(f"{folder}: no such report; make it with `make report NAME={name}`")
    run = runs.load(folder)
    for path in sorted(folder.glob("*.ipynb")):
        if fault := notebook_fault(path):
            raise RunError(f"{path}: {fault}")
    names = [*NEEDED, *run.info["model"]["files"]]
    if missing := [name for name in names if not (folder / name).is_file()]:
        raise RunError(f"{folder}: {', '.join(missing)} missing; make the report again")
    check_folder(out, "out").mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch:
        staging = Path(scratch) / name
        staging.mkdir()
        for path in [folder / each for each in names] + [p for t in TAKEN for p in folder.glob(t)]:
            shutil.copyfile(path, staging / path.name)
        for page in staging.glob("*.html"):
            page.write_text(with_title(page.read_text("utf-8"), title_page), encoding="utf-8")
        (staging / FACTS).write_text(json.dumps(title_page, ensure_ascii=False), encoding="utf-8")
        notes = [*_print(staging), *_notes(run)]
        with replacing(packed) as half, ZipFile(half, "w", ZIP_DEFLATED) as archive:
            for part in sorted(staging.iterdir()):
                archive.write(part, part.name)
    return packed, notes


def notebook_fault(path):
    """What is wrong with an executed notebook, which is read and not run; empty if nothing is."""
    try:
        cells = json.loads(path.read_bytes())["cells"]
        code = [c for c in cells if c["cell_type"] == "code" and "".join(c["source"]).strip()]
        # papermill adds a cell of injected parameters and numbers it like any other.
        counts = [cell["execution_count"] for cell in code]
        outputs = [(cell["execution_count"], out) for cell in code for out in cell["outputs"]]
        failed = [(at, out["ename"]) for at, out in outputs if out["output_type"] == "error"]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        return f"not a readable notebook ({type(error).__name__}); make the report again"
    if failed:
        return f"cell [{failed[0][0]}] ended in {failed[0][1]}; mend it and run again"
    if never := sum(not isinstance(count, int) for count in counts):
        return f"{never} of {len(code)} cells were never run; run all of it"
    if wrong := [one for one, following in itertools.pairwise(counts) if following <= one]:
        return f"cells did not run in order (after [{wrong[0]}]); restart the kernel and run all"
    return ""


def with_title(page, title_page):
    """The HTML `page` with authors, course and title, escaped, first in its main part."""
    header = render("title-page.html.j2", **title_page)
    # Inside <main>: that is what is printed.
    return re.sub(r"<main\b[^>]*>", lambda main: f"{main[0]}\n{header}", page, count=1)


def _print(staging):
    """Print the pages as one PDF, where there are pages and a browser; a note if not."""
    if not (staging / "index.html").is_file():
        return ["no pages are in this folder; a grader makes them anew from the run"]
    try:
        pdf.make_pdf(staging.name, staging.parent)
    except DigitlibError as error:  # its line says what to install
        return [f"no PDF: {error}"]
    return []


def _notes(run):
    """What a grader will see of the run that is out of the ordinary."""
    if changed := run.info["code"]["changed"]:
        yield f"the run was made with changed code: {', '.join(changed)}"
    if run.own:
        yield "the model is your own: a grader can repeat nothing without running model.py"
