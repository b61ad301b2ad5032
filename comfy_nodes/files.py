"""Files: the nodes that save and load fields. They use only ComfyUI's input and output folders."""

from __future__ import annotations

import hashlib
from typing import Any

import folder_paths
from comfy_api.latest import io

from . import savers, schema
from .listing import SUFFIX, listed, located
from .plans import Again
from .sockets import FieldValue


class SaveField(io.ComfyNode):
    """Saves a field to a file."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="PullbackSaveField",
            display_name="Save Field",
            category=schema.CATEGORY,
            description="Writes a field as .safetensors into the output folder; pullback's other doors read the same file.",
            inputs=[
                schema.field("A sampled field.", lazy=True),
                savers.prefix("fields/pullback"),
            ],
            outputs=[io.String.Output(display_name="path", tooltip="The file within the output folder.")],
            is_output_node=True,
        )  # fmt: skip

    @classmethod
    def execute(cls, field: FieldValue, filename_prefix: str) -> io.NodeOutput:
        from ..core.pullback.storage import save_field

        sampled = field.sampled()
        if not hasattr(sampled.diffrep, "name"):
            raise ValueError("a pixel grid is an ordinary picture: save the sampler's image, or sample a SIREN Image")
        target = savers.target(filename_prefix, SUFFIX)
        save_field(target.path, sampled, savers.embedded(cls.hidden))
        return io.NodeOutput(target.name, ui={"text": [target.name]})

    @classmethod
    def validate_inputs(cls, filename_prefix: str | None) -> bool | str:
        """Return True, or one sentence that says what is wrong with the name. ComfyUI asks before anything is sampled."""
        return savers.refusal(filename_prefix)

    @classmethod
    def check_lazy_status(cls, filename_prefix: str, **_: Any) -> list[str]:
        """Request the field once the name has been checked."""
        return savers.awaited(filename_prefix, "field")


class LoadField(io.ComfyNode):
    """Loads a field from a file."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="PullbackLoadField",
            display_name="Load Field",
            category=schema.CATEGORY,
            description="Reads a field file from the input or the output folder.",
            inputs=[
                io.Combo.Input("file", options=listed(_folders()),
                               tooltip="A .safetensors field file in the input folder or, marked [output], the output folder."),
            ],
            outputs=[schema.FIELD.Output(display_name="field", tooltip="The field.")],
        )  # fmt: skip

    @classmethod
    def execute(cls, file: str) -> io.NodeOutput:
        from ..core.pullback.storage import load_field

        loaded = load_field(located(_folders(), file))
        return io.NodeOutput(FieldValue(Again(loaded), loaded))

    @classmethod
    def validate_inputs(cls, file: str) -> bool | str:
        """Return True, or one sentence that says what is wrong with the file. ComfyUI asks before anything runs."""
        try:
            located(_folders(), file)
        except ValueError as error:
            return str(error)
        return True

    @classmethod
    def fingerprint_inputs(cls, file: str) -> str:
        """Return a hash of the file, so that ComfyUI does not load an unchanged file again."""
        return hashlib.sha256(located(_folders(), file).read_bytes()).hexdigest()


def _folders() -> dict[str, str]:
    return {"input": folder_paths.get_input_directory(), "output": folder_paths.get_output_directory()}


NODES: list[type[io.ComfyNode]] = [SaveField, LoadField]
