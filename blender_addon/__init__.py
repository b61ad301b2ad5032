"""Pullback for Blender: sample textured objects, worlds and images from a sentence, without torch in Blender.

`descriptions` lists what can be made and what can be set. Of `preferences`, `learned`, `regions`, `properties`, `jobs`,
`operators` and `panel`, each imports only earlier ones. A `job` runs outside Blender, in its `backend`: a `worker` process or a
ComfyUI `server`. `scene` brings the results into Blender. `batch` needs no window.
"""


def _modules() -> tuple:
    """Return the modules to register, in order. They are imported here because others, like `protocol`, need no Blender."""
    from . import disk, jobs, operators, panel, preferences, preview, properties, questions  # noqa: I001
    from . import reconstruction, regions, shapes, translations, uses

    made = operators, reconstruction, shapes, panel
    return translations, regions, properties, preferences, questions, preview, jobs, uses, *made, disk


def _command(arguments: list[str]) -> int:
    """Run `blender --command pullback …` and return its exit code."""
    from . import batch

    return batch.run(arguments)


_commands = []


def register() -> None:
    """Register all modules. Blender calls this when the extension is enabled."""
    import bpy

    for module in _modules():
        module.register()
    _commands.append(bpy.utils.register_cli_command("pullback", _command))


def unregister() -> None:
    """Unregister everything that `register` registered. Blender calls this when the extension is disabled."""
    import bpy

    while _commands:
        bpy.utils.unregister_cli_command(_commands.pop())
    for module in reversed(_modules()):
        module.unregister()
