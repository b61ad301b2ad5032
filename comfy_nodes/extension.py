"""The extension that ComfyUI finds in this pack."""

from __future__ import annotations

from comfy_api.latest import ComfyExtension, io

from . import (
    clip,
    decoders,
    decoding,
    files,
    functions,
    infd,
    lmconv,
    meshes,
    reconstruction,
    representations,
    sampling,
    schema,
    toybox,
    weights,
)


class Pullback(ComfyExtension):
    """The nodes of the category Pullback."""

    async def get_node_list(self) -> list[type[io.ComfyNode]]:
        """Return all node classes, module by module."""
        modules = (
            toybox,
            infd,
            representations,
            sampling,
            clip,
            decoders,
            decoding,
            meshes,
            reconstruction,
            files,
            lmconv,
            functions,
        )
        return [schema.limited(node) for module in modules for node in module.NODES]


async def comfy_entrypoint() -> ComfyExtension:
    """Return the extension. ComfyUI calls this once, when it loads the pack."""
    weights.register()
    return Pullback()
