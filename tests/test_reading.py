"""Pictures read by a small run made here, the warnings, and `digitlib predict`."""

import json
from pathlib import Path

import numpy as np
import photos
import pytest
from PIL import Image

import digitlib
from digitlib import cross_validate, load_digits, runs
from digitlib.compare.kernel import FilterKernel
from digitlib.handwriting import read as reading
from digitlib.handwriting.read import Reader

DRAWINGS = Path(digitlib.__file__).parent / "drawings"


@pytest.fixture(scope="session")
def small_run(tmp_path_factory):
    """The recipe `kernel` on two folds: it is made in a second and reads drawings that are easy."""
    folder = tmp_path_factory.mktemp("reports") / "small"
    digits = load_digits()
    result = cross_validate(FilterKernel(0), digits.data, digits.target, n_splits=2, progress=False)
    return runs.save(result, digits, folder, seed=0)


@pytest.fixture(scope="session")
def reader(small_run):
    return Reader(small_run)


def test_drawings_are_read_and_json_holds_what_the_text_says(small_run, command):
    pictures = DRAWINGS / "seven.png", DRAWINGS / "line.png"
    code, out, _ = command("predict", *pictures, "--run", small_run)
    assert code == 0
    assert "seven.png: 7 (" in out
    assert "second guess" in out
    assert "line.png: 5620 (4 digits)" in out
    code, out, _ = command("predict", *pictures, "--json", "--run", small_run)
    assert code == 0
    seven, line = (picture["digits"] for picture in json.loads(out)["pictures"])
    assert [digit["digit"] for digit in seven + line] == [7, 5, 6, 2, 0]
    assert seven[0]["probability"] > seven[0]["second_probability"]
    assert len(seven[0]["pixels"]) == 64


def test_a_scribble_is_warned_of_and_held_out_digits_are_not(reader):
    warnings = reader.read(DRAWINGS / "scribble.png")[0].warnings
    assert any(warning.startswith("Unusual shape") for warning in warnings)
    sure = runs.load(reader.run).probabilities.max(axis=1)
    assert 0.005 < (sure < reader.limits.probability).mean() < 0.015
    assert 15 < reader.limits.distance < 40
    line = reader.read(DRAWINGS / "line.png")
    assert not any(reading.warnings for reading in line)


@pytest.mark.parametrize("kind", ["squared", "ruled", "dark side", "touching"])
def test_what_disturbs_is_told_where_a_number_is_wrong(reader, kind):
    quiet = 0
    for seed in (9, 10, 11):  # photos that were not looked at while the rules were chosen
        picture, [row] = photos.photo(kind, seed)
        readings = reader.read(picture)
        found = len(readings) == len(row)
        quiet += not found and not any(reading.warnings for reading in readings)
    assert quiet == 0


def test_covering_ink_matters_where_ink_is(reader):
    reading = reader.read(DRAWINGS / "seven.png")[0]
    drops = reader.importance(reading)
    inked = reading.found.pixels.reshape(8, 8) > 0
    assert drops.shape == (8, 8)
    assert np.abs(drops[inked]).mean() > np.abs(drops[~inked]).mean()


def test_what_was_left_out_is_told_and_shown(small_run, tmp_path, command):
    page = np.asarray(Image.open(DRAWINGS / "seven.png")).copy()
    page[60:90, -3:] = 40  # the table beside the paper
    Image.fromarray(page).save(tmp_path / "page.png")
    words = tmp_path / "page.png", "--show", tmp_path / "shown.png", "--run", small_run
    code, out, _ = command("predict", *words)
    assert code == 0 and "some ink was left out" in out
    shown = np.asarray(Image.open(tmp_path / "shown.png"))
    assert (shown == reading.RED).all(axis=2).any() and (shown == reading.BLUE).all(axis=2).any()
    code, _, err = command("predict", *words, DRAWINGS / "line.png")
    assert code == 2 and "--show takes one picture, not 2" in err
