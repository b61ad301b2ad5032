"""Files of weights, and what users ask of a model: functions for a prompt, at any points."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Generator, Tensor

from ...schema import parsed
from ..toybox.words import INDEX, LANDSCAPES, NOUNS, closest, encode, split
from ..weights import expect, read
from .chain import Chain, Rule, Tick
from .data import EMPTY
from .design import Design
from .domains import Domain
from .network import FieldNetwork

FORMAT = "pullback-dpf-1"
SHIPPED = {name: Path(__file__).with_name(f"{name}.safetensors") for name in ("dpf-shapes", "dpf-sphere")}
"""The models that come with the package, by name."""
FUNCTIONS_OF = {"plane": "pictures", "cube": "shapes", "sphere": "panoramas"}
"""What a model of each domain draws."""


@dataclass(frozen=True, eq=False)
class FieldModel:
    """A trained network.

    Args:
        network: The network.
        design: Its design.
        name: What error messages call it.
        card: What its file says of its training.
        device: Where it runs.
    """

    network: FieldNetwork
    design: Design
    name: str
    card: dict[str, str]
    device: str = "cpu"

    @property
    def domain(self) -> Domain:
        return self.design.functions_of

    def encoded(self, prompt: str) -> Tensor:
        """Return the word numbers (LENGTH,) of a prompt.

        Raises:
            ValueError: If the model does not know one of its words, or knows no words at all.
        """
        if not self.network.config.words:
            if prompt.strip():
                raise ValueError(f'{self.name} knows no words, and cannot draw {prompt!r}: give an empty prompt, ""')
            return torch.from_numpy(EMPTY)
        known, unknown = split(prompt)
        foreign = LANDSCAPES if self.design.domain == "cube" else NOUNS if self.design.domain == "sphere" else ()
        wrong = [*unknown, *(word for word in known if word in foreign)]
        if wrong:
            near = ", ".join(word for word in closest(wrong[0]) if word not in foreign)
            own = {"cube": NOUNS, "sphere": LANDSCAPES}.get(self.design.domain, tuple(INDEX)[3:])
            hint = f"did you mean {near}?" if near else f"it knows {', '.join(own)}"
            raise ValueError(f"{self.name} does not know {wrong[0]!r}: {hint}")
        return torch.tensor(encode(prompt))

    def chain(
        self,
        prompts: list[str],
        seed: int = 0,
        steps: int = 20,
        guidance: float = 1.0,
        eta: float = 0.0,
        points: Tensor | None = None,
        tick: Tick = lambda done, total: None,
    ) -> Chain:
        """Sample functions, which can then be asked at any points (`Chain.at`).

        Args:
            prompts: The prompts of B functions.
            seed: The seed of context points and noise.
            steps: Steps, at most those of the training.
            guidance: 0 is unconditional, 1 conditional, larger values exaggerate the prompt.
            eta: 0 for DDIM, 1 for ancestral sampling.
            points: The points (N, D) that the context is chosen of; by default the grid of the training.
            tick: Called after every step with the steps done and in total; it may raise to stop.

        Raises:
            ValueError: If a prompt, a number or a point is wrong.
        """
        if not 1 <= steps <= self.design.steps:
            raise ValueError(f"steps are {steps}; they must be between 1 and {self.design.steps}")
        random = Generator().manual_seed(seed)
        if points is None:
            points, areas = self.domain.grid(self.design.side), self.domain.areas(self.design.side)
        else:
            points = checked(points, self.domain)
            areas = torch.full((len(points),), 1 / len(points))
        count = min(self.network.config.context, len(points))
        context = points[torch.multinomial(areas, count, generator=random)]
        words = torch.stack([self.encoded(prompt) for prompt in prompts]).to(self.device)
        rule = Rule(self.design.predicted, guidance if self.network.config.words else 1.0, eta)
        return Chain(
            self.network, self.design.process().spaced(steps), context.to(self.device), words,
            torch.from_numpy(EMPTY).to(self.device), rule, random, tick,
        )  # fmt: skip


def checked(points: Tensor, domain: Domain) -> Tensor:
    """Return points (N, D) of a domain as float32.

    Raises:
        ValueError: If there are none, some are not numbers or lie outside [-1, 1], or a point appears twice.
    """
    if points.ndim != 2 or points.shape[1] != domain.dimensions or not len(points):
        raise ValueError(
            f"points of the {domain.name} are (N, {domain.dimensions}) with N > 0, got {tuple(points.shape)}: give at least one"
        )
    points = points.float()
    if not points.isfinite().all() or points.abs().max() > 1 + 1e-6:
        bad = int((~(points.abs() <= 1 + 1e-6)).any(1).nonzero()[0])
        raise ValueError(f"point {bad} is {points[bad].tolist()}: coordinates must be numbers from -1 to 1")
    if domain.name == "sphere" and ((points.norm(dim=1) - 1).abs() > 1e-3).any():
        raise ValueError("points of the sphere must be unit vectors: divide them by their lengths")
    different = len(points.unique(dim=0))
    if different < len(points):
        raise ValueError(f"{len(points) - different} of {len(points)} points are duplicates: give every point once")
    return points


def load_model(name: str | Path, device: str = "cpu", domain: str = "") -> FieldModel:
    """Load a model by the name of one that comes with the package, or by the path of a file that `pullback train` wrote.

    Args:
        name: The name, a key of `SHIPPED`, or the path.
        device: Where it runs.
        domain: The domain that it must have, or "" for any.

    Raises:
        ValueError: If the file is missing, truncated, of another format or domain, or does not fit its own design.
    """
    path = SHIPPED.get(str(name), Path(name).expanduser())
    tensors, metadata = read(path, "dpf-shapes, dpf-sphere, or a file that `pullback train dpf-...` wrote")
    expect(metadata, name, "model of functions", FORMAT, "pullback train dpf-shapes")
    try:
        design = parsed(metadata["design"], Design)
        network = FieldNetwork(design.network)
        network.load_state_dict(tensors)
    except (KeyError, ValueError, RuntimeError) as error:
        raise ValueError(f"{name} does not hold a model of functions of this version: train it again") from error
    if domain and design.domain != domain:
        raise ValueError(
            f"{name} draws {FUNCTIONS_OF[design.domain]}, not {FUNCTIONS_OF[domain]}: choose a model of the {domain}"
        )
    network.eval().requires_grad_(False).to(device)
    card = {key: value for key, value in metadata.items() if key != "design"}
    return FieldModel(network, design, str(name), card, device)
