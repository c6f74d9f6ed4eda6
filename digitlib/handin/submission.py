"""From a report folder to one file that can be handed in, and that a grader can check."""

import hashlib
import html
import json
import re
import shutil
import subprocess
import tempfile
import zipfile
from datetime import UTC, datetime
from importlib.metadata import distributions
from pathlib import Path

import digitlib
from digitlib.errors import DigitlibError, ParameterError, RunError
from digitlib.handin import colab
from digitlib.handin.evidence import faults as notebook_faults
from digitlib.reporting import pdf
from digitlib.reporting.report import check_name

MANIFEST = "MANIFEST.json"
FORMAT = 1
TITLE_PAGE = ("authors", "course", "title")
REPORTS = (
    "1_eda",
    "2_train",
    "3_evaluate",
)  # every hand-in has these; others of the folder come along
REQUIRED = (
    "index.html",
    *(f"{stem}{suffix}" for stem in REPORTS for suffix in (".html", ".ipynb")),
    f"{colab.COMPLETE}.ipynb",
    "run.json",
    "predictions.csv",
    "history.csv",
    "requirements.lock",
)
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
    info = _check_folder(folder)
    notes = []
    if fault := code_fault(info.get("commit")):
        if not any_code:
            raise RunError(
                f"{folder}: {fault}; commit and make the report again (or --any-code, which notes"
                " it in the manifest)"
            )
        notes.append(fault)
    with tempfile.TemporaryDirectory() as scratch:
        staging = Path(scratch) / name
        staging.mkdir()
        _copy_parts(folder, staging, title_page)
        _complete_notebook(staging, info, Path(scratch))
        _lock_file(staging)
        printed = _write_pdf(staging)
        notes += [] if printed["made"] else [f"no PDF: {printed['why']}"]
        manifest = {
            "format": FORMAT,
            "name": name,
            **{field: title_page[field].strip() for field in TITLE_PAGE},
            "digitlib": digitlib.__version__,
            "commit": info.get("commit"),
            "created": datetime.now(UTC).isoformat(timespec="seconds"),
            "pdf": printed,
            "notes": notes,
            "files": {path.name: describe(path.read_bytes()) for path in sorted(staging.iterdir())},
        }
        (staging / MANIFEST).write_text(
            json.dumps(manifest, indent=2, ensure_ascii=False) + "\n", encoding="utf-8"
        )
        return _zip(staging, Path(out) / f"{name}-submission.zip"), notes


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


def _check_folder(folder):
    """``run.json`` of a report folder in which nothing is missing and every notebook ran in order."""
    if not folder.is_dir():
        raise RunError(f"{folder}: no such report; make it with `make report NAME={folder.name}`")
    wanted = [
        part for part in REQUIRED if part not in (f"{colab.COMPLETE}.ipynb", "requirements.lock")
    ]
    missing = [part for part in wanted if not (folder / part).is_file()]
    if missing:
        raise RunError(f"{folder}: {', '.join(missing)} missing; make the report again")
    try:
        info = json.loads((folder / "run.json").read_text(encoding="utf-8"))
        weights = [
            f"fold-{fold}.safetensors" for fold in range(1, info["parameters"]["splits"] + 1)
        ]
    except (ValueError, KeyError, TypeError) as error:
        raise RunError(
            f"{folder}: run.json is damaged ({type(error).__name__}); make the report again"
        ) from error
    if missing := [part for part in weights if not (folder / part).is_file()]:
        raise RunError(f"{folder}: {', '.join(missing)} missing; make the report again")
    if faults := [
        fault
        for path in sorted(folder.glob("*.ipynb"))
        for fault in notebook_faults(path.read_bytes(), path.name)
    ]:
        raise RunError(f"{folder}: {'; '.join(faults)}")
    return info


def code_fault(commit):
    """Why the code at `commit` (of ``run.json``) is not what is committed here, or None."""
    root = Path(digitlib.__file__).parents[1]
    if commit is None:
        return "the run was not made in a git checkout, so its code is not known"
    if commit.endswith("-dirty"):
        return f"the run was made with changes to commit {commit[:9]} that are not committed"
    if not re.fullmatch(r"[0-9a-f]{40,64}", commit):
        return "run.json names no commit"

    def git(*words):
        return subprocess.run(
            ["git", "-C", root, *words], capture_output=True, text=True, check=False
        )

    if git("diff", "--quiet", commit, "--", "digitlib", "notebooks").returncode:
        return (
            f"digitlib/ or notebooks/ is not what it was at commit {commit[:9]}, with which the run"
            " was made"
        )
    return None


# ---- the parts -----------------------------------------------------------------------------------


def _copy_parts(folder, staging, title_page):
    for path in sorted(folder.iterdir()):
        if path.suffix in (".ipynb", ".json", ".csv", ".safetensors") and path.is_file():
            shutil.copyfile(path, staging / path.name)
        elif path.suffix == ".html":
            (staging / path.name).write_text(
                add_title_page(path.read_text(encoding="utf-8"), title_page), encoding="utf-8"
            )


def add_title_page(page, title_page):
    """The HTML `page` with authors, course and title, escaped, first in its main part."""
    texts = {field: html.escape(title_page[field].strip()) for field in TITLE_PAGE}
    header = _TITLE_PAGE.format(**texts)
    # Inside <main>: that is what is printed.
    found, count = re.subn(r"<main\b[^>]*>", lambda match: match[0] + header, page, count=1)
    if not count:
        raise RunError("a page of the report has no main part; make the report again")
    return found


def _complete_notebook(staging, info, scratch):
    values = {key: info["parameters"].get(key) for key in ("seed", "splits", "scaling", "epochs")}
    values |= {"recipe": info["recipe"]["name"], "source": info["data"]["source"]}
    written = colab.build(
        scratch / "colab", values={key: value for key, value in values.items() if value is not None}
    )
    shutil.copyfile(written[-1], staging / written[-1].name)


def _lock_file(staging):
    """Exact versions: the checkout's lock file, or what is installed if it has none."""
    lock = Path(digitlib.__file__).parents[1] / "requirements.lock"
    installed = sorted(
        {f"{found.name}=={found.version}" for found in distributions()}, key=str.lower
    )
    text = (
        lock.read_text(encoding="utf-8")
        if lock.is_file()
        else "# Versions installed when this was handed in.\n" + "\n".join(installed) + "\n"
    )
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
    """Flat, in order of name, manifest first; under a temporary name until it is whole."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.part")
    with zipfile.ZipFile(part, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in sorted(staging.iterdir(), key=lambda file: (file.name != MANIFEST, file.name)):
            archive.write(file, file.name)
    part.replace(path)
    return path
