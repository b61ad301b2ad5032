"""Job: one thing to make, what is known of it, and how it is told."""

import time
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Any

from bpy.app.translations import pgettext_rpt as translate

from . import descriptions, environment, protocol
from .descriptions import Kind, Makes

SERVER = "comfyui:"
"""What stands before the name of a model that the ComfyUI server has."""
PREVIEWS = 1.5
"""Least seconds between two preview pictures."""
STAGES = ("Asking the server", "Loading the model", "Sampling", "Mesh and texture", "Writing", "Stopping")
"""What worker and server say of themselves; here so that it can be translated."""
AFTERWARDS = ("mesh and texture", "writing")
"""Stages that come after sampling."""
SAMPLED = 0.9
"""Part of a job's bar that sampling fills."""


class State(str, Enum):
    """Where a job is. READY: made, not yet placed. LEFT: an earlier session of Blender did not come to its end."""

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
    """One thing to make. request: kind, settings and options as in docs/worker.md; place: names and numbers, never
    references, of where it goes."""

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
        """Its name towards worker and server: another one every time that it is sent."""
        return f"{self.number}.{self.tries}"

    @property
    def kind(self) -> str:
        return self.request["kind"]

    @property
    def makes(self) -> Makes | None:
        """What it becomes; None for another mesh of an object that is there. KeyError where its kind is unknown."""
        return descriptions.makes(self.kind)

    @property
    def on_server(self) -> bool:
        """Whether the ComfyUI server does it, where no run is kept."""
        return self.request["options"]["model"].startswith(SERVER)

    @property
    def prompt(self) -> str:
        return self.request.get("settings", {}).get("prompt") or self.place.get("object", "")

    @property
    def name(self) -> str:
        """What the result is called."""
        return self.place.get("name") or self.prompt[:60]

    @property
    def seed(self) -> int:
        return self.request.get("settings", {}).get("seed", 0)

    @property
    def title(self) -> str:
        """What the panel and the undo history call it."""
        seed = f" ({self.seed})" if self.place.get("several") else ""
        return f"{title(self.kind)}: {self.prompt or self.name}{seed}"

    @property
    def fraction(self) -> float:
        """How much of the bar is full. Sampling fills nine tenths; mesh, texture and writing come after it."""
        if self.stage in AFTERWARDS:  # what they count is their own
            return SAMPLED
        return SAMPLED * self.move / self.total if self.total else 0.0

    @property
    def reached(self) -> str:
        """How far a run that was left is."""
        return translate('"{prompt}", {move} of {total}').format(
            prompt=self.prompt or self.name, move=self.move, total=self.total
        )

    @property
    def progress_text(self) -> str:
        """How far it is and how long it takes, in few words."""
        if not self.total or self.stage != "sampling":
            return translate(self.stage.capitalize()) if self.stage else translate("Starting the worker")
        text = f"{self.move} / {self.total}"
        if self.seconds_left is None:
            return text
        left = max(0, round(self.seconds_left - (time.monotonic() - self.heard)))
        return translate("{done}, {minutes}:{seconds:02} left").format(done=text, minutes=left // 60, seconds=left % 60)

    def started(self) -> dict[str, Any]:
        """The message that starts it."""
        options = dict(self.request["options"])
        options["model"] = options["model"].removeprefix(SERVER)
        return protocol.job(
            self.id, self.kind, str(self.out), self.request.get("settings"), options, self.resuming, PREVIEWS
        )


def title(kind: str) -> str:
    """What people call a kind of job. KeyError for an unknown kind."""
    if kind == descriptions.RECONSTRUCTION:
        return translate("Pictures")
    return translate("Mesh") if kind in descriptions.DERIVED else title_of(descriptions.kinds()[kind])


def title_of(kind: Kind) -> str:
    """What people call a kind that is sampled: by what it makes, or by its title where another kind makes the same."""
    names = {Makes.OBJECT: translate("Object"), Makes.WORLD: translate("World"), Makes.MATERIAL: translate("Material"),
             Makes.IMAGE: translate("Image")}  # fmt: skip
    return names[kind.makes] if kind == descriptions.first(kind.makes) else kind.usual.title
