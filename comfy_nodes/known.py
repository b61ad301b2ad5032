"""Known: turns a LATENT to start from, and a MASK of the part to replace, into the core's known picture."""

from __future__ import annotations

from typing import Any

import comfy.utils
import torch
from torch import Tensor

from .signals import Signal, flat, framed


def known(latent: dict[str, Any] | None, mask: Tensor | None, signal: Signal, diffrep: Any) -> Any:
    """Return the core's `Known` for a field, or None if no picture is given.

    Args:
        latent: The LATENT with the picture, or None.
        mask: A mask (1, H, W) of any size, 1 where the picture is replaced. None takes the mask in the latent, if any.
        signal: The model's signal.
        diffrep: The representation of the field.

    Raises:
        ValueError: If the picture or the mask does not suit the model or the field.
    """
    from ..core.pullback.known import Known

    if latent is None:
        if mask is not None:
            raise ValueError("the mask says which part of a picture to draw anew: connect the picture to latent_image")
        return None
    samples = latent["samples"]
    if (
        getattr(samples, "is_nested", False)
        or samples.ndim not in (4, 5)
        or (samples.ndim == 5 and samples.shape[2] > 1)
    ):
        raise ValueError("latent_image is not a picture: connect the output of VAE Encode")
    if len(samples) > 1:
        raise ValueError(f"latent_image has {len(samples)} pictures and a field starts from one: choose one")
    if samples.shape[1] != signal.channels:
        raise ValueError(
            f"latent_image has {samples.shape[1]} channels and this model's latents {signal.channels}: "
            "encode the picture with the model's VAE"
        )
    mask = latent.get("noise_mask") if mask is None else mask
    with torch.inference_mode(False):
        picture = flat(samples).float().cpu().clone()
        if picture.any():  # an empty latent stays empty
            picture = flat(signal.format.process_in(framed(signal.format, picture)))
        if mask is not None:
            mask = comfy.utils.reshape_mask(mask.float().cpu(), (1, 1, *picture.shape[2:]))[0].clamp(0, 1).clone()
    try:
        return Known(diffrep, picture[0], mask)
    except ValueError as error:
        raise ValueError(f"latent_image does not fit the field: {error}") from error
