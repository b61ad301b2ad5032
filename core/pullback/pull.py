"""The pulled-back sampler: reverse diffusion of a pretrained image model in the parameters of a field.

A field theta renders a noiseless signal f(theta; v) for a view v. Its noise eps_v is stored separately (`noise.py`), and
the noisy signal that the model sees is x_v = f(theta; v) + sigma eps_v. One reverse step sigma -> sigma' with DDIM
noise eta (DDRep, eqs. 5 and 8):

    rho    = eta sqrt(1 - sigma'^2 / sigma^2)
    x0_v   = D(x_v, sigma, v)
    y_v    = x0_v + sqrt(1 - rho^2) (sigma' / sigma) (f(theta; v) - x0_v)     the target
    eps_v <- sqrt(1 - rho^2) eps_v + rho z_v                                  z_v is fresh noise
    theta <- argmin E_v ||f(theta; v) - y_v||^2                               the inner solve (`solvers.py`)

A RePaint step back leaves theta unchanged and mixes eps_v in the same way. We add residual carrying: the part of the
target that a finite inner solve misses, e_v = y_v - f(theta; v), is stored, and the next step uses f + gamma e in place
of f. With gamma = 1 an unfinished fit does not bend the trajectory (docs/mathematics.md, section 4).
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
    """How a diffrep is compared with the targets of a step.

    Args:
        params: The parameters theta before the fit.
        view: The B views of the step.
        target: The targets, (B, C, H, W).
        generator: Draws random subsets, if the comparison uses any.
        weights: The weight of each view in the mean square, (B,) with mean 1. None weighs all views equally.

    Returns:
        The function theta -> f(theta) - target that the solver minimises, on all pixels or on a random subset.
    """

    def __call__(
        self, params: Params, view: Any, target: Tensor, generator: Generator, weights: Tensor | None = None, /
    ) -> Residual: ...


@dataclass(frozen=True)
class State:
    """Everything a run needs to continue. Saved after any move, it continues to the same bytes.

    Attributes:
        params: The parameters theta.
        solver: The state of the inner solver.
        noise: The noise eps, in the layout of the run's `Views`.
        carry: The carried residual e = y - f(theta), in the same layout.
        move: How many moves of the walk are done.
        random: The state of the random generator.
        passes: The number of field evaluations with a derivative until now.
        residual: Root mean square of what the last fit missed.
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
        """Return the same state on another device. Scalars of the solver and the generator's state stay on the CPU."""
        moved = {name: p.to(device) for name, p in self.params.items()}
        solver = {name: s if s.ndim == 0 else s.to(device) for name, s in self.solver.items()}
        return replace(self, params=moved, solver=solver, noise=self.noise.to(device), carry=self.carry.to(device))


def start(params: Params, views: Views, solver: Solver, generator: Generator, noise: Tensor | None = None) -> State:
    """Return the state before the first move, with fresh noise and nothing carried.

    The state lies on the device of the parameters, and so does the whole run. Random numbers are drawn on the CPU and
    then moved, so that a seed means the same on every device.

    Args:
        params: The parameters to start from.
        views: The views of the run.
        solver: The inner solver.
        generator: Draws the noise. The run continues with the random numbers that follow.
        noise: Noise to use instead, in the layout of `views`.
    """
    noise = views.noise(generator) if noise is None else noise
    noise = noise.to(next(iter(params.values())).device)
    return State(params, solver.init(params), noise, torch.zeros_like(noise), 0, generator.get_state())


def whole_view(render: Render) -> Fit:
    """Return the default `Fit`, which compares every pixel of every view of a step."""

    def fit(
        params: Params, view: View, target: Tensor, generator: Generator, weights: Tensor | None = None
    ) -> Residual:
        scale = 1.0 if weights is None else weights.to(target).sqrt()[:, None, None, None]
        return lambda theta: scale * (render(theta, view) - target)

    return fit


@dataclass(frozen=True)
class Pull:
    """A pulled-back sampler: what to sample, from which model, and how.

    Args:
        render: The renderer f(theta, view) -> (B, C, H, W), differentiable in theta.
        denoise: The model, as a denoiser D(x, sigma, view).
        views: The views of each step, and the layout of their noise.
        solver: The inner solver.
        sigmas: The noise levels, (N + 1,), strictly falling; only the last may be 0 (`schedules.py`).
        walk: The moves (from, to) between indices of `sigmas`, in order (`schedules.repaint`).
        eta: DDIM's stochasticity in [0, 1]. RePaint needs it above 0.
        gamma: The fraction of the residual that is carried to the next step, in [0, 1].
        fit: How renderings are compared with targets. By default, all pixels of all views are compared.
        last_views: The views of the final fit, if those of a step do not cover the field. Their noise must have the
            same layout.
        tick: Called before every field evaluation of the inner solve. It may raise `Cancelled`.

    Raises:
        ValueError: If eta or gamma is outside [0, 1], the sigmas do not fall, the walk leaves them, or it walks back
            although eta is 0.

    Example:
        Sample a picture of 2 x 2 values from a model whose data are all 0.5:

        >>> import torch
        >>> from pullback.noise import FixedViews
        >>> from pullback.schedules import log_linear, repaint
        >>> from pullback.solvers import GaussNewton
        >>> views, solver = FixedViews(None, (1, 1, 2, 2)), GaussNewton()
        >>> pull = Pull(
        ...     lambda theta, view: theta["x"], lambda x, sigma, view: torch.full_like(x, 0.5),
        ...     views, solver, log_linear(4, 0.1, 10.0), repaint(4),
        ... )
        >>> state = start({"x": torch.zeros(1, 1, 2, 2)}, views, solver, torch.Generator().manual_seed(0))
        >>> pull(state).params["x"].mean()
        tensor(0.5000)
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

    def __post_init__(self) -> None:
        for name, value in (("eta", self.eta), ("gamma", self.gamma)):
            if not 0 <= value <= 1:
                raise ValueError(f"{name} is {value}; it must be between 0 and 1")
        sigmas = self.sigmas
        if sigmas.ndim != 1 or len(sigmas) < 2 or not (sigmas.diff() < 0).all() or sigmas[-1] < 0:
            raise ValueError("sigmas must be at least two noise levels that fall with every step and end at 0 or above")
        if not all(0 <= index < len(sigmas) for move in self.walk for index in move):
            raise ValueError(f"the walk must stay within the {len(sigmas)} noise levels: make both for the same steps")
        if self.eta == 0 and any(to < here for here, to in self.walk):
            raise ValueError(
                "a walk with RePaint steps needs an eta above 0: without fresh noise, those steps change nothing"
            )

    def __call__(
        self,
        state: State,
        generator: Generator | None = None,
        progress: Progress | None = None,
        save: Callable[[State], None] | None = None,
    ) -> State:
        """Run from `state` to the end of the walk.

        Args:
            state: The state to start from: that of `start`, or a saved one.
            generator: Only its device is used: random numbers are drawn there, by default on the CPU. They continue from
                `state.random`; the generator itself is neither read nor advanced.
            progress: Called after every move. It may raise `Cancelled`.
            save: Called with the state after every move, before `progress`.

        Raises:
            ValueError: If the model returns values that are not finite.
        """
        random = Generator(generator.device if generator is not None else "cpu")
        random.set_state(state.random)
        for here, to in self.walk[state.move :]:
            step = self._forward if to < here else self._reverse
            state = step(state, here, to, random)
            state = replace(state, move=state.move + 1, random=random.get_state())
            if save is not None:
                save(state)
            if progress is not None:
                progress(state.move, len(self.walk), state)
        return state

    def _forward(self, state: State, here: int, to: int, generator: Generator) -> State:
        """Take one RePaint step back to a higher noise level."""
        rho = refresh(float(self.sigmas[to]), float(self.sigmas[here]), self.eta)
        return replace(state, noise=mix(state.noise, rho, generator))

    def _reverse(self, state: State, here: int, to: int, generator: Generator) -> State:
        """Take one reverse step to a lower noise level."""
        sigma, sigma_next = float(self.sigmas[here]), float(self.sigmas[to])
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
        compare = fit(state.params, view, target, generator, views.weights(sigma))

        def compare_with_tick(theta: Params) -> Tensor:
            self.tick()
            return compare(theta)

        params, solver, passes = self.solver(compare_with_tick, state.params, state.solver, last)
        with torch.no_grad():
            if views.persistent:
                rendered = self.render(params, views.kept(view))
                missed = target[: len(rendered)] - rendered  # the views that come back are the first ones
                # Contiguous, as after reading it from a file: sums in another memory order would round differently.
                carry = views.scatter(state.carry, view, missed).contiguous()
            else:
                missed, carry = -compare(params), state.carry
        return replace(
            state,
            params=params,
            solver=solver,
            noise=mix(state.noise, rho, generator),
            carry=carry,
            passes=state.passes + passes,
            residual=float(missed.square().mean().sqrt()),
        )


def _finite(x: Tensor, sigma: float) -> Tensor:
    if not torch.isfinite(x).all():
        raise ValueError(
            f"the model returned values that are not finite (NaN or infinite) at sigma {sigma:.3g}: "
            "check its weights, or run it in float32"
        )
    return x
