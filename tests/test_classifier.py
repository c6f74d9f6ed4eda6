"""DigitClassifier: scikit-learn's contract, its own parameters, and weights on disk."""

import json
import pickle

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV
from sklearn.utils.estimator_checks import parametrize_with_checks
from sklearn.utils.validation import check_is_fitted, validate_data

import digitlib
from digitlib import DigitClassifier
from digitlib.errors import DigitlibError, ParameterError, RunError
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


@parametrize_with_checks(
    [SquareImages(epochs=4, batch_size=32, learning_rate=0.003, random_state=0)]
)
def test_checks_of_scikit_learn_on_square_images(estimator, check):
    check(estimator)


# ---- beside scikit-learn's tools -----------------------------------------------------------------


@pytest.fixture(scope="module")
def rows():
    X, y = digitlib.load_digits("sklearn", return_X_y=True)
    return X[:300], y[:300]


@pytest.fixture(scope="module")
def fitted(rows):
    return DigitClassifier(epochs=3, batch_size=16, random_state=0).fit(*rows)


def weights(classifier):
    return classifier.network_.state_dict()


def equal(first, second):
    return first.keys() == second.keys() and all(
        torch.equal(first[name], second[name]) for name in first
    )


def test_fitted_attributes(fitted, rows):
    X, y = rows
    np.testing.assert_array_equal(fitted.classes_, np.arange(10))
    assert fitted.n_features_in_ == 64
    assert [record["epoch"] for record in fitted.history_] == [1, 2, 3]
    assert fitted.recipe_.batch_size == 16
    assert fitted.score(X, y) > 0.9
    probabilities = fitted.predict_proba(X)
    assert probabilities.shape == (300, 10)
    assert probabilities.dtype == np.float32
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, rtol=1e-6)
    np.testing.assert_array_equal(probabilities.argmax(axis=1), fitted.predict(X))


def test_grid_search(rows):
    classifier = DigitClassifier(epochs=2, batch_size=16, random_state=0)
    rates = {"learning_rate": [1e-6, 1e-3]}
    search = GridSearchCV(classifier, rates, cv=2, error_score="raise").fit(*rows)
    assert search.best_params_ == {"learning_rate": 1e-3}
    assert search.best_estimator_.recipe_.learning_rate == 1e-3
    assert search.score(*rows) > 0.8


def test_labels_of_text_are_given_back(rows):
    X, y = rows
    names = np.array(
        ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
    )
    classifier = DigitClassifier(epochs=3, batch_size=16, random_state=0).fit(X, names[y])
    assert classifier.classes_.tolist() == sorted(names)
    assert set(classifier.predict(X)) <= set(names)
    assert classifier.score(X, names[y]) > 0.9


def test_labels_with_gaps_and_below_zero(fitted, rows):
    X, y = rows
    classifier = clone(fitted).fit(X, 100 * y - 300)
    np.testing.assert_array_equal(classifier.classes_, 100 * np.arange(10) - 300)
    assert equal(weights(classifier), weights(fitted))
    np.testing.assert_array_equal(classifier.predict(X), 100 * fitted.predict(X) - 300)


@pytest.mark.parametrize("kind", [np.float64, np.float32, np.int16, list])
def test_type_of_the_pixels_changes_no_weight(kind, fitted, rows):
    X, y = rows
    same = X.tolist() if kind is list else X.astype(kind)
    assert equal(weights(clone(fitted).fit(same, y)), weights(fitted))


# ---- seeds ---------------------------------------------------------------------------------------


def test_same_seed_gives_bit_identical_weights(fitted, rows):
    assert equal(weights(clone(fitted).fit(*rows)), weights(fitted))
    twice = clone(fitted).fit(*rows).fit(*rows)
    assert equal(weights(twice), weights(fitted)), "a second fit starts anew"
    state = DigitClassifier(epochs=1, random_state=np.random.RandomState(7))
    assert equal(weights(clone(state).fit(*rows)), weights(clone(state).fit(*rows)))


def test_other_seed_or_none_gives_other_weights(fitted, rows):
    for random_state in (1, None):
        other = clone(fitted).set_params(random_state=random_state).fit(*rows)
        assert not equal(weights(other), weights(fitted))


# ---- parameters ----------------------------------------------------------------------------------

WRONG = [
    ({"recipe": "courswork"}, "recipe 'courswork' is unknown; choose one of: "),
    ({"recipe": None}, "recipe None is unknown"),
    ({"recipe": ["coursework"]}, "is unknown; choose one of"),
    ({"epochs": 0}, "epochs=0: takes an integer "),
    ({"epochs": -1}, "epochs=-1: takes an integer "),
    ({"epochs": 2.0}, "epochs=2.0: takes an integer "),
    ({"epochs": "10"}, "epochs='10': takes an integer "),
    ({"epochs": True}, "epochs=True: takes an integer "),
    ({"batch_size": 0}, "batch_size=0: takes an integer "),
    ({"batch_size": 6.4}, "batch_size=6.4: takes an integer "),
    ({"learning_rate": 0.0}, "learning_rate=0.0: takes a number "),
    ({"learning_rate": -1e-3}, "learning_rate=-0.001: takes a number "),
    ({"learning_rate": float("nan")}, "learning_rate=nan: takes a number "),
    ({"learning_rate": float("inf")}, "learning_rate=inf: takes a number "),
    ({"learning_rate": "fast"}, "learning_rate='fast': takes a number "),
    ({"recipe": "instant"}, "epochs=1 has no effect on recipe instant; change one of: network"),
    ({"device": "gpu"}, "device='gpu': takes 'auto', 'cpu' or 'cuda'"),
    ({"device": None}, "device=None: takes 'auto', 'cpu' or 'cuda'"),
]


@pytest.mark.parametrize(
    ("wrong", "expected"), WRONG, ids=[f"{k}={v}" for wrong, _ in WRONG for k, v in wrong.items()]
)
def test_wrong_parameter_gets_its_own_line(wrong, expected, rows):
    with pytest.raises(ParameterError) as caught:
        DigitClassifier(**{"epochs": 1, **wrong}).fit(*rows)
    assert expected in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_cuda_where_there_is_none(rows):
    with pytest.raises(ParameterError, match=r"^device='cuda': torch sees no .*='auto' or 'cpu'$"):
        DigitClassifier(device="cuda").fit(*rows)


@pytest.mark.parametrize("random_state", ["zero", -1, 0.5])
def test_wrong_seed(random_state, rows):
    with pytest.raises(ValueError, match=r"(?i)seed"):
        DigitClassifier(epochs=1, random_state=random_state).fit(*rows)


@pytest.mark.parametrize("n", [1, 2, 3, 63, 65])
def test_images_that_are_not_square(n):
    said = rf"^X has {n} feature\(s\), not a square image; give 4, 9, 16, \.\.\. such as 64"
    with pytest.raises(ParameterError, match=said):
        DigitClassifier(epochs=1).fit(np.zeros((10, n)), np.arange(10) % 2)


@pytest.mark.parametrize("side", [2, 3, 11])
def test_images_of_other_sizes(side):
    rng = np.random.default_rng(0)
    X = rng.integers(0, 16, size=(40, side * side))
    assert DigitClassifier(epochs=1, random_state=0).fit(X, X[:, 0] > 7).predict(X).shape == (40,)


def test_one_class_only(rows):
    with pytest.raises(DigitlibError, match=r"1 class.*needs at least 2"):
        DigitClassifier(epochs=1).fit(rows[0], np.zeros(300, dtype=int))


def test_eval_set_with_a_class_that_was_not_trained(rows):
    X, y = rows
    known = y < 9
    said = r"^eval_set holds class .*9.*, which y does not; add training rows of it$"
    with pytest.raises(ParameterError, match=said):
        DigitClassifier(epochs=1).fit(X[known], y[known], eval_set=(X, y))


def test_override_replaces_the_recipes_setting():
    recipe = get_recipe("coursework")
    assert DigitClassifier().settings() == recipe
    changed = DigitClassifier(epochs=3, batch_size=np.int64(32), learning_rate=1).settings()
    assert (changed.epochs, changed.batch_size, changed.learning_rate) == (3, 32, 1)
    assert changed.dropout == recipe.dropout
    assert DigitClassifier(recipe=changed).settings() == changed


def shortest(recipe):
    return DigitClassifier(recipe, epochs=1 if RECIPES[recipe].learned else None, random_state=0)


@pytest.mark.parametrize(
    ("recipe", "times"), [*((name, 2) for name in RECIPES if name != "coursework"), ("accurate", 3)]
)
def test_every_recipe_learns_from_larger_images_of_0_to_255(recipe, times, rows):
    X, y = rows
    large = np.kron(X.reshape(-1, 8, 8), np.ones((times, times))).astype(np.uint8) * 15
    if times == 3:
        large = np.pad(large, ((0, 0), (2, 2), (2, 2)))  # 28x28
    large = large.reshape(len(X), -1)
    learned = RECIPES[recipe].learned
    classifier = DigitClassifier(
        recipe, epochs=4 if learned else None, batch_size=32 if learned else None, random_state=0
    )
    assert classifier.fit(large[:200], y[:200]).score(large[200:], y[200:]) > 0.6


@pytest.mark.parametrize("recipe", ["fast", "balanced"])  # without and with augmentation
def test_images_of_28_by_28_with_255_values(recipe):
    digits = digitlib.load_digits()
    large = np.zeros((900, 28, 28), dtype=np.uint8)
    large[:, 2:26, 2:26] = np.kron(digits.images[:900], np.ones((3, 3))) * 255 // 16
    X, y = large.reshape(900, -1), digits.target[:900]
    classifier = DigitClassifier(recipe, random_state=0, epochs=1).fit(X[:700], y[:700])
    assert classifier.scaler_.scale_.max() == 255, "the range comes from the data"
    assert classifier.score(X[700:], y[700:]) > 0.9


# ---- weights on disk -----------------------------------------------------------------------------


@pytest.mark.parametrize("recipe", RECIPES)
def test_every_recipe_trained_saved_and_loaded_gives_the_same_bits(recipe, rows, tmp_path):
    fitted = shortest(recipe).fit(*rows)
    fitted.save(tmp_path / "it.safetensors", fold=3)
    loaded = DigitClassifier.load(tmp_path / "it.safetensors")
    probabilities = fitted.predict_proba(rows[0])
    assert fitted.recipe_.name == recipe and np.isfinite(probabilities).all()
    np.testing.assert_array_equal(loaded.predict_proba(rows[0]), probabilities)
    np.testing.assert_array_equal(loaded.classes_, fitted.classes_)
    assert loaded.history_ == fitted.history_
    assert loaded.settings() == loaded.recipe_ == fitted.recipe_
    assert loaded.n_features_in_ == 64
    assert loaded.metadata_["fold"] == 3


def test_saved_labels_of_text_come_back(rows, tmp_path):
    X, y = rows
    fitted = DigitClassifier(epochs=1, random_state=0).fit(X, np.where(y % 2, "odd", "even"))
    fitted.save(tmp_path / "text.safetensors")
    loaded = DigitClassifier.load(tmp_path / "text.safetensors")
    np.testing.assert_array_equal(loaded.predict(X), fitted.predict(X))


def test_file_holds_numbers_and_text_only(fitted, tmp_path):
    fitted.save(tmp_path / "it.safetensors")
    with safe_open(tmp_path / "it.safetensors", "np") as file:
        assert json.loads(file.metadata()["recipe"])["name"] == "coursework"
        names = [key for key in file.keys() if key.startswith("network.")]  # noqa: SIM118
        assert sum(file.get_tensor(name).size for name in names) == 151_306
        assert file.get_tensor("scaler.mean").shape == (64,)


def test_pickled_and_copied_gives_the_same_bits(fitted, rows):
    copied = pickle.loads(pickle.dumps(fitted))
    np.testing.assert_array_equal(copied.predict_proba(rows[0]), fitted.predict_proba(rows[0]))
    assert equal(weights(copied.fit(*rows)), weights(fitted))


def rewrite(path, change):
    with safe_open(path, "pt") as file:
        tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
        header = dict(file.metadata())
    change(tensors, header)
    save_file(tensors, path, header)


def lose_a_tensor(tensors, header):
    tensors.pop(next(name for name in tensors if name.startswith("network.")))


def cut_tensors(tensors, header):
    tensors.update({name: t[:1] for name, t in tensors.items() if name.startswith("network.")})


def add_a_setting(tensors, header):
    header["recipe"] = json.dumps({**json.loads(header["recipe"]), "flavour": 1})


def become_a_folder(path):
    path.unlink()
    path.mkdir()


DAMAGES = {
    "a tensor is missing": lambda path: rewrite(path, lose_a_tensor),
    "no scaler": lambda path: rewrite(path, lambda tensors, header: tensors.pop("scaler.mean")),
    "tensors of another shape": lambda path: rewrite(path, cut_tensors),
    "an unknown setting": lambda path: rewrite(path, add_a_setting),
    "no JSON": lambda path: rewrite(path, lambda _, header: header.update(classes="[0, 1,")),
    "no header": lambda path: rewrite(path, lambda tensors, header: header.clear()),
    "another program's": lambda p: save_file({"weight": torch.zeros(3)}, p, {"format": '"pt"'}),
    "truncated": lambda path: path.write_bytes(path.read_bytes()[:-100]),
    "truncated in the header": lambda path: path.write_bytes(path.read_bytes()[:50]),
    "empty": lambda path: path.write_bytes(b""),
    "text": lambda path: path.write_text("weights\n" * 100),
    "a pickle": lambda path: path.write_bytes(pickle.dumps({"weights": [1.0] * 100})),
    "missing": lambda path: path.unlink(),
    "a folder": become_a_folder,
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_file_is_refused(damage, fitted, tmp_path):
    path = tmp_path / "it.safetensors"
    fitted.save(path)
    DAMAGES[damage](path)
    with pytest.raises(
        RunError, match=r"not a digitlib weights file \(.*\); train again$"
    ) as caught:
        DigitClassifier.load(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)
