"""Models of diffusers' `DDPMPipeline`: a folder's UNet2DModel becomes our network. diffusers itself is not needed."""

from __future__ import annotations

import json
import re
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ...schema import built
from ..weights import read
from .design import Design
from .model import DDPMModel, ready
from .network import Config, UNet

PIPELINES = ("DDPMPipeline", "DDIMPipeline")
"""The pipelines whose networks these are."""
NAMES = (
    (r"^conv_in\.", "first."),
    (r"^time_embedding\.linear_1\.", "time.0."),
    (r"^time_embedding\.linear_2\.", "time.2."),
    (r"^mid_block\.attentions\.0\.", "middle_attention."),
    (r"^mid_block\.resnets\.", "middle."),
    (r"^(down|up)_blocks\.(\d+)\.resnets\.", r"\1.\2.blocks."),
    (r"^(down|up)_blocks\.(\d+)\.attentions\.", r"\1.\2.attentions."),
    (r"^(down|up)_blocks\.(\d+)\.(?:down|up)samplers\.0\.conv\.", r"\1.\2.change.conv."),
    (r"^conv_norm_out\.", "norm."),
    (r"^conv_out\.", "last."),
    (r"\.time_emb_proj\.", ".time."),
    (r"\.conv_shortcut\.", ".skip."),
    (r"\.group_norm\.", ".norm."),
    (r"\.(?:to_q|query)\.", ".query."),
    (r"\.(?:to_k|key)\.", ".key."),
    (r"\.(?:to_v|value)\.", ".value."),
    (r"\.(?:to_out\.0|proj_attn)\.", ".out."),
)
"""What diffusers calls a tensor, now and before 2023, and what we call it."""
EXPECTED: dict[str, tuple[Any, ...]] = {
    "act_fn": ("silu", "swish"), "time_embedding_type": ("positional",), "center_input_sample": (False,),
    "resnet_time_scale_shift": ("default",), "add_attention": (True,), "class_embed_type": (None,),
    "num_class_embeds": (None,), "downsample_type": ("conv",), "upsample_type": ("conv",), "mid_block_scale_factor": (1,),
    "mid_block_type": ("UNetMidBlock2D",), "attn_norm_num_groups": (None,), "num_train_timesteps": (None,),
}  # fmt: skip
"""The settings of a UNet2DModel that we have no other values of."""
SCHEDULES = {"linear": "linear", "scaled_linear": "quadratic", "squaredcos_cap_v2": "cosine"}
VARIANCES = {"fixed_small": "small", "fixed_small_log": "small", "fixed_large": "large", "fixed_large_log": "large"}


def load_folder(folder: Path, device: str = "cpu") -> DDPMModel:
    """Load a diffusers folder of a `DDPMPipeline`, or of a `DDIMPipeline`.

    Args:
        folder: The folder; the network and the scheduler may lie in it, or in folders of their own.
        device: Where the model runs.

    Raises:
        ValueError: If something is missing, damaged or not supported.
    """
    if (kind := pipeline_of(folder)) not in PIPELINES:
        raise ValueError(f"{folder} is a {kind}; expected {' or '.join(PIPELINES)}: choose such a folder")
    inner = folder / "unet" if (folder / "unet").is_dir() else folder
    scheduler = folder / "scheduler" if (folder / "scheduler").is_dir() else folder
    design = _design(folder, _json(inner / "config.json"), _json(scheduler / "scheduler_config.json"))
    files = sorted(inner.glob("diffusion_pytorch_model*.safetensors"), key=lambda file: len(file.name))
    if not files:
        raise ValueError(
            f"{inner} has no diffusion_pytorch_model.safetensors, and pickled weights are never loaded: "
            "download it with its .safetensors file, or convert it with diffusers' save_pretrained"
        )
    tensors = renamed(read(files[0], "a whole diffusers folder")[0])
    network = UNet(design.network)
    try:
        network.load_state_dict(tensors)
    except RuntimeError as error:
        raise ValueError(
            f"{files[0]} does not hold the weights that its config.json describes: download it again"
        ) from error
    return ready(network, design, str(folder.resolve()), {"pipeline": str(kind)}, device)


def pipeline_of(folder: Path) -> object:
    """Return the name of the pipeline that a diffusers folder is of, None if it says none that can be read."""
    try:
        return _json(folder / "model_index.json").get("_class_name")
    except ValueError:
        return None


def renamed(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors of a UNet2DModel with our names, in float32."""
    found = {}
    for name, value in tensors.items():
        for pattern, new in NAMES:
            name = re.sub(pattern, new, name)
        found[name] = value.to(torch.float32)
    return found


def _design(folder: Path, config: dict[str, Any], scheduler: dict[str, Any]) -> Design:
    kinds = [*config.get("down_block_types", ()), *config.get("up_block_types", ())]
    levels = len(config.get("block_out_channels", ()))
    attends = [kind.startswith("Attn") for kind in kinds]
    for name, values in EXPECTED.items():
        if config.get(name, values[0]) not in values:
            raise _unsupported(folder, f"a network whose {name} is {config[name]!r}")
    if set(kinds) - {"DownBlock2D", "AttnDownBlock2D", "UpBlock2D", "AttnUpBlock2D"} or len(kinds) != 2 * levels:
        raise _unsupported(folder, f"a network of {', '.join(sorted(set(map(str, kinds)))) or 'no'} blocks")
    if attends[:levels] != attends[levels:][::-1]:
        raise _unsupported(folder, "a network that attends at other sizes on the way up than down")
    if scheduler.get("trained_betas") is not None:
        raise _unsupported(folder, "a scheduler with betas of its own")
    if scheduler.get("beta_schedule", "linear") not in SCHEDULES:
        raise _unsupported(folder, f"a scheduler whose beta_schedule is {scheduler['beta_schedule']!r}")
    predicted = {"epsilon": "eps", "sample": "x0"}.get(scheduler.get("prediction_type", "epsilon"))
    variance = VARIANCES.get(scheduler.get("variance_type", "fixed_small"))
    if predicted is None or variance is None or scheduler.get("rescale_betas_zero_snr"):
        raise _unsupported(folder, "a scheduler of another kind than the paper's")
    try:
        widths, size = config["block_out_channels"], config["sample_size"]
        width = widths[0]
        if any(each % width for each in widths):
            raise ValueError("its channels are no multiples of its first")
        side = size if isinstance(size, int) else size[0]
        network = Config(
            config["in_channels"], side, width, tuple(each // width for each in widths), config["layers_per_block"],
            tuple(side >> level for level in range(levels) if attends[level]), config.get("dropout", 0.0),
            config.get("norm_num_groups", 32), head=config.get("attention_head_dim", 8) or 0,
            padded="around" if config.get("downsample_padding", 1) else "after", epsilon=config.get("norm_eps", 1e-5),
            cosine_first=config.get("flip_sin_to_cos", True), shift=config.get("freq_shift", 0),
        )  # fmt: skip
        design = {
            "network": asdict(network), "predicted": predicted, "variance": variance,
            "steps": scheduler.get("num_train_timesteps", 1000),
            "schedule": SCHEDULES[scheduler.get("beta_schedule", "linear")],
            "first": scheduler.get("beta_start", 1e-4), "last": scheduler.get("beta_end", 0.02),
        }  # fmt: skip
        return built(design, Design)  # checks the types and ranges
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{folder} holds no network that we can take over ({error}): choose another") from error


def _unsupported(folder: Path, what: str) -> ValueError:
    return ValueError(f"{folder} has {what}; supported are the networks of DDPM's paper: choose another")


def _json(file: Path) -> dict[str, Any]:
    try:
        content = json.loads(file.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise ValueError(f"{file} is missing or no JSON: download the folder again, whole") from error
    if not isinstance(content, dict):
        raise ValueError(f"{file} holds no JSON object: download the folder again, whole")
    return content
