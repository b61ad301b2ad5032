"""Large pictures of latents: tiles fade into each other, whatever the decoder, and a part is the same part of the whole."""

from __future__ import annotations

import pytest
import torch
from pullback import decoding, tasks
from pullback.diffreps.image import SirenImage
from pullback.diffreps.panorama import SirenSphere
from pullback.storage import Field
from torch import nn
from torch.nn.functional import interpolate


class Decoder:
    """A random decoder of the kind that latents have: convolutions, and means over all that it sees."""

    channels, size, scale = 4, 16, 8

    def __init__(self, plain=False):
        torch.manual_seed(0)
        self.seen = []
        layers = [
            nn.Conv2d(4, 32, 3, padding=1),
            nn.GroupNorm(4, 32),
            nn.SiLU(),
            nn.Conv2d(32, 32, 3, padding=1),
            nn.SiLU(),
        ]
        self.net = nn.Sequential(*layers, nn.Conv2d(32, 3, 1))
        self.plain = plain

    def decode(self, signal):
        self.seen.append(signal.shape[2:])
        values = signal[:, :3] if self.plain else self.net(signal)
        return interpolate(values, scale_factor=8, mode="nearest" if self.plain else "bilinear")


def field(kind):
    random = torch.Generator().manual_seed(0)
    diffrep = (
        SirenImage(4, (32, 32), 32, 2, bandwidth=6.0) if kind == "image" else SirenSphere(4, 32, 32, 2, bandwidth=6.0)
    )
    params = diffrep.init(random)
    params["out"] = torch.randn(params["out"].shape, generator=random) / 4
    return Field(diffrep, params)


def picture(kind, model, height, width, crop=None, tile=128):
    return torch.cat(list(tasks.bands(field(kind), height, width, model, crop, tile)), 1)


def jumps(drawn):
    """The mean step from each column of pixels to the next, around."""
    return (drawn - drawn.roll(1, -1)).abs().mean((0, 1))


@pytest.mark.parametrize("kind, height, width", [("image", 504, 408), ("sphere", 256, 512)])
def test_tiles_add_up_to_the_picture(kind, height, width):
    whole = picture(kind, Decoder(plain=True), height, width)
    core = field(kind)
    direct = Decoder(plain=True).decode(core.diffrep.picture(core.params, height // 8, width // 8))[0]
    assert whole.shape == (3, height, width) and torch.allclose(whole, direct, atol=1e-5)


@pytest.mark.parametrize("kind", ["image", "sphere"])
def test_a_part_is_the_same_part_of_the_whole(kind):
    model = Decoder()
    whole = picture(kind, model, 320, 640)
    assert max(map(max, model.seen)) <= 16 + 2 * decoding.MARGIN
    for crop in ((0, 0, 320, 100), (37, 251, 200, 389), (150, 600, 11, 40)):
        top, left, h, w = crop
        part = picture(kind, model, 320, 640, crop)
        assert torch.allclose(part, whole[:, top : top + h, left : left + w], atol=1e-5), crop


def test_no_seam_is_seen_where_tiles_meet():
    """In a random decoder's picture: the step across an edge beside the steps within tiles."""
    wide = picture("sphere", Decoder(), 256, 1024)
    steps = jumps((wide - wide.amin()) / (wide.amax() - wide.amin()))
    edges = torch.arange(0, 1024, 128)
    within = steps[torch.arange(1024).remainder(128).sub(64).abs() < 40]
    assert steps[edges].max() <= 1.25 * within.max()  # cut hard, they are three times as large


def test_a_panorama_of_one_tile_closes():
    drawn = picture("sphere", Decoder(), 64, 128, tile=256)
    assert jumps(drawn)[0] <= jumps(drawn)[1:].max()
