"""One live channel: numbers its events, keeps the last values and the recent history, knows its listeners."""

from collections import OrderedDict, deque
from collections.abc import Callable, Iterable, Iterator

from msgspec.structs import replace

from engine.channels import ChannelSpec
from web.channel_log import ChannelLog
from web.channel_log_file import HISTORY_BYTES, SEEN, Key, Portion, Saved
from web.channel_message import Client, Message, Pushed
from web.channel_pace import Later, Pace
from web.channel_room import Listener, Room

KEPT = 10_000
SETTLING = 5.0
STREAM = 8  # bytes of an id that name its stream; the offset follows
RESTART = 1012


class Channel:
    """The state of one channel; everything here is bounded: ids seen, values kept (LRU), history (count and bytes).

    With a log, a message is delivered when it is durable: until then no client knows of its number.
    """

    def __init__(
        self, name: str, spec: ChannelSpec, run: str, clock: Callable[[], float], later: Later | None,
        log: ChannelLog | None = None,
    ) -> None:  # fmt: skip
        self.name, self.spec, self.run = name, spec, run
        self.number = self.assigned = 0
        self._log = log
        self._coming: dict[tuple[str, str], list[bytes]] = {}
        self.counts = {"sent": 0, "repeated": 0, "conflated": 0, "cut": 0, "refused": 0}
        self.kept: OrderedDict[tuple[str, str], Pushed] = OrderedDict()
        self._clock = clock
        self._pace = Pace(self._broadcast, clock, later)
        self._seen: OrderedDict[Key, None] = OrderedDict()
        self._history: deque[Message] = deque()
        self._history_bytes = 0
        self._rooms: dict[str, Room] = {}

    @property
    def last_id(self) -> str:
        """Return the id of the last message: `<run>-<number>`."""
        return f"{self.run}-{self.number}"

    def publish(self, push: Pushed) -> None:
        """Take an event in: once for each id, at its pace; a kept one that is older than what is kept is a replay."""
        key = (push.event, push.room, push.id)
        if key in self._seen or self._replayed(push):
            self.counts["repeated"] += 1
            return
        self._seen[key] = None
        if len(self._seen) > SEEN:
            self._seen.popitem(last=False)
        if push.keep:
            self._keep(push)
        if not push.at_most:
            self._broadcast(push)
            return
        self.counts["conflated"] += self._pace.offer(key[:2], push, push.at_most)
        if self._log and self._pace.waiting(key[:2]) is push:
            self._log.hold(self, push, key)

    def _replayed(self, push: Pushed) -> bool:
        kept = self.kept.get((push.event, push.room)) if push.keep else None
        return kept is not None and (push.id == kept.id or _before(push, kept))

    def _keep(self, push: Pushed) -> None:
        self.kept[push.event, push.room] = push
        self.kept.move_to_end((push.event, push.room))
        if len(self.kept) > KEPT:
            (event, room), _ = self.kept.popitem(last=False)
            if self._log:
                self._log.forget(self, event, room)

    def _broadcast(self, push: Pushed) -> None:
        self.assigned += 1
        number = f"{self.run}-{self.assigned}"
        message = Message(number, push.event, push.body, push.id, push.room, push.keep, self._clock())
        if self._log is None:
            self.deliver([message])
            return
        if push.keep:
            self._coming.setdefault((push.event, push.room), []).append(push.id)
        self._log.append(self, message, push)

    def deliver(self, messages: Iterable[Message]) -> None:
        """Let clients have messages, in the order in which they were numbered."""
        rooms: dict[str, list[Message]] = {}
        for message in messages:
            self.number += 1
            self.counts["sent"] += 1
            if self._coming:
                self._arrived(message)
            self._remember(message)
            rooms.setdefault(self.room_of(message.room), []).append(message)
        for name, some in rooms.items():
            if room := self._rooms.get(name):
                room.send(some)

    def _arrived(self, message: Message) -> None:
        coming = self._coming.get((message.event, message.room))
        if coming and message.origin in coming:
            coming.remove(message.origin)
            if not coming:
                del self._coming[message.event, message.room]

    def begin_run(self, run: str) -> None:
        """Count from 1 under another run, with no history."""
        self.run, self.number, self.assigned, self._history_bytes = run, 0, 0, 0
        self._history.clear()

    def number_again(self, messages: Iterable[Message]) -> None:
        """Give messages that nobody has seen the next numbers."""
        for message in messages:
            self.assigned += 1
            message.id = f"{self.run}-{self.assigned}"

    @property
    def depth(self) -> int:
        """Return how many messages are kept."""
        return self.spec.history

    def state(self) -> Portion:
        """Return everything that a log should have."""
        latest: dict[tuple[str, str], tuple[Pushed, bool] | None] = {
            key: (push, True) for key, push in self.kept.items()
        }
        latest |= {(push.event, push.room): (push, False) for push in self._pace.held()}
        messages, seen = [replace(message, encoded={}) for message in self._history], list(self._seen)
        return Portion(self.name, self.run, self.number, self.depth, messages, seen, latest)

    def restore(self, saved: Saved) -> None:
        """Go on where a log ends."""
        self.run, self.number, self.assigned = saved.run, saved.number, saved.number
        self._seen = OrderedDict.fromkeys(saved.seen[-SEEN:])
        self.kept = OrderedDict(((push.event, push.room), push) for push in saved.kept[-KEPT:])
        for message in saved.messages:
            self._remember(message)

    def resume(self, waiting: Iterable[Pushed]) -> None:
        """Send what was held back when the log ended."""
        for push in waiting:
            self._broadcast(push)

    def _remember(self, message: Message) -> None:
        self._history.append(message)
        self._history_bytes += len(message.body)
        if len(self._history) > self.spec.history or self._history_bytes > HISTORY_BYTES:
            self._shorten()

    def _shorten(self) -> None:
        while len(self._history) > self.spec.history or self._history_bytes > HISTORY_BYTES:
            self._history_bytes -= len(self._history.popleft().body)

    def room_of(self, room: str) -> str:
        """Return the room that listeners are filed under: without a path parameter, all share one."""
        return room if self.spec.parameter else ""

    def enter(self, client: Client, room: str) -> Listener:
        """Add a client; live messages are held for it until it is released."""
        name = self.room_of(room)
        return self._rooms.setdefault(name, Room()).enter(client, name)

    def leave(self, listener: Listener) -> None:
        """Forget a client; one that is not here is no error."""
        room = self._rooms.get(listener.room)
        if room is None:
            return
        room.leave(listener)
        if not room.members:
            del self._rooms[listener.room]

    def listeners(self) -> Iterator[Listener]:
        """Return everybody who listens."""
        return (listener for room in list(self._rooms.values()) for listener in list(room.members))

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
        """Return what was sent in the last seconds and is not among `ids`: a query may not see its rows yet.

        Only of events that the rows are of: others have ids of their own, or are not in that table.
        """
        since, here = self._clock() - SETTLING, self.room_of(room)
        found = [message for message in self._history if self.room_of(message.room) == here and not message.keep]
        same = {message.event for message in found if message.origin in ids}
        return [m for m in found if m.sent >= since and m.event in same and m.origin not in ids]

    def last_values(self, event: str, room: str) -> list[Pushed]:
        """Return the kept values of an event that a new listener of a room gets, oldest first."""
        own = self.room_of(room)
        return [push for (name, of), push in self.kept.items() if name == event and self.room_of(of) == own]

    def coming(self, push: Pushed) -> list[bytes]:
        """Return the ids of what is on its way or held back up to this kept value: it comes again as live messages."""
        held = self._pace.waiting((push.event, push.room)) is push
        return self._coming.get((push.event, push.room), []) + [push.id] * held

    def change(self, spec: ChannelSpec) -> None:
        """Take another version of the options; clients are cut where they might not find or not be let in by it."""
        old, self.spec = self.spec, spec
        doors = ("path", "socketio", "allow", "open")
        if any(getattr(old, name) != getattr(spec, name) for name in doors):
            self._cut(RESTART, "the channel has changed")
        self._shorten()

    def close(self, code: int, reason: str) -> None:
        """Cut every client, and forget what is held back."""
        self._pace.close()
        self._cut(code, reason)

    def _cut(self, code: int, reason: str) -> None:
        for listener in self.listeners():
            listener.client.cut(code, reason)
            self.leave(listener)


def _before(push: Pushed, kept: Pushed) -> bool:
    """Tell whether an event is older than another; of one arrival, ids of one stream grow with its offsets."""
    if push.time != kept.time:
        return push.time < kept.time
    return push.id[:STREAM] == kept.id[:STREAM] and push.id < kept.id
