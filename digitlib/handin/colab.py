"""Notebooks for Colab: each carries the package in its first cell and installs it from there."""

import base64
import copy
import hashlib
import json
import re
import shutil
import tempfile
import textwrap
import tomllib
from pathlib import Path

import nbformat
from hatchling.builders.wheel import WheelBuilder
from nbformat.v4 import new_code_cell, new_markdown_cell

from digitlib.errors import ParameterError
from digitlib.files import check_folder
from digitlib.handin import render
from digitlib.provenance import PACKAGE
from digitlib.report import kernels

COMPLETE = "digits_complete"
STORY = ("1_eda", "2_train", "3_evaluate")  # the notebooks that make up the complete one
MAX_BYTES = 1_000_000  # of a finished notebook: more is slow to open in a browser
# The extra of pyproject.toml that a notebook needs beside the core, so that no other waits for it.
EXTRAS = {"5_predict": "picture", COMPLETE: "picture"}
CARRIED = PACKAGE / "checkout"  # in a wheel: what else it was built from, see pyproject.toml
REPO = re.compile(r"[A-Za-z0-9][A-Za-z0-9-]*/[A-Za-z0-9_.-]+")


def build(folder="dist/colab", repo=None):
    """Write every notebook, and the complete one, so that they run where digitlib is not installed.

    Parameters
    ----------
    folder : str or path-like
        Made if missing.
    repo : str or None
        ``owner/name`` on GitHub: install from there, with badges, in place of the package inside
        the notebook.

    Returns
    -------
    list of Path

    Raises
    ------
    ParameterError
        `repo` is no ``owner/name``, there is no source to build the package from, or a notebook
        would pass 1 MB.
    """
    if repo is not None and not REPO.fullmatch(repo):
        raise ParameterError(f"repo={repo!r}: takes owner/name of a GitHub repository")
    project = tomllib.loads((checkout() / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]
    package = _embedded() if repo is None else {"repo": repo}
    folder = check_folder(folder, "out")
    folder.mkdir(parents=True, exist_ok=True)
    sources = sorted(kernels.notebook_folder().glob("*.ipynb"))
    books = {path.stem: nbformat.read(path, as_version=4) for path in sources}
    story = _story(copy.deepcopy(books))
    books = {stem: _alone(book) for stem, book in books.items()} | {COMPLETE: story}
    paths = []
    for stem, book in books.items():
        path = folder / f"{stem}.ipynb"
        needs = project["dependencies"] + extras.get(EXTRAS.get(stem), [])
        install = _cell("install.py.j2", needs=json.dumps(needs), **package)
        install.metadata.update(cellView="form", jupyter={"source_hidden": True})
        badges = [] if repo is None else [_cell("badges.md.j2", repo=repo, path=path.as_posix())]
        book.cells[:0] = [*badges, install]
        _write(path, book)
        paths.append(path)
    return paths


def checkout():
    """The folder with ``pyproject.toml`` and the lock: the checkout, or what a wheel carries."""
    folder = CARRIED if CARRIED.is_dir() else PACKAGE.parent
    for part in ("pyproject.toml", "requirements.lock"):
        if not (folder / part).is_file():
            remedy = "run this in a checkout of digitlib, or install its wheel"
            raise ParameterError(f"{folder}: no {part}, so no source to pack; {remedy}")
    return folder


def build_wheel():
    """The package as a wheel: file name, bytes. A checkout and an installed wheel give the same."""
    with tempfile.TemporaryDirectory() as scratch:
        source = checkout()
        if source == CARRIED:  # lay it out as a checkout
            source = shutil.copytree(CARRIED, Path(scratch) / "source")
            inside = shutil.ignore_patterns("__pycache__", CARRIED.name, "notebooks")
            shutil.copytree(PACKAGE, source / "digitlib", ignore=inside)
            shutil.copytree(kernels.notebook_folder(), source / "notebooks")
        built = WheelBuilder(str(source)).build(directory=scratch, versions=["standard"])
        wheel = Path(next(built))
        return wheel.name, wheel.read_bytes()


# ---- cells ---------------------------------------------------------------------------------------


def _embedded():
    """The wheel, as text that the first cell holds."""
    name, content = build_wheel()
    block = "\n".join(textwrap.wrap(base64.b64encode(content).decode(), 4000))
    return {"name": name, "sha256": hashlib.sha256(content).hexdigest(), "wheel": block}


def _cell(template, **values):
    """A cell from a template: the name's ending says whether it is code or prose."""
    text = render(template, **values)
    return new_markdown_cell(text.rstrip()) if ".md." in template else new_code_cell(text)


def _alone(book):
    """One notebook by itself; if it reads a run and makes none, a cell that makes one."""
    if (at := _parameters(book)) is not None:
        book.cells[at].source = _at_home(book.cells[at].source)
        names = _assignments(book.cells[at].source)
        if "run" in names and "recipe" not in names:
            book.cells.insert(at + 1, _cell("make_run.py.j2"))
    return book


def _story(books):
    """Exploration, training, evaluation and drawing in one, with a single cell of parameters."""
    lines, prose, acts = {}, [], []
    for book in (books[stem] for stem in STORY):
        at, cells = _parameters(book), book.cells
        new = _assignments(_at_home(cells[at].source))
        lines |= new | lines  # what an earlier notebook sets stays
        first = at - 1 if at and re.match(r"#+ Parameters", cells[at - 1].source) else at
        prose += [cell.source.split("\n", 1)[-1].strip() for cell in cells[first:at]]
        acts += map(_demoted, cells[:first] + cells[at + 1 :])
    book.cells = [
        _cell("story.md.j2"),
        new_markdown_cell("## Parameters\n\n" + "\n\n".join(dict.fromkeys(prose))),
        new_code_cell("\n".join(lines.values()), metadata={"tags": ["parameters"]}),
        *acts,
        *map(_cell, ("story_end.md.j2", "story_end.py.j2")),
    ]
    return book


def _demoted(cell):
    """The cell, its headings one level lower."""
    if cell.cell_type == "markdown":
        cell.source = re.sub(r"^(?=#+ )", "#", cell.source, flags=re.MULTILINE)
    return cell


def _parameters(book):
    """Number of the cell of parameters, or None."""
    tags = [cell.metadata.get("tags", ()) for cell in book.cells]
    return next((number for number, tagged in enumerate(tags) if "parameters" in tagged), None)


def _at_home(source):
    """Folders beside the notebook: above it there may be nothing one may write to."""
    return source.replace('"../', '"')


def _assignments(source):
    """The lines of a cell of parameters, by the name that each sets."""
    return {line.split("=")[0].strip(): line for line in source.splitlines() if "=" in line}


def _write(path, book):
    for number, cell in enumerate(book.cells):
        cell.id = f"cell-{number:02}"  # not drawn at random: the same source gives the same file
    book.metadata["colab"] = {"name": path.name}
    text = nbformat.writes(book)
    if (size := len(text.encode())) > MAX_BYTES:
        too_large = f"{path.name} would have {size:,} bytes, more than {MAX_BYTES:,}"
        raise ParameterError(f"{too_large}; make the package smaller")
    path.write_text(text + "\n", encoding="utf-8")
