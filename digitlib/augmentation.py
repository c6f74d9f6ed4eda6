"""Augmentation: what training images go through, small changes, other hands, drawn digits.

Rewriting and drawing end in ink that goes the way the data's authors sent theirs
(:mod:`digitlib.normalisation`): to bend the 8x8 images themselves as strongly would make pictures
that this preprocessing never leaves, digits that lean or do not fill their box.
"""

import math
import tomllib
from importlib.resources import files

import numpy as np
import torch
from PIL import Image, ImageDraw
from scipy.interpolate import CubicSpline
from torch.nn import functional as F

from digitlib import normalisation

# Ranges of small changes: pixels of an 8x8 image, radians, shares, shares, pixels.
SHIFT, ROTATION, SCALE, SHEAR, ELASTIC = 0.5, math.radians(10), 0.1, 0.1, 0.3
# Ranges of another hand, either way: degrees, columns per row, logarithm of the width.
TURN, SLANT, STRETCH = 18.0, 0.35, 0.35
BEND = 0.3  # blocks that the knots of a 4x4 grid move, standard deviation
BEND_SIDE = 40  # pixels of the picture that is bent, 10 by 10 blocks of 4: a turned digit fits
DARKNESS = (0.3, 0.65)  # from which a pixel is ink, 0..1
DRAW_SIDE = 64  # pixels of the picture in which a digit is drawn
PEN = (2.0, 10.0)  # pixels
TREMBLE = 0.05  # standard deviation of a point's place, of the box
FORMS = {
    int(digit): forms
    for digit, forms in tomllib.loads(
        files("digitlib").joinpath("strokes.toml").read_text(encoding="utf-8")
    ).items()
}


def augment(x, strength, generator):
    """A changed copy of every image, by one call of ``grid_sample``.

    Each image gets its own shift, rotation, scale and shear (uniform), and a smooth bending
    interpolated from a 3x3 grid of displacements (Simard, Steinkraus & Platt 2003,
    doi:10.1109/ICDAR.2003.1227801, in a coarse form that suits small images).

    Parameters
    ----------
    x : Tensor of shape (n, 1, side, side), float32
    strength : float
        Factor on all ranges; 0 returns `x` itself.
    generator : torch.Generator
        On the CPU, whatever the device of `x`, so that every device sees the same images.

    Returns
    -------
    Tensor of the shape of `x`
    """
    if strength == 0:
        return x
    n = len(x)
    drawn = (torch.rand(6, n, generator=generator) * 2 - 1) * strength
    dx, dy, angle, scale_x, scale_y, shear = drawn
    cos, sin = torch.cos(ROTATION * angle), torch.sin(ROTATION * angle)
    scale_x, scale_y, shear = 1 + SCALE * scale_x, 1 + SCALE * scale_y, SHEAR * shear
    # grid_sample counts from -1 to 1, so a pixel of an 8x8 image is 1/4.
    across = torch.stack([cos * scale_x, (shear * cos - sin) * scale_y, dx * SHIFT / 4], 1)
    down = torch.stack([sin * scale_x, (shear * sin + cos) * scale_y, dy * SHIFT / 4], 1)
    theta = torch.stack([across, down], 1)  # (n, 2, 3)
    grid = F.affine_grid(theta.to(x.device), x.shape, align_corners=False)
    bend = (torch.rand(n, 2, 3, 3, generator=generator) * 2 - 1) * (strength * ELASTIC / 4)
    bend = F.interpolate(bend.to(x.device), x.shape[2:], mode="bilinear", align_corners=True)
    return F.grid_sample(x, grid + bend.permute(0, 2, 3, 1), align_corners=False)


def shifted(x, distance):
    """`x` shifted by every combination of -`distance`, 0 and `distance` pixels of an 8x8 image.

    Returns
    -------
    list of nine Tensors of the shape of `x`; of `x` alone if `distance` is 0.
    """
    if distance == 0:
        return [x]
    steps = (-distance / 4, 0.0, distance / 4)
    thetas = [[[1, 0, dx], [0, 1, dy]] for dy in steps for dx in steps]
    grids = [
        F.affine_grid(theta.expand(len(x), 2, 3), x.shape, align_corners=False)
        for theta in torch.tensor(thetas, dtype=x.dtype, device=x.device)
    ]
    return [F.grid_sample(x, grid, align_corners=False) for grid in grids]


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
    for start in range(0, len(X), chunk):
        images = (
            torch.from_numpy(np.asarray(X[start : start + chunk], dtype=np.float32)).view(
                -1, 1, 8, 8
            )
            / 16
        )
        ink = _bend(images, generator).numpy()
        some = ink.any(axis=(1, 2))
        written[start : start + chunk][some] = normalisation.steps(ink[some])["counts"].reshape(
            -1, 64
        )
    return written


def _bend(images, generator):
    """Images (n, 1, 8, 8), 0..1, to bitmaps (n, BEND_SIDE, BEND_SIDE), bool."""
    n = len(images)

    def uniform(limit, *shape):
        return (2 * torch.rand(n, *shape, generator=generator) - 1) * limit

    turn, slant, stretch = uniform(np.deg2rad(TURN)), uniform(SLANT), uniform(STRETCH).exp()
    across = torch.stack([turn.cos() * stretch, turn.cos() * slant - turn.sin(), torch.zeros(n)], 1)
    down = torch.stack([turn.sin() * stretch, turn.sin() * slant + turn.cos(), torch.zeros(n)], 1)
    # Coordinates of grid_sample: -1..1 is the 8x8 image.
    theta, side = torch.stack([across, down], 1), (BEND_SIDE, BEND_SIDE)
    places = 10 / 8 * F.affine_grid(theta, (n, 1, *side), align_corners=False)
    knots = torch.randn(n, 2, 4, 4, generator=generator) * BEND / 4
    bent = F.interpolate(knots, side, mode="bicubic", align_corners=True)
    places = places + bent.permute(0, 2, 3, 1)
    grey = F.grid_sample(images, places, mode="bicubic", align_corners=False)[:, 0]
    darkness = DARKNESS[0] + (DARKNESS[1] - DARKNESS[0]) * torch.rand(n, 1, 1, generator=generator)
    return grey > darkness


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
    forms = [(digit, strokes) for digit, several in FORMS.items() for strokes in several]
    jobs = [form for form in forms for _ in range(count)]
    ink = np.stack([_picture(strokes, random) for _, strokes in jobs])
    digits = np.array([digit for digit, _ in jobs])
    return normalisation.steps(ink)["counts"].reshape(-1, 64), digits


def _picture(strokes, random):
    """Ink of one digit: bool (DRAW_SIDE, DRAW_SIDE)."""
    turn, slant = np.deg2rad(random.uniform(-TURN, TURN)), random.uniform(-SLANT, SLANT)
    width = 0.6 * np.exp(random.uniform(-STRETCH, STRETCH))
    turned = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    change = turned @ np.array([[width, -slant], [0, 1]])
    picture = Image.new("1", (DRAW_SIDE, DRAW_SIDE))
    canvas, pen = ImageDraw.Draw(picture), random.uniform(*PEN)
    for stroke in strokes:
        points = (_points(stroke, random) - 0.5) @ change.T * 0.62 * DRAW_SIDE + DRAW_SIDE / 2
        canvas.line([tuple(point) for point in points], 1, round(pen), joint="curve")
        for x, y in points[[0, -1]]:
            canvas.ellipse((x - pen / 2, y - pen / 2, x + pen / 2, y + pen / 2), 1)
    return np.asarray(picture)


def _points(stroke, random):
    kind, *numbers = stroke.split()
    points = np.array(numbers, dtype=float).reshape(-1, 2)
    points += random.normal(0, TREMBLE, points.shape)
    if kind == "-":
        return points
    way = np.r_[0, np.hypot(*np.diff(points, axis=0).T).cumsum()]
    return CubicSpline(way, points)(np.linspace(0, way[-1], 40))


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
    if X.shape[1] != 64 or X.min() < 0 or not 8 < X.max() <= 16 or (np.rint(X) != X).any():
        return np.tile(X, (times, 1)), np.tile(targets, times)
    X = np.vstack([X, *(rewrite(X, generator) for _ in range(recipe.rewrites))])
    targets = np.tile(targets, times)
    digits_only = classes.dtype.kind in "iu" and np.array_equal(classes, np.arange(10))
    if recipe.drawn is None or not digits_only:
        return X, targets
    drawn, digits = draw(recipe.drawn, _seed(generator))
    return np.vstack([X, drawn]), np.concatenate([targets, digits])


def examples(images, recipe, seed, copies=3):
    """Images as they are, then `copies` versions of them that `recipe` trains on: to be judged.

    Parameters
    ----------
    images : array of shape (n, 8, 8), 0..16
    recipe : Recipe
        With ``augmentation``. With ``rewrites``, every version but the first is of rewritten
        images; with ``drawn``, the last one is of drawn digits, 0 to 9 again and again, in their
        place.
    seed : int
    copies : int

    Returns
    -------
    ndarray of shape (n * (copies + 1), 8, 8), float32
    """
    generator, flat = torch.Generator().manual_seed(seed), np.reshape(images, (-1, 64))
    versions = [rewrite(flat, generator) if recipe.rewrites and k else flat for k in range(copies)]
    if recipe.drawn:
        drawn, digits = draw(len(flat), _seed(generator))
        pick = np.random.default_rng(seed)
        of_digit = [np.flatnonzero(digits == i % 10) for i in range(len(flat))]
        versions[-1] = np.stack([drawn[pick.choice(rows)] for rows in of_digit])
    pictures = [
        torch.as_tensor(version, dtype=torch.float32).view(-1, 1, 8, 8)
        for version in (flat, *versions)
    ]
    changed = [augment(picture, recipe.augmentation, generator) for picture in pictures[1:]]
    return torch.cat([pictures[0], *changed])[:, 0].numpy()


def _seed(generator):
    return int(torch.randint(2**31, (1,), generator=generator))
