"""A room of a channel: who listens there, and who of them is written to directly.

A frame is made once for all WebSockets. To most of them it can be written at once; what has to be asked of the others
for each message costs more than the writing itself.
"""

from collections.abc import Iterator, Sequence

import msgspec

from web.channel_message import TOO_SLOW, Client, Message, Write
from web.channel_wire import text_frame

HELD = 20_000
TOGETHER = 64 << 10  # bytes that are written to a client at once


class Listener:
    """A client in its room. Until it has got its snapshot, live messages are held for it."""

    def __init__(self, client: Client, room: str, ready: "dict[Listener, Write] | None" = None) -> None:
        self.client = client
        self.room = room
        self.held: list[Message] | None = []
        self.known: set[bytes] = set()
        self._ready = {} if ready is None else ready
        client.on_change = self._settle

    def offer(self, message: Message) -> None:
        """Send a live message, unless the snapshot contained it."""
        if self.held is not None:
            self._hold(self.held, message)
        elif self.known and message.origin in self.known:
            self.known.discard(message.origin)
            if not self.known:
                self._settle()
        else:
            self.client.send(message)

    def _hold(self, held: list[Message], message: Message) -> None:
        held.append(message)
        if len(held) > HELD:
            held.clear()
            self.client.cut(TOO_SLOW, "too slow")

    def release(self, without: frozenset[str] = frozenset()) -> None:
        """Send what was held, but for the events that the snapshot stands for; from now on, send at once."""
        held, self.held = self.held or [], None
        for message in held:
            if message.event not in without:
                self.offer(message)
        self._settle()

    def end(self) -> None:
        """Be written to no more."""
        self._ready.pop(self, None)
        self._ready = {}

    def _settle(self) -> None:
        """Go among those who are written to directly, or leave them."""
        direct = self.client.direct if self.held is None and not self.known else None
        if direct is None:
            self._ready.pop(self, None)
        else:
            self._ready[self] = direct


class Room:
    """The listeners that get the same messages."""

    def __init__(self) -> None:
        self.members: set[Listener] = set()
        self._ready: dict[Listener, Write] = {}

    def enter(self, client: Client, room: str) -> Listener:
        """Add a client; live messages are held for it until it is released."""
        listener = Listener(client, room, self._ready)
        self.members.add(listener)
        return listener

    def leave(self, listener: Listener) -> None:
        """Forget a client; one that is not here is no error."""
        self.members.discard(listener)
        listener.end()

    def send(self, messages: Sequence[Message]) -> None:
        """Let every listener have messages, in order."""
        for some, frames in together(messages):
            ready = list(self._ready.items())
            others = [one for one in self.members if one not in self._ready] if len(ready) < len(self.members) else ()
            for listener, write in ready:
                try:
                    write(frames)
                except RuntimeError:  # its connection has just been lost; it will be told
                    self._ready.pop(listener, None)
            for listener in others:
                for message in some:
                    listener.offer(message)


def together(messages: Sequence[Message]) -> Iterator[tuple[Sequence[Message], bytes]]:
    """Yield messages with their frames, as many at once as may be written together."""
    if len(messages) == 1:
        yield messages, messages[0].form("websocket", websocket_frame)
        return
    some: list[Message] = []
    frames: list[bytes] = []
    size = 0
    for message in messages:
        some.append(message)
        frames.append(message.form("websocket", websocket_frame))
        size += len(frames[-1])
        if size >= TOGETHER:
            yield some, b"".join(frames)
            some, frames, size = [], [], 0
    if some:
        yield some, b"".join(frames)


def websocket_frame(message: Message) -> bytes:
    """Return the frame of a message; every client gets these same bytes."""
    event = msgspec.json.encode(message.event)
    number = b',"id":"' + message.id.encode() + b'"' if message.id else b""
    return text_frame(b'{"event":' + event + b',"data":' + message.body + number + b"}")
