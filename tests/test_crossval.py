"""Cross-validation: each row once, the same bits however it is run."""

import os

import joblib
import numpy as np
import pytest
import torch
from conftest import same_weights
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import accuracy_score
from sklearn.model_selection import KFold, ShuffleSplit, StratifiedKFold, cross_val_predict
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import LinearSVC
from sklearn.utils import Bunch

import digitlib
from digitlib import DigitClassifier, cross_validate, engine, runs
from digitlib.errors import DigitlibError

SPLIT = KFold(4, shuffle=True, random_state=30)  # the published one, see DESIGN.md
OURS = DigitClassifier(epochs=1, random_state=0)
CLASSIFIER = DigitClassifier(epochs=2, random_state=0)
NEIGHBOUR = KNeighborsClassifier(1)
X, Y = ROWS = tuple(part[:320] for part in digitlib.load_digits("sklearn", return_X_y=True))


@pytest.fixture(scope="module")
def result():
    return cross_validate(CLASSIFIER, *ROWS, n_jobs=1)


def same_bits(first, second):
    np.testing.assert_array_equal(first.probabilities, second.probabilities)
    np.testing.assert_array_equal(first.folds, second.folds)
    assert first.history.equals(second.history)
    assert all(map(same_weights, first.estimators, second.estimators))


# ---- the result ----------------------------------------------------------------------------------


def test_each_row_is_held_out_once_by_the_published_split(result):
    for number, (train, test) in enumerate(SPLIT.split(X), 1):
        np.testing.assert_array_equal(np.flatnonzero(result.folds == number), test)
        scaler = result.estimators[number - 1].scaler_
        np.testing.assert_array_equal(scaler.mean_, X[train].mean(axis=0))
    assert not hasattr(CLASSIFIER, "classes_")  # the one given is never fitted


def test_accuracy_history_and_seconds(result):
    assert result.accuracy == accuracy_score(Y, result.probabilities.argmax(axis=1))
    assert result.fold_accuracies.mean() == pytest.approx(result.accuracy)  # folds of one size
    columns = "fold epoch learning_rate loss held_out_loss held_out_accuracy"
    assert list(result.history) == columns.split()
    assert result.history["fold"].tolist() == [1, 1, 2, 2, 3, 3, 4, 4]
    assert result.history["epoch"].tolist() == [1, 2] * 4
    last = result.history.groupby("fold")["held_out_accuracy"].last()
    np.testing.assert_allclose(last, result.fold_accuracies, rtol=1e-6)
    assert all(0 < seconds < result.seconds for seconds in result.fold_seconds)


def test_random_state_decides_the_folds_alone():
    other = cross_validate(NEIGHBOUR, *ROWS, n_splits=2, random_state=1)
    _, test = next(KFold(2, shuffle=True, random_state=1).split(X))
    np.testing.assert_array_equal(np.flatnonzero(other.folds == 1), test)


# ---- the same bits however it is run -------------------------------------------------------------


@pytest.mark.parametrize(
    ("recipe", "changes"),
    [("coursework", {"epochs": 1}), ("kernel", {}), ("handwriting", {"epochs": 1, "drawn": 1})],
)
def test_folds_at_once_threads_and_processes_change_no_bit(recipe, changes):
    classifier = DigitClassifier(recipe, random_state=0, changes=changes)
    alone = cross_validate(classifier, *ROWS, n_jobs=1)
    for n_jobs in (2, 4, None):
        same_bits(cross_validate(classifier, *ROWS, n_jobs=n_jobs), alone)
    with joblib.parallel_config(backend="loky", n_jobs=2):
        same_bits(cross_validate(classifier, *ROWS), alone)


@pytest.fixture(scope="module")
def cluster():
    """A scheduler and two workers, each a process of its own, as on two machines."""
    distributed = pytest.importorskip("distributed", reason="it is a development dependency")
    options = {"n_workers": 2, "threads_per_worker": 1, "dashboard_address": None}
    with (
        distributed.LocalCluster(host="127.0.0.1", **options) as cluster,
        distributed.Client(cluster) as client,
    ):
        cluster.pids = client.run(os.getpid)
        cluster.ran = lambda: client.run(lambda dask_worker: dask_worker.state.executed_count)
        yield cluster


@pytest.fixture
def address(cluster, monkeypatch):
    """What --engine takes, as a kernel of a report finds it."""
    address = cluster.scheduler_address.replace("tcp", "dask")
    monkeypatch.setenv(engine.VARIABLE, address)
    return address


def test_folds_on_a_cluster_have_the_same_bits_and_the_run_says_where(
    cluster, address, digits, result, tmp_path
):
    there = cross_validate(CLASSIFIER, *ROWS)
    counts = cluster.ran().values()
    assert sum(counts) >= 4 and all(counts), "the folds ran on both workers of the cluster"
    same_bits(there, result)
    assert (there.engine, result.engine) == ("Dask cluster, 2 workers", "")
    folder = runs.save(there, Bunch(source="sklearn", sha256=digits.sha256), tmp_path, seed=0)
    assert runs.load(folder).info["machine"]["engine"] == there.engine


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("dask://127.0.0.1:1", "no scheduler answers there; start `dask scheduler` and, for each "),
        ("spark://here:1", "takes dask://HOST:PORT$"),
    ],
)
def test_an_engine_that_is_not_there_is_told(name, said):
    with pytest.raises(DigitlibError, match=f"^engine='{name}': {said}"):
        engine.use(name)
    assert engine.VARIABLE not in os.environ


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device on this machine")
@pytest.mark.parametrize("recipe", ["coursework", "kernel", "accurate"])
def test_cuda_agrees_with_the_cpu(recipe):
    """Only the order of sums differs, so all but a few answers agree."""
    X, y = digitlib.load_digits(return_X_y=True)
    cpu, cuda = (
        cross_validate(DigitClassifier(recipe, random_state=0, device=device), X[:800], y[:800])
        for device in ("cpu", "cuda")
    )
    assert (cpu.predicted == cuda.predicted).mean() > 0.98
    assert abs(cpu.accuracy - cuda.accuracy) < 0.01


# ---- any classifier ------------------------------------------------------------------------------


FOREST = RandomForestClassifier(30, random_state=1)
PIPELINE = make_pipeline(StandardScaler(), LogisticRegression(C=0.01))


@pytest.mark.parametrize("folds", ["kfold", "stratified"])
@pytest.mark.parametrize("other", [OURS, PIPELINE, FOREST], ids=["ours", "pipeline", "forest"])
def test_any_classifier_gets_the_probabilities_of_cross_val_predict(other, folds):
    result = cross_validate(other, *ROWS, n_jobs=2, folds=folds)
    cv = SPLIT if folds == "kfold" else StratifiedKFold(4, shuffle=True, random_state=30)
    expected = cross_val_predict(other, *ROWS, cv=cv, method="predict_proba")
    np.testing.assert_array_equal(result.probabilities, expected)
    assert result.history.empty == (other is not OURS)


def test_labels_of_text():
    names = np.where(Y % 2, "odd", "even")
    result = cross_validate(CLASSIFIER, X, names)
    assert result.classes.tolist() == ["even", "odd"]
    assert result.accuracy == (result.predicted == names).mean() > 0.6


def test_class_whose_rows_are_all_held_out_has_probability_0():
    held_out, y = next(SPLIT.split(X))[1][:4], Y % 3 + 1
    y[held_out] = 0  # the first class: a column in the wrong place would show
    result = cross_validate(OURS, X, y)
    assert not result.probabilities[held_out, 0].any()
    np.testing.assert_allclose(result.probabilities.sum(axis=1), np.ones(320), rtol=1e-6)


# ---- refused -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"n_splits": 1}, r"^n_splits=1: takes an integer from 2 up$"),
        ({"n_splits": 50}, r"fewer than the 50 folds"),
        ({"X": np.ones((319, 64))}, r"^X of shape \(319, 64\) and y of shape \(320,\)"),
        ({"scaling": "some"}, r"^scaling='some': takes 'train' or 'all'$"),
        ({"progress": "loud"}, r"^progress='loud'"),
        ({"classifier": LinearSVC()}, r"^LinearSVC has no predict_proba"),
        ({"classifier": DigitClassifier(epochs=0)}, r"epochs=0"),
        (
            {"scaling": "all", "classifier": PIPELINE},
            r"^scaling='all' has no effect on Pipeline; l",
        ),
        ({"folds": "loo"}, r"^folds='loo': takes kfold or stratified$"),
        ({"cv": ShuffleSplit(2)}, r"holds out row \d+ \d times; takes a spl"),
        ({"protocol": "all"}, r"^protocol='all': takes 'folds' or 'writers'$"),
        ({"writers": ["train"] * 320}, r"^writers has no effect with protocol"),
        ({"protocol": "writers"}, r"needs rows of training and of test writers.*bundled or uci"),
        ({"protocol": "writers", "writers": ["unknown"] * 320}, r"here 0 and 0"),
    ],
)
def test_wrong_argument_gets_one_line(change, said):
    with pytest.raises(DigitlibError, match=said) as caught:
        cross_validate(**{"classifier": OURS, "X": X, "y": Y, **change})
    assert "\n" not in str(caught.value)


def test_scaling_on_all_rows_is_the_published_leak(result):
    leaky = cross_validate(CLASSIFIER, X, Y, scaling="all")
    assert not np.array_equal(leaky.probabilities, result.probabilities)
    for estimator in leaky.estimators:
        np.testing.assert_array_equal(estimator.scaler_.mean_, X.mean(axis=0))


# ---- stopped -------------------------------------------------------------------
