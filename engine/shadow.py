"""Two versions of a flow over the same events, without their sinks, and how what comes out of them differs.

Memory is bounded: events are compared as they come out. One that finds no partner of its id among the next PENDING that
stand alone counts as there in one version only.
"""

from collections import Counter, OrderedDict, deque
from collections.abc import Iterator, Sequence
from typing import Any

import msgspec

from engine.block import Block
from engine.dead import DeadLetter
from engine.event import Event, moment
from engine.flow import Flow
from engine.gap import Gap
from engine.past import Player
from engine.snapshot import storable

PENDING = 20_000
EXAMPLES = 5
DEEP = 3
DEADLETTERS = "deadletters"
_encoder = msgspec.json.Encoder(order="deterministic", enc_hook=str)


class Shown(msgspec.Struct):
    """One event that differs: what each version gives (none: it does not come out there), and the changed fields."""

    id: str
    time: str
    key: str
    deployed: Any = None
    new: Any = None
    fields: list[str] = []


class Difference(msgspec.Struct):
    """Of one sink, or the dead letters: how many events each version gives, and how many of them differ how."""

    deployed: int = 0
    new: int = 0
    only_deployed: int = 0
    only_new: int = 0
    changed: int = 0
    fields: dict[str, int] = {}
    examples: dict[str, list[Shown]] = {}

    @property
    def differs(self) -> bool:
        """Tell whether anything does."""
        return bool(self.only_deployed or self.only_new or self.changed)


class Comparison(msgspec.Struct):
    """How two versions differ: by sink, in the dead letters, and how many events passed each wire in each."""

    events: int
    outputs: dict[str, Difference]
    deadletters: Difference
    wires: dict[str, tuple[int, int]]

    @property
    def differs(self) -> bool:
        """Tell whether anything does that comes out."""
        return self.deadletters.differs or any(difference.differs for difference in self.outputs.values())


class Shadow:
    """Runs both versions from an empty state: `warm` for what only makes the state, `compare` for the rest."""

    def __init__(self, deployed: Flow, new: Flow, stream: str, gaps: Sequence[Gap] = ()) -> None:
        self._sides = (Side(deployed, stream, gaps), Side(new, stream, gaps))
        sinks = dict.fromkeys(node.name for flow in (deployed, new) for node in flow.section("sinks"))
        self._pairs = {name: Pairs() for name in [*sinks, DEADLETTERS]}
        self._events = 0
        self._before: tuple[dict[str, int], ...] = ()

    def warm(self, block: Block) -> None:
        """Run a commit without looking at what comes out."""
        for side in self._sides:
            side.play(block)
            side.take()

    def compare(self, block: Block) -> None:
        """Run a commit and compare what comes out."""
        self._before = self._before or tuple(side.counts() for side in self._sides)
        for side in self._sides:
            side.play(block)
        self._events += len(block.payloads)
        deployed, new = (side.take() for side in self._sides)
        for name, pairs in self._pairs.items():
            pairs.add(deployed.get(name, []), new.get(name, []))

    def finish(self) -> Comparison:
        """Return the result; what still has no partner has none."""
        found = {name: pairs.finish() for name, pairs in self._pairs.items()}
        deadletters = found.pop(DEADLETTERS)
        return Comparison(self._events, found, deadletters, dict(self._wires()))

    def _wires(self) -> Iterator[tuple[str, tuple[int, int]]]:
        old, new = (
            Counter(side.counts()) - Counter(before)
            for side, before in zip(self._sides, self._before or ({}, {}), strict=True)
        )
        for wire in dict.fromkeys([*old, *new]):
            yield wire, (old[wire], new[wire])


class Side(Player):
    """One version and what came out of it since it was last asked."""

    def take(self) -> dict[str, list[Event]]:
        """Return what came out, by sink; dead letters as events of their own."""
        found = dict(self.harness.out)
        self.harness.out.clear()
        found[DEADLETTERS] = [_letter(letter) for letter in self.harness.dead]
        self.harness.dead.clear()
        return found

    def counts(self) -> dict[str, int]:
        """Return how many events have passed each wire."""
        total: Counter[str] = Counter()
        for stage in self.harness.plan.stages():
            total.update({name: count for name, count in stage.counts.items() if " " not in name})
        return dict(total)


class Pairs:
    """Brings the events of one sink together by id, in the order in which they come out."""

    def __init__(self) -> None:
        self._found = Difference(examples={"only_deployed": [], "only_new": [], "changed": []}, fields={})
        self._alone: OrderedDict[bytes, deque[tuple[int, Event]]] = OrderedDict()
        self._count = 0

    def add(self, deployed: list[Event], new: list[Event]) -> None:
        """Take what came out of both."""
        self._found.deployed += len(deployed)
        self._found.new += len(new)
        same = 0
        if not self._alone:
            for old, now in zip(deployed, new, strict=False):
                if old.id != now.id:
                    break
                self._compare(old, now)
                same += 1
        for side, events in enumerate((deployed[same:], new[same:])):
            for event in events:
                self._pair(side, event)
        while self._count > PENDING:
            self._settle()

    def finish(self) -> Difference:
        """Return the difference; events that wait for a partner have none."""
        while self._alone:
            self._settle()
        return self._found

    def _pair(self, side: int, event: Event) -> None:
        waiting = self._alone.get(event.id)
        if waiting is None or waiting[0][0] == side:
            self._alone.setdefault(event.id, deque()).append((side, event))
            self._count += 1
            return
        _, other = waiting.popleft()
        self._count -= 1
        if not waiting:
            del self._alone[event.id]
        self._compare(*((event, other) if side == 0 else (other, event)))

    def _settle(self) -> None:
        _, waiting = self._alone.popitem(last=False)
        self._count -= len(waiting)
        for side, event in waiting:
            if side:
                self._found.only_new += 1
                self._show("only_new", _shown(event, new=plain(event.data)))
            else:
                self._found.only_deployed += 1
                self._show("only_deployed", _shown(event, deployed=plain(event.data)))

    def _compare(self, old: Event, now: Event) -> None:
        if _encoded(old.data) == _encoded(now.data) and old.key == now.key and old.time == now.time:
            return
        fields = [f"meta.{name}" for name in ("key", "time") if getattr(old, name) != getattr(now, name)]
        fields += _changed(old.data, now.data)
        self._found.changed += 1
        for field in fields:
            self._found.fields[field] = self._found.fields.get(field, 0) + 1
        self._show("changed", _shown(old, deployed=plain(old.data), new=plain(now.data), fields=fields))

    def _show(self, how: str, shown: Shown) -> None:
        if len(self._found.examples[how]) < EXAMPLES:
            self._found.examples[how].append(shown)


def _letter(letter: DeadLetter) -> Event:
    event = letter.event
    data = {"node": letter.node, "reason": letter.reason, "data": event.data}
    return Event(
        event.id + letter.node.encode(), event.time, event.key, event.source, event.topic, data, None, event.arrival
    )


def _shown(event: Event, **values: Any) -> Shown:
    time = moment(event.time).isoformat().replace("+00:00", "Z")
    return Shown(event.id[:16].hex(), time, event.key, **values)


def _changed(old: Any, now: Any, path: str = "") -> Iterator[str]:
    """Yield the fields that differ, those of mappings in mappings by their path."""
    if isinstance(old, dict) and isinstance(now, dict) and path.count(".") < DEEP:
        for name in dict.fromkeys([*old, *now]):
            inner = f"{path}.{name}" if path else str(name)
            if name not in old or name not in now:
                yield inner
            else:
                yield from _changed(old[name], now[name], inner)
    elif _encoded(old) != _encoded(now):
        yield path


def _encoded(value: Any) -> bytes:
    try:
        return _encoder.encode(value)
    except (OverflowError, TypeError, ValueError, RecursionError):
        return _encoder.encode(ascii(storable(value)))


def plain(data: Any) -> Any:
    """Return data as JSON would show it."""
    return msgspec.json.decode(_encoded(data))
