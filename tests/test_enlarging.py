"""Rewritten and drawn digits: other hands, the same digit."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn.neighbors import KNeighborsClassifier
from sklearn.svm import SVC

from digitlib import DigitClassifier, load_digits
from digitlib import augmentation as strokes
from digitlib.augmentation import enlarge, examples, rewrite
from digitlib.recipes import RECIPES

X, Y = load_digits(return_X_y=True)
DIGITS = np.arange(10)
HANDWRITING = RECIPES["handwriting"]


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def test_rewriting_bends_but_keeps_the_digit():
    neighbours = KNeighborsClassifier(1).fit(X[:3000], Y[:3000])
    rows = slice(3000, 3400)
    written = rewrite(X[rows], generator())
    assert np.array_equal(written, rewrite(X[rows], generator()))
    assert np.linalg.norm(written.astype(float) - X[rows], axis=1).mean() > 8
    # Over six draws: a single one of 400 images is off by a point either way.
    assert (
        np.mean([neighbours.score(rewrite(X[rows], generator(seed)), Y[rows]) for seed in range(6)])
        > 0.85
    )


def test_drawn_digits_are_read_by_who_knows_only_the_data():
    drawn, digits = strokes.draw(10, seed=0)
    assert drawn.shape == (10 * sum(map(len, strokes.FORMS.values())), 64)
    assert drawn.dtype == np.uint8 and drawn.max() <= 16 and set(digits) == set(range(10))
    assert SVC(C=10, gamma=0.2).fit(X / 16, Y).score(drawn / 16, digits) > 0.8
    assert not np.array_equal(drawn, strokes.draw(10, seed=1)[0])
    assert np.array_equal(drawn, strokes.draw(10, seed=0)[0])


def test_rows_of_the_data_come_first_and_stay_as_they_are():
    recipe = replace(HANDWRITING, rewrites=2, drawn=1)
    rows, targets = enlarge(X[:50], Y[:50], DIGITS, recipe, generator())
    forms = sum(map(len, strokes.FORMS.values()))
    assert rows.shape == (150 + forms, 64)
    assert np.array_equal(rows[:50], X[:50]) and not np.array_equal(rows[50:100], X[:50])
    assert np.array_equal(targets[:150], np.tile(Y[:50], 3))


@pytest.mark.parametrize(
    "classes",
    [np.array(["a", "b"]), np.array([0, 1]), np.array([False, True])],
    ids=["text", "0 and 1", "bool"],
)
def test_no_digit_is_drawn_for_labels_that_may_not_be_digits(classes):
    """0 and 1 may mean "another digit" and "a five"."""
    _, targets = enlarge(
        X[:9], Y[:9] % 2, classes, replace(HANDWRITING, rewrites=1, drawn=1), generator()
    )
    assert len(targets) == 18


OTHERS = {
    "16x16": np.repeat(X[:20], 4, axis=1),
    "0..240": X[:20].astype(int) * 15,
    "-8..8": X[:20] - 8.0,
    "0..1": X[:20] / 16,
}


@pytest.mark.parametrize("other", OTHERS.values(), ids=OTHERS)
def test_other_images_are_repeated(other):
    rows, targets = enlarge(other, Y[:20], DIGITS, HANDWRITING, generator())
    assert np.array_equal(rows, np.tile(other, (3, 1)))
    assert np.array_equal(targets, np.tile(Y[:20], 3))


def test_float_images_of_0_to_16_are_the_same_images():
    rows, _ = enlarge(X[:20].astype(float), Y[:20], DIGITS, HANDWRITING, generator())
    assert np.array_equal(rows, enlarge(X[:20], Y[:20], DIGITS, HANDWRITING, generator())[0])


def test_drawn_digits_teach():
    drawn, digits = strokes.draw(12, seed=5)
    plain = DigitClassifier(
        replace(HANDWRITING, epochs=1, rewrites=1, drawn=None), random_state=0
    ).fit(X[:1500], Y[:1500])
    taught = DigitClassifier(
        replace(HANDWRITING, epochs=1, rewrites=1, drawn=60), random_state=0
    ).fit(X[:1500], Y[:1500])
    assert taught.score(drawn, digits) > plain.score(drawn, digits)


@pytest.mark.parametrize("name", ["balanced", "accurate", "handwriting"])
def test_examples_begin_with_the_originals(name):
    originals = load_digits().images[:5]
    views = examples(originals, RECIPES[name], seed=0)
    assert views.shape == (20, 8, 8)
    assert np.array_equal(views[:5], originals)
    assert views.min() >= 0 and views.max() <= 16
