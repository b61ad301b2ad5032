"""What the representations share that are one SIREN over some coordinates: its sizes, its start, and its settings."""

from __future__ import annotations

import math
from typing import Any

from torch import Generator, Tensor

from ..fields.siren import Siren, fourier
from ..representation import Crop, Representation, Setting, of_field
from ..types import Model, Params


class SirenRepresentation(Representation):
    """Base of the SIREN representations; their dataclasses give the sizes."""

    channels: int
    width: int
    depth: int
    embedding: int
    bandwidth: float
    seed: int

    @property
    def siren(self) -> Siren:
        """The network that the sizes describe."""
        return Siren(self.embedding, self.channels, self.width, self.depth)

    @property
    def hidden(self) -> tuple[str, ...]:
        """The names of the hidden layers' weights, whose steps a solver may orthogonalise."""
        return tuple(f"w{layer}" for layer in range(self.depth))

    def init(self, generator: Generator) -> Params:
        """Random layers with a zero read-out: a zero picture."""
        return self.siren.init(generator)

    def embedded(self, params: Params, coordinates: Tensor, frequencies: Tensor) -> Tensor:
        """Values (..., C) at coordinates (..., D) under frequencies (F, D), on the device of the parameters."""
        device = params["w0"].device
        return self.siren(params, math.sqrt(2) * fourier(coordinates.to(device), frequencies.to(device)))

    def at(self, params: Params, places: Tensor) -> Tensor:
        """Values (..., C) at places (..., D)."""
        raise NotImplementedError

    def places(self, height: int, width: int, crop: Crop | None = None) -> Tensor:
        """The places (h, w, D) of the pixels of a whole picture, or of a part of it."""
        raise NotImplementedError

    def picture(self, params: Params, height: int, width: int, crop: Crop | None = None) -> Tensor:
        """(1, C, h, w) of the whole at any size, or a part of it: a part equals the same part of the whole."""
        return self.at(params, self.places(height, width, crop)).permute(2, 0, 1)[None]

    @classmethod
    def network_settings(cls) -> tuple[Setting, ...]:
        """What users may set of the network."""
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


FIELDS = {"neurons": "width", "depth": "depth", "detail": "bandwidth", "network_seed": "seed"}
"""The dataclass's field of each of the network's settings."""


def network(settings: dict[str, Any]) -> dict[str, Any]:
    """The network's sizes among the settings, as the dataclass calls them."""
    return {FIELDS[name]: value for name, value in settings.items() if name in FIELDS}


def view_size(name: str, what: str, node: str = "") -> Setting:
    """The setting of a view's side in picture pixels; see `Setting` for the node's name."""
    unset = "what suits the model (64 for toybox, 512 for SD 1.5, 1024 for larger ones)"
    return Setting(name, 0, what, 0, 8192, 8, "pixels", unset=unset, node=node)


VIEW_SIZE = view_size("view_size", "Side in pixels of one view that the model sees.")
"""That of square views."""


def signal_size(model: Model, pixels: int) -> int:
    """Picture pixels to signal pixels; 0 is the model's own size. ValueError where they do not divide."""
    if pixels % model.scale:
        raise ValueError(
            f"a size of {pixels} is not a multiple of {model.scale}, this model's pixels per latent: round it"
        )
    return pixels // model.scale or model.size
