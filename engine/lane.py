"""A sink's lane: a bounded queue that the dataflow fills and the I/O thread writes, and what it knows of its target.

put ─▶ queue ─▶ hand ─▶ writer          while the target is here and nothing is spilled
put ─▶ queue ─▶ spill ─▶ hand ─▶ writer      from when it is away until the spill is empty again
"""

import asyncio
import threading
import time
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any

import structlog

from engine.dead import DeadLetter
from engine.errors import EnvironmentFault, Unavailable
from engine.lane_state import Hand, LaneState
from engine.meter import Step, metered
from engine.outputs import DEAD
from engine.spill import Spill
from engine.writer import Writer

LANE_LIMIT = 20_000
BATCH = 2_000
BACK_OFF = (0.05, 10.0)
AWAY, SILENT = 1.0, 5.0  # seconds until a target that refuses, or does not answer, is taken to be away
LOOK, SPILL_AGAIN, LINGER_LOOK = 0.05, 1.0, 0.01
NOT_GATHERED = (0, 0.0)
log = structlog.get_logger()


async def _at_once() -> None:
    """Return: nothing else is to be durable first."""


class Lane:
    """One sink's queue. `put` is called by the dataflow's thread and blocks when the lane is full (back-pressure).

    With a `spill`, what waits goes to the disk while the target is away, and that counts as durable. What was spilled
    is forgotten once it is written and `settled` has returned: the dead letters that it left are stored then.
    """

    def __init__(
        self,
        name: str,
        drop: Callable[[DeadLetter], None],
        spill: Spill | None = None,
        settled: Callable[[], Awaitable[None]] = _at_once,
    ) -> None:
        self.name = name
        self.state = LaneState(spilled=spill.events if spill else 0)
        self.step = Step()
        self._drop, self._spill, self._settled = drop, spill, settled
        self._chunks: deque[list[Any]] = deque()
        self._changed = threading.Condition()
        self._put = self._done = 0
        self._loop: asyncio.AbstractEventLoop
        self._ready, self._asked, self._order = asyncio.Event(), asyncio.Event(), asyncio.Lock()
        self._hand: Hand | None = None
        self._trying: float | None = None
        self._spill_fault = ""
        self._waiters: list[asyncio.Future[None]] = []
        self._failed: BaseException | None = None

    @property
    def taken(self) -> int:
        """How many events were put so far."""
        return self._put

    @property
    def waiting(self) -> tuple[int, float]:
        """How many events are in memory, queued or being written, and how full (0 to 1) the spill is."""
        return self._put - self._done, self._spill.fill if self._spill else 0.0

    def put(self, chunk: list[Any], *, wait: bool = True) -> None:
        """Add a chunk; with `wait`, the caller's thread waits while the lane is full."""
        with self._changed:
            if wait:
                self._changed.wait_for(lambda: self._put - self._done < LANE_LIMIT or self._failed)
            self._raise()
            self._chunks.append(chunk)
            self._put += len(chunk)
            half_full = self._put - self._done > LANE_LIMIT // 2
        self._loop.call_soon_threadsafe(self._ready.set)
        if half_full:
            self._loop.call_soon_threadsafe(self._asked.set)

    async def drained(self) -> None:
        """Wait on the loop until all that was put so far is durable."""
        target = self._put
        self._asked.set()
        while self._done < target:
            waiter = self._loop.create_future()
            self._waiters.append(waiter)
            await waiter

    def flush(self) -> None:
        """Wait until all that was put is durable."""
        with self._changed:
            target = self._put
            if self._done < target:
                self._loop.call_soon_threadsafe(self._asked.set)
            self._changed.wait_for(lambda: self._done >= target or self._failed)
            if self._done < target:
                self._raise()

    def fail(self, fault: BaseException) -> None:
        """Let `put` and `flush` raise from now on."""
        with self._changed:
            self._failed = self._failed or fault
            self._changed.notify_all()

    async def run(self, open_writer: Callable[[], Awaitable[Writer]]) -> None:
        """Open the sink and write until cancelled; what an earlier run has spilled comes first."""
        self._loop = asyncio.get_running_loop()
        watching = asyncio.create_task(self._watch(self._spill)) if self._spill else None
        try:
            writer = await self._patient(open_writer)
            many, linger = getattr(writer, "gather", NOT_GATHERED)
            try:
                while True:
                    await self._gathered(many, linger)
                    hand = await self._take()
                    await self._write(writer, hand.events)
                    await self._written(hand)
            finally:
                await writer.close()
        except Exception as fault:
            self.fail(fault)
            raise
        finally:
            if watching and self._spill:
                watching.cancel()
                await asyncio.gather(watching, return_exceptions=True)
                self._spill.close()

    async def _gathered(self, many: int, linger: float) -> None:
        """Let the first that waits linger for others, up to so many, unless somebody waits until it is durable."""
        while linger and not self._chunks and not self._waits_on_disk():
            self._ready.clear()
            await self._ready.wait()
        end = time.monotonic() + linger
        while self._put - self._done < many and not self._asked.is_set() and not self._waits_on_disk():
            left = end - time.monotonic()
            if left <= 0:
                break
            await asyncio.sleep(min(left, LINGER_LOOK))

    def _waits_on_disk(self) -> bool:
        return self._spill is not None and self._spill.events > 0

    async def _take(self) -> Hand:
        """Wait for something to write; what is spilled is older than what is queued."""
        while True:
            async with self._order:
                self._hand = await self._oldest()
                if self._hand:
                    return self._hand
                self._ready.clear()
            await self._ready.wait()

    async def _oldest(self) -> Hand | None:
        if self._spill and self._spill.events:
            return Hand(*await asyncio.to_thread(self._spill.read))
        with self._changed:
            if not self._chunks:
                return None
            batch = self._chunks.popleft()
            while self._chunks and len(batch) + len(self._chunks[0]) <= BATCH:
                batch = batch + self._chunks.popleft()
        return Hand(batch)

    async def _written(self, hand: Hand) -> None:
        async with self._order:
            if self._spill and hand.row:
                await self._settled()
                await asyncio.to_thread(self._spill.delete, hand.row)
                self.state.spilled = self._spill.events
            else:
                self._durable(len(hand.events))
            self._hand = None
            self.state.written += len(hand.events)

    def _durable(self, count: int) -> None:
        with self._changed:
            self._done += count
            self._changed.notify_all()
        waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(None)

    async def _watch(self, spill: Spill) -> None:
        """Spill what waits whenever somebody asks for it to be durable and the target is away."""
        try:
            while True:
                await self._asked.wait()
                if self._done >= self._put:
                    self._asked.clear()
                elif not self._must_spill(spill):
                    await asyncio.sleep(LOOK)
                elif not await self._spill_all(spill):
                    await asyncio.sleep(SPILL_AGAIN)
        except Exception as fault:
            self.fail(fault)
            raise

    def _must_spill(self, spill: Spill) -> bool:
        if spill.events:
            return True
        if self._trying is None:
            return False
        since = time.monotonic() - self._trying
        if self.state.away:
            return since > AWAY or self._put - self._done > LANE_LIMIT // 2
        return since > SILENT

    async def _spill_all(self, spill: Spill) -> bool:
        """Append what is in memory to the spill, oldest first; return whether the spill has taken it."""
        async with self._order:
            if not self._must_spill(spill):
                return True
            hand = self._hand if self._hand and not self._hand.row else None
            with self._changed:
                chunks, self._chunks = list(self._chunks), deque()
            queued = [event for chunk in chunks for event in chunk]
            try:
                rows = await asyncio.to_thread(spill.append, [hand.events if hand else [], queued])
            except Unavailable as fault:
                with self._changed:
                    self._chunks.extendleft(reversed(chunks))
                self._tell_spill(str(fault))
                return False
            if hand:
                hand.row = rows[0]
                if self._trying and not self.state.away:
                    self._is_away(f"no answer for {SILENT:g} s")
            self.state.spilled = spill.events
            self._durable(len(queued) + len(hand.events if hand else ()))
        self._tell_spill("")
        return True

    def _tell_spill(self, fault: str) -> None:
        if fault and not self._spill_fault:
            log.error("sink cannot spill, the flow waits", sink=self.name, reason=fault)
        elif self._spill_fault and not fault:
            log.warning("sink spills again", sink=self.name)
        self._spill_fault = fault

    async def _write(self, writer: Writer, batch: list[Any]) -> None:
        """Write a batch; an error that is not the target's is narrowed down to the events that cause it."""
        try:
            await self._patient(lambda: metered(writer.write(batch), self.step))
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
        self._trying = time.monotonic()
        try:
            while True:
                try:
                    found = await call()
                except Unavailable as fault:
                    self._is_away(str(fault))
                    self.state.retries += 1
                    await asyncio.sleep(wait)
                    wait = min(wait * 2, BACK_OFF[1])
                else:
                    self._is_there()
                    return found
        finally:
            self._trying = None

    def _is_there(self) -> None:
        if self.state.away:
            log.warning("sink goes on", sink=self.name)
            self.state.away = ""

    def _is_away(self, reason: str) -> None:
        if not self.state.away:
            log.warning("sink waits for its target", sink=self.name, reason=reason)
        self.state.away = reason

    def show(self, fault: str) -> None:
        """Show what is wrong with a target that is not waited for; nothing by an empty text."""
        if fault and not self.state.fault:
            log.warning("sink cannot reach its target", sink=self.name, reason=fault)
        self.state.fault = fault

    def _raise(self) -> None:
        if isinstance(self._failed, EnvironmentFault):
            raise EnvironmentFault(f"sink '{self.name}': {self._failed}") from self._failed
        if self._failed is not None:
            text = f"sink '{self.name}': {type(self._failed).__name__}: {self._failed}"
            raise RuntimeError(text) from self._failed
