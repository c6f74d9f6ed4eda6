"""Write an executed notebook as a page: one HTML file that asks for nothing outside itself.

nbconvert walks the cells with ``template/page.html.j2``; figures and tables come from the notebook
as they are. What is done here: the list of contents, and sections that do not apply are left out.
"""

import html
import re
from pathlib import Path

import nbformat
from jinja2 import Environment, FileSystemLoader
from nbconvert.exporters import TemplateExporter
from pygments import highlight
from pygments.formatters import HtmlFormatter
from pygments.lexers.python import PythonLexer

from digitlib import files, own, runs
from digitlib.errors import NotebookFailed

PAGES = {
    "index": "Overview",
    "1_eda": "Exploration",
    "2_train": "Training",
    "3_evaluate": "Evaluation",
    "4_compare": "Comparison",
    "5_predict": "Prediction",
    "draw": "Draw",
}
# Characters of weights on the page to draw on, 8 / 3 a weight: enough for four reference networks.
MOST_DRAWN = 1_650_000
TEMPLATES = Path(__file__).with_name("template")
HEADING = re.compile(r"<h([1-6])[^>]*>(.*?)(?:<a class=.anchor-link.*?)?</h\1>", re.DOTALL)
IF_SHOWN = "if-shown"  # tag of a text that is left out, with the code below, if that shows nothing


def undrawn(run):
    """Why a run has no page to draw on, ``draw.html``; None if there is one."""
    if run.own:
        return "its model is code of your own, which runs in Python alone"
    if not all(name.endswith(".safetensors") for name in run.info["model"]["files"]):
        return "its model is no network, and the page reads with networks alone"
    weights = run.path / "fold-1.safetensors"
    if not weights.is_file():
        return "the weights of its networks are not there"
    large = weights.stat().st_size / 4 * 8 / 3 > MOST_DRAWN  # 4 bytes a weight
    return "its networks are too large for a page" if large else None


def links(stems, run):
    """Pairs of stem and title for the bar: the overview, then each page in order."""
    stems = ["index", *sorted(stems), *["draw"] * (undrawn(run) is None)]
    return [(stem, PAGES.get(stem, stem)) for stem in stems]


def facts(info):
    """Pairs for a page's header, from ``run.json``."""
    return [
        ("Model", own.label(info)),
        ("Seed", info["parameters"]["seed"]),
        ("Data, SHA-256", info["data"]["sha256"][:12]),
        ("Made", info["created"].replace("T", " ").replace("+00:00", " UTC")),
        ("Version", f"digitlib {info['versions']['digitlib']}"),
    ]


def fill(path, template, **facts):
    """Write `path` from a template of this folder; return `path`."""
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES), autoescape=lambda name: name.endswith("html.j2")
    )
    return files.write_text(path, environment.get_template(template).render(**facts))


def write_page(notebook, stems=None):
    """Write the HTML page beside an executed notebook.

    Parameters
    ----------
    notebook : Path
        In a run folder; while its training goes on, the page waits for the run.
    stems : iterable of str or None
        Names, without ending, of all notebooks that get a page in this folder. None: those that are
        there now.

    Returns
    -------
    Path

    Raises
    ------
    NotebookFailed
        The notebook cannot be written as a page.
    """
    folder = notebook.parent
    stems = [path.stem for path in folder.glob("*.ipynb")] if stems is None else stems
    run = runs.load(folder)
    exporter = TemplateExporter(
        template_name="base",
        template_file="page.html.j2",
        # Ours first: nbconvert would take templates, which are code, from the current folder.
        extra_loaders=[FileSystemLoader(TEMPLATES)],
        extra_template_basedirs=[],
        filters={"outline": outline, "code_label": _code_label, "python_code": _python_code},
    )
    page = {"stem": notebook.stem, "links": links(stems, run), "facts": facts(run.info)}
    exporter.environment.globals |= page | {"report": own.label(run.info)}
    try:
        text, _ = exporter.from_notebook_node(_applying(nbformat.read(notebook, as_version=4)))
    except Exception as error:
        said = f"{type(error).__name__}: {error}".partition("\n")[0]
        raise NotebookFailed(f"{notebook.name}: no page can be made of it ({said})") from error
    return files.write_text(notebook.with_suffix(".html"), text)


def _applying(book):
    """The notebook without the sections that show nothing, where their text is tagged so."""
    sections = []
    for cell in book.cells:
        if cell.cell_type == "markdown" or not sections:
            sections.append([])
        sections[-1].append(cell)
    book.cells = [
        cell
        for section in sections
        if IF_SHOWN not in section[0].metadata.get("tags", ())
        or any(cell.get("outputs") for cell in section)
        for cell in section
    ]
    return book


def outline(text, title):
    """A page's `text`, `title` and contents (`toc`: level, name, words of each heading).

    The first heading of level 1 becomes the title; the others can be linked to and never skip a
    level.
    """
    found = {"title": title, "toc": []}
    names, level = {"main"}, 1

    def one(match):
        nonlocal level
        words = re.sub(r"<[^>]+>", "", match[2]).strip()
        if match[1] == "1" and not found["toc"]:
            found["title"] = words
            return ""
        level = min(max(2, int(match[1])), level + 1)
        name = re.sub(r"[^\w.-]+", "-", html.unescape(words)).strip("-") or "section"
        while name in names:
            name += "-again"
        names.add(name)
        if level <= 3:
            found["toc"].append((level, name, words))
        return f'<h{level} id="{name}">{match[2]}</h{level}>'

    return {"text": HEADING.sub(one, text)} | found  # text first: it finds the others


def _code_label(cell):
    tags = cell.metadata.get("tags", [])
    what = "Code"
    if "injected-parameters" in tags:
        what = "Parameters of this run"
    elif "parameters" in tags:
        what = "Parameters"
    lines = cell.source.count("\n") + 1
    return f"{what}, {lines} line{'s' * (lines > 1)}"


def _python_code(source):
    return highlight(source, PythonLexer(stripnl=True), HtmlFormatter(nowrap=True)).rstrip("\n")
