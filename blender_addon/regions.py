"""Regions: sentences about parts of what is sampled, as lists in the panel, saved with the .blend file."""

import math
from typing import Any

import bpy
from bpy.app.translations import pgettext_rpt as translate
from bpy.props import BoolProperty, CollectionProperty, EnumProperty, FloatProperty, IntProperty, StringProperty

from . import descriptions
from .descriptions import Kind, Makes

BOX = ("left", "top", "width", "height")
AROUND = ("azimuth", "elevation", "angular_width", "angular_height")
SIDE = ("azimuth", "elevation")
SLACK = 1e-6
"""Tolerance for rounding errors in sums."""
MOST = 64
"""The largest number of regions in a list, the same as in a guide (`core/pullback/regions.py`)."""


class PullbackRegion(bpy.types.PropertyGroup):
    """A sentence and the part that it describes: a box in a picture or a panorama, or a side of an object."""

    text: StringProperty(
        name="Sentence", description="What this part should show, for example: a red mushroom", maxlen=500
    )
    everywhere: BoolProperty(name="Everywhere", description="The sentence is about the whole result", default=False)
    left: FloatProperty(name="Left", description="Left edge of the box, in percent of the picture's width",
                        subtype="PERCENTAGE", precision=1, default=25.0, min=0.0, max=98.0)  # fmt: skip
    top: FloatProperty(name="Top", description="Upper edge of the box, in percent of the picture's height",
                       subtype="PERCENTAGE", precision=1, default=25.0, min=0.0, max=98.0)  # fmt: skip
    width: FloatProperty(name="Width", description="Width of the box, in percent of the picture's",
                         subtype="PERCENTAGE", precision=1, default=50.0, min=2.0, max=100.0)  # fmt: skip
    height: FloatProperty(name="Height", description="Height of the box, in percent of the picture's",
                          subtype="PERCENTAGE", precision=1, default=50.0, min=2.0, max=100.0)  # fmt: skip
    azimuth: FloatProperty(
        name="Azimuth",
        description="Direction seen from above. Objects: 0 is the front, 90 the side at +X. Worlds: 0 is +X, 90 is +Y",
        subtype="ANGLE",
        default=0.0,
        min=-math.tau,
        max=math.tau,
    )
    elevation: FloatProperty(
        name="Elevation",
        description="Angle above the horizon",
        subtype="ANGLE",
        default=0.0,
        min=-math.pi / 2,
        max=math.pi / 2,
    )
    angular_width: FloatProperty(name="Width", description="Angle from the left to the right edge of the box",
                                 subtype="ANGLE", default=math.radians(60), min=math.radians(6), max=math.tau)  # fmt: skip
    angular_height: FloatProperty(name="Height", description="Angle from the lower to the upper edge of the box",
                                  subtype="ANGLE", default=math.radians(60), min=math.radians(3), max=math.pi)  # fmt: skip
    weight: FloatProperty(name="Weight", description="How much this region counts. 0: not at all", default=1.0, min=0.0,
                          soft_max=4.0, max=100.0)  # fmt: skip


def places_of(kind: Kind) -> tuple[str, ...]:
    """Return the names of the properties that say where a region of this kind is."""
    if kind.makes is Makes.OBJECT:
        return SIDE
    return AROUND if kind.usual.closed == (False, True) else BOX


def list_of(settings: bpy.types.PropertyGroup, kind: Kind) -> Any:
    """Return the regions of a kind."""
    return getattr(settings, kind.prop("regions"))


def guide(settings: bpy.types.PropertyGroup, kind: Kind) -> list[str]:
    """Return the regions of a kind in the format of a job's guide (docs/command-line.md). Raise ValueError if one is wrong."""
    return [_line(region, kind) for region in list_of(settings, kind)]


def _line(region: PullbackRegion, kind: Kind) -> str:
    text, weight = region.text.strip(), round(region.weight, 3)
    if not text:
        raise ValueError(translate("A region has no sentence: say what it should show, or remove it (see Advanced)"))
    if region.everywhere:
        return f"*{weight:g}: {text}"  # with the weight even if it is 1, because a sentence may begin like a box
    _check(region, kind, text)
    place = ",".join(f"{each:g}" for each in _numbers(region, places_of(kind)))
    return f"{place}: {text}" if weight == 1 else f"{place}*{weight:g}: {text}"


def _numbers(region: PullbackRegion, names: tuple[str, ...]) -> list[float]:
    """Return percentages as fractions, and angles in degrees. They are rounded because Blender stores single precision."""
    if names is BOX:
        return [round(getattr(region, name) / 100, 5) for name in names]
    return [round(math.degrees(getattr(region, name)), 2) for name in names]


def _check(region: PullbackRegion, kind: Kind, text: str) -> None:
    """Raise ValueError if a box reaches over an edge that is not joined to the opposite one."""
    names = places_of(kind)
    if names is SIDE:
        return
    across, down, width, height = _numbers(region, names)
    if names is AROUND:
        outside = abs(down) + height / 2 > 180 / (kind.usual.aspect or 2) + SLACK
    else:
        closed = kind.usual.closed or (False, False)
        outside = down + height > 1 + SLACK or (across + width > 1 + SLACK and not closed[1])
    if outside:
        message = translate('The region "{text}" reaches over the edge of the picture: move it, or make it smaller')
        raise ValueError(message.format(text=text[:40]))


def summary(region: PullbackRegion, kind: Kind) -> str:
    """Return a short text for a row of the list: the size of a box, or a direction."""
    if region.everywhere:
        return translate("everywhere")
    names = places_of(kind)
    first, second, *size = _numbers(region, names)
    return f"{100 * size[0]:.0f} x {100 * size[1]:.0f} %" if names is BOX else f"{first:.0f}°, {second:.0f}°"


# The lists


class PULLBACK_UL_regions(bpy.types.UIList):
    """The regions of a kind: sentence and place."""

    def draw_item(
        self, context: bpy.types.Context, layout: bpy.types.UILayout, data: Any, item: Any, icon: int, active: Any,
        active_property: str,
    ) -> None:  # fmt: skip
        kind = next(each for each in descriptions.kinds().values() if each.prop("region") == active_property)
        row = layout.split(factor=0.6)
        row.prop(item, "text", text="", emboss=False, placeholder="a red mushroom")
        row.label(text=summary(item, kind), translate=False)


class OfList(bpy.types.Operator):
    """An operator on the regions of a kind."""

    bl_options = {"INTERNAL", "UNDO"}

    noun: StringProperty(name="Kind", description="What the regions are for", options={"SKIP_SAVE"})

    def execute(self, context: bpy.types.Context) -> set[str]:
        settings, kind = context.scene.pullback, descriptions.kinds()[self.noun]
        number = self.change(list_of(settings, kind), getattr(settings, kind.prop("region")))
        setattr(settings, kind.prop("region"), max(0, min(number, len(list_of(settings, kind)) - 1)))
        return {"FINISHED"}

    def change(self, regions: Any, active: int) -> int:
        """Change the list, and return the index of the new active region."""
        raise NotImplementedError


class PULLBACK_OT_add_region(OfList):
    """Add a region: a sentence about a part of the result"""

    bl_idname = "pullback.add_region"
    bl_label = "Add Region"

    def change(self, regions: Any, active: int) -> int:
        if len(regions) < MOST:
            regions.add()
        return len(regions) - 1


class PULLBACK_OT_remove_region(OfList):
    """Remove the active region"""

    bl_idname = "pullback.remove_region"
    bl_label = "Remove Region"

    def change(self, regions: Any, active: int) -> int:
        regions.remove(active)
        return active


class PULLBACK_OT_move_region(OfList):
    """Move the active region in the list. Their order does not change the result"""

    bl_idname = "pullback.move_region"
    bl_label = "Move Region"

    direction: EnumProperty(name="Direction", description="Where to", items=(("UP", "Up", ""), ("DOWN", "Down", "")))

    def change(self, regions: Any, active: int) -> int:
        to = active + (1 if self.direction == "DOWN" else -1)
        if not 0 <= to < len(regions):
            return active
        regions.move(active, to)
        return to


def draw(layout: bpy.types.UILayout, settings: bpy.types.PropertyGroup, kind: Kind) -> None:
    """Draw the list of a kind, and the active region below it."""
    regions, active = list_of(settings, kind), getattr(settings, kind.prop("region"))
    layout.label(text="Regions")
    row = layout.row()
    row.template_list(
        "PULLBACK_UL_regions", kind.noun, settings, kind.prop("regions"), settings, kind.prop("region"), rows=3
    )
    column = row.column(align=True)
    column.operator("pullback.add_region", text="", icon="ADD").noun = kind.noun
    if not regions:
        return
    column.operator("pullback.remove_region", text="", icon="REMOVE").noun = kind.noun
    for direction in ("UP", "DOWN") if len(regions) > 1 else ():
        move = column.operator("pullback.move_region", text="", icon=f"TRIA_{direction}")
        move.noun, move.direction = kind.noun, direction
    if active < len(regions):
        region, column = regions[active], layout.column(align=True)
        for name in ("text", "everywhere", *(() if region.everywhere else places_of(kind)), "weight"):
            column.prop(region, name)


def properties_of(kind: Kind) -> dict[str, Any]:
    """Return the properties that store the list of a kind."""
    return {
        kind.prop("regions"): CollectionProperty(type=PullbackRegion, name="Regions"),
        kind.prop("region"): IntProperty(name="Active Region", min=0, options={"HIDDEN"}),
    }


CLASSES = (
    PullbackRegion, PULLBACK_UL_regions, PULLBACK_OT_add_region, PULLBACK_OT_remove_region, PULLBACK_OT_move_region,
)  # fmt: skip


def register() -> None:
    for cls in CLASSES:
        bpy.utils.register_class(cls)


def unregister() -> None:
    for cls in reversed(CLASSES):
        bpy.utils.unregister_class(cls)
