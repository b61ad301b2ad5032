"""Preferences: which Python runs the worker, which ComfyUI server to use, and where textures are kept."""

from collections.abc import Callable
from pathlib import Path

import bpy
from bpy.app.translations import pgettext_rpt as translate
from bpy.props import BoolProperty, EnumProperty, StringProperty

from . import disk, environment, labels, questions


class PullbackPreferences(bpy.types.AddonPreferences):
    """The page under Edit > Preferences > Add-ons > Pullback."""

    bl_idname = __package__

    interpreter: StringProperty(
        name="Python",
        description="The Python in which Pullback is installed. Empty: the environment made below, then the "
        "one on the PATH, then one beside the .blend file",
        subtype="FILE_PATH",
        update=lambda page, context: disk.look(),
    )
    diffusers: BoolProperty(
        name="With Diffusers",
        description="Create Environment also installs diffusers, which Stable Diffusion folders need",
        default=False,
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
        """Draw one box each for the worker, the server and the files."""
        layout = self.layout
        layout.use_property_split = True
        layout.use_property_decorate = False

        box = layout.box()
        box.label(text="Worker", icon="CONSOLE")
        box.prop(self, "interpreter")
        if not self.interpreter and "python" in disk.seen:
            python = disk.seen["python"]
            text = (
                translate("Found: {python}").format(python=python)
                if python
                else translate("No Python with Pullback was found")
            )
            box.label(text=text, icon="CHECKMARK" if python else "ERROR", translate=False)
        row = box.row()
        row.operator("pullback.test_worker", icon="PLAY")
        _draw_lines(box, report(), context)

        box.separator()
        column = box.column()
        column.prop(self, "diffusers")
        _creation(column, questions.of("create"), context)

        box = layout.box()
        box.label(text="ComfyUI", icon="NETWORK_DRIVE")
        box.prop(self, "server")
        if not bpy.app.online_access:
            box.label(text="A server on another machine needs Allow Online Access, under System", icon="INFO")
        box.row().operator("pullback.test_server", icon="PLAY")
        _draw_lines(box, _server_report(questions.of("server")), context)

        box = layout.box()
        box.label(text="Files", icon="FILE_IMAGE")
        box.prop(self, "texture")
        if "unused" in disk.seen:
            count, size = disk.seen["unused"]
            text = translate("Results that no .blend file uses: {count}, {size:.1f} MB").format(
                count=count, size=size / 1e6
            )
            box.label(text=text, icon="INFO", translate=False)
        box.row().operator("pullback.purge_results", icon="TRASH")


def _draw_lines(column: bpy.types.UILayout, lines: list[tuple[str, str]], context: bpy.types.Context) -> None:
    """Draw lines of text with their icons, wrapped to the width of the region."""
    for text, icon in lines:
        labels.lines(column, text, context.region.width, icon)


def _server_report(question: environment.Question | None) -> list[tuple[str, str]]:
    """Return lines and icons that show the server's answer."""
    if question is None:
        return []
    if not question.poll():
        return [(translate("Asking…"), "TIME")]
    return [(question.error, "ERROR")] if question.error else [(question.answer, "CHECKMARK")]


def report() -> list[tuple[str, str]]:
    """Return lines and icons that show what is installed in the tested Python."""
    task = questions.of("test")
    if task is None:
        return []
    if not task.poll():
        return [(translate("Asking…"), "TIME")]
    found = task.report
    if task.error or found is None:
        error = task.error or translate("it did not answer like Python")
        return [(translate("It does not run: {error}").format(error=error), "ERROR"), *_tail(task)]
    lines = [(translate("Python {version}").format(version=found.python), "CHECKMARK")]
    if found.pullback is None:
        lines.append(
            (translate("Pullback is not installed in it: install it with its pip, or create an environment"), "ERROR")
        )
    else:
        lines.append((translate("Pullback {version}").format(version=found.pullback), "CHECKMARK"))
    if found.missing:
        lines.append((translate("Missing: {names}").format(names=", ".join(found.missing)), "ERROR"))
    if found.torch:
        devices = ", ".join(found.devices)
        lines.append(
            (translate("torch {version}, on {devices}").format(version=found.torch, devices=devices), "CHECKMARK")
        )
    if found.lacks:
        names = ", ".join(found.lacks)
        lines.append((translate("Missing, but only needed for diffusers folders: {names}").format(names=names), "INFO"))
    return lines


def _creation(column: bpy.types.UILayout, task: environment.Creation | None, context: bpy.types.Context) -> None:
    """Draw the button that creates an environment or, while it is being created, its progress and a button that stops it."""
    if task is not None and not task.poll():
        row = column.row()
        row.progress(factor=task.step / len(task.steps), text=_step(task), type="BAR", translate=False)
        row.operator("pullback.cancel_environment", text="", icon="CANCEL")
        lines = _tail(task, 1)
    else:
        column.row().operator("pullback.create_environment", icon="ADD")
        if not bpy.app.online_access:
            column.label(text="Creating an environment needs Allow Online Access, under System", icon="INFO")
        lines = created()
    _draw_lines(column, lines, context)


def _step(task: environment.Creation) -> str:
    """Return the name of the current step, and how much of its download has arrived."""
    text = f"{translate(task.steps[task.step])} ({task.step + 1} / {len(task.steps)})"
    if task.download is None:
        return text
    arrived, total = (round(size / 1e6) for size in task.download)
    return f"{text}: {arrived} / {total} MB"


def created() -> list[tuple[str, str]]:
    """Return lines and icons that say whether the environment was created."""
    task = questions.of("create")
    if task is None:
        return []
    if task.error:
        failed = (translate("The environment was not made: {error}").format(error=task.reason), "ERROR")
        return [failed] if task.stopped else [failed, *_tail(task)]
    return [(translate("The environment is ready"), "CHECKMARK")]


def _tail(task: environment.Commands, count: int = 3) -> list[tuple[str, str]]:
    return [(line[:160], "BLANK1") for line in task.lines[-count:] if line]


def get() -> PullbackPreferences | None:
    """Return our preferences, or None if Blender was started without them (--factory-startup with --addons)."""
    entry = bpy.context.preferences.addons.get(__package__)
    return entry.preferences if entry else None


def interpreter() -> Path | None:
    """Return the Python that runs the worker: the chosen one, else the first one found, else None."""
    return _search()()


def _search() -> Callable[[], Path | None]:
    """Return a function that searches for the worker's Python. It can be called in any thread."""
    page = get()
    chosen = bpy.path.abspath(page.interpreter) if page and page.interpreter else ""
    folder = Path(bpy.data.filepath).parent if bpy.data.filepath else None
    own = own_environment()
    return lambda: environment.find(chosen, folder, own)


def own_environment() -> Path:
    """Return the folder of the environment that Create Environment makes."""
    return user_folder("environment")


def user_folder(name: str) -> Path:
    """Return a folder for our files, outside the add-on's own. Create it if it is missing; raise OSError if that fails."""
    try:
        return Path(bpy.utils.extension_path_user(__package__, path=name, create=True))
    except ValueError:  # imported as a plain package and not installed as an extension
        return Path(bpy.utils.user_resource("DATAFILES", path=f"pullback/{name}", create=True))


def create(test: Callable[[Path], None]) -> environment.Creation:
    """Start to create an environment for Pullback. When it is done, the worker uses it, and `test` is called with its Python."""
    page, wheel = get(), environment.wheel()
    assert wheel is not None, "the button is disabled without a wheel"
    extras = "[diffusers]" if page is not None and page.diffusers else ""
    task = environment.Creation(own_environment(), wheel, extras, translate=translate)

    def use() -> None:
        python = environment.python_of(task.folder)
        if not task.error and python is not None:
            if page is not None:
                page.interpreter = ""
            test(python)
        disk.look()

    questions.ask("create", task, use)
    return task


def register() -> None:
    bpy.utils.register_class(PullbackPreferences)
    disk.sources["python"] = _search


def unregister() -> None:
    del disk.sources["python"]
    bpy.utils.unregister_class(PullbackPreferences)
