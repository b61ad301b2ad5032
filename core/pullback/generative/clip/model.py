"""Picture-text models as `CLIP`s: the small one that ships with pullback, and those of `open_clip`."""

from __future__ import annotations

import functools
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from torch import Tensor

from ...types import CLIP
from ..toybox.model import check
from ..toybox.words import encode
from .network import Config, PictureText

WEIGHTS = Path(__file__).with_name("clip.safetensors")
FORMAT = "pullback-picture-text-1"


@functools.lru_cache(maxsize=2)
def network(path: Path = WEIGHTS, device: str = "cpu") -> PictureText:
    """Return the small network with its weights, in float32 on a device. It is loaded once.

    Raises:
        ValueError: If the file is missing, damaged or of another format.
    """
    if not path.exists():
        raise ValueError(
            f"the weights of the picture-text model are missing: {path} does not exist; reinstall pullback"
        )
    try:
        with safe_open(path, "pt") as file:
            metadata = file.metadata() or {}
            tensors = {key: file.get_tensor(key).float() for key in file.keys()}  # noqa: SIM118
        if metadata.get("format") != FORMAT:
            raise ValueError(f"its format is {metadata.get('format')!r}, expected {FORMAT!r}")
        sizes = json.loads(metadata["config"])
        net = PictureText(Config(**sizes | {"widths": tuple(sizes["widths"])}))
        net.load_state_dict(tensors)
    except (SafetensorError, OSError, KeyError, TypeError, ValueError, RuntimeError) as error:
        raise ValueError(f"{path} is not a picture-text model of this version: reinstall pullback ({error})") from error
    return net.eval().requires_grad_(False).to(device)


@dataclass(frozen=True)
class SmallCLIP:
    """The picture-text model that ships with pullback; see `types.CLIP`. It knows only toybox's words."""

    device: str = "cpu"
    path: Path = WEIGHTS

    @property
    def size(self) -> int:
        return network(self.path, self.device).config.size

    @property
    def temperature(self) -> float:
        return float(network(self.path, self.device).temperature.exp())

    def encode_image(self, pictures: Tensor) -> Tensor:
        net = network(self.path, self.device)
        return net.pictures(scaled(pictures.to(self.device), net.config.size)).to(pictures)

    def encode_text(self, texts: list[str]) -> Tensor:
        words = torch.tensor([encode(check(text), "sentence") for text in texts], device=self.device)
        with torch.no_grad():
            return network(self.path, self.device).texts(words)


@dataclass(frozen=True)
class OpenCLIP:
    """A model of `open_clip`; see `types.CLIP`. Make it with `load_clip`.

    Args:
        model: The model.
        tokenizer: Converts sentences to the tokens that the model reads.
        size: Side of the pictures that the model takes, in pixels.
        mean: The mean RGB in [0, 1], which is subtracted from pictures.
        std: The standard deviation of RGB, by which pictures are then divided.
        device: The device that the model is on.
    """

    model: Any
    tokenizer: Any
    size: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    device: str

    @property
    def temperature(self) -> float:
        return float(self.model.logit_scale.exp())

    def encode_image(self, pictures: Tensor) -> Tensor:
        mean, std = (torch.tensor(rgb).to(pictures)[:, None, None] for rgb in (self.mean, self.std))
        normalised = (scaled(pictures, self.size) - mean) / std
        return F.normalize(self.model.encode_image(normalised.to(self.device)), dim=-1).to(pictures)

    def encode_text(self, texts: list[str]) -> Tensor:
        with torch.no_grad():
            return F.normalize(self.model.encode_text(self.tokenizer(texts).to(self.device)), dim=-1)


def scaled(pictures: Tensor, size: int) -> Tensor:
    """Scale pictures (B, C, H, W) to size x size pixels, with anti-aliasing."""
    if pictures.shape[2:] == (size, size):
        return pictures
    return F.interpolate(pictures, (size, size), mode="bilinear", antialias=True)


def load_clip(name: str = "", file: Path | None = None, device: str = "cpu") -> CLIP:
    """Load a picture-text model.

    Args:
        name: "" for the small one that ships with pullback, or the name of an architecture of `open_clip`, such as
            "ViT-B-32".
        file: The weights of that architecture, a .safetensors file. Nothing is downloaded.
        device: The device to load the model on.

    Raises:
        ValueError: If the name is unknown, or the file is missing, damaged or of another architecture.
        ImportError: If `open_clip` is needed and not installed.
    """
    if not name:
        if file is not None:
            raise ValueError(f"{file} was given without the name of its architecture: name it, such as ViT-B-32")
        return SmallCLIP(device)
    try:
        import open_clip
    except ImportError as error:
        raise ImportError('open_clip is not installed: pip install "pullback[clip]"') from error
    if name not in open_clip.list_models():
        raise ValueError(f"open_clip has no model {name!r}: expected a name such as ViT-B-32")
    if file is None or not file.is_file() or file.suffix != ".safetensors":
        raise ValueError(f"{name} needs its weights as a .safetensors file on this machine; {file} is not one")
    model = open_clip.create_model(name, pretrained=None)
    try:
        model.load_state_dict(load_file(file))
    except (SafetensorError, OSError, RuntimeError) as error:
        raise ValueError(f"{file} does not hold the weights of {name}: it is damaged or of another model") from error
    try:
        tokenizer = open_clip.get_tokenizer(name)
    except OSError as error:  # some architectures have their tokenizer on the Hugging Face Hub
        raise ValueError(
            f"the tokenizer of {name} is not on this machine: load it once with open_clip.get_tokenizer"
        ) from error
    wants = open_clip.get_model_preprocess_cfg(model)
    size = wants["size"] if isinstance(wants["size"], int) else wants["size"][0]
    model = model.eval().requires_grad_(False).to(device)
    return OpenCLIP(model, tokenizer, size, tuple(wants["mean"]), tuple(wants["std"]), device)
