"""Live channels over Socket.IO: the same events with the same data, for an unmodified `socket.io-client`."""

import asyncio
from collections.abc import Callable, Collection
from typing import Any, NamedTuple
from urllib.parse import parse_qs

import engineio  # type: ignore[import-untyped]  # carries no types
import msgspec
import socketio
from starlette.requests import HTTPConnection
from starlette.routing import Mount
from starlette.types import Receive, Scope, Send
from starlette.websockets import WebSocket

from engine.channels import ROLES
from engine.refusal import Refusal, busy
from web.channel import Channel
from web.channel_backlog import Backlog
from web.channel_engineio import PacketQueue, SocketServer
from web.channel_entry import Account, Doorkeeper, Guard, close_code, reaches, room_fits, same_origin
from web.channel_inlet import FrameFault, Inlet, Place
from web.channel_message import TOO_SLOW, Message, Write, error_message, nothing
from web.channel_room import Listener
from web.channel_websocket import POLICY, RECHECK, Hubs
from web.channel_wire import wire_of
from web.errors import error_answer

QUEUED = 32
MOST_CLIENTS = 5_000


class PacketClient:
    """One Socket.IO client in one channel: a few packets in the library's queue, the rest in a bounded backlog."""

    def __init__(self, server: SocketServer, eio_sid: str, namespace: str, channel: Channel) -> None:
        self._server, self._eio_sid, self._namespace, self._channel = server, eio_sid, namespace, channel
        self._queue: PacketQueue = server.eio.sockets[eio_sid].queue
        self._queue.on_empty[self] = self._drain
        self.on_change: Callable[[], None] = nothing
        self._backlog = Backlog()

    def send(self, message: Message) -> None:
        """Queue the message's packet, or hold it back; a client that cannot keep up is cut."""
        if self._queue.qsize() < QUEUED and not self._backlog:
            self._put(message)
        elif not self._backlog.add(message):
            self._channel.counts["cut"] += 1
            self.cut(TOO_SLOW, "too slow")

    @property
    def waiting(self) -> tuple[int, float]:
        """Return how many messages are held back, and how full (0 to 1) that is."""
        return len(self._backlog), self._backlog.fill

    @property
    def direct(self) -> Write | None:
        """Return None: each packet goes through the library."""
        return None

    def cut(self, code: int, reason: str) -> None:
        """End the client's connection with all its channels."""
        self.close()
        self._server.cut(self._eio_sid, code, reason)

    def close(self) -> None:
        """Forget what was held back."""
        self._queue.on_empty.pop(self, None)
        self._backlog.clear()

    def _put(self, message: Message) -> None:
        self._queue.put_nowait(message.form(self._namespace, self._packet))

    def _packet(self, message: Message) -> engineio.packet.Packet:
        namespace = "" if self._namespace == "/" else self._namespace + ","
        event = msgspec.json.encode(message.event).decode()
        return engineio.packet.Packet(engineio.packet.MESSAGE, f"2{namespace}[{event},{message.body.decode()}]")

    def _drain(self) -> None:
        while self._backlog and self._queue.qsize() < QUEUED:
            self._put(self._backlog.take())
        self._channel.counts["conflated"] += self._backlog.conflated
        self._backlog.conflated = 0


class _Visitor(NamedTuple):
    """Who connects: the request, and what the client put into `auth`; the room may stand in the URL too."""

    connection: HTTPConnection
    token: str | None
    asked: str | None

    @property
    def room(self) -> str:
        return self.asked or self.connection.query_params.get("room", "")


class _Membership:
    """What a connected client has: its listeners, and a way in for what it sends."""

    def __init__(self) -> None:
        self.inlets: list[Inlet] = []
        self.clients: list[PacketClient] = []
        self.listeners: list[tuple[Channel, Listener]] = []
        self.task: asyncio.Task[None] | None = None

    async def take(self, text: str) -> None:
        """Hand a text to the first channel that takes what clients send; raises FrameFault."""
        for inlet in self.inlets[:-1]:
            try:
                await inlet.take(text)
            except FrameFault as fault:
                if fault.code != "not_taken":
                    raise
            else:
                return
        await self.inlets[-1].take(text)

    def end(self) -> None:
        """Leave every channel."""
        if self.task is not None:
            self.task.cancel()
        for client in self.clients:
            client.close()
        for channel, listener in self.listeners:
            channel.leave(listener)


class SocketIo:
    """Serve the channels of all hubs that have a Socket.IO namespace, at `/socket.io`."""

    def __init__(self, hubs: Hubs, guard: Guard, origins: Collection[str] = ()) -> None:
        self._hubs, self._door = hubs, Doorkeeper(guard)
        self._members: dict[str, _Membership] = {}
        self.server = SocketServer(lambda origin, environ: same_origin(origin, environ.get("HTTP_HOST"), origins))
        self.server.on("connect", self._connect, namespace="*")
        self.server.on("disconnect", self._disconnect, namespace="*")
        self.server.on("*", self._event, namespace="*")
        self._app = socketio.ASGIApp(self.server, socketio_path=None)

    def route(self) -> Mount:
        """Return the route for the application."""
        return Mount("/socket.io", app=self)

    async def close(self) -> None:
        """Stop the library's own task; call it when the application ends."""
        await self.server.shutdown()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request or WebSocket of the protocol."""
        query = parse_qs(scope.get("query_string", b"").decode("latin-1"))
        if "j" in query:  # JSONP would let any page on the web read an open channel
            await _turn_away(scope, receive, send, Refusal(400, "jsonp", "JSONP is not served"))
            return
        if "sid" in query:
            self.server.adopt(query["sid"][0], scope)
        elif len(self.server.eio.sockets) >= MOST_CLIENTS:
            await _turn_away(scope, receive, send, busy("too many clients", 10))
            return
        try:
            await self._app(scope, receive, send)
        except (ValueError, TypeError, LookupError, RecursionError):
            if scope["type"] != "websocket":
                raise
            self.server.forget(wire_of(scope))

    async def _connect(self, namespace: str, sid: str, environ: dict[str, Any], auth: Any) -> None:
        offered = auth if isinstance(auth, dict) else {}
        visitor = _Visitor(HTTPConnection(environ["asgi.scope"]), _text(offered, "token"), _text(offered, "room"))
        try:
            places, account = await self._admit(namespace, visitor)
        except Refusal as reason:
            raise socketio.exceptions.ConnectionRefusedError(reason.message, {"code": reason.code}) from reason
        member = self._members[sid] = _Membership()
        attend = self._attend(member, namespace, sid, places, account, visitor)
        member.task = asyncio.get_running_loop().create_task(attend)

    async def _admit(self, namespace: str, visitor: "_Visitor") -> tuple[list[Place], Account | None]:
        """Return the channels of a namespace that a visitor may listen to; raises Refusal when there is none."""
        here = [(hub, c) for hub in self._hubs() for c in hub.channels.values() if c.spec.namespace == namespace]
        fitting = [Place(hub, c, visitor.room) for hub, c in here if not c.spec.parameter or room_fits(visitor.room)]
        if not fitting:
            raise Refusal(404, "not_found", "no channel here, or no such room")
        lowest = min((place.channel.spec.listens for place in fitting), key=ROLES.index)
        account = await self._door.admit(visitor.connection, lowest, visitor.token)
        return [place for place in fitting if reaches(account, place.channel.spec.listens)], account

    async def _attend(
        self, member: "_Membership", namespace: str, sid: str, places: list[Place], account: Account | None,
        visitor: "_Visitor",
    ) -> None:  # fmt: skip
        """Join the channels once the library has told the client that it is connected; then watch over its token."""
        eio_sid = self.server.manager.eio_sid_from_sid(sid, namespace)
        for place in places:
            if eio_sid not in self.server.eio.sockets:
                return
            client = PacketClient(self.server, eio_sid, namespace, place.channel)
            member.clients.append(client)
            member.inlets.append(Inlet(place, account))
            listener = await place.hub.join(place.channel, client, account, place.room)
            member.listeners.append((place.channel, listener))
        while account is not None:
            await asyncio.sleep(RECHECK)
            await self._check_token(member, places, visitor)

    async def _check_token(self, member: "_Membership", places: list[Place], visitor: "_Visitor") -> None:
        try:
            for place in places:
                await self._door.admit(visitor.connection, place.channel.spec.listens, visitor.token)
        except Refusal as reason:
            if reason.status < 500:
                member.clients[0].cut(close_code(reason), reason.message)

    async def _disconnect(self, namespace: str, sid: str, reason: str) -> None:
        member = self._members.pop(sid, None)
        if member is not None:
            member.end()

    async def _event(self, event: str, namespace: str, sid: str, *arguments: Any) -> dict[str, Any]:
        """Hand what a client emits to the first of its channels that takes it; the answer is its acknowledgement."""
        member = self._members.get(sid)
        if member is None or not member.inlets:
            return {"error": {"code": "not_connected", "message": "not connected to a channel"}}
        try:
            await member.take(msgspec.json.encode(arguments[0] if arguments else None).decode())
        except FrameFault as fault:
            member.clients[0].send(error_message(fault.code, str(fault), **fault.more))
            if all(inlet.exhausted for inlet in member.inlets):
                member.clients[0].cut(POLICY, "too many events that cannot be taken")
            return {"error": {"code": fault.code, "message": str(fault)}}
        return {"ok": True}


def _text(offered: dict[str, Any], name: str) -> str | None:
    value = offered.get(name)
    return value if isinstance(value, str) and value else None


async def _turn_away(scope: Scope, receive: Receive, send: Send, reason: Refusal) -> None:
    if scope["type"] == "websocket":
        await WebSocket(scope, receive, send).send_denial_response(error_answer(reason))
    else:
        await error_answer(reason)(scope, receive, send)
