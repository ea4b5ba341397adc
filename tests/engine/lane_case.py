"""Outlets for tests: sinks that remember, and an event loop on a thread of its own, as a worker has it."""

import asyncio
import threading
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from engine.dead import DeadLetter
from engine.event import Event
from engine.outlet import Opener, Outlet
from engine.outputs import DEAD
from engine.spill import Spill


class Sink:
    """Remembers what is written; `before` is awaited first and may raise."""

    def __init__(self, before: Callable[[list[Any]], Awaitable[None]] | None = None) -> None:
        self.written: list[Any] = []
        self.closed = False
        self._before = before

    @property
    def numbers(self) -> list[int]:
        """The numbers of the events that were written."""
        return [item.data["n"] for item in self.written]

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

    def outlet(
        self, *answering: str, spills: Mapping[str, Spill] | None = None, dead: Sink | None = None, **sinks: Sink
    ) -> Outlet:
        openers: dict[str, Opener] = {name: sink.open for name, sink in sinks.items()}
        openers[DEAD] = (dead or Sink()).open
        made = Outlet(openers, self._drop, frozenset(answering), spills=spills)
        self.outlets.append(made)
        made.start(self.loop, None)
        return made

    def _drop(self, letter: DeadLetter) -> None:
        self.outlets[-1].put_letters([letter])

    def end(self, outlet: Outlet) -> None:
        """Close an outlet as a worker that ends does."""
        asyncio.run_coroutine_threadsafe(outlet.close(), self.loop).result(5)

    def close(self) -> None:
        for outlet in self.outlets:
            self.end(outlet)
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join(5)
        self.loop.close()


def event(number: int) -> Event:
    return Event(number.to_bytes(16, "big"), 0, "", "in", "", {"n": number})


def events(*numbers: int) -> list[Event]:
    return [event(number) for number in numbers]
