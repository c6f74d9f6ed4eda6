"""What training images go through: small changes, other hands, digits drawn from strokes."""

import math

import numpy as np
import torch
from PIL import Image, ImageDraw
from scipy.interpolate import CubicSpline
from torch.nn import functional as F

from digitlib import normalisation

SHIFT, ROTATION, SCALE, SHEAR, ELASTIC = (
    0.5,
    math.radians(10),
    0.1,
    0.1,
    0.3,
)  # pixels of an 8x8 image, radians, shares, pixels


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
    dx, dy, angle, scale_x, scale_y, shear = (
        torch.rand(6, n, generator=generator) * 2 - 1
    ) * strength
    cos, sin = torch.cos(ROTATION * angle), torch.sin(ROTATION * angle)
    scale_x, scale_y, shear = 1 + SCALE * scale_x, 1 + SCALE * scale_y, SHEAR * shear
    theta = torch.stack(
        [
            torch.stack([cos * scale_x, (shear * cos - sin) * scale_y, dx * SHIFT / 4], 1),
            torch.stack([sin * scale_x, (shear * sin + cos) * scale_y, dy * SHIFT / 4], 1),
        ],
        1,
    )  # (n, 2, 3): grid_sample counts from -1 to 1, so a pixel of an 8x8 image is 1/4
    grid = F.affine_grid(theta.to(x.device), x.shape, align_corners=False)
    bend = (torch.rand(n, 2, 3, 3, generator=generator) * 2 - 1) * (strength * ELASTIC / 4)
    grid = grid + F.interpolate(
        bend.to(x.device), x.shape[2:], mode="bilinear", align_corners=True
    ).permute(0, 2, 3, 1)
    return F.grid_sample(x, grid, align_corners=False)


def shifted(x, distance):
    """`x` shifted by every combination of -`distance`, 0 and `distance` pixels of an 8x8 image.

    Returns
    -------
    list of nine Tensors of the shape of `x`; of `x` alone if `distance` is 0.
    """
    if distance == 0:
        return [x]
    steps = (-distance / 4, 0.0, distance / 4)
    thetas = torch.tensor(
        [[[1, 0, dx], [0, 1, dy]] for dy in steps for dx in steps], dtype=x.dtype, device=x.device
    )
    return [
        F.grid_sample(
            x,
            F.affine_grid(theta.expand(len(x), 2, 3), x.shape, align_corners=False),
            align_corners=False,
        )
        for theta in thetas
    ]


BEND_SIDE = 40  # pixels of the picture in which strokes are bent, 4 to a block; it shows 10 by 10 blocks, so that a turned digit stays inside
TURN = 18.0  # degrees, either way
SLANT = 0.35  # columns per row, either way
STRETCH = 0.35  # of the logarithm of the width, either way
BEND = 0.3  # blocks that the knots of a 4x4 grid move, standard deviation
DARKNESS = (0.3, 0.65)  # darkness from which a pixel is ink, 0..1


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
    places = (
        10
        / 8
        * F.affine_grid(
            torch.stack([across, down], 1), (n, 1, BEND_SIDE, BEND_SIDE), align_corners=False
        )
    )
    knots = torch.randn(n, 2, 4, 4, generator=generator) * BEND / 4
    places = places + F.interpolate(
        knots, (BEND_SIDE, BEND_SIDE), mode="bicubic", align_corners=True
    ).permute(0, 2, 3, 1)
    grey = F.grid_sample(images, places, mode="bicubic", align_corners=False)[:, 0]
    darkness = DARKNESS[0] + (DARKNESS[1] - DARKNESS[0]) * torch.rand(n, 1, 1, generator=generator)
    return grey > darkness


DRAW_SIDE = 64  # pixels of the picture in which a digit is drawn
PEN = (2.0, 10.0)  # pixels
TREMBLE = 0.05  # standard deviation of a point's place, of the box

FORMS = {
    0: [
        ["~ .5 0 .1 .2 0 .5 .1 .8 .5 1 .9 .8 1 .5 .9 .2 .5 0"],
        ["~ .6 0 .2 .15 0 .5 .1 .85 .4 1 .8 .85 1 .5 .9 .15 .45 .02"],
        ["~ .5 0 .1 .2 0 .5 .1 .8 .5 1 .9 .8 1 .5 .9 .2 .5 0", "- .95 .05 .05 .95"],
    ],
    1: [
        ["- .5 0 .5 1"],
        ["- .2 .25 .5 0 .5 1"],
        ["- .1 .4 .6 0 .6 1"],
        ["- .25 .08 .5 0 .5 1"],
        ["- .2 .25 .5 0 .5 1", "- .15 1 .85 1"],
        ["- .3 .12 .5 0 .5 1", "- .25 1 .75 1"],
    ],
    2: [
        ["~ 0 .25 .2 .03 .6 0 .95 .25 .7 .6 0 1", "- 0 1 1 1"],
        ["~ 0 .2 .3 0 .8 .05 .9 .35 .5 .75 .1 .98 .1 .8 .4 .85 1 1"],
        ["~ .05 .25 .4 0 .9 .25 .6 .6 .05 .95", "~ .05 .95 .4 .9 .7 1 1 .93"],
    ],
    3: [
        ["~ 0 .12 .4 0 .9 .2 .7 .42 .35 .48", "~ .35 .48 .8 .52 1 .75 .6 1 0 .9"],
        ["- 0 0 .95 0 .45 .4", "~ .45 .4 .9 .5 1 .78 .6 1 0 .92"],
    ],
    4: [
        ["- .3 0 0 .6 1 .6", "- .75 .25 .75 1"],
        ["- .75 1 .75 0 0 .7 1 .7"],
        ["- .65 1 .65 0 0 .65 .95 .65"],
        ["- .1 0 .05 .5 .9 .5", "- .85 0 .85 1"],
    ],
    5: [
        ["- 1 0 .15 0 .1 .45", "~ .1 .45 .5 .36 .95 .6 .8 .92 .4 1 0 .9"],
        ["~ .95 0 .25 .03 .15 .42 .6 .42 .95 .65 .7 .97 0 .93"],
    ],
    6: [
        ["~ .8 0 .3 .25 .02 .65 .2 .95 .6 1 .95 .75 .7 .52 .3 .55 .05 .75"],
        ["~ .5 0 .15 .35 0 .7 .3 1 .8 .95 .95 .7 .6 .5 .15 .65"],
    ],
    7: [
        ["- 0 0 1 0 .35 1"],
        ["- 0 0 1 0 .35 1", "- .25 .5 .9 .5"],
        ["- 0 .18 0 0 1 0 .4 1"],
        ["~ 0 .05 .5 .06 1 0", "~ 1 0 .6 .45 .45 1"],
    ],
    8: [
        ["~ .9 .15 .5 0 .1 .2 .5 .48 .95 .75 .5 1 .05 .75 .5 .48 .9 .2 .85 .1"],
        ["~ .5 0 .1 .22 .5 .46 .9 .22 .5 0", "~ .5 .46 0 .73 .5 1 1 .73 .5 .46"],
    ],
    9: [
        ["~ .9 .2 .5 0 .05 .25 .4 .5 .88 .3", "- .9 .1 .85 1"],
        ["~ .95 .25 .5 0 .05 .25 .4 .52 .95 .25 .85 .7 .35 1"],
        ["~ .9 .25 .5 0 .1 .28 .5 .5 .9 .25", "~ .9 .25 .9 .8 .5 1 .1 .9"],
    ],
}


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
    jobs = [
        (digit, strokes)
        for digit, forms in FORMS.items()
        for strokes in forms
        for _ in range(count)
    ]
    ink = np.stack([_picture(strokes, random) for _, strokes in jobs])
    return normalisation.steps(ink)["counts"].reshape(-1, 64), np.array(
        [digit for digit, _ in jobs]
    )


def _picture(strokes, random):
    """Ink of one digit: bool (DRAW_SIDE, DRAW_SIDE)."""
    turn, slant = np.deg2rad(random.uniform(-TURN, TURN)), random.uniform(-SLANT, SLANT)
    width = 0.6 * np.exp(random.uniform(-STRETCH, STRETCH))
    change = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]]) @ np.array(
        [[width, -slant], [0, 1]]
    )
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
    if (
        recipe.drawn is None
        or classes.dtype.kind not in "iu"
        or not np.array_equal(classes, np.arange(10))
    ):
        return X, targets
    drawn, digits = draw(recipe.drawn, _seed(generator))
    return np.vstack([X, drawn]), np.concatenate([targets, digits])


def examples(images, recipe, seed, copies=3):
    """Images as they are, followed by `copies` versions of all of them as `recipe` trains on them,
    to be judged by eye.

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
        versions[-1] = np.stack(
            [drawn[pick.choice(np.flatnonzero(digits == i % 10))] for i in range(len(flat))]
        )
    stored, *pictures = (
        torch.as_tensor(version, dtype=torch.float32).view(-1, 1, 8, 8)
        for version in (flat, *versions)
    )
    return torch.cat(
        [stored, *(augment(picture, recipe.augmentation, generator) for picture in pictures)]
    )[:, 0].numpy()


def _seed(generator):
    return int(torch.randint(2**31, (1,), generator=generator))
