import numpy as np
import pandas as pd
import pytest
from sklearn.model_selection import KFold, cross_val_predict
from sklearn.neighbors import KNeighborsClassifier
from sklearn.svm import SVC

from digitlib import DigitClassifier, compare, cross_validate, load_digits, runs
from digitlib.cli import main
from digitlib.errors import DataError, ParameterError
from digitlib.recipes import RECIPES


@pytest.fixture(scope="session")
def digits():
    return load_digits()


@pytest.fixture(scope="module", autouse=True)
def _own_cache(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DIGITLIB_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


# ---- the protocol by writers ---------------------------------------------------------------------


def test_writers_are_never_on_both_sides(digits):
    result = cross_validate(
        KNeighborsClassifier(1),
        digits.data,
        digits.target,
        protocol="writers",
        writers=digits.writers,
        progress="off",
    )
    assert (digits.writers[result.rows] == "test").all()
    assert len(result.rows) == len(result.y) == len(result.probabilities) == 1797
    assert result.estimators[0].n_samples_fit_ == 3823
    expected = (
        KNeighborsClassifier(1)
        .fit(digits.data[:3823], digits.target[:3823])
        .predict(digits.data[3823:])
    )
    assert (result.predicted == expected).all()
    assert result.fold_accuracies.tolist() == [result.accuracy]


def test_folds_cover_all_rows(digits):
    result = cross_validate(KNeighborsClassifier(1), digits.data, digits.target, progress="off")
    assert (result.rows == np.arange(5620)).all()


@pytest.mark.parametrize(
    ("options", "error", "says"),
    [
        ({"protocol": "writers"}, DataError, "use source bundled or uci"),
        ({"protocol": "writers", "writers": np.full(5620, "unknown")}, DataError, "here 0 and 0"),
        ({"protocol": "people"}, ParameterError, "takes 'folds' or 'writers'"),
        ({"writers": np.full(5620, "train")}, ParameterError, "no effect"),
    ],
)
def test_a_protocol_that_cannot_be(digits, options, error, says):
    with pytest.raises(error, match=says):
        cross_validate(
            KNeighborsClassifier(1), digits.data, digits.target, progress="off", **options
        )


# ---- competitors ---------------------------------------------------------------------------------


def test_the_svc_is_the_one_line_svc(digits):
    measured = compare.measure(compare.competitors()["RBF SVC"], digits)
    expected = cross_val_predict(
        SVC(C=10, gamma=0.2),
        digits.data / 16,
        digits.target,
        cv=KFold(4, shuffle=True, random_state=30),
    )
    assert (measured.predicted == expected).mean() > 0.9999
    assert (measured.predicted == digits.target).mean() == pytest.approx(0.9925, abs=2e-4)
    assert measured.milliseconds > 0
    assert measured.bytes > 10_000


def test_measured_once(digits, monkeypatch):
    first = compare.measure(KNeighborsClassifier(1), digits, "writers")

    def never(*_, **__):
        raise AssertionError("trained again")

    monkeypatch.setattr("cross_validate", never)
    again = compare.measure(KNeighborsClassifier(1), digits, "writers")
    assert (again.predicted == first.predicted).all()
    assert (again.seconds, again.created) == (first.seconds, first.created)
    with pytest.raises(AssertionError, match="trained again"):
        compare.measure(KNeighborsClassifier(2), digits, "writers")
    with pytest.raises(AssertionError, match="trained again"):
        compare.measure(KNeighborsClassifier(1), digits, "folds")


def test_versions_code_and_seed_are_decisive(monkeypatch):
    plain = compare.decisive(DigitClassifier(random_state=0))
    assert compare.decisive(DigitClassifier(random_state=1)) != plain
    assert compare.decisive(DigitClassifier(random_state=0, epochs=3)) != plain
    monkeypatch.setattr("version", lambda name: "99")
    assert compare.decisive(DigitClassifier(random_state=0)) != plain


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
def run(tmp_path_factory, digits):
    result = cross_validate(
        DigitClassifier(random_state=0, epochs=1),
        digits.data,
        digits.target,
        n_splits=3,
        progress="off",
    )
    return runs.load(runs.save(result, digits, tmp_path_factory.mktemp("run"), seed=0))


@pytest.fixture(scope="module")
def comparison(run, digits):
    few = {
        name: compare.competitors()[name]
        for name in ("majority class", "1-nearest-neighbour", "RBF SVC")
    }
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(compare, "competitors", lambda: few)
        return compare.compare(digits, run, budget=0)


def test_the_svc_is_ranked_above_a_weaker_network(comparison, run):
    assert comparison.reference == "coursework"
    assert comparison.table.index[0] == "RBF SVC"
    own = comparison.table.loc["coursework"]
    assert own["correct"] == (run.y == run.predicted).sum()
    assert bool(own["ours"])
    assert any(
        sentence.startswith("RBF SVC is right on") and "than coursework" in sentence
        for sentence in compare.conclude(comparison)
    )


def test_everybody_has_both_answers(comparison):
    assert comparison.table["writers"].notna().all()
    assert (comparison.table["writers total"] == 1797).all()
    assert (comparison.table["low"] < comparison.table["accuracy"]).all()


def test_pairs_agree_with_the_counts(comparison):
    for other, pair in comparison.pairs.iterrows():
        surplus = (
            comparison.table.loc["coursework", "correct"] - comparison.table.loc[other, "correct"]
        )
        assert pair["only reference"] - pair["only other"] == surplus
        assert pair["McNemar p, Holm"] >= pair["McNemar p"]


def test_conclusions_follow_the_tests():
    columns = ["only reference", "only other", "McNemar p, Holm", "t-test p, Holm"]
    pairs = pd.DataFrame(
        [[9, 1, 0.9, 0.9], [1, 90, 0.01, 0.2], [90, 1, 0.01, 0.01], [5, 5, 1, 1]],
        columns=columns,
        index=list("abcd"),
    )
    a, b, c, d = compare.conclude(compare.Comparison("ours", pd.DataFrame(), pairs, {}))
    assert "neither may be called better" in a
    assert b.startswith("b is right on 89 more images than ours")
    assert "both tests rule out chance" in c
    assert "equally often" in d


def test_other_data_than_the_runs_is_refused(run):
    with pytest.raises(ParameterError, match="other data"):
        compare.compare(load_digits("sklearn"), run)


class _Brief(DigitClassifier):
    def __init__(self, recipe="coursework", random_state=None):
        super().__init__(recipe, random_state, epochs=1)


def test_data_that_tells_no_writers_apart(monkeypatch):
    digits = load_digits("sklearn")
    monkeypatch.setattr(
        compare, "competitors", lambda: {"1-nearest-neighbour": KNeighborsClassifier(1)}
    )
    monkeypatch.setattr(compare, "choose_recipes", lambda *_, **__: (["coursework"], {}))
    monkeypatch.setattr(compare, "DigitClassifier", _Brief)
    comparison = compare.compare(digits)
    assert comparison.table["writers"].isna().all()
    assert comparison.pairs["writers McNemar p, Holm"].isna().all()


def test_the_command_prints_the_ranking(monkeypatch, comparison, capsys):
    monkeypatch.setattr(compare, "compare", lambda *_: comparison)
    with pytest.raises(SystemExit) as end:
        main(["compare"])
    lines = capsys.readouterr().out.splitlines()
    assert end.value.code in (0, None)
    assert lines[1].startswith("RBF SVC")
    assert sum("coursework" in line for line in lines) >= 4
