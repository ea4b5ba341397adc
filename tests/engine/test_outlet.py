"""The outlet: lanes that wait, narrow down, fail and give up; and the flush that an epoch waits for."""

import asyncio
import threading
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import pytest

from engine import lane as module
from engine import outlet as outlet_module
from engine.dead import DeadLetter
from engine.errors import EnvironmentFault, EventFault, Unavailable
from engine.event import Event
from engine.frames import Push
from engine.outlet import Opener, Outlet
from engine.outputs import DEAD


class Sink:
    """Remembers what is written; `before` is awaited first and may raise."""

    def __init__(self, before: Callable[[list[Any]], Awaitable[None]] | None = None) -> None:
        self.written: list[Any] = []
        self.closed = False
        self._before = before

    async def open(self, outside: object) -> "Sink":
        return self

    async def write(self, events: list[Any]) -> None:
        if self._before:
            await self._before(events)
        self.written += events

    async def close(self) -> None:
        self.closed = True


class Loop:
    """An event loop on a thread of its own, as a worker has it."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self.loop.run_forever)
        self.thread.start()
        self.outlets: list[Outlet] = []

    def outlet(self, *answering: str, **sinks: Sink) -> Outlet:
        openers: dict[str, Opener] = {name: sink.open for name, sink in sinks.items()}
        made = Outlet(openers | {DEAD: Sink().open}, self._drop, frozenset(answering))
        self.outlets.append(made)
        made.start(self.loop, None)
        return made

    def _drop(self, letter: DeadLetter) -> None:
        self.outlets[-1].put_letters([letter])

    def close(self) -> None:
        for outlet in self.outlets:
            asyncio.run_coroutine_threadsafe(outlet.close(), self.loop).result(5)
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join(5)
        self.loop.close()


@pytest.fixture
def io() -> Iterator[Loop]:
    loop = Loop()
    yield loop
    loop.close()


@pytest.fixture(autouse=True)
def in_a_hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BACK_OFF", (0.001, 0.01))


def event(number: int) -> Event:
    return Event(number.to_bytes(16, "big"), 0, "", "in", "", {"n": number})


def events(*numbers: int) -> list[Event]:
    return [event(number) for number in numbers]


def flush_with(outlet: Outlet, number: int) -> None:
    outlet.put([("out", events(number))])
    outlet.flush()


def test_flush_waits_until_all_is_written(io: Loop) -> None:
    sink = Sink(lambda _: asyncio.sleep(0.02))
    outlet = io.outlet(out=sink)
    for number in range(5):
        outlet.put([("out", events(number))])
    outlet.flush()
    assert [item.data["n"] for item in sink.written] == [0, 1, 2, 3, 4]
    assert outlet.lanes["out"].state.written == 5


def test_closing_closes_the_sinks(io: Loop) -> None:
    sink = Sink()
    outlet = io.outlet(out=sink)
    outlet.put([("out", events(1))])
    outlet.flush()
    asyncio.run_coroutine_threadsafe(outlet.close(), io.loop).result(5)
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
    outlet = Outlet({"out": sink.open, DEAD: dead.open}, io._drop)
    io.outlets.append(outlet)
    outlet.start(io.loop, None)
    outlet.put([("out", events(*range(10)))])
    outlet.flush()
    assert [item.data["n"] for item in sink.written] == [0, 1, 2, 3, 4, 5, 6, 8, 9]
    assert [(letter.node, letter.event.data["n"], letter.reason) for letter in dead.written] == [
        ("out", 7, "EventFault: seven")
    ]


def test_dead_letters_that_cannot_be_stored_fail_the_flow_instead_of_breeding(io: Loop) -> None:
    async def broken(_: list[Any]) -> None:
        raise EnvironmentFault("dead letters: the file is no database")

    outlet = Outlet({DEAD: Sink(broken).open}, io._drop)
    io.outlets.append(outlet)
    outlet.start(io.loop, None)
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
