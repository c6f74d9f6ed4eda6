"""Downloads and worksheets as the systems write them, with the names that people really have."""

import csv
import io
import os
import re
import zipfile

import pytest

from digitlib.errors import ParameterError
from digitlib.handin import autograder, systems

MANIFEST, JOSE = "MANIFEST.json", "Ærø, José-María de la_Cruz"
METADATA = """
submission_7: {":submitters": [{":name": Zoë Ng, ":sid": "0042"}, {":name": Bo, ":email": b@c.d}]}
submission_8: {":submitters": []}
submission_99:
"""
SEVERAL, NONE = (f"{what} among its files: " for what in ("several hand-ins", "no hand-in zip"))
# Files of a download; student, ID, place and fault of each slot, in order.
LAYOUTS = {
    "moodle": (
        f"""{JOSE}_12345_assignsubmission_file/digits-submission.zip
        Ben Õun_12_assignsubmission_file_/b.zip; Ben Õun_12_assignsubmission_file_/a.zip
        Cy_9_assignsubmission_file/report.pdf; Cy_9_assignsubmission_onlinetext/online.html
        Di O'Nei_10_assignsubmission_file/a.zip; Di O'Nei_10_assignsubmission_file/x-submission.zip
        Eve_11_assignsubmission_file_Bob_12_assignsubmission_file_x.zip; __MACOSX/._x.zip
        Flo_13_assignsubmission_file/sub/MANIFEST.json; Flo_13_assignsubmission_file/.DS_Store""",
        f"""Ben Õun|12|Ben Õun_12_assignsubmission_file_/a.zip|{SEVERAL}a.zip, b.zip
        Cy|9|Cy_9_assignsubmission_file/report.pdf|{NONE}report.pdf, online.html
        Di O'Nei|10|Di O'Nei_10_assignsubmission_file/x-submission.zip|
        Eve|11|Eve_11_assignsubmission_file_Bob_12_assignsubmission_file_x.zip|
        Flo|13|Flo_13_assignsubmission_file/sub|
        {JOSE}|12345|{JOSE}_12345_assignsubmission_file/digits-submission.zip|""",
    ),
    "canvas": (
        """delacruz_ana_LATE_11_900_x_1_2_y.zip; ngzoe_12_901_a.zip; ngzoe_12_902_b.zip
        anon_aB3dE_LATE_903_x.zip; anon_LATE_77_904_x.ZIP; oz_14_text.html""",
        f"""|77|anon_LATE_77_904_x.ZIP|
        |aB3dE|anon_aB3dE_LATE_903_x.zip|
        delacruz_ana|11|delacruz_ana_LATE_11_900_x_1_2_y.zip|
        ngzoe|12|ngzoe_12_901_a.zip|{SEVERAL}ngzoe_12_901_a.zip, ngzoe_12_902_b.zip
        oz|14|oz_14_text.html|{NONE}oz_14_text.html""",
    ),
    "gradescope": (
        """e/submission_metadata.yml; e/submission_7/MANIFEST.json; e/submission_7/a_1_2_b.zip
        e/submission_8/Bob_1_assignsubmission_file/x.zip; e/submission_8/submission_metadata.yml
        e/submission_9/r.pdf""",
        f"""Zoë Ng, Bo|0042|e/submission_7|
        ||e/submission_8/Bob_1_assignsubmission_file/x.zip|
        ||e/submission_9/r.pdf|{NONE}r.pdf""",
    ),
    "nbgrader": (
        """submitted/ada/ps1/d.zip; submitted/ada/ps1/timestamp.txt; submitted/bo/ps1/x.ipynb""",
        f"""ada|ada|submitted/ada/ps1/d.zip|
        bo|bo|submitted/bo/ps1/x.ipynb|{NONE}x.ipynb""",
    ),
    "anything": (
        """a.zip; hw/b.zip; hw/c.zip; d/MANIFEST.json; d/x_1_2_y.zip; notes.pdf""",
        f"""||a.zip|\n||d|\n||hw/b.zip|\n||hw/c.zip|\n||notes.pdf|{NONE}notes.pdf""",
    ),
}


def _folder(root, names):
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(METADATA if name.endswith(".yml") else "x", encoding="utf-8")
    return root


def _zip(path, names):
    with zipfile.ZipFile(path, "w") as archive:
        for name in names:
            archive.writestr(name, METADATA if name.endswith(".yml") else "x")
    return path


@pytest.mark.parametrize("make", [_folder, _zip])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_slot_of_a_download_is_found(tmp_path, layout, make):
    files, slots = LAYOUTS[layout]
    path = make(tmp_path / "download", [name.strip() for name in re.split("[;\n]", files)])
    rows, expected = systems.find([path]), [line.strip().split("|") for line in slots.split("\n")]
    for row, (student, number, place, fault) in zip(rows, expected, strict=True):
        inside, shown = "" if fault else place, f"{path}/{place}"
        assert row == systems.Submitted(student, number, shown, str(path), inside, fault)


@pytest.mark.parametrize(
    ("name", "files", "whose"),
    [
        ("digits-submission.zip", [MANIFEST, "inner.zip"], ("", "")),
        ("ngzoe_LATE_12_901_x.zip", [MANIFEST], ("ngzoe", "12")),
        ("forged.zip", ["index.html"], ("", "")),
    ],
)
@pytest.mark.parametrize("make", [_folder, _zip])
def test_one_hand_in(tmp_path, name, files, whose, make):
    path = make(tmp_path / name, files)
    assert systems.find([path]) == [systems.Submitted(*whose, str(path), str(path), "", "")]


def test_what_is_no_zip_is_for_the_judge_and_a_slot_may_be_given_itself(tmp_path):
    (tmp_path / "broken.zip").write_bytes(b"PK\3\4 torn")
    slot = _folder(tmp_path / "Zoë_3_assignsubmission_file", ["a.zip"])
    submitted = _folder(tmp_path / "submitted", ["ada/ps1/d.zip"])
    rows = systems.find([slot, tmp_path / "broken.zip", submitted])
    assert [(row.student, row.inside, row.fault) for row in rows] == [
        *(("Zoë", "a.zip", ""), ("", "", ""), ("ada", "ada/ps1/d.zip", ""))
    ]


def test_links_and_special_files_are_not_followed(tmp_path):
    path = _folder(tmp_path / "all", [f"{name}_1_assignsubmission_file/a.zip" for name in "AB"])
    (path / "A_1_assignsubmission_file" / "b.zip").symlink_to("/etc/passwd")
    (path / "C_2_assignsubmission_file").symlink_to("/etc")
    os.mkfifo(path / "B_1_assignsubmission_file" / "c.zip")
    odd = "a link or special file among its files: "
    faults = [odd + name for name in ("b.zip", "c.zip", "C_2_assignsubmission_file")]
    assert [row.fault for row in systems.find([path])] == faults


def test_wrong_paths_are_told(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    whole = _zip(tmp_path / "many.zip", map(str, range(10_001)))
    pdf = _folder(tmp_path, ["a.zip"]) / "a.zip"
    _zip(tmp_path / "g.zip", ["submission_1/a.zip"])
    with zipfile.ZipFile(tmp_path / "g.zip", "a") as archive:
        archive.writestr("submission_metadata.yml", "[")
    for paths, message in [
        ([tmp_path / "x.zip"], "x.zip: no such file; give "),
        ([tmp_path / "pipe"], "pipe: is no plain file; give "),
        ([pdf, tmp_path / "." / "a.zip"], "a.zip: given twice; give "),
    ]:
        with pytest.raises(ParameterError, match=message):
            systems.find(paths)
    for path, message in [
        (whole, "more than 10,000 entries; give "),
        (tmp_path / "g.zip", "submission_metadata.yml: not Gradescope's metadata; export"),
    ]:
        (row,) = systems.find([path])  # costs that path alone
        assert message in row.fault


def test_a_student_with_too_many_files_costs_one_slot(tmp_path):
    many = [f"submission_1/{number}" for number in range(systems.MAX_ENTRIES + 1)]
    path = _zip(tmp_path / "g.zip", [*many, "submission_2/a.zip"])
    assert [bool(row.fault) for row in systems.find([path])] == [True, False]


def test_a_path_that_is_too_long_costs_one_slot(tmp_path, monkeypatch):
    path = _folder(tmp_path / "all", [f"submission_{number}/a.zip" for number in (1, 2)])
    monkeypatch.chdir(path / "submission_1")
    for _ in range(25):
        os.mkdir("d" * 200)
        os.chdir("d" * 200)
    assert [row.inside for row in systems.find([path])] == [f"submission_{n}/a.zip" for n in (1, 2)]


def test_a_students_zip_beside_others_passes_for_no_class(tmp_path):
    evil = _zip(tmp_path / "evil.zip", ["Bob_2_assignsubmission_file_/a.zip"])
    other = _zip(tmp_path / "other.zip", ["MANIFEST.json"])
    assert [row.student for row in systems.find([evil])] == ["Bob"]
    assert [row.student for row in systems.find([evil, other])] == ["", ""]


def test_no_cell_becomes_a_formula_where_semicolons_part_cells():
    assert systems.no_formula("-1;=cmd();b; c") == "'-1;'=cmd();b; c"


def _result(number, points=7.5, feedback='=cmd() "so"\nlate'):
    return {"student_id": number, "student": "S", "points": points, "feedback": feedback}


GERMAN = '''\ufeffID,"Vollständiger Name",Status,Bewertung,Bestwertung,"Letzte Änderung",Feedback
Teilnehmer/in12345,"Ærø, José","Zur Bewertung ""neu""",,"10,00","Mo, 1. Juni",
Teilnehmer/in7,=Bo,-,,"10,00",-,'x
'''.replace("\n", "\r\n")
FRENCH = """Identifiant;Nom;Note;Note maximale;Modifié;Feedback
Participant 12345;A;5;10;-;
Participant 7;B;5;10;-;@b"""


@pytest.mark.parametrize(
    ("before", "old", "new"),
    [
        (GERMAN, ',,"10,00","Mo, 1. Juni",\r', ',"7.5","10,00","Mo, 1. Juni",{}\r'),
        (FRENCH, "A;5;10;-;\n", 'A;"7.5";10;-;{}\n'),
    ],
)
def test_moodle_worksheet_is_filled_and_else_the_same(tmp_path, before, old, new):
    (tmp_path / "w.csv").write_bytes(before.encode())
    results = [_result("12345"), _result("99"), _result("7", None, "")]
    path, missing = systems.fill_moodle(tmp_path / "w.csv", results, tmp_path / "out")
    feedback = '"\'=cmd() ""so""\nlate"'
    after = path.read_bytes().decode()
    assert _cells(after) == _cells(before.replace(old, new.format(feedback)))
    assert [mark in after for mark in ("\ufeff", "\r\n")] == [before == GERMAN] * 2
    assert path.name == "moodle-worksheet.csv" and missing == ["99"]
    assert _cells(after)[1][-1] == '\'=cmd() "so"\nlate'


def _cells(text):
    """Rows of a CSV file: what a spreadsheet shows, whichever cells are in quotes."""
    comma = ";" if text.startswith("Identifiant") else ","
    return list(csv.reader(io.StringIO(text, newline=""), delimiter=comma))


CANVAS = """Student,ID,Section,"Essay, 1 (11)",Digits (12),Final Score
,,,Manual Posting,,
    Points Possible,,,10,10,(read only)
"Ng, Zoë",12,S,9,,90
"Student, Test",13,S,,,
"""


def test_canvas_gradebook_is_filled_in_its_one_empty_column(tmp_path):
    gradebook = tmp_path / "g.csv"
    gradebook.write_text(CANVAS, encoding="utf-8")
    path, missing = systems.fill_canvas(gradebook, [_result("12", 3), _result("5")], tmp_path)
    assert path.read_text("utf-8") == CANVAS.replace("9,,90", "9,3,90") and missing == ["5"]
    for cells, empty in [("9,8,90", "0 "), (",,90", "2 ")]:
        gradebook.write_text(CANVAS.replace("9,,90", cells), encoding="utf-8")
        named = empty + ".*Essay, 1 .11., Digits .12.*leave one empty column"
        with pytest.raises(ParameterError, match=named):
            systems.fill_canvas(gradebook, [], tmp_path)


@pytest.mark.parametrize("content", [None, b"\xff\xfe", b"", b"ID,Name\nParticipant 1,x\n"])
def test_other_files_are_no_worksheets(tmp_path, content):
    if content is not None:
        (tmp_path / "w.csv").write_bytes(content)
    for fill in (systems.fill_moodle, systems.fill_canvas):
        with pytest.raises(ParameterError, match=r"w\.csv: .*; (give|leave) "):
            fill(tmp_path / "w.csv", [], tmp_path)


def test_feedback_goes_back_under_the_name_of_the_download(tmp_path):
    slots = ["d/Zoë_1_assignsubmission_file/a.zip", "d/B_2_assignsubmission_file_x_y.zip"]
    slots += ["d/C_3_assignsubmission_file_/a.zip", "d/D_4_assignsubmission_file", "canvas.zip"]
    results = [{"path": path, "feedback": "gut ✓"} for path in slots]
    folders = ["Zoë_1_assignsubmission_file", "B_2_assignsubmission_file_"]
    folders += ["C_3_assignsubmission_file_", "D_4_assignsubmission_file"]
    with zipfile.ZipFile(systems.feedback_zip(results, tmp_path / "new")) as archive:
        assert archive.namelist() == [f"{folder}/feedback.txt" for folder in folders]
        assert archive.read(archive.namelist()[0]).decode() == "gut ✓"


@pytest.mark.parametrize(
    ("accuracy", "verdict", "expected"),
    [
        (0.98, "holds", 9.5),
        (0.97, "holds in part", 1),
        (None, "does not hold", 0),
        (1.0, "does not hold", 0),
    ],
)
def test_points(accuracy, verdict, expected):
    rule = "accuracy>=0.98: 5; accuracy > .975:1.5; holds: 3; holds in part: 1"
    assert systems.points(rule, {"accuracy": accuracy, "verdict": verdict}) == expected


@pytest.mark.parametrize(("word", "proven"), [("holds", True), ("cannot be checked", False)])
def test_an_accuracy_that_no_models_give_earns_nothing_and_leads_nowhere(word, proven):
    claims = [{"claim": "probabilities", "verdict": word, "why": "so"}]
    result = {"accuracy": 1.0, "verdict": "holds in part", "claims": claims}
    assert systems.points("accuracy>0.9: 5; holds in part: 1", result) == 1 + 5 * proven
    assert bool(autograder.results(result)["leaderboard"]) == proven


@pytest.mark.parametrize(
    "part", ["accuracy>=98: 5", "hold: 1", "holds", "", "holds: -1", "f1>0: 2"]
)
def test_wrong_rules(part):
    with pytest.raises(ParameterError, match=f"points='{part}': takes accuracy>=X .*holds in part"):
        systems.check_points(f"holds: 3;{part}")
