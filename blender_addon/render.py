"""Renders a picture of the scene with Cycles on the CPU, to show what a batch made."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import bpy
from mathutils import Vector

from .scene import tree_of

SIZE = (960, 600)
GREY = (0.6, 0.6, 0.6, 1.0)


def render(path: Path, objects: list[bpy.types.Object], samples: int) -> None:
    """Render the scene to a PNG file, and leave the scene as it was.

    A scene without a camera gets one that frames `objects` or, if there are none, looks from the origin. A scene without light
    gets a sun and a grey world.

    Args:
        path: The file.
        objects: The objects to frame.
        samples: Samples per pixel.

    Raises:
        RuntimeError: If Blender cannot render.
        OSError: If the file cannot be written.
    """
    scene = bpy.context.scene
    path.parent.mkdir(parents=True, exist_ok=True)
    with _set(scene, samples), _lit(scene), _seen(scene, objects):
        bpy.ops.render.render()
        bpy.data.images["Render Result"].save_render(str(path), scene=scene)


@contextmanager
def _set(scene: bpy.types.Scene, samples: int) -> Iterator[None]:
    values = {
        (scene.render, "engine"): "CYCLES",
        (scene.render, "resolution_x"): SIZE[0],
        (scene.render, "resolution_y"): SIZE[1],
        (scene.render, "resolution_percentage"): 100,
        (scene.render.image_settings, "file_format"): "PNG",
        (scene.view_settings, "view_transform"): "Standard",
        (scene.cycles, "samples"): samples,
        (scene.cycles, "use_denoising"): False,
        (scene.cycles, "device"): "CPU",
    }
    before = [(owner, name, getattr(owner, name)) for owner, name in values]
    try:
        for (owner, name), value in values.items():
            setattr(owner, name, value)
        yield
    finally:
        for owner, name, value in reversed(before):
            setattr(owner, name, value)


@contextmanager
def _seen(scene: bpy.types.Scene, objects: list[bpy.types.Object]) -> Iterator[None]:
    if scene.camera is not None:
        yield
        return
    data = bpy.data.cameras.new("Pullback Preview")
    camera = bpy.data.objects.new("Pullback Preview", data)
    scene.collection.objects.link(camera)
    scene.camera = camera
    try:
        _frame(camera, objects)
        yield
    finally:
        scene.camera = None
        bpy.data.cameras.remove(data)  # this also removes its object


def _frame(camera: bpy.types.Object, objects: list[bpy.types.Object]) -> None:
    """Aim the camera at objects from the front, slightly from the right and above; without objects, at the horizon."""
    bpy.context.view_layer.update()
    corners = [obj.matrix_world @ Vector(corner) for obj in objects for corner in obj.bound_box]
    if not corners:
        camera.data.angle = math.radians(90)
        camera.rotation_euler = (math.radians(90), 0, math.radians(-90))  # towards +X, the panorama's middle
        return
    camera.rotation_euler = (math.radians(70), 0, math.radians(25))
    bpy.context.view_layer.update()
    flat = [coordinate for corner in corners for coordinate in corner]
    camera.location, _ = camera.camera_fit_coords(bpy.context.evaluated_depsgraph_get(), flat)
    camera.location += 0.1 * (camera.location - sum(corners, Vector()) / len(corners))


@contextmanager
def _lit(scene: bpy.types.Scene) -> Iterator[None]:
    """Light the scene with a sun and a grey world while the block runs, if it has no light of its own."""
    has_light = any(obj.type == "LIGHT" for obj in scene.objects)
    if has_light or (scene.world is not None and _shows(scene.world)):
        yield
        return
    before = scene.world
    scene.world = bpy.data.worlds.new("Pullback Preview")
    for node in tree_of(scene.world).nodes:
        if node.type == "BACKGROUND":
            node.inputs["Color"].default_value = GREY
    data = bpy.data.lights.new("Pullback Preview", "SUN")
    data.energy = 2.0
    sun = bpy.data.objects.new("Pullback Preview", data)
    sun.rotation_euler = (math.radians(40), 0, math.radians(50))
    scene.collection.objects.link(sun)
    try:
        yield
    finally:
        bpy.data.lights.remove(data)
        temporary, scene.world = scene.world, before
        bpy.data.worlds.remove(temporary)


def _shows(world: bpy.types.World) -> bool:
    tree = world.node_tree
    return tree is not None and any(node.type == "TEX_ENVIRONMENT" for node in tree.nodes)
