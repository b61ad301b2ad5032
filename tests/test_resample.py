"""Interpolated pictures are within their tolerance of the exact ones, cost little, and parts of them are parts of the whole."""

from __future__ import annotations

import functools

import pytest
import torch
from pullback.diffreps.image import SirenImage
from pullback.diffreps.panorama import SirenCylinder, SirenSphere
from pullback.resample import BLOCK, interpolated

TOLERANCE = 2 / 512


def _drawn(diffrep, seed=0):
    """A field with a random read-out whose values stay within about [-1, 1]."""
    random = torch.Generator().manual_seed(seed)
    params = diffrep.init(random)
    params["out"] = torch.randn(params["out"].shape, generator=random) * 0.5 / params["out"].shape[1] ** 0.5
    calls = []

    def draw(height, width, crop):
        calls.append(crop[2] * crop[3])
        return diffrep.picture(params, height, width, crop)

    return draw, calls


SMALL = {"width": 24, "depth": 2}
FIELDS = [
    (SirenImage(**SMALL), (1024, 1024)),
    (SirenImage(**SMALL, bandwidth=60.0), (1024, 1024)),
    (SirenSphere(**SMALL), (1024, 2048)),
    (SirenCylinder(**SMALL), (512, 4096)),
]


@pytest.mark.parametrize(("diffrep", "size"), FIELDS, ids=["image", "fine image", "sphere", "cylinder"])
def test_within_the_tolerance_of_the_exact_picture(diffrep, size):
    draw, _ = _drawn(diffrep)
    for crop in ((0, 0, 300, 300), (size[0] - 200, size[1] - 300, 200, 300), (370, 500, 90, 500)):
        near = interpolated(draw, TOLERANCE)(*size, crop)
        assert (near - draw(*size, crop)).abs().max() <= TOLERANCE


def test_smooth_pictures_cost_little_and_rough_ones_are_exact():
    draw, calls = _drawn(SirenImage(**SMALL))
    interpolated(draw, TOLERANCE)(4096, 4096, (0, 0, 1024, 1024))
    assert sum(calls) < 1024**2 / 20
    draw, calls = _drawn(SirenImage(**SMALL, bandwidth=900.0))
    near = interpolated(draw, TOLERANCE)(1024, 1024, (256, 256, 256, 256))
    assert torch.equal(near, draw(1024, 1024, (256, 256, 256, 256)))


def test_waves_that_fall_between_the_values_are_found():
    """A wave of exactly the spacing looks constant at the values; the comparison with exact pixels sees it."""

    def draw(height, width, crop):
        x = (torch.arange(crop[1], crop[1] + crop[3]) + 0.5) / width
        return torch.cos(2 * torch.pi * (1024 / 16) * x - torch.pi).expand(1, 1, crop[2], -1)

    near = interpolated(draw, TOLERANCE)(1024, 1024, (0, 0, BLOCK, BLOCK))
    assert (near - draw(1024, 1024, (0, 0, BLOCK, BLOCK))).abs().max() <= TOLERANCE


@pytest.mark.parametrize("crop", [(10, 20, 30, 40), (250, 250, 20, 20), (100, 300, 600, 1), (1000, 1000, 24, 24)])
def test_a_part_is_a_part_of_the_whole(crop):
    draw, _ = _drawn(SirenImage(**SMALL))
    near = functools.partial(interpolated(draw, TOLERANCE), 1024, 1024)
    top, left, h, w = crop
    assert torch.equal(near(crop), near((0, 0, 1024, 1024))[..., top : top + h, left : left + w])


def test_odd_sizes_are_drawn_too():
    draw, _ = _drawn(SirenImage(**SMALL))
    crop = (900, 900, 101, 131)
    near = interpolated(draw, TOLERANCE)(1001, 1031, crop)
    assert torch.equal(near, draw(1001, 1031, crop))
