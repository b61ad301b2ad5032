"""Which precision a machine multiplies faster in."""

from __future__ import annotations

import functools
import time

import torch
from torch import nn


@functools.cache
def faster_precision() -> str:
    """Return the precision in which this machine multiplies faster: "bf16" or "no" (float32).

    CPUs without bfloat16 instructions emulate them, which is several times slower than float32.
    """
    if torch.cuda.is_available():
        return "bf16"

    def seconds(dtype: torch.dtype) -> float:
        x = torch.randn(8, 32, 64, 64).to(dtype)
        weight = torch.randn(32, 32, 3, 3).to(dtype)
        times = []
        for _ in range(3):
            start = time.perf_counter()
            nn.functional.conv2d(x, weight)
            times.append(time.perf_counter() - start)
        return min(times)

    return "bf16" if seconds(torch.bfloat16) < seconds(torch.float32) else "no"
