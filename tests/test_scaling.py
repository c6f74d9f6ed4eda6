"""Statistics of the pixels, checked against the published experiment and by hand."""

import numpy as np
import pytest

import digitlib
from digitlib.scaling import PixelScaler

X = digitlib.load_digits(return_X_y=True)[0]
# First row after standardisation on all 5,620 rows, from the published experiment.
PUBLISHED_START = [0, 0.79313327, 0.12986348, 0.74831744, 0.09450787, -0.81585144]
PUBLISHED_END = [0.04770289, 0.46244502, -0.9190364, -0.98379588, -0.51724355, -0.1791362]


def test_published_first_vector():
    first = PixelScaler("standard").fit(X).transform(X[:1])[0]
    np.testing.assert_allclose(first[:6], PUBLISHED_START, rtol=1e-6)
    np.testing.assert_allclose(first[-6:], PUBLISHED_END, rtol=1e-6)


@pytest.mark.parametrize("value", [0, 7])
def test_constant_pixels_do_not_divide_by_zero(value):
    rows = np.column_stack([np.full(5, value), np.arange(5)]).astype(np.uint8)
    with np.errstate(all="raise"):
        scaler = PixelScaler("standard").fit(rows)
        scaled = scaler.transform(rows)
    assert not scaled[:, 0].any()
    assert np.isfinite(scaler.transform(rows + 1)).all()
    assert scaler.scale_.all()


def test_statistics_are_those_of_the_fitted_rows_alone():
    """Held-out rows are moved by the training rows' statistics, whatever they hold themselves."""
    train, held_out = X[:1000], X[1000:1010]
    scaler = PixelScaler("standard").fit(train)
    deviation = train.std(axis=0)
    deviation[deviation == 0] = 1
    expected = (held_out - train.mean(axis=0)) / deviation
    np.testing.assert_allclose(scaler.transform(held_out), expected, rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(scaler.transform(held_out[:1]), scaler.transform(held_out)[:1])


def test_range_divides_all_pixels_by_the_largest():
    scaler = PixelScaler("range").fit(X)
    np.testing.assert_array_equal(scaler.transform(X), (X / 16).astype(np.float32))
    assert not PixelScaler("range").fit(np.zeros((3, 4))).transform(np.zeros((3, 4))).any()


@pytest.mark.parametrize("kind", ["standard", "range"])
def test_scaled_rows_are_float32_and_the_given_rows_stay_as_they_are(kind):
    rows = X[:50].copy()
    assert PixelScaler(kind).fit(rows).transform(rows).dtype == np.float32
    np.testing.assert_array_equal(rows, X[:50])
