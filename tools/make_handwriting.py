r"""Make ``tests/handwriting.jpg``: 200 digits in 20 fonts, each distorted at random.

With --tuning, make ``benchmarks/tuning.jpg`` instead: 400 digits in 10 other fonts, on which
settings may be chosen. Digits stand in cells of 64x64 pixels::

    mkdir fonts && cd fonts
    apt-get download fonts-bwht fonts-comic-neue fonts-dancingscript fonts-breip \
        fonts-dkg-handwriting fonts-humor-sans fonts-klee fonts-kristi fonts-rufscript \
        fonts-sjfonts fonts-tomsontalks fonts-yusei-magic
    # for --tuning: fonts-seto fonts-stick fonts-kiloji fonts-gamaliel fonts-aoyagi-soseki \
    #     fonts-aoyagi-kouzan-t fonts-kouzan-mouhitsu fonts-navilu fonts-leckerli-one
    for package in *.deb; do dpkg-deb -x $package .; done; cd ..
    python tools/make_handwriting.py fonts

One row of the sheet for each font, one column for each digit. The fonts were chosen by how they
look, before any of their digits had been classified; none was left out afterwards.
"""

import sys
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFilter, ImageFont

CELL = 64
FONTS = (
    "BecauseWeBuild-Regular.otf",
    "BecauseWeConnect-Regular.otf",
    "BecauseWeCreate-Regular.otf",
    "BecauseWeLearn-Regular.otf",
    "BecauseWeMentor-Regular.otf",
    "BecauseWeOrganize-Regular.otf",
    "ComicNeue-Regular.otf",
    "ComicNeue-Bold.otf",
    "DancingScript-Regular.otf",
    "Breip.ttf",
    "dkg.ttf",
    "dkgBd.ttf",
    "Humor-Sans.ttf",
    "KleeOne-Regular.ttf",
    "Kristi.ttf",
    "Rufscript010.ttf",
    "Delphine.ttf",
    "SteveHand.ttf",
    "TomsonTalks.ttf",
    "YuseiMagic-Regular.ttf",
)

TUNING_FONTS = 4 * (
    "setofont.ttf",
    "Stick-Regular.ttf",
    "kiloji.ttf",
    "kiloji_b.ttf",
    "Gamaliel.ttf",
    "aoyagi-soseki.ttf",
    "AoyagiKouzanT.ttf",
    "kouzan-mouhitsu.ttf",
    "Navilu.ttf",
    "LeckerliOne-Regular.ttf",
)


def draw_digit(digit, font, random):
    """`digit` as a photo of paper might show it: uint8 (CELL, CELL)."""
    scale = 4
    large = Image.new("L", (CELL * scale, CELL * scale), 0)
    glyph = ImageFont.truetype(font, 200)
    left, top, right, bottom = glyph.getbbox(str(digit))
    size = 200 * 150 / max(bottom - top, right - left) * random.uniform(0.75, 1.0)
    glyph = ImageFont.truetype(font, size)
    ImageDraw.Draw(large).text((CELL * scale / 2,) * 2, str(digit), 255, glyph, anchor="mm")
    box = large.getbbox()
    # Up to 6 pixels off the middle.
    shift = [CELL * scale / 2 - (box[i] + box[i + 2]) / 2 + random.uniform(-24, 24) for i in (0, 1)]
    move = tuple(np.rint(shift).astype(int))
    large = large.rotate(random.uniform(-15, 15), Image.Resampling.BICUBIC, translate=move)
    pen = int(random.integers(-2, 4))  # strokes up to 1 pixel thinner or 1.5 thicker
    if pen:
        large = large.filter(
            ImageFilter.MaxFilter(2 * pen + 1) if pen > 0 else ImageFilter.MinFilter(-2 * pen + 1)
        )
    smooth = large.filter(ImageFilter.GaussianBlur(2))
    ink = np.asarray(smooth.resize((CELL, CELL), Image.Resampling.BOX), float) / 255

    y, x = np.mgrid[-1 : 1 : CELL * 1j, -1 : 1 : CELL * 1j]
    angle = random.uniform(0, 2 * np.pi)
    paper = random.uniform(0.75, 0.95) * (
        1 + random.uniform(0, 0.25) * (np.cos(angle) * x + np.sin(angle) * y) / 1.4
    )
    if random.random() < 0.3:  # the edge of a shadow
        paper *= 1 - 0.2 / (
            1 + np.exp(12 * (x * np.sin(angle) - y * np.cos(angle) - random.uniform(-0.5, 0.5)))
        )
    picture = paper * (1 - ink * random.uniform(0.55, 0.9)) + random.normal(
        0, random.uniform(0.005, 0.03), paper.shape
    )
    return (255 * picture.clip(0, 1)).astype(np.uint8)


def main(folder, target, fonts, seed):
    random = np.random.default_rng(seed)
    files = {path.name: path for path in Path(folder).rglob("*.?tf")}
    rows = [
        np.hstack([draw_digit(digit, files[font], random) for digit in range(10)]) for font in fonts
    ]
    # Two fonts side by side.
    sheet = np.vstack([np.hstack(rows[i : i + 2]) for i in range(0, len(rows), 2)])
    Image.fromarray(sheet).save(target, quality=70, optimize=True)
    height, width = sheet.shape
    print(f"{target}: {width} by {height} pixels, {Path(target).stat().st_size:,} bytes")


if __name__ == "__main__":
    root = Path(__file__).parents[1]
    if "--tuning" in sys.argv:
        main(sys.argv[1], root / "benchmarks" / "tuning.jpg", TUNING_FONTS, 1234)
    else:
        main(sys.argv[1], root / "tests" / "handwriting.jpg", FONTS, 7)
