# ruff: noqa: E501  (notes are Markdown: a paragraph is a line)
"""Catalogue: the graphs of the saved workflows."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from graph import Graph, Node


def _prompts(g: Graph, loader: Node, text: str, negative: str = "") -> dict[str, Any]:
    """Add the prompts, encoded by a loader's CLIP."""
    encoded = lambda **node: g.add("CLIPTextEncode", clip=(loader, 1), **node)
    return {
        "positive": encoded(text=text, title="What to draw", box=(0, 100)),
        "negative": encoded(text=negative, title="What to keep away from", box=(0, 80)),
    }


def _guided(g: Graph, model: Node, words: dict[str, Any], seed: int, scheduler: str, steps: int) -> dict[str, Any]:
    """Add the nodes for the inputs of Field Sampler other than the field."""
    return {
        "noise": g.add("RandomNoise", noise_seed=seed),
        "guider": g.add("CFGGuider", model=model, **words, cfg=2.0),
        "sigmas": g.add("BasicScheduler", model=model, scheduler=scheduler, steps=steps, denoise=1.0),
    }


def _object(g: Graph, sampled: Node, loader: Node) -> None:
    """Add pictures of an object from four sides, its mesh in the viewer, and nodes that save its files."""
    g.column()
    sides = g.add("PullbackRenderFieldViews", field=sampled, vae=(loader, 2), path="turntable", count=4, size=256)
    mesh = g.add("PullbackFieldToMesh", field=sampled, vae=(loader, 2))
    saved = g.add("PullbackSaveTexturedGlb", mesh=mesh, filename_prefix="3d/pullback")
    g.add("PullbackSaveField", field=sampled, filename_prefix="fields/pullback")
    g.column()
    g.thumbnail = [g.add("PreviewImage", images=sides, title="The object from four sides", box=(330, 350))]
    g.add("Preview3D", model_file=saved, box=(330, 380))


def _viewed(g: Graph, mesh: Node, prefix: str) -> Node:
    saved = g.add("PullbackSaveTexturedGlb", mesh=mesh, filename_prefix=prefix)
    return g.add("Preview3D", model_file=saved, box=(380, 440))


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
        220,
    )
    toybox = g.add("PullbackToyboxLoader")
    words = _prompts(g, toybox, "a red mushroom")
    g.column()
    nerf = g.add("PullbackVoxelNerf")
    sampler = g.add(
        "PullbackFieldSamplerSimple", model=toybox, **words, field=nerf, vae=(toybox, 2),
        seed=0, steps=30, cfg=2.0, box=(250, 420),
    )  # fmt: skip
    _object(g, sampler, toybox)
    return g


def text_to_nerf_checkpoint() -> Graph:
    g = Graph("Text to NeRF with your checkpoint", needs="a checkpoint")
    g.column()
    g.note(
        """
### Text to NeRF with your checkpoint
1. Choose a checkpoint: SD 1.5 is the quickest, SDXL, SD3 and Flux work as well. LoRA loaders and ControlNet go between, as ever.
2. Write **What to draw** once. *View Prompts* adds the side that the model looks at.
3. Press **Run**. On a graphics card, count a second or two per step and view; on a processor, hours: begin with 8 steps.

The field lives in the model's latents, so its **VAE** is connected wherever pictures are made of it.
""",
        225,
    )
    loader = g.add("CheckpointLoaderSimple", ckpt_name="v1-5-pruned-emaonly-fp16.safetensors")
    text = g.add(
        "PrimitiveStringMultiline", value="a red mushroom with white spots, plain white background",
        title="What to draw", box=(0, 110),
    )  # fmt: skip
    g.column()
    encoded = lambda **node: g.add("CLIPTextEncode", clip=(loader, 1), **node)
    sides = g.add("PullbackViewPrompts", clip=(loader, 1), text=text, title="From each side", box=(0, 150))
    words = {
        "positive": encoded(text=text, title="From anywhere", box=(0, 90)),
        "negative": encoded(
            text="blurry, cropped, text, several objects", title="What to keep away from", box=(0, 100)
        ),
    }
    nerf = g.add("PullbackVoxelNerf", resolution=64)
    g.column()
    sampler = g.add(
        "PullbackFieldSamplerSimple", model=loader, **words, field=nerf, vae=(loader, 2),
        front=(sides, 0), side=(sides, 1), back=(sides, 2), overhead=(sides, 3), seed=0, steps=30, cfg=7.0,
        box=(250, 440),
    )  # fmt: skip
    _object(g, sampler, loader)
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
        240,
    )
    toybox = g.add("PullbackToyboxLoader")
    words = _prompts(g, toybox, "mountains at noon")
    g.column()
    world = g.add(
        "PullbackPanoramaSiren", model=toybox, **words, vae=(toybox, 2), seed=0, steps=30,
        cfg=1.0, projection="sphere", width=2048, views=12, box=(300, 460),
    )  # fmt: skip
    g.add("PullbackSaveField", field=world, filename_prefix="fields/panorama")
    g.column()
    g.thumbnail = [g.add("SaveImage", images=(world, 1), filename_prefix="pullback/panorama", box=(680, 420))]
    return g


def siren_image() -> Graph:
    g = Graph("SIREN image at 8K")
    g.column()
    g.note(
        """
### An image without a resolution
Press **Run**: the built-in model, which draws 64 x 64 pixels, makes a network over the plane; that is drawn at 8192 x 8192, tile by tile, and once more at 16384 x 16384 of which only a part is looked at.

- Edges stay smooth at every size. Detail is what the model can draw: 64 pixels here, 1024 with SDXL.
- 8192 x 8192 takes a few minutes on a processor and about 3 GB: lower *width* in *8K* for a quick look.
- *left*, *top*, *crop_width* and *crop_height* choose the part.
""",
        250,
    )
    toybox = g.add("PullbackToyboxLoader")
    words = _prompts(g, toybox, "a red mushroom")
    g.column()
    siren = g.add("PullbackSirenImage")
    sampler = g.add(
        "PullbackFieldSamplerSimple", model=toybox, **words, field=siren, vae=(toybox, 2),
        seed=0, steps=50, cfg=2.0, box=(250, 460),
    )  # fmt: skip
    g.column()
    whole = g.add("PullbackResolutionFreeDecode", field=sampler, width=8192, vae=(toybox, 2), title="8K")
    part = g.add(
        "PullbackResolutionFreeDecode", field=sampler, width=16384, left=7168, top=8704, crop_width=2048,
        crop_height=2048, vae=(toybox, 2), title="A part of 16K",
    )  # fmt: skip
    g.column()
    g.thumbnail = [g.add("SaveImage", images=whole, filename_prefix="pullback/8k", box=(360, 360))]
    g.add("PreviewImage", images=part, title="2048 x 2048 pixels of 16384 x 16384", box=(360, 340))
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
        205,
    )
    toybox = g.add("PullbackToyboxLoader")
    words = _prompts(g, toybox, "a red mushroom")
    latent = g.add("PullbackEmptyToyboxLatent")
    g.column()
    parts = _guided(g, toybox, words, 0, "normal", 30)
    pixels = g.add("PullbackPixelGrid")
    siren = g.add("PullbackSirenImage")
    g.column()
    kept = g.add(
        "KSampler", model=toybox, **words, latent_image=latent, seed=0, steps=30, cfg=2.0,
        sampler_name="euler", scheduler="normal", denoise=1.0, box=(250, 0),
    )  # fmt: skip
    decoded = g.add("VAEDecode", samples=kept, vae=(toybox, 2))
    _seen(g, decoded, "KSampler")
    for field, title in ((pixels, "Pixel Grid"), (siren, "SIREN Image")):
        g.column()
        same = g.add("PullbackFieldSampler", **parts, field=field, vae=(toybox, 2), title=f"Field Sampler: {title}")
        _seen(g, (same, 2), title)
    return g


def _seen(g: Graph, images: Any, title: str) -> None:
    """Add a preview of one of several results, which the thumbnail shows too.

    The box is so low because a preview of four pictures would show them in one column if it were higher.
    """
    g.thumbnail.append(g.add("PreviewImage", images=images, title=title, box=(250, 250)))


def compared() -> Graph:
    g = Graph("Pullback against SJC and SDS")
    g.column()
    g.note(
        """
### Sampling against optimising
Press **Run**: the same model, prompt and field, three times:

- **Field Sampler** walks down the noise levels once: another seed is another object.
- **SJC** and **SDS** climb to a likely object at random noise levels; they want more evaluations and more guidance.

30 steps of 8 views here cost 264 evaluations, 300 iterations of 8 views cost 2400. For equal cost, set *iterations* to 33.
""",
        215,
    )
    toybox = g.add("PullbackToyboxLoader")
    words = _prompts(g, toybox, "a yellow duck")
    g.column()
    nerf = g.add("PullbackVoxelNerf")
    parts = {**_guided(g, toybox, words, 0, "karras", 30), "field": nerf, "vae": (toybox, 2)}
    for node, title, rule in (
        ("PullbackFieldSampler", "Pullback", {}),
        ("PullbackOptimise", "SJC", {"rule": "sjc", "iterations": 300}),
        ("PullbackOptimise", "SDS", {"rule": "sds", "iterations": 300}),
    ):
        g.column()
        _seen(g, (g.add(node, **parts, **rule, title=title), 2), title)
    return g


def panorama_from_parts() -> Graph:
    g = Graph("Panorama from parts")
    g.column()
    g.note(
        """
### A panorama, and parts of it
Press **Run**: what *PanoramaSIREN* does in one node, with every knob: **RePaint** (*eta*, *jump*, *repeats*) walks each stretch of noise levels twice, so that neighbouring views agree better.

- For your own checkpoint, put *Load Checkpoint* in the place of *Toybox Loader*, and set *cfg* to 6 or so.
- The field is sampled once. Change sizes and crops as often as you like: only the decoders run again.
""",
        215,
    )
    toybox = g.add("PullbackToyboxLoader")
    words = _prompts(g, toybox, "desert at noon")
    g.column()
    sphere = g.add("PullbackSirenPanorama")
    parts = _guided(g, toybox, words, 0, "karras", 20)
    g.column()
    sampled = g.add(
        "PullbackFieldSampler", **parts, field=sphere, vae=(toybox, 2), eta=0.75, jump=2, repeats=2, box=(250, 520),
    )  # fmt: skip
    g.column()
    whole = g.add("PullbackResolutionFreeDecode", field=sampled, width=4096, vae=(toybox, 2), title="The whole")
    part = g.add(
        "PullbackResolutionFreeDecode", field=sampled, width=8192, left=3584, top=1536, crop_width=1024,
        crop_height=1024, vae=(toybox, 2), title="A part of 8192 x 4096",
    )  # fmt: skip
    g.column()
    g.thumbnail = [g.add("SaveImage", images=whole, filename_prefix="pullback/panorama", box=(360, 270))]
    g.add("PreviewImage", images=part, title="1024 x 1024 pixels of 8192 x 4096", box=(360, 380))
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
        220,
    )
    loaded = g.add("PullbackLoadField", file=SAVED)
    g.column()
    mesh = g.add("PullbackFieldToMesh", field=loaded, faces=5000)
    voxel = g.add("PullbackFieldToVoxel", field=loaded, resolution=96)
    rough = g.add("VoxelToMesh", voxel=voxel, algorithm="surface net", threshold=0.3)
    baked = g.add("PullbackBakeTexture", field=loaded, mesh=rough)
    g.column()
    g.thumbnail = [_viewed(g, mesh, "3d/mesh")]
    g.column()
    _viewed(g, baked, "3d/voxels")
    g.add("PreviewImage", images=(baked, 1), title="The baked texture", box=(380, 240))
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
        200,
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
        method="default", box=(360, 420),
    )  # fmt: skip
    g.column()
    g.thumbnail = [g.add("PreviewImage", images=sides, title="Sides", box=(340, 340))]
    g.add("PreviewImage", images=(around, 2), title="Depth", box=(340, 340))
    return g


def layout_to_image() -> Graph:
    g = Graph("Layout to image")
    g.column()
    g.note(
        """
### What stands where
Press **Run**: *CLIP Guide Region* says what stands where, one node for each box; *Layout* shows them all. *Multi-Scale CLIP Guide* holds the sample to it, and the built-in model *Infd* is told the boxes as well. *Resolution-Free Decode* draws the latent at any size.

- Its **model** goes to *KSampler* here; its **guide** would go to *Field Sampler*.
- **Stronger or weaker**: *strength*, or the *weight* of a region. *Infd* is told the boxes, so that a little is best; a model that is not takes 1 or more.
- **Behind the objects**: a second *CLIP Text Encode* with a landscape, such as *sea at noon*, as *positive* of *KSampler*.
- **Your own model**: *Load Checkpoint* in the place of *Infd Loader*, its VAE to *vae* and to the decoder, and in *Load CLIP Guide Model* an open_clip model that knows all words.
""",
        310,
    )
    infd = g.add("PullbackInfdLoader")
    nothing = g.add("CLIPTextEncode", clip=(infd, 1), text="", title="No other words", box=(0, 100))
    g.column()
    first = g.add("PullbackCLIPGuideRegion", text="a red mushroom", x=0, y=256, width=512, height=512, box=(250, 0))
    clip = g.add("PullbackLoadCLIPGuideModel")
    latent = g.add("PullbackEmptyInfdLatent")
    g.column()
    both = g.add(
        "PullbackCLIPGuideRegion", text="a blue chair", x=512, y=256, width=512, height=512, regions=first, box=(250, 0),
    )  # fmt: skip
    guide = g.add("PullbackMultiScaleCLIPGuide", clip=clip, regions=both, strength=0.2, model=infd, vae=(infd, 2))
    g.column()
    sampled = g.add(
        "KSampler", model=(guide, 1), positive=nothing, negative=nothing, latent_image=latent, seed=0, steps=20, cfg=2.0,
        sampler_name="euler", scheduler="karras", denoise=1.0, box=(250, 0),
    )  # fmt: skip
    decoded = g.add("PullbackResolutionFreeDecode", field=sampled, width=1024, decoder=(infd, 3))
    g.add("PreviewImage", images=(both, 1), title="Layout", box=(250, 270))
    g.column()
    g.thumbnail = [g.add("SaveImage", images=decoded, filename_prefix="pullback/layout", box=(300, 340))]
    return g


def latent_at_8k() -> Graph:
    g = Graph("Latent of your checkpoint at 8K", needs="a checkpoint")
    g.column()
    g.note(
        """
### A latent without a resolution
1. Choose a checkpoint, and a field decoder for its latents in `models/pullback_decoders`: `pullback train decoder` makes one.
2. Press **Run**. *KSampler* samples as ever; the field decoder draws the latent at 8192 x 8192, and a part of it at 16384 x 16384.

- Memory does not grow with *width*, beyond the picture itself: 8192 x 8192 takes 800 MB.
- *left*, *top*, *crop_width* and *crop_height* choose the part.
- Without a field decoder: connect the VAE instead. The latent then becomes what *VAE Decode* makes of it, at its own size, without seams.
""",
        290,
    )
    loader = g.add("CheckpointLoaderSimple", ckpt_name="v1-5-pruned-emaonly-fp16.safetensors")
    words = _prompts(g, loader, "a lighthouse on a cliff above the sea", "blurry, text")
    g.column()
    latent = g.add("EmptyLatentImage", width=512, height=512, batch_size=1)
    sampled = g.add(
        "KSampler", model=loader, **words, latent_image=latent, seed=0, steps=25, cfg=7.0,
        sampler_name="euler", scheduler="karras", denoise=1.0, box=(250, 0),
    )  # fmt: skip
    decoder = g.add("PullbackLoadFieldDecoder", file=FIELD_DECODER)
    g.column()
    whole = g.add("PullbackResolutionFreeDecode", field=sampled, decoder=decoder, width=8192, title="8K")
    part = g.add(
        "PullbackResolutionFreeDecode", field=sampled, decoder=decoder, width=16384, left=7168, top=7168,
        crop_width=2048, crop_height=2048, title="A part of 16K",
    )  # fmt: skip
    g.column()
    g.thumbnail = [g.add("SaveImage", images=whole, filename_prefix="pullback/8k", box=(360, 360))]
    g.add("PreviewImage", images=part, title="2048 x 2048 pixels of 16384 x 16384", box=(360, 340))
    return g


FIELD_DECODER = "sd15.decoder.safetensors"
"""An example of a name for the field decoder of the user's checkpoint."""


def guided_panorama() -> Graph:
    g = Graph("Guided panorama")
    g.column()
    g.note(
        """
### What stands where in a panorama
Press **Run**: two regions in degrees, and everything else is desert. *azimuth* 0 is the middle, and it grows to the left; 180 is behind.

- The guide works on the views that show a region, at every step, so a region may cross the edge of the picture.
- **Stronger or weaker**: *strength*, or the *weight* of a region.
- Your own model: put *Load Checkpoint* in the place of *Toybox Loader*, and in *Load CLIP Guide Model* an open_clip model.
""",
        260,
    )
    toybox = g.add("PullbackToyboxLoader")
    words = _prompts(g, toybox, "desert at noon")
    g.column()
    first = g.add(
        "PullbackCLIPGuideRegion", text="sea at noon", place="degrees", azimuth=60.0, elevation=5.0,
        degrees_wide=70.0, degrees_high=50.0, box=(250, 0),
    )  # fmt: skip
    clip = g.add("PullbackLoadCLIPGuideModel")
    sphere = g.add("PullbackSirenPanorama")
    g.column()
    both = g.add(
        "PullbackCLIPGuideRegion", text="forest at noon", place="degrees", azimuth=-60.0, elevation=0.0,
        degrees_wide=70.0, degrees_high=50.0, regions=first, box=(250, 0),
    )  # fmt: skip
    guide = g.add("PullbackMultiScaleCLIPGuide", clip=clip, regions=both, strength=20.0)
    g.column()
    sampled = g.add(
        "PullbackFieldSamplerSimple", model=toybox, **words, field=sphere, vae=(toybox, 2), guide=guide,
        seed=0, steps=30, cfg=1.0, box=(250, 440),
    )  # fmt: skip
    whole = g.add("PullbackResolutionFreeDecode", field=sampled, width=2048, vae=(toybox, 2))
    g.column()
    g.thumbnail = [
        g.add("PreviewImage", images=(both, 1), title="Layout", box=(330, 260)),
        g.add("SaveImage", images=whole, filename_prefix="pullback/panorama", box=(330, 270)),
    ]
    return g


def filled() -> Graph:
    g = Graph("Fill in pixel by pixel")
    g.column()
    g.note(
        """
### Fill in, pixel by pixel
Press **Run**: four garments are drawn from nothing but a black border, then their upper halves once more. On the right: how improbable each is, and which of its pixels.

- **In grey**: *lmconv* in the place of *lmconv-binary*. It is rougher.
- **Other garments**: the *seed* of the first node. **Other halves**: the *seed* of the second.
- **Your own picture**: *Load Image*, then *Upscale Image* to 28 x 28, in the place of *Empty Image*. Its mask editor says what is missing.
- **Your own model**: `pullback train lmconv` learns a folder of pictures, also in colour. Put it into `models/pullback_lmconv`.
""",
        330,
    )
    size = {"width": 28, "height": 28}
    black = g.add("EmptyImage", **size, batch_size=4, color=0)
    g.column()
    all_of_it = g.add("SolidMask", value=1.0, **size, title="All of it")
    without = lambda x, y, width, height, title: g.add(
        "MaskComposite", destination=all_of_it, source=g.add("SolidMask", value=0.0, width=width, height=height),
        x=x, y=y, operation="multiply", title=title,
    )  # fmt: skip
    beside, upper = without(0, 0, 2, 28, "All but the border"), without(0, 14, 28, 14, "The upper half")
    g.column()
    model = {"model": "lmconv-binary"}
    new = g.add("PullbackFillLMConv", image=black, mask=beside, seed=0, **model, title="Four garments", box=(260, 0))
    again = g.add("PullbackFillLMConv", image=new, mask=upper, seed=1, **model, title="Their upper halves anew")
    bits = g.add("PullbackLikelihoodLMConv", image=again, **model)
    g.add("PreviewAny", source=(bits, 2), title="Bits per value", box=(260, 150))
    g.column()
    large = {"upscale_method": "nearest-exact", "width": 224, "height": 224, "crop": "disabled"}
    whole, halves, heat = (
        g.add("ImageScale", image=each, **large) for each in (g.add("ImageInvert", image=new), g.add("ImageInvert", image=again), bits)
    )  # fmt: skip
    g.column()
    g.add("PreviewImage", images=whole, title="Garments", box=(280, 240))
    g.thumbnail = [g.add("PreviewImage", images=halves, title="With other upper halves", box=(280, 240))]
    g.add("PreviewImage", images=heat, title="Where the bits go", box=(280, 240))
    return g


def from_eight_views() -> Graph:
    g = Graph("Reconstruct from eight views")
    g.column()
    g.note(
        """
### An object from eight pictures
Press **Run**: toybox samples an object, *Render Field Views* takes eight pictures of it all around, and *Reconstruct Field* makes a new field of these pictures and their cameras. On the right: that field from sides that no picture shows.

- **Your own pictures**: connect them to *images*, and write into *cameras* where each was taken from: azimuth,elevation in degrees, one pair per line, or the text of a `transforms.json`.
- **mask** is 1 where the object is. *Load Image* has the opposite: put *Invert Mask* between.
- **Few pictures**: *method* diet or pullback.
""",
        310,
    )
    toybox = g.add("PullbackToyboxLoader")
    words = _prompts(g, toybox, "a red mushroom")
    g.column()
    nerf = g.add("PullbackVoxelNerf")
    sampler = g.add(
        "PullbackFieldSamplerSimple", model=toybox, **words, field=nerf, vae=(toybox, 2),
        seed=0, steps=30, cfg=2.0, box=(250, 420),
    )  # fmt: skip
    g.column()
    taken = g.add(
        "PullbackRenderFieldViews", field=sampler, path="turntable", count=8, size=128, title="Eight pictures"
    )
    g.add("PreviewImage", images=taken, title="What is reconstructed from", box=(250, 260))
    g.column()
    made = g.add("PullbackReconstructField", images=taken, mask=(taken, 1), cameras=(taken, 3))
    g.add("PullbackSaveField", field=made, filename_prefix="fields/reconstructed")
    g.column()
    seen = g.add(
        "PullbackRenderFieldViews", field=made, path="list", views="22,35\n112,35\n202,35\n292,35", title="Other sides",
    )  # fmt: skip
    g.thumbnail = [g.add("PreviewImage", images=seen, title="Its reconstruction from other sides", box=(270, 300))]
    return g


def any_size() -> Graph:
    g = Graph("Any size (∞-Diff)")
    g.column()
    g.note(
        """
### One model, any size
Press **Run**: *Load Function Model* is ∞-Diff, a model of functions. The same weights draw both pictures; the size of the latent is the size of the picture.

- **What to draw**: the text. The model knows 48 words: see the help page of *Toybox Loader*.
- **Another size**: *width* and *height*, from 32 pixels, need not be multiples of anything. Time grows with the number of pixels.
- **Your own pictures**: `pullback train infty-diff` learns a folder of them. Put the file into `models/pullback_infty_diff`.
""",
        300,
    )
    infty = g.add("PullbackLoadFunctionModel", model="infty-diff")
    words = _prompts(g, infty, "a yellow duck")
    g.column()
    small, wide = (
        g.add("PullbackEmptyFunctionLatent", width=width, height=height, batch_size=1, title=f"{width} x {height}", box=(250, 0))
        for width, height in ((64, 64), (256, 192))
    )  # fmt: skip
    g.column()
    drawn = {"seed": 0, "steps": 20, "cfg": 2.0, "sampler_name": "euler", "scheduler": "karras", "denoise": 1.0}
    sampled = [
        g.add("KSampler", model=infty, **words, latent_image=each, **drawn, box=(250, 0)) for each in (small, wide)
    ]
    g.column()
    decoded = [g.add("VAEDecode", samples=each, vae=(infty, 2)) for each in sampled]
    g.column()
    shown = [g.add("PreviewImage", images=each, box=(330, 330)) for each in decoded]
    g.thumbnail = shown[1:]
    return g


def upscaled_and_filled() -> Graph:
    g = Graph("Upscale and fill (∞-Diff)")
    g.column()
    g.note(
        """
### Larger, and whole
Press **Run**: ∞-Diff draws a picture of 64 pixels, enlarges it four times, and fills in what the mask leaves out. All three are the same weights.

- **Your own picture**: *Load Image* in the place of *VAE Decode*; its mask editor says what is missing. What the model knows are simple objects and landscapes: train it on pictures like yours (`pullback train infty-diff`).
- The means over squares of the larger picture are the small one's pixels. What is black in the mask stays as it is, bit for bit.
""",
        330,
    )
    infty = g.add("PullbackLoadFunctionModel", model="infty-diff")
    text = g.add("PrimitiveStringMultiline", value="a red mushroom", title="What to draw", box=(0, 110))
    g.column()
    encoded = lambda **node: g.add("CLIPTextEncode", clip=(infty, 1), **node)
    words = {
        "positive": encoded(text=text, title="As the model takes it", box=(0, 80)),
        "negative": encoded(text="", title="What to keep away from", box=(0, 80)),
    }
    latent = g.add("PullbackEmptyFunctionLatent", width=64, height=64, batch_size=1)
    size = {"width": 256, "height": 256}
    known, missing = (
        g.add("SolidMask", value=0.0, **size, title="All of it is known"),
        g.add("SolidMask", value=1.0, width=128, height=128, title="A part is missing"),
    )
    g.column()
    sampled = g.add(
        "KSampler", model=infty, **words, latent_image=latent, seed=0, steps=20, cfg=2.0, sampler_name="euler",
        scheduler="karras", denoise=1.0, box=(250, 0),
    )  # fmt: skip
    small = g.add("VAEDecode", samples=sampled, vae=(infty, 2))
    hole = g.add(
        "MaskComposite", destination=known, source=missing, x=64, y=128, operation="add", title="What is missing",
    )  # fmt: skip
    g.column()
    told = {"model": "infty-diff", "prompt": text}
    large = g.add("PullbackUpscaleInftyDiff", image=small, **told, scale="4", seed=0, steps=2, box=(260, 0))
    filled = g.add("PullbackFillInftyDiff", image=large, mask=hole, **told, seed=1, steps=20, box=(260, 0))
    g.add("PreviewImage", images=small, title="64 pixels", box=(260, 260))
    g.column()
    g.thumbnail = [
        g.add("PreviewImage", images=large, title="Four times as large", box=(280, 300)),
        g.add("PreviewImage", images=filled, title="With another lower part", box=(280, 300)),
    ]
    return g


def shape_to_mesh() -> Graph:
    g = Graph("Shape to mesh (DPF)")
    g.column()
    g.note(
        """
### A mesh in seconds
Press **Run**: *Sample Shape* draws what fills the cube and with which colour, and its surface becomes a closed, textured mesh. It lies in `output/3d`.

- **What to draw**: *prompt*, an object in toybox's words: see the help page of *Toybox Loader*.
- **Another one** of its kind: the *seed*. **Finer**: *resolution* up to 128.
- **More detail**, in minutes: the workflow *Text to NeRF*.
""",
        250,
    )
    g.column()
    shape = g.add("PullbackSampleShapeDPF", prompt="a red chair", model="dpf-shapes", seed=0, box=(260, 0))
    g.column()
    saved = g.add("PullbackSaveTexturedGlb", mesh=shape, filename_prefix="3d/shape")
    g.column()
    g.thumbnail = [g.add("Preview3D", model_file=saved, box=(380, 440))]
    return g


GRAPHS: list[Callable[[], Graph]] = [
    text_to_nerf, text_to_nerf_checkpoint, panorama, panorama_from_parts, siren_image, same_noise, compared, field_to_mesh,
    turntable, layout_to_image, latent_at_8k, guided_panorama, from_eight_views, filled, any_size, upscaled_and_filled,
    shape_to_mesh,
]  # fmt: skip
