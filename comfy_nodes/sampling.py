"""Sampling: the nodes that sample or optimise a field with a MODEL."""

from __future__ import annotations

from typing import Any

from comfy_api.latest import io
from torch import Tensor

from . import plans, schema
from .sockets import FieldValue

JUMPS: list[io.Input] = [
    io.Float.Input("eta", default=0.0, min=0.0, max=1.0, step=0.05,
                   tooltip="Fresh noise per step, 0 (none) to 1. RePaint needs it above 0; 0.75 is a good start."),
    io.Int.Input("jump", default=1, min=1, max=100, tooltip="RePaint: how many steps are walked back at a time."),
    io.Int.Input("repeats", default=1, min=1, max=20,
                 tooltip="RePaint: how often each stretch is walked; 1 is plain sampling. More makes views agree."),
    io.Combo.Input("solver", options=list(schema.SOLVERS), default="adam",
                   tooltip="How each step is fitted. adam: few steps, moments kept. paper: 200 fresh Adam steps. "
                   "gauss-newton: for SIREN Image only. The pixel grid is solved exactly in any case."),
]  # fmt: skip


def _guided() -> list[io.Input]:
    return [
        io.Noise.Input("noise", tooltip="Where the noise comes from, for example RandomNoise."),
        io.Guider.Input("guider", tooltip="Model and conditioning, for example CFGGuider: LoRA, ControlNet and hooks included."),
        io.Sigmas.Input("sigmas", tooltip="The noise levels, for example from BasicScheduler; they must fall."),
        schema.field(),
    ]  # fmt: skip


def _conditioned() -> list[io.Input]:
    return [
        io.Model.Input("model", tooltip="Any model of pictures: toybox, Stable Diffusion, SDXL, SD3, Flux and their LoRAs."),
        io.Conditioning.Input("positive", tooltip="What to draw."),
        io.Conditioning.Input("negative", tooltip="What to keep away from; an empty prompt is fine."),
    ]  # fmt: skip


class FieldSampler(io.ComfyNode):
    """Samples a field with the pulled-back sampler."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="PullbackFieldSampler",
            display_name="Field Sampler",
            category=schema.CATEGORY,
            description="Samples a field from any image model, the way SamplerCustomAdvanced samples a latent.",
            inputs=[
                *_guided(), *JUMPS, schema.views(), schema.view_prompts(),
                schema.vae("Decodes the image output; toybox needs none."), *schema.sides(), *schema.pictured(),
                schema.guide(),
            ],
            outputs=schema.sampled(),
        )  # fmt: skip

    @classmethod
    def execute(
        cls, noise: Any, guider: Any, sigmas: Tensor, field: FieldValue, eta: float, jump: int, repeats: int,
        solver: str, views: int, view_prompts: str, vae: Any = None, latent_image: Any = None,
        mask: Tensor | None = None, guide: Any = None, **sides: Any,
    ) -> io.NodeOutput:  # fmt: skip
        from . import host

        job = host.Sampling(eta=eta, repaint=(jump, repeats), solver=solver)
        asked = host.Request(field, vae, sides, views, view_prompts == "auto", latent_image, mask, guide)
        return io.NodeOutput(*host.run(job, noise, guider, sigmas, asked))


class FieldSamplerSimple(io.ComfyNode):
    """Samples a field with KSampler's inputs."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="PullbackFieldSamplerSimple",
            display_name="Field Sampler (simple)",
            category=schema.CATEGORY,
            description="Samples a field from any image model, with KSampler's inputs.",
            inputs=[
                *_conditioned(), schema.field(), schema.seed(), schema.steps(), schema.cfg(),
                schema.vae("Decodes the image output; toybox needs none."), *schema.sides(), *schema.pictured(),
                schema.denoise(), schema.guide(),
            ],
            outputs=schema.sampled(),
        )  # fmt: skip

    @classmethod
    def execute(
        cls, model: Any, positive: Any, negative: Any, field: FieldValue, seed: int, steps: int, cfg: float,
        vae: Any = None, latent_image: Any = None, mask: Tensor | None = None, denoise: float = 1.0, guide: Any = None,
        **sides: Any,
    ) -> io.NodeOutput:  # fmt: skip
        from . import host

        guider = host.guided(model, positive, negative, cfg)
        asked = host.Request(field, vae, sides, latent_image=latent_image, mask=mask, guide=guide)
        return io.NodeOutput(*host.simple(guider, asked, seed, steps, denoise))


class PanoramaSiren(io.ComfyNode):
    """Samples and draws a panorama."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="PullbackPanoramaSiren",
            display_name="PanoramaSIREN",
            category=schema.CATEGORY,
            description="A panorama in one node: SIREN Panorama, Field Sampler and Resolution-Free Decode.",
            inputs=[
                *_conditioned(),
                io.Vae.Input("vae", tooltip="The model's VAE; toybox has its own."),
                schema.seed(), schema.steps(), schema.cfg(),
                io.Combo.Input("projection", options=["sphere", "cylinder"], default="sphere",
                               tooltip="sphere: 2:1 equirectangular, for worlds. cylinder: a strip of 8:1."),
                io.Int.Input("width", default=2048, min=64, max=32768, step=8, tooltip="Pixels all around."),
                io.Int.Input("views", default=12, min=1, max=64, tooltip="Views that each step looks at."),
                *schema.pictured(), schema.denoise(), schema.guide(),
            ],
            outputs=[
                schema.FIELD.Output(display_name="field", tooltip="The panorama as a field, for other sizes and crops."),
                io.Image.Output(display_name="image", tooltip="The whole panorama; its left edge is its right edge."),
            ],
        )  # fmt: skip

    @classmethod
    def execute(
        cls, model: Any, positive: Any, negative: Any, vae: Any, seed: int, steps: int, cfg: float, projection: str,
        width: int, views: int, latent_image: Any = None, mask: Tensor | None = None, denoise: float = 1.0,
        guide: Any = None,
    ) -> io.NodeOutput:  # fmt: skip
        from . import decoding, host
        from .rescue import rescued
        from .signals import signal_of

        signal = signal_of(model, vae)
        if not signal.decodes:
            raise ValueError("no picture can be made without the model's VAE: connect it")
        fresh = FieldValue(plans.Fresh.of(f"siren-{projection}", views))
        guider = host.guided(model, positive, negative, cfg)
        asked = host.Request(fresh, vae, latent_image=latent_image, mask=mask, guide=guide)
        field, latents, _ = host.simple(guider, asked, seed, steps, denoise)
        with rescued(field, latents):
            picture, _ = decoding.drawn(field, signal, width, 0)
        return io.NodeOutput(field, picture)


class Optimise(io.ComfyNode):
    """Optimises a field with SJC or SDS, the baselines."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="PullbackOptimise",
            display_name="SJC / SDS Optimise",
            category=schema.CATEGORY,
            description="The methods that pullback is compared with: they climb to one likely field instead of sampling one.",
            inputs=[
                *_guided(),
                io.Combo.Input("rule", options=["sjc", "sds"], default="sjc",
                               tooltip="sjc: Score Jacobian Chaining. sds: Score Distillation Sampling (DreamFusion)."),
                io.Int.Input("iterations", default=300, min=1, max=100000,
                             tooltip="Updates; each looks at every view of a step once, at a noise level out of sigmas."),
                io.Float.Input("rate", default=1.0, min=0.01, max=100.0, step=0.05,
                               tooltip="Learning rate, relative to what Field Sampler's Adam uses for this field."),
                schema.views(), schema.view_prompts(),
                schema.vae("Decodes the image output; toybox needs none."), *schema.sides(),
            ],
            outputs=schema.sampled(),
        )  # fmt: skip

    @classmethod
    def execute(
        cls, noise: Any, guider: Any, sigmas: Tensor, field: FieldValue, rule: str, iterations: int, rate: float,
        views: int, view_prompts: str, vae: Any = None, **sides: Any,
    ) -> io.NodeOutput:  # fmt: skip
        from . import host

        asked = host.Request(field, vae, sides, views, view_prompts == "auto")
        return io.NodeOutput(*host.run(host.Climbing(rule, iterations, rate), noise, guider, sigmas, asked))


class ViewPrompts(io.ComfyNode):
    """Encodes one conditioning per side of an object."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="PullbackViewPrompts",
            display_name="View Prompts",
            category=schema.CATEGORY,
            description="Encodes one text once per side of an object: front view, side view, back view, overhead view.",
            inputs=[
                io.Clip.Input("clip", tooltip="The model's text encoder."),
                io.String.Input("text", default="", multiline=True, dynamic_prompts=True,
                                tooltip="What to draw; the words for the side are put behind it."),
            ],
            outputs=[
                io.Conditioning.Output(display_name=side, tooltip=f"The text, followed by '{side} view'.")
                for side in schema.SIDES
            ],
        )  # fmt: skip

    @classmethod
    def execute(cls, clip: Any, text: str) -> io.NodeOutput:
        if not text.strip():
            raise ValueError("the text is empty: say what to draw, for example a red mushroom")
        tokens = [clip.tokenize(f"{text.strip()}, {side} view") for side in schema.SIDES]
        return io.NodeOutput(*(clip.encode_from_tokens_scheduled(each) for each in tokens))


NODES: list[type[io.ComfyNode]] = [FieldSampler, FieldSamplerSimple, PanoramaSiren, Optimise, ViewPrompts]
