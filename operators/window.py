"""`window`: what happened in each stretch of time."""

from functools import cached_property
from typing import Any, Literal

import msgspec
from pydantic import Field, model_validator

from engine.api import Duration, Emit, Event, EventFault, Example, Expression, Stateful, component, derived_id, moment

NUMBERS = ("sum", "mean", "min", "max")
LARGEST = 1 << 63


class Measure(msgspec.Struct, frozen=True):
    """One computed value: its name, what it does and of what."""

    name: str
    does: str
    of: Expression | None


class Open(msgspec.Struct, array_like=True, gc=False):
    """The state of one key: greatest event time, last arrival, windows by start, and the start that closed last."""

    latest: int
    arrived: int
    closed: int
    windows: dict[int, list[Any]]


@component("window")
class Window(Stateful[Open]):
    """Compute over stretches of time (tumbling), for each key by itself.

    A window begins at a multiple of `every` since 1970 and closes when the key's watermark reaches its end: by
    arrival time the watermark is the clock, by event time it is the key's greatest event time less `lateness`. Where
    nothing comes for `idle`, the watermark goes on with the clock, so the last window closes too. An end of input, a
    restart, a redeploy and an outage of the gateway leave windows open; while a broker is away time goes on, so `idle`
    should be longer than that may be. An event for a closed window goes to `name.late`.

    The result has the key, `start`, `end` and the computed values; its time is the window's end.
    """

    every: Duration = Field(gt=0)
    """How long a window is."""
    by: Literal["arrival", "event"] = "arrival"
    """Which time counts: of arrival, or the event's own."""
    lateness: Duration = 0
    """How much later than the greatest event time an event may come."""
    idle: Duration = 30_000_000
    """How long (arrival time) a key may be silent before its windows close with the clock."""
    on_resume: Literal["rebase", "advance"] = "rebase"
    """By event time: whether `idle` goes on after the gateway was down as if it had not been, or counts that time."""
    compute: dict[str, str | dict[str, Expression]] = Field(default={"count": "count"})
    """Name → `count`, or one of sum, mean, min, max, first, last with an expression: `{top: {max: temperature}}`."""

    state_type = Open
    state_free = frozenset({"lateness", "idle", "on_resume"})
    makes, unwired = frozenset({""}), {"late": "late"}
    outputs = {"late": "events whose window was closed"}
    examples = (
        Example(
            about="Mean and greatest temperature in ten seconds.",
            config="window: {every: 10s, compute: {n: count, mean: {mean: t}, top: {max: t}}}",
            given=[{"at": "0s", "t": 1}, {"at": "9s", "t": 3}, {"at": "21s", "t": 5}],
            expect=[{"n": 2, "mean": 2.0, "top": 3}, {"n": 1, "mean": 5.0, "top": 5}],
        ),
    )

    @model_validator(mode="after")
    def _known(self) -> "Window":
        for name, spec in self.compute.items():
            does = spec if isinstance(spec, str) else next(iter(spec), "")
            if (
                does not in ("count", *NUMBERS, "first", "last")
                or (isinstance(spec, dict)) != (does != "count")
                or (isinstance(spec, dict) and len(spec) != 1)
            ):
                message = f"count, or one of {', '.join(NUMBERS)}, first, last with an expression"
                raise ValueError(f"compute.{name}: {message}")
        return self

    @cached_property
    def measures(self) -> list[Measure]:
        """Return what is computed, in order."""
        return [
            Measure(name, spec, None) if isinstance(spec, str) else Measure(name, *next(iter(spec.items())))
            for name, spec in self.compute.items()
        ]

    def on_event(self, state: Open | None, event: Event, emit: Emit) -> Open:
        """Close what the watermark has passed, then add the event to its window."""
        if state is None:
            state = Open(event.time, event.arrival, 0, {})
        time = event.arrival if self.by == "arrival" else event.time
        values = [None if m.of is None else _number(m, m.of(event)) for m in self.measures]
        self._close(state, event.key, self._watermark(state, event.arrival), event.arrival, emit)
        state.arrived = event.arrival
        start = time - time % self.every
        if start + self.every <= state.closed:
            emit(event, "late")
            return state
        state.latest = max(state.latest, time)
        kept = state.windows.setdefault(start, [0, *[None] * len(values)])
        kept[0] += 1
        for index, (measure, value) in enumerate(zip(self.measures, values, strict=True), 1):
            if value is not None:
                kept[index] = _add(measure.does, kept[index], value)
        self._close(state, event.key, self._watermark(state, event.arrival), event.arrival, emit)
        return state

    def _watermark(self, state: Open, now: int) -> int:
        """Return how far the key's time is certain."""
        if self.by == "arrival":
            return now
        return state.latest - self.lateness + max(0, now - state.arrived - self.idle)

    def _close(self, state: Open, key: str, watermark: int, now: int, emit: Emit) -> None:
        state.closed = max(state.closed, watermark)
        for start in sorted(start for start in state.windows if start + self.every <= watermark):
            kept, end = state.windows.pop(start), start + self.every
            data: dict[str, Any] = {"key": key, "start": moment(start), "end": moment(end)}
            data |= {m.name: _value(m.does, kept[0], value) for m, value in zip(self.measures, kept[1:], strict=True)}
            emit(
                Event(
                    derived_id(emit.node, key, start),
                    end,
                    key,
                    "",
                    "",
                    data,
                    None,
                    max(now, end) if self.by == "arrival" else now,
                )
            )

    def due(self, state: Open) -> int | None:
        """Return when the first window closes if nothing comes."""
        if not state.windows:
            return None
        end = min(state.windows) + self.every
        return end if self.by == "arrival" else state.arrived + self.idle + max(0, end - state.latest + self.lateness)

    def on_time(self, state: Open, key: str, now: int, emit: Emit) -> Open | None:
        """Close what the clock has passed; by arrival nothing can be late then, so the key is forgotten."""
        self._close(state, key, self._watermark(state, now), now, emit)
        return state if self.by == "event" or state.windows else None

    def on_gap(self, state: Open, length: int) -> Open:
        """Let the key's silence begin later by the time in which nothing could come."""
        if self.on_resume == "rebase":
            state.arrived += length
        return state


def _number(measure: Measure, value: Any) -> Any:
    if value is None or measure.does in ("first", "last"):
        return value
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise EventFault(f"compute.{measure.name}: a number; got {value!r}"[:200], {measure.name: value})
    if abs(value) >= LARGEST and isinstance(value, int):
        raise EventFault(f"compute.{measure.name}: a number of at most 64 bits", {measure.name: str(value)[:40]})
    return value


def _sum(kept: Any, value: Any) -> Any:
    """Add; what grows beyond 64 bits goes on as a floating-point number."""
    found = kept + value
    return float(found) if abs(found) >= LARGEST else found


def _add(does: str, kept: Any, value: Any) -> Any:
    if does == "mean":
        return [_sum(kept[0], value), kept[1] + 1] if kept else [value, 1]
    if kept is None:
        return value
    if does == "sum":
        return _sum(kept, value)
    if does in ("min", "max"):
        return min(kept, value) if does == "min" else max(kept, value)
    return kept if does == "first" else value


def _value(does: str, count: int, kept: Any) -> Any:
    if does == "count":
        return count
    return kept[0] / kept[1] if does == "mean" and kept else kept
