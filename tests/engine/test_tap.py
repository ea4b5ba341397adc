"""Taps: every wire can be looked at, and what the flow does and counts is the same with and without."""

import asyncio
import json
from collections import defaultdict
from pathlib import Path
from typing import Any

import msgspec
import pytest

from engine.errors import UsageFault
from engine.event import Event
from engine.flow import Flow
from engine.frames import Tapped
from engine.harness import Harness, Sent
from engine.load import load_text
from engine.plan import Plan
from engine.tap import LARGEST, MOST, Samples, Take, TappedStage, Taps, line, resolved, wires
from engine.testing import START
from tests.engine.link_case import Gateway, linked, serving, until

FLOW = """
flow: line
sources:
  gate: {http: {post: /gate, allow: anyone}}
operators:
  checked: {from: gate, validate: {device: text, n: int}}
  big:     {from: checked, where: n > 5}
  twice:   {from: big, set: {n: n * 2}}
  halves:  {from: checked, set: {half: 10 / n}}
  stats:   {from: checked, key: device, window: {every: 10s}}
  shown:   {from: stats, set: {shown: true}}
sinks:
  rows:  {from: twice, log: {message: it came}}
  bad:   {from: checked.rejected, log: {message: refused}}
  half:  {from: halves, log: {message: half}}
  means: {from: shown, log: {message: mean}}
"""
EVENTS = [*({"device": f"d{i % 3}", "n": i} for i in range(12)), {"device": "d1", "n": "many"}]


@pytest.fixture
def flow() -> Flow:
    return load_text(FLOW).raise_findings()


def run(harness: Harness) -> dict[str, Any]:
    """Run the events, in two batches, and return all that can be seen of it."""
    for at, part in enumerate((EVENTS[:7], EVENTS[7:])):
        harness.send([Sent(START + at, "gate", msgspec.json.encode(data)) for data in part])
    harness.tick(START + 60_000_000)
    out = {name: [(e.id, e.key, e.data) for e in events] for name, events in harness.out.items() if name != "#"}
    plan = harness.plan
    counts = [stage.counts for stage in (plan.source, *(keyed.stage for keyed in plan.keyed))]
    return {"out": out, "dead": [(letter.node, letter.reason) for letter in harness.dead], "counts": counts}


def tap_all(plan: Plan, names: list[str]) -> dict[str, list[Event]]:
    """Put tapped stages in place, as a worker does, and return what is seen."""
    seen: dict[str, list[Event]] = defaultdict(list)

    def taker(name: str) -> Take:  # the nodes after it may change the event itself, so it is copied
        return lambda event: seen[name].append(event.derive(event.data))

    takes = {name: taker(name) for name in names}
    plan.source = TappedStage(plan.source, takes)
    for keyed in plan.keyed:
        keyed.stage = TappedStage(keyed.stage, takes)
    return seen


def test_what_passes_each_wire_is_seen(flow: Flow) -> None:
    harness = Harness(flow)
    seen = tap_all(harness.plan, wires(flow))
    run(harness)
    assert {name: len(events) for name, events in seen.items() if events} == {
        "gate": 13, "checked": 12, "checked.rejected": 1, "big": 6, "twice": 6,
        "halves": 11, "halves.errors": 1, "stats": 3, "shown": 3,
    }  # fmt: skip
    assert [event.data["n"] for event in seen["big"]] == [6, 7, 8, 9, 10, 11]
    assert [event.data["n"] for event in seen["twice"]] == [12, 14, 16, 18, 20, 22]
    assert seen["checked.rejected"][0].data["reason"].startswith("n: ")
    assert "division" in seen["halves.errors"][0].data["reason"]
    assert sorted(event.key for event in seen["stats"]) == ["d0", "d1", "d2"]


def test_a_tap_changes_nothing(flow: Flow) -> None:
    plain, harness = Harness(flow), Harness(flow)
    tap_all(harness.plan, wires(flow))
    assert run(harness) == run(plain)
    assert harness.ledger() == plain.ledger()


def test_an_output_that_nothing_takes_can_be_tapped() -> None:
    flow = load_text(FLOW.replace("checked.rejected", "checked")).raise_findings()
    harness = Harness(flow)
    seen = tap_all(harness.plan, ["checked.rejected"])
    run(harness)
    assert len(seen["checked.rejected"]) == 1


GROUPED = """
flow: line
sources: {gate: {http: {post: /gate, allow: anyone}}}
operators:
  cars: {from: gate, group: {opens: exists(opens), as: car}}
sinks: {out: {from: cars, log: {message: x}}}
"""


def test_outputs_and_faults_of_a_node_with_memory_that_nothing_takes() -> None:
    harness = Harness(load_text(GROUPED.replace("exists(opens)", "opens > 1")).raise_findings())
    seen = tap_all(harness.plan, ["cars.opened", "cars.errors"])
    harness.send([Sent(START, "gate", b'{"opens": 2}'), Sent(START, "gate", b'{"opens": "x"}')])
    assert [event.data["car"] for event in seen["cars.opened"]] == [1]
    assert [event.data["opens"] for event in seen["cars.errors"]] == ["x"]
    assert seen["cars.errors"][0].data["reason"] == harness.dead[0].reason


def test_names_of_wires(flow: Flow) -> None:
    assert wires(flow)[:4] == ["gate", "gate.errors", "checked", "checked.rejected"]
    assert resolved(flow, "checked") == "checked"
    assert resolved(flow, "checked.errors") == "checked.rejected"
    assert resolved(flow, "halves.errors") == "halves.errors"
    other = load_text(FLOW.replace("checked.rejected", "checked.errors")).raise_findings()
    assert resolved(other, "checked.rejected") == "checked.errors"


@pytest.mark.parametrize(
    ("wire", "said"),
    [
        ("cheked", "wire: a node of 'line' or node.output; got 'cheked' (did you mean 'checked'?)"),
        (
            "checked.reject",
            "wire: a node of 'line' or node.output; got 'checked.reject' (did you mean 'checked.rejected'?)",
        ),
        ("rows", "wire: what comes out of a node; 'rows' is a sink: look at twice"),
        ("", "wire: a node of 'line' or node.output; got ''"),
    ],
)
def test_a_wire_that_is_none(flow: Flow, wire: str, said: str) -> None:
    with pytest.raises(UsageFault) as fault:
        resolved(flow, wire)
    assert str(fault.value) == said


def event(data: dict[str, Any]) -> Event:
    return Event(bytes(16), START, "k", "gate", "", data, None, START)


def test_a_line_is_json_however_the_data_look() -> None:
    assert json.loads(line(event({"n": 1}))) == {
        "id": "00" * 16, "time": "2023-11-14T22:13:20Z", "key": "k", "data": {"n": 1},
    }  # fmt: skip
    assert json.loads(line(event({"n": 1 << 70})))["data"] in ({"n": 1 << 70}, f"{{'n': {1 << 70}}}")
    large = json.loads(line(event({"text": "x" * LARGEST})))
    assert large["data"] is None
    assert large["bytes"] > LARGEST


def test_more_than_is_shown_is_counted() -> None:
    now = 5.0
    samples = Samples(lambda: now)
    take = samples.taker("a")
    for _ in range(MOST + 7):
        take(event({}))
    found = samples.frame()
    assert found is not None
    assert (len(found.lines), found.skipped) == (MOST, {"a": 7})
    assert samples.frame() is None
    take(event({}))
    assert samples.frame() == Tapped([], {"a": 1})
    now = 6.0
    take(event({}))
    found = samples.frame()
    assert found is not None
    assert (len(found.lines), found.skipped) == (1, {})


def test_what_cannot_be_sent_stays_bounded() -> None:
    now = 0.0
    samples = Samples(lambda: now)
    for wire in "abc":
        for _ in range(MOST):
            samples.taker(wire)(event({}))
    found = samples.frame()
    assert found is not None
    assert (len(found.lines), found.skipped) == (2 * MOST, {"c": MOST})


async def test_stages_are_put_back_when_nobody_looks(flow: Flow) -> None:
    plan = Plan(flow)
    before = [plan.source, *(keyed.stage for keyed in plan.keyed)]
    taps = Taps(plan, lambda frame: True)
    taps.set(["big", "nothing of this flow"])
    assert isinstance(plan.source, TappedStage)
    assert list(plan.source.taps) == ["big"]
    assert all(stage.counts is old.counts for stage, old in zip(plan.stages(), before, strict=True))
    taps.set(["shown"])
    assert list(plan.source.taps) == ["shown"]
    taps.set([])
    assert [plan.source, *(keyed.stage for keyed in plan.keyed)] == before
    await until(lambda: asyncio.all_tasks() == {asyncio.current_task()})


async def test_what_is_retried_is_seen_too(flow: Flow) -> None:
    plan, sent = Plan(flow), list[Tapped]()

    def send(frame: Tapped) -> bool:
        sent.append(frame)
        return True

    taps = Taps(plan, send)
    taps.set(["twice"])
    plan.run_sources([(">big", [event({"n": 7})])])
    await until(lambda: sent)
    assert [json.loads(text)["data"]["n"] for _, text in sent[0].lines] == [14]
    taps.set([])
    assert not any(isinstance(stage, TappedStage) for stage in plan.stages())
    assert len(plan.stages()) == 3


async def test_what_is_seen_is_sent_as_soon_as_there_is_room(flow: Flow) -> None:
    harness = Harness(flow)
    sent: list[Tapped] = []
    room = False

    def send(frame: Tapped) -> bool:
        if room:
            sent.append(frame)
        return room

    taps = Taps(harness.plan, send)
    taps.set(["big"])
    run(harness)
    await asyncio.sleep(0.25)
    assert sent == []
    room = True
    await until(lambda: sent)
    assert [json.loads(text)["data"]["n"] for _, text in sent[0].lines] == [6, 7, 8, 9, 10, 11]
    taps.set([])


async def test_over_the_link(tmp_path: Path, flow: Flow) -> None:
    gateway, path = Gateway(), tmp_path / "link.sock"
    harness = Harness(flow)
    async with linked(path) as client:
        taps = Taps(harness.plan, client.tapped)
        client.on_tap = taps.set
        async with serving(path, gateway) as server:
            await until(lambda: gateway.states)
            server.tap("flow", ["big"])
            await until(lambda: isinstance(harness.plan.source, TappedStage))
            run(harness)
            await until(lambda: gateway.heard)
            [(name, tapped)] = gateway.heard
            assert (name, len(tapped.lines), tapped.skipped) == ("flow", 6, {})
        await until(lambda: not isinstance(harness.plan.source, TappedStage))
