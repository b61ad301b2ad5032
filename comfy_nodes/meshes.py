"""Meshes: the nodes that turn fields into surfaces, voxels, textures and GLB files."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from comfy.model_management import throw_exception_if_processing_interrupted as tick
from comfy_api.latest import Types, io
from torch import Tensor

from . import savers, schema
from .paths import Target
from .signals import decoder
from .sockets import FieldValue, MeshValue, VoxelValue, flipped, to_gltf, to_world

MESH = getattr(Types, "MESH", MeshValue)
VOXEL = getattr(Types, "VOXEL", VoxelValue)
"""ComfyUI's classes, or ours in versions of ComfyUI that do not have them. Nodes of those versions only use the attributes."""


def _texture() -> list[io.Input]:
    return [
        io.Int.Input("texture", default=1024, min=0, max=8192, step=64,
                     tooltip="Width and height of the texture in pixels; 0 makes no texture."),
        io.Int.Input("views", default=24, min=4, max=128, tooltip="Pictures of the field to bake from."),
    ]  # fmt: skip


class FieldToMesh(io.ComfyNode):
    """Extracts the surface of a 3D field and bakes its texture."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="PullbackFieldToMesh",
            display_name="Field to Mesh",
            category=schema.CATEGORY,
            description="The closed surface of a 3D field, unwrapped and textured, for core's mesh nodes and Save Textured GLB.",
            inputs=[
                schema.field("A sampled 3D field."),
                io.Int.Input("resolution", default=128, min=16, max=512, step=16,
                             tooltip="Cells along each side in which the surface is looked for."),
                io.Float.Input("level", default=10.0, min=0.1, max=500.0, step=0.5,
                               tooltip="Density at which the surface lies: lower is fatter and keeps thin parts."),
                io.Int.Input("faces", default=20000, min=100, max=1000000, step=100, tooltip="Triangles, at most."),
                *_texture(),
                schema.vae(),
            ],
            outputs=[io.Mesh.Output(display_name="mesh", tooltip="The surface, Y up as in glTF, with uv and texture.")],
        )  # fmt: skip

    @classmethod
    def execute(
        cls, field: FieldValue, resolution: int, level: float, faces: int, texture: int, views: int, vae: Any = None
    ) -> io.NodeOutput:
        from ..core.pullback import tasks

        sampled, signal = field.sampled(), decoder(field.sampled(), vae)
        mesh = tasks.surface(sampled, faces, texture or 1024, resolution, level, tick)
        picture = tasks.baked(sampled, signal, mesh, texture, views, tick=tick) if texture else None
        return io.NodeOutput(to_mesh(mesh, picture))


class FieldToVoxel(io.ComfyNode):
    """Converts a 3D field to a grid of opacities."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="PullbackFieldToVoxel",
            display_name="Field to Voxel",
            category=schema.CATEGORY,
            description="A 3D field as a grid of opacities, for core's Voxel to Mesh.",
            inputs=[
                schema.field("A sampled 3D field."),
                io.Int.Input("resolution", default=128, min=16, max=512, step=16, tooltip="Cells along each side."),
            ],
            outputs=[
                io.Voxel.Output(display_name="voxel",
                                tooltip="0 to 1: 0.5 is where Field to Mesh finds its surface at level 10."),
            ],
        )  # fmt: skip

    @classmethod
    def execute(cls, field: FieldValue, resolution: int) -> io.NodeOutput:
        return io.NodeOutput(VOXEL(opacities(field, resolution)))


class BakeTexture(io.ComfyNode):
    """Bakes a field's texture onto any mesh."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="PullbackBakeTexture",
            display_name="Bake Texture",
            category=schema.CATEGORY,
            description="Bakes what a 3D field looks like onto a mesh of it; meshes without uv are unwrapped first.",
            inputs=[
                schema.field("The sampled 3D field to take the colours from."),
                io.Mesh.Input("mesh", tooltip="A mesh of this field, in its place and size."),
                io.Int.Input("texture", default=1024, min=16, max=8192, step=16,
                             tooltip="Width and height of the texture in pixels."),
                io.Int.Input("views", default=24, min=4, max=128, tooltip="Pictures of the field to bake from."),
                schema.vae(),
            ],
            outputs=[
                io.Mesh.Output(display_name="mesh", tooltip="The mesh with uv and texture."),
                io.Image.Output(display_name="texture", tooltip="The texture."),
            ],
        )  # fmt: skip

    @classmethod
    def execute(cls, field: FieldValue, mesh: Any, texture: int, views: int, vae: Any = None) -> io.NodeOutput:
        from ..core.pullback import tasks
        from ..core.pullback.mesh.unwrap import unwrap

        sampled, signal = field.sampled(), decoder(field.sampled(), vae)
        surface = from_mesh(mesh)[0][0]
        if not hasattr(surface.visual, "uv"):
            surface = unwrap(surface, texture, tick)
        picture = tasks.baked(sampled, signal, surface, texture, views, tick=tick)
        return io.NodeOutput(to_mesh(surface, picture), torch.from_numpy(picture)[None].float() / 255)


class SaveTexturedGlb(io.ComfyNode):
    """Saves meshes as GLB files."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="PullbackSaveTexturedGlb",
            display_name="Save Textured GLB",
            category=schema.CATEGORY,
            description="Writes a mesh with its texture as GLB into the output folder; connect the path to Preview 3D.",
            inputs=[
                io.Mesh.Input("mesh", lazy=True, tooltip="A mesh with uv and texture; without them it is written in plain grey. "
                              "Of several, each becomes a file."),
                savers.prefix("3d/pullback"),
            ],
            outputs=[
                io.String.Output(display_name="path", tooltip="The file within the output folder, for Preview 3D.",
                                 is_output_list=True),
            ],
            is_output_node=True,
        )  # fmt: skip

    @classmethod
    def execute(cls, mesh: Any, filename_prefix: str) -> io.NodeOutput:
        targets = [_saved(surface, picture, filename_prefix, cls.hidden) for surface, picture in from_mesh(mesh)]
        shown = [{"filename": file.path.name, "subfolder": file.subfolder, "type": "output"} for file in targets]
        return io.NodeOutput([file.name for file in targets], ui={"3d": shown})

    @classmethod
    def validate_inputs(cls, filename_prefix: str | None) -> bool | str:
        """Return True, or one sentence that says what is wrong with the name. ComfyUI asks before anything is sampled."""
        return savers.refusal(filename_prefix)

    @classmethod
    def check_lazy_status(cls, filename_prefix: str, **_: Any) -> list[str]:
        """Request the mesh once the name has been checked."""
        return savers.awaited(filename_prefix, "mesh")


GREY = np.full((8, 8, 3), 200, np.uint8)


def _saved(surface: Any, picture: np.ndarray | None, filename_prefix: str, hidden: Any) -> Target:
    """Write one surface as a GLB file in the output folder."""
    from ..core.pullback.mesh.glb import write_glb
    from ..core.pullback.mesh.unwrap import unwrap

    if not hasattr(surface.visual, "uv"):
        surface = unwrap(surface, tick=tick)
    target = savers.target(filename_prefix, ".glb")
    write_glb(target.path, surface, GREY if picture is None else picture, embedded=savers.embedded(hidden))
    return target


def to_mesh(mesh: Any, picture: np.ndarray | None) -> Any:
    """Convert a trimesh in world axes, and its texture (S, S, 3) uint8 or None, to a MESH."""
    attributes = {
        "vertices": to_gltf(torch.from_numpy(np.array(mesh.vertices)).float())[None],
        "faces": torch.from_numpy(np.array(mesh.faces)).long()[None],
        "uvs": flipped(torch.from_numpy(np.array(mesh.visual.uv)).float())[None],
    }
    if picture is not None:
        attributes["texture"] = torch.from_numpy(picture)[None].float() / 255
    return MESH(**attributes)


def from_mesh(mesh: Any) -> list[tuple[Any, np.ndarray | None]]:
    """Convert a MESH to trimeshes in world axes, each with its texture (S, S, 3) uint8 or None.

    Raises:
        ValueError: If it is not a MESH, or none of its meshes has faces.
    """
    if not (torch.is_tensor(getattr(mesh, "vertices", None)) and torch.is_tensor(getattr(mesh, "faces", None))):
        raise ValueError(
            "this mesh has a format of another pack: connect one from Field to Mesh or from ComfyUI's mesh nodes"
        )
    found = [_surface(mesh, i) for i in range(len(mesh.vertices))]
    filled = [(surface, picture) for surface, picture in found if len(surface.faces)]
    if not filled:
        raise ValueError("this mesh has no faces: lower the level or the threshold of the node that makes it")
    return filled


def _surface(mesh: Any, i: int) -> tuple[Any, np.ndarray | None]:
    """Convert the i-th mesh of a MESH, without the vertices and faces that pad it to the size of the largest mesh."""
    import trimesh

    points, faces = mesh.vertices[i], mesh.faces[i]
    if getattr(mesh, "vertex_counts", None) is not None:
        points, faces = points[: mesh.vertex_counts[i]], faces[: mesh.face_counts[i]]
    surface = trimesh.Trimesh(to_world(points.float()).cpu().numpy(), faces.cpu().numpy(), process=False)
    uvs, texture = getattr(mesh, "uvs", None), getattr(mesh, "texture", None)
    if uvs is not None:
        surface.visual = trimesh.visual.TextureVisuals(uv=flipped(uvs[i][: len(points)].float()).cpu().numpy())
    if uvs is None or texture is None:
        return surface, None
    return surface, (texture[i, ..., :3].clamp(0, 1) * 255).round().to(torch.uint8).cpu().numpy()


def opacities(field: FieldValue, resolution: int) -> Tensor:
    """Return the opacities (1, R, R, R) of a 3D field in [0, 1], with 0.5 on the surface.

    The indices are z, y, x in glTF's axes, from -1 to 1.
    """
    from ..core.pullback.mesh.surface import LEVEL
    from ..core.pullback.representation import Solid

    sampled = field.sampled()
    if not isinstance(sampled.diffrep, Solid):
        raise ValueError("this field has no volume: only a 3D field becomes voxels")
    line = (2 * torch.arange(resolution) + 1) / resolution - 1
    slabs = []
    with torch.no_grad():
        for z in line:
            tick()
            grid = torch.stack(torch.meshgrid(z[None], line, line, indexing="ij")[::-1], -1)
            density = sampled.diffrep.density(sampled.params, to_world(grid).reshape(-1, 3))
            slabs.append((1 - torch.exp2(-density / LEVEL)).view(1, resolution, resolution))
    return torch.cat(slabs)[None]


NODES: list[type[io.ComfyNode]] = [FieldToMesh, FieldToVoxel, BakeTexture, SaveTexturedGlb]
