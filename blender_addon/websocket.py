"""WebSocket: reads messages from a server. The part of RFC 6455 that ComfyUI uses. Standard library only."""

from __future__ import annotations

import base64
import hashlib
import os
import socket
import ssl
import struct
from urllib.parse import urlsplit

CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0x0, 0x1, 0x2, 0x8, 0x9, 0xA
LARGEST = 64 << 20
"""The length of the longest message that is accepted, in bytes."""


class Socket:
    """One connection. The methods raise OSError (ConnectionError, TimeoutError) if it fails."""

    def __init__(self, address: str, timeout: float = 10.0) -> None:
        parts = urlsplit(address)
        secure = parts.scheme in ("https", "wss")
        port = parts.port or (443 if secure else 80)
        self._socket = socket.create_connection((parts.hostname or "", port), timeout)
        if secure:
            self._socket = ssl.create_default_context().wrap_socket(self._socket, server_hostname=parts.hostname)
        self._buffer = b""
        key = base64.b64encode(os.urandom(16)).decode()
        path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        self._socket.sendall(
            f"GET {path} HTTP/1.1\r\nHost: {parts.hostname}:{port}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            f"Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n\r\n".encode()
        )
        head = self._until(b"\r\n\r\n").decode("latin-1")
        accept = base64.b64encode(hashlib.sha1((key + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11").encode()).digest())
        if " 101 " not in head.split("\r\n")[0] + " " or accept.decode() not in head:
            self.close()
            raise ConnectionError(f"the server did not open a websocket: {head.splitlines()[0][:100]}")

    def receive(self, timeout: float) -> tuple[int, bytes] | None:
        """Return TEXT or BINARY and the payload of the next message, or None if there is none within `timeout` seconds."""
        kind, message = 0, b""
        while True:
            self._socket.settimeout(timeout)
            try:
                self._fill(2)
            except TimeoutError:
                if kind:
                    raise ConnectionError("the server stopped in the middle of a message") from None
                return None
            self._socket.settimeout(10.0)
            first, second = self._exactly(2)
            length = second & 0x7F
            if length > 125:
                length = struct.unpack(*((">H", self._exactly(2)) if length == 126 else (">Q", self._exactly(8))))[0]
            if length + len(message) > LARGEST:
                raise ConnectionError(f"the server sent a message of {length} bytes")
            mask = self._exactly(4) if second & 0x80 else b""
            payload = self._exactly(length)
            if mask:
                payload = _masked(payload, mask)
            opcode = first & 0x0F
            if opcode == CLOSE:
                raise ConnectionError("the server closed the connection")
            if opcode == PING:
                self._send(PONG, payload)
            elif opcode in (TEXT, BINARY, CONTINUATION):
                kind, message = kind or opcode, message + payload
                if first & 0x80:
                    return kind, message

    def _send(self, opcode: int, payload: bytes) -> None:
        """Send a masked frame with at most 125 bytes of the payload."""
        mask = os.urandom(4)
        self._socket.sendall(
            bytes([0x80 | opcode, 0x80 | min(125, len(payload))]) + mask + _masked(payload[:125], mask)
        )

    def _fill(self, count: int) -> None:
        while len(self._buffer) < count:
            more = self._socket.recv(1 << 16)
            if not more:
                raise ConnectionError("the server closed the connection")
            self._buffer += more

    def _exactly(self, count: int) -> bytes:
        self._fill(count)
        taken, self._buffer = self._buffer[:count], self._buffer[count:]
        return taken

    def _until(self, end: bytes) -> bytes:
        while end not in self._buffer:
            self._fill(len(self._buffer) + 1)
        taken, _, self._buffer = self._buffer.partition(end)
        return taken

    def close(self) -> None:
        """Close the connection without waiting for the server's close frame."""
        self._socket.close()


def _masked(payload: bytes, mask: bytes) -> bytes:
    return bytes(byte ^ mask[i % 4] for i, byte in enumerate(payload))
