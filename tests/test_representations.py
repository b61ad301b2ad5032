"""A representation is one file: another package's works in every door, and no door names one of ours."""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from pullback import jobs, outputs, representations, storage, tasks
from pullback.diffreps.tile import SirenTile
from pullback.generative.toybox.model import ToyboxModel
from pullback.noise import Shift, TorusViews
from pullback.representation import Flat, Setting, Solid, values
from pullback.settings import RUN

ROOT = Path(__file__).parents[1]
CORE = ROOT / "core" / "pullback"
SOMEONES = ROOT / "tests" / "someones"
KINDS = {"SirenImage", "SirenCylinder", "SirenSphere", "SirenTile", "VoxelRadiance", "PixelGrid"}


def run(*words: str, packages: bool = True) -> subprocess.CompletedProcess[str]:
    """The command line, with or without the other package."""
    path = os.pathsep.join([str(CORE.parent), *([str(SOMEONES)] if packages else [])])
    environment = os.environ | {"PYTHONPATH": path, "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        [sys.executable, "-m", "pullback", *words], capture_output=True, text=True, env=environment, check=False
    )


def test_another_package_s_representation_is_a_command_and_its_broken_one_is_named(tmp_path):
    out = tmp_path / "c.png"
    made = run("cosines", "a blue ball", "-o", str(out), "--steps", "2", "--size", "64", "--waves", "6")
    assert made.returncode == 0, made.stderr
    assert out.exists() and "broken of someones_field:Missing is left out" in made.stderr
    field = tmp_path / "c.png.field.safetensors"
    drawn = run("render", str(field), "-o", str(tmp_path / "r.png"), "--size", "32")
    assert drawn.returncode == 0, drawn.stderr
    without = run("render", str(field), "-o", str(tmp_path / "s.png"), packages=False)
    assert without.returncode == 1 and "install the package 'someones_field'" in without.stderr
    wrong = run("cosines", "a blue ball", "-o", str(out), "--waves", "65")
    assert wrong.returncode == 1 and "--waves is 65; it must be between 1 and 64" in wrong.stderr


def test_another_package_s_representation_is_a_job_that_resumes(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(SOMEONES))
    monkeypatch.setattr(representations, "representations", representations.representations.__wrapped__)
    from pullback.messages import Message
    from pullback.types import Cancelled

    with pytest.warns(UserWarning, match="broken"):
        asked = jobs.SamplingJob.of(
            jobs.Job.parse({"kind": "cosines", "out": "/x.png", "settings": {"prompt": "ball"}})
        )
    assert asked.kind.name == "cosines"
    job = {"kind": "cosines", "settings": {"prompt": "a blue ball", "steps": 3}, "options": {"size": 32, "waves": 4}}

    def stopping(message: Message) -> None:
        if getattr(message, "move", 0) == 2:
            raise Cancelled

    with pytest.warns(UserWarning, match="broken"):
        whole = jobs.perform({**job, "out": str(tmp_path / "a.png")}, lambda message: None)
        with pytest.raises(Cancelled):
            jobs.perform({**job, "out": str(tmp_path / "b.png")}, stopping)
        again = jobs.perform({**job, "out": str(tmp_path / "b.png"), "resume": True}, lambda message: None)
    assert Path(whole["picture"]).read_bytes() == Path(again["picture"]).read_bytes()


def test_no_door_asks_for_a_class():
    """isinstance stands on no representation outside its own file: what is wanted is asked for."""
    for path in [*CORE.rglob("*.py"), *(ROOT / "comfy_nodes").glob("*.py"), *(ROOT / "blender_addon").glob("*.py")]:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") in ("isinstance", "issubclass"):
                named = {each.id for each in ast.walk(node.args[1]) if isinstance(each, ast.Name)}
                assert not named & KINDS, f"{path}: {ast.unparse(node)}"


def test_every_representation_can_do_what_it_says():
    model = ToyboxModel()
    for kind in representations.BUILT_IN:
        assert values(kind.settings(), {}), kind
        diffrep = kind.suited(model)
        assert isinstance(diffrep, Flat) != isinstance(diffrep, Solid), kind
        recipe = diffrep.recipe(model, kind.views or 1, 0)
        view = recipe.views.draw(storage.generator(0))
        params = diffrep.init(storage.generator(0))
        with torch.no_grad():
            assert diffrep(params, view).shape[1:] == (4, 64, 64)
            assert diffrep.canonical(params).shape[1] == 4
        assert (
            tasks.recipe(kind.command, model, tasks.Settings("x", views=kind.views or 1), kind.choice).diffrep
            == diffrep
        )


@pytest.mark.parametrize(
    "setting",
    [*RUN.values(), *outputs.MESH, *(each for kind in representations.BUILT_IN for each in kind.settings())],
    ids=lambda each: each.name,
)
def test_every_range_is_kept(setting: Setting):
    assert setting.check(setting.default) == setting.default
    if setting.choices:
        with pytest.raises(ValueError, match="must be one of"):
            setting.check("nonsense")
        return
    kind = type(setting.default)
    for wrong in (setting.low - 1, setting.high + 1):
        with pytest.raises(ValueError, match=f"{setting.name} is .* between"):
            setting.check(kind(wrong))
    for wrong in (float("nan"), "7", None, True):
        with pytest.raises(ValueError, match=setting.name):
            setting.check(wrong)


def test_a_tile_has_no_seam():
    """Value and derivative at one edge are those at the other, to the last bit of what is computed there."""
    tile = SirenTile(width=32)
    params = tile.init(storage.generator(1)) | {"out": torch.randn(4, 32)}
    line = torch.linspace(0, 1, 33)
    for axis in (0, 1):
        ends = []
        for edge in (0.0, 1.0):
            places = torch.stack(
                [torch.full_like(line, edge), line] if axis == 0 else [line, torch.full_like(line, edge)], -1
            )
            places.requires_grad_()
            value = tile.at(params, places)
            ends.append((value.detach(), torch.autograd.grad(value.sum(), places)[0]))
        assert torch.equal(ends[0][0], ends[1][0]) and torch.equal(ends[0][1], ends[1][1])
    twice = tile.picture(params, 16, 16, (0, 0, 32, 32))
    assert torch.equal(twice[..., :16, :16], twice[..., 16:, 16:])


def test_noise_on_a_torus_moves_with_the_view():
    views = TorusViews(3, 8)
    store = views.noise(storage.generator(0))
    view = Shift(3, 5)
    seen = views.gather(store, view, storage.generator(0))
    assert torch.equal(seen[0, :, 0, 0], store[:, 3, 5]) and torch.equal(views.scatter(store, view, seen), store)
    tile = SirenTile(channels=3, size=8, width=16)
    params = tile.init(storage.generator(0)) | {"out": torch.randn(3, 16)}
    moved = tile(params, view)[0]
    assert torch.allclose(moved.roll((3, 5), (1, 2)), tile(params, Shift(0, 0))[0], atol=1e-5)


def test_a_setting_s_words_are_json():
    """What is declared can be told to a program that has no Python of ours."""
    said = json.loads(json.dumps(jobs.described()))["representations"]
    assert {each["name"] for each in said} >= {"siren-tile", "voxel-radiance"}
    voxels = next(each for each in said if each["name"] == "voxel-radiance")
    assert voxels["command"] == "generate" and voxels["noun"] == "object" and ".glb" in voxels["suffixes"]


def test_a_setting_at_its_default_is_the_same_run_as_one_left_out(tmp_path):
    """Given or left out, in the run file or now: a run continues. Another value is another run."""
    model, settings = ToyboxModel(), tasks.Settings("sea at noon", steps=3, views=2)
    for command, choice, name, default, other in (
        ("panorama", "sphere", "fov", 65.0, 70.0), ("tile", "", "neurons", 256, 64), ("image", "", "view_width", 0, 32),
    ):  # fmt: skip
        kind = representations.chosen(command, choice)

        def run(own, resume, kind=kind):
            recipe = tasks.recipe_of(kind, model, settings, own)
            return outputs.run(kind.task(), model, recipe, settings, tmp_path / "a.run", resume, own=own)

        for before, now in (({}, {name: default}), ({name: default}, {})):
            begun = run(before, False)
            storage.save_run(begun.path, tasks.beginning(begun.pull), begun.agreed)
            assert run(now, True).state is not None
        with pytest.raises(ValueError, match=f"{name} {default} .now {other}"):
            run({name: other}, True)


def test_what_the_model_decides_is_not_the_default_that_is_shown(tmp_path):
    """Left out, the lowest camera is what the model knows, whatever number interfaces show."""
    kind = representations.chosen("generate", "")
    shown = {each.name: each.default for each in kind.settings()}
    assert (
        "lowest" not in outputs._defaults(kind.settings()) and outputs._defaults(kind.settings())["fov"] == shown["fov"]
    )


def test_reserved_names_are_those_of_the_commands():
    """An option that sampling commands get is one that no representation may use."""
    import inspect

    from pullback import cli

    found = {each.option for each in representations.BUILT_IN}
    for command in representations.commands():
        own = {each.name for kind in representations.of_command(command) for each in kind.settings()}
        found |= set(inspect.signature(cli._sampling_command(command)).parameters) - own
    assert found == representations.RESERVED


class Fine(SirenTile):
    """A representation of another package, before something is wrong with it."""

    name = "fine"
    command = "fine"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"settings": classmethod(lambda cls: 1 / 0)}, "division by zero"),
        ({"settings": classmethod(lambda cls: (Setting("steps", 1, "Steps."),))}, "'steps' has a name that every run uses"),
        ({"settings": classmethod(lambda cls: (Setting("size", 1, "Size."),))}, "'size' has a name that every run uses"),
        ({"settings": classmethod(lambda cls: (Setting("a b", 1, "Both."),))}, "'a b' must be named"),
        ({"settings": classmethod(lambda cls: (Setting("a", 1, "Big.", 2, 3),))}, "a is 1; it must be between 2 and 3"),
        ({"settings": classmethod(lambda cls: (Setting("a", [], "List."),))}, "must be a number"),
        ({"settings": classmethod(lambda cls: ("a",))}, "has no attribute 'name'"),
        ({"title": 7}, "its title is 7"), ({"sentence": ""}, "its sentence is empty"), ({"command": "Fine One"}, "its command"),
        ({"command": "mesh"}, "is one of Pullback's own commands"), ({"guidance": float("nan")}, "its guidance is nan"),
        ({"name": "other"}, "it calls itself 'other'"),
    ],
)  # fmt: skip
def test_a_broken_representation_is_named_and_left_out(monkeypatch, change, said):
    class Entry:
        name, value = "fine", "someones:Fine"

        def load(self):
            return type("Broken", (Fine,), change)

    monkeypatch.setattr(representations, "entry_points", lambda group: [Entry()])
    with monkeypatch.context() as unbroken:
        unbroken.setattr(Entry, "load", lambda self: Fine)
        assert representations.representations.__wrapped__()["fine"] is Fine
    with pytest.warns(UserWarning, match="the representation fine of someones:Fine is left out") as warned:
        found = representations.representations.__wrapped__()
    assert said in str(warned[0].message) and list(found) == [each.name for each in representations.BUILT_IN]


def test_frequencies_are_drawn_once_and_serve_every_caller(monkeypatch):
    """Also derivatives, when the first caller asked for none."""
    from pullback.diffreps import siren

    drawn = []
    monkeypatch.setattr(siren, "gaussian_frequencies", lambda *a: drawn.append(a) or torch.ones(a[0], a[1]))
    tile = SirenTile(width=16, seed=12345)
    params = tile.init(storage.generator(0))
    with torch.inference_mode(), torch.device("cpu"):
        tile(params, Shift(0, 0))
    places = torch.rand(5, 2, requires_grad=True)
    tile.at(params | {"out": torch.ones(4, 16)}, places).sum().backward()
    assert len(drawn) == 1 and places.grad is not None
