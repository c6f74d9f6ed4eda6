"""DigitClassifier: scikit-learn's contract, its own parameters, and weights on disk."""

import pickle

import numpy as np
import pytest
import torch
from conftest import same_weights
from safetensors import safe_open
from safetensors.torch import save_file
from sklearn.base import clone
from sklearn.utils.estimator_checks import parametrize_with_checks
from sklearn.utils.validation import check_is_fitted, validate_data

from digitlib import DigitClassifier, load_digits
from digitlib.errors import ParameterError, RunError
from digitlib.recipes import RECIPES, get_recipe

# Checks of scikit-learn that make up rows of 2, 3, 5 or 10 features, where an image of side x side
# pixels is needed.
NOT_SQUARE = """
fit_score_takes_y estimators_overwrite_params dont_overwrite_parameters estimators_fit_returns_self
readonly_memmap_input estimators_dtypes dtype_object pipeline_consistency estimators_nan_inf
estimators_pickle f_contiguous_array_estimator classifier_data_not_an_array classifiers_classes
classifiers_train supervised_y_2d methods_sample_order_invariance methods_subset_invariance
dict_unchanged fit_idempotent fit_check_is_fitted n_features_in fit2d_predict1d
"""
X, Y = (part[:300] for part in load_digits("sklearn", return_X_y=True))
FAILED = {f"check_{name}": "not square; SquareImages passes it" for name in NOT_SQUARE.split()}


@parametrize_with_checks(
    [DigitClassifier(epochs=1, random_state=0)], expected_failed_checks=lambda estimator: FAILED
)
def test_checks_of_scikit_learn(estimator, check):
    check(estimator)


class SquareImages(DigitClassifier):
    """Repeats the features until they fill 6 x 6 pixels, so that those checks apply as well."""

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


SQUARE = SquareImages(epochs=4, batch_size=32, learning_rate=0.003, random_state=0)


@parametrize_with_checks([SQUARE])
def test_checks_of_scikit_learn_on_square_images(estimator, check):
    check(estimator)


# ---- beside scikit-learn's tools -----------------------------------------------------------------


@pytest.fixture(scope="module")
def fitted():
    return DigitClassifier(epochs=3, batch_size=16, random_state=0).fit(X, Y)


def test_fitted_attributes(fitted):
    np.testing.assert_array_equal(fitted.classes_, np.arange(10))
    assert fitted.n_features_in_ == 64
    assert [record["epoch"] for record in fitted.history_] == [1, 2, 3]
    assert fitted.recipe_.batch_size == 16
    assert fitted.score(X, Y) > 0.9
    assert fitted.predict_proba(X).dtype == np.float32


WORDS = np.array(["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"])


@pytest.mark.parametrize("labels", [WORDS, 100 * np.arange(10) - 300], ids=["text", "numbers"])
def test_labels_are_given_back_and_kept_on_disk(labels, fitted, tmp_path):
    classifier = clone(fitted).fit(X, labels[Y])
    assert classifier.classes_.tolist() == sorted(labels)
    assert classifier.score(X, labels[Y]) > 0.9
    classifier.save(tmp_path / "it.safetensors")
    loaded = DigitClassifier.load(tmp_path / "it.safetensors")
    np.testing.assert_array_equal(loaded.predict(X), classifier.predict(X))


@pytest.mark.parametrize("kind", [np.float64, np.float32, list])
def test_type_of_the_pixels_changes_no_weight(kind, fitted):
    same = X.tolist() if kind is list else X.astype(kind)
    assert same_weights(clone(fitted).fit(same, Y), fitted)


# ---- seeds ---------------------------------------------------------------------------------------


def test_same_seed_gives_bit_identical_weights(fitted):
    assert same_weights(clone(fitted).fit(X, Y), fitted)
    state = DigitClassifier(epochs=1, random_state=np.random.RandomState(7))
    assert same_weights(clone(state).fit(X, Y), clone(state).fit(X, Y))


def test_pickled_and_copied_gives_the_same_bits_and_a_second_fit_starts_anew(fitted):
    copied = pickle.loads(pickle.dumps(fitted))
    np.testing.assert_array_equal(copied.predict_proba(X), fitted.predict_proba(X))
    assert same_weights(copied.fit(X, Y), fitted)


@pytest.mark.parametrize("random_state", [1, None])
def test_other_seed_or_none_gives_other_weights(random_state, fitted):
    other = clone(fitted).set_params(random_state=random_state).fit(X, Y)
    assert not same_weights(other, fitted)


# ---- parameters ----------------------------------------------------------------------------------

WRONG = [
    ({"recipe": "courswork"}, {}, "recipe 'courswork' is unknown; choose one of: "),
    ({"epochs": 0}, {}, "epochs=0: takes an integer "),
    ({"batch_size": 6.4}, {}, "batch_size=6.4: takes an integer "),
    ({"learning_rate": 0.0}, {}, "learning_rate=0.0: takes a number "),
    ({"learning_rate": np.inf}, {}, "learning_rate=inf: takes a number "),
    ({"recipe": "kernel"}, {}, "epochs=1 has no effect on recipe kernel; change one of: network"),
    ({"device": "gpu"}, {}, "device='gpu': takes 'auto', 'cpu' or 'cuda'"),
    ({"device": None}, {}, "device=None: takes 'auto', 'cpu' or 'cuda'"),
    ({}, {"X": X[:, :1]}, "X has 1 feature(s), not a square image; give 4, 9, 16, ... such as 64"),
    ({}, {"X": X[:, :63]}, "X has 63 feature(s), not a square image; give 4, 9, 16, ... such as"),
    ({}, {"y": np.zeros(300, dtype=int)}, "; a classifier needs at least 2"),
    ({}, {"y": Y % 9, "eval_set": (X, Y)}, "which y does not; add training rows of it"),
]


@pytest.mark.parametrize(("wrong", "data", "expected"), WRONG)
def test_wrong_parameter_or_data_gets_its_own_line(wrong, data, expected):
    with pytest.raises(ParameterError) as caught:
        DigitClassifier(**{"epochs": 1, **wrong}).fit(**{"X": X, "y": Y, **data})
    assert expected in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_cuda_where_there_is_none():
    with pytest.raises(ParameterError, match=r"^device='cuda': torch sees no .*='auto' or 'cpu'$"):
        DigitClassifier(device="cuda").fit(X, Y)


def test_override_replaces_the_recipes_setting():
    recipe = get_recipe("coursework")
    assert DigitClassifier().settings() == recipe
    changed = DigitClassifier(epochs=3, batch_size=np.int64(32), learning_rate=1).settings()
    assert (changed.epochs, changed.batch_size, changed.learning_rate) == (3, 32, 1)
    assert changed.dropout == recipe.dropout
    assert DigitClassifier(recipe=changed).settings() == changed


@pytest.mark.parametrize(
    ("recipe", "times"), [*((name, 2) for name in RECIPES if name != "coursework"), ("accurate", 3)]
)
def test_every_recipe_learns_from_larger_images_of_0_to_255(recipe, times):
    large = np.kron(X.reshape(-1, 8, 8), np.ones((times, times))).astype(np.uint8) * 15
    if times == 3:
        large = np.pad(large, ((0, 0), (2, 2), (2, 2)))  # 28x28
    large = large.reshape(300, -1)
    some = {"epochs": 4, "batch_size": 32} if RECIPES[recipe].learned else {}
    classifier = DigitClassifier(recipe, random_state=0, **some).fit(large[:200], Y[:200])
    assert classifier.scaler_.scale_.max() == 240, "the range comes from the data"
    assert classifier.score(large[200:], Y[200:]) > 0.6


# ---- weights on disk -----------------------------------------------------------------------------


@pytest.mark.parametrize("recipe", RECIPES)
def test_every_recipe_trained_saved_and_loaded_gives_the_same_bits(recipe, tmp_path):
    few = {"epochs": 1, "drawn": 5}
    changes = {name: few[name] for name in few if getattr(RECIPES[recipe], name)}
    fitted = DigitClassifier(recipe, random_state=0, changes=changes).fit(X, Y)
    fitted.save(tmp_path / "it.safetensors")
    loaded = DigitClassifier.load(tmp_path / "it.safetensors")
    probabilities = fitted.predict_proba(X)
    assert fitted.recipe_.name == recipe and np.isfinite(probabilities).all()
    np.testing.assert_array_equal(loaded.predict_proba(X), probabilities)
    np.testing.assert_array_equal(loaded.classes_, fitted.classes_)
    assert loaded.settings() == loaded.recipe_ == fitted.recipe_
    assert loaded.n_features_in_ == 64


def rewrite(path, change):
    with safe_open(path, "pt") as file:
        tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
        header = dict(file.metadata())
    change(tensors, header)
    save_file(tensors, path, header)


FIRST, ONE = "network.0.weight", torch.zeros(1)
DAMAGES = {
    "a tensor is missing": lambda path: rewrite(path, lambda tensors, _: tensors.pop(FIRST)),
    "an unknown setting": lambda path: rewrite(path, lambda _, h: h.update(recipe='{"hue": 1}')),
    "another program's": lambda path: save_file({"weight": ONE}, path, {"format": '"pt"'}),
    "truncated": lambda path: path.write_bytes(path.read_bytes()[:-100]),
    "a pickle": lambda path: path.write_bytes(pickle.dumps({"weights": [1.0] * 100})),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_file_is_refused(damage, fitted, tmp_path):
    path = tmp_path / "it.safetensors"
    fitted.save(path)
    DAMAGES[damage](path)
    said = r"not a digitlib weights file \(.*\); train again$"
    with pytest.raises(RunError, match=said) as caught:
        DigitClassifier.load(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)
