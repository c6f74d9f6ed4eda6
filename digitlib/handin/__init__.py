"""A report leaves the house and comes back: a notebook for Colab, hand-ins, verdicts on them."""

from pathlib import Path

from jinja2 import Environment, FileSystemLoader

HERE = Path(__file__).parent
# Pages of verdicts have the head, the style and the script that a report's pages have.
_FOLDERS = [HERE / "template", HERE.parent / "report" / "template"]
_TEMPLATES = Environment(
    loader=FileSystemLoader(_FOLDERS),
    autoescape=lambda name: name is not None and name.endswith(".html.j2"),
    trim_blocks=True,
    keep_trailing_newline=True,
)


def render(template, **values):
    """Text of a file under ``template/``; what is put into HTML is escaped."""
    return _TEMPLATES.get_template(template).render(values)
