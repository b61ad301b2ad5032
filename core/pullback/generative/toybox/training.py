"""Training of toybox: first its template, by least squares, then the denoiser around it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Generator, Tensor, nn

from ..muon import with_muon
from .data import Batch, Pictures
from .model import FORMAT
from .network import SIGMA_DATA, Config, Template, Toybox, painted
from .words import split_colours

TEMPLATE_SIZE = 32
"""Side of the template's pictures in pixels."""
SHOWN = 12
"""The number of pictures on a sample sheet."""


class ToyboxTrainee:
    """The denoiser in training, as a `Trainee`. The weights of its template are not trained.

    Args:
        folder: Rendered pictures (`python -m pullback.generative.toybox.train render`).
        config: The sizes of the network.
        batch_size: Pictures per step.
        lr: The learning rate.
        start_from: Exported weights to start from, or None.
        template: The file of a trained template, or None to keep that of `start_from`.

    Raises:
        ValueError: If a file does not hold weights of these sizes.
    """

    def __init__(
        self,
        folder: Path,
        config: Config = Config(),
        batch_size: int = 32,
        lr: float = 1e-3,
        start_from: Path | None = None,
        template: Path | None = None,
    ):
        self.data, self.config, self.batch_size = Pictures(folder), config, batch_size
        model = Toybox(config)
        if start_from is not None:
            _load(model, start_from)
        if template is not None:
            _load(model.template, template)
        model.template.requires_grad_(False)
        self.networks: dict[str, Any] = {"model": model}
        self.optimisers = [with_muon(model, lr, but=_by_adam)]

    def batch(self, random: np.random.Generator) -> Batch:
        """Draw pictures in random colours."""
        return self.data.batch(self.batch_size, random)

    def losses(self, batch: Batch, random: Generator, step: int) -> Iterator[Tensor]:
        """Yield the denoising error."""
        yield denoising_error(self.networks["model"], batch, random)

    @torch.no_grad()
    def sheet(self, model: Toybox) -> Tensor:
        """Return a row of pictures, and below it a row per noise level, with the model's estimates of the noisy pictures."""
        drawn = self.data.batch(SHOWN, np.random.default_rng(0)).to(model.position.device)
        noise = torch.randn(drawn.x.shape, generator=Generator().manual_seed(0)).to(drawn.x)
        rows = [drawn.x]
        for sigma in (0.5, 3.0, 80.0):
            levels = torch.full((SHOWN,), sigma).to(noise)
            rows.append(model(drawn.x + sigma * noise, levels, drawn.words, drawn.cameras, drawn.lit))
        return torch.cat([_row(pictures) for pictures in rows], -2)

    def metadata(self) -> dict[str, str]:
        """Return the metadata of the exported file."""
        return {"format": FORMAT, **{name: str(value) for name, value in asdict(self.config).items()}}


class TemplateTrainee:
    """The template in training, as a `Trainee`.

    Args:
        folder: Rendered pictures (`python -m pullback.generative.toybox.train render`).
        width: Width of the denoiser's tokens.
        batch_size: Pictures per step.
        lr: The learning rate.
    """

    def __init__(self, folder: Path, width: int = Config().width, batch_size: int = 128, lr: float = 2e-3):
        self.data, self.batch_size = Pictures(folder, TEMPLATE_SIZE), batch_size
        model = Template(width)
        self.networks: dict[str, Any] = {"model": model}
        adam = torch.optim.AdamW(model.parameters(), lr=lr, betas=(0.9, 0.99), weight_decay=0.01)
        self.optimisers: list[list[torch.optim.Optimizer]] = [[adam]]

    def batch(self, random: np.random.Generator) -> Batch:
        """Draw pictures in random colours."""
        return self.data.batch(self.batch_size, random)

    def losses(self, batch: Batch, random: Generator, step: int) -> Iterator[Tensor]:
        """Yield the mean squared error of the layers."""
        yield (_layers(self.networks["model"], batch) - batch.layers).square().mean()

    @torch.no_grad()
    def sheet(self, model: Template) -> Tensor:
        """Return a row of pictures in two fixed colours, and below it a row of the template's predictions."""
        drawn = self.data.batch(SHOWN, np.random.default_rng(0)).to(next(model.parameters()).device)
        paints = torch.tensor([[0.85, 0.1, 0.1], [0.12, 0.28, 0.88]]).to(drawn.x).expand(SHOWN, 2, 3)
        rows = (painted(layers, paints[:, 0], paints[:, 1]) for layers in (drawn.layers, _layers(model, drawn)))
        return torch.cat([_row(pictures) for pictures in rows], -2)

    def metadata(self) -> dict[str, str]:
        """Return the metadata of the exported file."""
        return {"format": "pullback-toybox-template-1"}


def denoising_error(model: nn.Module, batch: Batch, random: Generator) -> Tensor:
    """Return EDM's weighted denoising error (Karras et al. 2022, eq. 8), with ln sigma drawn from N(0.8, 1.5^2).

    Args:
        model: The denoiser.
        batch: Pictures and their conditions.
        random: Draws noise and noise levels, on the CPU.
    """
    x = batch.x
    sigma = torch.exp(1.5 * torch.randn(len(x), 1, 1, 1, generator=random) + 0.8).to(x)
    noise = torch.randn(x.shape, generator=random).to(x)
    weight = (sigma**2 + SIGMA_DATA**2) / (sigma * SIGMA_DATA) ** 2
    denoised = model(x + sigma * noise, sigma.flatten(), batch.words, batch.cameras, batch.lit)
    return (weight * (denoised - x) ** 2).mean()


def _layers(model: Any, batch: Batch) -> Tensor:
    """Return the template's prediction of the layers of a batch."""
    shapes = torch.tensor([split_colours(row)[0] for row in batch.words.tolist()], device=batch.words.device)
    plain = getattr(model, "module", model)
    return model(plain.words(shapes), batch.cameras, batch.lit).float()


def _by_adam(name: str) -> bool:
    """Return whether AdamW trains a weight. Muon trains only the transformer blocks, without their modulation."""
    return not name.startswith("blocks.") or "modulation" in name


def _load(module: nn.Module, path: Path) -> None:
    try:
        module.load_state_dict({key: value.float() for key, value in load_file(path).items()})
    except Exception as error:
        raise ValueError(f"{path} does not hold the weights of a {type(module).__name__} of these sizes") from error


def _row(pictures: Tensor) -> Tensor:
    """Put pictures (B, 4, H, W) in [-1, 1] side by side on white, (3, H, B W)."""
    shown = (pictures / 2 + 0.5).clamp(0, 1)
    return torch.cat(list((shown[:, :3] + 1 - shown[:, 3:]).clamp(0, 1)), -1)
