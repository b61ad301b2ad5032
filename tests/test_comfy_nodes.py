"""The nodes in ComfyUI's own process: schemas, toybox as genuine objects, every node once, cancel, files, meshes."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass, replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from comfy_pack import REASON, ROOT, comfyui, part

if comfyui() is None:
    pytest.skip(REASON, allow_module_level=True)

import comfy.model_management
import comfy.samplers
import comfy.utils
import comfy_snapshot
import folder_paths
import nodes as core_nodes
import trimesh


@pytest.fixture(autouse=True)
def _threads():
    torch.set_num_threads(1)  # for models as small as these, two threads mostly wait for each other


@pytest.fixture(scope="module")
def call():
    """call("VoxelNerf", ...) runs a node as ComfyUI does, and fills in the defaults of its widgets."""
    classes = {node.GET_SCHEMA().node_id.removeprefix("Pullback"): node for node in comfy_snapshot.nodes()}
    info = comfy_snapshot.current()

    def run(name, **inputs):
        known = info[f"Pullback{name}"]["inputs"]
        defaults = {each["name"]: each.get("default") for each in known if "default" in each and not each["optional"]}
        defaults |= {
            each["name"]: 0
            for each in known
            if each["type"] in ("INT", "FLOAT") and each["name"] not in defaults and not each["optional"]
        }
        with torch.inference_mode():
            return classes[name].EXECUTE_NORMALIZED(**{**defaults, **inputs}).args

    return run


@pytest.fixture(scope="module", autouse=True)
def folders(tmp_path_factory):
    old = folder_paths.get_output_directory(), folder_paths.get_input_directory()
    root = tmp_path_factory.mktemp("comfy")
    for name in ("output", "input"):
        (root / name).mkdir()
    folder_paths.set_output_directory(str(root / "output"))
    folder_paths.set_input_directory(str(root / "input"))
    yield root
    folder_paths.set_output_directory(old[0])
    folder_paths.set_input_directory(old[1])


@pytest.fixture(scope="module")
def toybox(call):
    """(model, clip, vae, positive, negative)."""
    model, clip, vae = call("ToyboxLoader")
    return model, clip, vae, encoded(clip, "a red mushroom"), encoded(clip, "")


def encoded(clip, text):
    with torch.inference_mode():
        return core_nodes.CLIPTextEncode().encode(clip, text)[0]


@pytest.fixture(scope="module")
def ball(call):
    """A Voxel NeRF that looks like a red ball, without any sampling."""
    (value,) = call("VoxelNerf", resolution=24)
    storage, sockets = part("core.pullback.storage"), part("comfy_nodes.sockets")
    model = part("core.pullback.generative.toybox.model").ToyboxModel()
    diffrep = value.plan.recipe(model, 0).diffrep
    params = diffrep.init(torch.Generator())
    params["features"][:, 0], params["features"][:, 1:] = 2.0, -2.0
    params["density"] = params["density"] * 3
    return sockets.FieldValue(value.plan, storage.Field(diffrep, params, "a red ball"))


# Schemas.


def test_schemas_are_those_that_saved_graphs_rely_on():
    """After appending an input: python tests/comfy_snapshot.py."""
    assert comfy_snapshot.current() == json.loads(comfy_snapshot.SNAPSHOT.read_text(encoding="utf-8"))


def test_english_is_what_the_schemas_say():
    words = json.loads(comfy_snapshot.ENGLISH.read_text(encoding="utf-8"))
    assert words == comfy_snapshot.english(comfy_snapshot.current())


def test_a_number_in_which_projections_differ_is_0_for_what_suits_the_one_that_is_chosen(monkeypatch):
    """And what a saved graph says is what it gets."""
    nodes, panorama = part("comfy_nodes.representations"), part("core.pullback.diffreps.panorama")
    representations = part("core.pullback.representations").representations()

    @dataclass(frozen=True)
    class Finer(panorama.SirenCylinder):
        bandwidth: float = 24.0

        @classmethod
        def settings(cls):
            own = panorama.SirenCylinder.settings()
            return tuple(replace(each, default=24.0) if each.name == "detail" else each for each in own)

    kinds = [panorama.SirenSphere, Finer]
    monkeypatch.setitem(representations, "siren-cylinder", Finer)
    node = nodes.node_of(kinds)
    inputs = {each.id: each for each in node.define_schema().inputs}
    detail, depth = inputs["detail"], inputs["depth"]
    assert (detail.default, detail.min) == (0.0, 0) and "sphere 18, cylinder 24." in detail.tooltip
    assert (depth.default, depth.min) == (3, 1)  # in which they do not differ
    signal = part("comfy_nodes.signals").Signal("toybox", part("comfy_nodes.signals").ToyboxFormat(), 64)
    given = {"view_size": 0, "fov": 65.0, "neurons": 64, "depth": 2, "views": 8, "seed": 0}
    for projection, value, bandwidth in (("sphere", 0.0, 18), ("cylinder", 0.0, 24), ("cylinder", 16.0, 16)):
        (made,) = node.execute(projection=projection, detail=value, **given).args
        assert made.plan.recipe(signal, 0).diffrep.bandwidth == bandwidth
    assert nodes.merged([panorama.SirenSphere]) == {each.name: each for each in panorama.SirenSphere.settings()}


def test_what_no_node_can_show_is_left_out_and_named(monkeypatch, caplog):
    nodes, image = part("comfy_nodes.representations"), part("core.pullback.diffreps.image")
    representations, setting = part("core.pullback.representations").representations(), nodes.Setting

    class Endless(image.SirenImage):
        name, title = "endless", "Endless"
        numbers = (setting("count", 3, "A number without limits."), setting("part", 0.5, "Another."))
        settings = classmethod(lambda cls: cls.numbers)

    class Odd(Endless):
        title = "Odd"
        settings = classmethod(lambda cls: 1 / 0)

    monkeypatch.setitem(representations, "endless", Endless)
    monkeypatch.setitem(representations, "odd", Odd)
    made = {node.define_schema().display_name: node for node in nodes.nodes()}
    assert {"SIREN Image", "Voxel NeRF", "Endless"} <= made.keys() and "Odd" not in made
    limits = {each.id: (each.min, each.max) for each in made["Endless"].define_schema().inputs if each.id != "seed"}
    assert limits == {"count": (None, None), "part": (None, None)}
    assert "the node Odd of" in caplog.text and "division by zero" in caplog.text


def test_the_pack_loads_from_any_folder_and_quickly(tmp_path):
    """As ComfyUI loads it, in a process of its own, from a copy without .git and without an installed core."""
    home = tmp_path / "any name v1.2"
    home.mkdir()
    shutil.copy(ROOT / "__init__.py", home)
    for name in ("comfy_nodes", "core"):
        shutil.copytree(ROOT / name, home / name, ignore=shutil.ignore_patterns("__pycache__"))
    code = """
import asyncio, importlib.util, sys, time
sys.path.append(sys.argv[1])
import comfy.cli_args; comfy.cli_args.args.cpu = True
import nodes, comfy_api.latest, comfy.latent_formats
sys.modules["pullback"] = None  # an installed core must not be asked
before = set(sys.modules)
def load():
    name = sys.argv[2].replace(".", "_x_")
    spec = importlib.util.spec_from_file_location(name, sys.argv[2] + "/__init__.py")
    module = importlib.util.module_from_spec(spec); sys.modules[name] = module; spec.loader.exec_module(module)
    return asyncio.run(asyncio.run(module.comfy_entrypoint()).get_node_list())
start = time.process_time(); found = load(); taken = time.process_time() - start
heavy = {m.split(".")[0] for m in set(sys.modules) - before} & {"trimesh", "skimage", "xatlas", "diffusers", "transformers"}
print(len(found), sorted(heavy), taken < 1)
"""
    done = subprocess.run(
        [sys.executable, "-c", code, str(comfyui()), str(home)], capture_output=True, text=True, cwd=tmp_path
    )
    assert done.stdout.splitlines()[-1:] == [f"{len(comfy_snapshot.nodes())} [] True"], done.stderr[-2000:]


@pytest.mark.parametrize("node", comfy_snapshot.nodes(), ids=lambda each: each.__name__)
def test_numbers_from_links_are_held_to_the_same_limits(node):
    """ComfyUI looks at those that are typed in only, and lets NaN through."""
    for each in node.define_schema().inputs:
        if not hasattr(each, "min"):
            continue
        for value in (each.min - 1, each.max + 1, float("nan")):
            with pytest.raises(ValueError, match=f"^{each.id} is .*; it must be between") as said:
                node.execute(**{each.id: value})
            assert "\n" not in str(said.value) and len(str(said.value)) < 200


# Toybox as genuine objects.


def test_ksampler_draws_with_toybox(call, toybox):
    model, _, vae, positive, negative = toybox
    (latent,) = call("EmptyToyboxLatent", batch_size=2)
    with torch.inference_mode():
        for sampler in ("euler", "dpmpp_2m_sde"):
            samples = core_nodes.KSampler().sample(model, 1, 6, 3.0, sampler, "karras", positive, negative, latent)[0]
            image = core_nodes.VAEDecode().decode(vae, samples)[0]
            assert image.shape == (2, 64, 64, 3) and image.min() >= 0 and image.max() <= 1
            red, green, blue = image[image.sum(-1) < 2.5].mean(0)  # what is not background
            assert red > green + 0.1 and red > blue + 0.1
            assert image[:, 0].mean() > 0.9  # on white


def test_its_vae_goes_there_and_back(toybox):
    image = torch.rand(2, 64, 64, 3, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        assert torch.allclose(toybox[2].decode(toybox[2].encode(image)), image, atol=1e-6)


def test_loras_of_ordinary_names_reach_it(toybox):
    model, clip, _, positive, _ = toybox
    weight = "diffusion_model.toybox.blocks.0.qkv"
    rows, columns = model.model.state_dict()[f"{weight}.weight"].shape
    lora = {f"{weight}.lora_up.weight": torch.ones(rows, 1), f"{weight}.lora_down.weight": torch.ones(1, columns)}
    import comfy.sd

    patched, _ = comfy.sd.load_lora_for_models(model, clip, lora, 0.5, 0.0)
    assert list(patched.patches) == [f"{weight}.weight"]
    with torch.inference_mode():
        draw = lambda m: core_nodes.KSampler().sample(
            m, 1, 2, 1.0, "euler", "simple", positive, positive, {"samples": torch.zeros(1, 4, 64, 64)}
        )[0]["samples"]
        plain = draw(model)
        assert (draw(patched) - plain).abs().max() > 1e-3
        assert torch.equal(draw(model), plain)  # and it is gone afterwards


def test_words_are_weighed_and_unknown_ones_named(toybox):
    clip = toybox[1]
    assert torch.equal(encoded(clip, "a red mushroom")[0][0], encoded(clip, "red mushroom")[0][0])
    heavy, plain = encoded(clip, "(red:2.0) mushroom")[0][0], encoded(clip, "red mushroom")[0][0]
    assert torch.allclose(heavy[:, 1], 2 * plain[:, 1]) and torch.equal(heavy[:, 2], plain[:, 2])
    assert encoded(clip, "mountains at sunset")[0][1]["pooled_output"].item() == 1
    assert encoded(clip, "a red mushroom")[0][1]["pooled_output"].item() == 0
    with pytest.raises(ValueError, match="toybox cannot draw this: it does not know 'dragon'") as said:
        encoded(clip, "a dragon")
    assert "the help page of Toybox Loader lists what it knows" in str(said.value)


# Sampling.


def test_a_siren_image_is_sampled_the_same_twice(call, toybox):
    model, _, vae, positive, negative = toybox
    (fresh,) = call("SirenImage", neurons=64, depth=2)
    inputs = {
        "model": model,
        "positive": positive,
        "negative": negative,
        "field": fresh,
        "seed": 3,
        "steps": 3,
        "cfg": 2.0,
    }
    (field, latent, image), (again, *_) = call("FieldSamplerSimple", **inputs), call("FieldSamplerSimple", **inputs)
    assert all(torch.equal(field.field.params[k], again.field.params[k]) for k in field.field.params)
    assert latent["samples"].shape == (1, 4, 64, 64) and image.shape == (1, 64, 64, 3)
    other, *_ = call("FieldSamplerSimple", **inputs | {"seed": 4})
    assert not torch.equal(other.field.params["out"], field.field.params["out"])
    whole, mask = call("ResolutionFreeDecode", field=field, width=200)
    assert whole.shape == (1, 200, 200, 3) and mask.shape == (1, 200, 200)
    part_, _ = call(
        "ResolutionFreeDecode", field=field, width=200, left=30, top=50, crop_width=70, crop_height=20, tile=64
    )
    assert torch.allclose(part_, whole[:, 50:70, 30:100], atol=1e-5)
    with pytest.raises(ValueError, match="does not lie within"):
        call("ResolutionFreeDecode", field=field, width=200, left=150, crop_width=70)
    decoded = core_nodes.VAEDecode().decode(vae, latent)[0]
    assert torch.allclose(decoded, image, atol=1e-5)


def test_the_full_sampler_and_the_simple_one_agree(call, toybox):
    """Given the same noise levels; and RePaint, solvers and views take effect."""
    import comfy.samplers

    model, _, _, positive, negative = toybox
    host, schedules = part("comfy_nodes.host"), part("core.pullback.schedules")
    (fresh,) = call("SirenImage", neurons=32, depth=1)
    guider = comfy.samplers.CFGGuider(model)
    guider.set_conds(positive, negative)
    guider.set_cfg(2.0)
    signal = part("comfy_nodes.signals").signal_of(model, None)
    sigmas = schedules.log_linear(3, *fresh.plan.recipe(signal, 0).sigma).float()
    full = {"noise": host.Seeded(5), "guider": guider, "sigmas": sigmas, "field": fresh}
    simple, *_ = call(
        "FieldSamplerSimple", model=model, positive=positive, negative=negative, field=fresh, seed=5, steps=3, cfg=2.0
    )
    plain, *_ = call("FieldSampler", **full)
    assert torch.allclose(plain.field.params["out"], simple.field.params["out"], atol=1e-6)
    for change in ({"eta": 0.75, "repeats": 2}, {"solver": "gauss-newton"}):
        other, *_ = call("FieldSampler", **full, **change)
        assert not torch.allclose(other.field.params["out"], plain.field.params["out"], atol=1e-3)
    climbed, _, image = call("Optimise", **full, iterations=3)
    assert image.shape == (1, 64, 64, 3) and climbed.field.params["out"].abs().max() > 0
    onward, *_ = call(
        "FieldSampler", **full | {"field": plain, "sigmas": sigmas[1:]}
    )  # a sampled field is gone on from
    assert not torch.equal(onward.field.params["out"], plain.field.params["out"])


def test_a_panorama_closes(call, toybox):
    model, clip, vae, _, negative = toybox
    words = encoded(clip, "mountains at sunset")
    for projection, shape in (("sphere", (1, 64, 128, 3)), ("cylinder", (1, 16, 128, 3))):
        field, image = call(
            "PanoramaSiren", model=model, positive=words, negative=negative, vae=vae, seed=0, steps=1, projection=projection,
            width=128, views=1,
        )  # fmt: skip
        assert image.shape == shape
        wide, _ = call("ResolutionFreeDecode", field=field, width=4096, height=64)
        across, beside = ((wide[:, :, a] - wide[:, :, b]).abs().max() for a, b in ((0, -1), (0, 1)))
        assert across <= 2 * beside + 1e-3, projection


@pytest.fixture(scope="module")
def landscape():
    """A LATENT of toybox: blue above and green below, with a red bar."""
    picture = torch.zeros(1, 64, 64, 3)
    picture[:, :32, :, 2], picture[:, 32:, :, 1], picture[:, 20:44, 28:36, 0] = 0.9, 0.7, 0.9
    return lambda wide: {
        "samples": torch.cat([picture.movedim(-1, 1) * 2 - 1, torch.ones(1, 1, 64, 64)], 1).repeat(1, 1, 1, wide)
    }


def error(field, latent, part=slice(None)):
    """The root of the mean square between a field's whole picture and a latent."""
    core, wanted = field.field, latent["samples"]
    with torch.no_grad():
        drawn = core.diffrep.picture(core.params, *wanted.shape[2:])
    return float((drawn - wanted)[..., part].square().mean().sqrt())


def test_an_image_starts_from_a_picture(call, toybox, landscape):
    model, _, _, positive, negative = toybox
    (fresh,) = call("SirenImage")
    inputs = {
        "model": model,
        "positive": positive,
        "negative": negative,
        "field": fresh,
        "seed": 3,
        "steps": 6,
        "cfg": 1.0,
    }
    sampled = lambda **more: call("FieldSamplerSimple", **inputs, **more)[0]
    plain, given = sampled(), {"latent_image": landscape(1)}
    full = sampled(**given, denoise=1.0)
    assert all(torch.equal(full.field.params[k], plain.field.params[k]) for k in plain.field.params)  # nothing is left
    near, half = sampled(**given, denoise=0.2), sampled(**given, denoise=0.6)
    errors = [error(each, landscape(1)) for each in (near, half, plain)]
    assert errors[0] < errors[1] < errors[2] and errors[0] < errors[2] / 2, errors


def test_a_masked_image_keeps_the_rest(call, toybox, landscape):
    model, _, _, positive, negative = toybox
    (fresh,) = call("SirenImage", neurons=64, depth=2)
    mask = torch.zeros(1, 64, 64)
    mask[..., 32:] = 1
    inputs = {
        "model": model,
        "positive": positive,
        "negative": negative,
        "field": fresh,
        "seed": 3,
        "steps": 10,
        "cfg": 1.0,
    }
    field, *_ = call("FieldSamplerSimple", **inputs, latent_image=landscape(1), mask=mask)
    kept, new = error(field, landscape(1), slice(0, 31)), error(field, landscape(1), slice(33, 64))
    assert kept < 0.2 and new > 2 * kept, (kept, new)
    own = {**landscape(1), "noise_mask": mask[:, None]}  # as Set Latent Noise Mask leaves it
    again, *_ = call("FieldSamplerSimple", **inputs, latent_image=own)
    assert all(torch.equal(again.field.params[k], field.field.params[k]) for k in field.field.params)


@pytest.mark.parametrize("projection, wide", [("sphere", 2), ("cylinder", 8)])
def test_a_masked_panorama_keeps_the_rest(call, toybox, landscape, projection, wide):
    model, clip, _, _, negative = toybox
    latent, half = landscape(wide), 32 * wide
    mask = torch.zeros(1, 64, 64 * wide)
    mask[..., half:] = 1
    (fresh,) = call("SirenPanorama", projection=projection, neurons=64, depth=2)
    field, *_ = call(
        "FieldSamplerSimple", model=model, positive=encoded(clip, "mountains at sunset"), negative=negative, field=fresh,
        seed=0, steps=4, cfg=1.0, latent_image=latent, mask=mask,
    )  # fmt: skip
    kept, new = error(field, latent, slice(4, half - 4)), error(field, latent, slice(half + 4, -4))
    assert kept < 0.4 and new > 2 * kept, (kept, new)


@pytest.mark.parametrize(
    "node, latent, mask, says",
    [
        ("SirenImage", None, torch.ones(1, 8, 8), "connect the picture to latent_image"),
        ("SirenImage", torch.zeros(1, 16, 64, 64), None, "16 channels and this model's latents 4"),
        ("SirenImage", torch.zeros(2, 4, 64, 64), None, "has 2 pictures"),
        ("SirenImage", torch.zeros(1, 4, 3, 64, 64), None, "is not a picture"),
        ("SirenImage", torch.zeros(1, 4, 32, 64), None, "has 32 x 64 values and the field 64 x 64"),
        ("SirenPanorama", torch.zeros(1, 4, 64, 64), None, "1 times as wide as high and the field 2"),
        ("VoxelNerf", torch.zeros(1, 4, 64, 64), None, "only images, tiles and panoramas start from one"),
    ],
)
def test_a_picture_that_does_not_fit_is_said_before_anything_is_sampled(call, toybox, node, latent, mask, says):
    model, _, _, positive, negative = toybox
    given = None if latent is None else {"samples": latent}
    with pytest.raises(ValueError, match=says):
        call(
            "FieldSamplerSimple", model=model, positive=positive, negative=negative, field=call(node)[0], seed=0, steps=2,
            cfg=1.0, latent_image=given, mask=mask, denoise=0.5,
        )  # fmt: skip


def test_an_object_is_sampled_and_stopped(call, toybox, monkeypatch):
    model, _, _, positive, negative = toybox
    (fresh,) = call("VoxelNerf", resolution=16, views=1)
    inputs = {"model": model, "positive": positive, "negative": negative, "field": fresh, "seed": 0, "cfg": 1.0}
    field, latent, image = call("FieldSamplerSimple", **inputs, steps=1)
    assert latent["samples"].shape == (4, 4, 64, 64) and image.shape == (4, 64, 64, 3)
    ticks = []

    def stop_in_the_midst():
        ticks.append(time.monotonic())
        if len(ticks) == 8:  # within the fit of the first step: it has 12 passes
            raise comfy.model_management.InterruptProcessingException

    monkeypatch.setattr(comfy.model_management, "throw_exception_if_processing_interrupted", stop_in_the_midst)
    with pytest.raises(comfy.model_management.InterruptProcessingException):
        call("FieldSamplerSimple", **inputs, steps=3)
    assert len(ticks) == 8
    monkeypatch.undo()
    again, *_ = call("FieldSamplerSimple", **inputs, steps=1)  # nothing is left of it
    assert torch.equal(again.field.params["density"], field.field.params["density"])


def test_view_prompts_are_the_text_with_its_side(call, toybox):
    class Clip:
        def tokenize(self, text):
            return text

        def encode_from_tokens_scheduled(self, tokens):
            return tokens

    assert call("ViewPrompts", clip=Clip(), text=" a chair ") == tuple(
        f"a chair, {side} view" for side in ("front", "side", "back", "overhead")
    )
    with pytest.raises(ValueError, match="text is empty"):
        call("ViewPrompts", clip=Clip(), text=" ")


# Progress and notes.


class Clock:
    """Seconds that pass only where something takes time."""

    now = 0.0

    def __call__(self):
        return self.now


@pytest.fixture
def watched(monkeypatch):
    """What the page is told of progress: (value, total, whether with a picture)."""
    told = []
    monkeypatch.setattr(
        comfy.utils, "PROGRESS_BAR_HOOK", lambda v, n, p, node_id=None: told.append((v, n, p is not None))
    )
    return told


def test_pictures_take_a_bounded_part_of_a_run(watched):
    """A picture costs 0.56 s, as that of an object does, and a step 4 s: 14 % if each step showed one."""
    progress, clock, pictures = part("comfy_nodes.progress"), Clock(), []

    def picture(params):
        clock.now += 0.56
        pictures.append(clock.now)

    shown = progress.Progress(picture, clock)
    shown.begin([10] * 60)
    for _ in range(60):
        clock.now += 4
        shown.ended({})
    assert shown.spent <= 0.03 * clock.now and len(pictures) >= 8
    assert watched[-1][:2] == (600, 600)


def test_the_bar_moves_in_the_last_fit(call, toybox, watched):
    model, _, _, positive, negative = toybox
    (fresh,) = call("SirenImage", neurons=16, depth=1)
    inputs = {"model": model, "positive": positive, "negative": negative, "seed": 0, "steps": 3, "cfg": 1.0}
    call("FieldSamplerSimple", **inputs, field=fresh)
    values, total = [value for value, *_ in watched], watched[-1][1]
    assert values == sorted(values) and values[-1] == total == 3 * 1 + 2 * 3 + 60  # views and passes
    assert len({value for value in values if value > total - 60}) > 1  # within the last fit


def test_previews_are_shown_unless_somebody_said_none(monkeypatch):
    progress = part("comfy_nodes.progress")
    methods = progress.LatentPreviewMethod
    queue = SimpleNamespace(currently_running={0: (0, "id", {}, {"preview_method": "none"}, [])})
    said = SimpleNamespace(PromptServer=SimpleNamespace(instance=SimpleNamespace(prompt_queue=queue)))
    for method, command, server, wanted in (
        (methods.NoPreviews, ["main.py", "--cpu"], None, True),  # ComfyUI's default
        (methods.NoPreviews, ["main.py", "--preview-method", "none"], None, False),
        (methods.NoPreviews, ["main.py", "--preview-method=none"], None, False),
        (methods.NoPreviews, ["main.py"], said, False),  # the page's settings
        (methods.Auto, ["main.py", "--preview-method", "none"], None, True),  # likewise
    ):
        monkeypatch.setattr(progress.args, "preview_method", method)
        monkeypatch.setattr(sys, "argv", command)
        monkeypatch.setitem(sys.modules, "server", server)
        assert progress.wanted() is wanted, (method, command)


def test_words_that_are_left_out_are_said_in_the_page(toybox, monkeypatch):
    sent = []
    server = SimpleNamespace(send_sync=lambda *event: sent.append(event), client_id="page")
    monkeypatch.setitem(sys.modules, "server", SimpleNamespace(PromptServer=SimpleNamespace(instance=server)))
    encoded(toybox[1], "a red dragon mushroom")
    ((event, data, page),) = sent
    assert event == "pullback.note" and page == "page" and "does not know 'dragon'" in data["text"]
    encoded(toybox[1], "a red mushroom")
    assert len(sent) == 1


# Fields of latents.


def test_a_field_of_latents_needs_its_vae(call):
    import comfy_models

    model = comfy_models.unet("EPS")
    (fresh,) = call("SirenImage", width=128, height=64, neurons=32, depth=1)
    inputs = {"model": model, "positive": comfy_models.conditioning(1), "negative": comfy_models.conditioning(2)}
    field, latent, image = call("FieldSamplerSimple", **inputs, field=fresh, seed=0, steps=1, cfg=1.0)
    assert latent["samples"].shape == (1, 4, 8, 16) and image.shape == (1, 8, 16, 3)  # rough colours
    assert field.field.model == "comfyui:SD15"
    with pytest.raises(ValueError, match="connect the VAE"):
        call("ResolutionFreeDecode", field=field, width=64)

    class Vae:
        latent_channels = 4
        seen = ()

        def spacial_compression_decode(self):
            return 8

        def decode(self, latents):
            Vae.seen = (*Vae.seen, latents.shape)
            up = latents[:, :3].repeat_interleave(8, 2).repeat_interleave(8, 3)
            return up.movedim(1, -1)

    image, mask = call("ResolutionFreeDecode", field=field, width=512, height=256, tile=128, vae=Vae())
    assert image.shape == (1, 256, 512, 3) and mask.min() == 1
    assert max(max(shape[2:]) for shape in Vae.seen) <= 16 + 2 * 8  # a tile and its margins, whatever the picture


class Broken:
    """A VAE that fits by its looks."""

    latent_channels = 4

    def spacial_compression_decode(self):
        return 8

    def decode(self, latents):
        raise RuntimeError("mat1 and mat2 shapes\ncannot be multiplied")


class Wide(Broken):
    def decode(self, latents):
        return torch.zeros(1, 32, 32, 3)


class Sixteen(Broken):
    latent_channels = 16


class Empty(Broken):
    first_stage_model = None


class Pixels(Broken):
    def spacial_compression_decode(self):
        return 1


@pytest.mark.parametrize(
    "vae, says",
    [
        (None, "without the model's VAE"),
        (Broken(), "mat1 and mat2 shapes cannot be multiplied"),
        (Wide(), "does not make pictures"),
        (Sixteen(), "16 channels instead of the 4"),
        (Empty(), "the VAE is empty"),
        (Pixels(), "makes 1 pixels per latent instead of the 8"),
    ],
)
@pytest.mark.parametrize("node", ["PanoramaSiren", "FieldSamplerSimple", "FieldSampler", "Optimise"])
def test_a_wrong_vae_is_said_before_anything_is_sampled(call, node, vae, says):
    import comfy_models

    model, evaluations = comfy_models.unet("EPS"), []
    model.set_model_unet_function_wrapper(lambda *_: evaluations.append(1))
    positive, negative = (comfy_models.conditioning(i) for i in (1, 2))
    (fresh,) = call("SirenImage", width=64, height=64, neurons=16, depth=1)
    guider = comfy.samplers.CFGGuider(model)
    guider.set_conds(positive, negative)
    full = {"noise": core_noise(0), "guider": guider, "sigmas": torch.tensor([1.0, 0.0]), "view_prompts": "auto"}
    inputs = full if node in ("FieldSampler", "Optimise") else {
        "model": model, "positive": positive, "negative": negative, "steps": 1
    }  # fmt: skip
    if vae is None and node != "PanoramaSiren":
        return  # its picture is in rough colours then
    with pytest.raises(ValueError, match=says) as said:
        call(node, **inputs, vae=vae, **({} if node == "PanoramaSiren" else {"field": fresh}))
    assert not evaluations and "\n" not in str(said.value) and "connect" in str(said.value)


class Spent(Broken):
    """A VAE that decodes what nodes try it with, and has no memory left once a field is sampled."""

    def decode(self, latents):
        if latents.abs().max() > 0:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory.\nTried to allocate 9 GiB")
        return torch.zeros(len(latents), 8 * latents.shape[2], 8 * latents.shape[3], 3)


class Tiled(Spent):
    """The same, with ComfyUI's tiles: 16 latents still fit."""

    def decode_tiled(self, latents, tile_x, tile_y):
        if tile_x > 16:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory.")
        return torch.full((len(latents), 8 * latents.shape[2], 8 * latents.shape[3], 3), 0.5)


@pytest.fixture
def small(monkeypatch):
    """Fields of the node that has no sizes are small."""
    fresh = part("comfy_nodes.plans").Fresh
    made = fresh.of
    monkeypatch.setattr(fresh, "of", lambda name, views=0, seed=0, **own: made(name, views, seed, **{**SMALL, **own}))


SMALL = {"view_size": 64, "neurons": 16, "depth": 1}


def sampling(call, node, vae, fresh=None):
    """Runs a node that samples and decodes, on Stable Diffusion in small."""
    import comfy_models

    model, words = comfy_models.unet("EPS"), [comfy_models.conditioning(i) for i in (1, 2)]
    inputs = {"vae": vae, "view_prompts": "auto", "noise": core_noise(0), "sigmas": torch.tensor([1.0, 0.0])}
    inputs["guider"] = part("comfy_nodes.host").guided(model, *words, 1.0)
    simple = {"model": model, "positive": words[0], "negative": words[1], "vae": vae, "steps": 1, "seed": 0}
    if node == "PanoramaSiren":
        return call(node, **simple, width=128, views=1)
    fresh = fresh or call("SirenImage", width=64, height=64, neurons=16, depth=1)[0]
    return call(node, **(simple if node == "FieldSamplerSimple" else inputs), field=fresh)


@pytest.mark.parametrize("node", ["PanoramaSiren", "FieldSamplerSimple", "FieldSampler", "Optimise"])
def test_a_field_is_not_lost_where_its_picture_fails(call, folders, small, node):
    with pytest.raises(ValueError, match="CUDA out of memory") as said:
        sampling(call, node, Spent())
    sentence = str(said.value)
    assert "\n" not in sentence and "Load Field" in sentence and len(sentence) < 300
    name = next(word for word in sentence.split() if word.startswith("fields/kept_"))
    (loaded,) = call("LoadField", file=f"{name} [output]")
    assert loaded.field.model == "comfyui:SD15" and any(p.abs().max() > 0 for p in loaded.field.params.values())


@pytest.mark.parametrize("node", ["PanoramaSiren", "FieldSamplerSimple", "FieldSampler", "Optimise"])
def test_where_memory_runs_out_pictures_are_made_in_smaller_tiles(call, folders, small, node):
    before = set((folders / "output").rglob("kept_*"))
    *_, image = sampling(call, node, Tiled())
    assert torch.allclose(image, torch.tensor(0.5)) and set((folders / "output").rglob("kept_*")) == before


def test_the_latent_of_a_pixel_grid_is_kept_for_core_s_load_latent(call, folders):
    with pytest.raises(ValueError, match="Load Latent") as said:
        sampling(call, "FieldSampler", Spent(), call("PixelGrid", width=64, height=64)[0])
    name = next(word for word in str(said.value).split() if word.startswith("latents/kept_"))
    shutil.copy(folders / "output" / name, folders / "input" / "kept.latent")
    assert core_nodes.LoadLatent().load("kept.latent")[0]["samples"].shape == (1, 4, 8, 8)


def test_a_decode_is_tried_in_smaller_tiles_and_its_last_error_is_said(call, toybox, monkeypatch):
    decoding, tried, least = part("comfy_nodes.decoding"), [], [128]
    drawn = decoding._draw_bands

    def short_of_memory(core, signal, width, height, part, tile):
        tried.append(tile)
        if tile > least[0]:
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes.")
        return drawn(core, signal, width, height, part, tile)

    monkeypatch.setattr(decoding, "_draw_bands", short_of_memory)
    model, _, _, positive, negative = toybox
    (fresh,) = call("SirenImage", neurons=16, depth=1)
    field, *_ = call(
        "FieldSamplerSimple", model=model, positive=positive, negative=negative, field=fresh, seed=0, steps=1, cfg=1.0
    )
    image, _ = call("ResolutionFreeDecode", field=field, width=200)
    assert tried == [512, 256, 128] and image.shape == (1, 200, 200, 3)
    least[0] = 0
    with pytest.raises(RuntimeError, match="allocate memory"):
        call("ResolutionFreeDecode", field=field, width=200)
    assert tried[-1] == 64


def test_a_model_that_counts_frames_draws_pictures(call):
    """Qwen-Image's latents are a film of one frame, and so is what its VAE decodes."""
    import comfy_models

    model = comfy_models.qwen()
    seen = []

    class Vae:
        latent_channels = 16

        def spacial_compression_decode(self):
            return 8

        def decode(self, latents):
            seen.append(latents.shape)
            return latents[:, :3].movedim(1, -1).repeat_interleave(8, 2).repeat_interleave(8, 3)  # (B, frames, H, W, 3)

    inputs = {"model": model, "positive": comfy_models.conditioning(1), "negative": comfy_models.conditioning(2)}
    (fresh,) = call("SirenImage", width=128, height=64, neurons=32, depth=1)
    field, latent, image = call("FieldSamplerSimple", **inputs, field=fresh, seed=0, steps=2, cfg=1.0, vae=Vae())
    assert field.field.model == "comfyui:Wan21" and field.field.diffrep.channels == 16
    assert latent["samples"].shape == (1, 16, 1, 8, 16) and image.shape == (1, 64, 128, 3)
    again, _ = call("ResolutionFreeDecode", field=field, width=256, height=128, vae=Vae())
    assert again.shape == (1, 128, 256, 3) and all(len(shape) == 5 and shape[2] == 1 for shape in seen)
    _, rough, image = call("FieldSamplerSimple", **inputs, field=fresh, seed=0, steps=2, cfg=1.0)
    assert torch.equal(rough["samples"], latent["samples"]) and image.shape == (1, 8, 16, 3)
    _, views, _ = call("FieldSamplerSimple", **inputs, field=call("VoxelNerf", resolution=16, view_size=64, views=2)[0],
                       seed=0, steps=1, cfg=1.0)  # fmt: skip
    assert views["samples"].shape == (4, 16, 1, 8, 8)


# Objects, meshes, files.


def test_views_show_the_object_where_it_is(call, ball):
    image, mask, depth, cameras = call("RenderFieldViews", field=ball, count=3, size=64)
    assert len(json.loads(cameras)["frames"]) == 3
    assert image.shape == depth.shape == (3, 64, 64, 3) and mask.shape == (3, 64, 64)
    assert mask[:, 32, 32].min() > 0.9 and mask[:, 0, 0].max() == 0
    assert image[0, 32, 32, 0] > 0.8 and image[0, 32, 32, 1] < 0.2 and image[0, 0, 0].min() == 1
    assert depth[0, 32, 32, 0] > 0.9 and depth[0, 0, 0].max() == 0
    listed, *_ = call("RenderFieldViews", field=ball, path="list", views="0,20", size=64)
    assert torch.allclose(listed[0], image[0], atol=1e-5)
    camera = {"position": {"x": 0, "y": 0, "z": 8.0}, "target": {"x": 0, "y": 0, "z": 0}, "zoom": 1}
    viewed, *_ = call("RenderFieldViews", field=ball, path="camera", camera=camera, size=64)
    level, *_ = call("RenderFieldViews", field=ball, path="list", views="0,0", size=64)
    assert torch.allclose(viewed, level, atol=1e-4)
    with pytest.raises(ValueError, match="no camera is connected"):
        call("RenderFieldViews", field=ball, path="camera")
    with pytest.raises(ValueError, match="Render Field Views"):
        call("ResolutionFreeDecode", field=ball)


def test_a_field_comes_back_from_its_views_and_their_cameras(call, ball, folders):
    """From a turntable of eight, by their cameras or by angles; other sides look as the field's own, and its mesh is as large."""
    taken, mask, _, cameras = call("RenderFieldViews", field=ball, count=8, size=48)
    inputs = {"images": taken, "mask": mask, "steps": 45, "grid": 32, "size": 48}
    (made,) = call("ReconstructField", **inputs, cameras=cameras)
    assert made.field.model == "pixels" and not any(p.requires_grad for p in made.field.params.values())
    sides = {"path": "list", "views": "22,50\n200,-30", "size": 48}
    seen, true = call("RenderFieldViews", field=made, **sides), call("RenderFieldViews", field=ball, **sides)
    assert (seen[0] - true[0]).square().mean() < 0.01 and (seen[1] - true[1]).abs().mean() < 0.05
    angles = "\n".join(f"{45 * n},20" for n in range(8))
    (again,) = call("ReconstructField", **inputs, cameras=angles)
    shown = call("RenderFieldViews", field=again, **sides)
    assert torch.allclose(shown[0], seen[0], atol=0.05)
    sizes = []
    for field in (made, ball):
        (mesh,) = call("FieldToMesh", field=field, resolution=32, faces=500, texture=16, views=4)
        sizes.append(np.ptp(mesh.vertices[0].numpy(), axis=0).max())
    assert abs(sizes[0] / sizes[1] - 1) < 0.15
    (path,) = call("SaveField", field=made, filename_prefix="fields/reconstructed")
    (loaded,) = call("LoadField", file=f"{path} [output]")
    assert loaded.field.model == "pixels"


def test_pictures_without_masks_make_a_field_with_a_background(call, ball):
    taken, *_, cameras = call("RenderFieldViews", field=ball, count=4, size=24)
    (made,) = call("ReconstructField", images=taken, cameras=cameras, steps=40, grid=16, size=24)
    assert made.field.diffrep.kind == "rgb"
    image, *_ = call("RenderFieldViews", field=made, count=1, size=24)
    assert image.shape == (1, 24, 24, 3)


@pytest.mark.parametrize(
    "change, says",
    [
        ({"cameras": "0,20\n90,20"}, "cameras has 2 frames and there are 4 pictures"),
        ({"cameras": "0,20\n0,20\n0,20\n0,20"}, "all cameras of cameras stand at the same place"),
        ({"cameras": "left"}, "it takes azimuth,elevation in degrees"),
        ({"cameras": "{}"}, "cameras has no list of frames"),
        ({"mask": torch.ones(4, 8, 8)}, "mask has 4 x 8 x 8 pixels and images 4 x 24 x 24"),
        ({"method": "pullback"}, "needs a prompt"),
        ({"images": torch.zeros(1, 24, 24, 3), "cameras": "0,20"}, "there is one picture in cameras"),
    ],
)
def test_pictures_that_do_not_suit_their_cameras_are_refused(call, change, says):
    inputs = {"images": torch.rand(4, 24, 24, 3), "cameras": "0,20\n90,20\n180,20\n270,20", "steps": 1, "size": 24}
    with pytest.raises(ValueError, match=says):
        call("ReconstructField", **{**inputs, **change})


def test_a_mesh_goes_to_a_textured_file_and_comes_back(call, ball, folders):
    (mesh,) = call("FieldToMesh", field=ball, resolution=32, faces=500, texture=64, views=6)
    assert mesh.vertices.shape[::2] == (1, 3) and mesh.faces.shape[1] <= 500 and mesh.texture.shape == (1, 64, 64, 3)
    assert mesh.uvs.shape == (1, mesh.vertices.shape[1], 2) and mesh.faces.dtype == torch.int64
    assert mesh.texture[..., 0].mean() > 0.8 and mesh.texture[..., 1].mean() < 0.2
    ((path,),) = call("SaveTexturedGlb", mesh=mesh, filename_prefix="3d/ball")
    assert path == "3d/ball_00001_.glb"
    scene = trimesh.load(folders / "output" / path)
    (loaded,) = scene.geometry.values()
    assert trimesh.Trimesh(loaded.vertices, loaded.faces).is_volume  # its seams are repeated vertices, merged here
    assert len(loaded.faces) == mesh.faces.shape[1]
    assert np.allclose(np.sort(loaded.vertices, 0), np.sort(mesh.vertices[0].numpy(), 0), atol=1e-5)
    colours = np.asarray(loaded.visual.material.baseColorTexture)
    assert colours[..., 0].mean() > 200 and colours[..., 1].mean() < 60
    with pytest.raises(ValueError, match="not the name of a file"):
        call("SaveTexturedGlb", mesh=mesh, filename_prefix="../ball")


def test_each_mesh_of_a_batch_becomes_a_file(call, ball, folders):
    """Also where the smaller one is padded, and where one is empty."""
    meshes = part("comfy_nodes.meshes")
    (one,) = call("FieldToMesh", field=ball, resolution=24, faces=300, texture=16, views=4)
    points, corners = one.vertices.shape[1], one.faces.shape[1]
    batch = meshes.MeshValue(
        vertices=torch.cat([one.vertices, one.vertices * 0.5, one.vertices]),
        faces=torch.cat([one.faces, one.faces, one.faces]),
        uvs=one.uvs.repeat(3, 1, 1),
        texture=torch.cat([one.texture, 1 - one.texture, one.texture]),
        vertex_counts=torch.tensor([points, points, 0]),
        face_counts=torch.tensor([corners, corners - 8, 0]),
    )
    (paths,) = call("SaveTexturedGlb", mesh=batch, filename_prefix="3d/batch")
    assert paths == ["3d/batch_00001_.glb", "3d/batch_00002_.glb"]
    first, second = (trimesh.load(folders / "output" / path, force="mesh") for path in paths)
    assert np.allclose(second.extents, first.extents / 2, atol=0.02) and len(second.faces) == len(first.faces) - 8
    red, cyan = (np.asarray(each.visual.material.baseColorTexture)[..., 0].mean() for each in (first, second))
    assert red > 200 and cyan < 60
    batch.face_counts = torch.zeros(3, dtype=torch.int64)
    with pytest.raises(ValueError, match="has no faces"):
        call("SaveTexturedGlb", mesh=batch, filename_prefix="3d/none")


def node_of(name):
    return next(node for node in comfy_snapshot.nodes() if node.GET_SCHEMA().node_id == f"Pullback{name}")


def within_a_graph(name, inputs, prompt, extra):
    """Runs a saver as ComfyUI does, its hidden inputs included."""
    clone = type("Saver", (node_of(name),), {"hidden": SimpleNamespace(prompt=prompt, extra_pnginfo=extra)})
    return clone.execute(**inputs).args[0]


@pytest.mark.parametrize("name, suffix", [("SaveField", ".safetensors"), ("SaveTexturedGlb", ".glb")])
def test_files_carry_what_core_s_savers_embed(call, ball, folders, monkeypatch, name, suffix):
    from comfy.cli_args import args

    (mesh,) = call("FieldToMesh", field=ball, resolution=24, faces=300, texture=16, views=4)
    graph, page = {"1": {"class_type": "PullbackSaveField", "inputs": {"x": "ä"}}}, {"nodes": [1]}
    inputs = {"field": ball} if name == "SaveField" else {"mesh": mesh}

    def saved(prefix, prompt, extra):
        path = within_a_graph(name, inputs | {"filename_prefix": prefix}, prompt, extra)
        data = (folders / "output" / (path if isinstance(path, str) else path[0])).read_bytes()
        if suffix == ".glb":
            return json.loads(data[20 : 20 + int.from_bytes(data[12:16], "little")])["asset"].get("extras", {})
        return json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])["__metadata__"]

    texts = saved("a", graph, {"workflow": page, "note": 1})
    assert json.loads(texts["prompt"]) == graph and json.loads(texts["workflow"]) == page and texts["note"] == "1"
    texts = saved("b", graph, None)  # a prompt that came from no page
    assert json.loads(texts["prompt"]) == graph and "workflow" not in texts
    monkeypatch.setattr(args, "disable_metadata", True)
    texts = saved("c", graph, {"workflow": page})
    assert "workflow" not in texts and str(graph) not in str(texts) and "class_type" not in str(texts)


@pytest.mark.parametrize("name", ["SaveField", "SaveTexturedGlb"])
def test_bad_names_are_refused_before_anything_runs(name, folders):
    node = node_of(name)
    for good in ("fields/%date:yyyy-MM-dd%/x", "x", None):
        assert node.validate_inputs(filename_prefix=good) is True
    (folders / "output" / "file").touch()
    for bad in ("../x", "/etc/x", "", "file/x", "a" * 300):
        said = node.validate_inputs(filename_prefix=bad)
        assert isinstance(said, str) and "\n" not in said and bad[:9] in said


@pytest.mark.parametrize("name, waits", [("SaveField", "field"), ("SaveTexturedGlb", "mesh")])
def test_a_linked_name_is_looked_at_before_what_is_saved_is_computed(name, waits, folders):
    node = node_of(name)
    (socket,) = [each for each in node.GET_SCHEMA().inputs if each.id == waits]
    assert socket.lazy and node.check_lazy_status(filename_prefix="x", **{waits: None}) == [waits]
    with pytest.raises(ValueError, match="not the name of a file"):
        node.check_lazy_status(filename_prefix="../x", **{waits: None})


@pytest.mark.parametrize(
    "module, node, inputs",
    [
        ("meshes", "FieldToMesh", {"resolution": 32, "faces": 500, "texture": 64, "views": 4}),
        ("decoding", "RenderFieldViews", {"count": 2, "size": 128}),
    ],
)
def test_long_work_on_a_field_can_be_stopped_anywhere(call, ball, monkeypatch, module, node, inputs):
    ticks, last = [], [0]

    def tick():
        ticks.append(1)
        if len(ticks) == last[0]:
            raise comfy.model_management.InterruptProcessingException

    monkeypatch.setattr(part(f"comfy_nodes.{module}"), "tick", tick)
    call(node, field=ball, **inputs)
    total = len(ticks)
    assert total > 10
    for last[0] in (1, total // 2, total):
        ticks.clear()
        with pytest.raises(comfy.model_management.InterruptProcessingException):
            call(node, field=ball, **inputs)


def test_plain_meshes_are_unwrapped_and_baked(call, ball):
    sockets = part("comfy_nodes.sockets")
    (mesh,) = call("FieldToMesh", field=ball, resolution=24, faces=300, texture=0)
    assert getattr(mesh, "texture", None) is None
    bare = sockets.MeshValue(mesh.vertices, mesh.faces)
    textured, picture = call("BakeTexture", field=ball, mesh=bare, texture=32, views=6)
    assert picture.shape == (1, 32, 32, 3) and picture[..., 0].mean() > 0.7
    assert textured.uvs.min() >= 0 and textured.uvs.max() <= 1
    ((path,),) = call("SaveTexturedGlb", mesh=bare)
    assert path.endswith(".glb")
    with pytest.raises(ValueError, match="another pack"):
        call("SaveTexturedGlb", mesh=object())


def test_voxels_lie_where_core_s_nodes_expect_them(call, ball):
    """A field moved along +X is found along the last axis of VOXEL.data; its surface passes 0.5."""
    sockets, storage = part("comfy_nodes.sockets"), part("core.pullback.storage")
    core = ball.field
    params = {k: v.clone() for k, v in core.params.items()}
    line = torch.linspace(-1, 1, 24)
    z, y, x = torch.meshgrid(line, line, line, indexing="ij")
    at = torch.tensor([0.5, -0.3, 0.2])  # world
    params["density"] = (3 * (1 - torch.stack([x - at[0], y - at[1], z - at[2]]).norm(dim=0) / 0.3))[None, None]
    moved = sockets.FieldValue(ball.plan, storage.Field(core.diffrep, params))
    (voxel,) = call("FieldToVoxel", field=moved, resolution=32)
    assert voxel.data.shape == (1, 32, 32, 32) and voxel.data.max() <= 1
    depth, height, width = (voxel.data[0] > 0.5).nonzero().float().mean(0) / 31 * 2 - 1
    assert torch.allclose(torch.stack([width, height, depth]), sockets.to_gltf(at), atol=0.08)
    (mesh,) = call("FieldToMesh", field=moved, resolution=32, faces=500, texture=0)
    assert torch.allclose(mesh.vertices[0].mean(0), sockets.to_gltf(at), atol=0.08)


def test_no_steps_give_the_field_back_or_a_sentence(call, ball, toybox):
    inputs = {
        "noise": core_noise(1),
        "guider": core_guider(toybox),
        "sigmas": torch.zeros(0),
        "view_prompts": "auto",
        "solver": "adam",
    }
    field, latent, image = call("FieldSampler", field=ball, **inputs)
    assert field is ball and latent["samples"].shape[1] == 4 and image.shape[-1] == 3
    (fresh,) = call("SirenImage")
    with pytest.raises(ValueError, match="no steps to sample"):
        call("FieldSampler", field=fresh, **inputs)


def test_a_field_of_another_model_is_not_sampled_on(ball, toybox):
    other = part("comfy_nodes.plans").Again(replace(ball.field, model="comfyui:SD15"))
    with pytest.raises(ValueError, match=r"sampled by comfyui:SD15 and this model is toybox"):
        other.recipe(part("comfy_nodes.signals").signal_of(toybox[0], None), 0)


def core_noise(seed):
    return part("comfy_nodes.host").Seeded(seed)


def core_guider(toybox):
    import comfy.samplers

    guider = comfy.samplers.CFGGuider(toybox[0])
    guider.set_conds(toybox[3], toybox[4])
    guider.set_cfg(1.0)
    return guider


def test_fields_are_saved_and_loaded(call, ball, folders):
    (path,) = call("SaveField", field=ball, filename_prefix="fields/ball")
    load = node_of("LoadField")
    name = f"{path} [output]"
    assert name in load.GET_SCHEMA().inputs[0].options and load.validate_inputs(file=name) is True
    (loaded,) = call("LoadField", file=name)
    assert all(torch.equal(loaded.field.params[k], ball.field.params[k]) for k in ball.field.params)
    print_ = load.fingerprint_inputs(file=name)
    assert print_ == load.fingerprint_inputs(file=name)
    file = folders / "output" / path
    file.write_bytes(file.read_bytes() + b"x")
    assert print_ != load.fingerprint_inputs(file=name)
    with pytest.raises(ValueError, match="truncated or not"):
        call("LoadField", file=name)
    for wrong in ("../x.safetensors", "nothing.safetensors", "x.pt", "/etc/passwd"):
        said = load.validate_inputs(file=wrong)
        assert isinstance(said, str) and repr(wrong) in said


def test_a_fresh_field_cannot_be_shown(call):
    (fresh,) = call("VoxelNerf")
    for node in ("SaveField", "RenderFieldViews", "FieldToMesh", "FieldToVoxel", "ResolutionFreeDecode"):
        with pytest.raises(ValueError, match="has not been sampled yet"):
            call(node, field=fresh)


def test_flat_fields_are_told_from_objects(call, ball):
    """In words that name no class of the core, whatever the field is."""
    image, plans, sockets = part("core.pullback.diffreps.image"), part("comfy_nodes.plans"), part("comfy_nodes.sockets")
    storage = part("core.pullback.storage")
    (mesh,) = call("FieldToMesh", field=ball, resolution=24, faces=300, texture=0)
    siren = image.SirenImage(4, (64, 64), 16, 1)
    for plan, diffrep, params in (
        (plans.Fresh("siren-image"), siren, siren.init(torch.Generator())),
        (plans.Pixels(), image.PixelGrid((1, 4, 64, 64)), {"pixels": torch.zeros(1, 4, 64, 64)}),
    ):
        flat = sockets.FieldValue(plan, storage.Field(diffrep, params))
        for node, says in (
            ("RenderFieldViews", "only a 3D field is seen through cameras"),
            ("FieldToMesh", "only a 3D field becomes a mesh"),
            ("FieldToVoxel", "only a 3D field becomes voxels"),
        ):
            with pytest.raises(ValueError, match=says):
                call(node, field=flat)
        with pytest.raises(ValueError, match="only a 3D field"):
            call("BakeTexture", field=flat, mesh=mesh)
