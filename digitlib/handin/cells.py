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
        and (cell["cell_type"] != "code" or not provenance.sets_parameters(cell))
    ]


def _code(book):
    code = [cell for cell in book["cells"] if cell["cell_type"] == "code"]
    return [cell for cell in code if not provenance.sets_parameters(cell)]


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


def _looks(cell):
    """Kind and content of pictures, and of the HTML around texts, which a style may hide."""
    data = [one for output in cell.get("outputs", ()) for one in output.get("data", {}).items()]
    looks = [(kind, "".join(value)) for kind, value in data if not kind.startswith("text/")]
    layout = [SELF.sub("", "".join(value)) for kind, value in data if kind == "text/html"]
    return looks + [("text/html", re.sub(r"\d", "0", text)) for text in layout]


def _compare_cell(found, where, theirs, ours):
    shown, true = ([_words(*one) for one in _shown(cell)] for cell in (theirs, ours))
    if len(shown) != len(true):
        found.faults.append(f"{where} shows {len(shown)} things, the files give {len(true)}")
        return
    for one, other in zip(shown, true, strict=True):
        if one != other:
            _compare_text(found, where, one, other)
    looks, true = _looks(theirs), _looks(ours)
    if [kind for kind, _ in looks] != [kind for kind, _ in true]:
        found.faults.append(f"{where} shows other kinds of things than the files give")
        return
    for (kind, one), (_, other) in zip(looks, true, strict=True):
        if one != other and not (kind == "image/png" and _same_pixels(one, other)):
            what = "a table in another form" if kind == "text/html" else "another picture"
            found.pictures.append(f"{where} shows {what}")


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
    parts = [re.sub(r"[,%\s]", "", text).partition("e") for text in (shown, true)]
    (one, _, power), (other, _, true_power) = parts
    places = {len(value.partition(".")[2]) for value in (one, other)}
    if len(places) > 1 or places == {0} or power != true_power:
        # What rounding left of 0, such as 4e-08, is another each time.
        return all(abs(float("".join(part))) < 1e-6 for part in parts)
    return abs(float(one) - float(other)) < 1.5 * 10 ** -places.pop()


def _same_pixels(one, other):
    return np.array_equal(_pixels(one), _pixels(other))


def _pixels(text):
    try:
        with Image.open(io.BytesIO(base64.b64decode(text))) as image:
            if image.width * image.height > MAX_PIXELS:
                return None
            return np.asarray(image.convert("RGBA"))
    except Exception:  # a damaged picture is another one, whatever is wrong with it
        return None
