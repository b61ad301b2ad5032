"""Labels: texts that are longer than their place is wide: Blender's own do not wrap."""

import textwrap

import bpy


def lines(column: bpy.types.UILayout, text: str, width: int, icon: str = "NONE") -> None:
    """A text broken to a width in pixels; an icon stands before its first line, and the others below that one."""
    broken = textwrap.wrap(text[:1].upper() + text[1:], max(16, int((width - 50) / (6.6 * scale()))))
    narrow = column.column(align=True)
    narrow.scale_y = 0.8
    for number, line in enumerate(broken):
        narrow.label(text=line, icon=icon if number == 0 or icon == "NONE" else "BLANK1", translate=False)


def scale() -> float:
    """How much larger than usual the user wants everything."""
    return bpy.context.preferences.system.ui_scale
