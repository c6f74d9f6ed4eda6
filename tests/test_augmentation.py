"""Changed, rewritten and drawn images: other hands, the same digit."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn.svm import SVC

from digitlib import load_digits
from digitlib.augmentation import augment, shifted
from digitlib.handwriting import hands
from digitlib.handwriting.hands import FORMS, draw, enlarge, examples, rewrite
from digitlib.recipes import RECIPES

X, Y = load_digits(return_X_y=True)
IMAGES = torch.tensor(X[:400].reshape(-1, 1, 8, 8) / 16, dtype=torch.float32)
DIGITS = np.arange(10)
HANDWRITING = RECIPES["handwriting"]
N_FORMS = sum(map(len, FORMS.values()))


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.fixture(scope="module")
def reader():
    """Knows 3,000 rows of the data, as they are."""
    return SVC(C=10, gamma=0.2).fit(X[:3000] / 16, Y[:3000])


# ---- small changes -------------------------------------------------------------------------------


def centre(x):
    weights = x.sum((1, 2, 3))
    steps = torch.arange(x.shape[-1], dtype=x.dtype)
    return (x.sum((1, 2)) * steps).sum(1) / weights, (x.sum((1, 3)) * steps).sum(1) / weights


def test_same_generator_gives_the_same_bits_and_strength_0_changes_nothing():
    changed = augment(IMAGES, 1.0, generator())
    assert torch.equal(augment(IMAGES, 1.0, generator()), changed)
    assert not torch.equal(augment(IMAGES, 1.0, generator(1)), changed)
    assert augment(IMAGES, 0.0, generator()) is IMAGES


def test_ink_stays_ink_and_where_it_was():
    changed = augment(IMAGES, 1.0, generator())
    assert changed.min() >= 0 and changed.max() <= 1
    assert abs(changed.sum() / IMAGES.sum() - 1) < 0.05
    for before, after in zip(centre(IMAGES), centre(changed), strict=True):
        # No digit moves by more than the shift and the bending together, and there is no drift.
        assert (after - before).abs().max() < 1.5
        assert abs((after - before).mean()) < 0.05


def test_shifts_are_in_pixels_of_an_8x8_image_whatever_the_size():
    for side in (8, 28):
        x = torch.zeros(1, 1, side, side)
        x[..., side // 2, side // 2] = 1.0
        views = shifted(x, 1.0)
        assert len(views) == 9
        torch.testing.assert_close(views[4], x)
        # dy = 0, dx = -1: the sampling grid moves left, the ink right
        assert centre(views[3])[0].item() - side // 2 == pytest.approx(side / 8, abs=0.01)
    assert shifted(IMAGES, 0.0) == [IMAGES]


# ---- other hands ---------------------------------------------------------------------------------


def test_rewriting_bends_but_keeps_the_digit(reader):
    rows = slice(3000, 3400)
    written = [rewrite(X[rows], generator(seed)) for seed in range(6)]
    assert np.array_equal(written[0], rewrite(X[rows], generator()))
    assert np.linalg.norm(written[0].astype(float) - X[rows], axis=1).mean() > 8
    # Over six draws: a single one of 400 images is off by a point either way.
    assert np.mean([reader.score(images / 16, Y[rows]) for images in written]) > 0.85


# Of each digit, how many forms come first that the data's writers have, too.
USUAL = (3, 6, 3, 2, 4, 2, 2, 4, 2, 3)


def test_drawn_digits_are_read_by_who_knows_only_the_data(reader, monkeypatch):
    drawn, digits = draw(10, seed=0)
    assert drawn.shape == (10 * N_FORMS, 64)
    assert drawn.dtype == np.uint8 and drawn.max() <= 16 and set(digits) == set(range(10))
    assert reader.score(drawn / 16, digits) > 0.65  # many forms are foreign to the data
    one, again, other = (draw(1, seed)[0] for seed in (0, 0, 1))
    assert np.array_equal(one, again) and not np.array_equal(one, other)
    # Forms that the data have, upright as there.
    forms = zip(USUAL, hands.FORMS.items(), strict=True)
    monkeypatch.setattr(hands, "FORMS", {d: found[:n] for n, (d, found) in forms})
    monkeypatch.setattr(hands, "DRAWN_SLANT", (-0.35, 0.35))
    monkeypatch.setattr(hands, "PROPORTION", 0)
    drawn, digits = draw(10, seed=0)
    assert reader.score(drawn / 16, digits) > 0.8


def test_rows_of_the_data_come_first_and_stay_as_they_are():
    recipe = replace(HANDWRITING, rewrites=2, drawn=1)
    rows, targets = enlarge(X[:50], Y[:50], DIGITS, recipe, generator())
    assert rows.shape == (150 + N_FORMS, 64)
    assert np.array_equal(rows[:50], X[:50]) and not np.array_equal(rows[50:100], X[:50])
    assert np.array_equal(targets[:150], np.tile(Y[:50], 3))
    floats, _ = enlarge(X[:50].astype(float), Y[:50], DIGITS, recipe, generator())
    assert np.array_equal(floats, rows)


@pytest.mark.parametrize("classes", [["a", "b"], [0, 1], [False, True]], ids=str)
def test_no_digit_is_drawn_for_labels_that_may_not_be_digits(classes):
    """0 and 1 may mean "another digit" and "a five"."""
    recipe = replace(HANDWRITING, rewrites=1, drawn=1)
    _, targets = enlarge(X[:9], Y[:9] % 2, np.array(classes), recipe, generator())
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
    times = HANDWRITING.rewrites + 1
    assert np.array_equal(rows, np.tile(other, (times, 1)))
    assert np.array_equal(targets, np.tile(Y[:20], times))


@pytest.mark.parametrize("name", ["best", "accurate", "handwriting"])
def test_examples_begin_with_the_originals(name):
    originals = X[:5].reshape(-1, 8, 8)
    views = examples(originals, RECIPES[name], seed=0)
    assert views.shape == (20, 8, 8)
    assert np.array_equal(views[:5], originals)
    assert views.min() >= 0 and views.max() <= 16
