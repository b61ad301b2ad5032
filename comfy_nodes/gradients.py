"""Gradients: runs ComfyUI's models and decoders so that autograd works.

Nodes run in torch's inference mode. Autograd cannot use weights and conditionings that were made in it, although their values
are valid. They are replaced by ordinary tensors that share their memory.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch import Tensor, nn


def ordinary(tensor: Tensor) -> Tensor:
    """Return a tensor with the same values that autograd can use. It shares the memory of `tensor` if possible."""
    if not tensor.is_inference():
        return tensor
    if type(tensor) not in (Tensor, nn.Parameter) or tensor.layout != torch.strided:
        return tensor.clone()
    shared = torch.empty(0, dtype=tensor.dtype, device=tensor.device)
    return shared.set_(tensor.untyped_storage(), tensor.storage_offset(), tensor.shape, tensor.stride())


def _ordinary_within(value: Any) -> Any:
    """Replace the tensors in lists, dictionaries and ComfyUI's conditionings by ordinary ones. Return other values as given."""
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
    """Enable autograd in the context, and make the weights of the modules constants that autograd can use."""
    done: list[tuple[dict[str, Any], str, Any, Any]] = []
    with torch.inference_mode(False), torch.enable_grad():
        try:
            for part in (part for module in modules if isinstance(module, nn.Module) for part in module.modules()):
                for weights in (part._parameters, part._buffers):
                    for name, weight in list(weights.items()):
                        if weight is None or not (weight.is_inference() or weight.requires_grad):
                            continue
                        constant: Tensor = ordinary(weight).detach()
                        if weights is part._parameters:
                            constant = nn.Parameter(constant, requires_grad=False)
                        weights[name] = constant
                        done.append((weights, name, weight, constant))
            yield
        finally:
            for weights, name, weight, constant in reversed(done):
                if weights.get(name) is constant:  # otherwise ComfyUI has replaced it in the meantime
                    weights[name] = weight


@contextlib.contextmanager
def followed(guider: Any) -> Iterator[None]:
    """Make the evaluations of a guider differentiable in the context, while it samples."""
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
    """Prepare a guider for an evaluation at x, while it samples. Yield whether the evaluation is differentiable.

    It is if x requires a gradient and gradients are enabled.
    """
    wanted = x.requires_grad and torch.is_grad_enabled()
    with followed(guider) if wanted else torch.inference_mode():
        yield wanted


def options_of(options: dict[str, Any]) -> dict[str, Any]:
    """Return model options whose tensors autograd can use."""
    given = options.get("transformer_options", {})
    return {
        **options,
        "transformer_options": {k: ordinary(v) if isinstance(v, Tensor) else v for k, v in given.items()},
    }
