"""∞-Diff as a `Model`: files of weights, and what tasks and samplers ask.

Signals are premultiplied RGBA in [-1, 1] (RGB for some trained models), of any height and width of at least `SMALLEST` pixels.
The views are those of toybox (`toybox/model.py`). An empty prompt is allowed: the model then draws what it likes.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Generator, Tensor

from ...geometry.cameras import Cameras
from ...guidance import guided
from ...types import Denoiser
from ..toybox import words
from ..toybox.model import LEVEL, STILL, camera_tensor, check, warn_unknown
from ..toybox.model import network as toybox_network
from ..toybox.network import ANY, Toybox
from ..weights import expect, format_of, read
from .autoencoder import Functions
from .coarse import SIZE
from .denoiser import SHRINK, denoise
from .mollifier import STD, WIENER_NOISE
from .network import Condition, Config
from .points import Points

WEIGHTS = Path(__file__).with_name("infty.safetensors")
NAME = "infty-diff"
FAMILY = "pullback-infty-diff-"
FORMAT = FAMILY + "2"
"""The `format` of files of weights."""
LOW, TOP = 0.03, 80.0
"""Lowest and highest noise level of samples, on a picture of `SIZE` pixels."""
UNSEEN = (0.0, 0.0, float(ANY))
"""The camera condition of an empty prompt."""
SMALLEST = 32
WIDEST = 8
"""The largest ratio of a picture's sides."""
ENCODED = 16384
"""The most points of a picture that the encoder looks at."""


@dataclass(frozen=True, eq=False)
class InftyDiffModel:
    """Trained networks as a `Model`; types.py explains the attributes of models.

    Args:
        functions: The networks.
        name: What error messages and field files call it.
        card: What its file says of its training.
        device: Where it runs.
        std: Standard deviation of the mollifier in pixels.
        inverse: The noise-to-signal ratio of the Wiener inverse.
        shrink: The part of the noise that the network is assumed to leave (`denoiser.added`).
    """

    functions: Functions
    name: str
    card: dict[str, str]
    device: str = "cpu"
    std: float = STD
    inverse: float = WIENER_NOISE
    shrink: float = SHRINK
    size: int = SIZE
    scale: int = 1
    sigma_min: float = 0.02
    sigma_max: float = TOP
    elevations: tuple[float, float] = (-75.0, 75.0)

    @property
    def channels(self) -> int:
        return self.functions.config.channels

    def sigma_range(self, height: int, width: int) -> tuple[float, float]:
        """Return the lowest and highest noise level for pictures of a size: white noise hides less of a larger picture."""
        return LOW, TOP * max(1.0, min(height, width) / SIZE)

    def denoiser(
        self, prompt: str, negative: str = "", guidance: float = 3.0, latent: Tensor | None = None, still: bool = True,
        coarse: Tensor | None = None,
    ) -> Denoiser:  # fmt: skip
        """Return the denoiser D(x, sigma, view) for a prompt; its estimates are clamped to [-1, 1].

        Args:
            prompt: The prompt, which may be empty. Unknown words are left out, with a warning that names similar known ones.
            negative: The negative prompt, which may be empty.
            guidance: 0 is unconditional, 1 is conditional, and larger values exaggerate (`guidance.py`).
            latent: The latent z (1, latent) of `encode` or `sample_latent`, or None.
            still: Whether objects without a view are seen from `STILL`. Otherwise their camera is unknown, as for given pictures.
            coarse: What the clean picture looks like to toybox, `coarse.reduced`, if that is known: it needs no estimate then.

        Raises:
            ValueError: If the model knows no word of a prompt that is not empty.
        """
        warn_unknown(negative)
        said = check(prompt) if prompt.strip() else ""
        camera = UNSEEN if not (said and still) else LEVEL if words.is_landscape(said) else STILL
        avoided = self._branch(negative, camera, "negative prompt", None, coarse)
        d = guided(self._branch(said, camera, "prompt", latent, coarse), avoided, guidance)
        return lambda x, sigma, cond: d(x, sigma, cond).clamp(-1, 1)

    def _branch(
        self, prompt: str, default: tuple[float, float, float], name: str, latent: Tensor | None, coarse: Tensor | None
    ) -> Denoiser:
        numbers = torch.tensor([words.encode(prompt, name)], device=self.device)
        known: dict[tuple[float, ...], Condition] = {}

        def d(x: Tensor, sigma: Tensor, cond: Any) -> Tensor:
            batch, (height, width) = len(x), x.shape[-2:]
            check_size(height, width, self.name)
            camera = camera_tensor(cond, batch, default).float().to(self.device)
            lit = torch.full((batch,), 0.0 if isinstance(cond, Cameras) else 1.0, device=self.device)
            key = (*camera.flatten().tolist(), *lit.tolist())
            if key not in known:
                known.clear()
                given = self.condition(numbers.expand(batch, -1), camera, lit, latent)
                if coarse is not None and given.toybox:
                    given = replace(given, toybox=lambda small, level: coarse.to(small).expand_as(small), sketch=None)
                known[key] = given
            z = torch.zeros(1, self.functions.config.latent) if latent is None else latent
            level = torch.as_tensor(sigma, dtype=torch.float32).expand(batch).to(self.device)
            z = z.to(self.device).expand(batch, -1)
            return denoise(
                self.functions.denoiser,
                x.float().to(self.device),
                level,
                known[key],
                z,
                self.std,
                self.inverse,
                self.shrink,
            ).to(x)

        return d

    def condition(self, numbers: Tensor, cameras: Tensor, lit: Tensor, latent: Tensor | None = None) -> Condition:
        """Return the condition for word numbers (B, LENGTH), cameras (B, 3) and light (B,), as in `network.Condition`.

        Args:
            numbers, cameras, lit: As there.
            latent: The latent z (1, latent) or (B, latent), or None.
        """
        coarse = sketch = None
        if self.functions.config.toybox:
            coarse = toybox_under(toybox_network(device=self.device), numbers, cameras, lit)
        if latent is not None:
            with torch.no_grad():
                sketch = self.functions.sketcher(latent.to(self.device).expand(len(numbers), -1))
        return Condition(numbers, cameras, lit, coarse, sketch)

    @torch.no_grad()
    def encode(self, pictures: Tensor, seed: int = 0) -> Tensor:
        """Return the latents z (B, latent) of signals (B, channels, H, W), from a random quarter of their pixels."""
        height, width = pictures.shape[-2:]
        check_size(height, width, self.name)
        count = max(1, min(height * width // 4, ENCODED))
        points = Points.random(height, width, count, Generator().manual_seed(seed))
        return self.functions.encoder(points.of(pictures.float().to(self.device)), points)

    def sample_latent(self, prompt: str = "", seed: int = 0, count: int = 1) -> Tensor:
        """Sample latents z (count, latent) from the prior, for a prompt or for an empty one."""
        said = check(prompt) if prompt.strip() else ""
        camera = LEVEL if words.is_landscape(said) else STILL if said else UNSEEN
        numbers = torch.tensor([words.encode(said)] * count, device=self.device)
        cameras = torch.tensor([camera] * count, device=self.device)
        with torch.no_grad():
            conditioner = self.functions.denoiser.conditioner
            described = conditioner.described(Condition(numbers, cameras, torch.ones(count, device=self.device)))
        return self.functions.prior.sample(described, Generator().manual_seed(seed))

    def decode(self, signal: Tensor) -> Tensor:
        """Convert signals (B, channels, h, w) to display RGB or premultiplied RGBA in [0, 1]."""
        shown = (signal.float() / 2 + 0.5).clamp(0, 1)
        return torch.cat([torch.minimum(shown[:, :3], shown[:, 3:]), shown[:, 3:]], 1) if shown.shape[1] == 4 else shown


def toybox_under(net: Toybox, numbers: Tensor, cameras: Tensor, lit: Tensor) -> Callable[[Tensor, Tensor], Tensor]:
    """Return toybox's denoiser D(x, sigma) under a condition; the arguments after the network are those of `Condition`."""
    with torch.no_grad():
        context = net.encode(numbers)
    return lambda x, sigma: net(x, sigma.float(), context, cameras, lit).to(x)


def mixed(first: Tensor, second: Tensor, share: float) -> Tensor:
    """Return the latent between two latents (B, latent), on the sphere that both lie on; `share` is 0 at the first."""
    cosine = torch.nn.functional.cosine_similarity(first, second, dim=-1).clamp(-1, 1)[:, None]
    angle = cosine.acos().clamp(min=1e-4)
    return (torch.sin((1 - share) * angle) * first + torch.sin(share * angle) * second) / torch.sin(angle)


def check_size(height: int, width: int, name: str) -> None:
    """Raise ValueError if the model does not take pictures of a size."""
    if min(height, width) < SMALLEST:
        raise ValueError(
            f"{name} takes pictures of at least {SMALLEST} pixels on each side, not {width} x {height}: choose a larger size"
        )
    if max(height, width) > WIDEST * min(height, width):
        raise ValueError(
            f"{name} takes pictures at most {WIDEST} times as long as wide, not {width} x {height}: choose another shape"
        )


def load_model(path: Path = WEIGHTS, device: str = "cpu", name: str = "") -> InftyDiffModel:
    """Load a file of weights that `pullback train infty-diff` wrote.

    Args:
        path: The file.
        device: Where it runs.
        name: What error messages and field files call it; by default the path.

    Raises:
        ValueError: If the file is missing, truncated, of another format, or does not fit its own sizes.
    """
    tensors, metadata = read(path, "a model that `pullback train infty-diff` wrote")
    expect(metadata, path, "infty-diff model", FORMAT, "pullback train infty-diff")
    try:
        functions = Functions(Config(**json.loads(metadata["config"])))
        functions.load_state_dict(tensors)
        std = float(metadata["std"])
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise ValueError(f"{path} does not hold an infty-diff model of this version: train it again") from error
    if not (math.isfinite(std) and std >= 0):
        raise ValueError(f"{path} has a mollifier of {std} pixels: train it again")
    functions.eval().requires_grad_(False).to(device)
    card = {key: value for key, value in metadata.items() if key != "config"}
    elevations = (-75.0, 75.0) if functions.config.toybox else (-90.0, 90.0)
    return InftyDiffModel(functions, name or str(path.resolve()), card, device, std, elevations=elevations)


def is_named(name: str) -> bool:
    """Return whether a name is that of the package's model, or of a file of this format or an earlier one."""
    return name == NAME or format_of(Path(name).expanduser()).startswith(FAMILY)


def named(name: str, device: str = "cpu") -> InftyDiffModel:
    """Load the package's model or a file. Errors are those of `load_model`."""
    return load_model(WEIGHTS, device, name) if name == NAME else load_model(Path(name).expanduser(), device)
