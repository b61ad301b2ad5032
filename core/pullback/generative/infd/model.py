"""Image neural field diffusion as a `Model`: the latent model of the package, and its field decoder.

Its signals are scaled latents (`latent.Normal`), (B, 4, 16, 16) for pictures of 64 x 64 pixels. They can be decoded at any size:
`parts` draws parts of the picture, each at its own resolution, and `any_size` draws pictures of any number of pixels.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from ...guidance import guided
from ...representation import Crop
from ...types import Box, Denoiser
from ..toybox import words
from ..toybox.model import LEVEL, STILL, camera_tensor, check, warn_unknown
from ..toybox.model import network as toybox_network
from ..toybox.network import ANY
from ..weights import read
from .decoder import FieldDecoder, display, load_decoder
from .latent import SCALE, LatentConfig, LatentDenoiser, Normal, expected_picture
from .layout import Layout, Lookup, Thing

FOLDER = Path(__file__).parent
DECODER = FOLDER / "infd.decoder.safetensors"
LATENT = FOLDER / "infd.latent.safetensors"
FORMAT = "pullback-latent-1"
UNSEEN = (0.0, 0.0, float(ANY))
"""The camera condition of pictures whose camera the model is not told."""


@functools.lru_cache(maxsize=2)
def decoder(path: Path = DECODER, device: str = "cpu") -> FieldDecoder:
    """Return the field decoder of the package. It is loaded once."""
    return load_decoder(path, device)


@functools.lru_cache(maxsize=2)
def network(path: Path = LATENT, device: str = "cpu") -> tuple[LatentDenoiser, Normal]:
    """Return the latent model with its weights, and the scale of its latents. It is loaded once.

    Raises:
        ValueError: If the file is missing, damaged or of another format.
    """
    tensors, metadata = read(path, "a latent model, a .safetensors file")
    if metadata.get("format") != FORMAT:
        raise ValueError(f"{path} is not a latent model: its format is {metadata.get('format')!r}, expected {FORMAT!r}")
    try:
        net = LatentDenoiser(LatentConfig(**json.loads(metadata["config"])))
        net.load_state_dict(tensors)
        normal = Normal(**{name: tuple(values) for name, values in json.loads(metadata["normal"]).items()})
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise ValueError(f"{path} does not hold a latent model of this version: reinstall pullback") from error
    return net.eval().requires_grad_(False).to(device), normal


@functools.lru_cache(maxsize=64)
def _picture(numbers: tuple[int, ...], camera: tuple[float, ...], shape: tuple[int, int], device: str) -> Tensor:
    """Return the picture (1, 4, SCALE h, SCALE w) in [-1, 1] that toybox's template expects, for latents of shape (h, w)."""
    template, one = toybox_network(device=device).template, torch.ones(1, device=device)
    with torch.no_grad():
        at = torch.tensor([camera], device=device)
        picture = expected_picture(template, torch.tensor([numbers], device=device), at, one)
    size = SCALE * shape[0], SCALE * shape[1]
    return picture if size == picture.shape[2:] else interpolate(picture, size, mode="bilinear")


@functools.lru_cache(maxsize=64)
def _latent(numbers: tuple[int, ...], camera: tuple[float, ...], shape: tuple[int, int], device: str) -> Tensor:
    """Return the scaled latents of `_picture`, (1, 4, h, w)."""
    return _encoded(_picture(numbers, camera, shape, device))


def _transparent(shape: tuple[int, int], device: str) -> Tensor:
    """An empty picture of the shape of `_picture`."""
    return torch.full((1, 4, SCALE * shape[0], SCALE * shape[1]), -1.0, device=device)


@torch.no_grad()
def _encoded(pictures: Tensor) -> Tensor:
    device = str(pictures.device)
    return network(device=device)[1].scaled(decoder(device=device).autoencoder.encode(pictures))


def expected_latents(
    numbers: Tensor, cameras: Tensor, shape: tuple[int, int], layout: Layout | None = None, view: Any = None
) -> Tensor:
    """Return the scaled latents that are expected for prompts. The latent model sees them together with the noisy latents.

    Args:
        numbers: Word numbers (B, LENGTH).
        cameras: Toybox's camera conditions (B, 3).
        shape: Height and width of the latents.
        layout: The layout that is expected, or None. Its things are drawn over the landscape of the prompt or, if the prompt is
            empty, over nothing, as in training (`latent_training.compose_pairs`).
        view: The B views, which only a layout needs.

    Returns:
        Latents (B, 4, *shape), on the device of the cameras.
    """
    device = str(cameras.device)
    prompts = [tuple(row) for row in numbers.tolist()]
    conditions = [(row, tuple(camera), shape, device) for row, camera in zip(prompts, cameras.tolist(), strict=True)]
    if layout is None or not layout.things:
        return torch.cat([_latent(*condition) for condition in conditions])
    nothing = tuple(words.encode(""))
    behind = [_transparent(shape, device) if each[0] == nothing else _picture(*each) for each in conditions]
    return _encoded(layout.over(torch.cat(behind), view))


def layout_of(
    things: Sequence[tuple[str, Box]], lookup: Lookup, aspect: float, closed: tuple[bool, bool], device: str = "cpu"
) -> Layout:
    """Return a layout of things, each drawn as toybox's template expects it. Things without a known word are left out.

    Args:
        things, lookup, aspect, closed: As in `types.LaysOut`.
        device: The device that the pictures of the things are drawn on.
    """
    side = decoder(device=device).autoencoder.config.base // SCALE
    known = [(words.encode(text), box) for text, box in things if words.split(text)[0]]
    pictures = [_picture(tuple(numbers), STILL, (side, side), device) / 2 + 0.5 for numbers, _ in known]
    drawn = tuple(Thing(picture, box) for picture, (_, box) in zip(pictures, known, strict=True))
    return Layout(drawn, lookup, aspect, closed)


@dataclass(frozen=True)
class InfdModel:
    """The latent model and its decoder as a `Model`; types.py explains the attributes of models."""

    device: str = "cpu"
    name: str = "infd"
    channels: int = 4
    size: int = 16
    scale: int = SCALE
    sigma_min: float = 0.005
    sigma_max: float = 20.0
    elevations: tuple[float, float] = (-75.0, 75.0)

    def denoiser(self, prompt: str, negative: str = "", guidance: float = 3.0) -> Denoiser:
        """Return the denoiser D(z, sigma, view) for a prompt; the arguments are those of `ToyboxModel.denoiser`.

        With an empty prompt and a guidance of 0, it is that of the unconditional model, which also draws pairs of objects.

        Raises:
            ValueError: If the model knows no word of the prompt.
        """
        warn_unknown(negative)
        if guidance == 0 and not prompt.strip():
            return self._branch("", UNSEEN)
        unseen = LEVEL if words.is_landscape(prompt) else STILL
        return guided(self._branch(check(prompt), unseen), self._branch(negative, unseen, "negative prompt"), guidance)

    def laid_out(
        self,
        prompt: str,
        negative: str,
        guidance: float,
        things: Sequence[tuple[str, Box]],
        lookup: Lookup,
        aspect: float,
        closed: tuple[bool, bool] = (False, False),
    ) -> Denoiser:
        """Return the denoiser of pictures with a layout; see `types.LaysOut`.

        In training, pictures of two objects alone had no caption, and those of an object in front of a landscape had the
        landscape's. So the prompt counts only if it names a landscape.

        Raises:
            ValueError: If the prompt is not empty and the model knows no word of it.
        """
        warn_unknown(negative)
        if prompt.strip():
            check(prompt)
        behind = prompt if words.is_landscape(prompt) else ""
        unseen = LEVEL if behind else UNSEEN
        layout = layout_of(things, lookup, aspect, closed, self.device)
        return guided(
            self._branch(behind, unseen, layout=layout), self._branch(negative, unseen, "negative prompt"), guidance
        )

    def _branch(
        self, prompt: str, otherwise: tuple[float, float, float], name: str = "prompt", layout: Layout | None = None
    ) -> Denoiser:
        net, _ = network(device=self.device)
        numbers = torch.tensor([words.encode(prompt, name)], device=self.device)
        with torch.no_grad():
            context = net.words(numbers)

        def denoise(x: Tensor, sigma: Tensor, cond: Any) -> Tensor:
            count, shape = len(x), (x.shape[2], x.shape[3])
            levels = torch.as_tensor(sigma, dtype=torch.float32).expand(count).to(self.device)
            camera = camera_tensor(cond, count, otherwise).float().to(self.device)
            mean = expected_latents(numbers.expand(count, -1), camera, shape, layout, cond)
            lit = torch.ones(count, device=self.device)
            return net(x.float().to(self.device), levels, context.expand(count, -1, -1), mean, camera, lit).to(x)

        return denoise

    def decode(self, signal: Tensor) -> Tensor:
        """Decode scaled latents (B, 4, h, w) to display RGBA (B, 4, 4 h, 4 w) in [0, 1], premultiplied."""
        field = decoder(device=self.device)
        rows, columns = (SCALE * n for n in signal.shape[2:])
        phi = self._features(signal)
        return torch.cat([display(field.draw(each[None], rows, columns)) for each in phi])

    def parts(self, signal: Tensor) -> Callable[[Box, int], Tensor]:
        """Return a function that draws parts of the picture of scaled latents (1, 4, h, w); see `FieldDecoder.parts`."""
        return decoder(device=self.device).parts(network(device=self.device)[1].latents(signal.float()))

    def any_size(
        self, signal: Tensor, height: int, width: int, crop: Crop | None = None, tick: Callable[[], None] = lambda: None
    ) -> Iterator[Tensor]:
        """Draw the picture of scaled latents (1, 4, h, w) at any size, in bands; see `FieldDecoder.bands`."""
        with torch.no_grad():
            phi = self._features(signal)
        return decoder(device=self.device).bands(phi, height, width, crop, tick)

    def _features(self, signal: Tensor) -> Tensor:
        normal = network(device=self.device)[1]
        return decoder(device=self.device).autoencoder.features(normal.latents(signal.float().to(self.device)))
