"""Which precision a machine multiplies faster in."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

INSTRUCTIONS = "avx512_bf16", "amx_bf16"
"""CPU instructions that multiply bfloat16. Without them it is emulated, which is several times slower than float32."""


def faster_precision(device: str = "") -> str:
    """Return the precision in which a device multiplies faster: "bf16" or "no" (float32).

    It is read off the device, not measured, so that a seed gives the same result every time.

    Args:
        device: The device; by default CUDA if there is one, and else the CPU.
    """
    kind = torch.device(device).type if device else "cuda" if torch.cuda.is_available() else "cpu"
    if kind != "cpu":
        return "bf16" if kind == "cuda" else "no"
    found: Mapping[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()  # older versions of PyTorch do not know
    return "bf16" if any(found.get(name) for name in INSTRUCTIONS) else "no"
