"""Preferences: which Python runs the worker, which ComfyUI server to ask, where textures go."""

from pathlib import Path

import bpy
from bpy.app.translations import pgettext_rpt as said
from bpy.props import EnumProperty, StringProperty

from . import environment

watched: dict[str, environment.Question | environment.Commands] = {}
"""What runs or last ran for this page: test, server, create."""


class PullbackPreferences(bpy.types.AddonPreferences):
    """The page under Edit > Preferences > Add-ons > Pullback."""

    bl_idname = __package__

    interpreter: StringProperty(
        name="Python",
        description="The Python in which Pullback is installed. Empty: the environment made below, then the "
        "one on the PATH, then one beside the .blend file",
        subtype="FILE_PATH",
    )
    source: StringProperty(
        name="Install From",
        description="Pullback's folder (it holds pyproject.toml) or its wheel, for Create Environment",
        subtype="FILE_PATH",
    )
    server: StringProperty(
        name="ComfyUI Server",
        description="The address of a ComfyUI that runs and has Pullback's nodes",
        default="http://127.0.0.1:8188",
    )
    texture: EnumProperty(
        name="Textures",
        description="Where the pictures of objects, worlds and images are kept",
        items=(
            ("PACKED", "Packed in the .blend", "Nothing else has to be carried along"),
            ("BESIDE", "Beside the .blend", "As files in a folder named pullback, once the .blend has been saved"),
        ),
    )

    def draw(self, context: bpy.types.Context) -> None:
        """Worker, server, files: one box each."""
        layout = self.layout
        layout.use_property_split = True
        layout.use_property_decorate = False

        box = layout.box()
        box.label(text="Worker", icon="CONSOLE")
        box.prop(self, "interpreter")
        python = interpreter()
        if not self.interpreter:
            text = (
                said("Found: {python}").format(python=python) if python else said("No Python with Pullback was found")
            )
            box.label(text=text, icon="CHECKMARK" if python else "ERROR", translate=False)
        row = box.row()
        row.operator("pullback.test_worker", icon="PLAY")
        for line, icon in _report(watched.get("test")):
            box.label(text=line, icon=icon, translate=False)

        box.separator()
        column = box.column()
        column.prop(self, "source")
        row = column.row()
        row.operator("pullback.create_environment", icon="ADD")
        if not bpy.app.online_access:
            column.label(text="Creating an environment needs Allow Online Access, under System", icon="INFO")
        for line, icon in _progress(watched.get("create")):
            column.label(text=line, icon=icon, translate=False)

        box = layout.box()
        box.label(text="ComfyUI", icon="NETWORK_DRIVE")
        box.prop(self, "server")
        box.row().operator("pullback.test_server", icon="PLAY")
        for line, icon in _server_report(watched.get("server")):
            box.label(text=line, icon=icon, translate=False)

        box = layout.box()
        box.label(text="Files", icon="FILE_IMAGE")
        box.prop(self, "texture")


def _server_report(question: environment.Question | None) -> list[tuple[str, str]]:
    """Lines and icons for what the server said."""
    if question is None:
        return []
    if not question.poll():
        return [(said("Asking…"), "TIME")]
    return [(question.error, "ERROR")] if question.error else [(question.answer, "CHECKMARK")]


def _report(task: environment.Probe | None) -> list[tuple[str, str]]:
    """Lines and icons for what an interpreter has."""
    if task is None:
        return []
    if not task.poll():
        return [(said("Asking…"), "TIME")]
    report = task.report
    if task.error or report is None:
        error = task.error or said("it did not answer as a Python does")
        return [(said("It does not run: {error}").format(error=error), "ERROR"), *_tail(task)]
    lines = [(said("Python {version}").format(version=report.python), "CHECKMARK")]
    if report.pullback is None:
        lines.append((said("Pullback is not installed in it: use its pip to install Pullback's folder"), "ERROR"))
    else:
        lines.append((said("Pullback {version}").format(version=report.pullback), "CHECKMARK"))
    if report.missing:
        lines.append((said("Missing: {names}").format(names=", ".join(report.missing)), "ERROR"))
    if report.torch:
        devices = ", ".join(report.devices)
        lines.append((said("torch {version}, on {devices}").format(version=report.torch, devices=devices), "CHECKMARK"))
    if report.lacks:
        names = ", ".join(report.lacks)
        lines.append((said("Only for diffusers folders, not here: {names}").format(names=names), "INFO"))
    return lines


def _progress(task: environment.Creation | None) -> list[tuple[str, str]]:
    """Lines and icons for the environment that is made."""
    if task is None:
        return []
    if not task.poll():
        return [(said("Creating the environment; this takes minutes"), "TIME"), *_tail(task, 1)]
    if task.error:
        return [(said("The environment was not made: {error}").format(error=task.error), "ERROR"), *_tail(task)]
    return [(said("The environment is ready"), "CHECKMARK")]


def _tail(task: environment.Commands, count: int = 3) -> list[tuple[str, str]]:
    return [(line[:160], "BLANK1") for line in task.lines[-count:] if line]


def get() -> PullbackPreferences | None:
    """Our preferences; None where Blender was started without them (--factory-startup with --addons)."""
    entry = bpy.context.preferences.addons.get(__package__)
    return entry.preferences if entry else None


def interpreter() -> Path | None:
    """The Python that runs the worker: the chosen one, else the one that is found; None where there is none."""
    mine = get()
    chosen = bpy.path.abspath(mine.interpreter) if mine and mine.interpreter else ""
    folder = Path(bpy.data.filepath).parent if bpy.data.filepath else None
    return environment.find(chosen, folder, own_environment())


def own_environment() -> Path:
    """The folder of the environment that Create Environment makes."""
    return user_folder("environment")


def user_folder(name: str) -> Path:
    """A folder for our files, made if missing; never the add-on's own. OSError where it cannot be made."""
    try:
        return Path(bpy.utils.extension_path_user(__package__, path=name, create=True))
    except ValueError:  # imported as a plain package, without being an installed extension
        return Path(bpy.utils.user_resource("DATAFILES", path=f"pullback/{name}", create=True))


def watch(name: str, question: environment.Question | environment.Commands) -> None:
    """Show on this page what becomes of a question; a new one of the same name takes the place of the old one."""
    if name in watched:
        watched[name].end()
    watched[name] = question
    if not bpy.app.timers.is_registered(_look):
        bpy.app.timers.register(_look, persistent=True)


def asking(name: str) -> bool:
    """Whether a question has not been answered yet."""
    return name in watched and not watched[name].poll()


def _look() -> float | None:
    for window in bpy.context.window_manager.windows:
        for area in window.screen.areas:
            if area.type == "PREFERENCES":
                area.tag_redraw()
    return 0.25 if any(map(asking, list(watched))) else None


def register() -> None:
    bpy.utils.register_class(PullbackPreferences)


def unregister() -> None:
    if bpy.app.timers.is_registered(_look):
        bpy.app.timers.unregister(_look)
    for question in watched.values():
        question.end()
    watched.clear()
    bpy.utils.unregister_class(PullbackPreferences)
