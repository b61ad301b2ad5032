"""Field decoders: reading the files of autoencoders, and drawing pictures of any size from their latents.

A file is a .safetensors file with the weights of an autoencoder; its metadata hold the format and the sizes of the network. For a
decoder that was made from another model's VAE (`convert.py`), they also hold the channels and the scale of the VAE's latents.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import interpolate

from ... import exact_tiles
from ...representation import Crop
from ...types import Box
from ..weights import read
from .network import Autoencoder, Config
from .renderers import CLIF, places

FORMAT = "pullback-field-decoder-1"
TILE = 256
"""Default side of a tile in pixels. Larger tiles need more memory."""


def describe(config: Config) -> str:
    """Return a configuration as JSON, for the metadata of a file."""
    return json.dumps(asdict(config))


@dataclass(frozen=True)
class FieldDecoder:
    """An autoencoder's second half: latents -> features -> pixels of any size.

    Args:
        autoencoder: The network.
        name: What error messages call it.
        card: The metadata of its file, about its training and the latents that it takes.
    """

    autoencoder: Autoencoder
    name: str
    card: dict[str, str]

    @property
    def channels(self) -> int:
        """Channels of the latents."""
        return self.autoencoder.config.latent

    @property
    def scale(self) -> int:
        """Pixels of the encoder's picture per latent, along each side."""
        return self.autoencoder.config.scale

    def check(self, z: Tensor) -> None:
        """Check latents.

        Raises:
            ValueError: If they are not (B, channels, h, w).
        """
        if z.ndim != 4 or z.shape[1] != self.channels:
            raise ValueError(
                f"the latents have the shape {tuple(z.shape)}; {self.name} takes (B, {self.channels}, h, w): it was trained "
                "for other latents"
            )

    @torch.no_grad()
    def features(self, z: Tensor) -> Tensor:
        """Return the features phi of latents (B, channels, h, w), on the decoder's device.

        Raises:
            ValueError: If they have another shape.
        """
        self.check(z)
        return self.autoencoder.features(z.to(next(self.autoencoder.parameters())))

    def draw(self, phi: Tensor, height: int, width: int, crop: Crop | None = None) -> Tensor:
        """Draw a crop of a picture. Its values are those in the whole picture, unless the renderer has group norms.

        Args:
            phi: The features of one picture, (1, C, H, W).
            height: Height of the whole picture in pixels.
            width: Width of the whole picture in pixels.
            crop: The crop (top, left, h, w) in pixels, or None for the whole picture.

        Returns:
            Values (1, 3 or 4, h, w), nominally in [-1, 1] but not clamped.
        """
        renderer = self.autoencoder.renderer
        top, left, h, w = crop or (0, 0, height, width)
        above, before = min(top, renderer.margin), min(left, renderer.margin)
        below, after = min(height - top - h, renderer.margin), min(width - left - w, renderer.margin)
        larger = (top - above, left - before, h + above + below, w + before + after)
        at = places(height, width, larger).to(phi.device)[None]
        drawn = renderer(phi, at, torch.tensor([[2 / height, 2 / width]], device=phi.device))
        return drawn[:, :, above : above + h, before : before + w]

    def parts(self, z: Tensor) -> Callable[[Box, int], Tensor]:
        """Return a function that draws parts of one picture at any resolution, differentiably.

        Args:
            z: Latents (1, channels, h, w). Their features are computed once.

        Returns:
            The function (box, size) -> display values (1, 3 or 4, size, size) in [0, 1], RGBA premultiplied, on the device of the
            latents. The box is (left, top, width, height) as fractions of the picture, and the size is in pixels.
        """
        phi = self.autoencoder.features(z.to(next(self.autoencoder.parameters())))

        def draw(box: Box, size: int) -> Tensor:
            left, top, width, height = box
            steps = (torch.arange(size) + 0.5) / size
            rows, columns = 2 * (top + height * steps) - 1, 2 * (left + width * steps) - 1
            at = torch.stack(torch.meshgrid(rows, columns, indexing="ij"), -1)[None].to(phi.device)
            cell = torch.tensor([[2 * height / size, 2 * width / size]], device=phi.device)
            return display(self.autoencoder.renderer(phi, at, cell)).to(z.device)

        return draw

    @torch.no_grad()
    def bands(
        self, phi: Tensor, height: int, width: int, crop: Crop | None = None, tick: Callable[[], None] = lambda: None,
        tile: int = TILE,
    ) -> Iterator[Tensor]:  # fmt: skip
        """Draw a picture from top to bottom, holding only one band of it and one tile in memory.

        A renderer with group norms needs further passes over the whole picture, to measure what it normalises (`exact_tiles.py`).

        Args:
            phi, height, width, crop: As in `draw`.
            tick: Called before every tile; it may raise to stop.
            tile: Side of a tile in pixels.

        Returns:
            Bands (3 or 4, rows, w) of display values in [0, 1], RGBA premultiplied, on the CPU.
        """
        renderer = self.autoencoder.renderer
        if isinstance(renderer, CLIF) and self.autoencoder.config.grouped_renderer:
            cell = torch.tensor([[2 / height, 2 / width]], device=phi.device)
            at = lambda part: places(height, width, part).to(phi.device)[None]
            source = exact_tiles.Source(height, width, lambda part: renderer.gather(phi, at(part), cell))
            drawn = exact_tiles.bands(renderer.layers, source, tile, crop, tick=lambda done, total: tick())
            yield from (display(band[None])[0] for band in drawn)
            return
        top, left, h, w = crop or (0, 0, height, width)
        for y in range(top, top + h, tile):
            rows, tiles = min(tile, top + h - y), []
            for x in range(left, left + w, tile):
                tick()
                part = (y, x, rows, min(tile, left + w - x))
                tiles.append(display(self.draw(phi, height, width, part))[0].cpu())
            yield torch.cat(tiles, -1)


def read_latents(path: Path) -> Tensor:
    """Read latents (1, C, h, w) from a .safetensors file: its only tensor, or `latent_tensor` (ComfyUI's *Save Latent*).

    Raises:
        ValueError: If the file is missing, damaged, or holds no latents of one picture.
    """
    tensors, _ = read(path, "latents, a .safetensors file")
    z = tensors.get("latent_tensor") if len(tensors) > 1 else next(iter(tensors.values()), None)
    if z is None or z.ndim not in (3, 4) or (z.ndim == 4 and len(z) != 1) or min(z.shape) < 1:
        raise ValueError(
            f"{path} holds no latents of one picture: expected a tensor latent_tensor of shape (1, C, h, w)"
        )
    if not z.isfinite().all():
        raise ValueError(f"the latents in {path} are not finite (NaN or infinite)")
    return z.reshape(1, *z.shape[-3:])


def encoded(decoder: FieldDecoder, picture: np.ndarray) -> Tensor:
    """Encode a picture with the encoder that a decoder was trained with.

    Args:
        decoder: The decoder.
        picture: The picture, (H, W, channels) uint8, RGBA premultiplied. Its longer side is scaled to the encoder's base size.

    Returns:
        Latents (1, channels, h, w).
    """
    config, scale = decoder.autoencoder.config, decoder.scale
    longer = max(picture.shape[:2])
    height, width = (max(1, round(side / longer * config.base / scale)) * scale for side in picture.shape[:2])
    pixels = torch.from_numpy(np.ascontiguousarray(picture)).movedim(-1, 0)[None].float() / 127.5 - 1
    small = interpolate(pixels, (height, width), mode="bilinear", antialias=True)
    with torch.no_grad():
        return decoder.autoencoder.encode(small.to(next(decoder.autoencoder.parameters())))


def display(values: Tensor) -> Tensor:
    """Convert values (B, 3 or 4, h, w) in [-1, 1] to display values in [0, 1], RGBA premultiplied."""
    shown = (values.float() / 2 + 0.5).clamp(0, 1)
    return shown if shown.shape[1] == 3 else torch.cat([torch.minimum(shown[:, :3], shown[:, 3:]), shown[:, 3:]], 1)


def load_decoder(path: Path, device: str = "cpu") -> FieldDecoder:
    """Load a field decoder.

    Args:
        path: The file.
        device: The device to load the decoder on.

    Raises:
        ValueError: If the file is missing, damaged, or not a field decoder.
    """
    tensors, metadata = read(path, "a field decoder, a .safetensors file")
    if metadata.get("format") != FORMAT:
        raise ValueError(
            f"{path} is not a field decoder: its format is {metadata.get('format')!r}, expected {FORMAT!r}"
        )
    try:
        network = autoencoder_of(json.loads(metadata["config"]))
        network.load_state_dict(tensors)
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise ValueError(f"{path} does not hold the weights that it describes: get or train it again") from error
    return FieldDecoder(network.eval().requires_grad_(False).to(device), path.name, metadata)


def autoencoder_of(sizes: dict[str, Any]) -> Autoencoder:
    """Return an untrained autoencoder with the sizes from a file's metadata.

    Raises:
        ValueError, TypeError, KeyError: If they are not the sizes of an autoencoder.
    """
    known = {field.name for field in fields(Config)}
    if not isinstance(sizes, dict) or not sizes.keys() <= known:
        raise ValueError("unknown sizes")
    values: dict[str, Any] = {name: tuple(value) if isinstance(value, list) else value for name, value in sizes.items()}
    config = Config(**values)
    if max(*config.encoder, *config.decoder, config.hidden, config.codes) > 1 << 14 or len(config.encoder) > 8:
        raise ValueError("sizes too large")  # otherwise a file could make us allocate any amount of memory
    if config.layout not in ("own", "ldm"):
        raise ValueError("unknown layout")
    return Autoencoder(config)
