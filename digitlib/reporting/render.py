"""How does an executed notebook become a page?"""

import json

from jinja2 import Environment, PackageLoader, select_autoescape
from nbconvert import HTMLExporter

PAGES = {"1_eda": "Exploration", "2_train": "Training", "3_evaluate": "Evaluation", "4_compare": "Comparison"}


def write_page(notebook):
    """Write the HTML page beside the executed `notebook` (Path); return its path."""
    exporter = HTMLExporter(template_name="lab", require_js_url="", mathjax_url="", mermaid_js_url="")
    html, _ = exporter.from_filename(str(notebook))
    page = notebook.with_suffix(".html")
    page.write_text(html, encoding="utf-8")
    return page


def write_index(folder, name):
    """Write ``index.html``, the page to open first, from ``run.json``."""
    environment = Environment(loader=PackageLoader("digitlib.reporting", "template"), autoescape=select_autoescape())
    info = json.loads((folder / "run.json").read_text(encoding="utf-8"))
    pages = {stem: title for stem, title in PAGES.items() if (folder / f"{stem}.html").is_file()}
    html = environment.get_template("index.html.j2").render(name=name, info=info, pages=pages)
    (folder / "index.html").write_text(html, encoding="utf-8")
