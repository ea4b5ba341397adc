"""Where a node's questions are asked: on the worker's I/O thread, in batches, so many at once."""

import asyncio
import time
from collections import deque
from collections.abc import Callable, Coroutine, Sequence
from contextlib import suppress
from typing import Any

import structlog

from engine.asking import Asked, Asking, NoAnswer, Question
from engine.attempts import Attempts
from engine.outstanding import Opener

Spawn = Callable[[Coroutine[Any, Any, None]], None]
log = structlog.get_logger()


class Timed:
    """Somebody who is asked, but not for longer than `timeout` seconds."""

    def __init__(self, asked: Asked, timeout: float) -> None:
        self._asked, self._timeout = asked, timeout

    async def ask(self, questions: Sequence[Question]) -> list[Any]:
        """Ask; raises NoAnswer when the time is over."""
        try:
            async with asyncio.timeout(self._timeout):
                return await self._asked.ask(questions)
        except TimeoutError:
            raise NoAnswer(f"an answer within {self._timeout:g} s; got none", "timeout") from None

    async def close(self) -> None:
        """Let go of the connection."""
        await self._asked.close()


class AskLane:
    """One node's questions. `put` is called by the dataflow's thread and never waits; `answered` when some are done."""

    def __init__(
        self, node: str, operator: Asking, answered: Callable[[], None], loop: asyncio.AbstractEventLoop, spawn: Spawn
    ) -> None:
        self._node, self._operator, self._terms = node, operator, operator.terms()
        self._answered, self._loop = answered, loop
        self._queue: deque[Question] = deque()
        self._come = asyncio.Event()
        self._attempts: Attempts | None = None
        self._ended = asyncio.Event()
        self._task: asyncio.Task[Any] | None = None
        self._was_open = False
        spawn(self._run())

    @property
    def retries(self) -> int:
        """How often something was asked again."""
        return self._attempts.retries if self._attempts else 0

    @property
    def open(self) -> bool:
        """Whether the circuit is open, so that nobody is asked."""
        return self._attempts is not None and self._attempts.circuit.open

    def put(self, questions: Sequence[Question]) -> None:
        """Take questions from the dataflow's thread."""
        self._loop.call_soon_threadsafe(self._take, questions)

    def _take(self, questions: Sequence[Question]) -> None:
        self._queue += questions
        self._come.set()

    async def close(self) -> None:
        """End what is under way; on the loop."""
        if self._task is not None:
            self._task.cancel()
            await self._ended.wait()

    async def _run(self) -> None:
        self._task = asyncio.current_task()
        asked = Timed(await self._operator.open(), self._terms.timeout / 1e6)
        self._attempts = Attempts(self._operator, asked, time.monotonic, asyncio.sleep)
        slots = asyncio.Semaphore(self._terms.at_once)
        try:
            async with asyncio.TaskGroup() as group:
                while True:
                    await slots.acquire()
                    batch = await self._batch()
                    group.create_task(self._settle(self._attempts, batch)).add_done_callback(lambda _: slots.release())
        finally:
            await asked.close()
            self._ended.set()

    async def _settle(self, attempts: Attempts, batch: list[Question]) -> None:
        await attempts.settle(batch)
        if self.open != self._was_open:
            self._was_open = self.open
            fault = str(batch[0].fault)
            told = {"reason": fault} if self.open else {}
            log.warning("nobody is asked for a while" if self.open else "asked again", node=self._node, **told)
        self._answered()

    async def _batch(self) -> list[Question]:
        """Wait for questions; with `linger`, for others that go with them."""
        await self._until(1)
        if self._terms.linger:
            with suppress(TimeoutError):
                async with asyncio.timeout(self._terms.linger / 1e6):
                    await self._until(self._terms.batch)
        return [self._queue.popleft() for _ in range(min(self._terms.batch, len(self._queue)))]

    async def _until(self, number: int) -> None:
        while len(self._queue) < number:
            self._come.clear()
            await self._come.wait()


def asking_on(loop: asyncio.AbstractEventLoop, spawn: Spawn) -> Opener:
    """Return what makes the askers of a process: lanes on this loop, where `spawn` runs a coroutine."""
    return lambda node, operator, answered: AskLane(node, operator, answered, loop, spawn)
