"""Plots of progressive coding, of samples and of interpolations, drawn with Pillow."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor
from torch.nn.functional import interpolate

from .coding import Code
from .model import display

Curve = tuple[Tensor, Tensor]
"""Abscissas and ordinates, (n,) each."""
COLOURS = ("#2563eb", "#dc2626", "#16a34a", "#9333ea", "#ea580c", "#0891b2")
INK, FAINT = "#1f2937", "#e5e7eb"
SHARP = 2
"""Lines are drawn so much larger and then scaled down, which smooths them."""


def sheet(rows: Tensor, scale: int = 1, gap: int = 1) -> Image.Image:
    """Return pictures in rows.

    Args:
        rows: Signals (rows, columns, C, H, W) in [-1, 1].
        scale: Pixels of a side that become of one pixel.
        gap: White pixels between pictures, before they are enlarged.
    """
    shown = torch.nn.functional.pad(display(rows), (0, gap, 0, gap), value=1.0)
    whole = torch.cat([torch.cat(list(row), -1) for row in shown], -2)[:, : -gap or None, : -gap or None]
    large = interpolate(whole[None], scale_factor=float(scale), mode="nearest")[0]
    return Image.fromarray((large * 255).round().byte().permute(1, 2, 0).cpu().numpy())


def rate_distortion(codes: Mapping[str, Code], size: tuple[int, int] = (360, 260)) -> Image.Image:
    """Return the paper's figure 5 (3.5 in the thesis): distortion and rate over the steps, and distortion over rate.

    Args:
        codes: The codes by name.
        size: Width and height of each of the three plots, in pixels.
    """
    over_steps, rates, both = {}, {}, {}
    for name, each in codes.items():
        steps = torch.arange(len(each.rate), 0, -1)  # T - t + 1
        over_steps[name], rates[name] = (steps, each.distortion), (steps, each.rate)
        both[name] = (each.rate, each.distortion)
    plots = (
        plot(over_steps, "reverse process steps (T - t + 1)", "distortion (RMSE)", size),
        plot(rates, "reverse process steps (T - t + 1)", "rate (bits/dim)", size),
        plot(both, "rate (bits/dim)", "distortion (RMSE)", size),
    )
    return Image.fromarray(np.concatenate([np.asarray(each) for each in plots], 1))


def plot(curves: Mapping[str, Curve], across: str, up: str, size: tuple[int, int] = (360, 260)) -> Image.Image:
    """Return a plot of curves, with both axes from 0.

    Args:
        curves: The curves by name.
        across: What the horizontal axis says.
        up: What the vertical axis says.
        size: Width and height in pixels.
    """
    width, height = (SHARP * side for side in size)
    image = Image.new("RGB", (width, height), "white")
    draw, font = ImageDraw.Draw(image), ImageFont.load_default(11 * SHARP)
    left, top, right, bottom = 52 * SHARP, 12 * SHARP, width - 14 * SHARP, height - 42 * SHARP
    far, high = (max(float(curve[axis].max()) for curve in curves.values()) or 1.0 for axis in (0, 1))

    def place(x: float, y: float) -> tuple[float, float]:
        return left + x / far * (right - left), bottom - y / high * (bottom - top)

    for tick in ticks(far):
        x, _ = place(tick, 0)
        draw.line([(x, top), (x, bottom)], FAINT, SHARP)
        draw.text((x, bottom + 5 * SHARP), f"{tick:g}", INK, font, "mt")
    for tick in ticks(high):
        _, y = place(0, tick)
        draw.line([(left, y), (right, y)], FAINT, SHARP)
        draw.text((left - 5 * SHARP, y), f"{tick:g}", INK, font, "rm")
    for n, (name, (xs, ys)) in enumerate(curves.items()):
        colour = COLOURS[n % len(COLOURS)]
        draw.line([place(*each) for each in zip(xs.tolist(), ys.tolist(), strict=True)], colour, 2 * SHARP, "curve")
        if len(curves) > 1:
            draw.text((right - 4 * SHARP, top + (4 + 14 * n) * SHARP), name, colour, font, "rt")
    draw.text(((left + right) / 2, height - 4 * SHARP), across, INK, font, "mb")
    side = Image.new("RGB", (bottom - top, 14 * SHARP), "white")
    ImageDraw.Draw(side).text((side.width / 2, side.height / 2), up, INK, font, "mm")
    image.paste(side.rotate(90, expand=True), (2 * SHARP, top))
    return image.resize(size, Image.Resampling.LANCZOS)


def ticks(largest: float, count: int = 5) -> list[float]:
    """Return round numbers from 0 to the largest, at most `count` + 1 of them."""
    power = 10.0 ** math.floor(math.log10(largest / count))
    step = next(power * each for each in (1, 2, 5, 10) if power * each * count >= largest * (1 - 1e-9))
    return [n * step for n in range(int(largest / step * (1 + 1e-9)) + 1)]
