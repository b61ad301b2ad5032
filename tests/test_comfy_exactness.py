"""With the identity field, Field Sampler is SamplerCustomAdvanced: real ComfyUI objects, every kind of model."""

from __future__ import annotations

import pytest
import torch
from comfy_pack import REASON, comfyui, part

if comfyui() is None:
    pytest.skip(REASON, allow_module_level=True)

import comfy.model_management
import comfy.sample
import comfy.samplers
import comfy_models

host, plans, sockets, sampling = (part(f"comfy_nodes.{name}") for name in ("host", "plans", "sockets", "sampling"))


@pytest.fixture(autouse=True)
def _threads():
    torch.set_num_threads(1)  # for models as small as these, two threads mostly wait for each other


@pytest.fixture(scope="module")
def toybox():
    model, clip, _ = part("comfy_nodes.builtin").load()
    positive, negative = (clip.encode_from_tokens_scheduled(clip.tokenize(t)) for t in ("a red mushroom", ""))
    return model, positive, negative, 4, 64


@pytest.fixture(scope="module", params=["eps", "v", "flow", "frames", "toybox"])
def kind(request):
    """(model, positive, negative, channels, size) of each kind."""
    if request.param == "toybox":
        return request.getfixturevalue("toybox")
    model = {
        "eps": lambda: comfy_models.unet("EPS"), "v": lambda: comfy_models.unet("V_PREDICTION"), "flow": comfy_models.mmdit,
        "frames": comfy_models.qwen,
    }[request.param]()  # fmt: skip
    channels = 16 if request.param in ("flow", "frames") else 4
    return model, comfy_models.conditioning(1), comfy_models.conditioning(2), channels, 16


def guider(model, positive, negative, cfg=3.0):
    made = comfy.samplers.CFGGuider(model)
    made.set_conds(positive, negative)
    made.set_cfg(cfg)
    return made


def theirs(made, noise, sigmas, sampler, latent, mask=None):
    """What SamplerCustomAdvanced does."""
    # this adds the dimension of frames for models that have them
    latent = comfy.sample.fix_empty_latent_channels(made.model_patcher, latent)
    drawn = noise.generate_noise({"samples": latent})
    return made.sample(
        drawn, latent, comfy.samplers.sampler_object(sampler), sigmas, mask, disable_pbar=True, seed=noise.seed
    )


def ours(made, noise, sigmas, size, latent=None, mask=None, **job):
    field = sockets.FieldValue(plans.Pixels(size, size))
    picture = None if latent is None else {"samples": latent}
    asked = host.Request(field, latent_image=picture, mask=mask)
    _, latents, _ = host.run(host.Sampling(**job), noise, made, sigmas, asked)
    return latents["samples"]


@pytest.mark.parametrize("sampler", ["euler", "ddim"])
@pytest.mark.parametrize("scheduler", ["simple", "normal"])
def test_the_identity_field_is_comfyui_s_own_sampler(kind, sampler, scheduler):
    model, positive, negative, channels, size = kind
    sigmas = comfy.samplers.calculate_sigmas(model.get_model_object("model_sampling"), scheduler, 6)
    noise = host.Seeded(3)
    scale = 1 if size == 64 else 8
    with torch.inference_mode():
        expected = theirs(
            guider(model, positive, negative), noise, sigmas, sampler, torch.zeros(1, channels, size, size)
        )
        got = ours(guider(model, positive, negative), noise, sigmas, scale * size)
    assert expected.std() > 0.05 and expected.isfinite().all()  # or the comparison says nothing
    assert (got - expected).abs().max() < 1e-4 * max(1.0, float(expected.abs().max()))


@pytest.mark.parametrize("start", [0, 4])
@pytest.mark.parametrize("masked", ["", "hard", "soft", "differential"])
def test_from_a_picture_the_identity_field_is_comfyui_s_own_sampler_too(kind, masked, start):
    """Image to image, and a part of the picture kept: by masks with an edge, soft ones, and those of Differential Diffusion."""
    model, positive, negative, channels, size = kind
    if start == 0 and not masked:
        pytest.skip("nothing is left of a picture at full denoise")
    random = torch.Generator().manual_seed(5)
    latent = torch.rand(1, channels, size, size, generator=random) - 0.5
    mask = torch.rand(1, size, size, generator=random) if masked else None
    mask = (mask > 0.5).float() if masked == "hard" else mask
    if masked == "differential":
        from comfy_extras.nodes_differential_diffusion import DifferentialDiffusion

        (model,) = DifferentialDiffusion.execute(model).args
    sigmas = comfy.samplers.calculate_sigmas(model.get_model_object("model_sampling"), "normal", 8)[start:]
    noise, scale = host.Seeded(3), 1 if size == 64 else 8
    with torch.inference_mode():
        expected = theirs(guider(model, positive, negative), noise, sigmas, "euler", latent, mask)
        got = ours(guider(model, positive, negative), noise, sigmas, scale * size, latent, mask)
        plain = ours(guider(model, positive, negative), noise, sigmas, scale * size)
    assert (expected - plain).abs().max() > 0.05  # or the picture took no part
    assert (got - expected).abs().max() < 1e-4 * max(1.0, float(expected.abs().max()))


def test_the_negative_and_cfg_change_the_result(kind):
    model, positive, negative, _, size = kind
    sigmas = comfy.samplers.calculate_sigmas(model.get_model_object("model_sampling"), "simple", 2)
    scale = 1 if size == 64 else 8
    with torch.inference_mode():
        first = ours(guider(model, positive, negative), host.Seeded(3), sigmas, scale * size)
        for other in (guider(model, negative, positive), guider(model, positive, negative, 1.0)):
            assert (ours(other, host.Seeded(3), sigmas, scale * size) - first).abs().max() > 1e-3


@pytest.mark.parametrize(
    "prompt, negative",
    [
        ("a red mushroom", ""), ("mountains at sunset", ""), ("mountains at sunset", "a red car"),
        ("a red mushroom", "the sea"),
    ],
)  # fmt: skip
def test_toybox_in_comfyui_is_the_core_s_toybox(toybox, prompt, negative):
    """One denoising step through the guider equals the core's denoiser, with and without a camera."""
    model, words = toybox[0], part("comfy_nodes.builtin").load()[1]
    core = part("core.pullback.generative.toybox.model").ToyboxModel().denoiser(prompt, negative, 2.0)
    cameras = part("core.pullback.geometry.cameras").turntable(3)
    outward = part("core.pullback.geometry.sphere").headings(torch.arange(3.0), torch.tensor([-0.5, 0.0, 0.5]), 1.0)
    views = {"none": None, "cameras": cameras, "headings": outward}
    x = torch.randn(3, 4, 64, 64, generator=torch.Generator().manual_seed(0))
    seen = {}

    class Once(comfy.samplers.Sampler):
        def sample(self, model_wrap, sigmas, extra_args, callback, noise, *_, **__):
            rungs = host.ladder(model_wrap.inner_model.model_sampling, sigmas)
            denoise = host.Denoiser(model_wrap, extra_args, rungs, True, set(), 2)
            for sigma in (2.0, 0.5):  # with light and without
                for name, view in views.items():
                    seen[sigma, name] = denoise(sigma * x, torch.tensor(sigma), view)
            return noise

    sigmas = torch.tensor([2.0, 0.5, 0.0])
    encoded = (words.encode_from_tokens_scheduled(words.tokenize(text)) for text in (prompt, negative))
    made = guider(model, *encoded, 2.0)
    made.sample(torch.zeros(2, 4, 64, 64), torch.zeros(2, 4, 64, 64), Once(), sigmas, disable_pbar=True, seed=0)
    for (sigma, name), got in seen.items():
        assert torch.allclose(got, core(sigma * x, torch.tensor(sigma), views[name]), atol=2e-5), (sigma, name)
    assert (seen[2.0, "none"] - seen[2.0, "cameras"]).abs().max() > 0.05


def test_each_side_is_denoised_with_its_own_conditioning():
    """With one conditioning per side, a view's estimate is what its side's conditioning alone would give."""
    model = comfy_models.unet("EPS")
    positive, negative, front, back = (comfy_models.conditioning(i) for i in range(4))
    cameras = part("core.pullback.geometry.cameras").turntable(4)  # front, side, back, side
    x = torch.randn(4, 4, 16, 16, generator=torch.Generator().manual_seed(0))

    def once(words, sides, told=True):
        seen = []

        class Once(comfy.samplers.Sampler):
            def sample(self, model_wrap, sigmas, extra_args, callback, noise, *_, **__):
                rungs = host.ladder(model_wrap.inner_model.model_sampling, sigmas)
                denoise = host.Denoiser(model_wrap, extra_args, rungs, told, set(sides), 4)
                seen.append(denoise(x, torch.tensor(1.0), cameras))
                return noise

        made = host._sided(guider(model, words, negative), sides)
        zeros = torch.zeros(4, 4, 16, 16)
        made.sample(zeros, zeros, Once(), torch.tensor([1.0, 0.0]), disable_pbar=True, seed=0)
        return seen[0]

    plain, fronts, backs = (once(words, {}) for words in (positive, front, back))
    told = once(positive, {"front": front, "back": back})
    expected = torch.stack([fronts[0], plain[1], backs[2], plain[3]])
    assert torch.allclose(told, expected, atol=1e-5)
    assert (fronts[0] - plain[0]).abs().max() > 1e-3  # or there was nothing to tell
    assert torch.allclose(once(positive, {"front": front}, told=False), plain, atol=1e-5)


@pytest.fixture
def batches():
    """(a model, the batches that it is shown). It runs out of memory at more views than `most[0]`."""
    model, seen, most = comfy_models.unet("EPS"), [], [64]

    def watched(apply, args):
        views = len(args["input"]) // len(args["cond_or_uncond"])
        if views > most[0]:
            raise comfy.model_management.OOM_EXCEPTION("out of memory")
        seen.append(views)
        return apply(args["input"], args["timestep"], **args["c"])

    model.set_model_unet_function_wrapper(watched)
    return model, seen, most


def test_the_result_does_not_depend_on_how_many_views_fit_into_memory(batches, monkeypatch):
    """Seven views give the same x0_hat in one batch, in smaller batches, one by one, and after running out of memory."""
    model, seen, most = batches
    cameras = part("core.pullback.geometry.cameras").turntable(7)
    x = torch.randn(7, 4, 16, 16, generator=torch.Generator().manual_seed(0))

    class Once(comfy.samplers.Sampler):
        def sample(self, model_wrap, sigmas, extra_args, callback, noise, *_, **__):
            rungs = host.ladder(model_wrap.inner_model.model_sampling, sigmas)
            return host.Denoiser(model_wrap, extra_args, rungs, True, set(), 7)(x, torch.tensor(1.0), cameras)

    def denoised():
        seen.clear()
        made = guider(model, comfy_models.conditioning(1), comfy_models.conditioning(2))
        return made.sample(x, torch.zeros_like(x), Once(), torch.tensor([1.0, 0.0]), disable_pbar=True, seed=0)

    whole = denoised()
    assert seen == [7]
    three = 1.5 * model.model.memory_required([3, 4, 16, 16])
    for free, sizes in ((three * 1.01, [3, 3, 1]), (three / 30, [1] * 7)):
        monkeypatch.setattr(part("comfy_nodes.memory"), "free", lambda _, free=free: free)
        assert (denoised() - whole).abs().max() < 1e-5 * whole.abs().max()
        assert seen == sizes
    monkeypatch.undo()
    most[0] = 2
    assert (denoised() - whole).abs().max() < 1e-5 * whole.abs().max() and max(seen) <= 2


def test_a_model_is_loaded_for_as_many_views_as_fit_beside_it(batches, monkeypatch):
    model, seen, _ = batches
    one = 1.5 * model.model.memory_required([1, 4, 8, 8])
    monkeypatch.setattr(
        comfy.model_management, "get_total_memory", lambda *_, **__: model.model_size() + 4.5 * one
        + comfy.model_management.extra_reserved_memory(),
    )  # fmt: skip
    field = sockets.FieldValue(plans.Fresh.of("siren-sphere", 6, view_size=64, neurons=16, depth=1))
    made = guider(model, comfy_models.conditioning(1), comfy_models.conditioning(2))
    with torch.inference_mode():
        host.run(host.Sampling(), host.Seeded(0), made, torch.tensor([2.0, 1.0, 0.0]), host.Request(field))
    assert max(seen) == 4 and sum(seen[:2]) == 6


def test_an_unfinished_graph_says_what_is_missing(toybox):
    model, positive, negative, *_ = toybox
    sigmas = torch.tensor([2.0, 1.0, 0.0])
    run = lambda job, value, **more: host.run(
        job, host.Seeded(0), guider(model, positive, negative), more.get("sigmas", sigmas), host.Request(value)
    )
    fresh = sockets.FieldValue(plans.Fresh("siren-image"))
    for job, value, more, says in (
        (host.Sampling(repaint=(1, 2)), fresh, {}, "repaint needs fresh noise"),
        (host.Sampling(), fresh, {"sigmas": torch.tensor([1.0, 2.0, 0.0])}, "fall"),
        (
            host.Sampling(solver="gauss-newton"),
            sockets.FieldValue(plans.Fresh("voxel-radiance")),
            {},
            "gauss-newton needs",
        ),
        (
            host.Sampling(),
            sockets.FieldValue(plans.Fresh.of("siren-image", view_width=128, view_height=128)),
            {},
            "64 x 64",
        ),
    ):
        with pytest.raises(ValueError, match=says):
            run(job, value, **more)


def test_models_that_do_not_make_pictures_are_refused(toybox):
    import comfy.latent_formats

    signals = part("comfy_nodes.signals")

    class Patcher:
        def __init__(self, fmt):
            self.fmt = fmt

        def get_model_object(self, name):
            return self.fmt if name == "latent_format" else toybox[0].get_model_object(name)

    for name in ("Hunyuan3Dv2", "StableAudio1", "ACEAudio"):
        with pytest.raises(ValueError, match="image models only"):
            signals.signal_of(Patcher(getattr(comfy.latent_formats, name)()), None)

    class Vae:
        latent_channels = 16

    with pytest.raises(ValueError, match="connect the VAE of the model"):
        signals.signal_of(Patcher(comfy.latent_formats.SD15()), Vae())


def test_a_model_that_returns_nan_is_named():
    model = comfy_models.unet("EPS")
    model.set_model_sampler_post_cfg_function(lambda args: args["denoised"] * float("nan"))
    made = guider(model, comfy_models.conditioning(1), comfy_models.conditioning(2))
    with pytest.raises(ValueError, match="not finite"), torch.inference_mode():
        ours(made, host.Seeded(0), torch.tensor([2.0, 1.0, 0.0]), 128)


def test_the_last_picture_is_not_rendered_again():
    made = []
    render = host.Remembered(lambda params, view: made.append(view) or 2 * params["x"])
    one, other = {"x": torch.ones(1, requires_grad=True)}, {"x": torch.zeros(1)}
    with torch.no_grad():
        assert [float(render(p, v)) for p, v in ((one, None), (one, None), (other, None), (one, 1))] == [2, 2, 0, 2]
    assert len(made) == 3
    assert render(one, 1).requires_grad and len(made) == 4  # a fit needs the gradient
