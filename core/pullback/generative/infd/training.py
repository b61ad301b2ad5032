"""Training of the autoencoder: patches of pictures at random scales, and the losses of INFD, section 3.3."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ...training.folder import PictureFolder
from ..muon import with_muon
from .decoder import FORMAT, describe
from .discriminator import PatchDiscriminator, adaptive_weight, hinge
from .network import Autoencoder, Config
from .patches import patch, resized
from .renderers import places

SMALLEST_JUDGED = 24
"""The smallest side of a patch, in pixels, that the adversary can judge."""
SHOWN = 6
"""The number of pictures on a sample sheet."""


@dataclass(frozen=True)
class Weights:
    """The weights of the losses.

    Args:
        differences: Weight of the error of differences between neighbouring pixels, which emphasises edges.
        perceptual: Weight of the perceptual distance, if there is one.
        adversarial: Weight of the adversarial loss, in addition to its adaptive weight; 0 for no adversary, 0.75 in the paper.
        bottleneck: Weight of the bottleneck's own loss.
    """

    differences: float = 0.5
    perceptual: float = 1.0
    adversarial: float = 0.0
    bottleneck: float = 1e-5


@dataclass
class Pairs:
    """A batch of training pairs, stacked from `patches.patch`.

    Attributes:
        small: Whole pictures, (B, C, base, base).
        wanted: Patches, (B, C, side, side).
        places: The places of the patches' pixels, (B, side, side, 2), as in `renderers.py`.
        cell: Height and width of a pixel in the same units, (B, 2).
    """

    small: Tensor
    wanted: Tensor
    places: Tensor
    cell: Tensor

    def to(self, device: torch.device) -> Pairs:
        return Pairs(*(tensor.to(device) for tensor in (self.small, self.wanted, self.places, self.cell)))


class AutoencoderTrainee:
    """The autoencoder in training, as a `Trainee`.

    Args:
        folder: The pictures to train on.
        config: The sizes of the autoencoder.
        batch_size: Pictures per step.
        lr: The learning rate.
        side: Side of a patch in pixels. If it is larger than the base, the base is used.
        largest: The largest side that pictures are scaled to, in pixels.
        weights: The weights of the losses.
        start_from: The autoencoder to start from, or None. Its encoder is not trained, so that the latents, and the latent models
            that were trained on them, stay valid.
        perceptual: Returns the mean distance between two batches of pictures, (B, C, H, W) each; or None for no such loss.
        octaves: How the scales of patches are drawn (`patches.patch`).
        card: Metadata about the latents for the exported file, if they are another model's.
    """

    def __init__(
        self,
        folder: PictureFolder,
        config: Config,
        batch_size: int = 12,
        lr: float = 2e-3,
        side: int = 48,
        largest: int = 1024,
        weights: Weights = Weights(),
        start_from: Autoencoder | None = None,
        perceptual: Callable[[Tensor, Tensor], Tensor] | None = None,
        octaves: bool = False,
        card: Mapping[str, str] | None = None,
    ):
        self.card = dict(card or {})
        self.folder, self.config, self.batch_size, self.octaves = folder, config, batch_size, octaves
        if weights.adversarial and min(side, config.base) < SMALLEST_JUDGED:
            raise ValueError(
                f"patches of {min(side, config.base)} pixels are too small for the adversary: give at least "
                f"{SMALLEST_JUDGED}"
            )
        self.side, self.largest, self.weights, self.perceptual = min(side, config.base), largest, weights, perceptual
        model = Autoencoder(config).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        if start_from is not None:
            model.load_state_dict(start_from.state_dict())
            model.encoder.requires_grad_(False)
        self.networks: dict[str, Any] = {"model": model}
        self.optimisers = [with_muon(self.networks["model"], lr)]
        if weights.adversarial:
            self.networks["adversary"] = PatchDiscriminator(config.channels)
            self.optimisers.append(
                [torch.optim.Adam(self.networks["adversary"].parameters(), lr / 4, betas=(0.5, 0.9))]
            )

    def batch(self, random: np.random.Generator) -> Pairs:
        """Draw training pairs. Only half of the patches are busy, so that the empty edges of pictures are learnt, too."""
        drawn = [
            patch(
                self.folder.draw(random)[0], self.config.base, self.side, self.largest, random, n % 2 == 0, self.octaves
            )
            for n in range(self.batch_size)
        ]
        return Pairs(*(torch.stack(tensors) for tensors in zip(*drawn, strict=True)))

    def losses(self, batch: Pairs, random: torch.Generator, step: int) -> Iterator[Tensor]:
        """Yield the loss of the autoencoder, and then that of the adversary if there is one."""
        model, weights = self.networks["model"], self.weights
        drawn, extra = model(batch.small, batch.places, batch.cell, random)
        error = reconstruction(drawn, batch.wanted, weights.differences)
        if self.perceptual is not None:
            error = error + weights.perceptual * self.perceptual(drawn, batch.wanted)
        loss = error + weights.bottleneck * extra
        if weights.adversarial:
            adversary = self.networks["adversary"]
            fooling = -adversary(drawn).mean()
            plain = getattr(model, "module", model)
            loss = loss + weights.adversarial * adaptive_weight(error, fooling, plain.renderer.last.weight) * fooling
        yield loss
        if weights.adversarial:
            yield hinge(adversary(batch.wanted), adversary(drawn.detach()))

    def sheet(self, model: Autoencoder) -> Tensor:
        """Return three rows at four times the encoder's size: its input, enlarged; the drawn pictures; the true pictures."""
        random, size = np.random.default_rng(0), 4 * self.config.base
        squares = [_square(self.folder.draw(random)[0]) for _ in range(SHOWN)]
        device = next(model.parameters()).device
        small = torch.stack([_signal(resized(square, self.config.base)) for square in squares]).to(device)
        wanted = torch.stack([_signal(resized(square, size)) for square in squares])
        with torch.no_grad():
            phi = model.features(model.encode(small))
            at, cell = places(size, size).to(device), torch.full((1, 2), 2 / size, device=device)
            drawn = torch.cat([model.renderer(features[None], at[None], cell) for features in phi]).cpu()
        enlarged = F.interpolate(small.cpu(), (size, size), mode="bicubic")
        rows = [_on_white((pictures / 2 + 0.5).clamp(0, 1)) for pictures in (enlarged, drawn, wanted)]
        return torch.cat([torch.cat(list(row), -1) for row in rows], -2)

    def metadata(self) -> dict[str, str]:
        """Return the metadata of a decoder file."""
        return {**self.card, "format": FORMAT, "config": describe(self.config)}


def reconstruction(drawn: Tensor, wanted: Tensor, differences: float) -> Tensor:
    """Return the mean absolute error of pixels, plus `differences` times that of differences between neighbouring pixels."""
    error = drawn - wanted
    edges = error.diff(dim=-1).abs().mean() + error.diff(dim=-2).abs().mean()
    return error.abs().mean() + differences * edges


def _square(picture: np.ndarray) -> np.ndarray:
    side = min(picture.shape[:2])
    return picture[:side, :side]


def _signal(pixels: np.ndarray) -> Tensor:
    return torch.from_numpy(np.array(pixels)).movedim(-1, 0).float() / 127.5 - 1


def _on_white(pictures: Tensor) -> Tensor:
    if pictures.shape[1] == 3:
        return pictures
    return (pictures[:, :3] + 1 - pictures[:, 3:]).clamp(0, 1)
