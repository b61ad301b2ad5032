"""Distances between pictures as networks see them."""

from __future__ import annotations

import sys

import pytest
import torch
from pullback.generative.clip import perceptual
from pullback.generative.clip.model import network, scaled
from pullback.generative.clip.perceptual import LEVELS, on_white, perceptual_distance


def _pictures(channels: int = 3, side: int = 48, seed: int = 0) -> torch.Tensor:
    return 2 * torch.rand(2, channels, side, side, generator=torch.Generator().manual_seed(seed)) - 1


def test_the_distance_is_two_less_two_cosines():
    """For unit vectors |a - b|² = 2 - 2 a·b, averaged over places and summed over levels."""
    a, b = _pictures(), _pictures(seed=1)
    net = network()
    maps = [net.features(scaled(each / 2 + 0.5, net.config.size)) for each in (a, b)]
    expected = sum(2 - 2 * torch.cosine_similarity(maps[0][n], maps[1][n], dim=1).mean() for n in LEVELS)
    torch.testing.assert_close(perceptual_distance(a, b), expected)
    assert float(perceptual_distance(a, a)) < 1e-6


def test_gradients_reach_the_drawn_pictures_only():
    drawn, wanted = _pictures().requires_grad_(), _pictures(seed=1).requires_grad_()
    perceptual_distance(drawn, wanted).backward()
    assert drawn.grad is not None and drawn.grad.abs().amin((1, 2, 3)).shape == (2,) and float(drawn.grad.norm()) > 0
    assert wanted.grad is None


def test_transparent_pictures_are_seen_on_white():
    rgba = _pictures(4)
    shown = (rgba[:, :3] / 2 + 0.5) + 1 - (rgba[:, 3:] / 2 + 0.5)
    torch.testing.assert_close(on_white(rgba) / 2 + 0.5, shown)
    other = _pictures(seed=1)
    torch.testing.assert_close(perceptual_distance(rgba, other), perceptual_distance(on_white(rgba), other))


def test_large_patches_are_seen_at_their_own_scale():
    """A patch of twice the model's size is not reduced: what only half of its pixels show changes the distance."""
    a = _pictures(side=128).mean(1, keepdim=True).expand(-1, 3, -1, -1)
    same_mean = torch.nn.functional.avg_pool2d(a, 2).repeat_interleave(2, 2).repeat_interleave(2, 3)
    assert float(perceptual_distance(a, same_mean)) > 0.1


def test_lpips_without_its_package_or_its_weights_is_one_sentence(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "lpips", None)
    with pytest.raises(ImportError, match=r"pip install lpips, or leave out --lpips"):
        perceptual.lpips()
    monkeypatch.setitem(sys.modules, "lpips", torch)  # any module: its weights are looked for first
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    with pytest.raises(ValueError, match=r"put torchvision's vgg16-.*\.pth into"):
        perceptual.lpips()
