"""Muon: an optimiser whose steps on matrices are orthogonalised momentum.

The same rule as `torch.optim.Muon` with `adjust_lr_fn="match_rms_adamw"`, with two differences: the Newton-Schulz
iteration runs in the precision of the weights (most CPUs emulate bfloat16, four times slower), and as one batch for all
matrices of the same shape. Source: Jordan et al. 2024, https://kellerjordan.github.io/posts/muon.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn

from ..solvers import RMS, orthogonal_steps

FEWEST = 16
"""Weights with fewer inputs or outputs do not count as hidden layers."""


class Muon(torch.optim.Optimizer):
    """Orthogonalised Nesterov momentum, for the weights of hidden layers.

    Args:
        params: Matrices, or kernels of convolutions, which are flattened to matrices (outputs, all other dimensions).
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
                    by_shape[p.flatten(1).shape].append(p)
            for shape, params in by_shape.items():
                # Momenta are stored as matrices: `flatten` would copy one that is not contiguous, and the update be lost.
                momenta = [self.state[p].setdefault("momentum", p.new_zeros(shape)) for p in params]
                gradients = [p.grad.flatten(1) for p in params if p.grad is not None]
                steps = orthogonal_steps(gradients, momenta, group["momentum"])
                scale = RMS * max(shape) ** 0.5
                for p, step in zip(params, steps, strict=True):
                    p.mul_(1 - group["lr"] * group["weight_decay"]).add_(
                        step.reshape(p.shape), alpha=-group["lr"] * scale
                    )


def with_muon(
    network: nn.Module, lr: float, but: Callable[[str], bool] = lambda name: False
) -> list[torch.optim.Optimizer]:
    """Return the optimisers of a network: Muon for the weights of hidden layers, AdamW for all other parameters.

    Args:
        network: The network. Matrices and the kernels of convolutions count as hidden layers, unless they have fewer than
            `FEWEST` inputs or outputs.
        lr: The learning rate of both optimisers.
        but: Takes the name of a weight and returns whether to train it with AdamW instead.
    """
    named = [(name, p) for name, p in network.named_parameters() if p.requires_grad]
    hidden = {name for name, p in named if p.ndim >= 2 and min(p.flatten(1).shape) >= FEWEST and not but(name)}
    rest = [p for name, p in named if name not in hidden]
    large = [p for name, p in named if name in hidden]
    return [
        *([Muon(large, lr=lr)] if large else []),
        *([torch.optim.AdamW(rest, lr=lr, betas=(0.9, 0.99), weight_decay=0.01)] if rest else []),
    ]
