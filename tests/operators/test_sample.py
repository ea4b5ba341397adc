"""`sample`: at most one event at each time of the grid, that of the stretch before it."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.errors import FlowInvalid
from engine.harness import Harness, Sent
from engine.testing import START
from tests.operators.replay import LATER, SECOND, flow_of, sent, streams


def run(options: dict[str, Any], messages: list[Sent]) -> Harness:
    harness = Harness(flow_of("sample", options))
    for message in messages:
        harness.send([message])
    harness.tick(messages[-1].at + LATER)
    return harness


def outcome(harness: Harness) -> list[tuple[int, float]]:
    return [(event.data["n"], (event.arrival - START) / SECOND) for event in harness.out["out"]]


MESSAGES = [sent(at, k="a", n=at) for at in (0, 4, 10, 12, 13, 40)]


def test_the_grid_is_that_of_the_clock() -> None:
    assert START % (10 * SECOND) == 0
    harness = run({"every": "10s"}, MESSAGES)
    assert outcome(harness) == [(4, 10), (13, 20), (40, 50)]
    assert [event.data["n"] for event in harness.out["dropped"]] == [0, 10, 12]
    assert [event.time for event in harness.out["out"]] == [START + at * SECOND for at in (4, 13, 40)]


def test_the_first_of_each_stretch() -> None:
    assert outcome(run({"every": "10s", "keep": "first"}, MESSAGES)) == [(0, 10), (10, 20), (40, 50)]


def test_what_is_repeated_has_an_id_and_a_time_of_its_own() -> None:
    harness = run({"every": "10s", "repeat": "25s"}, MESSAGES)
    assert outcome(harness) == [(4, 10), (13, 20), (13, 30), (40, 50), (40, 60)]
    times = [(event.time - START) / SECOND for event in harness.out["out"]]
    assert times == [4, 13, 30, 40, 60]
    assert len({event.id for event in harness.out["out"]}) == 5
    assert [event.data["n"] for event in harness.out["dropped"]] == [0, 10, 12]


def test_a_key_with_nothing_to_repeat_is_forgotten() -> None:
    harness = run({"every": "10s", "repeat": "25s"}, MESSAGES)
    assert not any(shard.states for shard in harness.shards["made"].values())


@pytest.mark.parametrize(("keep", "through"), [("first", [0, 3, 6]), ("last", [2, 5])])
def test_one_in_a_number(keep: str, through: list[int]) -> None:
    harness = run({"count": 3, "keep": keep}, [sent(at, k="a", n=at) for at in range(8)])
    assert [event.data["n"] for event in harness.out["out"]] == through
    assert len(harness.out["dropped"]) == 8 - len(through)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({}, "either every or count"),
        ({"every": "1s", "count": 2}, "either"),
        ({"count": 2, "repeat": "1s"}, "repeat"),
        ({"every": "2s", "repeat": "2s"}, "longer than it"),
    ],
)
def test_what_does_not_fit_is_refused(options: dict[str, Any], text: str) -> None:
    with pytest.raises(FlowInvalid, match=text):
        flow_of("sample", options)


@settings(max_examples=60)
@given(messages=streams(), keep=st.sampled_from(["first", "last"]))
def test_it_is_the_first_or_last_of_each_stretch_and_key(messages: list[Sent], keep: str) -> None:
    harness = run({"every": "3s", "keep": keep}, messages)
    wanted: dict[tuple[str, int], bytes] = {}
    for event in sorted(harness.out["out"] + harness.out["dropped"], key=lambda event: event.id):
        number = int.from_bytes(event.id[8:], "big")
        stretch = event.data["k"], messages[number - 1].at // (3 * SECOND)
        if keep == "last" or stretch not in wanted:
            wanted[stretch] = event.id
    assert {event.id for event in harness.out["out"]} == set(wanted.values())
    assert all(event.arrival % (3 * SECOND) == 0 for event in harness.out["out"])
