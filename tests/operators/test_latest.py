"""`latest`: what is known of a key is filled in, as long as it is fresh."""

from typing import Any

from hypothesis import given, settings

from engine.harness import Harness, Sent
from engine.load import load_text
from engine.testing import START
from tests.operators.replay import LATER, SECOND, flow_of, sent, streams


def run(options: dict[str, Any], messages: list[Sent]) -> Harness:
    harness = Harness(flow_of("latest", options))
    for message in messages:
        harness.send([message])
    return harness


def outcome(options: dict[str, Any], *given: dict[str, Any]) -> list[dict[str, Any]]:
    found = run(options, [sent(at, k="a", **data) for at, data in enumerate(given)]).out["out"]
    return [{name: value for name, value in event.data.items() if name != "k"} for event in found]


def test_an_event_keeps_its_own_values_and_none_does_not_erase() -> None:
    assert outcome({}, {"x": 1, "y": 2}, {"x": None}, {"x": 3}, {"z": False}) == [
        {"x": 1, "y": 2},
        {"x": 1, "y": 2},
        {"x": 3, "y": 2},
        {"x": 3, "y": 2, "z": False},
    ]


def test_only_the_named_fields_are_remembered() -> None:
    assert outcome({"fields": ["x"]}, {"x": 1, "y": 2}, {}) == [{"x": 1, "y": 2}, {"x": 1}]


def test_a_value_is_forgotten_by_its_own_age() -> None:
    found = outcome({"within": "3s"}, {"x": 1, "y": 1}, {"x": 2}, {}, {}, {})
    assert found == [{"x": 1, "y": 1}, {"x": 2, "y": 1}, {"x": 2, "y": 1}, {"x": 2}, {}]


def test_what_has_not_come_for_the_longest_time_is_forgotten_when_there_is_too_much() -> None:
    assert outcome({"most": 3}, {"x": 1}, {"y": 2}, {"x": 3}, {"z": 4}, {}) == [
        {"x": 1},
        {"x": 1, "y": 2},
        {"x": 3, "y": 2},
        {"x": 3, "y": 2, "z": 4},
        {"x": 3, "z": 4},
    ]


def test_a_key_of_which_nothing_is_known_any_more_is_forgotten() -> None:
    harness = run({"within": "10s"}, [sent(0, k=str(key), x=1) for key in range(100)])
    harness.tick(START + LATER)
    assert sum(len(shard.states) for shard in harness.shards["made"].values()) == 0


def test_a_field_that_does_not_come_in_is_found() -> None:
    text = """
flow: f
sources: {given: {mqtt: {topics: [t]}}}
operators:
  checked: {from: given, validate: {t: number}}
  made: {from: checked, latest: {fields: [t, x]}}
sinks: {out: {from: made, log: x}}
"""
    (finding,) = load_text(text).document.findings
    assert (finding.code, "got 'x'" in finding.message) == ("unknown-field", True)


@settings(max_examples=60)
@given(messages=streams())
def test_each_value_is_the_youngest_that_is_fresh(messages: list[Sent]) -> None:
    harness = run({"fields": ["v", "result"], "within": "5s"}, messages)
    events = sorted(harness.out["out"], key=lambda event: event.id)
    sources = sorted(run({"fields": ["no_such_field"]}, messages).out["out"], key=lambda event: event.id)
    for at, event in enumerate(events):
        for field in ("v", "result"):
            known = [
                earlier.data[field]
                for earlier in sources[: at + 1]
                if earlier.key == event.key
                and earlier.data[field] is not None
                and (earlier.arrival + 5 * SECOND > event.arrival)
            ]
            assert event.data[field] == (known[-1] if known else None)
