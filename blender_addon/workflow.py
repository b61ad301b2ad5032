"""Workflows: turns a job of the worker into a workflow for a ComfyUI server. Does not import Blender."""

from __future__ import annotations

from typing import Any

from . import descriptions
from .descriptions import Kind, Makes
from .protocol import Outgoing

MESH = {"resolution": "resolution", "faces": "faces", "texture": "texture", "bake_views": "views"}
"""The settings of a mesh, and the names of the node's inputs for them."""


def graph(job: Outgoing, field_file: str = "") -> dict[str, Any]:
    """Return the API workflow of a job.

    Args:
        job: The job (`protocol.job`).
        field_file: The name on the server of the field file that a mesh or picture job reads.
    """
    settings, options, kind = job.get("settings", {}), job["options"], job["kind"]
    model = options.get("model", "toybox")
    nodes: dict[str, Any] = {}

    def node(name: str, cls: str, **inputs: Any) -> str:
        nodes[name] = {"class_type": cls, "inputs": inputs}
        return name

    if model == "toybox":
        loader = node("model", "PullbackToyboxLoader")
    else:
        loader = node("model", "CheckpointLoaderSimple", ckpt_name=model)
    vae = [loader, 2]
    if kind in descriptions.DERIVED:
        field: list[Any] = [node("field", "PullbackLoadField", file=field_file), 0]
        solid, width = kind == "mesh", options.get("width")
    else:
        sampled = descriptions.kinds()[kind]
        field = _sampled(node, sampled, settings, options, loader, vae)
        node("save_field", "PullbackSaveField", field=field, filename_prefix="pullback/blender")
        solid, width = sampled.makes is Makes.OBJECT, options.get(sampled.usual.made[0].name)
    if solid:
        made = {name: options.get(name, each.default) for name, each in descriptions.mesh().items() if name in MESH}
        mesh = node("mesh", "PullbackFieldToMesh", field=field, level=10.0, vae=vae,
                    **{MESH[name]: value for name, value in made.items()})  # fmt: skip
        node("save", "PullbackSaveTexturedGlb", mesh=[mesh, 0], filename_prefix="pullback/blender")
    else:
        image = node("picture", "PullbackResolutionFreeDecode", field=field, width=width, height=0, left=0, top=0,
                     crop_width=0, crop_height=0, tile=512, vae=vae)  # fmt: skip
        node("save", "SaveImage", images=[image, 0], filename_prefix="pullback/blender")
    return nodes


def _fresh(kind: Kind, settings: dict[str, Any], options: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    """Return the class of the node that describes an unsampled field, and its inputs. There is one for each title."""
    usual = kind.usual
    title = "".join(word.capitalize() if word.isupper() or word == "NeRF" else word for word in usual.title.split())
    same = [each for each in descriptions.known() if each.title == usual.title]
    own = {each.name: each for one in same for each in one.settings}
    inputs = {each.node or name: options.get(name, each.default) for name, each in own.items()}
    if "view_size" in own and usual.views:
        inputs["views"] = settings["views"]
    if len(same) > 1:
        inputs[usual.option] = options.get(usual.option, usual.choice)
    return f"Pullback{title}", {"seed": 0, **inputs}


def _sampled(
    node: Any, kind: Kind, settings: dict[str, Any], options: dict[str, Any], loader: str, vae: Any
) -> list[Any]:
    """Add the nodes that sample a field, and return the output socket that carries it."""
    model, clip, seed = [loader, 0], [loader, 1], settings.get("seed", 0)
    positive = node("positive", "CLIPTextEncode", clip=clip, text=settings["prompt"])
    negative = node("negative", "CLIPTextEncode", clip=clip, text=settings.get("negative", ""))
    cls, inputs = _fresh(kind, settings, options)
    fresh = node("fresh", cls, **inputs)
    sides: dict[str, Any] = {}
    if kind.makes is Makes.OBJECT and options.get("model", "toybox") != "toybox":
        words = node("sides", "PullbackViewPrompts", clip=clip, text=settings["prompt"])
        sides = {side: [words, i] for i, side in enumerate(("front", "side", "back", "overhead"))}
    jump, repeats = settings.get("repaint", (1, 1))
    eta, solver = settings.get("eta", 0.0), settings.get("solver", "adam")
    if eta == 0 and repeats == 1 and solver == "adam":
        simple = node(
            "sample", "PullbackFieldSamplerSimple", model=model, positive=[positive, 0], negative=[negative, 0],
            field=[fresh, 0], seed=seed, steps=settings["steps"], cfg=settings["guidance"], vae=vae, **sides,
        )  # fmt: skip
        return [simple, 0]
    noise = node("noise", "RandomNoise", noise_seed=seed)
    guider = node("guider", "CFGGuider", model=model, positive=[positive, 0], negative=[negative, 0],
                  cfg=settings["guidance"])  # fmt: skip
    sigmas = node("sigmas", "BasicScheduler", model=model, scheduler="normal", steps=settings["steps"], denoise=1.0)
    sampler = node("sample", "PullbackFieldSampler", noise=[noise, 0], guider=[guider, 0], sigmas=[sigmas, 0],
                   field=[fresh, 0], eta=eta, jump=jump, repeats=repeats, solver=solver, views=0, view_prompts="auto",
                   vae=vae, **sides)  # fmt: skip
    return [sampler, 0]
