"""What graders' systems give: hand-ins in bulk downloads.

Moodle, Canvas, Gradescope and nbgrader. No student's file is opened here, only listed.
"""

import os
import re
import stat
from collections import Counter
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from digitlib.errors import ParameterError
from digitlib.files import check_file
from digitlib.handin.evidence import MANIFEST, MAX_FILES, entries

MAX_ENTRIES = 10_000
# Whose slot a name lies in, one line for each layout. The match ends where the system's own part of
# the name ends; what follows is the student's choice, so the shortest name of a person is the true.
LAYOUTS = (
    r"(?:^|/)(?P<student>[^/]+?)_(?P<id>\d+)(?=_assignsubmission_)",  # Moodle
    r"(?:^|/)(?P<student>)(?P<id>)submission_\d+(?=/)",  # Gradescope
    r"(?:^|/)submitted/(?P<id>(?P<student>[^/]+))/[^/]+(?=/)",  # nbgrader
    r"(?:^|/)(?P<student>)anon_(?:LATE_)?(?P<id>[A-Za-z0-9]+)(?:_LATE)?(?=_\d+_[^/]+$)",  # Canvas
    r"(?:^|/)(?P<student>[^/]+?)(?:_LATE)?_(?P<id>\d+)(?=_(?:\d+_[^/]+|(?:text|link)\.html)$)",
)
JUNK = re.compile(r"(?:^|/)(?:__MACOSX/|\._|(?:\.DS_Store|submission_metadata\.yml)$)")


@dataclass(frozen=True)
class Submitted:
    """One student's slot: where the hand-in is, or why there is none.

    Its texts are as the files have them: :func:`digitlib.errors.plain`, before they are shown.
    """

    student: str = ""  # as the system names the person, "" if it does not
    student_id: str = ""
    path: str = ""  # for people
    archive: str = ""  # a zip file or folder
    inside: str = ""  # entry of it, a zip file or a folder; "" if the archive is the hand-in
    fault: str = ""  # "" if there is a hand-in


# ---- what systems give ---------------------------------------------------------------------------


def find(paths):
    """The hand-ins in zip files, folders and bulk downloads.

    Parameters
    ----------
    paths : list of str or path-like
        Each a hand-in, or a download of Moodle, Canvas, Gradescope or nbgrader, packed or not, or
        anything else that holds hand-ins.

    Returns
    -------
    list of Submitted
        One for each student's slot, in order of path.

    Raises
    ------
    ParameterError
        A path does not exist, is neither file nor folder, is given twice, or holds too much.
    """
    rows, seen = [], set()
    for path in map(Path, paths):
        if not os.path.isdir(path):
            check_file(path, ParameterError, "give hand-ins or the download of a whole class")
        if path.resolve() in seen:
            raise ParameterError(f"{path}: given twice; give each file or folder once")
        seen.add(path.resolve())
        # Beside other files, one is a hand-in: no student's zip shall pass for a whole class.
        bulk = path.is_dir() or len(paths) == 1
        try:
            rows += _rows(path) if bulk else [_alone(path)]
        except ParameterError as error:  # costs this path alone
            rows.append(Submitted(path=str(path), archive=str(path), fault=str(error)))
    return sorted(rows, key=lambda row: row.path)


def _alone(path):
    return Submitted(*_owner(path.name)[:2], str(path), str(path))


def _rows(path):
    # A folder's own name may be a slot's, as when a shell writes out `download/*`.
    prefix = f"{path.absolute().name}/" if path.is_dir() else ""
    entries = _listing(path, prefix)
    names = [name for name in entries if not JUNK.search(name)]
    homes = {os.path.dirname(name) for name in names if os.path.basename(name) == MANIFEST}
    hand_ins = {name: _hand_in(name, homes) for name in names}
    bulk = any(hand_ins.values()) or any(_owner(prefix + name)[2] for name in names)
    if "" in homes or not bulk:
        return [_alone(path)]
    slots, rows = _slots(hand_ins, prefix), []
    for (student, number, _), names in slots.items():
        inside, fault = _pick(names, hand_ins, entries)
        shown = inside or next((name for name in names if name[-1] != "/"), names[0].rstrip("/"))
        rows.append(Submitted(student, number, f"{path}/{shown}", str(path), inside, fault))
    return rows


def _hand_in(name, homes):
    """The hand-in that an entry is or lies in: the outermost folder with a manifest, or a zip."""
    folders = [name[: match.start()] for match in re.finditer("/", name)]
    otherwise = name if name.lower().endswith(".zip") else ""
    return next((folder for folder in folders if folder in homes), otherwise)


def _owner(name, otherwise=""):
    """Student, ID and slot that `name` lies in; of no layout, the slot is `otherwise`.

    Of several matches the outermost and first: the further ones are a student's doing.
    """
    found = [match for layout in LAYOUTS if (match := re.search(layout, name))]
    match = min(found, key=lambda match: (match.start(), match.end("id")), default=None)
    return (match["student"], match["id"], name[: match.end()]) if match else ("", "", otherwise)


def _slots(hand_ins, prefix):
    """Names of each slot's entries, by student, ID and slot."""
    slots = {}
    for name, hand_in in sorted(hand_ins.items()):
        # Within an unpacked hand-in every name is the student's choice.
        telling = name if hand_in in ("", name) else f"{hand_in}/"
        slot = hand_in or ("" if name.endswith("/") else os.path.dirname(name) or name)
        owner = _owner(prefix + telling, slot)
        if owner[2]:
            slots.setdefault(owner, []).append(name)
    return slots


def _pick(names, hand_ins, entries):
    """The hand-in among a slot's entries; if there is none, why."""
    found = sorted({hand_ins[name] for name in names} - {""})
    ours = [name for name in found if name.endswith("-submission.zip")]
    odd = [name for name in names if _is_odd(entries[name])]
    if not odd and (len(ours) == 1 or len(found) == 1):
        return (ours or found)[0], ""
    what = "several hand-ins" if found else "no hand-in zip"
    what = "a link or special file" if odd else what
    files = [os.path.basename(name) for name in odd or found or names if name[-1] != "/"]
    return "", f"{what} among its files: {', '.join(files[:9]) or 'there are none'}"


def _is_odd(mode):
    return stat.S_IFMT(mode) not in (0, stat.S_IFREG, stat.S_IFDIR)  # many zips say nothing, 0


def _listing(path, prefix):
    """Mode of each entry of a folder or zip file, by name; a folder's name ends with a slash.

    Of one slot, as many as show that it has too many: the others of the class are found all the
    same.
    """
    counts = Counter()

    def fits(entry):
        slot = _owner(prefix + entry[0])[2]
        counts[slot] += 1
        return not slot or counts[slot] <= 2 * MAX_FILES

    try:
        some = islice(filter(fits, entries(path)), MAX_ENTRIES + 1)
        found = {name: mode for name, mode, _ in some}
    except Exception:  # a damaged zip file may provoke anything; who judges it says what is wrong
        return {}
    if len(found) > MAX_ENTRIES:
        raise ParameterError(f"{path}: more than {MAX_ENTRIES:,} entries; give it in parts")
    return found


def no_formula(text):
    """A spreadsheet runs a cell that starts like a formula; an apostrophe keeps it text.

    Where commas are decimal, a cell starts after a semicolon, too.
    """
    return re.sub(r"(^|;)(?=[=+\-@\t\r])", r"\1'", text)
