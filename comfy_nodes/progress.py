"""Progress: the bar of a run, and now and then a small picture of the field."""

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
"""Of the time of a run that its pictures may take."""


class Progress:
    """A run's bar. It counts field passes and views that the model has looked at, alike.

    picture: a small picture of a field's parameters. clock: in seconds.
    """

    def __init__(
        self, picture: Callable[[dict[str, Tensor]], Image.Image], clock: Callable[[], float] = time.monotonic
    ):
        self.picture, self.clock = picture, clock
        self.bar, self.begun, self.spent, self.last = comfy.utils.ProgressBar(1), clock(), 0.0, 0.0
        self.begin([1])

    def begin(self, units: Sequence[int]) -> None:
        """Say how much there is to count in each part of the run."""
        self.ends, self.part, self.done = list(accumulate(units)), 0, 0

    def add(self, units: int) -> None:
        """Count on, at most to the end of the part."""
        self.done = min(self.done + units, self.ends[self.part])
        self.bar.update_absolute(self.done, self.ends[-1])

    def tick(self) -> None:
        """Count a field pass; stop here if the user pressed Cancel."""
        throw_exception_if_processing_interrupted()
        self.add(1)

    def ended(self, params: dict[str, Tensor]) -> None:
        """Go on to the next part; show the field if there is time for it."""
        self.done, self.part = self.ends[self.part], min(self.part + 1, len(self.ends) - 1)
        start = self.clock()
        shown = wanted() and self.spent + self.last <= SHARE * (start - self.begun)
        preview = ("JPEG", self.picture(params), args.preview_size) if shown else None
        self.bar.update_absolute(self.done, self.ends[-1], preview)
        if shown:
            self.last = self.clock() - start
            self.spent += self.last


class Unseen:
    """A run's bar that nobody looks at."""

    def begin(self, units: Sequence[int]) -> None: ...
    def tick(self) -> None: ...
    def ended(self, params: dict[str, Tensor]) -> None: ...


def wanted() -> bool:
    """Whether the user wants to see a field while it is sampled: yes, unless ComfyUI was told to show no previews.

    Its own default is to show none; that was not asked for. It was on the command line, or in the page's settings.
    """
    if args.preview_method != LatentPreviewMethod.NoPreviews:
        return True
    arguments = " ".join(sys.argv[1:]).replace("=", " ")
    return "--preview-method none" not in arguments and _setting() != "none"


def _setting() -> Any:
    """What the page's settings say about previews of the prompt that runs; None where they say nothing."""
    server = getattr(getattr(sys.modules.get("server"), "PromptServer", None), "instance", None)
    running = list(server.prompt_queue.currently_running.values()) if server is not None else []
    return running[0][3].get("preview_method") if running else None
