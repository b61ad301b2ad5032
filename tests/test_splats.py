"""3D Gaussians: their pictures equal those of a loop over the Gaussians, and other programs read their file."""

from __future__ import annotations

import math
import shutil
import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from pullback import jobs, outputs, storage, tasks, viewpoints
from pullback.diffreps.radiance import KINDS
from pullback.diffreps.splats import GaussianSplats
from pullback.fields.gaussians import MAX_OPACITY, REACH, density_at
from pullback.generative.toybox.model import ToyboxModel
from pullback.geometry.cameras import Cameras, look_at, orbit, turntable
from pullback.mesh.surface import extract
from pullback.messages import Message, Progress, Stage
from pullback.render import splats
from pullback.render.ply import COLUMNS
from pullback.render.splats import BLUR, Gaussians, picture
from pullback.solvers import Adam
from pullback.types import Cancelled
from torch import Tensor


@pytest.fixture(autouse=True)
def _threads() -> None:
    torch.set_num_threads(1)  # there is little to share, and a machine may be busy


FRONT = look_at(torch.tensor([[0.0, -4.0, 0.0]]).double(), torch.zeros(3).double(), math.radians(40))
AROUND = orbit(torch.tensor([0.3, 2.0]).double(), torch.tensor([0.3, -0.2]).double())


def some(count: int = 60, channels: int = 3, seed: int = 0) -> Gaussians:
    """Gaussians of all sizes, directions and opacities, in float64."""
    random = torch.Generator().manual_seed(seed)
    normal = lambda *shape: torch.randn(*shape, generator=random, dtype=torch.float64)
    scale, opacity = (0.5 * normal(count, 3) - 2).exp(), torch.sigmoid(3 * normal(count))
    return Gaussians(0.4 * normal(count, 3), scale, normal(count, 4), opacity, torch.sigmoid(normal(count, channels)))


def ball(mean: list[float], scale: float, opacity: float, colour: list[float]) -> Gaussians:
    """One round Gaussian."""
    rows = ([mean], [[scale] * 3], [[1.0, 0.0, 0.0, 0.0]], [opacity], [colour])
    return Gaussians(*(torch.tensor(row, dtype=torch.float64) for row in rows))


def together(*parts: Gaussians) -> Gaussians:
    """All of them, in this order."""
    names = ("mean", "scale", "rotation", "opacity", "colour")
    return Gaussians(*(torch.cat([getattr(part, name) for part in parts]) for name in names))


def turned(gaussians: Gaussians, order: Tensor) -> Gaussians:
    """The same, stored in another order."""
    names = ("mean", "scale", "rotation", "opacity", "colour")
    return Gaussians(*(getattr(gaussians, name)[order] for name in names))


def one_by_one(gaussians: Gaussians, camera: Cameras, height: int, width: int) -> Tensor:
    """Return the picture (C + 1, height, width) of one camera by `loop`."""
    focal = height / 2 / math.tan(float(camera.fov[0]) / 2)
    return loop(gaussians, camera.pose[0], focal, (width / 2, height / 2), height, width)


def loop(
    gaussians: Gaussians, pose: Tensor, focal: float, principal: tuple[float, float], height: int, width: int
) -> Tensor:
    """Return a picture (C + 1, height, width) by the definition: a loop over the Gaussians, with full matrices.

    Args:
        gaussians: The Gaussians.
        pose: The transform (4, 4) from the camera, which looks along -Z with Y up, to the world.
        focal: The focal length in pixels.
        principal: The principal point (x, y) in pixels.
        height: Height of the picture in pixels.
        width: Width of the picture. The Jacobian of means that lie outside it by more than 0.15 of a side is taken there, as
            by gsplat.
    """
    rotation, (cx, cy) = pose[:3, :3], principal
    places = (gaussians.mean - pose[:3, 3]) @ rotation
    line = lambda count: torch.arange(count, dtype=torch.float64) + 0.5
    y, x = torch.meshgrid(line(height), line(width), indexing="ij")
    drawn, light = torch.zeros(gaussians.colour.shape[1] + 1, height, width, dtype=torch.float64), torch.ones_like(x)
    for n in (-places[:, 2]).argsort().tolist():
        right, up, depth = places[n, 0], places[n, 1], -places[n, 2]
        a = (right / depth).clamp((-cx - 0.15 * width) / focal, (width - cx + 0.15 * width) / focal)
        b = (up / depth).clamp(-(height - cy + 0.15 * height) / focal, (cy + 0.15 * height) / focal)
        jacobian = focal / depth * torch.tensor([[1, 0, a], [0, -1, -b]], dtype=torch.float64)
        spread = jacobian @ rotation.T @ gaussians.axes[n] @ torch.diag(gaussians.scale[n])
        sharp = spread @ spread.T
        wide = sharp + BLUR * torch.eye(2, dtype=torch.float64)
        peak = gaussians.opacity[n].clamp(max=MAX_OPACITY) * (torch.det(sharp) / torch.det(wide)).sqrt()
        away = torch.stack([x - cx - focal * right / depth, y - cy + focal * up / depth], -1)
        q = torch.einsum("hwi,ij,hwj->hw", away, torch.linalg.inv(wide), away)
        alpha = torch.where(q <= REACH**2, peak * torch.exp(-q / 2), 0.0)
        drawn += light * alpha * torch.cat([gaussians.colour[n], torch.ones(1)])[:, None, None]
        light = light * (1 - alpha)
    return drawn


def test_one_gaussian_is_its_closed_form():
    """A round one in the middle of the picture, whose deviation is as many pixels as its size and distance make."""
    height, scale, opacity = 33, 0.25, 0.8
    drawn = picture(ball([0, 0, 0], scale, opacity, [0.2, 0.7]), FRONT, height, height)[0]
    variance = (scale / 4 * height / 2 / math.tan(math.radians(20))) ** 2
    line = torch.arange(height).double() - height // 2
    square = line[:, None] ** 2 + line**2
    alpha = opacity * variance / (variance + BLUR) * torch.exp(-square / (variance + BLUR) / 2)
    alpha[square > REACH**2 * (variance + BLUR)] = 0
    for channel, factor in zip(drawn, (0.2, 0.7, 1.0), strict=True):
        assert (channel - factor * alpha).abs().max() < 1e-12


def test_what_lies_in_front_hides_what_lies_behind():
    near, far = ball([0, -0.5, 0], 0.3, 0.6, [1.0, 0.0]), ball([0, 0.5, 0], 0.3, 0.9, [0.0, 1.0])
    alone = [picture(each, FRONT, 9, 9)[0, 2, 4, 4] for each in (near, far)]
    for both in (together(near, far), together(far, near)):
        red, green, opacity = picture(both, FRONT, 9, 9)[0, :, 4, 4]
        assert float(red) == pytest.approx(float(alone[0]))
        assert float(green) == pytest.approx(float((1 - alone[0]) * alone[1]))
        assert float(opacity) == pytest.approx(float(1 - (1 - alone[0]) * (1 - alone[1])))


@pytest.mark.parametrize(("height", "width"), [(20, 28), (33, 17), (130, 40)])
def test_pictures_are_those_of_a_loop(height, width):
    """For tiles of 4 and of 8 pixels, and pictures whose sides are no multiples of them."""
    drawn = picture(some(), AROUND, height, width)
    for i in range(2):
        assert (drawn[i] - one_by_one(some(), AROUND[i : i + 1], height, width)).abs().max() < 1e-10
    part = picture(some(), AROUND, height, width, (3, 5, 9, 7))
    assert (part - drawn[..., 3:12, 5:12]).abs().max() < 1e-12


def test_opacity_is_what_no_light_comes_through():
    gaussians, camera = some(), AROUND[:1]
    through = torch.ones(24, 24, dtype=torch.float64)
    for n in range(60):
        through *= 1 - picture(turned(gaussians, torch.tensor([n])), camera, 24, 24)[0, -1]
    assert (picture(gaussians, camera, 24, 24)[0, -1] - (1 - through)).abs().max() < 1e-12


def test_gradients_are_those_of_finite_differences():
    gaussians = some(6)
    names = ("mean", "scale", "rotation", "opacity", "colour")
    values = tuple(getattr(gaussians, name).requires_grad_() for name in names)
    factors = torch.randn(1, 4, 12, 12, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    value = lambda *parts: (picture(Gaussians(*parts), AROUND[:1], 12, 12) * factors).sum()
    assert torch.autograd.gradcheck(value, values, eps=1e-7, atol=1e-5, rtol=1e-4)


def test_the_order_of_storage_does_not_matter():
    order = torch.randperm(60, generator=torch.Generator().manual_seed(2))
    drawn = [picture(each, AROUND, 24, 24) for each in (some(), turned(some(), order))]
    assert (drawn[0] - drawn[1]).abs().max() < 1e-12


def test_turning_the_world_and_the_camera_changes_nothing():
    w, x, y, z = 0.5, 0.1, -0.7, 0.5
    by = ball([0, 0, 0], 1.0, 1.0, [0.0])
    turn = replace(by, rotation=torch.tensor([[w, x, y, z]], dtype=torch.float64)).axes[0]
    gaussians, move, (a, b, c, d) = some(), torch.tensor([0.3, -1.0, 2.0]), some().rotation.unbind(-1)
    product = (w * a - x * b - y * c - z * d, w * b + x * a + y * d - z * c,
               w * c - x * d + y * a + z * b, w * d + x * c - y * b + z * a)  # fmt: skip
    moved = replace(gaussians, mean=gaussians.mean @ turn.T + move, rotation=torch.stack(product, -1))
    whole = torch.eye(4, dtype=torch.float64)
    whole[:3, :3], whole[:3, 3] = turn, move
    drawn = picture(moved, Cameras(whole @ AROUND.pose, AROUND.fov), 24, 24)
    assert (drawn - picture(gaussians, AROUND, 24, 24)).abs().max() < 1e-10


def test_what_is_behind_the_camera_is_not_seen():
    behind = picture(ball([0, -6, 0], 0.3, 0.9, [1.0]), FRONT, 16, 16)
    assert behind.abs().max() == 0


def test_unpacked_tiles_are_packed_tiles(monkeypatch):
    """What another device computes is what the processor computes."""
    packed = picture(some(), AROUND, 24, 24)
    monkeypatch.setattr(splats, "packed", lambda mask: (torch.arange(mask.shape[1]).expand_as(mask), mask))
    assert (picture(some(), AROUND, 24, 24) - packed).abs().max() < 1e-12


@pytest.fixture
def gsplat(monkeypatch):
    """A module that takes the place of gsplat, which needs a GPU: the list of (intrinsics, width, height) that it is given.

    It renders by gsplat's conventions: OpenCV's cameras, and Jacobians that depend on the edges of what is rendered.
    """
    given = []

    def rasterization(means, quats, scales, opacities, colors, viewmats, Ks, width, height, **more):
        assert more["rasterize_mode"] == "antialiased" and more["eps2d"] == BLUR
        given.append((Ks, width, height))
        poses = torch.linalg.inv(viewmats) @ torch.diag(torch.tensor([1.0, -1, -1, 1]).double())
        gaussians = Gaussians(means, scales, quats, opacities, colors)
        drawn = [loop(gaussians, pose, float(k[0, 0]), (float(k[0, 2]), float(k[1, 2])), height, width)
                 for pose, k in zip(poses, Ks, strict=True)]  # fmt: skip
        drawn = torch.stack(drawn).permute(0, 2, 3, 1)
        return drawn[..., :-1], drawn[..., -1:], {}

    stand_in = ModuleType("gsplat")
    stand_in.rasterization = rasterization
    monkeypatch.setitem(sys.modules, "gsplat", stand_in)
    monkeypatch.setattr(splats, "uses_gsplat", lambda device: True)
    return given


def test_gsplat_is_given_the_same_cameras(gsplat, monkeypatch):
    drawn = picture(some(), AROUND, 20, 28)
    ((intrinsics, width, height),) = gsplat
    assert (width, height) == (28, 20) and intrinsics[:, :2, 2].eq(torch.tensor([14.0, 10.0])).all()
    monkeypatch.undo()
    assert (drawn - picture(some(), AROUND, 20, 28)).abs().max() < 1e-10


CROPS = [(0, 0, 1, 60), (17, 0, 1, 60), (39, 0, 1, 60), (8, 50, 6, 10), (20, 30, 4, 4)]


@pytest.mark.parametrize("crop", CROPS)
@pytest.mark.parametrize("size", [0.02, 0.3])
def test_gsplat_renders_a_crop_as_that_part_of_the_whole_picture(gsplat, monkeypatch, crop, size):
    """Also a band of one row, which Gaussians of any size reach into from far outside."""
    top, left, h, w = crop
    gaussians = replace(some(), scale=size * some().scale / some().scale.mean())
    part = picture(gaussians, AROUND, 40, 60, crop)
    monkeypatch.undo()
    assert (part - picture(gaussians, AROUND, 40, 60)[..., top : top + h, left : left + w]).abs().max() < 1e-10
    assert (part - picture(gaussians, AROUND, 40, 60, crop)).abs().max() < 1e-10


def test_gsplat_renders_little_more_than_the_crop(gsplat):
    """Nothing else, where no Gaussian is cut; the principal point moves, the focal length is that of the whole picture."""
    crop = (8, 50, 6, 10)
    picture(ball([0, 0, 0], 0.01, 0.5, [1.0]), FRONT, 40, 60, crop)
    ((intrinsics, width, height),) = gsplat
    assert (width, height) == (10, 6)
    assert intrinsics[0, :2, 2].tolist() == [30 - 50, 20 - 8]
    assert float(intrinsics[0, 1, 1]) == pytest.approx(20 / math.tan(math.radians(20)))
    small = replace(some(), scale=0.01 * torch.ones(60, 3).double())
    picture(small, AROUND, 400, 600, (200, 0, 1, 600))
    assert gsplat[1][2] < 40  # of 400 rows


def test_a_centre_beyond_the_limit_takes_the_whole_side(gsplat, monkeypatch):
    """Its Jacobian is that at the limit of the whole picture: in this direction no window has the same limit."""
    wide = ball([2.5, 0, 0], 0.8, 0.9, [1.0])
    part = picture(wide, FRONT, 20, 20, (4, 12, 6, 8))
    ((_, width, height),) = gsplat
    assert width == 20 and height < 20
    monkeypatch.undo()
    assert part.max() > 0.01
    assert (part - picture(wide, FRONT, 20, 20, (4, 12, 6, 8))).abs().max() < 1e-10


def test_the_cameras_of_a_window_see_its_pixels():
    """Projected by the intrinsics, a mean lies where `project` says, counted from the window's corner."""
    window = (3, -5, 11, 40)
    world_to_camera, intrinsics = splats.opencv_cameras(AROUND, 20, 28, window)
    means = torch.cat([some().mean, torch.ones(60, 1)], -1)
    places = intrinsics @ (world_to_camera @ means.T)[:, :3]
    corner = torch.tensor([window[1], window[0]])
    expected = splats.project(some(), AROUND, 20, 28).splat[..., :2] - corner
    assert ((places[:, :2] / places[:, 2:]).transpose(1, 2) - expected).abs().max() < 1e-10


def small(kind: str = "rgba", **more: int) -> tuple[GaussianSplats, dict[str, Tensor]]:
    """A field with everything in it random."""
    diffrep = GaussianSplats(kind, 4, 32, 200, **more)
    random = torch.Generator().manual_seed(0)
    params = diffrep.init(random)
    return diffrep, {name: p + 0.5 * torch.randn(p.shape, generator=random) for name, p in params.items()}


@pytest.mark.parametrize("kind", KINDS)
def test_a_fit_compares_with_the_pictures_themselves(kind):
    diffrep, params = small(kind)
    cameras, random = turntable(2), torch.Generator().manual_seed(0)
    target = diffrep(params, cameras)
    weights = torch.tensor([0.5, 1.5])
    assert diffrep.fit(params, cameras, target, random, weights)(params).abs().max() < 1e-5
    away = diffrep.fit(params, cameras, target + torch.tensor([1.0, 2.0]).view(2, 1, 1, 1), random)(params)
    assert away.shape == (diffrep.pixels // 16, 16, 4)
    assert {round(float(each), 4) for each in away.flatten()} == {-1.0, -2.0}


def test_signals_with_an_opacity_are_premultiplied():
    diffrep, params = small()
    signal = diffrep(params, turntable(1))
    colour, alpha = (signal[:, :3] + 1) / 2, (signal[:, 3:] + 1) / 2
    assert (alpha - diffrep.opacity(params, turntable(1), 32, 32)).abs().max() < 1e-6
    assert (colour <= alpha + 1e-6).all() and 0 <= alpha.min() < alpha.max() <= 1


def test_a_background_is_seen_where_nothing_is():
    diffrep, params = small("rgb")
    params["background"], params["opacity"] = torch.full((1, 4, 4, 4), 0.25), torch.full((200,), -30.0)
    assert (diffrep(params, turntable(1)) - 0.25).abs().max() < 1e-6


def test_depth_is_the_distance():
    diffrep, params = small()
    params = {name: p[:1] for name, p in params.items()}
    params["mean"], params["opacity"] = torch.tensor([[0.0, -0.5, 0.0]]), torch.full((1,), 5.0)
    params["scale"] = torch.full((1, 3), -2.0)
    camera = look_at(torch.tensor([[0.0, -4.0, 0.0]]), torch.zeros(3))
    depth = diffrep.depth(params, camera, 33, 33)[0, 0]
    assert float(depth[16, 16]) == pytest.approx(3.5, abs=1e-4) and depth[0, 0] == torch.inf


def test_density_takes_as_much_light_as_the_picture_does():
    """Of a round Gaussian, along the ray through its middle; of many, in a mesh."""
    one = ball([0, 0, 0], 0.2, 0.7, [1.0])
    line = torch.linspace(-1, 1, 4001).double()
    points = torch.stack([torch.zeros_like(line), line, torch.zeros_like(line)], -1)
    passed = torch.exp(-density_at(one, points).sum() * (line[1] - line[0]))
    assert float(1 - passed) == pytest.approx(0.7, abs=5e-3)
    several = some(20)
    point = torch.randn(70, 3, generator=torch.Generator().manual_seed(0)).double()
    scaled = (several.axes / several.scale[:, None]).transpose(1, 2)
    q = torch.einsum("nij,pnj->pni", scaled, point[:, None] - several.mean).square().sum(-1)
    peak = -torch.log1p(-several.opacity.clamp(max=MAX_OPACITY)) / (math.sqrt(2 * math.pi) * several.scale.amin(-1))
    assert torch.allclose(density_at(several, point), (torch.exp(-q / 2) * peak * (q <= REACH**2)).sum(-1))


def test_a_ball_of_gaussians_becomes_a_ball():
    diffrep = GaussianSplats(gaussians=2000)
    params = diffrep.init(storage.generator(0)) | {"opacity": torch.full((2000,), 1.0)}
    mesh = extract(lambda points: diffrep.density(params, points), 48, faces=2000)
    assert mesh.is_watertight and 0.75 < np.linalg.norm(mesh.vertices, axis=1).mean() < 0.95


def test_a_fit_comes_closer_than_where_it_began():
    """Adam, with the rates of the recipe, onto pictures of another field."""
    model = ToyboxModel()
    diffrep, other = small(pixels=1024)
    recipe = diffrep.recipe(model, 4, 0)
    cameras, random = turntable(4), torch.Generator().manual_seed(0)
    target = diffrep(other, cameras)
    params = diffrep.init(random)
    error = lambda theta: float((diffrep(theta, cameras) - target).square().mean())
    solver = Adam(60, 0, recipe.solver.lr, recipe.solver.betas)
    fitted, _, _ = solver(diffrep.fit(params, cameras, target, random), params, solver.init(params), False)
    assert error(fitted) < error(params) / 8


@pytest.fixture(scope="module")
def sampled(tmp_path_factory):
    """A short run as the command line makes it, to a .ply file."""
    out = tmp_path_factory.mktemp("splats") / "x.ply"
    model, settings = ToyboxModel(), tasks.Settings("a red ball", steps=2, views=2, guidance=1.0)
    usual = tasks.recipe("generate", model, settings, "splats", gaussians=256)
    recipe = replace(usual, solver=Adam(8, 16, usual.solver.lr), last_views=None)
    run = outputs.run(recipe.diffrep.task(), model, recipe, settings, outputs.beside(out, outputs.RUN))
    field = run()
    return outputs.write_sampled(out, field, model, {}), field, model


def test_a_sampled_field_is_a_file_that_loads_again(sampled):
    files, field, _ = sampled
    again = storage.load_field(Path(files["field"]))
    assert again.diffrep == field.diffrep and all(torch.equal(again.params[k], p) for k, p in field.params.items())


def test_the_ply_file_is_what_plyfile_reads(sampled):
    plyfile = pytest.importorskip("plyfile")
    files, field, model = sampled
    vertex = plyfile.PlyData.read(files["file"])["vertex"]
    names = [each.name for each in vertex.properties]
    assert names == list(COLUMNS)
    column = lambda *names: torch.from_numpy(np.stack([vertex[name] for name in names], -1))
    gaussians = field.diffrep.to_gaussians(field.params)
    rotation = torch.nn.functional.normalize(gaussians.rotation, dim=-1)
    assert torch.equal(column("x", "y", "z"), gaussians.mean)
    assert torch.allclose(torch.exp(column("scale_0", "scale_1", "scale_2")), gaussians.scale, rtol=1e-5)
    assert torch.allclose(torch.sigmoid(column("opacity"))[:, 0], gaussians.opacity, atol=1e-6)
    assert torch.allclose(column("rot_0", "rot_1", "rot_2", "rot_3"), rotation, atol=1e-6)
    # The colour is the picture's, where a Gaussian is all that is seen.
    colour = 0.5 + 0.28209479177387814 * column("f_dc_0", "f_dc_1", "f_dc_2")
    seen = model.decode(2 * torch.cat([gaussians.colour, torch.ones(256, 1)], -1).T[None, :, :, None] - 1)[
        0, :3, :, 0
    ].T
    assert torch.allclose(colour, seen, atol=1e-5)


def test_the_ply_file_is_what_another_program_reads(sampled):
    """GaussForge, in C++, makes of it a .splat file: positions, deviations, RGBA and rotations as plain numbers."""
    gaussforge = pytest.importorskip("gaussforge")
    files, field, _ = sampled
    made = gaussforge.GaussForge().convert(Path(files["file"]).read_bytes(), "ply", "splat")
    rows = np.frombuffer(bytes(made["data"]), np.uint8).reshape(-1, 32)
    numbers = torch.from_numpy(rows[:, :24].copy().view("<f4"))
    gaussians = field.diffrep.to_gaussians(field.params)
    row = torch.cdist(gaussians.mean, numbers[:, :3]).argmin(1)  # the order is its own
    bytes_of = torch.from_numpy(rows[:, 24:].copy()).float()[row]
    assert torch.allclose(numbers[row, :3], gaussians.mean, atol=1e-5)
    assert torch.allclose(numbers[row, 3:], gaussians.scale, rtol=1e-4)
    assert (bytes_of[:, :3] / 255 - gaussians.colour).abs().max() < 0.01
    assert (bytes_of[:, 3] / 255 - gaussians.opacity).abs().max() < 0.01
    rotation = torch.nn.functional.normalize(gaussians.rotation, dim=-1)
    cosine = (torch.nn.functional.normalize((bytes_of[:, 4:] - 128) / 128, dim=-1) * rotation).sum(-1)
    assert cosine.abs().min() > 0.999


def test_views_from_the_mesh_s_side_and_the_bands_agree(sampled):
    """What `render` draws in bands is the picture drawn at once."""
    _, field, model = sampled
    camera = turntable(3)[1:2]
    bands = torch.cat(list(tasks.view_bands(field, camera, 200, 200, model)), 1)
    whole = model.decode(field.diffrep.through(field.params, camera, 200, 200))[0]
    assert (bands - whole).abs().max() < 1e-5


def test_a_job_that_was_stopped_ends_in_the_same_bytes(tmp_path, monkeypatch):
    """And by its kind and choice it is an object like voxels, whose runs are others'."""
    monkeypatch.setattr(viewpoints, "LAST_CAMERAS", 2)
    options = {"field": "splats", "gaussians": 64}
    job = {"kind": "object", "settings": {"prompt": "a red ball", "steps": 2, "views": 2}, "options": options}

    def stopping(message: Message) -> None:
        if isinstance(message, Progress) and message.stage is Stage.SAMPLING and message.move == 1:
            raise Cancelled

    def silent(message: Message) -> None:
        pass

    whole = jobs.perform({**job, "out": str(tmp_path / "a.ply")}, silent)
    with pytest.raises(Cancelled):
        jobs.perform({**job, "out": str(tmp_path / "b.ply")}, stopping)
    voxels = {**job, "options": {}, "out": str(tmp_path / "b.glb")}
    shutil.copy(tmp_path / "b.ply.run", tmp_path / "b.glb.run")
    with pytest.raises(ValueError, match="task 'generate splats' \\(now 'generate'\\)"):
        jobs.perform({**voxels, "resume": True}, silent)
    again = jobs.perform({**job, "out": str(tmp_path / "b.ply"), "resume": True}, silent)
    assert Path(whole["file"]).read_bytes() == Path(again["file"]).read_bytes()
