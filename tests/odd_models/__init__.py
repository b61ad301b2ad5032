"""A pack for the server tests: models that users do have and that must be refused, a slow one, and a small checkpoint."""

from __future__ import annotations

import importlib.util
import zlib
from pathlib import Path
from typing import Any

import comfy.latent_formats
import comfy.model_management
import comfy.sd
import torch
from comfy.taesd.taesd import TAESD
from comfy_api.latest import ComfyExtension, io

_spec = importlib.util.spec_from_file_location("comfy_models", Path(__file__).resolve().parents[1] / "comfy_models.py")
models = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(models)


class OddModel(io.ComfyNode):
    """A model with something the matter."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="TestOddModel",
            category="test",
            inputs=[io.Model.Input("model"), io.Combo.Input("kind", options=["nan", "shapes", "audio", "slow"])],
            outputs=[io.Model.Output()],
        )

    @classmethod
    def execute(cls, model: Any, kind: str) -> io.NodeOutput:
        if kind == "slow":
            return io.NodeOutput(models.slowed(model, 0.5))
        model = model.clone()
        if kind == "nan":
            model.set_model_sampler_post_cfg_function(lambda args: args["denoised"] * float("nan"))
        else:
            made = {"shapes": comfy.latent_formats.Hunyuan3Dv2, "audio": comfy.latent_formats.StableAudio1}[kind]
            model.add_object_patch("latent_format", made())
        return io.NodeOutput(model)


class Clip:
    """Words to numbers, the same words to the same."""

    def tokenize(self, text: str, **_: Any) -> str:
        return text

    def encode_from_tokens_scheduled(self, tokens: str, **_: Any) -> Any:
        return models.conditioning(zlib.crc32(tokens.encode()))


class SmallCheckpoint(io.ComfyNode):
    """Stable Diffusion in small, with random weights."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="TestSmallCheckpoint",
            category="test",
            inputs=[io.String.Input("ckpt_name", default="")],
            outputs=[io.Model.Output(), io.Clip.Output(), io.Vae.Output()],
        )

    @classmethod
    def execute(cls, ckpt_name: str) -> io.NodeOutput:
        random = torch.Generator().manual_seed(0)
        weights = {
            name: torch.randn(like.shape, generator=random) / max(1, like[:1].numel()) ** 0.5
            if like.ndim
            else torch.ones(())
            for name, like in TAESD(latent_channels=4).state_dict().items()
        }
        return io.NodeOutput(models.unet("EPS"), Clip(), comfy.sd.VAE(sd=weights))


class Odd(ComfyExtension):
    async def get_node_list(self) -> list[type[io.ComfyNode]]:
        return [OddModel, SmallCheckpoint]


async def comfy_entrypoint() -> ComfyExtension:
    return Odd()
