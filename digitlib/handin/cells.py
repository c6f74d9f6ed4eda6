"""Notebooks as data: what two executed copies show, cell by cell; which cells are a student's."""

import base64
import io
import json
import re
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image

NUMBER = re.compile(r"\d[\d,]*(?:\.\d+)?(?:e[+-]?\d+)?(?:\s?%)?")
TAGS = re.compile(r"<style.*?</style>|<[^>]*>", re.DOTALL)
# What each machine says of itself, and names that pandas draws at random.
SELF = re.compile(r"^digitlib \d.*$|T_[0-9a-f]{5}", re.MULTILINE)
GIVEN = {"parameters", "injected-parameters"}
MAX_PIXELS = 16_000_000


@dataclass
class Compared:
    """What was found; a fault names the cell, what it shows, what the files give."""

    same: int = 0
    theirs: int = 0
    faults: list = field(default_factory=list)
    rounding: list = field(default_factory=list)
    pictures: list = field(default_factory=list)


@dataclass
class Cell:
    """A cell of the student's own: ``markdown`` or ``code``, with the text that it printed."""

    kind: str
    source: str
    texts: list


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
    """Cells of the notebook at `path` that are not in ours: a list of :class:`Cell`."""
    known = {"".join(cell["source"]) for cell in json.loads(Path(ours).read_bytes())["cells"]}
    cells = json.loads(Path(path).read_bytes())["cells"]
    return [
        Cell(cell["cell_type"], "".join(cell["source"]), [text for _, text in _shown(cell)])
        for cell in cells
        if "".join(cell["source"]) not in known
        and not GIVEN & set(cell["metadata"].get("tags", ()))
    ]


def _code(book):
    return [
        cell
        for cell in book["cells"]
        if cell["cell_type"] == "code" and not GIVEN & set(cell["metadata"].get("tags", ()))
    ]


def _shown(cell):
    """Kind and text of all that a cell shows but pictures, which have alt texts in its metadata."""
    for output in cell.get("outputs", ()):
        if "text" in output:
            yield "text", "".join(output["text"])
        for kind, value in output.get("data", {}).items():
            if kind.startswith("text/") and not (kind == "text/plain" and len(output["data"]) > 1):
                yield kind, "".join(value)
            elif kind.startswith("image/"):
                yield (
                    "alt text",
                    json.dumps(output.get("metadata", {}).get(kind, {}), sort_keys=True),
                )


def _pictures(cell):
    found = [output.get("data", {}).get("image/png") for output in cell.get("outputs", ())]
    return ["".join(text) for text in found if text]


def _compare_cell(found, where, theirs, ours):
    shown, true = ([_words(*one) for one in _shown(cell)] for cell in (theirs, ours))
    if len(shown) != len(true):
        found.faults.append(f"{where} shows {len(shown)} things, the files give {len(true)}")
        return
    for one, other in zip(shown, true, strict=True):
        if one != other:
            _compare_text(found, where, one, other)
    for one, other in zip(_pictures(theirs), _pictures(ours), strict=False):
        if one != other and not np.array_equal(_pixels(one), _pixels(other)):
            found.pictures.append(f"{where} shows another picture")


def _words(kind, text):
    """The text as a reader sees it, in single spaces."""
    return " ".join(SELF.sub("", TAGS.sub(" ", text) if kind == "text/html" else text).split())


def _compare_text(found, where, one, other):
    """Numbers may differ by one in their last decimal; everything else is a fault."""
    if NUMBER.sub("0", one) != NUMBER.sub("0", other):
        at = next((i for i, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), 0)
        start = max(0, at - 20)
        said = f"{one[start : at + 30]!r}, the files give {other[start : at + 30]!r}"
        found.faults.append(f"{where} shows {said}")
        return
    for shown, true in zip(NUMBER.findall(one), NUMBER.findall(other), strict=True):
        if shown != true and not _rounding(shown, true):
            found.faults.append(f"{where} shows {shown}, the files give {true}")
            return
    found.rounding.append(where)


def _rounding(shown, true):
    """Whether two decimals with as many places differ by no more than one in the last."""
    values = [re.sub(r"[,%\s]", "", text) for text in (shown, true)]
    places = {len(value.partition(".")[2]) for value in values}
    if len(places) > 1 or places == {0} or any("e" in value for value in values):
        return "e" in shown and abs(float(values[0]) / (float(values[1]) or 1) - 1) < 0.05
    return abs(float(values[0]) - float(values[1])) < 1.5 * 10 ** -places.pop()


def _pixels(text):
    try:
        with Image.open(io.BytesIO(base64.b64decode(text))) as image:
            if image.width * image.height > MAX_PIXELS:
                return None
            return np.asarray(image.convert("RGBA"))
    except Exception:  # a damaged picture is another one, whatever is wrong with it
        return None
