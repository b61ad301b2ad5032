"""What the nodes convert, name and check, without ComfyUI: sockets, ladders, plans, saved graphs."""

from __future__ import annotations

import ast
import json
import math
import re
from pathlib import Path
from types import SimpleNamespace

import comfy_lint
import comfy_snapshot
import pytest
import torch
from comfy_pack import ROOT, part

sockets, ladders, plans = (part(f"comfy_nodes.{name}") for name in ("sockets", "ladder", "plans"))
cameras = part("core.pullback.geometry.cameras")
INFO = json.loads((ROOT / "tests/snapshots/object_info.json").read_text(encoding="utf-8"))
TOYBOX = SimpleNamespace(name="toybox", channels=4, size=64, scale=1, sigma_min=0.02, sigma_max=40.0)
LATENT = SimpleNamespace(channels=4, size=64, scale=8, sigma_min=0.03, sigma_max=14.6)


def random(*shape: int) -> torch.Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(0))


# Layouts.


def test_images_go_there_and_back():
    pictures = random(2, 3, 5, 7)
    image = sockets.to_image(pictures)
    assert image.shape == (2, 5, 7, 3) and image.is_contiguous()
    assert torch.equal(sockets.from_image(image), pictures)
    assert image[1, 4, 6, 2] == pictures[1, 2, 4, 6]


def test_transparent_pictures_lie_on_white_and_have_a_mask():
    rgba = torch.zeros(1, 4, 2, 2)
    rgba[0, :, 0, 0] = torch.tensor([0.5, 0.0, 0.0, 0.5])  # half-covered red, premultiplied
    image, mask = sockets.to_image(rgba), sockets.to_mask(rgba)
    assert image[0, 0, 0].tolist() == [1.0, 0.5, 0.5] and image[0, 1, 1].tolist() == [1.0, 1.0, 1.0]
    assert mask.tolist() == [[[0.5, 0.0], [0.0, 0.0]]]
    assert sockets.to_mask(rgba[:, :3]).min() == 1


def test_axes_of_gltf_are_those_of_the_glb_writer():
    points = random(10, 3)
    matrix = torch.from_numpy(part("core.pullback.mesh.glb").Y_UP).float()
    assert torch.allclose(sockets.to_gltf(points), points @ matrix.T)
    assert torch.equal(sockets.to_world(sockets.to_gltf(points)), points)


def test_the_viewer_s_camera_sees_the_side_that_it_stands_on():
    def side(x, y, z, zoom=1):
        info = {"position": {"x": x, "y": y, "z": z}, "target": {"x": 0, "y": 0, "z": 0}, "zoom": zoom}
        eye, fov = sockets.camera_of(info, math.radians(40))
        view = cameras.look_at(eye, torch.zeros(1, 3), fov)
        return math.degrees(view.azimuth), math.degrees(view.elevation), math.degrees(fov)

    assert side(0, 0, 8) == pytest.approx((0, 0, 40), abs=1e-4)  # glTF's front is +Z
    assert side(8, 0, 0) == pytest.approx((90, 0, 40), abs=1e-4)
    assert side(0, 8, 8)[1] == pytest.approx(45, abs=1e-4)
    assert side(0, 0, 8, zoom=2)[2] == pytest.approx(2 * math.degrees(math.atan(math.tan(math.radians(20)) / 2)))
    for wrong in (None, {}, {"position": {"x": 1}}, 3):
        with pytest.raises(ValueError, match="Load 3D"):
            sockets.camera_of(wrong, 1.0)


def test_nearness_is_white_where_it_is_near_and_black_where_nothing_is():
    depth = torch.tensor([2.0, 3.0, 4.0, torch.inf]).view(1, 1, 2, 2)
    assert sockets.nearness(depth)[0, ..., 0].flatten().tolist() == pytest.approx([1.0, 0.55, 0.1, 0.0])
    assert sockets.nearness(torch.full((1, 1, 2, 2), torch.inf)).max() == 0


def test_lists_of_views():
    assert sockets.angles("0,20\n90, -5; 180,0") == [(0, 20), (90, -5), (180, 0)]
    for wrong in ("", "1", "1,2,3", "a,b", "nan,1"):
        with pytest.raises(ValueError, match="azimuth,elevation"):
            sockets.angles(wrong)


def test_a_fresh_field_says_that_it_must_be_sampled():
    with pytest.raises(ValueError, match="Field Sampler"):
        sockets.FieldValue(plans.Fresh("siren-image")).sampled()


# Noise levels.


class Vp:
    """ComfyUI's eps and v models."""

    def noise_scaling(self, sigma, noise, latent_image, max_denoise=False):
        return noise * ((1 + sigma**2).sqrt() if max_denoise else sigma) + latent_image


class Flow:
    """ComfyUI's flow models, with its optional scale of the noise."""

    def __init__(self, scale=1.0):
        self.scale = scale

    def noise_scaling(self, sigma, noise, latent_image, max_denoise=False):
        return sigma * self.scale * noise + (1 - sigma) * latent_image


def test_a_vp_ladder_is_sigmas_themselves():
    rungs = ladders.ladder(Vp(), torch.tensor([14.6, 3.0, 0.5, 0.0]), at_most=True)
    assert rungs.sigmas.tolist() == pytest.approx([14.6, 3.0, 0.5, 0.0]) and rungs.alphas.tolist() == [1, 1, 1, 1]
    assert rungs.excess == pytest.approx(math.sqrt(1 + 14.6**2) / 14.6)
    assert [rungs.find(s) for s in rungs.sigmas.float()] == [0, 1, 2, 3]


@pytest.mark.parametrize("scale", [1.0, 2.0])
def test_a_flow_ladder_steps_as_euler_does(scale):
    """One DDIM step of the core, taken back to ComfyUI's form, is one Euler step."""
    host = torch.tensor([1.0, 0.9, 0.5, 0.1, 0.0])
    rungs = ladders.ladder(Flow(scale), host)
    noise, clean = random(8).double(), random(8).double() - 0.5
    for i in range(len(host) - 1):
        (s, t), (a, b) = rungs.sigmas[i : i + 2].tolist(), rungs.alphas[i : i + 2].tolist()
        before = a * (0.3 * clean + s * noise)
        core = b * (clean + t / s * (before / a - clean))
        euler = before + float(host[i + 1] - host[i]) * (before - clean) / float(host[i])
        assert torch.allclose(core, euler, atol=3e-6)  # the first alpha is nearly and not quite 0


def test_ladders_go_both_ways():
    sigmas = torch.tensor([20.0, 1.0, 0.05, 0.0], dtype=torch.float64)
    for model in (Vp(), Flow()):
        there = ladders.host_sigmas(model, sigmas)
        assert torch.allclose(ladders.ladder(model, there).sigmas, sigmas, rtol=1e-5)


@pytest.mark.parametrize("wrong", [[], [1.0], [1.0, 1.0, 0.0], [0.0, 1.0], [1.0, float("nan"), 0.0]])
def test_sigmas_that_do_not_fall_are_refused(wrong):
    with pytest.raises(ValueError, match="fall"):
        ladders.ladder(Vp(), torch.tensor(wrong))


# Plans.


def test_plans_become_the_core_s_own_recipes():
    tasks = part("core.pullback.tasks")
    settings = tasks.Settings("x", views=8)
    assert plans.Fresh("voxel-radiance").recipe(TOYBOX, 0).diffrep == tasks.recipe("generate", TOYBOX, settings).diffrep
    assert plans.Fresh("siren-image").recipe(TOYBOX, 0).diffrep == tasks.recipe("image", TOYBOX, settings).diffrep
    for projection in ("sphere", "cylinder"):
        plan = plans.Fresh.of(f"siren-{projection}", 8, detail=18.0)
        assert plan.recipe(TOYBOX, 0).diffrep == tasks.recipe("panorama", TOYBOX, settings, projection).diffrep


def test_an_image_is_fitted_in_random_pixels_of_its_own_view():
    recipe = plans.Fresh.of("siren-image", view_width=32, view_height=64).recipe(TOYBOX, 0)
    diffrep, random_ = recipe.diffrep, torch.Generator().manual_seed(0)
    params = diffrep.init(random_)
    params["out"] = torch.randn(params["out"].shape, generator=random_)
    with torch.no_grad():
        assert diffrep.fit(params, None, diffrep(params), random_)(params).abs().max() < 1e-4
        residual = diffrep.fit(params, None, diffrep(params) + 1, random_)(params)
    assert residual.shape == (diffrep.pixels, 4) and torch.allclose(residual, torch.tensor(-1.0), atol=1e-4)


def test_cameras_keep_to_the_plan():
    plan = plans.Fresh.of("voxel-radiance", lowest=10.0, highest=20.0, distance=4.0, fov=30.0)
    view = plan.recipe(TOYBOX, 6).views.draw(torch.Generator().manual_seed(0))
    degrees = torch.rad2deg(view.elevation)
    assert len(view) == 6 and degrees.min() >= 10 - 1e-3 and degrees.max() <= 20 + 1e-3
    assert torch.allclose(view.position.norm(dim=-1), torch.tensor(4.0)) and math.degrees(view.fov[0]) == pytest.approx(
        30
    )
    with pytest.raises(ValueError, match="below the highest"):
        plans.Fresh.of("voxel-radiance", lowest=20.0, highest=10.0).recipe(TOYBOX, 0)


def test_sizes_are_in_pixels():
    assert plans.Fresh.of("siren-image", view_width=768, view_height=512).recipe(LATENT, 0).diffrep.size == (64, 96)
    assert plans.Fresh("siren-image").recipe(LATENT, 0).diffrep.size == (64, 64)
    assert plans.Fresh.of("voxel-radiance", view_size=256).recipe(LATENT, 0).diffrep.size == 32
    assert plans.shape_of(plans.Fresh("siren-cylinder").recipe(LATENT, 20).views) == (16, 4, 64, 64)  # whole rounds
    with pytest.raises(ValueError, match="multiple of 8"):
        plans.Fresh.of("siren-image", view_width=500, view_height=508).recipe(LATENT, 0)


def test_a_loaded_field_is_sampled_on_through_its_own_views():
    storage = part("core.pullback.storage")
    for plan in (
        plans.Fresh.of("siren-image", view_width=64, view_height=32),
        plans.Fresh.of("voxel-radiance", grid=16),
        plans.Fresh("siren-sphere"),
        plans.Fresh("siren-cylinder"),
    ):
        recipe = plan.recipe(TOYBOX, 3)
        params = recipe.diffrep.init(torch.Generator().manual_seed(0))
        again = plans.Again(storage.Field(recipe.diffrep, params)).recipe(TOYBOX, 3)
        assert again.diffrep == recipe.diffrep and plans.shape_of(again.views) == plans.shape_of(recipe.views)
    for other in (SimpleNamespace(name="comfyui:Flux", channels=16), SimpleNamespace(name="comfyui:SD15", channels=4)):
        with pytest.raises(ValueError, match="sampled by toybox and this model is comfyui"):
            plans.Again(storage.Field(recipe.diffrep, params)).recipe(other, 0)


# Saved graphs, schemas and languages.


def graphs(pattern: str) -> list[Path]:
    return sorted((ROOT / "workflows").rglob(pattern))


@pytest.mark.parametrize("path", graphs("*.json"), ids=lambda p: p.name)
def test_saved_graphs_agree_with_the_schemas(path):
    assert comfy_lint.problems(json.loads(path.read_text(encoding="utf-8")), INFO) == []


GRAPH = {
    "1": {"class_type": "PullbackVoxelNerf", "inputs": {
        "resolution": 48, "view_size": 0, "views": 8, "lowest": -15.0, "highest": 60.0, "distance": 3.2, "fov": 40.0,
        "seed": 0}},
    "2": {"class_type": "PullbackSaveField", "inputs": {"field": ["1", 0], "filename_prefix": "x"}},
}  # fmt: skip


@pytest.mark.parametrize(
    ("node", "name", "value", "says"),
    [
        ("1", "resolution", 7, "out of range"),
        ("1", "resolution", "48", "not of INT"),
        ("1", "fov", None, "is missing"),
        ("1", "nonsense", 1, "no input"),
        ("2", "field", ["9", 0], "not there"),
        ("2", "field", ["1", 3], "takes PULLBACK_FIELD"),
        ("2", "field", 5, "takes a link"),
    ],
)
def test_the_lint_finds_what_is_wrong(node, name, value, says):
    assert comfy_lint.problems(GRAPH, INFO) == []
    broken = json.loads(json.dumps(GRAPH))
    broken[node]["inputs"][name] = value
    (found,) = comfy_lint.problems(broken, INFO)
    assert says in found


def test_the_lint_lets_a_saved_graph_be_older_than_an_optional_widget():
    inputs = [{"name": name, "type": "INT", "optional": optional} for name, optional in (("a", False), ("b", True))]
    info = {"PullbackX": {"inputs": inputs, "outputs": []}}
    graph = lambda values: {"nodes": [{"id": 1, "type": "PullbackX", "widgets_values": values}], "links": []}
    assert [comfy_lint.problems(graph(values), info) for values in ([1, 2], [1])] == [[], []]
    assert comfy_lint.problems(graph([]), info) and comfy_lint.problems(graph([1, 2, 3]), info)


def test_a_changed_schema_is_told_from_a_longer_one():
    longer = json.loads(json.dumps(INFO))
    longer["PullbackSaveField"]["inputs"].append({"name": "new", "type": "INT", "optional": True})
    assert comfy_lint.breaks(INFO, longer) == []
    for change in (
        lambda n: n["inputs"].reverse(),
        lambda n: n["outputs"].pop(),
        lambda n: n["inputs"][1].update(type="INT"),
    ):
        other = json.loads(json.dumps(INFO))
        change(other["PullbackSaveField"])
        assert comfy_lint.breaks(INFO, other)


def test_every_input_and_output_explains_itself():
    for node, schema in INFO.items():
        assert schema["description"] and schema["category"] == "Pullback", node
        for each in (*schema["inputs"], *schema["outputs"]):
            assert each["tooltip"] and each["tooltip"].endswith("."), f"{node}.{each['name']}"


SHIPPED = {"ar", "en", "es", "fa", "fr", "he", "it", "ja", "ko", "pt-BR", "ru", "tr", "zh", "zh-TW"}
"""The languages of ComfyUI's page (its package 1.58; older ones have some of them). Others are never shown."""


def in_language(language):
    return json.loads((ROOT / f"locales/{language}/nodeDefs.json").read_text(encoding="utf-8"))


def test_the_languages_are_those_that_the_page_ships():
    assert {path.name for path in (ROOT / "locales").iterdir()} == SHIPPED


@pytest.mark.parametrize("language", sorted(SHIPPED))
def test_languages_are_complete(language):
    words = in_language(language)
    assert words.keys() == INFO.keys()
    for node, schema in INFO.items():
        entry = words[node]
        assert entry["display_name"] and entry["description"]
        assert list(entry.get("inputs", {})) == [each["name"] for each in schema["inputs"]], node
        assert list(entry["outputs"]) == [str(i) for i in range(len(schema["outputs"]))], node
        for each in (*entry.get("inputs", {}).values(), *entry["outputs"].values()):
            assert each["name"] and each["tooltip"].endswith((".", "。")), f"{node}: {each}"


@pytest.mark.parametrize("language", sorted(SHIPPED - {"en"}))
def test_everything_is_translated_and_its_numbers_and_choices_are_kept(language):
    choices = {option for node in INFO.values() for each in node["inputs"] for option in each.get("options", ())}
    pairs = dict(zip(*(comfy_snapshot.texts(in_language(each)) for each in ("en", language)), strict=True))
    for english, text in pairs.items():
        names = {*re.findall(r"\b[A-Z]\w*", english)}
        assert text != english or len(set(re.findall(r"[\w-]+", english)) - names) < 3, f"not translated: {english}"
        kept = re.findall(r"\d[\d.]*\d|%.*?%|\[output\]|\.safetensors", english)
        kept += [word for word in re.findall(r"([\w-]+):", english) if word in choices]
        assert not [each for each in kept if each not in text], f"{english!r} became {text!r}"
        assert not set("{}@|") & set(text), f"ComfyUI's page gives these a meaning: {text}"


def test_the_pack_keeps_the_registry_s_rules():
    """No eval, exec, subprocess or sys.path; nothing from the network; torch is not asked for."""
    banned = {"eval", "exec", "compile", "__import__"}
    for path in (ROOT / "__init__.py", *sorted((ROOT / "comfy_nodes").rglob("*.py"))):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
                assert node.func.id not in banned, path
            if isinstance(node, ast.Attribute):
                assert not (isinstance(node.value, ast.Name) and (node.value.id, node.attr) == ("sys", "path")), path
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) and not node.level else []
            assert not {name.split(".")[0] for name in names} & {
                "subprocess",
                "urllib",
                "requests",
                "socket",
                "pullback",
            }, path
    wanted = [
        line.split(">=")[0] for line in (ROOT / "requirements.txt").read_text().splitlines() if line[:1].isalpha()
    ]
    assert wanted and not {"torch", "torchvision", "torchaudio", "numpy"} & set(wanted)
