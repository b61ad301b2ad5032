"""The saved workflows and help pages against the stored schemas: no ComfyUI needed. See comfy_lint.py for what is linted."""

from __future__ import annotations

import json
import re

import pytest
from comfy_lint import WIDGETS, problems
from comfy_pack import ROOT
from PIL import Image

FOLDER = ROOT / "workflows"
HELP = ROOT / "comfy_nodes" / "web" / "docs"
INFO = json.loads((ROOT / "tests" / "snapshots" / "object_info.json").read_text(encoding="utf-8"))
NAMES = sorted(path.stem for path in FOLDER.glob("*.json"))
RELEASED = sorted((ROOT / "tests" / "released").glob("*/*.json"))
"""Copies of the workflows as users have them; a release adds a folder, and none is ever changed."""
CORE = {
    "BasicScheduler", "CFGGuider", "CLIPTextEncode", "CheckpointLoaderSimple", "EmptyImage", "EmptyLatentImage", "ImageInvert",
    "ImageScale", "KSampler", "MarkdownNote", "MaskComposite", "Preview3D", "PreviewAny", "PreviewImage",
    "PrimitiveStringMultiline", "RandomNoise", "SaveAnimatedWEBP", "SaveImage", "SolidMask", "VAEDecode", "VoxelToMesh",
}  # fmt: skip
"""ComfyUI's own nodes that may be used: those that 0.3.64 and 0.27.0 both have, with the same inputs."""


def _read(path):
    return json.loads(path.read_text(encoding="utf-8"))


def test_there_are_the_workflows_that_were_promised():
    assert len(NAMES) >= 8 and sorted(path.stem for path in (FOLDER / "api").glob("*.json")) == NAMES


@pytest.mark.parametrize("path", RELEASED, ids=lambda path: f"{path.parent.name} {path.stem}")
def test_a_released_workflow_still_loads(path):
    assert not problems(_read(path), INFO)


def test_every_workflow_of_the_first_release_is_kept():
    assert {path.stem for path in RELEASED} >= {"Text to NeRF", "Panorama", "SIREN image at 8K"}


@pytest.mark.parametrize("name", NAMES)
def test_a_workflow_is_sound_and_explains_itself(name):
    page, api = _read(FOLDER / f"{name}.json"), _read(FOLDER / "api" / f"{name}.json")
    assert not problems(page, INFO) and not problems(api, INFO)
    assert {node["type"] for node in page["nodes"]} <= CORE | INFO.keys()
    notes = [node["widgets_values"][0] for node in page["nodes"] if node["type"] == "MarkdownNote"]
    assert notes and all(note.startswith("### ") and "**Run**" in notes[0] for note in notes)
    with Image.open(FOLDER / f"{name}.jpg") as thumbnail:
        assert thumbnail.size == (512, 512)


@pytest.mark.parametrize("name", NAMES)
def test_the_api_twin_says_the_same(name):
    page, api = _read(FOLDER / f"{name}.json"), _read(FOLDER / "api" / f"{name}.json")
    nodes = {str(node["id"]): node for node in page["nodes"] if node["type"] != "MarkdownNote"}
    assert {number: node["type"] for number, node in nodes.items()} == {k: n["class_type"] for k, n in api.items()}
    links = {link[0]: link for link in page["links"]}
    for number, node in nodes.items():
        wired = {e["name"]: links[e["link"]] for e in node.get("inputs", []) if e.get("link") is not None}
        assert {k: v for k, v in api[number]["inputs"].items() if isinstance(v, list)} == {
            name: [str(link[1]), link[2]] for name, link in wired.items()
        }
        if node["type"] in INFO:
            own = {name: value for name, value in _widgets(node).items() if name not in wired}
            assert own == {k: v for k, v in api[number]["inputs"].items() if not isinstance(v, list)}


def _widgets(node):
    """{name: value} of one of our nodes, out of its positional values."""
    values, found = list(node.get("widgets_values") or []), {}
    for each in INFO[node["type"]]["inputs"]:
        if each["type"] in WIDGETS:
            found[each["name"]] = values.pop(0)
            if each.get("control_after_generate"):
                assert values.pop(0) == "fixed", "a saved workflow gives the same result twice"
    return found


FIT = 1580, 940
"""Width and height that a page of 1680 x 1000 pixels shows at 0.8 or so when it opens a graph, with margins of its own.

One of 1280 then shows it at 0.6, below which it leaves out all text.
"""


@pytest.mark.parametrize("name", NAMES)
def test_a_workflow_can_be_read_when_it_opens(name):
    boxes = [(*node["pos"], *node["size"]) for node in _read(FOLDER / f"{name}.json")["nodes"]]
    assert max(x + w for x, _, w, _ in boxes) - min(x for x, *_ in boxes) <= FIT[0]
    assert max(y + h for _, y, _, h in boxes) - min(y - 30 for _, y, *_ in boxes) <= FIT[1]


def test_what_to_draw_is_written_once():
    for name in NAMES:
        nodes = _read(FOLDER / "api" / f"{name}.json").values()
        texts = [
            v for node in nodes for k, v in node["inputs"].items() if k in ("text", "value") and isinstance(v, str)
        ]
        assert len(texts) == len(set(texts)), f"{name}: {texts}"


@pytest.mark.parametrize("name", NAMES)
def test_a_thumbnail_shows_a_result_and_no_dark_graph(name):
    with Image.open(FOLDER / f"{name}.jpg") as thumbnail:
        dark = sum(thumbnail.convert("L").histogram()[:48]) / (512 * 512)
    assert dark < 0.5


def test_no_node_overlaps_another():
    for name in NAMES:
        boxes = [(*node["pos"], *node["size"]) for node in _read(FOLDER / f"{name}.json")["nodes"]]
        for i, (x, y, w, h) in enumerate(boxes):
            for a, b, c, d in boxes[i + 1 :]:
                assert x + w <= a or a + c <= x or y + h + 30 <= b or b + d + 30 <= y, f"{name}: two nodes overlap"


@pytest.mark.parametrize("node", sorted(INFO))
def test_a_help_page_has_a_picture_and_names_every_socket(node):
    text = (HELP / f"{node}.md").read_text(encoding="utf-8")
    assert text.startswith(f"# {INFO[node]['display_name']}\n")
    (picture,) = re.findall(r"!\[[^\]]+\]\(([^)]+)\)", text)
    with Image.open(HELP / picture) as shown:
        assert shown.width >= 300
    rows = set(re.findall(r"^\| ([\w]+) \|", text, re.M))
    wanted = {each["name"] for kind in ("inputs", "outputs") for each in INFO[node][kind]}
    assert wanted <= rows, f"the page of {node} does not name {sorted(wanted - rows)}"


def test_there_is_no_help_page_of_a_node_that_is_gone():
    assert {path.stem for path in HELP.glob("*.md")} == set(INFO)
