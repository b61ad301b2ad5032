"""Jobs: a queue of things to make, driven by a timer on Blender's main thread.

The state is kept here, not in the scene: undo, saving and loading must not touch it. One job runs at a time, in the
worker or on the ComfyUI server; both are polled and neither is waited for. What comes back is placed when the user is
in Object Mode with no tool running, so that it is one undo step.
"""

import atexit
import contextlib
import json
import time
from array import array
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import bpy
import bpy.utils.previews
from bpy.app.handlers import persistent
from bpy.app.translations import pgettext_rpt as said

from . import environment, glb, preferences, protocol, scene, server, worker

SERVER = "comfyui:"
"""What stands before the name of a model that the ComfyUI server has."""
EVERY = 0.1
"""Seconds between two looks at the backend."""
RARELY, KEPT = 5.0, 300.0
"""Seconds between two looks when nothing is to do, and for which a worker without work is kept."""
PREVIEWS = 1.5
"""Least seconds between two preview pictures."""
STAGES = ("Asking the server", "Loading the model", "Sampling", "Mesh and texture", "Writing", "Stopping")
"""What worker and server say of themselves; here so that it can be translated."""
RUN, PREVIEW, NOTE = ".run", ".preview.png", ".job.json"
"""What the names of an unfinished run, of its picture, and of what was asked for add to the output's."""
ALIVE = ("WAITING", "RUNNING", "READY")


@dataclass
class Job:
    """One thing to make. request: kind, settings and options as in docs/worker.md; place: names and numbers, never
    references, of where it goes. status: WAITING, RUNNING, READY (made, not yet placed), DONE, FAILED or CANCELLED."""

    number: int
    request: dict[str, Any]
    place: dict[str, Any]
    out: Path
    status: str = "WAITING"
    stage: str = ""
    move: int = 0
    total: int = 0
    seconds_left: float | None = None
    heard: float = 0.0
    preview_icon: int = 0
    message: str = ""
    hint: str = ""
    log: list[str] = field(default_factory=list)
    can_resume: bool = False
    resuming: bool = False
    tries: int = 0
    sent: bool = False
    wants_preferences: bool = False
    notes: list[str] = field(default_factory=list)
    files: dict[str, str] = field(default_factory=dict)
    parsing: environment.Question | None = None

    @property
    def id(self) -> str:
        """Its name towards worker and server: another one every time that it is sent."""
        return f"{self.number}.{self.tries}"

    @property
    def kind(self) -> str:
        return self.request["kind"]

    @property
    def prompt(self) -> str:
        return self.request.get("settings", {}).get("prompt") or self.place.get("object", "")

    @property
    def seed(self) -> int:
        return self.request.get("settings", {}).get("seed", 0)

    @property
    def title(self) -> str:
        """What the panel and the undo history call it."""
        name = {"object": said("Object"), "panorama": said("World"), "image": said("Image"), "mesh": said("Mesh")}
        seed = f" ({self.seed})" if self.place.get("several") else ""
        return f"{name[self.kind]}: {self.prompt}{seed}"

    @property
    def fraction(self) -> float:
        return self.move / self.total if self.total else 0.0

    @property
    def progress_text(self) -> str:
        """How far it is and how long it takes, in few words."""
        if not self.total or self.stage != "sampling":
            return said(self.stage.capitalize()) if self.stage else said("Starting the worker")
        text = f"{self.move} / {self.total}"
        if self.seconds_left is None:
            return text
        left = max(0, round(self.seconds_left - (time.monotonic() - self.heard)))
        return said("{done}, {minutes}:{seconds:02} left").format(done=text, minutes=left // 60, seconds=left % 60)

    def started(self) -> dict[str, Any]:
        """The message that starts it."""
        options = dict(self.request["options"])
        options["model"] = options["model"].removeprefix(SERVER)
        return protocol.job(
            self.id, self.kind, str(self.out), self.request.get("settings"), options, self.resuming, PREVIEWS
        )


queue: list[Job] = []
"""Every job that the panel shows, oldest first: all that are not done, and those that are and left a note."""
_number = 0
_worker: worker.Worker | None = None
_server: server.Server | None = None
_previews: bpy.utils.previews.ImagePreviewCollection | None = None
_paused = False
_idle = 0.0


# What the buttons call


def add(request: dict[str, Any], place: dict[str, Any]) -> Job:
    """Put a job at the end of the queue. ValueError where its folder cannot be made."""
    global _number, _paused
    _number, _paused = _number + 1, False
    job = Job(_number, request, place, _output(request, place))
    queue.append(job)
    _start_timer()
    return job


def cancel(number: int = 0) -> None:
    """Stop a job, 0: the running one. What it did is kept."""
    job = _of(number) if number else current()
    if job is None:
        return
    if job.status == "RUNNING":
        job.stage = "stopping"
        _backend(job).cancel(job.id)
    elif job.status in ALIVE:
        queue.remove(job)
    _redraw()


def resume(number: int) -> None:
    """Take a stopped job up again, or start it anew where nothing was kept; before those that wait."""
    global _paused
    job = _of(number)
    if job is None or job.status in ALIVE:
        return
    _paused = job.wants_preferences = False
    job.resuming, job.status, job.stage = job.can_resume, "WAITING", ""
    job.message, job.hint, job.log, job.move, job.total = "", "", [], 0, 0
    _start_timer()


def dismiss(number: int) -> None:
    """Forget a stopped job and its unfinished run."""
    job = _of(number)
    if job is None or job.status in ALIVE:
        return
    queue.remove(job)
    for end in (RUN, PREVIEW, NOTE):
        _beside(job.out, end).unlink(missing_ok=True)
    _redraw()


def log_of(number: int) -> str:
    """Everything known about a job that failed, for asking for help."""
    job = _of(number)
    if job is None:
        return ""
    head = [f"Blender {bpy.app.version_string}", f"{job.title}: {job.message}", str(job.started())]
    return "\n".join(head + job.log)


def shown() -> list[Job]:
    """The jobs that the panel shows: the running one first."""
    return sorted(queue, key=lambda job: job.status != "RUNNING")


def current() -> Job | None:
    """The running job, or the one that waits to be placed."""
    return next((job for job in queue if job.status in ("RUNNING", "READY")), None)


def busy() -> bool:
    """Whether anything runs or waits."""
    return any(job.status in ALIVE for job in queue)


def run_to_end() -> None:
    """Work until nothing is left to do: for Blender without a window, where no timer fires."""
    while busy():
        _advance()
        time.sleep(0.02)


def _of(number: int) -> Job | None:
    return next((job for job in queue if job.number == number), None)


def _output(request: dict[str, Any], place: dict[str, Any]) -> Path:
    """A file of its own for what is made, in the folder that the preferences say."""
    sampler = request.get("settings", {})
    name = protocol.slug(sampler.get("prompt") or place.get("object", ""))
    stem = f"{name}-{sampler['seed']}" if "seed" in sampler else f"{name}-mesh"
    folder, suffix = results(), protocol.SUFFIX[request["kind"]]
    taken = {job.out for job in queue}
    for number in range(1, 10_000):
        out = folder / f"{stem}{'' if number == 1 else f'-{number}'}{suffix}"
        if out not in taken and not out.exists() and not _beside(out, RUN).exists():
            return out
    raise ValueError(said("The folder {folder} is full").format(folder=folder))


def results() -> Path:
    """Where fields, and textures that are not packed, are kept: made if missing. ValueError where that fails."""
    beside = bpy.data.filepath and not packed()
    try:
        if beside:
            folder = Path(bpy.data.filepath).parent / "pullback"
            folder.mkdir(exist_ok=True)
            return folder
        return preferences.user_folder("results")
    except OSError as error:
        raise ValueError(said("Cannot keep files: {error}").format(error=error)) from error


def _beside(out: Path, end: str) -> Path:
    return out.with_name(out.name + end)


def packed() -> bool:
    """Whether textures go into the .blend file."""
    mine = preferences.get()
    return mine is None or mine.texture == "PACKED"


# The timer


def _start_timer() -> None:
    if not bpy.app.background:
        if bpy.app.timers.is_registered(_tick):  # it may be looking rarely
            bpy.app.timers.unregister(_tick)
        bpy.app.timers.register(_tick, first_interval=EVERY, persistent=True)
    _redraw()


def _tick() -> float | None:
    """Look at what has come, once; never waits. A worker without work is kept for a while, as starting it takes long."""
    global _idle, _worker
    _advance()
    if busy():
        _idle = 0.0
        return EVERY
    _idle += RARELY
    if _worker is not None and _idle > KEPT:
        _worker.stop()
        _worker = None
    return RARELY if _worker is not None else None


def _advance() -> None:
    global _paused
    job = current()
    if job is None and not _paused:
        job = next((job for job in queue if job.status == "WAITING"), None)
        if job is not None:
            job.status, job.stage, job.sent, job.tries = "RUNNING", "", False, job.tries + 1
    if job is None:
        return
    if job.status == "RUNNING":
        _run(job)
    if job.status == "READY":
        _place(job)
    _redraw()


def _run(job: Job) -> None:
    backend = _backend(job)
    if backend is None:
        return
    if not job.sent:
        backend.submit(job.started())
        job.sent = True
    for message in backend.poll():
        _take(job, message, backend)


def _take(job: Job, message: protocol.Message, backend: "worker.Worker | server.Server") -> None:
    """What a message of the backend means for the running job."""
    global _paused
    kind = message["type"]
    if message.get("id") not in (None, job.id) or job.status != "RUNNING":
        return
    if kind == "progress":
        job.stage, job.move, job.total = message["stage"], message["move"], message["total"]
        job.seconds_left, job.heard = message["seconds_left"], time.monotonic()
    elif kind == "preview":
        _show(job, message["path"])
    elif kind == "note":
        job.notes.append(message["text"])
    elif kind == "silent":
        job.message, job.hint, job.log = message["text"], message["hint"], message["log"]
    elif kind == "awake":
        job.message, job.hint, job.log = "", "", []
    elif kind == "done":
        job.files, job.status = message["files"], "READY"
        job.message, job.hint, job.log = "", "", []
    elif kind == "cancelled":
        _end(job, "CANCELLED", said("Cancelled"), resumable=message["resumable"])
    elif kind == "error":
        _paused = job.wants_preferences = not backend.ready  # the next job would fail in the same way
        _end(job, "FAILED", message["text"], message["hint"], message["log"], message["resumable"])


def _end(
    job: Job, status: str, text: str, hint: str = "", log: list[str] | None = None, resumable: bool = False
) -> None:
    job.status, job.message, job.hint, job.log, job.can_resume = status, text, hint, log or [], resumable
    job.preview_icon = 0
    if _previews is not None:
        _previews.clear()
    if resumable:
        _remember(job)


def _show(job: Job, path: str) -> None:
    """Make a picture the newest one of the panel."""
    if _previews is None:
        return
    try:
        width, height, pixels = _drawn(path)
    except (OSError, RuntimeError):  # it went when the job ended
        return
    _previews.clear()
    picture = _previews.new(f"{job.id} {time.monotonic()}")
    picture.image_size = width, height
    picture.image_pixels_float.foreach_set(pixels)
    job.preview_icon = picture.icon_id


def _drawn(path: str) -> tuple[int, int, array]:
    """Width, height and RGBA pixels, bottom row first, of a picture file. Views in a row of four come two by two."""
    image = bpy.data.images.load(path)
    try:
        width, height = image.size
        pixels = array("f", bytes(16 * width * height))
        image.pixels.foreach_get(pixels)
    finally:
        bpy.data.images.remove(image)
    if width != 4 * height:
        return width, height, pixels
    row, half = 4 * width, 2 * width
    right, left = (array("f") for _ in range(2))
    for start in range(0, len(pixels), row):
        left += pixels[start : start + half]
        right += pixels[start + half : start + row]
    return 2 * height, 2 * height, right + left


# Who does the work


def _backend(job: Job) -> "worker.Worker | server.Server | None":
    """The worker or the server, made if need be; None, and the job has failed, where there is no Python."""
    global _worker, _server, _paused
    if job.request["options"]["model"].startswith(SERVER):
        if _server is None or (_server.address != server_address() and not job.sent):
            _server = server.Server(server_address())
        return _server
    if _worker is not None and job.sent:
        return _worker
    python = preferences.interpreter()
    if python is None:
        text = said("No Python in which Pullback is installed was found")
        _end(job, "FAILED", text, said("choose one in the preferences, or create an environment there"))
        _paused = job.wants_preferences = True
        return None
    if _worker is None or _worker.python != str(python):
        if _worker is not None:
            _worker.stop()
        _worker = worker.Worker(str(python), f"blender {bpy.app.version_string}")
    return _worker


def server_address() -> str:
    """Where the ComfyUI server is."""
    mine = preferences.get()
    return mine.server if mine else "http://127.0.0.1:8188"


# Placing


def _place(job: Job) -> None:
    """Bring what was made into the scene, as one undo step, when the user is free."""
    if job.kind in ("object", "mesh"):
        if job.parsing is None:
            path = job.files["mesh"]
            job.parsing = environment.Question(lambda: glb.read(path))
        if not job.parsing.poll():
            return
        if job.parsing.error:
            _end(job, "FAILED", job.parsing.error)
            return
    if not _free():
        return
    try:
        with _window():
            PLACE[job.kind](job)
            if not bpy.app.background:
                bpy.ops.ed.undo_push(message=job.title)
    except (OSError, ValueError, RuntimeError) as error:
        _end(job, "FAILED", str(error))
        return
    _end(job, "DONE", " ".join(job.notes))
    _beside(job.out, NOTE).unlink(missing_ok=True)
    if not job.notes:
        queue.remove(job)


def _place_object(job: Job) -> None:
    scene.add_object(
        job.parsing.answer, name=job.prompt[:60], location=job.place["location"], field=job.files["field"],
        prompt=job.prompt, seed=job.seed, model=job.request["options"]["model"], pack=packed(),
        scene=bpy.data.scenes.get(job.place["scene"]),
    )  # fmt: skip


def _place_mesh(job: Job) -> None:
    thing = bpy.data.objects.get(job.place["object"])
    if thing is None:
        raise ValueError(said("The object {name} is gone").format(name=job.place["object"]))
    scene.replace_mesh(thing, job.parsing.answer, pack=packed())


def _place_panorama(job: Job) -> None:
    target = bpy.data.scenes.get(job.place["scene"])
    scene.set_world(job.files["picture"], name=job.prompt[:60], scene=target, pack=packed())


def _place_image(job: Job) -> None:
    thing = bpy.data.objects.get(job.place["object"]) if job.place["object"] else None
    scene.add_image(job.files["picture"], name=job.prompt[:60], thing=thing, pack=packed())


PLACE = {"object": _place_object, "mesh": _place_mesh, "panorama": _place_panorama, "image": _place_image}


def _free() -> bool:
    """Whether nothing is under way that a change of the scene would disturb: no tool runs, no mode but Object Mode."""
    if bpy.app.background:
        return True
    windows = bpy.context.window_manager.windows
    active = [window.view_layer.objects.active for window in windows]
    return not any(len(window.modal_operators) for window in windows) and all(
        thing is None or thing.mode == "OBJECT" for thing in active
    )


def _window() -> contextlib.AbstractContextManager:
    """The context of the first window: a timer has none."""
    windows = bpy.context.window_manager.windows
    return bpy.context.temp_override(window=windows[0]) if windows else contextlib.nullcontext()


def _redraw() -> None:
    """Have the sidebars drawn anew; the viewport itself is left alone."""
    for window in bpy.context.window_manager.windows:
        for area in window.screen.areas:
            if area.type == "VIEW_3D":
                for region in area.regions:
                    if region.type == "UI":
                        region.tag_redraw()


# Coming and going


def _remember(job: Job) -> None:
    """Write down what an unfinished run is of, so that it can be resumed after Blender was closed."""
    with contextlib.suppress(OSError):  # then it can be resumed until Blender is closed
        _beside(job.out, NOTE).write_text(json.dumps({"request": job.request, "place": job.place}), encoding="utf-8")


def _recall() -> None:
    """Take up the unfinished runs of earlier sessions, as stopped jobs."""
    global _number
    for note in sorted(preferences.user_folder("results").glob(f"*{NOTE}")):
        out = note.with_name(note.name.removesuffix(NOTE))
        try:
            told = json.loads(note.read_text(encoding="utf-8"))
            job = Job(_number + 1, dict(told["request"]), dict(told["place"]), out)
            _ = job.title, job.started()  # all that it takes to show it and to start it is there
        except (OSError, ValueError, LookupError, TypeError, AttributeError):
            continue
        if _beside(out, RUN).exists():
            _number += 1
            job.status, job.message, job.can_resume = "CANCELLED", said("Stopped, because Blender was closed"), True
            queue.append(job)


def _stop(why: str) -> None:
    """End the worker and let go of the server; what ran or waited can be resumed."""
    global _worker, _server
    for backend in (_worker, _server):
        if backend is not None:
            backend.stop()
    _worker = _server = None
    for job in queue:
        if job.status in ALIVE:
            _end(job, "CANCELLED", why, resumable=_beside(job.out, RUN).exists())


@persistent
def _before_load(*_: object) -> None:
    _stop(said("Stopped, because another file was opened"))


def register() -> None:
    global _previews
    _previews = bpy.utils.previews.new()
    if not bpy.app.background:
        _recall()
    bpy.app.handlers.load_pre.append(_before_load)
    atexit.register(_stop, "")


def unregister() -> None:
    global _previews
    atexit.unregister(_stop)
    bpy.app.handlers.load_pre.remove(_before_load)
    if bpy.app.timers.is_registered(_tick):
        bpy.app.timers.unregister(_tick)
    _stop("")
    queue.clear()
    if _previews is not None:
        bpy.utils.previews.remove(_previews)
        _previews = None
