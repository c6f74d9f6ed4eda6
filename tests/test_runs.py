"""The run folder: written whole, read back, and refused when something is wrong with it."""

import io
import subprocess
import sys
import threading
import time

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import confusion_matrix
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
        assert classifier.metadata_["fold"] == number
        assert classifier.metadata_["data"] == digits.sha256
    assert run.classifier().settings() == classifier.recipe_


def test_run_json_says_what_was_done(folder, result, digits):
    info = runs.load(folder).info
    assert info["recipe"]["name"] == "coursework"
    asked = {"seed": 0, "splits": 3, "split_seed": 30, "epochs": 2, "scaling": "train"}
    assert info["parameters"] | asked == info["parameters"]
    data = {"source": "sklearn", "sha256": digits.sha256, "rows": 300}
    assert info["data"] | data == info["data"]
    scores = info["scores"]
    assert scores["correct"] == (result.predicted == digits.target).sum()
    assert scores["accuracy"] == result.accuracy == scores["correct"] / scores["total"]
    assert scores["fold_accuracies"] == result.fold_accuracies.tolist()
    assert scores["confusion"] == confusion_matrix(digits.target, result.predicted).tolist()
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


def test_a_run_in_the_making_is_waited_for(folder, tmp_path):
    (folder / runs.TRAINING).touch()
    (folder / "run.json").rename(tmp_path / "aside")
    seen = []
    reader = threading.Thread(target=lambda: seen.append(runs.load(folder)))
    reader.start()
    time.sleep(0.15)
    assert not seen
    (tmp_path / "aside").rename(folder / "run.json")
    reader.join(timeout=10)
    assert len(seen[0].y) == 300


def test_training_that_failed_is_not_waited_for(folder):
    (folder / runs.TRAINING).touch()
    (folder / "run.json").unlink()
    threading.Timer(0.1, (folder / runs.TRAINING).unlink).start()
    with pytest.raises(RunError, match=r"no run\.json"):
        runs.load(folder)


def test_a_run_is_read_without_torch(folder):
    code = f"import sys; from digitlib import runs; runs.load({str(folder)!r}); runs.where_am_i()"
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


# ---- damaged -------------------------------------------------------------------------------------


def table_with(change):
    return lambda content: change(pd.read_csv(io.BytesIO(content))).to_csv(index=False).encode()


def swap(old, new):
    return lambda content: content.replace(old, new)


INFO, TABLE = "run.json", "predictions.csv"
DAMAGES = {
    "cut_off": (INFO, lambda content: content[:100], "JSONDecodeError"),
    "empty": (INFO, lambda _: b"", "JSONDecodeError"),
    "a_list": (INFO, lambda _: b"[1, 2]", "run.json must be object"),
    "no_data": (INFO, swap(b'"data"', b'"x"'), r"run.json must contain \['data'\]"),
    "splits": (
        INFO,
        swap(b'splits": 3', b'splits": ""'),
        "run.json.parameters.splits must be integer",
    ),
    "no_rows": (TABLE, lambda _: b"", "EmptyDataError"),
    "binary": (TABLE, lambda _: b"\xff\xfe\x00" * 99, "UnicodeDecodeError"),
    "no_form": (TABLE, lambda _: b'a,b\n1,2,3,4\n"\n1,2,3', "damaged run folder"),
    "cut_between": (TABLE, table_with(lambda t: t[:200]), "200 rows but run.json says 300"),
    "cut_in_a_row": (TABLE, lambda content: content[:-40], "probabilities that do not sum to 1"),
    "no_labels": (TABLE, swap(b"label", b"x"), "KeyError.*label"),
    "text": (TABLE, table_with(lambda t: t.assign(fold="one")), "ValueError"),
    "another_run": (TABLE, table_with(lambda t: t.assign(predicted=0)), r"csv has \d+ correct"),
    "no_history": ("history.csv", lambda _: b"", "EmptyDataError"),
    "info_gone": (INFO, None, r"no run\.json, so no complete run; make one with"),
    "table_gone": (TABLE, None, "no such file"),
    "history_gone": ("history.csv", None, "no such file"),
}


@pytest.mark.parametrize("name", DAMAGES)
def test_damaged_folder_is_refused_in_one_line(name, folder):
    file, damage, expected = DAMAGES[name]
    content = (folder / file).read_bytes()
    (folder / file).unlink()
    if damage is not None:
        (folder / file).write_bytes(damage(content))
    with pytest.raises(RunError, match=expected) as caught:
        runs.load(folder)
    message = str(caught.value)
    assert message.startswith(f"{folder}")
    assert message.endswith("make the run again") or (damage is None and "make one with" in message)
    assert "\n" not in message
