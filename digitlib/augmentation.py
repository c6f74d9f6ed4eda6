"""How else could the same digit have been written? Small plausible changes of images: affine,
elastic, shifted.
"""

import math

import torch
from torch.nn import functional as F

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
