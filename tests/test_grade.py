"""A whole class: every slot of every system is found, the worst file costs one row, copies show."""

import csv
import json
import re
import shutil
import zipfile

import pytest
from conftest import needs_browser

from digitlib.handin import grade, unpack
from digitlib.handin.verdict import PROVES

JOSE = "Ærø, José-María de la_Cruz"
# Files of a download; number and path of each slot, in order.
LAYOUTS = {
    "moodle": (
        f"""{JOSE}_12345_assignsubmission_file/digits-submission.zip
        Ben Õun_12_assignsubmission_file_/b.zip; Ben Õun_12_assignsubmission_file_/a.zip
        Cy_9_assignsubmission_file/report.pdf; Cy_9_assignsubmission_onlinetext/online.html
        Eve_11_assignsubmission_file_Bob_12_assignsubmission_file_x.zip; __MACOSX/._x.zip
        Flo_13_assignsubmission_file/sub/run.json; Flo_13_assignsubmission_file/.DS_Store
        run.json""",
        f"""|; 12|Ben Õun_12_assignsubmission_file_; 9|Cy_9_assignsubmission_file
        9|Cy_9_assignsubmission_onlinetext
        11|Eve_11_assignsubmission_file_Bob_12_assignsubmission_file_x.zip
        13|Flo_13_assignsubmission_file; 12345|{JOSE}_12345_assignsubmission_file""",
    ),
    "canvas": (
        "delacruz_ana_LATE_11_900_x_1_2_y.zip; ngzoe_12_901_a.zip; ngzoe_12_902_b.zip",
        "11|delacruz_ana_LATE_11; 12|ngzoe_12",
    ),
    "gradescope": (
        """e/submission_metadata.yml; e/submission_7/run.json; e/submission_7/a_1_2_b.zip
        e/submission_8/Bob_1_assignsubmission_file/x.zip""",
        "7|e/submission_7; 8|e/submission_8",
    ),
    "nbgrader": (
        "submitted/ada/ps1/d.zip; submitted/ada/ps1/timestamp.txt; submitted/bo/ps1/x.ipynb",
        "|submitted/ada/ps1; |submitted/bo/ps1",
    ),
    "anything": (
        "a.zip; monday/b.zip; monday/c.zip; d/run.json; d/x.zip; d/sub/run.json; notes.pdf",
        "|a.zip; |d; |monday/b.zip; |monday/c.zip",
    ),
}


def split(text):
    return [part.strip() for part in re.split("[;\n]", text)]


def write(root, names):
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text("x", encoding="utf-8")
    return root


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_slot_of_a_download_is_found(tmp_path, layout, packed):
    files, slots = map(split, LAYOUTS[layout])
    path = write(tmp_path / "download", files)
    if packed:
        path = tmp_path / shutil.make_archive(tmp_path / "download", "zip", path)
    found = {(slot.number, slot.path) for slot in unpack.slots(path)}
    expected = {tuple(slot.split("|")) for slot in slots}
    assert found == {(n, f"{path.name}/{p}".rstrip("/")) for n, p in expected}


def test_a_crowd_costs_one_row_and_a_link_is_not_followed(tmp_path):
    path = write(tmp_path / "class", [f"ada/{n}.zip" for n in range(unpack.MOST_SLOTS + 1)])
    write(path, ["bo/run.json"])
    (path / "cy").mkdir()
    (path / "cy" / "run.json").symlink_to("/etc/passwd")
    rows = {slot.path: slot.fault for slot in unpack.slots(path)}
    assert list(rows) == ["class/bo", "class/ada"] and "more than 1,000" in rows["class/ada"]


def test_a_class_survives_its_worst_file_and_copies_are_told(handed_in, tmp_path, command):
    download = tmp_path / "download"
    places = {}
    for name in ("Ada_11", "Zoë van-der Berg_12", "Mal_14", "Pat_15"):
        places[name] = download / f"{name}_assignsubmission_file"
        places[name].mkdir(parents=True)
    with zipfile.ZipFile(handed_in) as archive:
        archive.extractall(places["Ada_11"] / "unpacked")
        parts = {name: archive.read(name) for name in archive.namelist()}
    forged = json.loads(parts["run.json"])
    forged["parameters"]["seed"] = 4
    parts["run.json"] = json.dumps(forged)
    parts["title-page.json"] = json.dumps({"authors": "=HYPERLINK(1)\x1b[2J<script>x</script>"})
    parts["fold-results.html"] = "<script>alert(1)</script>"
    with zipfile.ZipFile(places["Zoë van-der Berg_12"] / "x.zip", "w") as archive:
        for name, content in parts.items():
            archive.writestr(name, content)
    (places["Mal_14"] / "broken.zip").write_bytes(handed_in.read_bytes()[:5000])
    (places["Pat_15"] / "essay.pdf").write_bytes(b"%PDF")
    marks, out = tmp_path / "marks.csv", tmp_path / "out"
    words = ("--out", out, "--jobs", 2, "--csv", marks, "--timeout", 600, "--retrain")
    code, said, _ = command("verify", download, *words)
    assert code == 1 and "\x1b" not in said
    with marks.open(newline="", encoding="utf-8") as file:
        found = {row["number"]: row for row in csv.DictReader(file)}
    assert len(found["11"]) == 11
    verdicts = [found[number]["verdict"] for number in ("11", "12", "14", "15")]
    assert verdicts == ["holds", "does not hold", "unreadable", "unreadable"], said
    assert found["11"]["training"] == "holds: the same bits"
    assert float(found["12"]["distance"]) < 0.001 and "12_assign" in found["11"]["nearest"]
    assert found["12"]["name"].startswith("'=HYPERLINK")  # no spreadsheet runs it
    assert len([*out.glob("*/verdict.html")]) == 4
    assert not [*out.rglob("fold-results*")]
    assert len([*out.glob("*/our-pages/3_evaluate.html")]) == 2
    shutil.copytree(out, download / "verdicts")
    assert len(unpack.slots(download)) == 4  # our pages are no hand-ins
    pages = [path.read_text("utf-8") for path in out.rglob("*.html")]
    assert not any("<script>x" in page or "<script>alert" in page for page in pages)


@needs_browser
def test_pages_of_verdicts_can_be_read_and_sorted(handed_in, tmp_path, chromium):
    board = grade.Board([unpack.Slot(n, n) for n in ("ada", "bo")], tmp_path, False, None)
    for slot, accuracy in (("ada", 0.9), ("bo", 0.95)):
        verdict = grade.blank(unpack.Slot(slot, slot), "") | {"accuracy": accuracy}
        lines = {name: ["holds", "<script>"] for name in PROVES}
        board.add(verdict | {"lines": lines}, None)
    board.write()
    page = chromium.new_page()
    faults = []
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.on("console", lambda message: faults.append(message.text))
    page.goto((tmp_path / "index.html").as_uri())
    first = page.locator("tbody tr").first
    page.get_by_role("button", name="Accuracy").click()
    assert "bo" in first.text_content()
    page.get_by_role("button", name="Accuracy").click()
    assert "ada" in first.text_content()
    page.get_by_role("link", name="ada").click()
    assert page.locator("tbody tr").count() == 6 and faults == []
    page.close()


def test_what_takes_too_long_is_ended(handed_in, tmp_path):
    with grade._processes() as call:
        assert call(0.5, "unpack:time.sleep", 60) == "it took more than 0.5 s"
