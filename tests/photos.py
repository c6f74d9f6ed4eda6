"""Photos of handwritten digits as people take them, made here: paper, light, pens and rulings.

Digits are those of ``handwriting.jpg``, which no run was trained on. ``photo(kind, seed)`` gives a
picture and the rows of digits that stand on it.
"""

from functools import cache
from pathlib import Path

import numpy as np
from PIL import Image
from scipy import ndimage

from digitlib import find_digits

SHEET = np.asarray(Image.open(Path(__file__).parent / "handwriting.jpg"))
CELLS = SHEET.reshape(10, 64, 20, 64).swapaxes(1, 2).reshape(20, 10, 64, 64)  # hand, digit
KINDS = {"felt pen": 0, "pencil": 1, "ballpoint": 2, "squared": 3, "ruled": 4, "rows": 7}
KINDS |= {"dashes": 8, "dark side": 9, "touching": 10}  # numbers are part of the seed
PLAIN = ("felt pen", "pencil", "ballpoint", "rows", "dashes")
HEIGHT, WIDTH = 700, 1000  # pixels


def photo(kind, seed):
    """Picture, uint8 (rows, columns) dark on light, and its rows of digits, list of str."""
    random = np.random.default_rng([KINDS[kind], seed])
    n_rows = random.integers(2, 4) if kind == "rows" else 1
    sizes = random.integers(3, 4 if kind == "dashes" else 6, size=n_rows)
    rows = ["".join(map(str, random.integers(10, size=size))) for size in sizes]
    tall = random.uniform(90, 130) if n_rows > 1 else random.uniform(120, 190)
    tall = min(tall, 620 / max(map(len, rows)))
    gap = tall * (-0.1 if kind == "touching" else random.uniform(0.25, 0.45))
    ink, rules = np.zeros((2, HEIGHT, WIDTH))
    hand = int(random.integers(20))
    for k, row in enumerate(rows):
        top = (k + 1) * HEIGHT / (n_rows + 1) - tall / 2
        left = 90 + random.uniform(0, 60)
        for place, digit in enumerate(row):
            left = _write(ink, _crop(hand, int(digit)), top, left, tall, random) + gap
            if kind == "dashes" and place < len(row) - 1:
                y, x = int(top + tall * random.uniform(0.45, 0.55)), int(left)
                ink[y : y + 8, x : x + int(0.3 * tall)] = 1
                left += 0.3 * tall + gap
        if kind == "ruled":
            for y in np.arange(top % (1.3 * tall) - 0.25 * tall, HEIGHT, 1.3 * tall).astype(int):
                rules[max(0, y) : y + 3] = 1
    if kind == "squared":
        step = int(tall * random.uniform(0.35, 0.6))
        rules[::step] = rules[1::step] = rules[:, ::step] = rules[:, 1::step] = 1
    return _photograph(kind, ink, rules, random), rows


@cache
def _crop(hand, digit):
    ink = find_digits(CELLS[hand, digit], single=True)[0].steps["crop"]
    return Image.fromarray((255 * ink).astype(np.uint8))


def _write(ink, crop, top, left, tall, random):
    """Put one digit there; its right edge."""
    height = int(tall * random.uniform(0.9, 1.1))
    width = max(int(height * crop.width / crop.height), 8)
    big = np.asarray(crop.resize((width, height), Image.Resampling.BICUBIC)) / 255
    y, x = int(top + random.uniform(-0.05, 0.05) * tall), int(left)
    part = ink[y : y + height, x : x + width]
    np.maximum(part, big[: part.shape[0], : part.shape[1]], out=part)
    return left + width


def _photograph(kind, ink, rules, random):
    """Paper, pen, light, a tilt and the grain of a camera: uint8."""
    if kind == "felt pen":
        ink = ndimage.grey_dilation(ink, 5)
    darkness, rule = random.uniform(0.5, 0.65), random.uniform(0.12, 0.3)
    if kind in ("ballpoint", "squared", "ruled"):
        ink = ndimage.grey_erosion(ink, 3)
    if kind == "pencil":
        grain = ndimage.gaussian_filter(random.normal(size=ink.shape), 1.5)
        gone = ndimage.gaussian_filter(random.normal(size=ink.shape), 4)
        ink = ink * (grain > -0.05) * (gone / gone.std() > -1.2)
        darkness = random.uniform(0.18, 0.3)
    page = 0.85 - np.maximum(darkness * ink, rule * rules)
    texture = ndimage.gaussian_filter(random.normal(size=page.shape), 2)
    page += 0.01 * texture / texture.std()
    x, y = np.meshgrid(np.linspace(0, 1, WIDTH), np.linspace(0, 1, HEIGHT))
    light = 1 - random.uniform(0, 0.25) * x - random.uniform(0, 0.15) * y
    if kind == "dark side":
        light *= 1 - random.uniform(0.35, 0.55) / (1 + np.exp((0.6 - x) * 25))
    # A camera that is not quite above: a small turn and a vanishing point.
    turn, far = np.deg2rad(random.uniform(-1.5, 1.5)), random.uniform(-0.04, 0.04, 2)
    a, b = np.cos(turn), np.sin(turn)
    tilt = (a, b, -b * HEIGHT / 2, -b, a, b * WIDTH / 2, far[0] / WIDTH, far[1] / HEIGHT)
    picture = Image.fromarray((255 * page * light).clip(0, 255).astype(np.uint8))
    edge = int(np.median(picture))
    picture = picture.transform(
        picture.size, Image.Transform.PERSPECTIVE, tilt, Image.Resampling.BICUBIC, fillcolor=edge
    )
    noisy = ndimage.gaussian_filter(np.asarray(picture, float), 0.8)
    noisy += random.normal(0, 2.5, noisy.shape)
    return noisy.clip(0, 255).astype(np.uint8)
