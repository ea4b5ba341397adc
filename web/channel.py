"""One live channel: numbers its events, keeps the last values and the recent history, knows its listeners."""

from collections import OrderedDict, deque
from collections.abc import Callable, Iterator

from engine.channels import ChannelSpec
from web.channel_message import Client, Listener, Message, Pushed
from web.channel_pace import Later, Pace

SEEN = 20_000
KEPT = 10_000
HISTORY_BYTES = 16 << 20
SETTLING = 5.0


class Channel:
    """The state of one channel; everything here is bounded: ids seen, values kept (LRU), history (count and bytes)."""

    def __init__(self, name: str, spec: ChannelSpec, run: str, clock: Callable[[], float], later: Later | None) -> None:
        self.name, self.spec, self.run = name, spec, run
        self.number = 0
        self.counts = {"sent": 0, "repeated": 0, "conflated": 0, "cut": 0, "refused": 0}
        self.kept: OrderedDict[tuple[str, str], Pushed] = OrderedDict()
        self._clock = clock
        self._pace = Pace(self._broadcast, clock, later)
        self._seen: OrderedDict[tuple[str, str, bytes], None] = OrderedDict()
        self._history: deque[Message] = deque()
        self._history_bytes = 0
        self._rooms: dict[str, set[Listener]] = {}

    @property
    def last_id(self) -> str:
        """Return the id of the last message: `<run>-<number>`."""
        return f"{self.run}-{self.number}"

    def publish(self, push: Pushed) -> None:
        """Take an event in: once for each id, at its pace; a kept one that is older than what is kept is a replay."""
        key = (push.event, push.room, push.id)
        kept = self.kept.get((push.event, push.room)) if push.keep else None
        if key in self._seen or (kept is not None and push.time < kept.time):
            self.counts["repeated"] += 1
            return
        self._seen[key] = None
        if len(self._seen) > SEEN:
            self._seen.popitem(last=False)
        if push.keep:
            self._keep(push)
        if push.at_most:
            self.counts["conflated"] += self._pace.offer((push.event, push.room), push, push.at_most)
        else:
            self._broadcast(push)

    def _keep(self, push: Pushed) -> None:
        self.kept[push.event, push.room] = push
        self.kept.move_to_end((push.event, push.room))
        if len(self.kept) > KEPT:
            self.kept.popitem(last=False)

    def _broadcast(self, push: Pushed) -> None:
        self.number += 1
        self.counts["sent"] += 1
        sent = self._clock()
        message = Message(self.last_id, push.event, push.body, push.id, push.room, push.keep, sent)
        self._remember(message)
        for listener in list(self._rooms.get(self.room_of(push.room), ())):
            listener.offer(message)

    def _remember(self, message: Message) -> None:
        self._history.append(message)
        self._history_bytes += len(message.body)
        while len(self._history) > self.spec.history or self._history_bytes > HISTORY_BYTES:
            self._history_bytes -= len(self._history.popleft().body)

    def room_of(self, room: str) -> str:
        """Return the room that listeners are filed under: without a path parameter, all share one."""
        return room if self.spec.parameter else ""

    def enter(self, client: Client, room: str) -> Listener:
        """Add a client; live messages are held for it until it is released."""
        listener = Listener(client, self.room_of(room))
        self._rooms.setdefault(listener.room, set()).add(listener)
        return listener

    def leave(self, listener: Listener) -> None:
        """Forget a client; one that is not here is no error."""
        members = self._rooms.get(listener.room, set())
        members.discard(listener)
        if not members:
            self._rooms.pop(listener.room, None)

    def listeners(self) -> Iterator[Listener]:
        """Return everybody who listens."""
        return (listener for members in list(self._rooms.values()) for listener in list(members))

    def missed(self, after: str, room: str) -> list[Message] | None:
        """Return what came after the message `<run>-<number>`; None: it is of another run, or too long ago."""
        run, _, digits = after.rpartition("-")
        if run != self.run or not digits.isascii() or not digits.isdecimal() or len(digits) > 15:
            return None
        behind = self.number - int(digits)
        if not 0 <= behind <= len(self._history):
            return None
        recent = list(self._history)[len(self._history) - behind :]
        return [message for message in recent if self.room_of(message.room) == self.room_of(room)]

    def lately(self, room: str, ids: frozenset[bytes]) -> list[Message]:
        """Return what was sent in the last seconds and is not among `ids`: a query may not see its rows yet."""
        since = self._clock() - SETTLING
        fresh = (message for message in self._history if message.sent >= since and message.origin not in ids)
        return [message for message in fresh if self.room_of(message.room) == self.room_of(room)]

    def last_values(self, event: str, room: str) -> list[Pushed]:
        """Return the kept values of an event that a new listener of a room gets, oldest first."""
        own = self.room_of(room)
        return [push for (name, of), push in self.kept.items() if name == event and self.room_of(of) == own]

    def waiting(self, push: Pushed) -> bool:
        """Tell whether a kept value is still held back by its pace: it comes again as a live message."""
        return self._pace.waiting((push.event, push.room)) is push

    def close(self, code: int, reason: str) -> None:
        """Cut every client."""
        self._pace.close()
        for listener in self.listeners():
            listener.client.cut(code, reason)
            self.leave(listener)
