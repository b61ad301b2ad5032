"""Notes: warnings that do not stop a run, shown in the page and in the console."""

from __future__ import annotations

import logging
import sys

EVENT = "pullback.note"
"""The event that web/notes.js listens to."""


def say(text: str) -> None:
    """Show a sentence in the page that queued the running prompt."""
    logging.warning("%s", text)
    server = getattr(getattr(sys.modules.get("server"), "PromptServer", None), "instance", None)
    if server is not None:
        server.send_sync(EVENT, {"text": text}, server.client_id)
