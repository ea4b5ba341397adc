"""`absent`: silence is found when it is long enough, and its end with the next event."""

from itertools import pairwise
from typing import Any

from hypothesis import given, settings

from engine.event import Event
from engine.harness import Harness, Sent
from engine.testing import START
from tests.operators.replay import LATER, SECOND, flow_of, sent, streams


def run(options: dict[str, Any], messages: list[Sent]) -> Harness:
    harness = Harness(flow_of("absent", options))
    for message in messages:
        harness.send([message])
    harness.tick(messages[-1].at + LATER)
    return harness


def seconds(event: Event, field: str) -> float:
    return float(event.data[field].timestamp()) - START / SECOND


def outcome(harness: Harness) -> list[tuple[float, float, int]]:
    return [((e.arrival - START) / SECOND, seconds(e, "since"), e.data["repeated"]) for e in harness.out["out"]]


def heard(*times: float) -> list[Sent]:
    return [sent(at, k="a", ok=True) for at in times]


def test_silence_is_found_at_its_time_and_once() -> None:
    harness = run({"for": "10s"}, heard(0, 9, 30))
    assert outcome(harness) == [(19, 9, 0), (40, 30, 0)]
    (back,) = harness.out["back"]
    assert (seconds(back, "since"), seconds(back, "until"), back.data["seconds"], back.key) == (9, 30, 21.0, "a")


def test_it_is_said_again_until_the_key_is_forgotten() -> None:
    found = outcome(run({"for": "10s", "repeat": "5s", "forget": "12s"}, heard(0)))
    assert found == [(10, 0, 0), (15, 0, 1), (20, 0, 2)]


def test_a_forgotten_key_begins_anew() -> None:
    harness = run({"for": "10s", "forget": "12s"}, heard(0, 100))
    assert outcome(harness) == [(10, 0, 0), (110, 100, 0)]
    assert not harness.out["back"]
    assert not any(shard.states for shard in harness.shards["made"].values())


def test_only_what_counts_is_a_sign_of_life_but_any_event_makes_a_key_known() -> None:
    given = [sent(0, k="a", ok=False), sent(5, k="a", ok=False), sent(30, k="a", ok=True), sent(35, k="a", ok=False)]
    harness = run({"for": "10s", "when": "ok"}, given)
    assert outcome(harness) == [(10, 0, 0), (40, 30, 0)]
    assert [event.data["seconds"] for event in harness.out["back"]] == [30.0]


def test_time_in_which_the_gateway_was_down_is_no_silence() -> None:
    harness = Harness(flow_of("absent", {"for": "10s", "repeat": "5s"}))
    harness.send(heard(0))
    harness.down(START + 4 * SECOND, START + 104 * SECOND)
    harness.tick(START + 111 * SECOND)
    assert outcome(harness) == [(110, 0, 0)]
    harness.down(START + 112 * SECOND, START + 512 * SECOND)
    harness.tick(START + 516 * SECOND)
    assert outcome(harness) == [(110, 0, 0), (515, 0, 1)]


def test_a_timer_survives_a_restart() -> None:
    harness = Harness(flow_of("absent", {"for": "10s"}))
    harness.send(heard(0))
    harness.restart()
    harness.tick(START + 10 * SECOND)
    harness.restart()
    harness.send(heard(60))
    assert outcome(harness) == [(10, 0, 0)]
    assert len(harness.out["back"]) == 1


@settings(max_examples=60)
@given(messages=streams())
def test_it_is_found_wherever_two_events_are_far_apart(messages: list[Sent]) -> None:
    harness = run({"for": "5s"}, messages)
    raw = Harness(flow_of("sample", {"count": 1}))
    for message in messages:
        raw.send([message])
    for key in "abc":
        times = [event.arrival for event in raw.out["out"] if event.key == key]
        silences = (
            [(at, after) for at, after in pairwise([*times, times[-1] + LATER]) if after - at >= 5 * SECOND]
            if times
            else []
        )
        found = [event.arrival for event in harness.out["out"] if event.key == key]
        assert found == [at + 5 * SECOND for at, _ in silences]
        assert [e.arrival for e in harness.out["back"] if e.key == key] == [after for _, after in silences[:-1]]
