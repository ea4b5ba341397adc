"""Two versions over the same events: what differs is found, by event id, in bounded memory."""

from collections.abc import Iterable
from typing import Any

import msgspec
import pytest

import engine.shadow
from engine.block import Block
from engine.event import Event, moment
from engine.flow import Flow
from engine.gap import Gap
from engine.harness import Harness, Sent, block_of
from engine.load import load_text
from engine.past import Player
from engine.shadow import Comparison, Difference, Pairs, Shadow
from engine.testing import START
from tests.engine.test_tap import FLOW

SECOND = 1_000_000


def flow(*changes: tuple[str, str]) -> Flow:
    text = FLOW
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    return load_text(text).raise_findings()


def blocks(count: int = 40, every: int = SECOND) -> list[Block]:
    """Return commits of four events each; every tenth event has no number."""
    found = []
    for first in range(0, count, 4):
        data = [{"device": f"d{n % 3}", "n": "x" if n % 10 == 9 else n % 10} for n in range(first, first + 4)]
        time = START + first // 4 * every
        found.append(block_of([Sent(time, "gate", msgspec.json.encode(one)) for one in data], first + 1, time))
    return found


def compared(new: Flow, given: Iterable[Block] | None = None, warm: int = 0) -> Comparison:
    shadow = Shadow(flow(), new, "line:1")
    for number, block in enumerate(given or blocks()):
        (shadow.warm if number < warm else shadow.compare)(block)
    return shadow.finish()


def differing(found: Comparison) -> dict[str, tuple[int, int, int]]:
    everything = {**found.outputs, "deadletters": found.deadletters}
    return {name: (d.only_deployed, d.only_new, d.changed) for name, d in everything.items() if d.differs}


def test_the_same_version_does_not_differ() -> None:
    found = compared(flow())
    assert not found.differs
    assert found.events == 40
    assert found.outputs["rows"] == Difference(
        deployed=12, new=12, examples={"only_deployed": [], "only_new": [], "changed": []}
    )
    assert found.deadletters.deployed == found.deadletters.new == 8
    assert found.wires["checked"] == (36, 36)
    assert not [wire for wire in found.wires if " " in wire]


def test_events_that_only_one_version_gives() -> None:
    found = compared(flow(("n > 5", "n == 2 or n > 6")))
    assert differing(found) == {"rows": (4, 4, 0)}
    rows = found.outputs["rows"]
    assert [one.deployed for one in rows.examples["only_deployed"]] == [
        {"device": d, "n": 12} for d in ("d0", "d1", "d2", "d0")
    ]
    assert rows.examples["only_new"][0].new == {"device": "d2", "n": 4}
    assert rows.examples["only_new"][0].id.endswith("03")
    assert found.wires["big"] == (12, 12)


def test_events_that_changed_with_their_fields() -> None:
    found = compared(flow(("half: 10 / n", "half: 20 / n, more: 1")))
    assert differing(found) == {"half": (0, 0, 32), "deadletters": (0, 0, 4)}
    assert found.deadletters.fields == {"reason": 4}
    half = found.outputs["half"]
    assert half.fields == {"half": 32, "more": 32}
    example = half.examples["changed"][0]
    assert (example.deployed["half"], example.new["half"], example.fields) == (10.0, 20.0, ["half", "more"])
    assert len(half.examples["changed"]) == engine.shadow.EXAMPLES


def test_windows_that_close_where_nothing_arrives() -> None:
    """A longer window gives other events; what closes between two commits is compared as well."""
    first, *_, last = blocks(400)
    found = compared(flow(("every: 10s", "every: 20s")), given=[first, last])
    means = found.outputs["means"]
    assert (means.deployed, means.new, means.changed) == (3, 3, 3)
    assert means.fields == {"meta.time": 3, "end": 3}


def test_dead_letters_differ_by_node_and_reason() -> None:
    found = compared(flow(("n: int}", "n: {type: any, one_of: [x]}}")))
    letters = found.deadletters
    assert (letters.only_deployed, letters.only_new, letters.changed) == (8, 44, 0)
    assert [one.deployed["node"] for one in letters.examples["only_deployed"][:2]] == ["halves", "checked"]
    assert {one.new["reason"] for one in letters.examples["only_new"]} >= {"n: one_of x; got 0", "n: one_of x; got 1"}


def test_a_sink_that_one_version_does_not_have() -> None:
    found = compared(flow(("  means:", "  more: {from: twice, log: {message: more}}\n  means:")))
    assert differing(found) == {"more": (0, 12, 0)}


def test_what_is_warmed_up_makes_the_state_but_is_not_compared() -> None:
    new = flow(("n > 5", "n > 6"))
    found = compared(new, warm=5)
    assert found.events == 20
    assert found.outputs["rows"].deployed == 6
    assert found.wires["gate"] == (20, 20)
    given, longer = blocks(100), flow(("every: 10s", "every: 20s"))
    warm, cold = compared(longer, given=given, warm=5), compared(longer, given=given[5:])
    assert [one.new["count"] for one in warm.outputs["means"].examples["changed"]] == [24, 24, 24]
    assert [one.new["count"] for one in cold.outputs["means"].examples["changed"]] == [18, 18, 18]


def test_what_comes_out_is_what_the_harness_gives() -> None:
    """The ids are those of the inbox's stream, so that they can be found in the tables."""
    harness = Harness(flow(), "line:1")
    for block in blocks():
        harness.read([block])
    found = compared(flow(("n > 5", "n > 99")))
    assert [one.id for one in found.outputs["rows"].examples["only_deployed"]] == [
        event.id.hex() for event in harness.out["rows"][:5]
    ]


BY_EVENT = """
flow: line
sources: {gate: {http: {post: /gate, allow: anyone, time: at}}}
operators: {stats: {from: gate, window: {every: 10s, by: event, idle: 5s}}}
sinks: {means: {from: stats, log: {message: mean}}}
"""


@pytest.mark.parametrize(("gaps", "counts"), [([Gap(START + 1, START + 3600 * SECOND)], [2]), ([], [1])])
def test_time_in_which_the_gateway_was_down_closes_no_window(gaps: list[Gap], counts: list[int]) -> None:
    """A device sends what it kept when the gateway is back, an hour later: it is not late."""
    line = load_text(BY_EVENT).raise_findings()
    player = Player(line, "line:1", gaps)
    for number, time in enumerate((START, START + 3600 * SECOND, START + 3700 * SECOND)):
        at = moment(START + number * SECOND if number < 2 else time).isoformat()
        player.play(block_of([Sent(time, "gate", msgspec.json.encode({"at": at}))], number + 1, time))
    assert [event.data["count"] for event in player.harness.out["means"]] == counts


def event(number: int, data: Any = None) -> Event:
    return Event(number.to_bytes(16, "big"), START, "", "gate", "", data or {}, None, START)


def test_events_that_come_out_in_another_order_are_the_same() -> None:
    pairs = Pairs()
    pairs.add([event(1), event(2), event(3)], [event(3)])
    pairs.add([event(4)], [event(2), event(4), event(1)])
    assert (len(pairs._alone), pairs._count) == (0, 0)
    assert not pairs.finish().differs


def test_one_id_twice_in_a_sink() -> None:
    pairs = Pairs()
    pairs.add([event(1, {"n": 1}), event(1, {"n": 2})], [event(1, {"n": 1})])
    found = pairs.finish()
    assert (found.only_deployed, found.only_new, found.changed) == (1, 0, 0)


def test_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """What has no partner among the next ones that stand alone has none."""
    monkeypatch.setattr(engine.shadow, "PENDING", 100)
    pairs = Pairs()
    for number in range(0, 10_000, 2):
        pairs.add([event(number)], [event(number + 1)])
        assert pairs._count <= 100
    found = pairs.finish()
    assert (found.only_deployed, found.only_new, found.changed) == (5_000, 5_000, 0)
    assert sum(map(len, found.examples.values())) == 2 * engine.shadow.EXAMPLES


def test_key_time_and_nested_fields_are_told() -> None:
    pairs = Pairs()
    old, now = (
        event(1, {"a": {"b": {"c": 1, "d": 2}}, "l": [1]}),
        event(1, {"a": {"b": {"c": 1.5, "d": 2}}, "l": [1, 2]}),
    )
    now.key, now.time = "k", START + 1
    pairs.add([old], [now])
    assert pairs.finish().fields == {"meta.key": 1, "meta.time": 1, "a.b.c": 1, "l": 1}


def test_true_is_not_1_and_the_order_of_fields_means_nothing() -> None:
    pairs = Pairs()
    pairs.add([event(1, {"a": 1}), event(2, {"a": 1, "b": 2})], [event(1, {"a": True}), event(2, {"b": 2, "a": 1})])
    assert pairs.finish().fields == {"a": 1}


def test_data_that_json_cannot_hold() -> None:
    pairs = Pairs()
    odd = {"n": float("nan"), "t": (1, 2), 5: {1: 2}, "s": "\ud800"}
    pairs.add([event(1, odd)], [event(1, dict(odd))])
    pairs.add([event(2, odd)], [event(2, odd | {"x": 1})])
    assert pairs.finish().changed == 1
