"""Every check, by its code: failed by what it is there to find, passed by a sound run."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.model_selection import KFold

from digitlib import DigitClassifier, checks, crossval, load_digits, model, runs
from digitlib.cli import main
from digitlib.errors import RunError


@pytest.fixture(scope="session")
def digits():
    return load_digits()


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


def change_predictions(folder, change):
    table = pd.read_csv(folder / "predictions.csv")
    change(table).to_csv(folder / "predictions.csv", index=False)


def change_info(folder, part, **facts):
    info = json.loads((folder / "run.json").read_text())
    info[part].update(facts)
    (folder / "run.json").write_text(json.dumps(info))


# ---- nothing wrong -------------------------------------------------------------------------------


def test_a_sound_run_fails_only_where_it_is_weak(sound, digits):
    found = verdicts(sound, everything=True)
    assert list(found) == sorted(checks.CHECKS)
    # One epoch does not beat 1-nearest-neighbour.
    assert {code for code, result in found.items() if not result.passed} <= {"DL007"}


def test_the_command_reruns_the_folders_checks(sound, capsys):
    with pytest.raises(SystemExit) as end:
        main(["check", str(sound)])
    assert end.value.code == 0
    codes = [line.split()[0] for line in capsys.readouterr().out.splitlines()]
    assert codes == ["DL000", "DL004", "DL005", "DL006", "DL008", "DL010"]
    assert not (sound / "checks.json").exists()  # a finished report is not changed


def test_the_command_fails_with_a_check(spoilt, capsys):
    change_info(spoilt, "scores", correct=5600, accuracy=5600 / 5620)
    with pytest.raises(SystemExit) as end:
        main(["check", str(spoilt)])
    assert end.value.code == 1
    assert "DL010 FAILED" in capsys.readouterr().out


def test_no_run_at_all_is_bad_input(tmp_path, capsys):
    with pytest.raises(RunError, match=r"no run\.json"):
        checks.check_folder(tmp_path)
    with pytest.raises(SystemExit) as end:
        main(["check", str(tmp_path)])
    assert end.value.code == 2
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_what_is_written(sound, tmp_path):
    results = checks.check_folder(sound)
    checks.write(tmp_path, results)
    entries = json.loads((tmp_path / "checks.json").read_text())
    assert [set(entry) for entry in entries] == [{"code", "title", "passed", "detail"}] * len(
        results
    )


# ---- spoilt folders ------------------------------------------------------------------------------


def test_dl000_a_file_that_is_cut_off(spoilt):
    (spoilt / "run.json").write_text((spoilt / "run.json").read_text()[:200])
    (result,) = checks.check_folder(spoilt)
    assert (result.code, result.passed) == ("DL000", False)


@pytest.mark.parametrize(
    "change",
    [
        lambda table: table[:-5],
        lambda table: table.assign(row=table["row"].replace(7, 8)),
        lambda table: table.assign(fold=table["fold"].where(table["row"] != 7, 3)),
    ],
    ids=["rows_missing", "row_twice", "fold_that_does_not_exist"],
)
def test_dl004_rows_not_predicted_once(spoilt, change):
    change_predictions(spoilt, change)
    assert not verdicts(spoilt)["DL004"].passed


@pytest.mark.parametrize(
    "change",
    [
        lambda table: table.assign(**(table.filter(regex=r"^p\d$") * 2)),
        lambda table: table.assign(predicted=table["predicted"].where(table["row"] != 7, -1)),
    ],
    ids=["logits_for_probabilities", "prediction_not_the_most_probable"],
)
def test_dl005_probabilities_that_are_none(spoilt, change):
    change_predictions(spoilt, change)
    assert not verdicts(spoilt)["DL005"].passed


def test_dl006_always_the_same_answer(spoilt):
    change_predictions(spoilt, lambda table: table.assign(predicted=3))
    assert not verdicts(spoilt)["DL006"].passed


@pytest.mark.parametrize(
    "facts",
    [{"sha256": "0" * 64}, {"source": "/nowhere/digits.csv"}],
    ids=["hash_of_other_data", "own_file_that_is_gone"],
)
def test_dl008_data_that_is_not_known(spoilt, facts):
    change_info(spoilt, "data", **facts)
    assert not verdicts(spoilt)["DL008"].passed


def test_dl008_an_own_file_is_known_while_it_is_the_same(spoilt, digits, tmp_path):
    own = np.column_stack([digits.data, digits.target])
    np.savetxt(tmp_path / "own.csv", own, fmt="%d", delimiter=",")
    change_info(spoilt, "data", source=str(tmp_path / "own.csv"))
    assert verdicts(spoilt)["DL008"].passed
    np.savetxt(tmp_path / "own.csv", own[1:], fmt="%d", delimiter=",")
    assert not verdicts(spoilt)["DL008"].passed


@pytest.mark.parametrize(
    "facts",
    [{"correct": 5600, "accuracy": 5600 / 5620}, {"fold_accuracies": [0.999, 0.9]}],
    ids=["total", "one_fold"],
)
def test_dl010_a_score_touched_up(spoilt, facts):
    change_info(spoilt, "scores", **facts)
    assert not verdicts(spoilt)["DL010"].passed


# ---- spoilt experiments --------------------------------------------------------------------------


class _OverlappingFolds(KFold):
    """Trains on everything, the held-out rows included."""

    def split(self, X, y=None):
        for _, test in super().split(X, y):
            yield np.arange(len(X)), test


@pytest.fixture
def held_out_rows_are_trained_on(monkeypatch):
    monkeypatch.setitem(crossval.FOLDS, "kfold", _OverlappingFolds)


@pytest.mark.usefixtures("held_out_rows_are_trained_on")
def test_dl001_shuffled_labels_betray_an_overlap(sound, digits):
    passed, detail = checks.shuffled_labels(runs.load(sound), digits)
    assert not passed
    assert "1-nearest-neighbour 100.0 %" in detail


@pytest.mark.usefixtures("held_out_rows_are_trained_on")
def test_dl002_rows_on_both_sides(sound, digits):
    passed, detail = checks.disjoint_rows(runs.load(sound), digits)
    assert not passed
    assert detail.startswith("5620 rows")


def test_dl002_a_run_in_other_folds_than_it_says(spoilt, digits):
    change_info(spoilt, "parameters", split_seed=31)
    assert not checks.disjoint_rows(runs.load(spoilt), digits)[0]


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
    assert checks.better_than_neighbour(replace(run, predicted=run.y), digits)[0]
    often_wrong = np.where(np.arange(len(run.y)) < 600, (run.y + 1) % 10, run.y)
    assert not checks.better_than_neighbour(replace(run, predicted=often_wrong), digits)[0]


def test_dl009_first_weights_that_ignore_the_seed(sound, digits, monkeypatch):
    build = model.build
    monkeypatch.setattr(
        model, "build", lambda *settings: build(*settings[:-1], torch.Generator().manual_seed(0))
    )
    passed, detail = checks.seeds_reach(runs.load(sound), digits)
    assert not passed
    assert "first weights: NOT" in detail


@pytest.mark.parametrize("seed", [0, None], ids=["always_the_same_order", "an_order_of_no_seed"])
def test_dl009_an_order_that_ignores_the_seed(sound, digits, monkeypatch, seed):
    randperm = torch.randperm

    def deaf(n, generator=None):
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


def test_a_report_carries_its_checks(small_report):
    entries = {
        entry["code"]: entry for entry in json.loads((small_report / "checks.json").read_text())
    }
    assert list(entries) == sorted(checks.CHECKS)
    assert {code for code, entry in entries.items() if not entry["passed"]} <= {"DL007"}
    assert all(entry["detail"] for entry in entries.values())
