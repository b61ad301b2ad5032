"""Reconstruction: the button that makes an object from photographs: those of the selected cameras, or a transforms.json."""

import functools
from pathlib import Path
from typing import Any

import bpy
from bpy.app.translations import pgettext_rpt as translate

from . import descriptions, operators, pictures, properties
from .descriptions import PICTURES, PIXELS, SAMPLED


class PULLBACK_OT_object_from_pictures(operators.Generate):
    """Make a textured mesh of what the background images of the selected cameras show, where they show it"""

    bl_idname = "pullback.object_from_pictures"
    bl_label = "Object from Pictures"

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        if context.scene.pullback.pictures or pictures.selected(context):
            return True
        cls.poll_message_set("Select cameras with background images, or choose a transforms.json")
        return False

    def requests(self, context: bpy.types.Context) -> list[tuple[Any, ...]]:
        chosen = context.scene.pullback.pictures
        request, place = reconstructing(context), {"scene": context.scene.name, "location": (0.0, 0.0, 0.0)}
        if chosen:
            path = Path(bpy.path.abspath(chosen))
            if not path.exists():
                raise ValueError(translate("The file {path} does not exist").format(path=path))
            request["options"]["source"] = str(path)
            folder = path if path.is_dir() else path.parent
            return [(request, place | {"name": folder.resolve().name[:60]})]
        found = pictures.photographs(context)
        copy = functools.partial(pictures.write, found=found, render=context.scene.render)
        return [(request, place | {"name": translate("From Pictures")}, copy)]


def reconstructing(context: bpy.types.Context) -> dict[str, Any]:
    """What the panel's settings ask for. ValueError says what is wrong, before anything starts."""
    mine = context.scene.pullback
    values = {
        name.removeprefix(PICTURES): properties.value_of(mine, name, each)
        for name, each in descriptions.pictures().items()
    }
    sampled = values["method"] == SAMPLED
    if mine.model == "SERVER":
        text = translate("Pictures need the worker: choose another model than ComfyUI Server")
        raise ValueError(text)
    if sampled and not mine.prompt.strip():
        raise ValueError(
            translate("The method {method} needs a prompt: say what the pictures show").format(method=SAMPLED)
        )
    texts = {"prompt": mine.prompt.strip(), "negative": mine.negative.strip()} if sampled else {}
    model = operators.drawing_model(mine)
    options = operators.making(mine, descriptions.first(descriptions.Makes.OBJECT))
    return {
        "kind": descriptions.RECONSTRUCTION,
        "settings": {**texts, "seed": mine.seed, **values},
        "options": {**options, **model, **({} if sampled else {"model": PIXELS})},
    }


def draw(layout: bpy.types.UILayout, context: bpy.types.Context) -> None:
    """Where the pictures are, how the object is made of them, and the button."""
    mine = context.scene.pullback
    column = layout.column(align=True)
    column.prop(mine, "pictures", text="", icon="FILE_FOLDER", placeholder="the selected cameras")
    if not mine.pictures:
        cameras = pictures.selected(context)
        text = translate("{count} of {all} selected have pictures")
        text = text.format(count=len(pictures.with_pictures(cameras)), all=len(cameras))
        column.label(text=text, icon="CAMERA_DATA", translate=False)
    column = layout.column(align=True)
    for name in ("method", "size", "grid"):
        column.prop(mine, PICTURES + name)
    row = layout.row()
    row.scale_y = 1.6
    row.operator("pullback.object_from_pictures", icon="OUTLINER_OB_CAMERA")


def draw_advanced(column: bpy.types.UILayout, mine: bpy.types.PropertyGroup) -> None:
    """All other settings."""
    for name in ("field", "steps", "finetune"):
        column.prop(mine, PICTURES + name)
    if mine.pictures_method == SAMPLED:
        for name in ("views", "guidance", "front"):
            column.prop(mine, PICTURES + name)


def register() -> None:
    bpy.utils.register_class(PULLBACK_OT_object_from_pictures)


def unregister() -> None:
    bpy.utils.unregister_class(PULLBACK_OT_object_from_pictures)
