"""The diffusers adapter against diffusers' own pipelines: tiny random weights in the real classes, no network."""

from __future__ import annotations

import itertools
import json
import math
import shutil
import socket
from pathlib import Path

import pytest
import torch

reason = 'needs diffusers and transformers: pip install "pullback[diffusers]"'
diffusers = pytest.importorskip("diffusers", reason=reason)
transformers = pytest.importorskip("transformers", reason=reason)

from pullback import schedules  # noqa: E402
from pullback.adapters import diffusers as adapter  # noqa: E402
from pullback.adapters.view_words import view_words, with_view  # noqa: E402
from pullback.diffreps.image import PixelGrid  # noqa: E402
from pullback.geometry.cameras import orbit, turntable  # noqa: E402
from pullback.guidance import guided  # noqa: E402
from pullback.noise import FixedViews  # noqa: E402
from pullback.pull import Pull, start  # noqa: E402
from pullback.solvers import GaussNewton  # noqa: E402
from safetensors.torch import load_file, save_file  # noqa: E402

PROMPT, NEGATIVE = "a red mushroom", "blurry"
SCHEDULE = {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012}
F64 = torch.float64


@pytest.fixture(autouse=True)
def no_network(monkeypatch):
    """Whoever opens a connection fails: nothing is ever downloaded."""

    def refuse(*_):
        raise AssertionError("a connection was opened")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


# Tiny models.


def tokenizer(folder: Path):
    """CLIP's tokenizer with a vocabulary of single characters, and the size of that vocabulary."""
    folder.mkdir(parents=True, exist_ok=True)
    characters = [chr(code) for code in range(33, 127)]
    words = [*characters, *(c + "</w>" for c in characters), "<|startoftext|>", "<|endoftext|>"]
    (folder / "vocab.json").write_text(json.dumps({word: number for number, word in enumerate(words)}))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    return transformers.CLIPTokenizer.from_pretrained(folder, model_max_length=77), len(words)


def text_encoder(count: int, width: int, projected: bool):
    config = transformers.CLIPTextConfig(
        vocab_size=count, hidden_size=width, intermediate_size=2 * width, num_hidden_layers=2, num_attention_heads=4,
        projection_dim=width, bos_token_id=count - 2, eos_token_id=count - 1, pad_token_id=count - 1,
        initializer_factor=5.0,
    )  # fmt: skip
    return (transformers.CLIPTextModelWithProjection if projected else transformers.CLIPTextModel)(config)


def autoencoder(channels: int = 4, **kwargs):
    return diffusers.AutoencoderKL(
        block_out_channels=(32, 32), down_block_types=["DownEncoderBlock2D"] * 2,
        up_block_types=["UpDecoderBlock2D"] * 2, latent_channels=channels, norm_num_groups=8, **kwargs,
    )  # fmt: skip


def unet(**kwargs):
    return diffusers.UNet2DConditionModel(
        sample_size=8, block_out_channels=(32, 64), layers_per_block=1, norm_num_groups=8,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"), up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        **kwargs,
    )  # fmt: skip


def ddim(**kwargs):
    return diffusers.DDIMScheduler(**{**SCHEDULE, "clip_sample": False, "steps_offset": 1, **kwargs})


def build_sd(folder: Path, **scheduler) -> Path:
    torch.manual_seed(0)
    words, count = tokenizer(folder / "words")
    pipe = diffusers.StableDiffusionPipeline(
        vae=autoencoder(), text_encoder=text_encoder(count, 32, False), tokenizer=words,
        unet=unet(cross_attention_dim=32), scheduler=ddim(**scheduler),
        safety_checker=None, feature_extractor=None, requires_safety_checker=False,
    )  # fmt: skip
    pipe.save_pretrained(folder / "model", safe_serialization=True)
    return folder / "model"


def build_xl(folder: Path) -> Path:
    torch.manual_seed(1)
    words, count = tokenizer(folder / "words")
    pipe = diffusers.StableDiffusionXLPipeline(
        vae=autoencoder(), text_encoder=text_encoder(count, 32, False), text_encoder_2=text_encoder(count, 16, True),
        tokenizer=words, tokenizer_2=words,
        scheduler=diffusers.EulerDiscreteScheduler(**SCHEDULE, steps_offset=1, timestep_spacing="leading"),
        unet=unet(
            cross_attention_dim=48, addition_embed_type="text_time", addition_time_embed_dim=8,
            projection_class_embeddings_input_dim=6 * 8 + 16,
        ),
    )  # fmt: skip
    pipe.save_pretrained(folder / "model", safe_serialization=True)
    return folder / "model"


def build_sd3(folder: Path) -> Path:
    torch.manual_seed(2)
    words, count = tokenizer(folder / "words")
    pipe = diffusers.StableDiffusion3Pipeline(
        transformer=diffusers.SD3Transformer2DModel(
            sample_size=8, patch_size=2, in_channels=16, num_layers=2, attention_head_dim=8, num_attention_heads=4,
            joint_attention_dim=64, caption_projection_dim=32, pooled_projection_dim=48, out_channels=16,
            pos_embed_max_size=16,
        ),
        scheduler=diffusers.FlowMatchEulerDiscreteScheduler(shift=3.0),
        vae=autoencoder(16, scaling_factor=1.5305, shift_factor=0.0609),
        text_encoder=text_encoder(count, 32, True), tokenizer=words,
        text_encoder_2=text_encoder(count, 16, True), tokenizer_2=words, text_encoder_3=None, tokenizer_3=None,
    )  # fmt: skip
    pipe.save_pretrained(folder / "model", safe_serialization=True)
    return folder / "model"


BUILDERS = {
    "eps": lambda folder: build_sd(folder, set_alpha_to_one=False),
    "v": lambda folder: build_sd(folder, prediction_type="v_prediction"),
    "xl": build_xl,
    "sd3": build_sd3,
}


class Lazy(dict):
    """A dict whose values are made when they are first asked for."""

    def __init__(self, make):
        super().__init__()
        self.make = make

    def __missing__(self, name):
        return self.setdefault(name, self.make(name))


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """The folder of each family, by name. Read only: the tests that break one copy it."""
    return Lazy(lambda name: BUILDERS[name](tmp_path_factory.mktemp(name)))


@pytest.fixture(scope="module")
def models(folders):
    return Lazy(lambda name: adapter.load(folders[name], dtype=F64))


def theirs(folder: Path, dtype=F64):
    """The pipeline as diffusers loads it."""
    name = json.loads((folder / "model_index.json").read_text())["_class_name"]
    absent = {"text_encoder_3": None, "tokenizer_3": None} if "3" in name else {}
    pipe = getattr(diffusers, name).from_pretrained(folder, torch_dtype=dtype, **absent)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def noise(model, *shape: int, seed: int = 0, dtype=F64) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*(shape or (1, model.channels, model.size, model.size)), generator=generator, dtype=dtype)


def euler(denoise, x: torch.Tensor, sigmas: torch.Tensor) -> torch.Tensor:
    """Euler steps of the probability flow dx / dsigma = (x - D) / sigma: in this form they are DDIM with eta 0."""
    for now, then in itertools.pairwise(sigmas):
        target = denoise(x, now, None)
        x = target + then / now * (x - target)
    return x


def gap(a: torch.Tensor, b: torch.Tensor) -> float:
    return float((a - b).abs().max())


# The same samples as diffusers draws.


@pytest.mark.parametrize("guidance", [1.0, 5.0])
@pytest.mark.parametrize("name", ["eps", "v"])
def test_sd_sample_is_the_pipelines(folders, models, name, guidance):
    model, pipe, latents = models[name], theirs(folders[name]), noise(models[name])
    options = {"negative_prompt": NEGATIVE, "num_inference_steps": 8, "output_type": "latent", "latents": latents}
    expected = pipe(PROMPT, guidance_scale=guidance, **options).images
    table = schedules.table_of(pipe.scheduler.alphas_cumprod)
    sigmas = schedules.from_table(table, 8, "leading", 1)
    if not pipe.scheduler.config.set_alpha_to_one:
        sigmas[-1] = table[0]
    got = euler(model.denoiser(PROMPT, NEGATIVE, guidance), latents * (1 + sigmas[0] ** 2).sqrt(), sigmas)
    got = got / (1 + sigmas[-1] ** 2).sqrt()
    assert gap(expected, latents) > 0.1
    assert gap(got, expected) < 1e-5


@pytest.mark.parametrize("name", ["eps", "v", "sd3"])
def test_the_identity_field_is_the_pipelines_sample(folders, models, name):
    """The pulled-back sampler with theta = the latents themselves ends where the diffusers pipeline does."""
    model, pipe, latents = models[name], theirs(folders[name]), noise(models[name])
    options = {"negative_prompt": NEGATIVE, "output_type": "latent", "latents": latents, "guidance_scale": 4.0}
    if name == "sd3":
        times = [0.98, 0.8, 0.6, 0.4, 0.2]
        expected = pipe(PROMPT, sigmas=times, num_inference_steps=5, **options).images
        t = pipe.scheduler.sigmas.double()
        sigmas, begin = t / (1 - t), latents / (1 - t[0])
    else:
        pipe.scheduler = ddim(prediction_type="v_prediction" if name == "v" else "epsilon")
        expected = pipe(PROMPT, num_inference_steps=8, **options).images
        sigmas = schedules.from_table(schedules.table_of(pipe.scheduler.alphas_cumprod), 8, "leading", 1)
        begin = latents * (1 + sigmas[0] ** 2).sqrt()
    views, solver = FixedViews(None, tuple(latents.shape), F64), GaussNewton(1, 3, 0.0)
    pull = Pull(
        PixelGrid(tuple(latents.shape)),
        model.denoiser(PROMPT, NEGATIVE, 4.0),
        views,
        solver,
        sigmas,
        schedules.repaint(len(sigmas) - 1),
    )
    random = torch.Generator().manual_seed(0)
    state = start({"pixels": torch.zeros_like(latents)}, views, solver, random, begin / sigmas[0])
    assert gap(pull(state, random).params["pixels"], expected) < 1e-4


def test_sd_sample_is_the_pipelines_in_float32(folders):
    model, pipe = adapter.load(folders["eps"]), theirs(folders["eps"], torch.float32)
    pipe.scheduler = ddim()
    latents = noise(model, dtype=torch.float32)
    options = {"num_inference_steps": 10, "output_type": "latent", "latents": latents, "guidance_scale": 7.5}
    expected = pipe(PROMPT, negative_prompt="", **options).images
    sigmas = schedules.from_table(schedules.table_of(pipe.scheduler.alphas_cumprod), 10).float()
    got = euler(model.denoiser(PROMPT, "", 7.5), latents * (1 + sigmas[0] ** 2).sqrt(), sigmas)
    assert got.dtype == torch.float32
    assert gap(got, expected) < 1e-4


@pytest.mark.parametrize("negative", ["", NEGATIVE])
def test_xl_sample_is_the_pipelines(folders, models, negative):
    model, pipe, latents = models["xl"], theirs(folders["xl"]), noise(models["xl"])
    sigmas = schedules.from_table(schedules.table_of(pipe.scheduler.alphas_cumprod), 8)
    options = {"num_inference_steps": 8, "output_type": "latent", "latents": latents, "guidance_scale": 5.0}
    expected = pipe(PROMPT, negative_prompt=negative or None, **options).images
    start = latents * (1 + sigmas[0] ** 2).sqrt()
    assert gap(euler(model.denoiser(PROMPT, negative, 5.0), start, sigmas), expected) < 1e-4
    assert gap(euler(model.denoiser(PROMPT, "other", 5.0), start, sigmas), expected) > 1e-2


def test_xl_is_told_at_least_its_own_size_as_the_original(folders, models):
    model, pipe = models["xl"], theirs(folders["xl"])
    latents = noise(model, 1, 4, 4, 8)
    told = {"original_size": (16, 16), "target_size": (8, 16), "height": 8, "width": 16}
    options = {"num_inference_steps": 1, "output_type": "latent", "latents": latents, "guidance_scale": 1.0}
    expected = pipe(PROMPT, **told, **options).images
    sigmas = schedules.from_table(schedules.table_of(pipe.scheduler.alphas_cumprod), 1)
    got = euler(model.denoiser(PROMPT, "", 1.0), latents * (1 + sigmas[0] ** 2).sqrt(), sigmas)
    assert gap(got, expected) < 1e-4


@pytest.mark.parametrize("guidance", [1.0, 4.0])
def test_sd3_sample_is_the_pipelines(folders, models, guidance):
    model, pipe, latents = models["sd3"], theirs(folders["sd3"]), noise(models["sd3"])
    times = [0.98, 0.8, 0.6, 0.4, 0.2]  # diffusers begins at t = 1, where sigma is infinite: begin below it
    options = {"sigmas": times, "num_inference_steps": 5, "output_type": "latent", "latents": latents}
    expected = pipe(PROMPT, negative_prompt=NEGATIVE, guidance_scale=guidance, **options).images
    t = pipe.scheduler.sigmas.double()
    got = euler(model.denoiser(PROMPT, NEGATIVE, guidance), latents / (1 - t[0]), t / (1 - t))
    assert gap(expected, latents) > 0.1
    assert gap(got, expected) < 1e-5


# Guidance.


@pytest.mark.parametrize("name", ["eps", "v", "xl", "sd3"])
def test_guidance_is_that_of_guided_in_one_call(models, name, monkeypatch):
    model = models[name]
    x, sigma = noise(model, 2, model.channels, 8, 8), torch.tensor([0.7, 3.0], dtype=F64)
    conditional, unconditional = model.denoiser(PROMPT, NEGATIVE, 1.0), model.denoiser(PROMPT, NEGATIVE, 0.0)
    assert gap(unconditional(x, sigma, None), model.denoiser("anything", NEGATIVE, 0.0)(x, sigma, None)) == 0
    assert gap(unconditional(x, sigma, None), model.denoiser(NEGATIVE, "", 1.0)(x, sigma, None)) == 0
    assert gap(conditional(x, sigma, None), model.denoiser(PROMPT, "anything", 1.0)(x, sigma, None)) == 0
    assert gap(conditional(x, sigma, None), unconditional(x, sigma, None)) > 1e-3
    calls, predict = [], model._predict
    monkeypatch.setattr(model, "_predict", lambda x, *rest: calls.append(len(x)) or predict(x, *rest))
    for scale in (-1.0, 0.0, 0.5, 1.0, 7.5):
        expected = guided(conditional, unconditional, scale)(x, sigma, None)
        calls.clear()
        assert gap(model.denoiser(PROMPT, NEGATIVE, scale)(x, sigma, None), expected) < 1e-10
        assert calls == ([2] if scale in (0, 1) else [4])


# View words.


def test_view_words_by_angle():
    cases = {
        (0, 0): "front", (44, 10): "front", (-45, 0): "front", (45, 0): "front", (46, 0): "side", (90, -30): "side",
        (-90, 0): "side", (134, 0): "side", (135, 0): "back", (180, 20): "back", (-180, 0): "back", (-136, 0): "back",
        (360, 0): "front", (270, 0): "side", (0, 60): "front", (0, 61): "overhead", (180, 90): "overhead",
        (90, -80): "side",
    }  # fmt: skip
    for dtype in (torch.float32, F64):
        azimuth, elevation = torch.deg2rad(torch.tensor(list(cases), dtype=dtype)).unbind(1)
        assert view_words(azimuth, elevation) == [f"{word} view" for word in cases.values()]


def test_view_words_of_a_turntable_are_symmetric():
    cameras = turntable(8)
    sides = [word.split()[0] for word in view_words(cameras.azimuth, cameras.elevation)]
    assert sides == ["front", "front", "side", "back", "back", "back", "side", "front"]


def test_only_cameras_get_view_words():
    assert with_view("a cup", turntable(2), 2) == ["a cup, front view", "a cup, back view"]
    assert with_view("a cup", None, 2) == with_view("a cup", "top", 2) == ["a cup", "a cup"]
    with pytest.raises(ValueError, match="2 cameras for 3 pictures"):
        with_view("a cup", turntable(2), 3)


@pytest.mark.parametrize("name", ["eps", "xl", "sd3"])
def test_views_are_told_apart_and_a_batch_equals_its_views(models, name):
    model = models[name]
    azimuth = torch.tensor([0.0, math.pi / 2, math.pi, -math.pi / 2, 0.0])
    cameras = orbit(azimuth, torch.tensor([0.0, 0.2, 0.0, 0.2, 1.4]))
    x, sigma = noise(model).expand(5, -1, -1, -1), torch.tensor(2.0, dtype=F64)
    denoise = model.denoiser(PROMPT, NEGATIVE, 6.0)
    batch = denoise(x, sigma, cameras)
    for i, word in enumerate(["front", "side", "back", "side", "overhead"]):
        assert gap(batch[i], denoise(x[:1], sigma, cameras[i : i + 1])[0]) < 1e-10
        assert gap(batch[i], model.denoiser(f"{PROMPT}, {word} view", NEGATIVE, 6.0)(x[:1], sigma, None)[0]) < 1e-10
    for other in (1, 2, 4):
        assert gap(batch[0], batch[other]) > 1e-3
    assert gap(batch[0], denoise(x, sigma, None)[0]) > 1e-3


def test_each_text_is_embedded_once(folders):
    model = adapter.load(folders["eps"])
    texts, embed = [], model._embed
    model._embed = lambda text: texts.append(text) or embed(text)
    x = noise(model, 4, 4, 8, 8, dtype=torch.float32)
    for _ in range(2):
        denoise = model.denoiser(PROMPT, NEGATIVE, 3.0)
        for _ in range(2):
            denoise(x, torch.tensor(1.0), turntable(4))
    views = [f"{PROMPT}, {side} view" for side in ("front", "side", "back")]
    assert sorted(texts) == sorted([PROMPT, NEGATIVE, *views])


# The model around the denoiser.


@pytest.mark.parametrize("name", ["eps", "v", "xl", "sd3"])
def test_decode_is_the_pipelines(folders, models, name, monkeypatch):
    model, pipe = models[name], theirs(folders[name])
    latents = noise(model, 3, model.channels, 8, 4)
    config = pipe.vae.config
    raw = pipe.vae.decode(latents / config.scaling_factor + (config.shift_factor or 0.0), return_dict=False)[0]
    expected = pipe.image_processor.postprocess(raw.detach(), output_type="pt")
    sizes, decode = [], model._pipe.vae.decode
    monkeypatch.setattr(model._pipe.vae, "decode", lambda z, **kw: sizes.append(len(z)) or decode(z, **kw))
    pictures = model.decode(latents)
    assert sizes == [1, 1, 1]
    assert pictures.shape == (3, 3, 8 * model.scale, 4 * model.scale)
    assert pictures.dtype == torch.float32 and not pictures.requires_grad
    assert gap(pictures, expected) < 1e-6
    assert 0 <= pictures.min() < pictures.max() <= 1
    assert model.decode(latents[:1].requires_grad_()).requires_grad  # guides need it


def test_sizes_and_noise_levels(models):
    for name in BUILDERS:
        model = models[name]
        assert (Path(model.name).name, model.channels, model.size, model.scale) == (
            "model",
            16 if name == "sd3" else 4,
            8,
            2,
        )
    table = schedules.vp_table()
    for name in ("eps", "v", "xl"):
        assert models[name].sigma_min == pytest.approx(float(table[0]), rel=1e-4)
        assert models[name].sigma_max == pytest.approx(float(table[-1]), rel=1e-4)
    shifted = schedules.flow(1000, 3.0, 0.999)
    assert models["sd3"].sigma_max == pytest.approx(float(shifted[0]))
    assert models["sd3"].sigma_min == pytest.approx(3 / 999)


def test_a_table_that_ends_in_pure_noise(tmp_path):
    model = adapter.load(build_sd(tmp_path, rescale_betas_zero_snr=True, prediction_type="v_prediction"))
    assert math.isfinite(model.sigma_max) and model.sigma_max > 20
    x = noise(model, dtype=torch.float32) * model.sigma_max
    assert model.denoiser(PROMPT, "", 3.0)(x, torch.tensor(model.sigma_max), None).isfinite().all()


def test_weights_are_frozen_and_gradients_reach_the_latents(models):
    model = models["eps"]
    x = noise(model).requires_grad_()
    model.denoiser(PROMPT, "", 2.0)(x, torch.tensor(1.0, dtype=F64), None).sum().backward()
    assert x.grad.abs().sum() > 0
    assert not any(p.requires_grad for p in model._pipe.unet.parameters())


def test_half_precision_keeps_the_callers_dtype(folders):
    model, exact = adapter.load(folders["eps"], dtype=torch.bfloat16), adapter.load(folders["eps"])
    assert model._pipe.unet.dtype == torch.bfloat16 and model._pipe.vae.dtype == torch.float32
    x, sigma = noise(model, dtype=torch.float32), torch.tensor(1.0)
    coarse = model.denoiser(PROMPT, "", 2.0)(x, sigma, None)
    assert coarse.dtype == torch.float32
    assert gap(coarse, exact.denoiser(PROMPT, "", 2.0)(x, sigma, None)) < 0.1
    assert model.decode(x).dtype == torch.float32


def test_a_variant_is_found(folders, tmp_path):
    pipe = theirs(folders["eps"], torch.float32)
    pipe.save_pretrained(tmp_path / "model", variant="fp16")
    model = adapter.load(tmp_path / "model", dtype=F64)
    x, sigma = noise(model), torch.tensor(1.0, dtype=F64)
    expected = adapter.load(folders["eps"], dtype=F64).denoiser(PROMPT, "", 1.0)(x, sigma, None)
    assert gap(model.denoiser(PROMPT, "", 1.0)(x, sigma, None), expected) < 1e-12


def test_shards_are_found(folders, tmp_path):
    pipe = theirs(folders["eps"], torch.float32)
    pipe.save_pretrained(tmp_path / "model", max_shard_size="1MB")
    shards = sorted((tmp_path / "model" / "unet").glob("*.safetensors"))
    assert len(shards) > 1
    adapter.load(tmp_path / "model")
    shards[1].unlink()
    with pytest.raises(ValueError, match=f"lacks {shards[1].name}"):
        adapter.load(tmp_path / "model")


# What is refused, in one sentence.


@pytest.fixture
def copy(folders, tmp_path):
    return Path(shutil.copytree(folders["eps"], tmp_path / "model"))


def refused(path, *words: str, **kwargs) -> None:
    with pytest.raises(ValueError) as caught:
        adapter.load(path, **kwargs)
    message = str(caught.value)
    assert "\n" not in message
    for word in words:
        assert word in message, message


def edit(file: Path, **changes) -> None:
    file.write_text(json.dumps({**json.loads(file.read_text()), **changes}))


def test_missing_path(tmp_path):
    refused(tmp_path / "nowhere", "nowhere does not exist", "nothing is downloaded", "hf download")


def test_folder_without_index(tmp_path):
    refused(tmp_path, "no model_index.json", "diffusers folder")


def test_unsupported_pipeline(copy):
    edit(copy / "model_index.json", _class_name="FluxPipeline")
    refused(copy, "is a FluxPipeline", *adapter.FAMILIES)
    edit(copy / "model_index.json", _class_name=["pipeline", "Mine"])
    refused(copy, "Mine", *adapter.FAMILIES)


def test_code_of_a_checkpoint_is_not_run(copy):
    (copy / "unet" / "mine.py").write_text("raise SystemExit('run')")
    edit(copy / "model_index.json", unet=["mine", "UNet"])
    refused(copy, "takes its unet from 'mine'", "no code of a checkpoint is run")
    edit(copy / "model_index.json", unet=["diffusers", "UNet2DModel"])
    refused(copy, "has a UNet2DModel as its unet", "expected UNet2DConditionModel")
    edit(copy / "model_index.json", unet=[None, None])
    refused(copy, "has no unet")


@pytest.mark.parametrize("part", ["unet", "vae", "text_encoder", "tokenizer", "scheduler"])
def test_missing_component_folder(copy, part):
    shutil.rmtree(copy / part)
    refused(copy, f"{part} is missing", "download")


def test_component_without_configuration(copy):
    (copy / "unet" / "config.json").unlink()
    refused(copy, "unet lacks config.json")


def test_component_without_weights(copy):
    (copy / "vae" / "diffusion_pytorch_model.safetensors").unlink()
    refused(copy, "vae has no weights", "expected a .safetensors file", "download it again")


@pytest.mark.parametrize("part", ["unet", "text_encoder"])
def test_pickled_weights_are_never_loaded(copy, part):
    weights = next((copy / part).glob("*.safetensors"))
    stem = "pytorch_model" if part == "text_encoder" else "diffusion_pytorch_model"
    torch.save(load_file(weights), copy / part / f"{stem}.bin")
    weights.unlink()
    what = f"{part} has only pickled weights ({stem}.bin), which are never loaded"
    refused(copy, what, "python -c", "DiffusionPipeline", "from_pretrained")


def test_oddly_named_weights(copy):
    weights = next((copy / "unet").glob("*.safetensors"))
    weights.rename(weights.with_name("unet_v2.safetensors"))
    refused(copy, "only unet_v2.safetensors")


@pytest.mark.parametrize("size", [0, 6, 5000, -1])
def test_cut_off_weights(copy, size):
    weights = next((copy / "unet").glob("*.safetensors"))
    weights.write_bytes(weights.read_bytes()[:size])
    refused(copy, str(weights), "not a whole safetensors file", "download it again")


def test_git_lfs_pointer(copy):
    weights = next((copy / "unet").glob("*.safetensors"))
    weights.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0123456789abcdef\nsize 3964928\n")
    refused(copy, str(weights), "not a whole safetensors file")


@pytest.mark.parametrize("part", ["unet", "text_encoder", "vae"])
def test_incomplete_weights(copy, part):
    weights = next((copy / part).glob("*.safetensors"))
    tensors = load_file(weights)
    del tensors[next(name for name in tensors if "norm1.weight" in name)]
    save_file(tensors, weights, metadata={"format": "pt"})
    refused(copy, f"{part} holds", "its config.json describes", "download")


def test_weights_that_do_not_fit_their_configuration(copy):
    edit(copy / "unet" / "config.json", block_out_channels=[32, 96])
    refused(copy, "could not be loaded as a StableDiffusionPipeline", "down_blocks.1", "[96]", "[64]")


def test_damaged_json(copy):
    (copy / "vae" / "config.json").write_text('{"in_channels": ')
    refused(copy, "config.json is not valid JSON")
    (copy / "model_index.json").write_text("[]")
    refused(copy, "model_index.json holds a list")


def test_unsupported_prediction(copy):
    edit(copy / "scheduler" / "scheduler_config.json", prediction_type="sample")
    refused(copy, "'sample' is not supported", "epsilon or v_prediction")


def test_inpainting_network(folders, tmp_path):
    pipe = theirs(folders["eps"], torch.float32)
    pipe.unet = unet(cross_attention_dim=32, in_channels=9)
    pipe.save_pretrained(tmp_path / "model")
    refused(tmp_path / "model", "inpainting", "expected a plain text-to-image model")


@pytest.mark.parametrize("name", ["eps", "sd3"])
def test_wrong_latents(models, name):
    model = models[name]
    expected = rf"\(2, 3, 8, 8\); model takes \(B, {model.channels}, h, w\)"
    with pytest.raises(ValueError, match=expected):
        model.denoiser(PROMPT, "", 3.0)(noise(model, 2, 3, 8, 8), torch.tensor(1.0), None)
    with pytest.raises(ValueError, match=expected):
        model.decode(noise(model, 2, 3, 8, 8))


@pytest.mark.parametrize("name", ["eps", "xl", "sd3"])
def test_prompts_that_do_not_fit(models, name):
    model = models[name]
    model.denoiser("x" * 75, "x" * 75, 3.0)  # and the start and the end: 77
    with pytest.raises(ValueError, match="is 1 token too long for model, which reads 77"):
        model.denoiser("x" * 76, "", 3.0)
    with pytest.raises(ValueError, match="is 5 tokens too long"):
        model.denoiser("x", "x" * 80, 3.0)
    with pytest.raises(ValueError, match="is 8 tokens too long"):  # ", front view" is 10 characters in this vocabulary
        model.denoiser("x" * 73, "", 1.0)(noise(model), torch.tensor(1.0), turntable(1))
    for empty in ("", "  "):
        with pytest.raises(ValueError, match="the prompt is empty"):
            model.denoiser(empty, "", 3.0)


# Single files.


def test_single_file_without_configuration(tmp_path, monkeypatch):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    key = "model.diffusion_model.input_blocks.0.0.weight"
    save_file({key: torch.zeros(320, 4, 3, 3)}, tmp_path / "dream.safetensors")
    words = ["(stable-diffusion-v1-5/stable-diffusion-v1-5) is not on this machine", "nothing is downloaded"]
    refused(tmp_path / "dream.safetensors", *words, "StableDiffusionPipeline", "from_single_file", "python -c")
    embedder = "conditioner.embedders.1.model.transformer.resblocks.9.mlp.c_proj.bias"
    save_file({key: torch.zeros(320, 4, 3, 3), embedder: torch.zeros(1)}, tmp_path / "xl.safetensors")
    refused(tmp_path / "xl.safetensors", "stable-diffusion-xl-base-1.0", "StableDiffusionXLPipeline")


def test_single_file_that_lacks_parts(folders, tmp_path):
    weights = {"model.diffusion_model.input_blocks.0.0.weight": torch.zeros(32, 4, 3, 3)}
    save_file(weights, tmp_path / "part.safetensors")
    refused(tmp_path / "part.safetensors", "could not be loaded as a StableDiffusionPipeline", config=folders["eps"])
    save_file({"lora_unet_down.weight": torch.zeros(4, 4)}, tmp_path / "lora.safetensors")
    refused(tmp_path / "lora.safetensors", "not a whole checkpoint")


def test_single_file_that_is_pickled_or_damaged(tmp_path):
    torch.save({}, tmp_path / "old.ckpt")
    refused(tmp_path / "old.ckpt", "pickled weights are never loaded", "from_single_file")
    (tmp_path / "cut.safetensors").write_bytes(b"\x10\x00\x00")
    refused(tmp_path / "cut.safetensors", "cut.safetensors is not a whole safetensors file")


def test_without_diffusers(folders, monkeypatch):
    def absent(name):
        raise ImportError(name)

    monkeypatch.setattr(adapter, "import_module", absent)
    with pytest.raises(ImportError, match=r'pip install "pullback\[diffusers\]"'):
        adapter.load(folders["eps"])
