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
from digitlib.handin import evidence as unpack
from digitlib.handin import submission, verify
from digitlib.handin.evidence import Evidence

TITLE_PAGE = {"authors": "Ada Lovelace", "course": "Learning 1", "title": "Digits, read"}


@pytest.fixture(scope="module")
def honest(small_report, tmp_path_factory):
    """The submission of the small report."""
    out = tmp_path_factory.mktemp("dist")
    return submission.make_submission("small", TITLE_PAGE, small_report.parent, out, any_code=True)[
        0
    ]


@pytest.fixture
def parts(honest):
    """Its files, for forging."""
    return unpack.read(honest)


@pytest.fixture
def forge(tmp_path):
    """Write files as a submission; unless told otherwise with a manifest that fits them."""

    def write(parts, name="forged.zip", signed=True):
        manifest = json.loads(parts["MANIFEST.json"])
        if signed:
            manifest["files"] = {
                part: submission.describe(content)
                for part, content in parts.items()
                if part != "MANIFEST.json"
            }
        with zipfile.ZipFile(tmp_path / name, "w", zipfile.ZIP_DEFLATED) as archive:
            for part, content in {**parts, "MANIFEST.json": json.dumps(manifest).encode()}.items():
                archive.writestr(part, content)
        return tmp_path / name

    return write


def _lines(path, **options):
    """claim -> (verdict, why)"""
    return {
        line["claim"]: (line["verdict"], line["why"])
        for line in verify.verify(path, **options)["claims"]
    }


def _failed(lines):
    return {claim for claim, (verdict, _) in lines.items() if verdict == "does not hold"}


def _edit(parts, name, pattern, replacement):
    """Replace the first match in a text file, and be sure that there was one."""
    text, count = re.subn(pattern, replacement, parts[name].decode(), count=1)
    assert count == 1
    parts[name] = text.encode()


def _table(parts):
    return pd.read_csv(io.BytesIO(parts["predictions.csv"]))


def _put_table(parts, table):
    parts["predictions.csv"] = table.to_csv(index=False, float_format="%.9g").encode()


def _train_again(parts, tmp_path, number, seed=3, extra=(), scale_on=None):
    """Weights of fold `number` with another seed or extra training rows, under the header of the
    true ones.
    """
    evidence = Evidence(parts)
    X, y, _ = evidence.digits
    train, test = evidence.splits[number - 1]
    rows = np.concatenate([train, np.array(extra, dtype=int)])
    classifier = DigitClassifier(random_state=seed, epochs=1).fit(
        X[rows], y[rows], scale_on=scale_on
    )
    header = evidence.weights_header(number)
    classifier.history_ = header["history"]
    classifier.save(
        tmp_path / "w", **{key: header[key] for key in ("fold", "seed", "split_seed", "data")}
    )
    parts[f"fold-{number}.safetensors"] = (tmp_path / "w").read_bytes()
    return classifier, X, test


def test_honest_submission_holds(honest):
    lines = _lines(honest)
    assert {verdict for verdict, _ in lines.values()} == {"holds"}, lines
    assert len(lines) == 16


def test_honest_submission_holds_when_trained_again(honest):
    verdict, why = _lines(honest, retrain=True)["retraining"]
    assert verdict == "holds"
    assert "the same probabilities" in why


@pytest.mark.parametrize("recipe", ["instant", "fast"])
def test_training_of_other_recipes_holds(parts, forge, tmp_path, recipe):
    digits = load_digits("sklearn")
    result = cross_validate(
        DigitClassifier(recipe, random_state=0), digits.data, digits.target, progress="off"
    )
    folder = runs.save(result, digits, tmp_path / "run", seed=0)
    lines = _lines(
        forge({**parts, **{path.name: path.read_bytes() for path in folder.iterdir()}}),
        retrain=True,
    )
    assert _failed(lines) == {"figures in the pages"}  # the pages are of the other run
    assert lines["recipe"] == ("holds", recipe)
    assert "the same probabilities" in lines["retraining"][1]


# ---- the forged ones -----------------------------------------------------------------------------


def test_one_digit_changed_in_predictions(parts, forge):
    table = _table(parts)
    row = (table["label"] != table["predicted"]).idxmax()
    table.loc[row, "predicted"] = table.loc[row, "label"]
    _put_table(parts, table)
    lines = _lines(forge(parts))
    assert f"not the most probable one in 1 rows, first row {row}" in lines["predictions"][1]
    assert _failed(lines) == {"predictions", "accuracy", "confusion matrix", "figures in the pages"}


@pytest.mark.parametrize("page", ["index.html", "2_train.html", "3_evaluate.html"])
def test_accuracy_edited_in_html(parts, forge, page):
    shown = f"{100 * json.loads(parts['run.json'])['scores']['accuracy']:.2f}"
    _edit(parts, page, rf"(?<=>){shown}(?= %)|(?<=: ){shown}(?= %)|(?<=, ){shown}(?= %)", "99.99")
    lines = _lines(forge(parts))
    assert _failed(lines) == {"figures in the pages"}
    assert f"{page}, accuracy, shows 99.99 %" in lines["figures in the pages"][1]


def test_digits_of_a_class_edited_in_html(parts, forge):
    _edit(parts, "3_evaluate.html", r'(row3 col1[ "][^>]*>)\d\.\d{3}(?=\s*</td>)', r"\g<1>0.123")
    lines = _lines(forge(parts))
    assert _failed(lines) == {"figures in the pages"}
    assert "recall of digit 3, shows 0.123" in lines["figures in the pages"][1]


def test_confusion_cell_edited_in_html(parts, forge):
    _edit(parts, "index.html", r'(data-true="4" data-predicted="4"[^>]*>\s*)\d+', r"\g<1>1")
    assert _failed(_lines(forge(parts))) == {"figures in the pages"}


def test_accuracy_edited_in_run_json(parts, forge):
    info = json.loads(parts["run.json"])
    info["scores"] |= {"accuracy": 0.999, "correct": 1795}
    parts["run.json"] = json.dumps(info).encode()
    lines = _lines(forge(parts))
    assert _failed(lines) == {"accuracy"}
    assert "correct: claimed 1795, recomputed" in lines["accuracy"][1]


def test_weights_of_another_run(parts, forge, tmp_path):
    _train_again(parts, tmp_path, 2, seed=4)
    lines = _lines(forge(parts))
    assert _failed(lines) == {"probabilities"}
    assert lines["probabilities"][1].startswith("fold 2: ")


def test_fold_assignment_moved(parts, forge):
    table = _table(parts)
    table.loc[7, "fold"] = table.loc[7, "fold"] % 4 + 1
    _put_table(parts, table)
    lines = _lines(forge(parts))
    assert "folds" in _failed(lines)
    assert "1 rows are in another fold than the split says, first row 7" in lines["folds"][1]


def _fit_with_held_out_rows(parts, tmp_path, scale_on=None):
    """Fold 1 trained on what it holds out as well, every number in the files made to fit."""
    _, test = Evidence(parts).splits[0]
    classifier, X, test = _train_again(
        parts, tmp_path, 1, extra=test if scale_on is not None else test[:1], scale_on=scale_on
    )
    table, columns = _table(parts), [f"p{digit}" for digit in range(10)]
    table.loc[test, columns] = classifier.predict_proba(X[test]).astype(float)
    table["predicted"] = table[columns].to_numpy().argmax(axis=1)
    _put_table(parts, table)


def test_a_test_row_trained_on(parts, forge, tmp_path):
    _fit_with_held_out_rows(parts, tmp_path)
    lines = _lines(forge(parts))
    assert "training rows" in _failed(lines)
    assert (
        lines["probabilities"][0] == "holds"
    )  # the forger was careful: only the scaler gives it away
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


def _archive(tmp_path, *entries):
    path = tmp_path / "bad.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for entry, content in entries:
            archive.writestr(entry, content)
    return path


@pytest.mark.parametrize(
    "name",
    [
        "../../evil.py",
        "/etc/cron.d/evil",
        "C:\\evil.py",
        "..\\evil.py",
        "folder/run.json",
        ".bashrc",
        "-rf",
    ],
)
def test_zip_slip(tmp_path, name):
    lines = _lines(_archive(tmp_path, (name, b"x")))
    assert lines.pop("archive")[0] == "does not hold"
    assert {verdict for verdict, _ in lines.values()} == {"cannot be checked"}
    assert [path.name for path in tmp_path.iterdir()] == ["bad.zip"]


def test_symlink(tmp_path):
    link = zipfile.ZipInfo("run.json")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    assert _lines(_archive(tmp_path, (link, b"/etc/passwd")))["archive"] == (
        "does not hold",
        "run.json is a symbolic link",
    )


def test_bomb(tmp_path):
    path = _archive(tmp_path, ("run.json", bytes(unpack.MAX_FILE + 1)))
    assert path.stat().st_size < 100_000
    verdict, why = _lines(path)["archive"]
    assert verdict == "does not hold"
    assert "would unpack to 64,000,001 bytes" in why


def test_bomb_of_many_files_and_one_that_lies_about_its_size(tmp_path):
    path = _archive(tmp_path, *((f"f{n}", b"") for n in range(unpack.MAX_FILES + 1)))
    assert "501 files" in _lines(path)["archive"][1]
    path = _archive(tmp_path, ("run.json", bytes(1_000_000)))
    lying = path.read_bytes().replace((1_000_000).to_bytes(4, "little"), (10).to_bytes(4, "little"))
    path.write_bytes(lying)
    assert _lines(path)["archive"][0] == "does not hold"


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
    manifest = json.loads(parts["MANIFEST.json"])
    parts["MANIFEST.json"] = json.dumps({**manifest, "authors": evil}).encode()
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


# ---- beyond the twelve ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    "part",
    [
        "<script>document.title=1</script>",
        "<img src=x onerror=alert(1)>",
        '<a href="java\nscript:alert(1)">x</a>',
        "<iframe src=x></iframe>",
    ],
)
def test_page_that_could_change_itself(parts, forge, part):
    _edit(parts, "3_evaluate.html", "</body>", part + "</body>")
    assert _failed(_lines(forge(parts))) == {"active content"}


def test_recipe_that_is_not_ours_under_our_name(parts, forge):
    info = json.loads(parts["run.json"])
    info["recipe"]["dropout"] = 0.1
    parts["run.json"] = json.dumps(info).encode()
    lines = _lines(forge(parts))
    assert lines["recipe"] == ("does not hold", "coursework has dropout=0.5, the run 0.1")
    assert lines["probabilities"][0] == "cannot be checked"


def test_labels_changed_to_fit(parts, forge):
    table = _table(parts)
    table["label"] = table["predicted"]
    _put_table(parts, table)
    assert "labels are not the published ones" in _lines(forge(parts))["predictions"][1]


def test_data_of_the_students_own_is_never_opened(parts, forge):
    info = json.loads(parts["run.json"])
    info["data"]["source"] = "/etc/passwd"
    parts["run.json"] = json.dumps(info).encode()
    lines = _lines(forge(parts))
    assert lines["data"] == (
        "cannot be checked",
        "data is a file of the student's own, which is not here",
    )
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
def test_damaged_part(parts, tmp_path, name, content, line):
    parts[name] = content
    path = _archive(tmp_path, *parts.items())
    verdict, why = _lines(path)[line]
    assert verdict != "holds"
    assert "\n" not in why


# ---- a class -------------------------------------------------------------------------------------


def test_class_is_checked_side_by_side_and_copies_are_flagged(
    honest, parts, forge, tmp_path, capsys
):
    manifest = json.loads(parts["MANIFEST.json"])
    parts["MANIFEST.json"] = json.dumps({**manifest, "authors": "=HYPERLINK(1)\x1b[2J"}).encode()
    copied = forge(parts, "copied.zip")
    other = _archive(tmp_path, ("x.txt", b""))
    marks = tmp_path / "marks.csv"
    assert (
        verify.verify_files([honest, copied, other], marks=marks, out=tmp_path / "out", jobs=2) == 1
    )
    rows = list(csv.DictReader(marks.open(newline="")))
    assert [row["verdict"] for row in rows] == ["holds", "does not hold", "does not hold"]
    assert rows[0]["identical_to"] == "copied.zip (predictions and weights)"
    assert rows[1]["identical_to"] == f"{honest.name} (predictions and weights)"
    assert rows[2]["identical_to"] == ""
    assert rows[1]["authors"].startswith("'=HYPERLINK")  # no spreadsheet runs it
    assert "\x1b" not in capsys.readouterr().out
    verdict = json.loads((tmp_path / "out" / "verdicts" / "copied" / "verdict.json").read_text())
    assert (
        verdict["claims"][2] | {"verdict": "does not hold", "claim": "title page"}
        == verdict["claims"][2]
    )


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
