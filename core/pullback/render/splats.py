"""Splatting: renders 3D Gaussians by elliptical weighted averaging (Zwicker et al. 2001, Kerbl et al. 2023).

A Gaussian with standard deviations s along the axes of a rotation R has the covariance R diag(s^2) R'. In a picture it is
approximated by the 2D Gaussian with the covariance J R diag(s^2) R' J', where J is the Jacobian of the projection at the mean.
BLUR is added to this covariance, because a pixel averages over its area, and the opacity is reduced by the factor by which the
area of the ellipse grows.

Gaussians are composited front to back, in the order of the depths of their means. At a distance of q^(1/2) standard deviations
from its centre, a Gaussian of opacity o absorbs the part alpha = o exp(-q / 2) of the light that the Gaussians before it let
through. Beyond REACH deviations alpha is 0.

Pictures are rendered in square tiles. Each tile composites only the Gaussians whose bounding boxes overlap it, so the size of
the tiles does not affect the result. On the CPU, a tile's Gaussians are packed into a list. On other devices, every tile
computes all Gaussians and masks those that do not overlap it; on CUDA, gsplat renders the picture instead if it is installed.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from importlib.util import find_spec

import torch
import torch.nn.functional as F
from torch import Tensor

from ..fields.gaussians import MAX_OPACITY, MAX_PAIRS, REACH, Gaussians, packed
from ..geometry.cameras import Cameras
from ..representation import Crop

BLUR = 1 / 12
"""Variance that is added to a projected Gaussian, in pixels squared: that of a uniform distribution over a pixel."""
NEAR = 0.05
"""Depth in front of the camera, in world units, below which Gaussians are not rendered."""
BEYOND = 0.15
"""How far outside the picture a mean may lie, as a fraction of the side, before its Jacobian is taken at that limit."""
GSPLAT_REACH = 3.33
"""The largest distance from its mean, in standard deviations, at which gsplat renders a Gaussian."""


@dataclass(frozen=True)
class Projected:
    """N Gaussians as B cameras see them, in pixels.

    Args:
        splat: (B, N, 6) in the order of storage: x and y of the centre, the entries xx, xy and yy of the inverse covariance,
            and the logarithm of the opacity.
        box: (B, N, 4) from the nearest to the farthest: x and y of the centre, and half the width and height of the bounding
            box, which are -inf for Gaussians nearer than NEAR.
        order: (B, N): the index in storage of the nearest Gaussian, of the second nearest, and so on.
    """

    splat: Tensor
    box: Tensor
    order: Tensor


@dataclass(frozen=True)
class Tiles:
    """T square parts of B pictures.

    Args:
        view: The picture that each tile belongs to, (T,).
        top: Its first row, (T,).
        left: Its first column, (T,).
        side: The side of every tile in pixels.
    """

    view: Tensor
    top: Tensor
    left: Tensor
    side: int

    def __len__(self) -> int:
        return len(self.view)

    def __getitem__(self, part: slice) -> Tiles:
        return Tiles(self.view[part], self.top[part], self.left[part], self.side)

    def of(self, pictures: Tensor) -> Tensor:
        """Return the pixels (T, side^2, C) of the tiles, row by row, from pictures (B, H, W, C)."""
        line = torch.arange(self.side, device=pictures.device)
        row, column = (first[:, None, None] + step for first, step in ((self.top, line[:, None]), (self.left, line)))
        return pictures[self.view[:, None, None], row, column].flatten(1, 2)


def project(gaussians: Gaussians, cameras: Cameras, height: int, width: int) -> Projected:
    """Project Gaussians into the pictures of cameras.

    Args:
        gaussians: N Gaussians.
        cameras: B cameras.
        height: Height of the pictures in pixels.
        width: Width of the pictures.

    Returns:
        The projection. `splat` is differentiable in the Gaussians, `box` is not.
    """
    pose = cameras.pose
    offset = gaussians.mean - cameras.position[:, None]  # (B, N, 3)
    right, up, back = ((offset * pose[:, None, :3, i]).sum(-1) for i in range(3))
    depth = (-back).clamp(min=NEAR)
    tan = torch.tan(cameras.fov / 2)[:, None]
    focal = height / 2 / tan
    centre = torch.stack([width / 2 + focal * right / depth, height / 2 - focal * up / depth], -1)
    # The linear approximation fails far outside the picture, where a Gaussian would be smeared across all of it. There the
    # Jacobian is that of a point near the edge.
    limit = (1 + 2 * BEYOND) * tan
    slope_x = (right / depth).clamp(-limit * width / height, limit * width / height)
    slope_y = (up / depth).clamp(-limit, limit)
    scaled_axes, backwards = gaussians.axes * gaussians.scale[:, None], pose[:, None, :3, 2]
    magnification = (focal / depth)[..., None]
    jacobian_x = magnification * (pose[:, None, :3, 0] + slope_x[..., None] * backwards)
    jacobian_y = -magnification * (pose[:, None, :3, 1] + slope_y[..., None] * backwards)
    x, y = ((scaled_axes * each[..., None]).sum(-2) for each in (jacobian_x, jacobian_y))
    xx, xy, yy = ((p * q).sum(-1) for p, q in ((x, x), (x, y), (y, y)))
    determinant = torch.linalg.cross(x, y).square().sum(-1)  # xx yy - xy^2, without cancellation
    blurred = determinant + BLUR * (xx + yy) + BLUR**2
    opacity = gaussians.opacity.clamp(1e-12, MAX_OPACITY).log() + 0.5 * (determinant / blurred).clamp(min=1e-12).log()
    inverse = ((yy + BLUR) / blurred, -xy / blurred, (xx + BLUR) / blurred)
    splat = torch.cat([centre, torch.stack([*inverse, opacity], -1)], -1)
    with torch.no_grad():
        reach = REACH * torch.stack([xx + BLUR, yy + BLUR], -1).sqrt()
        reach = torch.where((-back > NEAR)[..., None], reach, -torch.inf)
        order = depth.argsort(dim=1, stable=True)
        box = torch.cat([centre, reach], -1).gather(1, order[..., None].expand(-1, -1, 4))
    return Projected(splat, box, order)


def draw(gaussians: Gaussians, cameras: Cameras, height: int, width: int, tiles: Tiles) -> Tensor:
    """Render tiles of pictures. Differentiable in the Gaussians.

    Args:
        gaussians: The Gaussians, with colours (N, C).
        cameras: B cameras.
        height: Height of the pictures in pixels.
        width: Width of the pictures.
        tiles: T tiles.

    Returns:
        (T, side^2, C + 1), row by row: the composited colours, premultiplied, and the opacity.
    """
    return _composited(project(gaussians, cameras, height, width), gaussians.colour, tiles)


def _composited(seen: Projected, colour: Tensor, tiles: Tiles) -> Tensor:
    """Render tiles of projected Gaussians with colours (N, C); see `draw`."""
    half, n = tiles.side / 2, seen.order.shape[1]
    tile_centre = torch.stack([tiles.left, tiles.top], -1).to(colour.dtype) + half
    box = seen.box[tiles.view]
    overlaps = ((box[..., :2] - tile_centre[:, None]).abs() <= box[..., 2:] + half).all(-1)
    rank, valid = packed(overlaps)
    index = seen.order[tiles.view].gather(1, rank)
    x, y, xx, xy, yy, opacity = _rows(seen.splat.flatten(0, 1), index + n * tiles.view[:, None]).unbind(-1)
    x, y = x - tile_centre[:, :1], y - tile_centre[:, 1:]
    # log(alpha) is a quadratic polynomial in the pixel's position (u, v) within the tile, so that one matrix product evaluates
    # it for all pixels and Gaussians of a tile.
    linear = (xx * x + xy * y, xy * x + yy * y)
    coefficients = (-xx / 2, -xy, -yy / 2, *linear, opacity - (linear[0] * x + linear[1] * y) / 2)
    line = torch.arange(tiles.side, device=colour.device, dtype=colour.dtype) + 0.5 - half
    v, u = (each.flatten() for each in torch.meshgrid(line, line, indexing="ij"))
    log_alpha = torch.stack([u * u, u * v, v * v, u, v, torch.ones_like(u)], -1) @ torch.stack(coefficients, 1)
    least = torch.where(valid, opacity.detach() - REACH**2 / 2, torch.inf)[:, None]
    alpha = torch.where(log_alpha >= least, log_alpha, -torch.inf).exp()
    tau = -torch.log1p(-alpha)
    weight = alpha * torch.exp(tau - tau.cumsum(-1))
    return weight @ F.pad(_rows(colour, index), (0, 1), value=1.0)


def _rows(table: Tensor, index: Tensor) -> Tensor:
    """Look up rows (..., F) of a table (N, F). On the CPU the gradient of an embedding is faster than that of indexing."""
    return F.embedding(index, table)


def picture(
    gaussians: Gaussians,
    cameras: Cameras,
    height: int,
    width: int,
    crop: Crop | None = None,
    tick: Callable[[], None] = lambda: None,
) -> Tensor:
    """Render pictures of Gaussians. Differentiable in the Gaussians.

    Args:
        gaussians: The Gaussians, with colours (N, C).
        cameras: B cameras.
        height: Height of the whole picture in pixels.
        width: Width of the whole picture.
        crop: The part (top, left, h, w) that is wanted, or None for all of it.
        tick: Called for every chunk of tiles; it may raise to stop.

    Returns:
        (B, C + 1, h, w): the composited colours, premultiplied, and the opacity.
    """
    top, left, h, w = crop or (0, 0, height, width)
    if uses_gsplat(gaussians.mean.device):
        tick()
        return picture_by_gsplat(gaussians, cameras, height, width, crop)
    # Pictures of 65 to 1024 rows have between 17 and 32 rows of tiles.
    side = min(32, 4 << max(0, (height - 1).bit_length() - 7))
    device = gaussians.mean.device
    rows, columns = (
        torch.arange(first // side, -(-(first + count) // side), device=device)
        for first, count in ((top, h), (left, w))
    )
    views = torch.arange(len(cameras), device=device)
    view, y, x = torch.meshgrid(views, rows * side, columns * side, indexing="ij")
    tiles = Tiles(view.flatten(), y.flatten(), x.flatten(), side)
    seen = project(gaussians, cameras, height, width)
    chunks = []
    count = max(1, MAX_PAIRS // (side**2 * len(gaussians.mean)))
    for start in range(0, len(tiles), count):
        tick()
        chunks.append(_composited(seen, gaussians.colour, tiles[start : start + count]))
    whole = torch.cat(chunks).view(len(views), len(rows), len(columns), side, side, -1)
    whole = whole.permute(0, 5, 1, 3, 2, 4).flatten(2, 3).flatten(3, 4)
    above, before = top - top // side * side, left - left // side * side
    return whole[..., above : above + h, before : before + w]


def depth(
    gaussians: Gaussians, cameras: Cameras, height: int, width: int, tick: Callable[[], None] = lambda: None
) -> Tensor:
    """Return the mean distance from the camera to the Gaussians in each pixel, weighted by their share of the pixel.

    Args:
        gaussians: The Gaussians.
        cameras: B cameras.
        height: Height of the picture in pixels.
        width: Width of the picture.
        tick: Called often; it may raise to stop.

    Returns:
        Distances (B, 1, height, width) in world units, infinite where the opacity is at most one half.
    """
    distances = []
    for camera in (cameras[i : i + 1] for i in range(len(cameras))):
        distance = (gaussians.mean - camera.position).norm(dim=-1, keepdim=True)
        far, opacity = picture(replace(gaussians, colour=distance), camera, height, width, None, tick).split(1, 1)
        distances.append(torch.where(opacity > 0.5, far / opacity.clamp(min=0.5), torch.inf))
    return torch.cat(distances)


def uses_gsplat(device: torch.device) -> bool:
    """Return whether gsplat renders the pictures on a device: on CUDA, if it is installed."""
    return device.type == "cuda" and find_spec("gsplat") is not None


def picture_by_gsplat(
    gaussians: Gaussians, cameras: Cameras, height: int, width: int, crop: Crop | None = None
) -> Tensor:
    """Render what `picture` renders, with gsplat.

    The two differ by gsplat's own thresholds: it leaves out alphas below 1/255, and stops when less than 1/10000 of the light
    is left. Arguments and result are as in `picture`.
    """
    from gsplat import rasterization

    top, left, h, w = crop or (0, 0, height, width)
    window = (0, 0, height, width) if crop is None else window_of(gaussians, cameras, height, width, crop)
    world_to_camera, intrinsics = opencv_cameras(cameras, height, width, window)
    light, opacity, _ = rasterization(
        gaussians.mean, gaussians.rotation, gaussians.scale, gaussians.opacity.clamp(max=MAX_OPACITY), gaussians.colour,
        world_to_camera, intrinsics, window[3], window[2], near_plane=NEAR, eps2d=BLUR, packed=False,
        rasterize_mode="antialiased",
    )  # fmt: skip
    above, before = top - window[0], left - window[1]
    return torch.cat([light, opacity], -1).permute(0, 3, 1, 2)[..., above : above + h, before : before + w]


def opencv_cameras(cameras: Cameras, height: int, width: int, window: Crop) -> tuple[Tensor, Tensor]:
    """Return cameras by the conventions of OpenCV, which look along +Z with Y down, and see a window of the picture.

    The window has the focal length of the whole picture. Only the principal point moves.

    Args:
        cameras: B cameras.
        height: Height of the whole picture in pixels.
        width: Width of the whole picture.
        window: The part (top, left, h, w) of the picture. It may extend over the edges.

    Returns:
        Transforms (B, 4, 4) from the world to the camera, and intrinsics (B, 3, 3) in pixels of the window.
    """
    pose, (top, left, _, _) = cameras.pose, window
    centre = ((0.0, 0.0, width / 2 - left), (0.0, 0.0, height / 2 - top), (0.0, 0.0, 1.0))
    intrinsics = pose.new_tensor(centre).repeat(len(cameras), 1, 1)
    intrinsics[:, 0, 0] = intrinsics[:, 1, 1] = height / 2 / torch.tan(cameras.fov / 2)
    return torch.linalg.inv(pose * pose.new_tensor((1.0, -1.0, -1.0, 1.0))), intrinsics


@torch.no_grad()
def window_of(gaussians: Gaussians, cameras: Cameras, height: int, width: int, crop: Crop) -> Crop:
    """Return the part of the picture that gsplat must render so that a crop of it equals that part of the whole picture.

    gsplat takes the Jacobian of a mean that lies outside its picture, by more than BEYOND of the side, at that limit. If it
    rendered only the crop, Gaussians that reach into the crop from outside would have another shape than in the whole picture,
    and bands of a picture would not match at their edges. The window therefore contains the centres of all Gaussians that reach
    into the crop. Along an axis where one of these centres is at the limit of the whole picture, it is the whole picture.

    Args:
        gaussians: The Gaussians.
        cameras: B cameras.
        height: Height of the whole picture in pixels.
        width: Width of the whole picture.
        crop: The part (top, left, h, w) that is wanted.

    Returns:
        The window (top, left, h, w), which contains the crop. It may extend over the edges of the picture.
    """
    top, left, h, w = crop
    centre, reach = project(gaussians, cameras, height, width).box.flatten(0, 1).split(2, -1)
    reach = reach * (GSPLAT_REACH / REACH)
    first, last = centre.new_tensor((left, top)), centre.new_tensor((left + w, top + h))
    inside = ((centre + reach >= first) & (centre - reach <= last)).all(-1)[:, None]
    lowest = torch.where(inside, centre, torch.inf).amin(0).tolist()
    highest = torch.where(inside, centre, -torch.inf).amax(0).tolist()
    x, columns = _extended(left, w, width, lowest[0], highest[0])
    y, rows = _extended(top, h, height, lowest[1], highest[1])
    return y, x, rows, columns


def _extended(first: int, count: int, size: int, low: float, high: float) -> tuple[int, int]:
    """Extend `count` pixels from `first` on, along a side of `size` pixels, so that they contain the places low and high.

    If there are no such places, low is infinite and high is -infinite.
    """
    if low < -BEYOND * size or high > (1 + BEYOND) * size:
        return 0, size
    start = min(first, math.floor(low)) if low < math.inf else first
    end = max(first + count, math.ceil(high)) if high > -math.inf else first + count
    return start, end - start
