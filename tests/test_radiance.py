"""What a ray loses is the integral of the density along it, however thin it is and however finely it is cut."""

from __future__ import annotations

import math

import pytest
import torch
from pullback.diffreps.radiance import SATURATED, VoxelRadiance
from pullback.fields.voxels import Voxels
from pullback.geometry.cameras import look_at
from pullback.mesh.surface import LEVEL
from pullback.render.march import chords

SMALL = Voxels(resolution=16)
CAMERA = look_at(torch.tensor([[0.3, -3.0, 0.4]]), torch.tensor([0.1, 0.0, 0.0]), math.radians(30))


def _grid(density: torch.Tensor) -> torch.Tensor:
    """What the voxels must hold for densities (R, R, R)."""
    return torch.log(torch.expm1((density / SMALL.sharpness).double())).float()[None, None] - SMALL.shift


def _field(density: torch.Tensor, steps: int) -> tuple[VoxelRadiance, dict[str, torch.Tensor]]:
    params = {"density": _grid(density), "features": torch.zeros(1, 3, *density.shape)}
    return VoxelRadiance(size=16, steps=steps, voxels=SMALL), params


@pytest.mark.parametrize("steps", [48, 192, 768])
@pytest.mark.parametrize("density", [0.1, 0.7, 5.0, 50.0])
def test_a_uniform_ball_hides_what_it_should(density, steps):
    from pullback.geometry.cameras import rays

    diffrep, params = _field(torch.full((16, 16, 16), density), steps)
    near, far = chords(*(r.reshape(-1, 3) for r in rays(CAMERA, 16, 16)))
    found = diffrep.opacity(params, CAMERA, 16, 16).flatten()
    assert (found - (1 - torch.exp(-density * (far - near)))).abs().max() < 1e-4
    params["density"].requires_grad_()
    diffrep(params, CAMERA)[:, 3].sum().backward()
    assert params["density"].grad.abs().max() > 0  # what is thin can still grow and shrink


def test_cutting_finer_converges():
    line = torch.linspace(-1, 1, 16)
    radius = torch.stack(torch.meshgrid(line, line, line, indexing="ij")).norm(dim=0)
    fog = 0.02 + 3 * torch.exp(-6 * radius**2)
    many = _field(fog, 3072)
    exact = many[0].opacity(many[1], CAMERA, 16, 16)
    errors = []
    for steps in (12, 48, 192):
        diffrep, params = _field(fog, steps)
        errors.append(float((diffrep.opacity(params, CAMERA, 16, 16) - exact).abs().max()))
    assert errors[1] < errors[0] / 4 and errors[2] < errors[1] / 4 and errors[2] < 1e-4


def test_empty_space_is_skipped():
    density = torch.full((16, 16, 16), 1e-4)
    density[6:10, 6:10, 6:10] = 20.0
    diffrep, params = _field(density, 48)
    assert 0 < diffrep.occupancy(params).float().mean() < 0.1


def test_fields_of_the_first_release_are_skipped_as_they_were_fitted():
    diffrep, params = _field(torch.full((16, 16, 16), 0.7), 48)
    old = VoxelRadiance(size=16, steps=48, voxels=SMALL, threshold=0.03)
    assert old.opacity(params, CAMERA, 16, 16).max() == 0 < diffrep.opacity(params, CAMERA, 16, 16).max()


def test_the_surface_s_density_is_cut_above_its_level_at_every_resolution():
    """A cut below the level would leave no surface; 15 is kept because meshes of existing fields depend on it."""
    assert SATURATED == 1.5 * LEVEL
    for resolution in (16, 48, 160):
        field = VoxelRadiance(voxels=Voxels(resolution=resolution))
        params = field.init(torch.Generator())
        params["density"] = torch.full_like(params["density"], 9.0)
        assert field.density(params, torch.zeros(1, 3)).item() == pytest.approx(SATURATED)
