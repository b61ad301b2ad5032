"""Shapes: the buttons that draft an object within seconds, and that make a NeRF object of such a draft."""

from typing import Any

import bpy
from bpy.app.translations import pgettext_rpt as translate

from . import descriptions, operators
from .descriptions import Makes


class PULLBACK_OT_draft_shape(operators.GenerateObject):
    """Draw a rough shape in one go, in seconds, and place it at the 3D cursor as a textured mesh"""

    bl_idname = "pullback.draft_shape"
    bl_label = "Draft Shape"

    def requests(self, context: bpy.types.Context) -> list[tuple[Any, ...]]:
        return [(drafting(context.scene.pullback), self.place(context))]


class PULLBACK_OT_nerf_from_shape(operators.Generate):
    """Sample a NeRF object that begins as this draft, for the draft's prompt and seed, and put its mesh in the draft's place"""

    bl_idname = "pullback.nerf_from_shape"
    bl_label = "NeRF from Shape"

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        if not is_draft(context.object):
            cls.poll_message_set("Select a draft that Draft Shape made")
            return False
        return True

    def requests(self, context: bpy.types.Context) -> list[tuple[Any, ...]]:
        obj = context.object
        if context.scene.pullback.model == "SERVER":
            raise ValueError(translate("A start needs the worker: choose another model than ComfyUI Server"))
        request = operators.sampling(context, descriptions.first(Makes.OBJECT), obj["pullback_prompt"])
        request["settings"] |= {"seed": int(obj["pullback_seed"]), "start": obj["pullback_model"]}
        place = {"scene": context.scene.name, "location": tuple(obj.location), "object": obj.name}
        return [(request, place)]


def is_draft(obj: bpy.types.Object | None) -> bool:
    """Return whether an object is a shape that has not become a NeRF object yet: it was sampled, but has no field."""
    return obj is not None and "pullback_prompt" in obj and "pullback_field" not in obj


def drafting(settings: bpy.types.PropertyGroup) -> dict[str, Any]:
    """Return the request of a shape with the panel's settings. Raise ValueError if one is wrong."""
    prompt = operators.prompt_of(settings)
    operators.refuse_negative(settings)
    made = operators.making(settings, descriptions.first(Makes.OBJECT))
    return {
        "kind": descriptions.SHAPE,
        "settings": {"prompt": prompt, "seed": settings.seed},
        "options": {
            **{name: made[name] for name in descriptions.OF_SHAPE},
            "model": descriptions.SHAPES,
            "device": settings.device or "cpu",
        },
    }


CLASSES = (PULLBACK_OT_draft_shape, PULLBACK_OT_nerf_from_shape)


def register() -> None:
    for cls in CLASSES:
        bpy.utils.register_class(cls)


def unregister() -> None:
    for cls in reversed(CLASSES):
        bpy.utils.unregister_class(cls)
