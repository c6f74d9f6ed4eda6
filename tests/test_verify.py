"""Forged submissions, each caught on the right line; and an honest one, which holds."""

import csv
import io
import json
import pickle
import re
import stat
import zipfile

import numpy as np
import pandas as pd
import pytest

from digitlib import DigitClassifier, cross_validate, load_digits, runs
from digitlib.errors import ParameterError
from digitlib.handin import evidence, submission, verify
from digitlib.handin.evidence import Evidence

TITLE_PAGE = {"authors": "Ada Lovelace", "course": "Learning 1", "title": "Digits, read"}
PROBABILITIES = [f"p{digit}" for digit in range(10)]
PAGES = "figures in the pages"


@pytest.fixture(scope="module")
def honest(small_report, tmp_path_factory):
    """The submission of the small report."""
    out = tmp_path_factory.mktemp("dist")
    packed = submission.make_submission(
        "small", TITLE_PAGE, small_report.parent, out, any_code=True
    )
    return packed[0]


@pytest.fixture
def parts(honest):
    """Its files, for forging."""
    return evidence.unpack(honest)


@pytest.fixture
def forge(tmp_path):
    """Write files as a submission; unless told otherwise with a manifest that fits them."""

    def write(parts, name="forged.zip", signed=True):
        if signed:
            listed = {part: submission.describe(parts[part]) for part in parts}
            del listed["MANIFEST.json"]
            _state(parts, "MANIFEST.json", files=listed)
        return _archive(tmp_path / name, *parts.items())

    return write


def _archive(path, *entries):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for entry, content in entries:
            archive.writestr(entry, content)
    return path


def _lines(path, **options):
    """claim -> (verdict, why)"""
    claims = verify.verify(path, **options)["claims"]
    return {line["claim"]: (line["verdict"], line["why"]) for line in claims}


def _failed(lines):
    return {claim for claim, (verdict, _) in lines.items() if verdict == "does not hold"}


def _edit(parts, name, pattern, replacement):
    """Replace the first match in a text file, and be sure that there was one."""
    text, count = re.subn(pattern, replacement, parts[name].decode(), count=1)
    assert count == 1
    parts[name] = text.encode()


def _state(parts, name, *sections, **values):
    """Let a JSON file state other values."""
    content = json.loads(parts[name])
    inner = content
    for section in sections:
        inner = inner[section]
    inner.update(values)
    parts[name] = json.dumps(content).encode()


def _table(parts):
    return pd.read_csv(io.BytesIO(parts["predictions.csv"]))


def _put_table(parts, table):
    parts["predictions.csv"] = table.to_csv(index=False, float_format="%.9g").encode()


def _train_again(parts, tmp_path, number, seed=3, extra=(), scale_on=None):
    """Weights of fold `number` from another seed or extra rows, under the true ones' header."""
    claimed = Evidence(parts)
    X, y, _ = claimed.digits
    train, test = claimed.splits[number - 1]
    rows = np.concatenate([train, np.array(extra, dtype=int)])
    classifier = DigitClassifier(random_state=seed, epochs=1)
    classifier.fit(X[rows], y[rows], scale_on=scale_on)
    header = claimed.weights_header(number)
    classifier.history_ = header["history"]
    kept = {key: header[key] for key in ("fold", "seed", "split_seed", "data")}
    classifier.save(tmp_path / "w", **kept)
    parts[f"fold-{number}.safetensors"] = (tmp_path / "w").read_bytes()
    return classifier, X, test


def test_honest_submission_holds(honest):
    lines = _lines(honest)
    assert {verdict for verdict, _ in lines.values()} == {"holds"}, lines
    assert len(lines) == 17


def test_honest_submission_holds_when_trained_again(honest):
    verdict, why = _lines(honest, retrain=True)["retraining"]
    assert verdict == "holds"
    assert "the same probabilities" in why


@pytest.mark.parametrize("recipe", ["instant", "fast"])
def test_training_of_other_recipes_holds(parts, forge, tmp_path, recipe):
    digits = load_digits("sklearn")
    classifier = DigitClassifier(recipe, random_state=0)
    result = cross_validate(classifier, digits.data, digits.target, progress="off")
    folder = runs.save(result, digits, tmp_path / "run", seed=0)
    parts |= {path.name: path.read_bytes() for path in folder.iterdir()}
    lines = _lines(forge(parts), retrain=True)
    assert _failed(lines) == {"figures in the pages"}  # the pages are of the other run
    assert lines["recipe"] == ("holds", recipe)
    assert "the same probabilities" in lines["retraining"][1]


# ---- the forged ones -----------------------------------------------------------------------------


def _change_a_digit(parts):
    table = _table(parts)
    row = (table["label"] != table["predicted"]).idxmax()
    table.loc[row, "predicted"] = table.loc[row, "label"]
    _put_table(parts, table)


def _change_labels_to_fit(parts):
    table = _table(parts)
    _put_table(parts, table.assign(label=table["predicted"]))


def _move_a_row_to_another_fold(parts):
    table = _table(parts)
    table.loc[7, "fold"] = table.loc[7, "fold"] % 4 + 1
    _put_table(parts, table)


def _edit_accuracy_in(page):
    def change(parts):
        shown = f"{100 * json.loads(parts['run.json'])['scores']['accuracy']:.2f}"
        _edit(parts, page, rf"(?<=>){shown}(?= %)|(?<=[:,] ){shown}(?= %)", "99.99")

    return change


def _edit_recall_of_digit_3(parts):
    _edit(parts, "3_evaluate.html", r'(row3 col1[ "][^>]*>)\d\.\d{3}(?=\s*</td>)', r"\g<1>0.123")


def _edit_confusion_cell(parts):
    _edit(parts, "index.html", r'(data-true="4" data-predicted="4"[^>]*>\s*)\d+', r"\g<1>1")


def _edit_accuracy_of_run(parts):
    _state(parts, "run.json", "scores", accuracy=0.999, correct=1795)


def _edit_recipe(parts):
    _state(parts, "run.json", "recipe", dropout=0.1)


def _add_to_page(element):
    return lambda parts: _edit(parts, "3_evaluate.html", "</body>", element + "</body>")


OF_PREDICTIONS = {"predictions", "accuracy", "confusion matrix", PAGES}


@pytest.mark.parametrize(
    ("change", "failed", "line", "said"),
    [
        (_change_a_digit, OF_PREDICTIONS, "predictions", "not the most probable one in 1 rows"),
        (_change_labels_to_fit, {"predictions"}, "predictions", "are not the published ones"),
        (_move_a_row_to_another_fold, {"folds", PAGES}, "folds", "1 rows .* first row 7$"),
        *(
            (_edit_accuracy_in(page), {PAGES}, PAGES, f"{page}, accuracy, shows 99.99 %")
            for page in ("index.html", "2_train.html", "3_evaluate.html")
        ),
        (_edit_recall_of_digit_3, {PAGES}, PAGES, "recall of digit 3, shows 0.123"),
        (_edit_confusion_cell, {PAGES}, PAGES, "4 read as 4, shows 1, recomputed"),
        (_edit_accuracy_of_run, {"accuracy"}, "accuracy", "correct: claimed 1795, recomputed"),
        (_edit_recipe, {"recipe", "weights"}, "recipe", "coursework has dropout=0.5, the run 0.1"),
        *(
            (_add_to_page(element), {"active content"}, "active content", "3_evaluate.html: ")
            for element in (
                "<script>document.title=1</script>",
                "<img src=x onerror=alert(1)>",
                '<a href="java\nscript:alert(1)">x</a>',
                "<iframe src=x></iframe>",
            )
        ),
    ],
)
def test_forgery_is_caught_on_its_own_line_with_its_reason(
    parts, forge, change, failed, line, said
):
    change(parts)
    lines = _lines(forge(parts))
    assert _failed(lines) == failed
    assert re.search(said, lines[line][1])


def test_what_rests_on_a_forged_recipe_is_not_run(parts, forge):
    _edit_recipe(parts)
    assert _lines(forge(parts))["probabilities"][0] == "cannot be checked"


def test_weights_of_another_run(parts, forge, tmp_path):
    _train_again(parts, tmp_path, 2, seed=4)
    lines = _lines(forge(parts))
    assert _failed(lines) == {"probabilities"}
    assert lines["probabilities"][1].startswith("fold 2: ")


def _fit_with_held_out_rows(parts, tmp_path, scale_on=None):
    """Fold 1 trained on what it holds out as well, every number in the files made to fit."""
    _, test = Evidence(parts).splits[0]
    extra = test[:1] if scale_on is None else test
    classifier, X, test = _train_again(parts, tmp_path, 1, extra=extra, scale_on=scale_on)
    table = _table(parts)
    table.loc[test, PROBABILITIES] = classifier.predict_proba(X[test]).astype(float)
    table["predicted"] = table[PROBABILITIES].to_numpy().argmax(axis=1)
    _put_table(parts, table)


def test_a_test_row_trained_on(parts, forge, tmp_path):
    _fit_with_held_out_rows(parts, tmp_path)
    lines = _lines(forge(parts))
    assert "training rows" in _failed(lines)
    # The forger was careful: only the scaler gives it away.
    assert lines["probabilities"][0] == "holds"
    assert "fold 1: its scaler saw other rows" in lines["training rows"][1]


def test_test_rows_trained_on_with_an_honest_scaler(parts, forge, tmp_path):
    X, _, _ = Evidence(parts).digits
    train, _ = Evidence(parts).splits[0]
    _fit_with_held_out_rows(parts, tmp_path, scale_on=X[train])
    lines = _lines(forge(parts), retrain=True)
    assert lines["training rows"][0] == lines["probabilities"][0] == "holds"
    assert "retraining" in _failed(lines)


def test_stale_manifest(parts, forge):
    parts["history.csv"] += b"\n"
    parts["extra.csv"] = b"1\n"
    lines = _lines(forge(parts, signed=False))
    assert lines["manifest"] == ("does not hold", "extra.csv not listed")
    del parts["extra.csv"]
    assert _lines(forge(parts, signed=False))["manifest"] == (
        "does not hold",
        "changed after the manifest was written: history.csv",
    )


# ---- archives that may not be unpacked -----------------------------------------------------------

ELSEWHERE = ["../../evil.py", "/etc/cron.d/evil", "C:\\evil.py", "..\\evil.py", "folder/run.json"]


@pytest.mark.parametrize("name", [*ELSEWHERE, ".bashrc", "-rf"])
def test_zip_slip(tmp_path, name):
    lines = _lines(_archive(tmp_path / "bad.zip", (name, b"x")))
    assert lines.pop("archive")[0] == "does not hold"
    assert {verdict for verdict, _ in lines.values()} == {"cannot be checked"}
    assert [path.name for path in tmp_path.iterdir()] == ["bad.zip"]


LINK = zipfile.ZipInfo("run.json")
LINK.external_attr = (stat.S_IFLNK | 0o777) << 16


@pytest.mark.parametrize(
    ("entries", "said"),
    [
        ([(LINK, b"/etc/passwd")], "run.json is a symbolic link"),
        ([("run.json", bytes(evidence.MAX_FILE + 1))], "would unpack to 64,000,001 bytes"),
        ([(f"f{n}", b"") for n in range(evidence.MAX_FILES + 1)], "501 files"),
        ([("a.csv", b""), ("A.csv", b"")], "A.csv is in it twice"),
    ],
    ids=["link", "bomb", "many files", "twice"],
)
def test_archive_that_is_not_unpacked(tmp_path, entries, said):
    path = _archive(tmp_path / "bad.zip", *entries)
    assert path.stat().st_size < 100_000
    verdict, why = _lines(path)["archive"]
    assert verdict == "does not hold"
    assert said in why


def test_bomb_that_lies_about_its_size(tmp_path):
    path = _archive(tmp_path / "bad.zip", ("run.json", bytes(1_000_000)))
    size, claimed = ((n).to_bytes(4, "little") for n in (1_000_000, 10))
    path.write_bytes(path.read_bytes().replace(size, claimed))
    assert _lines(path)["archive"][0] == "does not hold"


# ---- files that would do something ---------------------------------------------------------------


class _Evil:
    def __reduce__(self):
        return (pytest.fail, ("a pickle was loaded",))


def test_pickle_disguised_as_safetensors(parts, forge):
    parts["fold-1.safetensors"] = pickle.dumps(_Evil())
    lines = _lines(forge(parts), retrain=True)
    assert lines["weights"][0] == "does not hold"
    assert "not a safetensors file" in lines["weights"][1]
    assert lines["probabilities"][0] == lines["training rows"][0] == "cannot be checked"


def test_script_in_the_name_of_the_authors(parts, forge, tmp_path):
    evil = "Ada <script>alert(1)</script>"
    _state(parts, "MANIFEST.json", authors=evil)
    for name in [name for name in parts if name.endswith(".html")]:
        _edit(parts, name, "Ada Lovelace", evil)
    path = forge(parts)
    lines = _lines(path)
    assert _failed(lines) == {"title page", "active content"}
    assert "authors is not plain text but holds <script>" in lines["title page"][1]
    assert verify.verify_files([path], out=tmp_path / "out") == 1
    page = (tmp_path / "out" / "verdict.html").read_text()
    assert "Ada &lt;script&gt;alert(1)" in page  # the grader's own page does not run it either
    assert "<script" not in page


def test_data_of_the_students_own_is_never_opened(parts, forge):
    _state(parts, "run.json", "data", source="/etc/passwd")
    lines = _lines(forge(parts))
    why = "data is a file of the student's own, which is not here"
    assert lines["data"] == ("cannot be checked", why)
    assert lines["accuracy"][0] == "cannot be checked"


@pytest.mark.parametrize(
    ("name", "content", "line"),
    [
        ("run.json", b"[" * 100_000, "accuracy"),
        ("run.json", b"{}", "accuracy"),
        ("predictions.csv", b"row,fold\n" * 10, "predictions"),
        ("MANIFEST.json", b'{"files": {"a": 1}}', "manifest"),
        ("fold-2.safetensors", (2**40).to_bytes(8, "little") + b"{}", "weights"),
        ("3_evaluate.html", b"", "figures in the pages"),
    ],
)
def test_damaged_part(parts, forge, name, content, line):
    parts[name] = content
    verdict, why = _lines(forge(parts, signed=False))[line]
    assert verdict != "holds"
    assert "\n" not in why


# ---- a class -------------------------------------------------------------------------------------


def test_class_is_checked_side_by_side_and_copies_are_flagged(
    honest, parts, forge, tmp_path, capsys
):
    _state(parts, "MANIFEST.json", authors="=HYPERLINK(1)\x1b[2J")
    files = [honest, forge(parts, "copied.zip"), _archive(tmp_path / "bad.zip", ("x.txt", b""))]
    marks, out = tmp_path / "marks.csv", tmp_path / "out"
    assert verify.verify_files(files, marks=marks, out=out, jobs=2) == 1
    rows = list(csv.DictReader(marks.open(newline="")))
    assert [row["verdict"] for row in rows] == ["holds", "does not hold", "does not hold"]
    assert rows[0]["identical_to"] == "copied.zip (predictions and weights)"
    assert rows[1]["identical_to"] == f"{honest.name} (predictions and weights)"
    assert rows[2]["identical_to"] == ""
    assert rows[1]["authors"].startswith("'=HYPERLINK")  # no spreadsheet runs it
    assert "\x1b" not in capsys.readouterr().out
    line = json.loads((out / "verdicts" / "copied" / "verdict.json").read_text())["claims"][2]
    assert (line["claim"], line["verdict"]) == ("title page", "does not hold")


def test_command_line(digitlib_command, honest, tmp_path):
    done = digitlib_command("verify", honest, cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"accuracy +holds +[\d,]+ of 1,797", done.stdout)
    assert json.loads((tmp_path / "verdict.json").read_text())["verdict"] == "holds"
    assert load_digits("sklearn").sha256[:12] in (tmp_path / "verdict.html").read_text()


@pytest.mark.parametrize(
    ("options", "said"),
    [({"jobs": 0}, "takes an integer from 1 up"), ({"paths": ["none.zip"]}, "no such file")],
)
def test_bad_input(honest, options, said):
    with pytest.raises(ParameterError, match=said):
        verify.verify_files(options.pop("paths", [honest]), **options)
