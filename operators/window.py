"""`window`: what happened in each stretch of time."""

from collections.abc import Callable, Iterable, Sequence
from functools import cached_property, lru_cache
from typing import Any, Literal

import msgspec
from pydantic import Field, model_validator

from engine.api import (
    Duration,
    Emit,
    Event,
    EventFault,
    Example,
    Expression,
    Flow,
    Loop,
    LoopWriter,
    Node,
    Slow,
    Stateful,
    component,
    derived_id,
    moment,
)

NUMBERS = ("sum", "mean", "min", "max")
LARGEST = 1 << 63
_moment = lru_cache(64)(moment)  # keys close together
MANY = 600


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

    def slow(self, flow: Flow, node: Node) -> Iterable[Slow]:
        """Warn of many windows that are open at a time."""
        if self.by == "event" and self.lateness > MANY * self.every:
            many = self.lateness // self.every
            costs = f"up to {many} windows of a key are open at a time: with 600, 6 times the time of 10"
            yield Slow("lateness", costs, "a shorter lateness, or a longer every")

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

    def on_events(
        self, states: dict[str, Open], events: Sequence[Event], emit: Emit, one: Callable[[Event], None]
    ) -> Iterable[str]:
        """Add the events whose window is open, or whose key is new; the others go one by one."""
        return self.loop(states, events, emit, one)

    @cached_property
    def loop(self) -> Loop:
        """Return the loop for what is computed here."""
        loop = LoopWriter(lasting=["b = None"])
        with loop.attempt():
            known = {m.of: _write_value(loop, m.of) for m in self.measures if m.of is not None}
            loop.line("a = e.arrival")
            if self.by == "event":
                loop.line(f"t = e.time; w = t - t % {self.every}")
        if self.by == "arrival":
            loop.line(f"if a != b: b = a; w = a - a % {self.every}")
        for value in dict.fromkeys(known[m.of] for m in self.measures if m.of is not None and m.does in NUMBERS):
            loop.leave(f"if {_no_number(value)}:")
        with loop.block("if s is None:"):
            self._write_new(loop)
        with loop.block("else:"):
            self._write_open(loop)
        loop.line("k[0] += 1")
        for index, measure in enumerate(self.measures, 1):
            if measure.of is not None:
                _write_add(loop, measure.does, f"k[{index}]", known[measure.of])
        return loop.compiled("<window>")

    def _write_new(self, loop: LoopWriter) -> None:
        """Open the first window of a key."""
        loop.leave(f"if w + {self.every} <= 0:")
        loop.line(f"k = [0{', None' * len(self.measures)}]")
        latest, closed = ("e.time if e.time > a else a", "a") if self.by == "arrival" else ("t", f"t - {self.lateness}")
        closed = f"c if (c := {closed}) > 0 else 0"
        loop.line(f"states[y] = {loop.bind(Open)}({latest}, a, {closed}, {{w: k}})")
        loop.line("changed.append(y)")

    def _write_open(self, loop: LoopWriter) -> None:
        """Find the window and move the key's times on; what closes a window is left."""
        loop.line("o = s.windows; k = o.get(w)")
        if self.by == "arrival":
            loop.leave("if k is None or len(o) > 1 or a < s.closed:")
            loop.line("s.arrived = s.closed = a")
            loop.line("if a > s.latest: s.latest = a")
            return
        loop.line(f"l = s.latest; m = t if t > l else l; q = a - s.arrived; c = m - {self.lateness}")
        first = f"(w if len(o) == 1 else min(o)) + {self.every}"
        loop.leave(f"if k is None or q > {self.idle} or {first} <= c:")
        loop.line("if m - l > q: changed.append(y)")
        loop.line("s.latest = m; s.arrived = a")
        loop.line("if c > s.closed: s.closed = c")

    def _watermark(self, state: Open, now: int) -> int:
        """Return how far the key's time is certain."""
        if self.by == "arrival":
            return now
        return state.latest - self.lateness + max(0, now - state.arrived - self.idle)

    def _close(self, state: Open, key: str, watermark: int, now: int, emit: Emit) -> None:
        state.closed, every, windows = max(state.closed, watermark), self.every, state.windows
        for start in sorted([start for start in windows if start + every <= watermark]):
            kept, end = windows.pop(start), start + every
            data: dict[str, Any] = {"key": key, "start": _moment(start), "end": _moment(end)}
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


def _write_value(loop: LoopWriter, of: Expression) -> str:
    value = loop.name("m")
    loop.line(f"{value} = {loop.expression(of)}")
    return value


def _no_number(value: str) -> str:
    """Return the source of a condition: what `_number` may refuse."""
    is_int = f"{value}.__class__ is int and -{LARGEST} < {value} < {LARGEST}"
    return f"not ({value}.__class__ is float or {value} is None or {is_int})"


def _write_add(loop: LoopWriter, does: str, kept: str, value: str) -> None:
    """Write `_add` for one measure."""
    with loop.block(f"if {value} is not None:"):
        if does == "last":
            loop.line(f"{kept} = {value}")
            return
        loop.line(f"g = {kept}")
        if does == "first":
            loop.line(f"if g is None: {kept} = {value}")
        elif does in ("min", "max"):
            loop.line(f"if g is None or {value} {'<' if does == 'min' else '>'} g: {kept} = {value}")
        else:
            first, target = (f"[{value}, 1]", "g[0]") if does == "mean" else (value, kept)
            loop.line(f"if g is None: {kept} = {first}")
            with loop.block("else:"):
                loop.line(f"h = {target if does == 'mean' else 'g'} + {value}")
                loop.line(f"{target} = h if -{LARGEST} < h < {LARGEST} else float(h)")
                if does == "mean":
                    loop.line("g[1] += 1")


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
