"""What the tests share: an exactly known data distribution, and solvers that stand at the two extremes."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch
from pullback.denoisers import gaussian_mixture
from torch import Tensor


@pytest.fixture(autouse=True)
def _threads() -> None:
    torch.set_num_threads(2)


def mixture(dimensions: int, weight: float = 0.3, apart: float = 4.0, spread: float = 0.25, seed: int = 0):
    """Two Gaussians in `dimensions`, weights (weight, 1 - weight): (denoiser, means (2, D), factors (2, D, D))."""
    random = torch.Generator().manual_seed(seed)
    axis = torch.nn.functional.normalize(torch.randn(dimensions, generator=random, dtype=torch.float64), dim=0)
    means = torch.stack([-apart / 2 * axis, apart / 2 * axis])
    factors = spread * torch.eye(dimensions, dtype=torch.float64).repeat(2, 1, 1)
    weights = torch.tensor([weight, 1 - weight], dtype=torch.float64)
    return gaussian_mixture(weights, means, factors), means, factors


def picture(x: Tensor) -> Tensor:
    """Vectors (B, D) as pictures (B, D, 1, 1)."""
    return x[..., None, None]


@pytest.fixture
def home(tmp_path, monkeypatch):
    """In Blender: a user's folder of this test's own, a fresh file, the extension at work with the stand-in."""
    import bpy

    import blender_addon
    from blender_addon import preferences

    def made(name):
        (tmp_path / name).mkdir(exist_ok=True)
        return tmp_path / name

    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent / "stand_in"))
    monkeypatch.setattr(preferences, "interpreter", lambda: Path(sys.executable))
    monkeypatch.setattr(preferences, "user_folder", made)
    bpy.ops.wm.read_factory_settings(use_empty=True)
    blender_addon.register()
    yield tmp_path
    blender_addon.unregister()
