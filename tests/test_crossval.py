"""Cross-validation: each row once, the same bits however it is run, stopped and gone on with."""

import functools
import os
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import joblib
import numpy as np
import psutil
import pytest
import torch
from conftest import same_weights
from sklearn.base import clone
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
from digitlib.crossval import Fold
from digitlib.errors import DigitlibError
from digitlib.progress import Stopped
from digitlib.runs import FoldStore

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
    assert first.hard.equals(second.hard)
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


def test_hard_digits_are_the_least_sure_of_fold_1_and_are_told_epoch_by_epoch(result):
    hard, fold = result.hard, np.flatnonzero(result.folds == 1)
    assert list(hard) == ["row", "epoch", "label", "predicted", "p_label"]
    sure = result.probabilities.max(axis=1)
    assert hard["row"].unique().tolist() == fold[sure[fold].argsort(kind="stable")[:6]].tolist()
    assert hard["epoch"].tolist() == [1, 2] * 6
    last = hard[hard["epoch"] == 2]
    rows = last["row"].to_numpy()
    assert last["label"].tolist() == Y[rows].tolist()
    # This recipe ends with the weights of its last epoch.
    assert last["predicted"].tolist() == result.predicted[rows].tolist()
    np.testing.assert_allclose(last["p_label"], result.probabilities[rows, Y[rows]], atol=1e-6)
    first = DigitClassifier(epochs=2, random_state=0).fit(
        X[result.folds != 1], Y[result.folds != 1], (X[fold], Y[fold])
    )
    assert same_weights(first, result.estimators[0])  # to be watched changes nothing
    for silent in (NEIGHBOUR, DigitClassifier("instant", random_state=0)):
        assert cross_validate(silent, *ROWS, progress="off").hard.empty


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


def test_a_worker_killed_in_the_middle_changes_no_bit(cluster, address):
    longer = DigitClassifier(epochs=30, random_state=0)
    worker = psutil.Process(next(iter(cluster.pids.values())))
    idle = worker.cpu_times().user

    def kill_when_busy():
        while worker.cpu_times().user < idle + 0.5:
            time.sleep(0.02)
        worker.kill()

    with ThreadPoolExecutor() as threads:
        killed = threads.submit(kill_when_busy)
        there = cross_validate(longer, *ROWS)
        killed.result()
    same_bits(there, cross_validate(longer, *ROWS, n_jobs=2))


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("dask://127.0.0.1:1", "no scheduler answers there; start `dask scheduler` and, for each "),
        ("ray", "Ray is not installed here; for this: pip install ray$"),
        ("spark://here:1", "takes dask://HOST:PORT or ray$"),
    ],
)
def test_an_engine_that_is_not_there_is_told(name, said, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)  # as where it is not installed
    with pytest.raises(DigitlibError, match=f"^engine='{name}': {said}"):
        engine.use(name)
    assert engine.VARIABLE not in os.environ


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device on this machine")
@pytest.mark.parametrize("recipe", ["coursework", "kernel", "balanced"])
def test_cuda_agrees_with_the_cpu(recipe):
    """Only the order of sums differs, so all but a few answers agree."""
    X, y = digitlib.load_digits(return_X_y=True)
    cpu, cuda = (
        cross_validate(DigitClassifier(recipe, random_state=0, device=device), X[:800], y[:800])
        for device in ("cpu", "cuda")
    )
    assert (cpu.predicted == cuda.predicted).mean() > 0.98
    assert abs(cpu.accuracy - cuda.accuracy) < 0.01


def test_surrounding_configuration_sets_the_number_of_folds_at_once():
    threads = set()

    class Noting(KNeighborsClassifier):
        def fit(self, X, y):
            threads.add(threading.current_thread())
            return super().fit(X, y)

    with joblib.parallel_config(backend="threading", n_jobs=1):
        cross_validate(Noting(), *ROWS)
    assert threads == {threading.current_thread()}


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


def test_eval_set_of_another_library_is_left_alone():
    """The fit of gradient boosting libraries takes a list of pairs under the same name."""

    class Boosting(KNeighborsClassifier):
        def fit(self, X, y, eval_set=None):
            for X_held_out, y_held_out in eval_set or []:
                assert len(X_held_out) == len(y_held_out)
            return super().fit(X, y)

    assert cross_validate(Boosting(1), *ROWS).accuracy > 0.9


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


# ---- stopped, and gone on with -------------------------------------------------------------------


class StopsOneFold(DigitClassifier):
    """The fold that begins first raises when the other trains, which would do so for hours."""

    first, other_trains, other_stopped = threading.Lock(), threading.Event(), threading.Event()

    def fit(self, X, y, eval_set=None, on_epoch=None):
        def watched(record):
            self.other_trains.set()
            on_epoch(record)

        if self.first.acquire(blocking=False):
            assert self.other_trains.wait(30)
            raise KeyboardInterrupt
        try:
            return super().fit(X, y, eval_set, on_epoch=watched)
        except Stopped:
            self.other_stopped.set()
            raise


def test_interruption_of_one_fold_stops_the_others():
    with pytest.raises(KeyboardInterrupt):
        cross_validate(StopsOneFold(epochs=100_000, random_state=0), *ROWS, n_splits=2, n_jobs=2)
    assert StopsOneFold.other_stopped.wait(30)


@pytest.fixture
def fits(monkeypatch):
    """The calls of fit so far; the third is interrupted."""
    calls, fit = [], DigitClassifier.fit

    @functools.wraps(fit)
    def counting(*args, **options):
        calls.append(args)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return fit(*args, **options)

    monkeypatch.setattr(DigitClassifier, "fit", counting)
    return calls


def store_for(folder, classifier=CLASSIFIER, X=X, y=Y, **decisive):
    return FoldStore(folder / "kept", classifier, X, y, **{"n_splits": 4, **decisive})


def test_next_attempt_picks_up_finished_folds(tmp_path, fits, result, capfd):
    store = store_for(tmp_path)
    with pytest.raises(KeyboardInterrupt):
        cross_validate(CLASSIFIER, *ROWS, n_jobs=1, store=store, progress="off")
    new = store_for(tmp_path)
    same_bits(cross_validate(CLASSIFIER, *ROWS, n_jobs=2, store=new, progress="log"), result)
    assert len(fits) == 3 + 2
    lines = capfd.readouterr().err.splitlines()
    assert sorted(line.split(":")[0] for line in lines) == [f"fold {k}/4" for k in (1, 2, 3, 4)]
    assert all(" %, " in line for line in lines)
    assert sum(line.endswith(" s (kept from an earlier attempt)") for line in lines) == 2
    same_bits(cross_validate(CLASSIFIER, *ROWS, store=store), result)
    assert len(fits) == 3 + 2
    store.clear()
    assert not (tmp_path / "kept").exists()


@pytest.fixture
def full_store(tmp_path, result):
    """Holds all folds of `result`."""
    store = store_for(tmp_path)
    for number, (_, test) in enumerate(SPLIT.split(X), 1):
        store.put(Fold(number, test, result.probabilities[test], result.estimators[number - 1]))
    return store


def test_fold_of_another_run_is_not_picked_up(tmp_path, full_store):
    test = next(SPLIT.split(X))[1]
    assert full_store.get(1, test) is not None
    assert full_store.get(1, test[::-1]) is None
    assert full_store.get(5, test) is None
    brighter = X.copy()
    brighter[0, 20] += 1
    changes = ({"epochs": 3}, {"random_state": 1}, {"learning_rate": 0.01})
    others = [
        *(store_for(tmp_path, clone(CLASSIFIER).set_params(**change)) for change in changes),
        store_for(tmp_path, X=brighter),
        store_for(tmp_path, y=Y[::-1]),
        store_for(tmp_path, scaling="all"),
    ]
    assert [other.get(1, test) for other in others] == [None] * len(others)


@pytest.mark.parametrize("suffix", ["npz", "safetensors"])
def test_truncated_fold_is_trained_anew(suffix, tmp_path, full_store, fits, result):
    file = tmp_path / "kept" / f"2.{suffix}"
    whole, test = file.read_bytes(), list(SPLIT.split(X))[1][1]
    for kept in (0, 50, -100):
        file.write_bytes(whole[:kept])
        assert full_store.get(2, test) is None
    again = cross_validate(CLASSIFIER, *ROWS, store=full_store)
    np.testing.assert_array_equal(again.probabilities, result.probabilities)
    assert len(fits) == 1


def test_nothing_is_kept_of_a_run_that_cannot_be_repeated(tmp_path):
    unseeded = DigitClassifier(epochs=1)
    cross_validate(unseeded, *ROWS, n_splits=2, store=store_for(tmp_path, unseeded))
    assert not (tmp_path / "kept").exists()
