"""Scene: what the worker's files become in Blender: objects, worlds and images. Main thread only; nothing waits.

Names are asked of Blender's data, never of operators, so that it all works without a window. Undo is the caller's.
"""

from __future__ import annotations

import hashlib
import itertools
from pathlib import Path

import bpy
from bpy.app.translations import pgettext_rpt as translate

from .glb import Parts

ROUGHNESS = 0.9
BLEND = 0.2
"""How far the pictures of two sides of a box fade into each other."""


def add_object(
    parts: Parts,
    *,
    name: str,
    location: tuple[float, float, float] | None = None,
    field: str = "",
    prompt: str = "",
    seed: int = 0,
    model: str = "toybox",
    scene: bpy.types.Scene | None = None,
    pack: bool = True,
) -> bpy.types.Object:
    """A mesh object with its material, at `location` or the 3D cursor; selected and active where nothing else is selected.

    `field` is the path of its field file, kept on the object for re-meshing. pack: the texture goes into the .blend
    file; else it is a PNG file beside the field.
    """
    scene = scene or bpy.context.scene
    image = _texture(parts, name, None if pack else _beside(field, name))
    thing = bpy.data.objects.new(name, _mesh(parts, name))
    thing.data.materials.append(_material(name, image, parts.color))
    thing.location = scene.cursor.location if location is None else location
    thing["pullback_field"], thing["pullback_prompt"] = field, prompt
    thing["pullback_seed"], thing["pullback_model"] = str(seed), model  # an ID property holds 32 bits, a seed 63
    _collection(scene).objects.link(thing)
    _select(scene, thing)
    return thing


def replace_mesh(thing: bpy.types.Object, parts: Parts, pack: bool = True) -> None:
    """Another mesh and texture of the same field: transform, name, materials and modifiers stay as they are, and so does
    the old texture where it is the user's, or was painted on.

    ValueError where the object is no mesh any more.
    """
    if thing.type != "MESH":
        text = translate("{name} is no mesh object any more: convert it back, or generate it again")
        raise ValueError(text.format(name=thing.name))
    old = thing.data
    name, materials = old.name, list(old.materials)
    node = next((n for n in map(_texture_node, materials) if n is not None), None)
    image = _texture(parts, name, None if pack else _beside(thing.get("pullback_field", ""), name))
    thing.data = _mesh(parts, name)
    for material in materials:
        thing.data.materials.append(material)
    if old.users == 0:
        bpy.data.meshes.remove(old)
    thing.data.name = name
    if node is None:
        thing.data.materials.append(_material(name, image, parts.color))
        return
    before, node.image = node.image, image
    if before is None:
        return
    if not _as_baked(before):
        _keep(before)
    elif before.users == 0:
        before_name = before.name
        bpy.data.images.remove(before)
        image.name = before_name


def set_world(
    path: str | Path, *, name: str, scene: bpy.types.Scene | None = None, pack: bool = True
) -> bpy.types.World:
    """A world that shows the equirectangular panorama at `path`, set as the scene's. The old world stays in the file."""
    scene = scene or bpy.context.scene
    image = load_image(path, name, pack)
    world = bpy.data.worlds.new(name)
    tree = tree_of(world)
    tree.nodes.clear()
    surroundings = tree.nodes.new("ShaderNodeTexEnvironment")
    surroundings.image = image
    background, output = tree.nodes.new("ShaderNodeBackground"), tree.nodes.new("ShaderNodeOutputWorld")
    _in_a_row(surroundings, background, output)
    tree.links.new(surroundings.outputs["Color"], background.inputs["Color"])
    tree.links.new(background.outputs["Background"], output.inputs["Surface"])
    _keep(scene.world)
    scene.world = world
    return world


def add_image(
    path: str | Path, *, name: str, thing: bpy.types.Object | None = None, pack: bool = True
) -> bpy.types.Image:
    """The picture at `path` as an image datablock, and as the base colour of the active material of `thing`, if given.

    An object without a material gets one; a light, a camera and other things that have none are left alone. An image
    that was the material's base colour stays in the file.
    """
    image = load_image(path, name, pack)
    if thing is None or not hasattr(thing.data, "materials"):
        return image
    material = thing.active_material
    if material is None:
        thing.active_material = _material(name, image)
        return image
    tree = tree_of(material)
    node = _texture_node(material) or tree.nodes.new("ShaderNodeTexImage")
    _keep(node.image)
    node.image = image
    principled = _principled(tree)
    node.location = principled.location.x - 300, principled.location.y
    tree.links.new(node.outputs["Color"], principled.inputs["Base Color"])
    return image


def add_material(
    path: str | Path, *, name: str, repeats: float = 1.0, thing: bpy.types.Object | None = None, pack: bool = True
) -> bpy.types.Material:
    """The tile at `path` as a material in the active slot of `thing`, if given; what was there stays in the file.

    It repeats `repeats` times over the UV map, or where there is none, over the bounding box, from all sides. A light, a
    camera and other things that have no material are left alone.
    """
    image = load_image(path, name, pack)
    material = _material(name, image)
    tree, node = material.node_tree, _texture_node(material)
    mapping, coordinates = tree.nodes.new("ShaderNodeMapping"), tree.nodes.new("ShaderNodeTexCoord")
    mapping.inputs["Scale"].default_value = (repeats,) * 3
    _in_a_row(coordinates, mapping)
    for each in (coordinates, mapping):
        each.location.x += node.location.x - 600
    has = hasattr(getattr(thing, "data", None), "materials")
    flat = not has or bool(getattr(thing.data, "uv_layers", ()))
    tree.links.new(coordinates.outputs["UV" if flat else "Generated"], mapping.inputs["Vector"])
    tree.links.new(mapping.outputs["Vector"], node.inputs["Vector"])
    node.extension = "REPEAT"
    if not flat:
        node.projection, node.projection_blend = "BOX", BLEND
    if has:
        _keep(thing.active_material)
        thing.active_material = material
    else:
        material.use_fake_user = True  # nothing has it yet, and it is to be saved
    return material


def _keep(replaced: bpy.types.ID | None) -> None:
    """Have what we take out of the user's scene saved with it: Blender drops what nothing uses when a file is saved."""
    if replaced is not None:
        replaced.use_fake_user = True


def load_image(path: str | Path, name: str, pack: bool = True) -> bpy.types.Image:
    """A picture file as an image datablock, packed into the .blend file or linked to where it lies."""
    path = Path(path)
    if pack:
        return _packed(path.read_bytes(), name)
    image = bpy.data.images.load(str(path))
    image.name = name
    return image


def _mesh(parts: Parts, name: str) -> bpy.types.Mesh:
    mesh = bpy.data.meshes.new(name)
    faces = len(parts.corners) // 3
    mesh.vertices.add(len(parts.positions) // 3)
    mesh.vertices.foreach_set("co", parts.positions)
    mesh.loops.add(len(parts.corners))
    mesh.loops.foreach_set("vertex_index", parts.corners)
    mesh.polygons.add(faces)
    mesh.polygons.foreach_set("loop_start", range(0, 3 * faces, 3))
    mesh.polygons.foreach_set("use_smooth", [True] * faces)
    mesh.uv_layers.new(name="UVMap").data.foreach_set("uv", parts.uv)
    mesh.update(calc_edges=True)
    mesh.validate()
    return mesh


def _texture(parts: Parts, name: str, beside: Path | None) -> bpy.types.Image:
    if beside is None:
        image = _packed(parts.texture, name)
    else:
        with beside.open("xb") as file:
            file.write(parts.texture)
        image = load_image(beside, name, pack=False)
    image["pullback_baked"] = _digest(parts.texture)
    return image


def _as_baked(image: bpy.types.Image) -> bool:
    """Whether an image is a texture of ours on which nobody has painted since."""
    if image.is_dirty or "pullback_baked" not in image:
        return False
    if image.packed_file is None:
        return True  # what it shows stays where it lies
    return image["pullback_baked"] == _digest(image.packed_file.data)


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _packed(data: bytes, name: str) -> bpy.types.Image:
    image = bpy.data.images.new(name, 8, 8)
    image.pack(data=data, data_len=len(data))
    image.source = "FILE"  # from here on it is the packed file, whatever its size
    return image


def _beside(field: str, name: str) -> Path:
    """A texture's file beside the field's, of a name that nothing has: other objects may show what lies there."""
    if not field:
        raise ValueError(translate("a texture beside the .blend file needs the object's field file"))
    folder, stem = Path(bpy.path.abspath(field)).parent, bpy.path.clean_name(name)
    names = (f"{stem}.texture{f'-{n}' if n > 1 else ''}.png" for n in itertools.count(1))
    return next(folder / name for name in names if not (folder / name).exists())


def _material(name: str, image: bpy.types.Image, color: tuple[float, float, float] | None = None) -> bpy.types.Material:
    """A rough Principled material with the image as its colour. color: the one of Solid view, which shows no textures."""
    material = bpy.data.materials.new(name)
    if color is not None:
        material.diffuse_color = *color, 1.0
    tree = tree_of(material)
    principled = _principled(tree)
    principled.inputs["Roughness"].default_value = ROUGHNESS
    node = tree.nodes.new("ShaderNodeTexImage")
    node.image = image
    node.location = principled.location.x - 300, principled.location.y
    tree.links.new(node.outputs["Color"], principled.inputs["Base Color"])
    return material


def tree_of(owner: bpy.types.Material | bpy.types.World) -> bpy.types.NodeTree:
    """The node tree of a material or world. Before 5.0 it has none until it is asked to use nodes."""
    if owner.node_tree is None:
        owner.use_nodes = True
    return owner.node_tree


def _principled(tree: bpy.types.NodeTree) -> bpy.types.Node:
    """The Principled shader of a material, joined to its output; made where there is none."""
    for node in tree.nodes:
        if node.type == "BSDF_PRINCIPLED":
            return node
    node = tree.nodes.new("ShaderNodeBsdfPrincipled")
    output = next((n for n in tree.nodes if n.type == "OUTPUT_MATERIAL"), None)
    output = output or tree.nodes.new("ShaderNodeOutputMaterial")
    tree.links.new(node.outputs["BSDF"], output.inputs["Surface"])
    return node


def _texture_node(material: bpy.types.Material | None) -> bpy.types.Node | None:
    """The image texture that colours a material, if it has one."""
    if material is None or material.node_tree is None:
        return None
    shader = next((n for n in material.node_tree.nodes if n.type == "BSDF_PRINCIPLED"), None)
    links = shader.inputs["Base Color"].links if shader else ()
    return next((link.from_node for link in links if link.from_node.type == "TEX_IMAGE"), None)


def _in_a_row(*nodes: bpy.types.Node) -> None:
    for i, node in enumerate(nodes):
        node.location = 300 * i, 0


def _collection(scene: bpy.types.Scene) -> bpy.types.Collection:
    """Where new objects go: the active collection, if it belongs to this scene."""
    active = bpy.context.collection
    return active if active in scene.collection.children_recursive else scene.collection


def _select(scene: bpy.types.Scene, thing: bpy.types.Object) -> None:
    layer = bpy.context.view_layer if bpy.context.scene == scene else scene.view_layers[0]
    mine = [other for other in layer.objects.selected if other is not None]  # 5.0 lists objects that are gone as None
    if mine:  # the user is at work on something else: it stays theirs
        return
    try:
        thing.select_set(True, view_layer=layer)
    except RuntimeError:  # its collection is excluded from this layer
        return
    layer.objects.active = thing
