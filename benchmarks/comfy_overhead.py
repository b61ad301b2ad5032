"""Overhead: the time of Field Sampler with a SIREN, compared with SamplerCustomAdvanced for the same evaluations of one MODEL.

Needs ComfyUI (COMFYUI_PATH or ~/ComfyUI). The model is toybox, slowed down so that each evaluation takes at least `--seconds`: a
stand-in for a large model. The samplers run one after the other in the same process, and the ratio of their times is printed.
Processor time is printed as well: on a busy machine, it tells what the ratio would be on an idle one.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

sys.path.append(str(Path(__file__).parents[1] / "tests"))
from comfy_pack import REASON, comfyui, part


def slowed(model: Any, seconds: float) -> Any:
    """Slow a model down, so that each of its evaluations takes at least `seconds`."""

    def wait(apply: Callable[..., Any], args: dict[str, Any]) -> Any:
        until = time.perf_counter() + seconds
        out = apply(args["input"], args["timestep"], **args["c"])
        time.sleep(max(0.0, until - time.perf_counter()))
        return out

    model.set_model_unet_function_wrapper(wait)
    return model


Times = tuple[float, float]
"""Elapsed seconds, and seconds of processor time."""


def compared(seconds: float, neurons: int, steps: int) -> tuple[Times, Times]:
    """Return the times of SamplerCustomAdvanced and of Field Sampler, for a MODEL that takes `seconds` to evaluate."""
    import comfy.samplers

    host, plans, sockets = (part(f"comfy_nodes.{name}") for name in ("host", "plans", "sockets"))
    model, clip, _ = part("comfy_nodes.builtin").load()
    words = clip.encode_from_tokens_scheduled(clip.tokenize("a red mushroom"))
    guider = comfy.samplers.CFGGuider(slowed(model, seconds))
    guider.set_conds(words, words)  # at cfg 1: one evaluation per step
    sigmas = comfy.samplers.calculate_sigmas(model.get_model_object("model_sampling"), "karras", steps)
    noise, latent, euler = host.Seeded(0), torch.zeros(1, 4, 64, 64), comfy.samplers.sampler_object("euler")
    field = sockets.FieldValue(plans.Image(neurons=neurons))
    theirs = timed(lambda: guider.sample(noise.generate_noise({"samples": latent}), latent, euler, sigmas, seed=0))
    ours = timed(lambda: host.run(host.Sampling(), noise, guider, sigmas, field, 0, True, {}, None))
    return theirs, ours


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, nargs="+", default=[0.5, 2.0])
    parser.add_argument("--neurons", type=int, nargs="+", default=[256, 128])
    parser.add_argument("--steps", type=int, default=30)
    asked = parser.parse_args()
    if comfyui() is None:
        sys.exit(REASON)
    print("| seconds per evaluation | neurons | SamplerCustomAdvanced (CPU) | Field Sampler (CPU) | ratio |")
    print("| --- | --- | --- | --- | --- |")
    for seconds in asked.seconds:
        for neurons in asked.neurons:
            theirs, ours = compared(seconds, neurons, asked.steps)
            cells = " | ".join(f"{wall:.1f} s ({busy:.1f} s)" for wall, busy in (theirs, ours))
            print(f"| {seconds:g} | {neurons} | {cells} | {ours[0] / theirs[0]:.2f} |", flush=True)


def timed(work: Callable[[], Any]) -> Times:
    """Return the times that `work` takes in inference mode, in which ComfyUI runs nodes."""
    wall, busy = time.perf_counter(), time.process_time()
    with torch.inference_mode():
        work()
    return time.perf_counter() - wall, time.process_time() - busy


if __name__ == "__main__":
    main()
