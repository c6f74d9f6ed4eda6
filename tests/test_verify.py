"""What graders rely on: honest hand-ins hold, each forgery fails on its own line, nothing runs."""

import base64
import csv
import io
import json
import os
import pickle
import re
import shutil
import stat
import subprocess
import sys
import time
import zipfile
from types import SimpleNamespace

import nbformat
import numpy as np
import pandas as pd
import pytest
from conftest import judged_line, judged_lines, needs_browser
from safetensors.numpy import load_file, save_file

from digitlib import DigitClassifier, load_digits, runs, sources
from digitlib.data import SHA256
from digitlib.handin import cells, copies, evidence, judge, submission, verify
from digitlib.reporting import kernels, render

PROBABILITIES = [f"p{digit}" for digit in range(10)]


@pytest.fixture(scope="module")
def original(handed_in):
    with zipfile.ZipFile(handed_in) as archive:
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


@pytest.fixture(scope="module")
def honest(handed_in, digitlib_command, tmp_path_factory):
    """What ``digitlib verify --retrain`` says of the honest hand-in, and all that it writes."""
    out = tmp_path_factory.mktemp("honest")
    words = ("verify", handed_in, "--retrain", "--out", out)
    return digitlib_command(*words, cwd=out), out


def test_honest_hand_in_holds_and_is_trained_again_to_the_same_bits(honest):
    done, out = honest
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"accuracy +holds +run.json says [\d,]+ of 1,797", done.stdout)
    verdict = json.loads((out / "verdict.json").read_text())
    assert verdict["verdict"] == "holds"
    lines = lines_of(verdict)
    assert not [one for one in lines.items() if one[1][0] != "holds"]
    assert lines["retraining"][1].startswith("the same bits: 605,224 weights")
    assert len(lines) == 22
    assert 'href="report/index.html"' in (out / "verdict.html").read_text()
    report = (out / "report" / "index.html").read_text()
    assert f"{100 * verdict['accuracy']:.2f} %" in report
    assert "Ada" not in report


# ---- forgeries -----------------------------------------------------------------------------------

MINE = {"cell_type": "code", "metadata": {}, "execution_count": 1, "outputs": [], "source": "1 + 1"}
PIXEL = (
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQV"
    "R42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)


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


def in_run(*sections, **values):
    return lambda parts: state(parts, "run.json", *sections, **values)


def in_manifest(**values):
    return lambda parts: state(parts, "MANIFEST.json", **values)


def in_table(change):
    return lambda parts: table(parts, change)


def in_text(name, pattern, replacement):
    return lambda parts: edit(parts, name, pattern, replacement)


def in_book(name, change):
    return lambda parts: book(parts, name, change)


def other_model(parts):
    state(parts, "sources.json", **{"digitlib/model.py": "x = 1"})


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


def cell_tagged(tag):
    evil = {**MINE, "metadata": {"tags": [tag]}, "source": "c.KFold = leak"}
    return in_book("3_evaluate.ipynb", lambda cells: cells.insert(0, evil))


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


def shown_by(cells):
    return [output.get("data", {}) for cell in cells for output in cell.get("outputs", ())]


def shows_another_number(cells):
    told = next(data for data in shown_by(cells) if "%" in "".join(data.get("text/markdown", "")))
    text = "".join(told["text/markdown"])
    told["text/markdown"] = re.sub(r"\d\d\.\d\d %", "99.87 %", text, count=1)


def shows_another_picture(cells):
    next(data for data in shown_by(cells) if "image/png" in data)["image/png"] = PIXEL


def checks_say(**values):
    def forged(parts):
        stated = [one | values for one in json.loads(parts["checks.json"])]
        parts["checks.json"] = json.dumps(stated).encode()

    return forged


# Line of the verdict, where it is not "does not hold" after its word: what is said, what is forged
FORGED = {
    "predictions": [
        ("1 predictions are not the most", in_table(correct_a_digit)),
        ("labels are other ones, first row", in_table(lambda t: t.assign(label=t["predicted"]))),
        ("sums differ from 1 by at most 0.5", in_table(lambda t: t.assign(p0=t["p0"] + 0.5))),
    ],
    "folds": [
        ("1 rows not in the fold", in_table(other_fold)),
        ("rows not in the fold", in_run("parameters", split_seed=31)),
    ],
    "run": [
        (
            "rows are not in order",
            in_table(lambda t: t.assign(row=t["row"].where(t["row"] > 0, 1))),
        ),
        ("model.name", in_run("model", name="\ud800")),
        ("model.name", in_run("model", name="see http://a.example/")),
        (
            "a probability is no number|sum",
            in_table(lambda t: t.assign(p3=t["p3"].where(t["row"] != 9))),
        ),
        ("Recursion|nested", replaced("run.json", b"[" * 100_000)),
        ("must contain", replaced("run.json", b"{}")),
        ("NaN is no number", in_text("run.json", '"accuracy": [^,]+', '"accuracy": NaN')),
        ("model.name", in_run("model", name="<script>alert(1)</script>")),
        ("recipe.name", in_run("recipe", name="[x](http://a.b)")),
        ("splits", in_run("parameters", splits=10**9)),
        ("other columns", in_table(lambda t: t.assign(p10=0))),
        ("ValueError", in_table(lambda t: t.assign(predicted="three"))),
        ("no integer|ValueError", in_table(lambda t: t.assign(row=t["row"] + 0.5))),
    ],
    "probabilities": [
        ("fold . 2 of|fold .: 1 of", in_table(swapped)),
        ("fold .: ", in_both(swapped, kept="too large")),
        ("fold .: ", comment_and_swap),
        ("not a digitlib weights file", replaced("fold-1.safetensors", pickle.dumps(np.zeros(9)))),
    ],
    "accuracy": [
        ("run.json says 1,795", in_run("scores", correct=1795)),
        ("run.json says", in_run("scores", accuracy=0.999)),
        ("run.json says", in_run("scores", fold_accuracies=[1, 1, 1, 1])),
    ],
    "confusion matrix": [("errors", in_run("scores", confusion=np.diag([180] * 10).tolist()))],
    "recipe": [
        ("dropout is 0.1, but the run says", in_run("recipe", dropout=0.1)),
        (
            "dropout is 0.5, but the run says .0.3, 0.5",
            in_run("model", changed={"epochs": [1, 10], "dropout": [0.3, 0.5]}),
        ),
        ("coursework has epochs=1, the run 9", in_run("parameters", epochs=9)),
        ("calls best coursework", in_run("recipe", name="best")),
        ("calls coursework champion", in_run("model", name="champion")),
    ],
    "weights": [
        ("made with seed 3, the run says 4", in_run("parameters", seed=4)),
        ("with recipe", in_run("recipe", dropout=0.1)),
        (
            "not a digitlib weights file",
            replaced("fold-2.safetensors", (2**40).to_bytes(8, "little") + b"{}"),
        ),
    ],
    "history": [
        ("4 lines; the models recorded 4", in_text("history.csv", r"0\.\d+\n", "0.999\n")),
        ("3 lines; the models recorded 4", in_text("history.csv", r"4,1,.*\n", "")),
    ],
    "manifest": [("fold-1.skops, .* missing", estimator_without_files)],
    "metadata": [
        ("no release 0.0.9", release("0.0.9")),
        ("3_evaluate.ipynb ran other code", in_book("3_evaluate.ipynb", other_code)),
        ("commit: the manifest says abc", in_manifest(commit="abc")),
        ("digitlib: the manifest says 9.9", in_manifest(digitlib="9.9")),
        ("not the code that run.json says", other_model),
    ],
    "cannot be checked: code": [
        ("3_evaluate.ipynb", cell_tagged("injected-parameters")),
        ("3_evaluate.ipynb", cell_tagged("model")),
        ("changed, see .*model.py", other_model),
    ],
    "checks": [
        ("checks.json says otherwise: DL00", checks_say(passed=True)),
        ("checks.json says otherwise: DL00", checks_say(kind="finding")),
        ("damaged", replaced("checks.json", b'[{"code": 1}]')),
    ],
    "notebooks": [
        ("did not run in order", in_book("1_eda.ipynb", unordered)),
        ("ended in ValueError", in_book("2_train.ipynb", failed)),
        ("not a readable notebook", replaced("1_eda.ipynb", b"[1]")),
    ],
    "outputs": [
        (
            r"cell \[\d+\] shows 99.87 %, the files give \d\d\.\d",
            in_book("3_evaluate.ipynb", shows_another_number),
        ),
        ("shows another picture", in_book("3_evaluate.ipynb", shows_another_picture)),
    ],
    "holds: outputs": [
        (
            "1 cells of the student's own are no proof",
            in_book("3_evaluate.ipynb", lambda cells: cells.insert(0, MINE)),
        )
    ],
    "cannot be checked: lock file": [
        (
            "1 lines are other ones, such as torch==9",
            in_text("requirements.lock", r"torch==\S+", "torch==9"),
        )
    ],
    "complete notebook": [("not the one", replaced("digits_complete.ipynb", b"{}"))],
    "pages": [
        ("3_evaluate.html", in_text("3_evaluate.html", "Evaluation", "99.99 %")),
        ("index.html", in_text("index.html", "</main>", "<b>99.87 %</b></main>")),
        (
            "2_train.html",
            in_text("2_train.html", "</head>", "<style>b::after {content: '99.87'}</style></head>"),
        ),
        ("index.html", in_manifest(authors="Eve")),
        ("draw.html", in_text("draw.html", '"weights": "....', '"weights": "AAAA')),
    ],
    "cannot be checked: run": [("file of the student's own", in_run("data", source="/etc/passwd"))],
    "data": [("published", in_run("data", sha256="0" * 64))],
}


@pytest.mark.parametrize(
    ("where", "said", "change"), [(line, *case) for line in FORGED for case in FORGED[line]]
)
def test_forgery_is_caught_on_its_own_line_with_its_reason(
    where, said, change, parts, forge, tmp_path, request
):
    verdict, _, claim = where.rpartition(": ")
    change(parts)
    ours = request.getfixturevalue("honest")[1] / "report" if claim == "outputs" else None
    found, why = judged_line(forge(parts), claim, tmp_path / "it", report=ours)
    assert found == (verdict or "does not hold") and re.search(said, why), why
    assert "\n" not in why


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"x.csv": b"1\n"}, "x.csv not listed"),
        ({"history.csv": None}, "history.csv missing"),
        ({"history.csv": b"1\n"}, "changed after .*: history.csv"),
    ],
)
def test_files_are_those_that_the_manifest_lists(changed, said, parts, forge, tmp_path):
    kept = {name: content for name, content in (parts | changed).items() if content is not None}
    found, why = judged_line(forge(kept, signed=False), "manifest", tmp_path / "it")
    assert found == "does not hold" and re.search(said, why), why


def trained_on_all(parts, tmp_path, scale_on):
    """Fold 1 trained on held-out rows as well, every number in the files made to fit."""
    digits = load_digits("sklearn")
    frame = pd.read_csv(io.BytesIO(parts["predictions.csv"]))
    held_out = frame["fold"] == 1
    classifier = DigitClassifier(random_state=3, epochs=1)
    scale_on = None if scale_on is None else digits.data[~held_out]
    classifier.fit(digits.data, digits.target, scale_on=scale_on)
    true = judge.checks.read_header(tmp_path / "true")
    classifier.history_ = true["history"]
    kept = {key: true[key] for key in ("fold", "seed", "split_seed", "data")}
    classifier.save(tmp_path / "w", **kept)
    parts["fold-1.safetensors"] = (tmp_path / "w").read_bytes()
    given = classifier.predict_proba(digits.data[held_out])
    frame.loc[held_out, PROBABILITIES] = given.astype(float)
    frame["predicted"] = frame[PROBABILITIES].to_numpy().argmax(axis=1)
    parts["predictions.csv"] = frame.to_csv(index=False, float_format="%.9g").encode()


@pytest.mark.parametrize(
    ("scale_on", "claim", "said"),
    [
        (None, "training rows", "it has seen held-out rows"),
        ("honest", "retraining", "not this run"),
    ],
)
def test_held_out_rows_trained_on(parts, forge, tmp_path, scale_on, claim, said):
    (tmp_path / "true").write_bytes(parts["fold-1.safetensors"])
    trained_on_all(parts, tmp_path, scale_on)
    names = (claim, "probabilities")
    (found, why), careful = judged_lines(forge(parts), names, tmp_path / "it")
    assert found == "does not hold" and said in why
    assert careful[0] == "holds", "the forger was careful"


def test_accuracy_on_the_test_writers_is_that_of_their_rows_alone():
    y = np.zeros(5620, int)
    predicted = np.where(np.arange(5620) < 3900, 0, 1)
    it = SimpleNamespace(run=SimpleNamespace(y=y, predicted=predicted), digits=load_digits())
    found = judge.HandIn.accuracies(it)
    assert found == {"accuracy": 3900 / 5620, "writers": (3900 - 3823) / 1797}


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
    state(parts, "run.json", "recipe", summary="x" * 60 + " Mine.")
    state(parts, "run.json", "parameters", note="Mine.")
    state(parts, "run.json", "model", kept="Mine.")
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
    for name in ("index.html", "3_evaluate.html"):
        assert "Mine." not in (out / "report" / name).read_text()


def test_a_picture_that_is_a_program_does_not_run(monkeypatch):
    ran = []
    monkeypatch.setattr("PIL.EpsImagePlugin.Ghostscript", lambda *what: ran.append(what))
    program = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\nshowpage\n"
    assert cells._pixels(base64.b64encode(program)) is None and not ran
    assert cells._pixels(PIXEL).shape == (1, 1, 4)


def test_no_template_is_taken_from_where_the_grader_stands(small_report, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("page.html.j2", "parts.j2", "base/page.html.j2", "base/display_priority.j2"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("{{ 1 / 0 }}")
    shutil.copytree(small_report, tmp_path / "run")
    page = render.write_page(tmp_path / "run" / "3_evaluate.ipynb").read_bytes()
    assert page == (small_report / "3_evaluate.html").read_bytes()


def test_nothing_is_imported_from_where_the_grader_stands(tmp_path):
    """A hand-in's folder, perhaps: with names of modules, and a link under a name of ours."""
    for name in ("struct", "digitlib"):
        (tmp_path / f"{name}.py").write_text("open('ran', 'w')")
    (tmp_path / ".verdict.json.part").symlink_to("ran")
    (tmp_path / "matplotlibrc").write_text("mine: 1")  # it would complain
    (tmp_path / "★.zip").write_bytes(b"PK")  # which not every terminal can show
    (tmp_path / "bin").mkdir()
    script = tmp_path / "bin" / "digitlib"
    script.write_text("from digitlib import cli\nif __name__ == '__main__': cli.main()")
    other = {"PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "LC_ALL": "C"}  # begins anew in UTF-8
    other["PYTHONIOENCODING"] = "latin-1"
    command = [sys.executable, script, "verify", "★.zip"]
    told = {"capture_output": True, "text": True, "check": False}
    done = subprocess.run(command, cwd=tmp_path, env={**os.environ, **other}, **told)
    assert "matplotlibrc" not in done.stderr and done.returncode == 1
    assert r"\u2605.zip" in done.stdout
    assert (tmp_path / "verdict.json").exists() and not (tmp_path / "ran").exists()


def test_rows_of_the_archive_are_ours_and_nobody_is_asked(tmp_path, monkeypatch):
    monkeypatch.setenv("DIGITLIB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(sources, "_fetch_in_child", lambda: pytest.fail("asked"))
    found = []
    monkeypatch.setattr(kernels, "run", lambda *_: found.append(load_digits("uci").sha256))
    judge.HandIn.evaluate(SimpleNamespace(digits=True, folder=tmp_path, ours=tmp_path))
    assert found == [SHA256]


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


def test_class_survives_its_worst_file_and_copies_are_flagged_those_of_earlier_years_too(
    handed_in, parts, forge, tmp_path, command
):
    flipped = bytearray(parts["fold-1.safetensors"])
    flipped[-3] ^= 1
    parts["fold-1.safetensors"] = bytes(flipped)
    state(parts, "MANIFEST.json", authors="=HYPERLINK(1)\x1b[2J")
    download, earlier = tmp_path / "download", tmp_path / "earlier"
    hand_ins = {
        "Zoë van-der Berg_12": forge(parts, "copied.zip"),
        "Eve_13": pack(tmp_path / "bad.zip", ("x.html", b"<a>" * 21_000_000)),
        "Mal_14": tmp_path / "broken.zip",
        "Pat_15": tmp_path / "essay.pdf",
    }
    (tmp_path / "broken.zip").write_bytes(handed_in.read_bytes()[:5000])
    (tmp_path / "essay.pdf").write_bytes(b"%PDF")
    for name, path in hand_ins.items():
        folder = download / f"{name}_assignsubmission_file"
        folder.mkdir(parents=True)
        (folder / path.name).write_bytes(path.read_bytes())
    with zipfile.ZipFile(handed_in) as archive:
        unpacked = download / "Ada Lovelace_11_assignsubmission_file" / "unpacked"
        archive.extractall(unpacked)
    (unpacked / "verdict.json").write_text("{}")  # as `digitlib verify .` would leave it there
    (unpacked / "report").mkdir()
    earlier.mkdir()
    (earlier / "old-submission.zip").write_bytes(handed_in.read_bytes())
    marks, out, sheet = tmp_path / "marks.csv", tmp_path / "out", tmp_path / "sheet.csv"
    rows = "".join(f"Teilnehmer/in{n},,100,\n" for n in (11, 12, 13, 14, 15))
    sheet.write_text(f"ID,Bewertung,Bestwertung,Feedback\n{rows}")
    words = ("--moodle", sheet, "--out", out, "--jobs", 2, "--against", earlier)
    words = (*words, "--points", "holds: 3; accuracy>=0.1: 5", "--csv", marks)
    code, said, _ = command("verify", download, *words)
    assert code == 1 and "identical by design" in said and "\x1b" not in said
    with marks.open(newline="", encoding="utf-8") as file:
        found = {row["student"]: row for row in csv.DictReader(file)}
    verdicts = [found[name.rsplit("_", 1)[0]]["verdict"] for name in hand_ins]
    assert verdicts == ["does not hold", "unreadable", "unreadable", "unreadable"]
    ada, zoe, pat = found["Ada Lovelace"], found["Zoë van-der Berg"], found["Pat"]
    assert ada["verdict"] == "holds"
    assert ada["writers"] == ada["accuracy"] != "", "all rows here are the test writers'"
    assert pat["writers"] == pat["accuracy"] == ""
    assert "near copy" in ada["notes"] and "near copy" in zoe["notes"]
    assert float(zoe["distance"]) < copies.NEAR
    assert ada["nearest"].endswith(("copied.zip", "old-submission.zip"))  # both are as near
    assert zoe["authors"].startswith("'=HYPERLINK")  # no spreadsheet runs it
    assert "essay.pdf" in pat["feedback"]
    overview = (out / "index.html").read_text()
    assert 'href="Ada-Lovelace/verdict.html"' in overview and overview.count("<tr>") == 6
    assert (out / "Ada-Lovelace" / "report" / "3_evaluate.html").is_file()
    filled = (out / "moodle-worksheet.csv").read_text()
    assert "in11,8,100" in filled and filled.count("Teilnehmer") == 5
    with zipfile.ZipFile(out / "moodle-feedback.zip") as archive:
        assert len(archive.namelist()) == 5


def test_a_further_file_hides_no_copy(small_report, tmp_path):
    shutil.copytree(small_report, tmp_path / "copy")
    shutil.copyfile(small_report / "fold-1.safetensors", tmp_path / "copy" / "fold-0.safetensors")
    folders = (small_report, tmp_path / "copy")
    one, two = (copies.fingerprint(runs.load(folder))["digest"] for folder in folders)
    assert np.array_equal(one, two)


def test_a_copy_with_hidden_units_in_another_order_makes_the_same_errors(small_report, tmp_path):
    copy = shutil.copytree(small_report, tmp_path / "copy")
    random = np.random.default_rng(0)
    for path in copy.glob("fold-*.safetensors"):
        tensors, order = load_file(path), random.permutation(128)
        for name in ("network.7.weight", "network.7.bias"):
            tensors[name] = tensors[name][order]
        tensors["network.10.weight"] = 1.05 * tensors["network.10.weight"][:, order]
        save_file(tensors, path)
    frame = pd.read_csv(copy / "predictions.csv")
    moved = frame[PROBABILITIES] ** 1.05
    frame[PROBABILITIES] = moved.div(moved.sum(axis=1), axis=0)
    frame.to_csv(copy / "predictions.csv", index=False)
    one, two = ({"path": name, "student": "", "settings": [name]} for name in ("one", "two"))
    for verdict in (one, two):
        verdict |= {"distance": None, "nearest": None, "alike": [], "identical_to": [], "notes": []}
    first, second = (copies.fingerprint(runs.load(at)) for at in (small_report, copy))
    copies.compare(one, first, [(two, second)])
    assert one["distance"] > copies.NEAR and "near copy" in one["notes"][0]
    # Of another seed, half of the errors at most are the same.
    second["wrong"] = np.where(np.arange(len(second["wrong"])) % 2, second["wrong"], 10**6)
    copies.compare(one | {"notes": (notes := [])}, first, [(two, second)])
    assert notes == []


def test_what_takes_too_long_is_ended_with_its_kernel_and_the_next_is_judged(handed_in, tmp_path):
    before = time.monotonic()
    code = verify.verify_files([handed_in], out=tmp_path / "out", timeout=1)
    verdict = json.loads((tmp_path / "out" / "verdict.json").read_text())
    assert code == 1 and verdict["verdict"] == "unreadable"
    assert "took more than 1 s; give --timeout" in verdict["claims"][0]["why"]
    assert time.monotonic() - before < 20
