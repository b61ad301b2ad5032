"""Pinhole cameras and their rays.

The world is right-handed with Z up. An object lies in [-1, 1]^3 and faces -Y. A camera looks along -Z of its own frame, with
+Y up (as in OpenGL, Blender and glTF). Azimuth is the angle around Z, 0 in front of the object (the camera is at -Y) and
growing counter-clockwise as seen from above. Elevation is the angle above the XY plane. Both are in radians. The centre of
pixel column j of W lies at x = (2j + 1)/W - 1, where the picture spans [-1, 1].
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

DISTANCE = 3.2
"""The default distance of a camera from the middle of the object."""
FOV = math.radians(40.0)
"""The default full vertical angle of a camera, in radians."""


@dataclass(frozen=True)
class Cameras:
    """A batch of B pinhole cameras.

    Args:
        pose: Rigid transforms from camera to world, (B, 4, 4).
        fov: Full vertical angles in radians, (B,).
    """

    pose: Tensor
    fov: Tensor

    def __len__(self) -> int:
        return self.pose.shape[0]

    def __getitem__(self, index: slice | Tensor) -> Cameras:
        return Cameras(self.pose[index], self.fov[index])

    @property
    def position(self) -> Tensor:
        """World positions of the pinholes, (B, 3)."""
        return self.pose[:, :3, 3]

    @property
    def azimuth(self) -> Tensor:
        """Azimuth of the side of the object that each camera sees, (B,) in (-pi, pi]."""
        back = self.pose[:, :3, 2]
        return torch.atan2(back[:, 0], -back[:, 1])

    @property
    def elevation(self) -> Tensor:
        """Elevation from which each camera looks, (B,) in [-pi/2, pi/2]."""
        return torch.asin(self.pose[:, 2, 2].clamp(-1.0, 1.0))

    def to(self, *args: Any, **kwargs: Any) -> Cameras:
        """Return the same cameras on another device or in another dtype."""
        return Cameras(self.pose.to(*args, **kwargs), self.fov.to(*args, **kwargs))


def look_at(position: Tensor, target: Tensor, fov: Tensor | float = FOV) -> Cameras:
    """Return cameras that look at a target, with Z up in the picture, or +Y if the view is vertical.

    Args:
        position: Positions (B, 3).
        target: What they look at, (B, 3) or (3,).
        fov: Full vertical angle in radians, a number or (B,).
    """
    back = torch.nn.functional.normalize(position - target, dim=-1)
    up = torch.zeros_like(back)
    vertical = back[:, 2].abs() > 1 - 1e-6
    up[:, 2] = (~vertical).to(up.dtype)
    up[:, 1] = vertical.to(up.dtype)
    right = torch.nn.functional.normalize(torch.linalg.cross(up, back), dim=-1)
    rotation = torch.stack([right, torch.linalg.cross(back, right), back], dim=-1)
    pose = torch.eye(4, dtype=position.dtype, device=position.device).repeat(len(position), 1, 1)
    pose[:, :3, :3], pose[:, :3, 3] = rotation, position
    return Cameras(pose, torch.as_tensor(fov, dtype=position.dtype, device=position.device).expand(len(position)))


def orbit(azimuth: Tensor, elevation: Tensor, distance: float = DISTANCE, fov: float = FOV) -> Cameras:
    """Return cameras on a sphere around the origin that look at it.

    Args:
        azimuth: Azimuths (B,) in radians.
        elevation: Elevations (B,) in radians.
        distance: The radius of the sphere.
        fov: Full vertical angle in radians.

    Example:
        >>> orbit(torch.zeros(1), torch.zeros(1), distance=2.0).position
        tensor([[ 0., -2.,  0.]])
    """
    cos = torch.cos(elevation)
    direction = torch.stack([cos * torch.sin(azimuth), -cos * torch.cos(azimuth), torch.sin(elevation)], dim=-1)
    return look_at(distance * direction, torch.zeros_like(direction), fov)


def turntable(
    count: int, elevation: float = math.radians(20.0), distance: float = DISTANCE, fov: float = FOV
) -> Cameras:
    """Return `count` cameras evenly spaced around the object, the first one in front of it. Angles are in radians."""
    azimuth = torch.arange(count) * (2 * math.pi / count)
    return orbit(azimuth, torch.full((count,), elevation), distance, fov)


def rays(
    cameras: Cameras, height: int, width: int, crop: tuple[int, int, int, int] | None = None
) -> tuple[Tensor, Tensor]:
    """Return the rays through the pixel centres of a picture, or of a part of it.

    Args:
        cameras: B cameras.
        height: Height of the whole picture in pixels.
        width: Width of the whole picture.
        crop: The part (top, left, h, w), or None for all of it.

    Returns:
        Origins (B, h, w, 3), which share memory, and unit directions (B, h, w, 3), both in the world.
    """
    top, left, h, w = crop or (0, 0, height, width)
    pose = cameras.pose
    like: dict[str, Any] = {"dtype": pose.dtype, "device": pose.device}
    y = 1 - (2 * torch.arange(top, top + h, **like) + 1) / height
    x = ((2 * torch.arange(left, left + w, **like) + 1) / width - 1) * (width / height)
    tan = torch.tan(cameras.fov / 2)[:, None, None]
    grid_y, grid_x = torch.meshgrid(y, x, indexing="ij")
    local = torch.stack([tan * grid_x, tan * grid_y, -torch.ones_like(tan) * torch.ones_like(grid_x)], dim=-1)
    directions = torch.einsum("bij,bhwj->bhwi", pose[:, :3, :3], local)
    directions = torch.nn.functional.normalize(directions, dim=-1)
    return pose[:, None, None, :3, 3].expand_as(directions), directions
