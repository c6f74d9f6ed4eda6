"""The run folder: written whole, read back, and refused when something is wrong with it."""

import os

import numpy as np
import pandas as pd
import pytest
from sklearn.utils import Bunch

import digitlib
from digitlib import DigitClassifier, cross_validate, own, runs
from digitlib.errors import RunError


@pytest.fixture(scope="module")
def digits():
    """The first 300 rows of the test writers."""
    whole = digitlib.load_digits("sklearn")
    return Bunch(**{**whole, "data": whole.data[:300], "target": whole.target[:300]})


def result_of(digits, n_splits=3, **options):
    classifier = DigitClassifier(epochs=2, random_state=0)
    options |= {"n_splits": n_splits, "progress": False}
    return cross_validate(classifier, digits.data, digits.target, **options)


@pytest.fixture(scope="module")
def result(digits):
    return result_of(digits)


@pytest.fixture
def folder(result, digits, tmp_path):
    return runs.save(result, digits, tmp_path / "run", seed=0)


def test_saved_and_loaded_is_the_same(folder, result, digits):
    weights = [f"fold-{number}.safetensors" for number in (1, 2, 3)]
    names = [*weights, "history.csv", "predictions.csv", "run.json"]
    assert sorted(file.name for file in folder.iterdir()) == names
    run = runs.load(str(folder))
    np.testing.assert_array_equal(run.row, np.arange(300))
    np.testing.assert_array_equal(run.folds, result.folds)
    np.testing.assert_array_equal(run.y, digits.target)
    np.testing.assert_array_equal(run.predicted, result.predicted)
    pd.testing.assert_frame_equal(run.history, result.history, rtol=1e-8)
    # Nine digits tell any two float32 apart; the weights give the same again.
    probabilities = run.probabilities.astype(np.float32)
    np.testing.assert_array_equal(probabilities, result.probabilities.astype(np.float32))
    for number in (1, 2, 3):
        held_out, classifier = run.folds == number, run.fitted(number)
        again = classifier.predict_proba(digits.data[held_out])
        np.testing.assert_array_equal(again, probabilities[held_out])
    assert run.classifier().settings() == classifier.recipe_


def test_run_json_says_what_was_done(folder, digits):
    info = runs.load(folder).info
    asked = {"seed": 0, "splits": 3, "split_seed": 30, "scaling": "train", "folds": "kfold"}
    assert info["parameters"] == asked
    assert info["data"] == {"source": "sklearn", "sha256": digits.sha256, "rows": 300}
    assert info["model"]["kind"] == "recipe" and len(info["model"]["files"]) == 3
    assert {"created", "seconds", "versions", "machine", "commit", "code"} <= set(info)
    assert info["versions"]["torch"].startswith("2.")


def test_the_folds_vote_with_their_mean_probability(folder, digits):
    model = digitlib.load_model(folder)
    each = [runs.load(folder).fitted(number).predict_proba(digits.data) for number in (1, 2, 3)]
    np.testing.assert_allclose(model.predict_proba(digits.data), np.mean(each, axis=0))
    assert model.score(digits.data, digits.target) > 0.5
    assert model.n_features_in_ == 64
    assert str(model).splitlines() == [
        "3 fitted DigitClassifier, averaged",
        "classes [0 1 2 3 4 5 6 7 8 9]",
    ]
    (folder / "fold-2.safetensors").unlink()
    with pytest.raises(RunError, match=r"fold-2\.safetensors"):
        digitlib.load_model(folder)


def test_the_newest_run_is_the_one_made_last_or_the_preferred_one(folder, tmp_path):
    with pytest.raises(RunError, match="no finished run"):
        runs.newest_run(tmp_path / "nowhere")
    for name in (".staging", "older"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "run.json").write_text("{}")
    os.utime(tmp_path / "older" / "run.json", (0, 0))
    assert runs.newest_run(tmp_path) == folder
    assert runs.newest_run(tmp_path, prefer="handwriting") == folder  # there is none
    assert runs.newest_run(tmp_path, prefer="older") == tmp_path / "older"


def test_same_seed_gives_identical_bytes_and_an_earlier_run_is_replaced(folder, digits, tmp_path):
    again = runs.save(result_of(digits, n_jobs=1), digits, tmp_path / "again", seed=0)
    for name in ("predictions.csv", "history.csv"):
        assert (folder / name).read_bytes() == (again / name).read_bytes()
    runs.save(result_of(digits, n_splits=2), digits, folder, seed=0)
    left = [f"fold-{number}.safetensors" for number in (1, 2)]
    assert sorted(file.name for file in folder.glob("fold-*")) == left
    assert set(runs.load(folder).folds) == {1, 2}


def test_save_that_is_stopped_leaves_no_complete_run(folder, result, digits, monkeypatch):
    def stopped(fitted, path):
        raise KeyboardInterrupt

    monkeypatch.setattr(own, "keep", stopped)
    with pytest.raises(KeyboardInterrupt):
        runs.save(result, digits, folder, seed=0)
    with pytest.raises(RunError, match=r"run\.json: no such file; a complete run has it: make one"):
        runs.load(folder)


def test_weights_may_be_read_by_whoever_may_read_the_other_files(folder):
    modes = {path.suffix: path.stat().st_mode for path in folder.iterdir()}
    assert modes[".safetensors"] == modes[".json"] == modes[".csv"]
