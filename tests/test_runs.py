"""The run folder: written whole, read back, the same bytes for the same seed, and refused when
something is wrong with it.
"""

import json

import numpy as np
import pandas as pd
import pytest
from sklearn.utils import Bunch

import digitlib
from digitlib import DigitClassifier, cross_validate, runs
from digitlib.errors import RunError


@pytest.fixture(scope="module")
def digits():
    """The first 300 rows of the test writers."""
    whole = digitlib.load_digits("sklearn")
    return Bunch(**{**whole, "data": whole.data[:300], "target": whole.target[:300]})


def result_of(digits, *, n_splits=3, **options):
    return cross_validate(
        DigitClassifier(epochs=2, random_state=0),
        digits.data,
        digits.target,
        n_splits=n_splits,
        progress="off",
        **options,
    )


@pytest.fixture(scope="module")
def result(digits):
    return result_of(digits)


@pytest.fixture
def folder(result, digits, tmp_path):
    return runs.save(result, digits, tmp_path / "run", seed=0)


def test_folder_has_the_files_of_the_design(folder):
    assert sorted(file.name for file in folder.iterdir()) == [
        "fold-1.safetensors",
        "fold-2.safetensors",
        "fold-3.safetensors",
        "history.csv",
        "predictions.csv",
        "run.json",
    ]
    assert list(pd.read_csv(folder / "predictions.csv")) == [
        "row",
        "fold",
        "label",
        "predicted",
        *(f"p{digit}" for digit in range(10)),
    ]
    assert list(pd.read_csv(folder / "history.csv"))[:4] == [
        "fold",
        "epoch",
        "learning_rate",
        "loss",
    ]


def test_saved_and_loaded_is_the_same(folder, result, digits):
    run = runs.load(str(folder))
    np.testing.assert_array_equal(run.row, np.arange(300))
    np.testing.assert_array_equal(run.folds, result.folds)
    np.testing.assert_array_equal(run.y, digits.target)
    np.testing.assert_array_equal(run.predicted, result.predicted)
    # Nine digits tell any two float32 apart.
    np.testing.assert_array_equal(
        run.probabilities.astype(np.float32), result.probabilities.astype(np.float32)
    )
    pd.testing.assert_frame_equal(run.history, result.history, rtol=1e-8)


def test_run_json_says_what_was_done(folder, result, digits):
    info = runs.load(folder).info
    assert info["recipe"]["name"] == "coursework"
    expected = {"seed": 0, "splits": 3, "split_seed": 30, "epochs": 2, "scaling": "train"}
    assert expected.items() <= info["parameters"].items()
    assert {"source": "sklearn", "sha256": digits.sha256, "rows": 300}.items() <= info[
        "data"
    ].items()
    assert info["scores"]["correct"] == (result.predicted == digits.target).sum()
    assert (
        info["scores"]["accuracy"]
        == result.accuracy
        == info["scores"]["correct"] / info["scores"]["total"]
    )
    assert info["scores"]["fold_accuracies"] == result.fold_accuracies.tolist()
    assert len(info["seconds"]["folds"]) == 3
    assert {"created", "versions", "machine", "commit"} <= set(info)
    assert info["versions"]["torch"].startswith("2.")


def test_weights_give_the_predictions_again(folder, digits):
    """The report can be recomputed from the files beside it."""
    run = runs.load(folder)
    for number in (1, 2, 3):
        held_out = run.folds == number
        classifier = DigitClassifier.load(folder / f"fold-{number}.safetensors")
        again = classifier.predict_proba(digits.data[held_out])
        np.testing.assert_array_equal(again, run.probabilities[held_out].astype(np.float32))
        assert classifier.metadata_["fold"] == number
        assert classifier.metadata_["data"] == digits.sha256


def test_same_seed_gives_identical_bytes(folder, digits, tmp_path):
    again = runs.save(result_of(digits, n_jobs=1), digits, tmp_path / "again", seed=0)
    for name in ("predictions.csv", "history.csv"):
        assert (folder / name).read_bytes() == (again / name).read_bytes()


def test_files_of_an_earlier_run_are_replaced(folder, digits):
    runs.save(result_of(digits, n_splits=2), digits, folder, seed=0)
    assert sorted(file.name for file in folder.glob("fold-*")) == [
        "fold-1.safetensors",
        "fold-2.safetensors",
    ]
    assert set(runs.load(folder).folds) == {1, 2}


def test_save_that_is_stopped_leaves_no_complete_run(folder, result, digits, monkeypatch):
    def stopped(self, path, **facts):
        raise KeyboardInterrupt

    monkeypatch.setattr(DigitClassifier, "save", stopped)
    with pytest.raises(KeyboardInterrupt):
        runs.save(result, digits, folder, seed=0)
    with pytest.raises(RunError, match=r"no run\.json, so no complete run"):
        runs.load(folder)


def test_text_is_written_whole_or_not_at_all(tmp_path):
    path = tmp_path / "run.json"
    runs.write_text(path, "old")
    with pytest.raises(UnicodeEncodeError):
        runs.write_text(path, "new \ud800")  # cannot be written, as on a full disk
    assert path.read_text() == "old"


# ---- damaged -------------------------------------------------------------------------------------


def edit_json(folder, change):
    info = json.loads((folder / "run.json").read_text())
    change(info)
    (folder / "run.json").write_text(json.dumps(info))


def edit_csv(folder, name, change):
    change(pd.read_csv(folder / name)).to_csv(folder / name, index=False)


def cut(folder, name, n_bytes):
    (folder / name).write_bytes((folder / name).read_bytes()[:n_bytes])


DAMAGES = {
    "run_json_missing": (
        lambda f: (f / "run.json").unlink(),
        r"no run\.json, so no complete run; make one with",
    ),
    "run_json_truncated": (lambda f: cut(f, "run.json", 100), "JSONDecodeError"),
    "run_json_empty": (lambda f: cut(f, "run.json", 0), "JSONDecodeError"),
    "run_json_is_a_list": (lambda f: (f / "run.json").write_text("[1, 2]"), "TypeError"),
    "run_json_without_data": (
        lambda f: edit_json(f, lambda info: info.pop("data")),
        "KeyError: 'data'",
    ),
    "predictions_missing": (lambda f: (f / "predictions.csv").unlink(), "FileNotFoundError"),
    "predictions_empty": (lambda f: cut(f, "predictions.csv", 0), "EmptyDataError"),
    "predictions_binary": (
        lambda f: (f / "predictions.csv").write_bytes(b"\xff\xfe\x00" * 99),
        "UnicodeDecodeError",
    ),
    "predictions_of_no_form": (
        lambda f: (f / "predictions.csv").write_text('a,b\n1,2,3,4\n"\n1,2,3,4,5,6\n'),
        "damaged run folder",
    ),
    "predictions_cut_between_rows": (
        lambda f: edit_csv(f, "predictions.csv", lambda table: table[:200]),
        "predictions.csv has 200 rows but run.json says 300",
    ),
    "predictions_cut_in_the_last_row": (
        lambda f: cut(f, "predictions.csv", -40),
        "probabilities that do not sum to 1",
    ),
    "predictions_without_labels": (
        lambda f: edit_csv(f, "predictions.csv", lambda table: table.drop(columns="label")),
        "KeyError: 'label'",
    ),
    "predictions_with_text": (
        lambda f: edit_csv(f, "predictions.csv", lambda table: table.assign(fold="one")),
        "ValueError",
    ),
    "predictions_of_another_run": (
        lambda f: edit_csv(f, "predictions.csv", lambda table: table.assign(predicted=0)),
        r"predictions\.csv has \d+ correct, run\.json says \d+",
    ),
    "history_missing": (lambda f: (f / "history.csv").unlink(), "FileNotFoundError"),
    "history_empty": (lambda f: cut(f, "history.csv", 0), "EmptyDataError"),
}


@pytest.mark.parametrize("name", DAMAGES)
def test_damaged_folder_is_refused(name, folder):
    damage, expected = DAMAGES[name]
    damage(folder)
    with pytest.raises(RunError, match=expected) as caught:
        runs.load(folder)
    message = str(caught.value)
    assert message.startswith(f"{folder}: ")
    assert "make the run again" in message or "make one with" in message
    assert "\n" not in message


def test_no_folder(tmp_path):
    with pytest.raises(RunError, match=r"no run\.json, so no complete run"):
        runs.load(tmp_path / "missing")
