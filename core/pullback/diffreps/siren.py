"""The base of all representations that are one SIREN: its network, its embedding and its settings."""

from __future__ import annotations

import functools
import math
from typing import Any

import torch
from torch import Generator, Tensor

from ..fields.siren import Siren, fourier, gaussian_frequencies
from ..representation import Crop, Representation, Setting, of_field
from ..types import Model, Params


class SirenRepresentation(Representation):
    """Base of the SIREN representations, which are dataclasses with these attributes.

    Attributes:
        channels: Signal values per point.
        width: Width of the sine layers.
        depth: The number of sine layers.
        embedding: The number of values in the sinusoidal embedding, which must be even.
        bandwidth: Standard deviation of the embedding's frequencies in radians per unit. It limits the detail that is easy to
            draw.
        seed: The seed of the embedding's frequencies.
    """

    channels: int
    width: int
    depth: int
    embedding: int
    bandwidth: float
    seed: int

    @property
    def siren(self) -> Siren:
        """The network."""
        return Siren(self.embedding, self.channels, self.width, self.depth)

    @property
    def hidden(self) -> tuple[str, ...]:
        """The names of the sine layers' weights, for solvers that orthogonalise their steps."""
        return tuple(f"w{layer}" for layer in range(self.depth))

    def init(self, generator: Generator) -> Params:
        """Return random layers and a zero read-out, so that the picture is zero at first."""
        return self.siren.init(generator)

    def frequencies(self) -> Tensor:
        """Return the frequencies of the embedding, (embedding / 2, D). They depend on the dataclass's fields only."""
        return gaussian_frequencies(self.embedding // 2, 2, self.bandwidth, self.seed)

    def embedded(self, params: Params, coordinates: Tensor) -> Tensor:
        """Return values (..., C) at coordinates (..., D), on the device of the parameters."""
        device = params["w0"].device
        frequencies = _frequencies_on(self, device)
        return self.siren(params, math.sqrt(2) * fourier(coordinates.to(device), frequencies))

    def at(self, params: Params, places: Tensor) -> Tensor:
        """Return values (..., C) at places (..., D)."""
        raise NotImplementedError

    def places(self, height: int, width: int, crop: Crop | None = None) -> Tensor:
        """Return the places of the pixels of a picture, or of its part `crop`, (h, w, D)."""
        raise NotImplementedError

    def picture(self, params: Params, height: int, width: int, crop: Crop | None = None) -> Tensor:
        """Return the picture at any size, or only its part `crop`, (1, C, h, w)."""
        return self.at(params, self.places(height, width, crop)).permute(2, 0, 1)[None]

    @classmethod
    def network_settings(cls) -> tuple[Setting, ...]:
        """Return the settings of the network."""
        detail = (
            "The finest detail that is easy to draw, in radians per half picture. "
            "Latents of 1024-pixel models want about 20."
        )
        return (
            of_field(cls, "width", "Width of the network's layers.", "neurons", low=16, high=2048, step=16),
            of_field(cls, "depth", "How many sine layers the network has.", high=8),
            of_field(cls, "bandwidth", detail, "detail", low=1.0, high=200.0, step=0.5),
            of_field(cls, "seed", "Seed of the network's random start.", "network_seed", node="seed"),
        )


@functools.lru_cache(maxsize=16)
def _frequencies_on(diffrep: SirenRepresentation, device: torch.device) -> Tensor:
    """Return the frequencies of a representation on a device. They are cached, since every pass needs them.

    They are drawn on the CPU, and outside inference mode even if the caller is in it, since later callers differentiate.
    """
    with torch.inference_mode(False), torch.device("cpu"):
        return diffrep.frequencies().to(device)


FIELDS = {"neurons": "width", "depth": "depth", "detail": "bandwidth", "network_seed": "seed"}
"""Maps each setting of the network to the field of the dataclass that it sets."""


def network(settings: dict[str, Any]) -> dict[str, Any]:
    """Return the settings of the network among `settings`, under the names of the dataclass's fields."""
    return {FIELDS[name]: value for name, value in settings.items() if name in FIELDS}


def view_size(name: str, what: str, node: str = "") -> Setting:
    """Return a setting for the side of a view in picture pixels.

    Args:
        name: The name of the setting.
        what: The help text.
        node: The name in ComfyUI, if it differs.
    """
    unset = "what suits the model (64 for toybox, 512 for SD 1.5, 1024 for larger ones)"
    return Setting(name, 0, what, 0, 8192, 8, "pixels", unset=unset, node=node)


VIEW_SIZE = view_size("view_size", "Side in pixels of one view that the model sees.")
"""The setting for the side of square views."""


def signal_size(model: Model, pixels: int) -> int:
    """Convert picture pixels to signal pixels, where 0 stands for the model's own size.

    Raises:
        ValueError: If the pixels are not a multiple of the model's pixels per latent.
    """
    if pixels % model.scale:
        raise ValueError(
            f"a size of {pixels} is not a multiple of {model.scale}, this model's pixels per latent: round it"
        )
    return pixels // model.scale or model.size
