"""From the network to estimates of pictures, at points and in the core's terms.

A noisy picture of the core is x = x0 + sigma eps, with white noise. ∞-Diff's state is y = T x = T x0 + sigma T eps, up to its
factor sqrt(1 + sigma²): T (`mollifier.py`) turns one into the other, and since T is invertible, E[x0 | x] = E[x0 | y]. So

    D(x, sigma) = W M(T x, sigma)

is a denoiser like every other, where M estimates T x0 from y, and W is the Wiener inverse. Samplers, guides and fields never see
that the network works on smoothed noise.

M is the network's correction of the best linear estimate. Pictures are taken for Gaussian around a mean m, with the mean power
P(k) at a frequency (`power`), for which E[T x0 | y] is T m + S (y - T m), where S multiplies the cosine transform by
P / (P + sigma²):

    M(y, sigma) = T m + S (y - T m) + c_out F(y, y - T m, ...)

The mean is the picture that toybox's template expects for words and camera, or 0 without toybox. F sees its inputs scaled to unit
variance, and c_out is the standard deviation of T x0 from its linear estimate. For white pictures around 0 these are the scalings
of EDM (Karras et al. 2022, table 1).
"""

from __future__ import annotations

import torch
from torch import Tensor

from ..toybox.network import PALETTE, Toybox, painted, palettes
from ..toybox.words import split_colours
from .mollifier import STD, WIENER_NOISE, filtered, mollify, response, wiener
from .network import Condition, Network, fitted
from .points import Points

SIZE = 64
"""Shorter side in pixels of the pictures to whose noise levels the network's levels refer."""
MEAN_POWER, POWER, FLAT = 2250.0, 750.0, 8.0
"""The mean power of pictures in [-1, 1] at k waves per half picture, for orthonormal cosine transforms of 64 x 64 pixels: that of
the mean, and POWER / (k³ + FLAT). Measured on toybox's pictures; it falls as k^-3 from 64 to 256 pixels."""
MEAN_LEFT, SQUARE, LEFT_FLAT = 38.0, 25.0, 0.2
"""The same for the differences from the template's pictures: that of the mean, and 1 / (LEFT_FLAT + |k² / SQUARE, k³ / POWER|),
with the length of the two numbers. The template leaves little at low frequencies."""
SHRINK = 0.15
"""The part of the noise that M is assumed to leave in a picture (`smooth_estimate`)."""


def power(height: int, width: int, template: bool = False) -> Tensor:
    """Return the mean power of pictures at every frequency of their cosine transform, (H, W) in float64.

    Args:
        height, width: Size of the pictures in pixels.
        template: Whether it is that of the differences from the template's pictures.
    """
    short = min(height, width)
    down, right = (torch.arange(n, dtype=torch.float64) * short / n for n in (height, width))
    square = down[:, None] ** 2 + right**2
    if template:
        found = 1 / (LEFT_FLAT + torch.hypot(square / SQUARE, square**1.5 / POWER))
        found[0, 0] = MEAN_LEFT
    else:
        found = POWER / (square**1.5 + FLAT)
        found[0, 0] = MEAN_POWER
    return found * (short / SIZE) ** 2


def mean_of(given: Condition, like: Tensor) -> Tensor:
    """Return the mean m of pictures under a condition, of the shape (B, C, H, W) of `like`."""
    if given.expected is None:
        return torch.zeros_like(like)
    return fitted(given.expected[:, : like.shape[1]].to(like), like.shape[2], like.shape[3])


def estimate(
    network: Network, y: Tensor, sigma: Tensor, points: Points, given: Condition, z: Tensor, std: float = STD
) -> Tensor:
    """Return M, the estimate of T x0 at points, (B, P, C).

    A noise level means less on a larger picture, where more pixels show the same: the network is told the level on a picture of
    `SIZE` pixels with the same large-scale noise.

    Args:
        network: The network. It sees y at the points only.
        y: T x, smoothed noisy pictures (B, C, H, W).
        sigma: Noise levels (B,).
        points: The points.
        given: The condition.
        z: The latent (B, latent), 0 for none.
        std: Standard deviation of T in pixels.
    """
    height, width = y.shape[-2:]
    template, mean = given.expected is not None, mollify(mean_of(given, y), std)
    signal = power(height, width, template).to(y.device)
    linear = mean + filtered(y - mean, _kept(signal, sigma))
    level = torch.log(sigma * SIZE / min(height, width)).to(y) / 4
    inputs = [points.of(y) / _deviation(power(height, width).to(y.device), sigma, std).to(y)[:, None, None]]
    if template:
        inputs.append(points.of(y - mean) / _deviation(signal, sigma, std).to(y)[:, None, None])
    f = network(torch.cat(inputs, -1), level, points, given, z)
    return points.of(linear) + correction(height, width, sigma, template, std).to(y)[:, None, None] * f


def _kept(signal: Tensor, sigma: Tensor) -> Tensor:
    """The factors P / (P + sigma²), (B, 1, H, W)."""
    return (signal / (signal + sigma.double()[:, None, None] ** 2))[:, None]


def _deviation(signal: Tensor, sigma: Tensor, std: float) -> Tensor:
    """The standard deviation (B,) of y around its mean."""
    height, width = signal.shape
    g = response(height, width, std).to(signal.device)
    return (g**2 * (signal + sigma.double()[:, None, None] ** 2)).mean((1, 2)).sqrt()


def correction(height: int, width: int, sigma: Tensor, template: bool = False, std: float = STD) -> Tensor:
    """Return c_out, the standard deviation of T x0 from its linear estimate for noise levels (B,), in float64."""
    signal, g = (each.to(sigma.device) for each in (power(height, width, template), response(height, width, std)))
    noise = sigma.double()[:, None, None] ** 2
    return (g**2 * signal * noise / (signal + noise)).mean((1, 2)).sqrt()


def error(
    network: Network, x: Tensor, sigma: Tensor, noise: Tensor, points: Points, given: Condition, z: Tensor, std: float = STD
) -> Tensor:  # fmt: skip
    """Return the squared error of M at points in units of c_out², (B,): it is 1 for the linear estimate of a Gaussian picture.

    Args:
        network, sigma, points, given, z, std: As in `estimate`.
        x: Clean pictures (B, C, H, W).
        noise: White noise of the same shape.
    """
    clean, (height, width) = mollify(x, std), x.shape[-2:]
    y = clean + sigma[:, None, None, None].to(x) * mollify(noise, std)
    missed = estimate(network, y, sigma, points, given, z, std) - points.of(clean)
    unit = correction(height, width, sigma, given.expected is not None, std).to(x)
    return missed.square().mean((1, 2)) / unit**2


def smooth_estimate(
    network: Network, y: Tensor, sigma: Tensor, given: Condition, z: Tensor, std: float = STD, shrink: float = SHRINK
) -> Tensor:  # fmt: skip
    """Return M at all pixels, without the noise that the Wiener inverse would amplify, (B, C, H, W).

    Of the network's errors at high frequencies nothing is known but their size. They are taken for `shrink` times the noise of
    the picture, and frequencies of the difference from the mean are multiplied by P / (P + shrink² sigma²).

    Args:
        network, y, sigma, given, z, std: As in `estimate`.
        shrink: The part of the noise that is left; 0 changes nothing.
    """
    height, width = y.shape[-2:]
    points, mean = Points(height, width), mollify(mean_of(given, y), std)
    found = points.picture(estimate(network, y, sigma, points, given, z, std))
    signal = power(height, width, given.expected is not None).to(y.device)
    return mean + filtered(found - mean, _kept(signal, shrink * sigma))


def denoise(
    network: Network, x: Tensor, sigma: Tensor, given: Condition, z: Tensor, std: float = STD, inverse: float = WIENER_NOISE,
    shrink: float = SHRINK,
) -> Tensor:  # fmt: skip
    """Return D(x, sigma) for pictures x (B, C, H, W) of any size.

    Args:
        network, sigma, given, z, std: As in `estimate`.
        x: Noisy pictures.
        inverse: The noise-to-signal ratio of the Wiener inverse.
        shrink: As in `smooth_estimate`.
    """
    return wiener(smooth_estimate(network, mollify(x, std), sigma, given, z, std, shrink), std, inverse)


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
