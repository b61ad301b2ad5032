"""The pack in a real ComfyUI server on the processor: it loads quietly, every workflow runs, mistakes are explained."""

from __future__ import annotations

import contextlib
import json
import re
import subprocess
import sys
import threading
import time
from pathlib import Path
from urllib.parse import quote

import comfyui
import numpy as np
import pytest
import trimesh
from comfy_lint import reduced
from PIL import Image

pytestmark = pytest.mark.skipif(bool(comfyui.missing()), reason=comfyui.missing() or "it is here")
WORKFLOWS = sorted((comfyui.ROOT / "workflows" / "api").glob("*.json"))
SAVED = Path("output/fields/pullback_00001_.safetensors")


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    base = tmp_path_factory.mktemp("comfyui")
    comfyui.saved_field(base / SAVED)
    comfyui.saved_decoder(base / "models/pullback_decoders/sd15.decoder.safetensors")
    with comfyui.Server(base, odd=True) as running:
        yield running


def workflow(name: str) -> dict:
    return comfyui.quick(json.loads((comfyui.ROOT / "workflows" / "api" / f"{name}.json").read_text(encoding="utf-8")))


def only(graph: dict, kind: str) -> dict:
    """The inputs of the one node of a kind."""
    (node,) = [node for node in graph.values() if node["class_type"] == kind]
    return node["inputs"]


def number(graph: dict, kind: str) -> str:
    return next(key for key, node in graph.items() if node["class_type"] == kind)


def image(server, run, node: str, index: int = 0) -> np.ndarray:
    shown = run.outputs[node]["images"][index]
    return np.asarray(Image.open(server.base / shown["type"] / shown["subfolder"] / shown["filename"]).convert("RGB"))


def test_it_loads_without_a_warning(server):
    lines = [line for line in server.text().splitlines() if comfyui.PACK in line or "pullback" in line.lower()]
    assert any("seconds" in line for line in lines), "the pack is not among the import times"
    assert not [line for line in lines if re.search("warn|error|fail|except|consider", line, re.I)], lines
    assert "Traceback" not in server.text()


def test_it_imports_in_under_a_second(tmp_path):
    """In time of the processor, beyond what ComfyUI has imported anyway."""
    code = f"""
import importlib.util, sys, time
import comfy.options; comfy.options.enable_args_parsing()
import nodes, comfy.samplers, comfy_api.latest
start = time.process_time()
root = {str(comfyui.ROOT)!r}
spec = importlib.util.spec_from_file_location("pack", root + "/__init__.py", submodule_search_locations=[root])
pack = importlib.util.module_from_spec(spec); sys.modules["pack"] = pack; spec.loader.exec_module(pack)
import asyncio
found = asyncio.run(asyncio.run(pack.comfy_entrypoint()).get_node_list())
print("took", time.process_time() - start, len(found))
"""
    done = subprocess.run(
        [comfyui.PYTHON, "-c", code, "--cpu", "--base-directory", str(tmp_path)], cwd=comfyui.HOME, capture_output=True,
        text=True, timeout=600, env=comfyui.environment(),
    )  # fmt: skip
    seconds, count = re.search(r"took ([\d.e-]+) (\d+)", done.stdout).groups()
    assert int(count) > 10 and float(seconds) < 1.0


def test_object_info_is_what_the_snapshot_says(server):
    stored = json.loads((comfyui.ROOT / "tests" / "snapshots" / "object_info.json").read_text(encoding="utf-8"))
    assert reduced(server.get("/object_info")) == stored


def test_another_package_s_representation_is_a_node_and_a_broken_one_breaks_nothing(tmp_path):
    """Installed beside ComfyUI, where `pullback` itself is not: the pack's core stands in."""
    words = {"class_type": "CLIPTextEncode", "inputs": {"clip": ["model", 1], "text": "a blue ball"}}
    asked = {"model": ["model", 0], "positive": ["words", 0], "negative": ["words", 0], "field": ["fresh", 0]}
    shown = {"field": ["field", 0], "width": 100, "height": 0, "left": 0, "top": 0, "crop_width": 0, "crop_height": 0}
    graph = {
        "model": {"class_type": "PullbackToyboxLoader", "inputs": {}},
        "words": words,
        "fresh": {"class_type": "PullbackCosines", "inputs": {"waves": 12, "seed": 0}},
        "field": {"class_type": "PullbackFieldSamplerSimple", "inputs": {**asked, "seed": 0, "steps": 6, "cfg": 2.0}},
        "large": {"class_type": "PullbackResolutionFreeDecode", "inputs": {**shown, "tile": 64}},
        "seen": {"class_type": "PreviewImage", "inputs": {"images": ["field", 2]}},
        "larger": {"class_type": "PreviewImage", "inputs": {"images": ["large", 0]}},
        "saved": {"class_type": "PullbackSaveField", "inputs": {"field": ["field", 0], "filename_prefix": "cosines"}},
    }
    with comfyui.Server(tmp_path, packages=comfyui.ROOT / "tests" / "someones") as server:
        found = reduced(server.get("/object_info"))
        run = server.run(graph)
        assert run.ok, run.error
        picture, larger = image(server, run, "seen"), image(server, run, "larger")
        log = server.text()
    assert picture.shape == (64, 64, 3) and larger.shape == (100, 100, 3)
    middle = picture[24:40, 24:40].mean((0, 1))
    assert picture.std() > 10 and middle[2] > middle[0] + 30, "there is no blue ball"
    assert found.pop("PullbackCosines")["display_name"] == "Cosines"
    assert found == json.loads((comfyui.ROOT / "tests" / "snapshots" / "object_info.json").read_text(encoding="utf-8"))
    assert (tmp_path / "output" / "cosines_00001_.safetensors").is_file()
    (said,) = [line for line in log.splitlines() if "left out" in line and "broken" in line]
    assert "someones_field:Missing" in said and "Traceback" not in log


def test_the_page_finds_templates_thumbnails_help_and_words(server):
    assert set(server.get("/workflow_templates")[comfyui.PACK]) == {path.stem for path in WORKFLOWS}
    folder = comfyui.PACK.replace(" ", "%20")
    for path in WORKFLOWS:
        thumbnail = server.bytes(f"/api/workflow_templates/{folder}/{quote(path.stem)}.jpg")
        assert thumbnail[:2] == b"\xff\xd8"
    nodes = [name for name in server.get("/object_info") if name.startswith("Pullback")]
    words = server.get("/i18n")
    for node in nodes:
        assert server.bytes(f"/extensions/{folder}/docs/{node}.md")[:1] == b"#"
        assert all(node in words[language]["nodeDefs"] for language in words if language == "en")
    assert len([language for language in words if "PullbackFieldSampler" in words[language].get("nodeDefs", {})]) >= 2


@pytest.mark.parametrize("name", [path.stem for path in WORKFLOWS])
def test_every_workflow_runs(server, name):
    graph = workflow(name)
    run = server.run(graph)
    assert run.ok, run.error
    shown = {
        key for key, node in graph.items() if node["class_type"] in ("SaveImage", "PreviewImage", "SaveAnimatedWEBP")
    }
    assert shown or any(node["class_type"] == "Preview3D" for node in graph.values())
    assert all(run.outputs[key]["images"] for key in shown)
    for key, node in graph.items():
        if node["class_type"] == "PullbackSaveTexturedGlb":
            glb = run.outputs[key]["3d"][0]
            assert_textured(server.base / "output" / glb["subfolder"] / glb["filename"])
        if node["class_type"] == "Preview3D":
            assert (server.base / "output" / run.outputs[key]["result"][0]).is_file()
    again = server.run(graph)
    assert again.ok and not again.executed, "an unchanged graph ran again"


def assert_textured(path: Path) -> None:
    mesh = trimesh.load(path, force="mesh")
    assert mesh.is_watertight or len(mesh.faces) > 0
    assert len(mesh.faces) > 50 and len(mesh.visual.uv) == len(mesh.vertices)
    assert np.abs(mesh.vertices).max() <= 1.01 and np.isfinite(mesh.vertices).all()
    texture = np.asarray(mesh.visual.material.baseColorTexture.convert("RGB"))
    assert texture.shape == (128, 128, 3) and texture.std() > 0


def test_a_panorama_closes(server):
    graph = workflow("Panorama")
    picture = image(server, server.run(graph), number(graph, "SaveImage")).astype(float)
    assert picture.shape == (128, 256, 3)
    seam = np.abs(picture[:, 0] - picture[:, -1]).mean()
    inside = np.abs(np.diff(picture, axis=1)).mean((0, 2))
    assert inside.max() > 0 and seam <= inside.max(), "the seam shows"


def test_the_same_noise_gives_the_same_picture(server):
    graph = workflow("Same noise in KSampler and Field Sampler")
    run = server.run(graph)
    shown = {
        node["_meta"]["title"]: image(server, run, key)
        for key, node in graph.items()
        if node["class_type"] == "PreviewImage"
    }
    assert shown["KSampler"].std() > 5
    assert np.abs(shown["KSampler"].astype(int) - shown["Pixel Grid"]).max() <= 1
    assert shown["SIREN Image"].shape == shown["KSampler"].shape


def test_sizes_are_what_was_asked_for(server):
    graph = workflow("SIREN image at 8K")
    run = server.run(graph)
    assert image(server, run, number(graph, "SaveImage")).shape == (256, 256, 3)
    part = image(server, run, number(graph, "PreviewImage"))
    assert part.shape == (64, 64, 3)
    graph = workflow("Turntable of a saved field")
    run = server.run(graph)
    shown = run.outputs[number(graph, "SaveAnimatedWEBP")]["images"][0]
    film = Image.open(server.base / "output" / shown["subfolder"] / shown["filename"])
    assert film.n_frames == 4 and film.size == (32, 32)


def test_opposite_views_of_the_ball_have_its_two_colours(server):
    graph = workflow("Turntable of a saved field")
    sides = next(key for key, node in graph.items() if node["_meta"]["title"] == "Sides" and "images" in node["inputs"])
    graph[graph[sides]["inputs"]["images"][0]]["inputs"]["views"] = "90,0\n270,0"
    run = server.run(graph)
    one, other = (image(server, run, sides, i)[16, 16].astype(int) for i in range(2))
    assert {int(one.argmax()), int(other.argmax())} == {0, 2} and one.max() - one.min() > 60
    assert image(server, run, sides)[0, 0].min() > 240, "the background is white"


def test_the_same_seed_gives_the_same_bytes_and_another_does_not(server):
    graph = workflow("Text to NeRF")
    node = number(graph, "PreviewImage")

    def bytes_of(seed: int) -> bytes:
        only(graph, "PullbackFieldSamplerSimple")["seed"] = seed
        run = server.run(graph)
        assert number(graph, "PullbackFieldSamplerSimple") in run.executed
        return image(server, run, node).tobytes()

    first = bytes_of(11)
    assert bytes_of(12) != first  # and only the last prompt is in the cache
    assert bytes_of(11) == first


def test_a_field_is_seen_while_it_is_sampled(server):
    graph = workflow("Text to NeRF")
    only(graph, "PullbackFieldSamplerSimple").update(seed=21, steps=4)
    run = server.run(graph)
    steps = [event["data"] for event in run.events if event["type"] == "progress"]
    sampler = number(graph, "PullbackFieldSamplerSimple")
    values = [each["value"] for each in steps if str(each.get("node")) == sampler]
    assert len(set(values)) >= 4 and values == sorted(values)
    pictures = [raw for raw in run.previews if b"\xff\xd8\xff" in raw[:64]]
    assert pictures and len(set(pictures)) == len(pictures), "the preview does not change"
    last = [value for value in values if value > values[-1] - 60]
    assert len(set(last)) >= 4, "the bar stands still in the last fit"


def test_no_previews_are_sent_where_none_are_wanted(server, tmp_path):
    graph = workflow("Text to NeRF")
    only(graph, "PullbackFieldSamplerSimple").update(seed=22, steps=2)
    with comfyui.Server(tmp_path, "--preview-method", "none") as silent:
        run = silent.run(graph)
    assert run.ok and not [raw for raw in run.previews if b"\xff\xd8\xff" in raw[:64]]


def test_words_that_toybox_does_not_know_are_said_to_the_page(server):
    graph = workflow("Text to NeRF")
    _set("CLIPTextEncode", text="a red dragonfly mushroom")(graph)
    run = server.run(graph)
    (said, *_) = [event["data"]["text"] for event in run.events if event["type"] == "pullback.note"]
    assert "does not know 'dragonfly'" in said


@pytest.mark.parametrize("kind", ["toybox", "slow model"])
def test_cancel_works_within_a_second_and_the_next_prompt_runs(server, kind):
    graph = workflow("Text to NeRF")
    sampler = only(graph, "PullbackFieldSamplerSimple")
    sampler.update(seed=31, steps=500)
    if kind == "slow model":
        graph["odd"] = {"class_type": "TestOddModel", "inputs": {"model": sampler["model"], "kind": "slow"}}
        sampler["model"] = ["odd", 0]
    asked = []

    def cancel(event):
        if event["type"] == "progress" and not asked:
            asked.extend((time.monotonic(), server.seconds()))
            server.post("/interrupt")

    run = server.run(graph, watch=cancel)
    assert run.interrupted and run.error is None
    # A second of the server's own work: beside other work on the machine the clock shows more.
    assert server.seconds() - asked[1] < 1.0 and time.monotonic() - asked[0] < 10.0
    sampler.update(seed=32, steps=2)
    assert server.run(graph).ok


def test_cancel_works_within_a_second_while_a_picture_is_filled(server):
    graph = workflow("Fill in pixel by pixel")
    for node in graph.values():  # so large that it takes minutes
        if node["class_type"] in ("EmptyImage", "SolidMask"):
            node["inputs"]["width"] *= 9
            node["inputs"]["height"] *= 9
    asked = []

    def cancel(event):
        if event["type"] == "progress" and not asked:
            asked.extend((time.monotonic(), server.seconds()))
            server.post("/interrupt")

    run = server.run(graph, watch=cancel)
    assert run.interrupted and run.error is None
    assert server.seconds() - asked[1] < 1.0 and time.monotonic() - asked[0] < 10.0
    assert server.run(workflow("Fill in pixel by pixel")).ok


@pytest.mark.skipif(sys.platform != "linux", reason="looks for processes in /proc")
def test_while_a_mesh_is_unwrapped_the_page_answers_and_cancel_works(server):
    """Its library would hold up the whole server, for minutes with as many faces."""
    graph = workflow("Field to mesh and viewer")
    only(graph, "PullbackFieldToMesh").update(resolution=160, faces=100_000, texture=1024)
    waits, asked = [], []

    def cancel_in_its_midst():
        while not children(server):
            time.sleep(0.05)
        for _ in range(20):
            start = time.monotonic()
            server.get("/queue")
            waits.append(time.monotonic() - start)
            time.sleep(0.05)
        asked.extend((time.monotonic(), server.seconds()))
        server.post("/interrupt")

    hand = threading.Thread(target=cancel_in_its_midst, daemon=True)
    hand.start()
    run = server.run(graph)
    hand.join(10)
    assert run.interrupted and run.error is None and not children(server)
    assert max(waits) < 2.0  # idle, a hundredth of that; a machine may have other work
    assert server.seconds() - asked[1] < 1.0 and time.monotonic() - asked[0] < 10.0


def children(server) -> list[str]:
    """The processes that the server has started."""
    found: list[str] = []
    for file in Path(f"/proc/{server.process.pid}/task").glob("*/children"):
        with contextlib.suppress(FileNotFoundError):  # a thread that ended meanwhile
            found += file.read_text(encoding="ascii").split()
    return found


# name: (workflow, what to change, words of the one sentence)
def _odd(kind):
    def change(graph):
        sampler = only(graph, "PullbackFieldSamplerSimple")
        graph["odd"] = {"class_type": "TestOddModel", "inputs": {"model": sampler["model"], "kind": kind}}
        sampler["model"] = ["odd", 0]

    return change


def _latent(kind, **inputs):
    def change(graph):
        graph["odd"] = {"class_type": kind, "inputs": {"batch_size": 1, **inputs}}
        only(graph, "KSampler")["latent_image"] = ["odd", 0]

    return change


def _other_conditioning(graph):
    loader = {"class_type": "TestSmallCheckpoint", "inputs": {"ckpt_name": ""}}
    graph["other"] = loader
    for node in graph.values():
        if node["class_type"] == "CLIPTextEncode":
            node["inputs"]["clip"] = ["other", 1]


def _no_vae(graph):
    for node in graph.values():
        node["inputs"].pop("vae", None)


def _set(kind, **values):
    def change(graph):
        for node in graph.values():
            if node["class_type"] == kind:
                node["inputs"].update(values)

    return change


def _fresh_field(graph):
    sampler = next(node for node in graph.values() if node["class_type"] == "PullbackFieldSamplerSimple")
    only(graph, "PullbackFieldToMesh")["field"] = sampler["inputs"]["field"]


def _panorama_as_mesh(graph):
    graph["fresh"] = {
        "class_type": "PullbackSirenImage",
        "inputs": {"width": 0, "height": 0, "neurons": 64, "depth": 2, "detail": 10.0, "seed": 0},
    }
    only(graph, "PullbackFieldSamplerSimple")["field"] = ["fresh", 0]
    for kind in ("PreviewImage", "PullbackRenderFieldViews"):  # they would say so first
        del graph[number(graph, kind)]


MISTAKES = {
    "a model that returns NaN": ("Text to NeRF", _odd("nan"), "not finite"),
    "a model of shapes": ("Text to NeRF", _odd("shapes"), "fields are sampled from image models only"),
    "an audio model": ("Text to NeRF", _odd("audio"), "fields are sampled from image models only"),
    "a latent of another size": (
        "Same noise in KSampler and Field Sampler", _latent("EmptyLatentImage", width=1024, height=1024), "Empty Toybox Latent",
    ),
    "a video latent": (
        "Same noise in KSampler and Field Sampler",
        _latent("EmptyHunyuanLatentVideo", width=512, height=512, length=5), "Empty Toybox Latent",
    ),
    "an audio latent": (
        "Same noise in KSampler and Field Sampler", _latent("EmptyLatentAudio", seconds=2.0), "Empty Toybox Latent",
    ),
    "another model's words": ("Text to NeRF", _other_conditioning, "Toybox Loader's CLIP"),
    "words that toybox does not know": ("Text to NeRF", _set("CLIPTextEncode", text="xyzzy"), "xyzzy"),
    "latents without a VAE": ("Text to NeRF with your checkpoint", _no_vae, "connect the VAE"),
    "a field that was not sampled": ("Text to NeRF", _fresh_field, "put a Field Sampler between"),
    "a mesh of an image": ("Text to NeRF", _panorama_as_mesh, "has no surface"),
    "elevations upside down": ("Text to NeRF", _set("PullbackVoxelNerf", lowest=40.0, highest=10.0), "must be below"),
    "a part outside the picture": ("SIREN image at 8K", _set("PullbackResolutionFreeDecode", left=9000), "does not lie within"),
    "a camera that is not there": (
        "Turntable of a saved field", _set("PullbackRenderFieldViews", path="camera"), "connect one from a Load 3D node",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_is_one_sentence_on_the_node(server, name):
    where, change, words = MISTAKES[name]
    graph = workflow(where)
    change(graph)
    run = server.run(graph)
    assert run.error is not None, "it ran"
    message = run.error["exception_message"].strip()
    assert words in message and "\n" not in message and len(message) < 300, message
    assert graph[str(run.error["node_id"])]["class_type"].startswith(("Pullback", "CLIPTextEncode", "KSampler"))
    sound = workflow("Turntable of a saved field")
    assert server.run(sound).ok, "the next prompt does not run"


def test_wrong_sockets_and_missing_files_are_refused_before_anything_runs(server):
    graph = workflow("Text to NeRF")
    only(graph, "PullbackFieldToMesh")["field"] = [number(graph, "PullbackToyboxLoader"), 0]
    for kind in ("PreviewImage", "PullbackSaveField"):  # their parts of the graph are sound and would run
        del graph[number(graph, kind)]
    with pytest.raises(comfyui.Refused) as refused:
        server.run(graph)
    assert "PULLBACK_FIELD" in str(refused.value.errors[number(graph, "PullbackFieldToMesh")])
    graph = workflow("Turntable of a saved field")
    for file, words in (
        ("gone.safetensors", "there is no field file"),
        ("../log.txt", "is not the name of a file"),
        ("a.ckpt", "not a field file"),
    ):
        only(graph, "PullbackLoadField")["file"] = file
        with pytest.raises(comfyui.Refused) as refused:
            server.run(graph)
        (said,) = refused.value.errors[number(graph, "PullbackLoadField")]
        assert words in said


def reached(graph: dict, key: str) -> dict:
    """The part of a graph that a node needs, itself among it."""
    inputs = graph[key]["inputs"].values()
    parts = [reached(graph, str(value[0])) for value in inputs if isinstance(value, list)]
    return {name: node for each in parts for name, node in each.items()} | {key: json.loads(json.dumps(graph[key]))}


def numbers_of(server) -> list[tuple[str, dict, str, str, dict]]:
    """(node, a graph with it, its key there, a number's name, its options) of every number with limits of every node."""
    saved = [workflow(path.stem) for path in WORKFLOWS]
    found = []
    for kind, info in sorted(server.get("/object_info").items()):
        if not kind.startswith("Pullback"):
            continue
        listed = {
            name: each for group in info["input"].values() for name, each in group.items() if isinstance(each, list)
        }
        used = next(((g, k) for g in saved for k, node in g.items() if node["class_type"] == kind), None)
        if used is None:  # in no workflow, so it must need no other node
            widgets = {
                name: options[0]["default"]
                for name, (_, *options) in listed.items()
                if options and "default" in options[0]
            }
            used = {"it": {"class_type": kind, "inputs": widgets}}, "it"
        graph = reached(*used)
        if not info["output_node"]:
            graph["shown"] = {"class_type": "PreviewAny", "inputs": {"source": [used[1], 0]}}
        found += [
            (kind, graph, used[1], name, options[0])
            for name, (what, *options) in listed.items() if what in ("INT", "FLOAT") and "max" in options[0]
        ]  # fmt: skip
    return found


def test_every_number_of_every_node_is_refused_just_outside_its_limits(server):
    """Typed in, by the server and before anything runs."""
    checked = set()
    for kind, graph, key, name, options in numbers_of(server):
        sound = graph[key]["inputs"].get(name, options["default"])
        past = 1 if isinstance(options["max"], int) and isinstance(options["default"], int) else 1e-3
        for value in (options["min"] - past, options["max"] + past, "much"):
            graph[key]["inputs"][name] = value
            with pytest.raises(comfyui.Refused) as refused:
                server.post("/prompt", {"prompt": graph})
            (said,) = refused.value.errors[key]
            assert list(refused.value.errors) == [key] and name in said and "\n" not in said, (kind, name, value)
            assert len(said) < 300 and (value == "much" or f"{value}" in said), said
        graph[key]["inputs"][name] = sound
        checked.add((kind, name))
    assert len(checked) > 60 and {kind for kind, _ in checked} >= {"PullbackFieldSampler", "PullbackSirenTile"}


def test_bad_names_are_refused_before_anything_runs(server):
    graph = workflow("Text to NeRF")
    savers = ("PullbackSaveField", "PullbackSaveTexturedGlb")
    for kind in savers:
        only(graph, kind)["filename_prefix"] = "../../evil"
    del graph[number(graph, "PreviewImage")]  # its part of the graph is sound and would run
    with pytest.raises(comfyui.Refused) as refused:
        server.run(graph)
    for kind in savers:
        assert any(
            "'../../evil' is not the name of a file in" in said for said in refused.value.errors[number(graph, kind)]
        )


def test_a_bad_name_from_another_node_is_refused_before_anything_is_sampled(server):
    graph = workflow("Text to NeRF")
    graph["name"] = {"class_type": "PrimitiveString", "inputs": {"value": "../../evil"}}
    only(graph, "PullbackSaveField")["filename_prefix"] = ["name", 0]
    only(graph, "PullbackFieldSamplerSimple")["seed"] = 41
    run = server.run(graph)
    assert (
        run.error["node_type"] == "PullbackSaveField" and "is not the name of a file" in run.error["exception_message"]
    )
    assert number(graph, "PullbackFieldSamplerSimple") not in run.executed


def test_a_file_of_rubbish_is_said_to_be_one(server):
    rubbish = server.base / "input" / "rubbish.safetensors"
    rubbish.parent.mkdir(exist_ok=True)
    rubbish.write_bytes(b"\x80\x04\x95" + bytes(100))
    graph = workflow("Turntable of a saved field")
    only(graph, "PullbackLoadField")["file"] = "rubbish.safetensors"
    run = server.run(graph)
    message = run.error["exception_message"].strip()
    assert "rubbish.safetensors" in message and "\n" not in message
