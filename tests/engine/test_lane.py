"""A lane whose target is away: what waits goes to the disk, the flow goes on, and nothing is lost, doubled or turned."""

import asyncio
import random
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from engine import lane as module
from engine.errors import EnvironmentFault, EventFault, Unavailable
from engine.outlet import Outlet
from engine.spill import Spill
from tests.engine.lane_case import Loop, Sink, events
from tests.process import wait_until


class Target(Sink):
    """A sink whose target is away until it is `back`; a `deaf` one does not answer instead."""

    def __init__(self, *, deaf: bool = False) -> None:
        super().__init__(self._reach)
        self.back = threading.Event()
        self.gate: asyncio.Event | None = None
        self._deaf = deaf

    async def _reach(self, _: list[Any]) -> None:
        while not self.back.is_set():
            if not self._deaf:
                raise Unavailable("gone fishing")
            await asyncio.sleep(0.001)
        if self.gate:
            await self.gate.wait()


@pytest.fixture
def io() -> Iterator[Loop]:
    loop = Loop()
    yield loop
    loop.close()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "spill" / "out.db"


@pytest.fixture(autouse=True)
def in_a_hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {
        "BACK_OFF": (0.001, 0.01),
        "AWAY": 0.05,
        "SILENT": 0.2,
        "LOOK": 0.005,
        "SPILL_AGAIN": 0.02,
    }.items():
        monkeypatch.setattr(module, name, value)


def spilling(io: Loop, path: Path, target: Sink, **limits: Any) -> Outlet:
    """Return an outlet with the sink `out`, which spills."""
    return io.outlet(spills={"out": Spill(path, **{"keep_free": 0, **limits})}, out=target)


def put(outlet: Outlet, *numbers: int) -> None:
    outlet.put([("out", events(*numbers))])


def written(target: Sink, *numbers: int) -> None:
    wait_until(lambda: len(target.written) >= len(numbers), "everything is written", within=10)
    assert target.numbers == list(numbers)


def emptied(outlet: Outlet, path: Path) -> None:
    wait_until(lambda: outlet.lanes["out"].state.spilled == 0, "the spill is empty", within=10)
    assert not path.exists()


def test_a_flow_goes_on_while_a_target_is_away(io: Loop, path: Path) -> None:
    target, other = Target(), Sink()
    outlet = io.outlet(spills={"out": Spill(path, keep_free=0)}, out=target, other=other)
    for number in range(5):
        outlet.put([("out", events(number)), ("other", events(number))])
        outlet.flush()
    assert other.numbers == [0, 1, 2, 3, 4]
    assert (outlet.lanes["out"].state.spilled, outlet.lanes["out"].state.away) == (5, "gone fishing")
    target.back.set()
    written(target, 0, 1, 2, 3, 4)
    emptied(outlet, path)
    assert (outlet.lanes["out"].state.written, outlet.lanes["out"].state.away) == (5, "")


def test_a_target_that_is_away_for_a_moment_costs_no_disk(
    io: Loop, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "AWAY", 60)
    target = Target()
    outlet = spilling(io, path, target)
    put(outlet, 1)
    wait_until(lambda: outlet.lanes["out"].state.away, "it is away")
    io.loop.call_soon_threadsafe(io.loop.call_later, 0.1, target.back.set)
    outlet.flush()
    assert target.numbers == [1]
    assert not path.parent.exists()


def test_what_comes_while_the_spill_is_written_stays_behind_it(io: Loop, path: Path) -> None:
    target = Target()
    outlet = spilling(io, path, target)
    put(outlet, 1, 2)
    outlet.flush()
    target.gate = asyncio.Event()
    target.back.set()
    put(outlet, 3)
    outlet.flush()
    put(outlet, 4)
    assert outlet.lanes["out"].state.spilled == 3
    io.loop.call_soon_threadsafe(target.gate.set)
    written(target, 1, 2, 3, 4)
    outlet.flush()
    emptied(outlet, path)


def test_a_lane_that_is_half_full_spills_at_once_and_never_blocks(
    io: Loop, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "LANE_LIMIT", 10)
    monkeypatch.setattr(module, "AWAY", 1e6)
    target = Target()
    outlet = spilling(io, path, target)

    def put_all() -> None:
        for number in range(100):
            put(outlet, number)

    putting = threading.Thread(target=put_all, daemon=True)
    putting.start()
    putting.join(5)
    assert not putting.is_alive()
    wait_until(lambda: outlet.lanes["out"].state.spilled > 80, "most of it is on the disk")
    target.back.set()
    written(target, *range(100))


def test_a_target_that_does_not_answer_is_away(io: Loop, path: Path) -> None:
    target = Target(deaf=True)
    outlet = spilling(io, path, target)
    put(outlet, 1)
    outlet.flush()
    assert outlet.lanes["out"].state.away == "no answer for 0.2 s"
    target.back.set()
    written(target, 1)
    emptied(outlet, path)
    put(outlet, 2)
    outlet.flush()
    assert target.numbers == [1, 2]
    assert outlet.lanes["out"].state.away == ""


def test_a_sink_that_cannot_be_opened_yet_spills(io: Loop, path: Path) -> None:
    class Late(Target):
        async def open(self, outside: object) -> Sink:
            await self._reach([])
            return self

    target = Late()
    outlet = spilling(io, path, target)
    put(outlet, 1, 2)
    outlet.flush()
    target.back.set()
    written(target, 1, 2)


def test_a_full_spill_makes_the_flow_wait(
    io: Loop, path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(module, "LANE_LIMIT", 10)
    target = Target()
    outlet = spilling(io, path, target, limit=100)
    put(outlet, *range(5))
    wait_until(lambda: outlet.lanes["out"].state.away, "it is away")
    put(outlet, *range(5, 10))
    putting = threading.Thread(target=put, args=(outlet, 10), daemon=True)
    putting.start()
    flushing = threading.Thread(target=outlet.flush, daemon=True)
    flushing.start()
    wait_until(lambda: outlet.lanes["out"]._spill_fault, "the spill is full")
    assert putting.is_alive()
    assert flushing.is_alive()
    assert outlet.lanes["out"].state.spilled == 0
    target.back.set()
    for thread in (putting, flushing):
        thread.join(5)
        assert not thread.is_alive()
    written(target, *range(11))


def test_the_next_run_writes_first_what_the_last_one_spilled(io: Loop, path: Path) -> None:
    target = Target()
    outlet = spilling(io, path, target)
    put(outlet, 1, 2)
    outlet.flush()
    put(outlet, 3)
    outlet.flush()
    io.end(outlet)
    again = Target()
    again.back.set()
    outlet = spilling(io, path, again)
    put(outlet, 4)
    outlet.flush()
    written(again, 1, 2, 3, 4)
    emptied(outlet, path)
    assert target.numbers == []


def test_a_spill_without_new_events_is_written_too(io: Loop, path: Path) -> None:
    Spill(path, keep_free=0).append([events(1, 2)])
    target = Target()
    target.back.set()
    outlet = spilling(io, path, target)
    written(target, 1, 2)
    emptied(outlet, path)


def test_what_is_forgotten_has_its_dead_letters_stored(io: Loop, path: Path) -> None:
    Spill(path, keep_free=0).append([events(1, 7, 8)])
    stored = asyncio.Event()

    async def picky(batch: list[Any]) -> None:
        if any(item.data["n"] == 7 for item in batch):
            raise EventFault("seven")

    async def slow(_: list[Any]) -> None:
        await stored.wait()

    sink, dead = Sink(picky), Sink(slow)
    outlet = io.outlet(spills={"out": Spill(path, keep_free=0)}, dead=dead, out=sink)
    wait_until(lambda: sink.numbers == [1, 8], "what can be written is")
    with closing(sqlite3.connect(path)) as file:
        assert file.execute("select sum(events) from batch").fetchone() == (3,)
    assert outlet.lanes["out"].state.spilled == 3
    io.loop.call_soon_threadsafe(stored.set)
    emptied(outlet, path)
    assert [letter.event.data["n"] for letter in dead.written] == [7]


def test_an_answer_does_not_wait_for_a_target_that_is_away(io: Loop, path: Path) -> None:
    async def wait(_: list[Any]) -> None:
        await outlet.others_flushed("answer")

    target, answer = Target(), Sink(wait)
    outlet = io.outlet("answer", spills={"out": Spill(path, keep_free=0)}, out=target, answer=answer)
    outlet.put([("out", events(1)), ("answer", events(1))])
    wait_until(lambda: answer.numbers == [1], "it is answered", within=5)
    assert outlet.lanes["out"].state.spilled == 1


def test_a_spill_that_breaks_fails_the_flow(io: Loop, path: Path) -> None:
    Spill(path, keep_free=0).append([events(1)])
    with closing(sqlite3.connect(path)) as file:
        file.execute("update batch set body = x'c1'")
        file.commit()
    outlet = spilling(io, path, Sink())
    wait_until(lambda: outlet.lanes["out"]._failed, "it fails")
    with pytest.raises(EnvironmentFault, match=r"sink 'out': .*--repair out"):
        put(outlet, 2)


@pytest.mark.parametrize("seed", range(5))
def test_a_target_that_comes_and_goes_gets_everything_once_and_in_order(
    io: Loop, path: Path, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    monkeypatch.setattr(module, "LANE_LIMIT", 60)
    monkeypatch.setattr(module, "BATCH", 20)
    monkeypatch.setattr(module, "AWAY", 0.002)
    chance = random.Random(seed)

    async def moody(_: list[Any]) -> None:
        await asyncio.sleep(chance.choice((0, 0.001, 0.004)))
        if chance.random() < 0.5:
            raise Unavailable("not now")

    sink = Sink(moody)
    outlet = spilling(io, path, sink)
    for number in range(0, 1000, 5):
        put(outlet, *range(number, number + 5))
        if number % 50 == 0:
            outlet.flush()
    outlet.flush()
    written(sink, *range(1000))
    emptied(outlet, path)
