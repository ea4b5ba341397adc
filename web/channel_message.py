"""What goes over a live channel, and the two ends of it: what a worker pushes, what a client gets."""

from collections.abc import Callable
from typing import Any, Protocol

import msgspec

TOO_SLOW = 1013
Write = Callable[[bytes], object]


class Pushed(Protocol):
    """What a worker pushes to a channel: `body` is JSON, `at_most` events a second (0: no limit), `time` in µs."""

    @property
    def channel(self) -> str: ...
    @property
    def event(self) -> str: ...
    @property
    def id(self) -> bytes: ...
    @property
    def body(self) -> bytes: ...
    @property
    def room(self) -> str: ...
    @property
    def keep(self) -> bool: ...
    @property
    def at_most(self) -> float: ...
    @property
    def time(self) -> int: ...


class Message(msgspec.Struct, array_like=True, gc=False):
    """One event on its way to clients. `id` is `<run>-<number>`, `origin` the pushed event's id, `sent` the clock.

    `encoded` holds it as each transport sends it, made once for all clients.
    """

    id: str
    event: str
    body: bytes
    origin: bytes = b""
    room: str = ""
    keep: bool = False
    sent: float = 0.0
    encoded: dict[str, Any] = msgspec.field(default_factory=dict)

    def form(self, name: str, encode: Callable[["Message"], Any]) -> Any:
        """Return the message as a transport sends it; `encode` is called the first time only."""
        if name not in self.encoded:
            self.encoded[name] = encode(self)
        return self.encoded[name]


def error_message(code: str, text: str, **more: Any) -> Message:
    """Return the message that tells one client what went wrong; it has no number."""
    return Message("", "error", msgspec.json.encode({"code": code, "message": text, **more}))


class Snapshot(msgspec.Struct):
    """What a query answers to a new client, as JSON; `ids` are the events (16 bytes each) that its rows come from.

    Without the ids, an event that is stored and sent while the client connects may reach it twice.
    """

    body: bytes
    ids: frozenset[bytes] | None = None


def nothing() -> None:
    """Tell nobody: nobody listens yet."""


class Client(Protocol):
    """The hub's side of a connection. No call may block: a client that cannot keep up is cut by its transport.

    `on_change` is called when `direct` may have become another.
    """

    on_change: Callable[[], None]

    @property
    def direct(self) -> Write | None:
        """Return what writes frames to a WebSocket that has room for them; None: messages have to be sent."""

    @property
    def waiting(self) -> tuple[int, float]:
        """Return how many messages are held back, and how full (0 to 1) that is."""

    def send(self, message: Message) -> None:
        """Send, or hold until there is room."""

    def cut(self, code: int, reason: str) -> None:
        """Close with a WebSocket close code; once is enough, more does no harm."""
