"""Write an executed notebook as a page: one HTML file that asks for nothing outside itself.

nbconvert walks the cells with ``template/page.html.j2``; what a template cannot do well (headings,
headers of tables) is done here. Figures and tables are numbered by ``template/style.css``.
"""

import base64
import html
import re
from itertools import count
from pathlib import Path

from bs4 import BeautifulSoup
from jinja2 import Environment, FileSystemLoader
from nbconvert import HTMLExporter
from nbconvert.exporters.templateexporter import TemplateExporter
from nbconvert.filters.widgetsdatatypefilter import WidgetsDataTypeFilter
from pygments import highlight
from pygments.formatters import HtmlFormatter
from pygments.lexers.python import PythonLexer

from digitlib import files, own, runs

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
GALLERY = '<figure class="gallery"'  # that digitlib.plots.image_grid begins with
HEADING = re.compile(r'<h([1-6])(?: id="([^"]*)")?>(.*?)</h\1>', re.DOTALL)
NUMBER = re.compile(
    r"(< )?[+\-−]?[\d,]*\.?\d+(e[+\-]?\d+)?( ?%)?|\d{4}-\d\d-\d\d|nan|NaN|[A-Za-z0-9]?"
)


class _Exporter(HTMLExporter):
    """HTMLExporter without its last step.

    That step reads the page again and would put a placeholder where alt text is missing.
    """

    def from_notebook_node(self, nb, resources=None, **options):
        resources = self._init_resources(resources)
        types = WidgetsDataTypeFilter(
            notebook_metadata=self._nb_metadata, parent=self, resources=resources
        )
        self.register_filter("filter_data_type", types)
        return TemplateExporter.from_notebook_node(self, nb, resources, **options)


class _Page:
    """What one page knows while it is written: its links and facts, its headings so far."""

    def __init__(self, notebook, stems, run):
        self.stem, self.title, self.toc = notebook.stem, PAGES.get(notebook.stem, notebook.stem), []
        self.links = links(stems, run)
        self.report, self.facts = own.label(run.info), facts(run.info)
        self._heading, self._level, self._ids = self.title, 1, set()
        self._figures = count(1)

    def prose(self, text):
        """HTML of Markdown, with headings that can be linked to and never skip a level.

        The first heading of level 1 becomes the page's title.
        """
        return HEADING.sub(self._one_heading, text)

    def _one_heading(self, match):
        level, inner = int(match[1]), match[3]
        plain = re.sub(r"<[^>]+>", "", inner).strip()
        self._heading = plain
        if level == 1 and not self._ids:
            self.title = plain
            self._ids.add("main")
            return ""
        level = self._level = min(max(2, level), self._level + 1)
        name = re.sub(r"[^\w.-]+", "-", html.unescape(plain)).strip("-") or "section"
        while name in self._ids:
            name += "-again"
        self._ids.add(name)
        if level <= 3:
            self.toc.append((level, name, plain))
        return f'<h{level} id="{name}">{inner}</h{level}>'

    def picture(self, output, mime):
        """A figure, with the description that its function wrote into the output's metadata."""
        facts = output.metadata.get(mime, {})
        alt = facts.get("alt") or output.data.get("text/plain", "")
        if not alt or alt.startswith("<"):
            alt = "This picture has no description."
        caption = facts.get("caption") or alt
        if caption == alt:  # it is read below the picture: no one has to hear it twice
            alt = f"Figure: {html.unescape(self._heading)}"
        data = output.data[mime]
        if mime == "image/svg+xml":
            data = base64.b64encode(data.encode()).decode()
        size = ""
        if "width" in facts:
            width, height = facts["width"], facts["height"]
            size = f' width="{width}" height="{height}" style="width: {width / 16:g}rem"'
        number = next(self._figures)
        take = ""
        if facts.get("csv"):
            numbers = base64.b64encode(facts["csv"].encode()).decode()
            take = (
                f'<p class="take"><a download="{self.stem}-figure-{number}.csv"'
                f' href="data:text/csv;charset=utf-8;base64,{numbers}">Numbers (CSV)</a></p>'
            )
        image = f'<img src="data:{mime};base64,{data.strip()}" alt="{html.escape(alt)}"{size}>'
        return (
            f'<figure id="figure-{number}">{image}'
            f"<figcaption>{html.escape(caption)}</figcaption>{take}</figure>"
        )

    def tables(self, text):
        """HTML output: figures numbered; tables with scoped headers and captions, in boxes."""
        if GALLERY in text:
            return text.replace(GALLERY, f'{GALLERY} id="figure-{next(self._figures)}"', 1)
        if "<table" not in text:
            return text
        soup = BeautifulSoup(text, "html.parser")
        for style in soup.select("style[scoped]"):
            style.decompose()
        for table in soup.find_all("table"):
            del table["border"]
            if table.get("class") != ["matrix"]:
                del table["class"]
            _join_index_names(table)
            _scope_headers(table)
            _align_numbers(table)
            if not table.get("class"):
                _name_cells(table)
            if not table.caption:
                lines = len(table.select("tbody tr"))
                words = f"{lines} line{'s' * (lines != 1)} under this heading"
                table.insert(0, soup.new_tag("caption", string=f"{words}."))
            label = " ".join(table.caption.get_text().split())
            # A group and no region: two tables under one heading would be landmarks of one name.
            box = {"class": "scroll", "role": "group", "tabindex": "0", "aria-label": label}
            table.wrap(soup.new_tag("div", attrs=box))
        return str(soup)


def _cells(row):
    return row.find_all(["th", "td"])


def _join_index_names(table):
    """Put the line that pandas writes for the name of the index into the line above it."""
    rows = table.select("thead tr")
    if len(rows) < 2:
        return
    names = [cell.get_text(strip=True) for cell in _cells(rows[-1])]
    above = _cells(rows[-2])
    if len(names) != len(above) or not any(names):
        return
    pairs = list(zip(above, names, strict=True))
    if not any(name and cell.get_text(strip=True) for cell, name in pairs):
        for cell, name in pairs:
            if name:
                cell.string = name
        rows[-1].decompose()


def _scope_headers(table):
    """Say of each header whether it is of a column, a row, or several; an empty one is none."""
    for cell in table.find_all("th"):
        if not cell.get_text(strip=True):
            cell.name = "td"
        elif cell.find_parent("thead"):
            cell["scope"] = "colgroup" if int(cell.get("colspan", 1)) > 1 else "col"
        else:
            cell["scope"] = "rowgroup" if int(cell.get("rowspan", 1)) > 1 else "row"
    for row in table.select("thead tr[style]"):
        del row["style"]


def _align_numbers(table):
    """Columns of numbers to the right, and the last line of headers with them.

    Columns are counted from the right, since a row header may span rows.
    """
    rows, heads = table.select("tbody tr"), table.select("thead tr")[-1:]
    columns = {}
    for row in rows:
        for place, cell in enumerate(reversed(_cells(row))):
            numeric = NUMBER.fullmatch(cell.get_text(strip=True)) is not None
            columns[place] = columns.get(place, True) and numeric
    for row in rows + heads:
        for place, cell in enumerate(reversed(_cells(row)[1:])):  # the first says what the line is
            if columns.get(place) and (cell.name == "td" or row in heads):
                cell["class"] = [*cell.get("class", []), "num"]


def _name_cells(table):
    """Of a wide table each cell knows its column's name, which a phone shows above it."""
    names = [cell.get_text(strip=True) for cell in table.select("thead tr:last-child > *")]
    for row in table.select("tbody tr") if 7 <= len(names) <= 18 else ():
        for name, cell in zip(names, _cells(row), strict=False):
            if cell.name == "td":
                cell["data-head"] = name


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


def fill(path, template, **facts):
    """Write `path` from a template of this folder; return `path`."""
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES), autoescape=lambda name: name.endswith("html.j2")
    )
    return files.write_text(path, environment.get_template(template).render(**facts))


def facts(info):
    """Pairs for a page's header, from ``run.json``."""
    return [
        ("Model", own.label(info)),
        ("Seed", info["parameters"]["seed"]),
        ("Data, SHA-256", info["data"]["sha256"][:12]),
        ("Made", info["created"].replace("T", " ").replace("+00:00", " UTC")),
        ("Version", f"digitlib {info['versions']['digitlib']}"),
    ]


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
    """
    folder = notebook.parent
    stems = [path.stem for path in folder.glob("*.ipynb")] if stems is None else stems
    page = _Page(notebook, stems, runs.load(folder))
    filters = {
        "prose": page.prose,
        "picture": page.picture,
        "tables": page.tables,
        "code_label": _code_label,
        "python_code": _python_code,
    }
    exporter = _Exporter(
        template_name="base",
        template_file="page.html.j2",
        # Ours first: nbconvert would take templates, which are code, from the current folder.
        extra_loaders=[FileSystemLoader(TEMPLATES)],
        extra_template_basedirs=[],
        exclude_anchor_links=True,
        filters=filters,
    )
    exporter.environment.globals["page"] = page
    text, _ = exporter.from_filename(str(notebook))
    return files.write_text(notebook.with_suffix(".html"), text)
