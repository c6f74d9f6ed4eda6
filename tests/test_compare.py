"""Competitors on the same rows, and what may be concluded from them."""

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone
from sklearn.kernel_ridge import KernelRidge
from sklearn.model_selection import KFold, cross_val_predict
from sklearn.neighbors import KNeighborsClassifier
from sklearn.svm import SVC

from digitlib import DigitClassifier, cross_validate, load_digits, own, runs
from digitlib.compare import competitors, curves
from digitlib.compare.kernel import FilterKernel
from digitlib.errors import ParameterError

NEIGHBOUR = KNeighborsClassifier(1)
BRIEF = "coursework, changed: epochs 1 (10)"


# ---- the kernel machine --------------------------------------------------------------------------


def machine(rows, centres=300):
    X, y = load_digits("sklearn", return_X_y=True)
    options = {"filters": 6, "gamma": 0.5, "ridge": 0.05, "centres": centres}
    return FilterKernel(0, **options).fit(X[:rows], y[:rows]), X[:rows], y[:rows]


@pytest.mark.parametrize("centres", [300, 1000])
def test_with_all_rows_as_centres_it_is_scikit_learns_kernel_ridge(centres):
    ours, X, y = machine(300, centres)
    features, shares = ours._features(X).double().numpy(), np.eye(10)[y].mean(axis=0)
    gamma = 0.5 / (2 * features.var(axis=0).sum())
    ridge = KernelRidge(kernel="rbf", gamma=gamma, alpha=0.05)
    scores = ridge.fit(features, np.eye(10)[y] - shares).predict(features) + shares
    np.testing.assert_allclose(np.log(ours.predict_proba(X)).argmax(axis=1), scores.argmax(axis=1))
    ours = np.log(ours.predict_proba(X)) / ours.scale_
    centred = [part - part.mean(axis=1, keepdims=True) for part in (ours, scores)]
    np.testing.assert_allclose(*centred, atol=1e-3)


def test_its_state_is_plain_and_its_seed_decides(tmp_path):
    ours, X, _ = machine(200)
    assert own.keep(ours, tmp_path / "fold-1") == ("fold-1.skops", None)
    again = own.load_fold(tmp_path / "fold-1.skops", runs.Run(*[None] * 8))
    np.testing.assert_array_equal(again.predict_proba(X), ours.predict_proba(X))
    other = clone(ours).set_params(random_state=1).fit(X, ours.predict(X))
    assert not np.array_equal(other.filters_, ours.filters_)


@pytest.mark.parametrize("n_pixels", [9, 63])
def test_images_that_are_too_small_or_not_square_are_refused(n_pixels):
    with pytest.raises(ParameterError, match="takes square images from 4x4 up"):
        FilterKernel(0).fit(np.ones((20, n_pixels)), np.arange(20) % 2)


# ---- measured ------------------------------------------------------------------------------------


def test_the_svc_is_the_one_line_svc(digits):
    split = {"folds": KFold(4, shuffle=True, random_state=30), "progress": False}
    ours = cross_validate(competitors.competitors()["RBF SVC"], digits.data, digits.target, **split)
    svc, cv = SVC(C=10, gamma=0.2), split["folds"]
    expected = cross_val_predict(svc, digits.data / 16, digits.target, cv=cv)
    assert (ours.predicted == expected).mean() > 0.9999
    assert ours.accuracy == pytest.approx(0.9925, abs=2e-4)


def test_quick_recipes_or_those_that_were_named():
    quick, slow = competitors.choose("quick", "coursework")
    assert (quick, slow) == (["kernel"], ["accurate", "best", "handwriting"])
    assert competitors.choose("all", "best")[0] == [
        "kernel",
        "coursework",
        "accurate",
        "handwriting",
    ]
    assert competitors.choose("best, kernel", "coursework") == (["best", "kernel"], [])
    with pytest.raises(ParameterError, match=r"^recipe 'none-such' is unknown; choose from: ker"):
        competitors.choose("coursework,none-such", "")


# ---- the comparison ------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def run(tmp_path_factory, digits):
    classifier = DigitClassifier(random_state=0, epochs=1)
    result = cross_validate(classifier, digits.data, digits.target, progress=False)
    return runs.load(runs.save(result, digits, tmp_path_factory.mktemp("run"), seed=0))


@pytest.fixture(scope="module")
def comparison(run, digits):
    names = ("majority class", "1-nearest-neighbour", "RBF SVC")
    few = {name: competitors.competitors()[name] for name in names}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(competitors, "competitors", lambda: few)
        return competitors.compare(digits, run, "kernel")


def test_the_svc_is_ranked_above_a_weaker_network(comparison, run):
    # In a checkout with changes, the name goes on to say which.
    assert comparison.reference.startswith(BRIEF)
    assert comparison.table.index[:2].tolist() == ["kernel", "RBF SVC"]
    ours = comparison.table.loc[comparison.reference]
    assert ours["accuracy"] == (run.y == run.predicted).mean() and bool(ours["ours"])
    sentences = " ".join(competitors.conclude(comparison))
    assert "RBF SVC is right on" in sentences
    assert f"more images than {comparison.reference}" in sentences


def test_everybody_has_both_answers_and_pairs_agree_with_the_counts(comparison):
    table = comparison.table
    assert table["writers"].notna().all() and (table["low"] < table["accuracy"]).all()
    assert (table["kB"] > 0).all() and (table["milliseconds"] > 0).all()
    for other, pair in comparison.pairs.iterrows():
        surplus = pair["only reference"] - pair["only other"]
        gain = table["accuracy"][comparison.reference] - table["accuracy"][other]
        assert surplus == round(5620 * gain)
        assert pair["points"] == pytest.approx(100 * gain, abs=0.04)
        assert pair["McNemar p, Holm"] >= pair["McNemar p"]


def test_on_writers_apart_training_rows_are_the_other_writers(comparison, digits):
    X, y, ours = digits.data, digits.target, digits.writers == "train"
    expected = KNeighborsClassifier(1).fit(X[ours], y[ours]).score(X[~ours], y[~ours])
    assert comparison.table.loc["1-nearest-neighbour", "writers"] == expected


def test_conclusions_follow_the_tests():
    columns = ["only reference", "only other", "McNemar p, Holm", "t-test p, Holm"]
    numbers = [[9, 1, 0.9, 0.9], [1, 90, 0.01, 0.2], [90, 1, 0.01, 0.01], [5, 5, 1, 1]]
    pairs = pd.DataFrame(numbers, columns=columns, index=list("abcd"))
    a, b, c, d = competitors.conclude(competitors.Comparison("ours", pd.DataFrame(), pairs, []))
    assert "neither may be called better" in a
    assert b.startswith("b is right on 89 more images than ours")
    assert "both tests rule out chance" in c
    assert "equally often" in d


def test_data_that_tells_no_writers_apart_and_is_not_the_runs(monkeypatch, run, tmp_path):
    monkeypatch.setattr(competitors, "competitors", lambda: {"1-nearest-neighbour": NEIGHBOUR})
    digits = load_digits("sklearn")
    with pytest.raises(ParameterError, match="other data"):
        competitors.compare(digits, run)
    result = cross_validate(FilterKernel(0), digits.data, digits.target, progress=False)
    part = runs.load(runs.save(result, digits, tmp_path, seed=0))
    comparison = competitors.compare(digits, part, "kernel")
    assert comparison.table["writers"].isna().all()
    assert comparison.pairs["writers McNemar p, Holm"].isna().all()


# ---- would more images, or more epochs, help? ----------------------------------------------------


def test_more_images_fewer_errors(tmp_path):
    digits = load_digits("sklearn")
    result = cross_validate(FilterKernel(0), digits.data, digits.target, progress=False)
    run = runs.load(runs.save(result, digits, tmp_path, seed=0))
    curve = curves.learning_curve(digits, run)
    means = curve.groupby("images")["accuracy"].mean()
    assert means.is_monotonic_increasing
    assert means.index.max() == round(1797 * 3 / 4)
    assert means.iloc[-1] == pytest.approx(result.accuracy, abs=1e-3)
    assert (curve.groupby("images")["fold"].nunique() == 4).all()


def test_more_data_is_promised_only_where_errors_fall_steadily():
    def words(fewer, more):
        rows = [(50, k, a) for k, a in enumerate(fewer)] + [(100, k, a) for k, a in enumerate(more)]
        return curves.more_data(pd.DataFrame(rows, columns=["images", "fold", "accuracy"]))

    steady = words([0.90, 0.90, 0.91, 0.90], [0.95, 0.95, 0.955, 0.95])
    assert "200 images would bring about 2.44 %" in steady
    assert "more data would help" in steady
    assert "do not show" in words([0.95, 0.96, 0.95, 0.96], [0.96, 0.95, 0.955, 0.96])


def test_more_epochs_where_held_out_loss_still_falls():
    for losses, says in (
        (np.linspace(1, 0.1, 10), "more epochs would help"),
        ([1, 0.5, 0.3, 0.2, 0.15, 0.12, 0.101, 0.1005, 0.1, 0.1], "levelled out"),
        ([1, 0.5, 0.2, 0.1, 0.12, 0.14, 0.16, 0.18, 0.2, 0.22], "fewer epochs would do"),
        ([], "no curve over epochs"),
    ):
        rows = [
            {"fold": fold, "epoch": e, "learning_rate": 0.7**e, "held_out_loss": x + 0.001 * fold}
            for fold in (1, 2, 3)
            for e, x in enumerate(losses, 1)
        ]
        assert says in curves.more_epochs(pd.DataFrame(rows))
