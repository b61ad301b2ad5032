"""Turns the worker's files into Blender's objects, worlds, images and materials. For the main thread only.

The functions use `bpy.data` and no operators, so that they work without a window. Callers push the undo steps.
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
"""How far box projection blends the images of neighbouring sides, 0 to 1."""


def add_object(
    parts: Parts,
    *,
    name: str,
    location: tuple[float, float, float] | None = None,
    field: str = "",
    prompt: str = "",
    seed: int = 0,
    model: str = "toybox",
    file: str = "",
    scene: bpy.types.Scene | None = None,
    pack: bool = True,
) -> bpy.types.Object:
    """Add a mesh object with its material. It becomes selected and active if nothing else is selected.

    Args:
        parts: The mesh and its texture.
        name: The name of the object and its data.
        location: The object's location; by default that of the 3D cursor.
        field, prompt, seed, model: As in `describe`.
        file: The path of the mesh file.
        scene: The scene; by default the current one.
        pack: Whether the texture is packed into the .blend file. Otherwise it is written beside the field file or, if there is
            none, the mesh file.
    """
    scene = scene or bpy.context.scene
    image = _texture(parts, name, None if pack else _beside(field or file, name))
    obj = bpy.data.objects.new(name, _mesh(parts, name))
    obj.data.materials.append(_material(name, image, parts.color))
    obj.location = scene.cursor.location if location is None else location
    describe(obj, field=field, prompt=prompt, seed=seed, model=model)
    _collection(scene).objects.link(obj)
    _select(scene, obj)
    return obj


def describe(obj: bpy.types.Object, *, field: str, prompt: str, seed: int, model: str) -> None:
    """Store what an object was sampled from, as custom properties.

    Args:
        obj: The object.
        field: The path of its field file, for re-meshing. Drafts have none, and "" stores none.
        prompt: The prompt.
        seed: The seed.
        model: The name of the model.
    """
    if field:
        obj["pullback_field"] = field
    obj["pullback_prompt"], obj["pullback_model"] = prompt, model
    obj["pullback_seed"] = str(seed)  # an ID property holds 32 bits, a seed 63


def replace_mesh(obj: bpy.types.Object, parts: Parts, pack: bool = True) -> None:
    """Give an object another mesh and texture of the same field.

    Its transform, name, materials and modifiers stay. The old texture is removed, unless it belongs to the user or has been
    painted on.

    Args:
        obj: The object.
        parts: The new mesh and texture.
        pack: As in `add_object`.

    Raises:
        ValueError: If the object is not a mesh any more.
    """
    if obj.type != "MESH":
        text = translate("{name} is not a mesh object any more: convert it back, or generate it again")
        raise ValueError(text.format(name=obj.name))
    old = obj.data
    name, materials = old.name, list(old.materials)
    node = next((n for n in map(_texture_node, materials) if n is not None), None)
    image = _texture(parts, name, None if pack else _beside(obj.get("pullback_field", ""), name))
    obj.data = _mesh(parts, name)
    for material in materials:
        obj.data.materials.append(material)
    if old.users == 0:
        bpy.data.meshes.remove(old)
    obj.data.name = name
    if node is None:
        obj.data.materials.append(_material(name, image, parts.color))
        return
    before, node.image = node.image, image
    if before is None:
        return
    if not _is_unchanged_texture(before):
        _keep(before)
    elif before.users == 0:
        before_name = before.name
        bpy.data.images.remove(before)
        image.name = before_name


def set_world(
    path: str | Path, *, name: str, scene: bpy.types.Scene | None = None, pack: bool = True
) -> bpy.types.World:
    """Set a world that shows the equirectangular panorama at `path`. The scene's old world stays in the .blend file."""
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
    path: str | Path, *, name: str, obj: bpy.types.Object | None = None, pack: bool = True
) -> bpy.types.Image:
    """Load the picture at `path`, and make it the base colour of the active material of an object.

    An object without a material gets one. An image that was the base colour before stays in the .blend file.

    Args:
        path: The picture file.
        name: The name of the image.
        obj: The object. Objects that cannot have materials, such as lights and cameras, are left alone.
        pack: Whether the image is packed into the .blend file.
    """
    image = load_image(path, name, pack)
    if obj is None or not hasattr(obj.data, "materials"):
        return image
    material = obj.active_material
    if material is None:
        obj.active_material = _material(name, image)
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
    path: str | Path, *, name: str, repeats: float = 1.0, obj: bpy.types.Object | None = None, pack: bool = True
) -> bpy.types.Material:
    """Make a material of the tile at `path`, and put it into the active material slot of an object.

    The tile is repeated over the UV map. If there is none, it is projected from all sides onto the bounding box. A material
    that was in the slot before stays in the .blend file.

    Args:
        path: The picture file.
        name: The name of the material and its image.
        repeats: How often the tile repeats along each axis.
        obj: The object. Objects that cannot have materials, such as lights and cameras, are left alone.
        pack: Whether the image is packed into the .blend file.
    """
    image = load_image(path, name, pack)
    material = _material(name, image)
    tree, node = material.node_tree, _texture_node(material)
    mapping, coordinates = tree.nodes.new("ShaderNodeMapping"), tree.nodes.new("ShaderNodeTexCoord")
    mapping.inputs["Scale"].default_value = (repeats,) * 3
    _in_a_row(coordinates, mapping)
    for each in (coordinates, mapping):
        each.location.x += node.location.x - 600
    has = hasattr(getattr(obj, "data", None), "materials")
    flat = not has or bool(getattr(obj.data, "uv_layers", ()))
    tree.links.new(coordinates.outputs["UV" if flat else "Generated"], mapping.inputs["Vector"])
    tree.links.new(mapping.outputs["Vector"], node.inputs["Vector"])
    node.extension = "REPEAT"
    if not flat:
        node.projection, node.projection_blend = "BOX", BLEND
    if has:
        _keep(obj.active_material)
        obj.active_material = material
    else:
        material.use_fake_user = True  # Blender does not save materials without users
    return material


def _keep(replaced: bpy.types.ID | None) -> None:
    """Give a replaced datablock a fake user: Blender does not save datablocks without users."""
    if replaced is not None:
        replaced.use_fake_user = True


def load_image(path: str | Path, name: str, pack: bool = True) -> bpy.types.Image:
    """Load a picture file as an image datablock, packed into the .blend file or linked to the file."""
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


def _is_unchanged_texture(image: bpy.types.Image) -> bool:
    """Return whether an image is a texture that the extension baked and that has not been painted on since."""
    if image.is_dirty or "pullback_baked" not in image:
        return False
    if image.packed_file is None:
        return True  # the texture is a file on the disk, which stays when the image is removed
    return image["pullback_baked"] == _digest(image.packed_file.data)


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _packed(data: bytes, name: str) -> bpy.types.Image:
    image = bpy.data.images.new(name, 8, 8)
    image.pack(data=data, data_len=len(data))
    image.source = "FILE"  # the packed file determines its size
    return image


def _beside(field: str, name: str) -> Path:
    """Return an unused path beside the field file for a texture: other objects may use the files that exist."""
    if not field:
        raise ValueError(translate("a texture beside the .blend file needs the object's field file"))
    folder, stem = Path(bpy.path.abspath(field)).parent, bpy.path.clean_name(name)
    names = (f"{stem}.texture{f'-{n}' if n > 1 else ''}.png" for n in itertools.count(1))
    return next(folder / name for name in names if not (folder / name).exists())


def _material(name: str, image: bpy.types.Image, color: tuple[float, float, float] | None = None) -> bpy.types.Material:
    """Add a rough Principled material with an image as its base colour.

    `color` is shown in Solid view, which has no textures.
    """
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
    """Return the node tree of a material or world. Before Blender 5.0 it has none until `use_nodes` is set."""
    if owner.node_tree is None:
        owner.use_nodes = True
    return owner.node_tree


def _principled(tree: bpy.types.NodeTree) -> bpy.types.Node:
    """Return the Principled shader of a material. If there is none, add one and link it to the output."""
    for node in tree.nodes:
        if node.type == "BSDF_PRINCIPLED":
            return node
    node = tree.nodes.new("ShaderNodeBsdfPrincipled")
    output = next((n for n in tree.nodes if n.type == "OUTPUT_MATERIAL"), None)
    output = output or tree.nodes.new("ShaderNodeOutputMaterial")
    tree.links.new(node.outputs["BSDF"], output.inputs["Surface"])
    return node


def _texture_node(material: bpy.types.Material | None) -> bpy.types.Node | None:
    """Return the node of the image texture that is a material's base colour, or None."""
    if material is None or material.node_tree is None:
        return None
    shader = next((n for n in material.node_tree.nodes if n.type == "BSDF_PRINCIPLED"), None)
    links = shader.inputs["Base Color"].links if shader else ()
    return next((link.from_node for link in links if link.from_node.type == "TEX_IMAGE"), None)


def _in_a_row(*nodes: bpy.types.Node) -> None:
    for i, node in enumerate(nodes):
        node.location = 300 * i, 0


def _collection(scene: bpy.types.Scene) -> bpy.types.Collection:
    """Return the collection for new objects: the active one if it belongs to the scene, else the scene's own."""
    active = bpy.context.collection
    return active if active in scene.collection.children_recursive else scene.collection


def _select(scene: bpy.types.Scene, obj: bpy.types.Object) -> None:
    layer = bpy.context.view_layer if bpy.context.scene == scene else scene.view_layers[0]
    selected = [each for each in layer.objects.selected if each is not None]  # 5.0 lists deleted objects as None
    if selected:  # the user is working on something else
        return
    try:
        obj.select_set(True, view_layer=layer)
    except RuntimeError:  # its collection is excluded from this layer
        return
    layer.objects.active = obj
