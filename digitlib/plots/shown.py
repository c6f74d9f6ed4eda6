"""How figures and tables are shown: as HTML that carries its own words and numbers.

The same HTML stands in JupyterLab, in Colab and on a report's page: a picture with its caption, and
what it was drawn from as a file; a table whose headers and caption a screen reader can tell.
"""

import base64
import html
import io
import sys
import warnings

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from IPython import get_ipython
from IPython.display import HTML
from matplotlib.figure import Figure
from PIL import Image

__all__ = ["INK", "PALETTE", "WIDTH", "alt_text", "as_html", "image_grid", "notebook_style"]
__all__ += ["numbers", "table"]

INK = "Greys"  # 0 is paper, 16 is ink, as on the form
PALETTE = "colorblind"
WIDTH = 5.6  # inches of 100 pixels: on a phone, too, words in a figure can be read
MOST_NUMBERS = 1000  # of a figure, that are offered as a file
TALLEST = 3000  # pixels of a figure that is drawn at twice its size, for sharp screens
WIDE = range(7, 19)  # columns of a table that a phone shows line by line


def notebook_style():
    """Set fonts, colours and sizes, and let this notebook show figures with their words."""
    plt.rcdefaults()  # nothing of a matplotlibrc, wherever one lies
    sns.set_theme(style="whitegrid", palette=PALETTE, rc={"axes.titlesize": "medium"})
    shell = get_ipython()
    if shell is None:
        return
    shell.run_line_magic("matplotlib", "inline")
    plt.uninstall_repl_displayhook()  # it would draw every figure once more, for no one
    formatters = shell.display_formatter.formatters
    formatters["image/png"].pop(Figure, None)
    formatters["text/html"].for_type(Figure, as_html)
    formatters["text/plain"].for_type(
        Figure, lambda figure, printer, cycle: printer.text(getattr(figure, "alt", "figure"))
    )
    _count_warnings(shell)


def _count_warnings(shell):
    """What libraries warn of in a cell is told in one line, without paths of this machine."""
    told = []

    def note(message, category, *place, **options):
        told.append(f"{category.__name__}: {message}".partition("\n")[0])

    def tell(result):
        if told:
            count = "1 warning" if len(told) == 1 else f"{len(told)} warnings; the first"
            print(f"{count}: {told[0][:300]}", file=sys.stderr)
            told.clear()

    warnings.showwarning = note
    shell.events.register("post_run_cell", tell)


# ---- figures -------------------------------------------------------------------------------------


def canvas(height, rows=1, columns=1, width=WIDTH, **options):
    """Axes of a new figure, `width` by `height` inches, laid out within its edges."""
    return plt.subplots(rows, columns, figsize=(width, height), layout="constrained", **options)[1]


def bare(ax, title="", **options):
    """Without ticks and grid, for a picture; return `ax`."""
    ax.set_title(title, **options)
    ax.set(xticks=[], yticks=[])
    ax.grid(False)
    return ax


def described(shown, alt, data, caption=None):
    """Give what is shown, such as the figure of some Axes, its words and its numbers; return it.

    `alt` is the caption too, unless it lists more than one wants to read below a picture.
    """
    owner = _owner(shown)
    owner.alt, owner.caption, owner.numbers = alt, caption or alt, data
    return shown


def _owner(shown):
    """The figure of Axes, or of an array of Axes; HTML itself."""
    first = np.ravel(shown)[0]
    return getattr(first, "figure", first)


def alt_text(shown):
    """What is seen, in one or two sentences."""
    return _owner(shown).alt


def numbers(shown):
    """The DataFrame behind it."""
    return _owner(shown).numbers


def as_html(figure):
    """HTML of a matplotlib figure: picture, caption, and its numbers as a CSV file."""
    zoom = 2 if figure.get_figheight() * figure.dpi < TALLEST else 1
    drawn = io.BytesIO()
    figure.savefig(drawn, dpi=zoom * figure.dpi)
    picture, small = Image.open(drawn).convert("RGB"), io.BytesIO()
    # 256 colours are enough for every figure here; an SVG of the same figures is larger still.
    picture.quantize(256, Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE).save(small, "png")
    caption = getattr(figure, "caption", "")
    alt = getattr(figure, "alt", "Picture without a description.")
    if alt == caption:
        alt = "Figure, described below."  # no one has to hear it twice
    width, height = picture.width // zoom, picture.height // zoom
    image = f'<img src="data:image/png;base64,{_base64(small.getvalue())}" alt="{html.escape(alt)}"'
    image += f' width="{width}" height="{height}"'
    image += f' style="width: {width / 16:g}rem; max-width: 100%; height: auto">'
    words = f"<figcaption>{html.escape(caption)}</figcaption>" if caption else ""
    return f"<figure>{image}{words}{_as_file(getattr(figure, 'numbers', None))}</figure>"


def _as_file(data):
    """A link to the numbers of a figure, if they are few."""
    if data is None or data.size > MOST_NUMBERS:
        return ""
    # As many decimals in all lines, so that two machines' numbers can be told apart from rounding.
    text = data.to_csv(index=not isinstance(data.index, pd.RangeIndex), float_format="%.6f")
    link = f'href="data:text/csv;charset=utf-8;base64,{_base64(text.encode())}"'
    return f'<p class="take"><a download="figure.csv" {link}>Numbers (CSV)</a></p>'


def _base64(content):
    return base64.b64encode(content).decode()


def image_grid(images, labels, caption, columns=None, pairs=None, name=None):
    """Images one after another, each above its label, as one captioned figure.

    Parameters
    ----------
    images : ndarray of shape (n, rows, columns), 0..16
    labels : sequence of str
        One for each image; the first of its lines is printed bold.
    caption : str
    columns : int or None
        None: as many as there is room for.
    pairs : sequence of tuple or None
        True digit and digit read, for the links of :func:`digitlib.plots.confusion_table`.
    name : str or None
        That these links lead to.

    Returns
    -------
    IPython.display.HTML
    """
    layout = "display: flex; flex-wrap: wrap; gap: 0.8rem"
    if columns:
        layout = f"display: grid; grid-template-columns: repeat({columns}, 1fr); gap: 0.4rem"
    pairs, items = pairs or [None] * len(images), []
    for number, (image, label, pair) in enumerate(zip(images, labels, pairs, strict=True), 1):
        first, *more = html.escape(label).split("\n")
        words = "<br>".join([f"<b>{first}</b>", *more])
        which = f' data-pair="{pair[0]}-{pair[1]}"' if pair else ""
        items.append(
            f'<figure{which} style="margin: 0; {"" if columns else "width: 6rem"}"><img alt="Image'
            f' {number}" src="data:image/png;base64,{_png(image)}" width="96" height="96"'
            ' loading="lazy" style="width: 100%; height: auto; image-rendering: pixelated">'
            f"<figcaption>{words}</figcaption></figure>"
        )
    place, body = f' id="{name}"' if name else "", "\n".join(items)
    text = f'<figure class="gallery"><div{place} style="{layout}">\n{body}</div>'
    text += f"<figcaption>{html.escape(caption)}</figcaption></figure>"
    return described(HTML(text), caption, pd.DataFrame({"label": list(labels)}))


def _png(image):
    """Base64 text of a grey PNG of `image` (rows, columns), 0..16, ink dark; HTML enlarges it.

    Not compressed: that saves nothing here, and the bytes are the same whatever zlib is installed.
    """
    buffer = io.BytesIO()
    grey = 255 - image.clip(0, 16).astype(float) * 255 // 16
    Image.fromarray(grey.astype("uint8")).save(buffer, "png", compress_level=0)
    return _base64(buffer.getvalue())


# ---- tables --------------------------------------------------------------------------------------


def table(frame, caption, formats=None):
    """A DataFrame as HTML, with caption, headers of rows and columns, numbers to the right.

    Parameters
    ----------
    frame : DataFrame
        An unnamed index that only counts is left out; the first column says what a line is.
    caption : str
    formats : dict, str, callable or None
        For each column a format such as ``"{:.2f}"``, or a function from a value to text; one for
        all columns with a decimal point; None: as Python writes them.

    Returns
    -------
    IPython.display.HTML
    """
    if not isinstance(frame.index, pd.RangeIndex) or frame.index.name:
        frame = frame.rename_axis(frame.index.name or "").reset_index()
    if not isinstance(formats, dict):
        formats = dict.fromkeys(frame.select_dtypes("float"), formats or "{}")
    numeric = {*frame.select_dtypes("number"), *formats} - {frame.columns[0]}
    marks = [' class="num"' if name in numeric else "" for name in frame]
    names = [html.escape(str(name)) for name in frame]
    heads = [
        f'<th scope="col"{mark}>{name}</th>' if name else "<td></td>"
        for name, mark in zip(names, marks, strict=True)
    ]
    if len(names) in WIDE:  # a phone shows each number below the name of its column
        marks = [f'{mark} data-head="{name}"' for name, mark in zip(names, marks, strict=True)]
    lines = []
    for values in frame.itertuples(index=False):
        first, *cells = map(_text, values, [formats.get(name, "{}") for name in frame])
        cells = "".join(f"<td{m}>{cell}</td>" for m, cell in zip(marks[1:], cells, strict=True))
        lines.append(f'<tr><th scope="row">{first}</th>{cells}</tr>')
    words = html.escape(caption)
    body = f"<table><caption>{words}</caption><thead><tr>{''.join(heads)}</tr></thead>"
    return boxed(f"{body}<tbody>{''.join(lines)}</tbody></table>", words)


def _text(value, form):
    if pd.isna(value):
        return ""
    return html.escape(form(value) if callable(form) else form.format(value))


def boxed(text, label):
    """A table in a box of its own, which can be pushed aside where it is too wide."""
    # A group and no region: two tables under one heading would be landmarks of one name.
    return HTML(f'<div class="scroll" role="group" tabindex="0" aria-label="{label}">{text}</div>')
