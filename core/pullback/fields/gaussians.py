"""3D Gaussians: a cloud of ellipsoids with soft edges, each with one colour and one opacity, and the cloud's density."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from ..types import Params

REACH = 3.0
"""Distance from its mean, in standard deviations, beyond which a Gaussian counts as 0."""
MAX_OPACITY = 0.999
"""The largest opacity of a Gaussian, as in gsplat. At 1 no light would pass, and what lies behind would get no gradient."""
MAX_PAIRS = 1 << 24
"""The largest number of (point, Gaussian) pairs that are computed at a time; bounds the memory."""
BLOCK = 64
"""Number of consecutive points that share one list of Gaussians when a density is evaluated."""
RADIUS = 0.8
"""Radius of the ball that a new cloud fills."""


@dataclass(frozen=True)
class Gaussians:
    """N Gaussians in world coordinates.

    Args:
        mean: Centres, (N, 3).
        scale: Standard deviations along each Gaussian's own axes, (N, 3), above 0.
        rotation: Quaternions (w, x, y, z) from a Gaussian's own axes to the world, (N, 4), of any length above 0.
        opacity: Opacities at the centres, (N,) in [0, 1]. Renderers limit them to `MAX_OPACITY`.
        colour: The values that are composited, (N, C): colours, latents or distances.
    """

    mean: Tensor
    scale: Tensor
    rotation: Tensor
    opacity: Tensor
    colour: Tensor

    @property
    def axes(self) -> Tensor:
        """Rotation matrices (N, 3, 3). Their columns are the Gaussians' axes, unit vectors in the world."""
        w, x, y, z = F.normalize(self.rotation, dim=-1).unbind(-1)
        rows = (
            (1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)),
            (2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)),
            (2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)),
        )
        return torch.stack([torch.stack(row, -1) for row in rows], -2)


def cloud(count: int, generator: Generator) -> Params:
    """Return the parameters of a new cloud: equal spheres of opacity 0.12, spread evenly over a ball.

    Args:
        count: The number N of Gaussians.
        generator: Draws their positions.

    Returns:
        "mean" (N, 3), "scale" (N, 3) as logarithms of standard deviations, "rotation" (N, 4) as quaternions (w, x, y, z), and
        "opacity" (N,) as logits.
    """
    towards = F.normalize(torch.randn(count, 3, generator=generator), dim=-1)
    return {
        "mean": RADIUS * towards * torch.rand(count, 1, generator=generator) ** (1 / 3),
        "scale": torch.full((count, 3), math.log(RADIUS * count ** (-1 / 3))),
        "rotation": torch.tensor((1.0, 0.0, 0.0, 0.0)).repeat(count, 1),
        "opacity": torch.full((count,), -2.0),
    }


def density_at(gaussians: Gaussians, points: Tensor) -> Tensor:
    """Return the density of a cloud, per unit of length.

    A ray through the centre of a Gaussian, along its thinnest axis, loses the fraction of its light that equals the opacity.

    Args:
        gaussians: The cloud.
        points: Points (P, 3). The function is fast if consecutive points are close together, as in a grid.

    Returns:
        Densities (P,), at least 0.
    """
    inverse = gaussians.axes / gaussians.scale[:, None]  # columns: each axis divided by the deviation along it
    reach = REACH * (gaussians.axes * gaussians.scale[:, None]).norm(dim=-1)
    thinnest = gaussians.scale.amin(-1)
    peak = -torch.log1p(-gaussians.opacity.clamp(max=MAX_OPACITY)) / (math.sqrt(2 * math.pi) * thinnest)
    blocks = torch.cat([points, points[-1:].expand(-len(points) % BLOCK, 3)]).view(-1, BLOCK, 3)
    densities = []
    for chunk in blocks.split(max(1, MAX_PAIRS // (BLOCK * len(gaussians.mean)))):
        low, high = chunk.amin(1)[:, None], chunk.amax(1)[:, None]
        near = ((gaussians.mean + reach >= low) & (gaussians.mean - reach <= high)).all(-1)
        index, valid = packed(near)
        to_deviations = inverse[index].transpose(1, 2).flatten(2)  # (blocks, 3, 3 K)
        centre = (gaussians.mean[index][..., None, :] @ inverse[index]).flatten(1)[:, None]
        q = (chunk @ to_deviations - centre).square().unflatten(2, (-1, 3)).sum(-1)
        weight = torch.where((q <= REACH**2) & valid[:, None], torch.exp(-q / 2), 0.0)
        densities.append((weight @ peak[index][..., None])[..., 0])
    return torch.cat(densities).flatten()[: len(points)]


def packed(mask: Tensor) -> tuple[Tensor, Tensor]:
    """Return the column indices of the true entries of a mask, row by row.

    Args:
        mask: A mask (T, N).

    Returns:
        Indices (T, K), in ascending order, and which of them are valid, (T, K) bool: rows with fewer than K true entries are
        padded. On the CPU, K is the largest number of true entries in a row. On other devices all N columns are returned with
        the mask itself, because the program would have to wait for the device to learn K.
    """
    count, n = mask.sum(1), mask.shape[1]
    if mask.device.type != "cpu":
        return torch.arange(n, device=mask.device).expand(len(mask), n), mask
    row, column = mask.nonzero(as_tuple=True)
    slot = torch.arange(len(row)) - (count.cumsum(0) - count)[row]
    index = torch.zeros(len(mask), int(count.max()) if len(row) else 1, dtype=torch.long)
    index[row, slot] = column
    return index, torch.arange(index.shape[1]) < count[:, None]
