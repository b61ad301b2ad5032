"""Does the memory of a ComfyUI server stay the same over a hundred prompts?

    PYTHONPATH=tests python benchmarks/comfy_memory.py [--prompts 100]

Every prompt has its own seed, so that nothing comes from the cache. Memory is the server's resident set between prompts. After
the last prompt, it should be at most 1.05 times that after the fifth.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path

from comfyui import ROOT, Server, quick

WORKFLOWS = ("Text to NeRF", "Panorama", "SIREN image at 8K", "Same noise in KSampler and Field Sampler")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--prompts", type=int, default=100)
    parser.add_argument("--workflow", choices=WORKFLOWS, default=WORKFLOWS[0])
    given = parser.parse_args()
    saved = json.loads((ROOT / "workflows" / "api" / f"{given.workflow}.json").read_text(encoding="utf-8"))
    sizes = []
    with tempfile.TemporaryDirectory() as base, Server(Path(base)) as server:
        for number in range(given.prompts):
            graph = quick(saved)
            for node in graph.values():
                for name in {"seed", "noise_seed"} & node["inputs"].keys():
                    node["inputs"][name] = number
            run = server.run(graph)
            if not run.ok:
                raise SystemExit(f"prompt {number + 1}: {run.error}")
            sizes.append(server.memory())
            if number < 5 or number % 10 == 9:
                print(f"after {number + 1:3} prompts: {sizes[-1] / 2**20:6.0f} MiB", flush=True)
    if len(sizes) >= 5:
        print(f"after the last prompt, divided by after the fifth: {sizes[-1] / sizes[4]:.3f} (should be at most 1.05)")


if __name__ == "__main__":
    main()
