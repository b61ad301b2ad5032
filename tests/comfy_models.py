"""Small models with random weights out of ComfyUI's own classes: the networks of Stable Diffusion, SD3 and Qwen-Image."""

from __future__ import annotations

import time
from typing import Any

import torch


def _patched(base: Any) -> Any:
    import comfy.model_management
    import comfy.model_patcher

    random = torch.Generator().manual_seed(0)
    for name, weight in base.diffusion_model.named_parameters():
        size = 1.0 if weight.ndim == 1 and name.endswith("weight") else 0.0
        fan = max(1, weight[0].numel()) if weight.ndim > 1 else 100
        weight.data = size + torch.randn(weight.shape, generator=random) / fan**0.5
        weight.requires_grad_(False)
    for name, buffer in base.diffusion_model.named_buffers():
        if name.endswith("pos_embed"):
            buffer.data = torch.randn(buffer.shape, generator=random)
    cpu = torch.device("cpu")
    return comfy.model_patcher.ModelPatcher(base.eval(), load_device=cpu, offload_device=cpu)


def unet(kind: str) -> Any:
    """SD 1.5 in small: "EPS" or "V_PREDICTION"."""
    import comfy.model_base
    import comfy.supported_models

    config = comfy.supported_models.SD15({
        "image_size": 32, "in_channels": 4, "out_channels": 4, "model_channels": 32, "num_res_blocks": [1, 1],
        "channel_mult": [1, 2], "use_spatial_transformer": True, "transformer_depth": [1, 1], "legacy": False,
        "transformer_depth_middle": 1, "transformer_depth_output": [1, 1, 1, 1], "context_dim": 16,
    })  # fmt: skip
    config.set_inference_dtype(torch.float32, None)
    return _patched(comfy.model_base.BaseModel(config, comfy.model_base.ModelType[kind]))


def mmdit() -> Any:
    """SD3 in small."""
    import comfy.model_base
    import comfy.supported_models

    config = comfy.supported_models.SD3({
        "input_size": None, "in_channels": 16, "depth": 1, "adm_in_channels": 24, "num_patches": 16 * 16,
        "pos_embed_max_size": 16, "pos_embed_scaling_factor": None,
        "context_embedder_config": {
            "target": "torch.nn.Linear", "params": {"in_features": 16, "out_features": 64},
        },
    })  # fmt: skip
    config.set_inference_dtype(torch.float32, None)
    return _patched(comfy.model_base.SD3(config))


def qwen() -> Any:
    """Qwen-Image in small: an image model whose latents count frames."""
    import comfy.model_base
    import comfy.supported_models

    config = comfy.supported_models.QwenImage({
        "image_model": "qwen_image", "num_layers": 1, "attention_head_dim": 16, "num_attention_heads": 2,
        "joint_attention_dim": 16, "axes_dims_rope": (4, 6, 6),
    })  # fmt: skip
    config.set_inference_dtype(torch.float32, None)
    return _patched(comfy.model_base.QwenImage(config))


def vae(channels: int = 4) -> Any:
    """The VAE of Stable Diffusion (4 channels) or SD3 (16), whose decoder is a quarter as wide."""
    import comfy.sd
    from comfy.ldm.modules.diffusionmodules.model import Decoder

    config = {"ch": 32, "out_ch": 3, "ch_mult": (1, 2, 4, 4), "num_res_blocks": 2, "attn_resolutions": []}
    decoder = Decoder(**config, in_channels=3, resolution=256, z_channels=channels)
    random, weights = torch.Generator().manual_seed(0), {}
    shapes = {f"decoder.{name}": each.shape for name, each in decoder.named_parameters()}
    if channels == 4:
        shapes |= {"post_quant_conv.weight": (4, 4, 1, 1), "post_quant_conv.bias": (4,)}
        shapes |= {"quant_conv.weight": (8, 8, 1, 1), "quant_conv.bias": (8,)}
    for name, shape in shapes.items():
        size = float("norm" in name and name.endswith("weight"))
        fan = max(1, torch.Size(shape[1:]).numel()) if len(shape) > 1 else 10
        weights[name] = size + torch.randn(shape, generator=random) / fan**0.5
    where = {"dtype": torch.float32, "device": torch.device("cpu")}
    try:
        return comfy.sd.VAE(sd=weights, **where)
    except RuntimeError:  # older versions do not see from the weights that it is narrower
        whole = {"double_z": True, "z_channels": 4, "resolution": 256, "in_channels": 3, "dropout": 0.0, **config}
        return comfy.sd.VAE(sd=weights, config={"params": {"ddconfig": whole, "embed_dim": 4}}, **where)


def conditioning(seed: int, width: int = 16, pooled: int = 24) -> Any:
    """A CONDITIONING of random numbers."""
    random = torch.Generator().manual_seed(seed)
    return [[
        torch.randn(1, 7, width, generator=random), {"pooled_output": torch.randn(1, pooled, generator=random)},
    ]]  # fmt: skip


def slowed(patcher: Any, seconds: float) -> Any:
    """The model, each of whose evaluations takes so many seconds longer."""
    patcher = patcher.clone()

    def wait(apply: Any, args: dict[str, Any]) -> Any:
        time.sleep(seconds)
        return apply(args["input"], args["timestep"], **args["c"])

    patcher.set_model_unet_function_wrapper(wait)
    return patcher
