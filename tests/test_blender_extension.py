"""The extension in Blender's own hands, without a window: installed from its zip, used, disabled; nothing is left."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("bpy") is None, reason="needs Blender as a module: pip install bpy==5.0.1 (Python 3.11)"
)
ROOT = Path(__file__).parents[1]

SESSION = """
import json, sys, bpy, addon_utils
from pathlib import Path

def children():
    found = []
    for file in Path("/proc/self/task").glob("*/children"):
        try:
            found += file.read_text().split()
        except FileNotFoundError:  # a thread that ended meanwhile
            pass
    return sorted(found)

def seen():
    return {
        "types": sorted(n for n in dir(bpy.types) if "pullback" in n.lower()),
        "operators": sorted(n for n in dir(bpy.ops) if n == "pullback"),
        "properties": sorted(f"{owner.__name__}.{n}" for owner in (bpy.types.Scene, bpy.types.WindowManager, bpy.types.Object)
                             for n in owner.bl_rna.properties.keys()),
        "handlers": {n: len(h) for n in dir(bpy.app.handlers) if isinstance(h := getattr(bpy.app.handlers, n), list)},
        "children": children(),
    }

bpy.ops.wm.read_factory_settings(use_empty=True)
before = seen()
bpy.ops.extensions.package_install_files(filepath=sys.argv[1], repo="user_default", enable_on_install=True)
name = "bl_ext.user_default.pullback"
bpy.context.preferences.addons[name].preferences.interpreter = sys.executable
settings = bpy.context.scene.pullback
settings.prompt = "a red ball"
made = []
result = bpy.ops.pullback.generate_object()
made.append([o.name for o in bpy.context.scene.objects])
bpy.context.scene.objects[0].select_set(True)
remeshed = bpy.ops.pullback.remesh()
settings.prompt = "sea at noon"
world = bpy.ops.pullback.generate_panorama()
settings.prompt = "a fish"
image = bpy.ops.pullback.generate_image()
settings.prompt, failure = "unicorn", ""
try:
    bpy.ops.pullback.generate_object()
except RuntimeError as error:
    failure = str(error)
during = seen()
addon_utils.disable(name, default_set=True)
import time
deadline = time.monotonic() + 5
while children() != before["children"] and time.monotonic() < deadline:
    time.sleep(0.05)
thing = bpy.context.scene.objects[0]
print("TOLD " + json.dumps({
    "before": before, "during": during, "after": seen(), "made": made, "failure": failure,
    "results": [sorted(r) for r in (result, remeshed, world, image)], "world": bpy.context.scene.world.name,
    "textures": [n.image.name for n in thing.active_material.node_tree.nodes if n.type == "TEX_IMAGE"],
    "field": Path(thing["pullback_field"]).is_file(),
}))
"""


def _zip(folder: Path) -> Path:
    """The files that `blender --command extension build` would pack."""
    path = folder / "pullback.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for file in (ROOT / "blender_addon").rglob("*"):
            if file.is_file() and "__pycache__" not in file.parts:
                archive.write(file, file.relative_to(ROOT / "blender_addon"))
    return path


def test_installed_used_and_disabled_it_leaves_nothing(tmp_path):
    environment = os.environ | {
        "BLENDER_USER_RESOURCES": str(tmp_path / "user"), "PYTHONPATH": str(Path(__file__).parent / "stand_in")}  # fmt: skip
    done = subprocess.run([sys.executable, "-c", SESSION, str(_zip(tmp_path))], capture_output=True, text=True,
                          env=environment, timeout=300)  # fmt: skip
    told = next((json.loads(line[5:]) for line in done.stdout.splitlines() if line.startswith("TOLD ")), None)
    assert told is not None, done.stdout[-2000:] + done.stderr[-2000:]
    assert told["made"] == [["a red ball"]] and told["results"] == [["FINISHED"]] * 4
    assert told["world"] == "sea at noon" and told["textures"] == ["a fish"] and told["field"]
    assert "toybox cannot draw this" in told["failure"], "without a window the operator says why it failed"
    assert told["during"]["types"] and "Scene.pullback" in told["during"]["properties"]
    assert told["after"] == told["before"]
