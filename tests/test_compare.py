"""Competitors on the same rows, and what may be concluded from them."""

import numpy as np
import pandas as pd
import pytest
from sklearn.model_selection import KFold, cross_val_predict
from sklearn.naive_bayes import GaussianNB
from sklearn.neighbors import KNeighborsClassifier
from sklearn.svm import SVC

from digitlib import DigitClassifier, compare, cross_validate, load_digits, runs
from digitlib.errors import ParameterError
from digitlib.recipes import RECIPES

NEIGHBOUR = KNeighborsClassifier(1)
QUICK = GaussianNB()

BRIEF = "coursework, changed: epochs 1 (10)"


# ---- the protocol by writers ---------------------------------------------------------------------


def test_writers_are_never_on_both_sides(digits):
    X, y = digits.data, digits.target
    result = cross_validate(
        NEIGHBOUR, X, y, protocol="writers", writers=digits.writers, progress="off"
    )
    assert (digits.writers[result.rows] == "test").all()
    assert len(result.rows) == len(result.y) == len(result.probabilities) == 1797
    expected = KNeighborsClassifier(1).fit(X[:3823], y[:3823]).predict(X[3823:])
    assert (result.predicted == expected).all()
    assert result.fold_accuracies.tolist() == [result.accuracy]


# ---- measured -------------------------------------------------------------------------------


def test_the_svc_is_the_one_line_svc(digits):
    measured = compare.measure(compare.competitors()["RBF SVC"], digits)
    folds = KFold(4, shuffle=True, random_state=30)
    expected = cross_val_predict(SVC(C=10, gamma=0.2), digits.data / 16, digits.target, cv=folds)
    assert (measured.predicted == expected).mean() > 0.9999
    assert (measured.rows == np.arange(5620)).all()
    assert measured.right(digits.target).mean() == pytest.approx(0.9925, abs=2e-4)
    assert measured.milliseconds > 0
    assert measured.bytes > 10_000


# ---- which recipes -------------------------------------------------------------------------------


def test_recipes_are_chosen_by_budget(digits):
    names, left_out = compare.choose_recipes("quick", 0.001, digits)
    assert names == []
    assert set(left_out) == set(RECIPES)
    assert compare.choose_recipes("quick", 1e9, digits)[0] == list(RECIPES)
    assert compare.choose_recipes("all", 0, digits) == (list(RECIPES), {})
    assert compare.choose_recipes("coursework", 0, digits) == (["coursework"], {})
    with pytest.raises(ParameterError, match="choose one of"):
        compare.choose_recipes("coursework,none-such", 0, digits)


# ---- the comparison ------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory, digits):
    classifier = DigitClassifier(random_state=0, epochs=1)
    result = cross_validate(classifier, digits.data, digits.target, progress="off")
    return runs.save(result, digits, tmp_path_factory.mktemp("run"), seed=0)


@pytest.fixture
def run(run_folder):
    return runs.load(run_folder)


@pytest.fixture(scope="module")
def comparison(run_folder, digits):
    names = ("majority class", "1-nearest-neighbour", "RBF SVC")
    few = {name: compare.competitors()[name] for name in names}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(compare, "competitors", lambda: few)
        return compare.compare(digits, runs.load(run_folder), budget=0)


def test_the_svc_is_ranked_above_a_weaker_network(comparison, run):
    # In a checkout with changes, the name goes on to say which.
    assert comparison.reference.startswith(BRIEF)
    assert comparison.table.index[0] == "RBF SVC"
    own = comparison.table.loc[comparison.reference]
    assert own["correct"] == (run.y == run.predicted).sum()
    assert bool(own["ours"])
    sentences = " ".join(compare.conclude(comparison))
    assert "RBF SVC is right on" in sentences
    assert f"more images than {comparison.reference}" in sentences
    assert compare.left_out(comparison).startswith("Left out, being slow: coursework (about ")


def test_everybody_has_both_answers_and_pairs_agree_with_the_counts(comparison):
    table = comparison.table
    assert table["writers"].notna().all()
    assert (table["writers total"] == 1797).all()
    assert (table["low"] < table["accuracy"]).all()
    for other, pair in comparison.pairs.iterrows():
        surplus = table["correct"][comparison.reference] - table["correct"][other]
        assert pair["only reference"] - pair["only other"] == surplus
        assert pair["points"] == pytest.approx(100 * surplus / 5620, abs=0.04)
        assert pair["McNemar p, Holm"] >= pair["McNemar p"]


def test_conclusions_follow_the_tests():
    columns = ["only reference", "only other", "McNemar p, Holm", "t-test p, Holm"]
    numbers = [[9, 1, 0.9, 0.9], [1, 90, 0.01, 0.2], [90, 1, 0.01, 0.01], [5, 5, 1, 1]]
    pairs = pd.DataFrame(numbers, columns=columns, index=list("abcd"))
    a, b, c, d = compare.conclude(compare.Comparison("ours", pd.DataFrame(), pairs, {}))
    assert "neither may be called better" in a
    assert b.startswith("b is right on 89 more images than ours")
    assert "both tests rule out chance" in c
    assert "equally often" in d


def test_data_that_tells_no_writers_apart_and_is_not_the_runs(monkeypatch, run):
    monkeypatch.setattr(compare, "competitors", lambda: {"1-nearest-neighbour": NEIGHBOUR})
    monkeypatch.setattr(compare, "choose_recipes", lambda *_: (["kernel"], {}))
    digits = load_digits("sklearn")
    with pytest.raises(ParameterError, match="other data"):
        compare.compare(digits, run)
    comparison = compare.compare(digits)
    assert comparison.table["writers"].isna().all()
    assert comparison.pairs["writers McNemar p, Holm"].isna().all()


# ---- would more images, or more epochs, help? ----------------------------------------------------


def test_more_images_fewer_errors():
    digits = load_digits("sklearn")
    result = cross_validate(NEIGHBOUR, digits.data, digits.target, progress="off")
    curve = compare.learning_curve(NEIGHBOUR, digits, result)
    means = curve.groupby("images")["accuracy"].mean()
    assert means.is_monotonic_increasing
    assert means.index.max() == round(1797 * 3 / 4)
    assert means.iloc[-1] == pytest.approx(result.accuracy, abs=1e-3)
    assert (curve.groupby("images")["fold"].nunique() == 4).all()


def test_more_data_is_promised_only_where_errors_fall_steadily():
    def words(fewer, more):
        rows = [(50, k, a) for k, a in enumerate(fewer)] + [(100, k, a) for k, a in enumerate(more)]
        return compare.more_data(pd.DataFrame(rows, columns=["images", "fold", "accuracy"]))

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
        assert says in compare.more_epochs(pd.DataFrame(rows))
