"""Augmented images must stay the same digit: same ink, same place, small changes, in pixels
whatever the size.
"""

from dataclasses import replace

import pytest
import torch

from digitlib import DigitClassifier, load_digits
from digitlib.augmentation import augment, shifted
from digitlib.recipes import RECIPES


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.fixture(scope="module")
def images():
    return torch.tensor(load_digits().images[:400, None] / 16, dtype=torch.float32)


def centre(x):
    weights = x.sum((1, 2, 3))
    steps = torch.arange(x.shape[-1], dtype=x.dtype)
    return (x.sum((1, 2)) * steps).sum(1) / weights, (x.sum((1, 3)) * steps).sum(1) / weights


def test_strength_0_changes_nothing(images):
    assert augment(images, 0.0, generator()) is images


def test_same_generator_gives_the_same_bits_and_another_does_not(images):
    assert torch.equal(augment(images, 1.0, generator()), augment(images, 1.0, generator()))
    assert not torch.equal(augment(images, 1.0, generator()), augment(images, 1.0, generator(1)))


def test_ink_stays_ink_and_where_it_was(images):
    changed = augment(images, 1.0, generator())
    assert changed.min() >= 0
    assert changed.max() <= 1
    assert abs(changed.sum() / images.sum() - 1) < 0.05
    for before, after in zip(centre(images), centre(changed), strict=True):
        assert (after - before).abs().max() < 1.5, (
            "no digit moves by more than the shift and the bending together"
        )
        assert abs((after - before).mean()) < 0.05, "and there is no drift"


def test_a_classifier_trained_on_plain_images_still_reads_augmented_ones():
    digits = load_digits()
    small = replace(RECIPES["fast"], layers="16p 32", learning_rate=0.02)
    plain = DigitClassifier(small, random_state=0).fit(digits.data[:3000], digits.target[:3000])
    images = torch.tensor(digits.images[3000:4000, None], dtype=torch.float32)
    changed = augment(images, 1.0, generator()).reshape(1000, 64).numpy()
    assert plain.score(changed, digits.target[3000:4000]) > 0.85


def test_shifts_are_in_pixels_of_an_8x8_image_whatever_the_size():
    for side in (8, 28):
        x = torch.zeros(1, 1, side, side)
        x[..., side // 2, side // 2] = 1.0
        right = shifted(x, 1.0)[3]  # dy = 0, dx = -1: the sampling grid moves left, the ink right
        assert centre(right)[0].item() - side // 2 == pytest.approx(side / 8, abs=0.01)


def test_nine_shifts_surround_the_image_itself(images):
    views = shifted(images, 0.4)
    assert len(views) == 9
    torch.testing.assert_close(views[4], images)
    assert shifted(images, 0.0)[0] is images
