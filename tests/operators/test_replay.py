"""Every operator with memory gives the same whatever the batches, the marks and the restarts."""

import tempfile
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.asking import Asking
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
from tests.operators.window_options import WINDOWS

TIMED = "{mqtt: {topics: [t], time: t}}"
SHAPES: dict[str, tuple[str, Any, str, str]] = {
    "alert": (
        "alert",
        {
            "levels": [
                {"level": "low", "when": "v > 0", "for": "2s", "clear_when": "v < -2"},
                {"level": "high", "when": "v > 3"},
            ],
            "clear_for": "1s",
            "again_after": "10s",
            "repeat": "4s",
            "forget": "30s",
            "message": "text(v)",
        },
        "k",
        TIMED,
    ),
    "alert of silence": ("alert", {"absent": "5s", "clear_for": "2s", "repeat": "20s", "forget": "1m"}, "k", TIMED),
    "alert that counts downtime": ("alert", {"when": "n > 1", "for": "3s", "on_resume": "advance"}, "k", TIMED),
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
    **{name: ("window", options, "k", TIMED) for name, options in WINDOWS.items()},
    "dedupe": ("dedupe", {"by": "n", "within": "5s", "most": 3}, "k", TIMED),
    "dedupe whole": ("dedupe", {"within": "20s"}, "device", TIMED),
    "throttle first": ("throttle", {"every": "3s"}, "k", TIMED),
    "throttle last": ("throttle", {"every": "3s", "keep": "last"}, "k", TIMED),
    "trend": ("trend", {"of": "v", "within": "20s", "most": 5, "half_life": "10s", "limit": 9}, "k", TIMED),
    "trend by event time": (
        "trend",
        {"of": "n", "within": "20s", "by": "event", "alpha": 0.3, "limit": "v if v == n else none"},
        "k",
        TIMED,
    ),
    "anomaly": (
        "anomaly",
        {"of": "v", "warm_up": 2, "most": 4, "within": "60s", "learn": "normal", "threshold": 1},
        "k",
        TIMED,
    ),
    "anomaly by ewma": ("anomaly", {"of": "n", "method": "ewma", "warm_up": 3, "learn": "first"}, "k", TIMED),
    "anomaly by median": ("anomaly", {"of": "n", "method": "mad", "warm_up": 2, "season": "week"}, "k", TIMED),
    "anomaly by quartiles": ("anomaly", {"of": "v", "method": "iqr", "warm_up": 2, "threshold": 0.1}, "k", TIMED),
    "spc": (
        "spc",
        {"of": "v", "chart": "xbar_r", "size": 2, "baseline": 2, "spec": {"lower": -9}},
        "k",
        TIMED,
    ),
    "spc of single values": ("spc", {"of": "n", "chart": "i_mr", "baseline": 3}, "k", TIMED),
    "spc of shares": ("spc", {"of": "n", "chart": "p", "size": 3, "limits": {"center": 0.1}}, "k", TIMED),
    "spc of defects": ("spc", {"of": "n", "chart": "u", "size": "2 if opens else 1", "baseline": 3}, "k", TIMED),
    "oee": (
        "oee",
        {
            "of": "result",
            "running": ["OK"],
            "planned": ["OTHER"],
            "good": "n",
            "bad": "v",
            "ideal": 0.5,
            "every": "10s",
            "idle": "15s",
            "report": "opens",
        },
        "k",
        TIMED,
    ),
    "oee of shifts": (
        "oee",
        {
            "of": "opens",
            "running": [True],
            "bad": "n",
            "counts": "counter",
            "ideal": "n",
            "shifts": {"a": "22:14", "b": "22:15"},
        },
        "k",
        TIMED,
    ),
    "pareto": ("pareto", {"of": "device", "sum": "v", "every": "10s"}, "k", TIMED),
    "pareto that goes on": (
        "pareto",
        {"of": "n", "every": "60s", "running": True, "held": 2, "most": 1},
        "device",
        TIMED,
    ),
    "sample on a grid": ("sample", {"every": "3s"}, "k", TIMED),
    "sample that repeats": ("sample", {"every": "2s", "keep": "first", "repeat": "7s"}, "k", TIMED),
    "sample by count": ("sample", {"count": 3}, "k", TIMED),
    "debounce": ("debounce", {"for": "2s", "longest": "5s"}, "k", TIMED),
    "debounce of a value": ("debounce", {"for": "3s", "of": "n", "longest": "20s"}, "k", TIMED),
    "debounce of a value at both edges": ("debounce", {"for": "3s", "of": "v", "edge": "both"}, "k", TIMED),
    "change": ("change", {"of": ["result", "n"], "longest": "30s"}, "k", TIMED),
    "change with deadband": ("change", {"of": ["v", "n"], "deadband": {"v": 2}, "percent": {"v": 50}}, "k", TIMED),
    "swinging door": ("change", {"of": "n", "deviation": 0.6}, "k", TIMED),
    "swinging door that reports": ("change", {"of": "v", "deviation": 3, "longest": "5s"}, "k", TIMED),
    "latest": ("latest", {"most": 7}, "k", TIMED),
    "latest of fields": ("latest", {"fields": ["v", "result"], "within": "5s"}, "k", TIMED),
    "merge": ("merge", {"compute": {"a": "v if n == 1 else none", "b": "v if n == 2 else none"}}, "k", TIMED),
    "merge of what is fresh": (
        "merge",
        {"compute": {"a": "v if n == 1 else none", "b": "result"}, "every": "3s", "within": "4s"},
        "k",
        TIMED,
    ),
    "join": ("join", {"left": "n == 1", "right": "v > 1", "within": "5s", "most": 3}, "k", TIMED),
    "join of pairs": (
        "join",
        {"left": "n > 1", "right": "opens", "within": "10s", "partners": "one", "unmatched": "left", "as": "x"},
        "k",
        TIMED,
    ),
    "sequence by step": (
        "sequence",
        {
            "steps": {"a": "n < 2", "b": "opens", "c": "n > 0"},
            "within": {"b": "5s", "c": "15s"},
            "keep": "last",
            "unless": "v > 4",
            "fields": ["n", "v"],
        },
        "k",
        TIMED,
    ),
    "strict sequence": (
        "sequence",
        {"steps": {"a": "n < 2", "b": "opens"}, "within": "5s", "order": "strict"},
        "k",
        TIMED,
    ),
    "absent": ("absent", {"for": "5s", "repeat": "4s", "forget": "30s"}, "k", TIMED),
    "absent of what counts": ("absent", {"for": "12s", "when": "opens"}, "k", TIMED),
}
FLOWS: dict[str, Flow] = {name: flow_of(*shape) for name, shape in SHAPES.items()}


def test_every_operator_with_memory_has_a_property_test() -> None:
    stateful = {
        kind
        for kind, cls in components("operators").items()
        if issubclass(cls, Stateful) and not issubclass(cls, Asking)  # their answers come late: test_call has it
    }
    assert {kind for kind, *_ in SHAPES.values()} == stateful


@pytest.mark.parametrize("name", SHAPES)
@settings(max_examples=30)
@given(messages=streams(), cuts=cuts)
def test_batches_marks_and_restarts_make_no_difference(name: str, messages: list[Sent], cuts: list[Cut]) -> None:
    assert replayed(FLOWS[name], messages, cuts) == one_by_one(FLOWS[name], messages)


@pytest.mark.parametrize("name", SHAPES)
@settings(max_examples=25)
@given(traffic=traffic(), cuts=cuts)
def test_nor_do_they_where_the_gateway_was_down(name: str, traffic: Traffic, cuts: list[Cut]) -> None:
    expected = one_by_one(FLOWS[name], traffic.messages, traffic.gaps)
    assert replayed(FLOWS[name], traffic.messages, cuts, traffic.gaps) == expected


@pytest.mark.parametrize("name", SHAPES)
@settings(max_examples=25)
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
    if SHAPES[name][0] in ("dedupe", "throttle", "group", "number", "trend", "anomaly"):
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
