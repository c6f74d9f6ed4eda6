"""Figures made of text and small images: readable on a phone, and a click shows a part of them."""

import base64
import html
import io

import numpy as np
import pandas as pd
from IPython.display import HTML
from PIL import Image

from digitlib import metrics
from digitlib.plots.evaluation import confusion_words

__all__ = ["confusion_table", "image_grid"]


def _listed(text, alt, data):
    """HTML that a notebook shows as a figure, with its words and numbers as every figure's."""
    page = HTML(text)
    page.figure, page.alt, page.numbers = page, alt, data  # as Axes know their figure
    return page


def png(image):
    """Base64 text of a grey PNG of `image` (rows, columns), 0..16, ink dark; a page enlarges it.

    Not compressed: that saves nothing here, and the bytes are the same whatever zlib is installed.
    """
    buffer = io.BytesIO()
    grey = 255 - image.clip(0, 16).astype(float) * 255 // 16
    Image.fromarray(grey.astype("uint8")).save(buffer, "png", compress_level=0)
    return base64.b64encode(buffer.getvalue()).decode()


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
        True digit and digit read, for the links of :func:`confusion_table`.
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
            f' {number}" src="data:image/png;base64,{png(image)}" width="96" height="96"'
            ' loading="lazy" style="width: 100%; height: auto; image-rendering: pixelated">'
            f"<figcaption>{words}</figcaption></figure>"
        )
    place, body = f' id="{name}"' if name else "", "\n".join(items)
    text = f'<figure class="gallery"><div{place} style="{layout}">\n{body}</div>'
    text += f"<figcaption>{html.escape(caption)}</figcaption></figure>"
    return _listed(text, caption, pd.DataFrame({"label": list(labels)}))


def confusion_table(y_true, y_predicted, gallery):
    """The confusion matrix as a table; each number of errors leads to their images.

    Parameters
    ----------
    y_true, y_predicted : array of shape (n,)
    gallery : str
        The name of an :func:`image_grid` on the same page, with ``pairs``.

    Returns
    -------
    IPython.display.HTML
    """
    counts = metrics.confusion_counts(y_true, y_predicted)
    most = max(1, np.where(np.eye(len(counts), dtype=bool), 0, counts).max())
    head = "".join(f'<th scope="col">{label}</th>' for label in counts)
    lines = []
    for true, row in counts.iterrows():
        cells = "".join(_cell(true, *cell, most, gallery) for cell in row.items())
        lines.append(f'<tr><th scope="row">{true}</th>{cells}</tr>')
    words = confusion_words(counts)
    text = f'<table class="matrix"><caption>{words} Rows: the digit as written; columns: as read.'
    text += f" Choose a number of errors to see their images.</caption><thead><tr><td></td>{head}"
    text += f"</tr></thead><tbody>{''.join(lines)}</tbody></table>"
    return _listed(text, words, counts)


def _cell(true, read, count, most, gallery):
    if true == read or not count:
        return f'<td class="{"right" if true == read else "none"}">{count}</td>'
    # As on a report's first page. The colours after the commas are for notebooks.
    step = 1 + sum(4 * count > part * most for part in (1, 2, 3))
    ink = "var(--on-e4, #fff)" if step == 4 else "var(--ink, #1c2530)"
    paper = f"var(--e{step}, {('#fdf0d2', '#fbd494', '#f3a966', '#8c1d18')[step - 1]})"
    words = f"{count}: images of {true} read as {read}"
    return (
        f'<td style="background: {paper}"><a href="#{gallery}" data-pair="{true}-{read}"'
        f' aria-label="{words}" style="color: {ink}">{count}</a></td>'
    )
