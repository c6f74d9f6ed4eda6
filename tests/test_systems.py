"""Downloads as the systems write them, with the names that people really have."""

import os
import re
import zipfile

import pytest

from digitlib.handin import systems

MANIFEST, JOSE = "MANIFEST.json", "Ærø, José-María de la_Cruz"
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
        f"""||e/submission_7|
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
        (root / name).write_text("x", encoding="utf-8")
    return root


def _zip(path, names):
    with zipfile.ZipFile(path, "w") as archive:
        for name in names:
            archive.writestr(name, "x")
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


def test_links_and_special_files_are_not_followed(tmp_path):
    path = _folder(tmp_path / "all", [f"{name}_1_assignsubmission_file/a.zip" for name in "AB"])
    (path / "A_1_assignsubmission_file" / "b.zip").symlink_to("/etc/passwd")
    (path / "C_2_assignsubmission_file").symlink_to("/etc")
    os.mkfifo(path / "B_1_assignsubmission_file" / "c.zip")
    odd = "a link or special file among its files: "
    faults = [odd + name for name in ("b.zip", "c.zip", "C_2_assignsubmission_file")]
    assert [row.fault for row in systems.find([path])] == faults


def test_a_students_zip_beside_others_passes_for_no_class(tmp_path):
    evil = _zip(tmp_path / "evil.zip", ["Bob_2_assignsubmission_file_/a.zip"])
    other = _zip(tmp_path / "other.zip", ["MANIFEST.json"])
    assert [row.student for row in systems.find([evil])] == ["Bob"]
    assert [row.student for row in systems.find([evil, other])] == ["", ""]


def test_no_cell_becomes_a_formula_where_semicolons_part_cells():
    assert systems.no_formula("-1;=cmd();b; c") == "'-1;'=cmd();b; c"
