"""Tiles are the whole picture, to rounding, for every decoder with group norms, and nothing of the work stays behind."""

from __future__ import annotations

import importlib.util

import pytest
import torch
import torch.nn.functional as F
from comfy_pack import REASON, comfyui, part
from pullback import exact_tiles
from pullback.generative.infd.network import Config, Decoder
from pullback.generative.infd.renderers import CLIF, places
from pullback.types import Cancelled
from torch import nn

LARGE = 1 << 30
NONE, SOME = 0, 150_000
"""Bytes that may be kept: nothing, and some steps of the small decoders below but not all."""
TOLERANCE = {torch.float32: 1e-5, torch.float64: 1e-10}


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def randomised(module, dtype=torch.float64):
    """Weights that are far from neutral: shifted and scaled norms too."""
    for each in module.modules():
        if isinstance(each, nn.GroupNorm):
            nn.init.normal_(each.weight, 1, 0.3)
            nn.init.normal_(each.bias, 0, 0.3)
    return module.to(dtype).eval().requires_grad_(False)


def autoencoder(channels=4, dtype=torch.float64, widths=(32, 32), **more):
    """diffusers' AutoencoderKL, in small."""
    diffusers = pytest.importorskip("diffusers", reason='needs diffusers: pip install "pullback[diffusers]"')
    made = diffusers.AutoencoderKL(
        block_out_channels=widths, down_block_types=["DownEncoderBlock2D"] * len(widths), layers_per_block=1,
        up_block_types=["UpDecoderBlock2D"] * len(widths), latent_channels=channels, norm_num_groups=8, **more,
    )  # fmt: skip
    return randomised(made, dtype)


def chain_and_source(vae, latent):
    read = exact_tiles.input_of(vae.decoder, vae.decode, latent)
    return exact_tiles.chain_of(vae.decoder, read[..., :3, :2]), exact_tiles.held(read)


def gap(a, b):
    assert a.shape == b.shape
    return float((a - b).abs().max() / b.std())


@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
@pytest.mark.parametrize(
    "channels, widths, size, tile, budget, more",
    [
        (4, (32, 32), (13, 9), 12, LARGE, {}),  # tiles smaller than the receptive field
        (4, (32, 32), (13, 9), 14, NONE, {}),
        (16, (32, 48, 32), (7, 11), 16, SOME, {"use_post_quant_conv": False, "shift_factor": 0.1}),
        (4, (32, 32), (5, 5), 64, LARGE, {}),  # one tile
        (4, (32, 32), (1, 9), 2, LARGE, {"mid_block_add_attention": False}),
    ],
)
def test_tiles_are_what_diffusers_decodes_at_once(dtype, channels, widths, size, tile, budget, more):
    vae = autoencoder(channels, dtype, widths, **more)
    latent = torch.randn(1, channels, *size, dtype=dtype)
    got = exact_tiles.whole(*chain_and_source(vae, latent), tile, budget=budget)
    assert gap(got, vae.decode(latent).sample) < TOLERANCE[dtype]


@pytest.mark.parametrize("budget", [NONE, SOME, LARGE])
def test_tiles_are_what_our_own_decoder_makes_at_once(budget):
    config = Config(latent=3, decoder=(32, 32, 64), attention=True, grouped=True, decoder_blocks=2)
    decoder = randomised(Decoder(config))
    z = torch.randn(1, 3, 9, 7, dtype=torch.float64)
    chain = exact_tiles.chain_of(decoder, z[..., :2, :3])
    assert gap(exact_tiles.whole(chain, exact_tiles.held(z), 10, budget=budget), decoder(z)) < 1e-10


@pytest.mark.parametrize("budget", [NONE, LARGE])
def test_tiles_are_what_clif_draws_at_once(budget):
    """Its norms take their statistics over all pixels of the picture, of any size; what it reads is made part by part."""
    clif, phi = randomised(CLIF(8, 3, 32, 2, grouped=True)), torch.randn(1, 8, 6, 7, dtype=torch.float64)
    height, width = 41, 29
    cell = torch.tensor([[2 / height, 2 / width]], dtype=torch.float64)
    at = lambda crop=None: places(height, width, crop)[None].double()
    source = exact_tiles.Source(height, width, lambda crop: clif.gather(phi, at(crop), cell))
    assert gap(exact_tiles.whole(clif.layers, source, 9, budget=budget), clif(phi, at(), cell)) < 1e-10
    crop = (5, 3, 20, 11)
    got = exact_tiles.whole(clif.layers, source, 9, crop, budget)
    assert gap(got, clif(phi, at(), cell)[..., 5:25, 3:14]) < 1e-10


@pytest.mark.parametrize("crop", [(0, 0, 1, 1), (3, 5, 17, 8), (25, 17, 1, 1)])
def test_a_part_is_that_part_of_the_whole(crop):
    vae, latent = autoencoder(), torch.randn(1, 4, 13, 9, dtype=torch.float64)
    top, left, h, w = crop
    got = exact_tiles.whole(*chain_and_source(vae, latent), 10, crop)
    assert gap(got, vae.decode(latent).sample[..., top : top + h, left : left + w]) < 1e-10 or h * w == 1
    assert torch.allclose(got, vae.decode(latent).sample[..., top : top + h, left : left + w], atol=1e-10)


def test_bands_go_from_top_to_bottom():
    vae, latent = autoencoder(), torch.randn(1, 4, 13, 5, dtype=torch.float64)
    bands = list(exact_tiles.bands(*chain_and_source(vae, latent), 8))
    assert len(bands) > 2 and gap(torch.cat(bands, 1), vae.decode(latent).sample[0]) < 1e-10


def test_statistics_of_values_far_from_zero_are_right():
    """In float32, where the mean of the squares minus the square of the mean would be noise."""
    norm = nn.GroupNorm(2, 4)
    x = 1000 + torch.randn(1, 4, 40, 40)
    got = exact_tiles.whole([norm], exact_tiles.held(x), 16)
    assert (got - norm.double()(x.double())).abs().max() < 2e-3  # 1000 has 6e-5 between neighbouring numbers


@pytest.mark.parametrize(
    "layer, scale, reach",
    [
        (nn.Conv2d(2, 3, 3, padding=1), 1, 1),
        (nn.Conv2d(2, 3, 1), 1, 0),
        (nn.Conv2d(2, 3, (3, 5), padding=(1, 2)), 1, 2),
        (nn.Conv2d(2, 3, 3, padding=3, dilation=3), 1, 3),
        (nn.ConvTranspose2d(2, 3, 4, 2, 1), 2, 1),
        (nn.Sequential(nn.Upsample(scale_factor=2), nn.Conv2d(2, 2, 3, padding=1)), 2, 1),
        (nn.Sequential(nn.Upsample(scale_factor=2, mode="bilinear"), nn.GroupNorm(1, 2)), 2, 1),
        (nn.InstanceNorm2d(2), 1, None),
        (nn.Sequential(nn.GroupNorm(1, 2), nn.Softmax(dim=2)), 1, None),
    ],
    ids=str,
)
def test_the_probe_finds_how_far_a_layer_reaches(layer, scale, reach):
    (step,) = exact_tiles.probed([layer], exact_tiles.held(torch.randn(1, 2, 3, 3)))
    assert (step.scale, step.reach) == (scale, reach)


def test_what_sees_everything_runs_on_the_whole():
    chain = [nn.Conv2d(2, 2, 3, padding=1), nn.InstanceNorm2d(2), nn.GroupNorm(1, 2), nn.Conv2d(2, 1, 3, padding=1)]
    x = torch.randn(1, 2, 30, 20)
    with torch.no_grad():
        expected = nn.Sequential(*chain)(x)
    assert gap(exact_tiles.whole(chain, exact_tiles.held(x), 7), expected) < 1e-5


def test_layers_that_write_into_their_input_change_neither_the_latent_nor_what_is_kept():
    chain = [
        nn.SiLU(inplace=True),
        nn.GroupNorm(1, 2),
        nn.SiLU(inplace=True),
        nn.GroupNorm(1, 2),
        nn.SiLU(inplace=True),
    ]
    x = torch.randn(1, 2, 20, 20)
    with torch.no_grad():
        expected, before = nn.Sequential(*chain)(x.clone()), x.clone()
    assert gap(exact_tiles.whole(chain, exact_tiles.held(x), 7), expected) < 1e-5
    assert torch.equal(x, before)


def test_half_precision_is_as_near_as_it_can_be():
    vae, latent = autoencoder(dtype=torch.bfloat16), torch.randn(1, 4, 13, 9)
    exact = autoencoder(dtype=torch.float64)
    exact.load_state_dict(vae.state_dict())
    true = exact.decode(latent.bfloat16().double()).sample
    error = gap(vae.decode(latent.bfloat16()).sample.double(), true)
    got = exact_tiles.whole(*chain_and_source(vae, latent.bfloat16()), 12)
    assert got.dtype == torch.bfloat16 and gap(got.double(), true) < 2 * error


def state(module):
    return {
        name: (each.__dict__.get("forward"), len(each._forward_hooks), len(each._forward_pre_hooks))
        for name, each in module.named_modules()
    }


def test_work_can_be_stopped_between_any_two_tiles_and_leaves_nothing_behind():
    vae, latent = autoencoder(), torch.randn(1, 4, 7, 9, dtype=torch.float64)
    before, untouched = state(vae), latent.clone()
    expected, calls = vae.decode(latent).sample, []
    chain, source = chain_and_source(vae, latent)
    exact_tiles.whole(chain, source, 8, budget=SOME, tick=lambda *call: calls.append(call))
    assert [done for done, _ in calls] == list(range(calls[-1][1] + 1)) and len({total for _, total in calls}) == 1
    for last in range(0, len(calls), max(1, len(calls) // 9)):

        def tick(done, total, last=last):
            if done == last:
                raise Cancelled

        with pytest.raises(Cancelled):
            exact_tiles.whole(chain, source, 8, budget=SOME, tick=tick)
        assert torch.equal(vae.decode(latent).sample, expected)
    assert state(vae) == before and torch.equal(latent, untouched)
    assert F.group_norm(torch.ones(1, 2, 3), 1).abs().max() == 0  # the function is torch's own again


def test_an_error_within_a_tile_leaves_nothing_behind():
    class Broken(nn.Module):
        def forward(self, x):
            if x.shape[2] != x.shape[3] == exact_tiles.PROBE or x.shape[3] == 1 or x.shape[2] < 30:
                return x
            raise RuntimeError("out of memory")

    norm, x = nn.GroupNorm(1, 2), torch.randn(1, 2, 40, 40)
    with pytest.raises(RuntimeError, match="out of memory"):
        exact_tiles.whole([norm, Broken(), nn.GroupNorm(1, 2)], exact_tiles.held(x), 40)
    assert torch.equal(norm(x), F.group_norm(x, 1, norm.weight, norm.bias))


def test_what_cannot_be_cut_is_refused():
    vae, latent = autoencoder(), torch.randn(1, 4, 5, 5, dtype=torch.float64)
    chain, _ = chain_and_source(vae, latent)
    with pytest.raises(ValueError, match="one by one"):
        exact_tiles.whole(chain, exact_tiles.held(torch.cat([latent, latent])), 8)
    with pytest.raises(ValueError, match="must enlarge by a whole number"):
        exact_tiles.whole([nn.Upsample(scale_factor=1.5)], exact_tiles.held(latent), 8)
    with pytest.raises(ValueError, match="did not use the given decoder"):
        exact_tiles.input_of(vae.encoder, vae.decode, latent)

    class More(nn.Module):
        def __init__(self):
            super().__init__()
            self.layers = nn.Sequential(nn.Conv2d(4, 4, 1))

        def forward(self, x):
            return self.layers(x) + x

    with pytest.raises(ValueError, match="more than its parts"):
        exact_tiles.chain_of(More().double(), latent)


def test_memory_is_that_of_a_tile_whatever_the_size():
    """The largest tensor that any function of torch returns within the work does not grow with the picture."""
    from torch.utils._python_dispatch import TorchDispatchMode

    class Largest(TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            out = func(*args, **(kwargs or {}))
            if isinstance(out, torch.Tensor):
                self.most = max(getattr(self, "most", 0), out.numel())
            return out

    decoder = randomised(Decoder(Config(latent=4, decoder=(32, 32), grouped=True)), torch.float32)
    most = []
    for width in (40, 160):
        z = torch.randn(1, 4, 40, width)
        chain = exact_tiles.chain_of(decoder, z[..., :3, :3])
        with Largest() as largest:
            for band in exact_tiles.bands(chain, exact_tiles.held(z), 32, budget=0):
                del band
        most.append(largest.most)
    assert most[1] <= max(1.2 * most[0], 32 * 32 * 2 * 160)


# ComfyUI's VAE.

needs_comfyui = pytest.mark.skipif(importlib.util.find_spec("torchsde") is None or comfyui() is None, reason=REASON)


@pytest.fixture(scope="module", params=[4, 16])
def vae(request):
    import comfy_models

    torch.manual_seed(0)
    return comfy_models.vae(request.param)


@needs_comfyui
@pytest.mark.parametrize("size, tile", [((11, 7), 64), ((3, 21), 64)])
def test_a_latent_becomes_what_vae_decode_makes_of_it(vae, size, tile):
    latents, calls = part("comfy_nodes.latents"), []
    samples = torch.randn(2, vae.latent_channels, *size)
    with torch.inference_mode():
        expected = vae.decode(samples)
        got = latents.decoded(vae, {"samples": samples}, tile, (0, 0, 0, 0), lambda *call: calls.append(call))
        cut = latents.decoded(vae, {"samples": samples}, tile, (8, 3, 20, 0), lambda *_: None)
    assert expected.std() > 0.05 and got.shape == expected.shape and got.dtype == expected.dtype
    assert (got - expected).abs().max() < 1e-5
    assert torch.allclose(cut, expected[:, 3:, 8:28], atol=1e-5)
    assert calls[-1][0] == calls[-1][1] and {total for _, total in calls} == {calls[-1][1]}


@needs_comfyui
def test_the_node_takes_a_latent_in_place_of_a_field(vae):
    node = part("comfy_nodes.decoding").ResolutionFreeDecode
    samples = {"samples": torch.randn(1, vae.latent_channels, 6, 9)}
    given = {"width": 2048, "height": 0, "left": 0, "top": 0, "crop_width": 0, "crop_height": 0, "tile": 64}
    with torch.inference_mode():
        image, mask = node.execute(field=samples, vae=vae, **given).args
        assert (image - vae.decode(samples["samples"])).abs().max() < 1e-5 and mask.shape == (1, 48, 72)
        with pytest.raises(ValueError, match="connect the VAE"):
            node.execute(field=samples, **given)
        with pytest.raises(ValueError, match="does not lie within the picture of 72 x 48"):
            node.execute(field=samples, vae=vae, **{**given, "left": 72})


@needs_comfyui
def test_where_memory_runs_out_tiles_are_smaller(vae, monkeypatch):
    """Latents and fields alike."""
    import comfy.model_management

    decoding, latents, sides = part("comfy_nodes.decoding"), part("comfy_nodes.latents"), []

    def decoded(vae, samples, side, *_):
        sides.append(side)
        if side > 100:
            raise comfy.model_management.OOM_EXCEPTION("out of memory")
        return torch.zeros(1, 8, 8, 3)

    monkeypatch.setattr(latents, "decoded", decoded)
    decoding.latent({"samples": torch.zeros(1, 4, 1, 1)}, vae, tile=512)
    assert sides == [512, 256, 128, 64]


@needs_comfyui
def test_the_node_can_be_stopped_between_tiles(vae, monkeypatch):
    import comfy.model_management

    decoding, ticks = part("comfy_nodes.decoding"), []
    samples = {"samples": torch.randn(1, vae.latent_channels, 8, 8)}

    def tick():
        ticks.append(1)
        if len(ticks) == 5:
            raise comfy.model_management.InterruptProcessingException

    before = state(vae.first_stage_model)
    monkeypatch.setattr(decoding, "tick", tick)
    with pytest.raises(comfy.model_management.InterruptProcessingException), torch.inference_mode():
        decoding.latent(samples, vae, tile=64)
    assert len(ticks) == 5 and state(vae.first_stage_model) == before


@needs_comfyui
def test_another_kind_of_vae_is_decoded_by_comfyui_itself():
    latents = part("comfy_nodes.latents")

    class Film:
        latent_channels, latent_dim = 16, 3

        def decode(self, samples):
            return samples[:, :3].movedim(1, -1).repeat_interleave(8, 2).repeat_interleave(8, 3)

    samples = torch.rand(1, 16, 2, 3, 5)
    image = latents.decoded(Film(), {"samples": samples}, 64, (8, 0, 0, 8), lambda *_: None)
    assert image.shape == (2, 8, 32, 3) and torch.equal(image, Film().decode(samples)[0, :, :8, 8:])
