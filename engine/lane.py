"""A sink's lane: a bounded queue that the dataflow fills and the I/O thread writes, and what it knows of its target."""

import asyncio
import threading
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
import structlog

from engine.component import Writer
from engine.dead import DeadLetter
from engine.errors import EnvironmentFault, Unavailable
from engine.outputs import DEAD

LANE_LIMIT = 20_000
BATCH = 2_000
BACK_OFF = (0.05, 10.0)
log = structlog.get_logger()


class LaneState(msgspec.Struct):
    """What a lane has done: events written, how often its target was away, and whether it is now."""

    written: int = 0
    retries: int = 0
    away: str = ""


class Lane:
    """One sink's queue. `put` is called by the dataflow's thread and blocks when the lane is full (back-pressure)."""

    def __init__(self, name: str, drop: Callable[[DeadLetter], None]) -> None:
        self.name = name
        self.state = LaneState()
        self._drop = drop
        self._chunks: deque[list[Any]] = deque()
        self._changed = threading.Condition()
        self._size = self._put = self._done = 0
        self._loop: asyncio.AbstractEventLoop
        self._ready: asyncio.Event
        self._waiters: list[asyncio.Future[None]] = []
        self._failed: BaseException | None = None

    def put(self, chunk: list[Any], *, wait: bool = True) -> None:
        """Add a chunk; with `wait`, the caller's thread waits while the lane is full."""
        with self._changed:
            if wait:
                self._changed.wait_for(lambda: self._size < LANE_LIMIT or self._failed)
            self._raise()
            self._chunks.append(chunk)
            self._size += len(chunk)
            self._put += len(chunk)
        self._loop.call_soon_threadsafe(self._ready.set)

    async def drained(self) -> None:
        """Wait on the loop until all that was put so far is durable."""
        target = self._put
        while self._done < target:
            waiter = self._loop.create_future()
            self._waiters.append(waiter)
            await waiter

    def flush(self) -> None:
        """Wait until all that was put is durable."""
        with self._changed:
            target = self._put
            self._changed.wait_for(lambda: self._done >= target or self._failed)
            if self._done < target:
                self._raise()

    def fail(self, fault: BaseException) -> None:
        """Let `put` and `flush` raise from now on."""
        with self._changed:
            self._failed = self._failed or fault
            self._changed.notify_all()

    async def run(self, open_writer: Callable[[], Awaitable[Writer]]) -> None:
        """Open the sink and write until cancelled."""
        self._loop, self._ready = asyncio.get_running_loop(), asyncio.Event()
        try:
            writer = await self._patient(open_writer)
            try:
                while True:
                    batch = await self._take()
                    await self._write(writer, batch)
                    self._written(len(batch))
            finally:
                await writer.close()
        except Exception as fault:
            self.fail(fault)
            raise

    async def _take(self) -> list[Any]:
        while not self._chunks:
            self._ready.clear()
            await self._ready.wait()
        with self._changed:
            batch = self._chunks.popleft()
            while self._chunks and len(batch) + len(self._chunks[0]) <= BATCH:
                batch = batch + self._chunks.popleft()
        return batch

    def _written(self, count: int) -> None:
        with self._changed:
            self._size -= count
            self._done += count
            self.state.written += count
            self._changed.notify_all()
        waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(None)

    async def _write(self, writer: Writer, batch: list[Any]) -> None:
        """Write a batch; an error that is not the target's is narrowed down to the events that cause it."""
        try:
            await self._patient(lambda: writer.write(batch))
        except Exception as fault:
            if self.name == DEAD:
                raise
            if len(batch) == 1:
                self._drop(DeadLetter(self.name, batch[0], f"{type(fault).__name__}: {fault}", {}))
                return
            middle = len(batch) // 2
            await self._write(writer, batch[:middle])
            await self._write(writer, batch[middle:])

    async def _patient(self, call: Callable[[], Awaitable[Any]]) -> Any:
        """Call until the target is there."""
        wait = BACK_OFF[0]
        while True:
            try:
                found = await call()
            except Unavailable as fault:
                if not self.state.away:
                    log.warning("sink waits for its target", sink=self.name, reason=str(fault))
                self.state.away, self.state.retries = str(fault), self.state.retries + 1
                await asyncio.sleep(wait)
                wait = min(wait * 2, BACK_OFF[1])
            else:
                if self.state.away:
                    log.warning("sink goes on", sink=self.name)
                    self.state.away = ""
                return found

    def _raise(self) -> None:
        if isinstance(self._failed, EnvironmentFault):
            raise EnvironmentFault(f"sink '{self.name}': {self._failed}") from self._failed
        if self._failed is not None:
            text = f"sink '{self.name}': {type(self._failed).__name__}: {self._failed}"
            raise RuntimeError(text) from self._failed
