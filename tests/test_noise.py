"""Noise stays white and unit normal whatever is looked up or mixed, and overlapping views share it."""

from __future__ import annotations

import math

import torch
from pullback.noise import CanvasViews, Crops, FixedViews, FreshViews, mix, refresh


def _random(seed=0):
    return torch.Generator().manual_seed(seed)


def test_mixing_keeps_the_variance_and_the_right_correlation():
    before = torch.randn(200_000, generator=_random(1))
    after = mix(before, 0.6, _random(2))
    assert abs(after.std().item() - 1) < 0.01
    assert abs((before * after).mean().item() - 0.8) < 0.01


def test_no_mixing_draws_nothing():
    random = _random()
    state = random.get_state()
    noise = torch.ones(3)
    assert mix(noise, 0.0, random) is noise and torch.equal(random.get_state(), state)


def test_refresh_is_ddim_s_sigma():
    """sigma_up of DDIM in noise-to-signal units: eta sqrt(s'^2 (s^2 - s'^2)) / s (Song et al. 2021, eq. 16)."""
    s, t, eta = 0.7, 2.0, 0.75
    assert math.isclose(refresh(t, s, eta) * s, eta * math.sqrt(s**2 * (t**2 - s**2)) / t)
    assert refresh(1.0, 0.0, 1.0) == 1.0 and refresh(1.0, 0.5, 0.0) == 0.0


def test_canvas_views_cover_the_turn_and_wrap():
    views = CanvasViews(channels=2, height=8, width=32, count=4)
    view = views.draw(_random(3))
    assert sorted(views.columns(view).flatten().tolist()) == list(range(32))


def test_canvas_lookup_equals_slicing_a_doubled_canvas():
    views = CanvasViews(2, 8, 32, 3)
    store = views.noise(_random())
    doubled = torch.cat([store, store], -1)
    view = Crops(torch.tensor([0, 29, 13]))
    looked = views.gather(store, view, _random())
    for crop, column in zip(looked, view.column.tolist(), strict=True):
        assert torch.equal(crop, doubled[:, :, column : column + 8])


def test_overlapping_views_share_noise():
    views = CanvasViews(1, 8, 32, 2)
    a, b = views.gather(views.noise(_random()), Crops(torch.tensor([4, 7])), _random())
    assert torch.equal(a[:, :, 3:], b[:, :, :-3])


def test_scatter_then_gather_is_the_identity_without_overlap_and_the_mean_with():
    views = CanvasViews(2, 8, 32, 2)
    store, values = torch.zeros(2, 8, 32), torch.randn(2, 2, 8, 8, generator=_random())
    apart = Crops(torch.tensor([28, 10]))
    assert torch.allclose(views.gather(views.scatter(store, apart, values), apart, _random()), values)
    same = Crops(torch.tensor([5, 5]))
    back = views.gather(views.scatter(store, same, values), same, _random())
    assert torch.allclose(back[0], values.mean(0)) and torch.equal(back[0], back[1])
    assert views.scatter(store + 7, apart, values)[:, :, 20].eq(7).all()


def test_fixed_views_keep_and_fresh_views_forget():
    fixed = FixedViews("view", (2, 1, 4, 4))
    store = fixed.noise(_random())
    assert fixed.gather(store, fixed.draw(_random()), _random()) is store
    fresh = FreshViews(lambda g: torch.rand(1, generator=g), (2, 1, 4, 4))
    random = _random()
    first, second = (fresh.gather(torch.zeros(0), None, random) for _ in range(2))
    assert fresh.noise(random).numel() == 0 and not torch.equal(first, second)
