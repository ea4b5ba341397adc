"""Live channels as server-sent events: `GET` of a channel's path with `Accept: text/event-stream`.

The fields are those of the HTML standard (https://html.spec.whatwg.org/multipage/server-sent-events.html): `event` is
the event's name, `data` its JSON, `id` its number, which a browser sends back as `Last-Event-ID` when it comes again.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Iterable, MutableMapping
from typing import Any

from starlette.requests import Request
from starlette.types import Receive, Scope, Send
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from engine.refusal import Refusal
from web.channel import Channel
from web.channel_backlog import Backlog
from web.channel_entry import Account, Doorkeeper
from web.channel_inlet import Place
from web.channel_message import TOO_SLOW, Message, Write, nothing
from web.channel_room import TOGETHER
from web.channel_wire import CUT_GRACE

EVENT_STREAM = "text/event-stream"
EXTENSION = "millstream.connection"
HEARTBEAT, AGAIN = 15.0, 2000  # seconds; milliseconds after which a browser connects again
HEADERS = [
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-store, no-transform"),
    (b"x-accel-buffering", b"no"),  # for a proxy that would hold the events back
]
_PING = b": \n\n"


class HttpWire(HttpToolsProtocol):
    """uvicorn's HTTP protocol, which an application finds in the ASGI scope by `transport_of(scope)`."""

    def on_message_begin(self) -> None:
        """Put this connection into the request's scope."""
        super().on_message_begin()
        extensions: MutableMapping[str, Any] = self.scope.setdefault("extensions", {})
        extensions[EXTENSION] = self


def transport_of(scope: Scope) -> asyncio.Transport | None:
    """Return the transport behind a request; None under a server without `HttpWire`."""
    wire = scope.get("extensions", {}).get(EXTENSION)
    return wire.transport if isinstance(wire, HttpWire) else None


def wants_events(scope: Scope) -> bool:
    """Tell whether a request asks for server-sent events."""
    accepted = (value for name, value in scope["headers"] if name == b"accept")
    return scope["method"] == "GET" and any(EVENT_STREAM.encode() in value.lower() for value in accepted)


def event_text(message: Message) -> bytes:
    """Return a message as the lines of an event; every client gets these same bytes."""
    number = b"id: " + message.id.encode() + b"\n" if message.id else b""
    body = b" ".join(message.body.splitlines())  # JSON: a line end in it is space between values
    return number + b"event: " + message.event.encode() + b"\ndata: " + body + b"\n\n"


class EventClient:
    """One reader of a channel: what its connection has no room for waits in a bounded backlog.

    What it gets first, until `joined`, is bounded by the channel's history, and may be more than that backlog takes.
    """

    direct: Write | None = None

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._backlog = Backlog()
        self._first: deque[Message] = deque()
        self._joining = True
        self._ready = asyncio.Event()
        self.ended = asyncio.Event()
        self.on_change: Callable[[], None] = nothing

    @property
    def waiting(self) -> tuple[int, float]:
        """Return how many messages are held back, and how full (0 to 1) that is."""
        return len(self._first) + len(self._backlog), self._backlog.fill

    def joined(self) -> None:
        """Hold what comes from now on in the backlog."""
        self._joining = False

    def send(self, message: Message) -> None:
        """Hold a message until there is room; a client that cannot keep up is cut."""
        if self.ended.is_set():
            return
        if self._joining:
            self._first.append(message)
        elif not self._backlog.add(message):
            self._channel.counts["cut"] += 1
            self.cut(TOO_SLOW, "too slow")
        self._ready.set()

    def cut(self, code: int, reason: str) -> None:
        """End the stream, and forget what was held back: the browser connects again, and is told then."""
        self._first.clear()
        self._backlog.clear()
        self.ended.set()

    async def write(self, send: Send) -> None:
        """Write what comes, for ever, and a comment where nothing comes, so that a dead connection is noticed."""
        while True:
            try:
                await asyncio.wait_for(self._ready.wait(), HEARTBEAT)
            except TimeoutError:
                await send(_body(_PING))
            self._ready.clear()
            while self._first or self._backlog:
                await send(_body(b"".join(self._some())))

    def _some(self) -> Iterable[bytes]:
        size = 0
        while (self._first or self._backlog) and size < TOGETHER:
            message = self._first.popleft() if self._first else self._backlog.take()
            text = message.form(EVENT_STREAM, event_text)
            size += len(text)
            yield text
        self._channel.counts["conflated"] += self._backlog.conflated
        self._backlog.conflated = 0


class EventSession:
    """One request for a channel's events, from its answer to its end."""

    def __init__(self, request: Request, place: Place, account: Account | None, door: Doorkeeper) -> None:
        self._request, self._place, self._account, self._door = request, place, account, door

    async def run(self, receive: Receive, send: Send, recheck: float) -> None:
        """Answer with events until either side ends it."""
        hub, channel, room = self._place
        origin = self._request.headers.get("origin")
        crossed = [(b"access-control-allow-origin", origin.encode()), (b"vary", b"Origin")] if origin else []
        await send({"type": "http.response.start", "status": 200, "headers": HEADERS + crossed})
        await send(_body(b"retry: %d\n\n" % AGAIN))
        client = EventClient(channel)
        after = self._request.headers.get("last-event-id") or self._request.query_params.get("after", "")
        listener = await hub.join(channel, client, self._account, room, after)
        client.joined()
        work = [client.write(send), client.ended.wait(), _gone(receive), self._admitted(recheck)]
        tasks = [asyncio.ensure_future(one) for one in work]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            channel.leave(listener)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        await self._end(send)

    async def _admitted(self, recheck: float) -> None:
        """Return when the token has expired or the account has lost its role."""
        while True:
            await asyncio.sleep(recheck)
            try:
                await self._door.admit(self._request, self._place.channel.spec.listens)
            except Refusal as reason:
                if reason.status < 500:
                    return

    async def _end(self, send: Send) -> None:
        """End the answer; a client that takes nothing is let go of."""
        try:
            await asyncio.wait_for(send({"type": "http.response.body", "body": b""}), CUT_GRACE)
        except TimeoutError:
            if transport := transport_of(self._request.scope):
                transport.abort()


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


def _body(body: bytes) -> dict[str, Any]:
    return {"type": "http.response.body", "body": body, "more_body": True}
