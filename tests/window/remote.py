"""Runs inside Blender: does what files in a folder say, on the main thread, and writes down what came of it.

`blender --python remote.py -- FOLDER`. A file N.in holds Python; what it assigns to `result` comes back as JSON in
N.out, or the exception's text in N.err.
"""

import json
import sys
import traceback
from pathlib import Path

import bpy

FOLDER = Path(sys.argv[sys.argv.index("--") + 1])


def region(kind: str = "UI") -> tuple:
    """Window, area and region of the first 3D viewport."""
    window = bpy.context.window_manager.windows[0]
    area = next(area for area in window.screen.areas if area.type == "VIEW_3D")
    return window, area, next(region for region in area.regions if region.type == kind)


def hovered() -> str:
    """What lies under the mouse in the sidebar: the name of a property, or the call of an operator."""
    window, area, place = region()
    with bpy.context.temp_override(window=window, area=area, region=place):
        found = bpy.context.property
        if found:
            return found[1]
        if not bpy.ops.ui.copy_python_command_button.poll():
            return ""
        bpy.ops.ui.copy_python_command_button()
        return bpy.context.window_manager.clipboard


def look() -> float:
    """Answer what has been asked."""
    for question in sorted(FOLDER.glob("*.in"), key=lambda path: int(path.stem)):
        names = {"bpy": bpy, "region": region, "hovered": hovered, "result": None}
        try:
            exec(question.read_text(), names)
            end, text = ".out", json.dumps(names["result"])
        except Exception:  # noqa: BLE001
            end, text = ".err", traceback.format_exc()
        part = question.with_suffix(".part")
        part.write_text(text)
        question.unlink()
        part.replace(question.with_suffix(end))
    return 0.03


bpy.context.preferences.view.show_splash = False  # it would lie above the viewport
bpy.app.timers.register(look, first_interval=0.5, persistent=True)
