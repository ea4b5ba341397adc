"""The Socket.IO server as we run it: bounded queues, text only, and no packet that can harm it."""

import asyncio
import logging
from collections.abc import Callable, MutableMapping
from typing import Any

import engineio  # type: ignore[import-untyped]  # carries no types
import msgspec
import socketio

from web.channel_wire import LARGEST, Wire, wire_of

_BROKEN = (ValueError, TypeError, LookupError, AttributeError, RecursionError)
_quiet = logging.getLogger("millstream.socketio")
_quiet.setLevel(logging.CRITICAL)  # the library logs a traceback for each broken packet that a stranger sends


class PacketQueue(asyncio.Queue[Any]):
    """A client's queue that tells when it runs empty."""

    def _init(self, maxsize: int) -> None:
        super()._init(maxsize)
        self.on_empty: dict[object, Callable[[], None]] = {}

    def _get(self) -> Any:
        item = super()._get()
        if self.empty():
            for call in self.on_empty.values():
                asyncio.get_running_loop().call_soon(call)
        return item


class Json:
    """JSON for the library: what nests too deep is a ValueError like anything else that is broken."""

    @staticmethod
    def dumps(value: Any, **_: Any) -> str:
        """Return JSON text."""
        return msgspec.json.encode(value).decode()

    @staticmethod
    def loads(text: str | bytes) -> Any:
        """Return the value of JSON text; raises ValueError."""
        try:
            return msgspec.json.decode(text)
        except (msgspec.DecodeError, RecursionError) as fault:
            raise ValueError(str(fault)) from fault


class TextPacket(socketio.packet.Packet):  # type: ignore[misc]
    """A Socket.IO packet without attachments: the library would gather any number of them in memory."""

    def decode(self, encoded_packet: Any) -> int:
        """Read a packet; raises ValueError on a binary one."""
        if super().decode(encoded_packet):
            raise ValueError("binary packets are not taken")
        return 0


class EngineServer(engineio.AsyncServer):  # type: ignore[misc]
    """Engine.IO with our queues."""

    def create_queue(self, *_: Any, **__: Any) -> PacketQueue:
        """Return a new client's queue."""
        return PacketQueue()

    async def disconnect(self, sid: str | None = None) -> None:
        """End a session; the library would wait until the client has taken its queue, which some never do."""
        for name in [sid] if sid else list(self.sockets):
            connection = self.sockets.pop(name, None)
            if connection is not None:
                await connection.close(wait=False, reason=self.reason.SERVER_DISCONNECT)


class SocketServer(socketio.AsyncServer):  # type: ignore[misc]
    """python-socketio with our engine; knows the WebSocket under each client, and cuts who sends broken packets."""

    def __init__(self, origin_allowed: Callable[[str, dict[str, Any]], bool]) -> None:
        self.wires: dict[str, Wire] = {}
        self._cutting: set[asyncio.Task[None]] = set()
        super().__init__(
            async_mode="asgi", async_handlers=False, namespaces="*", serializer=TextPacket, json=Json, logger=_quiet,
            engineio_logger=_quiet, max_http_buffer_size=LARGEST, cors_allowed_origins=origin_allowed,
        )  # fmt: skip

    def _engineio_server_class(self) -> type[EngineServer]:
        return EngineServer

    async def _handle_eio_connect(self, eio_sid: str, environ: dict[str, Any]) -> None:
        self.adopt(eio_sid, environ["asgi.scope"])
        await super()._handle_eio_connect(eio_sid, environ)

    async def _handle_eio_message(self, eio_sid: str, data: Any) -> None:
        try:
            await super()._handle_eio_message(eio_sid, data)
        except _BROKEN:
            self.cut(eio_sid, 1008, "broken packet")

    async def _handle_eio_disconnect(self, eio_sid: str, reason: str) -> None:
        self.wires.pop(eio_sid, None)
        await super()._handle_eio_disconnect(eio_sid, reason)
        connection = self.eio.sockets.get(eio_sid)
        if connection is not None:
            connection.queue.put_nowait(None)  # else a poll that waits now would wait 45 s more

    def adopt(self, eio_sid: str, scope: MutableMapping[str, Any]) -> None:
        """Remember the WebSocket that a client connects or upgrades with."""
        if scope["type"] == "websocket" and eio_sid in self.eio.sockets:
            wire = self.wires[eio_sid] = wire_of(scope)
            wire.limit(LARGEST)

    def forget(self, wire: Wire) -> None:
        """End the session whose WebSocket broke off by an error."""
        for eio_sid in [sid for sid, own in self.wires.items() if own is wire]:
            self.cut(eio_sid, 1008, "broken packet")

    def cut(self, eio_sid: str, code: int, reason: str) -> None:
        """End a client's session at once, whether it reads or not; its own library then connects again."""
        wire = self.wires.pop(eio_sid, None)
        task = asyncio.get_running_loop().create_task(self._end(eio_sid, wire, code, reason))
        self._cutting.add(task)
        task.add_done_callback(self._cutting.discard)

    async def _end(self, eio_sid: str, wire: Wire | None, code: int, reason: str) -> None:
        connection = self.eio.sockets.get(eio_sid)
        if connection is not None:
            await connection.close(wait=False, abort=True, reason=self.reason.SERVER_DISCONNECT)
            self.eio.sockets.pop(eio_sid, None)
        if wire is not None:
            wire.cut(code, reason)
