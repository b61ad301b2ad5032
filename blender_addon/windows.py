"""Windows: has what has changed in them drawn anew, and nothing else."""

import bpy


def redraw(kind: str = "VIEW_3D") -> None:
    """Draw the areas of a kind anew: of 3D viewports the sidebar alone, as the view itself is slow."""
    for window in bpy.context.window_manager.windows:
        for area in window.screen.areas:
            for region in area.regions if area.type == kind else ():
                if kind != "VIEW_3D" or region.type == "UI":
                    region.tag_redraw()
