"""The adversary of the autoencoder: a network that tells true patches from drawn ones (Isola et al. 2017; VQGAN)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

LARGEST_WEIGHT = 1e4
"""The largest adaptive weight."""


class PatchDiscriminator(nn.Sequential):
    """Strided convolutions, from pictures (B, C, H, W) to a score for each of h x w overlapping patches, (B, 1, h, w).

    Args:
        channels: Channels of the pictures.
        width: Channels after the first convolution; 64 in the paper.
        layers: Convolutions that halve the size; 3 in the paper.
    """

    def __init__(self, channels: int, width: int = 64, layers: int = 3):
        modules: list[nn.Module] = [nn.Conv2d(channels, width, 4, 2, 1), nn.LeakyReLU(0.2)]
        for n in range(1, layers + 1):
            a, b = width * min(2 ** (n - 1), 8), width * min(2**n, 8)
            stride = 2 if n < layers else 1
            modules += [nn.Conv2d(a, b, 4, stride, 1, bias=False), nn.BatchNorm2d(b), nn.LeakyReLU(0.2)]
        super().__init__(*modules, nn.Conv2d(b, 1, 4, 1, 1))


def hinge(true: Tensor, drawn: Tensor) -> Tensor:
    """Return the loss of the discriminator, from its scores of true patches and of drawn ones."""
    return (F.relu(1 - true).mean() + F.relu(1 + drawn).mean()) / 2


def adaptive_weight(error: Tensor, adversarial: Tensor, last: Tensor) -> Tensor:
    """Return the weight that makes two losses pull equally hard on the last layer (Esser et al. 2021, eq. 7).

    Args:
        error: The reconstruction loss.
        adversarial: The adversarial loss of the autoencoder.
        last: The weights of the renderer's last layer.
    """
    (pull,) = torch.autograd.grad(error, last, retain_graph=True)
    (push,) = torch.autograd.grad(adversarial, last, retain_graph=True)
    return (pull.norm() / (push.norm() + 1e-4)).clamp(max=LARGEST_WEIGHT).detach()
