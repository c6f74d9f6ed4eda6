"""Other hands: training digits written anew, and digits drawn from strokes.

Rewriting blows an 8x8 image up to a picture of ink, which is turned, slanted, stretched and bent
like rubber, written with a thinner or thicker pen, and then goes the way that the data's authors
sent theirs (:mod:`digitlib.handwriting.normalise`). To bend the 8x8 images themselves would make
pictures that this preprocessing never leaves: digits that lean, or do not fill their box. Drawn
digits (their forms: ``strokes.toml``) go the same way.
"""

import re
import tomllib
from importlib.resources import files

import numpy as np
import torch
from PIL import Image, ImageDraw
from scipy.interpolate import CubicSpline
from torch.nn import functional as F

from digitlib.augmentation import augment, between, matrices
from digitlib.handwriting import normalise

# Another hand, for rewritten and drawn digits.
TURN = 18.0  # degrees, either way
SLANT = 0.35  # columns per row, either way; drawn digits: DRAWN_SLANT
STRETCH = 0.35  # of the logarithm of the width, either way

# Rewritten digits.
BENT_SIDE = 40  # pixels for 10 by 10 blocks of the 8x8 image, so that a turned digit stays inside
BEND = 0.3  # blocks that the knots of a 4x4 grid move, standard deviation
INK_DARKNESS = (0.3, 0.65)  # from which a pixel is ink, 0..1: a thick and a thin pen

# Drawn digits.
DRAWN_SIDE = 64  # pixels
PEN_WIDTH = (2.0, 10.0)  # pixels
DRAWN_SLANT = (-0.3, 0.6)  # columns per row: more hands lean to the right
TREMBLE = 0.05  # standard deviation of a point's place, of the box
PROPORTION = 0.2  # of the logarithm of the power that moves the middle of the box, each way
_STROKES = (files("digitlib.handwriting") / "strokes.toml").read_text(encoding="utf-8")
FORMS = {int(digit): forms for digit, forms in tomllib.loads(_STROKES).items()}


def rewrite(X, generator, chunk=1024):
    """Every image once more, in another hand.

    Parameters
    ----------
    X : ndarray of shape (n, 64)
        0..16, row-major 8x8.
    generator : torch.Generator
    chunk : int
        Images at a time; decides memory and, with the generator, the result.

    Returns
    -------
    ndarray of shape (n, 64), uint8, 0..16
        An image that bending would have left without ink is returned as it was.
    """
    written = np.array(X, dtype=np.uint8)
    images = torch.from_numpy(np.asarray(X, dtype=np.float32) / 16).view(-1, 1, 8, 8)
    ink = torch.cat([_bend(part, generator) for part in images.split(chunk)]).numpy()
    some = ink.any(axis=(1, 2))
    written[some] = _counts(ink[some])
    return written


def _bend(images, generator):
    """Images (n, 1, 8, 8), 0..1, to bitmaps (n, BENT_SIDE, BENT_SIDE), bool."""
    n, size, limits = len(images), (BENT_SIDE, BENT_SIDE), (np.deg2rad(TURN), SLANT, STRETCH)
    turn, slant, stretch = ((2 * torch.rand(n, generator=generator) - 1) * most for most in limits)
    across = [turn.cos() * stretch.exp(), turn.cos() * slant - turn.sin(), torch.zeros(n)]
    down = [turn.sin() * stretch.exp(), turn.sin() * slant + turn.cos(), torch.zeros(n)]
    # -1..1 is the 8x8 image for grid_sample, and the picture shows 10 by 10.
    grid = 10 / 8 * F.affine_grid(matrices(across, down), (n, 1, *size), align_corners=False)
    grid = grid + between(torch.randn(n, 2, 4, 4, generator=generator) * BEND / 4, size, "bicubic")
    grey = F.grid_sample(images, grid, mode="bicubic", align_corners=False)[:, 0]
    least, most = INK_DARKNESS
    return grey > least + (most - least) * torch.rand(n, 1, 1, generator=generator)


def _counts(ink):
    """Pictures of ink (n, rows, columns), bool, to images (n, 64), uint8, 0..16."""
    return normalise.steps(ink)["counts"].reshape(-1, 64)


def draw(count, seed):
    """`count` pictures of each form of each digit.

    Parameters
    ----------
    count : int
    seed : int

    Returns
    -------
    X : ndarray of shape (n, 64), uint8, 0..16
    y : ndarray of shape (n,), int64, 0..9
    """
    random = np.random.default_rng(seed)
    forms = [(digit, form) for digit, forms in FORMS.items() for form in forms]
    X = np.concatenate([_counts(_pictures(form, count, random)) for _, form in forms])
    return X, np.repeat([digit for digit, _ in forms], count)


def _pictures(form, count, random):
    """Ink of one form, `count` times: bool (count, DRAWN_SIDE, DRAWN_SIDE)."""
    turn = np.deg2rad(random.uniform(-TURN, TURN, count))
    width = 0.6 * np.exp(random.uniform(-STRETCH, STRETCH, count))
    slant, pens = random.uniform(*DRAWN_SLANT, count), random.uniform(*PEN_WIDTH, count)
    cos, sin = np.cos(turn), np.sin(turn)
    change = np.array([[cos * width, -cos * slant - sin], [sin * width, cos - sin * slant]])
    # A large loop below a short neck, or a small one below a long neck.
    proportion = np.exp(random.normal(0, PROPORTION, (count, 1, 2)))
    strokes = []
    for kind, numbers in re.findall("([~-])([^~-]+)", form):
        points = _points(kind, numbers, count, random)
        points = np.sign(points) * np.abs(points) ** proportion - 0.5
        points = np.einsum("nki,jin->nkj", points, change)
        strokes.append(points * 0.62 * DRAWN_SIDE + DRAWN_SIDE / 2)
    return np.stack([_ink(points, pen) for *points, pen in zip(*strokes, pens, strict=True)])


def _points(kind, numbers, count, random):
    """The pen's way in a box of 1 by 1, (count, n, 2): a stroke of ``strokes.toml``."""
    points = np.array(numbers.split(), dtype=float).reshape(-1, 2)
    way = np.r_[0, np.hypot(*np.diff(points, axis=0).T).cumsum()]
    points = points + random.normal(0, TREMBLE, (count, *points.shape))
    if kind == "-":
        return points
    return CubicSpline(way, points, axis=1)(np.linspace(0, way[-1], 24))


def _ink(strokes, pen):
    picture = Image.new("1", (DRAWN_SIDE, DRAWN_SIDE))
    canvas = ImageDraw.Draw(picture)
    for points in strokes:
        canvas.line(points.ravel().tolist(), 1, round(pen), joint="curve")
        for x, y in points[[0, -1]]:
            canvas.ellipse((x - pen / 2, y - pen / 2, x + pen / 2, y + pen / 2), 1)
    return np.asarray(picture)


def enlarge(X, targets, classes, recipe, generator):
    """Training rows, followed by those that the recipe makes from them or draws.

    Parameters
    ----------
    X : ndarray of shape (n, n_pixels)
        Rewriting and drawing give what the data's own preprocessing makes of ink, counts of 0..16
        in 8x8 blocks, so images that are no such counts are only repeated: as many steps of
        training, on images that augmentation alone tells apart.
    targets : ndarray of shape (n,), int
        Indices into `classes`.
    classes : ndarray
        Labels; digits are drawn only if these are the integers 0..9.
    recipe : Recipe
        With ``rewrites``.
    generator : torch.Generator

    Returns
    -------
    X, targets : ndarray
    """
    times = recipe.rewrites + 1
    targets = np.tile(targets, times)
    if X.shape[1] != 64 or X.min() < 0 or not 8 < X.max() <= 16 or (np.rint(X) != X).any():
        return np.tile(X, (times, 1)), targets
    X = np.vstack([X, *(rewrite(X, generator) for _ in range(recipe.rewrites))])
    are_digits = classes.dtype.kind in "iu" and np.array_equal(classes, np.arange(10))
    if not recipe.drawn or not are_digits:
        return X, targets
    drawn, digits = draw(recipe.drawn, int(torch.randint(2**31, (1,), generator=generator)))
    return np.vstack([X, drawn]), np.concatenate([targets, digits])


def examples(images, recipe, seed, copies=3):
    """Images as they are, then versions of them as `recipe` trains on them, to be judged by eye.

    Parameters
    ----------
    images : array of shape (n, 8, 8), 0..16
    recipe : Recipe
        With ``augmentation``. With ``rewrites``, every version but the first is of rewritten
        images; with ``drawn``, the last one is of drawn digits, 0 to 9 again and again, in their
        place.
    seed : int
    copies : int
        Versions of every image.

    Returns
    -------
    ndarray of shape (n * (copies + 1), 8, 8), float32
    """
    generator, flat = torch.Generator().manual_seed(seed), np.reshape(images, (-1, 64))
    versions = [rewrite(flat, generator) if recipe.rewrites and k else flat for k in range(copies)]
    if recipe.drawn:
        drawn, digits = draw(1, seed)
        first = np.unique(digits, return_index=True)[1]
        versions[-1] = np.resize(drawn[first], flat.shape)
    pictures = torch.tensor(np.stack(versions), dtype=torch.float32).view(copies, -1, 1, 8, 8)
    changed = [augment(each, recipe.augmentation, generator)[:, 0] for each in pictures]
    return np.concatenate([np.reshape(images, (-1, 8, 8)), *changed])
