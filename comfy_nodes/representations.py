"""Representations: the nodes that describe a field before anything is sampled."""

from __future__ import annotations

from comfy_api.latest import io

from . import plans, schema
from .sockets import FieldValue

AUTO = "0 takes what suits the model (64 for toybox, 512 for SD 1.5, 1024 for larger ones)."


def _fresh() -> list[io.Output]:
    return [schema.FIELD.Output(display_name="field", tooltip="A fresh field, for a Field Sampler.")]


def _siren(detail: float) -> list[io.Input]:
    return [
        io.Int.Input("neurons", default=256, min=16, max=2048, step=16, tooltip="Width of the network's layers."),
        io.Int.Input("depth", default=3, min=1, max=8, tooltip="How many sine layers the network has."),
        io.Float.Input("detail", default=detail, min=1.0, max=200.0, step=0.5,
                       tooltip="The finest detail that is easy to draw, in radians per half picture. Latents of "
                       "1024-pixel models want about 20."),
    ]  # fmt: skip


class PixelGrid(io.ComfyNode):
    """The identity field."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="PullbackPixelGrid",
            display_name="Pixel Grid (identity field)",
            category=schema.CATEGORY,
            description="A field that is just its pixels: Field Sampler then gives what KSampler's euler gives.",
            inputs=[
                io.Int.Input("width", default=0, min=0, max=8192, step=8, tooltip=f"Picture width in pixels. {AUTO}"),
                io.Int.Input("height", default=0, min=0, max=8192, step=8, tooltip=f"Picture height in pixels. {AUTO}"),
            ],
            outputs=_fresh(),
        )

    @classmethod
    def execute(cls, width: int, height: int) -> io.NodeOutput:
        return io.NodeOutput(FieldValue(plans.Pixels(width, height)))


class SirenImage(io.ComfyNode):
    """A SIREN over the plane."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="PullbackSirenImage",
            display_name="SIREN Image",
            category=schema.CATEGORY,
            description="An image without a resolution: a small network from places to colours, decoded later at any size.",
            inputs=[
                io.Int.Input("width", default=0, min=0, max=8192, step=8,
                             tooltip=f"Width in pixels of the view that the model sees. {AUTO}"),
                io.Int.Input("height", default=0, min=0, max=8192, step=8,
                             tooltip=f"Height in pixels of the view that the model sees. {AUTO}"),
                *_siren(10.0),
                schema.seed("Seed of the network's random start."),
            ],
            outputs=_fresh(),
        )  # fmt: skip

    @classmethod
    def execute(cls, width: int, height: int, neurons: int, depth: int, detail: float, seed: int) -> io.NodeOutput:
        return io.NodeOutput(FieldValue(plans.Image(width, height, neurons, depth, detail, seed)))


class SirenPanorama(io.ComfyNode):
    """A SIREN in all directions."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="PullbackSirenPanorama",
            display_name="SIREN Panorama",
            category=schema.CATEGORY,
            description="A picture all around that closes by construction: its left edge is its right edge.",
            inputs=[
                io.Combo.Input("projection", options=["sphere", "cylinder"], default="sphere",
                               tooltip="sphere: every direction, 2:1 equirectangular. cylinder: a strip of 8:1."),
                io.Int.Input("view_size", default=0, min=0, max=4096, step=8,
                             tooltip=f"Side in pixels of one view that the model sees. {AUTO}"),
                io.Int.Input("views", default=12, min=1, max=64, tooltip="Views that each sampling step looks at."),
                io.Float.Input("fov", default=65.0, min=20.0, max=120.0, step=1.0,
                               tooltip="Vertical angle of one view in degrees (sphere only)."),
                *_siren(16.0),
                schema.seed("Seed of the network's random start and of the views' directions."),
            ],
            outputs=_fresh(),
        )  # fmt: skip

    @classmethod
    def execute(
        cls, projection: str, view_size: int, views: int, fov: float, neurons: int, depth: int, detail: float, seed: int
    ) -> io.NodeOutput:
        plan = plans.Panorama(projection, view_size, views, fov, neurons, depth, detail, seed)
        return io.NodeOutput(FieldValue(plan))


class VoxelNerf(io.ComfyNode):
    """A voxel radiance field."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="PullbackVoxelNerf",
            display_name="Voxel NeRF",
            category=schema.CATEGORY,
            description="A 3D object made of density and colour, seen through cameras that move around it.",
            inputs=[
                io.Int.Input("resolution", default=48, min=16, max=160, step=8,
                             tooltip="Grid points along each side of the cube."),
                io.Int.Input("view_size", default=0, min=0, max=2048, step=8,
                             tooltip=f"Side in pixels of one view that the model sees. {AUTO}"),
                io.Int.Input("views", default=8, min=1, max=64, tooltip="Cameras that each sampling step looks through."),
                io.Float.Input("lowest", default=-15.0, min=-89.0, max=89.0, step=1.0,
                               tooltip="Lowest elevation of the cameras in degrees."),
                io.Float.Input("highest", default=60.0, min=-89.0, max=89.0, step=1.0,
                               tooltip="Highest elevation of the cameras in degrees."),
                io.Float.Input("distance", default=3.2, min=1.5, max=20.0, step=0.1,
                               tooltip="Distance of the cameras from the middle; the object lives within 1 of it."),
                io.Float.Input("fov", default=40.0, min=5.0, max=120.0, step=1.0,
                               tooltip="Vertical angle of the cameras in degrees."),
                schema.seed("Seed of the cameras' positions; it is added to the noise's."),
            ],
            outputs=_fresh(),
        )  # fmt: skip

    @classmethod
    def execute(
        cls, resolution: int, view_size: int, views: int, lowest: float, highest: float, distance: float, fov: float,
        seed: int,
    ) -> io.NodeOutput:  # fmt: skip
        plan = plans.Nerf(resolution, view_size, views, lowest, highest, distance, fov, seed)
        return io.NodeOutput(FieldValue(plan))


NODES: list[type[io.ComfyNode]] = [PixelGrid, SirenImage, SirenPanorama, VoxelNerf]
