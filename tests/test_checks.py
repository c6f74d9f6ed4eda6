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
    result = crossval.cross_validate(
        DigitClassifier(random_state=0, epochs=1),
        digits.data,
        digits.target,
        n_splits=2,
        progress="off",
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
    change(table)
    table.to_csv(folder / "predictions.csv", index=False)


def change_info(folder, change):
    info = json.loads((folder / "run.json").read_text())
    change(info)
    (folder / "run.json").write_text(json.dumps(info))


# ---- nothing wrong -------------------------------------------------------------------------------


def test_a_sound_run_fails_only_where_it_is_weak(sound, digits):
    found = verdicts(sound, everything=True)
    assert list(found) == sorted(checks.LIST)
    assert {code for code, result in found.items() if not result.passed} <= {
        "DL007"
    }  # one epoch does not beat 1-nearest-neighbour


def test_the_command_reruns_the_folders_checks(sound, capsys):
    with pytest.raises(SystemExit) as end:
        main(["check", str(sound)])
    assert end.value.code == 0
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == [
        code for code, (_, data, _) in sorted(checks.LIST.items()) if not data
    ]
    assert not (sound / "checks.json").exists()  # a finished report is not changed


def test_the_command_fails_with_a_check(score_touched_up, capsys):
    with pytest.raises(SystemExit) as end:
        main(["check", str(score_touched_up)])
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


@pytest.fixture
def cut_off(spoilt):
    (spoilt / "run.json").write_text((spoilt / "run.json").read_text()[:200])
    return spoilt


@pytest.fixture
def rows_missing(spoilt):
    lines = (spoilt / "predictions.csv").read_text().splitlines()
    (spoilt / "predictions.csv").write_text("\n".join(lines[:-5]) + "\n")
    return spoilt


@pytest.fixture
def row_twice(spoilt):
    change_predictions(spoilt, lambda table: table.loc.__setitem__((7, "row"), 8))
    return spoilt


@pytest.fixture
def logits_for_probabilities(spoilt):
    change_predictions(spoilt, lambda table: table.update(table.filter(regex=r"^p\d$") * 2))
    return spoilt


@pytest.fixture
def prediction_not_the_most_probable(spoilt):
    change_predictions(
        spoilt,
        lambda table: table.loc.__setitem__((0, "predicted"), (table.loc[0, "predicted"] + 1) % 10),
    )
    return spoilt


@pytest.fixture
def always_the_same_answer(spoilt):
    change_predictions(spoilt, lambda table: table.__setitem__("predicted", 3))
    return spoilt


@pytest.fixture
def hash_of_other_data(spoilt):
    change_info(spoilt, lambda info: info["data"].update(sha256="0" * 64))
    return spoilt


@pytest.fixture
def own_file_that_is_gone(spoilt):
    change_info(spoilt, lambda info: info["data"].update(source="/nowhere/digits.csv"))
    return spoilt


@pytest.fixture
def score_touched_up(spoilt):
    change_info(spoilt, lambda info: info["scores"].update(correct=5600, accuracy=5600 / 5620))
    return spoilt


@pytest.fixture
def one_fold_touched_up(spoilt):
    change_info(spoilt, lambda info: info["scores"]["fold_accuracies"].__setitem__(0, 0.999))
    return spoilt


@pytest.mark.parametrize(
    ("fixture", "code"),
    [
        ("cut_off", "DL000"),
        ("rows_missing", "DL004"),
        ("row_twice", "DL004"),
        ("logits_for_probabilities", "DL005"),
        ("prediction_not_the_most_probable", "DL005"),
        ("always_the_same_answer", "DL006"),
        ("hash_of_other_data", "DL008"),
        ("own_file_that_is_gone", "DL008"),
        ("score_touched_up", "DL010"),
        ("one_fold_touched_up", "DL010"),
    ],
)
def test_what_is_wrong_with_the_folder_is_found(fixture, code, request):
    assert not verdicts(request.getfixturevalue(fixture))[code].passed


# ---- spoilt experiments --------------------------------------------------------------------------


class _OverlappingFolds(KFold):
    """Trains on everything, the held-out rows included."""

    def split(self, X):
        for _, test in super().split(X):
            yield np.arange(len(X)), test


@pytest.fixture
def held_out_rows_are_trained_on(monkeypatch):
    monkeypatch.setattr(crossval, "KFold", _OverlappingFolds)


@pytest.mark.usefixtures("held_out_rows_are_trained_on")
def test_shuffled_labels_betray_an_overlap(sound, digits):
    passed, detail = checks.shuffled_labels(runs.load(sound), digits)
    assert not passed
    assert "1-nearest-neighbour 100.0 %" in detail


@pytest.mark.usefixtures("held_out_rows_are_trained_on")
def test_rows_on_both_sides_are_found(sound, digits):
    passed, detail = checks.disjoint_rows(runs.load(sound), digits)
    assert not passed
    assert detail.startswith("5620 rows")


def test_a_run_in_other_folds_than_it_says_is_found(spoilt, digits):
    change_info(spoilt, lambda info: info["parameters"].update(split_seed=31))
    assert not checks.disjoint_rows(runs.load(spoilt), digits)[0]


def test_a_scaler_that_has_seen_all_rows_is_found(spoilt, digits):
    leaky = DigitClassifier(random_state=0, epochs=1).fit(
        digits.data[:300], digits.target[:300], scale_on=digits.data
    )
    leaky.save(spoilt / "fold-2.safetensors")
    passed, detail = checks.blind_scaler(runs.load(spoilt), digits)
    assert not passed
    assert "has seen held-out rows" in detail


def test_worse_than_a_neighbour_is_found(sound, digits):
    run = runs.load(sound)
    assert checks.better_than_neighbour(replace(run, predicted=run.y), digits)[0]
    often_wrong = np.where(np.arange(len(run.y)) < 600, (run.y + 1) % 10, run.y)
    assert not checks.better_than_neighbour(replace(run, predicted=often_wrong), digits)[0]


def test_first_weights_that_ignore_the_seed_are_found(sound, digits, monkeypatch):
    build = model.build
    monkeypatch.setattr(
        model, "build", lambda *settings: build(*settings[:-1], torch.Generator().manual_seed(0))
    )
    passed, detail = checks.seeds_reach(runs.load(sound), digits)
    assert not passed
    assert "first weights: NOT" in detail


@pytest.mark.parametrize("seed", [0, None], ids=["always_the_same_order", "an_order_of_no_seed"])
def test_an_order_that_ignores_the_seed_is_found(sound, digits, monkeypatch, seed):
    randperm = torch.randperm

    def deaf(n, generator=None):
        return (
            randperm(n)
            if seed is None
            else randperm(n, generator=torch.Generator().manual_seed(seed))
        )

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
    assert list(entries) == sorted(checks.LIST)
    assert {code for code, entry in entries.items() if not entry["passed"]} <= {"DL007"}
    assert all(entry["detail"] for entry in entries.values())
