"""Solvers: the inner least-squares problem, theta <- argmin ||residual(theta)||^2, warm-started.

This is where (J^T J)^-1 J^T of the pulled-back flow is applied, without forming J. A solver is a small frozen
object with `init(params) -> state` and `__call__(residual, params, state, last) -> (params, state, passes)`;
its state is tensors only, so that a run can be saved at any step. `residual(params)` is a tensor of any shape
and may be a new random part of the problem at each call. `last` marks the final fit, which nothing after it corrects.
`passes` counts evaluations of the residual with a derivative, the unit of cost.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor
from torch.func import jvp, vjp

from .types import Params

Residual = Callable[[Params], Tensor]
SolverState = dict[str, Tensor]


class Solver(Protocol):
    """The interface of every inner solver; see the module's docstring."""

    def init(self, params: Params) -> SolverState: ...

    def __call__(
        self, residual: Residual, params: Params, state: SolverState, last: bool
    ) -> tuple[Params, SolverState, int]: ...


@dataclass(frozen=True)
class Adam:
    """`steps` Adam steps on the mean squared residual (Kingma & Ba 2015), `last_steps` at the final fit.

    keep: carry the moments from one diffusion step to the next. lr: one for all parameters, or one per name.
    The final fit's rate falls from `last_rate` of the others' to zero along a half cosine, so that it ends on the answer
    and not around it.
    """

    steps: int = 10
    last_steps: int = 100
    lr: float | Mapping[str, float] = 4e-3
    betas: tuple[float, float] = (0.9, 0.99)
    keep: bool = True
    last_rate: float = 1.0

    def init(self, params: Params) -> SolverState:
        moments = {f"{m}.{name}": torch.zeros_like(p) for name, p in params.items() for m in ("m", "v")}
        return moments | {"count": torch.zeros((), dtype=torch.float64, device="cpu")}  # read at every pass

    @torch.enable_grad()  # sampling is often called where gradients are off
    def __call__(
        self, residual: Residual, params: Params, state: SolverState, last: bool
    ) -> tuple[Params, SolverState, int]:
        state = state if self.keep else self.init(params)
        state = {k: v.clone() for k, v in state.items()}
        params = {k: p.detach().clone().requires_grad_() for k, p in params.items()}
        steps = self.last_steps if last else self.steps
        for step in range(steps):
            loss = residual(params).square().mean()
            gradients = torch.autograd.grad(loss, list(params.values()))
            decay = self.last_rate * (0.5 + 0.5 * math.cos(math.pi * step / steps)) if last else 1.0
            self._update(params, gradients, state, decay)
        return {k: p.detach() for k, p in params.items()}, state, steps

    @torch.no_grad()
    def _update(self, params: Params, gradients: tuple[Tensor, ...], state: SolverState, decay: float) -> None:
        b1, b2 = self.betas
        state["count"] += 1
        count = float(state["count"])
        for (name, p), g in zip(params.items(), gradients, strict=True):
            lr = self.lr if isinstance(self.lr, (int, float)) else self.lr[name]
            m, v = state[f"m.{name}"].lerp_(g, 1 - b1), state[f"v.{name}"].mul_(b2).addcmul_(g, g, value=1 - b2)
            p.addcdiv_(m, (v / (1 - b2**count)).sqrt_().add_(1e-12), value=-decay * lr / (1 - b1**count))


def paper_adam(lr: float | Mapping[str, float] = 1e-3) -> Adam:
    """DDRep's 200 Adam steps per diffusion step. The fresh state and the rate are ours: the paper gives neither."""
    return Adam(steps=200, last_steps=200, lr=lr, betas=(0.9, 0.999), keep=False)


@dataclass(frozen=True)
class Muon(Adam):
    """Adam, but for the weights of hidden layers, which follow their momentum made orthogonal (Jordan et al. 2024).

    A SIREN gets closer in 4 passes than by Adam in 13 (docs/benchmarks.md). The orthogonal step moves all directions of a
    layer alike, where a gradient is mostly a few of them; its size is `hidden_lr` of the root mean square that Adam's would
    have.

    hidden: the names of those weights, matrices. momentum: of their gradients.
    """

    steps: int = 3
    last_steps: int = 40
    hidden: tuple[str, ...] = ()
    hidden_lr: float = 3e-2
    momentum: float = 0.9

    def init(self, params: Params) -> SolverState:
        state = super().init(params)
        return {name: value for name, value in state.items() if name.removeprefix("v.") not in self.hidden}

    @torch.no_grad()
    def _update(self, params: Params, gradients: tuple[Tensor, ...], state: SolverState, decay: float) -> None:
        by_name = dict(zip(params, gradients, strict=True))
        for names in _alike({name: params[name] for name in self.hidden}):
            momenta = [state[f"m.{name}"].lerp_(by_name[name], 1 - self.momentum) for name in names]
            ahead = torch.stack([by_name[n].lerp(m, self.momentum) for n, m in zip(names, momenta, strict=True)])
            for name, step in zip(names, orthogonalise(ahead), strict=True):
                params[name].add_(step, alpha=-decay * self.hidden_lr * 0.2 * max(step.shape) ** 0.5)
        rest = {name: p for name, p in params.items() if name not in self.hidden}
        super()._update(rest, tuple(by_name[name] for name in rest), state, decay)


def _alike(matrices: Params) -> list[list[str]]:
    """Names of matrices of one shape together."""
    groups: dict[tuple[int, ...], list[str]] = {}
    for name, matrix in matrices.items():
        groups.setdefault(tuple(matrix.shape), []).append(name)
    return list(groups.values())


def orthogonalise(matrices: Tensor, steps: int = 5) -> Tensor:
    """Push the singular values of matrices (..., m, n) towards 1 by a quintic Newton-Schulz iteration.

    Source: Jordan et al. 2024, https://kellerjordan.github.io/posts/muon; in the matrices' own precision.
    """
    a, b, c = 3.4445, -4.7750, 2.0315
    tall = matrices.shape[-2] > matrices.shape[-1]
    x = matrices.mT if tall else matrices
    x = x / (torch.linalg.matrix_norm(x, keepdim=True) + 1e-7)
    for _ in range(steps):
        gram = x @ x.mT
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x.mT if tall else x


@dataclass(frozen=True)
class GaussNewton:
    """Damped Gauss-Newton: `iterations` of (J^T J + damping I) d = -J^T r, each by `cg_steps` conjugate gradients.

    Matrix-free by torch.func; the damping is relative to the curvature of J^T J along the gradient. Exact for linear f.
    The final fit takes `last_iterations`. The residual must be the same function at each call (no random rays).
    `passes` counts the products with J or J^T that were made.
    """

    iterations: int = 1
    cg_steps: int = 10
    damping: float = 1e-6
    last_iterations: int = 3

    def init(self, params: Params) -> SolverState:
        return {}

    def __call__(
        self, residual: Residual, params: Params, state: SolverState, last: bool
    ) -> tuple[Params, SolverState, int]:
        passes = 0
        for _ in range(max(self.iterations, self.last_iterations) if last else self.iterations):
            params, made = self._iterate(residual, params)
            passes += made
        return params, state, passes

    def _iterate(self, residual: Residual, params: Params) -> tuple[Params, int]:
        names = sorted(params)  # one order, whatever file the parameters came from: sums must not change
        params = {k: params[k].detach() for k in names}  # and jvp wants primals and tangents in the same one
        shapes, sizes = [params[k].shape for k in names], [params[k].numel() for k in names]
        made = 2

        def pack(tree: Params) -> Tensor:
            return torch.cat([tree[k].reshape(-1) for k in names])

        def unpack(flat: Tensor) -> Params:
            return {k: part.view(s) for k, part, s in zip(names, flat.split(sizes), shapes, strict=True)}

        r, pull = vjp(residual, params)  # type: ignore[misc]

        def gram(d: Tensor) -> Tensor:
            nonlocal made
            made += 2
            return pack(pull(jvp(residual, (params,), (unpack(d),))[1])[0])

        gradient = pack(pull(r)[0])
        probe = gradient / gradient.norm().clamp(min=torch.finfo(gradient.dtype).tiny)
        scale = self.damping * (probe @ gram(probe))
        step = conjugate_gradients(lambda d: gram(d) + scale * d, -gradient, self.cg_steps)
        return unpack(pack(params) + step), made


def conjugate_gradients(
    operator: Callable[[Tensor], Tensor], b: Tensor, steps: int, tolerance: float = 1e-28
) -> Tensor:
    """Solve operator(x) = b, symmetric positive semi-definite, b (n,), from x = 0 (Hestenes & Stiefel 1952).

    Started at zero it stays in the range of the operator: the least-norm solution where there are many.
    """
    x, r, p = torch.zeros_like(b), b.clone(), b.clone()
    power = r @ r
    stop = tolerance * power
    for _ in range(steps):
        if power <= stop:
            break
        image = operator(p)
        alpha = power / (p @ image)
        x, r = x + alpha * p, r - alpha * image
        power, before = r @ r, power
        p = r + power / before * p
    return x
