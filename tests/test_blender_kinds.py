"""The panel's kinds in Blender, with the bpy wheel: made from descriptions, another package's among them; materials."""

from __future__ import annotations

import importlib.util
import json
import math
import os
import subprocess
import sys
import venv
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from blender_layout import Layout

bpy = pytest.importorskip("bpy", reason="needs Blender as a module: pip install bpy==5.0.1 (Python 3.11)")
ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

import blender_addon  # noqa: E402
from blender_addon import (  # noqa: E402
    batch,
    descriptions,
    environment,
    jobs,
    learned,
    operators,
    panel,
    preferences,
    properties,
    scene,
)

RELEASED = (
    "prompt", "negative", "seed", "quality", "variants", "model", "model_path", "checkpoint", "panorama_width",
    "image_size", "steps", "views", "panorama_views", "guidance", "image_guidance", "eta", "repaint", "repaint_jump",
    "repaint_repeats", "solver", "faces", "texture", "resolution", "device",
)  # fmt: skip
"""Properties of released versions, which files and scripts set."""
SOMEONES = os.pathsep.join(map(str, (ROOT / "core", ROOT / "tests" / "someones")))


@pytest.fixture(scope="module")
def someones():
    """What a worker says where the other package is installed."""
    code = "import json; from pullback.jobs import described; print(json.dumps(described()['representations']))"
    environment = os.environ | {"PYTHONPATH": SOMEONES, "PYTHONWARNINGS": "ignore"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    return done.stdout


@pytest.fixture
def home(home):
    """The extension at work; what it has learnt is forgotten afterwards."""
    yield home
    descriptions.learn([])


def settings():
    return bpy.context.scene.pullback


def restart():
    """Another session of Blender, as far as the extension can tell."""
    blender_addon.unregister()
    descriptions.learn([])
    blender_addon.register()


def ask(operator="generate_object", prompt="a ball"):
    """Press a button and wait."""
    settings().prompt = prompt
    return getattr(bpy.ops.pullback, operator)()


def offers(name):
    return hasattr(bpy.types, f"PULLBACK_OT_generate_{name}")


def test_every_setting_has_a_property_that_says_what_the_core_says(home):
    assert set(RELEASED) <= set(settings().bl_rna.properties.keys())
    seen = {name: descriptions.RUN[name] for name in ("seed", "steps", "eta", "solver")}
    for kind in descriptions.kinds().values():
        seen |= properties.settings_of(kind)
    assert len(seen) > 35
    for name, setting in seen.items():
        made, unit = settings().bl_rna.properties[name], math.pi / 180 if setting.unit == "degrees" else 1
        assert properties.value_of(settings(), name, setting) == setting.default, name
        assert made.description == setting.tooltip and made.name == setting.label
        if isinstance(setting.default, str):
            assert tuple(item.identifier for item in made.enum_items) == setting.choices
        else:
            assert made.hard_min == pytest.approx(max(setting.low, -properties.LARGEST) * unit), name
            assert made.hard_max == pytest.approx(min(setting.high, properties.LARGEST) * unit), name
        assert made.subtype == {"pixels": "PIXEL", "degrees": "ANGLE"}.get(setting.unit, "NONE")


def test_a_request_says_only_what_was_set_of_a_representation_s_own(home):
    """What is left alone suits the model; an angle is Blender's in the file and degrees for the worker."""
    settings().prompt = "a ball"
    request = operators.sampling(bpy.context, descriptions.kinds()["object"])
    made = {"faces": 20000, "texture": 1024, "resolution": 128, "bake_views": 24, "bake_size": 256}
    assert request["options"] == {**made, "model": "toybox", "device": "cpu"}
    assert request["settings"] == {
        "prompt": "a ball", "negative": "", "seed": 0, "steps": 30, "guidance": 1.0, "eta": 0.0, "solver": "adam", "views": 8,
        "repaint": [1, 1],
    }  # fmt: skip
    settings().object_grid, settings().object_fov = 64, math.radians(50)
    options = operators.sampling(bpy.context, descriptions.kinds()["object"])["options"]
    assert (options["grid"], options["fov"]) == (64, 50.0) and "lowest" not in options
    options = operators.sampling(bpy.context, descriptions.kinds()["tile"])["options"]
    assert options == {"size": 2048, "model": "toybox", "device": "cpu"}


def test_another_package_s_is_in_the_panel_once_its_worker_was_heard(home, someones, monkeypatch):
    assert not offers("cosines") and "cosines_waves" not in settings().bl_rna.properties
    monkeypatch.setenv("STAND_IN_REPRESENTATIONS", someones)
    jobs.backend.stop()
    assert ask() == {"FINISHED"}
    waves = settings().bl_rna.properties["cosines_waves"]
    assert (waves.default, waves.hard_min, waves.hard_max) == (
        12,
        1,
        64,
    ) and waves.description == "Cosines along each side"
    assert (
        offers("cosines")
        and offers("object")
        and bpy.ops.pullback.generate_cosines.get_rna_type().name == "Generate Cosines"
    )
    shown = drawn()
    assert {"pullback.generate_cosines", "cosines_waves", "cosines_guidance", "cosines_size"} <= shown
    settings().cosines_waves = 20
    request = operators.sampling(bpy.context, descriptions.kinds()["cosines"])
    assert request["kind"] == "cosines" and request["options"] == {
        "waves": 20, "size": 2048, "model": "toybox", "device": "cpu"}  # fmt: skip
    assert ask("generate_cosines", "a soft fish") == {"FINISHED"} and "a soft fish" in bpy.data.images


def drawn():
    """What the panels show: the names of properties and operators."""
    shown: set[str] = set()
    context = SimpleNamespace(
        scene=bpy.context.scene, object=None, selected_objects=[], region=SimpleNamespace(width=300)
    )
    labels = panel.labels.scale
    panel.labels.scale = lambda: 1.0  # it is 0 without a window
    try:
        for kind in (panel.PULLBACK_PT_main, panel.PULLBACK_PT_advanced):
            kind.draw(SimpleNamespace(layout=Layout(shown)), context)
    finally:
        panel.labels.scale = labels
    return shown


def test_its_values_stay_in_the_file_while_nobody_knows_it(home, someones, monkeypatch):
    """Saved, opened and saved by Blenders without the package; with it, it is there again, before any worker starts."""
    monkeypatch.setenv("STAND_IN_REPRESENTATIONS", someones)
    assert ask() == {"FINISHED"}
    settings().cosines_waves = 20
    bpy.ops.wm.save_as_mainfile(filepath=str(home / "a.blend"))
    kept = home / "representations" / "learned.json"
    learned = kept.read_text()
    kept.unlink()
    restart()
    bpy.ops.wm.open_mainfile(filepath=str(home / "a.blend"))
    assert not hasattr(settings(), "cosines_waves") and not offers("cosines")
    bpy.ops.wm.save_as_mainfile(filepath=str(home / "b.blend"))
    kept.write_text(learned)
    bpy.ops.wm.read_factory_settings(use_empty=True)
    restart()
    assert offers("cosines") and settings().cosines_waves == 12
    bpy.ops.wm.open_mainfile(filepath=str(home / "b.blend"))
    assert settings().cosines_waves == 20


def test_it_goes_when_its_package_goes_and_nothing_else_does(home, someones, monkeypatch):
    monkeypatch.setenv("STAND_IN_REPRESENTATIONS", someones)
    assert ask() == {"FINISHED"} and offers("cosines")
    settings().image_size = 99
    monkeypatch.setenv("STAND_IN_REPRESENTATIONS", "[]")
    jobs.backend.stop()
    assert ask() == {"FINISHED"}
    assert offers("image") and settings().image_size == 99 and "pullback.generate_cosines" not in drawn()
    with pytest.raises(RuntimeError, match="cannot make cosines any more"):
        ask("generate_cosines")  # what was on the screen may be pressed once more
    restart()
    assert not offers("cosines") and not hasattr(settings(), "cosines_waves")


def test_a_worker_that_tells_nothing_and_a_cache_that_is_rubbish_change_nothing(home):
    (home / "representations" / "learned.json").write_text("{")
    restart()
    assert ask() == {"FINISHED"} and offers("object") and not offers("cosines")


def test_a_second_one_of_a_command_is_a_choice(home, someones):
    """One button for both; what is set of the other one is not sent."""
    (other,) = (each for each in json.loads(someones) if each["name"] == "cosines")
    learned.hear([other | {"command": "image", "noun": "image", "choice": "cosines"}])
    settings().prompt, kind = "a fish", descriptions.kinds()["image"]
    options = lambda: operators.sampling(bpy.context, kind)["options"].keys() - {"size", "model", "device"}
    settings().image_waves, settings().image_neurons = 5, 32
    assert settings().image_field == "siren-image" and options() == {"neurons"}
    assert "image_waves" not in drawn()
    settings().image_field = "cosines"
    assert options() == {"field", "waves"} and not offers("cosines")
    assert {"image_field", "image_waves"} <= drawn() and "image_neurons" not in drawn()


def test_it_is_sampled_for_real(home, monkeypatch):
    """The real worker, the other package's class, from the panel's button to the picture in Blender."""
    python = home / "env" / environment.BIN / f"python{environment.EXE}"
    venv.create(home / "env", symlinks=os.name == "posix")
    (packages,) = (home / "env").rglob("site-packages")
    mine = str(Path(importlib.util.find_spec("torch").origin).parents[1])
    (packages / "others.pth").write_text("\n".join([mine, *SOMEONES.split(os.pathsep)]))
    monkeypatch.delenv("PYTHONPATH")
    monkeypatch.setattr(preferences, "interpreter", lambda: python)
    settings().steps = 2
    bpy.ops.pullback.test_worker()
    assert offers("cosines"), "the Test button is enough to know it"
    settings().cosines_waves, settings().cosines_size = 4, 16
    assert ask("generate_cosines", "a blue ball") == {"FINISHED"}
    assert tuple(bpy.data.images["a blue ball"].size) == (16, 16)


# Materials


def plane():
    bpy.ops.mesh.primitive_plane_add(size=2)
    return bpy.context.object


def nodes(material):
    """The shader, its picture, and what the picture's places come from."""
    shader = next(n for n in material.node_tree.nodes if n.type == "BSDF_PRINCIPLED")
    assert any(link.to_node.type == "OUTPUT_MATERIAL" for link in shader.outputs["BSDF"].links)
    picture = shader.inputs["Base Color"].links[0].from_node
    mapping = picture.inputs["Vector"].links[0].from_node
    return picture, mapping, mapping.inputs["Vector"].links[0].from_socket


def test_the_button_gives_the_active_object_a_material_that_repeats(home):
    obj, before = plane(), bpy.data.materials.new("mine")
    obj.data.materials.append(before)
    settings().material_repeats = 3
    assert ask("generate_tile", "sea at noon") == {"FINISHED"}
    material = obj.active_material
    picture, mapping, places = nodes(material)
    assert material.name == "sea at noon" and len(obj.material_slots) == 1
    assert picture.extension == "REPEAT" and picture.projection == "FLAT" and picture.image.packed_file
    assert tuple(mapping.inputs["Scale"].default_value) == (3, 3, 3) and places.name == "UV"
    assert before.use_fake_user and before.name == "mine", "the old one is saved with the file"


def test_only_the_active_slot_changes(home):
    obj = plane()
    for name in ("one", "two"):
        obj.data.materials.append(bpy.data.materials.new(name))
    obj.active_material_index = 1
    assert ask("generate_tile", "clouds") == {"FINISHED"}
    assert [slot.material.name for slot in obj.material_slots] == ["one", "clouds"]
    assert bpy.data.materials["two"].use_fake_user and not bpy.data.materials["one"].use_fake_user


def test_without_a_uv_map_the_picture_comes_from_all_sides(home, tmp_path):
    path = picture(tmp_path / "a.png", np.zeros((4, 4, 3)))
    ball = bpy.data.objects.new("ball", bpy.data.meshes.new("ball"))
    curve = bpy.data.objects.new("curve", bpy.data.curves.new("curve", "CURVE"))
    for obj in (ball, curve):
        node, _, places = nodes(scene.add_material(path, name="a", obj=obj))
        assert (node.projection, places.name) == ("BOX", "Generated") and node.projection_blend > 0
        assert obj.active_material.name.startswith("a")
    lamp = bpy.data.objects.new("lamp", bpy.data.lights.new("lamp", "POINT"))
    for obj in (lamp, bpy.data.objects.new("empty", None), None):
        material = scene.add_material(path, name="a", obj=obj)
        assert material.use_fake_user and nodes(material)[2].name == "UV", "else it would not be saved"


def picture(path, pixels):
    """A picture file of display values (H, W, 3) in [0, 1]."""
    from PIL import Image

    Image.fromarray((pixels * 255).round().astype(np.uint8)).save(path)
    return path


def tile(size):
    """A picture of SirenTile with random parameters, (size, size, 3) in [0, 1]."""
    import torch
    from pullback.diffreps.tile import SirenTile
    from pullback.storage import generator

    made = SirenTile(channels=3, width=64, bandwidth=6.0)
    random = generator(3)
    params = made.init(random) | {"out": torch.randn(3, 64, generator=random)}
    values = made.picture(params, size, size)[0].permute(1, 2, 0)
    return torch.sigmoid(3 * (values - values.mean()) / values.std()).numpy()


def repeated(path, obj, repeats, pixels):
    """The plane with the picture at `path` on it `repeats` times along each side, as Cycles draws it from above."""
    scene.add_material(path, name="a", repeats=repeats, obj=obj)
    camera = bpy.data.objects.new("camera", bpy.data.cameras.new("camera"))
    camera.data.type, camera.data.ortho_scale, camera.location = "ORTHO", 2, (0, 0, 3)
    sun = bpy.data.objects.new("sun", bpy.data.lights.new("sun", "SUN"))
    sun.data.energy = math.pi
    now = bpy.context.scene
    for each in (camera, sun):
        now.collection.objects.link(each)
    now.camera, now.view_settings.view_transform = camera, "Standard"
    now.render.engine, now.cycles.device, now.cycles.samples, now.cycles.use_denoising = "CYCLES", "CPU", 4, False
    now.cycles.pixel_filter_type = "BOX"
    now.render.resolution_x = now.render.resolution_y = pixels
    now.render.filepath = str(path.with_suffix(".drawn.png"))
    bpy.ops.render.render(write_still=True)
    from PIL import Image

    return np.asarray(Image.open(now.render.filepath).convert("RGB")).astype(float)


@pytest.mark.parametrize("uv", [True, False])
def test_three_by_three_tiles_show_no_seam(home, tmp_path, uv):
    """The steps from column to column, and from row to row, are at the joints no larger than inside; those of a picture
    whose edges do not match are."""
    pixels = 192
    for name, made, seamless in (("tile", tile(64), True), ("ramp", ramp(64), False)):
        bpy.ops.wm.read_factory_settings(use_empty=True)
        obj = plane()
        if not uv:
            obj.data.uv_layers.remove(obj.data.uv_layers[0])
        drawn = repeated(picture(tmp_path / f"{name}.png", made), obj, 3, pixels)
        assert drawn.std() > 15, "there is something to see"
        for axis in (0, 1):
            steps = np.abs(np.diff(drawn, axis=axis)).mean((1 - axis, 2))
            joints = np.zeros(pixels - 1, bool)
            joints[[pixels // 3 - 1, 2 * pixels // 3 - 1]] = True
            assert (steps[joints].max() <= steps[~joints].max()) == seamless, (name, axis, steps[joints], steps.max())
            assert seamless or steps[joints].min() > 5 * steps[~joints].max()
        third = drawn[:64, :64]
        assert np.abs(drawn[64:128, 128:192] - third).mean() < 0.1 * drawn.std(), "each is the same picture"


def ramp(size):
    """A picture that grows to the right and downwards."""
    line = np.linspace(0.1, 0.9, size)
    return np.repeat((line[:, None] + line)[..., None] / 2, 3, -1)


def test_the_batch_keeps_a_material_that_nothing_has(home, monkeypatch, capfd):
    monkeypatch.chdir(home)
    monkeypatch.setenv("PULLBACK_PYTHON", sys.executable)
    assert batch.run(["--tile", "sea at noon", "-o", "out.blend"]) == 0, capfd.readouterr().err
    bpy.ops.wm.open_mainfile(filepath=str(home / "out.blend"))
    material = bpy.data.materials["sea at noon"]
    assert material.use_fake_user and nodes(material)[0].image.packed_file


def test_jobs_that_were_left_by_another_version_are_those_they_were(home):
    """A note of an unfinished run, as 0.3.0 wrote it."""
    told = {"kind": "panorama", "options": {"width": 64, "model": "toybox", "device": "cpu"},
            "settings": {"prompt": "sea at noon", "negative": "", "seed": 7, "steps": 30, "guidance": 1.0, "eta": 0.0,
                         "solver": "adam", "repaint": [1, 1], "views": 12}}  # fmt: skip
    folder = preferences.user_folder("results")
    note = {"request": told, "place": {"scene": "Scene"}, "move": 2, "total": 6}
    (folder / "sea-at-noon-7.png.job.json").write_text(json.dumps(note))
    (folder / "sea-at-noon-7.png.run").write_text("2")
    jobs.recall()
    assert [job.title for job in jobs.left()] == ["World: sea at noon"]
    bpy.ops.pullback.resume(job=0)
    jobs.run_to_end()
    assert bpy.context.scene.world.name == "sea at noon" and jobs.queue == []
