"""Every operator with memory gives the same whatever the batches, the marks and the restarts."""

import tempfile
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.component import Stateful
from engine.flow import Flow
from engine.harness import Harness, Sent, block_of
from engine.load import load_text
from engine.registry import components
from tests.engine.bytewax_case import Batch, run_bytewax
from tests.operators.replay import (
    LATER,
    Cut,
    Traffic,
    by_id,
    cuts,
    flow_of,
    kills,
    one_by_one,
    replayed,
    result,
    shown,
    streams,
    traffic,
)  # fmt: skip

TIMED = "{mqtt: {topics: [t], time: t}}"
SHAPES: dict[str, tuple[str, Any, str, str]] = {
    "group": ("group", {"opens": "opens", "as": "g"}, "k", TIMED),
    "number": ("number", {"as": "id"}, "", TIMED),
    "tally": (
        "tally",
        {
            "of": "result",
            "by": ["device"],
            "every": "2s",
            "apart": {"cam": "n == 3"},
            "latest": {"device": 2},
            "counts": {"opened": "opens", "high": "v > 3"},
        },
        "k",
        TIMED,
    ),
    "window by arrival": (
        "window",
        {"every": "10s", "compute": {"n": "count", "sum": {"sum": "v"}, "last": {"last": "v"}}},
        "k",
        TIMED,
    ),
    "window by event time": (
        "window",
        {
            "every": "10s",
            "by": "event",
            "lateness": "5s",
            "idle": "20s",
            "compute": {"n": "count", "mean": {"mean": "v"}, "top": {"max": "n"}},
        },
        "k",
        TIMED,
    ),
    "window that counts downtime": (
        "window",
        {"every": "10s", "by": "event", "idle": "20s", "on_resume": "advance"},
        "k",
        TIMED,
    ),
    "dedupe": ("dedupe", {"by": "n", "within": "5s", "most": 3}, "k", TIMED),
    "dedupe whole": ("dedupe", {"within": "20s"}, "device", TIMED),
    "throttle first": ("throttle", {"every": "3s"}, "k", TIMED),
    "throttle last": ("throttle", {"every": "3s", "keep": "last"}, "k", TIMED),
}
FLOWS: dict[str, Flow] = {name: flow_of(*shape) for name, shape in SHAPES.items()}


def test_every_operator_with_memory_has_a_property_test() -> None:
    stateful = {kind for kind, cls in components("operators").items() if issubclass(cls, Stateful)}
    assert {kind for kind, *_ in SHAPES.values()} == stateful


@pytest.mark.parametrize("name", SHAPES)
@settings(max_examples=120)
@given(messages=streams(), cuts=cuts)
def test_batches_marks_and_restarts_make_no_difference(name: str, messages: list[Sent], cuts: list[Cut]) -> None:
    assert replayed(FLOWS[name], messages, cuts) == one_by_one(FLOWS[name], messages)


@pytest.mark.parametrize("name", SHAPES)
@settings(max_examples=80)
@given(traffic=traffic(), cuts=cuts)
def test_nor_do_they_where_the_gateway_was_down(name: str, traffic: Traffic, cuts: list[Cut]) -> None:
    expected = one_by_one(FLOWS[name], traffic.messages, traffic.gaps)
    assert replayed(FLOWS[name], traffic.messages, cuts, traffic.gaps) == expected


@pytest.mark.parametrize("name", SHAPES)
@settings(max_examples=80)
@given(traffic=traffic(), kills=kills)
def test_a_kill_at_any_point_gives_the_same_events_from_any_snapshot(
    name: str, traffic: Traffic, kills: list[Cut]
) -> None:
    """What is read again after a kill comes out again, with the same ids; and nothing else does."""
    expected = one_by_one(FLOWS[name], traffic.messages, traffic.gaps)
    assert by_id(replayed(FLOWS[name], traffic.messages, kills, traffic.gaps)) == by_id(expected)


@pytest.mark.parametrize("name", SHAPES)
@settings(max_examples=40)
@given(messages=streams(), cuts=cuts)
def test_nothing_is_lost_and_nothing_doubled(name: str, messages: list[Sent], cuts: list[Cut]) -> None:
    """Every event that an operator was given goes out, goes to a side output, is counted in, or is a dead letter."""
    found = replayed(FLOWS[name], messages, cuts)
    for key, events in found.items():
        identities = [event[0] for event in events]
        assert len(identities) == len(set(identities)), key
    if SHAPES[name][0] in ("dedupe", "throttle", "group", "number"):
        apart = ("opened/", "errors/")
        passed = sum(len(events) for key, events in found.items() if not key.startswith(apart))
        assert passed == len(messages)


WHOLE = """
flow: f
sources: {given: {mqtt: {topics: [t], time: t}}}
operators:
  checked: {from: given, validate: {k: text, n: int, v: any, result: {type: text, required: false}, opens: bool}}
  cars: {from: checked, key: k, group: {opens: opens, as: car}}
  hot: {from: cars, where: n > 1, set: {n: n * 10}}
  stats: {from: cars, tally: {of: result, by: [car], every: 2s}}
  sums: {from: hot, window: {every: 10s, compute: {n: count, sum: {sum: v}}}}
  calm: {from: stats, throttle: {every: 5s, keep: last}}
sinks:
  rows: {from: [hot, cars], log: rows}
  opened: {from: cars.opened, log: opened}
  windows: {from: sums, log: windows}
  late: {from: sums.late, log: late}
  faults: {from: [sums.errors, checked.rejected], log: faults}
  states: {from: calm, log: states}
"""
FLOW = load_text(WHOLE).raise_findings()


@settings(max_examples=10)
@given(
    messages=streams(), sizes=st.lists(st.integers(1, 7), max_size=8), restarts=st.sets(st.integers(1, 6), max_size=2)
)
def test_a_whole_flow_gives_the_same_on_bytewax(messages: list[Sent], sizes: list[int], restarts: set[int]) -> None:
    """In any batches, ended and begun anew from its recovery store: as one event after the other without Bytewax."""
    harness = Harness(FLOW)
    for number, message in enumerate(messages, 1):
        harness.read([block_of([message], number, message.at)])
        harness.mark(message.at)
    harness.mark(messages[-1].at + LATER)
    batches: list[Batch] = [*batched(messages, sizes), [messages[-1].at + LATER]]
    with tempfile.TemporaryDirectory() as folder:
        outcome = run_bytewax(FLOW, batches, Path(folder), sorted(stop for stop in restarts if stop < len(batches)))
    found: dict[str, list[Any]] = {}
    for sink, events in outcome.out.items():
        for event in events:
            found.setdefault(f"{sink}/{event.key}", []).append(shown(event))
    for letter in outcome.dead:
        found.setdefault(f"dead/{letter.event.key}", []).append((letter.event.id, letter.reason))
    assert ordered(found) == ordered(result(harness))


def batched(messages: list[Sent], sizes: list[int]) -> list[Batch]:
    found: list[Batch] = []
    at = 0
    for size in [*sizes, len(messages)]:
        batch: Batch = [block_of([m], number, m.at) for number, m in enumerate(messages[at : at + size], at + 1)]
        if batch:
            at += len(batch)
            found.append([*batch, messages[at - 1].at] if at % 2 else batch)
    return found


def ordered(found: dict[str, list[Any]]) -> dict[str, list[Any]]:
    """Return what came out with what comes by several ways side by side: their order is not promised."""
    several = ("rows/", "faults/", "dead/")
    return {
        key: sorted(events, key=msgspec.json.encode) if key.startswith(several) else events
        for key, events in found.items()
    }
