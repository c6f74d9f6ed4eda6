"""Every check, by its code: failed by what it is there to find, passed by a sound run."""

import json
import re
import shutil
from dataclasses import replace
from functools import partial

import numpy as np
import pandas as pd
import pytest
from sklearn.model_selection import KFold

from digitlib import DigitClassifier, checks, crossval, own, runs
from digitlib.compare.kernel import FilterKernel
from digitlib.errors import RunError

NEED_DATA = {f"DL{number:03}" for number in (1, 2, 3, 7, 11, 15)}


@pytest.fixture(scope="session")
def sound(tmp_path_factory, digits):
    """A run folder with nothing wrong: one epoch, two folds, all 5,620 rows."""
    classifier = DigitClassifier(random_state=3, epochs=1)
    split = {"n_splits": 2, "progress": False}
    result = crossval.cross_validate(classifier, digits.data, digits.target, **split)
    return runs.save(result, digits, tmp_path_factory.mktemp("runs") / "sound", seed=3)


@pytest.fixture
def spoilt(sound, tmp_path):
    """A copy of the sound run, to be spoilt."""
    return shutil.copytree(sound, tmp_path / "spoilt")


def verdicts(folder, **options):
    return {result.code: result for result in checks.check_folder(folder, **options)}


def change_info(folder, part, **facts):
    info = json.loads((folder / "run.json").read_text())
    info[part].update(facts)
    (folder / "run.json").write_text(json.dumps(info))


# ---- the command ---------------------------------------------------------------------------------


def test_the_command_checks_the_folder_and_a_check_is_ignored_when_asked(spoilt, command):
    misread(fold=2, rows=200)(spoilt)
    code, said, _ = command("check", spoilt, "--ignore", "DL019")
    assert code == 1
    assert "DL018 worth knowing: not" in said and "DL019 ignored: free of suspected" in said
    codes = [line.split()[0] for line in said.splitlines()]
    assert codes == sorted({*checks.CHECKS} - NEED_DATA)
    assert not (spoilt / "checks.json").exists()  # a finished report is not changed
    assert command("check", spoilt, "--ignore", "DL018", "--ignore", "DL019")[0] == 0
    code, out, error = command("check", spoilt, "--ignore", "DL18")
    assert (code, out) == (2, "")
    assert error.startswith("digitlib: no check 'DL18' to ignore; there are DL001, DL002")


def test_a_run_without_epochs_passes(digits, tmp_path):
    X, y = digits.data, digits.target
    result = crossval.cross_validate(FilterKernel(0), X, y, progress=False)
    found = verdicts(runs.save(result, digits, tmp_path / "run", seed=0), everything=True)
    # No fault; it is sure enough to doubt a label.
    assert {code for code, result in found.items() if not result.passed} <= {"DL019"}


# ---- spoilt folders ------------------------------------------------------------------------------


def info(part, **facts):
    return partial(change_info, part=part, **facts)


def change_held_out(folder):
    """Three epochs, after the first of which the held-out loss rises."""
    losses = {"loss": [0.3, 0.1, 0.01], "held_out_loss": [0.2, 0.3, 0.4]}
    table = {"fold": [1, 1, 1], "epoch": [1, 2, 3], **losses}
    pd.DataFrame(table).to_csv(folder / "history.csv", index=False)


def misread(fold, rows):
    """Some rows of a fold are read as another digit, surely."""

    def spoil(folder):
        table = pd.read_csv(folder / "predictions.csv")
        at = table.index[table["fold"] == fold][:rows]
        table.loc[at, "predicted"] = (table.loc[at, "label"] + 1) % 10
        for digit in range(10):
            table.loc[at, f"p{digit}"] = (table.loc[at, "predicted"] == digit).astype(float)
        table.to_csv(folder / "predictions.csv", index=False)

    return spoil


def always_three(folder):
    for fold in (1, 2):
        misread(fold, 2700)(folder)


SPOILT = {
    "DL006 worse than the majority": always_three,
    "DL008 hash of other data": info("data", sha256="0" * 64),
    "DL008 own file that is gone": info("data", source="/nowhere/digits.csv"),
    "DL017 held-out loss rises": change_held_out,
    "DL018 one fold much worse": misread(fold=2, rows=200),
    "DL019 sure of another digit": misread(fold=1, rows=1),
    "DL020 another model.py": lambda folder: change_info(
        folder, "model", kind="estimator", name="A", sha256="0" * 64, differs="n is 1 there"
    ),
}


@pytest.mark.parametrize("fault", SPOILT)
def test_a_spoilt_folder_fails_the_check_that_is_there_for_it(fault, spoilt):
    assert verdicts(spoilt)[fault[:5]].passed
    SPOILT[fault](spoilt)
    assert not verdicts(spoilt)[fault[:5]].passed


def test_dl008_an_own_file_is_known_while_it_is_the_same(spoilt, digits, tmp_path):
    table = np.column_stack([digits.data, digits.target])
    np.savetxt(tmp_path / "own.csv", table, fmt="%d", delimiter=",")
    change_info(spoilt, "data", source=str(tmp_path / "own.csv"))
    assert verdicts(spoilt)["DL008"].passed
    np.savetxt(tmp_path / "own.csv", table[1:], fmt="%d", delimiter=",")
    assert not verdicts(spoilt)["DL008"].passed


# ---- spoilt experiments --------------------------------------------------------------------------


class _OverlappingFolds(KFold):
    """Trains on everything, the held-out rows included."""

    def split(self, X, y=None):
        for _, test in super().split(X, y):
            yield np.arange(len(X)), test


def test_dl001_and_dl002_betray_held_out_rows_that_are_trained_on(sound, digits, monkeypatch):
    monkeypatch.setitem(crossval.FOLDS, "kfold", _OverlappingFolds)
    passed, detail = checks.shuffled_labels(runs.load(sound), digits)
    assert not passed
    assert "1-nearest-neighbour 100.0 %" in detail
    passed, detail = checks.disjoint_rows(runs.load(sound), digits)
    assert not passed
    assert detail.startswith("5620 rows")


def test_dl002_a_run_in_other_folds_than_it_says(spoilt, digits):
    change_info(spoilt, "parameters", split_seed=31)
    assert not checks.disjoint_rows(runs.load(spoilt), digits)[0]


def test_dl003_a_scaler_that_has_seen_all_rows(spoilt, digits):
    rows = digits.data[:300], digits.target[:300]
    leaky = DigitClassifier(random_state=0, epochs=1).fit(*rows, scale_on=digits.data)
    own.keep(leaky, spoilt / "fold-2")
    passed, detail = checks.blind_scaler(runs.load(spoilt), digits)
    assert not passed
    assert "has seen held-out rows" in detail


def test_dl007_worse_than_a_neighbour(sound, digits):
    run = runs.load(sound)
    passed, detail = checks.better_than_neighbour(replace(run, predicted=run.y), digits)
    assert passed and "slower" not in detail and "try" not in detail
    often_wrong = np.where(np.arange(len(run.y)) < 600, (run.y + 1) % 10, run.y)
    for seconds, told in ((1000.0, True), (0.0, False)):
        info = run.info | {"seconds": seconds}
        worse = replace(run, predicted=often_wrong, info=info)
        passed, detail = checks.better_than_neighbour(worse, digits)
        assert not passed
        than = "slower than " * told
        said = rf"89\.32 % right in {seconds} s, {than}1-nearest-neighbour with 9\d\.\d+ % in \d"
        assert re.match(said, detail) and "; try another recipe" in detail


def test_dl011_other_labels_and_dl015_other_predictions(sound, digits):
    run = runs.load(sound)
    assert checks.published_labels(run, digits)[0]
    assert checks.models_give_predictions(run, digits)[0]
    passed, detail = checks.published_labels(replace(run, y=run.predicted), digits)
    assert not passed and "labels are other ones, first row" in detail
    other = replace(run, probabilities=np.roll(run.probabilities, 1, axis=0))
    passed, detail = checks.models_give_predictions(other, digits)
    assert not passed and detail.startswith("fold 1: ")


def test_a_check_that_breaks_has_not_passed(spoilt):
    (spoilt / "fold-1.safetensors").write_bytes(b"")
    result = verdicts(spoilt, everything=True)["DL003"]
    assert result.passed is False
    assert "could not be completed" in result.detail


def test_checks_of_models_that_could_not_be_kept_are_not_run_and_not_passed(spoilt, command):
    change_info(spoilt, "model", kind="estimator", name="A", files=[], unkept="<lambda> & co")
    (spoilt / "model.py").write_text("from digitlib.own import *\nmodel = FilterKernel\n")
    found = verdicts(spoilt, everything=True, run_code=True)
    assert [code for code, result in found.items() if result.passed is None] == ["DL003", "DL015"]
    assert str(found["DL015"]).startswith("DL015 not run: the kept models give the predictions (")


def test_no_text_of_a_run_reaches_the_terminal_raw(spoilt, command):
    change_info(spoilt, "model", kind="network", name="A", sha256="0" * 64, differs="\x1b[2J\u202e")
    code, said, _ = command("check", spoilt)
    assert code == 1 and "DL020" in said and "\x1b" not in said and "\u202e" not in said


# ---- in a report ---------------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["[", "3", "[3]", '[{"a": 1}]'])
def test_damaged_results_are_told_with_the_remedy(tmp_path, text):
    (tmp_path / "checks.json").write_text(text)
    with pytest.raises(RunError, match=r"checks\.json: damaged .*; write it again: digitlib check"):
        checks.read(tmp_path)


def test_a_report_carries_its_checks(small_report):
    entries = json.loads((small_report / "checks.json").read_text())
    assert [entry["code"] for entry in entries] == sorted(checks.CHECKS)
    for entry in entries:
        assert list(entry) == ["code", "title", "passed", "detail", "kind"]
        assert entry["passed"] or entry["kind"] == "finding"
        assert entry["detail"]
