"""Small changes of training images: shifts, turns, scale, shear and bending by one ``grid_sample``.

References
----------
.. [1] P. Simard, D. Steinkraus & J. Platt (2003). Best practices for convolutional neural networks
   applied to visual document analysis. ICDAR. https://doi.org/10.1109/ICDAR.2003.1227801
"""

import math

import torch
from torch.nn import functional as F

# The most that strength 1 makes, either way.
SHIFT = 0.5  # pixels of an 8x8 image
ROTATION = math.radians(10)
SCALE = 0.1  # share of the size
SHEAR = 0.1  # columns per row
ELASTIC = 0.3  # pixels of an 8x8 image that the knots of a 3x3 grid move


def augment(x, strength, generator):
    """A changed copy of every image, each in its own way.

    Shift, rotation, scale and shear are uniform; bending is interpolated from a 3x3 grid of
    displacements [1]_, a coarse form that suits small images.

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
    changes = (torch.rand(6, n, generator=generator) * 2 - 1) * strength
    dx, dy, angle, scale_x, scale_y, shear = changes
    cos, sin = torch.cos(ROTATION * angle), torch.sin(ROTATION * angle)
    scale_x, scale_y, shear = 1 + SCALE * scale_x, 1 + SCALE * scale_y, SHEAR * shear
    # grid_sample counts from -1 to 1, so a pixel of an 8x8 image is 1/4.
    across = [cos * scale_x, (shear * cos - sin) * scale_y, dx * SHIFT / 4]
    down = [sin * scale_x, (shear * sin + cos) * scale_y, dy * SHIFT / 4]
    knots = (torch.rand(n, 2, 3, 3, generator=generator) * 2 - 1) * (strength * ELASTIC / 4)
    grid = F.affine_grid(matrices(across, down).to(x.device), x.shape, align_corners=False)
    grid = grid + between(knots.to(x.device), x.shape[2:], "bilinear")
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
    moves = [[[1, 0, dx], [0, 1, dy]] for dy in steps for dx in steps]
    thetas = torch.tensor(moves, dtype=x.dtype, device=x.device)[:, None].expand(9, len(x), 2, 3)
    grids = [F.affine_grid(theta, x.shape, align_corners=False) for theta in thetas]
    return [F.grid_sample(x, grid, align_corners=False) for grid in grids]


def matrices(across, down):
    """Affine matrices (n, 2, 3) from the entries of their two rows, each of shape (n,)."""
    return torch.stack([torch.stack(across, 1), torch.stack(down, 1)], 1)


def between(knots, size, mode):
    """Displacements (n, rows, columns, 2) between those of a grid of knots (n, 2, k, k)."""
    return F.interpolate(knots, size, mode=mode, align_corners=True).permute(0, 2, 3, 1)
