"""The autoencoder of image neural field diffusion: picture -> latent z -> features phi -> pixels of any size.

The encoder sees the whole picture at a fixed size and makes a latent with, by default, a quarter of its side. The bottleneck
keeps the latent simple enough for a diffusion model. The decoder makes features at the size of the encoder's picture, and a
renderer (`renderers.py`) draws any part of the picture at any scale from them.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Generator, Tensor, nn

from .blocks import Attention, Residual, norm
from .renderers import RENDERERS, places


@dataclass(frozen=True)
class Config:
    """The sizes of the autoencoder.

    Args:
        channels: Channels of pictures: 3, or 4 for premultiplied RGBA.
        base: Side of the picture that the encoder sees, in pixels.
        latent: Channels of the latent.
        encoder: Channels of the encoder at each size, from the full size to the latent's.
        decoder: Channels of the decoder in the same order. The first number is also the number of channels of phi.
        encoder_blocks: Residual blocks of the encoder at each size.
        decoder_blocks: Residual blocks of the decoder at each size.
        attention: Whether encoder and decoder have self-attention at the latent's size.
        grouped: Whether encoder and decoder have group norms.
        bottleneck: "kl" (a Gaussian around the latent) or "vq" (its nearest code vectors).
        codes: The number of code vectors of "vq".
        renderer: "clif" or "heat".
        hidden: Channels of the renderer.
        grouped_renderer: Whether the renderer "clif" has group norms.
        layout: "own", or "ldm" for the layers of latent diffusion's AutoencoderKL (Rombach et al. 2022), whose weights
            `convert.py` copies.
    """

    channels: int = 4
    base: int = 64
    latent: int = 4
    encoder: tuple[int, ...] = (32, 48, 64)
    decoder: tuple[int, ...] = (48, 64, 96)
    encoder_blocks: int = 1
    decoder_blocks: int = 1
    attention: bool = False
    grouped: bool = False
    bottleneck: str = "kl"
    codes: int = 8192
    renderer: str = "clif"
    hidden: int = 64
    grouped_renderer: bool = False
    layout: str = "own"

    @property
    def scale(self) -> int:
        """Pixels of the encoder's picture per latent, along each side."""
        return 2 ** (len(self.encoder) - 1)


PAPER = Config(
    3, 256, 3, (128, 256, 512), (128, 256, 512), 2, 3, True, True, "vq", 8192, "clif", 256, grouped_renderer=True
)
PRESETS = {
    "small": Config(),
    "small-heat": Config(renderer="heat", hidden=128),
    "paper-ffhq": PAPER,
    "paper-mountains": PAPER,
}


class Middle(nn.Sequential):
    """The blocks at the size of the latent: residual, optionally attention, residual."""

    def __init__(self, channels: int, attention: bool, grouped: bool):
        between = [Attention(channels, grouped)] if attention else []
        super().__init__(Residual(channels, channels, grouped), *between, Residual(channels, channels, grouped))


class Encoder(nn.Module):
    """From pictures (B, channels, H, W) in [-1, 1] to the parameters of the bottleneck, (B, out, H / scale, W / scale)."""

    def __init__(self, config: Config, out: int):
        super().__init__()
        widths = config.encoder
        layers: list[nn.Module] = [nn.Conv2d(config.channels, widths[0], 3, padding=1)]
        for level, width in enumerate(widths):
            before = widths[max(0, level - 1)]
            if level:
                layers.append(nn.Conv2d(before, before, 4, 2, 1))
            for n in range(config.encoder_blocks):
                layers.append(Residual(before if n == 0 else width, width, config.grouped))
        layers += [Middle(widths[-1], config.attention, config.grouped), norm(widths[-1], config.grouped), nn.SiLU()]
        if config.layout == "ldm":
            layers += [nn.Conv2d(widths[-1], out, 3, padding=1), nn.Conv2d(out, out, 1)]
        else:
            layers.append(nn.Conv2d(widths[-1], out, 1))
        self.layers = nn.Sequential(*layers)

    def forward(self, pictures: Tensor) -> Tensor:
        return self.layers(pictures)


class Up(nn.Module):
    """Doubles both sides: a convolution to four times the channels, which become 2 x 2 pixels."""

    def __init__(self, channels: int, out: int):
        super().__init__()
        self.conv = nn.Conv2d(channels, 4 * out, 1)

    def forward(self, x: Tensor) -> Tensor:
        return F.pixel_shuffle(self.conv(x), 2)


class Nearest(nn.Module):
    """Doubles both sides by repeating pixels, and convolves the result, as AutoencoderKL does."""

    def __init__(self, channels: int):
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(F.interpolate(x, scale_factor=2, mode="nearest"))


class Decoder(nn.Module):
    """From latents (B, latent, h, w) to features phi (B, decoder[0], scale h, scale w)."""

    def __init__(self, config: Config):
        super().__init__()
        widths, ldm = config.decoder[::-1], config.layout == "ldm"
        layers: list[nn.Module] = [nn.Conv2d(config.latent, config.latent, 1)] if ldm else []
        layers.append(nn.Conv2d(config.latent, widths[0], 3, padding=1))
        layers.append(Middle(widths[0], config.attention, config.grouped))
        for level, width in enumerate(widths):
            before = widths[max(0, level - 1)] if ldm else width
            if level:
                layers.append(Nearest(before) if ldm else Up(widths[level - 1], width))
            for n in range(config.decoder_blocks):
                layers.append(Residual(before if n == 0 else width, width, config.grouped))
        if ldm:
            layers += [norm(widths[-1], config.grouped), nn.SiLU()]
        self.layers = nn.Sequential(*layers)

    def forward(self, z: Tensor) -> Tensor:
        return self.layers(z)


class KL(nn.Module):
    """A Gaussian around the encoder's output, which its loss pulls towards the unit normal (Kingma & Welling 2014)."""

    parameters_per_latent = 2

    def __init__(self, config: Config):
        super().__init__()

    def encode(self, hidden: Tensor) -> Tensor:
        """Return the mean, which is the latent that diffusion models learn."""
        return hidden.chunk(2, 1)[0]

    def forward(self, hidden: Tensor, random: Generator | None) -> tuple[Tensor, Tensor]:
        """Draw a latent, and return it with its divergence from the unit normal, averaged over all values."""
        mean, log_variance = hidden.chunk(2, 1)
        log_variance = log_variance.clamp(-30, 20)
        noise = torch.randn(mean.shape, generator=random).to(mean)
        divergence = 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).mean()
        return mean + (0.5 * log_variance).exp() * noise, divergence

    def decode(self, z: Tensor) -> Tensor:
        """Return the latent unchanged, as the decoder reads it."""
        return z


class VQ(nn.Module):
    """The nearest of a set of code vectors (van den Oord et al. 2017), looked up when a latent is decoded.

    The two loss terms are weighted as in the `legacy` form of taming-transformers, which the paper uses: BETA multiplies the
    codes' term instead of the encoder's.
    """

    BETA = 0.25
    parameters_per_latent = 1

    def __init__(self, config: Config):
        super().__init__()
        self.codes = nn.Embedding(config.codes, config.latent)
        nn.init.uniform_(self.codes.weight, -1 / config.codes, 1 / config.codes)

    def encode(self, hidden: Tensor) -> Tensor:
        """Return the latent before it is quantised, which diffusion models learn."""
        return hidden

    def decode(self, z: Tensor) -> Tensor:
        """Return the nearest code vectors. Gradients are passed straight through to z."""
        flat = z.movedim(1, -1)
        found = self.codes(torch.cdist(flat.flatten(0, -2), self.codes.weight).argmin(1)).view_as(flat).movedim(-1, 1)
        return z + (found - z).detach() if z.requires_grad else found

    def forward(self, hidden: Tensor, random: Generator | None) -> tuple[Tensor, Tensor]:
        """Quantise a latent, and return it with the loss that pulls the codes and the encoder's output towards each other."""
        flat = hidden.movedim(1, -1)
        index = torch.cdist(flat.flatten(0, -2).detach(), self.codes.weight.detach()).argmin(1)
        found = self.codes(index).view_as(flat).movedim(-1, 1)
        loss = (found.detach() - hidden).square().mean() + self.BETA * (found - hidden.detach()).square().mean()
        return hidden + (found - hidden).detach(), loss


BOTTLENECKS: dict[str, type[KL] | type[VQ]] = {"kl": KL, "vq": VQ}


class Autoencoder(nn.Module):
    """Encoder, bottleneck, decoder and renderer."""

    def __init__(self, config: Config = Config()):
        super().__init__()
        self.config = config
        self.bottleneck: KL | VQ = BOTTLENECKS[config.bottleneck](config)
        self.encoder = Encoder(config, config.latent * self.bottleneck.parameters_per_latent)
        self.decoder = Decoder(config)
        kind = RENDERERS[config.renderer]
        more = {"grouped": config.grouped_renderer} if config.renderer == "clif" else {}
        self.renderer = kind(config.decoder[0], config.channels, config.hidden, **more)

    def encode(self, pictures: Tensor) -> Tensor:
        """Return the latents (B, latent, H / scale, W / scale) of pictures (B, channels, H, W) in [-1, 1]."""
        return self.bottleneck.encode(self.encoder(pictures))

    def features(self, z: Tensor) -> Tensor:
        """Return the features phi (B, C, scale h, scale w) of latents (B, latent, h, w)."""
        return self.decoder(self.bottleneck.decode(z))

    def picture(self, z: Tensor, size: int) -> Tensor:
        """Draw whole pictures (B, channels, size, size) from latents (B, latent, h, w), in one piece."""
        at, cell = places(size, size).to(z.device), torch.full((1, 2), 2 / size, device=z.device)
        phi = self.features(z)
        return self.renderer(phi, at.expand(len(z), -1, -1, -1), cell.expand(len(z), -1))

    def forward(
        self, pictures: Tensor, at: Tensor, cell: Tensor, random: Generator | None = None
    ) -> tuple[Tensor, Tensor]:
        """Draw parts of pictures from their small versions, as in training.

        Args:
            pictures: Whole pictures at the base size, (B, channels, base, base) in [-1, 1].
            at: The centres of the wanted pixels, (B, h, w, 2) in [-1, 1].
            cell: The height and width of a pixel in the same units, (B, 2).
            random: Draws the noise of the bottleneck.

        Returns:
            The pixels (B, channels, h, w), and the loss of the bottleneck.
        """
        z, loss = self.bottleneck(self.encoder(pictures), random)
        return self.renderer(self.decoder(z), at, cell), loss
