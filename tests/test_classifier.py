"""DigitClassifier: scikit-learn's contract, its own parameters, and its state in plain arrays."""

import copy
import pickle

import joblib
import numpy as np
import pytest
import skops.io
import torch
from conftest import same_weights
from sklearn.base import clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.ensemble import BaggingClassifier, StackingClassifier, VotingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer
from sklearn.utils.estimator_checks import parametrize_with_checks
from sklearn.utils.validation import check_is_fitted, validate_data

from digitlib import DigitClassifier, load_digits, own
from digitlib.errors import ParameterError
from digitlib.recipes import RECIPES, get_recipe

X, Y = (part[:300] for part in load_digits("sklearn", return_X_y=True))


class SquareImages(DigitClassifier):
    """Repeats the features until they fill 6 x 6 pixels: scikit-learn's checks make up rows of 2,
    3, 5 or 10 features, where an image of side x side pixels is needed.
    """

    def fit(self, X, y):
        X, y = validate_data(self, X, y, dtype=None, ensure_all_finite=False)
        n_features = self.n_features_in_
        super().fit(X[:, np.arange(36) % n_features], y)
        self.n_features_in_ = n_features
        return self

    def predict_proba(self, X):
        check_is_fitted(self)
        X = validate_data(self, X, reset=False, dtype=None, ensure_all_finite=False)
        n_features, self.n_features_in_ = self.n_features_in_, 36
        try:
            return super().predict_proba(X[:, np.arange(36) % n_features])
        finally:
            self.n_features_in_ = n_features

    def __setstate__(self, state):
        n_features = state.pop("n_features_in_", None)
        super().__setstate__(state | ({"n_features_in_": 36} if n_features else {}))
        if n_features:
            self.n_features_in_ = n_features


FAST = {"epochs": 4, "batch_size": 32, "learning_rate": 0.003}


@parametrize_with_checks([SquareImages(changes=FAST, random_state=0)])
def test_checks_of_scikit_learn_on_square_images(estimator, check):
    check(estimator)  # scikit-learn's own assertions: it raises where one does not hold


@pytest.fixture(scope="module")
def fitted():
    return DigitClassifier(epochs=3, changes={"batch_size": 16}, random_state=0).fit(X, Y)


def test_fitted_attributes(fitted):
    np.testing.assert_array_equal(fitted.classes_, np.arange(10))
    assert [record["epoch"] for record in fitted.history_] == [1, 2, 3]
    assert (fitted.n_features_in_, fitted.recipe_.batch_size) == (64, 16)
    assert fitted.score(X, Y) > 0.9
    assert fitted.predict_proba(X).dtype == np.float32


WORDS = np.array(["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"])


@pytest.mark.parametrize("labels", [WORDS, 100 * np.arange(10) - 300], ids=["text", "numbers"])
def test_labels_are_given_back(labels, fitted):
    classifier = clone(fitted).fit(X, labels[Y])
    assert classifier.classes_.tolist() == sorted(labels)
    assert classifier.score(X, labels[Y]) > 0.9


def test_type_of_the_pixels_changes_no_weight_and_the_seed_all(fitted):
    frame = load_digits("sklearn", as_frame=True).data[:300]
    for same in (X.astype(np.float32), X.tolist(), frame):
        assert same_weights(clone(fitted).fit(same, Y), fitted)
    state = DigitClassifier(epochs=1, random_state=np.random.RandomState(7))
    assert same_weights(clone(state).fit(X, Y), clone(state).fit(X, Y))
    for random_state in (1, None):
        other = clone(fitted).set_params(random_state=random_state)
        assert not same_weights(other.fit(X, Y), fitted)


# ---- kept and copied -----------------------------------------------------------------------------


def by_skops(classifier):
    text = skops.io.dumps(classifier)
    found = skops.io.get_untrusted_types(data=text)
    assert own.SAFE.issuperset(found), "loads without leave"
    return skops.io.loads(text, trusted=found)


def by_joblib(classifier, path="it.joblib"):
    joblib.dump(classifier, path)
    return joblib.load(path)


def by_pickle(classifier):
    return pickle.loads(pickle.dumps(classifier))


@pytest.mark.parametrize("copied", [by_skops, by_joblib, by_pickle, copy.deepcopy])
@pytest.mark.parametrize("recipe", RECIPES)
def test_every_recipe_kept_and_read_back_gives_the_same_bits(recipe, copied, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    changes = {"drawn": 1} if recipe == "handwriting" else None
    fitted = DigitClassifier(recipe, 0, epochs=1, changes=changes).fit(X[:100], Y[:100])
    again = copied(fitted)
    np.testing.assert_array_equal(again.predict_proba(X), fitted.predict_proba(X))
    assert again.recipe_ == again.settings() == fitted.recipe_
    assert again.history_ == fitted.history_


OURS = DigitClassifier(epochs=1, random_state=0)
INSIDE = {
    "voting": VotingClassifier([("a", OURS), ("b", OURS)], voting="soft"),
    "pipeline": make_pipeline(FunctionTransformer(), OURS),
    "search": GridSearchCV(OURS, {"epochs": [1, 2]}, cv=2),
    "calibrated": CalibratedClassifierCV(OURS, cv=2),
    "bagging": BaggingClassifier(OURS, 2),
    "stacking": StackingClassifier([("a", OURS)], LogisticRegression(), cv=2),
}


@pytest.mark.parametrize("inside", INSIDE.values(), ids=INSIDE)
def test_inside_scikit_learns_tools_it_can_be_kept(inside):
    fitted = clone(inside).fit(X, Y)
    again = by_skops(fitted)
    np.testing.assert_array_equal(again.predict_proba(X), fitted.predict_proba(X))


# ---- parameters ----------------------------------------------------------------------------------

WRONG = [
    ({"recipe": "courswork"}, {}, "recipe 'courswork' is unknown; choose one of: "),
    ({"epochs": 0}, {}, "epochs=0: takes an integer "),
    ({"changes": {"learning_rate": np.inf}}, {}, "learning_rate=inf: takes a number "),
    ({"recipe": "kernel"}, {}, "use digitlib.compare.kernel.FilterKernel()"),
    ({"device": "gpu"}, {}, "device='gpu': takes auto or cpu"),
    ({"network": torch.nn.Linear, "changes": {"dropout": 0.1}}, {}, "of your own has no setting "),
    ({}, {"X": X[:, :1]}, "X has 1 feature(s), not a square image; give 4, 9, 16, ... such as 64"),
    ({}, {"y": np.zeros(300, dtype=int)}, "; a classifier needs at least 2"),
]


@pytest.mark.parametrize(("wrong", "data", "expected"), WRONG)
def test_wrong_parameter_or_data_gets_its_own_line(wrong, data, expected):
    with pytest.raises(ParameterError) as caught:
        DigitClassifier(**{"epochs": 1, **wrong}).fit(**{"X": X, "y": Y, **data})
    assert expected in str(caught.value) and "\n" not in str(caught.value)


def test_changes_replace_the_recipes_settings():
    changed = DigitClassifier(epochs=3, changes={"batch_size": np.int64(32)}).settings()
    assert (changed.epochs, changed.batch_size) == (3, 32)
    assert changed.changes() == {"epochs": (3, 10), "batch_size": (32, 64)}
    assert DigitClassifier(recipe=changed).settings() == changed
    assert DigitClassifier().settings() == get_recipe("coursework")


@pytest.mark.parametrize(("recipe", "times"), [("accurate", 2), ("coursework", 3)])
def test_a_recipe_learns_from_larger_images_of_0_to_255(recipe, times):
    large = np.kron(X.reshape(-1, 8, 8), np.ones((times, times))).astype(np.uint8) * 15
    large = np.pad(large, ((0, 0), (2, 2), (2, 2))).reshape(300, -1)  # 28x28, of three times
    classifier = DigitClassifier(recipe, 0, epochs=4, changes={"batch_size": 32})
    assert classifier.fit(large[:200], Y[:200]).score(large[200:], Y[200:]) > 0.6
