"""What graders rely on: honest hand-ins hold, each forgery fails on its own line, nothing runs."""

import csv
import io
import json
import os
import pickle
import re
import stat
import time
import zipfile

import nbformat
import numpy as np
import pandas as pd
import pytest
from conftest import judged_line, needs_browser

from digitlib import DigitClassifier, load_digits
from digitlib.errors import ParameterError
from digitlib.handin import evidence, judge, submission, verify

TITLE_PAGE = {"authors": "Ada Lovelace", "course": "Learning 1", "title": "Digits, read"}
PROBABILITIES = [f"p{digit}" for digit in range(10)]


@pytest.fixture(scope="module")
def honest(small_report, tmp_path_factory):
    """The hand-in of the small report."""
    out = tmp_path_factory.mktemp("dist")
    return submission.make_submission("small", TITLE_PAGE, small_report.parent, out, any_code=True)[
        0
    ]


@pytest.fixture(scope="module")
def original(honest):
    with zipfile.ZipFile(honest) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


@pytest.fixture
def parts(original):
    """Its files, for forging."""
    return dict(original)


@pytest.fixture
def forge(tmp_path):
    """Write files as a hand-in; unless told otherwise with a manifest that fits them."""

    def write(parts, name="forged.zip", signed=True):
        if signed:
            listed = {part: submission.describe(parts[part]) for part in parts}
            del listed["MANIFEST.json"]
            state(parts, "MANIFEST.json", files=listed)
        return pack(tmp_path / name, *parts.items())

    return write


def pack(path, *entries):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for entry, content in entries:
            archive.writestr(entry, content)
    return path


def lines_of(verdict):
    return {one["claim"]: (one["verdict"], one["why"]) for one in verdict["claims"]}


def edit(parts, name, pattern, replacement):
    """Replace the first match in a text file, and be sure that there was one."""
    text, count = re.subn(pattern, replacement, parts[name].decode(), count=1)
    assert count == 1
    parts[name] = text.encode()


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


def book(parts, name, change):
    content = json.loads(parts[name])
    change(content["cells"])
    parts[name] = json.dumps(content).encode()


def test_honest_hand_in_holds_and_is_trained_again_to_the_same_bits(honest, tmp_path):
    verdict = verify.verify(honest, retrain=True, out=tmp_path)
    lines = lines_of(verdict)
    assert not [one for one in lines.items() if one[1][0] != "holds"]
    assert lines["retraining"][1].startswith("the same bits: 605,224 weights")
    assert len(lines) == 22
    report = (tmp_path / "report" / "index.html").read_text()
    assert f"{100 * verdict['accuracy']:.2f} %" in report
    assert "Ada" not in report


# ---- forgeries -----------------------------------------------------------------------------------


def correct_a_digit(frame):
    row = (frame["label"] != frame["predicted"]).idxmax()
    frame.loc[row, "predicted"] = frame.loc[row, "label"]
    return frame


def other_fold(frame):
    frame.loc[7, "fold"] = frame.loc[7, "fold"] % 3 + 1
    return frame


def swapped(frame):
    frame.loc[[0, 1], PROBABILITIES] = frame.loc[[1, 0], PROBABILITIES].to_numpy()
    return frame


def no_proper_share(frame):
    return frame.assign(p0=frame["p0"] + 0.5)


def run_states(*sections, **values):
    return lambda parts: state(parts, "run.json", *sections, **values)


def manifest_states(**values):
    return lambda parts: state(parts, "MANIFEST.json", **values)


def in_table(change):
    return lambda parts: table(parts, change)


def replaced(name, content):
    return lambda parts: parts.update({name: content})


def in_both(change, **model):
    def forged(parts):
        table(parts, change)
        state(parts, "run.json", "model", **model)

    return forged


def release(version):
    def forged(parts):
        state(parts, "run.json", "versions", digitlib=version)
        state(parts, "MANIFEST.json", digitlib=version)

    return forged


def estimator_without_files(parts):
    state(parts, "run.json", "model", kind="estimator")
    for number in range(1, 5):
        del parts[f"fold-{number}.safetensors"]


def tagged_cell(parts):
    evil = {**MINE, "metadata": {"tags": ["injected-parameters"]}, "source": "c.KFold = leak"}
    book(parts, "3_evaluate.ipynb", lambda cells: cells.insert(0, evil))


def comment_and_swap(parts):
    table(parts, swapped)
    code = json.loads(parts["sources.json"])["digitlib/training.py"]
    state(parts, "sources.json", **{"digitlib/training.py": code + "# mine\n"})


def first_code(cells):
    return next(c for c in cells if c["cell_type"] == "code" and c["outputs"])


def unordered(cells):
    first_code(cells)["execution_count"] = 99


def failed(cells):
    error = {"output_type": "error", "ename": "ValueError", "evalue": "", "traceback": []}
    first_code(cells)["outputs"].append(error)


def other_code(cells):
    first_code(cells)["source"] += "\nx = 1"


def checks_say(parts):
    stated = json.loads(parts["checks.json"])
    for one in stated:
        one["passed"] = True
    parts["checks.json"] = json.dumps(stated).encode()


FORGED = {
    # what is forged: line (where it is not "does not hold", with its verdict), what is said, change
    "a digit": ("predictions", "1 predictions are not the most", in_table(correct_a_digit)),
    "labels": (
        "predictions",
        "labels are other ones, first row",
        in_table(lambda t: t.assign(label=t["predicted"])),
    ),
    "shares": ("predictions", "sums differ from 1 by at most 0.5", in_table(no_proper_share)),
    "a fold": ("folds", "1 rows not in the fold", in_table(other_fold)),
    "split seed": ("folds", "rows not in the fold", run_states("parameters", split_seed=31)),
    "a row twice": (
        "run",
        "rows are not in order",
        in_table(lambda t: t.assign(row=t["row"].where(t["row"] > 0, 1))),
    ),
    "probabilities": ("probabilities", "fold . 2 of|fold .: 1 of", in_table(swapped)),
    "accuracy": ("accuracy", "run.json says 1,795", run_states("scores", correct=1795)),
    "share": ("accuracy", "run.json says", run_states("scores", accuracy=0.999)),
    "a fold's share": (
        "accuracy",
        "run.json says",
        run_states("scores", fold_accuracies=[1, 1, 1, 1]),
    ),
    "matrix": (
        "confusion matrix",
        "errors",
        run_states("scores", confusion=np.diag([180] * 10).tolist()),
    ),
    "a setting": ("recipe", "dropout is 0.1, the run says", run_states("recipe", dropout=0.1)),
    "a change": (
        "recipe",
        "dropout is 0.5, the run says .0.3, 0.5",
        run_states("model", changed={"epochs": [1, 10], "dropout": [0.3, 0.5]}),
    ),
    "epochs": ("recipe", "coursework has epochs=1, the run 9", run_states("parameters", epochs=9)),
    "recipe's name": ("recipe", "calls best coursework", run_states("recipe", name="best")),
    "seed": ("weights", "made with seed 3, the run says 4", run_states("parameters", seed=4)),
    "a setting, on weights": ("weights", "with recipe", run_states("recipe", dropout=0.1)),
    "history": (
        "history",
        "4 lines; the models recorded 4",
        lambda parts: edit(parts, "history.csv", r"0\.\d+\n", "0.999\n"),
    ),
    "history cut": (
        "history",
        "3 lines; the models recorded 4",
        lambda parts: edit(parts, "history.csv", r"4,1,.*\n", ""),
    ),
    "not kept": ("probabilities", "fold .: ", in_both(swapped, kept="too large")),
    "model's name": ("recipe", "calls coursework champion", run_states("model", name="champion")),
    "half a letter": ("run", "model.name", run_states("model", name="\ud800")),
    "an address": ("run", "model.name", run_states("model", name="see http://a.example/")),
    "no weights": ("manifest", "fold-1.skops, .* missing", estimator_without_files),
    "a release": ("metadata", "no release 0.0.9", release("0.0.9")),
    "a tagged cell": ("cannot be checked: code", "3_evaluate.ipynb", tagged_cell),
    "a comment": ("probabilities", "fold .: ", comment_and_swap),
    "not finite": (
        "run",
        "a probability is no number|sum",
        in_table(lambda t: t.assign(p3=t["p3"].where(t["row"] != 9))),
    ),
    "pickle": (
        "probabilities",
        "not a digitlib weights file",
        replaced("fold-1.safetensors", pickle.dumps(np.zeros(9))),
    ),
    "a header of a terabyte": (
        "weights",
        "not a digitlib weights file",
        replaced("fold-2.safetensors", (2**40).to_bytes(8, "little") + b"{}"),
    ),
    "checks": ("checks", "checks.json says otherwise: DL00", checks_say),
    "checks damaged": ("checks", "damaged", replaced("checks.json", b'[{"code": 1}]')),
    "order": ("notebooks", "did not run in order", lambda p: book(p, "1_eda.ipynb", unordered)),
    "a failed cell": (
        "notebooks",
        "ended in ValueError",
        lambda p: book(p, "2_train.ipynb", failed),
    ),
    "no notebook": ("notebooks", "not a readable notebook", replaced("1_eda.ipynb", b"[1]")),
    "a cell's code": (
        "metadata",
        "3_evaluate.ipynb ran other code",
        lambda p: book(p, "3_evaluate.ipynb", other_code),
    ),
    "commit": ("metadata", "commit: the manifest says abc", manifest_states(commit="abc")),
    "release": ("metadata", "digitlib: the manifest says 9.9", manifest_states(digitlib="9.9")),
    "sources": (
        "metadata",
        "not the code that run.json says",
        lambda p: state(p, "sources.json", **{"digitlib/model.py": "x = 1"}),
    ),
    "code": (
        "cannot be checked: code",
        "changed, see .*model.py",
        lambda p: state(p, "sources.json", **{"digitlib/model.py": "x = 1"}),
    ),
    "lock": (
        "cannot be checked: lock file",
        "1 lines are other ones, such as torch==9",
        lambda p: edit(p, "requirements.lock", r"torch==\S+", "torch==9"),
    ),
    "complete notebook": (
        "complete notebook",
        "not the one",
        replaced("digits_complete.ipynb", b"{}"),
    ),
    "a page": (
        "pages",
        "3_evaluate.html",
        lambda p: edit(p, "3_evaluate.html", "Evaluation", "99.99 %"),
    ),
    "the first page": (
        "pages",
        "index.html",
        lambda p: edit(p, "index.html", "</main>", "<b>99.87 %</b></main>"),
    ),
    "a style over a number": (
        "pages",
        "2_train.html",
        lambda p: edit(
            p, "2_train.html", "</head>", "<style>b::after {content: '99.87'}</style></head>"
        ),
    ),
    "a page with other weights": (
        "pages",
        "draw.html",
        lambda p: edit(p, "draw.html", '"weights": "....', '"weights": "AAAA'),
    ),
    "title page": ("pages", "index.html", manifest_states(authors="Eve")),
    "an extra file": ("manifest", "x.csv not listed", None),
    "a missing file": ("manifest", "history.csv missing", None),
    "a changed file": ("manifest", "changed after .*: history.csv", None),
    "deep": ("run", "Recursion|nested", replaced("run.json", b"[" * 100_000)),
    "empty": ("run", "required", replaced("run.json", b"{}")),
    "no number": (
        "run",
        "NaN is no number",
        lambda p: edit(p, "run.json", '"accuracy": [^,]+', '"accuracy": NaN'),
    ),
    "a script for a name": (
        "run",
        "model.name",
        run_states("model", name="<script>alert(1)</script>"),
    ),
    "a link for a name": ("run", "recipe.name", run_states("recipe", name="[x](http://a.b)")),
    "a huge network": ("run", "splits", run_states("parameters", splits=10**9)),
    "other columns": ("run", "other columns", in_table(lambda t: t.assign(p10=0))),
    "no digits": ("run", "ValueError", in_table(lambda t: t.assign(predicted="three"))),
    "half a row": (
        "run",
        "no integer|ValueError",
        in_table(lambda t: t.assign(row=t["row"] + 0.5)),
    ),
    "own data": (
        "cannot be checked: run",
        "file of the student's own",
        run_states("data", source="/etc/passwd"),
    ),
    "data's hash": ("data", "published", run_states("data", sha256="0" * 64)),
}


@pytest.mark.parametrize("name", FORGED)
def test_forgery_is_caught_on_its_own_line_with_its_reason(name, parts, forge, tmp_path):
    where, said, change = FORGED[name]
    verdict, _, claim = where.rpartition(": ")
    if change is None:
        changed = {"a missing file": None, "a changed file": b"1\n"}
        parts["history.csv"] = changed.get(name, parts["history.csv"])
        parts |= {"x.csv": b"1\n"} if name == "an extra file" else {}
        path = forge({n: c for n, c in parts.items() if c is not None}, signed=False)
    else:
        change(parts)
        path = forge(parts)
    found, why = judged_line(path, claim, tmp_path / "it")
    assert found == (verdict or "does not hold") and re.search(said, why), why
    assert "\n" not in why


def trained_on(parts, tmp_path, number, extra, scale_on=None):
    """Fold `number` trained on held-out rows as well, every number in the files made to fit."""
    digits, info = load_digits("sklearn"), json.loads(parts["run.json"])
    frame = pd.read_csv(io.BytesIO(parts["predictions.csv"]))
    held_out = np.flatnonzero(frame["fold"] == number)
    rows = np.concatenate([np.flatnonzero(frame["fold"] != number), held_out[:extra]])
    classifier = DigitClassifier(random_state=3, epochs=1)
    scale_on = None if scale_on is None else digits.data[frame["fold"] != number]
    classifier.fit(digits.data[rows], digits.target[rows], scale_on=scale_on)
    true = judge.checks.read_header(tmp_path / "true")
    classifier.history_ = true["history"]
    kept = {key: true[key] for key in ("fold", "seed", "split_seed", "data")}
    classifier.save(tmp_path / "w", **kept)
    parts[f"fold-{number}.safetensors"] = (tmp_path / "w").read_bytes()
    given = classifier.predict_proba(digits.data[held_out])
    frame.loc[held_out, PROBABILITIES] = given.astype(float)
    frame["predicted"] = frame[PROBABILITIES].to_numpy().argmax(axis=1)
    parts["predictions.csv"] = frame.to_csv(index=False, float_format="%.9g").encode()
    assert info["parameters"]["seed"] == 3


@pytest.mark.parametrize(
    ("scale_on", "claim", "said"),
    [
        (None, "training rows", "it has seen held-out rows"),
        ("honest", "retraining", "not this run"),
    ],
)
def test_held_out_rows_trained_on(parts, forge, tmp_path, scale_on, claim, said):
    (tmp_path / "true").write_bytes(parts["fold-1.safetensors"])
    trained_on(parts, tmp_path, 1, None, scale_on)
    lines = lines_of(verify.verify(forge(parts), retrain=True))
    assert lines[claim][0] == "does not hold" and said in lines[claim][1]
    assert lines["probabilities"][0] == "holds", "the forger was careful"


def test_a_number_that_a_cell_shows_is_compared_with_what_the_files_give(parts, forge):
    def lie(cells):
        for cell in cells:
            for output in cell.get("outputs", ()):
                for kind, text in output.get("data", {}).items():
                    if kind == "text/markdown" and (
                        found := re.search(r"\d\d\.\d\d %", "".join(text))
                    ):
                        output["data"][kind] = "".join(text).replace(found[0], "99.87 %")
                        return
        pytest.fail("no number was found to lie about")

    def draw(cells):
        for output in (one for cell in cells for one in cell.get("outputs", ())):
            if "image/png" in output.get("data", {}):
                output["data"]["image/png"] = PIXEL
                return

    book(parts, "3_evaluate.ipynb", lie)
    lines = lines_of(verify.verify(forge(parts)))
    assert re.search(r"cell \[\d+\] shows 99.87 %, the files give \d\d\.\d", lines["outputs"][1])
    book(parts, "3_evaluate.ipynb", lambda cells: cells.insert(0, {**MINE, "source": "1 + 1"}))
    book(parts, "3_evaluate.ipynb", draw)
    found = judge.cells.compare(
        json.loads(parts["3_evaluate.ipynb"]), json.loads(parts["3_evaluate.ipynb"])
    )
    assert not found.faults


MINE = {"cell_type": "code", "metadata": {}, "execution_count": 1, "outputs": []}
PIXEL = (
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQV"
    "R42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)


def test_another_release_softens_what_rests_on_code_and_says_so(parts, forge, tmp_path):
    release("9.9.9")(parts)
    edit(parts, "index.html", "</main>", "</main> ")
    found, why = judged_line(forge(parts), "pages", tmp_path / "it")
    assert found == "cannot be checked" and why.startswith("made with digitlib 9.9.9: ")


# ---- nothing of the student's reaches the grader's pages -----------------------------------------

HIT = "window.hit = (window.hit || 0) + 1"
SMUGGLED = [
    f"<script>{HIT}</script>",
    f"<!-- --!><script>{HIT}</script> -->",
    f"<svg><style><img src=x onerror='{HIT}'></style></svg>",
    f"<script type='text/plain' type='module'>{HIT}</script>",
    f"<img src=x onerror='{HIT}'>",
    f"<svg onload='{HIT}'></svg>",
    f"<a href='java\nscript:{HIT}'>x</a>",
    f"<iframe srcdoc='<script>parent.{HIT}</script>'></iframe>",
    f"<details open ontoggle='{HIT}'>x</details>",
    f"<math><mtext></p><style><img src=x onerror='{HIT}'></style></mtext></math>",
    f"<noscript><p title='</noscript><img src=x onerror={HIT.replace(' ', '')}>'>",
    f"<template><script>{HIT}</script></template>",
    "<meta http-equiv=refresh content='0; url=http://127.0.0.1:9/'>",
    "<link rel=stylesheet href='http://127.0.0.1:9/x.css'>",
    "<style>main { display: none } h1::after { content: '99.87 %' }</style>",
    "<base href='http://127.0.0.1:9/'><img src=x.png>",
    "<form action='http://127.0.0.1:9/'><button autofocus>x</button></form>",
    f"![x](http://127.0.0.1:9/a.png) [y](javascript:{HIT})",
    f"<object data='data:text/html,<script>parent.{HIT}</script>'></object>",
    f"<body onpageshow='{HIT}'>",
    f"</pre></section></main><script>{HIT}</script>",
]


@needs_browser
def test_nothing_smuggled_reaches_the_graders_pages(chromium, parts, forge, tmp_path):
    """Into prose, outputs, pages and texts: 21 ways, all at once, looked at in a real browser."""

    def smuggle(cells):
        for evil in SMUGGLED:
            cells.append(json.loads(json.dumps(nbformat.v4.new_markdown_cell(f"Mine. {evil}"))))
            shown = {"text/html": evil, "text/markdown": evil, "text/plain": evil}
            output = nbformat.v4.new_output("display_data", shown)
            cells.append({**MINE, "source": f"# {evil}", "outputs": [output]})

    for name in [name for name in parts if name.endswith(".html")]:
        edit(parts, name, "<main", "".join(SMUGGLED).replace("\\", "") + "<main")
    for name in ("1_eda.ipynb", "3_evaluate.ipynb"):
        book(parts, name, smuggle)
    evil = "Ada <script>" + HIT + "</script>"
    state(parts, "MANIFEST.json", authors=evil, course=evil, title=evil, notes=[evil])
    out = tmp_path / "out"
    assert verify.verify_files([forge(parts)], out=out) == 1
    pages = [out / "verdict.html", *sorted((out / "report").glob("*.html"))]
    assert len(pages) == 5
    asked = []
    page = chromium.new_page()
    page.on("request", lambda request: asked.append(request.url))
    page.on("dialog", lambda dialog: asked.append(dialog.message))
    for path in pages:
        page.goto(f"file://{path}")
        page.wait_for_timeout(200)
        assert page.evaluate("window.hit") is None, path
        assert page.locator("main").is_visible()
        assert page.locator("iframe, object, form, base, svg img").count() == 0
    page.close()
    outside = [url for url in asked if not url.startswith(("file://", "data:"))]
    assert not outside
    assert "Mine." in (out / "report" / "student.html").read_text()
    assert "Mine." not in (out / "report" / "3_evaluate.html").read_text()


# ---- archives that may not be unpacked -----------------------------------------------------------

LINK = zipfile.ZipInfo("run.json")
LINK.external_attr = (stat.S_IFLNK | 0o777) << 16
ELSEWHERE = (
    "../../evil.py",
    "/etc/cron.d/evil",
    "C:\\evil.py",
    "..\\evil.py",
    "a/run.json",
    ".rc",
    "-rf",
)
REFUSED = {
    **{name: ([(name, b"x")], "no plain file name") for name in ELSEWHERE},
    "link": ([(LINK, b"/etc/passwd")], "run.json is a symbolic link"),
    "bomb": ([("run.json", bytes(5_000_000))], "would unpack to more than 4,000,000 bytes"),
    "page": ([("x.html", b"<a>" * 21_000_000)], "would unpack to more than 16,000,000 bytes"),
    "many": ([(f"f{n}", b"") for n in range(evidence.MAX_FILES + 1)], "more than 500 files"),
    "twice": ([("a.csv", b""), ("A.csv", b"")], "A.csv is in it twice"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_archive_that_is_not_unpacked(tmp_path, name):
    entries, said = REFUSED[name]
    path = pack(tmp_path / "bad.zip", *entries)
    verdict = verify.verify(path)
    lines = lines_of(verdict)
    assert verdict["verdict"] == "unreadable"
    found, why = lines.pop("archive")
    assert found == "does not hold" and said in why
    assert {found for found, _ in lines.values()} == {"cannot be checked"}
    assert [path.name for path in tmp_path.iterdir()] == ["bad.zip"]


def test_bomb_that_lies_about_its_size(tmp_path):
    path = pack(tmp_path / "bad.zip", ("run.json", bytes(1_000_000)))
    size, claimed = ((n).to_bytes(4, "little") for n in (1_000_000, 10))
    path.write_bytes(path.read_bytes().replace(size, claimed))
    assert verify.verify(path)["verdict"] == "unreadable"


# ---- a class -------------------------------------------------------------------------------------


def test_class_survives_its_worst_file_and_near_copies_are_flagged(
    honest, original, forge, tmp_path, capsys
):
    parts = dict(original)
    flipped = bytearray(parts["fold-1.safetensors"])
    flipped[-3] ^= 1
    parts["fold-1.safetensors"] = bytes(flipped)
    state(parts, "MANIFEST.json", authors="=HYPERLINK(1)\x1b[2J")
    download = tmp_path / "download"
    hand_ins = {
        "Ada Lovelace_11": honest,
        "Zoë van-der Berg_12": forge(parts, "copied.zip"),
        "Eve_13": pack(tmp_path / "bad.zip", ("x.html", b"<a>" * 21_000_000)),
        "Mal_14": tmp_path / "broken.zip",
        "Pat_15": tmp_path / "essay.pdf",
    }
    (tmp_path / "broken.zip").write_bytes(honest.read_bytes()[:5000])
    (tmp_path / "essay.pdf").write_bytes(b"%PDF")
    for name, path in hand_ins.items():
        folder = download / f"{name}_assignsubmission_file"
        folder.mkdir(parents=True)
        (folder / path.name).write_bytes(path.read_bytes())
    marks, out, sheet = tmp_path / "marks.csv", tmp_path / "out", tmp_path / "sheet.csv"
    rows = "".join(f"Teilnehmer/in{n},,100,\n" for n in (11, 12, 13, 14, 15))
    sheet.write_text(f"ID,Bewertung,Bestwertung,Feedback\n{rows}")
    options = {"marks": marks, "out": out, "jobs": 2, "points": "holds: 3; accuracy>=0.1: 5"}
    assert verify.verify_files([download], moodle=sheet, **options) == 1
    with marks.open(newline="", encoding="utf-8") as file:
        found = {row["student"]: row for row in csv.DictReader(file)}
    verdicts = [found[name.rsplit("_", 1)[0]]["verdict"] for name in hand_ins]
    assert verdicts == ["holds", "does not hold", "unreadable", "unreadable", "unreadable"]
    ada, zoe, pat = found["Ada Lovelace"], found["Zoë van-der Berg"], found["Pat"]
    assert "near copy" in ada["notes"] and "near copy" in zoe["notes"]
    assert float(zoe["distance"]) < verify.NEAR and "copied.zip" in ada["nearest"]
    assert zoe["authors"].startswith("'=HYPERLINK")  # no spreadsheet runs it
    assert "essay.pdf" in pat["feedback"]
    assert "\x1b" not in capsys.readouterr().out
    overview = (out / "index.html").read_text()
    assert 'href="Ada-Lovelace/verdict.html"' in overview and overview.count("<tr>") == 6
    assert (out / "Ada-Lovelace" / "report" / "3_evaluate.html").is_file()
    filled = (out / "moodle-worksheet.csv").read_text()
    assert '"8"' in filled and filled.count("Teilnehmer") == 5
    with zipfile.ZipFile(out / "moodle-feedback.zip") as archive:
        assert len(archive.namelist()) == 5


def test_what_takes_too_long_is_ended_with_its_kernel_and_the_next_is_judged(honest, tmp_path):
    before = time.monotonic()
    code = verify.verify_files([honest], out=tmp_path / "out", timeout=1)
    verdict = json.loads((tmp_path / "out" / "verdict.json").read_text())
    assert code == 1 and verdict["verdict"] == "unreadable"
    assert "took more than 1 s; give --timeout" in verdict["claims"][0]["why"]
    assert time.monotonic() - before < 20


def test_command_line_judges_a_folder_and_looks_through_earlier_years(
    digitlib_command, honest, tmp_path
):
    with zipfile.ZipFile(honest) as archive:
        archive.extractall(tmp_path / "unpacked")
    (tmp_path / "earlier").mkdir()
    (tmp_path / "earlier" / "old-submission.zip").write_bytes(honest.read_bytes())
    words = ("unpacked", "--out", "out", "--against", "earlier")
    done = digitlib_command("verify", *words, cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"accuracy +holds +run.json says [\d,]+ of 1,797", done.stdout)
    assert "identical by design" in done.stdout
    folder = tmp_path / "out" / "unpacked"
    assert json.loads((folder / "verdict.json").read_text())["verdict"] == "holds"
    assert 'href="report/index.html"' in (folder / "verdict.html").read_text()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"jobs": 0}, "takes an integer from 1 up"),
        ({"paths": ["none.zip"]}, "no such file"),
        ({"timeout": 0}, "timeout=0: takes seconds"),
        ({"points": "good: 1"}, "points='good: 1': takes"),
        ({"marks": os.devnull + "/x/m.csv"}, "its folder does not exist"),
    ],
)
def test_bad_input(honest, options, said):
    with pytest.raises(ParameterError, match=said):
        verify.verify_files(options.pop("paths", [honest]), **options)
