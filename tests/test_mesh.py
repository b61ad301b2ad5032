"""Surface, unwrap, bake and GLB, each against something known exactly: solids, rays, given colours, a validator."""

from __future__ import annotations

import json
import math
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
import trimesh
from pullback.files import atomic
from pullback.geometry.cameras import look_at, orbit, rays
from pullback.mesh import atlas, surface
from pullback.mesh import bake as baking
from pullback.mesh.bake import bake, project
from pullback.mesh.glb import write_glb
from pullback.mesh.surface import extract
from pullback.mesh.unwrap import unwrap
from pullback.version import VERSION
from scipy import ndimage

RADIUS = 0.6


def ball(points):
    """Density that is 10, the default level, on a sphere, and grows by a factor of e every 0.025 towards its centre.

    The optical depth at the sphere is only 0.25, so that the level alone decides where the surface is.
    """
    return 10 * torch.exp((RADIUS - points.norm(dim=-1)) / 0.025)


def fog(points):
    """A hollow ball of noisy density. It is thick enough to look solid, although its density is a third of the level."""
    noise = 1 + 0.8 * torch.sin(40 * points).prod(dim=-1)
    radius = points.norm(dim=-1)
    return 3.5 * noise * ((radius < RADIUS) & (radius > RADIUS - 0.25))


def cameras_around(count=16):
    """Views from all sides, of both hemispheres, evenly spread along a spiral."""
    height = torch.linspace(-0.85, 0.85, count, dtype=torch.float64)
    return orbit(torch.arange(count, dtype=torch.float64) * 2.399963, torch.asin(height))


def stripes(points):
    """A smooth colour in [0.1, 0.9] as a function of position."""
    return 0.5 + 0.4 * np.sin(4 * points + np.array([0.0, 1.0, 2.0]))


def box_pictures(cameras, boxes, colours, size):
    """Premultiplied RGBA (B, 4, size, size) of axis-aligned boxes (K, 2, 3), by the slab method.

    Each colour is a function of position.
    """
    origins, directions = (value.numpy().astype(np.float64) for value in rays(cameras, size, size))
    pictures, nearest = np.zeros((*origins.shape[:3], 4)), np.full(origins.shape[:3], np.inf)
    for box, colour in zip(boxes, colours, strict=True):
        slabs = (np.asarray(box)[:, None, None, None] - origins) / directions
        enter, leave = slabs.min(axis=0).max(axis=-1), slabs.max(axis=0).min(axis=-1)
        hit = (enter < leave) & (enter < nearest)
        nearest[hit] = enter[hit]
        pictures[hit, :3] = colour(origins[hit] + enter[hit, None] * directions[hit])
        pictures[hit, 3] = 1.0
    return torch.from_numpy(pictures).permute(0, 3, 1, 2)


def sphere_pictures(cameras, size):
    """The sphere of `ball`, coloured by `stripes`; premultiplied RGBA."""
    origins, directions = (value.numpy() for value in rays(cameras, size, size))
    along = -(origins * directions).sum(axis=-1)
    inner = along**2 - (origins**2).sum(axis=-1) + RADIUS**2
    hit = inner > 0
    points = origins + (along - np.sqrt(np.maximum(inner, 0)))[..., None] * directions
    rgba = np.concatenate([stripes(points), np.ones((*hit.shape, 1))], axis=-1) * hit[..., None]
    return torch.from_numpy(rgba).permute(0, 3, 1, 2)


def shown(mesh, texture, count=8000):
    """Points on the surface, the bilinear colour of the texture there in [0, 1], and the face of each point."""
    points, faces = trimesh.sample.sample_surface(mesh, count, seed=0)
    inside = trimesh.triangles.points_to_barycentric(mesh.triangles[faces], points)
    uv = np.einsum("nk,nki->ni", inside, mesh.visual.uv[mesh.faces[faces]])
    size = len(texture)
    place = [(1 - uv[:, 1]) * size - 0.5, uv[:, 0] * size - 0.5]
    colour = [ndimage.map_coordinates(texture[..., k].astype(float), place, order=1, mode="nearest") for k in range(3)]
    return points, np.stack(colour, axis=1) / 255, faces


def inside_charts(mesh, size):
    """(size, size) whether a texel's centre lies in a triangle, by brute force over the triangles."""
    found = np.zeros((size, size), dtype=bool)
    for triangle in mesh.visual.uv[mesh.faces] * (size, -size) + (0, size):
        left, top = np.maximum(np.floor(triangle.min(axis=0)).astype(int), 0)
        right, bottom = np.ceil(triangle.max(axis=0)).astype(int)
        y, x = np.mgrid[top:bottom, left:right] + 0.5
        ends = zip(triangle, np.roll(triangle, -1, axis=0), strict=True)
        sides = np.stack([(q[0] - p[0]) * (y - p[1]) - (q[1] - p[1]) * (x - p[0]) for p, q in ends])
        found[top:bottom, left:right] |= (sides > 0).all(axis=0) | (sides < 0).all(axis=0)
    return found


@pytest.fixture(scope="module")
def sphere():
    return extract(ball, resolution=48, faces=1500)


@pytest.fixture(scope="module")
def unwrapped(sphere):
    return unwrap(sphere, 256)


@pytest.fixture(scope="module")
def baked(unwrapped):
    cameras = cameras_around()
    return bake(unwrapped, cameras, sphere_pictures(cameras, 96), 256)


# Surface


def test_a_ball_gives_its_sphere():
    mesh = extract(ball, resolution=64)
    assert mesh.is_watertight and mesh.is_winding_consistent and mesh.euler_number == 2
    assert len(mesh.faces) <= 20_000
    assert mesh.volume == pytest.approx(4 / 3 * math.pi * RADIUS**3, rel=0.01)
    assert mesh.area == pytest.approx(4 * math.pi * RADIUS**2, rel=0.01)
    assert np.abs(np.linalg.norm(mesh.vertices, axis=1) - RADIUS).max() < 0.25 * (2 / 64)
    assert (mesh.face_normals * mesh.triangles_center).sum(axis=1).min() > 0.98 * RADIUS


def test_the_face_budget_holds_and_costs_little(sphere):
    assert len(sphere.faces) <= 1500 and sphere.is_watertight
    assert sphere.volume == pytest.approx(4 / 3 * math.pi * RADIUS**3, rel=0.01)


def test_fog_that_looks_solid_is_solid():
    mesh = extract(fog, resolution=64)
    assert mesh.is_watertight and mesh.euler_number == 2
    depth = -math.log(1 - surface.HIDDEN) / 3.5
    assert mesh.volume == pytest.approx(4 / 3 * math.pi * (RADIUS - depth) ** 3, rel=0.15)


def test_what_light_reaches_stays_open():
    def cup(points):
        side = points[:, :2].norm(dim=-1)
        hollow = (side < 0.4) & (points[:, 2] > -0.4)
        return 40.0 * ((side < 0.5) & (points[:, 2].abs() < 0.5) & ~hollow)

    volume = math.pi * (0.5**2 * 1.0 - 0.4**2 * 0.9)
    assert extract(cup, resolution=80).volume == pytest.approx(volume, rel=0.05)


def test_depth_is_the_least_sum_along_26_directions():
    sigma = np.random.default_rng(0).exponential(1.0, (6, 6, 6)).astype(np.float32)
    least = np.full(sigma.shape, np.inf)
    for cell in np.ndindex(sigma.shape):
        for step in np.ndindex(3, 3, 3):
            step = np.array(step) - 1
            at, depth = np.array(cell), 0.0
            while step.any() and (at >= 0).all() and (at < sigma.shape).all():
                depth += sigma[tuple(at)] * (0.5 if tuple(at) == cell else 1.0)
                at = at + step
            if step.any():
                least[cell] = min(least[cell], 0.1 * depth * np.linalg.norm(step))
    np.testing.assert_allclose(surface._depth(sigma, 0.1), least, rtol=1e-5)


def test_world_axes_and_position_are_kept():
    low, high = torch.tensor([-0.5, -0.2, 0.1]), torch.tensor([-0.1, 0.7, 0.3])
    mesh = extract(lambda p: 1000.0 * ((p > low) & (p < high)).all(dim=-1), resolution=80)
    assert mesh.bounds == pytest.approx(np.stack([low, high]), abs=0.5 * (2 / 80))


def test_a_torus_keeps_its_hole():
    ring = lambda p: 10 * torch.exp((0.2 - torch.hypot(p[:, :2].norm(dim=-1) - 0.6, p[:, 2])) / 0.03)
    mesh = extract(ring, resolution=96, faces=3000)
    assert mesh.is_watertight and mesh.euler_number == 0 and len(mesh.faces) <= 3000
    assert mesh.volume == pytest.approx(2 * math.pi**2 * 0.6 * 0.2**2, rel=0.03)


def test_only_the_largest_body_stays_and_its_cavity_goes():
    def density(points):
        away = points.norm(dim=-1)
        shell = 100.0 * ((away < 0.5) & (away > 0.3))
        return shell + 100.0 * ((points + 0.75).norm(dim=-1) < 0.2)

    mesh = extract(density, resolution=64)
    assert mesh.body_count == 1 and np.linalg.norm(mesh.vertices, axis=1).max() < 0.53
    assert mesh.volume == pytest.approx(4 / 3 * math.pi * 0.5**3, rel=0.03)


def test_a_field_that_fills_the_cube_is_closed_at_its_bound():
    mesh = extract(lambda p: torch.full((len(p),), 1e6), resolution=16, bound=0.5)
    assert mesh.is_watertight and mesh.volume == pytest.approx(1.0, rel=0.03)
    assert mesh.bounds == pytest.approx(np.array([[-0.5] * 3, [0.5] * 3]), abs=0.5 / 16)


@pytest.mark.parametrize("seed", range(3))
def test_a_tangled_field_is_closed_within_budget(seed):
    noise = ndimage.gaussian_filter(np.random.default_rng(seed).normal(size=(64, 64, 64)), 1.5)
    noise = torch.from_numpy(noise / noise.std()).float()

    def density(points):
        i, j, k = ((points + 1) * 32).long().unbind(dim=-1)
        return 10 * torch.exp((0.6 - points.norm(dim=-1)) / 0.1 + 0.7 * noise[i, j, k])

    mesh = extract(density, resolution=64, faces=3000)
    assert mesh.is_watertight and mesh.is_winding_consistent and len(mesh.faces) <= 3000 and mesh.body_count == 1


def test_mending_opens_pinches_and_drops_flaps():
    """Two tetrahedra that share one edge, and a flap on it: closed again, with the same enclosed volume."""
    vertices = np.array([[0, 0, 0], [0, 0, 1], [1, 0, 0], [0, 1, 0], [-1, 0, 0], [0, -1, 0], [2, 2, 2]], dtype=float)
    one = [[0, 2, 3], [0, 3, 1], [0, 1, 2], [2, 1, 3]]
    two = [[0, 4, 5], [0, 5, 1], [0, 1, 4], [4, 1, 5]]
    flap = [[0, 1, 6], [0, 6, 1]]
    broken = trimesh.Trimesh(vertices, one + two + flap, process=False)
    mesh = trimesh.Trimesh(*surface._mended(vertices, np.array(one + two + flap)), process=False)
    assert not broken.is_watertight and mesh.is_watertight and mesh.is_winding_consistent
    assert abs(mesh.volume) == pytest.approx(1 / 3)


def test_the_field_is_read_in_bounded_parts_without_gradients():
    sizes = []

    def density(points):
        sizes.append(len(points))
        assert points.dtype == torch.float32 and not torch.is_grad_enabled()
        return ball(points)

    extract(density, resolution=64)
    assert sum(sizes) == 64**3 and max(sizes) <= surface.CHUNK


def test_unusable_fields_are_refused_with_the_reason():
    with pytest.raises(ValueError, match=r"empty.*0\.25.*more steps or another seed"):
        extract(lambda p: torch.full((len(p),), 0.25), resolution=16)
    with pytest.raises(ValueError, match="NaN at 4096 of 4096"):
        extract(lambda p: p[:, 0] * math.nan, resolution=16)
    with pytest.raises(ValueError, match=r"\(4096, 3\).*got \(4096, 1\)"):
        extract(lambda p: p[:, :1], resolution=16)
    with pytest.raises(ValueError, match="faces >= 4"):
        extract(ball, faces=0)


def test_infinite_density_is_opaque():
    mesh = extract(lambda p: torch.where(p.norm(dim=-1) < 0.5, torch.inf, -torch.inf), resolution=32)
    assert mesh.is_watertight and mesh.volume == pytest.approx(4 / 3 * math.pi * 0.5**3, rel=0.05)


# Unwrap


def test_unwrapping_keeps_the_surface(sphere, unwrapped):
    assert np.abs(unwrapped.triangles - sphere.triangles).max() < 1e-12
    assert np.abs(unwrapped.vertex_normals[unwrapped.faces] - sphere.vertex_normals[sphere.faces]).max() < 1e-9


def test_charts_cover_the_square_without_overlap(unwrapped):
    uv = unwrapped.visual.uv
    assert uv.shape == (len(unwrapped.vertices), 2) and uv.min() >= 0 and uv.max() <= 1
    u, v = np.moveaxis(uv[unwrapped.faces][:, 1:] - uv[unwrapped.faces][:, :1], 1, 0)
    area = np.abs(u[:, 0] * v[:, 1] - u[:, 1] * v[:, 0]).sum() / 2
    covered = inside_charts(unwrapped, 256).mean()
    assert area > 0.3 and area == pytest.approx(covered, rel=0.01)


def test_a_mesh_without_faces_cannot_be_unwrapped():
    with pytest.raises(ValueError, match="no faces"):
        unwrap(trimesh.Trimesh())


def triangles(mesh):
    return mesh.vertices.astype(np.float32), mesh.faces.astype(np.uint32), mesh.area / 64, 256


@pytest.fixture
def processes(monkeypatch):
    """The processes that are started for charts."""
    started, start = [], atlas._start_process
    monkeypatch.setattr(atlas, "_start_process", lambda question: started.append(start(question)) or started[-1])
    return started


def test_another_process_lays_out_the_same_charts(sphere, processes):
    for here, apart in zip(atlas.charts(*triangles(sphere)), atlas.charts_apart(*triangles(sphere)), strict=True):
        assert here.dtype == apart.dtype and np.array_equal(here, apart)
    assert [process.returncode for process in processes] == [0]


def test_a_tick_that_raises_ends_the_other_process_at_once(sphere, processes):
    class Enough(Exception):
        pass

    def tick():
        if processes:
            raise Enough

    with pytest.raises(Enough):
        unwrap(trimesh.creation.icosphere(7), tick=tick)  # 300,000 faces, minutes
    (process,) = processes
    assert process.returncode not in (None, 0) and process.stdout.closed


def test_the_death_of_the_process_is_reported_in_one_sentence(sphere, tmp_path, monkeypatch):
    program = tmp_path / "killed.py"
    program.write_text("import os; os._exit(9)", encoding="ascii")
    monkeypatch.setattr(atlas, "__file__", str(program))
    with pytest.raises(ValueError, match="choose fewer faces"):
        unwrap(sphere)


@pytest.mark.parametrize("broken", ["raises", "no python", "not there"])
def test_where_no_python_can_be_started_the_charts_are_laid_out_here(sphere, unwrapped, tmp_path, monkeypatch, broken):
    if broken == "raises":
        program = tmp_path / "raises.py"
        program.write_text("import no_such_module", encoding="ascii")
        monkeypatch.setattr(atlas, "__file__", str(program))
    else:
        monkeypatch.setattr(sys, "executable", str(tmp_path / ("host" if broken == "no python" else "python")))
    assert np.array_equal(unwrap(sphere, 256).visual.uv, unwrapped.visual.uv)


@pytest.mark.skipif(sys.platform != "linux", reason="on other systems the process ends only when it is done")
def test_a_killed_parent_leaves_no_process(tmp_path):
    code = f"""
import sys; sys.path.insert(0, {str(Path(atlas.__file__).parents[2])!r})
import trimesh; from pullback.mesh import atlas, unwrap
start = atlas._start_process
def told(question):
    child = start(question); print(child.pid, flush=True); return child
atlas._start_process = told
unwrap.unwrap(trimesh.creation.icosphere(7))
"""
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as parent:
        child = Path("/proc", parent.stdout.readline().decode().strip())
        while b"xatlas" not in (child / "maps").read_bytes():
            time.sleep(0.05)
        time.sleep(1)  # by now it is in xatlas and does not react to anything
        parent.kill()
    end = time.monotonic() + 20
    while child.exists() and "\nState:\tZ" not in (child / "status").read_text(encoding="ascii"):
        assert time.monotonic() < end, "it is still there"
        time.sleep(0.05)


def test_extracting_and_baking_can_be_stopped(sphere, unwrapped):
    """They call `tick` between all of their steps, and end when it raises."""

    class Enough(Exception):
        pass

    def stopped(work):
        """Return how often `work` calls `tick`, after a check that the first, a middle and the last call can end it."""
        count = []
        work(lambda: count.append(1))
        for last in {1, len(count) // 2, len(count)}:
            left = [None] * last

            def tick(left=left):
                left.pop()
                if not left:
                    raise Enough

            with pytest.raises(Enough):
                work(tick)
        return len(count)

    assert stopped(lambda tick: extract(ball, resolution=32, faces=500, tick=tick)) > 26 * 32
    cameras = cameras_around(4)
    pictures = sphere_pictures(cameras, 48)
    assert stopped(lambda tick: bake(unwrapped, cameras, pictures, 128, tick)) > 4 + baking.STEPS


# Bake


def test_projection_inverts_rays():
    generator = torch.Generator().manual_seed(0)
    cameras = look_at(3 * torch.randn(5, 3, dtype=torch.float64, generator=generator), torch.zeros(3), 0.9)
    origins, directions = rays(cameras, 6, 9)
    along = 1 + torch.rand(5, 6, 9, 1, dtype=torch.float64, generator=generator)
    row, column = torch.meshgrid(torch.arange(6) + 0.5, torch.arange(9) + 0.5, indexing="ij")
    for b in range(5):
        points = (origins + along * directions)[b].reshape(-1, 3)
        place, depth = project(cameras[b : b + 1], points, 6, 9)
        assert (place[0] - torch.stack([column, row], dim=-1).reshape(-1, 2)).abs().max() < 1e-10
        axis = -cameras.pose[b, :3, 2]
        assert (depth[0] - (points - cameras.position[b]) @ axis).abs().max() < 1e-10


def test_depths_are_those_of_the_rays():
    """The rasterised depth of a box against its slabs: large triangles seen obliquely, so perspective matters."""
    camera, box = cameras_around(3)[1:2], trimesh.creation.box(extents=(1.5, 1, 0.5))
    depth = baking._depths(box, camera, 40, 60).reshape(40, 60)
    origins, directions = (value[0].numpy() for value in rays(camera, 40, 60))
    slabs = (box.bounds[:, None, None] - origins) / directions
    enter, leave = slabs.min(axis=0).max(axis=-1), slabs.max(axis=0).min(axis=-1)
    hit = enter < leave
    true = enter * -(directions @ camera.pose[0, :3, 2].numpy())
    assert hit.sum() > 200 and (np.isfinite(depth) == hit).all()
    assert np.abs(depth - true)[hit].max() < 1e-9


def test_a_colour_that_depends_on_position_is_recovered(unwrapped, baked):
    points, colour, _ = shown(unwrapped, baked)
    true = stripes(RADIUS * points / np.linalg.norm(points, axis=1, keepdims=True))
    error = np.abs(colour - true).max(axis=1)
    assert error.mean() < 0.01 and np.quantile(error, 0.99) < 0.03 and error.max() < 0.1


def test_flat_colour_is_exact_whatever_the_alpha(unwrapped):
    """Premultiplied pictures of one colour, half transparent: the texture has the straight colour everywhere."""
    cameras = cameras_around(8)
    pictures = (sphere_pictures(cameras, 64)[:, 3:] > 0) * torch.tensor([0.8, 0.4, 0.2, 1.0]).reshape(4, 1, 1) * 0.75
    texture = bake(unwrapped, cameras, pictures, 128)
    assert (np.abs(texture.astype(int) - [204, 102, 51]) <= 1).all()


def test_the_solve_lowers_the_residual_of_the_mean(unwrapped, monkeypatch):
    """Fine detail at the pictures' resolution: the mean over views blurs it, least squares brings it back."""
    fine = lambda points: 0.5 + 0.4 * np.sin(30 * points)
    box = trimesh.creation.box(extents=(1, 1, 1))
    mesh, cameras = unwrap(box, 256), cameras_around()
    pictures = box_pictures(cameras, [box.bounds], [fine], 64)
    error = {}
    for steps in (0, 8):
        monkeypatch.setattr(baking, "STEPS", steps)
        points, colour, _ = shown(mesh, bake(mesh, cameras, pictures, 256))
        error[steps] = np.abs(colour - fine(points)).mean()
    assert error[8] < 0.75 * error[0]


def test_conjugate_gradients_solve_the_equations():
    generator = np.random.default_rng(0)
    factor = generator.normal(size=(12, 6))
    matrix, true = factor.T @ factor + np.eye(6), generator.normal(size=(6, 3))
    assert np.abs(baking._conjugate(lambda x: matrix @ x, matrix @ true, 6) - true).max() < 1e-9


def test_a_hidden_surface_does_not_take_the_colour_in_front():
    """A red plate in front of a blue one: blue everywhere, also where only oblique views see past the red."""
    front, back = np.array([[-0.3, -0.5, -0.3], [0.3, -0.4, 0.3]]), np.array([[-0.7, 0.1, -0.7], [0.7, 0.2, 0.7]])
    parts = [trimesh.creation.box(bounds=part) for part in (front, back)]
    mesh = unwrap(trimesh.util.concatenate(parts), 256)
    tint = lambda r, g, b: lambda points: np.broadcast_to([r, g, b], points.shape)
    cameras = cameras_around(24)
    pictures = box_pictures(cameras, [front, back], [tint(0.9, 0.0, 0.1), tint(0.0, 0.1, 0.9)], 128)
    points, colour, _ = shown(mesh, bake(mesh, cameras, pictures, 256))
    red = points[:, 1] < -0.2
    true = np.where(red[:, None], [0.9, 0.0, 0.1], [0.0, 0.1, 0.9])
    error = np.abs(colour - true).max(axis=1)
    assert np.quantile(error, 0.995) < 0.02 and (error < 0.3).all()


def test_what_is_never_seen_takes_the_nearest_colour_on_its_own_side():
    """One camera in front of a thin sheet, red left and green right: the edges and the back follow, left and right."""
    sheet = np.array([[-0.5, -0.02, -0.5], [0.5, 0.02, 0.5]])
    mesh = unwrap(trimesh.creation.box(bounds=sheet), 128)
    halves = lambda points: np.where(points[:, :1] < 0, [1.0, 0.0, 0.0], [0.0, 1.0, 0.0])
    camera = look_at(torch.tensor([[0.0, -3.2, 0.0]], dtype=torch.float64), torch.zeros(3))
    texture = bake(mesh, camera, box_pictures(camera, [sheet], [halves], 64), 128)
    points, colour, _ = shown(mesh, texture)
    clear = np.abs(points[:, 0]) > 0.1
    assert np.abs(colour - halves(points))[clear].max() < 0.01


def test_unseen_texels_do_not_look_through_a_thin_sheet():
    """The front and half of the back are seen. The other half takes its colour from the back, although the front is nearer."""
    mesh = unwrap(trimesh.creation.box(bounds=[[-0.5, -0.02, -0.5], [0.5, 0.02, 0.5]]), 128)
    texels = baking._texels(mesh, 128)
    side = mesh.face_normals[texels.face][:, 1].round()
    seen = (side < 0) | ((side > 0) & (texels.point[:, 0] < 0))
    near = (side[~seen] > 0) & (texels.point[~seen, 0] < 0.2)
    assert near.sum() > 100 and (side[baking._nearest(mesh, texels, seen)][near] > 0).all()


def test_texels_outside_the_charts_repeat_the_nearest_chart(unwrapped, baked):
    touched = np.zeros(256 * 256, dtype=bool)
    touched[baking._texels(unwrapped, 256).index] = True
    touched = touched.reshape(256, 256)
    assert (inside_charts(unwrapped, 256) <= touched).all()
    inner, outer = np.argwhere(touched), np.argwhere(~touched)
    for at in outer[::97]:
        row = ((inner - at) ** 2).sum(axis=1)
        equal = inner[row == row.min()]
        assert (baked[tuple(equal.T)] == baked[tuple(at)]).all(axis=1).any()


def test_every_texel_that_a_chart_touches_has_its_point(unwrapped):
    """Conservative: points sampled on the surface fall into texels that are covered, and near the texel's own point."""
    texels = baking._texels(unwrapped, 64)
    where = np.full(64 * 64, -1)
    where[texels.index] = np.arange(len(texels.index))
    points, faces = trimesh.sample.sample_surface(unwrapped, 20_000, seed=1)
    inside = trimesh.triangles.points_to_barycentric(unwrapped.triangles[faces], points)
    uv = np.einsum("nk,nki->ni", inside, unwrapped.visual.uv[unwrapped.faces[faces]])
    cell = np.minimum((np.stack([1 - uv[:, 1], uv[:, 0]], axis=1) * 64).astype(int), 63)
    hit = where[cell[:, 0] * 64 + cell[:, 1]]
    assert (hit >= 0).all()
    texel = math.sqrt(unwrapped.area / len(texels.index))
    away = np.linalg.norm(texels.point[hit] - points, axis=1)
    assert np.quantile(away, 0.95) < 1.5 * texel


def test_unusable_pictures_are_refused_with_the_reason(unwrapped):
    cameras = cameras_around(2)
    with pytest.raises(ValueError, match=r"\(2, 4, H, W\), got \(2, 3, 8, 8\)"):
        bake(unwrapped, cameras, torch.zeros(2, 3, 8, 8), 32)
    with pytest.raises(ValueError, match="show nothing of the mesh"):
        bake(unwrapped, cameras, torch.zeros(2, 4, 8, 8), 32)
    with pytest.raises(ValueError, match="unwrap it first"):
        bake(trimesh.creation.box(), cameras, torch.zeros(2, 4, 8, 8), 32)


# GLB


def test_a_glb_comes_back_as_it_was(tmp_path, unwrapped, baked):
    write_glb(tmp_path / "a.glb", unwrapped, baked, name="mushroom")
    scene = trimesh.load(tmp_path / "a.glb", process=False)
    (mesh,) = scene.geometry.values()
    assert list(scene.geometry) == ["mushroom"] and "mushroom" in scene.graph.nodes_geometry
    assert (mesh.faces == unwrapped.faces).all() and len(mesh.vertices) == len(unwrapped.vertices)
    x, y, z = unwrapped.vertices.T
    assert np.abs(mesh.vertices - np.stack([x, z, -y], axis=1)).max() < 1e-6
    assert np.abs(mesh.visual.uv - unwrapped.visual.uv).max() < 1e-6
    assert (np.asarray(mesh.visual.material.baseColorTexture.convert("RGB")) == baked).all()
    assert mesh.visual.material.name == "mushroom"
    assert mesh.visual.material.metallicFactor == 0 and mesh.visual.material.roughnessFactor == 0.9
    x, y, z = unwrapped.vertex_normals.T
    assert np.abs(mesh.vertex_normals - np.stack([x, z, -y], axis=1)).max() < 1e-6


def test_the_front_faces_plus_z_and_up_is_y(tmp_path):
    """A box that lies in front (-Y) and above (+Z) of the origin lands at +Z and +Y, turned and not mirrored."""
    mesh = unwrap(trimesh.creation.box(bounds=[[-0.1, -0.9, 0.4], [0.3, -0.5, 0.8]]), 64)
    write_glb(tmp_path / "a.glb", mesh, np.zeros((8, 8, 3), dtype=np.uint8))
    loaded = trimesh.load(tmp_path / "a.glb", force="mesh")
    assert loaded.bounds == pytest.approx(np.array([[-0.1, 0.4, 0.5], [0.3, 0.8, 0.9]]))
    assert loaded.volume == pytest.approx(0.4**3)


def test_a_glb_says_the_mean_colour_of_its_surface_and_who_made_it(tmp_path):
    """In linear light, by area, and without the margins of the texture: half of a square is red, half of it mid-grey."""
    corners = np.array([[0, 0, 0], [1, 0, 0], [1, 0, 1], [0, 0, 1]], dtype=float)
    uv = np.array([[0.1, 0.1], [0.1, 0.2], [0.2, 0.2], [0.8, 0.1], [0.8, 0.2], [0.9, 0.2]])
    flat = trimesh.Trimesh(corners[[0, 1, 2, 0, 2, 3]], [[0, 1, 2], [3, 4, 5]], process=False,
                           visual=trimesh.visual.TextureVisuals(uv=uv))  # fmt: skip
    texture = np.full((8, 8, 3), 255, dtype=np.uint8)
    texture[6:, :4], texture[6:, 4:] = (255, 0, 0), (188, 188, 188)
    write_glb(tmp_path / "a.glb", flat, texture, embedded={"workflow": "{}"})
    data = (tmp_path / "a.glb").read_bytes()
    described = json.loads(data[20 : 20 + int.from_bytes(data[12:16], "little")])
    assert described["asset"] == {"version": "2.0", "generator": f"pullback {VERSION}", "extras": {"workflow": "{}"}}
    (material,) = described["materials"]
    grey = 0.5029  # 188 of 255 is half of the light
    assert material["extras"]["mean_color"] == pytest.approx([(1 + grey) / 2, grey / 2, grey / 2], abs=1e-3)


def _validator():
    """Return the command that prints gltf-validator's report on a file, or None if the package is not installed."""
    node = shutil.which("node")
    probe = "require.resolve('gltf-validator')"
    if node is None or subprocess.run([node, "-e", probe], capture_output=True).returncode:
        return None
    script = (
        "require('gltf-validator').validateBytes(new Uint8Array(require('fs').readFileSync(process.argv[1])))"
        ".then(report => console.log(JSON.stringify(report)))"
    )
    return [node, "-e", script]


def test_the_khronos_validator_is_content(tmp_path, unwrapped, baked):
    command = _validator()
    if command is None:
        pytest.skip(
            "needs node and gltf-validator: `npm install gltf-validator` anywhere, NODE_PATH=<there>/node_modules"
        )
    write_glb(tmp_path / "a.glb", unwrapped, baked)
    report = json.loads(subprocess.run([*command, tmp_path / "a.glb"], capture_output=True, check=True).stdout)
    issues = report["issues"]
    assert (issues["numErrors"], issues["numWarnings"], issues["numInfos"]) == (0, 0, 0), issues["messages"]
    assert report["info"]["totalTriangleCount"] == len(unwrapped.faces)
    assert report["info"]["hasTextures"] and report["info"]["materialCount"] == 1


def test_unusable_textures_are_refused_with_the_reason(tmp_path, unwrapped):
    with pytest.raises(ValueError, match=r"\(H, W, 3\) uint8, got \(8, 8, 4\)"):
        write_glb(tmp_path / "a.glb", unwrapped, np.zeros((8, 8, 4), dtype=np.uint8))
    with pytest.raises(ValueError, match="unwrap it first"):
        write_glb(tmp_path / "a.glb", trimesh.creation.box(), np.zeros((8, 8, 3), dtype=np.uint8))
    assert not list(tmp_path.iterdir())


# Files


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path):
    target = tmp_path / "a.bin"
    target.write_bytes(b"old")
    with pytest.raises(KeyboardInterrupt), atomic(target) as temporary:
        assert temporary.parent == tmp_path and temporary.suffix == ".bin"
        temporary.write_bytes(b"half")
        raise KeyboardInterrupt
    assert target.read_bytes() == b"old" and list(tmp_path.iterdir()) == [target]
    with atomic(target) as temporary:
        temporary.write_bytes(b"new")
        assert target.read_bytes() == b"old"
    assert target.read_bytes() == b"new" and list(tmp_path.iterdir()) == [target]


def test_two_writers_of_one_file_do_not_collide(tmp_path):
    with atomic(tmp_path / "a") as one, atomic(tmp_path / "a") as two:
        one.write_bytes(b"one")
        two.write_bytes(b"two")
    assert (tmp_path / "a").read_bytes() == b"one" and len(list(tmp_path.iterdir())) == 1  # the outer block ends last


def test_a_glb_that_cannot_be_written_raises_oserror(tmp_path, unwrapped, baked, monkeypatch):
    with pytest.raises(OSError):
        write_glb(tmp_path / "absent" / "a.glb", unwrapped, baked)
    monkeypatch.setattr(os, "fsync", lambda handle: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    with pytest.raises(OSError, match="No space left"):
        write_glb(tmp_path / "a.glb", unwrapped, baked)
    assert not list(tmp_path.iterdir())
