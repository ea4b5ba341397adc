"""Operators that take many events in one loop give what they give event by event: outputs, faults and states."""

from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.component import Stateful
from engine.event import Event
from engine.gap import Gap
from engine.keyed import Aside, Clock, Gate, Mark, Shard
from engine.node_faults import explainer
from engine.outputs import COUNTS
from engine.testing import START
from tests.operators.replay import SECOND, flow_of

SHAPES: dict[str, tuple[str, str]] = {
    "tally": ("tally", "{of: result}"),
    "tally by fields": ("tally", "{of: result, by: [device, n], latest: {device: 1}, every: 0s}"),
    "tally apart": (
        "tally",
        "{of: result, by: [car_id], apart: {cam: n == 3, high: v > 3}, counts: {opened: opens, odd: n % 2 == 1}}",
    ),
    "window": ("window", "{every: 5s}"),
    "window of numbers": (
        "window",
        "{every: 5s, compute: {n: count, sum: {sum: v}, mean: {mean: v}, low: {min: v}, top: {max: n}}}",
    ),
    "window of anything": ("window", "{every: 5s, compute: {first: {first: v}, last: {last: v + 1}}}"),
    "window by event time": (
        "window",
        "{every: 5s, by: event, idle: 4s, compute: {n: count, mean: {mean: v}, sum: {sum: v}}}",
    ),
    "late window": (
        "window",
        "{every: 5s, by: event, lateness: 2s, idle: 20s, compute: {low: {min: n}, last: {last: v}}}",
    ),
    "change": ("change", "{of: [v, result, n]}"),
    "change of all": ("change", "{longest: 5s}"),
    "change with deadband": ("change", "{of: [v, n, device], deadband: {v: 2, n: 0.5}, percent: {v: 50}, longest: 9s}"),
    "latest": ("latest", "{}"),
    "latest of fields": ("latest", "{fields: [v, result, car_id], within: 3s, most: 2}"),
    "sliding window": (
        "window",
        "{length: 5s, every: 2s, compute: {n: count, mean: {mean: v}, mid: {median: n}, last: {last: v}, top: {mode: v}}}",
    ),
    "sliding window by event time": (
        "window",
        "{length: 4s, every: 2s, by: event, lateness: 3s, idle: 4s, compute: {d: {delta: n}, first: {first: v}}}",
    ),
    "group": ("group", "{opens: opens, as: g}"),
}
FLOWS = {name: flow_of(kind, yaml.safe_load(options)) for name, (kind, options) in SHAPES.items()}
VALUES = st.one_of(
    st.integers(-5, 5),
    st.floats(),
    st.sampled_from([None, "text", True, 2**63 - 1, -(2**63), 2**63, 2**70, [1], {"a": 1}]),
)
DATA = st.fixed_dictionaries(
    {"n": st.sampled_from([0, 1, 2, 3, None, "3"]), "v": VALUES},
    optional={
        "result": st.sampled_from(["OK", "DEFECT", "OTHER", None, 1, ["OK"]]),
        "device": st.sampled_from(["led", "wheel", 7, None, [1]]),
        "car_id": st.integers(1, 3),
        "opens": st.booleans(),
    },
)
STEP = st.sampled_from([0, 0, 0, 0, 1, 100_000, SECOND, 2 * SECOND, 2 * SECOND, 6 * SECOND, 25 * SECOND, -SECOND])
BEHIND = st.sampled_from([0, 0, 0, 1, SECOND, 4 * SECOND, 9 * SECOND, -SECOND, -30 * SECOND, START + 3 * SECOND])
MOMENT = st.tuples(STEP, BEHIND, st.sampled_from("abc"), DATA)
CHUNKS = st.lists(st.tuples(st.sampled_from("....am"), st.lists(MOMENT, min_size=1, max_size=8)), max_size=8)


class OneByOne(Shard):
    """A shard that leaves nothing to loops, and looks at the clock before each event."""

    def _chunk(self, events: list[Event]) -> None:
        for event in events:
            if event.arrival > self.now and type(events) is not Aside:
                self._pass(event.arrival)
            self._event(event)


def shard(name: str, made: type[Shard] = Shard) -> Shard:
    node = FLOWS[name].nodes["made"]
    component: Any = node.component
    wired = frozenset({"", "errors", *component.outputs})
    clock = Clock()
    clock.learn([Gap(START + 7 * SECOND, START + 20 * SECOND)])
    return made("made", component, wired, "0", clock, Gate(("sources",)), explainer(node))


def items_of(chunks: list[tuple[str, list[Any]]]) -> list[Any]:
    """Return chunks of events (some of them Aside) and marks; an arrival may be before the one before it."""
    found: list[Any] = []
    at, number = START, 0
    for kind, moments in chunks:
        events = Aside() if kind == "a" else []
        for step, behind, key, data in moments:
            at, number = at + step, number + 1
            events.append(Event(number.to_bytes(16, "big"), at - behind, key, "given", "t", data, None, at))
        found.append(events)
        if kind == "m":
            found.append(Mark("sources", at))
    return found


def outcome(one: Shard, items: list[Any]) -> list[str]:
    """Return as text what comes out of each item, with the states after it: a number that is none equals itself so."""
    found = []
    for item in items:
        runs = one.on_batch([item])
        found.append(repr([run for run in runs if isinstance(run, Mark) or run[0] != COUNTS]))
        found.append(repr(sorted(run[1] for run in runs if not isinstance(run, Mark) and run[0] == COUNTS)))
        found.append(repr((one.now, one.states)))
    return found


@pytest.mark.parametrize("name", SHAPES)
@settings(max_examples=30)
@given(chunks=CHUNKS)
def test_a_loop_gives_what_its_events_give_one_by_one(name: str, chunks: list[tuple[str, list[Any]]]) -> None:
    items = items_of([*chunks, ("m", [(60 * SECOND, 0, "a", {})])])
    assert outcome(shard(name), items) == outcome(shard(name, OneByOne), items)


@pytest.mark.parametrize("name", SHAPES)
def test_it_has_a_loop(name: str) -> None:
    assert type(FLOWS[name].nodes["made"].component).on_events is not Stateful.on_events  # type: ignore[attr-defined]
