"""Exact log-likelihoods of pictures, under one order or an ensemble of orders.

Pictures are levels (`heads.py`), (B, channels, H, W). Sums over pixels are in float64.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from .heads import signal
from .masks import Masks
from .network import PixelCNN


def conditionals(network: PixelCNN, values: Tensor, masks: Masks) -> Tensor:
    """Return the log probability of every pixel given those before it.

    Args:
        network: The network.
        values: Pictures as levels, (B, channels, H, W).
        masks: The masks of an order, from `network.masks`.

    Returns:
        Nats (B, H, W).
    """
    outputs = network(signal(values, network.head.levels, network.first.weight), masks)
    outputs = outputs if outputs.dtype == torch.float64 else outputs.float()
    return network.head.log_prob(outputs, values)


@torch.no_grad()
def log_likelihood(network: PixelCNN, values: Tensor, order: Tensor) -> Tensor:
    """Return the log probabilities of whole pictures under an order.

    Args:
        network: The network.
        values: Pictures as levels, (B, channels, H, W).
        order: The order of the pixels, (H W,).

    Returns:
        Nats (B,), as float64.
    """
    return conditionals(network, values, network.masks(order, *values.shape[2:])).double().sum((1, 2))


def ensemble(network: PixelCNN, values: Tensor, orders: Sequence[Tensor]) -> Tensor:
    """Return the log probabilities of pictures under the mean of the distributions of several orders, as `log_likelihood`.

    It is never below the mean of their log probabilities.
    """
    return mixed(torch.stack([log_likelihood(network, values, order) for order in orders]))


def mixed(nats: Tensor) -> Tensor:
    """Return the log probabilities (B,) under the mean of distributions, for those under each of them, (orders, B)."""
    return nats.logsumexp(0) - math.log(len(nats))


@torch.no_grad()
def completion_log_likelihood(network: PixelCNN, values: Tensor, known: Tensor, order: Tensor) -> Tensor:
    """Return the log probabilities of the unknown pixels of pictures, given those before them in an order.

    Args:
        network: The network.
        values: Whole pictures as levels, (B, channels, H, W).
        known: True where the picture is known, (H, W).
        order: The order of the pixels. Known pixels that come after unknown ones do not help those.

    Returns:
        Nats (B,), as float64.
    """
    each = conditionals(network, values, network.masks(order, *values.shape[2:])).double()
    return (each * ~known).sum((1, 2))


def bits_per_dim(nats: Tensor, dimensions: int) -> Tensor:
    """Return bits per value of a picture, for log probabilities in nats and the number of values."""
    return -nats / (math.log(2) * dimensions)
