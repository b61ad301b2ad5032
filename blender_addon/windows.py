"""Redraws the parts of Blender's windows that have changed."""

import bpy


def redraw(kind: str = "VIEW_3D") -> None:
    """Redraw all areas of a type. Of 3D viewports only the sidebar is redrawn, because drawing the scene is slow."""
    for window in bpy.context.window_manager.windows:
        for area in window.screen.areas:
            for region in area.regions if area.type == kind else ():
                if kind != "VIEW_3D" or region.type == "UI":
                    region.tag_redraw()
