"""Files: fields on disk, in ComfyUI's input and output folders and nowhere else."""

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
    """A field file."""

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

        core = field.sampled()
        if not hasattr(core.diffrep, "name"):
            raise ValueError("a pixel grid is an ordinary picture: save the sampler's image, or sample a SIREN Image")
        target = savers.target(filename_prefix, SUFFIX)
        save_field(target.path, core, savers.embedded(cls.hidden))
        return io.NodeOutput(target.name, ui={"text": [target.name]})

    @classmethod
    def validate_inputs(cls, filename_prefix: str | None) -> bool | str:
        """Says in one sentence what is wrong with the name before anything is sampled."""
        return savers.refusal(filename_prefix)

    @classmethod
    def check_lazy_status(cls, filename_prefix: str, **_: Any) -> list[str]:
        """Asks for the field once the name is known to be good."""
        return savers.awaited(filename_prefix, "field")


class LoadField(io.ComfyNode):
    """A field from a file."""

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

        core = load_field(located(_folders(), file))
        return io.NodeOutput(FieldValue(Again(core), core))

    @classmethod
    def validate_inputs(cls, file: str) -> bool | str:
        """Says in one sentence what is wrong with a file before anything runs."""
        try:
            located(_folders(), file)
        except ValueError as error:
            return str(error)
        return True

    @classmethod
    def fingerprint_inputs(cls, file: str) -> str:
        """Changes with the file's bytes, so that an unchanged one is not read twice."""
        return hashlib.sha256(located(_folders(), file).read_bytes()).hexdigest()


def _folders() -> dict[str, str]:
    return {"input": folder_paths.get_input_directory(), "output": folder_paths.get_output_directory()}


NODES: list[type[io.ComfyNode]] = [SaveField, LoadField]
