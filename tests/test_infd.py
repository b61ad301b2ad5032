"""Image neural fields: renderers, autoencoder, patches, field decoders."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from pullback import tasks
from pullback.generative.infd import model as infd_model
from pullback.generative.infd.decoder import FORMAT, FieldDecoder, describe, display, load_decoder
from pullback.generative.infd.discriminator import PatchDiscriminator, adaptive_weight, hinge
from pullback.generative.infd.latent import LatentConfig, LatentDenoiser, Normal
from pullback.generative.infd.latent_training import compose_pairs, draw_squares
from pullback.generative.infd.layout import Layout, Thing
from pullback.generative.infd.network import Autoencoder, Config
from pullback.generative.infd.patches import patch
from pullback.generative.infd.renderers import CLIF, HeatField, nearest, places
from pullback.generative.toybox.model import network as toybox_network
from pullback.generative.toybox.words import encode
from pullback.geometry.cameras import orbit
from pullback.models import load_model
from pullback.regions import cut, located
from pullback.samplers import ddim
from pullback.schedules import log_linear
from pullback.tasks import Settings
from pullback.types import LaysOut
from safetensors.torch import save_file

TINY = {"base": 16, "encoder": (8, 8, 8), "decoder": (8, 8, 8), "hidden": 8}


def _randomised(module: torch.nn.Module) -> torch.nn.Module:
    """The module with random weights everywhere, also where training starts from zeros."""
    generator = torch.Generator().manual_seed(1)
    for p in module.parameters():
        inputs = max(1, p[0].numel()) if p.ndim else 1
        p.data = torch.randn(p.shape, generator=generator) / inputs**0.5
    return module.eval().requires_grad_(False)


def _autoencoder(**sizes: object) -> Autoencoder:
    return _randomised(Autoencoder(Config(**TINY | sizes)))


@pytest.fixture
def infd(monkeypatch):
    """The latent model with random weights in the place of the package's."""
    generator = torch.Generator().manual_seed(0)
    autoencoder = Autoencoder(Config()).eval().requires_grad_(False)
    latent = LatentDenoiser(LatentConfig()).eval().requires_grad_(False)
    latent.head.weight.normal_(0, 0.05, generator=generator)
    normal = Normal((0.1, 0.0, -0.2, 0.3), (1.0, 2.0, 0.5, 1.5))
    field = FieldDecoder(autoencoder, "tiny", {})
    monkeypatch.setattr(infd_model, "decoder", lambda path=None, device="cpu": field)
    monkeypatch.setattr(infd_model, "network", lambda path=None, device="cpu": (latent, normal))
    infd_model._latent.cache_clear()
    yield infd_model.InfdModel()
    infd_model._latent.cache_clear()


def test_scaling_of_latents_is_undone():
    normal = Normal((0.5, -1.0), (2.0, 0.1))
    z = torch.randn(3, 2, 4, 4)
    torch.testing.assert_close(normal.latents(normal.scaled(z)), z)


def test_the_latent_model_takes_prompts_cameras_and_other_sizes(infd):
    denoise = infd.denoiser("a red mushroom", "", 3.0)
    x, sigma = torch.randn(2, 4, 16, 16), torch.tensor(1.0)
    plain = denoise(x, sigma, None)
    assert plain.shape == x.shape and plain.isfinite().all()
    cameras = orbit(torch.tensor([0.0, 2.0]), torch.tensor([0.2, 0.2]))
    assert not torch.allclose(denoise(x, sigma, cameras), plain)
    assert infd.denoiser("", "", 0.0)(torch.randn(1, 4, 24, 16), sigma, None).shape == (1, 4, 24, 16)
    with pytest.raises(ValueError, match="toybox cannot draw this"):
        infd.denoiser("", "", 1.0)


def test_the_trunk_starts_from_toybox():
    latent, toybox = LatentDenoiser(), toybox_network()
    latent.start_from(toybox)
    assert torch.equal(latent.blocks[3].qkv.weight, toybox.blocks[3].qkv.weight)
    assert torch.equal(latent.enter.conv1.weight, toybox.enter[1].conv1.weight)


def test_parts_of_the_model_are_those_of_its_pictures(infd):
    z = torch.randn(1, 4, 16, 16)
    with torch.no_grad():
        whole = torch.cat(list(infd.any_size(z, 128, 128)), 1)
        part = infd.parts(z)((0.25, 0.5, 0.25, 0.25), 32)[0]
        inner = (slice(None), slice(8, -8), slice(8, -8))  # its own convolutions end at the edges of a part
        torch.testing.assert_close(part[inner], whole[:, 64:96, 32:64][inner], atol=1e-5, rtol=0)
        torch.testing.assert_close(infd.decode(z)[0], torch.cat(list(infd.any_size(z, 64, 64)), 1), atol=1e-5, rtol=0)


def test_a_field_of_the_latent_model_is_drawn_at_any_size(infd):
    settings = tasks.Settings("a red ball", steps=2, guidance=1.0)
    recipe = tasks.recipe("image", infd, settings)
    pull = tasks.prepare(infd, recipe, settings)
    field = tasks.field_of(recipe, settings, infd, tasks.sample(pull, 0))
    whole = torch.cat(list(tasks.bands(field, 200, 200, infd)), 1)
    assert whole.shape == (4, 200, 200)
    part = torch.cat(list(tasks.bands(field, 200, 200, infd, (50, 60, 40, 30))), 1)
    torch.testing.assert_close(part, whole[:, 50:90, 60:90], atol=1e-5, rtol=0)


def test_two_objects_stand_side_by_side():
    pictures = torch.full((4, 4, 64, 64), 1.0)
    pictures[:, :3] = torch.tensor([1.0, 0.5, 0.0, -0.5])[:, None, None, None]
    pictures[:, :, :8] = -1  # a transparent strip
    pictures[3] = 0.9  # a landscape
    random = np.random.default_rng(0)
    pairs = [draw_squares(64, random) for _ in range(4)]
    scenes = compose_pairs(pictures, torch.tensor([True, True, True, False]), pairs) / 2 + 0.5
    for n, pair in enumerate(pairs):
        behind = 0.95 if n == 3 else 0.0
        covered = torch.zeros(64, 64, dtype=torch.bool)
        for k, (top, left, side) in zip((n, (n + 1) % 4), pair, strict=True):
            assert round(0.125 * 64) <= side <= 32
            if k < 3:
                assert not covered[top : top + side, left : left + side].any()
                covered[top : top + side, left : left + side] = True
                bottom = scenes[n, 0, top + side - 1, left + side // 2]
                torch.testing.assert_close(bottom, pictures[k, 0, -1, 32] / 2 + 0.5)
        assert (scenes[n, :, ~covered] == behind).all()


def _layout(box: tuple[float, float, float, float], lookup=lambda view: None, closed=(False, False)) -> Layout:
    random = torch.Generator().manual_seed(0)
    picture = torch.rand(1, 4, 8, 8, generator=random).sort(1).values  # premultiplied
    return Layout((Thing(picture, box),), lookup, 1.0, closed)


def test_things_are_put_where_their_boxes_are():
    layout, behind = _layout((0.25, 0.5, 0.125, 0.25)), 2 * torch.rand(2, 4, 64, 64) - 1
    seen, thing = layout.over(behind, None), layout.things[0].picture
    # The largest square in the middle of the box has 8 x 8 pixels, as many as the picture.
    wanted = behind.clone()
    under = wanted[:, :, 36:44, 16:24] / 2 + 0.5
    wanted[:, :, 36:44, 16:24] = 2 * (under * (1 - thing[:, 3:]) + thing) - 1
    torch.testing.assert_close(seen, wanted)


def test_views_of_a_layout_are_parts_of_it():
    whole = _layout((0.9, 0.25, 0.25, 0.25), closed=(False, True))
    y, x = (torch.arange(16) + 0.5) / 16, (torch.arange(16) + 0.5 + 8) / 16 % 1  # half a turn further
    turned = _layout(
        (0.9, 0.25, 0.25, 0.25),
        lambda view: torch.stack(torch.meshgrid(y, x, indexing="ij")[::-1], -1)[None],
        (False, True),
    )
    nothing = torch.full((1, 4, 16, 16), -1.0)
    seen = whole.over(nothing, None)
    assert (seen[..., 0] > -1).any() and (seen[..., -1] > -1).any()  # it crosses the edge
    torch.testing.assert_close(turned.over(nothing, "view"), seen.roll(8, -1), atol=1e-5, rtol=0)


def test_the_latent_model_takes_layouts(infd):
    settings = Settings("", steps=2, guidance=1.0, guide=("0.1,0.1,0.4,0.4: a red mushroom", "0.5,0.5,0.4,0.4: glorp"))
    recipe, sigma = tasks.recipe("image", infd, settings), torch.tensor(1.0)
    z = torch.randn(1, 4, 16, 16)
    things = [("a red mushroom", (0.1, 0.1, 0.4, 0.4)), ("glorp", (0.5, 0.5, 0.4, 0.4))]
    laid_out = infd.laid_out("", "", 1.0, things, lambda view: None, 1.0)(z, sigma, None)
    assert not torch.allclose(laid_out, infd.denoiser("", "", 0.0)(z, sigma, None))
    assert isinstance(infd, LaysOut)
    guided = tasks.prepare(infd, recipe, replace(settings, guide=settings.guide[:1])).denoise
    assert guided(z, sigma, None).isfinite().all()
    weightless = infd.laid_out("", "", 1.0, [], lambda view: None, 1.0)(z, sigma, None)
    torch.testing.assert_close(weightless, infd.denoiser("", "", 0.0)(z, sigma, None))


def test_nearest_features_and_relative_places_by_hand():
    phi = torch.arange(4.0).view(1, 1, 2, 2)
    at = torch.tensor([[[[-0.75, 0.25], [1.0, -1.0]]]])
    found, relative = nearest(phi, at)
    assert found.flatten().tolist() == [1.0, 2.0]
    # Features lie at -0.5 and 0.5; their cells reach from -1 to 1 in relative places.
    torch.testing.assert_close(relative[0, :, 0].T, torch.tensor([[-0.5, -0.5], [1.0, -1.0]]))


def test_places_of_a_part_are_those_of_the_whole():
    assert torch.equal(places(9, 7, (2, 3, 4, 2)), places(9, 7)[2:6, 3:5])


@pytest.mark.parametrize(
    "sizes",
    [
        {},
        {"renderer": "heat"},
        {"bottleneck": "vq", "codes": 16},
        {"channels": 3},
        {"grouped_renderer": True, "hidden": 32},
    ],
)
def test_tiles_equal_the_whole(sizes):
    decoder = FieldDecoder(_autoencoder(**sizes), "tiny", {})
    phi = decoder.features(torch.randn(1, 4, 4, 4, generator=torch.Generator().manual_seed(0)))
    with torch.no_grad():
        whole = display(decoder.draw(phi, 50, 41))[0]
    bands = list(decoder.bands(phi, 50, 41, tile=13))
    assert len(bands) > 3 and (torch.cat(bands, 1) - whole).abs().max() < 1e-5
    part = torch.cat(list(decoder.bands(phi, 50, 41, (20, 7, 11, 9), tile=6)), 1)
    assert (part - whole[:, 20:31, 7:16]).abs().max() < 1e-5


def test_waves_fade_as_the_mean_over_a_pixel():
    """A coarse pixel of the heat field is the Gaussian mean of fine ones."""
    field = HeatField(4, 1, hidden=8, waves=6).requires_grad_(False)
    phi = torch.randn(1, 4, 1, 1, generator=torch.Generator().manual_seed(0))
    fine, size = 401, 0.4
    cell = torch.full((1, 2), size)
    coarse = field(phi, torch.zeros(1, 1, 1, 2), cell)
    line = torch.linspace(-0.99, 0.99, fine)
    grid = torch.stack(torch.meshgrid(line, line, indexing="ij"), -1)[None]
    values = field(phi, grid, torch.zeros(1, 2))[0, 0]
    spread = HeatField.PIXEL * size
    weights = torch.exp(-(grid[0] ** 2).sum(-1) / (2 * spread**2))
    assert abs(float((weights * values).sum() / weights.sum() - coarse)) < 1e-3


def test_clif_sees_place_and_cell():
    clif = _randomised(CLIF(4, 3, hidden=8))
    phi, at = torch.randn(2, 4, 5, 5), places(10, 10)[None].expand(2, -1, -1, -1)
    drawn = clif(phi, at, torch.full((2, 2), 0.2))
    assert drawn.shape == (2, 3, 10, 10)
    assert not torch.allclose(drawn, clif(phi, at, torch.full((2, 2), 0.1)))


def test_a_patch_is_the_part_of_the_scaled_picture_that_its_places_say():
    rows, columns = np.mgrid[:64, :64]
    picture = np.stack([rows, columns, rows], -1).astype(np.uint8)  # a colour is the place
    small, wanted, at, cell = patch(picture, 16, 8, 64, np.random.default_rng(0))
    assert small.shape == (3, 16, 16) and wanted.shape == (3, 8, 8)
    true = (at + 1) / 2 * 64 - 0.5
    shown = (wanted[:2] + 1) * 127.5
    assert (shown.movedim(0, -1) - true).abs().max() < 1.01
    assert torch.equal(cell[0], cell[1]) and 2 / 64 <= float(cell[0]) <= 2 / 16
    cells = [patch(picture, 16, 8, 64, np.random.default_rng(n), octaves=True)[3][0] for n in range(100)]
    assert 0.3 < float((torch.stack(cells) > 2 / 32).float().mean()) < 0.7  # half of them in each of the two octaves


def test_losses_of_the_adversary():
    assert float(hinge(torch.tensor([2.0, 0.0]), torch.tensor([-2.0, 0.0]))) == 0.5
    x = torch.tensor([3.0], requires_grad=True)
    assert float(adaptive_weight((4 * x).sum(), (2 * x).sum(), x)) == pytest.approx(2, rel=1e-3)
    assert PatchDiscriminator(3, 8)(torch.zeros(1, 3, 48, 48)).shape[1] == 1


def test_a_decoder_file_round_trips_and_damage_is_named(tmp_path):
    network = _autoencoder()
    path = tmp_path / "a.decoder.safetensors"
    save_file(network.state_dict(), path, {"format": FORMAT, "config": describe(network.config)})
    loaded = load_decoder(path)
    z = torch.randn(1, 4, 4, 4)
    assert torch.equal(loaded.features(z), network.features(z))
    with pytest.raises(ValueError, match=r"takes \(B, 4, h, w\)"):
        loaded.features(torch.zeros(1, 16, 4, 4))
    with pytest.raises(ValueError, match="does not exist"):
        load_decoder(tmp_path / "b.safetensors")
    (tmp_path / "cut.safetensors").write_bytes(path.read_bytes()[:-100])
    with pytest.raises(ValueError, match="truncated"):
        load_decoder(tmp_path / "cut.safetensors")
    save_file(network.state_dict(), path, {"format": FORMAT, "config": json.dumps({"hidden": 1 << 30})})
    with pytest.raises(ValueError, match="does not hold"):
        load_decoder(path)


def test_the_shipped_model_draws_what_stands_where():
    model = load_model("infd")
    settings = Settings("", steps=12, guide=("0.05,0.3,0.4,0.4: a red ball", "0.55,0.3,0.4,0.4: a blue cube"))
    recipe = tasks.recipe("image", model, settings)
    regions = located(recipe.diffrep, settings.guide)
    things = [(region.text, region.box) for region in regions]
    denoise = model.laid_out("", "", 2.0, things, recipe.diffrep.lookup, 1.0)
    noise = torch.randn(1, 4, 16, 16, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        z = ddim(denoise, noise, log_linear(12, 0.03, model.sigma_max))
    picture = torch.cat(list(model.any_size(z, 128, 128)), 1)
    left, right = (cut(picture[None], region.box, 32)[0] for region in regions)
    assert left[3, 16, 16] > 0.9 and right[3, 16, 16] > 0.9 and picture[3, :, 60:68].max() < 0.5
    assert left[0, 16, 16] > left[2, 16, 16] + 0.2 and right[2, 16, 16] > right[0, 16, 16] + 0.2


def test_layouts_stand_before_the_landscape_of_the_prompt_or_before_nothing(infd):
    """As in training: where nothing stands, an empty prompt expects an empty picture, and not the mean of all pictures."""
    glass = Thing(torch.zeros(1, 4, 64, 64), (0.0, 0.0, 0.5, 0.5))
    layout = Layout((glass,), lambda view: None, 1.0, (False, False))
    camera, blank = torch.zeros(1, 3), torch.full((1, 4, 64, 64), -1.0)
    _, normal = infd_model.network()
    for prompt, expected in (
        ("", normal.scaled(infd_model.decoder().autoencoder.encode(blank))),
        ("sea at noon", infd_model.expected_latents(torch.tensor([encode("sea at noon")]), camera, (16, 16))),
    ):
        told = infd_model.expected_latents(torch.tensor([encode(prompt)]), camera, (16, 16), layout)
        torch.testing.assert_close(told, expected)
