"""Guidance by regions: the posterior mean of a Gaussian, where regions lie, and what users do wrong."""

from __future__ import annotations

import math
from dataclasses import dataclass
from types import SimpleNamespace

import pytest
import torch
from pullback import tasks
from pullback.diffreps.panorama import SirenCylinder
from pullback.generative.clip import model as clip_model
from pullback.generative.clip.network import PictureText
from pullback.generative.toybox.model import ToyboxModel
from pullback.geometry.cameras import orbit
from pullback.noise import Crops
from pullback.regions import MOST, Guide, Region, cut, located, locator, parsed, shown_by, whole
from pullback.settings import Settings


@dataclass(frozen=True)
class Brightness:
    """A picture-text model whose similarity is the mean of a picture, so that the guide's likelihood is exponential."""

    size: int = 4
    temperature: float = 3.0

    def encode_image(self, pictures):
        return torch.stack([pictures.mean((1, 2, 3)), torch.zeros(len(pictures)).to(pictures)], 1)

    def encode_text(self, texts):
        return torch.tensor([[1.0, 0.0]] * len(texts))


def _show(signal):
    return lambda box, size: cut(signal[:, :3], box, size)


def test_the_guided_estimate_of_a_gaussian_is_exact():
    """For x0 ~ N(0, v) and a likelihood exp(s a x0), the posterior mean moves by s a v sigma^2 / (v + sigma^2)."""
    variance, sigma = 0.7, 1.3
    shrink = variance / (variance + sigma**2)
    x = torch.randn(1, 3, 4, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    guide = Guide(Brightness(), (Region("bright"),), strength=2.0)
    denoise = guide.guiding(lambda x, sigma, cond: shrink * x, _show)
    moved = denoise(x, torch.tensor(sigma), None) - shrink * x
    expected = 2.0 * 3.0 * shrink * sigma**2 / x.numel()
    assert (moved - expected).abs().max() < 1e-6


@pytest.mark.parametrize("guide", [Guide(Brightness(), (Region("a", weight=0.0),)), Guide(Brightness(), (Region("a"),), 0.0),
                                   Guide(Brightness(), ())])  # fmt: skip
def test_without_weight_the_denoiser_is_the_same_object(guide):
    denoise = lambda x, sigma, cond: x
    assert guide.guiding(denoise, _show) is denoise


def test_only_the_box_is_changed_where_pixels_are_independent():
    guide = Guide(Brightness(), (Region("a", (0.5, 0.0, 0.5, 0.5)),), through_model=False)
    denoise = guide.guiding(lambda x, sigma, cond: x, _show)
    changed = denoise(torch.zeros(1, 3, 8, 8), torch.tensor(1.0), None)[0, 0] != 0
    assert changed[:4, 4:].all() and not changed[5:].any() and not changed[:, :3].any()


def test_a_box_across_the_edge_of_a_panorama_is_found():
    cylinder = SirenCylinder(height=16, turn=128)
    locate = locator(cylinder)
    region = Region("a", (0.97, 0.25, 0.06, 0.5))  # columns 124 to 132
    places = locate(region, Crops(torch.tensor([60, 120])), 2)
    assert [place.view for place in places] == [1]
    left, top, width, height = places[0].box
    assert (left, width) == pytest.approx((4 / 16, 8 / 16), abs=1.1 / 16) and (top, height) == (0.25, 0.5)


def test_a_sentence_for_a_side_is_held_against_the_cameras_on_that_side():
    cameras = orbit(torch.tensor([0.0, math.pi]), torch.tensor([0.0, 0.0]))
    places = locator(None)(Region("a face", side=(0.1, 0.0)), cameras, 2)
    assert [place.view for place in places] == [0]


def test_a_cut_is_the_mean_over_its_pixels():
    picture = torch.arange(64.0).view(1, 1, 8, 8)
    assert torch.allclose(cut(picture, (0.5, 0.5, 0.5, 0.5), 2), torch.tensor([[[[40.5, 42.5], [56.5, 58.5]]]]))


def test_latents_are_decoded_around_a_box_only():
    sizes = []
    decode = lambda z: sizes.append(z.shape[2:]) or z[:, :3].repeat_interleave(8, 2).repeat_interleave(8, 3)
    model = SimpleNamespace(scale=8, decode=decode)
    signal = torch.rand(1, 4, 64, 64)
    part = shown_by(model)(signal)((0.5, 0.25, 0.125, 0.125), 8)
    assert sizes == [(16, 16)]
    assert torch.allclose(part, signal[:, :3, 16:24, 32:40], atol=1e-5)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("0.5,0.5,0.6,0.6: a car", "outside the picture"),
        ("0.5,0.5,0,0.1: a car", "at least"),
        ("0.1,0.1,0.2,0.2:  ", "no sentence"),
        ("0.1,0.2,0.3: a car", "four numbers"),
        ("0.1,0.1,0.2,0.2: " + "a" * 100_000, "100000 characters"),
        ("1e999,0,0.5,0.5: a car", "four finite numbers"),
        ("0,0,0.5,0.5*: a car", "after them \\*WEIGHT"),
        ("0,0,0.5,0.5*1,2: a car", "after them \\*WEIGHT"),
        ("0,0,0.5*1: a car", "four numbers"),
        ("0,0,0.5,0.5*-1: a car", "0 or more"),
        ("*1e999: a car", "0 or more"),
    ],
)
def test_wrong_regions_are_one_sentence(text, message):
    with pytest.raises(ValueError, match=message) as raised:
        parsed(text)
    assert len(str(raised.value)) < 300 and "\n" not in str(raised.value)


def test_a_weight_stands_before_the_colon():
    box = (0.0, 0.0, 0.5, 0.5)
    assert parsed("0,0,0.5,0.5 * 2.5: a car") == Region("a car", box, weight=2.5)
    assert parsed("90,0*0: a car") == Region("a car", side=(math.pi / 2, 0.0), weight=0.0)
    assert parsed("*2: 1,2: a car") == Region("1,2: a car", weight=2.0)
    assert parsed("0,0,0.5,0.5: a car") == Region("a car", box)
    for whole_sentence in ("a car", ": a car", "two * two: four", "a*2: a car"):
        assert parsed(whole_sentence) == Region(whole_sentence)


def test_there_is_a_largest_number_of_regions():
    with pytest.raises(ValueError, match=f"500 regions; at most {MOST}"):
        Guide(Brightness(), (Region("a"),) * 500)


def test_every_view_of_a_picture_shows_its_boxes():
    assert [place.box for place in whole(Region("a", (0.0, 0.0, 0.5, 0.5)), None, 2)] == [(0.0, 0.0, 0.5, 0.5)] * 2


def test_a_panorama_takes_degrees():
    region = parsed("90,0,36,20: a car", panorama=8)
    assert region.box == pytest.approx((0.2, 0.5 - 10 / 45, 0.1, 20 / 45))
    behind = parsed("180,0,36,20: a car", panorama=8)
    assert behind.box[0] == pytest.approx(0.95)  # across the edge


def test_regions_must_suit_the_field():
    with pytest.raises(ValueError, match="an object has no boxes"):
        located(SimpleNamespace(), ["0,0,1,1: a car"])
    with pytest.raises(ValueError, match="a picture has no sides"):
        located(SirenCylinder(height=16, turn=128), ["0,0: a car"])


@pytest.fixture
def small_clip(monkeypatch):
    """A picture-text model with random weights in the place of the package's."""
    torch.manual_seed(0)
    net = PictureText().eval().requires_grad_(False)
    monkeypatch.setattr(clip_model, "network", lambda path=None, device="cpu": net)


@pytest.mark.parametrize(
    ("command", "own", "guide"),
    [
        ("image", {}, "0,0,0.5,0.5: a red ball"),
        ("panorama", {"view_size": 16}, "90,0,60,30: a red ball"),
        ("generate", {}, "a red ball"),
    ],
)
def test_guides_change_fields_and_a_weight_of_zero_does_not(small_clip, command, own, guide):
    model = ToyboxModel()

    def first_move(**more):
        settings = Settings(
            "a blue car" if command != "panorama" else "the sea", steps=1, views=2, guidance=1.0, **more
        )
        recipe = tasks.recipe(command, model, settings, **({} if command == "panorama" else own))
        pull = tasks.prepare(model, recipe, settings)
        state = tasks.beginning(pull)
        view = pull.views.draw(torch.Generator().manual_seed(0))
        with torch.no_grad():
            x = pull.render(state.params, view) + torch.randn(1, generator=torch.Generator().manual_seed(1))
            return pull.denoise(x, torch.tensor(1.0), view)

    plain = first_move()
    assert not torch.equal(first_move(guide=(guide,)), plain)
    assert torch.equal(first_move(), plain)


def test_the_run_of_a_guide_is_its_own_and_old_runs_are_as_they_were():
    plain = tasks.settings_of_run("image", "toybox", Settings("a car"))
    assert "guide" not in plain
    assert tasks.settings_of_run("image", "toybox", Settings("a car", guide=("a car",)))["guide"] == ("a car",)
