"""What graders rely on: honest hand-ins hold, each forgery fails on its own line, nothing runs."""

import csv
import io
import json
import re
import shutil
import stat
import time
import zipfile

import numpy as np
import pandas as pd
import pytest
from conftest import judged_line

from digitlib import DigitClassifier, load_digits, own
from digitlib.handin import copies, evidence, verify

PROBABILITIES = [f"p{digit}" for digit in range(10)]


@pytest.fixture(scope="module")
def original(handed_in):
    with zipfile.ZipFile(handed_in) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


@pytest.fixture
def parts(original):
    """Its files, for forging."""
    return dict(original)


def pack(path, *entries):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for entry, content in entries:
            archive.writestr(entry, content)
    return path


def state(parts, file, /, *sections, **values):
    """Let a JSON file state other values."""
    content = json.loads(parts[file])
    inner = content
    for section in sections:
        inner = inner[section]
    inner.update(values)
    parts[file] = json.dumps(content).encode()


def table(parts, change):
    """Let predictions.csv say something else."""
    changed = change(pd.read_csv(io.BytesIO(parts["predictions.csv"])))
    parts["predictions.csv"] = changed.to_csv(index=False, float_format="%.9g").encode()


def test_an_honest_hand_in_holds_and_is_trained_again_to_the_same_bits(
    handed_in, digitlib_command, tmp_path
):
    done = digitlib_command("verify", handed_in, "--retrain", "--out", tmp_path, cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    verdict = json.loads((tmp_path / "verdict.json").read_text())
    assert verdict["verdict"] == "holds"
    lines = {one["claim"]: one for one in verdict["claims"]}
    assert all(one["verdict"] == "holds" for one in lines.values())
    assert lines["retraining"]["why"].startswith("the same bits: 605,224 weights")
    assert 'href="report/index.html"' in (tmp_path / "verdict.html").read_text()
    report = (tmp_path / "report" / "index.html").read_text()
    assert f"{100 * verdict['accuracy']:.2f} %" in report
    assert "Ada" not in report


# ---- forgeries -----------------------------------------------------------------------------------


def other_fold(frame):
    frame.loc[7, "fold"] = frame.loc[7, "fold"] % 3 + 1
    return frame


def swapped(frame):
    columns = [*PROBABILITIES, "predicted"]
    frame.loc[[0, 1], columns] = frame.loc[[1, 0], columns].to_numpy()
    return frame


def in_run(*sections, **values):
    return lambda parts: state(parts, "run.json", *sections, **values)


def in_table(change):
    return lambda parts: table(parts, change)


def replaced(name, content):
    return lambda parts: parts.update({name: content})


def failed(parts):
    error = {"output_type": "error", "ename": "ValueError", "evalue": "", "traceback": []}
    book = json.loads(parts["2_train.ipynb"])
    next(c for c in book["cells"] if c.get("outputs"))["outputs"].append(error)
    parts["2_train.ipynb"] = json.dumps(book).encode()


# Line of the verdict, where it is not "does not hold" after its word: what is said, what is forged
FORGED = {
    "labels": [("labels are other ones", in_table(lambda t: t.assign(label=t["predicted"])))],
    "folds": [
        ("1 rows not in the fold", in_table(other_fold)),
        ("rows not in the fold", in_run("parameters", split_seed=31)),
    ],
    "run": [
        ("model.name", in_run("model", name="<script>alert(1)</script>")),
        ("Recursion|nested", replaced("run.json", b"[" * 100_000)),
        ("other columns|most probable", in_table(lambda t: t.assign(p10=0))),
    ],
    "probabilities": [
        ("fold .: ", in_table(swapped)),
        ("cannot be read", replaced("fold-1.safetensors", b"\x80\x04pickle")),
    ],
    "notebooks": [("ended in ValueError", failed)],
    "cannot be checked: run": [("file of the student's own", in_run("data", source="/etc/passwd"))],
    "cannot be checked: code": [("made with other code", in_run("code", sha256="0" * 64))],
    "data": [("published", in_run("data", sha256="0" * 64))],
}


@pytest.mark.parametrize(
    ("where", "said", "change"), [(line, *case) for line in FORGED for case in FORGED[line]]
)
def test_forgery_is_caught_on_its_own_line_with_its_reason(where, said, change, parts, tmp_path):
    verdict, _, claim = where.rpartition(": ")
    change(parts)
    forged = pack(tmp_path / "forged.zip", *parts.items())
    found, why = judged_line(forged, claim, tmp_path / "it")
    assert found == (verdict or "does not hold") and re.search(said, why), why
    assert "\n" not in why


@pytest.mark.parametrize(
    ("scale_on", "claim", "said"),
    [
        (None, "training rows", "it has seen held-out rows"),
        ("honest", "retraining", "not this run"),
    ],
)
def test_held_out_rows_trained_on(parts, tmp_path, scale_on, claim, said):
    """Fold 1 trained on held-out rows as well, every number in the files made to fit."""
    digits = load_digits("sklearn")
    held_out = pd.read_csv(io.BytesIO(parts["predictions.csv"]))["fold"] == 1
    classifier = DigitClassifier(random_state=3, epochs=1)
    scale_on = None if scale_on is None else digits.data[~held_out]
    classifier.fit(digits.data, digits.target, scale_on=scale_on)
    own.keep(classifier, tmp_path / "w")
    parts["fold-1.safetensors"] = (tmp_path / "w.safetensors").read_bytes()
    given = classifier.predict_proba(digits.data[held_out])

    def fit(frame):
        frame.loc[held_out, PROBABILITIES] = given.astype(float)
        return frame.assign(predicted=frame[PROBABILITIES].to_numpy().argmax(axis=1))

    table(parts, fit)
    forged = pack(tmp_path / "forged.zip", *parts.items())
    found, why = judged_line(forged, claim, tmp_path / "it")
    assert found == "does not hold" and said in why
    assert judged_line(forged, "probabilities", tmp_path / "again")[0] == "holds"


# ---- archives that may not be unpacked -----------------------------------------------------------

LINK = zipfile.ZipInfo("run.json")
LINK.external_attr = (stat.S_IFLNK | 0o777) << 16
REFUSED = {
    **{
        name: ([(name, b"x")], "no plain file name")
        for name in ("../../evil.py", "/etc/evil", "C:\\evil.py", "a/run.json", ".rc", "-rf")
    },
    "link": ([(LINK, b"/etc/passwd")], "run.json is a symbolic link"),
    "bomb": ([("run.json", bytes(5_000_000))], "would unpack to more than 4,000,000 bytes"),
    "many": ([(f"f{n}", b"") for n in range(evidence.MAX_FILES + 1)], "more than 500 files"),
    "twice": ([("a.csv", b""), ("A.csv", b"")], "A.csv is in it twice"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_archive_that_is_not_unpacked(tmp_path, name):
    entries, said = REFUSED[name]
    verdict = verify.verify(pack(tmp_path / "bad.zip", *entries))
    assert verdict["verdict"] == "unreadable"
    first, *others = verdict["claims"]
    assert first["verdict"] == "does not hold" and said in first["why"]
    assert {line["verdict"] for line in others} == {"cannot be checked"}
    assert [path.name for path in tmp_path.iterdir()] == ["bad.zip"]


# ---- a class -------------------------------------------------------------------------------------


def test_a_class_survives_its_worst_file_and_copies_are_flagged(
    handed_in, parts, tmp_path, command
):
    state(parts, "MANIFEST.json", authors="=HYPERLINK(1)\x1b[2J")
    state(parts, "run.json", "parameters", seed=4)
    download, earlier = tmp_path / "download", tmp_path / "earlier"
    hand_ins = {
        "Zoë van-der Berg_12": pack(tmp_path / "copied.zip", *parts.items()),
        "Mal_14": tmp_path / "broken.zip",
        "Pat_15": tmp_path / "essay.pdf",
    }
    (tmp_path / "broken.zip").write_bytes(handed_in.read_bytes()[:5000])
    (tmp_path / "essay.pdf").write_bytes(b"%PDF")
    for name, path in hand_ins.items():
        folder = download / f"{name}_assignsubmission_file"
        folder.mkdir(parents=True)
        shutil.copyfile(path, folder / path.name)
    with zipfile.ZipFile(handed_in) as archive:
        archive.extractall(download / "Ada Lovelace_11_assignsubmission_file" / "unpacked")
    earlier.mkdir()
    shutil.copyfile(handed_in, earlier / "old-submission.zip")
    marks, out = tmp_path / "marks.csv", tmp_path / "out"
    words = ("--out", out, "--jobs", 2, "--against", earlier, "--csv", marks)
    code, said, _ = command("verify", download, *words)
    assert code == 1 and "identical by design" in said and "\x1b" not in said
    with marks.open(newline="", encoding="utf-8") as file:
        found = {row["student"]: row for row in csv.DictReader(file)}
    ada, zoe, pat = found["Ada Lovelace"], found["Zoë van-der Berg"], found["Pat"]
    assert (ada["verdict"], pat["verdict"], found["Mal"]["verdict"]) == (
        *("holds", "unreadable", "unreadable"),
    )
    assert "near copy" in ada["notes"] and "near copy" in zoe["notes"]
    assert float(zoe["distance"]) < copies.NEAR
    assert zoe["authors"].startswith("'=HYPERLINK")  # no spreadsheet runs it
    overview = (out / "index.html").read_text()
    assert 'href="Ada-Lovelace/verdict.html"' in overview and overview.count("<tr>") == 5
    assert (out / "Ada-Lovelace" / "report" / "3_evaluate.html").is_file()


def test_what_takes_too_long_is_ended(handed_in, tmp_path):
    before = time.monotonic()
    code = verify.verify_files([handed_in], out=tmp_path / "out", timeout=1)
    verdict = json.loads((tmp_path / "out" / "verdict.json").read_text())
    assert code == 1 and verdict["verdict"] == "unreadable"
    assert "took more than 1 s; give --timeout" in verdict["claims"][0]["why"]
    assert time.monotonic() - before < 20


def test_copies_are_found_by_their_probabilities():
    one, two = (
        {"path": n, "student": "", "settings": n, "distance": None, "alike": [], "notes": []}
        for n in ("a", "b")
    )
    p = np.full((5, 10), 0.1)
    copies.compare(one, p, [(two, p + 1e-5)])
    assert "near copy" in one["notes"][0] and one["nearest"] == "b" and two["nearest"] == "a"
