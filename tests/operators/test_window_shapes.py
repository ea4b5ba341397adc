"""Windows of every shape are what one finds by hand over all events, whatever the order in which they come."""

import statistics
from collections import Counter
from collections.abc import Callable
from functools import cache
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.event import microseconds
from engine.flow import Flow
from engine.harness import Harness, Sent
from engine.testing import START
from tests.operators.replay import SECOND, flow_of, sent

TIMED = "{mqtt: {topics: [t], time: t}}"
LATENESS = 5
OPTIONS: dict[str, Any] = {"by": "event", "lateness": f"{LATENESS}s", "idle": "1h"}
COMPUTE: dict[str, Any] = {
    "n": "count",
    "mean": {"mean": "v"},
    "spread": {"stddev": "v"},
    "p90": {"percentile": "v", "at": 90},
    "different": {"distinct": "v"},
    "mode": {"mode": "v"},
    "first": {"first": "v"},
    "last": {"last": "v"},
    "delta": {"delta": "v"},
    "rate": "rate",
}
Seen = tuple[float, dict[str, Any]]
"""An event: its own time in seconds after the start, and its data."""
Found = tuple[float, float, list[Seen]]
"""A window: start, end and the events in it."""


def sliding(events: list[Seen], every: int, length: int) -> list[Found]:
    """Return windows of `length` from every multiple of `every` since 1970 on."""
    starts = range(-(START // SECOND) % every - length // every * every, 100, every)
    found = [(float(s), float(s + length), [e for e in events if s <= e[0] < s + length]) for s in starts]
    return [window for window in found if window[2]]


def sessions(events: list[Seen], gap: float, longest: float = 1e9) -> list[Found]:
    """Return runs of events between silences, cut after `longest`."""
    found: list[Found] = []
    for event in events:
        start, _, run = found[-1] if found else (0.0, 0.0, [])
        if not run or event[0] >= min(start + longest, run[-1][0] + gap):
            found.append((event[0], 0.0, [event]))
        else:
            run.append(event)
    ends = [min((start + longest, start + longest), (run[-1][0] + gap, run[-1][0]))[1] for start, _, run in found]
    return [(start, end, run) for (start, _, run), end in zip(found, ends, strict=True)]


def counts(events: list[Seen], count: int, step: int) -> list[Found]:
    """Return whole windows of `count` events from every `step`th on."""
    runs = [events[at : at + count] for at in range(0, len(events), step)]
    return [(run[0][0], run[-1][0], run) for run in runs if len(run) == count]


def states(events: list[Seen]) -> list[Found]:
    """Return stretches of one state, each up to the first event of the next; the last one has not ended."""
    found: list[tuple[Any, list[Seen]]] = []
    for event in events:
        state = event[1]["s"]
        if state is not None and (not found or found[-1][0] != state):
            found.append((state, []))
        if found:
            found[-1][1].append(event)
    return [(run[0][0], after[0][0], run) for (_, run), (_, after) in pairwise(found)]


def conditions(events: list[Seen], opens: bool, closes: bool) -> list[Found]:
    """Return stretches from an event with v == 0 to one with v == 1, or with one of the two to the next."""
    found: list[Found] = []
    run: list[Seen] = []
    for event in events:
        opening, closing = event[1]["v"] == 0 or not opens, closes and event[1]["v"] == 1
        if opening and not closes and run:
            found.append((run[0][0], event[0], run))
            run = []
        if opening or run:
            run = [*run, event]
        if closing and run:
            found.append((run[0][0], event[0], run))
            run = []
    return found


SHAPES: dict[str, tuple[dict[str, Any], Callable[[list[Seen]], list[Found]]]] = {
    "tumbling": ({"every": "5s"}, lambda events: sliding(events, 5, 5)),
    "sliding": ({"every": "3s", "length": "12s"}, lambda events: sliding(events, 3, 12)),
    "sliding, no multiple": ({"every": "4s", "length": "10s"}, lambda events: sliding(events, 4, 10)),
    "session": ({"gap": "4s"}, lambda events: sessions(events, 4)),
    "longest session": ({"gap": "4s", "longest": "9s"}, lambda events: sessions(events, 4, 9)),
    "count": ({"count": 3}, lambda events: counts(events, 3, 3)),
    "overlapping counts": ({"count": 5, "step": 2}, lambda events: counts(events, 5, 2)),
    "state": ({"state": "s"}, states),
    "opens": ({"opens": "v == 0"}, lambda events: conditions(events, opens=True, closes=False)),
    "closes": ({"closes": "v == 1"}, lambda events: conditions(events, opens=False, closes=True)),
    "opens and closes": (
        {"opens": "v == 0", "closes": "v == 1"},
        lambda events: conditions(events, opens=True, closes=True),
    ),
}
ON_CLOCK = ("tumbling", "sliding", "sliding, no multiple")


def computed(window: Found) -> dict[str, Any]:
    """Compute by the standard library and NumPy what a window computes."""
    start, end, events = window
    values = [event[1]["v"] for event in events]
    often = Counter(values)
    return {
        "start": start,
        "end": end,
        "n": len(values),
        "mean": statistics.fmean(values),
        "spread": statistics.stdev(values) if len(values) > 1 else None,
        "p90": float(np.percentile(values, 90)),
        "different": len(set(values)),
        "mode": min(value for value in often if often[value] == max(often.values())),
        "first": values[0],
        "last": values[-1],
        "delta": values[-1] - values[0],
        "rate": len(values) / (end - start) if end > start else None,
    }


def row(data: dict[str, Any]) -> dict[str, Any]:
    """Return a result in the terms of `computed`."""
    times = {name: (microseconds(data[name]) - START) / SECOND for name in ("start", "end")}
    return {name: data[name] for name in COMPUTE} | times


def same(found: dict[str, Any], expected: dict[str, Any]) -> bool:
    return found == {
        name: value if value is None else pytest.approx(value, abs=1e-6) for name, value in expected.items()
    }


@st.composite
def scattered(draw: st.DrawFn, delays: tuple[float, ...] = (0, 0.5, 2, LATENESS)) -> list[tuple[Seen, float]]:
    """Return events, no two at one time, in the order in which they come, each with when it comes."""
    times = draw(st.lists(st.integers(0, 400), min_size=1, max_size=30, unique=True))
    found = []
    for time in sorted(times):
        data = {"v": draw(st.integers(0, 3)), "s": draw(st.sampled_from(["run", "stop", None]))}
        found.append(((time / 10, data), time / 10 + draw(st.sampled_from(delays))))
    return sorted(found, key=lambda item: item[1])


@cache
def flow(options: str) -> Flow:
    return flow_of("window", yaml.safe_load(options), source=TIMED)


def run(options: dict[str, Any], events: list[tuple[Seen, float]]) -> Harness:
    harness = Harness(flow(yaml.safe_dump({**OPTIONS, **options, "compute": COMPUTE})))
    for (time, data), at in events:
        harness.send([message(at, time, data)])
    harness.tick(START + 10 * 3600 * SECOND)
    assert harness.dead == []
    return harness


def message(at: float, time: float, data: dict[str, Any]) -> Sent:
    return sent(at, k="a", t=START / SECOND + time, **data)


@pytest.mark.parametrize("name", SHAPES)
@settings(max_examples=60)
@given(events=scattered())
def test_any_order_within_the_lateness_gives_what_one_finds_by_hand(name: str, events: list[Any]) -> None:
    options, by_hand = SHAPES[name]
    harness = run(options, events)
    expected = [computed(window) for window in by_hand(sorted((event for event, _ in events), key=lambda e: e[0]))]
    found = sorted((row(event.data) for event in harness.out["out"]), key=lambda row: (row["start"], row["end"]))
    assert harness.out["late"] == []
    assert len(found) == len(expected)
    assert all(same(*pair) for pair in zip(found, expected, strict=True)), (found, expected)


@pytest.mark.parametrize("name", SHAPES)
@settings(max_examples=30)
@given(events=scattered(delays=(0,)))
def test_by_arrival_it_is_the_same_as_by_event_time_in_order(name: str, events: list[Any]) -> None:
    options, by_hand = SHAPES[name]
    harness = run({**options, "by": "arrival", "lateness": "0s"}, events)
    expected = [computed(window) for window in by_hand([event for event, _ in events])]
    found = sorted((row(event.data) for event in harness.out["out"]), key=lambda row: (row["start"], row["end"]))
    assert len(found) == len(expected)
    assert all(same(*pair) for pair in zip(found, expected, strict=True)), (found, expected)


@pytest.mark.parametrize("name", ON_CLOCK)
@pytest.mark.parametrize("early", [{}, {"early": "2s"}])
@settings(max_examples=40)
@given(events=scattered(delays=(0, 2, 20, 60)))
def test_revised_rows_end_as_if_nothing_had_been_late(name: str, early: dict[str, Any], events: list[Any]) -> None:
    options, by_hand = SHAPES[name]
    harness = run({**options, **early, "on_late": "revise", "revise_for": "100s"}, events)
    expected = [computed(window) for window in by_hand(sorted((event for event, _ in events), key=lambda e: e[0]))]
    assert harness.out["late"] == []
    rows: dict[Any, list[dict[str, Any]]] = {}
    for event in harness.out["out"]:
        rows.setdefault(event.data["start"], []).append(event.data)
    assert len({event.id for event in harness.out["out"]}) == len(harness.out["out"])
    for found in rows.values():
        assert [data["revision"] for data in found] == [*range(len(found))]
        assert [data["final"] for data in found] == sorted(data["final"] for data in found)
        assert found[-1]["final"]
    last = [row(found[-1]) for _, found in sorted(rows.items())]
    assert len(last) == len(expected)
    assert all(same(*pair) for pair in zip(last, expected, strict=True)), (last, expected)


@pytest.mark.parametrize("name", SHAPES)
@settings(max_examples=40)
@given(events=scattered(delays=(0, 2, 20, 60)))
def test_what_comes_out_is_of_all_events_but_the_late_ones(name: str, events: list[Any]) -> None:
    """Only the order in which they come may differ: those in time, in order, give the same."""
    options, by_hand = SHAPES[name]
    harness = run(options, events)
    late = {event.data["t"] for event in harness.out["late"]}
    rest = sorted((event for event, _ in events if START / SECOND + event[0] not in late), key=lambda e: e[0])
    found = sorted((row(event.data) for event in harness.out["out"]), key=lambda row: (row["start"], row["end"]))
    if name == "session":  # what is later than the lateness may still come to a session that is open
        assert sum(row["n"] for row in found) == len(rest)
    elif name not in ON_CLOCK[1:]:
        assert [row["n"] for row in found] == [len(window) for _, _, window in by_hand(rest)]
