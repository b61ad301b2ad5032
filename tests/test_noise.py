"""Noise stays white with unit variance however it is looked up or mixed, and overlapping views share it."""

from __future__ import annotations

import functools
import math

import pytest
import torch
from pullback.geometry.sphere import headings, lattice, pixels_towards
from pullback.noise import AnchoredViews, CanvasViews, Crops, FixedViews, FreshViews, WorldViews, leading, mix, refresh


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
    views = CanvasViews(2, 8, 32, 4)
    store = views.noise(_random())
    doubled = torch.cat([store, store], -1)
    view = Crops(torch.tensor([0, 29, 13]))
    crops = views.gather(store, view, _random())
    for crop, column in zip(crops, view.column.tolist(), strict=True):
        assert torch.equal(crop, doubled[:, :, column : column + 8])


def test_overlapping_views_share_noise():
    views = CanvasViews(1, 8, 32, 4)
    a, b = views.gather(views.noise(_random()), Crops(torch.tensor([4, 7])), _random())
    assert torch.equal(a[:, :, 3:], b[:, :, :-3])


def test_gather_returns_what_was_scattered_or_its_mean_where_views_overlap():
    views = CanvasViews(2, 8, 32, 4)
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


def test_a_canvas_must_be_covered():
    with pytest.raises(ValueError, match="2 views of 8 columns do not cover a canvas of 32: take 4"):
        CanvasViews(1, 8, 32, 2)


def _anchored(share=lambda sigma: 0.4):
    return AnchoredViews(lambda g: "anchor and three", (4, 2, 3, 3), "anchor", share)


def test_an_anchor_keeps_its_noise_and_residual_beside_views_that_forget():
    views, random = _anchored(), _random()
    store = views.noise(random)
    first, second = (views.gather(store, views.draw(random), random) for _ in range(2))
    assert store.shape == (1, 2, 3, 3) and first.shape == (4, 2, 3, 3)
    assert (
        torch.equal(first[0], store[0]) and torch.equal(second[0], store[0]) and not torch.equal(first[1:], second[1:])
    )
    carried = views.carried(views.scatter(store, None, torch.ones(1, 2, 3, 3)), None)
    assert carried[0].eq(1).all() and carried[1:].eq(0).all()
    assert views.kept("anchor and three") == "anchor"


def test_an_anchor_leads_until_the_sample_is_chosen():
    weights = _anchored().weights(3.0)
    assert math.isclose(float(weights.mean()), 1, abs_tol=1e-6) and math.isclose(
        float(weights[0]), 4 * 0.4, rel_tol=1e-6
    )
    shares = [leading(8, sigma) for sigma in (80.0, 8.0, 4.0, 2.0, 0.1)]
    assert shares == pytest.approx([0.9, 0.9, (0.9 + 1 / 8) / 2, 1 / 8, 1 / 8])


SIZE = 16


def _world(cells=20_000):
    pixels = functools.partial(pixels_towards, places=lattice(cells), size=SIZE)
    return WorldViews(lambda g: None, (2, 3, SIZE, SIZE), pixels, cells)


def _headings(*azimuths):
    return headings(torch.tensor(azimuths), torch.full((len(azimuths),), 0.3), math.radians(65))


def test_noise_of_a_world_is_white_in_every_view():
    views, random = _world(), _random()
    many = torch.cat([views.gather(views.noise(random), _headings(0.2, 2.0), random) for _ in range(300)])
    pixels = many.permute(2, 3, 0, 1).flatten(2).flatten(0, 1)  # (pixels, draws)
    covariance = torch.cov(pixels)
    assert (covariance.diagonal() - 1).abs().mean() < 0.05
    off = covariance - torch.diag(covariance.diagonal())
    assert off.abs().max() < 0.15 and off.mean().abs() < 1e-3  # 1,800 draws: a deviation of 0.024


def test_views_of_a_world_share_what_both_see():
    views, random = _world(), _random()
    pixel = math.radians(65) / SIZE
    view = _headings(0.0, 2 * pixel)  # turned left by about two columns
    left, right = views.gather(views.noise(random), view, random)
    same = (left[:, 8, 2:-3] * right[:, 8, 4:-1]).mean()
    other = (left[:, 8, 2:-3] * right[:, 5, 4:-1]).mean()
    assert same > 0.3 > abs(other)


def test_residuals_scattered_into_a_world_are_gathered_again():
    views = _world()
    view, values = _headings(0.0, 2.5), torch.randn(2, 3, SIZE, SIZE, generator=_random())
    store = views.scatter(torch.full((3, views.cells), 7.0), view, values)
    assert torch.allclose(views.carried(store, view), values, atol=1e-5)
    assert (store == 7).any()  # what no view saw stays
    same = views.scatter(store, _headings(0.0, 0.0), torch.stack([values[0], values[0] + 2]))
    assert torch.allclose(views.carried(same, _headings(0.0))[0], values[0] + 1, atol=1e-5)


def test_every_pixel_of_a_view_has_cells():
    counts = [
        torch.bincount(p[p >= 0], minlength=SIZE**2) for p in pixels_towards(_headings(0.0, 1.5), lattice(20_000), SIZE)
    ]
    assert all(count.min() >= 1 and count.shape == (SIZE**2,) for count in counts)
