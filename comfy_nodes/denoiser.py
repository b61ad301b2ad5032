"""The denoiser of a run: evaluates a ComfyUI guider as the core's D(x, sigma, view)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import comfy.model_management
import torch
from torch import Tensor

from . import gradients, memory
from .guides import with_layout
from .ladder import Ladder
from .memory import exhausted
from .signals import CAMERA, flat, framed


class Denoiser:
    """The core's D(x, sigma, view), evaluated by a guider while it samples.

    Args:
        guider: The guider.
        extra: The extra arguments that ComfyUI passes to samplers.
        ladder: The noise levels.
        knows_view: Whether the model is given the view: its camera, or the conditioning of the side that it shows.
        sides: The sides that have their own conditioning.
        limit: The largest number of views in one evaluation. It is halved if memory runs out.
        count_views: Called with the number of views after each evaluation.
        layout: The core's layout of regions for the built-in model infd, or None.
    """

    def __init__(self, guider: Any, extra: dict[str, Any], ladder: Ladder, knows_view: bool, sides: set[str], limit: int,
                 count_views: Callable[[int], None] = lambda _: None, layout: Any = None):  # fmt: skip
        self.guider, self.extra, self.ladder, self.limit = guider, extra, ladder, limit
        self.knows_view, self.sides, self.device = knows_view, sides, guider.model_patcher.load_device
        self.format, self.count_views = guider.model_patcher.get_model_object("latent_format"), count_views
        self.layout = layout
        self.evaluating = False
        """Whether the model is being evaluated. If so, an exception comes from the model."""

    def __call__(self, x: Tensor, sigma: Tensor, view: Any) -> Tensor:
        """Return x0_hat (B, C, H, W), in the dtype and on the device of x.

        Args:
            x: Noisy signals (B, C, H, W).
            sigma: One of the ladder's noise levels.
            view: A batch of B views, or None.
        """
        tick()
        self.evaluating = True
        index = self.ladder.find(sigma)
        scaled = x * float(self.ladder.alphas[index])
        clean = torch.empty_like(x)
        for side, part in self._parts(view, len(x)):
            while len(part):
                size = self._size(scaled[part])
                some, rest = part[:size], part[size:]
                try:
                    seen = self._evaluated(scaled[some], self.ladder.host[index], _picked(view, some), side)
                    clean[some] = seen * self.ladder.spread
                    self.count_views(size)
                except RuntimeError as error:
                    if size == 1 or not exhausted(error):
                        raise
                    self.limit, rest = size // 2, part  # the estimated memory was too low
                    comfy.model_management.soft_empty_cache()
                part = rest
        self.evaluating = False
        return clean

    def masked(self, sigma: Tensor, mask: Tensor) -> Tensor:
        """Return the mask for a noise level. It depends on the level only with Differential Diffusion."""
        mask_function = self.extra["model_options"].get("denoise_mask_function")
        if mask_function is None:
            return mask
        sigmas, at = self.ladder.host.to(self.device), self.ladder.find(sigma)
        more = {"model": self.guider, "sigmas": sigmas}
        return mask_function(sigmas[at : at + 1], mask.to(self.device), extra_options=more).to(mask)

    def _size(self, x: Tensor) -> int:
        """Return how many of the views fit into one evaluation."""
        x = framed(self.format, x[: self.limit])
        return memory.fitting(self.guider.model_patcher, self.guider.conds, x.shape)

    def _parts(self, view: Any, count: int) -> list[tuple[str, Tensor]]:
        """Group `count` views by their conditioning. Return pairs of a side, or "", and the indices of its views."""
        from ..core.pullback.adapters.view_words import view_words
        from ..core.pullback.geometry.cameras import Cameras

        everything = torch.arange(count)
        if not (self.knows_view and self.sides and isinstance(view, Cameras)):
            return [("", everything)]
        words = [word.split()[0] for word in view_words(view.azimuth, view.elevation)]
        names = [word if word in self.sides else "" for word in words]
        return [(side, everything[[name == side for name in names]]) for side in dict.fromkeys(names)]

    def _evaluated(self, x: Tensor, sigma: Tensor, view: Any, side: str) -> Tensor:
        from ..core.pullback.generative.toybox.model import camera_tensor

        options = dict(self.extra["model_options"])
        if self.knows_view and view is not None:
            camera = camera_tensor(view, len(x)).float().clone()
            options["transformer_options"] = {**options.get("transformer_options", {}), CAMERA: camera}
        options = with_layout(options, self.layout, view)
        conds = self.guider.conds
        if side:
            self.guider.conds = {**conds, "positive": conds[side_key(side)]}
        try:
            with gradients.estimating(self.guider, x) as differentiable:
                options = gradients.options_of(options) if differentiable else options
                clean = self.guider(
                    framed(self.format, x).to(self.device), sigma.to(self.device).expand(len(x)), model_options=options,
                    seed=self.extra.get("seed"),
                )  # fmt: skip
        finally:
            self.guider.conds = conds
        # The clone is an ordinary tensor: autograd cannot use tensors that were made in inference mode.
        return flat(clean).to(x) if differentiable else flat(clean).to(x).clone()


def _picked(view: Any, some: Tensor) -> Any:
    """Return the views of a batch at the indices `some`."""
    return view[some] if hasattr(view, "__getitem__") else view


def side_key(side: str) -> str:
    """Return the key of a side's conditioning in a guider."""
    return f"pullback_{side}"


def tick() -> None:
    """Raise ComfyUI's interruption if the user has pressed Cancel."""
    comfy.model_management.throw_exception_if_processing_interrupted()
