"""`sequence`: A then B within a time, and A that no B follows."""

from typing import Any

import pytest
from hypothesis import given, settings

from engine.errors import FlowInvalid
from engine.harness import Harness, Sent
from engine.load import load_text
from engine.testing import START
from tests.operators.replay import LATER, SECOND, flow_of, sent, streams

PAIR = {"steps": {"a": 's == "A"', "b": 's == "B"'}, "within": "10s", "fields": ["n"]}
THREE = {"steps": {"a": 's == "A"', "b": 's == "B"', "c": 's == "C"'}, "fields": ["n"]}


def run(options: dict[str, Any], messages: list[Sent]) -> Harness:
    harness = Harness(flow_of("sequence", options))
    for message in messages:
        harness.send([message])
    harness.tick(messages[-1].at + LATER)
    return harness


def letters(text: str) -> list[Sent]:
    """One message a second for each letter; a dot is a second without one."""
    return [sent(at, k="a", s=letter, n=at) for at, letter in enumerate(text) if letter != "."]


def found(options: dict[str, Any], text: str) -> list[list[Any]]:
    return [[event.data[step]["n"] for step in options["steps"]] for event in run(options, letters(text)).out["out"]]


def missing(options: dict[str, Any], text: str) -> list[tuple[float, str]]:
    events = run(options, letters(text)).out["missing"]
    return [((event.arrival - START) / SECOND, event.data["step"]) for event in events]


@pytest.mark.parametrize(
    ("options", "text", "through", "not_through"),
    [
        (PAIR, "AB", [[0, 1]], []),
        (PAIR, "BA", [], [(11, "b")]),
        (PAIR, "AxAB.B", [[0, 3]], []),
        (PAIR, "A.........B", [], [(10, "b")]),
        (PAIR, "A........B", [[0, 9]], []),
        ({**PAIR, "keep": "last"}, "AxAB", [[2, 3]], []),
        ({**PAIR, "keep": "last"}, "A.....A", [], [(16, "b")]),
        ({**THREE, "within": "9s", "keep": "last"}, "AABAC", [[1, 2, 4]], []),
        ({**PAIR, "order": "strict"}, "AxABAB", [[2, 3], [4, 5]], [(1, "b")]),
        ({**PAIR, "order": "strict"}, "AAB", [[1, 2]], [(1, "b")]),
        ({**PAIR, "unless": 's == "x"'}, "AxBAB", [[3, 4]], []),
        ({**THREE, "within": "5s"}, "A.B.CxA..BBC", [[0, 2, 4]], [(11, "c")]),
        ({**THREE, "within": {"b": "2s", "c": "5s"}}, "A.BA.ABC", [[5, 6, 7]], [(2, "b"), (5, "b")]),
        ({**THREE, "within": {"b": "2s", "c": "5s"}}, "AB..xC", [[0, 1, 5]], []),
        ({**THREE, "within": {"b": "2s", "c": "5s"}}, "AB....C", [], [(6, "c")]),
    ],
)
def test_what_is_through_and_what_is_not(
    options: dict[str, Any], text: str, through: list[Any], not_through: list[Any]
) -> None:
    assert (found(options, text), missing(options, text)) == (through, not_through)


def test_what_comes_out_says_when_it_began_and_ended() -> None:
    harness = run({**PAIR, "fields": None}, letters("A.B.A"))
    (event,), (lost,) = harness.out["out"], harness.out["missing"]
    assert event.data.keys() == {"key", "start", "end", "a", "b"}
    assert (event.data["start"].timestamp(), event.data["end"].timestamp()) == (START / SECOND, START / SECOND + 2)
    assert event.data["b"] == {"k": "a", "s": "B", "n": 2}
    assert lost.data.keys() == {"key", "start", "end", "step", "a"}
    assert (lost.data["end"].timestamp(), lost.time) == (START / SECOND + 14, START + 14 * SECOND)
    assert event.id != lost.id


def test_what_is_no_step_goes_aside() -> None:
    assert [event.data["s"] for event in run(PAIR, letters("xAyABz")).out["other"]] == ["x", "y", "A", "z"]


def test_time_in_which_the_gateway_was_down_is_not_counted() -> None:
    for within in ("10s", {"b": "10s"}):
        harness = Harness(flow_of("sequence", {**PAIR, "within": within}))
        harness.send(letters("A"))
        harness.down(START + SECOND, START + 101 * SECOND)
        harness.tick(START + 109 * SECOND)
        assert not harness.out["missing"]
        harness.tick(START + 110 * SECOND)
        assert len(harness.out["missing"]) == 1


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"steps": {"a": "n"}, "within": "1s"}, "at least two"),
        ({"steps": {"a": "n", "end": "n"}, "within": "1s"}, "other names"),
        ({"steps": {"a": "n", "b": "n"}, "within": {"a": "1s"}}, "for each of b"),
        ({"steps": {"a": "n", "b": "n"}, "within": "0s"}, "above 0s"),
    ],
)
def test_what_does_not_fit_is_refused(options: dict[str, Any], text: str) -> None:
    with pytest.raises(FlowInvalid, match=text):
        flow_of("sequence", options)


def test_a_field_that_does_not_come_in_is_found() -> None:
    text = """
flow: f
sources: {given: {mqtt: {topics: [t]}}}
operators:
  checked: {from: given, validate: {t: number}}
  made: {from: checked, sequence: {steps: {a: t > 1, b: t > 2}, within: 1s, fields: [x]}}
sinks: {out: {from: made, log: x}}
"""
    (finding,) = load_text(text).document.findings
    assert (finding.code, "got 'x'" in finding.message) == ("unknown-field", True)


@settings(max_examples=60)
@given(messages=streams())
def test_it_is_what_a_walk_over_the_stream_of_a_key_finds(messages: list[Sent]) -> None:
    harness = run({"steps": {"a": "n == 1", "b": "n == 2"}, "within": "5s"}, messages)
    raw = Harness(flow_of("sample", {"count": 1}))
    for message in messages:
        raw.send([message])
    pairs, lost = set(), set()
    for key in "abc":
        events = [event for event in raw.out["out"] if event.key == key]
        at = 0
        while at < len(events):
            if events[at].data["n"] != 1:
                at += 1
                continue
            in_time = [e for e in events[at + 1 :] if e.arrival < events[at].arrival + 5 * SECOND]
            second = next((e for e in in_time if e.data["n"] == 2), None)
            if second is None:
                lost.add((key, events[at].arrival + 5 * SECOND))
                at += 1 + len(in_time)
            else:
                pairs.add((key, events[at].time, second.time))
                at = events.index(second) + 1
    seconds = {(e.key, round(e.data["start"].timestamp() * SECOND), e.time) for e in harness.out["out"]}
    assert seconds == pairs
    assert {(event.key, event.arrival) for event in harness.out["missing"]} == lost
