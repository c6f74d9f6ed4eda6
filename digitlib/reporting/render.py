"""Pages: an executed notebook becomes one HTML file, whole in itself.

No address outside the file is asked for anything. nbconvert walks the cells with
``template/page.html.j2``; what a template cannot do well (headings, table headers) is done here.
"""

import base64
import html
import re
from pathlib import Path

from bs4 import BeautifulSoup
from nbconvert import HTMLExporter
from nbconvert.exporters.templateexporter import TemplateExporter
from nbconvert.filters.widgetsdatatypefilter import WidgetsDataTypeFilter
from pygments import highlight
from pygments.formatters import HtmlFormatter
from pygments.lexers.python import PythonLexer

from digitlib import runs

PAGES = {
    "1_eda": "Exploration",
    "2_train": "Training",
    "3_evaluate": "Evaluation",
    "4_compare": "Comparison",
    "5_predict": "Prediction",
}
TEMPLATES = Path(__file__).with_name("template")
HEADING = re.compile(r'<h([1-6])(?: id="([^"]*)")?>(.*?)</h\1>', re.DOTALL)
NUMBER = re.compile(
    r"(< )?[+\-−]?[\d,]*\.?\d+(e[+\-]?\d+)?( ?%)?|\d{4}-\d\d-\d\d|nan|NaN|[A-Za-z0-9]?"
)


class _Exporter(HTMLExporter):
    """HTMLExporter without its last step, which reads the page again and would put a placeholder
    where alt text is missing.
    """

    def from_notebook_node(self, nb, resources=None, **options):
        resources = self._init_resources(resources)
        self.register_filter(
            "filter_data_type",
            WidgetsDataTypeFilter(
                notebook_metadata=self._nb_metadata, parent=self, resources=resources
            ),
        )
        return TemplateExporter.from_notebook_node(self, nb, resources, **options)


class _Page:
    """What one page knows while it is written: its links and facts, and the headings so far."""

    def __init__(self, notebook, stems):
        self.stem, self.title = notebook.stem, PAGES.get(notebook.stem, notebook.stem)
        self.links, self.toc = links(stems), []
        self.report, self.facts = _facts(notebook.parent)
        self._heading, self._level, self._ids = self.title, 1, set()

    def prose(self, text):
        """HTML of Markdown; its first heading of level 1 becomes the page's title, later ones never
        skip a level.
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
        level = min(max(2, level), self._level + 1)
        self._level = level
        name = re.sub(r"[^\w.-]+", "-", html.unescape(plain)).strip("-") or "section"
        while name in self._ids:
            name += "-again"
        self._ids.add(name)
        if level <= 3:
            self.toc.append((level, name, plain))
        return f'<h{level} id="{name}">{inner}</h{level}>'

    def picture(self, output, mime):
        """A figure with the description that its function wrote into the output's metadata."""
        facts, data = output.metadata.get(mime, {}), output.data[mime]
        alt = facts.get("alt") or output.data.get("text/plain", "")
        if not alt or alt.startswith("<"):
            alt = f"Picture without a description, under the heading {html.unescape(self._heading)}"
        if mime == "image/svg+xml":
            data = base64.b64encode(data.encode()).decode()
        size = ""
        if "width" in facts:
            width, height = facts["width"], facts["height"]
            size = f' width="{width}" height="{height}" style="width: {width / 16:g}rem"'
        return (
            f'<figure><img src="data:{mime};base64,{data.strip()}" alt="{html.escape(alt)}"{size}>'
            f"<figcaption>{self._heading}</figcaption></figure>"
        )

    def tables(self, text):
        """HTML output, each table in it with scoped headers and a caption, in its own scroller."""
        if "<table" not in text:
            return text
        soup = BeautifulSoup(text, "html.parser")
        for style in soup.select("style[scoped]"):
            style.decompose()
        for table in soup.find_all("table"):
            _head(table)
            _body(table)
            if not table.caption:
                caption = soup.new_tag("caption")
                caption.append(html.unescape(self._heading))
                table.insert(0, caption)
            label = " ".join(table.caption.get_text().split())
            region = {"class": "scroll", "role": "region", "tabindex": "0", "aria-label": label}
            table.wrap(soup.new_tag("div", attrs=region))
        return str(soup)


def _head(table):
    """Headers with a scope; the line in which pandas names the index joins the line above it."""
    for attribute in ("border", "class"):
        del table[attribute]
    rows = table.thead.find_all("tr") if table.thead else []
    if len(rows) > 1:
        named, above = (row.find_all(["th", "td"]) for row in (rows[-1], rows[-2]))
        texts = [[cell.get_text(strip=True) for cell in cells] for cells in (named, above)]
        free = len(named) == len(above) and not any(map(all, zip(*texts, strict=True)))
        if free and any(texts[0]):
            for cell, name in zip(above, texts[0], strict=True):
                if name:
                    cell.string = name
            rows.pop().decompose()
    for row in rows:
        row.attrs.pop("style", None)
        for cell in row.find_all("th"):
            cell["scope"] = "colgroup" if int(cell.get("colspan", 1)) > 1 else "col"
    for cell in table.find_all("th"):
        if not cell.get_text(strip=True):
            cell.name = "td"
            cell.attrs.pop("scope", None)


def _body(table):
    """Row headers with a scope; columns of numbers to the right, headers with them."""
    rows = [row for body in table.find_all("tbody") for row in body.find_all("tr")]
    numeric = {}
    for row in rows:
        cells = row.find_all(["th", "td"])
        for place, cell in enumerate(
            cells, -len(cells)
        ):  # from the right: a row header may span rows
            if cell.name == "th":
                cell["scope"] = "rowgroup" if int(cell.get("rowspan", 1)) > 1 else "row"
            numeric[place] = (
                numeric.get(place, True) and NUMBER.fullmatch(cell.get_text(strip=True)) is not None
            )
    heads = table.thead.find_all("tr")[-1:] if table.thead else []
    for row in rows + heads:
        cells = row.find_all(["th", "td"])
        for place, cell in enumerate(cells, -len(cells)):
            if numeric.get(place) and (cell.name == "td" or row in heads) and place > -len(cells):
                cell["class"] = [*cell.get("class", []), "num"]


def _code_label(cell):
    tags = cell.metadata.get("tags", [])
    what = (
        "Parameters of this run"
        if "injected-parameters" in tags
        else "Parameters"
        if "parameters" in tags
        else "Code"
    )
    lines = cell.source.count("\n") + 1
    return f"{what}, {lines} line{'s' * (lines > 1)}"


def _python_code(source):
    return highlight(source, PythonLexer(stripnl=True), HtmlFormatter(nowrap=True)).rstrip("\n")


def links(stems):
    """Pairs of stem and title for the bar: the overview, then each page of `stems` in the order of
    the notebooks.
    """
    return [("index", "Overview"), *((stem, PAGES.get(stem, stem)) for stem in sorted(stems))]


def _facts(folder):
    """Name of the report and pairs for a page's header, from ``run.json``."""
    info = runs.load(folder, consistent=False).info
    return info["recipe"]["name"], [
        ("Recipe", info["recipe"]["name"]),
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
        In a run folder that has its ``run.json``.
    stems : iterable of str or None
        Names, without ending, of all notebooks that get a page in this folder. None: those that are
        there now.

    Returns
    -------
    Path
    """
    stems = [path.stem for path in notebook.parent.glob("*.ipynb")] if stems is None else stems
    page = _Page(notebook, stems)
    exporter = _Exporter(
        template_name="base",
        template_file="page.html.j2",
        extra_template_paths=[str(TEMPLATES)],
        exclude_anchor_links=True,
        filters={
            "prose": page.prose,
            "picture": page.picture,
            "tables": page.tables,
            "code_label": _code_label,
            "python_code": _python_code,
        },
    )
    exporter.environment.globals["page"] = page
    text, _ = exporter.from_filename(str(notebook))
    return runs.write_text(notebook.with_suffix(".html"), text)
