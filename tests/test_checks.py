"""Every check, by its code: failed by what it is there to find, passed by a sound run."""

import json
import re
import shutil
from dataclasses import replace
from functools import partial

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.model_selection import KFold

from digitlib import DigitClassifier, checks, crossval, model, runs
from digitlib.errors import RunError
from digitlib.recipes import RETIRED

NEED_DATA = {f"DL{number:03}" for number in (1, 2, 3, 7, 9, 11, 15)}


@pytest.fixture(scope="session")
def sound(tmp_path_factory, digits):
    """A run folder with nothing wrong: one epoch, two folds, all 5,620 rows."""
    classifier = DigitClassifier(random_state=0, epochs=1)
    result = crossval.cross_validate(
        classifier, digits.data, digits.target, n_splits=2, progress="off"
    )
    return runs.save(result, digits, tmp_path_factory.mktemp("runs") / "sound", seed=0)


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


def test_the_command_reruns_the_folders_checks_and_fails_with_one(spoilt, tmp_path, command):
    code, said, _ = command("check", spoilt)
    assert code == 0
    codes = [line.split()[0] for line in said.splitlines()]
    assert codes == sorted({*checks.CHECKS} - NEED_DATA)
    assert not (spoilt / "checks.json").exists()  # a finished report is not changed
    change_info(spoilt, "scores", correct=5600, accuracy=5600 / 5620)
    code, said, _ = command("check", spoilt)
    assert code == 1
    assert "DL010 FAILED" in said
    code, _, said = command("check", tmp_path)  # no run at all
    assert code == 2
    (line,) = said.splitlines()
    assert "no run.json" in line


def test_a_check_is_ignored_when_asked_and_said_to_be(spoilt, command):
    SPOILT["DL018 one fold much worse"](spoilt)
    words = ("check", spoilt, "--ignore", "DL010", "--ignore", "DL016", "--ignore", "DL019")
    code, said, _ = command(*words)
    assert code == 1
    assert "DL010 ignored: the score in run.json" in said and "DL018 worth knowing: not" in said
    assert [line.split()[0] for line in said.splitlines()] == sorted({*checks.CHECKS} - NEED_DATA)
    assert command(*words, "--ignore", "DL018")[0] == 0
    code, out, error = command("check", spoilt, "--ignore", "DL18")
    assert (code, out) == (2, "")
    assert error.startswith("digitlib: no check 'DL18' to ignore; there are DL000, DL001")


@pytest.mark.parametrize("recipe", ["kernel", RETIRED["fast"]])
def test_runs_without_epochs_and_runs_of_retired_recipes_pass(recipe, digits, tmp_path):
    classifier = DigitClassifier(recipe, random_state=0)
    result = crossval.cross_validate(
        classifier, digits.data, digits.target, n_splits=2, progress="off"
    )
    found = verdicts(runs.save(result, digits, tmp_path / "run", seed=0), everything=True)
    # No fault; these two are sure enough to doubt a label.
    assert {code for code, result in found.items() if not result.passed} == {"DL019"}


# ---- spoilt folders ------------------------------------------------------------------------------


def predictions(change):
    def spoil(folder):
        table = pd.read_csv(folder / "predictions.csv")
        change(table).to_csv(folder / "predictions.csv", index=False)

    return spoil


def info(part, **facts):
    return partial(change_info, part=part, **facts)


def change_history(folder, loss):
    path = folder / "history.csv"
    pd.read_csv(path).assign(loss=loss).to_csv(path, index=False)


def change_held_out(folder):
    """Three epochs, after the first of which the held-out loss rises."""
    losses = {"loss": [0.3, 0.1, 0.01], "held_out_loss": [0.2, 0.3, 0.4]}
    table = {"fold": [1, 1, 1], "epoch": [1, 2, 3], **losses}
    pd.DataFrame(table).to_csv(folder / "history.csv", index=False)


def misread(fold, rows):
    """Some rows of a fold are read as another digit, surely."""

    def change(table):
        at = table.index[table["fold"] == fold][:rows]
        table.loc[at, "predicted"] = (table.loc[at, "label"] + 1) % 10
        for digit in range(10):
            table.loc[at, f"p{digit}"] = (table.loc[at, "predicted"] == digit).astype(float)
        return table

    return predictions(change)


def cut_off(folder):
    (folder / "run.json").write_text((folder / "run.json").read_text()[:200])


SPOILT = {
    "DL000 cut off": cut_off,
    "DL004 rows missing": predictions(lambda table: table[:-5]),
    "DL004 row twice": predictions(lambda table: table.assign(row=table["row"].replace(7, 8))),
    "DL004 no such fold": predictions(
        lambda table: table.assign(fold=table["fold"].where(table["row"] != 7, 3))
    ),
    "DL005 logits": predictions(lambda table: table.assign(**(table.filter(regex=r"^p\d$") * 2))),
    "DL005 not the most probable": predictions(
        lambda table: table.assign(predicted=table["predicted"].where(table["row"] != 7, -1))
    ),
    "DL006 always the same answer": predictions(lambda table: table.assign(predicted=3)),
    "DL008 hash of other data": info("data", sha256="0" * 64),
    "DL008 own file that is gone": info("data", source="/nowhere/digits.csv"),
    "DL010 total touched up": info("scores", correct=5600, accuracy=5600 / 5620),
    "DL010 one fold touched up": info("scores", fold_accuracies=[0.999, 0.9]),
    "DL012 a setting of another recipe": info("recipe", dropout=0.1),
    "DL012 a change that is none": info("model", changed={"epochs": [1, 10], "ridge": [1, 2]}),
    "DL013 another seed": info("parameters", seed=1),
    "DL013 weights gone": lambda folder: (folder / "fold-2.safetensors").unlink(),
    "DL014 a loss touched up": lambda folder: change_history(folder, 0.01),
    "DL016 a cell touched up": info("scores", confusion=np.diag([562] * 10).tolist()),
    "DL017 held-out loss rises": change_held_out,
    "DL018 one fold much worse": misread(fold=2, rows=200),
    "DL019 sure of another digit": misread(fold=1, rows=1),
}


@pytest.mark.parametrize("fault", SPOILT)
def test_a_spoilt_folder_fails_the_check_that_is_there_for_it(fault, spoilt):
    SPOILT[fault](spoilt)
    assert not verdicts(spoilt)[fault[:5]].passed


def test_dl008_an_own_file_is_known_while_it_is_the_same(spoilt, digits, tmp_path):
    own = np.column_stack([digits.data, digits.target])
    np.savetxt(tmp_path / "own.csv", own, fmt="%d", delimiter=",")
    change_info(spoilt, "data", source=str(tmp_path / "own.csv"))
    assert verdicts(spoilt)["DL008"].passed
    np.savetxt(tmp_path / "own.csv", own[1:], fmt="%d", delimiter=",")
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


def test_dl011_other_labels_and_dl015_other_predictions(sound, digits):
    run = runs.load(sound)
    assert checks.published_labels(run, digits)[0]
    assert checks.models_give_predictions(run, digits)[0]
    passed, detail = checks.published_labels(replace(run, y=run.predicted), digits)
    assert not passed and "labels are other ones, first row" in detail
    other = replace(run, probabilities=np.roll(run.probabilities, 1, axis=0))
    passed, detail = checks.models_give_predictions(other, digits)
    assert not passed and detail.startswith("fold 1: ")


def test_dl003_a_scaler_that_has_seen_all_rows(spoilt, digits):
    leaky = DigitClassifier(random_state=0, epochs=1).fit(
        digits.data[:300], digits.target[:300], scale_on=digits.data
    )
    leaky.save(spoilt / "fold-2.safetensors")
    passed, detail = checks.blind_scaler(runs.load(spoilt), digits)
    assert not passed
    assert "has seen held-out rows" in detail


def test_dl007_worse_than_a_neighbour(sound, digits):
    run = runs.load(sound)
    passed, detail = checks.better_than_neighbour(replace(run, predicted=run.y), digits)
    assert passed and "slower" not in detail and "try" not in detail
    often_wrong = np.where(np.arange(len(run.y)) < 600, (run.y + 1) % 10, run.y)
    for seconds, told in ((1000.0, True), (0.0, False)):
        info = run.info | {"seconds": {"cross_validation": seconds}}
        worse = replace(run, predicted=often_wrong, info=info)
        passed, detail = checks.better_than_neighbour(worse, digits)
        assert not passed
        than = "slower than " * told
        said = rf"89\.32 % right in {seconds} s, {than}1-nearest-neighbour with 9\d\.\d+ % in \d"
        assert re.match(said, detail) and "; try another recipe" in detail


def test_dl009_first_weights_that_ignore_the_seed(sound, digits, monkeypatch):
    def deaf(*settings, build=model.build):
        return build(*settings[:-1], torch.Generator().manual_seed(0))

    monkeypatch.setattr(model, "build", deaf)
    passed, detail = checks.seeds_reach(runs.load(sound), digits)
    assert not passed
    assert "first weights: NOT" in detail


@pytest.mark.parametrize("seed", [0, None], ids=["always_the_same_order", "an_order_of_no_seed"])
def test_dl009_an_order_that_ignores_the_seed(sound, digits, monkeypatch, seed):
    def deaf(n, generator=None, randperm=torch.randperm):
        own = None if seed is None else torch.Generator().manual_seed(seed)
        return randperm(n, generator=own)

    monkeypatch.setattr(torch, "randperm", deaf)
    passed, detail = checks.seeds_reach(runs.load(sound), digits)
    assert not passed
    assert "order of rows: NOT" in detail


def test_a_check_that_breaks_has_not_passed(spoilt):
    (spoilt / "fold-1.safetensors").write_bytes(b"")
    result = verdicts(spoilt, everything=True)["DL003"]
    assert not result.passed
    assert "could not be completed" in result.detail


# ---- in a report ---------------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["[", "3", "[3]"])
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
