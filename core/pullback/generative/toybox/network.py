"""The network of toybox: it denoises 64 x 64 premultiplied RGBA, conditioned on words, camera and light.

It is U-shaped: convolutions lead down from 64 x 64 to 8 x 8, a transformer works on the 64 places, and convolutions with skip
connections lead back up. It also gets the picture that the `Template` expects: the mean picture for every colouring that the
prompt allows, averaged with weights that say how well each explains the noisy picture.

`context` is the encoded prompt, (B, LENGTH, `Config.context`). It concatenates the denoiser's encoding of the words, the
template's encoding, and the palette, which has one row per colouring (`palettes`). `camera` is (B, 3): azimuth and elevation in
radians, and the kind of view. `lit` is (B,): 1 for pictures with light and shadow, 0 for unlit colours.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...denoisers import edm
from .words import COLOURS, LENGTH, PAD, VOCABULARY, split_colours

SIGMA_DATA = 0.5
PALETTE = 7
"""The number of values of one colouring: its prior weight, and the RGB in [0, 1] of the main paint and of the accent."""
LAYERS = 6
"""The number of layers, all in [0, 1]: where the main paint is, where the accent is, RGB of everything else, and alpha."""
SPREAD = 1.0
"""Assumed standard deviation of a 32 x 32 picture from its template, per value. The likelihood of held-out pictures is flat
around it. It is larger than the measured deviation, 0.16, because the errors of neighbouring values are not independent."""
VIEW = 22
"""The number of values that describe camera and light: the 21 of `camera_features`, and `lit`."""
ANY, ORBIT, PITCH = 0, 1, 2
"""Kinds of view: unknown; around an object; in a landscape, where only the elevation counts."""


@dataclass(frozen=True)
class Config:
    """The sizes of the network.

    Args:
        width: Width of the transformer's tokens, a multiple of 32.
        depth: The number of transformer blocks.
        channels: Channels of the convolutions at 64, 32 and 16 pixels.
    """

    width: int = 192
    depth: int = 8
    channels: tuple[int, int, int] = (16, 48, 96)

    @property
    def context(self) -> int:
        """The number of values per row of an encoded prompt: two encodings of a word, and a colouring."""
        return 2 * self.width + PALETTE


class Words(nn.Module):
    """A word encoder: two transformer layers, from word numbers (B, LENGTH) to (B, LENGTH, width), zero at padding."""

    def __init__(self, width: int, inner: int = 128):
        super().__init__()
        self.embedding = nn.Embedding(len(VOCABULARY), inner)
        self.position = nn.Parameter(0.02 * torch.randn(LENGTH, inner))
        layer = nn.TransformerEncoderLayer(inner, 4, 2 * inner, 0.0, "gelu", batch_first=True, norm_first=True)
        self.layers = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.out = nn.Linear(inner, width)

    def forward(self, words: Tensor) -> Tensor:
        padding = words == PAD
        hidden = self.layers(self.embedding(words) + self.position, src_key_padding_mask=padding)
        return self.out(hidden).masked_fill(padding[..., None], 0.0)


class Block(nn.Module):
    """A transformer block whose norms are shifted, scaled and gated by the condition (adaLN-zero, Peebles & Xie 2023)."""

    def __init__(self, width: int):
        super().__init__()
        self.heads = width // 32
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)
        self.up = nn.Linear(width, 4 * width)
        self.down = nn.Linear(4 * width, width)
        self.modulation = nn.Linear(width, 6 * width)
        nn.init.zeros_(self.modulation.weight)
        nn.init.zeros_(self.modulation.bias)

    def forward(self, x: Tensor, c: Tensor) -> Tensor:
        shift1, scale1, gate1, shift2, scale2, gate2 = self.modulation(c)[:, None].chunk(6, -1)
        b, n, d = x.shape
        h = F.layer_norm(x, (d,)) * (1 + scale1) + shift1
        q, k, v = self.qkv(h).view(b, n, 3, self.heads, d // self.heads).permute(2, 0, 3, 1, 4)
        x = x + gate1 * self.out(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(b, n, d))
        h = F.layer_norm(x, (d,)) * (1 + scale2) + shift2
        return x + gate2 * self.down(F.gelu(self.up(h), approximate="tanh"))


class Residual(nn.Module):
    """Two 3 x 3 convolutions, added to their input. The condition scales and shifts the second norm."""

    def __init__(self, channels: int, width: int):
        super().__init__()
        self.groups = channels // 8
        self.norm = nn.GroupNorm(self.groups, channels)
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1)
        self.modulation = nn.Linear(width, 2 * channels)
        for zero in (self.conv2, self.modulation):
            for p in zero.parameters():
                nn.init.zeros_(p)

    def forward(self, x: Tensor, c: Tensor) -> Tensor:
        scale, shift = self.modulation(c)[:, :, None, None].chunk(2, 1)
        h = self.conv1(F.silu(self.norm(x)))
        return x + self.conv2(F.silu(F.group_norm(h, self.groups) * (1 + scale) + shift))


class Template(nn.Module):
    """A decoder of the mean sketch of a condition, E[layers | shape words, camera, light], (B, LAYERS, 32, 32).

    At high noise the right answer of the denoiser depends on the condition alone. A small decoder learns it from ten times as
    many pictures as the denoiser could see in the same time, so it is trained first, by least squares. It predicts layers instead
    of colours, because colours are known exactly: `painted` makes the mean picture of every colouring from the same layers.
    """

    def __init__(self, width: int, inner: int = 640):
        super().__init__()
        self.words = Words(width)
        self.text = nn.Linear(width, inner)
        self.view = nn.Sequential(nn.Linear(VIEW, inner), nn.SiLU(), nn.Linear(inner, inner))
        self.mix = nn.Sequential(
            nn.SiLU(), nn.Linear(inner, inner), nn.SiLU(), nn.Linear(inner, inner), nn.SiLU(),
            nn.Linear(inner, 64 * 64), nn.SiLU(),
        )  # fmt: skip
        self.up = nn.Sequential(
            nn.Conv2d(64, 4 * 48, 1), nn.PixelShuffle(2), nn.SiLU(), nn.Conv2d(48, 48, 3, padding=1), nn.SiLU(),
            nn.Conv2d(48, 4 * 24, 1), nn.PixelShuffle(2), nn.SiLU(), nn.Conv2d(24, 24, 3, padding=1), nn.SiLU(),
            nn.Conv2d(24, LAYERS, 3, padding=1),
        )  # fmt: skip

    def forward(self, context: Tensor, camera: Tensor, lit: Tensor) -> Tensor:
        view = self.view(torch.cat([camera_features(camera), lit[:, None]], -1))
        return self.up(self.mix(self.text(context.sum(1)) + view).unflatten(-1, (64, 8, 8)))


def palettes(colours: list[str]) -> Tensor:
    """Return the colourings that the colours in a prompt allow.

    Two colours are those of the main paint and the accent. One colour is that of both; the accents that nouns have of their own
    are in the template's fixed colours. Without a colour, all known colours are equally likely.

    Args:
        colours: The names of the colours, in order.

    Returns:
        The palette (LENGTH, PALETTE), padded with rows of weight 0.
    """
    ways = [colours[:2]] if colours else [[name] for name in COLOURS]
    rows = [[1 / len(ways), *COLOURS[way[0]], *COLOURS[way[-1]]] for way in ways]
    return torch.tensor(rows + [[0.0] * PALETTE] * (LENGTH - len(rows)))


def painted(layers: Tensor, main: Tensor, accent: Tensor) -> Tensor:
    """Return pictures (..., 4, H, W) in [-1, 1]: layers (..., LAYERS, H, W), painted with two colours (..., 3) in [0, 1]."""
    m, a, rest, alpha = layers.split((1, 1, 3, 1), -3)
    rgb = m * main[..., None, None] + a * accent[..., None, None] + rest
    return 2 * torch.cat([rgb, alpha.expand_as(rgb[..., :1, :, :])], -3) - 1


def expected(layers: Tensor, palette: Tensor, x: Tensor, sigma: Tensor) -> Tensor:
    """Return the posterior mean over the colourings of a palette, given a noisy picture.

    The pictures of each colouring are modelled as a Gaussian of standard deviation SPREAD, so this is the exact posterior mean of
    a mixture. The noisy picture is first averaged over blocks of 2 x 2 pixels.

    Args:
        layers: The template's layers, (B, LAYERS, 32, 32).
        palette: The colourings, (B, LENGTH, PALETTE), see `palettes`.
        x: The noisy picture x0 + sigma eps, (B, 4, 64, 64), or a longer one, of which the square in the middle counts.
        sigma: The noise level, (B,).

    Returns:
        Pictures (B, 4, 32, 32) in [-1, 1].
    """
    weight, main, accent = palette.split((1, 3, 3), -1)
    layers = layers.float()
    pictures = painted(layers[:, None], main, accent)
    top, left = ((side - 64) // 2 for side in x.shape[-2:])
    distance = (F.avg_pool2d(x[..., top : top + 64, left : left + 64], 2)[:, None] - pictures).square().sum((2, 3, 4))
    variance = (sigma / 2) ** 2 + SPREAD**2
    likely = torch.softmax(weight[..., 0].log() - distance / (2 * variance[:, None]), 1)
    return (likely[:, :, None, None, None] * pictures).sum(1)


def camera_features(camera: Tensor) -> Tensor:
    """Return features (B, 21) of cameras (B, 3): harmonics of azimuth and elevation, 0 if unknown, and the kind of view."""
    azimuth, elevation, kind = camera.unbind(-1)
    orbit, known = (kind == ORBIT).to(camera), (kind != ANY).to(camera)
    around = [f(k * azimuth) * orbit for k in range(1, 7) for f in (torch.sin, torch.cos)]
    above = [f(k * elevation) * known for k in range(1, 4) for f in (torch.sin, torch.cos)]
    return torch.stack([*around, *above, orbit, known - orbit, 1 - known], -1)


class Toybox(nn.Module):
    """The denoiser D(x, sigma, context or words, camera, lit), around the raw network `predict`."""

    def __init__(self, config: Config = Config()):
        super().__init__()
        d, (c0, c1, c2) = config.width, config.channels
        self.words = Words(d)
        self.time = nn.Sequential(nn.Linear(64, d), nn.SiLU(), nn.Linear(d, d))
        self.view = nn.Sequential(nn.Linear(VIEW, d), nn.SiLU(), nn.Linear(d, d))
        self.text = nn.Sequential(nn.Linear(d, d), nn.SiLU(), nn.Linear(d, d))
        self.stem = nn.Conv2d(8, c0, 3, padding=1)
        self.down = nn.ModuleList(nn.Conv2d(a, b, 4, 2, 1) for a, b in ((c0, c1), (c1, c2), (c2, d)))
        self.enter = nn.ModuleList(Residual(c, d) for c in (c1, c2))
        self.position = nn.Parameter(0.02 * torch.randn(1, 64, d))
        self.blocks = nn.ModuleList(Block(d) for _ in range(config.depth))
        self.up = nn.ModuleList(nn.Conv2d(a, 4 * b, 1) for a, b in ((d, c2), (c2, c1), (c1, c0)))
        self.leave = nn.ModuleList(Residual(c, d) for c in (c2, c1, c0))
        self.norm = nn.GroupNorm(c0 // 4, c0)
        self.head = nn.Conv2d(c0, 4, 3, padding=1)
        for p in self.head.parameters():
            nn.init.zeros_(p)
        self.template = Template(d)
        self.register_buffer("frequencies", torch.exp(torch.linspace(0, math.log(1000), 32)), persistent=False)

    frequencies: Tensor

    def encode(self, words: Tensor) -> Tensor:
        """Encode word numbers (B, LENGTH) as context (B, LENGTH, `Config.context`)."""
        return encode(self.words, self.template.words, words)

    def condition(self, c_noise: Tensor, context: Tensor, camera: Tensor, lit: Tensor) -> Tensor:
        """Return the vector (B, width) that conditions all norms, from noise level, words, camera and light."""
        angle = c_noise[:, None] * self.frequencies
        time = self.time(torch.cat([angle.sin(), angle.cos()], -1))
        view = self.view(torch.cat([camera_features(camera), lit[:, None]], -1))
        return F.silu(time + view + self.text(context.sum(1)))

    def predict(self, x: Tensor, c_noise: Tensor, context: Tensor, camera: Tensor, lit: Tensor) -> Tensor:
        """Evaluate the network in EDM's scaling: x (B, 4, 64, 64) has unit variance, and c_noise (B,) is ln(sigma) / 4.

        One side of x may be longer, by a multiple of 8: the template's picture is then in the middle and goes on at its edge, and
        the encodings of places are stretched.
        """
        width = self.position.shape[-1]
        words, template_words, palette = context.split((width, width, PALETTE), -1)
        sigma = torch.exp(4 * c_noise)
        scale = (sigma**2 + SIGMA_DATA**2).sqrt()[:, None, None, None]
        template = expected(self.template(template_words, camera, lit), palette, x * scale, sigma)
        c = self.condition(c_noise, words, camera, lit)
        x = torch.cat([x, widened(F.interpolate(template, scale_factor=2.0, mode="bilinear"), *x.shape[-2:])], 1)
        h = self.stem(x.to(memory_format=torch.channels_last))
        skips = [h]
        for down, enter in zip(self.down[:2], self.enter, strict=True):
            h = enter(down(F.silu(h)), c)
            skips.append(h)
        h = self.down[2](F.silu(h))
        size = h.shape[-2:]
        tokens = h.flatten(2).transpose(1, 2) + stretched(self.position, *size)
        for block in self.blocks:
            tokens = block(tokens, c)
        h = F.layer_norm(tokens, tokens.shape[-1:]).transpose(1, 2).unflatten(2, size)
        h = h.contiguous(memory_format=torch.channels_last)
        for up, leave in zip(self.up, self.leave, strict=True):
            h = leave(F.pixel_shuffle(up(h), 2) + skips.pop(), c)
        return self.head(F.silu(self.norm(h)))

    def forward(self, x: Tensor, sigma: Tensor, words: Tensor, camera: Tensor, lit: Tensor) -> Tensor:
        """Return x0_hat (B, 4, 64, 64) for noisy pictures; `words` are word numbers (B, LENGTH) or an encoded context."""
        context = words if words.is_floating_point() else self.encode(words)
        return edm(lambda x, t, c: self.predict(x, t, *c), SIGMA_DATA)(x, sigma, (context, camera, lit))


def stretched(position: Tensor, rows: int, columns: int) -> Tensor:
    """Return encodings of 8 x 8 places (1, 64, width) for another number of places, (1, rows columns, width)."""
    if (rows, columns) == (8, 8):
        return position
    square = position.transpose(1, 2).unflatten(2, (8, 8))
    return F.interpolate(square, (rows, columns), mode="bilinear").flatten(2).transpose(1, 2)


def widened(square: Tensor, rows: int, columns: int) -> Tensor:
    """Return a square picture in the middle of a longer one; beyond it, its edge goes on."""
    down, right = rows - square.shape[-2], columns - square.shape[-1]
    if not (down or right):
        return square
    return F.pad(square, (right // 2, right - right // 2, down // 2, down - down // 2), mode="replicate")


def encode(words: Words, shapes: Words, numbers: Tensor) -> Tensor:
    """Encode prompts.

    Args:
        words: The denoiser's word encoder, which reads all words.
        shapes: The template's word encoder, which reads all words but colours.
        numbers: Word numbers (B, LENGTH).

    Returns:
        The context (B, LENGTH, `Config.context`).
    """
    split = [split_colours(row) for row in numbers.tolist()]
    palette = torch.stack([palettes(colours) for _, colours in split]).to(numbers.device)
    shape = torch.tensor([others for others, _ in split], device=numbers.device)
    return torch.cat([words(numbers), shapes(shape), palette], -1)
