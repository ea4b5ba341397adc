"""`window`: what falls into each stretch of time, when it closes, and what comes too late."""

from collections import defaultdict
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings

from engine.harness import Harness, Sent
from engine.load import load_text
from engine.testing import START
from tests.operators.replay import LATER, SECOND, flow_of, sent, streams

TIMED = "{mqtt: {topics: [t], time: t}}"
BASE = START // SECOND


def run(options: dict[str, Any], messages: list[Sent], *, until: float, source: str = TIMED) -> Harness:
    harness = Harness(flow_of("window", options, source=source))
    for message in messages:
        harness.send([message])
    harness.tick(START + round(until * SECOND))
    return harness


def rows(harness: Harness, *fields: str, sink: str = "out") -> list[tuple[Any, ...]]:
    return [tuple(event.data.get(field) for field in fields) for event in harness.out[sink]]


def timed(at: float, t: float, **data: Any) -> Sent:
    """A message that arrives at `at` and says that it is of `t` (seconds after the start)."""
    return sent(at, t=BASE + t, k="a", **data)


def test_a_window_closes_by_the_clock_without_another_event() -> None:
    messages = [timed(1, 1, v=1), timed(2, 2, v=3)]
    options = {"every": "10s", "compute": {"n": "count", "sum": {"sum": "v"}}}
    assert rows(run(options, messages, until=9.9), "n", "sum") == []
    assert rows(run(options, messages, until=10), "n", "sum") == [(2, 4)]


def test_a_window_that_is_due_has_its_end_as_its_time_whenever_the_mark_comes() -> None:
    for until in (10, 11, 500):
        harness = run({"every": "10s"}, [timed(1, 1)], until=until)
        (event,) = harness.out["out"]
        assert (event.time, event.arrival) == (START + 10 * SECOND, START + 10 * SECOND)
        assert [event.data[name].timestamp() for name in ("start", "end")] == [BASE, BASE + 10]


def test_by_event_time_a_window_waits_for_late_events() -> None:
    options = {"every": "10s", "by": "event", "lateness": "5s", "idle": "1h"}
    messages = [timed(1, 8), timed(2, 13), timed(3, 9), timed(4, 16), timed(5, 7), timed(6, 17)]
    harness = run(options, messages, until=7)
    assert rows(harness, "count") == [(2,)]
    assert rows(harness, "t", sink="late") == [(BASE + 7,)]


def test_by_event_time_the_clock_takes_over_when_a_key_is_silent() -> None:
    options = {"every": "10s", "by": "event", "lateness": "5s", "idle": "20s"}
    harness = run(options, [timed(1, 1)], until=34.9)
    assert rows(harness, "count") == []
    assert rows(run(options, [timed(1, 1)], until=35), "count") == [(1,)]


def test_a_future_time_costs_its_own_event_only() -> None:
    """The wrong clock of one device closes no window."""
    options = {"every": "10s", "by": "event", "lateness": "1s"}
    messages = [timed(1, 1), timed(2, 3600 * 24), timed(3, 3), timed(4, 12)]
    harness = run(options, messages, until=5)
    assert rows(harness, "count") == [(2,)]
    assert harness.out["late"] == []
    assert [letter.reason.partition("; ")[0] for letter in harness.dead] == [
        "t: a time at most a minute after the arrival"
    ]


@pytest.mark.parametrize("t", [-1, -62_135_600_000, 1e300, "0001-01-01T00:00:00+14:00", "soon", None, True, [1]])
def test_a_time_that_is_none_costs_its_own_event_only(t: object) -> None:
    harness = run({"every": "10s", "by": "event"}, [timed(1, 1), sent(2, k="a", t=t), timed(3, 11)], until=60)
    assert rows(harness, "count") == [(1,), (1,)]
    assert len(harness.dead) == 1


def test_windows_stay_open_over_a_restart() -> None:
    harness = Harness(flow_of("window", {"every": "10s"}, source=TIMED))
    harness.send([timed(1, 1)])
    harness.restart()
    harness.send([timed(9, 9)])
    harness.restart()
    harness.tick(START + 10 * SECOND)
    assert rows(harness, "count") == [(2,)]


@pytest.mark.parametrize(("on_resume", "counts"), [("rebase", [2]), ("advance", [1])])
def test_by_event_time_downtime_is_silence_only_where_one_wants_it(on_resume: str, counts: list[int]) -> None:
    options = {"every": "10s", "by": "event", "idle": "20s", "on_resume": on_resume}
    harness = Harness(flow_of("window", options, source=TIMED))
    harness.send([timed(1, 1)])
    harness.tick(START + 4 * SECOND)
    harness.restart()
    harness.down(START + 4 * SECOND, START + 3604 * SECOND)
    harness.send([timed(3605, 8)])
    assert rows(harness, "count") == [(count,) for count in counts if on_resume == "advance"]
    assert len(harness.out["late"]) == 2 - counts[0]
    harness.tick(START + 3700 * SECOND)
    assert rows(harness, "count") == [(count,) for count in counts]


def test_the_silence_of_a_key_goes_on_after_downtime_where_it_stood() -> None:
    harness = Harness(flow_of("window", {"every": "10s", "by": "event", "idle": "20s"}, source=TIMED))
    harness.send([timed(1, 9)])
    harness.down(START + 5 * SECOND, START + 605 * SECOND)
    harness.tick(START + 621 * SECOND)
    assert rows(harness, "count") == []
    harness.tick(START + 622 * SECOND)
    assert rows(harness, "count") == [(1,)]


@pytest.mark.parametrize(
    ("spec", "values", "expected"),
    [
        ("count", [1, None, "x"], 3),
        ({"sum": "v"}, [1, 2.5, None], 3.5),
        ({"mean": "v"}, [1, 2, None], 1.5),
        ({"mean": "v"}, [None], None),
        ({"min": "v"}, [3, 1, 2], 1),
        ({"max": "v"}, [3, 1, 2], 3),
        ({"first": "v"}, [None, "a", "b"], "a"),
        ({"last": "v"}, ["a", [1], None], [1]),
        ({"sum": "v"}, [2**62, 2**62, 2**62], 3 * 2.0**62),
    ],
)
def test_what_is_computed(spec: Any, values: list[Any], expected: Any) -> None:
    messages = [timed(at, at, v=value) for at, value in enumerate(values, 1)]
    harness = run({"every": "10s", "compute": {"x": spec}}, messages, until=10)
    harness.restart()
    assert rows(harness, "x") == [(expected,)]
    assert harness.dead == []


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ("hot", "compute.x: a number; got 'hot'"),
        (True, "compute.x: a number; got True"),
        (2**70, "compute.x: a number of at most 64 bits"),
    ],
)
def test_what_is_no_number_is_the_events_fault(value: Any, reason: str) -> None:
    harness = run({"every": "10s", "compute": {"x": {"sum": "v"}}}, [timed(1, 1, v=2), timed(2, 2, v=value)], until=10)
    assert rows(harness, "x") == [(2,)]
    assert [letter.reason for letter in harness.dead] == [reason]


def test_two_windows_over_the_same_events_have_ids_of_their_own() -> None:
    """Both may be written into one table, where an id stands once."""
    harness = Harness(
        load_text("""
flow: f
sources: {given: {mqtt: {topics: [t]}}}
operators:
  a: {from: given, window: {every: 10s}}
  b: {from: given, window: {every: 10s}}
sinks: {out: {from: [a, b], log: x}}
""").raise_findings()
    )
    harness.send([sent(1)])
    harness.tick(START + LATER)
    assert len({event.id for event in harness.out["out"]}) == 2


def test_by_arrival_a_key_is_forgotten_when_its_windows_are_closed() -> None:
    harness = Harness(flow_of("window", {"every": "10s"}))
    harness.send([sent(1, k=str(key)) for key in range(1000)])
    assert sum(len(shard.states) for shard in harness.shards["made"].values()) == 1000
    harness.tick(START + LATER)
    assert sum(len(shard.states) for shard in harness.shards["made"].values()) == 0


@settings(max_examples=60)
@given(messages=streams())
def test_by_arrival_windows_are_what_one_counts_by_hand(messages: list[Sent]) -> None:
    every, expected = 10 * SECOND, defaultdict[tuple[str, int], list[int]](list)
    for message in messages:
        data = msgspec.json.decode(message.payload)
        expected[data["k"], message.at - message.at % every].append(data["n"])
    harness = Harness(flow_of("window", {"every": "10s", "compute": {"n": "count", "sum": {"sum": "n"}}}))
    for message in messages:
        harness.send([message])
    harness.tick(messages[-1].at + LATER)
    found = {(e.key, e.time - every): (e.data["n"], e.data["sum"]) for e in harness.out["out"]}
    assert found == {window: (len(values), sum(values)) for window, values in expected.items()}
