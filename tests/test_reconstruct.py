"""Reconstruction: what is minimised, that photographs stay, that runs continue to the same bytes, and the command and the job."""

from __future__ import annotations

import itertools
import json
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
import trimesh
from pullback import cli, jobs, reconstruct, tasks
from pullback.diffreps.nerf import NerfRadiance
from pullback.diffreps.radiance import VoxelRadiance
from pullback.fields.nerf import Network
from pullback.fields.voxels import FILL
from pullback.generative.toybox.objects import build
from pullback.generative.toybox.pictures import photograph
from pullback.geometry.cameras import Cameras, orbit, rays
from pullback.models import Pixels
from pullback.photographs import Placement, gathered, placement_of, write_transforms
from pullback.reconstruct import (
    Consistency,
    Plan,
    Targets,
    anywhere,
    beside,
    hull,
    prepare,
    shown,
    together,
    variation,
)
from pullback.render.march import chords, resampled
from pullback.storage import Field, load_field, load_run, save_field, save_run
from pullback.types import Cancelled

SIZE = 32
KNOWN = orbit(torch.arange(4) * math.pi / 2 + 0.3, torch.tensor([0.2, 0.6, -0.1, 0.4]))
HELD_OUT = orbit(torch.tensor([0.9, 2.6, 4.3]), torch.tensor([0.3, 0.1, 0.5]))
RANDOM = lambda seed=0: torch.Generator().manual_seed(seed)
UNIT = (0.0, 0.0, 0.0, 1.0)


def pictures(cameras, size=SIZE):
    """Unlit pictures of a red mushroom, (B, 4, size, size) in [0, 1]."""
    made = build("mushroom", "red", None, None, np.random.default_rng(0))
    return torch.from_numpy(photograph(*made, cameras, size)[:, 3:]).float() / 255


@pytest.fixture(scope="module")
def photographs():
    return gathered(KNOWN, pictures(KNOWN), ball=UNIT)


@pytest.fixture(scope="module")
def opaque():
    rgba = pictures(KNOWN)
    return gathered(KNOWN, torch.cat([rgba[:, :3] + 1 - rgba[:, 3:], torch.ones_like(rgba[:, :1])], 1), ball=UNIT)


def psnr(diffrep, params, truth):
    with torch.no_grad():
        seen = diffrep.through(params, HELD_OUT, SIZE, SIZE) / 2 + 0.5
    return float(-10 * (seen - truth).square().mean().log10())


@pytest.fixture(autouse=True)
def _little_work(monkeypatch):
    monkeypatch.setattr(reconstruct, "RAYS", 128)
    monkeypatch.setattr(reconstruct, "LAST_VIEWS", 2)


class Coloured:
    """A picture-text model whose features are the mean colour, as a unit vector."""

    size, temperature = 16, 1.0

    def encode_image(self, pictures):
        return torch.nn.functional.normalize(pictures.mean((2, 3)), dim=-1)

    def encode_text(self, texts):
        raise NotImplementedError


@pytest.mark.parametrize("field, passes, better", [("voxels", 8, 5.0), ("nerf", 3, 2.0)])
def test_views_that_were_not_photographed_come_closer(photographs, field, passes, better):
    plan = Plan("nerf", field=field, steps=passes, grid=24)
    recipe, sampler = prepare(photographs, plan, Pixels())
    state, truth = tasks.beginning(sampler), pictures(HELD_OUT)
    before = psnr(recipe.diffrep, state.params, truth)
    after = psnr(recipe.diffrep, sampler(state).params, truth)
    assert after > before + better


PLANS = [
    Plan("diet", steps=3, finetune=1, grid=16),
    Plan("pullback", "a red mushroom", steps=2, finetune=1, grid=16, views=1),
]


@pytest.mark.parametrize("plan", PLANS, ids=lambda plan: plan.way)
def test_a_run_that_was_stopped_continues_to_the_same_bytes(photographs, plan, tmp_path, monkeypatch):
    monkeypatch.setattr(reconstruct, "PASSES", 3)
    model = tasks.load_model("toybox" if plan.way == "pullback" else "pixels")
    _, sampler = prepare(photographs, plan, model, Coloured())
    whole = sampler(tasks.beginning(sampler))
    assert whole.move == len(plan.walk)
    for stop in range(1, len(plan.walk)):
        agreed, path = plan.agreed(photographs, model), tmp_path / f"{stop}.run"

        def until(move, total, state, stop=stop):
            assert total == len(plan.walk)
            if move == stop:
                raise Cancelled

        with pytest.raises(Cancelled):
            sampler(tasks.beginning(sampler), None, until, lambda state, p=path, a=agreed: save_run(p, state, a))
        state = load_run(path, agreed, tasks.beginning(sampler, "meta"), len(plan.walk))
        assert state.move == stop
        again = sampler(state)
        assert all(torch.equal(again.params[name], value) for name, value in whole.params.items())
    with pytest.raises(ValueError, match="other settings: photographs"):
        others = replace(photographs, pictures=1 - photographs.pictures)
        load_run(path, plan.agreed(others, model), tasks.beginning(sampler, "meta"))


def test_a_field_that_shows_the_photographs_misses_nothing(photographs):
    """Photograph a voxel field itself: the error of its own parameters is zero, with the same samples."""
    diffrep = VoxelRadiance(size=SIZE, steps=24, voxels=replace(VoxelRadiance().voxels, resolution=12))
    params = diffrep.init(RANDOM())
    params["features"] = torch.randn(params["features"].shape, generator=RANDOM(1))
    with torch.no_grad():
        own = replace(photographs, pictures=diffrep(params, KNOWN) / 2 + 0.5)
    march = diffrep.marching(params)
    steady = lambda theta, o, d, random: march(theta, o, d, None)
    assert Targets.of(own).missed(steady, params, RANDOM()).abs().max() < 1e-5
    assert Targets.of(photographs).missed(steady, params, RANDOM()).abs().max() > 0.1


def test_rays_beyond_a_photograph_s_frame_are_never_compared(photographs):
    seen = torch.ones_like(photographs.seen)
    seen[..., : SIZE // 2] = False
    marked = photographs.pictures.clone()
    marked[..., : SIZE // 2] = 7.0
    o, _, wanted = Targets.of(replace(photographs, pictures=marked, seen=seen))._rays
    assert wanted.max() <= 1 and len(wanted) < len(Targets.of(photographs)._rays[2]) and len(o) == len(wanted)


def test_the_losses_add_as_their_weights_say():
    a, b = torch.randn(7, 3, generator=RANDOM()), torch.randn(5, generator=RANDOM(1))
    loss = together((a, 0.3), (b, 2.0)).square().mean()
    assert torch.allclose(loss, 0.3 * a.square().mean() + 2 * b.square().mean())


def test_the_total_variation_is_that_of_the_definition():
    """Of a small grid, all layers at once, by a loop; and its gradient is finite where nothing varies."""
    grid = torch.randn(1, 2, 3, 4, 5, generator=RANDOM(), dtype=torch.float64)
    rough = variation(grid, RANDOM(), slices=2)
    for c, z, y, x in itertools.product(range(2), range(2), range(3), range(4)):
        around = (grid[0, c, z + 1, y, x], grid[0, c, z, y + 1, x], grid[0, c, z, y, x + 1])
        length = math.sqrt(sum(float(each - grid[0, c, z, y, x]) ** 2 for each in around))
        assert float(rough[0, c, z, y, x] ** 2) == pytest.approx(length, rel=1e-6)
    plain = torch.zeros(1, 1, 9, 9, 9, requires_grad=True)
    variation(plain, RANDOM()).square().mean().backward()
    assert torch.isfinite(plain.grad).all()


def test_a_voxel_field_begins_as_the_visual_hull(photographs, opaque):
    """Every point of the object lies in it, by ray casting; points beside its shadow do not; without masks there is none."""
    start = hull(photographs, torch.zeros(1, 1, 32, 32, 32))["density"]
    true, _ = build("mushroom", "red", None, None, np.random.default_rng(0))
    line = torch.linspace(-1, 1, 32)
    points = torch.stack(torch.meshgrid(line, line, line, indexing="ij")[::-1], -1).reshape(-1, 3)
    bodies = true.split(only_watertight=False)
    within = torch.from_numpy(np.any([body.contains(points.numpy()) for body in bodies], 0))
    occupied = start.flatten() > sum(FILL) / 2
    assert occupied[within].float().mean() > 0.97 and 0.02 < occupied.float().mean() < 0.5
    assert FILL[0] - 1e-5 <= start.min() and start.max() <= FILL[1] + 1e-5
    _, sampler = prepare(photographs, Plan("nerf", steps=1, grid=32), Pixels())
    _, without = prepare(opaque, Plan("nerf", steps=1, grid=32), Pixels())
    assert sampler.samplers[0][0].carved and not without.samplers[0][0].carved


def test_another_mesh_of_a_reconstruction_lies_where_the_cameras_saw_it(photographs, tmp_path):
    moved = gathered(KNOWN, pictures(KNOWN), ball=(1.0, 2.0, 3.0, 2.0), front=30.0)
    diffrep = VoxelRadiance(size=SIZE, steps=16, voxels=replace(VoxelRadiance().voxels, resolution=16))
    field, path = Field(diffrep, diffrep.init(RANDOM()), "", "pixels", 0), tmp_path / "a.safetensors"
    save_field(path, field, {"placement": moved.placement.describe()})
    found = placement_of(path)
    assert torch.allclose(found.matrix, moved.placement.matrix) and found.radius == pytest.approx(2.0)
    save_field(path, field)
    assert placement_of(path) is None and Placement.described("[[0]]") is None and Placement.described("[") is None


def test_semantic_consistency_is_one_minus_the_cosine(photographs):
    """Its loss, λ/2 |φ - φ'|², and that gradients reach the field."""
    diffrep = VoxelRadiance(size=SIZE, steps=16, voxels=replace(VoxelRadiance().voxels, resolution=12))
    params = {name: p.requires_grad_() for name, p in diffrep.init(RANDOM()).items()}
    meaning = Consistency.of(photographs, Coloured())
    meaning = replace(meaning, known=meaning.known[:1])
    missed = meaning.missed(diffrep, diffrep.marching(params), params, RANDOM(3))
    features = meaning.known[0]
    loss, other = 0.5 * missed.square().sum(), (features + missed).norm()
    assert torch.allclose(other, torch.ones(()), atol=1e-5)  # a difference of unit vectors
    assert loss > 1e-4
    gradient = torch.autograd.grad(loss, params["features"])[0]
    assert gradient.abs().sum() > 0
    nearer = dict(params, features=params["features"] - 0.2 * gradient / gradient.abs().max())
    moved = meaning.missed(diffrep, diffrep.marching(nearer), nearer, RANDOM(3))
    assert moved.square().sum() < missed.square().sum()


def test_a_semantic_step_happens_every_k_passes_and_not_in_the_last_steps(photographs):
    asked = []

    class Counting(Coloured):
        def encode_image(self, pictures):
            asked.append(len(pictures))
            return super().encode_image(pictures)

    _, sampler = prepare(photographs, Plan("diet", steps=5, finetune=3, grid=16), Pixels(), Counting())
    asked.clear()  # the photographs themselves were looked at once
    sampler(tasks.beginning(sampler))
    assert asked == [1, 1]


def test_random_poses_lie_on_the_upper_half_at_the_photographs_distances():
    random = RANDOM()
    far = Cameras(torch.cat([KNOWN.pose, orbit(torch.zeros(1), torch.zeros(1), 5.0).pose]), torch.full((5,), 0.7))
    drawn = [anywhere(far, random) for _ in range(300)]
    position = torch.cat([each.position for each in drawn])
    height, distance = position[:, 2] / position.norm(dim=-1), position.norm(dim=-1)
    assert height.min() > -1e-6 and height.mean() == pytest.approx(0.5, abs=0.06)  # uniform in area
    assert distance.min() > 3.19 and distance.max() < 5.01 and distance.mean() == pytest.approx(4.1, abs=0.15)


def test_sampled_views_and_photographs_share_the_fit(photographs):
    """The photographs stay whatever the model says: with a wrong target everywhere else, they still pull."""
    diffrep = VoxelRadiance(size=SIZE, steps=16, voxels=replace(VoxelRadiance().voxels, resolution=12))
    params, target = diffrep.init(RANDOM()), torch.zeros(2, 4, SIZE, SIZE)
    residual = beside(Targets.of(photographs), diffrep)(params, KNOWN[:2], target, RANDOM(1))
    random, march = RANDOM(1), diffrep.marching(params)
    sampled = diffrep.fit(params, KNOWN[:2], target, random)
    known = Targets.of(photographs).missed(march, params, random)
    expected = 0.5 * known.square().mean() + 0.5 * sampled(params).square().mean()
    assert torch.allclose(residual(params).square().mean(), expected, rtol=1e-4)


def test_pullback_shows_the_photographs_and_beyond(photographs):
    """Its known views are as close as nerf's after the same passes, though most of its rays see what the model draws."""
    model = tasks.load_model()
    plan = Plan("pullback", "a red mushroom", steps=3, finetune=4, grid=16, views=2)
    recipe, sampler = prepare(photographs, plan, model)
    state = sampler(tasks.beginning(sampler))
    with torch.no_grad():
        seen = recipe.diffrep.through(state.params, KNOWN, SIZE, SIZE) / 2 + 0.5
    error = (seen - photographs.pictures).square().mean()
    assert float(-10 * error.log10()) > 15


def test_the_last_steps_hold_on_to_what_was_sampled(photographs):
    """The pictures that the last steps see beside the photographs are those of the sampled field, also after a stop."""
    plan = Plan("pullback", "a red mushroom", steps=2, finetune=2, grid=16, views=2)
    _, sampler = prepare(photographs, plan, tasks.load_model())
    states = []
    sampler(tasks.beginning(sampler), save=states.append)
    held = sampler.samplers[1][0].held
    sampled = held.pictures(sampler.render, states[1].params)
    assert not states[1].noise.any() and torch.equal(states[2].noise, sampled) and torch.equal(states[3].noise, sampled)
    assert torch.equal(held.targets(sampled)._rays[2].amax(0), sampled.permute(0, 2, 3, 1).reshape(-1, 4).amax(0))
    assert 0 < held.share < 0.1
    # The fit sees both in their shares: the sampled field has no error in its own pictures.
    last, errors = sampler.samplers[1][0], []
    for share in (0.0, 0.5, 1.0):
        fit = replace(last, smooth=0.0, held=replace(held, share=share))
        residual = fit._residual(states[1].params, held.targets(sampled), 0, RANDOM())
        errors.append(float(residual(states[1].params).square().sum()))
    assert errors[0] > 100 * errors[2] and errors[1] == pytest.approx(errors[0] / 2, rel=0.2)


def test_hierarchical_samples_lie_where_the_weights_are():
    edges = torch.linspace(0, 4, 5).expand(2, 5)
    weights = torch.tensor([[0.0, 3.0, 1.0, 0.0], [0.0, 0.0, 0.0, 0.0]])
    places = ((torch.arange(400) + 0.5) / 400).expand(2, -1)
    t = resampled(edges, weights, places)
    assert ((t[0] > 1) & (t[0] < 2)).float().mean() == pytest.approx(0.75, abs=0.01)
    assert ((t[0] > 2) & (t[0] < 3)).float().mean() == pytest.approx(0.25, abs=0.01)
    assert torch.allclose(t[1], 4 * places[1], atol=1e-3)  # without weights they are even


@pytest.mark.parametrize("fine", [0, 8])
def test_a_nerf_is_its_own_density_along_rays(fine):
    """With a density that is the same everywhere, the opacity is that of the ray's way through the ball."""
    diffrep = NerfRadiance(coarse=16, fine=fine, network=Network(3, 2, 1, 8, 2, 1))
    params = {name: torch.zeros_like(p) for name, p in diffrep.init(RANDOM()).items()}
    o, d = (each[0].reshape(-1, 3) for each in rays(KNOWN[:1], 12, 12))
    near, far = chords(o, d)
    estimates = diffrep.marching(params)(params, o, d)
    density = math.log1p(math.exp(-1.0))
    for each in estimates:
        # The first sample lies half a piece behind the edge, so at most that much is missed.
        exact = 1 - torch.exp(-density * (far - near))
        assert (each[:, -1] - exact).abs().max() < density * 2 / 16
    assert len(estimates) == 1 + (fine > 0) and (estimates[-1][:, -1] == 0).eq(far == near).all()
    again = diffrep.marching(params)(params, o, d, RANDOM())
    assert again[-1].shape == (144, 5)


def test_a_nerf_comes_back_from_its_file_and_has_a_surface(tmp_path):
    diffrep = NerfRadiance(coarse=8, fine=4, network=Network(3, 2, 1, 8, 2, 1))
    field = Field(diffrep, diffrep.init(RANDOM()), "a cube", "pixels", 3)
    save_field(tmp_path / "a.safetensors", field)
    back = load_field(tmp_path / "a.safetensors")
    assert back.diffrep == diffrep and torch.equal(diffrep(back.params, KNOWN[:1]), diffrep(field.params, KNOWN[:1]))
    density = diffrep.density(field.params, torch.tensor([[0.0, 0.0, 0.0], [2.0, 0.0, 0.0]]))
    assert density[0] > 0 and density[1] == 0
    assert diffrep.depth(field.params, KNOWN[:1], 4, 4).shape == (1, 1, 4, 4)


def test_photographs_without_masks_have_a_background(opaque):
    recipe, sampler = prepare(opaque, Plan("nerf", steps=2, grid=16), Pixels())
    state = sampler(tasks.beginning(sampler))
    assert recipe.diffrep.kind == "rgb" and state.params["background"].abs().sum() > 0
    assert shown(torch.zeros(1, 3, 2, 2)).eq(0.5).all() and shown(-torch.ones(1, 4, 2, 2)).eq(1).all()
    with pytest.raises(ValueError, match="has no mask, and toybox needs"):
        prepare(opaque, Plan("pullback", "a red mushroom"), tasks.load_model())


@pytest.mark.parametrize(
    "given, says",
    [
        ({"method": "pullback"}, "needs a prompt"),
        ({"method": "diet", "steps": 5, "finetune": 6}, "finetune is 6; it must be at most the steps, 5"),
        ({"method": "magic"}, "method is 'magic'"),
        ({"grid": 8}, "grid is 8; it must be between"),
    ],
)
def test_settings_that_do_not_fit_are_refused(given, says):
    with pytest.raises(ValueError, match=says):
        Plan(**given)


def test_the_method_follows_from_the_prompt():
    assert Plan().way == "nerf" and Plan(prompt="a red mushroom").way == "pullback"
    assert len(Plan().walk) == 150 and len(Plan(prompt="a red mushroom").walk) == 180


def test_the_command_writes_the_object_where_the_cameras_saw_it(tmp_path, monkeypatch, capsys):
    pose = KNOWN.pose.clone()
    pose[:, :3, 3] = 2 * pose[:, :3, 3] + torch.tensor([10.0, 0.0, 0.0])
    source, out = write_transforms(tmp_path, Cameras(pose, KNOWN.fov), pictures(KNOWN)), tmp_path / "o.glb"
    command = [
        "pullback",
        "reconstruct",
        str(source),
        "-o",
        str(out),
        "--steps",
        "8",
        "--size",
        str(SIZE),
        "--grid",
        "24",
    ]
    command += ["--texture", "64", "--resolution", "32", "--bake-views", "4", "--bake-size", "32", "--device", "cpu"]
    monkeypatch.setattr("sys.argv", command)
    with pytest.raises(SystemExit) as exit:
        cli.main()
    assert exit.value.code == 0, capsys.readouterr().err
    low, high = trimesh.load(out, force="mesh").bounds
    middle, size = (low + high) / 2, (high - low).max()
    assert abs(middle[0] - 10) < 0.4 and abs(middle[1]) < 0.4  # glTF is Y up, the scene Z up
    assert 2.0 < size < 4.2
    field = load_field(out.with_name("o.glb.field.safetensors"))
    assert field.model == "pixels" and not out.with_name("o.glb.run").exists()
    monkeypatch.setattr("sys.argv", [*command[:2], str(tmp_path / "none.json"), "-o", str(out)])
    with pytest.raises(SystemExit) as exit:
        cli.main()
    said = capsys.readouterr().err.strip()
    assert exit.value.code == 1 and "none.json does not exist" in said and "Traceback" not in said


def test_the_worker_reconstructs(tmp_path):
    source, sent = write_transforms(tmp_path, KNOWN, pictures(KNOWN)), []
    options = {
        "source": str(source),
        "ball": [0, 0, 0, 1],
        "texture": 64,
        "resolution": 32,
        "bake_views": 4,
        "bake_size": 32,
    }
    job = {"type": "job", "id": 1, "kind": "reconstruct", "out": str(tmp_path / "o.glb"), "options": options}
    settings = {"method": "nerf", "steps": 6, "grid": 24, "size": SIZE}
    files = jobs.perform({**job, "settings": settings, "preview": 0.001}, sent.append)
    assert sorted(files) == ["field", "mesh", "picture"]
    assert [each.move for each in sent if each.type == "progress"][:3] == [0, 1, 2]
    assert any(each.type == "preview" for each in sent)
    assert json.loads(json.dumps(files)) == files
    with pytest.raises(ValueError, match="ball is"):
        jobs.perform({**job, "options": {**options, "ball": [1]}}, sent.append)
    with pytest.raises(ValueError, match="the option source is missing"):
        jobs.perform({**job, "options": {}}, sent.append)
