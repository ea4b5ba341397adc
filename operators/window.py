"""`window`: what happened in each stretch of time, each so many events, or while a state lasted."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from math import gcd
from typing import Literal

from pydantic import Field, model_validator

from engine.api import (
    Duration,
    Emit,
    Event,
    Example,
    Expression,
    Flow,
    Loop,
    Node,
    Problem,
    Slow,
    Stateful,
    Type,
    component,
    measure,
    measures_many,
    window_loop,
    window_runs,
    window_shapes,
    windows,
)

MANY = 600
MANY_PANES = 100
MANY_COUNTED = 10
MOST_PANES = 10_000
MOST_COUNTED = 1000
SHAPES = "every, gap, count, state, or opens and closes"


@component("window")
class Window(Stateful[windows.Open]):
    """Compute over stretches of time, over so many events, or over how long a state lasts; for each key by itself.

    `every` alone is tumbling: a window begins at a multiple of it since 1970. With `length` windows overlap (sliding):
    one of that length begins at each multiple of `every`. `gap` is a session: it goes on until nothing comes for that
    long, and ends with its last event. `count` is so many events, with `step` one window from every so many events on.
    `state` lasts while a value stays the same, and ends with the event that has another; an event without the value
    belongs to the state that was. `opens` and `closes` are conditions: the closing event belongs to the window; with
    one of the two, a window ends where the next begins.

    A window closes when the key's watermark reaches its end: by arrival time the watermark is the clock, by event time
    it is the key's greatest event time less `lateness`. Where nothing comes for `idle`, the watermark goes on with the
    clock, so the last window closes too. An end of input, a restart, a redeploy and an outage of the gateway leave
    windows open; while a broker is away time goes on, so `idle` should be longer than that may be. By event time, the
    order in which events come makes no difference within the lateness: sessions become one where an event joins them;
    `count`, `state`, conditions and `longest` let events wait until it is certain that no earlier one comes (at most
    10,000 of a key; with more, the earliest no longer waits). An event that comes later still is `on_late`.

    The result has the key, `start`, `end`, for `state` its value, and the computed values; its time is the window's
    end. With `early` or `revise_for` it has `final` and `revision`, which counts the rows of a window from 0. Each
    revision is an event of its own: a table that is to have the last one has `mode: upsert`, by key and start.

    Measures of an expression: sum, mean, min, max, range (max - min), first, last and delta (last - first) in order of
    time; variance and stddev (of a sample, n - 1), variance_population and stddev_population; median, and percentile
    with `at` (0 to 100), exact to 1000 values of a window, linear between ranks, then by DDSketch within 1 % of the
    value; distinct, exact to 1000 different values, then by HyperLogLog with a standard error of 1.6 %; mode, and top
    with `most`, the most frequent values, exact to 1000 different ones, then too low by at most a thousandth of all;
    histogram with `edges`, how many were below the first, from each up to the next, and from the last on. Alone or of
    an expression: count (of events, or values) and rate (events, or value, a second).
    """

    every: Duration | None = Field(None, gt=0)
    """How long a window is; with `length`, how often one begins."""
    length: Duration | None = Field(None, gt=0)
    """How long a sliding window is: at least `every`."""
    gap: Duration | None = Field(None, gt=0)
    """The silence that ends a session."""
    count: int | None = Field(None, ge=1)
    """How many events a window has."""
    step: int | None = Field(None, ge=1)
    """With `count`: after how many events the next window begins."""
    state: Expression | None = None
    """A window lasts while this stays the same: text, a number, true or false."""
    opens: Expression | None = None
    """What holds for an event that begins a window."""
    closes: Expression | None = None
    """What holds for the last event of a window."""
    longest: Duration | None = Field(None, gt=0)
    """With `gap`, `count`, `state`, `opens` or `closes`: how long a window may last; the next event begins another."""
    by: Literal["arrival", "event"] = "arrival"
    """Which time counts: of arrival, or the event's own."""
    lateness: Duration = 0
    """How much later than the greatest event time an event may come."""
    idle: Duration = 30_000_000
    """How long (arrival time) a key may be silent before its windows close with the clock."""
    on_resume: Literal["rebase", "advance"] = "rebase"
    """Whether silence (`idle`, `gap`) goes on after the gateway was down as if it had not been, or counts that time."""
    early: Duration | None = Field(None, gt=0)
    """At which multiples of the clock open windows come out as they are, `final: false`, where events were added."""
    on_late: Literal["drop", "output", "revise"] = "output"
    """An event for a closed window: dropped, given to `.late`, or added, and the corrected row comes out."""
    revise_for: Duration | None = Field(None, gt=0)
    """With `on_late: revise`: how long after its end (event time) a window is kept to be corrected."""
    compute: dict[str, str | dict[str, Expression | list[float]]] = Field(default={"count": "count"})
    """Name → `count` or `rate`, or a measure with an expression: `{top: {max: t}, high: {percentile: t, at: 95}}`."""

    state_type = windows.Open
    state_free = frozenset({"lateness", "idle", "on_resume", "early", "on_late", "revise_for"})
    makes, unwired = frozenset({""}), {"late": "late"}
    outputs = {"late": "events whose window was closed"}
    examples = (
        Example(
            about="Mean and greatest temperature in ten seconds.",
            config="window: {every: 10s, compute: {n: count, mean: {mean: t}, top: {max: t}}}",
            given=[{"at": "0s", "t": 1}, {"at": "9s", "t": 3}, {"at": "21s", "t": 5}],
            expect=[{"n": 2, "mean": 2.0, "top": 3}, {"n": 1, "mean": 5.0, "top": 5}],
        ),
        Example(
            about="Sliding: every ten seconds the median and the range of the last twenty.",
            config="window: {length: 20s, every: 10s, compute: {mid: {median: t}, range: {range: t}}}",
            given=[{"at": "1s", "t": 1}, {"at": "2s", "t": 4}, {"at": "12s", "t": 9}],
            expect=[{"mid": 2.5, "range": 3}, {"mid": 4.0, "range": 8}, {"mid": 9.0, "range": 0}],
        ),
        Example(
            about="Session: a visit ends when nothing comes for five minutes.",
            config="window: {gap: 5m, compute: {pages: count, different: {distinct: page}, last: {last: page}}}",
            given=[{"at": "0s", "page": "a"}, {"at": "4m", "page": "b"}, {"at": "8m", "page": "a"}, {"at": "13m"}],
            expect=[{"pages": 3, "different": 2, "last": "a"}, {"pages": 1, "different": 0, "last": None}],
        ),
        Example(
            about="Count: mean and standard deviation of each three events, from every second one on.",
            config="window: {count: 3, step: 2, compute: {mean: {mean: v}, s: {stddev: v}}}",
            given=[{"v": 1}, {"v": 2}, {"v": 3}, {"v": 4}, {"v": 8}, {"v": 6}],
            expect=[{"mean": 2.0, "s": 1.0}, {"mean": 5.0, "s": 2.6457513110645907}],
        ),
        Example(
            about="State: how long a machine ran, and what it used; it is cut after an hour.",
            config="window: {state: mode, longest: 1h, compute: {used: {delta: kwh}}}",
            given=[{"mode": "run", "kwh": 10}, {"at": "5s", "kwh": 12}, {"mode": "stop", "kwh": 13}],
            expect=[{"state": "run", "used": 2}, {"state": "stop", "used": 0}],
        ),
        Example(
            about="From a door's opening to its closing; what comes between two is in no window.",
            config='window: {opens: door == "open", closes: door == "shut", compute: {n: count, sum: {sum: people}}}',
            given=[{"people": 7}, {"door": "open"}, {"people": 2}, {"people": 3}, {"door": "shut"}, {"people": 9}],
            expect=[{"n": 4, "sum": 5}],
        ),
        Example(
            about="Early: an hour's count so far, each ten minutes in which it changed.",
            config="window: {every: 1h, early: 10m}",
            given=[{"at": "1m"}, {"at": "25m"}],
            expect=[{"count": 1, "final": False}, {"count": 2, "final": False}, {"count": 2, "final": True}],
        ),
    )

    @model_validator(mode="after")
    def _fits(self) -> "Window":
        for found in (*self._shape_faults(), *self._row_faults()):
            raise ValueError(found)
        own = ["key", "start", "end", *["state"] * (self.state is not None)]
        own += ["final", "revision"] * bool(self.early or self.revise_for)
        for name, given in self.compute.items():
            if name in own:
                raise ValueError(f"compute.{name}: another name than {', '.join(own)}, which a result has anyway")
            try:
                measures_many.measure(name, given)
            except ValueError as fault:
                raise ValueError(f"compute.{fault}") from None
        return self

    def _shape_faults(self) -> Iterator[str]:
        """Yield what is wrong with the options of the shape, each as `option: what is expected`."""
        shapes = [option for option in ("every", "gap", "count", "state") if getattr(self, option) is not None]
        shapes += ["opens"] if self.opens is not None else ["closes"] if self.closes is not None else []
        if len(shapes) != 1:
            yield f"one of {SHAPES}; got {' and '.join(shapes) or 'none of them'}"
        if self.length is not None and not (self.every and self.every <= self.length):
            yield "length: at least `every`, and with it"
        if self.length and self.every and gcd(self.length, self.every) * MOST_PANES < self.length:
            yield f"length: at most {MOST_PANES} times what `length` and `every` are both multiples of"
        if self.step is not None and not (self.count and self.step <= self.count <= self.step * MOST_COUNTED):
            yield f"step: at most `count`, at least a {MOST_COUNTED}th of it, and with it"
        if self.longest is not None and (self.every or (self.gap and self.gap > self.longest)):
            yield "longest: at least `gap`, and not with `every`"

    def _row_faults(self) -> Iterator[str]:
        """Yield what is wrong with the options that say when rows come out."""
        if self.by == "arrival" and self.on_late != "output":
            yield "on_late: `by: event` with it; by arrival nothing is late"
        if (self.on_late == "revise") != (self.revise_for is not None):
            yield "revise_for: how long a window can be corrected, with `on_late: revise` and not without"
        if self.on_late == "revise" and not self.every:
            yield "on_late: windows on the clock (`every`) to revise; others begin and end with their events"
        if self.early and self.every and self.early >= (self.length or self.every):
            yield "early: shorter than the window"
        if self.early and self.gap and not self.longest and self.by == "event":
            yield "early: `by: arrival`, or with `longest`; a session by event time may become one with another"

    def check(self, flow: Flow, node: Node) -> Iterable[Problem]:
        """Find a wire from `.late` where nothing comes out of it."""
        taken = [
            other.name
            for other in flow.nodes.values()
            for w in other.inputs
            if (w.node, w.output) == (node.name, "late")
        ]
        if self.on_late == "drop" and taken:
            yield Problem(
                "option-value", "on_late", f"output, since '{taken[0]}' takes `.late`; got drop", "on_late: output"
            )

    def slow(self, flow: Flow, node: Node) -> Iterable[Slow]:
        """Warn of many windows that are open at a time."""
        if self.by == "event" and self.every and self.lateness > MANY * self.every:
            many = self.lateness // self.every
            costs = f"up to {many} windows of a key are open at a time: with 600, 6 times the time of 10"
            yield Slow("lateness", costs, "a shorter lateness, or a longer every")
        if self.length and self.every and (panes := self.length // gcd(self.length, self.every)) > MANY_PANES:
            costs = f"each window is put together from {panes} parts: with 100, 4 times the time of a tumbling one"
            yield Slow("length", costs, "a shorter length, or a longer every that divides it")
        if self.count and self.step and (many := self.count // self.step) > MANY_COUNTED:
            yield Slow(
                "step", f"each event is added to {many} windows: with 100, 21 times the time of 1", "a longer step"
            )

    def gives(self, given: Mapping[str, Type] | None, output: str = "") -> Mapping[str, Type] | None:
        """Return the fields of a window's result."""
        if output:
            return given
        found = {"key": Type("text"), "start": Type("time"), "end": Type("time")}
        if self.state is not None:
            found["state"] = self.state.evident(given or {})
        found |= {m.name: m.gives for m in self.shape.measures.all}
        return found | ({"final": Type("boolean"), "revision": Type("number")} if self.terms.numbered else {})

    @cached_property
    def terms(self) -> windows.Terms:
        """Return what holds whatever the shape."""
        return windows.Terms(
            by_event=self.by == "event",
            lateness=self.lateness,
            idle=self.idle,
            rebase=self.on_resume == "rebase",
            early=self.early or 0,
            revise=self.revise_for or 0,
        )

    @cached_property
    def shape(self) -> windows.Windows:
        """Return the windows with what is computed over them."""
        timed = self.by == "event"
        found = [measures_many.measure(name, given, timed) for name, given in self.compute.items()]
        measures, terms, longest = measure.Measures(found), self.terms, self.longest
        if self.every:
            return window_shapes.Aligned(measures, terms, self.every, self.length or self.every)
        if self.count:
            return window_runs.Counted(measures, terms, longest, self.count, self.step or self.count)
        if self.state is not None:
            return window_runs.Lasting(measures, terms, longest, self.state)
        if self.gap is None:
            return window_runs.Conditional(measures, terms, longest, self.opens, self.closes)
        return (
            window_runs.Runs(measures, terms, longest, self.gap)
            if longest
            else window_shapes.Session(measures, terms, self.gap)
        )

    def on_event(self, state: windows.Open | None, event: Event, emit: Emit) -> windows.Open | None:
        """Close what the watermark has passed, then add the event to its windows."""
        return self.shape.on_event(state, event, emit)

    def on_events(
        self, states: dict[str, windows.Open], events: Sequence[Event], emit: Emit, one: Callable[[Event], None]
    ) -> Iterable[str]:
        """Add the events whose window is open, or whose key is new; the others go one by one."""
        if self.loop is None:
            return super().on_events(states, events, emit, one)
        return self.loop(states, events, emit, one)

    @cached_property
    def loop(self) -> Loop | None:
        """Return the loop for windows on the clock that come out once."""
        shape = self.shape
        if not isinstance(shape, window_shapes.Aligned) or self.terms.numbered:
            return None
        return window_loop.aligned_loop(shape)

    def due(self, state: windows.Open) -> int | None:
        """Return when the first window closes if nothing comes."""
        return self.shape.due(state)

    def on_time(self, state: windows.Open, key: str, now: int, emit: Emit) -> windows.Open | None:
        """Close what the clock has passed; by arrival nothing can be late then, so the key is forgotten."""
        return self.shape.on_time(state, key, now, emit)

    def on_gap(self, state: windows.Open, length: int) -> windows.Open:
        """Let the key's silence begin later by the time in which nothing could come."""
        return self.shape.on_gap(state, length)
