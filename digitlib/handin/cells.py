"""Notebooks as data: what two executed copies show, cell by cell; which cells are a student's."""

import base64
import io
import json
import re
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image

from digitlib import provenance

NUMBER = re.compile(r"\d[\d,]*(?:\.\d+)?(?:e[+-]?\d+)?(?:\s?%)?")
TAGS = re.compile(r"<style.*?</style>|<[^>]*>", re.DOTALL)
# What each machine says of itself, and names that pandas draws at random.
SELF = re.compile(r"^digitlib \d.*$|T_[0-9a-f]{5}", re.MULTILINE)
MAX_PIXELS = 16_000_000


@dataclass
class Compared:
    """What was found; a fault names the cell, what it shows, what the files give."""

    same: int = 0
    theirs: int = 0
    faults: list = field(default_factory=list)
    rounding: list = field(default_factory=list)
    pictures: list = field(default_factory=list)


def compare(theirs, ours):
    """Compare the outputs of the cells that two executed notebooks have in common.

    Parameters
    ----------
    theirs, ours : dict
        Notebooks as JSON.

    Returns
    -------
    Compared
    """
    waiting, found = {}, Compared()
    for cell in _code(theirs):
        waiting.setdefault("".join(cell["source"]), []).append(cell)
    for cell in _code(ours):
        source = "".join(cell["source"])
        if not waiting.get(source):
            found.faults.append(f"the cell {source.splitlines()[0][:60]!r} is missing or changed")
            continue
        other = waiting[source].pop(0)
        _compare_cell(found, f"cell [{other.get('execution_count')}]", other, cell)
        found.same += 1
    found.theirs = sum(map(len, waiting.values()))
    return found


def own(path, ours):
    """Cells of the notebook at `path` that are not in ours.

    Returns
    -------
    list of dict
        ``kind`` (``markdown`` or ``code``), ``source``, ``texts`` (that it printed).
    """
    book, known = (json.loads(Path(file).read_bytes())["cells"] for file in (path, ours))
    known, found = {"".join(cell["source"]) for cell in known}, []
    for cell in book:
        kind, source = cell["cell_type"], "".join(cell["source"])
        if source not in known and not (kind == "code" and provenance.sets_parameters(cell)):
            texts = [text for _, text, _ in _things(cell)]
            found.append({"kind": kind, "source": source, "texts": texts})
    return found


def _code(book):
    code = [cell for cell in book["cells"] if cell["cell_type"] == "code"]
    return [cell for cell in code if not provenance.sets_parameters(cell)]


def _things(cell):
    """Kind, text and look of all that a cell shows.

    The text is what a reader sees; of a picture, its description. The look is the picture, or the
    HTML around a text, which a style may hide.
    """
    for output in cell.get("outputs", ()):
        data = output.get("data", {})
        # What is printed has no kind: None, which no name in a file can be.
        printed = {None: output["text"]} if "text" in output else {}
        for kind, value in (printed | data).items():
            content, facts = "".join(value), output.get("metadata", {}).get(kind, {})
            if kind == "text/html":
                yield kind, TAGS.sub(" ", content), re.sub(r"\d", "0", SELF.sub("", content))
            elif kind is None or kind.startswith("text/"):
                if kind != "text/plain" or len(data) == 1:  # else it stands for something better
                    yield kind, content, ""
            else:
                yield kind, json.dumps(facts, sort_keys=True), content


def _compare_cell(found, where, theirs, ours):
    shown, true = list(_things(theirs)), list(_things(ours))
    if len(shown) != len(true):
        found.faults.append(f"{where} shows {len(shown)} things, the files give {len(true)}")
        return
    for (kind, text, look), (true_kind, true_text, true_look) in zip(shown, true, strict=True):
        if kind != true_kind:
            found.faults.append(f"{where} shows other kinds of things than the files give")
            return
        text, true_text = (" ".join(SELF.sub("", one).split()) for one in (text, true_text))
        if text != true_text:
            _compare_text(found, where, text, true_text)
        pixels = map(_pixels, (look, true_look))
        if look != true_look and not (kind == "image/png" and np.array_equal(*pixels)):
            what = "a table in another form" if kind == "text/html" else "another picture"
            found.pictures.append(f"{where} shows {what}")


def _compare_text(found, where, one, other):
    """Numbers may differ by one in their last decimal; everything else is a fault."""
    if NUMBER.sub("0", one) != NUMBER.sub("0", other):
        at = next((i for i, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), 0)
        one, other = (text[max(0, at - 20) : at + 30] for text in (one, other))
        found.faults.append(f"{where} shows {one!r}, the files give {other!r}")
        return
    for shown, true in zip(NUMBER.findall(one), NUMBER.findall(other), strict=True):
        if shown != true and not _rounding(shown, true):
            found.faults.append(f"{where} shows {shown}, the files give {true}")
            return
    found.rounding.append(where)


def _rounding(shown, true):
    """Whether two decimals with as many places differ by no more than one in the last."""
    parts = [re.sub(r"[,%\s]", "", text).partition("e") for text in (shown, true)]
    (one, _, power), (other, _, true_power) = parts
    places = {len(value.partition(".")[2]) for value in (one, other)}
    if len(places) > 1 or places == {0} or power != true_power:
        # What rounding left of 0, such as 4e-08, is another each time.
        return all(abs(float("".join(part))) < 1e-6 for part in parts)
    return abs(float(one) - float(other)) < 1.5 * 10 ** -places.pop()


def _pixels(text):
    try:
        # PNG alone: PostScript, which Pillow reads as well, is a program, and Ghostscript runs it.
        with Image.open(io.BytesIO(base64.b64decode(text)), formats=["PNG"]) as image:
            if image.width * image.height > MAX_PIXELS:
                return None
            return np.asarray(image.convert("RGBA"))
    except Exception:  # a damaged picture is another one, whatever is wrong with it
        return None
