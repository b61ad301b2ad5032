"""Operators: the buttons. Those that start a job collect its settings and add it to the queue (`jobs`)."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import bpy
from bpy.app.translations import pgettext_rpt as translate
from bpy.props import IntProperty

from . import (
    backend,
    descriptions,
    disk,
    environment,
    jobs,
    learned,
    preferences,
    properties,
    questions,
    regions,
    server,
    uses,
)
from .descriptions import Kind, Makes, Setting
from .job import SERVER, State

SPACING = 2.5
"""Metres between neighbouring objects in a row. An object is at most two metres wide."""


class Generate(bpy.types.Operator):
    """Base class of the buttons that start jobs."""

    bl_options = {"REGISTER"}

    noun = ""

    def requests(self, context: bpy.types.Context) -> list[tuple[Any, ...]]:
        """Return the arguments of `jobs.add` for each job: the request, the place and, for photographs, `copy`."""
        kind = descriptions.kinds().get(self.noun)
        if kind is None:
            raise ValueError(translate("Pullback's Python cannot make {kind} any more").format(kind=self.noun))
        return [(sampling(context, kind), self.place(context))]

    def place(self, context: bpy.types.Context) -> dict:
        """Return the `place` of a job: names and numbers that say where its result goes."""
        raise NotImplementedError

    def execute(self, context: bpy.types.Context) -> set[str]:
        try:
            added = [jobs.add(*each) for each in self.requests(context)]
        except ValueError as error:
            self.report({"ERROR"}, str(error))
            return {"CANCELLED"}
        if bpy.app.background:  # timers do not fire without a window
            jobs.run_to_end()
            failed = [job for job in added if job.status is not State.DONE]
            for job in failed:
                self.report({"ERROR"}, f"{job.title}: {job.message}")
            return {"CANCELLED"} if failed else {"FINISHED"}
        return {"FINISHED"}


def sampling(context: bpy.types.Context, kind: Kind, prompt: str = "") -> dict:
    """Return the request of a job with the panel's settings. Raise ValueError if a setting is wrong.

    Args:
        context: The context.
        kind: What to sample.
        prompt: The prompt; by default the panel's.
    """
    settings = context.scene.pullback
    prompt = prompt or prompt_of(settings)
    if kind == descriptions.first(Makes.WORLD) and settings.world_model == "SPHERE":
        return _whole_sphere(settings, kind, prompt)
    if settings.model == "FOLDER" and not settings.model_path:
        raise ValueError(translate("Choose the model's folder first"))
    if settings.repaint and not settings.eta:
        raise ValueError(translate("RePaint needs an Eta above 0, for example 0.75: see Advanced"))
    guide = regions.guide(settings, kind)
    if guide and settings.model == "SERVER":
        text = translate(
            "Regions need the worker: choose another model than ComfyUI Server, or remove them under Advanced"
        )
        raise ValueError(text)
    run = {
        name: properties.value_of(settings, name, descriptions.RUN[name]) for name in ("seed", "steps", "eta", "solver")
    }
    repaint = [settings.repaint_jump, settings.repaint_repeats] if settings.repaint else [1, 1]
    texts = {"prompt": prompt, "negative": settings.negative.strip()}
    guided = {"guide": guide} if guide else {}  # without regions, the job is the same as in earlier releases
    return {
        "kind": kind.noun,
        "settings": {**texts, **run, **_values(settings, kind, kind.of_run), "repaint": repaint, **guided},
        "options": {**_choice(settings, kind), **making(settings, kind), **drawing_model(settings)},
    }


def prompt_of(settings: bpy.types.PropertyGroup) -> str:
    """Return the panel's prompt. Raise ValueError if it is empty."""
    prompt: str = settings.prompt.strip()
    if not prompt:
        raise ValueError(translate("The prompt is empty: say what to draw, for example: a red mushroom"))
    return prompt


def refuse_negative(settings: bpy.types.PropertyGroup) -> None:
    """Raise ValueError if there is a negative prompt, for models that take none."""
    if settings.negative.strip():
        raise ValueError(translate("This model takes no negative prompt: clear the field below the prompt"))


def _whole_sphere(settings: bpy.types.PropertyGroup, kind: Kind, prompt: str) -> dict:
    """Return the request of a panorama of the model that samples the whole sphere at once. It has no views and no fits."""
    refuse_negative(settings)
    if regions.guide(settings, kind):
        raise ValueError(translate("The whole sphere takes no regions: remove them under Advanced, or sample views"))
    names = ("seed", "steps", "eta")
    run = {name: properties.value_of(settings, name, descriptions.RUN[name]) for name in names}
    guidance = _values(settings, kind, {"guidance": kind.of_run["guidance"]})
    return {
        "kind": kind.noun,
        "settings": {"prompt": prompt, **run, **guidance},
        "options": {**making(settings, kind), "model": descriptions.SPHERE, "device": settings.device or "cpu"},
    }


def _values(settings: bpy.types.PropertyGroup, kind: Kind, of: dict[str, Setting]) -> dict[str, Any]:
    """Return the panel's values of some settings of a kind."""
    return {name: properties.value_of(settings, kind.prop(name), each) for name, each in of.items()}


def _choice(settings: bpy.types.PropertyGroup, kind: Kind) -> dict[str, Any]:
    """Return the chosen representation and those of its settings that the user changed. The worker sets the others."""
    chosen = properties.chosen(settings, kind)
    choice = {chosen.option: chosen.choice} if chosen is not kind.usual else {}
    touched = {each.name: each for each in chosen.settings if settings.is_property_set(kind.prop(each.name))}
    return choice | _values(settings, kind, touched)


def making(settings: bpy.types.PropertyGroup, kind: Kind) -> dict[str, Any]:
    """Return the panel's settings of the written file."""
    return _values(settings, kind, kind.made)


def drawing_model(settings: bpy.types.PropertyGroup) -> dict:
    """Return the model and its device. The prefix "comfyui:" before a model's name sends the job to the server."""
    if settings.model == "SERVER":
        return {"model": SERVER + (settings.checkpoint or "toybox")}
    model = "toybox" if settings.model == "TOYBOX" else bpy.path.abspath(settings.model_path)
    return {"model": model, "device": settings.device or "cpu"}


class GenerateObject(Generate):
    """Sample a radiance field and place it at the 3D cursor as a textured mesh. You can go on working meanwhile"""

    bl_label = "Generate NeRF object"

    def place(self, context: bpy.types.Context) -> dict:
        return {"scene": context.scene.name, "location": tuple(context.scene.cursor.location)}


class GenerateWorld(Generate):
    """Sample a panorama and set it as the scene's world, at any width"""

    bl_label = "Generate panorama world"

    def place(self, context: bpy.types.Context) -> dict:
        return {"scene": context.scene.name}


class GenerateMaterial(Generate):
    """Sample a picture that repeats without a seam, and give it to the active object as a material"""

    bl_label = "Generate material"

    def place(self, context: bpy.types.Context) -> dict:
        times = round(context.scene.pullback.material_repeats, 4)
        return {"object": context.object.name if context.object else "", "repeats": times}


class GenerateImage(Generate):
    """Sample an image, at any size, and put it into the active object's material"""

    bl_label = "Generate image texture"

    def place(self, context: bpy.types.Context) -> dict:
        return {"object": context.object.name if context.object else ""}


BUTTONS = {
    Makes.OBJECT: GenerateObject, Makes.WORLD: GenerateWorld, Makes.MATERIAL: GenerateMaterial, Makes.IMAGE: GenerateImage,
}  # fmt: skip


def button_of(kind: Kind) -> type[Generate]:
    """Create the button of a kind. The first kind that makes something keeps its base's label; others are named by title."""
    base, name = BUTTONS[kind.makes], f"generate_{kind.identifier}"
    usual = kind.usual
    called = {} if kind == descriptions.first(kind.makes) else {"bl_label": f"Generate {usual.title}"}
    text = {"__doc__": usual.sentence.removesuffix(".") if called else base.__doc__}
    body = {"bl_idname": f"pullback.{name}", "noun": kind.noun, "__module__": __name__, **called, **text}
    return type(f"PULLBACK_OT_{name}", (base,), body)


class PULLBACK_OT_generate_variants(GenerateObject):
    """Generate the same prompt with several seeds, side by side in a row that starts at the 3D cursor"""

    bl_idname = "pullback.generate_variants"
    bl_label = "Several seeds"

    def requests(self, context: bpy.types.Context) -> list[tuple[Any, ...]]:
        settings, (x, y, z) = context.scene.pullback, context.scene.cursor.location
        request = sampling(context, descriptions.first(Makes.OBJECT))
        return [
            (
                request | {"settings": request["settings"] | {"seed": (settings.seed + i) % 2**31}},
                {"scene": context.scene.name, "location": (x + i * SPACING, y, z), "several": True},
            )
            for i in range(settings.variants)
        ]


class PULLBACK_OT_remesh(Generate):
    """Make another mesh and texture of the active object from its field, with these faces and pixels"""

    bl_idname = "pullback.remesh"
    bl_label = "Re-mesh / re-bake"

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        if context.object is None or "pullback_field" not in context.object:
            cls.poll_message_set("Select an object that Pullback generated")
            return False
        return True

    def requests(self, context: bpy.types.Context) -> list[tuple[Any, ...]]:
        settings, obj = context.scene.pullback, context.object
        field = bpy.path.abspath(obj["pullback_field"])
        if not Path(field).is_file():
            raise ValueError(translate("The field file {path} is gone: generate the object again").format(path=field))
        model = drawing_model(settings)
        if settings.model != "SERVER" and obj.get("pullback_model"):
            model["model"] = obj["pullback_model"]  # the model that sampled the field, not the panel's
        options = {"field": field, **making(settings, descriptions.first(Makes.OBJECT)), **model}
        return [({"kind": "mesh", "options": options}, {"object": obj.name})]


class PULLBACK_OT_roll_seed(bpy.types.Operator):
    """Roll the dice for another seed"""

    bl_idname = "pullback.roll_seed"
    bl_label = "New Seed"
    bl_options = {"REGISTER", "UNDO"}

    def execute(self, context: bpy.types.Context) -> set[str]:
        context.scene.pullback.seed = properties.new_seed()
        return {"FINISHED"}


class OfJob(bpy.types.Operator):
    """An operator on one job of the queue."""

    bl_options = {"INTERNAL"}

    job: IntProperty(
        name="Job",
        description="The job's number. 0: the running one, or all that earlier sessions left",
        default=0,
        options={"SKIP_SAVE"},
    )


class PULLBACK_OT_cancel(OfJob):
    """Stop this job. What it has done is kept, so that it can be resumed"""

    bl_idname = "pullback.cancel"
    bl_label = "Cancel"

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        return jobs.busy()  # otherwise Blender passes the key on to other operators

    def invoke(self, context: bpy.types.Context, event: bpy.types.Event) -> set[str]:
        if event.type == "ESC" and not _over_panel(context, event):
            return {"PASS_THROUGH"}  # elsewhere, Esc stops playback, leaves a mode or closes a menu
        return self.execute(context)

    def execute(self, context: bpy.types.Context) -> set[str]:
        jobs.cancel(self.job)
        return {"FINISHED"}


def _over_panel(context: bpy.types.Context, event: bpy.types.Event) -> bool:
    """Return whether the mouse is over our tab in the sidebar of a 3D viewport."""
    for area in context.window.screen.areas if context.window else ():
        for region in area.regions if area.type == "VIEW_3D" else ():
            if region.type != "UI" or getattr(region, "active_panel_category", "Pullback") != "Pullback":
                continue
            x, y = event.mouse_x - region.x, event.mouse_y - region.y
            if 0 <= x < region.width and 0 <= y < region.height:
                return True
    return False


class PULLBACK_OT_resume(OfJob):
    """Continue this job where it stopped"""

    bl_idname = "pullback.resume"
    bl_label = "Resume"

    def execute(self, context: bpy.types.Context) -> set[str]:
        jobs.resume(self.job)
        return {"FINISHED"}


class PULLBACK_OT_dismiss(OfJob):
    """Forget this job and what it has done so far"""

    bl_idname = "pullback.dismiss"
    bl_label = "Dismiss"

    def execute(self, context: bpy.types.Context) -> set[str]:
        jobs.dismiss(self.job)
        return {"FINISHED"}


class PULLBACK_OT_copy_log(OfJob):
    """Copy the whole log, so that you can ask for help"""

    bl_idname = "pullback.copy_log"
    bl_label = "Copy Log"

    def execute(self, context: bpy.types.Context) -> set[str]:
        context.window_manager.clipboard = jobs.log_of(self.job)
        self.report({"INFO"}, translate("The log is on the clipboard"))
        return {"FINISHED"}


class PULLBACK_OT_open_preferences(bpy.types.Operator):
    """Choose the Python that has Pullback, or the ComfyUI server"""

    bl_idname = "pullback.open_preferences"
    bl_label = "Pullback's Preferences"

    def execute(self, context: bpy.types.Context) -> set[str]:
        bpy.ops.preferences.addon_show(module=__package__)
        return {"FINISHED"}


class PULLBACK_OT_test_worker(bpy.types.Operator):
    """Check what is installed in this Python, and what Pullback still needs"""

    bl_idname = "pullback.test_worker"
    bl_label = "Test"

    def execute(self, context: bpy.types.Context) -> set[str]:
        python = preferences.interpreter()
        if python is None:
            self.report({"ERROR"}, translate("No Python with Pullback was found: choose one, or create an environment"))
            return {"CANCELLED"}
        _test(python)
        return _waited(self, preferences.report)


def _test(python: Path) -> None:
    """Probe a Python in the background, and learn the representations that it has."""
    probe = environment.Probe(python, translate)

    def hear() -> None:
        if probe.report is not None:
            learned.hear(probe.report.representations)

    questions.ask("test", probe, hear)


class PULLBACK_OT_create_environment(bpy.types.Operator):
    """Make a Python with Pullback and torch in Blender's user folder, and use it: this downloads 300 MB, with CUDA 3 GB"""

    bl_idname = "pullback.create_environment"
    bl_label = "Create Environment"
    possible = False
    """Whether the extension contains a wheel of Pullback. Set when the extension is enabled."""

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        if not bpy.app.online_access:
            cls.poll_message_set("Allow Online Access first: Preferences, System, Network")
            return False
        if not cls.possible:
            cls.poll_message_set(
                "This build of the extension brings no Pullback to install: make an environment by hand"
            )
            return False
        return not questions.open("create") and not jobs.busy()

    def execute(self, context: bpy.types.Context) -> set[str]:
        backend.stop_worker()  # it may run in the environment that is replaced
        preferences.create(_test)
        return _waited(self, preferences.created)


class PULLBACK_OT_cancel_environment(bpy.types.Operator):
    """Stop, and delete the unfinished environment"""

    bl_idname = "pullback.cancel_environment"
    bl_label = "Cancel"

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        return questions.open("create")

    def execute(self, context: bpy.types.Context) -> set[str]:
        questions.of("create").end()
        return {"FINISHED"}


def _waited(operator: bpy.types.Operator, report: Callable[[], list[tuple[str, str]]]) -> set[str]:
    """Without a window, wait for the result and report it. With a window, the preferences show it."""
    if not bpy.app.background:
        return {"FINISHED"}
    questions.wait()
    lines = report()
    for line, icon in lines:
        operator.report({"ERROR" if icon == "ERROR" else "INFO"}, line)
    return {"CANCELLED"} if any(icon == "ERROR" for _, icon in lines) else {"FINISHED"}


class PULLBACK_OT_test_server(bpy.types.Operator):
    """Ask the ComfyUI server whether it runs and has Pullback's nodes"""

    bl_idname = "pullback.test_server"
    bl_label = "Test"

    def execute(self, context: bpy.types.Context) -> set[str]:
        address = backend.server_address()
        barred = backend.barred(address)
        if barred:
            self.report({"ERROR"}, barred)
            return {"CANCELLED"}
        questions.ask("server", environment.Question(lambda: server.check(address, translate), translate))
        return {"FINISHED"}


class PULLBACK_OT_purge_results(bpy.types.Operator):
    """Delete results in Blender's user folder that are older than a week and that no .blend file uses. You are asked first"""

    bl_idname = "pullback.purge_results"
    bl_label = "Purge Unused Results"

    def invoke(self, context: bpy.types.Context, event: bpy.types.Event) -> set[str]:
        groups = uses.unused()
        if not groups:
            return self.execute(context)
        title = translate("Delete unused results: {count}, {size:.1f} MB?").format(
            count=len(groups), size=uses.size(groups) / 1e6
        )
        message = translate("Objects of .blend files never opened or saved here could not be re-meshed")
        return context.window_manager.invoke_confirm(
            self, event, title=title, message=message, confirm_text=translate("Delete"), icon="WARNING"
        )

    def execute(self, context: bpy.types.Context) -> set[str]:
        count, size = uses.delete(uses.unused())
        self.report(
            {"INFO"}, translate("Unused results deleted: {count}, {size:.1f} MB").format(count=count, size=size / 1e6)
        )
        disk.look()
        return {"FINISHED"}


CLASSES = (
    PULLBACK_OT_generate_variants,
    PULLBACK_OT_remesh,
    PULLBACK_OT_roll_seed,
    PULLBACK_OT_cancel,
    PULLBACK_OT_resume,
    PULLBACK_OT_dismiss,
    PULLBACK_OT_copy_log,
    PULLBACK_OT_open_preferences,
    PULLBACK_OT_test_worker,
    PULLBACK_OT_create_environment,
    PULLBACK_OT_cancel_environment,
    PULLBACK_OT_test_server,
    PULLBACK_OT_purge_results,
)
keys: list[tuple[bpy.types.KeyMap, bpy.types.KeyMapItem]] = []
_buttons: dict[str, type[Generate]] = {}


def offer() -> None:
    """Add the buttons of all known kinds. As with properties, none is removed until the extension is disabled."""
    for noun, kind in descriptions.kinds().items():
        if noun not in _buttons:
            _buttons[noun] = button_of(kind)
            bpy.utils.register_class(_buttons[noun])


def register() -> None:
    for cls in CLASSES:
        bpy.utils.register_class(cls)
    offer()
    learned.then.append(offer)
    PULLBACK_OT_create_environment.possible = environment.wheel() is not None
    configuration = bpy.context.window_manager.keyconfigs.addon
    if configuration:  # None without a window
        keymap = configuration.keymaps.new(name="Window", space_type="EMPTY")
        keys.append((keymap, keymap.keymap_items.new("pullback.cancel", "ESC", "PRESS")))


def unregister() -> None:
    while keys:
        keymap, item = keys.pop()
        keymap.keymap_items.remove(item)
    learned.then.remove(offer)
    for cls in (*_buttons.values(), *reversed(CLASSES)):
        bpy.utils.unregister_class(cls)
    _buttons.clear()
