"""Draw the shipped pictures: strokes of a digital pen on paper with a shadow.

By our own hand, so nobody's licence applies::

    python tools/make_drawings.py             into digitlib/drawings
    python tools/make_drawings.py FOLDER      into another folder
"""

import sys
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFilter
from scipy.interpolate import make_interp_spline

# Strokes in a box of 60 by 100, as the pen went.
STROKES = {
    "0": [[(32, 4), (10, 20), (6, 55), (18, 92), (42, 92), (56, 60), (50, 18), (30, 4)]],
    "1": [[(10, 34), (26, 16), (36, 3), (35, 50), (33, 98)]],
    "2": [
        [(6, 26), (16, 6), (38, 4), (50, 20), (42, 48), (20, 76), (4, 96)],
        [(4, 96), (30, 93), (58, 97)],
    ],
    "3": [
        [(8, 12), (30, 2), (50, 16), (42, 38), (22, 47)],
        [(22, 47), (48, 54), (56, 76), (34, 98), (4, 88)],
    ],
    "4": [
        [(26, 2), (16, 28), (4, 58)],
        [(4, 58), (30, 57), (58, 52)],
        [(44, 26), (40, 62), (36, 98)],
    ],
    "5": [
        [(14, 6), (12, 26), (8, 46)],
        [(8, 46), (34, 38), (54, 58), (42, 90), (6, 94)],
        [(14, 6), (34, 5), (54, 3)],
    ],
    "6": [[(44, 2), (20, 26), (6, 66), (20, 96), (46, 90), (52, 66), (34, 54), (10, 72)]],
    "7": [
        [(4, 8), (30, 7), (56, 3)],
        [(56, 3), (38, 48), (22, 98)],
        [(14, 52), (32, 50), (52, 47)],
    ],
    "scribble": [
        [
            (4, 10),
            (56, 90),
            (50, 8),
            (6, 88),
            (30, 2),
            (30, 98),
            (2, 50),
            (58, 52),
            (10, 20),
            (52, 30),
            (8, 76),
            (50, 72),
        ]
    ],
}
PICTURES = {
    "three.png": ["3"],
    "seven.png": ["7"],
    "line.png": list("5620"),
    "scribble.png": ["scribble"],
}


def draw(names, random):
    """The picture of `names` side by side, as a Pillow image."""
    scale, step = 4, 90
    width, height = 40 + step * len(names), 150
    ink = Image.new("L", (width * scale, height * scale), 0)
    pen = ImageDraw.Draw(ink)
    for place, name in enumerate(names):
        for stroke in STROKES[name]:
            places = np.array(stroke) + np.array([35 + step * place, 25])
            points = places + random.normal(0, 1, (len(stroke), 2))
            curve = make_interp_spline(range(len(points)), points, k=2)
            smooth = curve(np.linspace(0, len(points) - 1, 60)) * scale
            pen.line([tuple(point) for point in smooth], 255, 7 * scale, joint="curve")
            for x, y in (smooth[0], smooth[-1]):
                pen.ellipse((x - 3 * scale, y - 3 * scale, x + 3 * scale, y + 3 * scale), 255)
    ink = ink.filter(ImageFilter.GaussianBlur(scale)).resize((width, height), Image.Resampling.BOX)
    shade = np.linspace(0.95, 0.7, width) * np.linspace(1, 0.92, height)[:, None]
    grey = 255 * shade * (1 - 0.8 * np.asarray(ink) / 255)
    # 32 greys: a quarter of the bytes.
    return Image.fromarray((grey / 8).round().astype(np.uint8) * 8)


if __name__ == "__main__":
    drawings = Path(__file__).parents[1] / "digitlib" / "drawings"
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else drawings
    hand = np.random.default_rng(1)
    for file, names in PICTURES.items():
        draw(names, hand).save(folder / file, optimize=True)
        print(f"{file}: {(folder / file).stat().st_size:,} bytes")
