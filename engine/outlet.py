"""Where a flow's sinks run: one I/O thread, a bounded lane a sink, and a flush that waits until all is durable."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import msgspec

from engine.dead import DeadLetter
from engine.errors import EnvironmentFault
from engine.frames import Push
from engine.lane import Lane
from engine.ledger import Book, Totals
from engine.outputs import COUNTS, DEAD
from engine.spill import Spill

KEPT = 10_000
Opener = Callable[[Any], Awaitable[Any]]


class Snapshot(msgspec.Struct):
    """What an outlet's snapshot holds: kept values and the ledger's totals. In an older form it is the values alone."""

    kept: list[Push]
    totals: Totals


_SNAPSHOT = msgspec.msgpack.Decoder(Snapshot | list[Push])


class Outlet:
    """All lanes of a flow. The sinks in `answering` wait for the others: they get their events last."""

    def __init__(
        self,
        openers: dict[str, Opener],
        drop: Callable[[DeadLetter], None],
        answering: frozenset[str] = frozenset(),
        book: Book | None = None,
        spills: Mapping[str, Spill] | None = None,
    ) -> None:
        self.book = book or Book()
        found = spills or {}
        self.lanes = {name: Lane(name, drop, found.get(name), self.letters_stored) for name in openers}
        self._openers = openers
        self._tasks: list[asyncio.Task[None]] = []
        self._answering = answering
        self._kept: dict[tuple[str, str, str], Push] = {}

    def start(self, loop: asyncio.AbstractEventLoop, outside: Any) -> None:
        """Start the lanes on the I/O thread; returns when they can be put to."""

        async def start_all() -> list[asyncio.Task[None]]:
            tasks = [
                loop.create_task(lane.run(lambda opener=self._openers[name]: opener(outside)))  # type: ignore[misc]
                for name, lane in self.lanes.items()
            ]
            await asyncio.sleep(0)
            return tasks

        self._tasks = asyncio.run_coroutine_threadsafe(start_all(), loop).result()

    def put(self, items: list[tuple[str, list[Any]]]) -> None:
        """Hand chunks of events or dead letters to the lanes of their sinks, and counts to the book."""
        for port, chunk in sorted(items, key=self._is_answering) if self._answering else items:
            if port == COUNTS:
                self.book.count(chunk)
                continue
            if port == DEAD:
                self.book.dead(chunk)
            self.lanes[port].put(chunk)

    def _is_answering(self, item: tuple[str, list[Any]]) -> bool:
        return item[0] in self._answering

    def put_letters(self, letters: list[DeadLetter]) -> None:
        """Take dead letters from a sink; never waits, since the I/O thread calls it."""
        self.book.refused(letter.node for letter in letters)
        self.lanes[DEAD].put(letters, wait=False)

    async def letters_stored(self) -> None:
        """Wait until the dead letters so far are stored."""
        await self.lanes[DEAD].drained()

    async def others_flushed(self, lane: str) -> None:
        """Wait until what was put to the other lanes so far is durable; answering ones do not wait for each other."""
        others = self.lanes.keys() - self._answering - {lane}
        await asyncio.gather(*(self.lanes[name].drained() for name in others))

    def keep(self, push: Push) -> None:
        """Remember the latest value of a kept event: it is part of the snapshot, so that no restart loses it."""
        self._kept.pop((push.channel, push.event, push.room), None)
        self._kept[push.channel, push.event, push.room] = push
        if len(self._kept) > KEPT:
            del self._kept[next(iter(self._kept))]

    def kept(self) -> list[Push]:
        """Return the latest values of kept events."""
        return list(self._kept.values())

    def snapshot(self) -> bytes:
        """Settle the book; return the kept values and the totals."""
        sinks = {name: lane for name, lane in self.lanes.items() if name != DEAD}
        put = {name: lane.taken for name, lane in sinks.items()}
        totals = self.book.cut(put, sum(lane.state.spilled for lane in sinks.values()))
        return msgspec.msgpack.encode(Snapshot(self.kept(), totals))

    def restore(self, snapshot: bytes) -> None:
        """Take the kept values and the totals of a snapshot."""
        found = _SNAPSHOT.decode(snapshot)
        if isinstance(found, Snapshot):
            self.book.restore(found.totals)
        for push in found.kept if isinstance(found, Snapshot) else found:
            self.keep(push)

    def flush(self) -> None:
        """Wait until everything is durable."""
        for name, lane in self.lanes.items():
            if name != DEAD:
                lane.flush()
        self.lanes[DEAD].flush()

    def give_up(self, fault: EnvironmentFault) -> None:
        """Let whoever waits for a sink, or will, get this fault."""
        for lane in self.lanes.values():
            lane.fail(fault)

    async def close(self) -> None:
        """End the lanes and close their sinks; on the loop."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
