"""Cross-validation: each row once, the same bits however it is run, stopped and gone on with."""

import functools
import threading

import joblib
import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import accuracy_score
from sklearn.model_selection import KFold, ShuffleSplit, cross_val_predict
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler
from sklearn.svm import LinearSVC

import digitlib
from digitlib import DigitClassifier, cross_validate
from digitlib.crossval import Fold
from digitlib.errors import DataError, ParameterError
from digitlib.progress import Stopped
from digitlib.runs import FoldStore

SPLIT = KFold(4, shuffle=True, random_state=30)  # the published one, see DESIGN.md


@pytest.fixture(scope="module")
def rows():
    X, y = digitlib.load_digits("sklearn", return_X_y=True)
    return X[:320], y[:320]


@pytest.fixture(scope="module")
def classifier():
    return DigitClassifier(epochs=2, random_state=0)


@pytest.fixture(scope="module")
def result(classifier, rows):
    return cross_validate(classifier, *rows, n_jobs=1)


def same_bits(first, second):
    np.testing.assert_array_equal(first.probabilities, second.probabilities)
    np.testing.assert_array_equal(first.folds, second.folds)
    assert first.history.equals(second.history)
    for one, other in zip(first.estimators, second.estimators, strict=True):
        pairs = zip(one.network_.parameters(), other.network_.parameters(), strict=True)
        assert all(torch.equal(a, b) for a, b in pairs)


# ---- the result ----------------------------------------------------------------------------------


def test_each_row_is_held_out_once_by_the_published_split(result, rows):
    assert result.probabilities.shape == (320, 10)
    np.testing.assert_allclose(result.probabilities.sum(axis=1), 1, rtol=1e-6)
    for number, (_, test) in enumerate(SPLIT.split(rows[0]), 1):
        np.testing.assert_array_equal(np.flatnonzero(result.folds == number), test)


def test_probabilities_are_those_of_a_model_that_never_saw_the_row(result, classifier, rows):
    X, y = rows
    for number, (train, test) in enumerate(SPLIT.split(X), 1):
        alone = DigitClassifier(epochs=2, random_state=0).fit(X[train], y[train])
        np.testing.assert_array_equal(result.probabilities[test], alone.predict_proba(X[test]))
        scaler = result.estimators[number - 1].scaler_
        np.testing.assert_array_equal(scaler.mean_, X[train].mean(axis=0))
    assert not hasattr(classifier, "classes_")  # the one given is never fitted


def test_accuracy_history_and_seconds(result, rows):
    y = rows[1]
    assert result.accuracy == accuracy_score(y, result.probabilities.argmax(axis=1))
    assert result.fold_accuracies.mean() == pytest.approx(result.accuracy)  # folds of one size
    columns = "fold epoch learning_rate loss held_out_loss held_out_accuracy"
    assert list(result.history) == columns.split()
    assert result.history["fold"].tolist() == [1, 1, 2, 2, 3, 3, 4, 4]
    assert result.history["epoch"].tolist() == [1, 2] * 4
    last = result.history.groupby("fold")["held_out_accuracy"].last()
    np.testing.assert_allclose(last, result.fold_accuracies, rtol=1e-6)
    assert all(0 < seconds < result.seconds for seconds in result.fold_seconds)


def test_random_state_decides_the_folds_alone(classifier, rows):
    other = cross_validate(classifier, *rows, n_splits=2, random_state=1)
    expected = np.zeros(320, dtype=int)
    for number, (_, test) in enumerate(KFold(2, shuffle=True, random_state=1).split(rows[0]), 1):
        expected[test] = number
    np.testing.assert_array_equal(other.folds, expected)


# ---- the same bits however it is run -------------------------------------------------------------


@pytest.mark.parametrize("n_jobs", [2, 4, None])
def test_number_of_folds_at_once_changes_no_bit(n_jobs, result, classifier, rows):
    same_bits(cross_validate(classifier, *rows, n_jobs=n_jobs), result)


@pytest.mark.parametrize(
    ("recipe", "changes"),
    [("coursework", {"epochs": 1}), ("wide", {}), ("handwriting", {"epochs": 1, "drawn": 10})],
)
def test_threads_and_processes_change_no_bit(recipe, changes, rows):
    classifier = DigitClassifier(recipe, random_state=0, changes=changes)
    alone = cross_validate(classifier, *rows, n_jobs=1)
    same_bits(cross_validate(classifier, *rows, n_jobs=4), alone)
    with joblib.parallel_config(backend="loky", n_jobs=2):
        same_bits(cross_validate(classifier, *rows), alone)


def test_folds_on_a_dask_cluster_have_the_same_bits(result, classifier, rows):
    distributed = pytest.importorskip("distributed", reason="it is a development dependency")
    with (
        distributed.LocalCluster(
            n_workers=2, threads_per_worker=1, host="127.0.0.1", dashboard_address=None
        ) as cluster,
        distributed.Client(cluster) as client,
        joblib.parallel_config(backend="dask"),
    ):
        there = cross_validate(classifier, *rows)
        counts = client.run(lambda dask_worker: dask_worker.state.executed_count).values()
    assert sum(counts) >= 4 and all(counts), "the folds ran on both workers of the cluster"
    same_bits(there, result)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device on this machine")
@pytest.mark.parametrize("recipe", ["coursework", "fast", "balanced"])
def test_cuda_agrees_with_the_cpu(recipe):
    """Only the order of sums differs, so all but a few answers agree."""
    X, y = digitlib.load_digits(return_X_y=True)
    cpu, cuda = (
        cross_validate(DigitClassifier(recipe, random_state=0, device=device), X[:800], y[:800])
        for device in ("cpu", "cuda")
    )
    assert (cpu.predicted == cuda.predicted).mean() > 0.98
    assert abs(cpu.accuracy - cuda.accuracy) < 0.01


def test_surrounding_configuration_sets_the_number_of_folds_at_once(result, rows):
    class Counting(DigitClassifier):
        lock, running, most = threading.Lock(), 0, 0

        def fit(self, X, y):
            with self.lock:
                Counting.running += 1
                Counting.most = max(Counting.most, Counting.running)
            super().fit(X, y)
            with self.lock:
                Counting.running -= 1
            return self

    with joblib.parallel_config(backend="threading", n_jobs=1):
        cross_validate(Counting(epochs=1), *rows)
    assert Counting.most == 1


@pytest.mark.parametrize("n_jobs", [1, 2])
def test_threads_of_the_process_are_restored(n_jobs, classifier, rows):
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        cross_validate(classifier, *rows, n_splits=2, n_jobs=n_jobs)
        seen = [torch.get_num_threads()]
        new = threading.Thread(target=lambda: seen.append(torch.get_num_threads()))
        new.start()
        new.join()
        assert seen == [2, 2]
    finally:
        torch.set_num_threads(before)


# ---- any classifier ------------------------------------------------------------------------------


OURS = DigitClassifier(epochs=1, random_state=0)


@pytest.mark.parametrize(
    "other",
    [
        OURS,
        make_pipeline(FunctionTransformer(), OURS),
        make_pipeline(StandardScaler(), LogisticRegression(C=0.01)),
        KNeighborsClassifier(1),
    ],
    ids=["ours", "pipeline_of_ours", "pipeline", "neighbour"],
)
def test_any_classifier_gets_the_probabilities_of_cross_val_predict(other, rows):
    result = cross_validate(other, *rows, n_jobs=2)
    expected = cross_val_predict(other, *rows, cv=SPLIT, method="predict_proba")
    np.testing.assert_array_equal(result.probabilities, expected)
    assert result.history.empty == (other is not OURS)


def test_eval_set_of_another_library_is_left_alone(rows):
    """The fit of gradient boosting libraries takes a list of pairs under the same name."""

    class Boosting(KNeighborsClassifier):
        def fit(self, X, y, eval_set=None):
            for X_held_out, y_held_out in eval_set or []:
                assert len(X_held_out) == len(y_held_out)
            return super().fit(X, y)

    assert cross_validate(Boosting(1), *rows).accuracy > 0.9


def test_labels_of_text(rows):
    X, y = rows
    names = np.array(["odd" if label % 2 else "even" for label in y])
    result = cross_validate(DigitClassifier(epochs=2, random_state=0), X, names)
    assert result.classes.tolist() == ["even", "odd"]
    assert result.accuracy == (result.predicted == names).mean() > 0.6


@pytest.mark.parametrize("other", [KNeighborsClassifier(1), OURS], ids=["neighbour", "ours"])
def test_class_whose_rows_are_all_held_out_has_probability_0(other, rows):
    X, y = rows[0], rows[1] % 3
    held_out = next(SPLIT.split(X))[1][:4]
    y[held_out] = 3
    result = cross_validate(other, X, y)
    assert result.probabilities.shape == (320, 4)
    assert not result.probabilities[held_out, 3].any()
    np.testing.assert_allclose(result.probabilities.sum(axis=1), 1, rtol=1e-6)


# ---- refused -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "said", "change"),
    [
        (ParameterError, r"^n_splits=1: takes an integer from 2 up$", {"n_splits": 1}),
        (DataError, r"fewer than the 50 folds", {"n_splits": 50}),
        (
            ParameterError,
            r"^X of shape \(319, 64\) and y of shape \(320,\)",
            {"X": np.ones((319, 64))},
        ),
        (ParameterError, r"^scaling='some': takes 'train' or 'all'$", {"scaling": "some"}),
        (ParameterError, r"^progress='loud'", {"progress": "loud"}),
        (ParameterError, r"^LinearSVC has no predict_proba", {"classifier": LinearSVC()}),
        (ParameterError, r"epochs=0", {"classifier": DigitClassifier(epochs=0)}),
        (
            ParameterError,
            r"^scaling='all' has no effect on KNeighborsClassifier; leave it at 'train'$",
            {"scaling": "all", "classifier": KNeighborsClassifier()},
        ),
        (
            ParameterError,
            r"^scaling='all' has no effect on Pipeline; leave it at 'train'$",
            {"scaling": "all", "classifier": make_pipeline(StandardScaler(), OURS)},
        ),
        (ParameterError, r"^folds='loo': takes kfold or stratified$", {"folds": "loo"}),
        (ParameterError, r"holds out row \d+ \d times; takes a spl", {"cv": ShuffleSplit(2)}),
        (ParameterError, r"^protocol='all': takes 'folds' or 'writers'$", {"protocol": "all"}),
        (ParameterError, r"^writers has no effect with protocol", {"writers": ["train"] * 320}),
        (DataError, r"needs rows of training and of test writers", {"protocol": "writers"}),
    ],
)
def test_wrong_argument_gets_one_line(kind, said, change, rows):
    with pytest.raises(kind, match=said) as caught:
        cross_validate(**{"classifier": OURS, "X": rows[0], "y": rows[1], **change})
    assert "\n" not in str(caught.value)


def test_scaling_on_all_rows_is_the_published_leak(result, classifier, rows):
    X, y = rows
    leaky = cross_validate(classifier, X, y, scaling="all")
    assert not np.array_equal(leaky.probabilities, result.probabilities)
    for estimator in leaky.estimators:
        np.testing.assert_array_equal(estimator.scaler_.mean_, X.mean(axis=0))


# ---- stopped, and gone on with -------------------------------------------------------------------


class StopsOneFold(DigitClassifier):
    """The fold that begins first raises after two epochs; the other would train for hours."""

    lock, begun, ended = threading.Lock(), [], []
    other_trains, all_ended = threading.Event(), threading.Event()

    def fit(self, X, y, eval_set=None, on_epoch=None):
        with self.lock:
            self.begun.append(self)
            first = self.begun[0] is self

        def watched(record):
            if not first:
                self.other_trains.set()
            elif record["epoch"] == 2:
                assert self.other_trains.wait(30)
                raise KeyboardInterrupt
            on_epoch(record)

        try:
            super().fit(X, y, eval_set, on_epoch=watched)
        except BaseException as error:
            self.ended.append(type(error))
            if len(self.ended) == 2:
                self.all_ended.set()
            raise
        return self


def test_interruption_of_one_fold_stops_the_others(rows):
    with pytest.raises(KeyboardInterrupt):
        cross_validate(StopsOneFold(epochs=100_000, random_state=0), *rows, n_splits=2, n_jobs=2)
    assert StopsOneFold.all_ended.wait(30)
    assert StopsOneFold.ended == [KeyboardInterrupt, Stopped]


@pytest.fixture
def fits(monkeypatch):
    """Counts the calls of fit; the number in ``fits.stop_at`` is interrupted."""

    class Fits(list):
        stop_at = None

    fits, fit = Fits(), DigitClassifier.fit

    @functools.wraps(fit)
    def counting(self, *args, **options):
        fits.append(len(args[0]))
        if len(fits) == fits.stop_at:
            raise KeyboardInterrupt
        return fit(self, *args, **options)

    monkeypatch.setattr(DigitClassifier, "fit", counting)
    return fits


def store_for(tmp_path, classifier, rows, **decisive):
    return FoldStore(tmp_path / "kept", classifier, *rows, **{"n_splits": 4, **decisive})


def test_next_attempt_picks_up_finished_folds(tmp_path, fits, result, classifier, rows, capfd):
    store = store_for(tmp_path, classifier, rows)
    fits.stop_at = 3
    with pytest.raises(KeyboardInterrupt):
        cross_validate(classifier, *rows, n_jobs=1, store=store)
    assert len(fits) == 3
    fits.stop_at = None
    new = store_for(tmp_path, classifier, rows)
    again = cross_validate(classifier, *rows, n_jobs=2, store=new, progress="log")
    assert len(fits) == 3 + 2
    same_bits(again, result)
    assert capfd.readouterr().err.count("(kept from an earlier attempt)") == 2
    third = cross_validate(classifier, *rows, store=store)
    assert len(fits) == 3 + 2
    same_bits(third, result)
    store.clear()
    assert not (tmp_path / "kept").exists()


def test_fold_of_another_run_is_not_picked_up(tmp_path, classifier, rows):
    X, y = rows
    cross_validate(classifier, X, y, n_splits=4, store=store_for(tmp_path, classifier, rows))
    test = next(SPLIT.split(X))[1]
    assert store_for(tmp_path, classifier, rows).get(1, test) is not None
    brighter = X.copy()
    brighter[0, 20] += 1
    changes = ({"epochs": 3}, {"random_state": 1}, {"learning_rate": 0.01})
    others = [
        *(store_for(tmp_path, clone(classifier).set_params(**c), rows) for c in changes),
        store_for(tmp_path, classifier, (brighter, y)),
        store_for(tmp_path, classifier, (X, y[::-1])),
        store_for(tmp_path, classifier, rows, scaling="all"),
    ]
    assert [other.get(1, test) for other in others] == [None] * len(others)
    assert store_for(tmp_path, classifier, rows).get(1, test[::-1]) is None
    assert store_for(tmp_path, classifier, rows).get(5, test) is None


@pytest.mark.parametrize("kept", [0, 50, -100])
@pytest.mark.parametrize("suffix", ["npz", "safetensors"])
def test_truncated_fold_is_trained_anew(suffix, kept, tmp_path, fits, result, classifier, rows):
    store = store_for(tmp_path, classifier, rows)
    for number, (_, test) in enumerate(SPLIT.split(rows[0]), 1):
        store.put(Fold(number, test, result.probabilities[test], result.estimators[number - 1]))
    file = tmp_path / "kept" / f"2.{suffix}"
    file.write_bytes(file.read_bytes()[:kept])
    again = cross_validate(classifier, *rows, store=store)
    np.testing.assert_array_equal(again.probabilities, result.probabilities)
    assert len(fits) == 1


def test_nothing_is_kept_of_a_run_that_cannot_be_repeated(tmp_path, rows):
    unseeded = DigitClassifier(epochs=1)
    cross_validate(unseeded, *rows, n_splits=2, store=store_for(tmp_path, unseeded, rows))
    assert not (tmp_path / "kept").exists()


# ---- progress ------------------------------------------------------------------------------------


def test_log_file_is_readable(classifier, rows, capfd, monkeypatch):
    monkeypatch.delenv("DIGITLIB_PROGRESS", raising=False)
    cross_validate(classifier, *rows, n_jobs=2)
    said = capfd.readouterr().err
    assert "\r" not in said
    lines = said.splitlines()
    assert sorted(line.split(":")[0] for line in lines) == [f"fold {k}/4" for k in (1, 2, 3, 4)]
    assert all(" %, " in line and line.endswith(" s") for line in lines)
