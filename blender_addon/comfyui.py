"""Requests to ComfyUI's web interface. Every failure becomes a `Complaint`. Standard library only."""

from __future__ import annotations

import http.client
import json
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path
from typing import Any

from .complaint import Complaint

ANSWER = 4.0
"""Seconds within which a working server answers."""
LARGEST = 1 << 30
"""The size of the largest file that is downloaded, in bytes."""


def require_nodes(address: str) -> None:
    """Raise Complaint if a server does not have pullback's nodes."""
    if "PullbackFieldSampler" not in get(address, "/object_info/PullbackFieldSampler"):
        text = "the ComfyUI at {address} does not have Pullback's nodes: install them there and restart it"
        raise Complaint(text, address=address)


def submit(address: str, workflow: dict[str, Any], client: str) -> str:
    """Queue a workflow and return its id. Raise Complaint with the server's reasons if it refuses the workflow."""
    body = json.dumps({"prompt": workflow, "client_id": client}).encode()
    return json.loads(request(address, "/prompt", body, "application/json"))["prompt_id"]


def interrupt(address: str, prompt: str) -> None:
    """Remove a workflow from the server's queue, or stop it if it is running. Other workflows are not affected."""
    try:
        running = [entry[1] for entry in get(address, "/queue").get("queue_running", [])]
        request(address, "/queue", json.dumps({"delete": [prompt]}).encode(), "application/json")
        if prompt in running:
            request(address, "/interrupt", json.dumps({"prompt_id": prompt}).encode(), "application/json")
    except (ValueError, LookupError, TypeError):
        pass  # the server does not answer, so there is nothing to interrupt


def download(address: str, found: dict[str, Any], to: Path) -> str:
    """Download a file named by a workflow's outputs to `to`, and return its path."""
    query = urllib.parse.urlencode({k: found.get(k, "") for k in ("filename", "subfolder", "type")})
    data = request(address, f"/view?{query}", None, "", 60.0)
    part = to.with_name(to.name + ".part")
    part.write_bytes(data)
    part.replace(to)
    return str(to)


def get(address: str, path: str, timeout: float = ANSWER) -> dict[str, Any]:
    """Return the JSON object at a path. Raise Complaint if there is none."""
    answer = json.loads(request(address, path, None, "", timeout))
    if not isinstance(answer, dict):
        raise Complaint("{address} does not answer like a ComfyUI server", address=address)
    return answer


def request(address: str, path: str, body: bytes | None, kind: str, timeout: float = ANSWER) -> bytes:
    """Send a GET request, or a POST request if there is a `body`, and return the answer's body. Raise Complaint on failure."""
    asked = urllib.request.Request(base(address) + path, body, {"Content-Type": kind} if kind else {})
    try:
        with urllib.request.urlopen(asked, timeout=timeout) as answer:
            data = answer.read(LARGEST + 1)
    except urllib.error.HTTPError as error:
        raise _complaint(error, address) from error
    except (OSError, http.client.HTTPException) as error:
        reason = getattr(error, "reason", error)
        text = "no ComfyUI answers at {address} ({reason}): start it, or correct the address"
        raise Complaint(text, address=address, reason=reason) from error
    if len(data) > LARGEST:
        raise Complaint("{address} sent a file of more than {size} MB", address=address, size=LARGEST >> 20)
    return data


def base(address: str) -> str:
    """Return a complete address without a slash at its end. Raise Complaint if it is not an address."""
    parts = urllib.parse.urlsplit(address if "://" in address else f"http://{address}")
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise Complaint(
            "{address!r} is not the address of a server; one looks like http://127.0.0.1:8188", address=address
        )
    return f"{parts.scheme}://{parts.netloc}{parts.path.rstrip('/')}"


def _complaint(error: urllib.error.HTTPError, address: str) -> Complaint:
    """Return the server's reasons for an error, read from its JSON answer if there is one."""
    try:
        answer = json.loads(error.read(1 << 20))
        nodes = answer.get("node_errors") or {}
        details = [
            f"{one['class_type']}: {e['message']} {e.get('details', '')}"
            for one in nodes.values()
            for e in one["errors"]
        ]
        if details or "error" in answer:
            reason = "; ".join(details or [str(answer["error"].get("message", ""))])
            return Complaint("the server refused the workflow: {reason}", reason=reason)
    except (ValueError, LookupError, TypeError, AttributeError):
        pass
    text = "{address} answered {code} {reason}: is it a ComfyUI?"
    return Complaint(text, address=address, code=error.code, reason=error.reason)
