"""Fields and their views: parts equal wholes, panoramas close, and skipping empty space changes nothing."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from pullback.diffreps.image import PixelGrid, SirenImage
from pullback.diffreps.panorama import SirenCylinder, SirenSphere
from pullback.diffreps.radiance import VoxelRadiance
from pullback.fields.siren import Siren, fourier
from pullback.fields.voxels import Voxels
from pullback.geometry.cameras import look_at, orbit, rays, turntable
from pullback.geometry.sphere import directions, equirectangular, headings
from pullback.mesh.surface import extract
from pullback.noise import Crops
from pullback.render.march import chords, weights


def _random(seed=0):
    return torch.Generator().manual_seed(seed)


def _filled(diffrep, seed=1):
    """Parameters with a read-out that is not zero."""
    params = diffrep.init(_random(seed))
    params["out"] = torch.randn(params["out"].shape, generator=_random(seed)) * 0.1
    return params


SMALL = {"width": 48, "depth": 2, "embedding": 32}


def test_the_grid_is_the_identity():
    grid = PixelGrid((1, 2, 3, 3))
    x = torch.randn(1, 2, 3, 3)
    assert grid({"pixels": x}) is x and grid.init(_random())["pixels"].eq(0).all()


@pytest.mark.parametrize("diffrep", [SirenImage(**SMALL), SirenCylinder(**SMALL), SirenSphere(**SMALL)])
def test_a_part_equals_the_same_part_of_the_whole(diffrep):
    params = _filled(diffrep)
    whole = diffrep.picture(params, 40, 80)
    part = diffrep.picture(params, 40, 80, (7, 50, 20, 30))
    assert (whole[..., 7:27, 50:80] - part).abs().max() < 1e-6


def test_an_image_s_view_is_its_picture_at_that_size():
    image = SirenImage(**SMALL, size=(16, 16))
    params = _filled(image)
    assert torch.equal(image(params), image.picture(params, 16, 16))


def test_sizes_agree_where_pixel_centres_coincide():
    image = SirenImage(**SMALL)
    params = _filled(image)
    coarse, fine = image.picture(params, 10, 10), image.picture(params, 30, 30)
    assert (coarse - fine[..., 1::3, 1::3]).abs().max() < 1e-5


def test_the_cylinder_closes_in_value_and_derivative():
    strip = SirenCylinder(**SMALL)
    params = {k: v.double() for k, v in _filled(strip).items()}
    y = torch.linspace(-1, 1, 9, dtype=torch.float64)
    waves = strip.frequencies().double()
    whole = torch.round(waves[:, 0] / (2 * math.pi))
    assert (waves[:, 0] / (2 * math.pi) - whole).abs().max() < 1e-4 and whole.abs().max() > 4
    waves[:, 0] = 2 * math.pi * whole

    def at(u):
        return strip.siren(params, math.sqrt(2) * fourier(torch.stack([torch.full_like(y, 0) + u, y], -1), waves))

    left, right = (torch.tensor(u, dtype=torch.float64, requires_grad=True) for u in (0.0, 1.0))
    assert (at(left) - at(right)).abs().max() < 1e-9
    slopes = [torch.autograd.grad(at(u).sum(), u)[0] for u in (left, right)]
    assert abs(slopes[0] - slopes[1]) < 1e-7 * abs(slopes[0])
    assert torch.equal(*strip.at(_filled(strip), torch.tensor([[[0.0, 0.3]], [[1.0, 0.3]]])))


def test_cylinder_crops_are_cuts_of_the_strip():
    strip = SirenCylinder(**SMALL, height=16, turn=64)
    params = _filled(strip)
    whole = strip.picture(params, 16, 64)
    crops = strip(params, Crops(torch.tensor([5, 60])))
    assert (crops[0] - whole[0, :, :, 5:21]).abs().max() < 1e-5
    assert (crops[1] - torch.cat([whole, whole], -1)[0, :, :, 60:76]).abs().max() < 1e-5


def test_the_sphere_has_no_edge():
    """The picture's first and last columns are neighbours: their step is like any other step between columns."""
    sphere = SirenSphere(**SMALL)
    picture = sphere.picture(_filled(sphere), 64, 128)[0]
    steps = (picture - picture.roll(1, -1)).abs().amax((0, 1))
    assert steps[0] <= steps[1:].max() * 1.05
    at = lambda a: sphere.at(_filled(sphere), directions(torch.tensor(a), torch.tensor(0.3)))
    assert (at(math.pi) - at(-math.pi)).abs().max() < 1e-5


def test_equirectangular_follows_blender():
    d = equirectangular(90, 180)
    assert torch.allclose(d[45, 90], torch.tensor([1.0, 0.0, 0.0]), atol=0.03)  # +X at the centre
    assert d[45, 45][1] > 0.99  # azimuth grows to the left: +Y a quarter turn left of it
    assert d[0, 0][2] > 0.99 and d[-1, 0][2] < -0.99


def test_sphere_views_are_perspective_pictures_of_it():
    sphere = SirenSphere(**SMALL, size=9)
    params = _filled(sphere)
    view = headings(torch.tensor([0.4]), torch.tensor([0.2]), 1.0)
    centre = sphere.at(params, directions(torch.tensor(0.4), torch.tensor(0.2)))
    assert (sphere(params, view)[0, :, 4, 4] - centre).abs().max() < 1e-5


def test_cameras_look_where_they_say():
    azimuth, elevation = torch.tensor([0.0, 1.0, -2.5]), torch.tensor([0.0, 0.7, -0.3])
    cameras = orbit(azimuth, elevation)
    assert torch.allclose(cameras.azimuth, azimuth, atol=1e-6) and torch.allclose(
        cameras.elevation, elevation, atol=1e-6
    )
    assert torch.allclose(cameras.position[0], torch.tensor([0.0, -3.2, 0.0]), atol=1e-6)
    origins, d = rays(cameras, 3, 3)
    assert torch.allclose(origins[:, 1, 1] + 3.2 * d[:, 1, 1], torch.zeros(3, 3), atol=1e-5)
    eye = torch.eye(3).expand(3, 3, 3)
    rotation = cameras.pose[:, :3, :3]
    assert torch.allclose(rotation @ rotation.mT, eye, atol=1e-6) and torch.allclose(
        torch.linalg.det(rotation), torch.ones(3)
    )
    assert torch.isfinite(look_at(torch.tensor([[0.0, 0.0, 3.0]]), torch.zeros(3)).pose).all()


def test_a_crop_s_rays_are_those_of_the_whole():
    whole = rays(turntable(2), 12, 20)[1]
    assert torch.equal(rays(turntable(2), 12, 20, (3, 5, 4, 6))[1], whole[:, 3:7, 5:11])


def test_weights_against_the_recursion():
    tau = torch.rand(5, 9, generator=_random(), dtype=torch.float64) * 2
    light, expected = torch.ones(5, dtype=torch.float64), []
    for i in range(9):
        alpha = 1 - torch.exp(-tau[:, i])
        expected.append(light * alpha)
        light = light * (1 - alpha)
    assert torch.allclose(weights(tau), torch.stack(expected, 1), atol=1e-14)
    assert torch.allclose(weights(tau).sum(1), 1 - light)
    assert torch.autograd.gradcheck(weights, tau.requires_grad_())


def test_chords_of_the_ball():
    o = torch.tensor([[-3.0, 0, 0], [-3.0, 0.6, 0], [-3.0, 2.0, 0]])
    d = torch.tensor([[1.0, 0, 0]]).expand(3, 3)
    near, far = chords(o, d)
    assert torch.allclose(far - near, torch.tensor([2.0, 1.6, 0.0]), atol=1e-6)


def _ball(radius=0.5, resolution=33):
    """A radiance field with an opaque ball whose colour varies."""
    diffrep = VoxelRadiance(voxels=Voxels(resolution=resolution), steps=64)
    params = diffrep.init(_random())
    line = torch.linspace(-1, 1, resolution)
    z, y, x = torch.meshgrid(line, line, line, indexing="ij")
    norm = (x**2 + y**2 + z**2).sqrt()
    params["density"] = (400 * (radius - norm))[None, None]
    params["features"] = torch.stack([3 * x, 3 * y, 3 * z])[None]
    return diffrep, params


def test_a_ball_looks_like_a_ball():
    diffrep, params = _ball()
    picture = diffrep.through(params, turntable(3), 65, 65)
    opacity = picture[:, 3] / 2 + 0.5
    radius = math.tan(math.asin(0.5 / 3.2)) / math.tan(math.radians(20)) * 65 / 2
    assert torch.allclose(opacity.sum((1, 2)), torch.full((3,), math.pi * radius**2), rtol=0.03)
    # The camera in front (at -Y) sees the side where y is negative; red grows to the right, with x.
    assert picture[0, 1, 32, 32] < -0.5 and picture[0, 0, 32, 38] > picture[0, 0, 32, 26] + 0.3
    assert picture[0, 2, 26, 32] > picture[0, 2, 38, 32] + 0.3  # blue grows upwards, with z


def test_the_surface_is_smoother_than_its_voxels():
    """Neighbouring voxels of a sampled ball differ by powers of ten; its surface does not follow them."""
    diffrep, params = _ball()
    params["density"] = params["density"] * torch.exp(torch.randn(params["density"].shape, generator=_random()))
    rough, smooth = (
        np.linalg.norm(extract(density, 64).vertices, axis=1)
        for density in (
            lambda points: diffrep.voxels.density_at(params, points),
            lambda points: diffrep.density(params, points),
        )
    )
    assert smooth.std() < 0.6 * rough.std()
    assert smooth.mean() == pytest.approx(0.5, abs=0.5 * 2 / 32)


def test_depth_is_the_distance_to_the_ball():
    diffrep, params = _ball()
    depth = diffrep.depth(params, turntable(2), 65, 65)
    assert torch.allclose(depth[:, 0, 32, 32], torch.tensor(3.2 - 0.5), atol=0.04)  # a piece of a chord is 0.03
    assert depth[:, 0, 32, 24].min() > depth[:, 0, 32, 32].max()  # it is round
    assert torch.equal(depth.isfinite(), diffrep.opacity(params, turntable(2), 65, 65) > 0.5)


def test_skipping_empty_space_changes_almost_nothing():
    diffrep, params = _ball()
    everything = VoxelRadiance(voxels=diffrep.voxels, steps=64, threshold=-1.0)
    assert diffrep.occupancy(params).float().mean() < 0.25 and everything.occupancy(params).all()
    a, b = diffrep.through(params, turntable(2), 24, 24), everything.through(params, turntable(2), 24, 24)
    assert (a - b).abs().max() < 1e-3


def test_a_fit_s_residual_is_the_picture_s_difference():
    """Every pixel that a random ray can hit differs from the target by what the renderer says (up to jitter)."""
    diffrep, params = _ball()
    cameras = turntable(2)
    target = diffrep(params, cameras)
    residual = diffrep.fit(params, cameras, target, _random())(params)
    assert residual.shape == (2048, 4) and residual.abs().mean() < 0.02
    shifted = diffrep.fit(params, cameras, target - 0.3, _random())(params)
    assert abs((shifted - residual).mean().item() - 0.3) < 1e-5


@pytest.mark.parametrize(("kind", "channels", "features"), [("rgb", 3, 3), ("latent", 4, 4)])
def test_backgrounds_show_where_nothing_is(kind, channels, features):
    diffrep = VoxelRadiance(kind, channels, 16, voxels=Voxels(9, features, blob=0.0, shift=-30.0))
    params = diffrep.init(_random())
    params["background"] += 0.7
    assert torch.allclose(diffrep(params, turntable(1)), torch.tensor(0.7), atol=1e-5)


def test_a_wrong_number_of_features_is_refused():
    with pytest.raises(ValueError, match="needs 3 features per voxel, not 4"):
        VoxelRadiance("rgba", 4, voxels=Voxels(features=4))


def test_radiance_gradients_are_those_of_finite_differences():
    torch.set_default_dtype(torch.float64)
    try:
        diffrep = VoxelRadiance(voxels=Voxels(resolution=5, blob=1.0, sharpness=2.0), size=3, steps=6, threshold=1e-9)
        params = diffrep.init(_random())
        params["features"] = torch.randn(params["features"].shape, generator=_random())
        cameras = turntable(1).to(torch.float64)
        probe = torch.randn(params["density"].shape, generator=_random(2))

        def loss(t):
            return diffrep(params | {"density": params["density"] + t * probe}, cameras).square().sum()

        t = torch.zeros((), requires_grad=True)
        slope = torch.autograd.grad(loss(t), t)[0]
        numeric = (loss(torch.tensor(1e-5)) - loss(torch.tensor(-1e-5))) / 2e-5
        assert abs(slope - numeric) < 1e-5 * abs(numeric)
    finally:
        torch.set_default_dtype(torch.float32)


def test_siren_starts_at_zero_with_layers_of_unit_size():
    siren = Siren(128, 4)
    params = siren.init(_random())
    x = math.sqrt(2) * fourier(torch.rand(500, 2, generator=_random()), 10 * torch.randn(64, 2, generator=_random()))
    assert siren(params, x).eq(0).all()
    hidden = torch.nn.functional.linear(x, params["w0"], params["b0"])
    assert 0.7 < hidden.std().item() < 2.5
