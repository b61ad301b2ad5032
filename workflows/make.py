# ruff: noqa: E501  (notes are Markdown: a paragraph is a line)
"""Makes the saved workflows: built and saved by ComfyUI's own page, run for real, thumbnails from what came out.

    PYTHONPATH=tests python workflows/make.py         all of them: NAME.json and api/NAME.json
    PYTHONPATH=tests python workflows/make.py --run   runs them in the page (minutes each), and keeps what is seen:
                                                      thumbnails NAME.jpg, screenshots in docs/, pictures of the help pages

Pictures of help pages that are there already are kept: delete one to renew it.

A graph is columns of nodes; the page says how large each is, and they are put below and beside one another. Inputs are
written as {"input": node} or {"input": (node, output slot)}, widgets as {"widget": value}.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from comfyui import ROOT, Page, Server, browser
from PIL import Image

HERE = Path(__file__).parent
HELP = ROOT / "comfy_nodes" / "web" / "docs"
PICTURES = ROOT / "docs" / "pictures" / "comfyui"
SIDE = 512
"""Pixels of a thumbnail's side."""


@dataclass
class Node:
    """A node to be made. box: (width, height) on the canvas, at least."""

    type: str
    links: dict[str, tuple[Node, int]] = field(default_factory=dict)
    widgets: dict[str, Any] = field(default_factory=dict)
    title: str = ""
    box: tuple[int, int] = (0, 0)


class Graph:
    """A workflow. needs: what it takes that is not here, so that it cannot be run where it is made."""

    def __init__(self, name: str, *, needs: str = ""):
        self.name, self.needs = name, needs
        self.columns: list[list[Node]] = []
        self.thumbnail: list[Node] = []

    def column(self) -> None:
        """What follows stands to the right."""
        self.columns.append([])

    def add(self, type: str, *, title: str = "", box: tuple[int, int] = (0, 0), **values: Any) -> Node:
        """A node below the last one. values: inputs and widgets by name."""
        links = {k: (v, 0) if isinstance(v, Node) else v for k, v in values.items() if isinstance(v, Node | tuple)}
        node = Node(type, links, {k: v for k, v in values.items() if k not in links}, title, box)
        self.columns[-1].append(node)
        return node

    def note(self, text: str, height: int = 180, width: int = 380) -> Node:
        """What the user should know."""
        return self.add("MarkdownNote", title="Note", box=(width, height), **{"": text.strip()})

    @property
    def nodes(self) -> list[Node]:
        return [node for column in self.columns for node in column]


BUILD = """
async ([columns, links]) => {
  app.graph.clear();
  const made = {};
  for (const column of columns) for (const want of column) {
    const node = LiteGraph.createNode(want.type);
    if (!node) throw new Error("no such node: " + want.type);
    if (want.title) node.title = want.title;
    app.graph.add(node);
    for (const [name, value] of Object.entries(want.widgets)) {
      const widget = name ? node.widgets.find(w => w.name === name) : node.widgets[0];
      if (!widget) throw new Error(want.type + " has no widget " + name);
      widget.value = value;
    }
    const control = (node.widgets || []).find(w => w.name === "control_after_generate");
    if (control) control.value = "fixed";
    made[want.id] = node;
  }
  for (const [from, slot, to, input] of links) {
    const at = made[to].inputs.findIndex(i => i.name === input);
    if (at < 0) throw new Error(made[to].type + " has no input " + input);
    if (!made[from].connect(slot, made[to], at)) throw new Error(made[from].type + " does not fit " + made[to].type + "." + input);
  }
  await new Promise(done => setTimeout(done, 1500));
  let x = 40;
  for (const column of columns) {
    let y = 80, width = 0;
    for (const want of column) {
      const node = made[want.id], least = node.computeSize();
      node.setSize([Math.max(want.box[0], least[0], 240), Math.max(want.box[1], least[1])]);
      width = Math.max(width, node.size[0]);
    }
    for (const want of column) {
      const node = made[want.id];
      node.setSize([width, node.size[1]]);
      node.pos = [x, y];
      y += node.size[1] + 70;
    }
    x += width + 60;
  }
  await new Promise(done => setTimeout(done, 500));
}
"""


def build(page: Page, graph: Graph) -> tuple[dict[str, Any], dict[str, Any]]:
    """UI and API forms, as the page saves them."""
    numbers = {id(node): i for i, node in enumerate(graph.nodes)}
    columns = [
        [{"id": numbers[id(n)], "type": n.type, "widgets": n.widgets, "title": n.title, "box": n.box} for n in column]
        for column in graph.columns
    ]
    links = [
        (numbers[id(source)], slot, numbers[id(n)], name)
        for n in graph.nodes
        for name, (source, slot) in n.links.items()
    ]
    page.page.evaluate(BUILD, [columns, links])
    ui, api = page.graph(), page.api()
    ui.pop("id", None)  # new at every saving, and of use to nobody
    ui["extra"].pop("ds", None)  # where we looked
    return ui, api


def text_to_nerf() -> Graph:
    g = Graph("Text to NeRF")
    g.column()
    g.note(
        """
### Text to NeRF
Press **Run**. Four views of the object sharpen in *Field Sampler*, then the textured mesh appears on the right. It lies in `output/3d`.

- **What to draw**: the text. The built-in model knows 48 words: see the help page of *Toybox Loader*.
- **Another object** of the same kind: the *seed*.
- **Finer**: *steps* 50, and *resolution* 64 in *Voxel NeRF*.
- **Your own checkpoint**: the workflow *Text to NeRF with your checkpoint*.
""",
        330,
    )
    toybox = g.add("PullbackToyboxLoader")
    g.column()
    positive = g.add("CLIPTextEncode", clip=(toybox, 1), text="a red mushroom", title="What to draw", box=(320, 110))
    negative = g.add("CLIPTextEncode", clip=(toybox, 1), text="", title="What to keep away from", box=(320, 90))
    nerf = g.add("PullbackVoxelNerf")
    g.column()
    sampler = g.add(
        "PullbackFieldSamplerSimple", model=toybox, positive=positive, negative=negative, field=nerf,
        seed=0, steps=30, cfg=2.0, box=(340, 440),
    )  # fmt: skip
    g.add("PullbackSaveField", field=sampler, filename_prefix="fields/pullback")
    g.column()
    mesh = g.add("PullbackFieldToMesh", field=sampler)
    g.thumbnail = [g.add("PreviewImage", images=(sampler, 2), title="The object from four sides", box=(340, 400))]
    g.column()
    saved = g.add("PullbackSaveTexturedGlb", mesh=mesh, filename_prefix="3d/pullback")
    g.add("Preview3D", model_file=saved, box=(440, 520))
    return g


def text_to_nerf_checkpoint() -> Graph:
    g = Graph("Text to NeRF with your checkpoint", needs="a checkpoint")
    g.column()
    g.note(
        """
### Text to NeRF with your checkpoint
1. Choose a checkpoint: SD 1.5 is the quickest, SDXL, SD3 and Flux work as well. LoRA loaders and ControlNet go between, as ever.
2. Write the text twice: once in *View Prompts*, which tells the model the side it looks at, and once in *What to draw*.
3. Press **Run**. On a graphics card, count a second or two per step and view; on a processor, hours: begin with 8 steps.

The field lives in the model's latents, so its **VAE** is connected wherever pictures are made of it.
""",
        330,
    )
    loader = g.add("CheckpointLoaderSimple", ckpt_name="v1-5-pruned-emaonly-fp16.safetensors")
    g.column()
    text = "a red mushroom with white spots, plain white background"
    sides = g.add("PullbackViewPrompts", clip=(loader, 1), text=text, box=(320, 140))
    positive = g.add("CLIPTextEncode", clip=(loader, 1), text=text, title="What to draw", box=(320, 110))
    negative = g.add(
        "CLIPTextEncode", clip=(loader, 1), text="blurry, cropped, text, several objects", box=(320, 90),
        title="What to keep away from",
    )  # fmt: skip
    nerf = g.add("PullbackVoxelNerf", resolution=64)
    g.column()
    sampler = g.add(
        "PullbackFieldSamplerSimple", model=loader, positive=positive, negative=negative, field=nerf, vae=(loader, 2),
        front=(sides, 0), side=(sides, 1), back=(sides, 2), overhead=(sides, 3), seed=0, steps=30, cfg=7.0,
        box=(340, 440),
    )  # fmt: skip
    g.add("PullbackSaveField", field=sampler, filename_prefix="fields/pullback")
    g.column()
    mesh = g.add("PullbackFieldToMesh", field=sampler, vae=(loader, 2))
    g.thumbnail = [g.add("PreviewImage", images=(sampler, 2), title="The object from four sides", box=(340, 400))]
    g.column()
    saved = g.add("PullbackSaveTexturedGlb", mesh=mesh, filename_prefix="3d/pullback")
    g.add("Preview3D", model_file=saved, box=(440, 520))
    return g


def panorama() -> Graph:
    g = Graph("Panorama")
    g.column()
    g.note(
        """
### Panorama
Press **Run**: one node makes the whole world. Its left edge is its right edge, so it can be put around a scene (Blender: *World*, *Environment Texture*).

- Landscapes that the built-in model knows: *desert*, *forest*, *mountains*, *sea*, *sky*, *town*; at *dawn*, *noon*, *sunset*, *night*.
- **width** may be anything: the field has no resolution of its own.
- Your own model: put *Load Checkpoint* in the place of *Toybox Loader*, and *cfg* to 6 or so.
""",
        330,
    )
    toybox = g.add("PullbackToyboxLoader")
    g.column()
    positive = g.add(
        "CLIPTextEncode", clip=(toybox, 1), text="mountains at sunset", title="What to draw", box=(320, 110)
    )
    negative = g.add("CLIPTextEncode", clip=(toybox, 1), text="", title="What to keep away from", box=(320, 90))
    g.column()
    world = g.add(
        "PullbackPanoramaSiren", model=toybox, positive=positive, negative=negative, vae=(toybox, 2), seed=0, steps=30,
        cfg=2.0, projection="sphere", width=2048, views=12, box=(420, 480),
    )  # fmt: skip
    g.column()
    g.thumbnail = [g.add("SaveImage", images=(world, 1), filename_prefix="pullback/panorama", box=(620, 420))]
    g.add("PullbackSaveField", field=world, filename_prefix="fields/panorama")
    return g


def siren_image() -> Graph:
    g = Graph("SIREN image at 8K")
    g.column()
    g.note(
        """
### An image without a resolution
Press **Run**: the built-in model, which draws 64 x 64 pixels, makes a network over the plane; that is drawn at 8192 x 8192, tile by tile, and once more at 32768 x 32768 of which only a part is looked at.

- 8192 x 8192 takes a few minutes on a processor and about 3 GB: lower *width* in *8K* for a quick look.
- *left*, *top*, *crop_width* and *crop_height* choose the part.
""",
        270,
    )
    toybox = g.add("PullbackToyboxLoader")
    siren = g.add("PullbackSirenImage")
    g.column()
    positive = g.add("CLIPTextEncode", clip=(toybox, 1), text="a blue fish", title="What to draw", box=(320, 110))
    negative = g.add("CLIPTextEncode", clip=(toybox, 1), text="", title="What to keep away from", box=(320, 90))
    sampler = g.add(
        "PullbackFieldSamplerSimple", model=toybox, positive=positive, negative=negative, field=siren,
        seed=0, steps=50, cfg=2.0, box=(340, 520),
    )  # fmt: skip
    g.column()
    whole = g.add("PullbackResolutionFreeDecode", field=sampler, width=8192, title="8K")
    part = g.add(
        "PullbackResolutionFreeDecode", field=sampler, width=32768, left=8192, top=14336, crop_width=1024,
        crop_height=1024, title="A part of 32K",
    )  # fmt: skip
    g.column()
    g.add("SaveImage", images=whole, filename_prefix="pullback/8k", box=(400, 420))
    g.add("PreviewImage", images=part, title="1024 x 1024 pixels of 32768 x 32768", box=(400, 400))
    g.thumbnail = [g.columns[-1][0]]
    return g


def same_noise() -> Graph:
    g = Graph("Same noise in KSampler and Field Sampler")
    g.column()
    g.note(
        """
### The same noise three times
Press **Run**: *KSampler* and *Field Sampler* start from the same noise and go through the same noise levels.

- **Pixel Grid** is the field that is just its pixels: the result is KSampler's, to rounding.
- **SIREN Image** is a network: the result is the same picture, seen through what a network can draw.

Keep *seed*, *steps*, *cfg* and *scheduler* equal on both sides.
""",
        290,
    )
    toybox = g.add("PullbackToyboxLoader")
    latent = g.add("PullbackEmptyToyboxLatent")
    g.column()
    positive = g.add("CLIPTextEncode", clip=(toybox, 1), text="a wooden chair", title="What to draw", box=(320, 110))
    negative = g.add("CLIPTextEncode", clip=(toybox, 1), text="", title="What to keep away from", box=(320, 90))
    noise = g.add("RandomNoise", noise_seed=7)
    guider = g.add("CFGGuider", model=toybox, positive=positive, negative=negative, cfg=2.0)
    sigmas = g.add("BasicScheduler", model=toybox, scheduler="normal", steps=30, denoise=1.0)
    g.column()
    kept = g.add(
        "KSampler", model=toybox, positive=positive, negative=negative, latent_image=latent, seed=7, steps=30, cfg=2.0,
        sampler_name="euler", scheduler="normal", denoise=1.0,
    )  # fmt: skip
    pixels = g.add("PullbackPixelGrid")
    siren = g.add("PullbackSirenImage")
    g.column()
    parts = {"noise": noise, "guider": guider, "sigmas": sigmas}
    decoded = g.add("VAEDecode", samples=kept, vae=(toybox, 2))
    same = g.add("PullbackFieldSampler", **parts, field=pixels, title="Field Sampler on pixels")
    like = g.add("PullbackFieldSampler", **parts, field=siren, title="Field Sampler on a SIREN")
    g.column()
    g.thumbnail = [
        g.add("PreviewImage", images=source, title=title, box=(300, 320))
        for source, title in ((decoded, "KSampler"), ((same, 2), "Pixel Grid"), ((like, 2), "SIREN Image"))
    ]
    return g


def compared() -> Graph:
    g = Graph("Pullback against SJC and SDS")
    g.column()
    g.note(
        """
### Sampling against optimising
Press **Run**: the same model, prompt and field, three times:

- **Field Sampler** walks down the noise levels once: another seed is another object.
- **SJC** and **SDS** climb to a likely object at random noise levels; they want more evaluations and more guidance.

30 steps of 8 views here cost 256 evaluations, 300 iterations of 8 views cost 2400. For equal cost, set *iterations* to 32.
""",
        280,
    )
    toybox = g.add("PullbackToyboxLoader")
    nerf = g.add("PullbackVoxelNerf")
    g.column()
    positive = g.add("CLIPTextEncode", clip=(toybox, 1), text="a yellow duck", title="What to draw", box=(320, 110))
    negative = g.add("CLIPTextEncode", clip=(toybox, 1), text="", title="What to keep away from", box=(320, 90))
    noise = g.add("RandomNoise", noise_seed=0)
    guider = g.add("CFGGuider", model=toybox, positive=positive, negative=negative, cfg=2.0)
    sigmas = g.add("BasicScheduler", model=toybox, scheduler="karras", steps=30, denoise=1.0)
    g.column()
    parts = {"noise": noise, "guider": guider, "sigmas": sigmas, "field": nerf}
    sampled = g.add("PullbackFieldSampler", **parts, title="Pullback")
    sjc = g.add("PullbackOptimise", **parts, rule="sjc", iterations=300, title="SJC")
    sds = g.add("PullbackOptimise", **parts, rule="sds", iterations=300, title="SDS")
    g.column()
    g.thumbnail = [
        g.add("PreviewImage", images=(source, 2), title=source.title, box=(340, 380)) for source in (sampled, sjc, sds)
    ]
    return g


def panorama_from_parts() -> Graph:
    g = Graph("Panorama from parts")
    g.column()
    g.note(
        """
### A panorama, and parts of it
Press **Run**: what *PanoramaSIREN* does in one node, with every knob: **RePaint** (*eta*, *jump*, *repeats*) walks each stretch of noise levels twice, so that neighbouring views agree better.

- For your own checkpoint, put *Load Checkpoint* in the place of *Toybox Loader*, connect its VAE to *Field Sampler* and to both decoders, and set *cfg* to 6 or so.
- The field is sampled once. Change sizes and crops as often as you like: only the decoders run again.
""",
        290,
    )
    toybox = g.add("PullbackToyboxLoader")
    sphere = g.add("PullbackSirenPanorama")
    g.column()
    positive = g.add("CLIPTextEncode", clip=(toybox, 1), text="desert at noon", title="What to draw", box=(320, 110))
    negative = g.add("CLIPTextEncode", clip=(toybox, 1), text="", title="What to keep away from", box=(320, 90))
    noise = g.add("RandomNoise", noise_seed=0)
    guider = g.add("CFGGuider", model=toybox, positive=positive, negative=negative, cfg=2.0)
    sigmas = g.add("BasicScheduler", model=toybox, scheduler="karras", steps=20, denoise=1.0)
    g.column()
    sampled = g.add(
        "PullbackFieldSampler", noise=noise, guider=guider, sigmas=sigmas, field=sphere, eta=0.75, jump=2, repeats=2,
        box=(340, 640),
    )  # fmt: skip
    g.column()
    whole = g.add("PullbackResolutionFreeDecode", field=sampled, width=4096, title="The whole")
    part = g.add(
        "PullbackResolutionFreeDecode", field=sampled, width=8192, left=3584, top=1536, crop_width=1024,
        crop_height=1024, title="A part of 8192 x 4096",
    )  # fmt: skip
    g.column()
    g.thumbnail = [g.add("SaveImage", images=whole, filename_prefix="pullback/panorama", box=(620, 380))]
    g.add("PreviewImage", images=part, title="1024 x 1024 pixels of 8192 x 4096", box=(620, 380))
    return g


SAVED = "fields/pullback_00001_.safetensors [output]"
"""The file that the first run of the first workflow writes."""


def field_to_mesh() -> Graph:
    g = Graph("Field to mesh and viewer")
    g.column()
    g.note(
        """
### A saved field as a mesh
Choose a field file in *Load Field* (*Text to NeRF* saves one), press **Run**.

- Above: *Field to Mesh*, unwrapped and textured, at most 5000 triangles.
- Below: by way of ComfyUI's own nodes. *Field to Voxel* gives opacities to *VoxelToMesh*, and *Bake Texture* paints what comes out.
- A field that your own checkpoint made needs its VAE (*Load VAE*) on every node with a *vae* input.
""",
        290,
    )
    loaded = g.add("PullbackLoadField", file=SAVED)
    g.column()
    mesh = g.add("PullbackFieldToMesh", field=loaded, faces=5000)
    voxel = g.add("PullbackFieldToVoxel", field=loaded, resolution=64)
    rough = g.add("VoxelToMesh", voxel=voxel, algorithm="surface net", threshold=0.5)
    baked = g.add("PullbackBakeTexture", field=loaded, mesh=rough)
    g.column()
    for source, prefix in ((mesh, "3d/mesh"), (baked, "3d/voxels")):
        saved = g.add("PullbackSaveTexturedGlb", mesh=source, filename_prefix=prefix)
        g.add("Preview3D", model_file=saved, box=(400, 400))
    g.column()
    g.thumbnail = [g.add("PreviewImage", images=(baked, 1), title="The baked texture", box=(340, 380))]
    return g


def turntable() -> Graph:
    g = Graph("Turntable of a saved field")
    g.column()
    g.note(
        """
### Turntable of a saved field
Choose a field file in *Load Field* (*Text to NeRF* saves one), press **Run**: an animation all around, its depth, and a list of sides of your own.

- *count* is the number of pictures, *size* their side; the field has no resolution of its own.
- *views* holds azimuth,elevation in degrees, one pair per line; 0,0 is the front.
""",
        270,
    )
    loaded = g.add("PullbackLoadField", file=SAVED)
    g.column()
    around = g.add("PullbackRenderFieldViews", field=loaded, path="turntable", count=24, size=384)
    sides = g.add(
        "PullbackRenderFieldViews", field=loaded, path="list", views="0,0\n90,0\n180,0\n30,45", size=384, title="Sides",
    )  # fmt: skip
    g.column()
    g.add(
        "SaveAnimatedWEBP", images=around, filename_prefix="pullback/turntable", fps=12.0, lossless=False, quality=90,
        method="default", box=(360, 480),
    )  # fmt: skip
    g.column()
    g.thumbnail = [g.add("PreviewImage", images=sides, title="Sides", box=(360, 400))]
    g.add("PreviewImage", images=(around, 2), title="Depth", box=(360, 400))
    return g


GRAPHS: list[Callable[[], Graph]] = [
    text_to_nerf, text_to_nerf_checkpoint, panorama, panorama_from_parts, siren_image, same_noise, compared, field_to_mesh,
    turntable,
]  # fmt: skip


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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", help="workflows; all of them where none is named")
    parser.add_argument("--run", action="store_true", help="run them as they are and photograph them")
    given = parser.parse_args()
    graphs = [graph for graph in (make() for make in GRAPHS) if not given.names or graph.name in given.names]
    with tempfile.TemporaryDirectory() as base, Server(Path(base), pack="pullback") as server, browser() as page:
        for graph in graphs:
            if given.run:
                photographed(server, page, graph)
                continue
            page.open(server)  # anew: the page keeps values of widgets by the numbers of nodes that are gone
            ui, api = build(page, graph)
            written(HERE / f"{graph.name}.json", ui)
            written(HERE / "api" / f"{graph.name}.json", api)


def written(path: Path, form: dict[str, Any]) -> None:
    """A graph as JSON that can be read and compared."""
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(form, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
