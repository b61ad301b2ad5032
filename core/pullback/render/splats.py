"""Splats: pictures of 3D Gaussians by elliptical weighted averaging (Zwicker et al. 2001, Kerbl et al. 2023).

A Gaussian of deviations s along the axes of a rotation R has the covariance R diag(s^2) R'. A camera sees it as the
Gaussian whose covariance is J R diag(s^2) R' J', J the derivative of the projection at its mean, widened by what a pixel
takes the mean over, its peak lowered by as much as its area grew. Splats are composited from front to back in the order of
their means' depths: a splat of opacity o adds alpha = o exp(-q / 2) of the light that those before it let through, where
q is the squared distance in deviations, and nothing beyond REACH of them.

Pictures are made of square tiles, each of which sees the splats that reach into it; how large the tiles are changes
nothing. On a processor these are packed: another device takes all of them for every tile, since it would have to wait to
learn how many there are, or leaves whole pictures to gsplat, where that is installed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from importlib.util import find_spec

import torch
import torch.nn.functional as F
from torch import Tensor

from ..fields.gaussians import LIMIT, MOST, REACH, Gaussians, listed
from ..geometry.cameras import Cameras
from ..representation import Crop

BLUR = 1 / 12
"""Variance, in pixels squared, of a pixel's square."""
NEAR = 0.05
"""Distance in front of the camera from which on Gaussians are seen."""


@dataclass(frozen=True)
class Projected:
    """N Gaussians as B cameras see them, in pixels.

    splat: (B, N, 6): the middle x and y, the inverse covariance's xx, xy and yy, the logarithm of the opacity. box: (B, N, 4)
    of the front-most first: the middle, and how far it reaches to the sides and up and down. order: (B, N), which these are.
    """

    splat: Tensor
    box: Tensor
    order: Tensor


@dataclass(frozen=True)
class Tiles:
    """T squares of `side` x `side` pixels of B pictures. view, top, left: (T,) whole numbers."""

    view: Tensor
    top: Tensor
    left: Tensor
    side: int

    def __len__(self) -> int:
        return len(self.view)

    def of(self, pictures: Tensor) -> Tensor:
        """Their part (T, side^2, C) of pictures (B, H, W, C), row by row."""
        line = torch.arange(self.side, device=pictures.device)
        row, column = (low[:, None, None] + step for low, step in ((self.top, line[:, None]), (self.left, line)))
        return pictures[self.view[:, None, None], row, column].flatten(1, 2)

    def __getitem__(self, part: slice) -> Tiles:
        return Tiles(self.view[part], self.top[part], self.left[part], self.side)


def project(gaussians: Gaussians, cameras: Cameras, height: int, width: int) -> Projected:
    """What B cameras see of Gaussians in pictures of height x width pixels."""
    pose = cameras.pose
    offset = gaussians.mean - cameras.position[:, None]  # (B, N, 3)
    right, up, back = ((offset * pose[:, None, :3, i]).sum(-1) for i in range(3))
    depth = (-back).clamp(min=NEAR)
    tan = torch.tan(cameras.fov / 2)[:, None]
    focal = height / 2 / tan
    middle = torch.stack([width / 2 + focal * right / depth, height / 2 - focal * up / depth], -1)
    # Of what lies far beside the picture the derivative is taken near its edge, or it would smear over all of it.
    slope = (right / depth).clamp(-1.3 * tan * width / height, 1.3 * tan * width / height)
    fall = (up / depth).clamp(-1.3 * tan, 1.3 * tan)
    own, away, near = gaussians.axes * gaussians.scale[:, None], pose[:, None, :3, 2], (focal / depth)[..., None]
    across = near * (pose[:, None, :3, 0] + slope[..., None] * away)
    down = -near * (pose[:, None, :3, 1] + fall[..., None] * away)
    x, y = ((own * each[..., None]).sum(-2) for each in (across, down))
    xx, xy, yy = ((p * q).sum(-1) for p, q in ((x, x), (x, y), (y, y)))
    sharp = torch.linalg.cross(x, y).square().sum(-1)  # xx yy - xy^2, without cancelling
    wide = sharp + BLUR * (xx + yy) + BLUR**2
    opacity = gaussians.opacity.clamp(1e-12, MOST).log() + 0.5 * (sharp / wide).clamp(min=1e-12).log()
    inverse = ((yy + BLUR) / wide, -xy / wide, (xx + BLUR) / wide)
    splat = torch.cat([middle, torch.stack([*inverse, opacity], -1)], -1)
    with torch.no_grad():
        reach = REACH * torch.stack([xx + BLUR, yy + BLUR], -1).sqrt()
        reach = torch.where((-back > NEAR)[..., None], reach, -torch.inf)
        order = depth.argsort(dim=1, stable=True)
        box = torch.cat([middle, reach], -1).gather(1, order[..., None].expand(-1, -1, 4))
    return Projected(splat, box, order)


def draw(gaussians: Gaussians, cameras: Cameras, height: int, width: int, tiles: Tiles) -> Tensor:
    """Pictures (T, side^2, C + 1) of tiles, row by row: the light, and the opacity. Differentiable in the Gaussians."""
    return _drawn(project(gaussians, cameras, height, width), gaussians.colour, tiles)


def _drawn(seen: Projected, colour: Tensor, tiles: Tiles) -> Tensor:
    """The same, of colours (N, C), from where they are seen."""
    half, n = tiles.side / 2, seen.order.shape[1]
    centre = torch.stack([tiles.left, tiles.top], -1).to(colour.dtype) + half
    box = seen.box[tiles.view]
    there = ((box[..., :2] - centre[:, None]).abs() <= box[..., 2:] + half).all(-1)
    place, present = listed(there)
    which = seen.order[tiles.view].gather(1, place)
    x, y, xx, xy, yy, opacity = _rows(seen.splat.flatten(0, 1), which + n * tiles.view[:, None]).unbind(-1)
    x, y = x - centre[:, :1], y - centre[:, 1:]
    # log(alpha) is a polynomial of the pixel's place in the tile: one product of matrices for all of its coefficients.
    linear = (xx * x + xy * y, xy * x + yy * y)
    terms = (-xx / 2, -xy, -yy / 2, *linear, opacity - (linear[0] * x + linear[1] * y) / 2)
    line = torch.arange(tiles.side, device=colour.device, dtype=colour.dtype) + 0.5 - half
    v, u = (each.flatten() for each in torch.meshgrid(line, line, indexing="ij"))
    log = torch.stack([u * u, u * v, v * v, u, v, torch.ones_like(u)], -1) @ torch.stack(terms, 1)
    least = torch.where(present, opacity.detach() - REACH**2 / 2, torch.inf)[:, None]
    alpha = torch.where(log >= least, log, -torch.inf).exp()
    tau = -torch.log1p(-alpha)
    weight = alpha * torch.exp(tau - tau.cumsum(-1))
    return weight @ F.pad(_rows(colour, which), (0, 1), value=1.0)


def _rows(table: Tensor, index: Tensor) -> Tensor:
    """Rows (..., F) of a table (N, F); as an embedding, whose gradient is the quickest on a processor."""
    return F.embedding(index, table)


def picture(
    gaussians: Gaussians,
    cameras: Cameras,
    height: int,
    width: int,
    crop: Crop | None = None,
    tick: Callable[[], None] = lambda: None,
) -> Tensor:
    """Pictures (B, C + 1, h, w), or a part (top, left, h, w) of them: the light, and the opacity.

    Differentiable in the Gaussians. `tick` is called often and may raise, to stop.
    """
    top, left, h, w = crop or (0, 0, height, width)
    if fast(gaussians.mean.device):
        tick()
        return by_gsplat(gaussians, cameras, height, width)[..., top : top + h, left : left + w]
    side = min(32, 4 << max(0, (height - 1).bit_length() - 7))  # as many tiles to a picture of any size, up to 1024
    device = gaussians.mean.device
    rows, columns = (
        torch.arange(low // side, -(-(low + many) // side), device=device) for low, many in ((top, h), (left, w))
    )
    views = torch.arange(len(cameras), device=device)
    view, y, x = torch.meshgrid(views, rows * side, columns * side, indexing="ij")
    tiles = Tiles(view.flatten(), y.flatten(), x.flatten(), side)
    seen = project(gaussians, cameras, height, width)
    parts = []
    many = max(1, LIMIT // (side**2 * len(gaussians.mean)))
    for start in range(0, len(tiles), many):
        tick()
        parts.append(_drawn(seen, gaussians.colour, tiles[start : start + many]))
    whole = torch.cat(parts).view(len(views), len(rows), len(columns), side, side, -1)
    whole = whole.permute(0, 5, 1, 3, 2, 4).flatten(2, 3).flatten(3, 4)
    above, left_of = top - top // side * side, left - left // side * side
    return whole[..., above : above + h, left_of : left_of + w]


def depth(
    gaussians: Gaussians, cameras: Cameras, height: int, width: int, tick: Callable[[], None] = lambda: None
) -> Tensor:
    """Mean distance (B, 1, height, width) to the middles of what hides each pixel; infinite where less than half is."""
    found = []
    for camera in (cameras[i : i + 1] for i in range(len(cameras))):
        away = replace(gaussians, colour=(gaussians.mean - camera.position).norm(dim=-1, keepdim=True))
        far, opacity = picture(away, camera, height, width, None, tick).split(1, 1)
        found.append(torch.where(opacity > 0.5, far / opacity.clamp(min=0.5), torch.inf))
    return torch.cat(found)


def fast(device: torch.device) -> bool:
    """Whether gsplat makes the pictures there."""
    return device.type == "cuda" and find_spec("gsplat") is not None


def by_gsplat(gaussians: Gaussians, cameras: Cameras, height: int, width: int) -> Tensor:
    """What `picture` makes, by gsplat: within its own cuts, at an alpha of 1/255 and where 1/10000 of the light is left."""
    from gsplat import rasterization

    pose, count = cameras.pose, len(cameras)
    downwards = pose.new_tensor((1.0, -1.0, -1.0, 1.0))  # gsplat's cameras look along +Z, with Y down
    focal = height / 2 / torch.tan(cameras.fov / 2)
    inner = pose.new_tensor(((0.0, 0.0, width / 2), (0.0, 0.0, height / 2), (0.0, 0.0, 1.0))).repeat(count, 1, 1)
    inner[:, 0, 0] = inner[:, 1, 1] = focal
    light, opacity, _ = rasterization(
        gaussians.mean, gaussians.rotation, gaussians.scale, gaussians.opacity.clamp(max=MOST), gaussians.colour,
        torch.linalg.inv(pose * downwards), inner, width, height, near_plane=NEAR, eps2d=BLUR, packed=False,
        rasterize_mode="antialiased",
    )  # fmt: skip
    return torch.cat([light, opacity], -1).permute(0, 3, 1, 2)
