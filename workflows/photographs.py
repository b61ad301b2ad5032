"""Photographs: thumbnails of the saved workflows, pictures of their graphs and of our nodes, after a real run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from comfy_page import Page
from comfyui import ROOT, Server
from graph import Graph
from PIL import Image

HERE = Path(__file__).parent
HELP = ROOT / "comfy_nodes" / "web" / "docs"
PICTURES = ROOT / "docs" / "pictures" / "comfyui"
SIDE = 512
"""Pixels of a thumbnail's side."""
LIGHTER: dict[str, dict[str, dict[str, Any]]] = {
    "SIREN image at 8K": {
        "PullbackResolutionFreeDecode": {"width": 2048, "left": 0, "top": 0, "crop_width": 0, "crop_height": 0}
    },
    "Pullback against SJC and SDS": {"PullbackOptimise": {"iterations": 60}, "PullbackVoxelNerf": {"views": 4}},
    "Panorama from parts": {
        "PullbackSirenPanorama": {"views": 6},
        "PullbackResolutionFreeDecode": {"width": 1024, "left": 0, "top": 0, "crop_width": 0, "crop_height": 0},
    },
    "Panorama": {"PullbackPanoramaSiren": {"width": 1024}},
}
"""What photographs are made with where the workflow itself takes a quarter of an hour on two cores."""


def tiled(images: list[Image.Image]) -> Image.Image:
    """One square thumbnail: up to four pictures in a grid, or one in the middle, on white."""
    per_row = 1 if len(images) == 1 else 2
    cell, sheet = SIDE // per_row, Image.new("RGB", (SIDE, SIDE), "white")
    for i, image in enumerate(images[:4]):
        if image.width > image.height:  # a panorama: its middle
            left = (image.width - image.height) // 2
            image = image.crop((left, 0, left + image.height, image.height))
        small = image.resize((cell, cell), Image.Resampling.LANCZOS)
        sheet.paste(small, (cell * (i % per_row), cell * (i // per_row)))
    return sheet


def photographed(server: Server, page: Page, graph: Graph) -> None:
    """Drop the saved workflow, run it as it is, and keep what is seen: page, thumbnail, and each of our nodes."""
    if (
        not graph.needs
    ):  # without the page at first, which would draw all the while; its own Run then has it all at once
        page.page.goto("about:blank")
        saved = json.loads((HERE / "api" / f"{graph.name}.json").read_text(encoding="utf-8"))
        for node in saved.values():
            node["inputs"].update(LIGHTER.get(graph.name, {}).get(node["class_type"], {}))
        run = server.run(saved, timeout=7200)
        if not run.ok:
            raise SystemExit(f"{graph.name}: {run.error}")
    page.open(server)
    page.drop(HERE / f"{graph.name}.json")
    page.loaded(HERE / f"{graph.name}.json")
    page.set(LIGHTER.get(graph.name, {}))
    if not graph.needs:
        page.run()
    page.fit()
    whole = page.picture()
    whole.save(PICTURES / f"{graph.name.lower().replace(' ', '-')}.jpg", quality=85)
    if graph.needs:
        tiled([whole]).save(HERE / f"{graph.name}.jpg", quality=88)
    else:
        numbers = {id(node): i + 1 for i, node in enumerate(graph.nodes)}  # the page counts from 1
        tiled([each for node in graph.thumbnail for each in page.results(server, numbers[id(node)])]).save(
            HERE / f"{graph.name}.jpg", quality=88
        )
    for number, node in enumerate(graph.nodes, 1):
        target = HELP / f"{node.type}.jpg"
        if node.type.startswith("Pullback") and not target.exists():
            page.node(number).save(target, quality=85)
