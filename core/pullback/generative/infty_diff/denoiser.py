"""From the network to estimates of pictures, at points and in the core's terms.

A noisy picture of the core is x = x0 + sigma eps, with white noise. ∞-Diff's state is y = T x = T x0 + sigma T eps, up to its
factor sqrt(1 + sigma²): T (`mollifier.py`) turns one into the other, and since T is invertible, E[x0 | x] = E[x0 | y]. So

    D(x, sigma) = W M(T x, sigma)

is a denoiser like every other, where M estimates T x0 from y, and W is the Wiener inverse. Samplers, guides and fields never see
that the network works on smoothed noise.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ..toybox.network import PALETTE, Toybox, painted, palettes
from ..toybox.words import split_colours
from .mollifier import STD, gain, mollify, wiener
from .network import Condition, Network
from .points import Points

SIGMA_DATA = 0.5
SIZE = 64
"""Shorter side in pixels of the pictures to whose noise levels the network's levels refer."""


def estimate(
    network: Network, y: Tensor, sigma: Tensor, points: Points, given: Condition, z: Tensor, std: float = STD
) -> Tensor:
    """Return M, the estimate of T x0 at points, (B, P, C), by EDM's scaling (Karras et al. 2022, table 1).

    The noise T eps is weaker than eps by `gain`. A noise level means less on a larger picture, where more pixels show the same:
    the network is told the level on a picture of `SIZE` pixels with the same large-scale noise.

    Args:
        network: The network.
        y: T x at the points, (B, P, C).
        sigma: Noise levels (B,).
        points: The points.
        given: The condition.
        z: The latent (B, latent), 0 for none.
        std: Standard deviation of T in pixels.
    """
    noise = (gain(points.height, points.width, std) * sigma)[:, None, None].to(y)
    variance = noise**2 + SIGMA_DATA**2
    level = torch.log(sigma * SIZE / min(points.height, points.width)).to(y) / 4
    f = network(y / variance.sqrt(), level, points, given, z)
    return SIGMA_DATA**2 / variance * y + noise * SIGMA_DATA / variance.sqrt() * f


def error(
    network: Network, x: Tensor, sigma: Tensor, noise: Tensor, points: Points, given: Condition, z: Tensor, std: float = STD
) -> Tensor:  # fmt: skip
    """Return the squared error of M at points, weighted so that the network's output has an error of unit scale, (B,).

    Args:
        network, sigma, points, given, z, std: As in `estimate`.
        x: Clean pictures (B, C, H, W).
        noise: White noise of the same shape.
    """
    clean = mollify(x, std)
    y = clean + sigma[:, None, None, None].to(x) * mollify(noise, std)
    level = gain(points.height, points.width, std) * sigma.to(x)
    weight = (level**2 + SIGMA_DATA**2) / (level * SIGMA_DATA) ** 2
    missed = estimate(network, points.of(y), sigma, points, given, z, std) - points.of(clean)
    return weight * missed.square().mean((1, 2))


def denoise(
    network: Network, x: Tensor, sigma: Tensor, given: Condition, z: Tensor, noise: float, std: float = STD
) -> Tensor:
    """Return D(x, sigma) for pictures x (B, C, H, W) of any size.

    Args:
        network, sigma, given, z, std: As in `estimate`.
        x: Noisy pictures.
        noise: The noise-to-signal ratio of the Wiener inverse.
    """
    points = Points(*x.shape[-2:])
    found = estimate(network, points.of(mollify(x, std)), sigma, points, given, z, std)
    return wiener(points.picture(found), std, noise)


@torch.no_grad()
def expected(toybox: Toybox, words: Tensor, cameras: Tensor, lit: Tensor) -> Tensor:
    """Return the mean picture of a condition by toybox's template, (B, LAYERS, 32, 32) as in `network.py`.

    Args:
        toybox: The network of toybox, with its weights.
        words, cameras, lit: As in `Condition`.
    """
    split = [split_colours(row) for row in words.tolist()]
    shape = torch.tensor([others for others, _ in split], device=words.device)
    layers = toybox.template(toybox.template.words(shape), cameras, lit).float()
    palette = torch.stack([palettes(colours) for _, colours in split]).to(layers)
    weight, main, accent = palette.split((1, 3, PALETTE - 4), -1)
    picture = painted(layers, (weight * main).sum(1), (weight * accent).sum(1))
    return torch.cat([picture, 2 * layers[:, :2] - 1], 1)
