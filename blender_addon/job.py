"""Job: one thing to make, its progress, and the texts that describe it."""

import time
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Any

from bpy.app.translations import pgettext_rpt as translate

from . import descriptions, environment, protocol
from .descriptions import Kind, Makes

SERVER = "comfyui:"
"""The prefix of names of models on the ComfyUI server."""
PREVIEWS = 1.5
"""Least number of seconds between two preview pictures."""
STAGES = ("Asking the server", "Loading the model", "Sampling", "Mesh and texture", "Writing", "Stopping")
"""The stages that the worker and the server report, listed here so that they can be translated."""
AFTERWARDS = ("mesh and texture", "writing")
"""Stages that come after sampling."""
SAMPLED = 0.9
"""The fraction of a job's progress bar that sampling fills."""


class State(str, Enum):
    """The state of a job. READY: done but not yet placed in the scene. LEFT: unfinished since an earlier session of Blender."""

    WAITING = "WAITING"
    RUNNING = "RUNNING"
    READY = "READY"
    DONE = "DONE"
    FAILED = "FAILED"
    CANCELLED = "CANCELLED"
    LEFT = "LEFT"


ALIVE = (State.WAITING, State.RUNNING, State.READY)


@dataclass
class Job:
    """One thing to make.

    Args:
        number: Identifies the job in this session.
        request: The kind, settings and options, as in docs/worker.md.
        place: Where the result goes: names and numbers, because references to Blender's data may become invalid.
        out: The file that the worker writes.
    """

    number: int
    request: dict[str, Any]
    place: dict[str, Any]
    out: Path
    status: State = State.WAITING
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
        """The job's id for the worker and the server. Every attempt has its own."""
        return f"{self.number}.{self.tries}"

    @property
    def kind(self) -> str:
        return self.request["kind"]

    @property
    def makes(self) -> Makes | None:
        """What the job makes; None for a new mesh of an existing object. Raises KeyError if the kind is unknown."""
        return descriptions.makes(self.kind)

    @property
    def on_server(self) -> bool:
        """Whether the job runs on the ComfyUI server. Such jobs cannot be resumed."""
        return self.request["options"]["model"].startswith(SERVER)

    @property
    def prompt(self) -> str:
        return self.request.get("settings", {}).get("prompt") or self.place.get("object", "")

    @property
    def name(self) -> str:
        """The name of the result."""
        return self.place.get("name") or self.prompt[:60]

    @property
    def seed(self) -> int:
        return self.request.get("settings", {}).get("seed", 0)

    @property
    def title(self) -> str:
        """The name of the job in the panel and in the undo history."""
        seed = f" ({self.seed})" if self.place.get("several") else ""
        return f"{title(self.kind)}: {self.prompt or self.name}{seed}"

    @property
    def fraction(self) -> float:
        """How full the progress bar is, from 0 to 1. Sampling fills nine tenths of it."""
        if self.stage in AFTERWARDS:  # `move` and `total` count something else then
            return SAMPLED
        return SAMPLED * self.move / self.total if self.total else 0.0

    @property
    def reached(self) -> str:
        """How far an unfinished run is."""
        return translate('"{prompt}", {move} of {total}').format(
            prompt=self.prompt or self.name, move=self.move, total=self.total
        )

    @property
    def progress_text(self) -> str:
        """The progress and the remaining time, in a few words."""
        if not self.total or self.stage != "sampling":
            return translate(self.stage.capitalize()) if self.stage else translate("Starting the worker")
        text = f"{self.move} / {self.total}"
        if self.seconds_left is None:
            return text
        left = max(0, round(self.seconds_left - (time.monotonic() - self.heard)))
        return translate("{done}, {minutes}:{seconds:02} left").format(done=text, minutes=left // 60, seconds=left % 60)

    def started(self) -> dict[str, Any]:
        """Return the message that starts the job."""
        options = dict(self.request["options"])
        options["model"] = options["model"].removeprefix(SERVER)
        return protocol.job(
            self.id, self.kind, str(self.out), self.request.get("settings"), options, self.resuming, PREVIEWS
        )


def title(kind: str) -> str:
    """Return the name of a kind of job in the interface. Raise KeyError for an unknown kind."""
    if kind == descriptions.RECONSTRUCTION:
        return translate("Pictures")
    if kind == descriptions.SHAPE:
        return translate("Shape")
    return translate("Mesh") if kind in descriptions.DERIVED else title_of(descriptions.kinds()[kind])


def title_of(kind: Kind) -> str:
    """Return the name of a kind: what it makes or, if an earlier kind makes the same, the title of its representation."""
    names = {Makes.OBJECT: translate("Object"), Makes.WORLD: translate("World"), Makes.MATERIAL: translate("Material"),
             Makes.IMAGE: translate("Image")}  # fmt: skip
    return names[kind.makes] if kind == descriptions.first(kind.makes) else kind.usual.title
