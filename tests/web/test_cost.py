"""What the web layer makes of workers' reports: shares of a core by step, queues, and the age of what waits."""

import time
from pathlib import Path

import pytest

from engine.frames import Report, StepCost
from engine.load import load_text
from tests.engine.inbox_case import arrivals, put, writing
from tests.engine.test_stretches import FLOW
from web.backlog import Ages
from web.cost import FlowCost, OwnCost, sink_queues
from web.services import StepLine

LINE = load_text(FLOW).raise_findings()
NODES: dict[str, dict[str, int | float]] = {
    "gate": {"out": 40},
    "station": {"out": 60},
    "on_line": {"in": 100, "out": 100},
    "out": {"in": 90, "out": 80},
}
RATES = {"gate": {"out": 4.0}, "station": {"out": 6.0}, "on_line": {"in": 10.0, "out": 10.0}, "out": {"out": 8.0}}


def report(scale: float) -> Report:
    steps = [
        StepCost("start", "", 0.5),
        StepCost("read", "inbox", 1 * scale),
        StepCost("stretch", "sources", 2 * scale),
        StepCost("keyed", "on_line", 3 * scale, snapshot=1 * scale, keys=7, state=900),
        StepCost("stretch", "on_line", 1 * scale),
        StepCost("sink", "out", 2 * scale, elsewhere=0.5 * scale, busy=4 * scale, queued=500, room=2_000),
        StepCost("thread", "dataflow", 9 * scale),
        StepCost("thread", "io", 3 * scale),
    ]
    return Report(nodes=NODES, cpu=15 * scale, steps=steps)


def lines(first: float, last: float) -> dict[tuple[str, str], StepLine]:
    return {(line.kind, line.name): line for line in FlowCost(LINE).lines(RATES, report(first), report(last), 10.0)}


def test_each_step_has_its_share_and_nothing_is_lost() -> None:
    found = lines(1.0, 2.0)
    keyed = found["keyed", "on_line"]
    assert (keyed.cpu, keyed.seconds, keyed.snapshot, keyed.keys, keyed.state) == (0.4, 8.0, 0.1, 7, 900)
    assert keyed.micros == pytest.approx(0.4 / 10 * 1e6)
    read, stretch, sink = found["read", "inbox"], found["stretch", "sources"], found["sink", "out"]
    assert (read.rate, stretch.rate, sink.rate) == (10.0, 10.0, 8.0)
    assert stretch.nodes == ("gate", "station", "verdict", "defects")
    assert (sink.busy, sink.busy_seconds) == (0.4, 8.0)
    rests = [found["rest", name].seconds for name in ("engine", "io", "threads")]
    assert rests == [1.5, 3.0, 5.0]
    assert found["start", ""].nodes == ()
    assert sum(line.seconds for line in found.values()) == pytest.approx(30.0)
    assert sum(line.cpu for line in found.values()) == pytest.approx(1.5)


def test_the_cost_of_an_event_without_traffic_is_that_of_all_so_far() -> None:
    idle = {(line.kind, line.name): line for line in FlowCost(LINE).lines({}, report(2.0), report(2.0), 0.1)}
    assert idle["keyed", "on_line"].micros == pytest.approx(8.0 / 100 * 1e6)
    assert idle["sink", "out"].micros == pytest.approx(4.0 / 80 * 1e6)
    nothing = FlowCost(LINE).lines({}, Report(), Report(steps=[StepCost("sink", "out")]), 0.1)
    assert [line.micros for line in nothing] == [None]


def test_what_waits_for_sinks() -> None:
    told = report(1.0)
    told.steps.append(StepCost("sink", "away", queued=9_000, room=2_000, spilled=70, spill_fill=0.5))
    found = [(queue.kind, queue.name, queue.waiting, queue.fill) for queue in sink_queues(told)]
    assert found == [("lane", "out", 500, 0.25), ("lane", "away", 9_000, 1.0), ("spill", "away", 70, 0.5)]


async def test_the_age_of_what_waits_comes_from_the_inbox(tmp_path: Path) -> None:
    ages, path = Ages(), tmp_path / "inbox.db"
    assert ages.age(path, 0) == 0.0, "there is no inbox yet"
    async with writing(path) as writer:
        await put(writer, arrivals(b"1", b"2"))
        before = time.time()
        await put(writer, arrivals(b"3"))
        assert ages.age(path, 0) >= ages.age(path, 2)
        assert abs((time.time() - ages.age(path, 2)) - before) < 1.0
        assert ages.age(path, 3) == 0.0


def test_a_process_measures_itself() -> None:
    now = [100.0]
    cost = OwnCost(lambda: now[0])
    now[0] += 5.0
    end = time.process_time() + 0.05
    while time.process_time() < end:
        pass
    found = cost()
    assert 0.05 / 5 <= found.cpu < 0.5
    assert found.rss > 10 << 20
    assert found.seconds >= 0.05
