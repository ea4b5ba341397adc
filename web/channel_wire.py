"""A WebSocket connection of uvicorn that lets a hub write frames made once, sees when it is full, and can be cut.

Give the class to the server: `uvicorn.Config(app, ws=Wire)`. An application finds its connection in the ASGI scope by
`wire_of(scope)`.
"""

import socket
from collections.abc import Callable, MutableMapping
from typing import Any

from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.frames import Frame, Opcode

from engine.errors import EnvironmentFault

EXTENSION = "millstream.wire"
LARGEST = 64 << 10
CUT_GRACE = 5.0
UNSENT = 128 << 10


def text_frame(payload: bytes) -> bytes:
    """Return a server's text frame of UTF-8 bytes (RFC 6455)."""
    return Frame(Opcode.TEXT, payload).serialize(mask=False)


class Wire(WebSocketsSansIOProtocol):
    """uvicorn's WebSocket protocol with a way in for broadcasts; applications that send through ASGI notice nothing."""

    on_room: Callable[[], None] | None = None
    on_change: Callable[[], None] | None = None
    _closing = False

    def connection_made(self, transport: Any) -> None:
        """Offer no compression (a frame is the same for all); keep the kernel from holding megabytes of old news."""
        super().connection_made(transport)
        self.conn.available_extensions = []
        sock = transport.get_extra_info("socket")
        if sock is not None and hasattr(socket, "TCP_NOTSENT_LOWAT") and sock.family != socket.AF_UNIX:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, UNSENT)

    async def run_asgi(self) -> None:
        """Run the application with this connection in its scope."""
        extensions: MutableMapping[str, Any] = self.scope.setdefault("extensions", {})
        extensions[EXTENSION] = self
        await super().run_asgi()

    def limit(self, size: int) -> None:
        """Refuse messages of the client that are larger than `size` bytes (close code 1009)."""
        self.conn.max_size = size

    @property
    def close_sent(self) -> bool:
        """Tell whether nothing may be written any more; the library sets it."""
        return self._closing

    @close_sent.setter
    def close_sent(self, closing: bool) -> None:
        self._closing = closing
        if closing:
            self._tell()

    @property
    def direct(self) -> Callable[[bytes], object] | None:
        """Return what writes whole frames, for as long as `on_change` is not called; None: not now."""
        opened = self.handshake_complete and not self._closing and not self.transport.is_closing()
        return self.transport.write if opened and self.has_room else None

    def _tell(self) -> None:
        if self.on_change is not None:
            self.on_change()

    def connection_lost(self, exc: Exception | None) -> None:
        """Let nobody write any more."""
        super().connection_lost(exc)
        self._tell()

    def pause_writing(self) -> None:
        """Tell that there is no room."""
        super().pause_writing()
        self._tell()

    @property
    def has_room(self) -> bool:
        """Tell whether a frame can be written now without piling up."""
        return self.writable.is_set()

    def write_frame(self, frame: bytes) -> None:
        """Write a whole frame; on a connection that is closing it is dropped."""
        if self.handshake_complete and not self.close_sent and not self.transport.is_closing():
            self.transport.write(frame)

    def resume_writing(self) -> None:
        """Tell who waits that there is room again."""
        super().resume_writing()
        if self.on_room is not None:
            self.on_room()

    def cut(self, code: int, reason: str) -> None:
        """Close, whether the client reads or not: what it has not taken in 5 s is thrown away."""
        if self.close_sent or self.disconnected or self.transport.is_closing():
            return
        self.stop_keepalive()
        self.queue.put_nowait({"type": "websocket.disconnect", "code": code, "reason": reason})
        self.conn.send_close(code, reason)
        self.transport.write(b"".join(self.conn.data_to_send()))
        self.close_sent = True
        if self.read_paused:
            self.read_paused = False
            self.transport.resume_reading()
        self.close_timer = self.loop.call_later(CUT_GRACE, self.transport.abort)

    def keepalive_timeout(self) -> None:
        """End a connection whose client does not answer, even when its buffers are full."""
        super().keepalive_timeout()
        self.loop.call_later(CUT_GRACE, self.transport.abort)


def wire_of(scope: MutableMapping[str, Any]) -> Wire:
    """Return the connection behind an ASGI scope; raises EnvironmentFault under a server without it."""
    wire = scope.get("extensions", {}).get(EXTENSION)
    if not isinstance(wire, Wire):
        raise EnvironmentFault("live channels need the server to run with ws=web.channel_wire.Wire")
    return wire
