"""Muon: an optimiser whose steps on matrices are orthogonalised momentum.

The same rule as `torch.optim.Muon` with `adjust_lr_fn="match_rms_adamw"`, with two differences: the Newton-Schulz
iteration runs in the precision of the weights (most CPUs emulate bfloat16, four times slower), and on all matrices of one
shape at once. Source: Jordan et al. 2024, https://kellerjordan.github.io/posts/muon.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

import torch
from torch import Tensor

from ..solvers import RMS, orthogonal_steps


class Muon(torch.optim.Optimizer):
    """Orthogonalised Nesterov momentum, for parameters that are matrices.

    Args:
        params: The matrices.
        lr: The learning rate; the root mean square of a step is about 0.2 `lr`, as with AdamW.
        momentum: The decay of the momentum.
        weight_decay: As in AdamW.
    """

    def __init__(self, params: Iterable[Tensor], lr: float, momentum: float = 0.95, weight_decay: float = 0.01):
        super().__init__(params, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """Update every matrix that has a gradient."""
        for group in self.param_groups:
            by_shape: dict[torch.Size, list[Tensor]] = defaultdict(list)
            for p in group["params"]:
                if p.grad is not None:
                    by_shape[p.shape].append(p)
            for shape, params in by_shape.items():
                momenta = [self.state[p].setdefault("momentum", torch.zeros_like(p)) for p in params]
                gradients = [p.grad for p in params if p.grad is not None]
                steps = orthogonal_steps(gradients, momenta, group["momentum"])
                scale = RMS * max(shape) ** 0.5
                for p, step in zip(params, steps, strict=True):
                    p.mul_(1 - group["lr"] * group["weight_decay"]).add_(step, alpha=-group["lr"] * scale)
