"""Placing: brings the result of a job into the scene, as one undo step, when the user is not busy."""

import contextlib

import bpy
from bpy.app.translations import pgettext_rpt as translate

from . import environment, glb, results, scene
from .descriptions import Makes
from .job import Job


def place(job: Job) -> bool:
    """Bring the result of a job into the scene.

    Returns:
        Whether this was possible. If not, call again later: the file is still being read, or the user is busy.

    Raises:
        OSError, ValueError, RuntimeError: If it will never be possible.
    """
    if job.makes in (Makes.OBJECT, None):
        if job.parsing is None:
            path = job.files["mesh"]
            job.parsing = environment.Question(lambda: glb.read(path), translate)
        if not job.parsing.poll():
            return False
        if job.parsing.error:
            raise ValueError(job.parsing.error)
    if _is_user_busy():
        return False
    with _window():
        PLACE[job.makes](job)
        if not bpy.app.background:
            bpy.ops.ed.undo_push(message=job.title)
    return True


def _object(job: Job) -> None:
    """Add an object, or put its mesh in the place of the draft that it began as, if that still exists."""
    about = {
        "field": job.files.get("field", ""), "prompt": job.prompt, "seed": job.seed,
        "model": job.request["options"]["model"],
    }  # fmt: skip
    draft = bpy.data.objects.get(job.place.get("object", ""))
    if draft is not None and draft.type == "MESH":
        scene.describe(draft, **about)
        scene.replace_mesh(draft, job.parsing.answer, pack=results.packed())
        return
    scene.add_object(
        job.parsing.answer, name=job.name, location=job.place["location"], **about, file=job.files["mesh"],
        pack=results.packed(), scene=bpy.data.scenes.get(job.place["scene"]),
    )  # fmt: skip


def _mesh(job: Job) -> None:
    obj = bpy.data.objects.get(job.place["object"])
    if obj is None:
        raise ValueError(translate("The object {name} is gone").format(name=job.place["object"]))
    scene.replace_mesh(obj, job.parsing.answer, pack=results.packed())


def _world(job: Job) -> None:
    target = bpy.data.scenes.get(job.place["scene"])
    scene.set_world(job.files["picture"], name=job.prompt[:60], scene=target, pack=results.packed())


def _image(job: Job) -> None:
    obj = bpy.data.objects.get(job.place["object"]) if job.place["object"] else None
    scene.add_image(job.files["picture"], name=job.prompt[:60], obj=obj, pack=results.packed())


def _material(job: Job) -> None:
    obj = bpy.data.objects.get(job.place["object"]) if job.place["object"] else None
    repeats = job.place["repeats"]
    scene.add_material(job.files["picture"], name=job.prompt[:60], repeats=repeats, obj=obj, pack=results.packed())


PLACE = {Makes.OBJECT: _object, None: _mesh, Makes.WORLD: _world, Makes.MATERIAL: _material, Makes.IMAGE: _image}


def _is_user_busy() -> bool:
    """Return whether a change of the scene would disturb the user: one of Blender's tools is running, or the mode is not
    Object Mode. Operators of add-ons do not count because some of them run all the time."""
    if bpy.app.background:
        return False
    windows = bpy.context.window_manager.windows
    active = [window.view_layer.objects.active for window in windows]
    tools = [operator.bl_idname for window in windows for operator in window.modal_operators]
    return any(map(_is_built_in, tools)) or any(obj is not None and obj.mode != "OBJECT" for obj in active)


def _is_built_in(idname: str) -> bool:
    """Return whether an operator is Blender's own and not written in Python."""
    return bpy.types.Operator.bl_rna_get_subclass_py(idname) is None


def _window() -> contextlib.AbstractContextManager:
    """Return a context with the first window. Timers run without one."""
    windows = bpy.context.window_manager.windows
    return bpy.context.temp_override(window=windows[0]) if windows else contextlib.nullcontext()
