"""CLIP: the nodes that say what a sample should show in which region, and guide it there."""

from __future__ import annotations

import functools
import warnings
from typing import Any

import torch
from comfy_api.latest import io
from comfy_execution.graph_utils import ExecutionBlocker

from . import layout, notes, schema, weights
from .layout import RegionValue


class LoadCLIPGuideModel(io.ComfyNode):
    """Loads a picture-text model."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="PullbackLoadCLIPGuideModel",
            display_name="Load CLIP Guide Model",
            category=schema.CATEGORY,
            description="Reads a model that compares pictures with sentences: the built-in one, or one of open_clip. "
                        "Nothing is downloaded.",
            inputs=[
                io.Combo.Input("file", options=weights.choices(weights.CLIPS, True),
                               tooltip="built-in: knows toybox's 48 words. Or the weights of an open_clip model, a .safetensors "
                               "file in models/pullback_clip."),
                io.String.Input("architecture", default="ViT-B-32",
                                tooltip="What open_clip calls a file's architecture, such as ViT-B-32. Not for built-in."),
            ],
            outputs=[schema.CLIP_GUIDE.Output(display_name="clip", tooltip="For Multi-Scale CLIP Guide.")],
        )  # fmt: skip

    @classmethod
    def execute(cls, file: str, architecture: str) -> io.NodeOutput:
        from ..core.pullback.generative.clip.model import load_clip
        from .guides import HostedCLIP

        if file == weights.BUILT_IN:
            return io.NodeOutput(_built_in(weights.device()))
        if not architecture.strip():
            raise ValueError(f"{file} needs the name of its architecture: for example ViT-B-32")
        with torch.inference_mode(False):  # autograd cannot use weights that were loaded in inference mode
            clip: Any = load_clip(architecture.strip(), weights.located(weights.CLIPS, file), weights.device())
        return io.NodeOutput(HostedCLIP(clip, weights.managed(clip.model)))

    @classmethod
    def fingerprint_inputs(cls, file: str, architecture: str) -> str:
        """Return a value that changes with the file."""
        return f"{architecture} {weights.changed(weights.CLIPS, file)}"


class CLIPGuideRegion(io.ComfyNode):
    """Adds a sentence and its place to the regions."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        degrees = lambda name, default, low, high, says: io.Float.Input(
            name, default=default, min=low, max=high, step=1.0, tooltip=says
        )
        return io.Schema(
            node_id="PullbackCLIPGuideRegion",
            display_name="CLIP Guide Region",
            category=schema.CATEGORY,
            description="Says what stands where: a sentence for a box of a picture, a part of a panorama in degrees, or a side "
                        "of an object. Chain one for each.",
            inputs=[
                io.String.Input("text", default="", multiline=True, dynamic_prompts=True,
                                tooltip="What is to be seen there. The built-in CLIP model knows toybox's words."),
                io.Combo.Input("place", options=list(layout.PLACES), default="box",
                               tooltip="box: pixels of a canvas. degrees: of a panorama. side: of an object. everywhere: the "
                               "whole picture, or every side."),
                io.Int.Input("x", default=0, min=0, max=65535, tooltip="box: first column in pixels of the canvas."),
                io.Int.Input("y", default=0, min=0, max=65535, tooltip="box: first row in pixels of the canvas."),
                io.Int.Input("width", default=512, min=1, max=65536, tooltip="box: width in pixels of the canvas."),
                io.Int.Input("height", default=512, min=1, max=65536, tooltip="box: height in pixels of the canvas."),
                io.Int.Input("canvas_width", default=1024, min=1, max=65536,
                             tooltip="box: width of the picture that the box is drawn on. Only the proportions count."),
                io.Int.Input("canvas_height", default=1024, min=1, max=65536,
                             tooltip="box: height of the picture that the box is drawn on."),
                degrees("azimuth", 0.0, -360.0, 360.0, "degrees and side: direction of the middle. 0 is the middle of a panorama "
                        "or the front of an object; it grows to the left."),
                degrees("elevation", 0.0, -90.0, 90.0, "degrees and side: elevation of the middle."),
                degrees("degrees_wide", 60.0, 6.0, 360.0, "degrees: width of the part."),
                degrees("degrees_high", 40.0, 1.0, 180.0, "degrees: height of the part."),
                io.Float.Input("weight", default=1.0, min=0.0, max=100.0, step=0.05,
                               tooltip="How much it counts beside the others; 0 leaves it out."),
                io.String.Input("scales", default="1",
                                tooltip="At which sizes the place is looked at, in multiples of the box. 1, 1.5 also sees what "
                                "is around it."),
                schema.REGIONS.Input("regions", optional=True, tooltip="The regions so far, from another of these nodes."),
            ],
            outputs=[
                schema.REGIONS.Output(display_name="regions",
                                      tooltip="All regions, for the next of these nodes or for Multi-Scale CLIP Guide."),
                io.Image.Output(display_name="layout", tooltip="Where they are, as a picture."),
            ],
        )  # fmt: skip

    @classmethod
    def execute(
        cls, text: str, place: str, x: int, y: int, width: int, height: int, canvas_width: int, canvas_height: int,
        azimuth: float, elevation: float, degrees_wide: float, degrees_high: float, weight: float, scales: str,
        regions: tuple[RegionValue, ...] = (),
    ) -> io.NodeOutput:  # fmt: skip
        from ..core.pullback.regions import MOST

        more: dict[str, Any] = {"weight": weight, "scales": layout.scales_of(scales)}
        if place == "box":
            region = RegionValue.boxed(text, (x, y, width, height), (canvas_width, canvas_height), **more)
        else:
            numbers = {
                "degrees": (azimuth, elevation, degrees_wide, degrees_high), "side": (azimuth, elevation), "everywhere": (),
            }[place]  # fmt: skip
            aspect = regions[-1].aspect if regions else canvas_width / canvas_height
            region = RegionValue(text, place, numbers, aspect=aspect, **more)
        region.check()
        chain = (*regions, region)
        if len(chain) > MOST:
            raise ValueError(f"there are {len(chain)} regions; at most {MOST} are possible: leave some out")
        return io.NodeOutput(chain, layout.picture(chain))


class MultiScaleCLIPGuide(io.ComfyNode):
    """Guides a sample so that its regions show what their sentences say."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="PullbackMultiScaleCLIPGuide",
            display_name="Multi-Scale CLIP Guide",
            category=schema.CATEGORY,
            description="Guides a sample so that its regions show what their sentences say: as a GUIDE for Field Sampler, and "
                        "as a MODEL for KSampler and every other sampler.",
            inputs=[
                schema.CLIP_GUIDE.Input("clip", tooltip="What compares pictures with sentences, from Load CLIP Guide Model."),
                schema.REGIONS.Input("regions", tooltip="What stands where, from CLIP Guide Region."),
                io.Float.Input("strength", default=1.0, min=0.0, max=1000.0, step=0.1,
                               tooltip="How strongly it guides. 0 is no guide; at 1 the sentences count as CLIP was trained."),
                io.Boolean.Input("through_model", default=True,
                                 tooltip="Gradients pass through the diffusion model as well: more plausible, but two to three "
                                 "times as slow, and it takes memory. Off: through the decoder only."),
                io.Model.Input("model", optional=True,
                               tooltip="The model to guide, for the MODEL output. Field Sampler needs none here."),
                schema.vae("Shows what the model's latents are. Toybox needs none, and Field Sampler has its own."),
                schema.decoder("Shows what the model's latents are, in the place of the VAE: each region at its own resolution."),
            ],
            outputs=[
                schema.GUIDE.Output(display_name="guide", tooltip="For the guide socket of Field Sampler."),
                io.Model.Output(display_name="model", tooltip="The model, guided in every sampler: not for Field Sampler."),
            ],
        )  # fmt: skip

    @classmethod
    def execute(
        cls, clip: Any, regions: tuple[RegionValue, ...], strength: float, through_model: bool, model: Any = None,
        vae: Any = None, decoder: Any = None,
    ) -> io.NodeOutput:  # fmt: skip
        from .guides import GuideValue, patched

        guide = GuideValue(clip, regions, strength, through_model, vae, decoder)
        if guide.active:
            _read(clip, regions)
        if model is None:
            missing = "connect a model to Multi-Scale CLIP Guide: its MODEL output is that model, guided"
            return io.NodeOutput(guide, ExecutionBlocker(missing))
        return io.NodeOutput(guide, patched(model, guide))


@functools.cache
def _built_in(device: str) -> Any:
    """Return the built-in model. It is cached: ComfyUI would report a memory leak if the patcher went before the weights."""
    from ..core.pullback.generative.clip.model import load_clip, network
    from .guides import HostedCLIP

    with torch.inference_mode(False):
        clip: Any = load_clip(device=device)
        return HostedCLIP(clip, weights.managed(network(clip.path, clip.device)))


def _read(clip: Any, regions: tuple[RegionValue, ...]) -> None:
    """Encode all sentences, so that notes name unknown words before anything is sampled."""
    with warnings.catch_warnings(record=True) as unknown:
        warnings.simplefilter("always")
        clip.encode_text([region.text.strip() for region in regions])
    for text in dict.fromkeys(str(warning.message) for warning in unknown):
        notes.say(text)


NODES: list[type[io.ComfyNode]] = [LoadCLIPGuideModel, CLIPGuideRegion, MultiScaleCLIPGuide]
