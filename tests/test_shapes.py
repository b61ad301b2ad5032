"""Shapes as jobs of the worker, and as the beginning of an object: a ball off the middle stands in for a trained model."""

from __future__ import annotations

import io
import json
import math
from dataclasses import asdict, replace

import pytest
import torch
import trimesh
from PIL import Image
from pullback import cli, functions, jobs, outputs, storage, tasks
from pullback.generative.dpf.design import PRESETS, preset_of
from pullback.generative.dpf.domains import domain_of
from pullback.generative.dpf.model import FORMAT, FieldModel
from pullback.generative.dpf.network import FieldNetwork
from pullback.generative.toybox.model import ToyboxModel
from pullback.geometry.cameras import orbit
from pullback.messages import Progress
from pullback.settings import Settings
from pullback.training import loop
from pullback.types import Cancelled
from typer.testing import CliRunner

CENTRE, RADIUS = torch.tensor([0.3, -0.2, 0.1]), 0.5
COLOUR = torch.tensor([0.8, 0.2, -0.6])
"""Of the ball, in [-1, 1]."""


class _Ball(FieldNetwork):
    """A network that expects a ball of one colour whatever it sees."""

    def decode(self, encoding, query):
        inside = ((RADIUS - (query[0] - CENTRE).norm(dim=-1, keepdim=True)) * 20).clamp(-1, 1)
        return torch.cat([inside, COLOUR.expand(*inside.shape[:-1], 3)], -1)


@pytest.fixture
def ball(monkeypatch):
    """Models of shapes are a ball, whatever their name."""
    design = replace(preset_of(PRESETS["tiny"], domain_of("cube", 4), True).design, predicted="x0")
    model = FieldModel(_Ball(design.network), design, "ball", {})
    for module, name in ((functions, "load_model"), (jobs, "load_field_model")):
        monkeypatch.setattr(module, name, lambda *_: model)


def _shape(out, settings=(), options=(), **more):
    return {
        "kind": "shape", "id": "1", "out": str(out), "settings": {"prompt": "a red ball", "steps": 3, **dict(settings)},
        "options": {"texture": 64, "faces": 2000, **dict(options)}, **more,
    }  # fmt: skip


@pytest.mark.parametrize("resolution", [24, 48])
def test_a_shape_comes_with_its_progress(tmp_path, ball, resolution):
    out, said = tmp_path / "new" / "ball.glb", []
    made = jobs.perform(_shape(out, {"resolution": resolution, "seed": 2}), said.append)
    assert made == {"mesh": str(out)} and [path.name for path in out.parent.iterdir()] == ["ball.glb"]
    mesh = trimesh.load(io.BytesIO(out.read_bytes()), file_type="glb", force="mesh")
    x, y, z = mesh.bounds.mean(0)  # Y is up in the file, and -Z behind
    assert torch.tensor([x, -z, y]).sub(CENTRE).abs().max() < 0.03 and abs(mesh.extents[0] / (2 * RADIUS) - 1) < 0.1
    stages = [each.stage.value for each in said if isinstance(each, Progress)]
    moves = [each.move / each.total for each in said if each.stage.value == "sampling"]
    assert stages[0] == "loading the model" and stages[-1] == "mesh and texture" and set(stages[1:-1]) == {"sampling"}
    assert moves == sorted(set(moves)) and moves[-1] == 1, "forwards, and at the end only once"


def test_a_cancelled_shape_leaves_nothing(tmp_path, ball):
    for steps in (1, 4, 7):  # in both grids, and while the mesh is made
        said = []

        def tick(said=said, steps=steps):
            if len(said) > steps:
                raise Cancelled

        with pytest.raises(Cancelled):
            jobs.perform(_shape(tmp_path / "ball.glb", {"resolution": 48}), said.append, tick)
        assert len(said) == steps + 1 and not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            {"settings": {"eta": 0.5}},
            "the setting 'eta' is unknown; known are guidance, prompt, resolution, seed, steps",
        ),
        ({"settings": {"steps": 0}}, "steps is 0; it must be between 1 and 1000"),
        ({"options": {"width": 8}}, "the option 'width' is unknown; known are faces, texture, model, device"),
        ({"options": {"model": 3}}, "model is 3; it must be text"),
        ({"settings": {"prompt": "a unicorn"}}, "does not know 'unicorn'"),
        ({"out": "/x/a.png"}, "should end in .glb"),
    ],
)
def test_a_wrong_shape_is_one_sentence(tmp_path, ball, change, said):
    message = _shape(tmp_path / "a.glb", change.get("settings", {}), change.get("options", {}))
    with pytest.raises(ValueError) as refused:
        jobs.perform(message | ({"out": str(tmp_path / "a.png")} if "out" in change else {}), lambda message: None)
    assert said in str(refused.value) and "\n" not in str(refused.value)
    assert not list(tmp_path.glob("*.glb"))


def test_a_panorama_of_the_sphere_model_is_a_job_like_others(tmp_path):
    design = preset_of(PRESETS["tiny"], domain_of("sphere", 3), True).design
    file = tmp_path / "s.safetensors"
    loop.export(file, FieldNetwork(design.network), {"format": FORMAT, "design": json.dumps(asdict(design))})
    out, said = tmp_path / "p.png", []
    job = {
        "kind": "panorama", "id": "1", "out": str(out), "settings": {"prompt": "sea at noon", "steps": 2},
        "options": {"model": str(file), "width": 64},
    }  # fmt: skip
    assert jobs.perform(job, said.append) == {"picture": str(out)} and Image.open(out).size == (64, 32)
    assert [each.stage.value for each in said] == ["loading the model", "sampling", "sampling", "writing"]
    assert {path.name for path in tmp_path.iterdir()} == {"s.safetensors", "p.png"}
    for change, words in (
        ({"options": {**job["options"], "projection": "cylinder"}}, "leave out the options of other projections"),
        ({"options": {**job["options"], "neurons": 32}}, "leave out the options of other projections"),
        ({"settings": {"prompt": "sea", "negative": "town"}}, "takes no --negative"),
        ({"settings": {"prompt": "a chair"}}, "does not know 'chair'"),
    ):
        with pytest.raises(ValueError, match=words):
            jobs.perform(job | change, lambda message: None)


def _seen(diffrep, params):
    """Opacities (3, 32, 32) from the front, a side and above, and where the ball covers them."""
    cameras = orbit(torch.tensor([0.0, math.pi / 2, 0.0]), torch.tensor([0.0, 0.0, 1.4]), 20.0, math.radians(6))
    with torch.no_grad():
        opacity = diffrep.opacity(params, cameras, 32, 32)[:, 0]
    place = (CENTRE - cameras.pose[:, :3, 3]).unsqueeze(1) @ cameras.pose[:, :3, :3]
    scale = 1 / (20.0 * math.tan(math.radians(3)))
    x, y = place[:, 0, 0] * scale, -place[:, 0, 1] * scale
    line = (torch.arange(32) + 0.5) / 16 - 1
    far = ((line - x[:, None])[:, None, :] ** 2 + (line - y[:, None])[:, :, None] ** 2).sqrt()
    return opacity, far < RADIUS * scale


def _overlap(opacity, covered):
    return float(((opacity > 0.5) & covered).sum() / ((opacity > 0.5) | covered).sum())


def _run(path, start="dpf-shapes", steps=2, resume=False):
    model, settings = ToyboxModel(), Settings("a red ball", seed=3, steps=steps, guidance=1.0, views=1, start=start)
    recipe = tasks.recipe("generate", model, settings, grid=16)
    return outputs.run("generate", model, recipe, settings, path, resume)


def test_a_field_begins_as_the_shape(tmp_path, ball):
    """At its place, in its colours; the cameras see its outline, which they do not see of the ball in the middle."""
    run, plain = _run(tmp_path / "a.run"), _run(tmp_path / "b.run", "")
    diffrep, params = run.recipe.diffrep, run.state.params
    opacity, covered = _seen(diffrep, params)
    assert (
        _overlap(opacity, covered) > 0.9 > 0.6 > _overlap(*_seen(diffrep, tasks.beginning(plain.pull, seed=3).params))
    )
    assert opacity[covered].mean() > 0.9 and opacity[~covered].mean() < 0.05, "full, and without fog"
    colour = diffrep.emitted(diffrep.voxels.features_at(params, CENTRE[None]))
    assert (colour - (COLOUR / 2 + 0.5)).abs().max() < 0.01
    assert run.pull.sigmas[0] == functions.BEGIN < plain.pull.sigmas[0] and run.pull.sigmas[-2] == plain.pull.sigmas[-2]
    assert plain.state is None and "start" not in plain.agreed and run.agreed["start"] == "dpf-shapes"


def test_the_object_keeps_to_the_shape(tmp_path, ball):
    """The outline of the sampled object is nearer to the shape's than that of the same run without it."""
    kept, free = (
        _overlap(*_seen(each.diffrep, each.params)) for each in (_run(tmp_path / f"{n}.run", n)() for n in ("m", ""))
    )
    assert kept > 0.7 and kept > free + 0.1, (kept, free)


def test_a_stopped_run_goes_on_without_sampling_the_shape_again(tmp_path, ball, monkeypatch):
    stopped = _run(tmp_path / "a.run")
    with pytest.raises(Cancelled):
        stopped(_stop)
    monkeypatch.setattr(functions, "begun", None)
    again = _run(tmp_path / "a.run", resume=True)
    assert again.state.move == 1 and not torch.equal(again.state.params["density"], stopped.state.params["density"])
    with pytest.raises(ValueError, match="other settings: start"):
        _run(tmp_path / "a.run", "", resume=True)


def _stop(*_):
    raise Cancelled


def test_fields_of_colours_and_of_latents_begin_as_shapes_too(ball):
    volume = torch.zeros(4, 8, 8, 8)
    volume[0, 4:], volume[1] = 1.0, 0.75
    diffrep = tasks.recipe("generate", ToyboxModel(), Settings("a ball"), grid=16).diffrep
    for kind, channels, first in (("rgb", 3, 0.5), ("latent", 4, 0.0)):
        other = replace(diffrep, kind=kind, channels=channels, voxels=replace(diffrep.voxels, features=channels))
        params = other.shaped(volume)
        assert params.keys() == other.init(storage.generator(0)).keys()
        assert params["features"][0, 0].sub(first).abs().max() < 1e-6
        assert params["density"][0, 0, :, :, -1].min() > 2.9 and params["density"][0, 0, :, :, 0].max() < -6.9


def _said(*arguments):
    result = CliRunner().invoke(cli.app, ["generate", *arguments])
    assert isinstance(result.exception, ValueError), result.output
    return str(result.exception)


def test_a_wrong_start_is_one_sentence(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert "does not exist" in _said("a chair", "--start", "missing.safetensors", "-o", "a.glb")
    assert "cannot begin as a shape" in _said("a chair", "--start", "dpf-shapes", "--field", "splats", "-o", "a.glb")
    assert "No such option" in CliRunner().invoke(cli.app, ["image", "a chair", "--start", "dpf-shapes"]).output
    job = {
        "kind": "image",
        "id": "1",
        "out": str(tmp_path / "a.png"),
        "settings": {"prompt": "car", "start": "dpf-shapes"},
    }
    with pytest.raises(ValueError, match="cannot begin as a shape"):
        jobs.perform(job, lambda message: None)
