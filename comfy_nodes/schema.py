"""Schema: our socket types, and the inputs that several nodes share.

Saved graphs store widgets by their position and links by their slot. Ids are therefore never renamed, inputs and outputs are
only appended, and no widget is made optional or required later, because ComfyUI lists required widgets first.
`tests/test_comfy_nodes.py` compares every schema with a snapshot.
"""

from __future__ import annotations

import functools
from typing import Any

from comfy_api.latest import io

CATEGORY = "Pullback"
FIELD = io.Custom("PULLBACK_FIELD")
GUIDE = io.Custom("PULLBACK_GUIDE")
REGIONS = io.Custom("PULLBACK_REGIONS")
CLIP_GUIDE = io.Custom("PULLBACK_CLIP")
DECODER = io.Custom("PULLBACK_DECODER")

MAX_SEED = 0xFFFFFFFFFFFFFFFF
SOLVERS = ("adam", "paper", "gauss-newton")
SIDES = ("front", "side", "back", "overhead")


def limited(node: type[io.ComfyNode]) -> type[io.ComfyNode]:
    """Make a node check the limits of its numbers, and refuse NaN. ComfyUI does not check numbers that come from links."""
    execute = node.execute.__func__  # type: ignore[attr-defined]
    if hasattr(execute, "__wrapped__"):
        return node
    limits = {
        each.id: (each.min, each.max) for each in node.define_schema().inputs if getattr(each, "min", None) is not None
    }

    @functools.wraps(execute)
    def within(cls: Any, *args: Any, **inputs: Any) -> io.NodeOutput:
        for name, (low, high) in limits.items():
            value = inputs.get(name)
            if isinstance(value, (int, float)) and not low <= value <= high:
                raise ValueError(f"{name} is {value}; it must be between {low} and {high}")
        return execute(cls, *args, **inputs)

    node.execute = classmethod(within)  # type: ignore[assignment]
    return node


def field(
    tooltip: str = "The field: fresh from one of the representation nodes, sampled, or loaded.", lazy: bool = False
) -> io.Input:
    """Return a FIELD input. If it is lazy, the node requests it by `check_lazy_status`."""
    return FIELD.Input("field", tooltip=tooltip, lazy=lazy or None)


def field_or_latent(tooltip: str) -> io.Input:
    """Return a required input that takes a FIELD or a LATENT.

    With two inputs, ComfyUI could not require one of them. Graphs saved when this input was a FIELD stay valid.
    """
    return io.Custom("PULLBACK_FIELD,LATENT").Input("field", display_name="field or latent", tooltip=tooltip)


def vae(tooltip: str = "") -> io.Input:
    """Return an optional VAE input, for fields of latents."""
    return io.Vae.Input(
        "vae",
        optional=True,
        tooltip=tooltip or "Turns latents into pictures. Fields sampled with toybox are pixels already and need none.",
    )


def seed(tooltip: str = "The same seed gives the same result on the same machine.") -> io.Input:
    """Return the input of a seed, with the widget by which ComfyUI can change it after each run."""
    return io.Int.Input("seed", default=0, min=0, max=MAX_SEED, control_after_generate=True, tooltip=tooltip)


def steps(default: int = 30, tooltip: str = "Noise levels to go through: more is finer and slower.") -> io.Input:
    """Return the input of the number of noise levels."""
    return io.Int.Input("steps", default=default, min=1, max=1000, tooltip=tooltip)


def cfg(default: float = 2.0) -> io.Input:
    """Return the input of the strength of classifier-free guidance."""
    return io.Float.Input(
        "cfg",
        default=default,
        min=0.0,
        max=100.0,
        step=0.1,
        tooltip="How strictly to follow the prompt: 1 as trained, more exaggerates. Toybox likes 2 to 3, "
        "Stable Diffusion 5 to 8.",
    )


def views() -> io.Input:
    """Return the input of the number of views per step. 0 takes the field's default."""
    return io.Int.Input(
        "views",
        default=0,
        min=0,
        max=64,
        tooltip="Views that each step looks at; 0 takes what the field was made with. More agree better and cost more.",
    )


def sides() -> list[io.Input]:
    """Return one optional CONDITIONING input per side of an object."""
    says = {
        "front": "What the model is told when it looks at the front, for example from View Prompts.",
        "side": "What the model is told when it looks at a side.",
        "back": "What the model is told when it looks at the back.",
        "overhead": "What the model is told when it looks from above 60 degrees.",
    }
    return [io.Conditioning.Input(side, optional=True, tooltip=says[side]) for side in SIDES]


def view_prompts() -> io.Input:
    """Return the input that says whether the model is told which view it sees."""
    return io.Combo.Input(
        "view_prompts",
        options=["auto", "off"],
        default="auto",
        tooltip="auto: toybox is told the camera, other models get the front, side, back and overhead conditionings "
        "that are connected. off: every view gets the same words.",
    )


def pictured() -> list[io.Input]:
    """Return the inputs of a picture to start from and of its mask."""
    return [
        io.Latent.Input(
            "latent_image",
            optional=True,
            tooltip="A picture to start an image or a panorama from, as VAE Encode makes it: all of it, 2:1 for a sphere. "
            "Without a mask, nothing is left of it at full denoise.",
        ),
        io.Mask.Input(
            "mask", optional=True, tooltip="White where the picture is drawn anew; the rest of latent_image is kept."
        ),
    ]


def guide() -> io.Input:
    """Return an optional GUIDE input."""
    return GUIDE.Input(
        "guide", optional=True, tooltip="What stands where in the field, from Multi-Scale CLIP Guide. It costs time."
    )


def decoder(tooltip: str) -> io.Input:
    """Return an optional DECODER input."""
    return DECODER.Input("decoder", optional=True, tooltip=tooltip)


def denoise() -> io.Input:
    """Return the input of the fraction of the noise levels to go through."""
    return io.Float.Input(
        "denoise",
        default=1.0,
        min=0.05,
        max=1.0,
        step=0.05,
        optional=True,
        tooltip="How far to go from latent_image, or from a sampled field: 1 starts from pure noise.",
    )


def sampled(canonical: str = "its canonical views") -> list[io.Output]:
    """Return the outputs of every sampler."""
    return [
        FIELD.Output(display_name="field", tooltip="The sampled field."),
        io.Latent.Output(display_name="latent", tooltip=f"The field seen in {canonical}, as latents for VAE Decode."),
        io.Image.Output(
            display_name="image",
            tooltip=f"The field seen in {canonical}; without a VAE, latents appear in rough preview colours.",
        ),
    ]
