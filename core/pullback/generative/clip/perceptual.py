"""Perceptual distances between pictures, for training: between features of our picture-text model, or LPIPS.

A distance takes two batches of pictures (B, C, H, W) in [-1, 1], where C is 3 or 4 (premultiplied RGBA, which is put on white),
and returns their mean distance, differentiable in the first batch.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor
from torch.nn.functional import normalize

from .model import network, scaled

Perceptual = Callable[[Tensor, Tensor], Tensor]
LEVELS = (0, 1, 2)
"""Indices of the feature maps that are compared. The coarsest map is left out: it tells what is shown rather than how."""

VGG = "vgg16-397923af.pth"
"""Torchvision's name for the file of VGG-16's weights."""


def perceptual_distance(drawn: Tensor, wanted: Tensor) -> Tensor:
    """Return the mean distance between the features that our picture-text model finds in two batches of pictures.

    As in LPIPS (Zhang et al. 2018, eq. 1), the features of every place are scaled to length 1, and their squared differences are
    summed over channels and averaged over places; levels are summed. Levels have no learned weights.

    Square pictures are scaled to the nearest multiple of the model's size (48 pixels become 64), so that large pictures keep
    about their own scale. The feature maps come from convolutions, which take any size.
    """
    net = network(device=str(drawn.device))
    a, b = (net.features(_prepared(pictures, net.config.size)) for pictures in (drawn, wanted))
    total = drawn.new_zeros(())
    for level in LEVELS:
        difference = normalize(a[level], dim=1, eps=1e-6) - normalize(b[level].detach(), dim=1, eps=1e-6)
        total = total + difference.square().sum(1).mean()
    return total


def _prepared(pictures: Tensor, size: int) -> Tensor:
    """Return pictures as RGB on white in [0, 1], scaled to the nearest multiple of `size`."""
    rgb = on_white(pictures) / 2 + 0.5
    return scaled(rgb, size * max(1, round(rgb.shape[-1] / size)))


def on_white(pictures: Tensor) -> Tensor:
    """Put premultiplied RGBA (B, 4, H, W) in [-1, 1] on white. RGB is unchanged. Nothing is clamped, so that gradients pass."""
    return pictures if pictures.shape[1] == 3 else pictures[:, :3] + 1 - pictures[:, 3:]


def lpips() -> Perceptual:
    """Return LPIPS with VGG-16, which INFD is trained with, from the package `lpips`.

    Raises:
        ImportError: If the package is not installed.
        ValueError: If VGG's weights are not on this machine; nothing is downloaded.
    """
    try:
        import lpips as package
    except ImportError as error:
        raise ImportError(
            "LPIPS needs another package: pip install lpips, or leave out --lpips and train with --perceptual 1"
        ) from error
    file = Path(torch.hub.get_dir(), "checkpoints", VGG)
    if not file.is_file():
        raise ValueError(f"LPIPS needs the weights of VGG-16: put torchvision's {VGG} into {file.parent}")
    net = package.LPIPS(net="vgg", verbose=False).requires_grad_(False)
    return lambda drawn, wanted: net.to(drawn.device)(on_white(drawn), on_white(wanted)).mean()
