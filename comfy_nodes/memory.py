"""Memory: how much a field needs on the device, and how many views fit into one evaluation by ComfyUI's estimates."""

from __future__ import annotations

import logging
import math
import re
import weakref
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import comfy.model_management
import comfy.model_patcher
import comfy.patcher_extension
import comfy.sampler_helpers
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map_only

from . import notes

SPARE = 1.5
"""The factor by which ComfyUI multiplies its estimate before it batches evaluations."""
SPENT = r"out of memory|not enough .*memory|can't allocate memory"
"""Pattern for messages of torch about devices that have no exception class for lack of memory."""


@dataclass(frozen=True)
class Footprint:
    """The memory of a field in bytes.

    Args:
        kept: The memory between fits, while the model is evaluated.
        most: The peak memory during a fit.
    """

    kept: int = 0
    most: int = 0


def processor() -> bool:
    """Return whether the CPU is ComfyUI's only device."""
    return comfy.model_management.get_torch_device().type == "cpu"


def chosen(patcher: Any, takes: Footprint) -> torch.device:
    """Return where to fit a field while a model is loaded: ComfyUI's device if its memory suffices, else the CPU."""
    device = comfy.model_management.get_torch_device()
    if device.type == "cpu":
        return device
    if device == patcher.load_device:
        left = free(patcher)
    else:  # the model is on another device, so ComfyUI has not freed memory on this one
        comfy.model_management.free_memory(takes.most, device)
        left = comfy.model_management.get_free_memory(device)
    if takes.most <= left:
        return device
    needs, has = (f"{size / 2**30:.2f} GB" for size in (takes.most, left))
    notes.say(f"The field is fitted on the processor: it needs {needs} and {device} has {has} left.")
    return torch.device("cpu")


def making_room(options: dict[str, Any], takes: Footprint) -> dict[str, Any]:
    """Return model options that make ComfyUI free memory for the field, too, when it loads the model.

    ComfyUI computes the memory from the number of views, so the memory of the field is passed as additional views.
    """
    if not takes.most:
        return options

    def prepared(load: Any, patcher: Any, shape: Sequence[int], conds: Any, *rest: Any, **more: Any) -> Any:
        views = [comfy.sampler_helpers.estimate_memory(patcher, [n, *shape[1:]], conds)[1] for n in (1, 2, shape[0])]
        lacking = max(views[2] + takes.kept, takes.most) - views[2]
        extra = math.ceil(lacking / max(1.0, views[1] - views[0]))
        return load(patcher, [shape[0] + extra, *shape[1:]], conds, *rest, **more)

    options = comfy.model_patcher.create_model_options_clone(options)
    kind = comfy.patcher_extension.WrappersMP.PREPARE_SAMPLING
    comfy.patcher_extension.add_wrapper(kind, prepared, options, is_model_options=True)
    return options


def fitting(patcher: Any, conds: dict[str, Any], shape: Sequence[int]) -> int:
    """Return how many of shape[0] views fit into the memory that is free now, at least 1."""
    return _most(patcher, conds, shape, free(patcher))


def free(patcher: Any) -> float:
    """Return the free bytes on a model's device. Models that count their memory themselves report it."""
    return getattr(patcher, "get_free_memory", comfy.model_management.get_free_memory)(patcher.load_device)


def planned(patcher: Any, conds: dict[str, Any], shape: Sequence[int], takes: Footprint = Footprint()) -> int:
    """Return how many of shape[0] views will fit, before the model is loaded.

    The model and the field are counted as loaded completely, and all other models as unloaded.
    """
    total = comfy.model_management.get_total_memory(patcher.load_device)
    room = total - patcher.model_size() - comfy.model_management.extra_reserved_memory() - takes.kept
    return _most(patcher, conds, shape, room)


def _most(patcher: Any, conds: dict[str, Any], shape: Sequence[int], room: float) -> int:
    def needed(views: int) -> float:
        return SPARE * comfy.sampler_helpers.estimate_memory(patcher, [views, *shape[1:]], conds)[1]

    return next((views for views in range(shape[0], 1, -1) if needed(views) < room), 1)


def exhausted(error: BaseException) -> bool:
    """Return whether an error means that memory has run out, on a device or on the CPU."""
    spent = (comfy.model_management.OOM_EXCEPTION, MemoryError)
    return isinstance(error, spent) or re.search(SPENT, str(error), re.I) is not None


def counted(step: Callable[[], Any]) -> Footprint:
    """Return the peak memory of a step, and the memory of what it returns, from a run on the device "meta".

    Tensors on this device have no values. If the step fails without values, the footprint is 0 because it is not known.
    """
    try:
        with torch.inference_mode(False), torch.enable_grad(), Counting() as count:
            left = step()
            return Footprint(count.now, count.most) if left else Footprint()
    except Exception as error:  # noqa: BLE001  the step may be another package's and raise anything
        logging.info("The memory that the field needs on the device is not known: %s", error)
        return Footprint()


def _given(kind: type, args: Any, kwargs: dict[str, Any]) -> Any:
    """Return the first argument of a type, or None."""
    return next((value for value in (*args, *kwargs.values()) if isinstance(value, kind)), None)


class Counting(TorchDispatchMode):
    """Counts the bytes that "meta" tensors would take: `now`, and at the peak (`most`). If values are read, they are 1."""

    def __init__(self) -> None:
        super().__init__()
        self.now = self.most = 0
        self.known: set[int] = set()

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs, aten = kwargs or {}, torch.ops.aten
        if args and isinstance(args[0], Tensor) and args[0].is_meta:
            if function is aten._local_scalar_dense.default:
                return 1
            if function._opname in ("_to_copy", "to"):  # "to" in inference mode
                device, dtype = (_given(kind, args, kwargs) for kind in (torch.device, torch.dtype))
                if device is not None and device.type == "cpu":
                    return torch.ones(args[0].shape, dtype=dtype or args[0].dtype)
            if function is aten.nonzero.default:
                function, args = aten.new_empty.default, (args[0], (args[0].numel(), args[0].ndim))
                kwargs = {"dtype": torch.int64}
        made = function(*args, **kwargs)
        tree_map_only(Tensor, self._count, made)
        return made

    def _count(self, tensor: Tensor) -> None:
        storage = tensor.untyped_storage()
        if tensor.is_meta and storage._cdata not in self.known:
            self.known.add(storage._cdata)
            self.now += storage.nbytes()
            self.most = max(self.most, self.now)
            weakref.finalize(storage, self._freed, storage._cdata, storage.nbytes())

    def _freed(self, key: int, bytes: int) -> None:
        self.known.discard(key)
        self.now -= bytes
