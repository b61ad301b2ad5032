"""Decode latents of any size tile by tile, and exactly: apart from rounding, the tiles are parts of the whole picture.

Two kinds of layers in a decoder depend on more than a tile. A convolution reads a few pixels beyond the tile's edge, so tiles
are computed with a margin as wide as the receptive field. A group norm uses the mean and the variance of the whole picture, so
for every group norm a pass over all tiles stops at that norm and measures them. Later passes use the measured values.

Passes would repeat each other's work, so the output of a step is kept as soon as all its norms are measured, if it fits into a
budget, and later passes start from there. Steps that cannot be computed in parts at all, such as attention, are found by a
probe. Everything up to the last of them runs once on the whole latent.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from inspect import signature
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from .representation import Crop

BUDGET = 1 << 30
"""Bytes of outputs that are kept between passes, by default."""
PROBE = 17
"""Length of the strip that a step is probed with, in pixels. A step that reaches from its middle to an end counts as reaching
everywhere."""
CHAINS = (
    ("layers",),  # our own decoder
    # The decoder of diffusers' AutoencoderKL, and its `up_blocks`.
    ("conv_in", "mid_block", "up_blocks", "conv_norm_out", "conv_act", "conv_out"),
    ("resnets", "upsamplers"),
    # The decoder of the original code, which ComfyUI uses, its `mid`, and its `up`, whose blocks are listed in reverse order.
    ("conv_in", "mid", "up", "norm_out", F.silu, "conv_out"),
    ("block_1", "attn_1", "block_2"),
    ("block", "upsample"),
)
"""The parts of known decoders, in the order in which they run."""

Run = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Source:
    """The input of a decoder, any part of which can be requested.

    Args:
        height: Height of the whole input.
        width: Width of the whole input.
        part: Returns the part (top, left, h, w) as (1, C, h, w), on the device and of the type that the decoder runs with.
    """

    height: int
    width: int
    part: Callable[[Crop], Tensor]


@dataclass(frozen=True)
class Step:
    """A part of a decoder, and what probing it has shown.

    Args:
        run: Maps (1, C, h, w) to (1, channels, scale h, scale w).
        channels: Channels of the output.
        scale: Output pixels per input pixel, along a side.
        reach: How far an input pixel acts beyond its own output pixels, in output pixels; None if it acts on all of them.
        norms: The number of group norms in it.
    """

    run: Run
    channels: int
    scale: int
    reach: int | None
    norms: int


@dataclass(frozen=True)
class Moments:
    """Count of values, and per group (1, G) their mean and the sum of their squared deviations, float64 on the CPU."""

    count: int
    mean: Tensor
    spread: Tensor

    def merged(self, other: Moments) -> Moments:
        """Return the moments of both sets of values (Chan, Golub & LeVeque 1979)."""
        count, apart = self.count + other.count, other.mean - self.mean
        spread = self.spread + other.spread + apart.square() * (self.count * other.count / count)
        return Moments(count, self.mean + apart * (other.count / count), spread)


class _Reached(Exception):
    """A group norm whose moments are not known was reached: its input and its number of groups."""

    def __init__(self, x: Tensor, groups: int):
        self.x, self.groups = x, groups


class _Norms(TorchFunctionMode):
    """A context in which torch's group norms use known moments, in the order in which the norms run.

    It replaces the function and not the modules. So nothing has to be undone, and the weights are those that a host such as
    ComfyUI passes to the function after it has moved, cast or patched them.

    Args:
        known: Moments of the first norms; the next norm raises `_Reached`. With None, all norms return their input.
    """

    def __init__(self, known: Sequence[Moments] | None):
        super().__init__()
        self.known, self.seen = known, 0

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is not F.group_norm and func is not torch.group_norm:
            return func(*args, **(kwargs or {}))
        return self._normalised(*args, **(kwargs or {}))

    def _normalised(
        self, input: Tensor, num_groups: int, weight: Tensor | None = None, bias: Tensor | None = None,
        eps: float = 1e-5, cudnn_enabled: bool = True,
    ) -> Tensor:  # fmt: skip
        self.seen += 1
        if self.known is None:
            return input.clone()
        if self.seen > len(self.known):
            raise _Reached(input, num_groups)
        moments, wide = self.known[self.seen - 1], _wide(input)
        each = lambda values: values.repeat_interleave(input.shape[1] // num_groups, 1).to(wide).to(input.device)
        scale = each((moments.spread / moments.count + eps).rsqrt())
        scale = scale if weight is None else scale * weight.to(scale)
        shift = -each(moments.mean) * scale
        shift = shift if bias is None else shift + bias.to(shift)
        return torch.addcmul(shift[..., None, None], input.to(wide), scale[..., None, None]).to(input)


def _wide(x: Tensor) -> torch.dtype:
    return torch.promote_types(x.dtype, torch.float32)


def _moments(x: Tensor, groups: int) -> Moments:
    values = x.to(_wide(x)).reshape(1, groups, -1)
    variance, mean = (each.cpu().double() for each in torch.var_mean(values, -1, correction=0))
    return Moments(values.shape[-1], mean, variance * values.shape[-1])


def chain_of(decoder: nn.Module, sample: Tensor) -> list[Run]:
    """Return the parts of a decoder that run one after the other, each on the output of the one before.

    Args:
        decoder: Our own, or the decoder of an AutoencoderKL of diffusers or ComfyUI. Any other module is a chain of one part.
        sample: A small input (1, C, h, w), of the type and on the device that the decoder runs with.

    Raises:
        ValueError: If the chain does not turn the sample into the same picture as the decoder.
    """
    chain, x = _chain(decoder), sample
    with torch.no_grad():
        expected = decoder(sample)
        for run in chain:
            x = run(x)
    if x.shape != expected.shape or not torch.allclose(x, expected, 1e-3, 1e-3 * float(expected.abs().max())):
        raise ValueError(f"{type(decoder).__name__} does more than its parts: expected the decoder of an AutoencoderKL")
    return chain


def _chain(decoder: nn.Module) -> list[Run]:
    if isinstance(decoder, nn.Sequential | nn.ModuleList):
        return [run for child in decoder for run in _chain(child)]
    for names in CHAINS:
        if all(callable(name) or hasattr(decoder, name) for name in names if name != "upsample"):
            parts = [name if callable(name) else getattr(decoder, name, None) for name in names]
            parts = [part[::-1] if name == "up" else part for name, part in zip(names, parts, strict=True)]  # type: ignore[index]
            runs = [_chain(part) if isinstance(part, nn.Module) else [part] for part in parts if part is not None]
            return [run for each in runs for run in each]
    # blocks of diffusers require a time embedding, which decoders do not have
    return [partial(decoder, temb=None) if "temb" in signature(decoder.forward).parameters else decoder]


def input_of(decoder: nn.Module, decode: Run, latent: Tensor) -> Tensor:
    """Return the tensor that `decode` passes to its decoder for a latent (B, C, h, w), after other operations."""

    def stop(_: nn.Module, args: tuple[Tensor, ...]) -> None:
        raise _Reached(args[0], 0)

    hook = decoder.register_forward_pre_hook(stop)
    try:
        decode(latent)
    except _Reached as reached:
        return reached.x
    finally:
        hook.remove()
    raise ValueError("decoding did not use the given decoder: give the model that the decoder belongs to")


@torch.no_grad()
def probed(chain: Sequence[Run], source: Source) -> list[Step]:
    """Find out how far each part of a decoder reaches, by watching how far a NaN spreads in a strip of zeros.

    Args:
        chain: The parts of the decoder.
        source: The input of the decoder.

    Raises:
        ValueError: If a part does not enlarge by a whole number, or has group norms that do not call torch's function.
    """
    steps: list[Step] = []
    x = source.part((0, 0, 1, 1))
    for run in chain:
        reaches: list[int | None] = []
        for dim in (2, 3):
            strip = x.new_zeros(1, x.shape[1], *((PROBE, 1) if dim == 2 else (1, PROBE)))
            strip.narrow(dim, PROBE // 2, 1).fill_(math.nan)
            with _Norms(None) as norms:
                out = run(strip)
            scale, rest = divmod(out.shape[dim], PROBE)
            if rest or not scale or out.shape[5 - dim] != scale:
                raise ValueError(
                    f"a part of the decoder turns {tuple(strip.shape)} into {tuple(out.shape)}: it must enlarge by a whole number"
                )
            touched = out.isnan().any(1).any(4 - dim).nonzero()[:, 1]
            low, high = int(touched.min()), int(touched.max()) + 1
            middle = PROBE // 2 * scale
            everywhere = low == 0 or high == out.shape[dim]
            reaches.append(None if everywhere else max(0, middle - low, high - middle - scale))
        module = getattr(run, "func", run)
        found = sum(isinstance(each, nn.GroupNorm) for each in module.modules()) if isinstance(module, nn.Module) else 0
        if norms.seen < found:
            raise ValueError(f"only {norms.seen} of {found} group norms can be seen: do not compile the decoder")
        reach = None if None in reaches else max(each or 0 for each in reaches)
        steps.append(Step(run, out.shape[1], scale, reach, norms.seen))
        x = out
    return steps


@dataclass(frozen=True)
class _Pass:
    """A pass of all tiles of a picture through some steps.

    Args:
        steps: The steps.
        height: Height of the input of the steps.
        width: Width of the input of the steps.
        rows: Rows of tiles (top, left, h, w) of that input.
        purpose: "measure" the first norm whose moments are not known, "keep" the output, or "draw" it.
    """

    steps: Sequence[Step]
    height: int
    width: int
    rows: list[list[Crop]]
    purpose: str

    @property
    def scale(self) -> int:
        return _scale(self.steps)

    def tile(self, source: Source, known: Sequence[Moments], at: Crop) -> tuple[Tensor, int]:
        """Return the output for a tile (1, C, h, w) and 0, or the input of the norm that stops it and its number of groups."""
        margin = 0
        for step in self.steps[::-1]:
            margin = -(-(margin + (step.reach or 0)) // step.scale)
        top, left, h, w = at
        y, x = max(0, top - margin), max(0, left - margin)  # edges of the picture stay edges, where convolutions pad
        rows, columns = min(self.height, top + h + margin) - y, min(self.width, left + w + margin) - x
        values, groups = source.part((y, x, rows, columns)), 0
        try:
            with _Norms(known):
                for step in self.steps:
                    values = step.run(values)
        except _Reached as reached:
            values, groups = reached.x, reached.groups
        s = values.shape[2] // rows
        return values[..., (top - y) * s : (top - y + h) * s, (left - x) * s : (left - x + w) * s], groups

    def measured(self, source: Source, known: Sequence[Moments], tick: Callable[[], None]) -> Moments:
        """Return the moments of the first norm whose moments are not known."""
        total: Moments | None = None
        for at in (at for row in self.rows for at in row):
            here = _moments(*self.tile(source, known, at))
            total = here if total is None else total.merged(here)
            tick()
        assert total is not None
        return total

    def kept(self, source: Source, known: Sequence[Moments], tick: Callable[[], None]) -> Tensor:
        """Return the whole output (1, C, H, W), on the CPU."""
        whole, s = torch.empty(0), self.scale
        for at in (at for row in self.rows for at in row):
            values, _ = self.tile(source, known, at)
            if not whole.numel():
                whole = torch.empty(1, values.shape[1], self.height * s, self.width * s, dtype=values.dtype)
            top, left, h, w = (s * n for n in at)
            whole[..., top : top + h, left : left + w] = values
            tick()
        return whole

    def drawn(self, source: Source, known: Sequence[Moments], crop: Crop, tick: Callable[[], None]) -> Iterator[Tensor]:
        """Yield bands (C, rows, w) of a part of the output, on the CPU."""
        top, left, h, w = crop
        for row in self.rows:
            band = []
            for at in row:
                band.append(self.tile(source, known, at)[0][0].cpu())
                tick()
            y, x = (self.scale * n for n in row[0][:2])
            yield torch.cat(band, -1)[:, max(0, top - y) : top + h - y, left - x : left - x + w]


def _scale(steps: Sequence[Step]) -> int:
    return math.prod(step.scale for step in steps)


def _heaviest(steps: Sequence[Step]) -> int:
    """Return the largest number of values that a step computes per pixel of the first step's input."""
    return max((step.channels * _scale(steps[: i + 1]) ** 2 for i, step in enumerate(steps)), default=1)


def _rows(crop: Crop, side: int) -> list[list[Crop]]:
    """Cut a part of a picture into rows of even tiles of at most side x side pixels."""
    cuts = [
        [(start + i * length // n, start + (i + 1) * length // n) for i in range(n)]
        for start, length in zip(crop[:2], crop[2:], strict=True)
        for n in [-(-length // side)]
    ]
    return [[(top, left, end - top, stop - left) for left, stop in cuts[1]] for top, end in cuts[0]]


def _planned(
    steps: Sequence[Step], height: int, width: int, kept: int, room: float, tile: int, crop: Crop | None
) -> list[_Pass]:
    """Return the passes in which a picture is decoded.

    Args:
        steps: The steps, none of which reaches everywhere.
        height: Height of the input of the steps.
        width: Width of the input of the steps.
        kept: The number of values of the input that are kept in memory.
        room: The number of values that may be kept. While an output is written, the input that it is made from is kept too.
        tile: Side of a tile in pixels of the picture, for a pass through all steps. The tiles of other passes are as large as
            they can be if no step may compute more values per tile than in that pass.
        crop: The part of the picture that is wanted, or None for all of it.
    """
    passes: list[_Pass] = []
    most, first = _heaviest(steps) * (tile / _scale(steps)) ** 2, 0

    def add(part: Sequence[Step], purpose: str, seen: Crop | None = None) -> None:
        rows = _rows(seen or (0, 0, height, width), max(1, int((most / _heaviest(part)) ** 0.5)))
        passes.append(_Pass(part, height, width, rows, purpose))

    for last, step in enumerate(steps):
        part = steps[first : last + 1]
        for _ in range(step.norms):
            add(part, "measure")
        h, w = height * _scale(part), width * _scale(part)
        if any(later.norms for later in steps[last + 1 :]) and kept + step.channels * h * w <= room:
            add(part, "keep")
            first, height, width, kept = last + 1, h, w, step.channels * h * w
    s = _scale(steps[first:])
    if crop is not None:
        top, left, h, w = crop
        crop = top // s, left // s, -(-(top + h) // s) - top // s, -(-(left + w) // s) - left // s
    add(steps[first:], "draw", crop)
    return passes


def held(x: Tensor, device: torch.device | str | None = None) -> Source:
    """Return a tensor (1, C, h, w) as a source, whose parts are copied to a device (by default its own)."""

    def part(crop: Crop) -> Tensor:
        top, left, h, w = crop
        return x[..., top : top + h, left : left + w].to(device or x.device, copy=True)

    return Source(x.shape[2], x.shape[3], part)


@torch.no_grad()
def bands(
    chain: Sequence[Run],
    source: Source,
    tile: int = 512,
    crop: Crop | None = None,
    budget: int = BUDGET,
    tick: Callable[[int, int], None] = lambda done, total: None,
) -> Iterator[Tensor]:
    """Decode a picture from top to bottom, with memory for a tile, for the budget and for what attention needs.

    Args:
        chain: The parts of the decoder (`chain_of`).
        source: The input of the decoder.
        tile: Side of a tile of the picture in pixels, without its margins.
        crop: The part (top, left, h, w) of the picture that is wanted, or None for all of it.
        budget: Bytes of outputs that may be kept in the computer's memory. A smaller budget only makes decoding slower.
        tick: Called between tiles with the number of tiles done and in total, over all passes. It may raise to stop.

    Returns:
        Bands (C, rows, w), on the CPU.

    Raises:
        ValueError: If there is not exactly one picture, or the decoder cannot be run in parts.
    """
    sample = source.part((0, 0, 1, 1))
    if len(sample) != 1:
        raise ValueError(f"there are {len(sample)} pictures; expected one: decode them one by one")
    steps = probed(chain, source)
    count = max((i + 1 for i, step in enumerate(steps) if step.reach is None), default=0)
    everything, steps = steps[:count], steps[count:]
    height, width = source.height * _scale(everything), source.width * _scale(everything)
    kept = everything[-1].channels * height * width if everything else 0
    passes = _planned(steps, height, width, kept, budget / sample.element_size(), tile, crop)
    total, done = sum(len(row) for each in passes for row in each.rows), -1

    def advance() -> None:
        nonlocal done
        done += 1
        tick(done, total)

    advance()
    if everything:
        x = source.part((0, 0, source.height, source.width))
        for step in everything:
            x = step.run(x)
        source = held(x.cpu(), sample.device)
        del x
    known: list[Moments] = []
    for each in passes:
        if each.purpose == "measure":
            known.append(each.measured(source, known, advance))
        elif each.purpose == "keep":
            source, known = held(each.kept(source, known, advance), sample.device), []
        else:
            part = crop or (0, 0, each.height * each.scale, each.width * each.scale)
            yield from each.drawn(source, known, part, advance)


def whole(
    chain: Sequence[Run],
    source: Source,
    tile: int = 512,
    crop: Crop | None = None,
    budget: int = BUDGET,
    tick: Callable[[int, int], None] = lambda done, total: None,
) -> Tensor:
    """Return the picture (1, C, H, W), or the part of it, that `bands` yields; the arguments are the same."""
    return torch.cat(list(bands(chain, source, tile, crop, budget, tick)), 1)[None]
