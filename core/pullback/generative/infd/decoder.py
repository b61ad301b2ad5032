"""Files of field decoders."""

from __future__ import annotations

import json
from dataclasses import asdict

from .network import Config

FORMAT = "pullback-field-decoder-1"


def describe(config: Config) -> str:
    """Return a configuration as JSON, for the metadata of a file."""
    return json.dumps(asdict(config))
