"""Backend: the worker or the ComfyUI server that runs a job. Each is created when the first job needs it."""

import bpy
from bpy.app.translations import pgettext_rpt as translate

from . import preferences, server
from .job import Job
from .server import Server
from .worker import Worker

_worker: Worker | None = None
_server: Server | None = None


def of(job: Job) -> Worker | Server | None:
    """Return the backend of a job, or None if there is no Python to run a worker in."""
    global _worker, _server
    if job.on_server:
        if _server is None or (_server.address != server_address() and not job.sent):
            _server = Server(server_address(), translate)
        return _server
    if _worker is not None and job.sent:
        return _worker
    python = preferences.interpreter()
    if python is None:
        return None
    if _worker is None or _worker.python != str(python):
        stop_worker()
        _worker = Worker(str(python), f"blender {bpy.app.version_string}", translate)
    return _worker


def server_address() -> str:
    """Return the address of the ComfyUI server."""
    page = preferences.get()
    return page.server if page else "http://127.0.0.1:8188"


def barred(address: str) -> str:
    """Return why a server must not be contacted, or "". Other machines need the user's consent: Allow Online Access."""
    if bpy.app.online_access or server.local(address):
        return ""
    text = translate("The ComfyUI server {address} is on another machine: switch on Allow Online Access in the preferences, "
                "under System")  # fmt: skip
    return text.format(address=address)


def has_worker() -> bool:
    """Return whether there is a worker, busy or idle."""
    return _worker is not None


def stop_worker() -> None:
    """End the worker, if there is one."""
    global _worker
    if _worker is not None:
        _worker.stop()
        _worker = None


def stop() -> None:
    """Stop the worker and the server's jobs."""
    stop_worker()
    stop_server()


def stop_server() -> None:
    """Interrupt our jobs on the server and disconnect from it."""
    global _server
    if _server is not None:
        _server.stop()
        _server = None
