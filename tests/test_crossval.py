"""Cross-validation: each row once, the same bits however it is run."""

import joblib
import numpy as np
import pytest
import torch
from conftest import same_weights
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import (
    KFold,
    PredefinedSplit,
    RepeatedKFold,
    StratifiedKFold,
    cross_val_predict,
)
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import LinearSVC
from torch import nn
from torch.nn import functional as F

import digitlib
from digitlib import DigitClassifier, cross_validate, runs
from digitlib.compare.kernel import FilterKernel
from digitlib.errors import DigitlibError
from digitlib.report import cluster

SPLIT = KFold(4, shuffle=True, random_state=30)  # the published one
CLASSIFIER = DigitClassifier(epochs=2, random_state=0)
X, Y = ROWS = tuple(part[:320] for part in digitlib.load_digits("sklearn", return_X_y=True))


class Own(nn.Sequential):
    """Batch normalisation and torch's dropout, which becomes ours."""

    def __init__(self, side, n_classes):
        parts = nn.Conv2d(1, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.Dropout(0.3)
        super().__init__(*parts, nn.Flatten(), nn.Linear(8 * side**2, n_classes))


class Drawing(Own):
    """Draws random numbers that digitlib knows nothing of."""

    def forward(self, x):
        return super().forward(F.dropout(x, 0.1, self.training))


def own(network):
    return DigitClassifier("coursework", 0, epochs=1, network=network)


@pytest.fixture(scope="module")
def result():
    return cross_validate(CLASSIFIER, *ROWS, n_jobs=1, progress=False)


def same_bits(first, second):
    np.testing.assert_array_equal(first.probabilities, second.probabilities)
    np.testing.assert_array_equal(first.folds, second.folds)
    assert first.history.equals(second.history)
    if hasattr(first.estimators[0], "network_"):
        assert all(map(same_weights, first.estimators, second.estimators))


# ---- the result ----------------------------------------------------------------------------------


def test_each_row_is_held_out_once_by_the_published_split(result):
    for number, (train, test) in enumerate(SPLIT.split(X), 1):
        np.testing.assert_array_equal(np.flatnonzero(result.folds == number), test)
        scaler = result.estimators[number - 1].scaler_
        np.testing.assert_array_equal(scaler.mean_, X[train].mean(axis=0))
    assert not hasattr(CLASSIFIER, "classes_")  # the one given is never fitted


def test_accuracy_history_and_what_is_printed(result):
    assert result.accuracy == (result.probabilities.argmax(axis=1) == Y).mean()
    columns = "fold epoch learning_rate loss held_out_loss held_out_accuracy"
    assert list(result.history) == columns.split()
    assert result.history["fold"].tolist() == [1, 1, 2, 2, 3, 3, 4, 4]
    last = result.history.groupby("fold")["held_out_accuracy"].last()
    assert last.mean() == pytest.approx(result.accuracy)  # folds of one size
    assert result.split == {"splits": 4, "split_seed": 30, "scaling": "train", "folds": "kfold"}
    assert str(result).startswith(f"{(result.predicted == Y).sum()} of 320 correct, ")
    assert len(str(result).splitlines()) == 2


def test_writers_apart_are_a_predefined_split():
    test = np.arange(320) >= 200
    split = PredefinedSplit(np.where(test, 0, -1))
    apart = cross_validate(CLASSIFIER, *ROWS, folds=split, progress=False)
    assert apart.rows.tolist() == list(range(200, 320)) and len(apart.estimators) == 1
    alone = DigitClassifier(epochs=2, random_state=0).fit(X[:200], Y[:200])
    np.testing.assert_array_equal(apart.probabilities, alone.predict_proba(X[200:]))


# ---- the same bits however it is run -------------------------------------------------------------

KINDS = {
    "coursework": DigitClassifier("coursework", 0, epochs=1),
    "handwriting": DigitClassifier("handwriting", 0, epochs=1, changes={"drawn": 1}),
    "kernel": FilterKernel(0),
    "own": own(Own),
    "own that draws": own(Drawing),
}


@pytest.mark.parametrize("classifier", KINDS.values(), ids=KINDS)
def test_folds_at_once_and_processes_change_no_bit(classifier, capfd):
    alone = cross_validate(classifier, *ROWS, n_jobs=1, progress=False)
    for n_jobs in (2, 4):
        same_bits(cross_validate(classifier, *ROWS, n_jobs=n_jobs, progress=False), alone)
    with joblib.parallel_config(backend="loky"):
        same_bits(cross_validate(classifier, *ROWS, n_jobs=2, progress=False), alone)
    in_turn = (
        "the network draws random numbers itself: its folds ran in turn" in capfd.readouterr().err
    )
    assert in_turn == (classifier is KINDS["own that draws"])


def test_folds_on_a_cluster_have_the_same_bits_and_the_run_says_where(result, digits, tmp_path):
    distributed = pytest.importorskip("distributed", reason="it is a development dependency")
    there = {"n_workers": 2, "threads_per_worker": 1, "dashboard_address": None}
    with distributed.LocalCluster(host="127.0.0.1", **there) as two:
        address = two.scheduler_address.replace("tcp", "dask")
        with cluster.engine(address) as place:
            same_bits(cross_validate(CLASSIFIER, *ROWS, progress=False), result)
            apart = cross_validate(own(Own), *ROWS, progress=False)
        with distributed.Client(two) as client:
            ran = client.run(lambda dask_worker: dask_worker.state.executed_count)
    assert all(ran.values()), "the folds ran on both workers"
    same_bits(apart, cross_validate(own(Own), *ROWS, n_jobs=1, progress=False))
    run = runs.load(runs.save(result, digits, tmp_path, seed=0, engine=place))
    assert run.info["machine"]["engine"] == place == "Dask cluster, 2 worker(s)"


@pytest.mark.parametrize(
    ("address", "said"),
    [("dask://127.0.0.1:1", "no scheduler answers; start"), ("spark://a:1", "takes dask://HOST")],
)
def test_an_engine_that_is_not_there_is_told(address, said):
    expected = pytest.raises(DigitlibError, match=f"^engine='{address}': {said}")
    with expected, cluster.engine(address):
        pass


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device on this machine")
@pytest.mark.parametrize("recipe", ["coursework", "accurate"])
def test_cuda_agrees_with_the_cpu(recipe):
    """Only the order of sums differs, so all but a few answers agree."""
    X, y = (part[:800] for part in digitlib.load_digits(return_X_y=True))
    cpu, cuda = (
        cross_validate(DigitClassifier(recipe, 0, device=device), X, y)
        for device in ("cpu", "cuda")
    )
    assert (cpu.predicted == cuda.predicted).mean() > 0.98


# ---- any classifier ------------------------------------------------------------------------------

ANY = {
    "ours": DigitClassifier(epochs=1, random_state=0),
    "pipeline": make_pipeline(StandardScaler(), LogisticRegression(C=0.01)),
    "forest": RandomForestClassifier(30, random_state=1),
}


@pytest.mark.parametrize("folds", ["kfold", "stratified"])
@pytest.mark.parametrize("name", ANY)
def test_any_classifier_gets_the_probabilities_of_cross_val_predict(name, folds):
    result = cross_validate(ANY[name], *ROWS, folds=folds, progress=False)
    cv = SPLIT if folds == "kfold" else StratifiedKFold(4, shuffle=True, random_state=30)
    expected = cross_val_predict(ANY[name], *ROWS, cv=cv, method="predict_proba")
    np.testing.assert_array_equal(result.probabilities, expected)
    assert result.history.empty == (name != "ours")


def test_labels_of_text():
    names = np.where(Y % 2, "odd", "even")
    result = cross_validate(CLASSIFIER, X, names, progress=False)
    assert result.classes.tolist() == ["even", "odd"]
    assert result.accuracy == (result.predicted == names).mean() > 0.6


def test_class_whose_rows_are_all_held_out_has_probability_0():
    held_out, y = next(SPLIT.split(X))[1][:4], Y % 3 + 1
    y[held_out] = 0  # the first class: a column in the wrong place would show
    result = cross_validate(ANY["ours"], X, y, progress=False)
    assert not result.probabilities[held_out, 0].any()
    np.testing.assert_allclose(result.probabilities.sum(axis=1), np.ones(320), rtol=1e-6)


def test_a_log_gets_a_line_for_each_fold(capfd):
    cross_validate(ANY["ours"], *ROWS, n_splits=2)
    out, said = capfd.readouterr()
    assert out == "" and "\r" not in said
    lines = sorted(said.splitlines())
    assert [line.split(": ")[0] for line in lines] == ["fold 1/2", "fold 2/2"]
    assert "accuracy" in lines[0] and lines[0].endswith(" s")


# ---- refused -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"n_splits": 1}, "n_splits=1"),
        ({"X": np.ones((319, 64))}, "inconsistent numbers of samples"),
        ({"scaling": "some"}, "^scaling='some': takes train or all$"),
        ({"classifier": LinearSVC()}, "^LinearSVC has no predict_proba; .*CalibratedClassifierCV"),
        ({"classifier": DigitClassifier(epochs=0)}, "^epochs=0"),
        ({"scaling": "all", "classifier": ANY["forest"]}, "^scaling='all' has no effect on Random"),
        ({"folds": "loo"}, "^folds='loo': takes kfold or stratified$"),
        ({"folds": RepeatedKFold(n_splits=2, n_repeats=2)}, "takes a splitter that holds out no r"),
    ],
)
def test_wrong_argument_gets_one_line(change, said):
    with pytest.raises(ValueError, match=said) as caught:
        cross_validate(**{"classifier": ANY["ours"], "X": X, "y": Y, "progress": False, **change})
    assert "\n" not in str(caught.value)


def test_scaling_on_all_rows_is_the_published_leak(result):
    leaky = cross_validate(CLASSIFIER, X, Y, scaling="all", progress=False)
    assert not np.array_equal(leaky.probabilities, result.probabilities)
    for estimator in leaky.estimators:
        np.testing.assert_array_equal(estimator.scaler_.mean_, X.mean(axis=0))
