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
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from digitlib import runs

FACTS = "title-page.json"  # authors, course and title, as the student gave them
# What a hand-in is made of, with the largest size of each; of the models, one a fold.
LIMITS = {"run.json": 500_000, FACTS: 10_000, "model.py": 1_000_000}
LIMITS |= {"predictions.csv": 4_000_000, "history.csv": 4_000_000}
MODEL = re.compile(r"fold-([1-9]\d{0,3})\.(safetensors|skops)")
MOST_MODEL, MOST_ZIP, MOST_IN_ALL = 64_000_000, 200_000_000, 400_000_000
MOST_ENTRIES = 10_000  # of a hand-in's zip file
MOST_ZIPS, MOST_NESTED = 20, 3  # zip files that are tried for one hand-in; zips in zips
MOST_SLOTS = 1000  # hand-ins in one folder of a class
UNSEEN = re.compile(r"(^|/)(\.|__MACOSX/)")
# The part of a path that is the grader's system's name for one student's hand-in. What follows is
# the student's choice, so the first match counts.
SYSTEMS = (
    r"[^/]*?_(\d+)_assignsubmission_[^/]*",  # Moodle
    r"[^/_]+(?:_LATE)?_(\d+)(?=_\d+_[^/]+$)",  # Canvas, where one student's files share a beginning
    r"submission_(\d+)(?=/)",  # Gradescope
    r"submitted/[^/]+/[^/]+(?=/)",  # nbgrader
)
SLOT = re.compile(rf"(?:[^/]+/)*?(?:{'|'.join(SYSTEMS)})")


class Unreadable(Exception):
    """This is no hand-in, or not one that may be unpacked; the message says why."""


class Slot(NamedTuple):
    """One student's place: the `key` of a group of files in the zip file or folder `place`.

    `path` is what people call it, `number` the student's as the system has it. With a `fault`
    there is nothing to open.
    """

    path: str
    place: str
    key: str | None = None  # None: all of it
    number: str = ""
    fault: str = ""


class Entry(NamedTuple):
    """A file in a folder or zip file; `mode` is 0 where a zip file does not say it."""

    name: str
    mode: int
    when: tuple
    open: Any

    @property
    def order(self):
        """The shallowest comes first, then the newest."""
        return self.name.count("/"), [-part for part in self.when]


def slots(place, whole=False):
    """A :class:`Slot` for each hand-in in a zip file or folder; with `whole`, it is one itself."""
    place = Path(place)
    alone = Slot(place.name, str(place), None, _number(f"{place.name}/"))
    if whole:
        return [alone]
    found = groups(place)
    top = os.path.commonpath([os.path.dirname(key) for key in found]) if found else ""
    firsts = {key: "/".join(key.split("/")[: top.count("/") + 2]) for key in found}
    crowd, rows = Counter(firsts.values()), {}
    for key, first in sorted(firsts.items()):
        if crowd[first] > MOST_SLOTS:
            fault = f"more than {MOST_SLOTS:,} hand-ins in one folder; give it by itself"
            rows[first] = Slot(first, str(place), first, fault=fault)
        else:
            rows[key] = Slot(key, str(place), key, _number(f"{key}/"))
    return list(rows.values()) or [alone]


def _number(name):
    match = SLOT.match(name)
    return next(filter(None, match.groups()), "") if match else ""


def groups(place):
    """Files of a folder or zip file by the slot they lie in; each name begins with the place's.

    A slot is what a grader's system made for one student; elsewhere the outermost folder with a
    ``run.json``, and each zip file.
    """
    name, found = place.name, [e for e in entries(place) if not UNSEEN.search(e.name)]
    folders = [os.path.dirname(f"{name}/{e.name}") for e in found]
    top = os.path.commonpath(folders) if folders else name
    homes = {f for f, e in zip(folders, found, strict=True) if _base(e) == "run.json"}
    found_in = defaultdict(list)
    for folder, entry in zip(folders, found, strict=True):
        if (slot := _slot(f"{name}/{entry.name}", folder, top, homes)) is not None:
            found_in[slot].append(entry)
    return found_in


def _slot(name, folder, top, homes):
    """The key of the slot that a file lies in, or None."""
    if match := SLOT.match(name):
        return match[0]
    # A run.json at the top of a class is one hand-in more, not the whole class.
    around = [folder, *map(str, Path(folder).parents)]
    if home := next((f for f in reversed(around) if f in homes and f != top), None):
        return home
    if name.lower().endswith(".zip"):
        return name
    return top if folder == top and top in homes else None


def entries(place):
    """Each file in a folder or zip file, as :class:`Entry`; no link is followed."""
    if isinstance(place, Path) and place.is_dir():
        for base, _, names in os.walk(place):
            for path in (Path(base, name) for name in names):
                with suppress(OSError):
                    found = path.lstat()
                    name, when = path.relative_to(place).as_posix(), time.localtime(found.st_mtime)
                    yield Entry(name, found.st_mode, when[:6], partial(path.open, "rb"))
        return
    archive = zipfile.ZipFile(place)
    for info in archive.infolist():
        if not info.is_dir():
            opened = partial(archive.open, info)
            yield Entry(info.filename, info.external_attr >> 16, info.date_time, opened)


def unpack(slot, folder):
    """Copy the files of the slot's hand-in, and no others, into the empty `folder`.

    Raises
    ------
    Unreadable
        There is none, or it has links, names twice, more or larger files than a hand-in has.
    """
    if slot.fault:
        raise Unreadable(slot.fault)
    place, left = Path(slot.place), MOST_IN_ALL
    try:
        inside = entries(place) if slot.key is None else groups(place).get(slot.key, ())
        parts = _hand_in([e for e in inside if not UNSEEN.search(e.name)])
        if not parts:
            raise Unreadable("no hand-in in it: no run.json; hand in what make submission writes")
        run = next(entry for entry in parts if _base(entry) == "run.json")
        splits = runs.read_info(_read(run, LIMITS["run.json"]))["parameters"]["splits"]
        for entry in parts:
            name, model = _base(entry), MODEL.fullmatch(_base(entry))
            if model and int(model[1]) > splits:
                continue
            content = _read(entry, min(LIMITS.get(name, MOST_MODEL), left))
            left -= len(content)
            with open(folder / name, "xb") as file:
                file.write(content)
    except Unreadable:
        raise
    except FileExistsError as error:
        raise Unreadable(f"{Path(error.filename).name} is in it twice") from None
    except Exception as error:  # a damaged zip file may provoke anything, even MemoryError
        raise Unreadable(f"cannot be read ({type(error).__name__}: {error})") from error


def _hand_in(inside, nested=0):
    """The files of the shallowest and newest hand-in among these, and in zip files among them."""
    if len(inside) > MOST_ENTRIES:
        raise Unreadable(f"more than {MOST_ENTRIES:,} files")
    if found := sorted((e for e in inside if _base(e) == "run.json"), key=lambda e: e.order):
        home = os.path.dirname(found[0].name)
        here = [entry for entry in inside if os.path.dirname(entry.name) == home]
        return [e for e in here if _base(e) in LIMITS or MODEL.fullmatch(_base(e))]
    zips, fault = [e for e in inside if e.name.lower().endswith(".zip")], None
    for entry in sorted(zips, key=lambda e: e.order)[:MOST_ZIPS] if nested < MOST_NESTED else ():
        try:
            deeper = list(entries(io.BytesIO(_read(entry, MOST_ZIP))))
            if parts := _hand_in([e for e in deeper if not UNSEEN.search(e.name)], nested + 1):
                return parts
        except Exception as error:
            fault = fault or error
    if fault:
        raise fault
    return []


def _base(entry):
    return os.path.basename(entry.name)


def _read(entry, most):
    """All bytes of a plain file, however many the archive says that it has."""
    if (kind := stat.S_IFMT(entry.mode)) not in (0, stat.S_IFREG):
        what = "a link" if kind == stat.S_IFLNK else "a special file"
        raise Unreadable(f"{_base(entry)} is {what}")
    with entry.open() as file:
        content = file.read(most + 1)
    if len(content) > most:
        raise Unreadable(f"{_base(entry)} has more than {most:,} bytes")
    return content
