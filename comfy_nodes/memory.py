"""Memory: how many views a model is shown at a time, by ComfyUI's own estimate of what a batch takes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import comfy.model_management
import comfy.sampler_helpers

SPARE = 1.5
"""What ComfyUI itself multiplies the estimate by before it puts several evaluations into one."""


def fitting(patcher: Any, conds: dict[str, Any], shape: Sequence[int]) -> int:
    """How many of shape[0] views fit into the memory that is free now; 1 at least."""
    return _most(patcher, conds, shape, free(patcher))


def free(patcher: Any) -> float:
    """Bytes that are free on a model's device, by its own count where it keeps one."""
    return getattr(patcher, "get_free_memory", comfy.model_management.get_free_memory)(patcher.load_device)


def planned(patcher: Any, conds: dict[str, Any], shape: Sequence[int]) -> int:
    """The same before the model is loaded: how many fit beside the whole of it, once others have made room."""
    total = comfy.model_management.get_total_memory(patcher.load_device)
    room = total - patcher.model_size() - comfy.model_management.extra_reserved_memory()
    return _most(patcher, conds, shape, room)


def _most(patcher: Any, conds: dict[str, Any], shape: Sequence[int], room: float) -> int:
    def needed(views: int) -> float:
        return SPARE * comfy.sampler_helpers.estimate_memory(patcher, [views, *shape[1:]], conds)[1]

    return next((views for views in range(shape[0], 1, -1) if needed(views) < room), 1)
