"""Weights: the files of field decoders, picture-text models, LMConv models and models of functions in ComfyUI's model folders."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import comfy.model_management
import comfy.model_patcher
import folder_paths

from .listing import SUFFIX

DECODERS = "pullback_decoders"
CLIPS = "pullback_clip"
LMCONV = "pullback_lmconv"
INFTY_DIFF = "pullback_infty_diff"
DPF = "pullback_dpf"
BUILT_IN = "built-in"


def register() -> None:
    """Register the folders with ComfyUI. Its extra_model_paths.yaml may add more."""
    for kind in (DECODERS, CLIPS, LMCONV, INFTY_DIFF, DPF):
        folder_paths.add_model_folder_path(kind, str(Path(folder_paths.models_dir) / kind))
        folders, _ = folder_paths.folder_names_and_paths[kind]
        folder_paths.folder_names_and_paths[kind] = (folders, {SUFFIX})


def choices(kind: str, built_in: bool) -> list[str]:
    """Return the files of a kind, after the built-in one if there is one."""
    return [BUILT_IN] * built_in + folder_paths.get_filename_list(kind)


def located(kind: str, name: str) -> Path:
    """Return the path of one of the files.

    Raises:
        ValueError: If the file does not exist.
    """
    path = folder_paths.get_full_path(kind, name)
    if path is None or Path(path).suffix != SUFFIX:
        raise ValueError(f"there is no file {name!r} in models/{kind}: put it there and press R, or choose another")
    return Path(path)


def changed(kind: str, name: str) -> str:
    """Return a value that changes with a file."""
    path = None if name == BUILT_IN else folder_paths.get_full_path(kind, name)
    if path is None:
        return name
    state = Path(path).stat()
    return f"{name} {state.st_mtime_ns} {state.st_size}"


def device() -> str:
    """Return the name of ComfyUI's device."""
    return str(comfy.model_management.get_torch_device())


def managed(module: Any) -> Any:
    """Return a patcher by which ComfyUI loads a module onto its device and offloads it."""
    return comfy.model_patcher.ModelPatcher(
        module, comfy.model_management.get_torch_device(), comfy.model_management.unet_offload_device()
    )


def load(*patchers: Any) -> None:
    """Load the modules of patchers onto ComfyUI's device."""
    comfy.model_management.load_models_gpu(list(patchers))
