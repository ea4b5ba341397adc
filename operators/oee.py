"""`oee`: how much of the planned time a machine made good pieces at its ideal speed."""

import re
from collections.abc import Mapping
from functools import cached_property
from typing import Any, Literal

import msgspec
from pydantic import Field, field_validator, model_validator

from engine.api import (
    MICROSECONDS,
    Duration,
    Emit,
    Event,
    EventFault,
    Example,
    Expression,
    ShiftTimes,
    Stateful,
    Type,
    component,
    derived_id,
    measured,
    moment,
    whole,
    zone_of,
)

TIME_OF_DAY = re.compile(r"([01]\d|2[0-3]):[0-5]\d")
RUNNING, STOPPED, PLANNED, UNKNOWN = range(4)
TIMES = ("planned_time", "run_time", "down_time", "excluded_time", "unknown_time")
LOSSES = ("productive_time", "speed_loss", "quality_loss")
RATIOS = ("availability", "performance", "quality", "oee")


class Shift(msgspec.Struct, array_like=True, gc=False):
    """The state of one key: the shift, up to when its time is counted, the machine's state, and what was counted."""

    start: int
    end: int
    name: str
    since: int
    heard: int
    state: int = UNKNOWN
    times: list[int] = msgspec.field(default_factory=lambda: [0, 0, 0, 0])
    pieces: list[float] = msgspec.field(default_factory=lambda: [0.0, 0.0])
    ideal: list[float] = msgspec.field(default_factory=lambda: [0.0, 0.0])
    counters: list[float | None] = msgspec.field(default_factory=lambda: [None, None])


@component("oee")
class Oee(Stateful[Shift]):
    """Measure the overall equipment effectiveness: availability x performance x quality, by shift.

    An event may tell the machine's state (`of`), pieces made (`good`, `bad`), or both; a state lasts until the next
    one, in arrival time. One event comes out at each end of a shift, and where `report` holds, of what is known so far:

    - `planned_time` = `run_time` + `down_time`: the time less planned stops (`excluded_time`) and less that of which no
      state is known (`unknown_time`); all times in seconds
    - `availability` = run_time / planned_time
    - `performance` = ideal x total / run_time, above 1 where `ideal` is set too long
    - `quality` = good / total
    - `oee` = ideal x good / planned_time = availability x performance x quality
    - what the planned time was spent on: `planned_time` = `productive_time` + `down_time` + `speed_loss` +
      `quality_loss`, with productive_time = ideal x good, quality_loss = ideal x bad, speed_loss = the rest of run_time

    besides `key`, `start`, `end`, `shift`, `final` (false in a report), `total`, `good` and `bad`. A ratio with a
    divisor of 0 is none. A shift of which no state and no piece is known makes no event: then the key is forgotten.
    While the gateway is down, the machine counts as in the state before.

    Source: S. Nakajima, Introduction to TPM (1988); the definitions are those of Vorne's oee.com and ISO 22400-2.
    """

    of: Expression | None = None
    """The machine's state, text, a number or true and false; where it is none, nothing changes."""
    running: tuple[str | bool | int, ...] = ("running",)
    """The states in which it runs; in any other that is not planned it is down."""
    planned: tuple[str | bool | int, ...] = ("planned",)
    """The states in which nothing is to be made: breaks, no order; they are not counted as planned time."""
    good: Expression | None = None
    """Good pieces: a number."""
    bad: Expression | None = None
    """Rejected pieces, also those that are reworked: a number."""
    counts: Literal["pieces", "counter"] = "pieces"
    """What these numbers are: pieces since the event before, or a counter that grows; one that falls began at 0."""
    ideal: Expression
    """The ideal time of one piece, in seconds: the shortest that is possible, not the mean."""
    every: Duration | None = Field(None, gt=0)
    """How long a shift is; it begins at a multiple of it since 1970, UTC. Default 8h, where no `shifts` are named."""
    shifts: dict[str, str] = {}
    """Name of a shift → the time of day at which it begins, `HH:MM`; it lasts until the next begins."""
    zone: str = "UTC"
    """The time zone of `shifts`, as `Europe/Berlin`."""
    idle: Duration | None = Field(None, gt=0)
    """How long a machine may be silent before its state is unknown; by default, for ever."""
    report: Expression | None = None
    """What holds for an event that asks for the figures so far."""

    state_type = Shift
    state_free = frozenset({"of", "running", "planned", "ideal", "idle", "report"})
    makes = frozenset({""})
    examples = (
        Example(
            about="An hour with a break of ten minutes and a stop of ten; a piece should take one second.",
            config="oee: {of: state, good: good, bad: bad, ideal: 1.0, every: 1h, report: ask == true}",
            given=[
                {"at": "0s", "state": "running"},
                {"at": "10m", "state": "planned"},
                {"at": "20m", "state": "running"},
                {"at": "30m", "state": "jam"},
                {"at": "40m", "good": 880, "bad": 20, "ask": True},
            ],
            expect=[
                {
                    "final": False,
                    "planned_time": 1800.0,
                    "excluded_time": 600.0,
                    "down_time": 600.0,
                    "availability": 0.6666666666666666,
                    "performance": 0.75,
                    "quality": 0.9777777777777777,
                    "oee": 0.4888888888888889,
                    "productive_time": 880.0,
                    "speed_loss": 300.0,
                    "quality_loss": 20.0,
                },
                {"final": True, "good": 880, "down_time": 1000.0},
            ],
        ),
        Example(
            about="Early and late shift in local time; the machine's counters only grow.",
            config="oee: {of: on, running: [true], good: ok, counts: counter, ideal: 60, idle: 2h, "
            'shifts: {early: "06:00", late: "14:00", night: "22:00"}, zone: Europe/Berlin}',
            given=[{"at": "0s", "on": True, "ok": 100}, {"at": "30m", "ok": 115}, {"at": "1h", "ok": 5}, {"at": "7h"}],
            expect=[{"shift": "night", "good": 20, "run_time": 10800.0, "performance": 0.1111111111111111}],
        ),
    )

    @field_validator("zone")
    @classmethod
    def _known(cls, zone: str) -> str:
        return zone_of(zone).key

    @field_validator("shifts")
    @classmethod
    def _times(cls, shifts: dict[str, str]) -> dict[str, str]:
        for name, begins in shifts.items():
            if not TIME_OF_DAY.fullmatch(begins):
                raise ValueError(f"{name}: a time of day like 06:00")
        if len(set(shifts.values())) < len(shifts):
            raise ValueError("times of day that differ")
        return shifts

    @model_validator(mode="after")
    def _sensible(self) -> "Oee":
        if self.every is not None and self.shifts:
            raise ValueError("every: either every or shifts")
        if self.of is None or (self.good is None and self.bad is None):
            raise ValueError("of: of, and good or bad: availability needs states, performance and quality need pieces")
        return self

    def gives(self, given: Mapping[str, Type] | None, output: str = "") -> Mapping[str, Type] | None:
        """Return the fields of a shift."""
        if output:
            return super().gives(given, output)
        kinds = {"key": "text", "start": "time", "end": "time", "shift": "text", "final": "boolean"}
        found = {name: Type(kind) for name, kind in kinds.items()}
        found |= dict.fromkeys((*TIMES, *LOSSES), Type("float")) | dict.fromkeys(
            ("total", "good", "bad"), Type("number")
        )
        return found | dict.fromkeys(RATIOS, Type("float", null=True))

    def on_event(self, state: Shift | None, event: Event, emit: Emit) -> Shift | None:
        """Count the time so far in the state before, then take in what the event tells."""
        told = None if self.of is None else self._told(self.of(event))
        pieces = [self._pieces("good", self.good, event), self._pieces("bad", self.bad, event)]
        ideal = measured("ideal", self.ideal, event) if pieces != [None, None] else 0.0
        if ideal is None or ideal < 0:
            raise EventFault("ideal: a number of at least 0", {"ideal": ideal})
        asked = self.report is not None and bool(self.report(event))
        if state is None and told is None and pieces == [None, None]:
            return None
        now = event.arrival
        if state is None:
            state = self._begun(now)
        self._pass(state, now)
        if told is not None or pieces != [None, None]:
            state.heard = max(state.heard, now)
        state.state = state.state if told is None else told
        self._count(state, pieces, ideal)
        if asked:
            self._let_out(state, event.key, event.id, state.since, emit)
        return state

    def _told(self, value: Any) -> int | None:
        if value is None:
            return None
        if any(value == one and isinstance(value, bool) == isinstance(one, bool) for one in self.planned):
            return PLANNED
        held = any(value == one and isinstance(value, bool) == isinstance(one, bool) for one in self.running)
        return RUNNING if held else STOPPED

    def _pieces(self, option: str, of: Expression | None, event: Event) -> float | None:
        value = None if of is None else measured(option, of, event)
        if value is not None and value < 0:
            raise EventFault(f"{option}: a number of at least 0", {option: value})
        return value

    def _begun(self, now: int) -> Shift:
        start, end, name = self._bounds(now)
        return Shift(start, end, name, now, now)

    def _count(self, state: Shift, pieces: list[float | None], ideal: float) -> None:
        for at, number in enumerate(pieces):
            if number is None:
                continue
            made = number
            if self.counts == "counter":
                before = state.counters[at]
                state.counters[at] = number
                made = 0.0 if before is None else number - before if number >= before else number
            state.pieces[at] += made
            state.ideal[at] += made * ideal

    def _pass(self, state: Shift, now: int) -> None:
        """Count the time up to `now`, at most to the shift's end; after `idle` of silence it is unknown."""
        now = min(max(now, state.since), state.end)
        known = now if self.idle is None else min(now, max(state.since, state.heard + self.idle))
        state.times[state.state] += known - state.since
        if now > known:
            state.state = UNKNOWN
            state.times[UNKNOWN] += now - known
        state.since = now

    @cached_property
    def _times_of_day(self) -> ShiftTimes:
        return ShiftTimes(self.shifts, zone_of(self.zone))

    def _bounds(self, now: int) -> tuple[int, int, str]:
        """Return start, end and name of the shift at a time."""
        if self.shifts:
            return self._times_of_day.at(now)
        every = self.every or 8 * 3600 * MICROSECONDS
        return now - now % every, now - now % every + every, ""

    def due(self, state: Shift) -> int:
        """Return when the shift ends."""
        return state.end

    def on_time(self, state: Shift, key: str, now: int, emit: Emit) -> Shift | None:
        """Let the shift out and begin the next."""
        self._pass(state, now)
        if not any(state.pieces) and not any(state.times[:UNKNOWN]):
            return None
        self._let_out(state, key, state.start, now, emit)
        start, end, name = self._bounds(now)
        return Shift(start, end, name, now, state.heard, state.state, counters=state.counters)

    def _let_out(self, state: Shift, key: str, begin: int | bytes, now: int, emit: Emit) -> None:
        data = {"key": key, "start": moment(state.start), "end": moment(state.since), "shift": state.name}
        data |= {"final": not isinstance(begin, bytes), **figures(state)}
        emit(Event(derived_id(emit.node, key, begin), now, key, "", "", data, None, now))


def figures(state: Shift) -> dict[str, float | None]:
    """Return times and losses in seconds, pieces, and the ratios, none where the divisor is 0."""
    run, down, excluded, unknown = (spent / MICROSECONDS for spent in state.times)
    (good, bad), (productive, scrapped) = state.pieces, state.ideal
    planned, total = run + down, good + bad
    return {
        "planned_time": planned,
        "run_time": run,
        "down_time": down,
        "excluded_time": excluded,
        "unknown_time": unknown,
        "total": whole(total),
        "good": whole(good),
        "bad": whole(bad),
        "availability": _ratio(run, planned),
        "performance": _ratio(productive + scrapped, run),
        "quality": _ratio(good, total),
        "oee": _ratio(productive, planned),
        "productive_time": productive,
        "speed_loss": run - productive - scrapped,
        "quality_loss": scrapped,
    }


def _ratio(part: float, whole: float) -> float | None:
    return part / whole if whole else None
