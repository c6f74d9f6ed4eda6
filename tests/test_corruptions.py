"""Digits made harder to read: what is changed is what the name says, and the rest stays."""

import numpy as np
import pytest

from digitlib import corruptions, normalisation


@pytest.fixture(scope="module")
def images(digits):
    return digits.data[:200]


@pytest.fixture(scope="module")
def changed(images):
    return {(name, strength): X for name, _, strength, X in corruptions.corrupted(images)}


def test_ink_holds_as_many_pixels_as_were_counted_in_each_block(images):
    ink = corruptions.to_ink(images)
    assert (normalisation.count_blocks(ink).reshape(-1, 64) == images).all()


def test_strength_0_is_nearly_the_stored_image_and_more_strength_changes_more(images, changed):
    names = dict.fromkeys(name for name, _ in changed)
    for name in names:
        strengths = [strength for other, strength in changed if other == name]
        apart = [np.abs(changed[name, s].astype(int) - images).mean() for s in strengths]
        assert strengths[0] == 0 and apart[0] < 1.5, name
        assert (np.diff(apart) > 0).all(), name
        assert all(changed[name, s].max() <= 16 for s in strengths)


def test_pens_change_the_ink_as_they_are_named_and_covering_only_takes_ink_away(changed):
    ink = {key: X.sum(dtype=int) for key, X in changed.items()}
    assert ink["thinner", 1] < ink["thinner", 0] == ink["thicker", 0] < ink["thicker", 3]
    assert (changed["covered", 16] <= changed["covered", 0]).all()


def test_a_shift_moves_every_image_one_way_and_half_the_turns_are_to_the_left(images, changed):
    whole = normalisation.count_blocks(np.roll(corruptions.to_ink(images[:4]), 4, axis=2))
    shifted = corruptions._shifted(corruptions.to_ink(images[:4]), 4, None)
    assert (normalisation.count_blocks(shifted)[0, :, 1:] == whole[0, :, 1:]).all()
    assert (normalisation.count_blocks(shifted)[0, :, 0] == 0).all()
    bar = np.zeros((2, 32, 32), bool)
    bar[:, 2:30, 15:17] = True
    left, right = corruptions._turned(bar, 20, None)
    assert (left[:, ::-1] == right).mean() > 0.98 and (left != right).any()


def test_the_same_seed_gives_the_same_specks(images):
    one, two, other = (list(corruptions.corrupted(images[:5], seed)) for seed in (0, 0, 1))
    assert all((a[3] == b[3]).all() for a, b in zip(one, two, strict=True))
    assert any((a[3] != b[3]).any() for a, b in zip(one, other, strict=True))
