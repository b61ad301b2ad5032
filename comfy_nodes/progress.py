"""Progress: the progress bar of a run, with an occasional small picture of the field."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from itertools import accumulate
from typing import Any

import comfy.utils
from comfy.cli_args import LatentPreviewMethod, args
from comfy.model_management import throw_exception_if_processing_interrupted
from PIL import Image
from torch import Tensor

SHARE = 0.025
"""The fraction of a run's time that its preview pictures may take."""


class Progress:
    """The progress bar of a run. A pass of the field and a view evaluated by the model count one unit each.

    Args:
        picture: A function that draws a small picture from a field's parameters.
        clock: A function that returns the time in seconds.
    """

    def __init__(
        self, picture: Callable[[dict[str, Tensor]], Image.Image], clock: Callable[[], float] = time.monotonic
    ):
        self.picture, self.clock = picture, clock
        self.bar, self.begun, self.spent, self.last = comfy.utils.ProgressBar(1), clock(), 0.0, 0.0
        self.begin([1])

    def begin(self, units: Sequence[int]) -> None:
        """Set the number of units in each part of the run."""
        self.ends, self.part, self.done = list(accumulate(units)), 0, 0

    def add(self, units: int) -> None:
        """Add units, at most up to the end of the current part."""
        self.done = min(self.done + units, self.ends[self.part])
        self.bar.update_absolute(self.done, self.ends[-1])

    def tick(self) -> None:
        """Count a pass of the field. Raise ComfyUI's interruption if the user has pressed Cancel."""
        throw_exception_if_processing_interrupted()
        self.add(1)

    def ended(self, params: dict[str, Tensor]) -> None:
        """Continue with the next part, and show the field if there is time for it."""
        self.done, self.part = self.ends[self.part], min(self.part + 1, len(self.ends) - 1)
        start = self.clock()
        shown = wanted() and self.spent + self.last <= SHARE * (start - self.begun)
        preview = ("JPEG", self.picture(params), args.preview_size) if shown else None
        self.bar.update_absolute(self.done, self.ends[-1], preview)
        if shown:
            self.last = self.clock() - start
            self.spent += self.last


class Unseen:
    """A progress bar that shows nothing."""

    def begin(self, units: Sequence[int]) -> None: ...
    def tick(self) -> None: ...
    def ended(self, params: dict[str, Tensor]) -> None: ...


def wanted() -> bool:
    """Return whether to show the field while it is sampled: always, unless the user has turned previews off.

    ComfyUI shows none by default, which is not the user's choice. They are turned off on the command line or in the page's
    settings.
    """
    if args.preview_method != LatentPreviewMethod.NoPreviews:
        return True
    arguments = " ".join(sys.argv[1:]).replace("=", " ")
    return "--preview-method none" not in arguments and _setting() != "none"


def _setting() -> Any:
    """Return the preview method in the page's settings for the running prompt, or None if it is not set."""
    server = getattr(getattr(sys.modules.get("server"), "PromptServer", None), "instance", None)
    running = list(server.prompt_queue.currently_running.values()) if server is not None else []
    return running[0][3].get("preview_method") if running else None
