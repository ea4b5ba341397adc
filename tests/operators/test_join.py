"""`join`: every pair of two sides within a time, and what had no partner."""

from itertools import product
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.event import derived_id
from engine.harness import Harness, Sent
from engine.testing import START
from tests.operators.replay import LATER, SECOND, flow_of, sent, streams

SIDES = {"left": "exists(l)", "right": "exists(r)", "within": "10s"}


def run(options: dict[str, Any], messages: list[Sent]) -> Harness:
    harness = Harness(flow_of("join", options))
    for message in messages:
        harness.send([message])
    harness.tick(messages[-1].at + LATER)
    return harness


def messages(*given: tuple[float, str, Any]) -> list[Sent]:
    return [sent(at, k="a", **{name: value}) for at, name, value in given]


def outcome(harness: Harness, sink: str = "out") -> list[tuple[float, Any, Any]]:
    found = [((e.arrival - START) / SECOND, e.data.get("l"), e.data.get("r")) for e in harness.out[sink]]
    return sorted(found, key=str)


GIVEN = messages((0, "l", 1), (3, "r", 2), (9, "r", 3), (10, "r", 4), (20, "l", 5), (21, "x", 6))


def test_all_pairs_within_the_time_and_from_either_side() -> None:
    harness = run(SIDES, GIVEN)
    assert outcome(harness) == [(3, 1, 2), (9, 1, 3)]
    assert outcome(harness, "unmatched") == [(20, None, 4), (30, 5, None)]
    assert len(harness.out["other"]) == 1


def test_one_partner_is_enough() -> None:
    harness = run({**SIDES, "partners": "one"}, GIVEN)
    assert outcome(harness) == [(3, 1, 2)]
    assert outcome(harness, "unmatched") == [(19, None, 3), (20, None, 4), (30, 5, None)]


def test_what_has_no_partner_goes_on_where_it_is_wanted() -> None:
    assert outcome(run({**SIDES, "unmatched": "left"}, GIVEN)) == [(3, 1, 2), (30, 5, None), (9, 1, 3)]
    both = run({**SIDES, "unmatched": "outer"}, GIVEN)
    assert outcome(both) == [(20, None, 4), (3, 1, 2), (30, 5, None), (9, 1, 3)]
    assert not both.out["unmatched"]


@pytest.mark.parametrize(
    ("options", "data"),
    [
        ({}, {"k": "a", "x": 1, "l": 1, "r": 2}),
        ({"as": "o"}, {"k": "a", "x": 1, "l": 1, "o": {"k": "a", "x": 2, "r": 2}}),
    ],
)
def test_the_fields_of_both(options: dict[str, Any], data: dict[str, Any]) -> None:
    left, right = {"k": "a", "x": 1, "l": 1}, {"k": "a", "x": 2, "r": 2}
    for first, second in ((left, right), (right, left)):
        (event,) = run({**SIDES, **options}, [sent(0, **first), sent(1, **second)]).out["out"]
        assert (event.data, event.time) == (data, START + SECOND)


def test_keys_do_not_meet() -> None:
    assert not run(SIDES, [sent(0, k="a", l=1), sent(1, k="b", r=1)]).out["out"]


def test_when_too_many_wait_the_time_of_the_first_is_over() -> None:
    harness = run({**SIDES, "most": 2}, messages((0, "l", 1), (1, "l", 2), (2, "l", 3), (3, "r", 4)))
    assert outcome(harness) == [(3, 2, 4), (3, 3, 4)]
    assert outcome(harness, "unmatched") == [(2, 1, None)]


def test_time_in_which_the_gateway_was_down_is_not_counted() -> None:
    harness = Harness(flow_of("join", SIDES))
    harness.send(messages((0, "l", 1)))
    harness.down(START + SECOND, START + 101 * SECOND)
    harness.send(messages((109, "r", 2)))
    assert outcome(harness) == [(109, 1, 2)]


@settings(max_examples=60)
@given(messages=streams(), within=st.sampled_from([1, 3, 20]))
def test_it_is_the_join_of_sql_over_the_whole_stream(messages: list[Sent], within: int) -> None:
    options = {"left": "opens", "right": "true", "within": f"{within}s"}
    harness = run(options, messages)
    raw = Harness(flow_of("sample", {"count": 1}))
    for message in messages:
        raw.send([message])
    events = raw.out["out"]
    left, right = [e for e in events if e.data["opens"]], [e for e in events if not e.data["opens"]]
    pairs = [(a, b) for a, b in product(left, right) if a.key == b.key and abs(a.arrival - b.arrival) < within * SECOND]
    wanted = {derived_id("made", a.key, a.id + b.id): {**b.data, **a.data} for a, b in pairs}
    assert {event.id: event.data for event in harness.out["out"]} == wanted
    matched = {event.id for pair in pairs for event in pair}
    assert {event.id for event in harness.out["unmatched"]} == {event.id for event in events} - matched
