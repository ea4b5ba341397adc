"""`merge`: one event with the last known values of several sources."""

from typing import Any

import pytest
from hypothesis import given, settings

from engine.errors import FlowInvalid
from engine.harness import Harness, Sent
from engine.load import load_text
from engine.testing import START
from tests.operators.replay import LATER, SECOND, flow_of, sent, streams


def run(options: dict[str, Any], messages: list[Sent]) -> Harness:
    harness = Harness(flow_of("merge", options))
    for message in messages:
        harness.send([message])
    harness.tick(messages[-1].at + LATER)
    return harness


def outcome(harness: Harness) -> list[tuple[float, Any, Any]]:
    return [((event.arrival - START) / SECOND, event.data["a"], event.data["b"]) for event in harness.out["out"]]


def messages(*given: tuple[float, str, Any]) -> list[Sent]:
    return [sent(at, k="a", **{name: value}) for at, name, value in given]


BOTH = {"compute": {"a": "x", "b": "y"}}
GIVEN = messages((0, "x", 1), (1, "x", 2), (2, "y", 3), (3, "z", 9), (4, "y", None), (5, "x", 4), (30, "y", 5))


def test_it_waits_for_all_and_then_comes_with_each() -> None:
    harness = run(BOTH, GIVEN)
    assert outcome(harness) == [(2, 2, 3), (5, 4, 3), (30, 4, 5)]
    assert len(harness.out["other"]) == 2
    assert len({event.id for event in harness.out["out"]}) == 3


def test_it_comes_with_any() -> None:
    found = outcome(run({**BOTH, "wait_for": "any"}, GIVEN))
    assert found == [(0, 1, None), (1, 2, None), (2, 2, 3), (5, 4, 3), (30, 4, 5)]


def test_an_old_value_is_not_known() -> None:
    assert outcome(run({**BOTH, "within": "20s"}, GIVEN)) == [(2, 2, 3), (5, 4, 3)]
    given = messages((5, "x", 4), (6, "y", 3), (30, "y", 5))
    for within, a in (("20s", None), ("25s", None), ("25.1s", 4)):
        assert outcome(run({**BOTH, "within": within, "wait_for": "any"}, given))[-1] == (30, a, 5)


def test_the_last_state_comes_when_the_time_is_over() -> None:
    given = messages((0, "y", 0), *[(at / 2, "x", at) for at in range(1, 8)])
    assert outcome(run({**BOTH, "every": "2s"}, given)) == [(0.5, 1, 0), (2.5, 4, 0), (4.5, 7, 0)]


def test_a_key_of_which_nothing_is_known_any_more_is_forgotten() -> None:
    harness = run({**BOTH, "within": "5s", "every": "2s"}, GIVEN)
    assert not any(shard.states for shard in harness.shards["made"].values())


def test_the_sources_of_a_flow_are_told_apart() -> None:
    text = """
flow: f
sources: {roof: {mqtt: {topics: [roof]}}, hall: {mqtt: {topics: [hall]}}}
operators:
  both:
    from: [roof, hall]
    merge:
      compute:
        outside: t if meta.source == "roof" else none
        inside: t if meta.source == "hall" else none
sinks: {out: {from: both, log: x}}
"""
    harness = Harness(load_text(text).raise_findings())
    for at, source in enumerate(["roof", "hall", "roof"]):
        harness.send([Sent(START + at, source, b'{"t": %d}' % at)])
    found = [(event.data["outside"], event.data["inside"]) for event in harness.out["out"]]
    assert found == [(0, 1), (2, 1)]


def test_nothing_to_compute_is_refused() -> None:
    with pytest.raises(FlowInvalid, match="compute"):
        flow_of("merge", {"compute": {}})


@settings(max_examples=60)
@given(messages=streams())
def test_it_is_the_youngest_fresh_value_of_each(messages: list[Sent]) -> None:
    options = {"compute": {"a": "v", "b": "result"}, "wait_for": "any", "within": "5s"}
    known: dict[str, list[tuple[int, Any, Any]]] = {}
    raw = Harness(flow_of("latest", {"fields": ["none_of_them"]}))
    for message in messages:
        raw.send([message])
    wanted = []
    for event in sorted(raw.out["out"], key=lambda event: event.id):
        v, result = event.data["v"], event.data["result"]
        if v is None and result is None:
            continue
        known.setdefault(event.key, []).append((event.arrival, v, result))
        fresh = [kept for kept in known[event.key] if kept[0] + 5 * SECOND > event.arrival]
        wanted.append(tuple(next((k[i] for k in reversed(fresh) if k[i] is not None), None) for i in (1, 2)))
    found = sorted(run(options, messages).out["out"], key=lambda event: event.arrival)
    assert [(event.data["a"], event.data["b"]) for event in found] == wanted
