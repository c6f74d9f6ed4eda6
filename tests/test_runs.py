"""The run folder: written whole, read back, and refused when something is wrong with it."""

import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from sklearn.utils import Bunch

import digitlib
from digitlib import DigitClassifier, cross_validate, files, runs
from digitlib.errors import RunError


@pytest.fixture(scope="module")
def digits():
    """The first 300 rows of the test writers."""
    whole = digitlib.load_digits("sklearn")
    return Bunch(**{**whole, "data": whole.data[:300], "target": whole.target[:300]})


def result_of(digits, *, n_splits=3, **options):
    classifier, options = DigitClassifier(epochs=2, random_state=0), {"progress": "off", **options}
    return cross_validate(classifier, digits.data, digits.target, n_splits=n_splits, **options)


@pytest.fixture(scope="module")
def result(digits):
    return result_of(digits)


@pytest.fixture
def folder(result, digits, tmp_path):
    return runs.save(result, digits, tmp_path / "run", seed=0)


def test_saved_and_loaded_is_the_same(folder, result, digits):
    weights = [f"fold-{number}.safetensors" for number in (1, 2, 3)]
    files = [*weights, "history.csv", "predictions.csv", "run.json"]
    assert sorted(file.name for file in folder.iterdir()) == files
    run = runs.load(str(folder))
    np.testing.assert_array_equal(run.row, np.arange(300))
    np.testing.assert_array_equal(run.folds, result.folds)
    np.testing.assert_array_equal(run.y, digits.target)
    np.testing.assert_array_equal(run.predicted, result.predicted)
    pd.testing.assert_frame_equal(run.history, result.history, rtol=1e-8)
    assert list(run.history)[:4] == ["fold", "epoch", "learning_rate", "loss"]
    # Nine digits tell any two float32 apart; the weights give the same again.
    probabilities = run.probabilities.astype(np.float32)
    np.testing.assert_array_equal(probabilities, result.probabilities.astype(np.float32))
    for number in (1, 2, 3):
        held_out, classifier = run.folds == number, run.fitted(number)
        again = classifier.predict_proba(digits.data[held_out])
        np.testing.assert_array_equal(again, probabilities[held_out])
    assert run.classifier().settings() == classifier.recipe_


def test_run_json_says_what_was_done(folder, result, digits):
    info = runs.load(folder).info
    assert info["recipe"]["name"] == "coursework"
    asked = {"seed": 0, "splits": 3, "split_seed": 30, "scaling": "train"}
    assert info["parameters"] | asked == info["parameters"]
    data = {"source": "sklearn", "sha256": digits.sha256, "rows": 300}
    assert info["data"] | data == info["data"]
    scores = info["scores"]
    assert scores["correct"] == (result.predicted == digits.target).sum()
    assert scores["accuracy"] == result.accuracy == scores["correct"] / scores["total"]
    assert len(info["seconds"]["folds"]) == 3
    assert {"created", "versions", "machine", "commit"} <= set(info)
    assert info["versions"]["torch"].startswith("2.")


def test_the_folds_vote_with_their_mean_probability(folder, digits):
    model = digitlib.load_model(folder)
    each = [runs.load(folder).fitted(number).predict_proba(digits.data) for number in (1, 2, 3)]
    assert np.allclose(model.predict_proba(digits.data), np.mean(each, axis=0))
    assert model.score(digits.data, digits.target) > 0.5
    assert model.n_features_in_ == 64
    (folder / "fold-2.safetensors").unlink()
    with pytest.raises(RunError, match=r"fold-2\.safetensors"):
        digitlib.load_model(folder)


def test_the_newest_run_is_the_one_made_last(folder, tmp_path):
    with pytest.raises(RunError, match="no finished run"):
        runs.newest_run(tmp_path / "nowhere")
    (tmp_path / ".staging").mkdir()
    (tmp_path / ".staging" / "run.json").touch()
    assert runs.newest_run(tmp_path) == folder
    assert runs.newest_run(tmp_path, prefer="handwriting") == folder  # there is none
    assert runs.newest_run(tmp_path, prefer="coursework") == folder


def test_a_run_is_read_without_torch(folder):
    code = f"import sys; from digitlib import runs; runs.load({str(folder)!r})"
    subprocess.run([sys.executable, "-c", f"{code}; assert 'torch' not in sys.modules"], check=True)


def test_same_seed_gives_identical_bytes(folder, digits, tmp_path):
    again = runs.save(result_of(digits, n_jobs=1), digits, tmp_path / "again", seed=0)
    for name in ("predictions.csv", "history.csv"):
        assert (folder / name).read_bytes() == (again / name).read_bytes()


def test_files_of_an_earlier_run_are_replaced(folder, digits):
    runs.save(result_of(digits, n_splits=2), digits, folder, seed=0)
    left = [f"fold-{number}.safetensors" for number in (1, 2)]
    assert sorted(file.name for file in folder.glob("fold-*")) == left
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
    files.write_text(path, "old")
    with pytest.raises(UnicodeEncodeError):
        files.write_text(path, "new \ud800")  # cannot be written, as on a full disk
    assert path.read_text() == "old"
