"""Pictures of digits: how they get in, how ink is found, that the result looks like the data."""

import io
from contextlib import suppress
from pathlib import Path

import numpy as np
import photos
import pytest
from PIL import Image

from digitlib import find_digits, load_digits, prepare_image
from digitlib.errors import ImageError
from digitlib.handwriting import normalise

HERE = Path(__file__).parent
DRAWINGS = HERE.parent / "digitlib" / "drawings"


# Dark ink on light, shaded paper: uint8 (150, 130).
SEVEN = np.asarray(Image.open(DRAWINGS / "seven.png"))


def packed(picture, **options):
    stream = io.BytesIO()
    picture.save(stream, **options)
    return stream.getvalue()


GREY = Image.fromarray(SEVEN)
INK = Image.fromarray(np.where(SEVEN < 100, 255, 0).astype(np.uint8))
BLACK, WHITE = (Image.new("L", GREY.size, value) for value in (0, 255))
ODD = Image.Exif()
ODD[0x0112], ODD[0x010F] = 6, "72 dots"  # turn by 90 degrees when shown; the maker
EXIF = ODD.tobytes().replace(b"\x0f\1\2\0", b"\x1a\1\2\0")  # ... becomes a resolution in words
TURNED = GREY.rotate(90, expand=True)
# The same digit in every kind of picture.
KINDS = {
    "reverse": 255 - SEVEN,
    "colour": GREY.convert("RGB"),
    "black on nothing": Image.merge("RGBA", [BLACK] * 3 + [INK]),
    "white on nothing": Image.merge("RGBA", [WHITE] * 3 + [INK]),
    "12 bits in 16": packed(Image.fromarray(SEVEN.astype(np.uint16) * 16), format="PNG"),
    "float": SEVEN / 255,
    "float beyond 1": Image.fromarray(SEVEN * np.float32(3.7)),
    "odd exif": packed(TURNED, format="JPEG", exif=EXIF, quality=95),
    "a phone's two": packed(GREY, format="MPO", save_all=True, append_images=[WHITE], quality=90),
    "large": GREY.resize((2600, 3000), Image.Resampling.BICUBIC),
    "small": GREY.resize((43, 50), Image.Resampling.BOX),
    "bool": SEVEN < 100,
}


@pytest.mark.parametrize("kind", KINDS)
def test_one_digit_gives_the_same_pixels_in_every_kind_of_picture(kind):
    pixels, expected = prepare_image(KINDS[kind]), prepare_image(SEVEN)
    assert pixels.shape == (64,)
    assert pixels.dtype == np.uint8
    apart = np.linalg.norm(pixels.astype(float) - expected)
    assert apart < 12, np.stack([pixels, expected]).reshape(2, 8, 8)


def test_prepared_digits_have_the_ink_and_the_place_of_the_data():
    sheet = np.asarray(Image.open(HERE / "handwriting.jpg"))
    X, _ = load_digits(return_X_y=True)
    cells = sheet.reshape(10, 64, 20, 64).swapaxes(1, 2)[::2].reshape(-1, 64, 64)
    prepared = [find_digits(cell)[0].pixels for cell in cells]
    ours, theirs = (np.reshape(images, (-1, 8, 8)).mean(axis=0) for images in (prepared, X))
    assert abs(ours.mean() - theirs.mean()) < 0.3
    for axis in (0, 1):
        assert np.abs(ours.mean(axis) - theirs.mean(axis)).max() < 1.2, (ours, theirs)


def test_dashes_specks_and_the_edge_of_the_table_are_no_digits_and_the_bar_of_a_5_is_its_own():
    line = np.hstack([SEVEN, SEVEN[:, ::-1]])  # mirrored, so that the light has no step
    line[70:76, 120:140] = 40  # a dash between
    line[20:22, 132:134] = 40  # a speck
    line[:, :6] = 20  # the dark table beside the paper
    assert len(find_digits(line)) == 2
    page = np.full((120, 100), 230, np.uint8)
    page[20:26, 30:70] = 30  # bar, not touching
    page[32:60, 30:36] = page[55:61, 30:70] = page[55:100, 64:70] = page[94:100, 30:70] = 30
    assert find_digits(page)[0].box[2] - find_digits(page)[0].box[0] > 100


def test_prepare_image_takes_all_ink_as_one_digit_if_told_so():
    page = np.full((120, 100), 230, np.uint8)
    page[20:100, 25:32] = page[20:100, 68:75] = 30  # a 0 in two arcs
    with pytest.raises(ImageError, match="single=True"):
        prepare_image(page)
    whole = prepare_image(page, single=True)
    assert whole.sum() > 200
    page[4:12, 4:12] = 30  # a blot apart
    [digit] = find_digits(page, single=True)
    assert np.array_equal(digit.pixels, whole)
    assert digit.left_out[8:12, 8:12].all() and not digit.left_out[20:].any()


@pytest.mark.parametrize("kind", photos.PLAIN)
def test_digits_on_photos_are_found(kind):
    for seed in (8, 9, 10):  # not looked at while the finding was written
        picture, rows = photos.photo(kind, seed)
        assert len(find_digits(picture)) == len("".join(rows)), seed


NOISE = np.random.default_rng(0).normal(200, 8, (300, 300)).clip(0, 255).astype(np.uint8)
BAD = {
    "not an image": (
        b"just words",
        r"not a picture .*\(cannot identify image file\); takes PNG.* HEIC as",
    ),
    "zero bytes": (b"", "not a picture"),
    "damaged": (packed(GREY, format="PNG")[:50], "not a picture that can be read"),
    "large": (packed(Image.new("1", (10_400, 10_400)), format="PNG"), "exceeds limit"),
    "another kind": (Image.new("LAB", (50, 50)), "conversion from LAB .* not supported"),
    "no ink": (np.full((200, 200), 240, np.uint8), "no ink"),
    "only noise": (NOISE, "no ink"),
    "tiny": (np.zeros((3, 3)), "do not fit; takes"),
    "two channels": (np.zeros((8, 8, 2)), "do not fit; takes"),
    "not finite": (np.full((30, 30), np.nan), "do not fit; takes finite"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_picture_is_refused_in_one_line(name):
    picture, said = BAD[name]
    with pytest.raises(ImageError, match=rf"(?i)^.*{said}.*$") as caught:
        prepare_image(picture)
    assert len(str(caught.value)) < 260


def test_a_picture_changed_at_random_is_read_or_refused_in_one_line():
    random = np.random.default_rng(4)
    for place in range(200):
        kind = ("JPEG", "PNG", "TIFF", "WEBP", "GIF")[place % 5]
        changed = bytearray(packed(GREY, format=kind))
        for start in random.integers(min(len(changed), 400), size=4):
            changed[start] = random.integers(256)
        with suppress(ImageError):
            assert find_digits(bytes(changed[: random.integers(200, 3 * len(changed))]))


def test_normalisation_evens_weight_and_straightens_as_nist_does():
    thin = np.zeros((1, 40, 40), bool)
    thin[0, 5:35, [10, 25]] = thin[0, [5, 34], 10:26] = True
    steps = normalise.steps(thin)
    assert steps["box"].sum() < normalise.THIN < steps["weight"].sum()
    leaning = np.zeros((1, 32, 32), bool)
    for row in range(32):
        leaning[0, row, 20 - row // 4 : 24 - row // 4] = True
    upright = normalise.straighten(leaning)[0]
    assert np.ptp(upright.argmax(axis=1)) <= 1
    assert upright.sum() == leaning.sum()
