"""Drafts in Blender, with the bpy wheel: the buttons, what they ask for, what is placed, and the batch."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from blender_layout import Layout

bpy = pytest.importorskip("bpy", reason="needs Blender as a module: pip install bpy==5.0.1 (Python 3.11)")
ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from blender_addon import arguments, batch, jobs, panel, protocol, results, shapes  # noqa: E402
from blender_addon.job import Job  # noqa: E402


@pytest.fixture
def sent(monkeypatch):
    """The messages that start jobs."""
    messages, started = [], Job.started
    monkeypatch.setattr(Job, "started", lambda job: messages.append(started(job)) or messages[-1])
    return messages


def settings():
    return bpy.context.scene.pullback


def draft(prompt="a red chair", seed=7):
    settings().prompt, settings().seed = prompt, seed
    assert bpy.ops.pullback.draft_shape() == {"FINISHED"}
    return bpy.context.view_layer.objects.active


def test_a_draft_stands_at_the_cursor_and_has_no_field(home, sent):
    bpy.context.scene.cursor.location = (1.0, 2.0, 3.0)
    settings().texture, settings().faces = 256, 900
    settings().steps, settings().model = 99, "SERVER"  # those are of NeRF objects
    obj = draft()
    assert obj.name == "a red chair" and tuple(obj.location) == (1, 2, 3) and len(obj.data.polygons) == 12
    assert "pullback_field" not in obj and not bpy.ops.pullback.remesh.poll()
    assert (obj["pullback_prompt"], obj["pullback_seed"], obj["pullback_model"]) == ("a red chair", "7", "dpf-shapes")
    (message,) = sent
    assert message["kind"] == "shape" and message["out"].endswith("a-red-chair-7.glb")
    assert message["settings"] == {"prompt": "a red chair", "seed": 7}
    assert message["options"] == {"faces": 900, "texture": 256, "model": "dpf-shapes", "device": "cpu"}
    assert not jobs.queue and not list(home.rglob("*.job.json"))


def test_a_texture_that_is_not_packed_lies_beside_the_draft_s_file(home, monkeypatch):
    monkeypatch.setattr(results, "packed", lambda: False)
    obj = draft()
    (image,) = (image for image in bpy.data.images if image.source == "FILE")
    assert image.packed_file is None and Path(image.filepath).parent == home / "results"
    assert obj.active_material.node_tree is not None


def test_a_nerf_object_begins_as_the_draft_and_takes_its_place(home, sent):
    """One that the user moved and gave a modifier; the draft's own prompt and seed, and the panel's other settings."""
    obj = draft()
    obj.location, obj.scale = (4.0, 0.0, 0.0), (2.0, 2.0, 2.0)
    obj.modifiers.new("Thick", "SOLIDIFY")
    before = obj.data.name
    settings().prompt, settings().seed, settings().steps = "", 1, 12
    assert bpy.ops.pullback.nerf_from_shape() == {"FINISHED"}
    assert [each.name for each in bpy.data.objects] == ["a red chair"] and obj.data.name == before
    assert tuple(obj.location) == (4, 0, 0) and tuple(obj.scale) == (2, 2, 2) and "Thick" in obj.modifiers
    message = sent[-1]
    assert message["kind"] == "object" and message["settings"]["steps"] == 12
    assert message["settings"] | {"prompt": "a red chair", "seed": 7, "start": "dpf-shapes"} == message["settings"]
    assert Path(obj["pullback_field"]).is_file() and obj["pullback_model"] == "toybox"
    assert bpy.ops.pullback.remesh.poll() and not bpy.ops.pullback.nerf_from_shape.poll()


def test_the_nerf_object_of_a_draft_that_is_gone_stands_where_it_was(home):
    obj = draft()
    obj.location = (4.0, 0.0, 0.0)
    bpy.context.view_layer.update()
    add = jobs.add

    def added(*each):
        job = add(*each)
        bpy.data.objects.remove(obj)
        return job

    jobs.add = added
    try:
        assert bpy.ops.pullback.nerf_from_shape() == {"FINISHED"}
    finally:
        jobs.add = add
    (made,) = bpy.data.objects
    assert made.name == "a red chair" and tuple(made.location) == (4, 0, 0) and "pullback_field" in made


def test_a_world_of_the_whole_sphere(home, sent):
    """It goes to the worker whatever the model of the views is, and without what only views have."""
    mine = settings()
    mine.prompt, mine.world_model, mine.model = "sea at noon", "SPHERE", "SERVER"
    mine.repaint, mine.eta, mine.panorama_width, mine.panorama_neurons = True, 0.0, 512, 32
    assert bpy.ops.pullback.generate_panorama() == {"FINISHED"}
    assert bpy.context.scene.world.name == "sea at noon"
    (message,) = sent
    assert message["settings"] == {"prompt": "sea at noon", "seed": 0, "steps": 30, "eta": 0.0, "guidance": 1.0}
    assert message["options"] == {"width": 512, "model": "dpf-sphere", "device": "cpu"}


def empty():
    bpy.ops.pullback.draft_shape()


def avoiding():
    settings().prompt, settings().negative = "a chair", "red"
    bpy.ops.pullback.draft_shape()


def avoiding_sphere():
    settings().prompt, settings().negative, settings().world_model = "sea", "red", "SPHERE"
    bpy.ops.pullback.generate_panorama()


def regional():
    settings().prompt, settings().world_model = "sea", "SPHERE"
    settings().panorama_regions.add().text = "a town"
    bpy.ops.pullback.generate_panorama()


def served():
    draft()
    settings().model = "SERVER"
    bpy.ops.pullback.nerf_from_shape()


@pytest.mark.parametrize(
    ("arrange", "says"),
    [
        (empty, "The prompt is empty"), (avoiding, "takes no negative prompt"), (avoiding_sphere, "takes no negative prompt"),
        (regional, "takes no regions"), (served, "A start needs the worker"),
    ],
    ids=lambda each: getattr(each, "__name__", ""),
)  # fmt: skip
def test_a_mistake_is_one_sentence(home, arrange, says):
    with pytest.raises(RuntimeError) as error:
        arrange()
    said = str(error.value).strip()
    assert says in said and "\n" not in said and not jobs.queue


def drawn(obj=None):
    shown: set[str] = set()
    context = SimpleNamespace(
        scene=bpy.context.scene, object=obj, selected_objects=[], region=SimpleNamespace(width=300)
    )
    labels, panel.labels.scale = panel.labels.scale, lambda: 1.0  # it is 0 without a window
    try:
        for kind in panel.CLASSES[:3]:
            if not hasattr(kind, "poll") or kind.poll(context):
                kind.draw(SimpleNamespace(layout=Layout(shown)), context)
    finally:
        panel.labels.scale = labels
    return shown


def test_the_panel_offers_what_suits_the_active_object(home):
    assert {"pullback.draft_shape", "world_model"} <= drawn() and "pullback.nerf_from_shape" not in drawn()
    obj = draft()
    assert shapes.is_draft(obj) and "pullback.nerf_from_shape" in drawn(obj) and "pullback.remesh" not in drawn(obj)
    bpy.ops.pullback.nerf_from_shape()
    assert "pullback.nerf_from_shape" not in drawn(obj) and "pullback.remesh" in drawn(obj)


def test_the_batch_drafts_shapes(home, monkeypatch, capfd):
    """Beside a world of the whole sphere, into one file; then one file each, with a list."""
    monkeypatch.setenv("PULLBACK_PYTHON", sys.executable)
    monkeypatch.chdir(home)
    assert batch.run(["--shape", "a red chair", "--shape", "a mug", "--seed", "1", "2", "-o", "all.blend"]) == 0
    assert "4 of 4 done" in capfd.readouterr().out
    bpy.ops.wm.open_mainfile(filepath=str(home / "all.blend"))
    made = sorted(bpy.context.scene.objects, key=lambda obj: obj.location.x)
    assert [obj["pullback_seed"] for obj in made] == ["1", "2", "1", "2"]
    assert [obj.location.x for obj in made] == [0, 2.5, 5, 7.5] and all(map(shapes.is_draft, made))
    (home / "jobs.jsonl").write_text(
        '{"kind": "shape", "prompt": "a mug", "guidance": 2, "resolution": 32, "faces": 500}\n'
    )
    command = ["--prompts", "jobs.jsonl", "--shape", "a chair", "--quality", "draft", "-o", "{kind}-{prompt}.glb"]
    for _ in range(2):
        assert batch.run([*command, "--resume"]) == 0, capfd.readouterr().err
        assert {path.name for path in home.glob("*.glb")} == {"shape-a-mug.glb", "shape-a-chair.glb"}
    chair, mug = arguments.items(arguments.parser().parse_args(command))
    assert mug.settings == {"prompt": "a mug", "seed": 0, "guidance": 2, "resolution": 32}
    assert mug.options == {"faces": 500, "texture": 512, "model": "dpf-shapes", "device": "cpu"}
    assert chair.settings == {"prompt": "a chair", "seed": 0} and chair.options["faces"] == 5000
    (home / "jobs.jsonl").write_text('{"kind": "shape", "prompt": "a mug", "eta": 0.5}\n')
    assert batch.run(command) == 2 and "has 'eta', which is not a setting of the kind shape" in capfd.readouterr().err


def test_the_batch_passes_models_on_by_name_and_files_by_path(home, monkeypatch):
    monkeypatch.chdir(home)
    (home / "mine.safetensors").write_bytes(b"")
    for given, of_world, of_shape in (
        ("toybox", "toybox", "dpf-shapes"),
        ("dpf-sphere", "dpf-sphere", "dpf-sphere"),
        ("mine.safetensors", str(home / "mine.safetensors"), str(home / "mine.safetensors")),
    ):
        asked = arguments.parser().parse_args(
            ["--panorama", "sea", "--shape", "mug", "--model", given, "-o", "a.blend"]
        )
        assert [item.options["model"] for item in arguments.items(asked)] == [of_world, of_shape]


def test_a_shape_of_the_real_worker_says_that_it_does_not_know_a_word(home, monkeypatch, capfd):
    pytest.importorskip("torch")
    monkeypatch.setenv("PYTHONPATH", str(ROOT / "core"))
    monkeypatch.setenv("PULLBACK_PYTHON", sys.executable)
    monkeypatch.chdir(home)
    (home / "bad.safetensors").write_bytes(b"nothing")
    assert batch.run(["--shape", "a mug", "--model", "bad.safetensors", "-o", "a.glb"]) == 1
    assert 'Failed: shape "a mug" (seed 0):' in capfd.readouterr().err and protocol.VERSION == 1
