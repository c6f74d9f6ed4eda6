"""What graders' systems give and take: hand-ins in bulk downloads, marks back in their own files.

Moodle, Canvas, Gradescope and nbgrader. No student's file is opened here, only listed.
"""

import csv
import io
import os
import re
import stat
import zipfile
from collections import Counter
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import yaml

from digitlib.errors import ParameterError
from digitlib.files import check_file
from digitlib.handin.evidence import MANIFEST, MAX_FILES, entries

METADATA, MAX_METADATA = "submission_metadata.yml", 5_000_000
MAX_ENTRIES, MAX_SHEET = 10_000, 20_000_000
SHEET = "give the CSV (UTF-8) as it came"
# Whose slot a name lies in, one line for each layout. The match ends where the system's own part of
# the name ends; what follows is the student's choice, so the shortest name of a person is the true.
LAYOUTS = (
    r"(?:^|/)(?P<student>[^/]+?)_(?P<id>\d+)(?=_assignsubmission_)",  # Moodle
    r"(?:^|/)(?P<student>)(?P<id>)submission_\d+(?=/)",  # Gradescope; its metadata has the names
    r"(?:^|/)submitted/(?P<id>(?P<student>[^/]+))/[^/]+(?=/)",  # nbgrader
    r"(?:^|/)(?P<student>)anon_(?:LATE_)?(?P<id>[A-Za-z0-9]+)(?:_LATE)?(?=_\d+_[^/]+$)",  # Canvas
    r"(?:^|/)(?P<student>[^/]+?)(?:_LATE)?_(?P<id>\d+)(?=_(?:\d+_[^/]+|(?:text|link)\.html)$)",
)
JUNK = re.compile(rf"(?:^|/)(?:__MACOSX/|\._|(?:\.DS_Store|{METADATA})$)")
MOODLE_FOLDER = re.compile(r"(?:^|/)([^/]+?_\d+_assignsubmission_(?:[^/]+(?=/)|[a-z]+_?))")
NUMBER = re.compile(r"\d+(?:[.,]\d+)?")
WORDS = "holds|holds in part|does not hold|unreadable"
PART = rf"(?:accuracy\s*(>=?)\s*(0?\.\d+|0|1(?:\.0+)?)|({WORDS}))\s*:\s*(\d+(?:\.\d+)?)"


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
    people = _people(path, entries, [slot.removeprefix(prefix) for _, _, slot in slots])
    for (student, number, slot), names in slots.items():
        who = people.get(slot.removeprefix(prefix), (student, number))
        inside, fault = _pick(names, hand_ins, entries)
        shown = inside or next((name for name in names if name[-1] != "/"), names[0].rstrip("/"))
        rows.append(Submitted(*who, f"{path}/{shown}", str(path), inside, fault))
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


def _people(path, entries, slots):
    """Names and IDs from Gradescope's metadata, by the folder of the submission."""
    people, root = {}, path if path.is_dir() else zipfile.Path(path)
    # Beside the submissions' folders: any other file of that name may be a student's own.
    folders = {os.path.dirname(slot) for slot in slots if re.search(r"(^|/)submission_\d+$", slot)}
    for name in {os.path.join(folder, METADATA) for folder in folders} & entries.keys():
        if _is_odd(entries[name]):
            continue
        try:
            with (root / name).open("rb") as file:
                text = file.read(MAX_METADATA)
            if any(isinstance(event, yaml.AliasEvent) for event in yaml.parse(text)):
                raise ValueError("it repeats itself, which Gradescope's does not")
            for folder, entry in (yaml.safe_load(text) or {}).items():
                slot = os.path.join(os.path.dirname(name), folder)
                found = (entry or {}).get(":submitters") or []
                people[slot] = _joined(found, ":name"), _joined(found, ":sid")
        except Exception as error:
            remedy = "export again, or take that file away and go without names"
            raise ParameterError(f"{path}/{name}: not Gradescope's metadata; {remedy}") from error
    return people


def _joined(submitters, key):
    return ", ".join(str(one[key])[:100] for one in submitters if one.get(key))


# ---- what systems take ---------------------------------------------------------------------------


def fill_moodle(worksheet, results, out):
    """Fill grades and feedback into a copy of Moodle's grading worksheet, of any language.

    Parameters
    ----------
    worksheet : str or path-like
        As downloaded. The copy has the same cells, separators, line ends and encoding; quotes only
        where they are needed.
    results : list of dict
        ``student_id``, ``student``, ``points`` (number or None) and ``feedback``.
    out : str or path-like
        Folder of ``moodle-worksheet.csv``.

    Returns
    -------
    Path, list of str
        The file, and who has no row in it.

    Raises
    ------
    ParameterError
        The worksheet cannot be read, or has no columns for a grade and the maximum grade.
    """
    return _fill(worksheet, _find_in_moodle, results, Path(out) / "moodle-worksheet.csv")


def fill_canvas(gradebook, results, out):
    """Fill points into the one empty assignment column of a copy of Canvas' gradebook.

    As :func:`fill_moodle`, but for feedback, which has no column; the file is
    ``canvas-gradebook.csv``.
    """
    return _fill(gradebook, _find_in_canvas, results, Path(out) / "canvas-gradebook.csv")


def _find_in_moodle(header, rows):
    """Rows by a student's ID, and the column of each thing that is filled in."""
    columns = [[row[number].strip() for row in rows] for number in range(len(header))]
    # The maximum is the same number in each row; left of it are grades, or nothing. The last such
    # column: the grades given before may all be the same, too.
    maximum = 0
    for number in range(2, len(columns) - 1):
        graded = all(NUMBER.fullmatch(cell) or cell in ("", "-") for cell in columns[number - 1])
        if graded and len(set(columns[number])) == 1 and NUMBER.fullmatch(columns[number][0]):
            maximum = number
    if not maximum:
        what = "no grades left of a maximum grade"
        raise ParameterError(f"{what}; give the worksheet of an assignment in points")
    numbers = [re.search(r"\d*$", cell)[0] for cell in columns[0]]
    return dict(zip(numbers, rows, strict=True)), {"points": maximum - 1, "feedback": -1}


def _find_in_canvas(header, rows):
    # Lines without an ID are no student's: points possible, posting policy.
    students = {row[1].strip(): row for row in rows if len(row) > 1 and row[1].strip()}
    work = [number for number, name in enumerate(header) if re.search(r"\(\d+\)$", name.strip())]
    empty = [n for n in work if not any(row[n].strip() for row in students.values())]
    if len(empty) != 1:
        names = ", ".join(header[number].strip() for number in empty or work) or "none"
        what = f"{len(empty)} empty assignment columns (of {names})"
        raise ParameterError(f"{what}; leave one empty column, the one to fill")
    return students, {"points": empty[0]}


def check_sheet(path):
    """`path`, if it can be a teacher's file: ParameterError if not."""
    return check_file(path, ParameterError, SHEET, MAX_SHEET)


def _fill(sheet, find, results, path):
    """Write a copy of the table with each result in its row; return it and who has no row."""
    check_sheet(sheet)
    try:
        text = Path(sheet).read_bytes().decode()
        first = text.split("\n")[0]
        form = {"delimiter": max(",;\t", key=first.count)}
        header, *rows = csv.reader(io.StringIO(text.removeprefix("\ufeff"), newline=""), **form)
        students, columns = find(header, [row for row in rows if len(row) == len(header)])
    except ParameterError as error:
        raise ParameterError(f"{sheet}: {error}") from None
    except (OSError, ValueError, csv.Error) as error:
        raise ParameterError(f"{sheet}: not readable; {SHEET}") from error
    for result in results:
        for key, column in columns.items():
            if result["student_id"] in students and result[key] not in (None, ""):
                value = result[key]
                cell = no_formula(value) if isinstance(value, str) else f"{value:.10g}"
                students[result["student_id"]][column] = cell
    path.parent.mkdir(parents=True, exist_ok=True)
    form["lineterminator"] = "\r\n" if first.endswith("\r") else "\n"
    encoding = "utf-8-sig" if text.startswith("\ufeff") else "utf-8"
    with open(path, "w", newline="", encoding=encoding) as file:
        csv.writer(file, **form).writerows([header, *rows])
    missing = [result for result in results if result["student_id"] not in students]
    return path, [result["student_id"] or result["student"] for result in missing]


def no_formula(text):
    """A spreadsheet runs a cell that starts like a formula; an apostrophe keeps it text.

    Where commas are decimal, a cell starts after a semicolon, too.
    """
    return re.sub(r"(^|;)(?=[=+\-@\t\r])", r"\1'", text)


def feedback_zip(results, out):
    """Pack feedback so that Moodle takes it back ("Upload multiple feedback files in a zip").

    Parameters
    ----------
    results : list of dict
        ``path`` (only those with a folder of Moodle count) and ``feedback``.
    out : str or path-like
        Folder of ``moodle-feedback.zip``.

    Returns
    -------
    Path
    """
    packed = Path(out) / "moodle-feedback.zip"
    packed.parent.mkdir(parents=True, exist_ok=True)
    found = [(MOODLE_FOLDER.search(result["path"]), result["feedback"]) for result in results]
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for folder, feedback in {match[1]: feedback for match, feedback in found if match}.items():
            archive.writestr(f"{folder}/feedback.txt", feedback)
    return packed


# ---- points --------------------------------------------------------------------------------------


def points(rule, result):
    """Points of a result: the sum over the parts of the rule that are true of it.

    Parameters
    ----------
    rule : str
        Such as ``accuracy>=0.98: 5; holds: 3``.
    result : dict
        ``accuracy`` (float or None), ``verdict`` and ``claims``.

    Returns
    -------
    float

    Raises
    ------
    ParameterError
        The rule is wrong.
    """
    total, accuracy = 0.0, result["accuracy"] if is_proven(result) else -1
    for sign, bound, verdict, number in check_points(rule):
        above = sign and accuracy > float(bound)
        equal = sign == ">=" and accuracy == float(bound)
        total += float(number) if above or equal or verdict == result["verdict"] else 0
    return total


def is_proven(result):
    """Whether the accuracy is what the handed-in models give: else a table of lies would pay."""
    lines = {line["claim"]: line["verdict"] for line in result.get("claims", ())}
    given = lines.get("probabilities", "holds") == "holds"
    return given and result["accuracy"] is not None and result["verdict"].startswith("holds")


def check_points(rule):
    """The parts of a rule: comparison and bound of the accuracy, or verdict; and points.

    Raises
    ------
    ParameterError
        A part is wrong; the message names it.
    """
    parts = [(text.strip(), re.fullmatch(PART, text.strip())) for text in rule.split(";")]
    if wrong := [text for text, match in parts if not match]:
        allowed = f"accuracy>=X (X from 0 to 1) or {WORDS.replace('|', ', ')}, each with points"
        example = "accuracy>=0.98: 5; holds: 3"
        raise ParameterError(f"points={wrong[0]!r}: takes {allowed}, such as {example!r}")
    return [match.groups() for _, match in parts]
