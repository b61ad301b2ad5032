"""The extension's queue with the bpy wheel: what is left when Blender dies, and what older files bring along."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

fcntl = pytest.importorskip("fcntl", reason="kills and locks in the POSIX way")
bpy = pytest.importorskip("bpy", reason="needs Blender as a module: pip install bpy==5.0.1 (Python 3.11)")
ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

import blender_addon  # noqa: E402
from blender_addon import descriptions, jobs, operators, preferences  # noqa: E402

SESSION = """
import sys, bpy
sys.path.insert(0, sys.argv[1])
import blender_addon
blender_addon.register()
settings = bpy.context.scene.pullback
settings.seed, settings.prompt = 7, sys.argv[2]
bpy.ops.pullback.generate_object()
"""


@pytest.fixture
def home(tmp_path, monkeypatch):
    """A user's folder of this test's own, a fresh file, the extension at work with the stand-in."""
    monkeypatch.setenv("BLENDER_USER_RESOURCES", str(tmp_path / "user"))
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent / "stand_in"))
    monkeypatch.setattr(preferences, "interpreter", lambda: Path(sys.executable))
    monkeypatch.setattr(preferences, "user_folder", lambda name: _made(tmp_path / "results"))
    bpy.ops.wm.read_factory_settings(use_empty=True)
    blender_addon.register()
    yield tmp_path
    blender_addon.unregister()


def _made(folder):
    folder.mkdir(exist_ok=True)
    return folder


def _crashed(home, prompt, moves):
    """A session of Blender that is killed in the middle of a job."""
    patch = (
        "import blender_addon.preferences as p, pathlib\n"
        f"p.interpreter = lambda: pathlib.Path({sys.executable!r})\n"
        f"p.user_folder = lambda name: pathlib.Path({str(_made(home / 'results'))!r})\n"
    )
    session = SESSION.replace("blender_addon.register()", patch + "blender_addon.register()")
    process = subprocess.Popen([sys.executable, "-c", session, str(ROOT), prompt], env=os.environ.copy())
    note = home / "results" / f"{prompt.replace(' ', '-')}-7.glb.job.json"
    deadline = time.monotonic() + 60
    while not (note.exists() and f'"move": {moves}' in note.read_text()):
        assert time.monotonic() < deadline and process.poll() is None
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    time.sleep(0.3)  # the worker sees the end of its input


def test_what_a_killed_blender_left_is_offered_and_resumed(home):
    """Two runs, found on start: one sentence in the panel; one button goes on with both, to the end."""
    _crashed(home, "a waiting mushroom", 2)
    _crashed(home, "a waiting duck", 2)
    jobs.recall()
    jobs.recall()
    assert [(job.reached, job.status, job.can_resume) for job in jobs.left()] == [
        ('"a waiting duck", 2 of 6', "LEFT", True), ('"a waiting mushroom", 2 of 6', "LEFT", True)]  # fmt: skip
    assert jobs.shown() == [] and not jobs.busy()
    bpy.ops.pullback.resume(job=0)
    assert jobs.left() == [] and [job.move for job in jobs.shown()] == [2, 2]
    jobs.run_to_end()
    assert {o.name for o in bpy.data.objects} == {"a waiting duck", "a waiting mushroom"}
    assert jobs.queue == [] and not list((home / "results").glob("*.job.json")) + list((home / "results").glob("*.run"))


def test_discard_deletes_what_is_left(home):
    _crashed(home, "a waiting mushroom", 2)
    jobs.recall()
    assert len(jobs.left()) == 1
    bpy.ops.pullback.dismiss(job=0)
    assert jobs.queue == [] and not list((home / "results").iterdir())
    jobs.recall()
    assert jobs.queue == []


def test_a_run_that_another_blender_works_on_is_not_offered(home):
    """The worker keeps its lock file locked; a lock file that a killed worker left says nothing."""
    _crashed(home, "a waiting mushroom", 2)
    (note,) = (home / "results").glob("*.job.json")
    lock = note.with_name(note.name.replace(".job.json", ".lock"))
    with lock.open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        jobs.recall()
        assert jobs.queue == []
    jobs.recall()
    assert len(jobs.left()) == 1


def test_notes_that_are_none_are_passed_over(home):
    for number, text in enumerate(("", "[]", '{"request": {}}', '{"request": {"kind": "object"}, "place": {}}')):
        (_made(home / "results") / f"{number}.glb.job.json").write_text(text)
        (home / "results" / f"{number}.glb.run").write_text("1")
    jobs.recall()
    assert jobs.queue == []


def test_what_lies_beside_a_file_is_offered_when_it_is_opened(home, monkeypatch):
    _crashed(home, "a waiting mushroom", 2)
    bpy.ops.wm.save_as_mainfile(filepath=str(home / "a.blend"))
    (home / "results").rename(home / "pullback")
    bpy.ops.wm.read_factory_settings(use_empty=True)
    jobs.recall()
    assert jobs.queue == []
    bpy.app.handlers.load_post.append(jobs._after_load)  # as where there is a window
    bpy.ops.wm.open_mainfile(filepath=str(home / "a.blend"))
    assert [job.reached for job in jobs.left()] == ['"a waiting mushroom", 2 of 6']


def test_a_file_with_a_cylinder_is_as_good_as_any(home):
    """Once a panorama could be a cylinder, which no world can be: such a file opens, and its panoramas are worlds."""
    blender_addon.unregister()

    projections = bpy.props.EnumProperty(items=(("sphere", "", ""), ("cylinder", "", "")))
    fields = {"prompt": bpy.props.StringProperty(), "projection": projections}
    Before = type("PullbackSettings", (bpy.types.PropertyGroup,), {"__annotations__": fields})
    bpy.utils.register_class(Before)
    bpy.types.Scene.pullback = bpy.props.PointerProperty(type=Before)
    bpy.context.scene.pullback.prompt, bpy.context.scene.pullback.projection = "sea at noon", "cylinder"
    bpy.ops.wm.save_as_mainfile(filepath=str(home / "before.blend"))
    del bpy.types.Scene.pullback
    bpy.utils.unregister_class(Before)
    blender_addon.register()
    bpy.ops.wm.open_mainfile(filepath=str(home / "before.blend"))
    assert bpy.context.scene.pullback.prompt == "sea at noon"
    request = operators.sampling(bpy.context, descriptions.first(descriptions.Makes.WORLD))
    assert "projection" not in request["options"], "the worker's default is the sphere"
    assert bpy.ops.pullback.generate_panorama() == {"FINISHED"} and bpy.context.scene.world.name == "sea at noon"
