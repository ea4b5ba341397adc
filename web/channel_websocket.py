"""Live channels over plain WebSocket: `{"event", "data", "id"}` frames, resumed by `?after=<id>`; their route."""

import asyncio
import re
from collections.abc import Callable, Collection, Iterable

import msgspec
from starlette.requests import HTTPConnection, Request
from starlette.routing import BaseRoute, Match
from starlette.types import Receive, Scope, Send
from starlette.websockets import WebSocket

from engine.refusal import Refusal
from web.channel import Channel
from web.channel_backlog import Backlog
from web.channel_entry import Account, Doorkeeper, Guard, close_code, room_fits, same_origin
from web.channel_events import EventSession, wants_events
from web.channel_inlet import FrameFault, Inlet, Place
from web.channel_message import TOO_SLOW, Message, Write, error_message, nothing
from web.channel_room import websocket_frame
from web.channel_wire import LARGEST, Wire, wire_of
from web.channels import ChannelHub
from web.errors import error_answer

POLICY = 1008
CROSS_SITE = "cross_site"
RECHECK = 60.0
Hubs = Callable[[], Iterable[ChannelHub]]


class SocketClient:
    """One WebSocket client of a channel: frames go out at once while there is room, else into a bounded backlog."""

    def __init__(self, wire: Wire, channel: Channel) -> None:
        self._wire, self._channel = wire, channel
        self._backlog = Backlog()
        self.on_change: Callable[[], None] = nothing
        wire.on_room, wire.on_change = self._drain, self._changed

    @property
    def direct(self) -> Write | None:
        """Return what writes frames, while there is room and nothing is held back."""
        return None if self._backlog else self._wire.direct

    def _changed(self) -> None:
        self.on_change()

    def send(self, message: Message) -> None:
        """Write the message's frame, or hold it back; a client that cannot keep up is cut (1013)."""
        if self._wire.has_room and not self._backlog:
            self._write(message)
        elif not self._backlog.add(message):
            self._channel.counts["cut"] += 1
            self.cut(TOO_SLOW, "too slow")

    @property
    def waiting(self) -> tuple[int, float]:
        """Return how many messages are held back, and how full (0 to 1) that is."""
        return len(self._backlog), self._backlog.fill

    def cut(self, code: int, reason: str) -> None:
        """Close, and forget what was held back."""
        self._backlog.clear()
        self._wire.cut(code, reason)

    def _write(self, message: Message) -> None:
        self._wire.write_frame(message.form("websocket", websocket_frame))

    def _drain(self) -> None:
        while self._backlog and self._wire.has_room:
            self._write(self._backlog.take())
        self._channel.counts["conflated"] += self._backlog.conflated
        self._backlog.conflated = 0
        self.on_change()


class ChannelRoute(BaseRoute):
    """Serve all channels that the hubs have at the moment, to WebSockets and as server-sent events on the same path.

    Put it into the application's routes.
    """

    def __init__(self, hubs: Hubs, guard: Guard, origins: Collection[str] = ()) -> None:
        self._hubs, self._door, self._origins = hubs, Doorkeeper(guard), origins

    def find(self, path: str) -> Place | None:
        """Return where a path leads to; a path without a parameter goes before one that has it."""
        channels = [(hub, channel) for hub in self._hubs() for channel in hub.channels.values()]
        for hub, channel in sorted(channels, key=lambda found: bool(found[1].spec.parameter)):
            room = room_in(channel.spec.path, path)
            if room is not None:
                return Place(hub, channel, room)
        return None

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        """Tell the router whether the path is a channel's."""
        asked = scope["type"] == "websocket" or (scope["type"] == "http" and wants_events(scope))
        place = self.find(scope["path"]) if asked else None
        return (Match.FULL, {"millstream.place": place}) if place else (Match.NONE, {})

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let the client in, or say why not."""
        place = scope["millstream.place"]
        if scope["type"] == "http":
            request = Request(scope, receive)
            account = await self._admit(request, place)
            await EventSession(request, place, account, self._door).run(receive, send, RECHECK)
            return
        websocket = WebSocket(scope, receive, send)
        try:
            account = await self._admit(websocket, place)
        except Refusal as reason:
            await refuse(websocket, reason)
        else:
            await _Session(websocket, place, account, self._door).run()

    async def _admit(self, asking: HTTPConnection, place: Place) -> Account | None:
        if not same_origin(asking.headers.get("origin"), asking.headers.get("host"), self._origins):
            raise Refusal(403, CROSS_SITE, "pages of this origin may not connect")
        account = await self._door.admit(asking, place.channel.spec.listens)
        if place.channel.spec.parameter and not room_fits(place.room):
            raise Refusal(404, "room", "a room has 1 to 64 printable characters")
        return account


def room_in(template: str, path: str) -> str | None:
    """Return the room that a path names in a template like `/ws/chat/{room}`, "" without parameter; None: no match."""
    pattern = re.sub(r"\\\{\w+\\\}", "([^/]+)", re.escape(template))
    found = re.fullmatch(pattern, path)
    return None if found is None else found[1] if found.groups() else ""


async def refuse(websocket: WebSocket, reason: Refusal) -> None:
    """Refuse by HTTP where the client can see the status; the script of a page sees close codes only."""
    if websocket.headers.get("origin") is None or reason.code == CROSS_SITE:
        await websocket.send_denial_response(error_answer(reason))
    else:
        await websocket.accept()
        await websocket.close(close_code(reason), reason.message)


class _Session:
    """One client from its acceptance to its end."""

    def __init__(self, websocket: WebSocket, place: Place, account: Account | None, door: Doorkeeper) -> None:
        self._websocket, self._place, self._account, self._door = websocket, place, account, door
        self._inlet = Inlet(place, account)

    async def run(self) -> None:
        hub, channel, room = self._place
        wire = wire_of(self._websocket.scope)
        wire.limit(LARGEST)
        await self._websocket.accept()
        self._client = SocketClient(wire, channel)
        after = self._websocket.query_params.get("after", "")
        listener = await hub.join(channel, self._client, self._account, room, after)
        try:
            await self._listen()
        finally:
            channel.leave(listener)

    async def _listen(self) -> None:
        while True:
            try:
                message = await asyncio.wait_for(self._websocket.receive(), RECHECK)
            except TimeoutError:
                await self._check_token()
                continue
            if message["type"] != "websocket.receive":
                return
            await self._take(message.get("text"))

    async def _check_token(self) -> None:
        """Cut a client whose token has expired or whose account has lost its role."""
        try:
            await self._door.admit(self._websocket, self._place.channel.spec.listens)
        except Refusal as reason:
            if reason.status < 500:
                self._client.cut(close_code(reason), reason.message)

    async def _take(self, text: str | None) -> None:
        try:
            wanted = await self._inlet.take(text)
        except FrameFault as fault:
            self._client.send(error_message(fault.code, str(fault), **fault.more))
            if self._inlet.exhausted:
                self._client.cut(POLICY, "too many frames that cannot be taken")
        else:
            if wanted is not None:
                self._client.send(Message("", "ack", msgspec.json.encode(wanted)))
