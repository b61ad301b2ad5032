"""SJC and SDS climb to a mode: they end in the same place from every start, where sampling would spread."""

from __future__ import annotations

import pytest
import torch
from pullback.baselines import ascend, sds_gradient, sjc_gradient
from pullback.denoisers import gaussian_mixture
from pullback.diffreps.image import PixelGrid
from pullback.noise import FixedViews
from pullback.schedules import log_linear

F64 = torch.float64
MEAN, SPREAD = 1.5, 0.7


def _gaussian():
    one = torch.ones(1, dtype=F64)
    return gaussian_mixture(one, MEAN * one[:, None], SPREAD * one[:, None, None])


def test_directions_are_those_of_the_papers():
    """With eps_hat = (f + sigma n - D) / sigma: SJC descends eps_hat - n, SDS w (eps_hat - n), w = 1 - abar."""
    f, n, clean = (torch.randn(2, 1, 3, 3, dtype=F64) for _ in range(3))
    sigma = 1.7
    difference = (f + sigma * n - clean) / sigma - n
    assert torch.allclose(sjc_gradient(f, clean, sigma), difference)
    w = sigma**2 / (1 + sigma**2)
    assert torch.allclose(sds_gradient(f, clean, sigma), w * difference)


@pytest.mark.parametrize("rule", ["sjc", "sds"])
def test_they_seek_the_mode(rule):
    shape = (64, 1, 1, 1)
    random = torch.Generator().manual_seed(0)
    start = {"pixels": 3 * torch.randn(shape, generator=random, dtype=F64)}
    views = FixedViews(None, shape, F64)
    table = log_linear(50, 0.1, 10.0)[:-1]
    ends = ascend(rule, PixelGrid(shape), _gaussian(), views, start, table, 600, 0.05, random)["pixels"]
    assert abs(ends.mean().item() - MEAN) < 0.1
    assert ends.std().item() < 0.35 * SPREAD  # samples would have a deviation of SPREAD


def test_an_unknown_rule_is_refused():
    with pytest.raises(ValueError, match="one of sjc, sds"):
        ascend("vsd", PixelGrid((1, 1, 1, 1)), _gaussian(), None, {}, torch.ones(1), 1, 0.1, torch.Generator())
