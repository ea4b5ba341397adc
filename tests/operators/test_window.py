"""`window`: what falls into each stretch of time, when it closes, and what comes too late."""

from collections import defaultdict
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings

from engine import window_runs
from engine.errors import FlowInvalid
from engine.fingerprints import Fingerprint, fingerprints
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


@pytest.mark.parametrize(
    ("options", "fault"),
    [
        ({}, "one of every, gap, count, state, or opens and closes; got none of them"),
        ({"every": "1s", "gap": "1s"}, "one of every, gap, count, state, or opens and closes; got every and gap"),
        ({"state": "a", "closes": "b"}, "got state and closes"),
        ({"length": "5s", "gap": "1s"}, "length: at least `every`, and with it"),
        ({"length": "5s", "every": "6s"}, "length: at least `every`, and with it"),
        ({"length": "10001s", "every": "10000s"}, "length: at most 10000 times what"),
        ({"every": "1s", "step": 2}, "step: at most `count`"),
        ({"count": 2, "step": 3}, "step: at most `count`"),
        ({"count": 5000, "step": 4}, "at least a 1000th of it"),
        ({"every": "1s", "longest": "2s"}, "longest: at least `gap`, and not with `every`"),
        ({"gap": "3s", "longest": "2s"}, "longest: at least `gap`, and not with `every`"),
        ({"every": "1s", "on_late": "drop"}, "on_late: `by: event` with it; by arrival nothing is late"),
        ({"every": "1s", "by": "event", "on_late": "revise"}, "revise_for: how long a window can be corrected"),
        ({"every": "1s", "by": "event", "revise_for": "1s"}, "revise_for: how long a window can be corrected"),
        ({"gap": "1s", "by": "event", "on_late": "revise", "revise_for": "1s"}, "on_late: windows on the clock"),
        ({"every": "1s", "early": "1s"}, "early: shorter than the window"),
        ({"gap": "9s", "early": "1s", "by": "event"}, "early: `by: arrival`, or with `longest`"),
        ({"every": "1s", "compute": {"start": "count"}}, "compute.start: another name than key, start, end"),
        ({"state": "a", "compute": {"state": "count"}}, "compute.state: another name than key, start, end, state"),
        ({"every": "9s", "early": "1s", "compute": {"final": "count"}}, "compute.final: another name than"),
        ({"every": "1s", "compute": {"x": {"meen": "v"}}}, "compute.x: one of count, sum, mean"),
        ({"every": "1s", "compute": {"x": {"percentile": "v", "at": 200}}}, "compute.x.at: a number from 0 to 100"),
    ],
)
def test_options_that_do_not_fit_together_say_so(options: dict[str, Any], fault: str) -> None:
    with pytest.raises(FlowInvalid) as raised:
        flow_of("window", options, source=TIMED)
    option, colon, said = fault.partition(": ")
    text = str(raised.value)
    assert fault in text or (option in text and said in text and colon)


def test_late_events_that_are_dropped_go_nowhere_and_are_counted_as_late() -> None:
    spec = """
flow: f
sources: {given: {mqtt: {topics: [t], time: t}}}
operators: {made: {from: given, key: k, window: {every: 10s, by: event, on_late: drop}}}
"""
    harness = Harness(load_text(spec + "sinks: {out: {from: made, log: x}}").raise_findings())
    for message in (timed(1, 1), timed(2, 20), timed(3, 2)):
        harness.send([message])
    harness.tick(START + LATER)
    assert [event.data["count"] for event in harness.out["out"]] == [1, 1]
    assert (harness.ledger().late, harness.ledger().state, harness.ledger().remainder) == (1, 2, 0)
    with pytest.raises(FlowInvalid, match="output, since 'late' takes"):
        load_text(spec + "sinks: {out: {from: made, log: x}, late: {from: made.late, log: x}}").raise_findings()


def test_what_is_late_for_good_is_late_even_where_rows_are_revised() -> None:
    options = {"every": "10s", "by": "event", "idle": "1h", "on_late": "revise", "revise_for": "20s"}
    messages = [timed(1, 1), timed(2, 12), timed(3, 2), timed(4, 31), timed(5, 3), timed(6, 19)]
    harness = run(options, messages, until=7)
    assert rows(harness, "count", "revision", "final") == [(1, 0, True), (2, 1, True), (1, 0, True), (2, 1, True)]
    assert rows(harness, "t", sink="late") == [(BASE + 3,)]
    assert len({event.id for event in harness.out["out"]}) == 4
    assert sum(len(state.windows) for shard in harness.shards["made"].values() for state in shard.states.values()) == 2


def test_a_session_goes_on_where_an_event_comes_between_two() -> None:
    options = {
        "gap": "5s",
        "by": "event",
        "lateness": "20s",
        "idle": "1h",
        "compute": {"n": "count", "l": {"last": "v"}},
    }
    harness = run(options, [timed(1, 10, v=1), timed(2, 18, v=3), timed(3, 14, v=2), timed(4, 60)], until=9)
    ((start, end, n, last),) = rows(harness, "start", "end", "n", "l")
    assert (start.timestamp() - BASE, end.timestamp() - BASE, n, last) == (10, 18, 3, 3)


@pytest.mark.parametrize("longest", [{}, {"longest": "5h"}])
@pytest.mark.parametrize(("on_resume", "counts"), [("rebase", [2]), ("advance", [1, 1])])
def test_a_session_by_arrival_lasts_over_downtime_where_one_wants_it(
    on_resume: str, counts: list[int], longest: dict[str, str]
) -> None:
    harness = Harness(flow_of("window", {"gap": "10s", "on_resume": on_resume, **longest}, source=TIMED))
    harness.send([timed(1, 1)])
    harness.down(START + 4 * SECOND, START + 3604 * SECOND)
    harness.send([timed(3606, 2)])
    harness.tick(START + 2 * LATER)
    assert rows(harness, "count") == [(count,) for count in counts]


def test_events_that_wait_are_bounded_and_the_earliest_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(window_runs, "MOST_HELD", 3)
    options = {"count": 2, "by": "event", "lateness": "1h", "idle": "2h", "compute": {"l": {"last": "v"}}}
    messages = [timed(at, t, v=t) for at, t in enumerate((5, 4, 6, 3, 7, 8), 1)]
    harness = run(options, [*messages, timed(8, 2, v=2)], until=9)
    assert rows(harness, "l") == [(4,)]
    assert rows(harness, "t", sink="late") == [(BASE + 2,)]


@pytest.mark.parametrize("value", [[1], {"a": 1}])
def test_a_state_that_is_none_is_the_events_fault(value: object) -> None:
    harness = run({"state": "v"}, [timed(1, 1, v="on"), timed(2, 2, v=value), timed(3, 3, v="off")], until=9)
    assert rows(harness, "state", "count") == [("on", 1)]
    assert [letter.reason for letter in harness.dead] == [f"state: text, a number or true or false; got {value!r}"]


def test_a_state_of_earlier_versions_goes_on() -> None:
    """Its node's fingerprint is what it was, and its snapshot is read."""
    flow = flow_of(
        "window", {"every": "10s", "by": "event", "compute": {"n": "count", "l": {"last": "v"}}}, source=TIMED
    )
    shape = {"every": 10_000_000, "by": "event", "compute": {"n": "count", "l": {"last": "v"}}}
    was = Fingerprint("window", "k", shape, "latest, arrived, closed, windows")
    assert was.difference(fingerprints(flow)["made"]) == ""
    harness = Harness(flow)
    harness.send([timed(1, 1)])
    snapshots = harness.snapshot()
    place = next(place for place, taken in snapshots.items() if b"\xa1a" in taken)
    state = [START + SECOND, START + SECOND, START + SECOND, {START: [7, None, "old"]}]
    snapshots[place] = msgspec.msgpack.encode([START + SECOND, {"a": state}])
    harness.resume(snapshots)
    harness.tick(START + LATER)
    assert rows(harness, "n", "l") == [(7, "old")]
