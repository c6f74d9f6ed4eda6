import numpy as np
import pandas as pd
import pytest
from sklearn.neighbors import KNeighborsClassifier

from digitlib import compare as learning
from digitlib import cross_validate, load_digits


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("DIGITLIB_CACHE", str(tmp_path))


@pytest.fixture(scope="module")
def digits():
    return load_digits("sklearn")


@pytest.fixture(scope="module")
def result(digits):
    return cross_validate(KNeighborsClassifier(1), digits.data, digits.target, progress="off")


def test_more_images_fewer_errors(digits, result):
    curve = learning.learning_curve(KNeighborsClassifier(1), digits, result)
    means = curve.groupby("images")["accuracy"].mean()
    assert means.is_monotonic_increasing
    assert means.index.max() == round(1797 * 3 / 4)
    assert means.iloc[-1] == pytest.approx(result.accuracy, abs=1e-3)
    assert (curve.groupby("images")["fold"].nunique() == 4).all()


def test_a_budget_leaves_out_the_largest_shares(digits, result):
    result.seconds, before = 100.0, result.seconds
    curve = learning.learning_curve(KNeighborsClassifier(1), digits, result, budget=40)
    result.seconds = before
    assert curve["images"].nunique() == 3  # an eighth and a quarter fit, and the whole is known
    assert "left out" in learning.more_data(curve[curve["images"] == curve["images"].max()])


def curve(*accuracies):
    return pd.DataFrame(
        [
            (100 * 2**i, fold, a)
            for i, row in enumerate(accuracies)
            for fold, a in enumerate(row, 1)
        ],
        columns=["images", "fold", "accuracy"],
    )


def test_more_data_helps_where_errors_fall_in_every_fold():
    said = learning.more_data(curve([0.90, 0.90, 0.91, 0.90], [0.95, 0.95, 0.955, 0.95]))
    assert "more data would help" in said
    assert "400 images would bring about 2.44 %" in said


def test_more_data_is_not_promised_from_noise():
    assert "do not show" in learning.more_data(
        curve([0.95, 0.96, 0.95, 0.96], [0.96, 0.95, 0.955, 0.96])
    )


def history(*losses):
    rows = [
        {"fold": f, "epoch": e, "learning_rate": 0.7**e, "held_out_loss": x + 0.001 * f}
        for f in (1, 2, 3)
        for e, x in enumerate(losses, 1)
    ]
    return pd.DataFrame(rows)


@pytest.mark.parametrize(
    ("losses", "says"),
    [
        (np.linspace(1, 0.1, 10), "more epochs would help"),
        ([1, 0.5, 0.3, 0.2, 0.15, 0.12, 0.101, 0.1005, 0.1, 0.1], "levelled out"),
        ([1, 0.5, 0.2, 0.1, 0.12, 0.14, 0.16, 0.18, 0.2, 0.22], "fewer epochs would do"),
    ],
    ids=["still_falling", "flat", "over_fitted"],
)
def test_epochs(losses, says):
    assert says in learning.more_epochs(history(*losses))


def test_a_recipe_without_epochs_has_no_curve():
    assert "no curve over epochs" in learning.more_epochs(pd.DataFrame())
