"""Latents: decodes latents in tiles, with the same result as VAE Decode.

ComfyUI's own tiled decoding normalises every tile by its own statistics, so that tiles differ in colour. The core's
`exact_tiles` computes the statistics over the whole picture.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable
from typing import Any

import comfy.model_management
import torch
from torch import Tensor

from . import weights
from .sockets import to_image, to_mask

SAMPLE = (3, 4)
"""Height and width, in latents, of the sample that tests whether a decoder can be run in parts."""
MARGIN = 13
"""How far beyond a tile the decoder of Stable Diffusion reads, in latents."""
WHOLE = 8
"""The number of tensors of the latent's height and width that attention allocates."""
LEAST_BUDGET = 1 << 30
"""The least number of bytes that may be kept between passes, however little memory is free."""


def decoded(
    vae: Any, latent: dict[str, Any], tile: int, part: tuple[int, int, int, int], tick: Callable[[int, int], None]
) -> Tensor:
    """Decode a LATENT, or a part of it, as VAE Decode does.

    Args:
        vae: A VAE.
        latent: A LATENT.
        tile: Side of a tile in pixels.
        part: Left, top, width and height in pixels; a width or height of 0 goes to the edge.
        tick: Called between tiles with the number of tiles that are done and their total. It may raise to stop.

    Returns:
        IMAGE (B, H, W, C) in [0, 1].

    Raises:
        ValueError: If there is no VAE, it cannot decode the latent, or the part does not lie within the picture.
    """
    if vae is None or getattr(vae, "first_stage_model", vae) is None:
        raise ValueError("a latent needs a VAE to become a picture: connect the VAE of the model that made it")
    samples = latent["samples"]
    if samples.is_nested:  # video and sound: like VAE Decode, take the video
        samples = samples.unbind()[0]
    if getattr(vae, "latent_dim", 2) == 2 and samples.ndim == 5:
        samples = samples[:, :, 0]
    chain = None
    if _known(vae) and samples.ndim == 4:
        _load(vae, samples, tile)
        chain = _chain(vae, samples)
    if chain is None:  # an architecture that cannot be run in tiles
        image = vae.decode(samples)
        image = image.reshape(-1, *image.shape[-3:])
        top, left, h, w = within(part, *image.shape[1:3])
        return image[:, top : top + h, left : left + w]
    scale = vae.spacial_compression_decode()
    crop = within(part, *(int(scale * side) for side in samples.shape[2:]))
    count = len(samples)
    images = [
        _picture(vae, chain, one, tile, crop, lambda done, total, i=i: tick(i * total + done, count * total))
        for i, one in enumerate(samples.split(1))
    ]
    return torch.cat(images)


def flat(latent: dict[str, Any]) -> Tensor:
    """Return the pictures (B, C, h, w) in a LATENT. Raise ValueError if it does not contain pictures."""
    samples = latent["samples"]
    if samples.is_nested:
        samples = samples.unbind()[0]
    if samples.ndim == 5:
        samples = samples.movedim(2, 1).flatten(0, 1)  # the frames of a video are pictures
    if samples.ndim != 4:
        raise ValueError(
            f"this latent has the shape {tuple(samples.shape)} and is not a picture: connect one of an image model"
        )
    return samples


def drawn(
    value: Any, z: Tensor, height: int, width: int, part: tuple[int, int, int, int], tile: int, tick: Callable[[int], None]
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """Draw a part of latents by a field decoder.

    Args:
        value: The value of a DECODER socket.
        z: The latents (B, C, h', w').
        height: Height of the whole picture in pixels.
        width: Width of the whole picture in pixels.
        part: The part to draw: top, left, height and width in pixels.
        tile: Side of a tile in pixels.
        tick: Called between tiles with the number of rows completed since the last call. It may raise to stop.

    Returns:
        IMAGE (B, h, w, 3) and MASK (B, h, w).

    Raises:
        ValueError: If the decoder is for other latents.
    """
    value.decoder.check(z)
    weights.load(value.patcher)
    image, mask = torch.empty(len(z), *part[2:], 3), torch.ones(len(z), *part[2:])
    for n, one in enumerate(z.split(1)):
        row, phi = 0, value.decoder.features(one)
        for band in value.decoder.bands(phi, height, width, part, lambda: tick(0), tile):
            rows = slice(row, row + band.shape[1])
            image[n, rows], mask[n, rows] = to_image(band[None])[0], to_mask(band[None])[0]
            row = rows.stop
            tick(band.shape[1])
    return image, mask


def within(part: tuple[int, int, int, int], height: int, width: int) -> tuple[int, int, int, int]:
    """Return a part (left, top, width, height) of a picture as (top, left, height, width).

    A width or height of 0 goes to the edge.

    Raises:
        ValueError: If the part is not within the picture.
    """
    left, top, w, h = part
    w, h = w or width - left, h or height - top
    if w < 1 or h < 1 or left + w > width or top + h > height:
        raise ValueError(
            f"the part at {left}, {top} of {w} x {h} pixels does not lie within the picture of {width} x {height}: "
            "make it smaller or the picture larger"
        )
    return top, left, h, w


def _known(vae: Any) -> bool:
    """Return whether a VAE has the decoder of image models, and not one of its variants for video."""
    from comfy.ldm.modules.diffusionmodules.model import Decoder

    decoder = getattr(getattr(vae, "first_stage_model", None), "decoder", None)
    return type(decoder) is Decoder and getattr(vae, "latent_dim", 2) == 2 and not getattr(decoder, "carried", False)


def _load(vae: Any, samples: Tensor, tile: int) -> None:
    """Load a VAE onto its device, with free memory for a tile with margins and for attention over the whole latent."""
    sides = [min(side, int(tile // vae.spacial_compression_decode()) + 2 * MARGIN) for side in samples.shape[2:]]
    needed = vae.memory_used_decode((1, samples.shape[1], *sides), vae.vae_dtype)
    channels = vae.first_stage_model.decoder.conv_in.out_channels
    needed += WHOLE * channels * samples.shape[2] * samples.shape[3] * vae.vae_dtype.itemsize
    more = {"force_full_load": True} if getattr(vae, "disable_offload", False) else {}
    comfy.model_management.load_models_gpu([vae.patcher], memory_required=needed, **more)


def _chain(vae: Any, samples: Tensor) -> Any:
    """Return the parts of a VAE's decoder, or None if running them one after another gives another result."""
    from ..core.pullback import exact_tiles

    model = vae.first_stage_model
    sample = samples[:1, :, : SAMPLE[0], : SAMPLE[1]].to(vae.device, vae.vae_dtype)
    try:
        with _device(vae):
            return exact_tiles.chain_of(model.decoder, exact_tiles.input_of(model.decoder, model.decode, sample))
    except ValueError as error:
        logging.info("The latent is decoded by ComfyUI itself: %s", error)
        return None


def _picture(
    vae: Any, chain: Any, latent: Tensor, tile: int, crop: tuple[int, int, int, int], tick: Callable[[int, int], None]
) -> Tensor:
    """Decode a part of one latent (1, C, h, w) as an IMAGE (1, H, W, C)."""
    from ..core.pullback import exact_tiles

    model, row = vae.first_stage_model, 0
    dtype = vae.vae_output_dtype() if hasattr(vae, "vae_output_dtype") else torch.float32
    free = comfy.model_management.get_free_memory(torch.device("cpu"))
    budget = max(LEAST_BUDGET, int(free) // 4)
    image: Tensor | None = None
    with _device(vae):
        source = exact_tiles.held(
            exact_tiles.input_of(model.decoder, model.decode, latent.to(vae.device, vae.vae_dtype))
        )
        for band in exact_tiles.bands(chain, source, tile, crop, budget, tick):
            if image is None:
                image = torch.empty(1, *crop[2:], len(band), dtype=dtype, device=vae.output_device)
            shown = vae.process_output(band[None].to(vae.output_device, dtype, copy=True))
            image[:, row : row + band.shape[1]] = shown.movedim(1, -1)
            row += band.shape[1]
    assert image is not None
    return image


def _device(vae: Any) -> Any:
    """Return a context that selects the VAE's device. Older versions of ComfyUI do not need one."""
    chosen = getattr(comfy.model_management, "cuda_device_context", None)
    return contextlib.nullcontext() if chosen is None else chosen(vae.device)
