"""Labels: texts that wrap, which Blender's own labels do not."""

import textwrap

import bpy


def lines(column: bpy.types.UILayout, text: str, width: int, icon: str = "NONE") -> None:
    """Draw a text wrapped to a width in pixels. The icon is drawn before the first line, and the other lines are indented."""
    broken = textwrap.wrap(text[:1].upper() + text[1:], max(16, int((width - 50) / (6.6 * scale()))))
    narrow = column.column(align=True)
    narrow.scale_y = 0.8
    for number, line in enumerate(broken):
        narrow.label(text=line, icon=icon if number == 0 or icon == "NONE" else "BLANK1", translate=False)


def scale() -> float:
    """Return the scale of Blender's interface. 1 is the default."""
    return bpy.context.preferences.system.ui_scale
