"""Pull: the reverse diffusion of a pretrained image model, pulled back to the parameters of a field.

theta renders a noiseless signal f(theta; v) for a view v; the noise eps_v is kept apart (`noise.py`), and the
state that the model sees is x_v = f(theta; v) + sigma eps_v. One reverse step sigma -> sigma' with DDIM noise eta
(DDRep, eqs. 5 and 8):

    rho    = eta sqrt(1 - sigma'^2 / sigma^2)
    x0_v   = D(x_v, sigma, v)
    y_v    = x0_v + sqrt(1 - rho^2) (sigma' / sigma) (f(theta; v) - x0_v)     the target
    eps_v <- sqrt(1 - rho^2) eps_v + rho z_v                                  z_v fresh
    theta <- argmin E_v ||f(theta; v) - y_v||^2                               the inner solve (`solvers.py`)

and one RePaint step back leaves theta alone and mixes eps_v in the same way. Our addition is residual carrying:
what a finite inner solve missed, e_v = y_v - f(theta; v), is kept, and the next step sees f + gamma e in place of
f, so that with gamma = 1 an unfinished fit does not bend the trajectory (docs/mathematics.md, section 4).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Protocol

import torch
from torch import Generator, Tensor

from .noise import Views, mix, refresh
from .solvers import Residual, Solver, SolverState
from .types import Denoiser, Params, Progress, Render, View


class Fit(Protocol):
    """How a diffrep compares itself with the targets (B, C, H, W) of B views: a residual of theta.

    weights (B,), of mean 1, say how much the views count in the mean square of the residual; None: all alike.
    """

    def __call__(
        self, params: Params, view: Any, target: Tensor, generator: Generator, weights: Tensor | None = None, /
    ) -> Residual: ...


@dataclass(frozen=True)
class State:
    """Everything that a run needs to go on: save it after any move, and continue to the same bytes.

    noise, carry: stores in the layout of the run's `Views`. move: how many moves of the walk are done.
    random: the generator's state. passes: field passes so far, those with a derivative.
    """

    params: Params
    solver: SolverState
    noise: Tensor
    carry: Tensor
    move: int
    random: Tensor
    passes: int = 0
    residual: float = 0.0

    def to(self, device: str) -> State:
        """The same state on another device; the generator's own stays where it is."""
        moved = {name: p.to(device) for name, p in self.params.items()}
        solver = {name: s if s.ndim == 0 else s.to(device) for name, s in self.solver.items()}
        return replace(self, params=moved, solver=solver, noise=self.noise.to(device), carry=self.carry.to(device))


def start(params: Params, views: Views, solver: Solver, generator: Generator, noise: Tensor | None = None) -> State:
    """The state before the first move: fresh noise (or `noise`, a store) and nothing carried.

    It lies on the device of the parameters, and the whole run with it. Random numbers are drawn on the processor and moved,
    so that a seed means the same everywhere.
    """
    noise = views.noise(generator) if noise is None else noise
    noise = noise.to(next(iter(params.values())).device)
    return State(params, solver.init(params), noise, torch.zeros_like(noise), 0, generator.get_state())


def whole_view(render: Render) -> Fit:
    """The plain comparison: every pixel of every view of the step."""

    def fit(
        params: Params, view: View, target: Tensor, generator: Generator, weights: Tensor | None = None
    ) -> Residual:
        scale = 1.0 if weights is None else weights.to(target).sqrt()[:, None, None, None]
        return lambda theta: scale * (render(theta, view) - target)

    return fit


@dataclass(frozen=True)
class Pull:
    """A pulled-back sampler: what to sample (render, views), from what (denoise), and how.

    render: f(theta, view) -> (B, C, H, W). fit: defaults to comparing whole views. sigmas: a grid (`schedules.py`).
    walk: moves between grid indices, see `schedules.repaint`. eta: DDIM's stochasticity in [0, 1]; RePaint needs
    it above 0. gamma: the part of the residual that is carried, in [0, 1], by the views that come back.
    last_views: what the final fit sees instead of `views`, where a step's views do not cover the field; its stores must
    have the same layout. tick: called before every field pass of the inner solve; it may raise `Cancelled`.
    """

    render: Render
    denoise: Denoiser
    views: Views
    solver: Solver
    sigmas: Tensor
    walk: list[tuple[int, int]]
    eta: float = 0.0
    gamma: float = 1.0
    fit: Fit | None = None
    last_views: Views | None = None
    tick: Callable[[], None] = lambda: None

    def __call__(
        self,
        state: State,
        generator: Generator,
        progress: Progress | None = None,
        save: Callable[[State], None] | None = None,
    ) -> State:
        """Walk from `state` to the end. `save` is called after every move; `progress` may raise `Cancelled`."""
        generator.set_state(state.random)
        for start, to in self.walk[state.move :]:
            state = (
                self._forward(state, start, to, generator) if to < start else self._reverse(state, start, to, generator)
            )
            state = replace(state, move=state.move + 1, random=generator.get_state())
            if save is not None:
                save(state)
            if progress is not None:
                progress(state.move, len(self.walk), state)
        return state

    def _forward(self, state: State, start: int, to: int, generator: Generator) -> State:
        rho = refresh(float(self.sigmas[to]), float(self.sigmas[start]), self.eta)
        return replace(state, noise=mix(state.noise, rho, generator))

    def _reverse(self, state: State, start: int, to: int, generator: Generator) -> State:
        sigma, sigma_next = float(self.sigmas[start]), float(self.sigmas[to])
        rho = refresh(sigma, sigma_next, self.eta)
        last = to == len(self.sigmas) - 1
        views = self.last_views if last and self.last_views is not None else self.views
        view = views.draw(generator)
        with torch.no_grad():
            seen = self.render(state.params, view)
            if self.gamma > 0 and views.persistent:
                seen = seen + self.gamma * views.carried(state.carry, view)
            noisy = seen + sigma * views.gather(state.noise, view, generator).to(seen.device)
            clean = _finite(self.denoise(noisy, torch.tensor(sigma, dtype=noisy.dtype), view), sigma)
            target = clean + (1 - rho**2) ** 0.5 * (sigma_next / sigma) * (seen - clean)
        fit = self.fit or whole_view(self.render)
        residual = fit(state.params, view, target, generator, views.weights(sigma))

        def ticking(theta: Params) -> Tensor:
            self.tick()
            return residual(theta)

        params, solver, passes = self.solver(ticking, state.params, state.solver, last)
        with torch.no_grad():
            missed = _first(target, self.render(params, views.kept(view))) if views.persistent else residual(params)
        return replace(
            state,
            params=params,
            solver=solver,
            noise=mix(state.noise, rho, generator),
            # Plain in memory, as it comes back from a file: sums over another order of the same values round differently.
            carry=views.scatter(state.carry, view, missed).contiguous() if views.persistent else state.carry,
            passes=state.passes + passes,
            residual=float(missed.square().mean().sqrt()),
        )


def _first(target: Tensor, rendered: Tensor) -> Tensor:
    """What is missing of the first targets, as many as were rendered."""
    return target[: len(rendered)] - rendered


def _finite(x: Tensor, sigma: float) -> Tensor:
    if not torch.isfinite(x).all():
        raise ValueError(
            f"the model returned values that are not finite (NaN or infinite) at sigma {sigma:.3g}: "
            "check its weights, or run it in float32"
        )
    return x
