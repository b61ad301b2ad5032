"""Pullback for Blender: sample textured objects, worlds and images from a sentence, without torch in Blender.

What can be made, and what can be set, stands in `descriptions`. Imports point one way: `preferences`,
`learned`, `regions`, `properties`, `jobs`, `operators`, `panel`. A `job` goes to its `backend`: `worker` or `server`, outside of
Blender; `scene` brings in what it made. `batch` does without a window.
"""


def _parts() -> tuple:
    """What registers something, in order. Imported late: `protocol` and others serve without Blender, too."""
    from . import disk, jobs, operators, panel, preferences, preview, properties, questions  # noqa: I001
    from . import reconstruction, regions, translations, uses

    made = operators, reconstruction, panel
    return translations, regions, properties, preferences, questions, preview, jobs, uses, *made, disk


def _command(arguments: list[str]) -> int:
    """`blender --command pullback …`"""
    from . import batch

    return batch.run(arguments)


_commands = []


def register() -> None:
    """Called by Blender when the extension is enabled."""
    import bpy

    for part in _parts():
        part.register()
    _commands.append(bpy.utils.register_cli_command("pullback", _command))


def unregister() -> None:
    """Called by Blender when it is disabled: nothing is left behind."""
    import bpy

    while _commands:
        bpy.utils.unregister_cli_command(_commands.pop())
    for part in reversed(_parts()):
        part.unregister()
