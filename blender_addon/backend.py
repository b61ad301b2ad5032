"""Backend: who does the work of a job: the worker, or the ComfyUI server. Each is made when there is something to do."""

import bpy
from bpy.app.translations import pgettext_rpt as translate

from . import preferences, server
from .job import Job
from .server import Server
from .worker import Worker

_worker: Worker | None = None
_server: Server | None = None


def of(job: Job) -> Worker | Server | None:
    """The one that a job goes to; None where there is no Python to run a worker in."""
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
    """Where the ComfyUI server is."""
    mine = preferences.get()
    return mine.server if mine else "http://127.0.0.1:8188"


def barred(address: str) -> str:
    """Why a server must not be asked now, or nothing: whether anything leaves this machine is Blender's user's say."""
    if bpy.app.online_access or server.local(address):
        return ""
    text = translate("The ComfyUI server {address} is on another machine: switch on Allow Online Access in the preferences, "
                "under System")  # fmt: skip
    return text.format(address=address)


def has_worker() -> bool:
    """Whether there is a worker, at work or not."""
    return _worker is not None


def stop_worker() -> None:
    """End the worker, if there is one."""
    global _worker
    if _worker is not None:
        _worker.stop()
        _worker = None


def stop() -> None:
    """End the worker and let go of the server."""
    stop_worker()
    stop_server()


def stop_server() -> None:
    """Let go of the server: what it does for us is interrupted."""
    global _server
    if _server is not None:
        _server.stop()
        _server = None
