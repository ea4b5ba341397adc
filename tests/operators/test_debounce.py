"""`debounce`: one event of each burst, when it is over, at once, or both; of a value only where it differs."""

from itertools import pairwise
from typing import Any

from hypothesis import given, settings

from engine.harness import Harness, Sent
from engine.testing import START
from tests.operators.replay import LATER, SECOND, flow_of, sent, streams


def run(options: dict[str, Any], messages: list[Sent]) -> Harness:
    harness = Harness(flow_of("debounce", options))
    for message in messages:
        harness.send([message])
    harness.tick(messages[-1].at + LATER)
    return harness


def outcome(harness: Harness) -> list[tuple[Any, float]]:
    return [(event.data["n"], (event.arrival - START) / SECOND) for event in harness.out["out"]]


def numbered(*times: float) -> list[Sent]:
    return [sent(at, k="a", n=number) for number, at in enumerate(times)]


def contact(*states: tuple[float, Any]) -> list[Sent]:
    return [sent(at, k="a", n=state) for at, state in states]


BURSTS = numbered(0, 1, 3, 10, 20, 21)


def test_the_last_event_comes_when_it_is_quiet() -> None:
    harness = run({"for": "5s"}, BURSTS)
    assert outcome(harness) == [(2, 8), (3, 15), (5, 26)]
    assert [event.data["n"] for event in harness.out["dropped"]] == [0, 1, 4]


def test_the_first_event_comes_at_once() -> None:
    assert outcome(run({"for": "5s", "edge": "leading"}, BURSTS)) == [(0, 0), (3, 10), (4, 20)]


def test_both_come_where_there_is_more_than_one() -> None:
    expected = [(0, 0), (2, 8), (3, 10), (4, 20), (5, 26)]
    assert outcome(run({"for": "5s", "edge": "both"}, BURSTS)) == expected


def test_a_burst_ends_after_the_longest_time() -> None:
    assert outcome(run({"for": "5s", "longest": "7s"}, numbered(0, 3, 6, 9, 12))) == [(2, 7), (4, 16)]


BOUNCING = contact((0, 0), (1, 1), (2, 0), (3, 1), (4, 1), (20, 1), (21, 0), (22, 1), (40, 0))


def test_of_a_value_the_event_comes_that_began_the_stable_value() -> None:
    harness = run({"for": "5s", "of": "n"}, BOUNCING)
    assert outcome(harness) == [(1, 8), (0, 45)]
    assert [(event.time - START) / SECOND for event in harness.out["out"]] == [3, 40]


def test_of_a_value_at_once_what_bounces_back_is_seen_with_the_next_event() -> None:
    assert outcome(run({"for": "5s", "of": "n", "edge": "leading"}, BOUNCING)) == [(0, 0), (1, 20), (0, 40)]
    assert outcome(run({"for": "5s", "of": "n", "edge": "both"}, BOUNCING)) == [
        (0, 0),
        (1, 8),
        (0, 21),
        (1, 27),
        (0, 40),
    ]


def test_an_event_without_the_value_goes_on() -> None:
    harness = run({"for": "5s", "of": "n"}, contact((0, 1), (1, None), (2, 1)))
    assert outcome(harness) == [(None, 1), (1, 5)]


def test_time_in_which_the_gateway_was_down_is_not_quiet() -> None:
    for options, down, expected in (({}, False, 5), ({}, True, 105), ({"longest": "3s"}, True, 103)):
        harness = Harness(flow_of("debounce", {"for": "5s", **options}))
        harness.send(numbered(0))
        if down:
            harness.down(START + SECOND, START + 101 * SECOND)
        harness.tick(START + LATER)
        assert outcome(harness) == [(0, expected)]


@settings(max_examples=60)
@given(messages=streams())
def test_what_comes_out_is_what_a_look_at_the_whole_stream_finds(messages: list[Sent]) -> None:
    """Without `of`: the events of a key after which it is quiet long enough."""
    harness = run({"for": "3s"}, messages)
    by_key: dict[str, list[int]] = {}
    for event in sorted(harness.out["out"] + harness.out["dropped"], key=lambda event: event.id):
        by_key.setdefault(event.key, []).append(messages[int.from_bytes(event.id[8:], "big") - 1].at)
    for key, times in by_key.items():
        ends = [at + 3 * SECOND for at, after in pairwise([*times, times[-1] + LATER]) if after - at >= 3 * SECOND]
        assert [event.arrival for event in harness.out["out"] if event.key == key] == ends
