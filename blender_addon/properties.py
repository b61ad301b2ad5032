"""Properties: everything that the panel lets a user set, in one group on the scene, saved with the .blend file."""

import random

import bpy
from bpy.props import BoolProperty, EnumProperty, FloatProperty, IntProperty, PointerProperty, StringProperty

from . import presets

PRESETS = {
    quality.upper(): {
        **{name: presets.SETTINGS["object"][quality][name] for name in ("steps", "views")},
        "panorama_views": presets.SETTINGS["panorama"][quality]["views"],
        **{name: presets.OPTIONS["object"][quality][name] for name in ("faces", "texture", "resolution")},
    }
    for quality in presets.QUALITIES
}
NORMAL = PRESETS["NORMAL"]
QUALITIES = (
    ("DRAFT", "Draft", "See quickly what a prompt gives: few steps, a light mesh, a small texture"),
    ("NORMAL", "Normal", "A good object in some minutes"),
    ("FINE", "Fine", "For keeping: twice the steps, three times the faces, twice the texture"),
    ("CUSTOM", "Custom", "Whatever stands under Advanced"),
)


def _quality(settings: "PullbackSettings") -> int:
    """The preset that the values are those of; no preset can be shown that is not in force."""
    for number, values in enumerate(PRESETS.values()):
        if all(getattr(settings, name) == value for name, value in values.items()):
            return number
    return len(PRESETS)


def _set_quality(settings: "PullbackSettings", number: int) -> None:
    name = QUALITIES[number][0]
    for key, value in PRESETS.get(name, {}).items():
        setattr(settings, key, value)


def _checkpoints(_settings: "PullbackSettings", context: bpy.types.Context, typed: str) -> list[str]:
    from . import server

    return [name for name in server.known_checkpoints() if typed.lower() in name.lower()]


class PullbackSettings(bpy.types.PropertyGroup):
    """What to draw, how well, and with which model."""

    prompt: StringProperty(name="Prompt", description="What to draw, for example: a red mushroom", maxlen=2000)
    negative: StringProperty(name="Negative Prompt", description="What to keep away from", maxlen=2000)
    seed: IntProperty(name="Seed", description="The same seed gives the same result", default=0, min=0)
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

    panorama_width: IntProperty(
        name="Width", description="Pixels around the world", default=4096, min=8, max=65536, subtype="PIXEL"
    )
    image_size: IntProperty(
        name="Size", description="Pixels of the image's side", default=2048, min=16, max=16384, subtype="PIXEL"
    )

    steps: IntProperty(
        name="Steps", description="Noise levels to go through: more is finer and slower", default=NORMAL["steps"],
        min=1, max=1000, soft_max=100,
    )  # fmt: skip
    views: IntProperty(
        name="Views",
        description="Sides of an object that are looked at per step",
        default=NORMAL["views"],
        min=1,
        max=64,
    )
    panorama_views: IntProperty(
        name="Panorama Views", description="Directions of a panorama that are looked at per step",
        default=NORMAL["panorama_views"], min=1, max=64,
    )  # fmt: skip
    guidance: FloatProperty(
        name="Guidance",
        description="How strictly objects and panoramas follow the prompt: 0 not at all, 1 as trained, more exaggerates",
        default=presets.GUIDANCE["object"],
        min=0.0,
        max=100.0,
        soft_max=15.0,
    )
    image_guidance: FloatProperty(
        name="Image Guidance",
        description="How strictly images follow the prompt",
        default=presets.GUIDANCE["image"],
        min=0.0,
        max=100.0,
        soft_max=15.0,
    )
    eta: FloatProperty(
        name="Eta",
        description="Fresh noise per step: 0 none, 1 as much as was taken away",
        default=0.0,
        min=0.0,
        max=1.0,
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
    solver: EnumProperty(
        name="Solver",
        description="How the field is fitted at each step",
        items=(
            ("adam", "Adam", "Few passes, moments kept: quick and close"),
            ("paper", "Paper", "200 plain Adam passes a step: for comparison, slow"),
            ("gauss-newton", "Gauss-Newton", "For image textures only"),
        ),
    )
    faces: IntProperty(
        name="Faces", description="Triangles of the mesh, at most", default=NORMAL["faces"], min=100, max=1_000_000
    )
    texture: IntProperty(
        name="Texture", description="Pixels of the texture's side", default=NORMAL["texture"], min=16, max=8192,
        subtype="PIXEL",
    )  # fmt: skip
    resolution: IntProperty(
        name="Grid", description="Cells of a side of the grid in which the surface is found: more shows finer detail",
        default=NORMAL["resolution"], min=16, max=512,
    )  # fmt: skip
    device: StringProperty(
        name="Device", description="Where the model runs in the worker: cpu, cuda, mps", default="cpu", maxlen=32
    )


EXPECT = {
    "TOYBOX": "Block-outs: 24 objects, 10 colors, 6 landscapes",
    "FOLDER": "Needs diffusers and, for minutes instead of hours, a graphics card: set Device to cuda and Guidance to 7",
}
"""What a model can do and what it needs, in a line or two."""


def new_seed() -> int:
    """A seed that nobody chose, from 0 to 2^31 - 1."""
    return random.SystemRandom().randrange(2**31)


def register() -> None:
    bpy.utils.register_class(PullbackSettings)
    bpy.types.Scene.pullback = PointerProperty(type=PullbackSettings)


def unregister() -> None:
    del bpy.types.Scene.pullback
    bpy.utils.unregister_class(PullbackSettings)
