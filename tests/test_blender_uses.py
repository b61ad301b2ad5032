"""Purging of unused results, with the bpy wheel: what any .blend file uses stays, and so does whatever may be needed."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

import pytest

bpy = pytest.importorskip("bpy", reason="needs Blender as a module: pip install bpy==5.0.1 (Python 3.11)")
sys.path.insert(0, str(Path(__file__).parents[1]))

import blender_addon  # noqa: E402
from blender_addon import disk, job, jobs, preferences, uses  # noqa: E402

OLD = time.time() - 30 * 86400


@pytest.fixture
def home(tmp_path, monkeypatch):
    """The extension at work in an empty file, with a user folder of the test's own."""

    def folder(name):
        (tmp_path / name).mkdir(exist_ok=True)
        return tmp_path / name

    monkeypatch.setattr(preferences, "user_folder", folder)
    bpy.ops.wm.read_factory_settings(use_empty=True)
    blender_addon.register()
    yield tmp_path
    jobs.queue.clear()
    blender_addon.unregister()


def result(home, out, *ends, old=True):
    """Files of a result, 1000 bytes each, a month old."""
    ends = ends or ("", ".field.safetensors", ".turntable.png", ".lock")
    made = [home / "results" / f"{out}{end}" for end in ends]
    made[0].parent.mkdir(exist_ok=True)
    for path in made:
        path.write_bytes(bytes(1000))
        if old:
            os.utime(path, (OLD, OLD))
    return made


def an_object(field, name="thing"):
    obj = bpy.data.objects.new(name, bpy.data.meshes.new(name))
    obj["pullback_field"] = str(field)
    bpy.context.scene.collection.objects.link(obj)
    return obj


def purge():
    assert bpy.ops.pullback.purge_results() == {"FINISHED"}


def test_what_nothing_uses_goes_with_all_that_belongs_to_it(home):
    gone = [*result(home, "a-ball-7.glb"), *result(home, "sea-at-noon-7-2.png", "", ".field.safetensors"),
            *result(home, "a-ball-mesh.glb", ""), *result(home, "a_ball.texture.png", "")]  # fmt: skip
    assert len(uses.unused()) == 4 and uses.size(uses.unused()) == 8000
    assert disk.sources["unused"]()() == (4, 8000)
    purge()
    assert not any(path.exists() for path in gone) and uses.unused() == []


def test_what_the_open_file_uses_stays(home):
    kept = [*result(home, "a-ball-7.glb"), *result(home, "a_ball.texture.png", "")]
    an_object(kept[1])
    image = bpy.data.images.new("texture", 8, 8)
    image.source, image.filepath = "FILE", str(kept[-1])
    purge()
    assert all(path.exists() for path in kept)


def test_what_is_young_unfinished_queued_or_not_ours_stays(home):
    waiting = result(home, "a-duck-1.glb", "", ".field.safetensors")
    field = result(home, "a-cat-1.glb", "", ".field.safetensors")[1]
    request = {"kind": "mesh", "options": {"field": str(field), "model": "toybox"}}
    jobs.queue.append(job.Job(1, request, {"object": "x"}, waiting[0]))
    kept = [*waiting, field, *result(home, "a-new-ball-7.glb", old=False),
            *result(home, "a-run-7.glb", ".run", ".lock"), *result(home, "another-run-7.png", ".job.json"),
            *result(home, "render.png", ""), *result(home, "my notes.txt", "")]  # fmt: skip
    purge()
    assert all(path.exists() for path in kept)


def test_what_another_file_uses_stays(home):
    """One that was saved, a copy of one, and one that was saved elsewhere and opened here."""
    kept = [result(home, f"a-ball-{number}.glb") for number in range(3)]
    gone = result(home, "a-ball-9.glb")
    for number in (0, 1):
        an_object(kept[number][1])
        bpy.ops.wm.save_as_mainfile(filepath=str(home / f"{number}.blend"), copy=number == 1)
        bpy.ops.wm.read_factory_settings(use_empty=True)
    an_object(kept[2][1])
    blender_addon.unregister()
    bpy.ops.wm.save_as_mainfile(filepath=str(home / "2.blend"))
    blender_addon.register()
    bpy.ops.wm.open_mainfile(filepath=str(home / "2.blend"))
    bpy.ops.wm.read_factory_settings(use_empty=True)
    purge()
    assert all(path.exists() for group in kept for path in group) and not any(path.exists() for path in gone)
    bpy.ops.wm.open_mainfile(filepath=str(home / "0.blend"))
    bpy.data.objects.remove(bpy.data.objects["thing"])
    bpy.ops.wm.save_mainfile()
    purge()
    assert not kept[0][0].exists() and kept[1][0].exists() and kept[2][0].exists(), "it is used no more"


def test_a_disk_that_cannot_be_written_disturbs_no_saving(home, monkeypatch):
    an_object("a-ball-7.glb.field.safetensors")

    def refuse(name):
        raise OSError("read-only")

    monkeypatch.setattr(preferences, "user_folder", refuse)
    assert bpy.ops.wm.save_as_mainfile(filepath=str(home / "a.blend")) == {"FINISHED"}


def test_it_asks_first_and_says_the_size(home):
    """The dialog's words; nothing is deleted until it is confirmed."""
    from types import SimpleNamespace

    from blender_addon import operators

    kept = result(home, "a-ball-7.glb")
    asked = {}
    manager = SimpleNamespace(invoke_confirm=lambda *_, **told: asked.update(told) or {"RUNNING_MODAL"})
    context = SimpleNamespace(window_manager=manager)
    operator = operators.PULLBACK_OT_purge_results
    assert operator.invoke(SimpleNamespace(), context, None) == {"RUNNING_MODAL"}
    assert asked["title"] == "Delete unused results: 1, 0.0 MB?" and "re-meshed" in asked["message"]
    assert all(path.exists() for path in kept)
