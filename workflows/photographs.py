"""Photographs: runs the saved workflows and takes pictures of their results, graphs and nodes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from comfy_page import Page
from comfyui import ROOT, Run, Server
from graph import Graph
from PIL import Image

HERE = Path(__file__).parent
HELP = ROOT / "comfy_nodes" / "web" / "docs"
PICTURES = ROOT / "docs" / "pictures" / "comfyui"
SIDE = 512
"""The side of a thumbnail in pixels."""
LIGHTER: dict[str, dict[str, dict[str, Any]]] = {
    "SIREN image at 8K": {
        "PullbackResolutionFreeDecode": {"width": 2048, "left": 0, "top": 0, "crop_width": 0, "crop_height": 0}
    },
    "Pullback against SJC and SDS": {"PullbackOptimise": {"iterations": 60}, "PullbackVoxelNerf": {"views": 4}},
    "Panorama from parts": {
        "PullbackSirenPanorama": {"views": 6},
        "PullbackResolutionFreeDecode": {"width": 1024, "left": 0, "top": 0, "crop_width": 0, "crop_height": 0},
    },
    "Reconstruct from eight views": {
        "PullbackFieldSamplerSimple": {"steps": 12},
        "PullbackVoxelNerf": {"views": 4},
        "PullbackReconstructField": {"steps": 60},
    },
    "Panorama": {"PullbackPanoramaSiren": {"width": 1024}},
    "Guided panorama": {
        "PullbackSirenPanorama": {"views": 6},
        "PullbackFieldSamplerSimple": {"steps": 15},
        "PullbackResolutionFreeDecode": {"width": 1024},
    },
}
"""Lighter settings for workflows that would otherwise take a quarter of an hour on two cores."""
STAND_IN: dict[str, dict[str, Any]] = {
    "PrimitiveStringMultiline": {"value": "a red car"},
    "PullbackFieldSamplerSimple": {"cfg": 2.0},
    "KSampler": {"cfg": 2.0},
    "PullbackVoxelNerf": {"resolution": 48},
}
"""Settings that suit a built-in model when it replaces the user's checkpoint."""
WORDS = "sea at sunset"
"""The prompt that replaces a workflow's own for a built-in model, which may not know its words."""
PLAIN = {"BackgroundColor": "ffffff", "ShowGrid": False}
"""Settings of the 3D viewers for pictures."""


def tiled(images: list[Image.Image]) -> Image.Image:
    """Return one square thumbnail on white: a single picture, up to four in a grid, or two panoramas above each other."""
    if len(images) == 2 and all(image.width == 2 * image.height for image in images):
        sheet = Image.new("RGB", (SIDE, SIDE), "white")
        for i, image in enumerate(images):
            sheet.paste(image.resize((SIDE, SIDE // 2), Image.Resampling.LANCZOS), (0, i * SIDE // 2))
        return sheet
    per_row = 1 if len(images) == 1 else 2
    cell, sheet = SIDE // per_row, Image.new("RGB", (SIDE, SIDE), "white")
    for i, image in enumerate(images[:4]):
        if image.width > image.height:  # show the middle of a panorama
            left = (image.width - image.height) // 2
            image = image.crop((left, 0, left + image.height, image.height))
        small = image.resize((cell, cell), Image.Resampling.LANCZOS)
        sheet.paste(small, (cell * (i % per_row), cell * (i // per_row)))
    return sheet


def photographed(server: Server, page: Page, graph: Graph) -> None:
    """Run a saved workflow, drop it on the canvas, and save pictures of the page, of the results and of each of our nodes."""
    page.page.goto(
        "about:blank"
    )  # an open page would redraw during the run; the page's own Run then uses cached results
    run = server.run(_runnable(graph), timeout=7200)
    if not run.ok:
        raise SystemExit(f"{graph.name}: {run.error}")
    for name, value in PLAIN.items():
        server.post(f"/settings/Comfy.Load3D.{name}", value)
    page.open(server)
    page.drop(HERE / f"{graph.name}.json")
    page.loaded(HERE / f"{graph.name}.json")
    page.set(LIGHTER.get(graph.name, {}))
    if not graph.needs:
        page.run()
    page.fit()
    page.picture().save(PICTURES / f"{graph.name.lower().replace(' ', '-')}.jpg", quality=85)
    numbers = {id(node): i for i, node in enumerate(graph.nodes, 1)}  # the page counts from 1
    shown = [image for node in graph.thumbnail for image in _shown(server, page, run, numbers[id(node)])]
    tiled(shown).save(HERE / f"{graph.name}.jpg", quality=88)
    for number, node in enumerate(graph.nodes, 1):
        target = HELP / f"{node.type}.jpg"
        if node.type.startswith("Pullback") and not target.exists():
            page.node(number).save(target, quality=85)


def _runnable(graph: Graph) -> dict[str, Any]:
    """Return a workflow's API form with lighter settings, and with a built-in model in place of the user's checkpoint."""
    nodes: dict[str, Any] = json.loads((HERE / "api" / f"{graph.name}.json").read_text(encoding="utf-8"))
    decoders = [node for node in nodes.values() if node["class_type"] == "PullbackLoadFieldDecoder"]
    name, sides = ("Infd", {"width": 64, "height": 64}) if decoders else ("Toybox", {"size": 64})
    for decoder in decoders:
        decoder["inputs"]["file"] = "built-in"
    for node in nodes.values():
        if node["class_type"] == "CheckpointLoaderSimple":
            node |= {"class_type": f"Pullback{name}Loader", "inputs": {}}
        elif graph.needs and node["class_type"] == "EmptyLatentImage":
            node |= {"class_type": f"PullbackEmpty{name}Latent", "inputs": {**sides, "batch_size": 1}}
        elif graph.needs:
            node["inputs"] |= STAND_IN.get(node["class_type"], {})
        node["inputs"] |= LIGHTER.get(graph.name, {}).get(node["class_type"], {})
    if graph.needs:
        wanted = [node["inputs"]["positive"][0] for node in nodes.values() if "positive" in node["inputs"]]
        for key, node in nodes.items():
            if node["class_type"] == "CLIPTextEncode" and isinstance(node["inputs"]["text"], str):
                node["inputs"]["text"] = WORDS if key in wanted else ""
    return nodes


def _shown(server: Server, page: Page, run: Run, number: int) -> list[Image.Image]:
    """Return the pictures of an output node, or a picture of its 3D viewer."""
    shown = run.outputs[str(number)]
    if "images" not in shown:
        return [page.viewer(number)]
    paths = [server.base / each["type"] / each["subfolder"] / each["filename"] for each in shown["images"]]
    return [Image.open(path).convert("RGB") for path in paths]
