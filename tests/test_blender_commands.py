"""The batch in a real Blender, without its window: `blender --command pullback` and `blender -b --python batch.py`."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent / "window"))

from desktop import PYTHON, REPOSITORY, desktop, missing, until

pytestmark = pytest.mark.skipif(bool(missing()), reason=missing() or "can run")

COMMAND = "blender --command pullback"
SCRIPT = f"blender -b --python-exit-code 1 --python {REPOSITORY}/blender_addon/batch.py --"
QUICK = ("--steps 2 --views 3 --guidance 1 --faces 600 --texture 64 --resolution 48 --bake-views 8 --bake-size 64 "
         "--samples 2")  # fmt: skip
LOOK = """
import bpy, json
bpy.ops.wm.open_mainfile(filepath={path!r})
(thing,) = bpy.context.scene.objects
image = next(n.image for n in thing.active_material.node_tree.nodes if n.type == "TEX_IMAGE")
print("FOUND " + json.dumps([thing.name, len(thing.data.polygons) > 100, image.size[0], bool(image.packed_file)]))
"""


@pytest.fixture(scope="module")
def blender(tmp_path_factory):
    """A Blender with the extension installed, and no screen."""
    with desktop(tmp_path_factory.mktemp("commands"), screen=False) as made:
        made.install()
        yield made


@pytest.mark.parametrize("way", [COMMAND, SCRIPT], ids=["command", "script"])
def test_a_real_object_and_its_picture(blender, way):
    pytest.importorskip("torch")
    folder = blender.root / ("command" if way is COMMAND else "script")
    done = blender.run(
        f"{way} --prompt 'a red ball' -o {folder}/a.blend --render {folder}/a.png --python {PYTHON} {QUICK}", 600
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"Saved: '{folder}/a.blend'" in done.stdout and "1 of 1 done" in done.stdout
    assert (folder / "a.png").stat().st_size > 10_000
    look = blender.root / "look.py"
    look.write_text(LOOK.format(path=str(folder / "a.blend")))
    assert 'FOUND ["a red ball", true, 64, true]' in blender.tool(f"blender -b --python-exit-code 1 --python {look}")


@pytest.mark.parametrize("way", [COMMAND, SCRIPT], ids=["command", "script"])
def test_codes_and_sentences(blender, way):
    """Of two jobs one fails: 1, and what is there is there. Wrong arguments: 2, with a reason."""
    folder = blender.root / ("codes-command" if way is COMMAND else "codes-script")
    line = f"{way} --python {blender.stand_in()} -o '{folder}/{{prompt}}.glb' --prompt 'a red ball'"
    done = blender.run(f"{line} --prompt unicorn")
    assert done.returncode == 1 and (folder / "a-red-ball.glb").exists(), done.stderr
    assert 'Failed: object "unicorn" (seed 0): toybox cannot draw this' in done.stderr
    assert "1 of 2 done" in done.stdout and "Traceback" not in done.stderr
    assert blender.run(f"{line} --resume").returncode == 0
    done = blender.run(f"{way} --prompt a -o a.obj")
    assert done.returncode == 2 and "should end in .blend or" in done.stderr and "Traceback" not in done.stderr
    assert blender.run(way).returncode == 2


@pytest.mark.parametrize("way", [COMMAND, SCRIPT], ids=["command", "script"])
def test_ctrl_c_stops_and_resume_goes_on(blender, way):
    out = blender.root / ("c-command.glb" if way is COMMAND else "c-script.glb")
    line = f"{way} --python {blender.stand_in()} -o {out} --prompt 'a waiting ball'"
    process = blender.popen(line)
    until(lambda: out.with_name(f"{out.name}.run").exists(), 60, "a run")
    os.kill(process.pid, signal.SIGINT)
    said, why = process.communicate(timeout=20)
    assert process.returncode == 130 and "the same command with --resume continues" in why, (said, why)
    done = blender.run(f"{line} --resume")
    assert done.returncode == 0 and out.exists() and "sampling, 3 of 6" in done.stdout, done.stdout


def test_a_system_python_without_venv_is_said(blender):
    """Debian's Blender brings no venv: Create Environment says which package to install, and leaves nothing."""
    extension = next(blender.home.rglob("blender_manifest.toml")).parent
    wheel = extension / "pullback-0.4.0-py3-none-any.whl"
    wheel.touch()
    try:
        make = "import bpy; bpy.ops.pullback.create_environment()"
        done = blender.run(f"blender -b --online-mode --python-exit-code 1 --python-expr '{make}'")
    finally:
        wheel.unlink()
    assert done.returncode == 1 and "install the package python3-venv and try again" in done.stderr, done.stderr
    assert not list(blender.home.rglob("pyvenv.cfg"))
