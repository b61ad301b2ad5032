"""Infd in ComfyUI: the core's numbers through ComfyUI's guider, its layouts, its VAE, and pictures of any size."""

from __future__ import annotations

import pytest
import torch
from comfy_pack import REASON, comfyui, part

if comfyui() is None:
    pytest.skip(REASON, allow_module_level=True)

import comfy.samplers
import nodes as core_nodes

host, guides, clip_nodes, infd_nodes, decoding, layout, sockets, weights = (
    part(f"comfy_nodes.{name}")
    for name in ("host", "guides", "clip", "infd", "decoding", "layout", "sockets", "weights")
)
core, tasks = part("core.pullback.generative.infd.model"), part("core.pullback.tasks")
Box = layout.RegionValue.boxed
TWO = (Box("a red mushroom", (0, 16, 32, 32), (64, 64)), Box("a blue chair", (32, 16, 32, 32), (64, 64)))
THINGS = [("a red mushroom", (0.0, 0.25, 0.5, 0.5)), ("a blue chair", (0.5, 0.25, 0.5, 0.5))]
weights.register()


@pytest.fixture(autouse=True)
def _threads():
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def infd():
    """(model, clip, vae, decoder), made in inference mode, as ComfyUI makes them."""
    with torch.inference_mode():
        return infd_nodes.InfdLoader.execute().args


@pytest.fixture(scope="module")
def clip():
    with torch.inference_mode():
        return clip_nodes.LoadCLIPGuideModel.execute(weights.BUILT_IN, "").args[0]


def guider(model, words, prompt, negative="", cfg=2.0):
    made = comfy.samplers.CFGGuider(model)
    made.set_conds(*(words.encode_from_tokens_scheduled(words.tokenize(text)) for text in (prompt, negative)))
    made.set_cfg(cfg)
    return made


def estimates(made, x, sigma, views=(None,), layout=None):
    """What a guider estimates at a noise level, as Field Sampler asks it."""
    seen = []

    class Once(comfy.samplers.Sampler):
        def sample(self, model_wrap, sigmas, extra_args, callback, noise, *_, **__):
            rungs = host.ladder(model_wrap.inner_model.model_sampling, sigmas)
            denoise = host.Denoiser(model_wrap, extra_args, rungs, True, set(), 2, layout=layout)
            seen.extend(denoise(x, torch.tensor(sigma), view) for view in views)
            return noise

    zeros = torch.zeros(2, *x.shape[1:])
    with torch.inference_mode():
        made.sample(zeros, zeros, Once(), torch.tensor([sigma, 0.0]), disable_pbar=True, seed=0)
    return seen


@pytest.mark.parametrize(
    "prompt, negative",
    [("a red mushroom", ""), ("mountains at sunset", "a red car"), ("a red mushroom", "the sea")],
)  # fmt: skip
def test_infd_in_comfyui_is_the_core_s_infd(infd, prompt, negative):
    """One denoising step through the guider equals the core's denoiser, with and without a camera."""
    expected = core.InfdModel().denoiser(prompt, negative, 2.0)
    views = (None, part("core.pullback.geometry.cameras").turntable(3))
    x = torch.randn(3, 4, 16, 16, generator=torch.Generator().manual_seed(0))
    got = estimates(guider(infd[0], infd[1], prompt, negative), x, 1.0, views)
    for each, view in zip(got, views, strict=True):
        assert torch.allclose(each, expected(x, torch.tensor(1.0), view), atol=2e-5)
    assert (got[0] - got[1]).abs().max() > 0.01


@pytest.mark.parametrize("prompt", ["", "sea at noon"])
def test_field_sampler_tells_it_layouts(infd, clip, prompt):
    value = guides.GuideValue(clip, TWO)
    lookup = guides._Picture()
    told = guides.layout_for(value, lookup, host.signal_of(infd[0], None), 1.0)
    expected = core.InfdModel().laid_out(prompt, "", 2.0, THINGS, lookup.lookup, 1.0, (False, False))
    x = torch.randn(1, 4, 16, 16, generator=torch.Generator().manual_seed(0))
    (got,) = estimates(guider(infd[0], infd[1], prompt), x, 1.0, layout=told)
    (plain,) = estimates(guider(infd[0], infd[1], prompt), x, 1.0)
    assert torch.allclose(got, expected(x, torch.tensor(1.0), None), atol=2e-5)
    assert (got - plain).abs().max() > 0.01
    assert guides.layout_for(guides.GuideValue(clip, TWO, 0.0), lookup, host.signal_of(infd[0], None), 1.0) is None


def test_ksampler_draws_layouts_and_its_latent_has_any_size(infd, clip):
    """What the guide's MODEL draws is what the core samples with the same layout and guide."""
    model, words, vae, decoder = infd
    with torch.inference_mode():
        guided = clip_nodes.MultiScaleCLIPGuide.execute(clip, TWO, 1.0, True, model).args[1]
        (latent,) = infd_nodes.EmptyInfdLatent.execute(64, 64, 1).args
        made = [words.encode_from_tokens_scheduled(words.tokenize(text)) for text in ("", "")]
        (samples,) = core_nodes.KSampler().sample(guided, 1, 6, 2.0, "euler", "karras", *made, latent)
        image, _ = decoding.enlarged(samples, decoder, 96, 0)
        small = vae.decode(samples["samples"])
    assert image.shape == (1, 96, 96, 3) and small.shape == (1, 64, 64, 3)
    left, right = image[0, 24:72, :48].mean((0, 1)), image[0, 24:72, 48:].mean((0, 1))
    assert left[0] - left[2] > right[0] - right[2] + 0.1  # red stands left, blue right


def test_its_vae_goes_back(infd):
    """Latents of a picture that is drawn of latents are near them."""
    with torch.inference_mode():
        z = core.InfdModel().decode(torch.zeros(1, 4, 16, 16))
        image = (z[:, :3] + 1 - z[:, 3:]).movedim(1, -1)
        again = infd[2].decode(infd[2].encode(image))
    assert infd[2].encode(image).shape == (1, 4, 16, 16)
    assert (again - image).abs().mean() < 0.1


def test_a_field_of_it_is_drawn_as_the_core_draws_it(infd):
    signal = host.signal_of(infd[0], None)
    assert (signal.name, signal.size, signal.scale, signal.channels) == ("infd", 16, 4, 4)
    model = core.InfdModel()
    settings = tasks.Settings("a red ball", steps=2, guidance=1.0)
    recipe = tasks.recipe("image", model, settings)
    field = tasks.field_of(recipe, settings, model, tasks.sample(tasks.prepare(model, recipe, settings), 0))
    drawn = part("comfy_nodes.signals").decoder(field, None)
    ours = torch.cat(list(tasks.bands(field, 80, 80, drawn)), 1)
    assert torch.equal(ours, torch.cat(list(tasks.bands(field, 80, 80, model)), 1))


def test_what_does_not_fit_is_one_sentence(infd):
    toybox = part("comfy_nodes.builtin").load()
    with pytest.raises(ValueError, match="encode the prompt with Infd Loader's CLIP"):
        estimates(guider(infd[0], toybox[1], "a red ball"), torch.zeros(1, 4, 16, 16), 1.0)
    with pytest.raises(ValueError, match="even sides, not 15 x 16"):
        estimates(guider(infd[0], infd[1], "a red ball"), torch.zeros(1, 4, 16, 15), 1.0)
