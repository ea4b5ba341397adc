"""`timer`: events by the clock."""

from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import Any, Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import msgspec
from cronsim import CronSim, CronSimError
from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError

from engine.api import (
    MICROSECONDS,
    Arrival,
    Duration,
    Example,
    Flow,
    Node,
    Problem,
    Pull,
    PulledSource,
    Reader,
    Type,
    component,
)

FEWEST = 100_000
KINDS = {
    str: "text", bool: "boolean", int: "number", float: "number", list: "list", dict: "dict", type(None): "none",
}  # fmt: skip
AT_ONCE, LATE = 1_000_000, 10 * MICROSECONDS


@component("timer")
class Timer(PulledSource):
    """Make an event at fixed intervals, or by a cron line in a time zone.

    Ticks lie on a fixed grid (intervals are counted from 1970-01-01 in UTC), so a restart moves none of them, and each
    has an id of its own: after a crash a tick is there once. An event has `at`, when it was due, and `local`, the same
    in the time zone. Where a clock change leaves a cron line's hour out, the tick comes right after; one that comes
    twice is taken once, but every so many minutes goes on (as Debian's cron does).
    """

    every: Duration | None = Field(None, ge=FEWEST)
    """The interval, at least 100ms."""
    cron: str | None = None
    """Minute, hour, day of month, month, day of week: `0 6 * * mon-fri`; also `L` and `#` for last and n-th."""
    zone: str = "UTC"
    """The time zone of the cron line, such as `Europe/Berlin`."""
    data: dict[str, Any] = {}
    """Fields that each event gets."""
    on_missed: Literal["skip", "last", "all"] = "last"
    """What becomes of ticks that are 10 s late, since nothing ran: none of them, the latest, or all are made up for."""

    guarantee = "exactly once: ticks are numbered, and go on where the last snapshot stood"
    examples = (
        Example(
            about="Every ten seconds.",
            config="timer: {every: 10s, data: {ask: state}}",
            given=[{"at": "10s", "ask": "state"}],
            expect=[{"ask": "state"}],
        ),
        Example(
            about="The end of the early shift, on weekdays, in Berlin.",
            config='timer: {cron: "0 14 * * mon-fri", zone: Europe/Berlin, data: {shift: early}}',
            given=[{"shift": "early"}],
            expect=[{"shift": "early"}],
        ),
    )

    @model_validator(mode="after")
    def _one_of_two(self) -> "Timer":
        if (self.every is None) == (self.cron is None):
            raise PydanticCustomError("timer", "either every or cron")
        return self

    def check(self, flow: Flow, node: Node) -> Iterable[Problem]:
        """Find a cron line that means nothing, one that never comes, and a zone that is none."""
        try:
            zone = ZoneInfo(self.zone)
        except (ZoneInfoNotFoundError, ValueError, OSError):
            yield Problem("option-value", "zone", f"a time zone such as Europe/Berlin; got '{self.zone}'")
            return
        if self.cron is None:
            return
        try:
            coming = next(CronSim(self.cron, datetime(2026, 1, 1, tzinfo=zone)), None)
        except CronSimError as fault:
            yield Problem("option-value", "cron", f"five fields, as in '0 6 * * mon-fri'; got '{self.cron}': {fault}")
            return
        if coming is None:
            yield Problem("option-value", "cron", f"a time that comes; '{self.cron}' never does")

    def gives(self) -> Mapping[str, Type]:
        """Return the fields of `data`, and when it was due."""
        own = {name: Type(KINDS[type(value)], value is None) for name, value in self.data.items()}
        return own | {"at": Type("text"), "local": Type("text")}

    def open(self) -> Reader:
        """Return a reader whose position is when the last tick was due (microseconds)."""
        return Ticks(self)


class Ticks:
    """Reads ticks by the clock."""

    def __init__(self, options: Timer) -> None:
        self.options, self._zone = options, ZoneInfo(options.zone)

    def read(self, position: Any, now: int, limit: int) -> Pull:
        """Return the ticks that are due after `position`; the first is the next after the start."""
        after = now if position is None else int(position)
        due = list(islice(self._until(after, now), AT_ONCE))
        skipped = self._skipped(bisect_left(due, now - LATE))
        taken = due[skipped:][:limit]
        last = taken[-1] if taken else due[-1] if due else after
        return Pull([(at, self._arrival(at)) for at in taken], last, self._next(last), skipped=skipped)

    def _skipped(self, missed: int) -> int:
        """Return how many of so many ticks that were missed are left out."""
        return {"skip": missed, "last": max(0, missed - 1), "all": 0}[self.options.on_missed]

    def _until(self, after: int, now: int) -> Iterator[int]:
        for at in self._after(after):
            if at > now:
                return
            yield at

    def _after(self, after: int) -> Iterator[int]:
        """Yield every tick after a moment, in microseconds since 1970."""
        if self.options.every is not None:
            at = after
            while True:
                at += self.options.every - at % self.options.every
                yield at
        start = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=after)
        for moment in CronSim(self.options.cron or "", start.astimezone(self._zone)):
            yield int(moment.timestamp()) * MICROSECONDS

    def _next(self, after: int) -> int | None:
        return next(self._after(after), None)

    def _arrival(self, at: int) -> Arrival:
        local = datetime.fromtimestamp(at / MICROSECONDS, self._zone)
        told = local.astimezone(UTC).isoformat().replace("+00:00", "Z")
        return Arrival(msgspec.json.encode({**self.options.data, "at": told, "local": local.isoformat()}))

    def close(self) -> None:
        """Do nothing: the clock stays."""
