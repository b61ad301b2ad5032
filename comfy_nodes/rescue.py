"""Rescue: saves a sampled field if no picture can be made from it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import comfy.model_management
import comfy.utils
import folder_paths
import torch

from .listing import SUFFIX
from .memory import exhausted
from .paths import fresh_path
from .sockets import FieldValue


@contextmanager
def rescued(value: FieldValue, latents: dict[str, Any]) -> Iterator[None]:
    """Write a sampled field to the output folder if the context fails. A pixel grid is saved as a latent.

    Raises:
        ValueError: If the context fails. The message says why, and where the field is.
    """
    try:
        yield
    except comfy.model_management.InterruptProcessingException:
        raise
    except Exception as error:
        try:
            kept = _kept(value.sampled(), latents)
        except OSError as full:
            raise error from full
        if exhausted(error):
            comfy.model_management.unload_all_models()  # as ComfyUI does after this error
        reason = " ".join(str(error).split())[:120]
        raise ValueError(f"the field is sampled, but no picture could be made of it ({reason}): {kept}") from error


def _kept(field: Any, latents: dict[str, Any]) -> str:
    from ..core.pullback.storage import save_field

    folder = folder_paths.get_output_directory()
    if hasattr(field.diffrep, "name"):
        target = fresh_path(folder, "fields/kept", SUFFIX)
        save_field(target.path, field)
        return f"it is kept as {target.name} in the output folder; choose it in Load Field to continue from there"
    target = fresh_path(folder, "latents/kept", ".latent")
    version = torch.tensor([])  # Load Latent recognises its files by this
    comfy.utils.save_torch_file(
        {"latent_tensor": latents["samples"].contiguous(), "latent_format_version_0": version}, str(target.path)
    )
    return f"its latent is kept as {target.name} in the output folder; move it to the input folder for Load Latent"
