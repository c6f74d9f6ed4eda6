"""One notebook for Colab, Kaggle, any Jupyter: it carries the package and runs everything."""

import base64
import io
import json
import re
import textwrap
import zipfile
from importlib.metadata import requires

import nbformat
from nbformat.v4 import new_code_cell, new_markdown_cell

from digitlib.errors import ParameterError
from digitlib.files import check_folder, write_text
from digitlib.handin import HERE, render
from digitlib.provenance import PACKAGE, notebook_folder

NAME = "digits_complete.ipynb"
STORY = ("1_eda", "2_train", "3_evaluate")  # the notebooks that it is made of
REPO = re.compile(r"[A-Za-z0-9][A-Za-z0-9-]*/[A-Za-z0-9_.-]+")
NOT_CARRIED = {"__pycache__", "notebooks", "checkout"}  # of the package's folder


def build(folder="dist/colab", repo=None):
    """Write the notebook into `folder`; return its path.

    Parameters
    ----------
    folder : str or path-like
        Made if missing.
    repo : str or None
        ``owner/name`` on GitHub: install from there, in place of the package inside the notebook.

    Raises
    ------
    ParameterError
        `repo` is no ``owner/name``.
    """
    if repo is not None and not REPO.fullmatch(repo):
        raise ParameterError(f"repo={repo!r}: takes owner/name of a GitHub repository")
    folder = check_folder(folder, "out")
    folder.mkdir(parents=True, exist_ok=True)
    carried = {"repo": repo} if repo else {"package": _package()}
    install = new_code_cell(render("install.py.j2", needs=json.dumps(_needs()), **carried))
    install.metadata.update(cellView="form", jupyter={"source_hidden": True})
    book = _story([nbformat.read(notebook_folder() / f"{stem}.ipynb", 4) for stem in STORY])
    book.cells.insert(0, install)
    for number, cell in enumerate(book.cells):
        cell.id = f"cell-{number:02}"  # not drawn at random: the same source gives the same file
    return write_text(folder / NAME, nbformat.writes(book) + "\n")


def _needs():
    """What the package needs of others: the core, and what reading a photo takes."""
    pairs = [need.partition(";")[::2] for need in requires("digitlib")]
    return [need.strip() for need, when in pairs if "extra" not in when or "picture" in when]


def _package():
    """The package's files as a zip in text that a cell can hold."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in sorted(PACKAGE.rglob("*")):
            if path.is_file() and NOT_CARRIED.isdisjoint(path.relative_to(PACKAGE).parts):
                # Without the file's time: the same source gives the same notebook.
                entry = zipfile.ZipInfo(path.relative_to(PACKAGE.parent).as_posix())
                archive.writestr(entry, path.read_bytes(), zipfile.ZIP_DEFLATED)
    return "\n".join(textwrap.wrap(base64.b64encode(content.getvalue()).decode(), 4000))


def _story(books):
    """Exploration, training, evaluation and drawing in one, with a single cell of parameters."""
    lines, prose, acts = {}, [], []
    for cells in (book.cells for book in books):
        tags = [cell.metadata.get("tags", ()) for cell in cells]
        at = next(number for number, tagged in enumerate(tags) if "parameters" in tagged)
        # Above Colab's own folder there may be nothing one may write to.
        for line in filter(lambda line: "=" in line, cells[at].source.splitlines()):
            lines.setdefault(line.split("=")[0].strip(), line.replace('"../', '"'))
        first = at - 1 if at and re.match(r"#+ Parameters", cells[at - 1].source) else at
        prose += [cell.source.split("\n", 1)[-1].strip() for cell in cells[first:at]]
        acts += cells[:first] + cells[at + 1 :]
    for cell in acts:
        if cell.cell_type == "markdown":  # headings one level lower
            cell.source = re.sub(r"^(?=#+ )", "#", cell.source, flags=re.MULTILINE)
    start, end, photo = (HERE / "template" / "story.md").read_text("utf-8").split("\n---\n")
    together = "## Parameters\n\n" + "\n\n".join(dict.fromkeys(prose))
    parameters = new_code_cell("\n".join(lines.values()), metadata={"tags": ["parameters"]})
    words = [new_markdown_cell(start.strip()), new_markdown_cell(together), parameters]
    books[0].cells = [*words, *acts, new_markdown_cell(end.strip()), new_code_cell(photo.strip())]
    books[0].metadata["colab"] = {"name": NAME}
    return books[0]
