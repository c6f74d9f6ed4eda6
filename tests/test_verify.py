"""What graders rely on: honest hand-ins hold, each forgery fails on its own line, nothing runs."""

import json
import re
import shutil
import zipfile
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from safetensors.numpy import load_file, save_file

from digitlib import DigitClassifier, load_digits, own, runs
from digitlib.handin import unpack, verdict, verify
from digitlib.handin.verdict import HOLDS, LOOK, NOT_REPEATED, WRONG

PROBABILITIES = [f"p{digit}" for digit in range(10)]


@pytest.fixture
def folder(small_report, tmp_path, monkeypatch):
    """A copy of the small run, to be forged; the current folder is a scratch folder."""
    (tmp_path / "scratch").mkdir()
    monkeypatch.chdir(tmp_path / "scratch")
    return shutil.copytree(small_report, tmp_path / "forged")


def judged(folder, train=False):
    """The lines and the verdict on a folder or zip file; the training only if asked for."""
    for old in ("files", "ours"):
        shutil.rmtree(old, ignore_errors=True)
    slot = unpack.Slot("forged", str(folder), whole=True)
    found = verify.judge(slot)
    if train:
        shutil.rmtree("files")
        found["lines"]["training"] = verify.repeat(slot)
    verdict.conclude(found)
    return found


def state(folder, *sections, **values):
    """Let run.json state other values."""
    content = json.loads((folder / "run.json").read_text())
    inner = content
    for section in sections:
        inner = inner[section]
    inner.update(values)
    (folder / "run.json").write_text(json.dumps(content))


def table(folder, change):
    """Let predictions.csv say something else."""
    changed = change(pd.read_csv(folder / "predictions.csv"))
    changed.to_csv(folder / "predictions.csv", index=False, float_format="%.9g")


def in_run(*sections, **values):
    return lambda folder: state(folder, *sections, **values)


def in_table(change):
    return lambda folder: table(folder, change)


def all_right(frame):
    """Sure and right in every row."""
    sure = np.eye(10)[frame["label"]]
    return frame.assign(predicted=frame["label"], **dict(zip(PROBABILITIES, sure.T, strict=True)))


def other_fold(frame):
    frame.loc[7, "fold"] = frame.loc[7, "fold"] % 3 + 1
    return frame


def both(*changes):
    return lambda folder: [change(folder) for change in changes]


def scaler_of_nothing(folder):
    arrays = load_file(folder / "fold-1.safetensors")
    save_file(arrays | {"mean": np.full(64, np.nan)}, folder / "fold-1.safetensors")


def other_weights(folder):
    shutil.copyfile(folder / "fold-2.safetensors", folder / "fold-1.safetensors")


# Line of the verdict: what it says, what is forged.
FORGED = {
    "file": [
        ("most probable class", in_table(lambda t: t.assign(predicted=t["label"]))),
        ("each row once", in_table(lambda t: t.iloc[:1000])),
        ("other columns", in_table(lambda t: t.assign(extra=0))),
        ("dropout=7: takes a number", in_run("recipe", dropout=7)),
        ("model.name", in_run("model", name="<script>alert(1)</script>")),
        ("Recursion|nested", lambda folder: (folder / "run.json").write_text("[" * 100_000)),
        ("history.csv: no such file", lambda folder: (folder / "history.csv").unlink()),
    ],
    "data": [
        ("labels are other ones", in_table(lambda t: t.assign(label=t["predicted"]))),
        ("1 rows not in the fold", in_table(other_fold)),
        ("rows not in the fold", in_run("parameters", split_seed=31)),
        ("hash is that of other rows", in_run("data", sha256="0" * 64)),
        ("hash is that of other rows", in_run("data", source="bundled")),
    ],
    "model": [
        ("fold 1: .* rows differ", in_table(all_right)),
        ("fold 1: .* rows differ", other_weights),
        ("no file of weights", in_run("model", files=["fold-1.safetensors"] * 4)),
        ("no file of weights", in_run("model", files=[], unkept="lost")),
        ("cannot be read", lambda folder: (folder / "fold-1.safetensors").write_bytes(b"\x80\x04")),
        ("cannot be read|rows differ", scaler_of_nothing),
        # Whatever version or code is stated, a contradiction is one.
        ("rows differ", both(in_table(all_right), in_run("versions", digitlib="9.0"))),
        ("rows differ", both(in_table(all_right), in_run("code", sha256="0" * 64))),
    ],
}


@pytest.mark.parametrize(
    ("line", "said", "change"), [(line, *case) for line in FORGED for case in FORGED[line]]
)
def test_a_forgery_is_red_on_its_own_line_with_its_reason(line, said, change, folder):
    change(folder)
    found = judged(folder)
    word, why = found["lines"][line]
    assert word == WRONG and re.search(said, why), why
    assert found["verdict"] == ("unreadable" if line == "file" else WRONG)
    assert line != "file" or list(found["lines"]) == ["file"]
    assert "\n" not in why and found["reason"].startswith(f"{line}: ")


STATED_ONLY = {
    "own rows": in_run("data", source="/etc/passwd", sha256="0" * 64),
    "own folds": in_run("parameters", folds="GroupKFold"),
    "own network": in_run("model", kind="network", name="Mine"),
    "other code": in_run("code", sha256="0" * 64),
}


@pytest.mark.parametrize("name", STATED_ONLY)
def test_what_cannot_be_computed_again_holds_as_stated(name, folder):
    STATED_ONLY[name](folder)
    assert judged(folder)["verdict"] == "holds as stated"


def test_the_kernel_machines_file_is_not_opened(folder):
    state(folder, recipe={"name": "kernel", "summary": ""})
    state(folder, "model", files=[f"fold-{k}.skops" for k in (1, 2, 3, 4)])
    for number in (1, 2, 3, 4):
        (folder / f"fold-{number}.skops").write_bytes(b"never read")
    table(folder, all_right)
    assert judged(folder)["lines"]["model"][0] == NOT_REPEATED
    found = judged(folder, train=True)
    assert found["lines"]["training"][0] == WRONG and found["verdict"] == WRONG


def test_a_leak_that_is_stated_is_told_and_one_that_is_not_is_red(folder):
    digits = load_digits("sklearn")
    folds = pd.read_csv(folder / "predictions.csv")["fold"].to_numpy()
    given = np.zeros((len(folds), 10))
    for number in (1, 2, 3, 4):
        fitted = DigitClassifier(random_state=3, epochs=1)
        rows = folds != number
        fitted.fit(digits.data[rows], digits.target[rows], scale_on=digits.data)
        own.keep(fitted, folder / f"fold-{number}")
        given[~rows] = fitted.predict_proba(digits.data[~rows])
    columns = dict(zip(PROBABILITIES, given.T, strict=True))
    table(folder, lambda t: t.assign(predicted=given.argmax(axis=1), **columns))
    word, why = judged(folder)["lines"]["model"]
    assert word == WRONG and "has seen held-out rows" in why
    state(folder, "parameters", scaling="all")
    found = judged(folder, train=True)
    assert found["lines"]["training"] == [HOLDS, "the same bits"]
    assert found["verdict"] == "holds as stated" and "the published leak" in found["reason"]


# ---- the training --------------------------------------------------------------------------------


def trained_on_held_out_rows(folder):
    """One line changed in the cross-validation, every number in the files made to fit."""
    digits = load_digits("sklearn")
    held_out = pd.read_csv(folder / "predictions.csv")["fold"].to_numpy() == 1
    classifier = DigitClassifier(random_state=3, epochs=1)
    classifier.fit(digits.data, digits.target, scale_on=digits.data[~held_out])
    own.keep(classifier, folder / "fold-1")
    given = classifier.predict_proba(digits.data[held_out])

    def fit(frame):
        frame.loc[held_out, PROBABILITIES] = given.astype(float)
        return frame.assign(predicted=frame[PROBABILITIES].to_numpy().argmax(axis=1))

    table(folder, fit)


def test_held_out_rows_that_were_trained_on_are_found_by_training_again(folder):
    assert judged(folder)["verdict"] == "holds, training not repeated"
    assert judged(folder, train=True)["verdict"] == HOLDS
    trained_on_held_out_rows(folder)
    assert judged(folder)["lines"]["model"][0] == HOLDS
    found = judged(folder, train=True)
    assert found["verdict"] == WRONG and "not this run" in found["reason"]


@pytest.mark.parametrize(("part", "stated"), [("parameters", "seed"), ("recipe", "epochs")])
def test_another_seed_or_setting_is_another_run(folder, part, stated):
    state(folder, part, **{stated: 2})
    assert judged(folder, train=True)["lines"]["training"][0] == WRONG


def rounded(run, steps, learning_rate=0.0):
    """What was trained again, otherwise by as much as another machine's rounding, or by learning a
    little from the held-out rows of fold 1.
    """
    import torch

    digits, fitted = load_digits("sklearn"), [run.fitted(number) for number in (1, 2, 3, 4)]
    probabilities, generator = run.probabilities.copy(), torch.Generator().manual_seed(0)
    for number, each in enumerate(fitted, 1):
        rows = run.folds == number
        images, labels = each._images(digits.data[rows], "cpu"), torch.tensor(digits.target[rows])
        weights = list(each.network_.parameters())
        for _ in range(steps):
            loss = torch.nn.functional.nll_loss(each.network_(images), labels)
            for weight, slope in zip(weights, torch.autograd.grad(loss, weights), strict=True):
                weight.data -= learning_rate * slope.sign()
        for weight in weights:
            weight.data *= 1 + 0.002 * torch.randn(weight.shape, generator=generator)
        probabilities[rows] = each.predict_proba(digits.data[rows])
    return SimpleNamespace(
        estimators=fitted,
        probabilities=probabilities,
        predicted=probabilities.argmax(axis=1),
        classes=np.arange(10),
        accuracy=0.5,
    )


def test_rounding_holds_and_a_few_steps_on_held_out_rows_do_not(folder):
    run = runs.load(folder)
    word, why = verify.compare(rounded(run, 0), run)
    assert word == HOLDS and "rounding" in why
    # As far from the run as rounding may be; the run is what was learned, so all is turned round.
    learned = rounded(run, 10, 1e-4)
    theirs = SimpleNamespace(
        info=run.info,
        y=run.y,
        probabilities=learned.probabilities,
        predicted=learned.predicted,
        fitted=lambda number: learned.estimators[number - 1],
    )
    honest = SimpleNamespace(**{**vars(rounded(run, 0)), "accuracy": 0.5})
    word, why = verify.compare(honest, theirs)
    assert word == WRONG and "standard errors better" in why


# ---- copies --------------------------------------------------------------------------------------


def hand_in(path, training, settings):
    slot = unpack.Slot(path, path)
    lines = {"file": [HOLDS, ""], "training": [training, ""], "copy": [HOLDS, ""]}
    return verdict.blank(slot, "") | {"lines": lines, "settings": settings, "accuracy": 0.9}


@pytest.mark.parametrize(
    ("trained", "words"),
    [((HOLDS, WRONG), (HOLDS, WRONG)), ((NOT_REPEATED, NOT_REPEATED), (LOOK, LOOK))],
)
def test_the_innocent_original_of_a_copy_is_not_accused(trained, words):
    one, two = hand_in("ada", trained[0], "a"), hand_in("bob", trained[1], "b")
    one["near"], two["near"] = [two], [one]
    for each, word in zip((one, two), words, strict=True):
        verdict.conclude(each)
        assert each["lines"]["copy"][0] == word and each["lines"]["copy"][1]
    alike = hand_in("cy", HOLDS, "a") | {"near": [one]}
    verdict.conclude(alike)
    assert "same run by design as ada" in alike["lines"]["copy"][1] and alike["verdict"] == HOLDS


# ---- what a hand-in may be -----------------------------------------------------------------------


def pack(path, *entries):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for entry, content in entries:
            archive.writestr(entry, content)
    return path


def test_only_what_is_on_the_list_leaves_the_zip_file(folder, tmp_path):
    link = zipfile.ZipInfo("history.csv")
    link.external_attr = (0o120777) << 16
    names = ("../../evil.py", "/etc/evil", "fold-results.html", "fold-results.ipynb", "Run.json")
    names += ("fold-5.safetensors", "fold-01.skops", "report/index.html", ".rc", "conftest.py")
    honest = [(path.name, path.read_bytes()) for path in folder.iterdir() if path.is_file()]
    evil = pack(tmp_path / "evil.zip", (link, "/etc/passwd"), *honest, *[(n, b"x") for n in names])
    run = verify.load(unpack.Slot("evil", str(evil), whole=True))
    models = {f"fold-{number}.safetensors" for number in (1, 2, 3, 4)}
    wanted = {"run.json", "predictions.csv", "history.csv", *models}
    assert {path.name for path in run.path.iterdir()} == wanted
    assert not run.path.joinpath("history.csv").is_symlink()
    assert {path.name for path in tmp_path.iterdir()} == {"evil.zip", "forged", "scratch"}


@pytest.mark.parametrize(
    ("entries", "said"),
    [
        ([("run.json", bytes(5_000_000))], "run.json has more than 500,000 bytes"),
        ([(f"f{n}", b"") for n in range(unpack.MOST_FILES + 1)], "more than 10,000 files"),
        ([("essay.pdf", b"")], "no run.json in it"),
        ([("a/b.zip", b"PK")], "cannot be read: BadZipFile"),
    ],
)
def test_zip_file_that_is_no_hand_in(folder, tmp_path, entries, said):
    found = judged(pack(tmp_path / "bad.zip", *entries))
    assert found["verdict"] == "unreadable" and said in found["reason"]


def test_names_twice_and_damage_are_told(folder, tmp_path):
    honest = [(path.name, path.read_bytes()) for path in folder.iterdir() if path.is_file()]
    with pytest.warns(UserWarning, match="Duplicate"):
        twice = pack(tmp_path / "twice.zip", *honest, ("history.csv", b""))
    assert "history.csv is in it twice" in judged(twice)["reason"]
    whole = pack(tmp_path / "whole.zip", *honest).read_bytes()
    (tmp_path / "half.zip").write_bytes(whole[: len(whole) // 2])
    assert judged(tmp_path / "half.zip")["verdict"] == "unreadable"
    inner = pack(tmp_path / "inner.zip", *[(f"small/{name}", text) for name, text in honest])
    nested = pack(tmp_path / "outer.zip", ("essay.zip", b"PK"), ("x/y.zip", inner.read_bytes()))
    assert judged(nested)["verdict"] == "holds, training not repeated"


def test_texts_of_a_students_are_bounded_and_plain(folder):
    facts = {"authors": "=HYPERLINK(1)\x1b[2J\u202e", "course": ["x"], "title": "x" * 5000}
    (folder / unpack.FACTS).write_text(json.dumps(facts))
    found = judged(folder)
    assert "\x1b" not in found["authors"] and "\u202e" not in found["authors"]
    assert len(found["title"]) < 300
    assert verdict.no_formula("-1;=cmd();b") == "'-1;'=cmd();b"
    assert verdict.no_formula(found["authors"]).startswith("'=")
