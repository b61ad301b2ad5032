"""Training of a diffusion probabilistic field."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..ddpm.process import diffuse
from ..muon import with_muon
from .chain import Chain, Rule, target
from .data import EMPTY, Batch, Functions, Points, chosen
from .design import Preset
from .model import FORMAT
from .network import FieldNetwork

SHOWN = 8
"""Functions on a sample sheet."""
SHEET_STEPS = 12
"""The steps in which they are sampled."""
SHEET_SIDE = {"plane": 32, "cube": 20, "sphere": 32}
"""How finely they are shown."""
COLOUR = 0.2
"""Weight of each colour of a shape, relative to its occupancy."""


class FieldTrainee:
    """The network in training, as a `Trainee`.

    Args:
        functions: What it learns from.
        preset: Its design, and how it is trained.
        batch_size: Functions per step; by default the preset's.
        lr: The learning rate; by default the preset's.
        start_from: The network to start from, or None.
    """

    def __init__(
        self,
        functions: Functions,
        preset: Preset,
        batch_size: int = 0,
        lr: float = 0.0,
        start_from: FieldNetwork | None = None,
    ):
        self.functions, self.preset, self.design = functions, preset, preset.design
        self.batch_size = batch_size or preset.batch_size
        self.points = Points(functions, self.design.network.context, preset.queries)
        model = FieldNetwork(self.design.network)
        if start_from is not None:
            model.load_state_dict(start_from.state_dict())
        self.networks: dict[str, Any] = {"model": model}
        self.optimisers = [with_muon(model, lr or preset.lr, but=_by_adam)]
        self.process = self.design.process()
        weight = torch.ones(functions.domain.channels)
        if functions.domain.name == "cube":
            weight[1:] = COLOUR
        self.weight = weight / weight.mean()

    def batch(self, random: np.random.Generator) -> Batch:
        """Draw functions at random points."""
        return self.points.batch(self.batch_size, random)

    def losses(self, batch: Batch, random: torch.Generator, step: int) -> Iterator[Tensor]:
        """Yield the squared error of what is predicted at the queries, at random times, evenly spread within the batch."""
        steps, size = self.process.steps, len(batch.words)
        part = (torch.arange(size) + torch.rand(size, generator=random)) / size
        t = (part * steps).long().clamp(max=steps - 1) + 1
        eps = torch.randn(batch.values.shape, generator=random).to(batch.values)
        x = diffuse(self.process, batch.values, t, eps)
        wanted = target(self.process, self.design.predicted, batch.values, t, eps)
        points, noisy = self.points.split(batch.coordinates), self.points.split(x)
        time = self.process.time(t).to(x.device)
        out = self.networks["model"]((points[0], noisy[0]), (points[1], noisy[1]), time, batch.words)
        yield ((out - self.points.split(wanted)[1]).square() * self.weight.to(out)).mean()

    @torch.no_grad()
    def sheet(self, model: FieldNetwork) -> Tensor:
        """Return samples for the captions of random functions, side by side."""
        rng, seeded = np.random.default_rng(0), torch.Generator().manual_seed(0)
        domain, side = self.functions.domain, self.design.side
        words = self.points.batch(SHOWN, rng, 0.0).words.to(model.pair.weight.device)
        index = chosen(self.points.areas, self.points.context, rng)
        context = self.points.coordinates[torch.from_numpy(index)].to(model.pair.weight)
        rule = Rule(self.design.predicted)
        chain = Chain(
            model.eval(),
            self.process.spaced(SHEET_STEPS),
            context,
            words,
            torch.from_numpy(EMPTY).to(words),
            rule,
            seeded,
        )
        side = min(side, SHEET_SIDE[domain.name])
        values = chain.at(domain.shown(side).to(context), seeded).cpu()
        model.train()
        return torch.cat([domain.show(each, side) for each in values], -1)

    def metadata(self) -> dict[str, str]:
        """Return the metadata of a file of weights."""
        return {"format": FORMAT, "design": json.dumps(asdict(self.design)), "functions": str(len(self.functions))}


def _by_adam(name: str) -> bool:
    """Return whether AdamW trains a weight. Muon trains the matrices of the encoder and the decoder."""
    return not name.startswith(("encoder.", "decoder."))
