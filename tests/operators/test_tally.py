"""`tally`: the counts are right, the last state always comes out, and an event that fails changes nothing."""

from typing import Any

import msgspec
from hypothesis import given, settings

from engine.harness import Harness, Sent
from engine.testing import START
from operators.tally import Tally
from tests.operators.replay import LATER, SECOND, flow_of, sent, streams

OPTIONS = {"of": "result", "by": ["device"], "every": "10s"}


def run(options: dict[str, Any], messages: list[Sent], until: float = 3600) -> Harness:
    harness = Harness(flow_of("tally", options, key=""))
    for message in messages:
        harness.send([message])
    harness.tick(START + round(until * SECOND))
    return harness


def test_the_first_change_comes_at_once_and_the_last_state_when_the_time_is_over() -> None:
    messages = [sent(at, result="OK", device="led") for at in (1, 2, 3)]
    harness = run(OPTIONS, messages)
    assert [(event.data["total"], (event.arrival - START) / SECOND) for event in harness.out["out"]] == [
        (1, 1),
        (3, 11),
    ]
    assert [event.data["total"] for event in run(OPTIONS, messages, until=10.9).out["out"]] == [1]


def test_values_that_are_neither_are_not_counted() -> None:
    harness = run(OPTIONS, [sent(1, result="TIMEOUT"), sent(2), sent(3, result="OK")])
    assert [event.data["total"] for event in harness.out["out"]] == [1]


def test_only_the_latest_values_of_a_field_are_kept() -> None:
    messages = [sent(at, result="OK", device=f"d{at}") for at in range(5)]
    harness = run(OPTIONS | {"latest": {"device": 2}}, messages)
    assert list(harness.out["out"][-1].data["by_device"]) == ["d3", "d4"]


def test_an_event_that_fails_changes_no_count() -> None:
    options = OPTIONS | {"counts": {"seen": "true", "high": "v > 3"}, "apart": {"cam": "length(v) > 0"}}
    harness = run(options, [sent(1, result="OK", v="text"), sent(20, result="OK")])
    assert [event.data["seen"] for event in harness.out["out"]] == [1]
    (letter,) = harness.dead
    assert letter.reason == 'v > 3: cannot compare text with number; v = "text"'
    assert letter.values == {"v": "text"}


def test_what_stands_before_the_first_event_has_the_same_fields() -> None:
    options = {"of": "result", "by": ["car_id"], "counts": {"cars": "true"}, "apart": {"camera": "false"}}
    harness = run(options, [sent(1, result="OK", car_id=1)])
    empty = Tally.model_validate(options).empty()
    assert empty.keys() == harness.out["out"][0].data.keys()
    assert (empty["total"], empty["defect_rate"], empty["by_car"]) == (0, 0.0, {})


def test_it_is_as_new_as_its_newest_event() -> None:
    """By the events' own time, and an older one that comes later does not make it older."""
    source = "{mqtt: {topics: [t], time: t}}"
    harness = Harness(flow_of("tally", OPTIONS | {"every": "1s"}, key="", source=source))
    base = START // SECOND
    for at, t in ((10, base + 7), (20, base + 3)):
        harness.send([sent(at, result="OK", t=t)])
    assert [event.data["updated_at"].timestamp() for event in harness.out["out"]] == [base + 7, base + 7]
    assert [event.time for event in harness.out["out"]] == [(base + 7) * SECOND] * 2


def test_each_output_has_an_id_of_its_own_even_at_one_arrival() -> None:
    harness = Harness(flow_of("tally", OPTIONS | {"every": "0s"}, key=""))
    harness.send([sent(1, result="OK"), sent(1, result="DEFECT")])
    assert len({event.id for event in harness.out["out"]}) == 2


@settings(max_examples=60)
@given(messages=streams())
def test_the_last_state_is_what_one_counts_by_hand(messages: list[Sent]) -> None:
    events = [msgspec.json.decode(message.payload) for message in messages]
    judged = [event for event in events if event["result"] in ("OK", "DEFECT")]
    harness = Harness(flow_of("tally", OPTIONS, key=""))
    for message in messages:
        harness.send([message])
    harness.tick(messages[-1].at + LATER)
    last: dict[str, Any] = (
        harness.out["out"][-1].data if harness.out["out"] else {"ok": 0, "defect": 0, "by_device": {}}
    )
    assert last["ok"] == sum(event["result"] == "OK" for event in judged)
    assert last["defect"] == sum(event["result"] == "DEFECT" for event in judged)
    devices = {str(event["device"]) for event in judged}
    assert {device: pair["total"] for device, pair in last["by_device"].items()} == {
        device: sum(str(event["device"]) == device for event in judged) for device in devices
    }
