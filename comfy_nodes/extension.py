"""Extension: everything that ComfyUI finds in this pack."""

from __future__ import annotations

from comfy_api.latest import ComfyExtension, io

from . import decoding, files, meshes, representations, sampling, schema, toybox


class Pullback(ComfyExtension):
    """The nodes of the category Pullback."""

    async def get_node_list(self) -> list[type[io.ComfyNode]]:
        """Every node, topic by topic."""
        topics = (toybox, representations, sampling, decoding, meshes, files)
        return [schema.limited(node) for topic in topics for node in topic.NODES]


async def comfy_entrypoint() -> ComfyExtension:
    """What ComfyUI calls once, when it loads the pack."""
    return Pullback()
