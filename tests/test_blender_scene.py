"""What becomes of the worker's files in Blender, with the bpy wheel: meshes, textures, worlds; and what is left behind."""

from __future__ import annotations

import math
import shutil
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
import trimesh
from PIL import Image
from pullback.geometry.sphere import equirectangular
from pullback.mesh.glb import write_glb

bpy = pytest.importorskip("bpy", reason="needs Blender as a module: pip install bpy==5.0.1 (Python 3.11)")
sys.path.insert(0, str(Path(__file__).parents[1]))

from blender_addon import glb, render, scene  # noqa: E402


@pytest.fixture(autouse=True)
def _empty():
    bpy.ops.wm.read_factory_settings(use_empty=True)


def _egg() -> trimesh.Trimesh:
    """A closed surface without any symmetry, split along a seam: u follows the azimuth, v the height."""
    egg = trimesh.creation.uv_sphere(radius=0.5, count=[24, 32])
    egg.vertices *= 1 + 0.2 * egg.vertices @ np.array([[0.5], [-0.8], [1.0]])
    corners = egg.vertices[egg.faces].reshape(-1, 3)
    uv = np.stack([np.arctan2(corners[:, 1], corners[:, 0]) / (2 * np.pi) + 0.5, corners[:, 2] + 0.5], axis=1).clip(
        0, 1
    )
    visual = trimesh.visual.TextureVisuals(uv=uv)
    return trimesh.Trimesh(corners, np.arange(len(corners)).reshape(-1, 3), visual=visual, process=False)


def _texture(size=16) -> np.ndarray:
    """Red grows with u, green with v (up)."""
    ramp = np.linspace(0, 255, size).astype(np.uint8)
    return np.stack(
        [np.tile(ramp, (size, 1)), np.tile(ramp[::-1, None], (1, size)), np.full((size, size), 40, np.uint8)], -1
    )


@pytest.fixture
def egg(tmp_path):
    path = tmp_path / "egg.glb"
    write_glb(path, _egg(), _texture(), name="an egg")
    return path


def _principled(obj):
    material = obj.active_material
    node = next(n for n in material.node_tree.nodes if n.type == "BSDF_PRINCIPLED")
    assert any(link.to_node.type == "OUTPUT_MATERIAL" for link in node.outputs["BSDF"].links)
    return node


def _image(obj):
    return _principled(obj).inputs["Base Color"].links[0].from_node.image


def _pixels(image) -> np.ndarray:
    """(H, W, 4), row 0 at the bottom as Blender keeps them."""
    pixels = np.empty(len(image.pixels), dtype=np.float32)
    image.pixels.foreach_get(pixels)
    return pixels.reshape(image.size[1], image.size[0], 4)


def _arrays(mesh):
    position, index, uv = (
        np.empty(3 * len(mesh.vertices)),
        np.empty(len(mesh.loops), int),
        np.empty(2 * len(mesh.loops)),
    )
    mesh.vertices.foreach_get("co", position)
    mesh.loops.foreach_get("vertex_index", index)
    mesh.uv_layers.active.data.foreach_get("uv", uv)
    return position.reshape(-1, 3), index, uv.reshape(-1, 2)


def test_a_file_becomes_the_same_surface_in_the_same_place(egg):
    """Positions, faces and uv are those that were written, in the core's world; the seam is welded, it stays closed."""
    bpy.context.scene.cursor.location = (1, 2, 3)
    obj = scene.add_object(glb.read(egg), name="an egg", field="f", prompt="an egg", seed=2**40)
    source = _egg()
    position, index, uv = _arrays(obj.data)
    assert np.allclose(position[index], source.vertices[source.faces.reshape(-1)], atol=1e-6)
    assert np.allclose(uv, source.visual.uv, atol=1e-6)
    assert len(position) < len(source.vertices) / 3 and all(len(polygon.vertices) == 3 for polygon in obj.data.polygons)
    closed = trimesh.Trimesh(position, index.reshape(-1, 3), process=False)
    assert closed.is_watertight and closed.volume > 0, "normals point outward"
    outward = [polygon.normal.dot(polygon.center) for polygon in obj.data.polygons]
    assert min(outward) > 0
    assert tuple(obj.location) == (1, 2, 3) and bpy.context.view_layer.objects.active == obj and obj.select_get()
    assert (obj["pullback_field"], obj["pullback_seed"]) == ("f", str(2**40))


def test_the_texture_is_packed_the_right_way_up_and_survives(egg, tmp_path):
    obj = scene.add_object(glb.read(egg), name="an egg")
    shutil.rmtree(egg.parent)
    tmp_path.mkdir(exist_ok=True)
    bpy.ops.wm.save_as_mainfile(filepath=str(tmp_path / "a.blend"))
    bpy.ops.wm.read_factory_settings(use_empty=True)
    bpy.ops.wm.open_mainfile(filepath=str(tmp_path / "a.blend"))
    obj = bpy.data.objects["an egg"]
    image = _image(obj)
    assert image.packed_file is not None and tuple(image.size) == (16, 16) and image.colorspace_settings.name == "sRGB"
    pixels = _pixels(image)
    assert np.allclose(pixels[..., :3], _texture()[::-1] / 255, atol=2e-3)
    assert obj.data.uv_layers.active is not None and obj["pullback_prompt"] == ""


def test_solid_view_has_the_mean_colour_of_the_texture(egg):
    """`diffuse_color` is linear, as the mean of what Blender itself samples from the texture all over the egg."""
    obj = scene.add_object(glb.read(egg), name="an egg")
    pixels, areas, seen = _pixels(_image(obj))[..., :3], [], []
    _, _, uv = _arrays(obj.data)
    for polygon in obj.data.polygons:
        column, row = uv[list(polygon.loop_indices)].mean(0) * 16
        areas.append(polygon.area)
        seen.append(pixels[min(int(row), 15), min(int(column), 15)])
    shown = np.array(seen)
    linear = np.where(shown <= 0.04045, shown / 12.92, ((shown + 0.055) / 1.055) ** 2.4)
    mean = (linear * np.array(areas)[:, None]).sum(0) / sum(areas)
    assert np.allclose(obj.active_material.diffuse_color, [*mean, 1], atol=0.01), mean
    assert not np.allclose(mean, 0.8, atol=0.2), "and this is not Blender's default grey"


def test_cycles_shows_the_texture_where_it_belongs(egg, tmp_path):
    """Seen from the front (from -Y): u = 1/4 is in the middle, green grows upwards."""
    scene.add_object(glb.read(egg), name="an egg", location=(0, 0, 0))
    light = bpy.data.worlds.new("white")
    light.use_nodes = True
    next(n for n in light.node_tree.nodes if n.type == "BACKGROUND").inputs["Color"].default_value = (1, 1, 1, 1)
    bpy.context.scene.world = light
    camera = bpy.data.objects.new("camera", bpy.data.cameras.new("camera"))
    camera.location, camera.rotation_euler = (0, -5, 0), (math.pi / 2, 0, 0)
    camera.data.type, camera.data.ortho_scale = "ORTHO", 1.4
    bpy.context.scene.collection.objects.link(camera)
    bpy.context.scene.camera = camera
    render.SIZE, before = (40, 40), render.SIZE
    try:
        render.render(tmp_path / "a.png", [], samples=4)
    finally:
        render.SIZE = before
    seen = np.asarray(Image.open(tmp_path / "a.png").convert("RGB")).astype(float)
    left, right, high, low = seen[20, 14], seen[20, 26], seen[12, 20], seen[28, 20]
    assert right[0] > left[0] + 15 and high[1] > low[1] + 30
    assert {o.name for o in bpy.data.objects} == {"an egg", "camera"} and len(bpy.data.lights) == 0


def test_another_mesh_takes_the_place_of_the_old_one(egg, tmp_path):
    obj = scene.add_object(glb.read(egg), name="an egg")
    obj.location, obj.rotation_euler = (5, 6, 7), (1, 0, 0)
    obj.modifiers.new("smooth", "SUBSURF")
    material = obj.active_material
    _principled(obj).inputs["Roughness"].default_value = 0.25
    path = tmp_path / "box.glb"
    box = trimesh.creation.box()
    box = trimesh.Trimesh(box.vertices, box.faces, process=False,
                          visual=trimesh.visual.TextureVisuals(uv=np.full((8, 2), 0.5)))  # fmt: skip
    write_glb(path, box, _texture(32), name="a box")
    scene.replace_mesh(obj, glb.read(path))
    assert len(obj.data.polygons) == 12 and tuple(obj.location) == (5, 6, 7) and len(obj.modifiers) == 1
    assert obj.active_material == material and _principled(obj).inputs["Roughness"].default_value == 0.25
    assert tuple(_image(obj).size) == (32, 32)
    assert (len(bpy.data.meshes), len(bpy.data.materials), len(bpy.data.images)) == (1, 1, 1)
    assert (obj.data.name, _image(obj).name) == ("an egg", "an egg")
    with pytest.raises(ValueError, match="is not a mesh object any more"):
        scene.replace_mesh(bpy.data.objects.new("light", bpy.data.lights.new("light", "SUN")), glb.read(path))


def test_a_world_shows_every_direction_where_the_core_has_it(tmp_path):
    """Cycles looks twice into a panorama whose colours are its directions: every pixel shows its own."""
    directions = equirectangular(64, 128)
    Image.fromarray(((directions / 2 + 0.5) * 255).round().to(torch.uint8).numpy()).save(tmp_path / "d.png")
    world = scene.set_world(tmp_path / "d.png", name="directions")
    assert bpy.context.scene.world == world
    node = next(n for n in world.node_tree.nodes if n.type == "TEX_ENVIRONMENT")
    assert node.projection == "EQUIRECTANGULAR" and node.image.packed_file is not None
    camera = bpy.data.objects.new("camera", bpy.data.cameras.new("camera"))
    camera.data.angle = math.radians(90)
    bpy.context.scene.collection.objects.link(camera)
    bpy.context.scene.camera = camera
    x, y = np.meshgrid((np.arange(8) + 0.5) / 4 - 1, 1 - (np.arange(8) + 0.5) / 4)
    rays = np.stack([x, y, -np.ones_like(x)], -1) / np.sqrt(x**2 + y**2 + 1)[..., None]
    render.SIZE, before = (8, 8), render.SIZE
    try:
        for turn in ((90, 0, -70), (150, 0, 120)):
            camera.rotation_euler = [math.radians(angle) for angle in turn]
            render.render(tmp_path / "s.png", [], samples=16)
            seen = np.asarray(Image.open(tmp_path / "s.png").convert("RGB")) / 255 * 2 - 1
            expected = rays @ np.array(camera.rotation_euler.to_matrix()).T
            assert np.abs(seen - expected).max() < 0.1 and np.abs(seen - expected).mean() < 0.02
    finally:
        render.SIZE = before


def _saved_and_opened(tmp_path):
    """What remains of the file twice saved and opened, as a second saving drops what the first one hardly kept."""
    for _ in range(2):
        bpy.ops.wm.save_as_mainfile(filepath=str(tmp_path / "a.blend"))
        bpy.ops.wm.open_mainfile(filepath=str(tmp_path / "a.blend"))


def _users_image(material):
    """An image that the user has painted, packed, as the base colour of a material of theirs."""
    image = bpy.data.images.new("the user's painting", 4, 4)
    image.pixels.foreach_set(np.tile(np.float32([1, 0, 0.2, 1]), 16))
    image.pack()
    tree = scene.tree_of(material)
    node = tree.nodes.new("ShaderNodeTexImage")
    node.image = image
    tree.links.new(node.outputs["Color"], scene._principled(tree).inputs["Base Color"])
    return image


def test_the_users_world_and_image_are_whole_after_saving(tmp_path):
    """The world with its nodes, the image with its pixels; and the new ones are in their places."""
    Image.fromarray(_texture()).save(tmp_path / "i.png")
    old = bpy.context.scene.world = bpy.data.worlds.new("the user's sky")
    background = next(n for n in scene.tree_of(old).nodes if n.type == "BACKGROUND")
    background.inputs["Color"].default_value = (0.1, 0.2, 0.3, 1)
    obj = bpy.data.objects.new("thing", bpy.data.meshes.new("thing"))
    bpy.context.scene.collection.objects.link(obj)
    material = bpy.data.materials.new("the user's")
    obj.data.materials.append(material)
    _users_image(material)
    scene.set_world(tmp_path / "i.png", name="new sky")
    scene.add_image(tmp_path / "i.png", name="new", obj=obj)
    _saved_and_opened(tmp_path)
    obj = bpy.data.objects["thing"]
    assert bpy.context.scene.world.name == "new sky" and _image(obj).name == "new"
    assert obj.active_material.name == "the user's"
    old = bpy.data.worlds["the user's sky"]
    background = next(n for n in old.node_tree.nodes if n.type == "BACKGROUND")
    assert np.allclose(background.inputs["Color"].default_value, (0.1, 0.2, 0.3, 1))
    assert np.allclose(_pixels(bpy.data.images["the user's painting"])[0, 0], [1, 0, 0.2, 1], atol=3e-3)


@pytest.mark.parametrize("whose", ["another image", "painted", "painted and saved", "baked"])
def test_a_new_mesh_takes_no_image_of_the_users(egg, tmp_path, whose):
    """Only a texture as it was baked goes with its mesh."""
    obj = scene.add_object(glb.read(egg), name="an egg")
    node = _principled(obj).inputs["Base Color"].links[0].from_node
    if whose == "another image":
        node.image = _users_image(bpy.data.materials.new("other"))
        bpy.data.materials.remove(bpy.data.materials["other"])
    elif whose.startswith("painted"):
        node.image.pixels.foreach_set(np.tile(np.float32([1, 0, 0.2, 1]), 256))
        node.image.name = "the user's painting"
    if whose == "painted and saved":
        node.image.pack()
        _saved_and_opened(tmp_path)
        obj = bpy.data.objects["an egg"]
    scene.replace_mesh(obj, glb.read(egg))
    if whose == "painted":
        bpy.data.images["the user's painting"].pack()  # as Blender asks for before it saves
    _saved_and_opened(tmp_path)
    kept = [image for image in bpy.data.images if image.name == "the user's painting"]
    assert len(kept) == (whose != "baked")
    assert all(np.allclose(_pixels(image)[0, 0], [1, 0, 0.2, 1], atol=3e-3) for image in kept)
    assert np.allclose(_pixels(_image(bpy.data.objects["an egg"]))[..., :3], _texture()[::-1] / 255, atol=2e-3)


def test_a_new_object_leaves_the_selection_alone(egg):
    """Also where 5.0 lists an object that is gone among the selected ones, as None."""
    first = scene.add_object(glb.read(egg), name="first")
    assert first.select_get() and bpy.context.view_layer.objects.active == first
    second = scene.add_object(glb.read(egg), name="second")
    assert not second.select_get() and bpy.context.view_layer.objects.active == first
    bpy.data.objects.remove(first)
    third = scene.add_object(glb.read(egg), name="third")
    assert third.select_get() and bpy.context.view_layer.objects.active == third


def test_nothing_that_is_replaced_is_lost_on_saving(tmp_path):
    Image.fromarray(_texture()).save(tmp_path / "i.png")
    old = bpy.context.scene.world = bpy.data.worlds.new("the user's sky")
    mesh = bpy.data.objects.new("thing", bpy.data.meshes.new("thing"))
    before = scene.add_image(tmp_path / "i.png", name="the user's", obj=mesh)
    scene.set_world(tmp_path / "i.png", name="new sky")
    scene.add_image(tmp_path / "i.png", name="new", obj=mesh)
    names = old.name, before.name
    bpy.ops.wm.save_as_mainfile(filepath=str(tmp_path / "a.blend"))
    bpy.ops.wm.open_mainfile(filepath=str(tmp_path / "a.blend"))
    assert names[0] in bpy.data.worlds and names[1] in bpy.data.images


def test_a_texture_beside_a_field_never_overwrites_another(tmp_path):
    field = str(tmp_path / "f.field.safetensors")
    for _ in range(3):
        path = scene._beside(field, "a chair")
        assert not path.exists()
        path.write_bytes(b"someone's work")
    assert len(list(tmp_path.iterdir())) == 3


def test_textures_of_new_meshes_lie_beside_the_old_ones(egg, tmp_path):
    """Each new mesh writes a file of its own; what the user has painted into an older one is still there after a reload."""
    obj = scene.add_object(glb.read(egg), name="an egg", field=str(tmp_path / "egg.glb.field.safetensors"), pack=False)
    first = Path(bpy.path.abspath(_image(obj).filepath))
    first.write_bytes(first.read_bytes() + b"painted")
    scene.replace_mesh(obj, glb.read(egg), pack=False)
    scene.replace_mesh(obj, glb.read(egg), pack=False)
    _saved_and_opened(tmp_path)
    assert first.read_bytes().endswith(b"painted") and len(list(tmp_path.glob("*.texture*.png"))) == 3
    shown = _image(bpy.data.objects["an egg"])
    assert Path(bpy.path.abspath(shown.filepath)) not in (first,) and np.isfinite(_pixels(shown)).all()


def test_an_image_goes_to_the_active_material(tmp_path):
    Image.fromarray(_texture()).save(tmp_path / "i.png")
    mesh = bpy.data.objects.new("thing", bpy.data.meshes.new("thing"))
    assert scene.add_image(tmp_path / "i.png", name="one", obj=mesh) == _image(mesh), "a material is made"
    second = scene.add_image(tmp_path / "i.png", name="two", obj=mesh)
    assert _image(mesh) == second and len(bpy.data.materials) == 1
    textures = [n for n in mesh.active_material.node_tree.nodes if n.type == "TEX_IMAGE"]
    assert len(textures) == 1, "the node is used again"
    light = bpy.data.objects.new("light", bpy.data.lights.new("light", "SUN"))
    assert scene.add_image(tmp_path / "i.png", name="three", obj=light).users == 0
    linked = scene.add_image(tmp_path / "i.png", name="four", pack=False)
    assert linked.packed_file is None and Path(bpy.path.abspath(linked.filepath)) == tmp_path / "i.png"


def test_a_texture_can_lie_beside_the_file(egg, tmp_path):
    obj = scene.add_object(glb.read(egg), name="an egg", field=str(tmp_path / "egg.glb.field.safetensors"), pack=False)
    image = _image(obj)
    assert image.packed_file is None and Path(bpy.path.abspath(image.filepath)).parent == tmp_path
    assert np.allclose(_pixels(image)[..., :3], _texture()[::-1] / 255, atol=2e-3)


def test_what_is_not_ours_is_refused_in_one_sentence(egg, tmp_path):
    good = egg.read_bytes()
    for name, data in {"empty": b"", "short": good[:100], "cut": good[:-10], "other": b"PNG" + good[3:]}.items():
        path = tmp_path / f"{name}.glb"
        path.write_bytes(data)
        with pytest.raises(ValueError, match="is not a textured mesh as pullback writes it"):
            glb.read(path)
    with pytest.raises(ValueError, match="cannot be read"):
        glb.read(tmp_path / "none.glb")


def test_fifty_objects_that_come_and_are_undone_leave_nothing(egg):
    """Datablocks and memory after the fiftieth as after the third; undo takes the whole object, redo brings it back."""
    parts, counts, memory = glb.read(egg), [], []
    bpy.context.preferences.edit.use_global_undo = True
    bpy.ops.ed.undo_push(message="start")
    empty = len(bpy.data.user_map())
    for _ in range(50):
        scene.add_object(parts, name="an egg")
        bpy.ops.ed.undo_push(message="an egg")
        bpy.ops.ed.undo()
        counts.append(len(bpy.data.user_map()))
        memory.append(
            int(Path("/proc/self/statm").read_text().split()[1]) * 4096 if Path("/proc/self/statm").exists() else 0
        )
    assert counts == [empty] * 50 and memory[-1] - memory[2] < 8e6
    bpy.ops.ed.redo()
    assert np.allclose(_pixels(_image(bpy.data.objects["an egg"]))[..., :3], _texture()[::-1] / 255, atol=2e-3)


def test_placing_is_quick(tmp_path):
    """A default object, 20 000 faces and a texture of 1024 pixels, is placed within 50 ms (4 times that on a busy machine)."""
    ball = trimesh.creation.icosphere(5)
    uv = ball.vertices[:, :2] / 2 + 0.5
    ball = trimesh.Trimesh(ball.vertices, ball.faces, visual=trimesh.visual.TextureVisuals(uv=uv), process=False)
    write_glb(tmp_path / "b.glb", ball, np.zeros((1024, 1024, 3), np.uint8))
    parts = glb.read(tmp_path / "b.glb")
    assert len(parts.corners) == 3 * 20480
    times = []
    for _ in range(5):
        start = time.process_time()
        scene.add_object(parts, name="ball")
        times.append(time.process_time() - start)
    assert min(times) < 0.2
