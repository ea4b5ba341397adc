"""The outlet: lanes that wait, narrow down, fail and give up; and the flush that an epoch waits for."""

import asyncio
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from engine import lane as module
from engine import outlet as outlet_module
from engine.dead import DeadLetter
from engine.errors import EnvironmentFault, EventFault, Unavailable
from engine.event import Event
from engine.frames import Push
from engine.ledger import AT, Book
from engine.load import load_text
from engine.outlet import Outlet
from engine.outputs import COUNTS, DEAD
from engine.spill import Spill
from tests.engine.lane_case import Loop, Sink, event, events
from tests.process import wait_until


@pytest.fixture
def io() -> Iterator[Loop]:
    loop = Loop()
    yield loop
    loop.close()


@pytest.fixture(autouse=True)
def in_a_hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BACK_OFF", (0.001, 0.01))


def flush_with(outlet: Outlet, number: int) -> None:
    outlet.put([("out", events(number))])
    outlet.flush()


def test_flush_waits_until_all_is_written(io: Loop) -> None:
    sink = Sink(lambda _: asyncio.sleep(0.02))
    outlet = io.outlet(out=sink)
    for number in range(5):
        outlet.put([("out", events(number))])
    outlet.flush()
    assert sink.numbers == [0, 1, 2, 3, 4]
    assert outlet.lanes["out"].state.written == 5


def test_closing_closes_the_sinks(io: Loop) -> None:
    sink = Sink()
    outlet = io.outlet(out=sink)
    outlet.put([("out", events(1))])
    outlet.flush()
    io.end(outlet)
    assert sink.closed


def test_a_target_that_is_away_is_tried_again(io: Loop) -> None:
    attempts = []

    async def away(_: list[Any]) -> None:
        attempts.append(1)
        if len(attempts) < 4:
            raise Unavailable("gone fishing")

    outlet = io.outlet(out=Sink(away))
    outlet.put([("out", events(1))])
    outlet.flush()
    state = outlet.lanes["out"].state
    assert (state.retries, state.away, state.written) == (3, "", 1)


def test_a_bad_event_costs_itself_only(io: Loop) -> None:
    async def picky(batch: list[Event]) -> None:
        if any(item.data["n"] == 7 for item in batch):
            raise EventFault("seven")

    sink, dead = Sink(picky), Sink()
    outlet = io.outlet(dead=dead, out=sink)
    outlet.put([("out", events(*range(10)))])
    outlet.flush()
    assert sink.numbers == [0, 1, 2, 3, 4, 5, 6, 8, 9]
    assert [(letter.node, letter.event.data["n"], letter.reason) for letter in dead.written] == [
        ("out", 7, "EventFault: seven")
    ]


def test_dead_letters_that_cannot_be_stored_fail_the_flow_instead_of_breeding(io: Loop) -> None:
    async def broken(_: list[Any]) -> None:
        raise EnvironmentFault("dead letters: the file is no database")

    outlet = io.outlet(dead=Sink(broken))
    outlet.put_letters([DeadLetter("node", event(1), "why", {})])
    with pytest.raises(EnvironmentFault, match="the file is no database"):
        outlet.flush()


@pytest.mark.parametrize(
    ("fault", "kind", "text"),
    [
        (EnvironmentFault("no such table"), EnvironmentFault, "sink 'out': no such table"),
        (KeyError("host"), RuntimeError, "sink 'out': KeyError: 'host'"),
    ],
)
def test_a_sink_that_cannot_be_opened_fails_the_flow(
    io: Loop, fault: Exception, kind: type[Exception], text: str
) -> None:
    class Closed(Sink):
        async def open(self, outside: object) -> Sink:
            raise fault

    outlet = io.outlet(out=Closed())
    with pytest.raises(kind, match=text):
        flush_with(outlet, 1)


def test_a_full_lane_makes_the_flow_wait(io: Loop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LANE_LIMIT", 3)
    gate = asyncio.Event()

    async def gated(_: list[Any]) -> None:
        await gate.wait()

    outlet = io.outlet(out=Sink(gated))
    outlet.put([("out", events(1, 2, 3))])
    putting = threading.Thread(target=outlet.put, args=([("out", events(4))],))
    putting.start()
    putting.join(0.2)
    assert putting.is_alive()
    io.loop.call_soon_threadsafe(gate.set)
    putting.join(5)
    assert not putting.is_alive()
    outlet.flush()


@pytest.mark.parametrize("waiting", ["put", "flush"])
def test_giving_up_frees_who_waits(io: Loop, monkeypatch: pytest.MonkeyPatch, waiting: str) -> None:
    monkeypatch.setattr(module, "LANE_LIMIT", 1)

    async def away(_: list[Any]) -> None:
        raise Unavailable("gone for good")

    outlet = io.outlet(out=Sink(away))
    outlet.put([("out", events(1))])
    io.loop.call_soon_threadsafe(io.loop.call_later, 0.05, outlet.give_up, EnvironmentFault("too late"))
    with pytest.raises(EnvironmentFault, match="too late"):
        outlet.put([("out", events(2))]) if waiting == "put" else outlet.flush()


def test_what_is_written_already_is_not_lost_by_giving_up(io: Loop) -> None:
    outlet = io.outlet(out=Sink())
    outlet.put([("out", events(1))])
    outlet.flush()
    outlet.give_up(EnvironmentFault("too late"))
    outlet.flush()


def test_two_sinks_that_wait_for_the_others_do_not_wait_for_each_other(io: Loop) -> None:
    order: list[str] = []

    def answering(name: str) -> Sink:
        async def wait(_: list[Any]) -> None:
            await outlet.others_flushed(name)
            order.append(name)

        return Sink(wait)

    async def slow(_: list[Any]) -> None:
        await asyncio.sleep(0.05)
        order.append("row")

    outlet = io.outlet("first", "second", first=answering("first"), second=answering("second"), row=Sink(slow))
    outlet.put([(name, events(1)) for name in ("first", "second", "row")])
    flushing = threading.Thread(target=outlet.flush, daemon=True)
    flushing.start()
    flushing.join(5)
    assert not flushing.is_alive()
    assert order[0] == "row"
    assert sorted(order[1:]) == ["first", "second"]


def test_kept_values_survive_as_a_snapshot(io: Loop) -> None:
    outlet = io.outlet()
    for number in range(3):
        outlet.keep(Push("board", "stats", bytes(16), b"%d" % number, keep=True))
    outlet.keep(Push("board", "stats", bytes(16), b"9", room="b", keep=True))
    other = io.outlet()
    other.restore(outlet.snapshot())
    assert [(push.room, push.body) for push in other.kept()] == [("", b"2"), ("b", b"9")]


def test_at_most_so_many_values_are_kept(io: Loop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outlet_module, "KEPT", 2)
    outlet = io.outlet()
    for room in "abac":
        outlet.keep(Push("board", "stats", bytes(16), b"1", room=room, keep=True))
    assert [push.room for push in outlet.kept()] == ["a", "c"]


def test_a_lane_can_be_put_to_as_soon_as_it_is_started(io: Loop) -> None:
    for _ in range(50):
        outlet = io.outlet(out=Sink())
        outlet.put([("out", events(1))])
        outlet.flush()


FLOW = "flow: f\nsources: {a: {mqtt: {topics: [t]}}}\nsinks: {z: {from: a, log: x}}"


def test_counts_survive_as_part_of_the_snapshot(io: Loop) -> None:
    def counting() -> Outlet:
        outlet = io.outlet(z=Sink())
        outlet.book = Book(load_text(FLOW).raise_findings())
        outlet.book.begin(0)
        return outlet

    outlet = counting()
    outlet.put([(COUNTS, [(AT, (0, 3)), ("in a", 3), ("a", 2)]), ("z", events(1, 2)), (DEAD, [letter("a")])])
    outlet.flush()
    snapshot = outlet.snapshot()
    other = counting()
    other.restore(snapshot)
    other.put([(COUNTS, [(AT, (3, 4)), ("in a", 1), ("a", 1)]), ("z", events(3))])
    other.put_letters([letter("z")])
    other.flush()
    other.snapshot()
    found = other.book.ledger(5)
    assert found is not None
    assert (found.received, found.stored, found.dead, found.in_flight, found.where) == (5, 2, 2, 1, {})


def test_what_waits_on_the_disk_is_in_flight_until_it_is_written(io: Loop, tmp_path: Path) -> None:
    back = threading.Event()

    async def away(batch: list[Any]) -> None:
        if not back.is_set():
            raise Unavailable("gone fishing")
        if batch[0].data["n"] == 1:
            raise EventFault("one")

    outlet = io.outlet(spills={"z": Spill(tmp_path / "z.db", keep_free=0)}, z=Sink(away))
    outlet.book = Book(load_text(FLOW).raise_findings())
    outlet.book.begin(0)
    outlet.put([(COUNTS, [(AT, (0, 3)), ("in a", 3), ("a", 3)]), ("z", events(1, 2, 3))])
    assert terms(outlet) == {"received": 3, "in_flight": 3}
    back.set()
    wait_until(lambda: outlet.lanes["z"].state.spilled == 0, "the spill is written", within=10)
    assert terms(outlet) == {"received": 3, "stored": 2, "dead": 1}


def terms(outlet: Outlet) -> dict[str, int]:
    """Return the terms that are not 0, at the end of an epoch."""
    outlet.flush()
    outlet.snapshot()
    found = outlet.book.ledger(3)
    assert found is not None
    return {name: number for name, number in found.terms().items() if number}


def test_a_snapshot_of_the_first_version_holds_kept_values_only(io: Loop) -> None:
    outlet = io.outlet()
    outlet.restore(msgspec.msgpack.encode([Push("board", "stats", bytes(16), b"1", keep=True)]))
    assert [push.body for push in outlet.kept()] == [b"1"]
    assert outlet.book.ledger(7) is None


def letter(node: str) -> DeadLetter:
    return DeadLetter(node, event(0), "why", {})
