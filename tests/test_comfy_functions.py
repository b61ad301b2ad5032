"""The nodes of models of functions: the core's numbers through ComfyUI's guider at any size, and what is made of files."""

from __future__ import annotations

import json
from dataclasses import asdict, replace

import numpy as np
import pytest
import torch
from comfy_pack import REASON, comfyui, part

if comfyui() is None:
    pytest.skip(REASON, allow_module_level=True)

import comfy.model_management
import comfy.samplers
import comfy.utils
import nodes as core_nodes
import safetensors.torch

functions, host, plans, signals, sockets, weights = (
    part(f"comfy_nodes.{name}") for name in ("functions", "host", "plans", "signals", "sockets", "weights")
)
builtin, decoding, storage = part("comfy_nodes.builtin"), part("comfy_nodes.decoding"), part("core.pullback.storage")
core, uses = (part(f"core.pullback.generative.infty_diff.{name}") for name in ("model", "uses"))
networks = part("core.pullback.generative.infty_diff.autoencoder")
sizes = part("core.pullback.generative.infty_diff.network")
dpf, designs, domains, dpf_network = (
    part(f"core.pullback.generative.dpf.{name}") for name in ("model", "design", "domains", "network")
)
shapes = part("core.pullback.functions")
samplers, cameras = part("core.pullback.samplers"), part("core.pullback.geometry.cameras")
Interrupted = comfy.model_management.InterruptProcessingException


@pytest.fixture(autouse=True)
def _threads():
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with models that know nothing: ∞-Diff with toybox's parts and in RGB without, and DPF of shapes and panoramas."""
    path = tmp_path_factory.mktemp("models")
    for name, more in (("tiny", {"toybox": True}), ("rgb", {"toybox": False, "depth": 1, "channels": 3})):
        torch.manual_seed(0)
        made = networks.Functions(sizes.Config(point_channels=8, blocks=1, latent=4, **more))
        for p in made.parameters():  # the zeros of a fresh network would hide mistakes
            if not p.any():
                torch.nn.init.normal_(p, std=0.05)
        metadata = {"format": core.FORMAT, "config": json.dumps(asdict(made.config)), "std": "1.0"}
        safetensors.torch.save_file(made.state_dict(), path / f"{name}.safetensors", metadata)
    for name, domain, channels in (("shape", "cube", 4), ("world", "sphere", 3)):
        made = dpf_network.FieldNetwork(tiny(domain, channels).network)
        metadata = {"format": dpf.FORMAT, "design": json.dumps(asdict(tiny(domain, channels)))}
        safetensors.torch.save_file(made.state_dict(), path / f"{name}.safetensors", metadata)
    return path


def tiny(domain, channels):
    """A small design of DPF."""
    return designs.preset_of(designs.PRESETS["tiny"], domains.domain_of(domain, channels), True).design


class Ball(dpf_network.FieldNetwork):
    """A network that expects a ball of radius 0.6 whatever it sees, of colours that are its coordinates."""

    def decode(self, encoding, query):
        inside = ((0.6 - query[0].norm(dim=-1, keepdim=True)) * 20).clamp(-1, 1)
        return torch.cat([inside, query[0]], -1)


@pytest.fixture
def ball(monkeypatch):
    """Instead of the built-in model of shapes: one that knows balls."""
    design = replace(tiny("cube", 4), predicted="x0", side=16)
    model = dpf.FieldModel(Ball(design.network).eval(), design, "ball", {})
    monkeypatch.setattr(dpf, "load_model", lambda name, domain: model)
    return model


@pytest.fixture(autouse=True)
def _listed(folder, monkeypatch):
    for kind in (weights.INFTY_DIFF, weights.DPF):
        monkeypatch.setitem(weights.folder_paths.folder_names_and_paths, kind, ([str(folder)], {".safetensors"}))


@pytest.fixture
def said(monkeypatch):
    """What the page is told."""
    told = []
    monkeypatch.setattr(builtin.notes, "say", told.append)
    return told


def of(folder, name):
    return core.load_model(folder / f"{name}.safetensors")


def loaded(name):
    """(model, clip, vae), made in inference mode, as ComfyUI makes them."""
    with torch.inference_mode():
        return functions.LoadFunctionModel.execute(f"{name}.safetensors").args


def encoded(clip, *texts):
    return [clip.encode_from_tokens_scheduled(clip.tokenize(text)) for text in texts]


def guider(model, clip, prompt, negative, cfg):
    made = comfy.samplers.CFGGuider(model)
    made.set_conds(*encoded(clip, prompt, negative))
    made.set_cfg(cfg)
    return made


def estimates(made, x, sigma, views):
    """What a guider estimates at a noise level of the core, as Field Sampler asks it."""
    seen, spread = [], signals.spread(*x.shape[-2:])

    class Once(comfy.samplers.Sampler):
        def sample(self, model_wrap, sigmas, extra_args, callback, noise, *_, **__):
            rungs = host.ladder(model_wrap.inner_model.model_sampling, sigmas, False, spread)
            assert rungs.sigmas[0].item() == pytest.approx(sigma)
            denoise = host.Denoiser(model_wrap, extra_args, rungs, True, set(), 2)
            seen.extend(denoise(x, torch.tensor(sigma), view) for view in views)
            return noise

    zeros = torch.zeros(2, *x.shape[1:])
    with torch.inference_mode():
        made.sample(zeros, zeros, Once(), torch.tensor([sigma / spread, 0.0]), disable_pbar=True, seed=0)
    return seen


# ∞-Diff as a MODEL.


@pytest.mark.parametrize("name, channels", [("tiny", 4), ("rgb", 3)])
@pytest.mark.parametrize(
    "prompt, negative, height, width, sigma",
    [("a red mushroom", "", 64, 64, 1.0), ("mountains at sunset", "a red car", 40, 32, 20.0), ("", "the sea", 96, 136, 6.0)],
)  # fmt: skip
def test_it_estimates_in_comfyui_what_the_core_estimates(
    folder, name, channels, prompt, negative, height, width, sigma
):
    """With and without a camera, with and without words, at sizes that share no ratio."""
    expected = of(folder, name).denoiser(prompt, negative, 2.0)
    views = (None, cameras.turntable(2))
    x = sigma * torch.randn(2, channels, height, width, generator=torch.Generator().manual_seed(0))
    got = estimates(guider(*loaded(name)[:2], prompt, negative, 2.0), x, sigma, views)
    for each, view in zip(got, views, strict=True):
        # Toybox weighs colourings by exponentials of sums over all pixels, which amplify rounding.
        torch.testing.assert_close(
            each, expected(x, torch.tensor(sigma), view), rtol=0, atol=3e-4 if name == "tiny" else 1e-5
        )
    assert (got[0] - got[1]).abs().max() > 1e-4


def sampled(folder, height, width, steps=2, scheduler="karras"):
    """What KSampler draws, and what the core draws at the same noise levels from the same noise."""
    model, clip, _ = loaded("tiny")
    with torch.inference_mode():
        (latent,) = functions.EmptyFunctionLatent.execute(width, height, 1).args
        made = core_nodes.KSampler().sample(
            model, 1, steps, 2.0, "euler", scheduler, *encoded(clip, "sea at noon", ""), latent
        )
    levels = comfy.samplers.calculate_sigmas(model.get_model_object("model_sampling"), scheduler, steps)
    return made[0]["samples"], levels


@pytest.mark.parametrize("height, width", [(48, 80), (96, 72)])
def test_a_latent_of_any_size_is_a_picture_and_noise_levels_follow_the_size(folder, height, width):
    drawn, levels = sampled(folder, height, width)
    expected, spread = of(folder, "tiny").denoiser("sea at noon", "", 2.0), max(1, min(height, width) / 64)
    assert levels[0].item() == pytest.approx(80) and levels[-2].item() == pytest.approx(0.03)
    x = comfy.sample.prepare_noise(torch.zeros(1, 4, height, width), 1) * spread * (1 + levels[0] ** 2).sqrt()
    for now, then in zip(levels[:-1].tolist(), levels[1:].tolist(), strict=True):
        x = samplers.ddim_step(expected, x, spread * now, spread * then, None, 0.0, None)
    torch.testing.assert_close(drawn, x, rtol=0, atol=1e-4)


def test_field_sampler_draws_the_same(folder):
    """A grid of pixels, at a size whose noise levels differ from ComfyUI's, from the same noise and from a picture."""
    drawn, levels = sampled(folder, 96, 72)
    model, clip, _ = loaded("tiny")
    grid = sockets.FieldValue(plans.Pixels(72, 96))
    with torch.inference_mode():
        made = guider(model, clip, "sea at noon", "", 2.0)
        field, latent, image = host.run(host.Sampling(), host.Seeded(1), made, levels, host.Request(grid))
    torch.testing.assert_close(latent["samples"], drawn, rtol=0, atol=1e-4)
    torch.testing.assert_close(field.field.params["pixels"], drawn, rtol=0, atol=1e-4)
    assert image.shape == (1, 96, 72, 3)
    low, high = grid.plan.recipe(signals.signal_of(model, None), 0).sigma
    assert high == pytest.approx(80 * 72 / 64) and low >= 0.03
    with torch.inference_mode():
        start = {"samples": drawn}
        onward = core_nodes.common_ksampler(
            model, 2, 2, 2.0, "euler", "karras", *encoded(clip, "sea at noon", ""), start, denoise=0.5
        )
        half = comfy.samplers.calculate_sigmas(model.get_model_object("model_sampling"), "karras", 4)[-3:]
        request = host.Request(grid, latent_image=start)
        again = host.run(host.Sampling(), host.Seeded(2), guider(model, clip, "sea at noon", "", 2.0), half, request)
    torch.testing.assert_close(again[1]["samples"], onward[0]["samples"], rtol=0, atol=1e-4)


def test_field_sampler_simple_s_levels_are_the_core_s(folder, monkeypatch):
    model, clip, _ = loaded("tiny")
    asked = []
    monkeypatch.setattr(host, "run", lambda job, noise, guider, sigmas, request: asked.append(sigmas))
    host.simple(guider(model, clip, "", "", 1.0), host.Request(sockets.FieldValue(plans.Pixels(128, 192))), 0, 5)
    high = of(folder, "tiny").sigma_range(192, 128)[1]
    assert asked[0][0].item() == pytest.approx(high / 2)
    assert asked[0][-2].item() == pytest.approx(plans.Pixels(128, 192).recipe(of(folder, "tiny"), 0).sigma[0] / 2)


def test_a_guide_sees_the_picture_at_any_size(folder):
    """KSampler with a guided MODEL draws what Field Sampler draws with the guide."""
    model, clip, _ = loaded("tiny")
    clips, layouts = part("comfy_nodes.clip"), part("comfy_nodes.layout")
    regions = (layouts.RegionValue.boxed("a red mushroom", (0, 16, 32, 32), (64, 64)),)
    with torch.inference_mode():
        (sees,) = clips.LoadCLIPGuideModel.execute(weights.BUILT_IN, "").args
        guide, guided, *_ = clips.MultiScaleCLIPGuide.execute(sees, regions, 1.0, False, model).args
        (latent,) = functions.EmptyFunctionLatent.execute(96, 96, 1).args
        words = encoded(clip, "", "")
        (drawn,) = core_nodes.KSampler().sample(guided, 1, 2, 1.0, "euler", "karras", *words, latent)
        (plain,) = core_nodes.KSampler().sample(model, 1, 2, 1.0, "euler", "karras", *words, latent)
        levels = comfy.samplers.calculate_sigmas(model.get_model_object("model_sampling"), "karras", 2)
        request = host.Request(sockets.FieldValue(plans.Pixels(96, 96)), guide=guide)
        _, field, _ = host.run(host.Sampling(), host.Seeded(1), guider(model, clip, "", "", 1.0), levels, request)
    torch.testing.assert_close(field["samples"], drawn["samples"], rtol=0, atol=1e-4)
    assert (drawn["samples"] - plain["samples"]).abs().max() > 1e-3


def test_its_vae_lays_pictures_on_white_and_back(folder):
    image = torch.rand(2, 40, 72, 3, generator=torch.Generator().manual_seed(0))
    clear = torch.full((1, 4, 40, 72), -1.0)
    for name, channels in (("tiny", 4), ("rgb", 3)):
        vae = loaded(name)[2]
        with torch.inference_mode():
            latents = vae.encode(image)
            assert latents.shape == (2, channels, 40, 72)
            torch.testing.assert_close(vae.decode(latents), image, rtol=0, atol=1e-6)
    with torch.inference_mode():
        assert (loaded("tiny")[2].decode(clear) == 1).all()


def test_previews_are_as_bright_as_pictures(folder):
    import latent_preview

    fmt = loaded("tiny")[0].get_model_object("latent_format")
    show = latent_preview.Latent2RGBPreviewer(
        fmt.latent_rgb_factors, fmt.latent_rgb_factors_bias, fmt.latent_rgb_factors_reshape
    )
    red = torch.tensor([1.0, -1.0, -1.0, 1.0])[None, :, None, None].expand(1, 4, 128, 128)
    shown = np.asarray(show.decode_latent_to_preview(red / signals.spread(128, 128)))
    assert (shown[..., 0] >= 254).all() and (shown[..., 1:] <= 1).all()


def test_fields_of_it_are_decoded_by_name_and_by_file(folder):
    pixels = torch.rand(1, 4, 32, 48) * 2 - 1
    grid = part("core.pullback.diffreps.image").PixelGrid((1, 4, 32, 48))
    for name in ("infty-diff", str(folder / "tiny.safetensors")):
        signal = signals.decoder(storage.Field(grid, {"pixels": pixels}, "", name), None)
        torch.testing.assert_close(signal.decode(pixels), of(folder, "tiny").decode(pixels))
        assert signal.decodes and signal.name == name
    with pytest.raises(ValueError, match="whose latents ComfyUI does not know"):
        signals.decoder(storage.Field(grid, {"pixels": pixels}, "", str(folder / "gone.safetensors")), None)


def test_prompts_are_weighed_and_unknown_words_named(folder, said):
    clip = loaded("tiny")[1]
    with torch.inference_mode():
        heavy, plain = (each[0][0] for each in encoded(clip, "(red:2.0) dragon mushroom", "red mushroom"))
        kinds = [encoded(clip, text)[0][0][1]["pooled_output"][0, 0] for text in ("", "the sea", "a ball")]
    torch.testing.assert_close(heavy[:, 1], 2 * plain[:, 1])
    assert kinds == [-1, 1, 0]
    assert len(said) == 1 and "'dragon'" in said[0]


# Its own nodes.


def _picture(height=24, width=32, count=1):
    return torch.rand(count, height, width, 3, generator=torch.Generator().manual_seed(0))


def _larger(image, scale="2", prompt="", seed=0, steps=2, model="tiny.safetensors"):
    with torch.inference_mode():
        return functions.UpscaleInftyDiff.execute(image, model, scale, prompt, seed, steps).args[0]


def _hole(height=40, width=32):
    hole = torch.zeros(1, height, width)
    hole[:, :20, 3:] = 1
    return hole


def _filled(image, mask, prompt="", seed=0, steps=2, model="tiny.safetensors"):
    with torch.inference_mode():
        return functions.FillInftyDiff.execute(image, mask, model, prompt, seed, steps).args[0]


@pytest.mark.parametrize("name, channels", [("tiny", 4), ("rgb", 3)])
def test_a_batch_is_enlarged_as_the_core_enlarges_it(folder, name, channels):
    image = _picture(count=2)
    large = _larger(image, prompt="a red car", seed=3, model=f"{name}.safetensors")
    for n in range(2):
        pixels = sockets.to_pixels(image)[n]
        pixels = np.concatenate([pixels, np.full((24, 32, 1), 255, np.uint8)], -1)[..., :channels]
        expected = uses.upscaled(of(folder, name), pixels, 2, "a red car", seed=3 + n, steps=2)
        torch.testing.assert_close(large[n], sockets.to_image(expected[None])[0], rtol=0, atol=1e-5)
    means = torch.nn.functional.avg_pool2d(large.movedim(-1, 1), 2).movedim(1, -1)
    assert (means - image).abs().mean() < 0.1 and large.shape == (2, 48, 64, 3)
    assert _larger(image[:1, :16, :16], "8", steps=1).shape == (1, 128, 128, 3)


def test_known_pixels_stay_bit_for_bit_and_the_rest_is_the_core_s(folder):
    image = _picture(40, 32, 2)
    filled = _filled(image, _hole(), "a red car", seed=3)
    kept = ~_hole()[0].bool()
    assert torch.equal(filled[:, kept], image[:, kept])
    for n in range(2):
        rgba = np.concatenate([sockets.to_pixels(image)[n], np.full((40, 32, 1), 255, np.uint8)], -1)
        mask = (_hole()[0, ..., None].expand(-1, -1, 3) * 255).byte().numpy()
        drawn = uses.filled(of(folder, "tiny"), rgba, mask, "a red car", seed=3 + n, steps=2)
        torch.testing.assert_close(filled[n, ~kept], torch.from_numpy(drawn)[~kept][:, :3] / 255, rtol=0, atol=0.005)
    other = _hole().flip(1)
    both = _filled(image, torch.cat([_hole(), other]), seed=2**64 - 1)
    assert torch.equal(both[0], _filled(image[:1], _hole(), seed=2**64 - 1)[0])
    assert torch.equal(both[1], _filled(image[1:], other, seed=0)[0])


def _shape(prompt="a red ball", model="dpf-shapes", seed=0, steps=2, cfg=1.0, resolution=20, faces=300, texture=32):
    with torch.inference_mode():
        given = prompt, model, seed, steps, cfg, resolution, faces, texture
        return functions.SampleShapeDPF.execute(*given).args[0]


def test_a_shape_is_the_core_s_as_a_mesh(ball):
    mesh = _shape(seed=4)
    surface, picture = shapes.shape(ball, "a red ball", 4, 2, 1.0, 20, 300, 32)
    expected = sockets.to_gltf(torch.from_numpy(surface.vertices).float())
    torch.testing.assert_close(mesh.vertices[0], expected)
    assert torch.equal(mesh.faces[0], torch.from_numpy(surface.faces))
    assert torch.equal((mesh.texture[0] * 255).round().byte(), torch.from_numpy(picture))
    assert mesh.vertices[0].norm(dim=1).mean().item() == pytest.approx(0.6, abs=0.1)
    assert getattr(_shape(texture=0), "texture", None) is None
    assert _shape(seed=2**64 - 1).faces.shape[-1] == 3


# What all of them do.


def test_cancel_stops_anywhere_and_the_bar_counts_up(folder, ball, monkeypatch):
    told, ticks = [], []
    monkeypatch.setattr(comfy.utils, "PROGRESS_BAR_HOOK", lambda v, n, p, node_id=None: told.append((v, n)))

    def stop():
        ticks.append(None)
        if len(ticks) == limit:
            raise Interrupted

    monkeypatch.setattr(functions, "tick", stop)
    for run, total in (
        (lambda: _larger(_picture(count=2)), 4),
        (lambda: _filled(_picture(40, 32), _hole()), len(part("core.pullback.schedules").repaint(2, 2, 2))),
        (_shape, 4),
    ):
        limit = 0  # never
        ticks.clear()
        told.clear()
        run()
        assert told == sorted(told) and told[-1] == (total, total)
        assert len(ticks) > 10 * total
        for limit in (1, 10 * total):
            ticks.clear()
            with pytest.raises(Interrupted):
                run()
            assert len(ticks) == limit


def test_what_does_not_fit_is_one_sentence(folder, said):
    (folder / "cut.safetensors").write_bytes((folder / "tiny.safetensors").read_bytes()[:-50])
    image, black = _picture(40, 32), torch.zeros(1, 40, 32)
    toybox = builtin.load()
    (latent,) = functions.EmptyFunctionLatent.execute(640, 64, 1).args

    def drawn(clip, latent):
        model = loaded("tiny")[0]
        return core_nodes.KSampler().sample(model, 0, 1, 1.0, "euler", "simple", *encoded(clip, "a ball", ""), latent)

    for wrong, says in (
        (lambda: _filled(image, black), "black everywhere"),
        (lambda: _filled(image, 1 - black), "white everywhere"),
        (lambda: _filled(image, _hole().expand(3, -1, -1)), "3 masks for 1 pictures"),
        (lambda: _filled(image, torch.ones(1, 20, 32)), "mask has 32 x 20 pixels and the picture 32 x 40"),
        (lambda: _filled(image[:, :20], _hole()[:, :20] * 0.9), "at least 32 pixels on each side, not 32 x 20"),
        (lambda: _filled(image, _hole(), "a dragon"), "'dragon'.*the help page of Toybox Loader"),
        (lambda: _filled(image, _hole(), model="gone.safetensors"), "there is no file 'gone.safetensors'"),
        (lambda: _filled(image, _hole(), model="cut.safetensors"), "truncated"),
        (lambda: _filled(image, _hole(), model="shape.safetensors"), "is no infty-diff model"),
        (lambda: _larger(image, model="shape.safetensors"), "is no infty-diff model"),
        (lambda: _larger(torch.zeros(1, 8, 8, 3)), "at least 32 pixels on each side, not 16 x 16"),
        (lambda: _larger(torch.zeros(1, 32, 512, 3)), "at most 8 times as long as wide"),
        (lambda: _larger(torch.zeros(1, 512, 512, 3), "8"), "would have 4096 x 4096 pixels"),
        (lambda: _shape("a red dragon", "shape.safetensors"), "does not know 'dragon'"),
        (lambda: _shape("the sea", "shape.safetensors"), "does not know 'sea'"),
        (lambda: _shape(model="world.safetensors"), "draws panoramas, not shapes"),
        (lambda: _shape(model="tiny.safetensors"), "is no model of functions"),
        (lambda: drawn(loaded("tiny")[1], latent), "at most 8 times as long as wide, not 640 x 64"),
        (lambda: drawn(toybox[1], {"samples": torch.zeros(1, 4, 64, 64)}), "Load Function Model's CLIP"),
    ):
        with pytest.raises(ValueError, match=says) as raised, torch.inference_mode():
            wrong()
        assert "\n" not in str(raised.value)


def test_choices_and_limits_are_the_core_s(folder):
    assert signals.FUNCTIONS == core.NAME and functions.SHAPES in dpf.SHIPPED
    assert tuple(map(int, functions.SCALES)) == uses.SCALES
    (image, *_) = functions.FillInftyDiff.define_schema().inputs
    assert f"least {core.SMALLEST} pixels" in image.tooltip and f"most {uses.MOST_PIXELS} pixels" in image.tooltip
    limits = {each.name: (each.low, each.high) for each in shapes.SHAPE}
    ours = {each.id: each for each in functions.SampleShapeDPF.define_schema().inputs}
    for name in ("steps", "resolution", "faces"):
        assert (ours[name].min, ours[name].max) == limits[name]


def test_files_are_offered_after_the_built_in_models_and_a_changed_one_runs_again(folder):
    listed = sorted(path.name for path in folder.glob("*.safetensors"))
    for node in functions.NODES:
        for each in node.define_schema().inputs:
            if each.id != "model":
                continue
            assert each.options[0] in (signals.FUNCTIONS, functions.SHAPES) and sorted(each.options[1:]) == listed
            before = node.fingerprint_inputs(model="rgb.safetensors")
            assert before == node.fingerprint_inputs(model="rgb.safetensors")
            path = folder / "rgb.safetensors"
            path.touch()
            assert node.fingerprint_inputs(model="rgb.safetensors") != before
            assert node.fingerprint_inputs(model=each.options[0]) == each.options[0]
