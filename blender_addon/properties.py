"""Properties: everything that the panel lets a user set, in one group on the scene, saved with the .blend file.

The name, default, range, unit and tooltip of a setting come from `descriptions`. The properties that only Blender needs are here.
"""

import math
import random
from typing import Any

import bpy
from bpy.props import BoolProperty, EnumProperty, FloatProperty, IntProperty, PointerProperty, StringProperty

from . import descriptions, learned, presets, regions
from .descriptions import RUN, Kind, Makes, Representation, Setting

LARGEST = 2**31 - 1
"""The largest integer of Blender's properties."""
QUALITIES = (
    ("DRAFT", "Draft", "See quickly what a prompt gives: few steps, a light mesh, a small texture"),
    ("NORMAL", "Normal", "A good object in some minutes"),
    ("FINE", "Fine", "For keeping: twice the steps, three times the faces, twice the texture"),
    ("CUSTOM", "Custom", "The values set under Advanced"),
)


def preset(quality: str) -> dict[str, int]:
    """Return the values of the properties that a quality sets."""
    made = dict(presets.options(descriptions.first(Makes.OBJECT), quality))
    for kind in descriptions.kinds().values():
        run = presets.settings(kind, quality)
        made |= {"steps": run["steps"], **({kind.prop("views"): run["views"]} if "views" in run else {})}
    return made


def _quality(settings: "PullbackSettings") -> int:
    """Return the index of the preset that matches the current values, or of Custom if none does."""
    for number, quality in enumerate(presets.QUALITIES):
        if all(getattr(settings, name) == value for name, value in preset(quality).items()):
            return number
    return len(presets.QUALITIES)


def _set_quality(settings: "PullbackSettings", number: int) -> None:
    if number < len(presets.QUALITIES):
        for key, value in preset(presets.QUALITIES[number]).items():
            setattr(settings, key, value)


def _checkpoints(_settings: "PullbackSettings", context: bpy.types.Context, typed: str) -> list[str]:
    from . import server

    return [name for name in server.known_checkpoints() if typed.lower() in name.lower()]


class PullbackSettings(bpy.types.PropertyGroup):
    """What to draw, how well, and with which model."""

    prompt: StringProperty(name="Prompt", description="What to draw, for example: a red mushroom", maxlen=2000)
    negative: StringProperty(name="Negative Prompt", description="What to keep away from", maxlen=2000)
    quality: EnumProperty(
        name="Quality",
        description="How much work to spend; sets the values under Advanced",
        items=QUALITIES,
        translation_context="Pullback",  # else Blender's own words for Normal and Fine would win
        get=_quality,
        set=_set_quality,
    )
    variants: IntProperty(
        name="Seeds",
        description="How many objects to lay out in a row, each with its own seed",
        default=4,
        min=2,
        max=64,
    )

    model: EnumProperty(
        name="Model",
        description="Which image model draws",
        items=(
            (
                "TOYBOX",
                "Toybox",
                "Built in and small: simple shapes for blocking out and for trying things, no finished assets",
            ),
            (
                "FOLDER",
                "Diffusers Folder",
                "A Stable Diffusion folder or .safetensors file on this machine: any prompt",
            ),
            ("SERVER", "ComfyUI Server", "A checkpoint of a ComfyUI server that has Pullback's nodes"),
        ),
    )
    model_path: StringProperty(
        name="Folder",
        description="A diffusers folder (it holds model_index.json), or a .safetensors checkpoint whose family's "
        "configuration is in Hugging Face's cache",
        subtype="FILE_PATH",
    )
    checkpoint: StringProperty(
        name="Checkpoint",
        description="The name of a checkpoint as the server lists it, or toybox",
        default="toybox",
        search=_checkpoints,
        search_options={"SUGGESTION"},
    )

    world_model: EnumProperty(
        name="World Model",
        description="How a panorama world is drawn",
        items=(
            ("VIEWS", "In Views", "The model above draws views that agree: any of its prompts, in detail"),
            (
                "SPHERE",
                "Whole Sphere at Once",
                "A small model of panoramas, built in: its 6 landscapes in seconds, in less detail",
            ),
        ),
    )

    repaint: BoolProperty(
        name="RePaint",
        description="Walk back and forth between noise levels, so that views agree better; takes longer",
        default=False,
    )
    repaint_jump: IntProperty(name="Jump", description="Noise levels to go back at a time", default=1, min=1, max=100)
    repaint_repeats: IntProperty(
        name="Repeats", description="How often each stretch is walked", default=2, min=2, max=20
    )
    material_repeats: FloatProperty(
        name="Repeats",
        description="How often a new material repeats across the object; afterwards its Mapping node says so",
        default=1.0,
        min=0.01,
        soft_max=20.0,
        max=1000.0,
    )
    pictures: StringProperty(
        name="Poses",
        description="A transforms.json, or a folder with COLMAP's text files. Empty: the selected cameras and their "
        "background images",
        subtype="FILE_PATH",
    )
    device: StringProperty(
        name="Device", description="Where the model runs in the worker: cpu, cuda, mps", default="cpu", maxlen=32
    )


EXPECT = {
    "TOYBOX": "Block-outs: 24 objects, 10 colors, 6 landscapes",
    "FOLDER": "Needs diffusers and, for minutes instead of hours, a graphics card: set Device to cuda and Guidance to 7",
}
"""What each model can do and what it needs, in a line or two."""


def new_seed() -> int:
    """Draw a random seed from 0 to 2^31 - 1."""
    return random.SystemRandom().randrange(2**31)


SOLVERS = {
    "adam": "Few passes, moments kept: quick and close",
    "paper": "200 plain Adam passes a step: for comparison, slow",
    "gauss-newton": "For image textures only",
}
METHODS = {
    "nerf": "The pictures alone",
    "diet": "What the pictures mean, too",
    "pullback": "What no picture shows is sampled, for the prompt; toybox needs pictures with transparency",
}
CHOICES = {"solver": SOLVERS, "method": METHODS}
"""Tooltips for the choices of settings, by the names of the settings."""


def property_of(setting: Setting) -> Any:
    """Return a Blender property for a setting."""
    more: dict[str, Any] = {"name": setting.label, "description": setting.tooltip}
    if isinstance(setting.default, str):
        says = CHOICES.get(setting.name, {})
        items = [(word, word.title(), says.get(word, "")) for word in setting.choices]
        return EnumProperty(items=items, default=setting.default, **more)
    if isinstance(setting.default, int):
        low, high = (int(max(-LARGEST, min(each, LARGEST))) for each in (setting.low, setting.high))
        subtype = "PIXEL" if setting.unit == "pixels" else "NONE"
        return IntProperty(default=setting.default, min=low, max=high, step=int(setting.step), subtype=subtype, **more)
    unit, subtype = (math.pi / 180, "ANGLE") if setting.unit == "degrees" else (1.0, "NONE")
    limits = {name: each * unit for name, each in (("min", setting.low), ("max", setting.high)) if math.isfinite(each)}
    step = 100 * setting.step  # Blender's steps are hundredths, for angles hundredths of a degree
    return FloatProperty(default=setting.default * unit, step=round(step), subtype=subtype, **limits, **more)


def value_of(settings: PullbackSettings, name: str, setting: Setting) -> int | float | str:
    """Return the value of a property, in the setting's unit."""
    value = getattr(settings, name)
    if isinstance(setting.default, float):  # Blender stores it in single precision
        return round(math.degrees(value) if setting.unit == "degrees" else value, 4)
    return value


def settings_of(kind: Kind) -> dict[str, Setting]:
    """Return the settings of a kind by the names of their properties."""
    return {kind.prop(name): each for name, each in {**kind.own, **kind.made, **kind.of_run}.items()}


def choice_of(kind: Kind) -> Setting:
    """Return a setting that chooses one of a kind's representations."""
    words = kind.words
    says = "; ".join(f"{word}: {(each.means or each.sentence).removesuffix('.')}" for word, each in words.items())
    return Setting(kind.usual.option, next(iter(words)), says, choices=tuple(words))


def chosen(settings: PullbackSettings, kind: Kind) -> Representation:
    """Return the representation that is chosen for a kind, or its usual one if that does not exist any more."""
    word = getattr(settings, kind.prop(kind.usual.option), "")
    return kind.words.get(word, kind.usual)


_offered: set[str] = set()


def offer() -> None:
    """Add the properties of all known kinds. None is removed until the extension is disabled: Blender would crash because
    panels on the screen refer to it. The .blend file keeps the values in any case."""
    wanted = {name: RUN[name] for name in ("seed", "steps", "eta", "solver")}
    for kind in descriptions.kinds().values():
        wanted = {**settings_of(kind), **wanted}
        if len(kind.choices) > 1:
            wanted[kind.prop(kind.usual.option)] = choice_of(kind)
    wanted |= descriptions.pictures()
    made = {name: property_of(setting) for name, setting in wanted.items()}
    for kind in descriptions.kinds().values():
        made = {**regions.properties_of(kind), **made}
    for name in made.keys() - _offered - PullbackSettings.__annotations__.keys():
        setattr(PullbackSettings, name, made[name])
        _offered.add(name)


def register() -> None:
    learned.recall()
    bpy.utils.register_class(PullbackSettings)
    offer()
    learned.then.append(offer)
    bpy.types.Scene.pullback = PointerProperty(type=PullbackSettings)


def unregister() -> None:
    del bpy.types.Scene.pullback
    learned.then.remove(offer)
    while _offered:
        delattr(PullbackSettings, _offered.pop())
    bpy.utils.unregister_class(PullbackSettings)
