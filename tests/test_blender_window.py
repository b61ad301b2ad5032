"""The extension in a real Blender window: installed from its zip, used with mouse and keys, looked at.

Most tests use the stand-in for the worker (stand_in/), which is quick and fails on request; one uses toybox itself.
Where the screenshots of docs/blender.md come from: PULLBACK_PICTURES=docs/pictures python -m pytest this file.
"""

from __future__ import annotations

import os
import shutil
import signal
import sys
import time
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent / "window"))

from desktop import HEIGHT, PYTHON, WIDTH, Desktop, desktop, missing, until

pytestmark = pytest.mark.skipif(bool(missing()), reason=missing() or "can run")

NAME = "bl_ext.user_default.pullback"
JOBS = f"from {NAME} import jobs\n"
STATES = (
    JOBS + "result = [[j.status, j.move, j.preview_icon, j.message, j.hint, j.log, j.can_resume] for j in jobs.queue]"
)
OBJECTS = "result = sorted(o.name for o in bpy.data.objects)"
PYTHONPATH = Path(__file__).resolve().parents[1] / "core"
SCENE = ["Camera", "Cube", "Light"]
PICTURES = Path(os.environ["PULLBACK_PICTURES"]) if "PULLBACK_PICTURES" in os.environ else None


@pytest.fixture(scope="module")
def blender(tmp_path_factory):
    """Blender with the extension installed by its own commands, the tab open, and the stand-in as its worker."""
    root = tmp_path_factory.mktemp("window")
    with desktop(root) as made:
        made.install()
        made.start("--offline-mode")
        open_tab(made)
        yield made


@pytest.fixture(autouse=True)
def tidy(blender, request):
    """Every test starts with the default scene, no jobs, and the stand-in; one that fails leaves a picture."""
    failed = request.session.testsfailed
    use(blender, blender.stand_in())
    blender.ask(
        JOBS
        + "while jobs.queue:\n    jobs.cancel(jobs.queue[0].number); jobs._stop(''); jobs.dismiss(jobs.queue[0].number)\n"
        "active = bpy.context.view_layer.objects.active\nif active and active.mode != 'OBJECT':\n"
        "    with bpy.context.temp_override(window=region()[0], area=region()[1]): bpy.ops.object.mode_set(mode='OBJECT')\n"
        "for o in list(bpy.data.objects):\n"
        f"    if o.name not in {SCENE}: bpy.data.objects.remove(o)\n"
        "for o in bpy.data.objects: o.select_set(False)\n"
        "bpy.ops.ed.undo_push(message='tidy')\n"
        "s = bpy.context.scene.pullback\ns.quality = 'NORMAL'\ns.seed = 7\ns.prompt = ''"
    )
    yield
    if request.session.testsfailed > failed and blender.alive:
        screen = blender.picture(blender.root / f"{request.node.name}.png")
        request.node.add_report_section("teardown", "screen", f"{screen} {blender.ask(STATES)}")


def open_tab(blender: Desktop) -> None:
    blender.ask("region()[1].spaces[0].show_region_ui = True")
    time.sleep(1)
    blender.ask("region()[2].active_panel_category = 'Pullback'")
    time.sleep(1)


def use(blender: Desktop, python: str) -> None:
    blender.ask(f"bpy.context.preferences.addons[{NAME!r}].preferences.interpreter = {python!r}")


def prompt(blender: Desktop, text: str) -> None:
    """Set the prompt, as an undo step of its own like typing is."""
    blender.ask(
        f"bpy.context.scene.pullback.prompt = {text!r}\n"
        "with bpy.context.temp_override(window=region()[0]): bpy.ops.ed.undo_push(message='Prompt')"
    )


def until_state(blender: Desktop, *wanted: str, seconds: float = 60) -> list:
    """The first job, once it is in a state."""
    return until(lambda: next((s for s in blender.ask(STATES)[:1] if s[0] in wanted), None), seconds, f"{wanted}")


def until_object(blender: Desktop, name: str, seconds: float = 60) -> None:
    until(lambda: name in blender.ask(OBJECTS), seconds, name)


def until_gone(processes: list[int]) -> None:
    until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in processes), 5, "the end of the worker")


def photograph(blender: Desktop, name: str, crop: str = "") -> None:
    """Keep a picture for the documentation, if asked to."""
    if PICTURES:
        time.sleep(3)  # panels move to their places
        blender.picture(PICTURES / f"blender-{name}.png", crop)


VIEW, SIDEBAR = "860x690+196+28", f"292x520+{WIDTH - 508}+84"


def workers(blender: Desktop) -> list[int]:
    """The processes that Blender has started and not ended."""
    parent = blender.process
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            try:
                line = (entry / "stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            if int(line[1]) == parent and line[0] != "Z":
                found.append(int(entry.name))
    return found


def test_type_click_see_undo_redo(blender):
    blender.click("prompt", 2)
    blender.type("a slow red mushroom")
    blender.key("Return")
    blender.click("generate_object")
    until_state(blender, "RUNNING")
    until_object(blender, "a slow red mushroom")
    assert blender.ask(STATES) == []
    obj = blender.ask(
        "o = bpy.data.objects['a slow red mushroom']; m = o.active_material\n"
        "image = next(n.image for n in m.node_tree.nodes if n.type == 'TEX_IMAGE')\n"
        "result = [len(o.data.uv_layers), bool(image.packed_file), list(o.location), list(bpy.context.scene.cursor.location),"
        " o['pullback_prompt'], o.select_get()]"
    )
    assert obj[:2] == [1, True] and obj[2] == obj[3] and obj[4:] == ["a slow red mushroom", True]
    blender.viewport()
    blender.key("ctrl+z")
    until(lambda: blender.ask(OBJECTS) == SCENE, 10, "the scene as before")
    blender.key("ctrl+shift+z")
    until_object(blender, "a slow red mushroom", 10)


def test_escape_cancels_and_resume_goes_on(blender):
    prompt(blender, "a waiting blue ball")
    blender.click("generate_object")
    until(lambda: blender.ask(STATES)[0][1] >= 2, 30, "two moves")
    blender.key("Escape")  # the mouse is still over the panel
    state = until_state(blender, "CANCELLED", seconds=5)
    assert state[6] and blender.ask(OBJECTS) == SCENE
    blender.click("resume")
    until_object(blender, "a waiting blue ball")


def test_a_killed_worker_is_said_and_resumed(blender):
    prompt(blender, "a tree waiting for rain")
    blender.click("generate_object")
    until(lambda: blender.ask(STATES)[0][1] >= 2, 30, "two moves")
    (worker,) = workers(blender)
    os.kill(worker, signal.SIGKILL)
    start = time.monotonic()
    _, _, _, message, hint, log, resumable = until_state(blender, "FAILED", seconds=5)
    assert time.monotonic() - start < 5
    assert "killed" in message and "Resume" in hint and log and resumable, (message, hint, log)
    assert blender.ask(OBJECTS) == SCENE
    photograph(blender, "killed", SIDEBAR)
    blender.click("resume")
    until_object(blender, "a tree waiting for rain")


def test_dismiss_forgets_a_job_and_what_it_did(blender):
    prompt(blender, "a waiting green ball")
    blender.click("generate_object")
    until(lambda: blender.ask(STATES)[0][1] >= 2, 30, "two moves")
    blender.key("Escape")  # the mouse is still over the panel
    until_state(blender, "CANCELLED", seconds=5)
    results = Path(blender.ask(f"from {NAME} import results; result = str(results.folder())"))
    assert list(results.glob("a-waiting-green-ball-7*"))
    blender.click("dismiss")
    until(lambda: not blender.ask(STATES), 5, "an empty list")
    assert not list(results.glob("a-waiting-green-ball-7*")) and blender.ask(OBJECTS) == SCENE


def test_the_log_goes_to_the_clipboard(blender):
    prompt(blender, "exit")
    blender.click("generate_object")
    until_state(blender, "FAILED", seconds=20)
    blender.click("copy_log")
    clipboard = lambda: blender.ask("result = bpy.context.window_manager.clipboard")
    text = until(lambda: clipboard() if clipboard().startswith("Blender 4") else "", 5, "the log")
    assert "the worker ended by itself, with exit code 3" in text and "log: object exit" in text
    assert "'seed': 7" in text, "and what was asked for"


def test_textures_lie_beside_the_file_where_the_preferences_say_so(blender):
    folder = blender.root / "beside"
    folder.mkdir()
    page = f"page = bpy.context.preferences.addons[{NAME!r}].preferences\n"
    call = "with bpy.context.temp_override(window=region()[0]): bpy.ops.wm.{}\n"
    file = str(folder / "a.blend")
    try:
        blender.ask(page + "page.texture = 'BESIDE'\n" + call.format(f"save_as_mainfile(filepath={file!r})"))
        prompt(blender, "a red ball")
        blender.click("generate_object")
        until_object(blender, "a red ball")
        blender.ask(call.format("save_mainfile()"))
        names = sorted(path.name for path in (folder / "pullback").iterdir())
        assert names == ["a-red-ball-7.glb", "a-red-ball-7.glb.field.safetensors", "a_red_ball.texture.png"]
        blender.ask(call.format("read_homefile()"))
        blender.ask(call.format(f"open_mainfile(filepath={file!r})"))
        image = blender.ask(
            "nodes = bpy.data.objects['a red ball'].active_material.node_tree.nodes\n"
            "image = next(n.image for n in nodes if n.type == 'TEX_IMAGE')\n"
            "result = [bool(image.packed_file), bpy.path.abspath(image.filepath), image.pixels[0] >= 0, image.size[0]]"
        )
        assert image == [False, str(folder / "pullback" / "a_red_ball.texture.png"), True, 8]
    finally:
        blender.ask(page + "page.texture = 'PACKED'\n" + call.format("read_homefile()"))
        open_tab(blender)


@pytest.mark.parametrize("fault", ["rubbish", "exit"])
def test_other_ends_of_the_worker_are_said_within_five_seconds(blender, fault):
    prompt(blender, fault)
    blender.click("generate_object")
    state = until_state(blender, "FAILED", seconds=20)
    assert state[3] and state[4] and blender.ask(OBJECTS) == SCENE


def test_a_worker_that_hangs_is_said_and_can_be_cancelled(blender):
    prompt(blender, "hang")
    blender.click("generate_object")
    until(lambda: blender.ask(STATES)[0][1] == 3, 30, "the third move")
    said = until(lambda: blender.ask(STATES)[0][3], 8, "that it hangs")
    assert "seconds" in said
    blender.click("cancel")
    until_state(blender, "CANCELLED", seconds=5)
    assert until(lambda: not workers(blender), 5, "the end of the worker") or True


def test_a_missing_python_is_said_with_what_to_do(blender):
    use(blender, "/nowhere/python")
    prompt(blender, "a red mushroom")
    blender.click("generate_object")
    state = until_state(blender, "FAILED", seconds=5)
    assert "/nowhere/python" in state[3] and state[4]


def test_edit_mode_waits_and_one_step_takes_it_back(blender):
    prompt(blender, "a ball")
    blender.ask(
        "w, a, _ = region('WINDOW')\nwith bpy.context.temp_override(window=w, area=a):\n"
        "    bpy.context.view_layer.objects.active = bpy.data.objects['Cube']; bpy.ops.object.mode_set(mode='EDIT')"
    )
    blender.click("generate_object")
    until_state(blender, "READY")
    assert blender.ask(OBJECTS) == SCENE
    blender.viewport()
    blender.key("Tab")
    until_object(blender, "a ball", 10)
    blender.key("ctrl+z")
    until(lambda: blender.ask(OBJECTS) == SCENE, 10, "the scene as before")


def test_jobs_queue_and_variants_stand_side_by_side(blender):
    prompt(blender, "a duck")
    blender.ask("bpy.context.scene.pullback.variants = 3")
    blender.click("generate_variants")
    until(lambda: len(blender.ask(OBJECTS)) == 6, 60, "three ducks")
    places = blender.ask("result = sorted(o.location.x for o in bpy.data.objects if 'pullback_field' in o)")
    assert places[1] - places[0] == places[2] - places[1] >= 2


def test_panorama_and_image_and_remesh(blender):
    prompt(blender, "mountains at sunset")
    blender.click("generate_panorama")
    until(lambda: blender.ask("result = bpy.context.scene.world.name") == "mountains at sunset", 60, "the world")
    prompt(blender, "a fish")
    blender.ask("bpy.context.view_layer.objects.active = bpy.data.objects['Cube']")
    blender.click("generate_image")
    until(lambda: blender.ask("result = 'a fish' in bpy.data.images"), 60, "the image")
    blender.click("generate_object")
    until_object(blender, "a fish")
    before = blender.ask("result = bpy.data.objects['a fish'].data.name, len(bpy.data.meshes)")
    blender.click("remesh")
    until(lambda: not blender.ask(STATES), 60, "the new mesh")
    assert blender.ask("result = bpy.data.objects['a fish'].data.name, len(bpy.data.meshes)") == before


def test_material_by_a_click_and_back_by_one_undo(blender):
    """The active object's material is another and repeats; Ctrl-Z brings the old one back."""
    slot = (
        "m = bpy.data.objects['Cube'].active_material\n"
        "n = next((n for n in m.node_tree.nodes if n.type == 'MAPPING'), None)\n"
        "result = [m.name, list(n.inputs['Scale'].default_value) if n else [], bpy.data.materials['Material'].use_fake_user]"
    )
    prompt(blender, "sea at noon")
    blender.ask(
        "cube = bpy.data.objects['Cube']; cube.active_material = bpy.data.materials['Material']\n"
        "cube.active_material.use_fake_user = False\n"
        "bpy.context.view_layer.objects.active = cube; bpy.context.scene.pullback.material_repeats = 3\n"
        "with bpy.context.temp_override(window=region()[0]): bpy.ops.ed.undo_push(message='Repeats')"
    )
    blender.click("generate_tile")
    until(lambda: blender.ask(slot) == ["sea at noon", [3, 3, 3], True], 60, "the material")
    blender.viewport()
    blender.key("ctrl+z")
    until(lambda: blender.ask(slot) == ["Material", [], False], 20, "the old material")
    blender.key("ctrl+shift+z")
    until(lambda: blender.ask(slot)[:1] == ["sea at noon"], 20, "the material again")


def test_another_package_s_button_appears_and_its_setting_is_used(blender):
    """Heard from the worker in the middle of the session: the panel gains a button, which works."""
    told = {
        "name": "cosines", "title": "Cosines", "sentence": "A soft picture.", "command": "cosines", "noun": "cosines",
        "suffixes": [".png"], "settings": [{"name": "waves", "default": 12, "help": "Waves.", "low": 1, "high": 64}],
        "made": [{"name": "size", "default": 64, "help": "Pixels.", "low": 8, "high": 4096, "unit": "pixels"}],
    }  # fmt: skip
    hear = f"from {NAME} import learned\nlearned.hear({{}})\n"
    try:
        blender.ask(hear.format([told]) + "bpy.context.scene.pullback.cosines_waves = 20")
        prompt(blender, "a soft fish")
        blender.click("generate_cosines")
        until(lambda: blender.ask("result = 'a soft fish' in bpy.data.images"), 60, "the image")
    finally:  # the mouse is still over a button that goes
        blender.ask(hear.format([]))
    blender.click("roll_seed")
    with pytest.raises(AssertionError, match="not in the sidebar"):
        blender.find("generate_cosines")


def test_the_window_is_never_held_up(blender):
    """No turn of the timer takes 50 ms of the processor, also not the one that places 20,480 faces and 1024 pixels."""
    pytest.importorskip("torch")
    import numpy as np
    import trimesh
    from pullback.mesh.glb import write_glb

    ball = trimesh.creation.icosphere(subdivisions=5)
    flat = np.arctan2(ball.vertices[:, 1], ball.vertices[:, 0]) / 6.3 + 0.5, ball.vertices[:, 2] / 2 + 0.5
    ball.visual = trimesh.visual.TextureVisuals(uv=np.stack(flat, 1))
    path = blender.root / "ball.glb"
    write_glb(path, ball, np.random.default_rng(0).integers(0, 255, (1024, 1024, 3), dtype=np.uint8))
    blender.ask(
        JOBS + "import time\njobs.slow = []\njobs.untimed = jobs._advance\n"
        "def timed():\n    start = time.thread_time(); jobs.untimed(); jobs.slow.append(time.thread_time() - start)\n"
        "jobs._advance = timed\n"
        "request = {'kind': 'object', 'settings': {'prompt': 'a ball', 'seed': 1}, 'options': {'model': 'toybox'}}\n"
        "job = jobs.add(request, {'scene': 'Scene', 'location': (0, 0, 0)})\n"
        f"job.status, job.files = type(job.status).READY, {{'mesh': {str(path)!r}, 'field': {str(path)!r}}}"
    )
    until_object(blender, "a ball")
    slow = blender.ask(JOBS + "jobs._advance = jobs.untimed; result = sorted(jobs.slow)[-3:]")
    assert max(slow) < 0.05, slow
    assert blender.ask("result = len(bpy.data.objects['a ball'].data.polygons)") == 20480


def test_drawing_asks_neither_disk_nor_path_nor_network(blender):
    """Every part of the tab is drawn with all ways to them barred, in Blender's own hands."""
    drawn, failed = blender.ask(
        f"from {NAME} import panel\nimport builtins, io, os, shutil, socket, subprocess\n"
        "def refuse(*told, **_): raise AssertionError(f'drawing asks for {told}')\n"
        "ways = [(os, 'stat'), (os, 'lstat'), (os, 'scandir'), (os, 'listdir'), (os, 'mkdir'), (builtins, 'open'),"
        " (io, 'open'), (shutil, 'which'), (socket, 'socket'), (subprocess, 'Popen')]\n"
        "kinds, drawn, failed = panel.CLASSES, [], []\nbefore = [kind.draw for kind in kinds]\n"
        "def barred(kind, draw):\n"
        "    def drawing(self, context):\n"
        "        free = [getattr(*way) for way in ways]\n"
        "        for way in ways: setattr(*way, refuse)\n"
        "        try: draw(self, context); drawn.append(kind.__name__)\n"
        "        except Exception as error: failed.append(str(error))\n"
        "        finally:\n"
        "            for way, was in zip(ways, free): setattr(*way, was)\n"
        "    return drawing\n"
        "for kind, draw in zip(kinds, before): kind.draw = barred(kind, draw)\n"
        "region()[2].tag_redraw()\n"
        "with bpy.context.temp_override(window=region()[0], area=region()[1]):\n"
        "    bpy.ops.wm.redraw_timer(type='DRAW_WIN_SWAP', iterations=2)\n"
        "for kind, draw in zip(kinds, before): kind.draw = draw\n"
        "result = [drawn, failed]"
    )
    assert failed == [] and "PULLBACK_PT_main" in drawn


def test_fifty_times_generate_and_undo_leave_nothing(blender):
    prompt(blender, "a ball")
    count = "import gc; gc.collect(); result = [len(getattr(bpy.data, k)) for k in ('objects', 'meshes', 'materials', 'images')]"
    memory = lambda: int((Path("/proc") / str(pid) / "statm").read_text().split()[1]) * 4096 / 2**20
    pid = blender.process
    after = []
    for cycle in range(50):
        blender.ask("bpy.ops.pullback.generate_object()")
        until_object(blender, "a ball")
        blender.ask("with bpy.context.temp_override(window=region()[0]): bpy.ops.ed.undo()")
        assert blender.ask(OBJECTS) == SCENE
        if cycle in (2, 49):
            after.append((blender.ask(count), memory()))
    (early, before), (late, now) = after
    assert late == early
    assert now - before < 30, f"{before:.0f} MB after the third, {now:.0f} MB after the fiftieth"


def test_loading_a_file_ends_the_worker_and_keeps_the_run(blender):
    prompt(blender, "a waiting ball")
    blender.click("generate_object")
    until(lambda: blender.ask(STATES)[0][1] >= 2, 30, "two moves")
    assert workers(blender)
    blender.ask("with bpy.context.temp_override(window=region()[0]): bpy.ops.wm.read_homefile()")
    until(lambda: not workers(blender), 5, "the end of the worker")
    assert until_state(blender, "CANCELLED")[6]
    open_tab(blender)


def test_disabling_leaves_nothing(blender):
    prompt(blender, "a waiting ball")
    blender.click("generate_object")
    until(lambda: blender.ask(STATES)[0][1] >= 2, 30, "two moves")
    left = blender.ask(
        "import addon_utils, gc\n"
        f"timer = __import__('sys').modules[{NAME + '.jobs'!r}]._tick\n"
        f"addon_utils.disable({NAME!r}); gc.collect()\n"
        "keymaps = bpy.context.window_manager.keyconfigs.addon.keymaps\n"
        "result = [hasattr(bpy.types.Scene, 'pullback'), [n for n in dir(bpy.types) if 'PULLBACK' in n.upper()],"
        " bpy.app.timers.is_registered(timer), [h for h in bpy.app.handlers.load_pre if 'pullback' in h.__module__],"
        " [i.idname for k in keymaps for i in k.keymap_items if 'pullback' in i.idname]]"
    )
    assert left == [False, [], False, [], []] and not workers(blender)
    blender.ask(f"import addon_utils; addon_utils.enable({NAME!r}, default_set=True)")


def midway(blender):
    """In the midst of a job; its workers."""
    use(blender, blender.stand_in())
    prompt(blender, "a waiting ball")
    blender.ask("bpy.ops.pullback.generate_object()")
    until(lambda: blender.ask(STATES)[0][1] >= 2, 60, "two moves")
    return workers(blender)


def test_quitting_ends_the_worker_and_the_next_session_goes_on(blender, tmp_path_factory):
    root = tmp_path_factory.mktemp("quit")
    shutil.copytree(blender.home, root / "home")
    with desktop(root) as other:
        other.start("--offline-mode")
        running = midway(other)
        assert running
        other.quit()
        until_gone(running)
        other.start("--offline-mode")
        assert until_state(other, "LEFT", seconds=5)[6]
        other.ask("bpy.ops.pullback.resume(job=0)")
        until_object(other, "a waiting ball")


def test_a_killed_blender_offers_its_run_again(blender, tmp_path_factory):
    """Killed in the middle, started again: one sentence, Resume and Discard; what is resumed ends as an object."""
    root = tmp_path_factory.mktemp("crash")
    shutil.copytree(blender.home, root / "home")
    with desktop(root) as other:
        for button in ("dismiss", "resume"):
            other.start("--offline-mode")
            running = midway(other)
            os.kill(other.process, signal.SIGKILL)
            until(lambda: not other.alive, 10, "the end of Blender")
            until_gone(running)
            other.start("--offline-mode")
            use(other, other.stand_in())
            assert until_state(other, "LEFT", seconds=5)[:2] == ["LEFT", 2]
            open_tab(other)
            other.click(button)
            until(lambda: not other.ask(STATES), 30, "an empty list")
            assert other.ask(OBJECTS) == sorted([*SCENE, *(["a waiting ball"] if button == "resume" else [])])
            other.quit()
        results = next((root / "home").rglob("results"))
        assert not list(results.glob("*.run")) + list(results.glob("*.job.json"))


def test_the_test_button_says_what_the_python_has(blender):
    pytest.importorskip("torch")
    use(blender, PYTHON)
    blender.ask(f"bpy.ops.pullback.test_worker(); bpy.ops.preferences.addon_show(module={NAME!r})")
    told = f"from {NAME} import questions\ntask = questions.of('test')\nresult = task.poll() and vars(task.report)"
    report = until(lambda: blender.ask(told), 120, "the answer")
    assert report["pullback"] and report["torch"] and report["missing"] == []
    left, bottom, height = blender.ask("w = bpy.context.window_manager.windows[-1]; result = [w.x, w.y, w.height]")
    photograph(blender, "preferences", f"500x292+{left + 178}+{HEIGHT - bottom - height + 238}")
    blender.ask(
        "with bpy.context.temp_override(window=bpy.context.window_manager.windows[-1]): bpy.ops.wm.window_close()"
    )


def test_toybox_draws_a_mushroom(blender):
    """The real thing, few steps: bar and preview while it runs, a textured object afterwards."""
    pytest.importorskip("torch")
    use(blender, PYTHON)
    prompt(blender, "a red mushroom")
    blender.ask(
        "s = bpy.context.scene.pullback; s.steps, s.views, s.faces, s.texture, s.resolution = "
        + os.environ.get("PULLBACK_WINDOW_SETTINGS", "3, 4, 2000, 128, 48")
    )
    blender.click("generate_object")
    seen = until(lambda: next((s for s in blender.ask(STATES) if s[1] >= 2 and s[2]), None), 400, "a preview")
    assert seen[0] == "RUNNING"
    blender.viewport()
    photograph(blender, "running", VIEW)
    until_object(blender, "a red mushroom", 400)
    faces = blender.ask("result = len(bpy.data.objects['a red mushroom'].data.polygons)")
    assert 100 < faces <= 20_000
    blender.ask("bpy.data.objects['Cube'].hide_set(True)")  # it stands in the same place
    look_at(blender, "a red chair")
    path = blender.root / "mushroom.png"
    until(lambda: redness(blender.picture(path)) > 0.005, 60, "something red in the viewport")
    photograph(blender, "done", VIEW)


def test_a_draft_shape_is_drawn_without_a_fit(blender):
    """The button under *Generate NeRF Object*: a red mesh in the scene, and beside it the offer to make a NeRF of it."""
    pytest.importorskip("torch")
    use(blender, PYTHON)
    prompt(blender, "a red chair")
    blender.ask(
        "s = bpy.context.scene.pullback; s.faces, s.texture = 5000, 256\nbpy.data.objects['Cube'].hide_set(True)"
    )
    blender.click("draft_shape")
    until_object(blender, "a red chair", 600)
    assert blender.ask("result = len(bpy.data.objects['a red chair'].data.polygons)") > 500
    look_at(blender, "a red chair")
    until(lambda: redness(blender.picture(blender.root / "shape.png")) > 0.005, 60, "something red in the viewport")
    photograph(blender, "shape", VIEW)
    blender.find("nerf_from_shape")


def look_at(blender, name: str) -> None:
    """Select one object, and show it large in the viewport, with its texture."""
    blender.ask(
        "w, a, r = region('WINDOW')\na.spaces[0].shading.color_type = 'TEXTURE'\n"
        "bpy.context.preferences.view.smooth_view = 0\n"
        f"for o in bpy.data.objects: o.select_set(o.name == {name!r})\n"
        "with bpy.context.temp_override(window=w, area=a, region=r): bpy.ops.view3d.view_selected()"
    )


def redness(path: Path) -> float:
    """The share of a picture's pixels that are clearly red."""
    import numpy as np
    from PIL import Image

    pixels = np.asarray(Image.open(path).convert("RGB")).astype(int)[80 : HEIGHT - 90, :760]
    return float(((pixels[..., 0] > 120) & (pixels[..., 1:] < 70).all(-1)).mean())


def test_six_cameras_with_pictures_become_a_mesh_in_their_midst(blender):
    """A click after opening the panel: the true object's bounds, by the worker itself. Objects Blender drew, none of ours."""
    for module in ("torch", "trimesh", "embreex"):
        pytest.importorskip(module)
    import math

    import numpy as np
    import torch
    from pullback.generative.toybox.objects import build
    from pullback.generative.toybox.pictures import photograph as taken
    from pullback.geometry.cameras import orbit
    from pullback.photographs import write_transforms

    true, rgb = build("house", "red", None, None, np.random.default_rng(0))
    steep = math.radians(88)
    sides, heights = torch.tensor([0, 0.5, 1, 1.5, 0, 0]) * math.pi, torch.tensor([0, 0, 0, 0, steep, -steep])
    around = orbit(sides, heights, 20.0, math.radians(6))
    layers = torch.from_numpy(taken(true, rgb, around, 96)).float() / 255
    folder = blender.root / "taken"
    folder.mkdir()
    write_transforms(folder, around, torch.cat([layers[:, :3], layers[:, -1:]], 1))
    python = blender.root / "real"
    python.write_text(f'#!/bin/sh\nPYTHONPATH={PYTHONPATH} exec {PYTHON} "$@"\n')
    python.chmod(0o755)
    use(blender, str(python))
    made = blender.ask(
        "import math\nfrom mathutils import Matrix\ns = bpy.context.scene\ns.render.resolution_x = s.render.resolution_y = 96\n"
        f"for n, pose in enumerate({around.pose.tolist()}):\n"
        "    o = bpy.data.objects.new(f'Eye {n}', bpy.data.cameras.new('Eye')); s.collection.objects.link(o)\n"
        "    o.matrix_world = Matrix(pose)\n"
        f"    o.data.lens = o.data.sensor_width / 2 / {math.tan(float(around.fov[0]) / 2)}\n"
        "    o.data.background_images.new().image = bpy.data.images.load("
        f"{str(folder)!r} + f'/{{n:03d}}.png')\n"
        "    o.data.show_background_images = True\n    o.select_set(True)\n"
        "p = s.pullback; p.pictures_grid, p.pictures_steps, p.faces, p.texture = 48, 50, 5000, 256\n"
        "bpy.data.objects['Cube'].hide_set(True)\nresult = len(bpy.context.selected_objects)"
    )
    assert made == 6
    x, y = blender.find("material_repeats")
    for below in (34, 44, 26):  # the closed panel's header
        blender.move(x, y + below)
        blender.tool("xdotool click 1")
        time.sleep(1)
        try:
            blender.find("pictures_method")
            break
        except AssertionError:
            continue
    photograph(blender, "pictures", SIDEBAR)
    blender.click("object_from_pictures")
    until_state(blender, "RUNNING")
    until_object(blender, "From Pictures", 900)
    points = np.array(blender.ask("result = [list(v.co) for v in bpy.data.objects['From Pictures'].data.vertices]"))
    bounds = np.stack([points.min(0), points.max(0)])
    assert np.abs(bounds - true.bounds).max() < 0.02 * np.ptp(true.bounds, axis=0).max()
    look_at(blender, "From Pictures")
    until(lambda: redness(blender.picture(blender.root / "pictures.png")) > 0.002, 60, "something red in the viewport")
    photograph(blender, "pictures-done", VIEW)
    blender.ask("for c in list(bpy.data.cameras):\n    if c.name.startswith('Eye'): bpy.data.cameras.remove(c)")
