"""A report leaves the house and comes back: notebooks for Colab, hand-ins, verdicts for graders."""

from jinja2 import Environment, PackageLoader, select_autoescape

_TEMPLATES = Environment(
    loader=PackageLoader("digitlib.handin", "template"),
    autoescape=select_autoescape(("html.j2",)),
    trim_blocks=True,
    keep_trailing_newline=True,
)


def render(template, **values):
    """Text of a file under ``template/``; what is put into HTML is escaped."""
    return _TEMPLATES.get_template(template).render(values)
