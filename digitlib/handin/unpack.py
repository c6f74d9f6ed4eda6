"""Where hand-ins are, and their files: by an exact list of names, under limits, from any nesting.

Whatever else a student's zip file or folder holds is neither unpacked nor opened.
"""

import io
import os
import re
import stat
import time
import zipfile
from collections import Counter, defaultdict
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from digitlib import runs

FACTS = "title-page.json"  # authors, course and title, as the student gave them
# What a hand-in is made of, with the most bytes of each.
LIMITS = {"run.json": 500_000, FACTS: 10_000, "model.py": 1_000_000}
LIMITS |= {"predictions.csv": 4_000_000, "history.csv": 4_000_000}
MODEL, MOST_MODEL = re.compile(r"fold-([1-9]\d{0,3})\.(safetensors|skops)"), 64_000_000
MOST_ZIP, MOST_IN_ALL, MOST_FILES = 200_000_000, 400_000_000, 10_000
MOST_ZIPS, MOST_NESTED = 20, 3  # zip files that are tried for one hand-in; zips in zips
MOST_SLOTS = 1000  # hand-ins in one folder of a class
OURS = "our-pages"  # the folder that a verdict's pages are in, perhaps among a hand-in's files
UNSEEN = re.compile(rf"(^|/)(\.|__MACOSX/|{OURS}/)")
# The part of a path that is the grader's system's name for one student's hand-in: of Moodle, Canvas
# (where a student's files share a beginning), Gradescope, nbgrader. What follows is the student's
# choice, so the first match counts.
SLOT = re.compile(
    r"(?:[^/]+/)*?(?:[^/]*?_\d+_assignsubmission_[^/]*|[^/]+?_\d+(?=_\d+_[^/]+$)"
    r"|submission_\d+(?=/)|submitted/[^/]+/[^/]+(?=/))"
)
NUMBER = re.compile(r"_(\d+)(?:_assignsubmission_|$)")


class Unreadable(Exception):
    """This is no hand-in, or not one that may be unpacked; the message says why."""


class Slot(NamedTuple):
    """One student's place in the zip file or folder `place`, by the `path` that people see.

    If `whole`, the place is one hand-in. With a `fault` there is nothing to open.
    """

    path: str
    place: str
    whole: bool = False
    fault: str = ""

    @property
    def number(self):
        """The student's, as the grader's system has it, or empty."""
        match = NUMBER.search(self.path)
        return match[1] if match else ""


class Entry(NamedTuple):
    """A plain file in a folder or zip file; the shallowest, then newest comes first in `order`."""

    folder: str
    name: str
    order: tuple
    open: Any


def entries(place, prefix=""):
    """Each plain file in a folder or zip file: no link, nothing hidden."""

    def entry(name, when, opened):
        order = name.count("/"), [-part for part in when]
        return Entry(*os.path.split(prefix + name), order, opened)

    if isinstance(place, Path) and place.is_dir():
        for path in (Path(base, name) for base, _, names in os.walk(place) for name in names):
            name = path.relative_to(place).as_posix()
            if path.is_file() and not path.is_symlink() and not UNSEEN.search(name):
                when = time.localtime(path.stat().st_mtime)[:6]
                yield entry(name, when, partial(path.open, "rb"))
    else:
        archive = zipfile.ZipFile(place)
        for info in archive.infolist():  # many zip files say no mode, 0
            kind = stat.S_IFMT(info.external_attr >> 16)
            if kind in (0, stat.S_IFREG) and not (info.is_dir() or UNSEEN.search(info.filename)):
                yield entry(info.filename, info.date_time, partial(archive.open, info))


# ---- the hand-ins of a class ---------------------------------------------------------------------


def slots(place, whole=False):
    """A :class:`Slot` for each hand-in in a zip file or folder; with `whole`, it is one itself."""
    place = Path(place)
    found = {} if whole else groups(place)
    top = os.path.commonpath(map(os.path.dirname, found)) if found else ""
    firsts = {key: "/".join(key.split("/")[: top.count("/") + 2]) for key in found}
    crowd, fault = Counter(firsts.values()), f"more than {MOST_SLOTS:,} hand-ins; give it by itself"
    full = {first for first in crowd if crowd[first] > MOST_SLOTS}
    rows = [Slot(key, str(place)) for key, first in firsts.items() if first not in full]
    rows += [Slot(first, str(place), fault=fault) for first in full]
    return rows or [Slot(place.name, str(place), whole=True)]


def groups(place):
    """Files of a folder or zip file by the slot they lie in; paths begin with its name.

    A slot is what a grader's system made for one student; elsewhere the outermost folder with a
    ``run.json``, and each zip file. A ``run.json`` at the top of a class is one hand-in more.
    """
    found = list(entries(place, f"{place.name}/"))
    top = os.path.commonpath([entry.folder for entry in found]) if found else ""
    homes = {entry.folder for entry in found if entry.name == "run.json"}
    by_slot = defaultdict(list)
    for entry in found:
        path, around = f"{entry.folder}/{entry.name}", [entry.folder]
        around += map(str, Path(entry.folder).parents)
        home = next((f for f in reversed(around) if f in homes - {top}), None)
        if match := SLOT.match(path):
            by_slot[match[0]].append(entry)
        elif home or entry.name.lower().endswith(".zip"):
            by_slot[home or path].append(entry)
        elif entry.folder == top and top in homes:
            by_slot[top].append(entry)
    return by_slot


# ---- the files of a hand-in ----------------------------------------------------------------------


def unpack(slot, folder):
    """Copy the files of the slot's hand-in, and no others, into the empty `folder`.

    Raises
    ------
    Unreadable
        There is none, or it has names twice, more or larger files than a hand-in has.
    """
    place, left = Path(slot.place), MOST_IN_ALL
    try:
        parts = _hand_in(list(entries(place)) if slot.whole else groups(place)[slot.path])
        run = next((entry for entry in parts if entry.name == "run.json"), None)
        if run is None:
            raise Unreadable("no run.json in it; hand in the zip file that make submission wrote")
        splits = runs.read_info(_read(run, LIMITS["run.json"]))["parameters"]["splits"]
        for entry in parts:
            model = MODEL.fullmatch(entry.name)
            if model is None or int(model[1]) <= splits:
                content = _read(entry, min(LIMITS.get(entry.name, MOST_MODEL), left))
                left -= len(content)
                with open(folder / entry.name, "xb") as file:
                    file.write(content)
    except FileExistsError as error:
        raise Unreadable(f"{Path(error.filename).name} is in it twice") from None
    except Exception as error:  # a damaged zip file may provoke anything, even MemoryError
        kind = "" if isinstance(error, Unreadable) else f"cannot be read: {type(error).__name__}: "
        raise Unreadable(f"{kind}{error}") from error


def _hand_in(inside, nested=0):
    """The files of the shallowest and newest hand-in among these, and in zip files among them."""
    if len(inside) > MOST_FILES:
        raise Unreadable(f"more than {MOST_FILES:,} files")
    inside, faults = sorted(inside, key=lambda entry: entry.order), []
    home = next((entry.folder for entry in inside if entry.name == "run.json"), None)
    if home is not None:
        here = [entry for entry in inside if entry.folder == home]
        return [entry for entry in here if entry.name in LIMITS or MODEL.fullmatch(entry.name)]
    zips = [entry for entry in inside if entry.name.lower().endswith(".zip")]
    for entry in zips[:MOST_ZIPS] if nested < MOST_NESTED else ():
        try:
            if parts := _hand_in(list(entries(io.BytesIO(_read(entry, MOST_ZIP)))), nested + 1):
                return parts
        except Exception as error:
            faults.append(error)
    if faults:
        raise faults[0]
    return []


def _read(entry, most):
    """All bytes of a file, however many the archive says that it has."""
    with entry.open() as file:
        content = file.read(most + 1)
    if len(content) > most:
        raise Unreadable(f"{entry.name} has more than {most:,} bytes")
    return content
