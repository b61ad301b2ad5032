"""Field decoders that are made from another model's VAE and keep its latents (INFD, section 5.6).

The encoder and the decoder of latent diffusion's AutoencoderKL (Rombach et al. 2022), which Stable Diffusion 1 to 3, SDXL and
Flux use, become those of an `Autoencoder` with the layout "ldm". Its features phi are the input of the VAE's last convolution,
and CLIF starts as that convolution. Even without training, the field decoder therefore draws what the VAE decodes at the VAE's
own size; training only has to teach it other sizes.

The names of tensors may be those of diffusers (also those from before 2023) or of the original code. The VAE may be alone in its
file, or part of a whole checkpoint.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from .blocks import GROUPS, Attention, Residual
from .network import Autoencoder, Config, Nearest
from .renderers import CLIF

BASE = 256
"""Default side, in pixels, of the pictures that the encoder sees in training."""
HIDDEN = 128
"""Default number of CLIF's channels."""
PREFIXES = ("first_stage_model.", "vae.", "")
"""The prefixes of the names of a VAE's tensors, in whole checkpoints and in files that hold only a VAE."""
PARTS = re.compile(r"(encoder|decoder|quant_conv|post_quant_conv)\.")
ORIGINAL = (
    (r"\.(down|up)\.(\d+)\.block\.(\d+)\.", r".\1_blocks.\2.resnets.\3."),
    (r"\.down\.(\d+)\.downsample\.", r".down_blocks.\1.downsamplers.0."),
    (r"\.up\.(\d+)\.upsample\.", r".up_blocks.\1.upsamplers.0."),
    (r"\.mid\.block_1\.", ".mid_block.resnets.0."),
    (r"\.mid\.block_2\.", ".mid_block.resnets.1."),
    (r"\.mid\.attn_1\.", ".mid_block.attentions.0."),
    (r"\.nin_shortcut\.", ".conv_shortcut."),
    (r"(coder)\.norm_out\.", r"\1.conv_norm_out."),
    (r"(attentions\.0)\.norm\.", r"\1.group_norm."),
    (r"(attentions\.0)\.(?:q|query)\.", r"\1.to_q."),
    (r"(attentions\.0)\.(?:k|key)\.", r"\1.to_k."),
    (r"(attentions\.0)\.(?:v|value)\.", r"\1.to_v."),
    (r"(attentions\.0)\.(?:proj_out|proj_attn)\.", r"\1.to_out.0."),
)
"""Patterns of names in the original code and in diffusers before 2023, and diffusers' names for them now."""
FAMILIES = (
    ("model.diffusion_model.double_blocks.", "Flux", 0.3611, 0.1159),
    ("model.diffusion_model.joint_blocks.", "Stable Diffusion 3", 1.5305, 0.0609),
    ("conditioner.", "SDXL", 0.13025, 0.0),
    ("cond_stage_model.", "Stable Diffusion 1 or 2", 0.18215, 0.0),
)
"""The prefix of a tensor by which a family's whole checkpoints are recognised, the family's name, and its latents' scale and
shift."""


@dataclass(frozen=True)
class VAE:
    """The weights of a VAE.

    Args:
        path: The file or folder that they were read from.
        tensors: Tensors in float32, with diffusers' names.
        card: What is known about its latents z. The diffusion model's latents are scaling_factor (z - shift_factor).
    """

    path: Path
    tensors: dict[str, Tensor]
    card: dict[str, Any]


def read_vae(path: Path) -> VAE:
    """Read a VAE.

    Args:
        path: A diffusers folder of a whole model or of its VAE, or a .safetensors file of a VAE or of a whole checkpoint.

    Raises:
        ValueError: If the path is missing, damaged, or holds no AutoencoderKL.
    """
    if path.is_dir():
        return _from_folder(path / "vae" if (path / "vae").is_dir() else path)
    if not path.is_file():
        raise ValueError(f"{path} does not exist: give a diffusers folder or a .safetensors file that holds a VAE")
    if path.suffix != ".safetensors":
        raise ValueError(f"{path} is not a .safetensors file; pickled weights are never loaded: convert it first")
    tensors, family = _tensors(path)
    return VAE(path, tensors, {"channels": _latent(tensors), **family})


def _from_folder(folder: Path) -> VAE:
    try:
        config = json.loads((folder / "config.json").read_text("utf-8"))
        kind = config.get("_class_name")
    except (OSError, ValueError, AttributeError) as error:
        raise ValueError(
            f"{folder} has no readable config.json: give the folder of a diffusers model or of its VAE"
        ) from error
    if kind != "AutoencoderKL":
        raise ValueError(
            f"{folder} is a {kind}; expected an AutoencoderKL: give the folder of a diffusers model or of its VAE"
        )
    if config.get("norm_num_groups", GROUPS) != GROUPS:
        raise ValueError(f"{folder} has group norms of {config['norm_num_groups']} groups; only {GROUPS} are supported")
    files = sorted(folder.glob("diffusion_pytorch_model*.safetensors"))
    if not files:
        raise ValueError(f"{folder} has no diffusion_pytorch_model.safetensors: download all of it again")
    shortest = min(files, key=lambda file: len(file.name))  # a name without a variant such as fp16, if there is one
    tensors, _ = _tensors(shortest)
    factors = {name: config[name] for name in ("scaling_factor", "shift_factor") if config.get(name) is not None}
    return VAE(folder, tensors, {"channels": _latent(tensors), **factors})


def _tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Return the tensors of the VAE in a file, under diffusers' names, and the family if the file is a known checkpoint."""
    try:
        with safe_open(path, "pt") as file:
            names = list(file.keys())
            prefix = next(
                (each for each in PREFIXES if any(name.startswith(f"{each}decoder.conv_in.") for name in names)), None
            )
            if prefix is None:
                raise ValueError(
                    f"{path} holds no VAE: expected the tensors of an AutoencoderKL, alone or in a checkpoint"
                )
            of_vae = [name for name in names if name.startswith(prefix) and PARTS.match(name.removeprefix(prefix))]
            tensors = {name.removeprefix(prefix): file.get_tensor(name).float() for name in of_vae}
    except (SafetensorError, OSError) as error:
        raise ValueError(f"{path} is truncated or not a safetensors file: download it again ({error})") from error
    known = next((family for mark, *family in FAMILIES if any(name.startswith(mark) for name in names)), None)
    return _renamed(tensors), dict(zip(("family", "scaling_factor", "shift_factor"), known or (), strict=False))


def _renamed(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors under diffusers' names. The original code numbers the decoder's blocks from the one that runs last."""
    original = any(name.startswith("decoder.up.") for name in tensors)
    levels = 1 + max((int(n[1]) for name in tensors if (n := re.match(r"decoder\.up\.(\d+)\.", name))), default=0)
    renamed = {}
    for name, value in tensors.items():
        for pattern, new in ORIGINAL:
            name = re.sub(pattern, new, name)
        if original:
            name = re.sub(r"(up_blocks)\.(\d+)", lambda match: f"{match[1]}.{levels - 1 - int(match[2])}", name)
        renamed[name] = value
    return renamed


def _latent(tensors: dict[str, Tensor]) -> int:
    return int(tensors["decoder.conv_in.weight"].shape[1])


def converted(vae: VAE, base: int = BASE, hidden: int = HIDDEN) -> Autoencoder:
    """Return an autoencoder with the encoder and the decoder of a VAE. At the VAE's own size, it draws what the VAE decodes.

    Args:
        vae: The VAE.
        base: Side in pixels of the pictures that the encoder will see in training.
        hidden: Channels of CLIF.

    Raises:
        ValueError: If the VAE's layers are not those of AutoencoderKL, or the base is not a multiple of its scale.
    """
    tensors = dict(vae.tensors)
    try:
        config = _config(tensors, base, hidden)
    except (KeyError, ValueError) as error:
        raise ValueError(
            f"{vae.path} is not a complete AutoencoderKL for pictures: {error.args[0]} is missing"
        ) from error
    if base < config.scale or base % config.scale:
        raise ValueError(f"the base is {base} pixels; it must be a multiple of {config.scale}, the side of a latent")
    if (
        config.encoder != config.decoder
        or any(width % GROUPS for width in config.encoder)
        or hidden < 2 * config.channels
    ):
        raise ValueError(f"{vae.path} has channels that are not supported: {config.encoder}, {config.decoder}")
    network = Autoencoder(config)
    for name, channels in (
        ("quant_conv", 2 * config.latent),
        ("post_quant_conv", config.latent),
    ):  # the VAEs of SD3 and Flux have neither
        tensors.setdefault(f"{name}.weight", torch.eye(channels)[..., None, None])
        tensors.setdefault(f"{name}.bias", torch.zeros(channels))
    try:
        with torch.no_grad():
            for module, name in (*_encoder(network, config), *_decoder(network, config)):
                _fill(module, name, tensors)
            _start_as(network.renderer, tensors.pop("decoder.conv_out.weight"), tensors.pop("decoder.conv_out.bias"))
    except KeyError as error:
        raise ValueError(
            f"{vae.path} is not a complete AutoencoderKL: {error.args[0]} is missing; download it again"
        ) from error
    except RuntimeError as error:
        raise ValueError(
            f"{vae.path} holds a tensor whose shape differs from AutoencoderKL's: choose another VAE"
        ) from error
    if tensors:
        raise ValueError(f"{vae.path} has layers that are not supported, such as {min(tensors)}: choose another VAE")
    return network


def _config(tensors: dict[str, Tensor], base: int, hidden: int) -> Config:
    def blocks(start: str) -> list[int]:
        """Return the channels of the blocks whose names begin with `start`, from the shapes of their first layers."""
        found = re.compile(rf"{start}\.(\d+)\.resnets\.0\.conv1\.weight")
        widths = {int(match[1]): len(value) for name, value in tensors.items() if (match := found.fullmatch(name))}
        return [widths[n] for n in range(max(widths) + 1)] if widths else []

    def count(start: str) -> int:
        return sum(re.fullmatch(rf"{start}\.0\.resnets\.\d+\.conv1\.weight", name) is not None for name in tensors)

    encoder, decoder = blocks("encoder.down_blocks"), blocks("decoder.up_blocks")
    if not encoder or not decoder:
        raise ValueError("encoder.down_blocks or decoder.up_blocks")
    return Config(
        channels=len(tensors["decoder.conv_out.weight"]), base=base, latent=_latent(tensors), encoder=tuple(encoder),
        decoder=tuple(decoder[::-1]), encoder_blocks=count("encoder.down_blocks"),
        decoder_blocks=count("decoder.up_blocks"), attention=any("mid_block.attentions.0." in name for name in tensors),
        grouped=True, hidden=hidden, layout="ldm",
    )  # fmt: skip


def _encoder(network: Autoencoder, config: Config) -> Iterator[tuple[nn.Module, str]]:
    """Return pairs of the encoder's modules and diffusers' names for them, in the order in which they run."""
    names = ["encoder.conv_in"]
    for level in range(len(config.encoder)):
        if level:
            names.append(f"encoder.down_blocks.{level - 1}.downsamplers.0.conv")
        names += [f"encoder.down_blocks.{level}.resnets.{n}" for n in range(config.encoder_blocks)]
    names += [*_middle("encoder", config), "encoder.conv_norm_out", "encoder.conv_out", "quant_conv"]
    return zip(_filled(network.encoder.layers), names, strict=True)


def _decoder(network: Autoencoder, config: Config) -> Iterator[tuple[nn.Module, str]]:
    """Return the pairs of the decoder, as `_encoder` does."""
    names = ["post_quant_conv", "decoder.conv_in", *_middle("decoder", config)]
    for level in range(len(config.decoder)):
        if level:
            names.append(f"decoder.up_blocks.{level - 1}.upsamplers.0.conv")
        names += [f"decoder.up_blocks.{level}.resnets.{n}" for n in range(config.decoder_blocks)]
    return zip(_filled(network.decoder.layers), [*names, "decoder.conv_norm_out"], strict=True)


def _middle(part: str, config: Config) -> list[str]:
    attention = [f"{part}.mid_block.attentions.0"] if config.attention else []
    return [f"{part}.mid_block.resnets.0", *attention, f"{part}.mid_block.resnets.1"]


def _filled(modules: Iterable[nn.Module]) -> Iterator[nn.Module]:
    """Yield the modules that have weights, in the order in which they run."""
    for module in modules:
        if isinstance(module, nn.Sequential):
            yield from _filled(module)
        elif not isinstance(module, nn.SiLU):
            yield module.conv if isinstance(module, Nearest) else module  # type: ignore[misc]


def _fill(module: nn.Module, name: str, tensors: dict[str, Tensor]) -> None:
    """Move weights from `tensors` into a module. Raise KeyError with the name of a missing tensor."""
    if isinstance(module, Residual):
        for part in ("norm1", "conv1", "norm2", "conv2"):
            _fill(getattr(module, part), f"{name}.{part}", tensors)
        if not isinstance(module.skip, nn.Identity):
            _fill(module.skip, f"{name}.conv_shortcut", tensors)
    elif isinstance(module, Attention):
        _fill(module.norm, f"{name}.group_norm", tensors)
        for kind in ("weight", "bias"):
            joined = torch.cat([tensors.pop(f"{name}.to_{each}.{kind}") for each in "qkv"])
            target = getattr(module.qkv, kind)
            target.copy_(joined.reshape(target.shape))
            target = getattr(module.out, kind)
            target.copy_(tensors.pop(f"{name}.to_out.0.{kind}").reshape(target.shape))
    else:
        own_weight, own_bias = module.get_parameter("weight"), module.get_parameter("bias")
        weight, bias = tensors.pop(f"{name}.weight"), tensors.pop(f"{name}.bias")
        if weight.shape[2:] == (3, 3) and own_weight.shape[2:] == (4, 4):
            # Before halving a picture, AutoencoderKL pads it below and to the right; ours pads it on all sides.
            weight = nn.functional.pad(weight, (1, 0, 1, 0))
        if weight.shape != own_weight.shape or bias.shape != own_bias.shape:
            raise RuntimeError(name)  # `copy_` would broadcast
        own_weight.copy_(weight)
        own_bias.copy_(bias)


def _start_as(clif: nn.Module, weight: Tensor, bias: Tensor) -> None:
    """Make CLIF compute a convolution y of its features: it passes on y and -y, and silu(y) - silu(-y) = y."""
    assert isinstance(clif, CLIF)
    channels, features = weight.shape[:2]
    for n, sign in enumerate((1, -1)):
        rows = slice(n * channels, (n + 1) * channels)
        clif.enter.weight[rows] = 0
        clif.enter.weight[rows, :features] = sign * weight
        clif.enter.bias[rows] = sign * bias  # type: ignore[index]
    clif.last.weight.zero_()
    clif.last.bias.zero_()  # type: ignore[union-attr]
    for channel in range(channels):
        clif.last.weight[channel, channel, 1, 1] = 1
        clif.last.weight[channel, channels + channel, 1, 1] = -1


def card_of(vae: VAE) -> dict[str, str]:
    """Return the metadata that tell which latents a field decoder takes."""
    return {"latents": json.dumps(vae.card), "vae": vae.path.name}
