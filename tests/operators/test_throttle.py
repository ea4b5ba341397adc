"""`throttle`: at most one event in a time, the latest state always in the end."""

from hypothesis import given, settings
from hypothesis import strategies as st

from engine.harness import Harness, Sent
from engine.testing import START
from tests.operators.replay import LATER, SECOND, flow_of, sent, streams


def run(keep: str, messages: list[Sent]) -> Harness:
    harness = Harness(flow_of("throttle", {"every": "10s", "keep": keep}))
    for message in messages:
        harness.send([message])
    harness.tick(messages[-1].at + LATER)
    return harness


def outcome(harness: Harness) -> list[tuple[int, float]]:
    return [(event.data["n"], (event.arrival - START) / SECOND) for event in harness.out["out"]]


MESSAGES = [sent(at, k="a", n=at) for at in (0, 4, 5, 12, 13, 40)]


def test_the_first_goes_through() -> None:
    harness = run("first", MESSAGES)
    assert outcome(harness) == [(0, 0), (12, 12), (40, 40)]
    assert [event.data["n"] for event in harness.out["dropped"]] == [4, 5, 13]


def test_the_latest_goes_through_when_the_time_is_over() -> None:
    harness = run("last", MESSAGES)
    assert outcome(harness) == [(0, 0), (5, 10), (13, 20), (40, 40)]
    assert [event.data["n"] for event in harness.out["dropped"]] == [4, 12]


def test_a_waiting_event_survives_a_restart_as_it_is() -> None:
    """A number of more than 64 bits has no form in MessagePack: it is kept as near as it can, and the flow goes on."""
    harness = Harness(flow_of("throttle", {"every": "10s", "keep": "last"}))
    harness.send([sent(0, k="a", n=0)])
    harness.send([sent(1, k="a", n=2**80, text="ä", deep=[{"x": None}])])
    harness.restart()
    harness.tick(START + LATER)
    assert harness.out["out"][-1].data == {"k": "a", "n": 2.0**80, "text": "ä", "deep": [{"x": None}]}


@settings(max_examples=60)
@given(messages=streams(), keep=st.sampled_from(["first", "last"]))
def test_never_two_in_a_time(messages: list[Sent], keep: str) -> None:
    last: dict[str, int] = {}
    for event in run(keep, messages).out["out"]:
        assert event.arrival - last.get(event.key, 0) >= 10 * SECOND
        last[event.key] = event.arrival


@settings(max_examples=60)
@given(messages=streams())
def test_with_keep_last_the_last_event_of_each_key_comes_out(messages: list[Sent]) -> None:
    harness = run("last", messages)
    given_last = {
        event.key: event.id for event in sorted(harness.out["out"] + harness.out["dropped"], key=lambda e: e.id)
    }
    found_last = {event.key: event.id for event in harness.out["out"]}
    assert found_last == given_last
