"""Sockets: the values that our nodes exchange, and all conversions between ComfyUI's formats and the core's.

ComfyUI: IMAGE (B, H, W, 3) and MASK (B, H, W) in [0, 1]; MESH in glTF's axes (Y up), uv from the top left.
The core: pictures (B, C, H, W), where four channels are premultiplied RGBA; Z is up in the world, uv from the bottom left.
Does not import ComfyUI, so that it can be tested without it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

if TYPE_CHECKING:
    from ..core.pullback.storage import Field
    from .plans import Plan


@dataclass(frozen=True)
class FieldValue:
    """What a FIELD socket carries: how to sample a field, and the field itself once it has been sampled."""

    plan: Plan
    field: Field | None = None

    def sampled(self) -> Field:
        """Return the sampled field. Raise ValueError if it has not been sampled yet."""
        if self.field is None:
            raise ValueError("this field has not been sampled yet: put a Field Sampler between it and this node")
        return self.field


@dataclass
class MeshValue:
    """A MESH with the attributes of newer versions of ComfyUI, for older ones whose class has only vertices and faces.

    vertices (B, N, 3), faces (B, M, 3), uvs (B, N, 2) from the top left, texture (B, H, W, 3) in [0, 1].
    """

    vertices: Tensor
    faces: Tensor
    uvs: Tensor | None = None
    texture: Tensor | None = None
    vertex_colors: Tensor | None = None
    vertex_counts: Tensor | None = None
    face_counts: Tensor | None = None
    unlit: bool = field(default=False)


@dataclass
class VoxelValue:
    """A VOXEL for versions of ComfyUI that do not export their class. `data` has the shape (B, Z, Y, X)."""

    data: Tensor


def to_image(pictures: Tensor) -> Tensor:
    """Convert display pictures (B, 3 or 4, H, W) to an IMAGE (B, H, W, 3). RGBA is composited over white."""
    return on_white(pictures).movedim(1, -1).contiguous()


def to_mask(pictures: Tensor) -> Tensor:
    """Convert the opacities of display pictures (B, 3 or 4, H, W) to a MASK (B, H, W). It is 1 for RGB."""
    return pictures[:, 3] if pictures.shape[1] == 4 else torch.ones_like(pictures[:, 0])


def from_image(image: Tensor) -> Tensor:
    """Convert an IMAGE (B, H, W, C) to pictures (B, C, H, W)."""
    return image.movedim(-1, 1).contiguous()


def to_pixels(image: Tensor) -> np.ndarray:
    """Convert an IMAGE (B, H, W, C) to RGB (B, H, W, 3) uint8, on the CPU."""
    pixels: np.ndarray = (image[..., :3].float().clamp(0, 1) * 255).round().byte().cpu().numpy()
    return pixels


def one_for_each(mask: Tensor, count: int) -> Tensor:
    """Return `count` masks (count, H, W) of one or of as many. Raise ValueError if there is another number of them."""
    if len(mask) not in (1, count):
        raise ValueError(
            f"there are {len(mask)} masks for {count} pictures: connect one for all of them, or one for each"
        )
    return mask.expand(count, -1, -1)


def on_white(pictures: Tensor) -> Tensor:
    """Composite premultiplied RGBA (..., 4, H, W) over white. Return RGB as given."""
    if pictures.shape[-3] == 3:
        return pictures
    return (pictures[..., :3, :, :] + 1 - pictures[..., 3:, :, :]).clamp(0, 1)


def rough_colours(latents: Tensor, factors: Any, bias: Any) -> Tensor:
    """Convert latents (B, C, h, w) to preview pictures (B, 3, h, w) in [0, 1] by a linear map.

    Args:
        latents: The latents.
        factors: The model's factors (C, 3). If None, the first three channels are shown.
        bias: The model's bias (3,), or None.
    """
    if factors is None:
        rgb = latents[:, :3].expand(-1, 3, -1, -1) if latents.shape[1] < 3 else latents[:, :3]
    else:
        rgb = torch.einsum("bchw,cr->brhw", latents, torch.as_tensor(factors, dtype=latents.dtype))
        if bias is not None:
            rgb = rgb + torch.as_tensor(bias, dtype=latents.dtype)[:, None, None]
    return (rgb / 2 + 0.5).clamp(0, 1)


def nearness(depth: Tensor) -> Tensor:
    """Convert distances (B, 1, H, W), infinite for the background, to an IMAGE (B, H, W, 3).

    The nearest point of the batch is 1, the farthest 0.1, and the background 0.
    """
    hit = depth.isfinite()
    if not hit.any():
        return torch.zeros_like(depth).expand(-1, 3, -1, -1).movedim(1, -1).contiguous()
    near, far = depth[hit].min(), depth[hit].max()
    scaled = 1 - 0.9 * (depth - near) / (far - near).clamp(min=1e-6)
    return torch.where(hit, scaled, 0.0).expand(-1, 3, -1, -1).movedim(1, -1).contiguous()


def heat(amounts: Tensor) -> Tensor:
    """Convert amounts (B, H, W) in [0, 1] to a heat map, an IMAGE (B, H, W, 3): black at 0, then red, yellow, white at 1."""
    return torch.stack([3 * amounts, 3 * amounts - 1, 3 * amounts - 2], -1).clamp(0, 1)


def to_gltf(points: Tensor) -> Tensor:
    """Convert points (..., 3) from the world's axes (Z up) to glTF's (Y up)."""
    x, y, z = points.unbind(-1)
    return torch.stack([x, z, -y], -1)


def to_world(points: Tensor) -> Tensor:
    """Convert points (..., 3) from glTF's axes to the world's: the inverse of `to_gltf`."""
    x, y, z = points.unbind(-1)
    return torch.stack([x, -z, y], -1)


def flipped(uv: Tensor) -> Tensor:
    """Convert uv (..., 2) from the bottom left to uv from the top left, or back."""
    return torch.stack([uv[..., 0], 1 - uv[..., 1]], -1)


VIEWER = 2.5
"""The length of one world unit in the 3D viewer, which scales objects to a size of 5. The cube of an object has a side of 2."""


def camera_of(info: Any, fov: float) -> tuple[Tensor, float]:
    """Convert a LOAD3D_CAMERA to a position (1, 3) in the world, from which it looks at the origin, and an angle of view.

    Args:
        info: The viewer's {position: {x, y, z}, target: {x, y, z}, zoom}.
        fov: The angle of view at a zoom of 1, in radians.

    Raises:
        ValueError: If `info` is something else, or the position is the target.
    """
    try:
        position, target = ([float(info[key][axis]) for axis in "xyz"] for key in ("position", "target"))
        zoom = float(info.get("zoom", 1)) or 1.0
    except (TypeError, KeyError, ValueError, AttributeError) as error:
        raise ValueError(
            "camera must come from a Load 3D or Preview 3D node: it lacks a position or a target"
        ) from error
    eye = to_world(torch.tensor([position]) - torch.tensor([target])) / VIEWER
    if eye.norm() < 1e-6:
        raise ValueError("the camera is at the point that it looks at: move it away in the 3D viewer")
    return eye, 2 * math.atan(math.tan(fov / 2) / zoom)


def angles(text: str) -> list[tuple[float, float]]:
    """Parse pairs "azimuth,elevation" in degrees, separated by newlines or semicolons. Raise ValueError if one is wrong."""
    pairs = [part.strip() for part in text.replace("\n", ";").split(";") if part.strip()]
    try:
        found = [tuple(float(number) for number in pair.split(",")) for pair in pairs]
    except ValueError:
        found = []
    if not found or any(len(pair) != 2 or not all(map(math.isfinite, pair)) for pair in found):
        raise ValueError(
            f"views is {text!r}; it takes azimuth,elevation in degrees, one pair per line, for example 30,20"
        )
    return [(pair[0], pair[1]) for pair in found]
