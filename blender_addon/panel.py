"""Panels: the sidebar tab "Pullback" in the 3D viewport."""

import bpy
from bpy.app.translations import pgettext_rpt as translate

from . import backend, descriptions, disk, jobs, labels, properties, reconstruction, regions, shapes
from .descriptions import Kind, Makes
from .job import ALIVE, Job, State, title_of
from .properties import EXPECT

NAMED = 3
"""How many of the unfinished runs of earlier sessions are named."""


class Sidebar:
    """The place of all our panels."""

    bl_space_type = "VIEW_3D"
    bl_region_type = "UI"
    bl_category = "Pullback"


class PULLBACK_PT_main(Sidebar, bpy.types.Panel):
    """The prompt, the buttons, and the progress of the jobs."""

    bl_label = "Pullback"

    def draw(self, context: bpy.types.Context) -> None:
        layout, settings = self.layout, context.scene.pullback
        column = layout.column()
        column.prop(settings, "prompt", text="", icon="GREASEPENCIL", placeholder="a red mushroom")
        column.prop(settings, "negative", text="", icon="REMOVE", placeholder="not this")
        row = column.row(align=True)
        row.prop(settings, "seed")
        row.operator("pullback.roll_seed", text="", icon="FILE_REFRESH")

        layout.row().prop(settings, "quality", expand=True)
        _model(layout.column(align=True), settings, context.region.width)
        _warnings(layout, settings, context.region.width)

        _buttons(layout, settings)

        if jobs.left():
            _left(layout.box().column(), context.region.width)
        for job in jobs.shown():
            _job(layout.box().column(), job, context.region.width)


ICON = {Makes.OBJECT: "MESH_ICOSPHERE", Makes.WORLD: "WORLD", Makes.MATERIAL: "MATERIAL", Makes.IMAGE: "TEXTURE"}


def _buttons(layout: bpy.types.UILayout, settings: bpy.types.PropertyGroup) -> None:
    """Draw the buttons of all kinds, objects first. Next to a button are the settings of the file that it writes."""
    kinds = descriptions.kinds().values()
    column = layout.column(align=True)
    for kind in (kind for kind in kinds if kind.makes is Makes.OBJECT):
        row = column.row(align=True)
        row.scale_y = 1.6
        _button(row, kind)
    column.operator("pullback.draft_shape", icon="MESH_CUBE")
    row = column.split(factor=0.72, align=True)
    row.operator("pullback.generate_variants", icon="MOD_ARRAY")
    row.prop(settings, "variants", text="")
    column = layout.column(align=True)
    for kind in (kind for kind in kinds if kind.makes is not Makes.OBJECT):
        row = column.split(factor=0.72, align=True)
        _button(row, kind)
        for name in kind.made:
            row.prop(settings, kind.prop(name), text="")
        if kind == descriptions.first(Makes.WORLD):
            column.prop(settings, "world_model", text="")
    column.prop(settings, "material_repeats")


def _button(row: bpy.types.UILayout, kind: Kind) -> None:
    row.operator(f"pullback.generate_{kind.identifier}", icon=ICON[kind.makes])


def _model(column: bpy.types.UILayout, settings: bpy.types.PropertyGroup, width: int) -> None:
    """Draw the choice of the model, and what to expect from it."""
    column.prop(settings, "model", text="")
    if settings.model == "FOLDER":
        column.prop(settings, "model_path", text="")
    elif settings.model == "SERVER":
        column.prop(settings, "checkpoint", text="", icon="NETWORK_DRIVE")
    if settings.model in EXPECT:
        _lines(column, translate(EXPECT[settings.model]), width)


def _warnings(layout: bpy.types.UILayout, settings: bpy.types.PropertyGroup, width: int) -> None:
    """Draw what the user has to do before the buttons can work."""
    barred = backend.barred(backend.server_address()) if settings.model == "SERVER" else ""
    if barred:
        box = layout.box().column(align=True)
        labels.lines(box, barred, width, "ERROR")
        box.operator("pullback.open_preferences", icon="PREFERENCES")
    if settings.model != "SERVER" and disk.seen.get("python", "unknown") is None:
        box = layout.box().column(align=True)
        box.label(text="No Python with Pullback yet", icon="ERROR")
        box.operator("pullback.open_preferences", icon="PREFERENCES")


def _left(column: bpy.types.UILayout, width: int) -> None:
    """Draw one question about all runs that earlier sessions did not finish."""
    left = jobs.left()
    one, more = translate("1 unfinished run: {runs}"), translate("{count} unfinished runs: {runs}")
    named = [job.reached for job in left[:NAMED]] + (["…"] if len(left) > NAMED else [])
    _lines(column, (one if len(left) == 1 else more).format(count=len(left), runs="; ".join(named)), width)
    row = column.row(align=True)
    row.operator("pullback.resume", icon="PLAY").job = 0
    row.operator("pullback.dismiss", text="Discard", icon="TRASH").job = 0


def _job(column: bpy.types.UILayout, job: Job, width: int) -> None:
    """Draw one job: its name, its progress or messages, and its buttons."""
    row = column.row()
    row.label(text=job.title, icon=ICONS[job.status], translate=False)
    operator = "pullback.cancel" if job.status in ALIVE else "pullback.dismiss"
    row.operator(operator, text="", icon="X", emboss=False).job = job.number
    if job.status is State.RUNNING:
        column.progress(factor=job.fraction, text=job.progress_text, type="BAR", translate=False)
        if job.preview_icon:
            column.template_icon(job.preview_icon, scale=max(4.0, (width - 75) / (20 * labels.scale())))
    elif job.status is State.READY:
        _lines(column, translate("Ready: it is placed once you are in Object Mode"), width)
    for text in (job.message, *(job.notes if job.status in ALIVE else ()), job.hint):
        if text:
            _lines(column, text, width)
    if job.log:
        log = column.box().column(align=True)
        log.scale_y = 0.7
        for line in job.log[-4:]:
            log.label(text=line[:200], translate=False)
    if job.status is State.RUNNING:
        row = column.row()
        row.scale_y = 1.2
        row.operator("pullback.cancel", icon="CANCEL").job = job.number
    elif job.status in (State.FAILED, State.CANCELLED):
        row = column.row(align=True)
        row.operator("pullback.resume", text="Resume" if job.can_resume else "Try Again", icon="PLAY").job = job.number
        if job.wants_preferences:
            row.operator("pullback.open_preferences", text="Preferences", icon="PREFERENCES")
        if job.log:
            row.operator("pullback.copy_log", text="", icon="COPYDOWN").job = job.number


ICONS = {State.WAITING: "TIME", State.RUNNING: "RENDER_ANIMATION", State.READY: "CHECKMARK", State.DONE: "INFO",
         State.FAILED: "ERROR", State.CANCELLED: "CANCEL"}  # fmt: skip


def _lines(column: bpy.types.UILayout, text: str, width: int) -> None:
    column.separator(factor=0.3)
    labels.lines(column, text, width)


class PULLBACK_PT_pictures(Sidebar, bpy.types.Panel):
    """The settings and the button for an object from photographs."""

    bl_label = "From Pictures"
    bl_parent_id = "PULLBACK_PT_main"
    bl_options = {"DEFAULT_CLOSED"}

    def draw(self, context: bpy.types.Context) -> None:
        self.layout.use_property_split = True
        self.layout.use_property_decorate = False
        reconstruction.draw(self.layout, context)


class PULLBACK_PT_object(Sidebar, bpy.types.Panel):
    """The prompt and the seed of the active object, and a button that makes another mesh or, of a draft, a NeRF object of it."""

    bl_label = "Active Object"
    bl_parent_id = "PULLBACK_PT_main"

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        return context.object is not None and ("pullback_field" in context.object or shapes.is_draft(context.object))

    def draw(self, context: bpy.types.Context) -> None:
        layout, obj, settings = self.layout, context.object, context.scene.pullback
        text = translate("{prompt}, seed {seed}").format(
            prompt=obj.get("pullback_prompt", "?"), seed=obj.get("pullback_seed", "?")
        )
        layout.label(text=text, icon="OBJECT_DATA", translate=False)
        column = layout.column(align=True)
        for name in ("faces", "texture"):
            column.prop(settings, name)
        if shapes.is_draft(obj):
            layout.operator("pullback.nerf_from_shape", icon=ICON[Makes.OBJECT])
        else:
            layout.operator("pullback.remesh", icon="MOD_REMESH")


class PULLBACK_PT_advanced(Sidebar, bpy.types.Panel):
    """All other settings."""

    bl_label = "Advanced"
    bl_parent_id = "PULLBACK_PT_main"
    bl_options = {"DEFAULT_CLOSED"}

    def draw(self, context: bpy.types.Context) -> None:
        layout, settings = self.layout, context.scene.pullback
        layout.use_property_split = True
        layout.use_property_decorate = False
        column = layout.column()
        for name in ("steps", "eta", "solver"):
            column.prop(settings, name)
        column = layout.column(heading="RePaint")
        column.prop(settings, "repaint", text="")
        if settings.repaint:
            column.prop(settings, "repaint_jump")
            column.prop(settings, "repaint_repeats")
        if settings.model != "SERVER":
            layout.prop(settings, "device")
        for kind in descriptions.kinds().values():
            head, body = layout.panel(f"pullback_{kind.identifier}", default_closed=kind.makes is not Makes.OBJECT)
            head.label(text=title_of(kind), icon=ICON[kind.makes], translate=False)
            if body is not None:
                _settings(body.column(), settings, kind)
        head, body = layout.panel("pullback_pictures", default_closed=True)
        head.label(text="From Pictures", icon="CAMERA_DATA")
        if body is not None:
            reconstruction.draw_advanced(body.column(), settings)
        layout.operator("pullback.open_preferences", icon="PREFERENCES")


def _settings(column: bpy.types.UILayout, settings: bpy.types.PropertyGroup, kind: Kind) -> None:
    """Draw all settings of a kind."""
    if len(kind.choices) > 1:
        column.prop(settings, kind.prop(kind.usual.option))
    chosen = properties.chosen(settings, kind)
    for name in (*kind.of_run, *(each.name for each in chosen.settings), *kind.made):
        column.prop(settings, kind.prop(name))
    regions.draw(column, settings, kind)


CLASSES = (PULLBACK_PT_main, PULLBACK_PT_pictures, PULLBACK_PT_object, PULLBACK_PT_advanced)


def register() -> None:
    for cls in CLASSES:
        bpy.utils.register_class(cls)


def unregister() -> None:
    for cls in reversed(CLASSES):
        bpy.utils.unregister_class(cls)
