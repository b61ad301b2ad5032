"""A stand-in for `python -m pullback.worker`: the same protocol, no torch, and every way to fail, chosen by the prompt.

"die at 3": killed once, at move 3 of 6 (a resumed run goes on). "hang": says nothing more. "deaf": cannot be cancelled.
"waiting": stays at move 2 for a minute, or until it is cancelled. "rubbish", "exit", "print". A prompt with "unicorn" in
it is refused. Anything else is made: a cube, or a 4 x 2 picture. Shapes have no field and cannot be resumed.
"""

from __future__ import annotations

import json
import os
import queue
import signal
import struct
import sys
import threading
import time
import zlib
from array import array
from pathlib import Path

out = sys.stdout.buffer
lock = threading.Lock()
jobs: queue.Queue = queue.Queue()
cancelled: set = set()
silent = threading.Event()


RED = [0.5, 0.1, 0.1]
"""What the cube says of its mean colour."""


def say(**message):
    with lock:
        out.write(json.dumps(message).encode() + b"\n")
        out.flush()


def log(text):
    sys.stderr.write(f"log: {text}\n")
    sys.stderr.flush()


def png(width, height, pixel):
    """A PNG whose pixels (x, y) are pixel(x, y) -> (r, g, b)."""
    rows = b"".join(b"\0" + bytes(c for x in range(width) for c in pixel(x, y)) for y in range(height))
    chunk = lambda kind, data: struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def glb(name, seed):
    """A cube of side 1 with 24 vertices, as pullback would write it."""
    corners, uv, index = array("f"), array("f"), array("I")
    for axis in range(3):
        for sign in (-0.5, 0.5):
            for u, v in ((0, 0), (1, 0), (1, 1), (0, 1)):
                place = [0.0, 0.0, 0.0]
                place[axis], place[(axis + 1) % 3], place[(axis + 2) % 3] = sign, u - 0.5, v - 0.5
                corners.extend(place)
                uv.extend((u, v))
            first = len(corners) // 3 - 4
            order = (0, 1, 2, 0, 2, 3) if sign > 0 else (0, 2, 1, 0, 3, 2)
            index.extend(first + i for i in order)
    image = png(8, 8, lambda x, y: (seed % 256, 30 * x, 30 * y))
    blobs = [corners.tobytes(), uv.tobytes(), index.tobytes(), image + bytes(-len(image) % 4)]
    starts = [sum(map(len, blobs[:i])) for i in range(4)]
    sizes = [*map(len, blobs[:3]), len(image)]
    description = {
        "asset": {"version": "2.0"},
        "meshes": [{"name": name, "primitives": [
            {"attributes": {"POSITION": 0, "TEXCOORD_0": 1}, "indices": 2, "material": 0}]}],
        "materials": [{"pbrMetallicRoughness": {"baseColorTexture": {"index": 0}}, "extras": {"mean_color": RED}}],
        "textures": [{"source": 0}], "images": [{"bufferView": 3, "mimeType": "image/png"}],
        "accessors": [{"bufferView": 0, "componentType": 5126, "count": 24, "type": "VEC3"},
                      {"bufferView": 1, "componentType": 5126, "count": 24, "type": "VEC2"},
                      {"bufferView": 2, "componentType": 5125, "count": 36, "type": "SCALAR"}],
        "bufferViews": [{"buffer": 0, "byteOffset": o, "byteLength": n} for o, n in zip(starts, sizes, strict=True)],
        "buffers": [{"byteLength": sum(map(len, blobs))}],
    }  # fmt: skip
    text = json.dumps(description).encode()
    text += b" " * (-len(text) % 4)
    data = b"".join(blobs)
    total = 12 + 8 + len(text) + 8 + len(data)
    return b"".join((struct.pack("<4sII", b"glTF", 2, total), struct.pack("<I4s", len(text), b"JSON"), text,
                     struct.pack("<I4s", len(data), b"BIN\0"), data))  # fmt: skip


def field(settings, model):
    text = {"format": "pullback-field-1", "prompt": settings["prompt"], "seed": str(settings["seed"]), "model": model}
    head = json.dumps({"__metadata__": text}).encode()
    return struct.pack("<Q", len(head)) + head


def work(job):
    settings = {"prompt": "", "seed": 0, **(job.get("settings") or {})}
    id, prompt, path, run = job["id"], settings["prompt"], Path(job["out"]), Path(job["out"] + ".run")
    log(f"{job['kind']} {prompt}")
    if "unicorn" in prompt:
        say(type="error", id=id, text="toybox cannot draw this", resumable=False)
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    first = int(run.read_text()) if job.get("resume") and run.exists() else 0
    for move in range(first + 1, 7):
        if id in cancelled and "deaf" not in prompt:
            say(type="cancelled", id=id, resumable=run.exists())
            return
        if job["kind"] != "shape":
            run.write_text(str(move))
        say(type="progress", id=id, stage="sampling", move=move, total=6, seconds_left=1.0, residual=0.1)
        if move == 3:
            misbehave(prompt, first)
        time.sleep(0.02 if not {"slow", "deaf"} & set(prompt.split()) else 0.5)
        if move == 2 and "waiting" in prompt and not first:  # long enough for a person, or xdotool, to do something
            for _ in range(600):
                time.sleep(0.1 if id not in cancelled else 0)
    finish(job, settings, path)
    run.unlink(missing_ok=True)


def misbehave(prompt, first):
    if "die" in prompt and not first:
        log("about to die")
        os.kill(os.getpid(), signal.SIGKILL)
    if "exit" in prompt:
        os._exit(3)
    if "hang" in prompt:
        silent.set()
        time.sleep(600)
    if "pause" in prompt:
        silent.set()
        time.sleep(1.5)
        silent.clear()
    if "rubbish" in prompt:
        with lock:
            out.write(b"Traceback: this is no JSON\n")
            out.flush()
        time.sleep(600)


def finish(job, settings, path):
    files = {}
    if job["kind"] != "shape":
        files["field"] = job["out"] + ".field.safetensors"
        Path(files["field"]).write_bytes(field(settings, job["options"].get("model") or "toybox"))
    if path.suffix == ".glb":
        path.write_bytes(glb(settings["prompt"], settings["seed"]))
        files["mesh"] = str(path)
    else:
        path.write_bytes(png(4, 2, lambda x, y: (60 * x, 100 * y, settings["seed"] % 256)))
        files["picture"] = str(path)
    say(type="done", id=job["id"], files=files)


def listen():
    for line in sys.stdin.buffer:
        message = json.loads(line)
        if message["type"] == "job":
            jobs.put(message)
        elif message["type"] == "cancel":
            cancelled.add(message["id"])
    os._exit(0)


def beat():
    while True:
        time.sleep(0.2)
        if not silent.is_set():
            say(type="heartbeat")


say(
    type="hello",
    protocol=int(os.environ.get("STAND_IN_PROTOCOL", "1")),
    pullback="stand-in",
    python="3",
    pid=os.getpid(),
)
threading.Thread(target=listen, daemon=True).start()
threading.Thread(target=beat, daemon=True).start()
known = os.environ.get("STAND_IN_REPRESENTATIONS")
say(type="ready", torch="none", devices=["cpu"], **({"representations": json.loads(known)} if known else {}))
while True:
    work(jobs.get())
