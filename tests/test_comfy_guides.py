"""Guides in ComfyUI: the same numbers as the core's, nothing at all at weight 0, and one clear line for what users do wrong."""

from __future__ import annotations

import pytest
import torch
from comfy_pack import REASON, comfyui, part

if comfyui() is None:
    pytest.skip(REASON, allow_module_level=True)

import comfy.samplers
import comfy_models
import comfyui as comfyui_server
import safetensors.torch

host, plans, sockets, layout, guides, nodes, decoders, decoding, gradients, weights = (
    part(f"comfy_nodes.{name}")
    for name in ("host", "plans", "sockets", "layout", "guides", "clip", "decoders", "decoding", "gradients", "weights")
)
regions, decoder_file = (part(f"core.pullback.{name}") for name in ("regions", "generative.infd.decoder"))
Box = layout.RegionValue.boxed
weights.register()


@pytest.fixture(autouse=True)
def _threads():
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def clip():
    with torch.inference_mode():  # as ComfyUI runs nodes
        return nodes.LoadCLIPGuideModel.execute(weights.BUILT_IN, "").args[0]


@pytest.fixture(scope="module")
def toybox():
    with torch.inference_mode():
        model, words, vae = part("comfy_nodes.builtin").load()
        positive, negative = (words.encode_from_tokens_scheduled(words.tokenize(t)) for t in ("a red mushroom", ""))
    return model, positive, negative, vae


@pytest.fixture(scope="module")
def latents():
    """A small Stable Diffusion with its VAE, with weights that were made in inference mode."""
    with torch.inference_mode():
        model, vae = comfy_models.unet("EPS"), comfy_models.vae()
        return model, comfy_models.conditioning(1), comfy_models.conditioning(2), vae


@pytest.fixture(scope="module")
def flow():
    """A small SD3, which sees the picture scaled."""
    with torch.inference_mode():
        try:
            vae = comfy_models.vae(16)
        except RuntimeError:
            pytest.skip("this version of ComfyUI makes no VAE so narrow")
        return comfy_models.mmdit(), comfy_models.conditioning(1), comfy_models.conditioning(2), vae


@pytest.fixture(scope="module")
def field_decoder(tmp_path_factory):
    """A field decoder for the latents of Stable Diffusion, with random weights, in a file."""
    path = tmp_path_factory.mktemp("decoders") / "sd.decoder.safetensors"
    comfyui_server.saved_decoder(path)
    return path


def loaded(path):
    with torch.inference_mode(False):
        made = decoder_file.load_decoder(path)
    return guides.DecoderValue(made, weights.managed(made.autoencoder))


TWO = (Box("a blue fish", (0, 0, 32, 64), (64, 64)), Box("a red ball", (32, 8, 32, 32), (64, 64), weight=2.0))


def guide(clip, strength=1.0, through_model=True, values=TWO, **more):
    return guides.GuideValue(clip, values, strength, through_model, **more)


def guider(model, positive, negative, *_):
    made = comfy.samplers.CFGGuider(model)
    made.set_conds(positive, negative)
    made.set_cfg(2.0)
    return made


def kept(model, sigmas, size, seed=3, count=1, channels=4):
    """What SamplerCustomAdvanced makes, with euler."""
    made = guider(*model)
    noise = host.Seeded(seed).generate_noise({"samples": torch.zeros(count, channels, size, size)})
    with torch.inference_mode():
        return made.sample(
            noise, torch.zeros_like(noise), comfy.samplers.sampler_object("euler"), sigmas, disable_pbar=True, seed=seed
        )


def grown(model, sigmas, pixels, value=None, vae=None, seed=3):
    """What Field Sampler makes, of a grid of pixels."""
    field = sockets.FieldValue(plans.Pixels(pixels, pixels))
    with torch.inference_mode():
        made = host.run(
            host.Sampling(), host.Seeded(seed), guider(*model), sigmas, host.Request(field, vae, guide=value)
        )
    return made[1]["samples"]


def sigmas(model, steps=3):
    return comfy.samplers.calculate_sigmas(model.get_model_object("model_sampling"), "simple", steps)


@pytest.mark.parametrize("through", [True, False])
def test_the_guided_model_is_the_core_s_guided_denoiser(toybox, clip, through):
    """One estimate of toybox through ComfyUI's guider, and that of the core."""
    toy = part("core.pullback.generative.toybox.model").ToyboxModel()
    value = guide(clip, through_model=through)
    with torch.inference_mode():
        (_, model) = nodes.MultiScaleCLIPGuide.execute(clip, TWO, 1.0, through, toybox[0]).args
    x = 1.5 * torch.randn(2, 4, 64, 64, generator=torch.Generator().manual_seed(0))
    seen = []

    class Once(comfy.samplers.Sampler):
        def sample(self, model_wrap, sigmas, extra_args, callback, noise, *_, **__):
            seen.append(model_wrap(x, torch.full((2,), 1.5), **extra_args))
            return noise

    made = guider(model, *toybox[1:])
    with torch.inference_mode():
        made.sample(
            torch.zeros_like(x), torch.zeros_like(x), Once(), torch.tensor([1.5, 0.0]), disable_pbar=True, seed=0
        )
    parts = tuple(each.region() for each in TWO)
    core = regions.Guide(clip.clip, parts, 1.0, through)
    plain = toy.denoiser("a red mushroom", "", 2.0)
    expected = core.guiding(plain, regions.shown_by(toy), separate=True)(x, torch.tensor(1.5), None)
    one = core.guiding(plain, regions.shown_by(toy))(x[1:], torch.tensor(1.5), None)
    moved = (expected - plain(x, torch.tensor(1.5), None)).abs().max()
    assert moved > 1e-3  # or the guide did nothing
    assert (seen[0] - expected).abs().max() < 0.01 * moved and (seen[0][1:] - one).abs().max() < 0.01 * moved
    assert guides.Guidance(value.of(guides._Picture()), None, None).guide.through_model is through


@pytest.mark.parametrize("kind", ["toybox", "latents", "flow"])
@pytest.mark.parametrize("through", [True, False])
def test_a_guided_grid_of_pixels_is_ksampler_with_the_guided_model(kind, through, clip, request):
    model, *words, vae = request.getfixturevalue(kind)
    more = {} if kind == "toybox" else {"vae": vae}
    value, size = guide(clip, 1.0 if kind == "toybox" else 100.0, through, **more), 64 if kind == "toybox" else 8
    steps = sigmas(model, 2)
    channels = 16 if kind == "flow" else 4
    plain = kept((model, *words), steps, size, channels=channels)
    expected = kept((guides.patched(model, value), *words), steps, size, channels=channels)
    got = grown((model, *words), steps, 64, value, more.get("vae"))
    moved = (expected - plain).abs().max()
    assert moved > 1e-3 and (got - expected).abs().max() < 0.01 * moved


def test_gradients_pass_through_weights_of_inference_mode(latents, clip):
    """Through the model and without are different, and nothing of the model has changed afterwards."""
    model, *words, vae = latents
    steps = sigmas(model, 2)
    before = kept((model, *words), steps, 8)
    through, beside = (
        kept((guides.patched(model, guide(clip, 100.0, each, vae=vae)), *words), steps, 8) for each in (True, False)
    )
    assert (through - beside).abs().max() > 1e-3
    assert torch.equal(kept((model, *words), steps, 8), before)


@pytest.mark.parametrize(
    "off", [{"strength": 0.0}, {"values": (Box("a red ball", (0, 0, 32, 32), (64, 64), weight=0.0),)}]
)
def test_without_weight_nothing_changes(toybox, clip, off):
    model, *words, _ = toybox
    steps = sigmas(model, 2)
    value = guide(clip, **off)
    assert guides.patched(model, value) is model
    assert torch.equal(grown((model, *words), steps, 64, value), grown((model, *words), steps, 64))


def test_a_batch_of_pictures_is_guided_one_by_one(toybox, clip):
    model, *words, _ = toybox
    made = (guides.patched(model, guide(clip)), *words)
    steps = sigmas(model, 2)
    both = kept(made, steps, 64, count=2)
    assert (both[:1] - kept(made, steps, 64)).abs().max() < 1e-3


def test_a_model_that_lets_no_gradients_through_is_guided_without(latents, clip, monkeypatch):
    model, *words, vae = latents
    model, said = model.clone(), []
    monkeypatch.setattr(part("comfy_nodes.notes"), "say", said.append)
    model.set_model_unet_function_wrapper(
        lambda apply, args: apply(args["input"], args["timestep"], **args["c"]).detach()
    )
    steps = sigmas(model, 2)
    through, beside = (
        kept((guides.patched(model, guide(clip, 100.0, each, vae=vae)), *words), steps, 8) for each in (True, False)
    )
    assert torch.equal(through, beside) and len(said) == 1 and "do not pass through the model" in said[0]


def test_objects_and_panoramas_are_guided_where_the_views_look(toybox, clip):
    model, *words, _ = toybox
    panorama = plans.Fresh.of("siren-sphere", 2, neurons=16, depth=1)
    ball = plans.Fresh.of("voxel-radiance", 2, resolution=8)
    for plan, value in (
        (panorama, layout.RegionValue("a red car", "degrees", (0.0, 0.0, 360.0, 60.0))),
        (ball, layout.RegionValue("a red car", "side", (0.0, 0.0))),
        (ball, layout.RegionValue("a red car")),
    ):
        results = []
        for strength in (0.0, 50.0):
            asked = host.Request(sockets.FieldValue(plan), guide=guide(clip, strength, False, (value,)))
            with torch.inference_mode():
                made = host.run(
                    host.Sampling(short=True), host.Seeded(0), guider(model, *words), sigmas(model, 2), asked
                )
            results.append(made[1]["samples"])
        assert (results[0] - results[1]).abs().max() > 1e-3, value


def test_a_field_decoder_shows_each_region_at_its_own_resolution(latents, clip, field_decoder):
    model, *words, _ = latents
    value = loaded(field_decoder)
    made = guides.patched(model, guide(clip, 100.0, decoder=value))
    assert (kept((made, *words), sigmas(model, 2), 8) - kept((model, *words), sigmas(model, 2), 8)).abs().max() > 1e-4


def test_a_latent_is_drawn_at_any_size_and_a_part_is_that_part(field_decoder):
    value, z = loaded(field_decoder), torch.randn(2, 4, 8, 12, generator=torch.Generator().manual_seed(0))
    node = decoding.ResolutionFreeDecode
    with torch.inference_mode():
        image, mask = node.execute({"samples": z}, 192, 0, 0, 0, 0, 0, 64, decoder=value).args
        piece, _ = node.execute({"samples": z}, 192, 0, 70, 30, 90, 80, 64, decoder=value).args
    assert image.shape == (2, 128, 192, 3) and mask.shape == (2, 128, 192)
    assert torch.allclose(piece, image[:, 30:110, 70:160], atol=1e-5)
    phi = value.decoder.features(z[1:])
    expected = sockets.to_image(decoder_file.display(value.decoder.draw(phi, 128, 192)))
    assert torch.allclose(image[1:], expected, atol=1e-5)


def test_a_latent_with_its_vae_is_decoded_as_before(latents):
    vae, z = latents[3], torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        image, _ = decoding.ResolutionFreeDecode.execute({"samples": z}, 2048, 0, 0, 0, 0, 0, 64, vae).args
        assert torch.allclose(image, vae.decode(z), atol=1e-4)


def region(text="a red ball", place="box", box=(0, 0, 32, 32), canvas=(64, 64), scales="1", weight=1.0, before=()):
    return nodes.CLIPGuideRegion.execute(
        text, place, *box, *canvas, 10.0, 20.0, 60.0, 40.0, weight, scales, before
    ).args


def test_regions_are_chained_and_shown():
    first, _ = region()
    second, picture = region("a blue fish", box=(32, 32, 32, 32), before=first)
    assert [each.text for each in second] == ["a red ball", "a blue fish"]
    assert second[1].region().box == (0.5, 0.5, 0.5, 0.5)
    assert picture.shape == (1, 512, 512, 3)
    changed = (picture - picture[:, :1, -1:]).abs().sum(-1)[0] > 0.05
    assert changed[:256, :256].float().mean() > 0.9 and changed[260:, 260:].float().mean() > 0.9
    assert not changed[:250, 262:].any()
    for place in ("degrees", "side", "everywhere"):
        assert region(place=place)[1].shape[-1] == 3


def test_degrees_are_those_of_the_command_line():
    (value,), _ = region(place="degrees")
    assert value.region(2.0).box == regions.parsed("10,20,60,40: a red ball", 2.0).box


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"box": (40, 0, 32, 32)}, "outside the picture of 64 x 64"),
        ({"box": (0, 0, 1, 1), "canvas": (1000, 1000)}, "at least"),
        ({"text": "  "}, "no sentence"),
        ({"text": "a" * 100_000}, "100000 characters"),
        ({"scales": "big"}, "one to eight numbers"),
        ({"scales": "100"}, "between 0.1 and 10"),
        ({"before": tuple(TWO) * 32}, "at most 64"),
    ],
)
def test_a_wrong_region_is_one_sentence(wrong, says):
    with pytest.raises(ValueError, match=says) as raised:
        region(**wrong)
    assert len(str(raised.value)) < 300 and "\n" not in str(raised.value)


def test_five_hundred_regions_are_too_many(clip, toybox):
    with pytest.raises(ValueError, match="500 regions; at most 64"):
        guides.patched(toybox[0], guide(clip, values=TWO * 250))


def test_words_that_are_not_known_are_said_before_anything_is_sampled(clip, monkeypatch):
    said = []
    monkeypatch.setattr(part("comfy_nodes.notes"), "say", said.append)
    nodes.MultiScaleCLIPGuide.execute(clip, (Box("a red locomotive ball", (0, 0, 9, 9), (9, 9)),), 1.0, True)
    assert len(said) == 1 and "locomotive" in said[0]
    with pytest.raises(ValueError, match="cannot draw"):
        nodes.MultiScaleCLIPGuide.execute(clip, (Box("locomotive", (0, 0, 9, 9), (9, 9)),), 1.0, True)


def test_what_does_not_fit_is_one_sentence(clip, toybox, latents, field_decoder):
    steps = sigmas(toybox[0], 2)
    side = (layout.RegionValue("a red ball", "side", (0.0, 0.0)),)
    degrees = (layout.RegionValue("a red ball", "degrees", (0.0, 0.0, 60.0, 40.0)),)
    value = loaded(field_decoder)
    sd3 = {"samples": torch.zeros(1, 16, 8, 8)}
    field = sockets.FieldValue(plans.Pixels())
    for wrong, says in (
        (lambda: guides.patched(toybox[0], guide(clip, values=side)), "no sides"),
        (lambda: guides.patched(toybox[0], guide(clip, values=degrees)), "not a panorama"),
        (lambda: guides.patched(latents[0], guide(clip)), "connect the model's VAE"),
        (lambda: guides.patched(comfy_models.mmdit(), guide(clip, decoder=value)), "4 channels, 8 pixels each"),
        (lambda: guides.patched(guides.patched(toybox[0], guide(clip)), guide(clip)), "guided already"),
        (lambda: grown((guides.patched(toybox[0], guide(clip)), *toybox[1:3]), steps, 64), "the plain model"),
        (lambda: grown(toybox[:3], steps, 64, guide(clip, values=side)), "no sides"),
        (lambda: TWO[0].region(flat=False), "no boxes"),
        (lambda: decoding.ResolutionFreeDecode.execute(sd3, 64, 0, 0, 0, 0, 0, 64, decoder=value), "trained for other"),
        (
            lambda: decoding.ResolutionFreeDecode.execute(field, 64, 0, 0, 0, 0, 0, 64, decoder=value),
            "needs no field decoder",
        ),
        (lambda: decoding.ResolutionFreeDecode.execute(sd3, 64, 0, 0, 0, 0, 0, 64), "needs a VAE"),
    ):
        with pytest.raises(ValueError, match=says) as raised:
            wrong()
        assert "\n" not in str(raised.value)


def test_a_broken_decoder_is_one_sentence(field_decoder, tmp_path, monkeypatch):
    whole = field_decoder.read_bytes()
    other = tmp_path / "other.safetensors"
    safetensors.torch.save_file({"x": torch.zeros(1)}, other)
    (tmp_path / "cut.safetensors").write_bytes(whole[: len(whole) // 2])
    monkeypatch.setitem(
        part("comfy_nodes.weights").folder_paths.folder_names_and_paths,
        weights.DECODERS,
        ([str(tmp_path)], {".safetensors"}),
    )
    for name, says in (("cut", "truncated"), ("other", "not a field decoder"), ("gone", "there is no file")):
        with pytest.raises(ValueError, match=says):
            decoders.LoadFieldDecoder.execute(f"{name}.safetensors")
    (tmp_path / "good.safetensors").write_bytes(whole)
    with torch.inference_mode():
        (value,) = decoders.LoadFieldDecoder.execute("good.safetensors").args
    assert not any(each.is_inference() for each in value.decoder.autoencoder.parameters())
    before = decoders.LoadFieldDecoder.fingerprint_inputs("good.safetensors")
    (tmp_path / "good.safetensors").write_bytes(whole + b" ")
    assert decoders.LoadFieldDecoder.fingerprint_inputs("good.safetensors") != before


def test_the_built_in_decoder_is_offered_if_it_is_there(monkeypatch, field_decoder):
    assert decoders.SHIPPED == part("core.pullback.generative.infd.model").DECODER
    for path, there in ((field_decoder, True), (field_decoder.with_name("gone"), False)):
        monkeypatch.setattr(decoders, "SHIPPED", path)
        (file,) = decoders.LoadFieldDecoder.define_schema().inputs
        assert (weights.BUILT_IN in file.options) is there
    with pytest.raises(ValueError, match="no built-in field decoder"):
        decoders.LoadFieldDecoder.execute(weights.BUILT_IN)
