"""A WebSocket client that costs next to nothing, so that a thousand of them fit beside what they listen to."""

from __future__ import annotations

import asyncio
import base64
import os
import socket
from collections.abc import Callable

TEXT, CLOSE, PING, PONG = 1, 8, 9, 10


class Listening(asyncio.Protocol):
    """One connection (RFC 6455): hands every text frame to `on_text`; `lost` is set when it ends."""

    def __init__(self, host: str, port: int, path: str, on_text: Callable[[bytes], None]) -> None:
        self._request = (
            f"GET {path} HTTP/1.1\r\nHost: {host}:{port}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            f"Sec-WebSocket-Key: {base64.b64encode(os.urandom(16)).decode()}\r\nSec-WebSocket-Version: 13\r\n\r\n"
        )
        self._on_text, self._buffer = on_text, b""
        self.open: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self.lost: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        transport.write(self._request.encode())

    def connection_lost(self, _why: Exception | None) -> None:
        if not self.open.done():
            self.open.set_result(False)
        if not self.lost.done():
            self.lost.set_result(None)

    def data_received(self, data: bytes) -> None:
        buffer = self._buffer + data if self._buffer else data
        if not self.open.done():
            head, end, buffer = buffer.partition(b"\r\n\r\n")
            if not end:
                self._buffer = head
                return
            self.open.set_result(b" 101 " in head[:20])
        self._buffer = self._frames(buffer)

    def _frames(self, buffer: bytes) -> bytes:
        """Take the whole frames from a buffer and return the rest; a server's frames are not masked."""
        at, size = 0, len(buffer)
        while size - at >= 2:
            length, begin = buffer[at + 1] & 0x7F, at + 2
            if length >= 126:
                wide = 2 if length == 126 else 8
                if size - begin < wide:
                    break
                length, begin = int.from_bytes(buffer[begin : begin + wide], "big"), begin + wide
            if size - begin < length:
                break
            self._frame(buffer[at] & 0x0F, buffer[begin : begin + length])
            at = begin + length
        return buffer[at:]

    def _frame(self, kind: int, payload: bytes) -> None:
        if kind == TEXT:
            self._on_text(payload)
        elif kind == PING:
            self.transport.write(bytes([0x80 | PONG, 0x80 | len(payload), 0, 0, 0, 0]) + payload)
        elif kind == CLOSE:
            self.transport.close()


async def listen(
    host: str, port: int, path: str, on_text: Callable[[bytes], None], receive_buffer: int = 0
) -> Listening | None:
    """Connect and return the connection, or None when nobody lets us in."""
    loop = asyncio.get_running_loop()
    sock = socket.socket()
    sock.setblocking(False)
    if receive_buffer:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
    try:
        await asyncio.wait_for(loop.sock_connect(sock, (host, port)), 10)
        _, found = await loop.create_connection(lambda: Listening(host, port, path, on_text), sock=sock)
        if await asyncio.wait_for(found.open, 10):
            return found
        found.transport.abort()
    except (OSError, TimeoutError):
        sock.close()
    return None
