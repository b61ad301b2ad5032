"""Types and callables that all modules share.

Images are (B, C, H, W) float in the model's range [-1, 1]; only files and interfaces use the display range [0, 1]. `sigma` is
the noise level in x = x0 + sigma eps (variance exploding), a 0-d or (B,) tensor.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol, runtime_checkable

from torch import Tensor

View = Any
"""A batch of views, of any type that the diffrep's renderer takes. The sampler never looks into it."""

Params = dict[str, Tensor]
"""The parameters theta of a diffrep, by name."""


Box = tuple[float, float, float, float]
"""Left, top, width and height of a part of a picture, as fractions of the picture's sides."""


class Denoiser(Protocol):
    """The posterior mean E[x0 | x] of a diffusion model: D(x, sigma, cond) -> x0_hat, all (B, C, H, W)."""

    def __call__(self, x: Tensor, sigma: Tensor, cond: Any) -> Tensor: ...


Render = Callable[[Params, View], Tensor]
"""A diffrep's renderer f(theta, view) -> (B, C, H, W), differentiable in theta."""


class Cancelled(Exception):
    """The user stopped the work; nothing half-written is left behind."""


Progress = Callable[[int, int, Any], None]
"""The callback of long work: (moves done, moves in total, the state). It may raise `Cancelled` to stop."""


class CLIP(Protocol):
    """The interface of models that compare pictures with texts.

    Attributes:
        size: Side of the pictures that it sees, in pixels. It scales pictures of other sizes.
        temperature: The factor of its cosine similarities in the softmax of its training.
    """

    @property
    def size(self) -> int: ...
    @property
    def temperature(self) -> float: ...

    def encode_image(self, pictures: Tensor) -> Tensor:
        """Return the unit embeddings (B, D) of pictures (B, 3, H, W) in [0, 1], differentiable in the pictures."""
        ...

    def encode_text(self, texts: list[str]) -> Tensor:
        """Return the unit embeddings (B, D) of B texts.

        Raises:
            ValueError: If it cannot encode one of them.
        """
        ...


class Model(Protocol):
    """The interface of pretrained image diffusion models.

    Attributes:
        name: Its name or path. Only a model of the same name decodes a field or continues a run.
        channels: Channels of the signal that it denoises (pixels or latents).
        size: Side of the signal that it was trained on.
        scale: Picture pixels per signal pixel.
        sigma_min, sigma_max: The range of noise levels that it was trained on.
        device: The device that it runs on, and that the tensors of a run are on.
        elevations: Lowest and highest elevation from which it knows objects, in degrees.
    """

    @property
    def name(self) -> str: ...
    @property
    def channels(self) -> int: ...
    @property
    def size(self) -> int: ...
    @property
    def scale(self) -> int: ...
    @property
    def sigma_min(self) -> float: ...
    @property
    def sigma_max(self) -> float: ...
    @property
    def device(self) -> str: ...
    @property
    def elevations(self) -> tuple[float, float]: ...

    def denoiser(self, prompt: str, negative: str, guidance: float) -> Denoiser:
        """Return the denoiser D(x, sigma, view) for a prompt. It must handle `Cameras`, and may ignore other views.

        Args:
            prompt: The prompt.
            negative: The negative prompt, which may be empty.
            guidance: 0 is unconditional, 1 is conditional, and larger values exaggerate (`guidance.py`).

        Raises:
            ValueError: If the model cannot take the prompt.
        """
        ...

    def decode(self, signal: Tensor) -> Tensor:
        """Decode signals (B, channels, h, w) to display pictures (B, 3 or 4, scale h, scale w) in [0, 1], RGBA premultiplied."""
        ...


@runtime_checkable
class AnySize(Protocol):
    """A `Model` whose decoder draws pictures of any size."""

    def any_size(
        self, signal: Tensor, height: int, width: int, crop: tuple[int, int, int, int] | None = None
    ) -> Iterator[Tensor]:
        """Draw the picture of one signal (1, channels, h, w).

        Args:
            signal: The signal, at the size that the model was trained on.
            height: Height of the whole picture in pixels.
            width: Width of the whole picture.
            crop: The part (top, left, h, w) that is wanted, or None for all of it.

        Returns:
            Bands (3 or 4, rows, w) in [0, 1], RGBA premultiplied, on the CPU.
        """
        ...


@runtime_checkable
class Scales(Protocol):
    """A `Model` of signals of any size, whose noise levels depend on the size: white noise hides less of a larger picture."""

    def sigma_range(self, height: int, width: int) -> tuple[float, float]:
        """Return the lowest and highest noise level for signals of a size."""
        ...


@runtime_checkable
class LaysOut(Protocol):
    """A `Model` that was trained on layouts and takes them as a condition, in addition to the guide (`regions.py`)."""

    def laid_out(
        self,
        prompt: str,
        negative: str,
        guidance: float,
        things: Sequence[tuple[str, Box]],
        lookup: Callable[[View], Tensor | None],
        aspect: float,
        closed: tuple[bool, bool],
    ) -> Denoiser:
        """Return the denoiser of flat pictures with a layout.

        Args:
            prompt, negative, guidance: As in `Model.denoiser`; the prompt may be empty.
            things: Sentences and their boxes.
            lookup: Maps views to the places (B, h, w, 2) of their signal's pixels, as fractions of the whole picture to the
                right and down, or to None if the views show all of it.
            aspect: Width of the whole picture divided by its height.
            closed: Whether the bottom edge joins the top edge, and the right edge the left one.

        Raises:
            ValueError: If the model cannot take the prompt.
        """
        ...
