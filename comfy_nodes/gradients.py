"""Gradients: ComfyUI's models and decoders, run so that autograd can follow them.

Nodes run in torch's inference mode. Weights and conditionings that were made in it cannot take part in autograd, although nothing
is wrong with their values: they are replaced by ordinary tensors that share their memory.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch import Tensor, nn


def ordinary(tensor: Tensor) -> Tensor:
    """Return a tensor that autograd takes, with the values of another. Its memory is shared where that is possible."""
    if not tensor.is_inference():
        return tensor
    if type(tensor) not in (Tensor, nn.Parameter) or tensor.layout != torch.strided:
        return tensor.clone()
    shared = torch.empty(0, dtype=tensor.dtype, device=tensor.device)
    return shared.set_(tensor.untyped_storage(), tensor.storage_offset(), tensor.shape, tensor.stride())


def _ordinary_within(value: Any) -> Any:
    """The same value with ordinary tensors: of lists, dictionaries and ComfyUI's conditionings. Others are left alone."""
    if isinstance(value, Tensor):
        return ordinary(value)
    if isinstance(value, dict):
        return {key: _ordinary_within(each) for key, each in value.items()}
    if type(value) in (list, tuple):
        return type(value)(_ordinary_within(each) for each in value)
    if hasattr(value, "_copy_with") and hasattr(value, "cond"):
        return value._copy_with(_ordinary_within(value.cond))
    return value


@contextlib.contextmanager
def swapped(modules: Iterable[Any]) -> Iterator[None]:
    """Within it, autograd is on, and the weights of the modules are constants that it takes."""
    done: list[tuple[dict[str, Any], str, Any, Any]] = []
    with torch.inference_mode(False), torch.enable_grad():
        try:
            for part in (part for module in modules if isinstance(module, nn.Module) for part in module.modules()):
                for weights in (part._parameters, part._buffers):
                    for name, weight in list(weights.items()):
                        if weight is None or not (weight.is_inference() or weight.requires_grad):
                            continue
                        taken: Tensor = ordinary(weight).detach()
                        if weights is part._parameters:
                            taken = nn.Parameter(taken, requires_grad=False)
                        weights[name] = taken
                        done.append((weights, name, weight, taken))
            yield
        finally:
            for weights, name, weight, taken in reversed(done):
                if weights.get(name) is taken:  # else somebody has put another one there
                    weights[name] = weight


@contextlib.contextmanager
def followed(guider: Any) -> Iterator[None]:
    """Within it, autograd can follow the evaluations of a guider that is sampling."""
    conds = guider.conds
    modules = [guider.inner_model, *(getattr(each, "model", None) for each in guider.loaded_models)]
    with swapped(modules):
        guider.conds = _ordinary_within(conds)
        try:
            yield
        finally:
            guider.conds = conds


@contextlib.contextmanager
def estimating(guider: Any, x: Tensor) -> Iterator[bool]:
    """Within it, a guider that is sampling can be evaluated at x. It gives whether autograd follows, as it does if x wants it."""
    wanted = x.requires_grad and torch.is_grad_enabled()
    with followed(guider) if wanted else torch.inference_mode():
        yield wanted


def options_of(options: dict[str, Any]) -> dict[str, Any]:
    """Return model options whose tensors autograd takes."""
    own = options.get("transformer_options", {})
    return {
        **options,
        "transformer_options": {k: ordinary(v) if isinstance(v, Tensor) else v for k, v in own.items()},
    }
