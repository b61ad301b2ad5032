"""Solvers for the inner least-squares problem, theta <- argmin ||r(theta)||^2, started from the current theta.

This is where (J^T J)^-1 J^T of the pulled-back flow is applied, without forming J. A solver is a small frozen object
whose state is a dict of tensors, so that a run can be saved after any step (`Solver`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor
from torch.func import jvp, vjp

from .types import Params

Residual = Callable[[Params], Tensor]
"""The function r(theta) = f(theta) - target to be minimised: a tensor of any shape. It may evaluate a new random subset
of the problem at each call."""
SolverState = dict[str, Tensor]

RMS = 0.2
"""Root mean square of an orthogonalised step, relative to the learning rate: about that of Adam's steps."""


class Solver(Protocol):
    """The interface of every inner solver."""

    def init(self, params: Params) -> SolverState:
        """Return the state before the first call."""
        ...

    def __call__(
        self, residual: Residual, params: Params, state: SolverState, last: bool
    ) -> tuple[Params, SolverState, int]:
        """Fit the parameters.

        Args:
            residual: The function to minimise.
            params: The parameters to start from.
            state: The solver's state.
            last: Whether this is the final fit, which no later one corrects.

        Returns:
            The new parameters, the new state, and the number of evaluations of the residual with a derivative.
        """
        ...


@dataclass(frozen=True)
class Adam:
    """Adam on the mean squared residual (Kingma & Ba 2015).

    Args:
        steps: Steps per fit.
        last_steps: Steps of the final fit. Its learning rate falls to zero along a half cosine, so that it ends at the
            minimum instead of around it.
        lr: The learning rate, one for all parameters or one for each name.
        betas: The decay of the two moments.
        keep: Whether to keep the moments from one diffusion step to the next.
        last_rate: Factor on the learning rate at the beginning of the final fit.

    Example:
        >>> solver, params = Adam(steps=200, lr=0.1), {"x": torch.zeros(2)}
        >>> params, state, passes = solver(lambda p: p["x"] - 3, params, solver.init(params), False)
        >>> params["x"].round(decimals=2), passes
        (tensor([3., 3.]), 200)
    """

    steps: int = 10
    last_steps: int = 100
    lr: float | Mapping[str, float] = 4e-3
    betas: tuple[float, float] = (0.9, 0.99)
    keep: bool = True
    last_rate: float = 1.0

    def init(self, params: Params) -> SolverState:
        moments = {f"{m}.{name}": torch.zeros_like(p) for name, p in params.items() for m in ("m", "v")}
        return moments | {"count": torch.zeros((), dtype=torch.float64, device="cpu")}  # read at every step

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
        """Take one step, in place. decay: factor on the learning rate."""
        b1, b2 = self.betas
        state["count"] += 1
        count = float(state["count"])
        for (name, p), g in zip(params.items(), gradients, strict=True):
            lr = self.lr if isinstance(self.lr, (int, float)) else self.lr[name]
            m = state[f"m.{name}"].lerp_(g, 1 - b1)
            v = state[f"v.{name}"].mul_(b2).addcmul_(g, g, value=1 - b2)
            p.addcdiv_(m, (v / (1 - b2**count)).sqrt_().add_(1e-12), value=-decay * lr / (1 - b1**count))


def paper_adam(lr: float | Mapping[str, float] = 1e-3) -> Adam:
    """Return DDRep's inner solver: 200 Adam steps per diffusion step, each time with fresh moments.

    The paper states neither the fresh moments nor the learning rate; both are our choice.
    """
    return Adam(steps=200, last_steps=200, lr=lr, betas=(0.9, 0.999), keep=False)


@dataclass(frozen=True)
class Muon(Adam):
    """Muon for the weights of hidden layers (Jordan et al. 2024), Adam for all other parameters.

    The gradient of a SIREN's layer lies mostly in a few directions. An orthogonalised step moves equally in all directions,
    so that a SIREN gets closer to its targets in 4 passes than in 13 passes of Adam (docs/benchmarks.md).

    Args:
        steps, last_steps, lr, betas, keep, last_rate: As in `Adam`.
        hidden: The names of the weights that Muon updates; each is a matrix.
        hidden_lr: Their learning rate.
        momentum: The decay of their momentum.
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
        for names in _by_shape({name: params[name] for name in self.hidden}):
            momenta = [state[f"m.{name}"] for name in names]
            steps = orthogonal_steps([by_name[name] for name in names], momenta, self.momentum)
            for name, step in zip(names, steps, strict=True):
                params[name].add_(step, alpha=-decay * self.hidden_lr * RMS * max(step.shape) ** 0.5)
        rest = {name: p for name, p in params.items() if name not in self.hidden}
        super()._update(rest, tuple(by_name[name] for name in rest), state, decay)


def _by_shape(matrices: Params) -> list[list[str]]:
    """Return the names of matrices, grouped by shape."""
    groups: dict[tuple[int, ...], list[str]] = {}
    for name, matrix in matrices.items():
        groups.setdefault(tuple(matrix.shape), []).append(name)
    return list(groups.values())


def orthogonal_steps(gradients: Sequence[Tensor], momenta: Sequence[Tensor], momentum: float) -> Tensor:
    """Update the momenta of K matrices of one shape and return their orthogonalised Nesterov steps.

    Args:
        gradients: K gradients (m, n).
        momenta: K running means (m, n) of the gradients, updated in place.
        momentum: The decay of the running means, in [0, 1).

    Returns:
        The steps (K, m, n), with singular values near 1.
    """
    for mean, gradient in zip(momenta, gradients, strict=True):
        mean.lerp_(gradient, 1 - momentum)
    ahead = [gradient.lerp(mean, momentum) for mean, gradient in zip(momenta, gradients, strict=True)]
    return orthogonalise(torch.stack(ahead))


def orthogonalise(matrices: Tensor, steps: int = 5) -> Tensor:
    """Push the singular values of matrices towards 1 by a quintic Newton-Schulz iteration, in their own precision.

    Source: Jordan et al. 2024, https://kellerjordan.github.io/posts/muon.

    Args:
        matrices: Matrices (..., m, n).
        steps: Iterations.

    Example:
        >>> torch.linalg.svdvals(orthogonalise(torch.diag(torch.tensor([5.0, 1.0])))).round()
        tensor([1., 1.])
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
    """Damped Gauss-Newton, matrix-free by torch.func; exact in one iteration where f is linear.

    Each iteration solves (J^T J + damping I) d = -J^T r by conjugate gradients. The residual must be the same function
    at every call, so random subsets do not work. The returned number of passes counts the products with J or J^T.

    Args:
        iterations: Iterations per fit.
        cg_steps: Steps of conjugate gradients per iteration.
        damping: The damping, relative to the curvature of J^T J along the gradient.
        last_iterations: The least number of iterations of the final fit.
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
            params, products = self._iterate(residual, params)
            passes += products
        return params, state, passes

    def _iterate(self, residual: Residual, params: Params) -> tuple[Params, int]:
        # A fixed order, so that sums round equally when the parameters come from a file. jvp needs primals and tangents in
        # the same order too.
        names = sorted(params)
        params = {k: params[k].detach() for k in names}
        shapes, sizes = [params[k].shape for k in names], [params[k].numel() for k in names]
        products = 2

        def pack(tree: Params) -> Tensor:
            return torch.cat([tree[k].reshape(-1) for k in names])

        def unpack(flat: Tensor) -> Params:
            return {k: part.view(s) for k, part, s in zip(names, flat.split(sizes), shapes, strict=True)}

        r, transposed = vjp(residual, params)  # type: ignore[misc]

        def gram(d: Tensor) -> Tensor:
            """Return J^T J d."""
            nonlocal products
            products += 2
            return pack(transposed(jvp(residual, (params,), (unpack(d),))[1])[0])

        gradient = pack(transposed(r)[0])
        direction = gradient / gradient.norm().clamp(min=torch.finfo(gradient.dtype).tiny)
        damping = self.damping * (direction @ gram(direction))
        step = conjugate_gradients(lambda d: gram(d) + damping * d, -gradient, self.cg_steps)
        return unpack(pack(params) + step), products


def conjugate_gradients(
    operator: Callable[[Tensor], Tensor], b: Tensor, steps: int, tolerance: float = 1e-28
) -> Tensor:
    """Solve operator(x) = b for a symmetric positive semi-definite operator (Hestenes & Stiefel 1952).

    Args:
        operator: The linear operator on vectors (n,).
        b: The right-hand side, (n,).
        steps: The largest number of steps.
        tolerance: Stop when ||operator(x) - b||^2 falls below this fraction of ||b||^2.

    Returns:
        The solution, (n,). If there are several, it is the one of least norm, since the iteration starts at zero.

    Example:
        >>> conjugate_gradients(lambda x: 4 * x, torch.tensor([2.0, 8.0]), steps=3)
        tensor([0.5000, 2.0000])
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
