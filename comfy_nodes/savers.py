"""Savers: what nodes that write files share: names that are checked before anything runs, and what files tell of a graph."""

from __future__ import annotations

import json
from typing import Any

import folder_paths
from comfy.cli_args import args
from comfy_api.latest import io

from .paths import Target, beginning, fresh_path


def prefix(default: str) -> io.Input:
    """Where a file goes, as core's savers ask for it."""
    return io.String.Input(
        "filename_prefix",
        default=default,
        tooltip="Folder and beginning of the file's name within the output folder. Dates such as %date:yyyy-MM-dd% are "
        "filled in.",
    )


def refusal(filename_prefix: str | None) -> bool | str:
    """For `validate_inputs`: what is wrong with a prefix, in a sentence, or True. One that is linked is not known yet."""
    try:
        if filename_prefix is not None:
            beginning(folder_paths.get_output_directory(), filename_prefix)
    except ValueError as error:
        return str(error)
    return True


def awaited(filename_prefix: str, what: str) -> list[str]:
    """For `check_lazy_status`: the input to compute next. ValueError where the prefix, known by now, is wrong.

    So a name that comes from another node is refused before what is to be saved is sampled.
    """
    beginning(folder_paths.get_output_directory(), filename_prefix)
    return [what]


def target(filename_prefix: str, suffix: str) -> Target:
    """A name in the output folder that is not taken yet."""
    return fresh_path(folder_paths.get_output_directory(), filename_prefix, suffix)


def embedded(hidden: Any) -> dict[str, str]:
    """The graph that a node runs in, as core's savers embed it; nothing where the user started ComfyUI without that.

    `prompt` is its API form; `workflow` its page's form, where it came from a page. Dropping the file there opens it.
    """
    if args.disable_metadata or hidden is None:
        return {}
    texts = {"prompt": hidden.prompt} | (hidden.extra_pnginfo or {})
    return {name: json.dumps(value) for name, value in texts.items() if value is not None}
