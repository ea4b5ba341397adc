"""`tally`: counts of good and bad, in all and by field, kept as events come."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cached_property, lru_cache
from typing import Any

import msgspec
from pydantic import field_validator

from engine.api import (
    Duration,
    Emit,
    Event,
    Example,
    Expression,
    Flow,
    Loop,
    LoopWriter,
    Node,
    Problem,
    Slow,
    Stateful,
    Type,
    component,
    derived_id,
    moment,
    unknown_fields,
)

Pair = list[int]
OFTEN = 20_000  # microseconds


class Counts(msgspec.Struct, array_like=True, gc=False):
    """The state of one key: good and bad in all, by field and value, held apart, and plain counters."""

    total: Pair
    by: dict[str, dict[str, Pair]]
    apart: dict[str, Pair]
    counts: dict[str, int]
    updated: int = 0
    emitted: int = 0
    dirty: bool = False


_moment = lru_cache(64)(moment)


@component("tally")
class Tally(Stateful[Counts]):
    """Count good and bad values of a field, in all and for each value of other fields.

    What comes out is the whole statistics: `total`, one count for good and bad under their names in small letters
    (`ok`, `defect`), the bad one's rate (`defect_rate`, 0..1), `by_<field>` for each of `by` (without an ending `_id`),
    the `apart` and `counts`, and `updated_at`. It comes out at the first change and then at most once in `every` of
    arrival time, the last state always.
    """

    of: str
    """The field that is judged; an event without it changes only `counts`."""
    good: str = "OK"
    """The value that counts as good."""
    bad: str = "DEFECT"
    """The value that counts as bad; other values are not counted."""
    by: list[str] = []
    """Fields that the counts are broken down by."""
    latest: dict[str, int] = {}
    """Field of `by` → how many of its values are kept, the latest first seen (default 1000)."""
    apart: dict[str, Expression] = {}
    """Name → condition: events for which it holds are counted under that name and not in the rest."""
    counts: dict[str, Expression] = {}
    """Name → condition: how many events it held for."""
    every: Duration = 100_000
    """The least time between two outputs."""

    state_type = Counts
    makes = frozenset({""})
    state_free = frozenset({"every", "latest"})
    examples = (
        Example(
            about="Defect rate in all and by device.",
            config="tally: {of: result, by: [device]}",
            given=[{"at": "0s", "device": "LED", "result": "OK"}, {"at": "1s", "device": "LED", "result": "DEFECT"}],
            expect=[
                {"total": 1, "ok": 1, "defect": 0, "defect_rate": 0.0, "by_device": {"LED": {"total": 1}}},
                {"total": 2, "ok": 1, "defect": 1, "defect_rate": 0.5},
            ],
        ),
    )

    @field_validator("latest")
    @classmethod
    def _positive(cls, latest: dict[str, int]) -> dict[str, int]:
        if any(most < 1 for most in latest.values()):
            raise ValueError("numbers of at least 1")
        return latest

    def gives(self, given: Mapping[str, Type] | None, output: str = "") -> Mapping[str, Type] | None:
        """Return the statistics' fields."""
        if output:
            return super().gives(given, output)
        kinds = {dict: Type("dict"), float: Type("float"), int: Type("number")}
        return {name: kinds.get(type(value), Type("time", null=True)) for name, value in self.empty().items()}

    def check_fields(self, flow: Flow, node: Node, given: Mapping[str, Type]) -> Iterable[Problem]:
        """Find fields that do not come in, and a judgement that cannot be one of two texts."""
        named = [("of", self.of), *((f"by.{at}", field) for at, field in enumerate(self.by))]
        yield from unknown_fields(flow, named, given)
        judged = given.get(self.of, Type("any"))
        if judged.kind not in ("any", "none", "text"):
            yield Problem("field-type", "of", f"a field with text like '{self.good}'; '{self.of}' is {judged.shown}")

    def slow(self, flow: Flow, node: Node) -> Iterable[Slow]:
        """Warn of the whole statistics coming out for nearly every event."""
        if self.by and self.every < OFTEN:
            costs = "all of `by` comes out for nearly every event: with 120 values, 4 times the time at 1,000 a second"
            yield Slow("every", costs, "every: 100ms, or a tally without `by` beside this one")

    def on_event(self, state: Counts | None, event: Event, emit: Emit) -> Counts:
        """Count the event; emit when the last output is long enough ago."""
        if state is None:
            state = self._nothing()
        if not self._count(state, event.data.get(self.of), event):
            return state
        state.updated = max(state.updated, event.time)
        if event.arrival >= state.emitted + self.every:
            self.let_out(state, event.key, event.arrival, event.id, emit)
        else:
            state.dirty = True
        return state

    def _nothing(self) -> Counts:
        by: dict[str, dict[str, Pair]] = {field: {} for field in self.by}
        return Counts([0, 0], by, {name: [0, 0] for name in self.apart}, dict.fromkeys(self.counts, 0))

    def _count(self, state: Counts, value: Any, event: Event) -> bool:
        held = [name for name, condition in self.counts.items() if condition(event)]
        apart = next((name for name, condition in self.apart.items() if condition(event)), None)
        for name in held:
            state.counts[name] += 1
        index = 0 if value == self.good else 1 if value == self.bad else None
        if index is None:
            return bool(held)
        if apart is not None:
            state.apart[apart][index] += 1
            return True
        state.total[index] += 1
        for field in self.by:
            self._by(state.by[field], event.data.get(field), field, index)
        return True

    def _by(self, pairs: dict[str, Pair], value: Any, field: str, index: int) -> None:
        if value is None:
            return
        text = value if type(value) is str else str(value)
        pair = pairs.get(text)
        if pair is None:
            pair = pairs[text] = [0, 0]
            if len(pairs) > self.latest.get(field, 1000):
                del pairs[next(iter(pairs))]
        pair[index] += 1

    def on_events(
        self, states: dict[str, Counts], events: Sequence[Event], emit: Emit, one: Callable[[Event], None]
    ) -> Iterable[str]:
        """Count the events; what fails goes by itself."""
        return self.loop(states, events, emit, one)

    @cached_property
    def loop(self) -> Loop:
        """Return the loop for what is counted here."""
        loop = LoopWriter()
        held, texts = {name: loop.name("h") for name in self.counts}, {field: loop.name("b") for field in self.by}
        with loop.attempt():
            for name, condition in self.counts.items():
                loop.line(f"{held[name]} = {loop.expression(condition)}")
            apart = [f"{at} if {loop.expression(c)} else " for at, c in enumerate(self.apart.values())]
            loop.line(f"x = {''.join(apart)}-1")
            loop.line(f"v = d.get({self.of!r}); i = 0 if v == {self.good!r} else 1 if v == {self.bad!r} else 2")
            for field, text in texts.items():
                loop.line(f"{text} = d.get({field!r})")
                loop.line(f"if {text}.__class__ is not str and {text} is not None: {text} = str({text})")
        loop.line(f"if s is None: s = states[y] = {loop.bind(self._nothing)}()")
        for name, holds in held.items():
            loop.line(f"if {holds}: s.counts[{name!r}] += 1")
        self._write_count(loop, list(held.values()), texts)
        loop.line("a = e.arrival; u = e.time")
        loop.line("if u > s.updated: s.updated = u")
        loop.line(f"if a >= s.emitted + {self.every}: {loop.bind(self.let_out)}(s, y, a, e.id, emit)")
        loop.line("elif not s.dirty: s.dirty = True; changed.append(y)")
        return loop.compiled("<tally>")

    def _write_count(self, loop: LoopWriter, held: list[str], texts: dict[str, str]) -> None:
        """Write what a judged event counts: `i` is 0 for good, 1 for bad, 2 for neither; `x` is where it is apart."""
        with loop.block("if i == 2:"):
            loop.line(f"if not ({' or '.join(held) or False}): continue")
        if self.apart:
            loop.line(f"elif x >= 0: s.apart[{loop.bind(tuple(self.apart))}[x]][i] += 1")
        with loop.block("else:"):
            loop.line("s.total[i] += 1")
            for field, text in texts.items():
                with loop.block(f"if {text} is not None:"):
                    loop.line(f"q = s.by[{field!r}]; p = q.get({text})")
                    with loop.block("if p is None:"):
                        loop.line(f"p = q[{text}] = [0, 0]")
                        loop.line(f"if len(q) > {self.latest.get(field, 1000)}: del q[next(iter(q))]")
                    loop.line("p[i] += 1")

    def due(self, state: Counts) -> int | None:
        """Return when a held-back state comes out."""
        return state.emitted + self.every if state.dirty else None

    def on_time(self, state: Counts, key: str, now: int, emit: Emit) -> Counts:
        """Let the last state out."""
        self.let_out(state, key, now, now, emit)
        return state

    @cached_property
    def let_out(self) -> Callable[[Counts, str, int, int | bytes, Emit], None]:
        """Return what emits a state, as of (state, key, now, start, emit); many keys may do so at every event."""
        pair, fields, plain = self.pair, self.fields, not (self.by or self.counts or self.apart)

        def let_out(state: Counts, key: str, now: int, start: int | bytes, emit: Emit) -> None:
            state.emitted, state.dirty, updated = now, False, state.updated
            found = pair(state.total)
            if not plain:
                for field, pairs in state.by.items():
                    found[fields[field]] = {value: pair(counted) for value, counted in pairs.items()}
                found |= state.counts
                found |= {name: pair(counted) for name, counted in state.apart.items()}
            found["updated_at"] = _moment(updated)
            emit(Event(derived_id(emit.node, key, start), updated, key, "", "", found, None, now))

        return let_out

    @cached_property
    def fields(self) -> dict[str, str]:
        """Return the field of the output for each of `by`."""
        return {field: f"by_{field.removesuffix('_id')}" for field in self.by}

    @cached_property
    def pair(self) -> Callable[[Pair], dict[str, Any]]:
        """Return what makes the fields of a good and a bad count."""
        good_name, bad_name, rate_name = self.good.lower(), self.bad.lower(), f"{self.bad.lower()}_rate"

        def pair(counted: Pair) -> dict[str, Any]:
            good, bad = counted
            total = good + bad
            rate = round(bad / total, 6) if bad else 0.0
            return {"total": total, good_name: good, bad_name: bad, rate_name: rate}

        return pair

    def empty(self) -> dict[str, Any]:
        """Return the statistics before the first event."""
        nothing = self.pair([0, 0])
        by: dict[str, Any] = {field: {} for field in self.fields.values()}
        return nothing | by | dict.fromkeys(self.counts, 0) | dict.fromkeys(self.apart, nothing) | {"updated_at": None}
