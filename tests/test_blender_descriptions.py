"""What the representations declare, as the extension has it. Needs no Blender; run as a program, it writes the file anew."""

from __future__ import annotations

import json
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "core")]

from pullback import jobs, representations  # noqa: E402

FILE = ROOT / "blender_addon" / "descriptions.json"


def told() -> str:
    """What the core says, of its own representations."""
    ours = {kind.name for kind in representations.BUILT_IN}
    said = jobs.described()
    said["representations"] = [each for each in said["representations"] if each["name"] in ours]
    return json.dumps(said, indent=1) + "\n"


if __name__ == "__main__":
    FILE.write_text(told(), encoding="utf-8")
