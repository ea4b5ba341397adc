"""What became of the rows that came of each request, by the sink that wrote them, until the request is answered."""

from collections import Counter, OrderedDict
from collections.abc import Iterable
from typing import Any

from engine.event import Event

ORIGIN = "origin"
ERRORS, REASONS = "errors", "reasons"
NAMES = ("inserted", "updated", "unchanged")
MOST, MOST_REASONS = 10_000, 20


def origin_of(event: Event) -> bytes:
    """Return the id of the event that came from outside, of which this one is a part; its own where it is none."""
    origin = event.meta.get(ORIGIN) if event.meta else None
    return bytes.fromhex(origin) if isinstance(origin, str) else event.id


def part_of(event: Event) -> dict[str, Any]:
    """Return the `meta` of the parts of an event: with what it came in, so that an answer can tell of them all."""
    return event.meta if event.meta and ORIGIN in event.meta else {**(event.meta or {}), ORIGIN: event.id.hex()}


class Tallies:
    """Counts for the sinks that somebody asked about; the oldest requests beyond MOST are forgotten."""

    def __init__(self) -> None:
        self._asked: set[str] = set()
        self._counts: OrderedDict[bytes, Counter[tuple[str, str]]] = OrderedDict()
        self._reasons: dict[bytes, list[str]] = {}

    def ask(self, sink: str) -> None:
        """Count what this sink does from now on."""
        self._asked.add(sink)

    def asked(self, sink: str) -> bool:
        """Tell whether anybody wants to know."""
        return sink in self._asked

    def add(self, sink: str, told: Iterable[tuple[Event, str]]) -> None:
        """Count what a sink did with events."""
        for event, what in told:
            self._of(origin_of(event))[sink, what] += 1

    def failed(self, event: Event, reason: str) -> None:
        """Count an event that became a dead letter, wherever that was."""
        if self._asked:
            origin = origin_of(event)
            self._of(origin)["", ERRORS] += 1
            reasons = self._reasons.setdefault(origin, [])
            if len(reasons) < MOST_REASONS:
                reasons.append(reason)

    def take(self, origin: bytes, sink: str) -> dict[str, Any]:
        """Return the counts of a request with the errors and the first reasons, and forget them."""
        counts, reasons = self._counts.pop(origin, Counter()), self._reasons.pop(origin, [])
        return {**{name: counts[sink, name] for name in NAMES}, ERRORS: counts["", ERRORS], REASONS: reasons}

    def _of(self, origin: bytes) -> Counter[tuple[str, str]]:
        counts = self._counts.setdefault(origin, Counter())
        if len(self._counts) > MOST:
            oldest, _ = self._counts.popitem(last=False)
            self._reasons.pop(oldest, None)
        return counts
