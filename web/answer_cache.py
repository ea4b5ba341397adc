"""Give the same answer again for a while: bounded, and made once however many ask at the same time."""

import asyncio
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Hashable

from web.answers import Answer

MOST_ANSWERS = 256
MOST_BYTES = 8 << 20


class AnswerCache:
    """The answers of one query by its parameters; the one that was not asked for longest goes first."""

    def __init__(self, seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._seconds = seconds
        self._clock = clock
        self._kept: OrderedDict[Hashable, tuple[float, Answer]] = OrderedDict()
        self._turns: dict[Hashable, tuple[asyncio.Lock, int]] = {}
        self._bytes = 0

    async def get(self, key: Hashable, make: Callable[[], Awaitable[Answer]]) -> Answer:
        """Return the kept answer, or make it; an error is not kept."""
        if (kept := self._find(key)) is not None:
            return kept
        lock, users = self._turns.get(key, (asyncio.Lock(), 0))
        self._turns[key] = (lock, users + 1)
        try:
            async with lock:
                if (kept := self._find(key)) is not None:
                    return kept
                answer = await make()
                self._keep(key, answer)
                return answer
        finally:
            lock, users = self._turns.pop(key)
            if users > 1:
                self._turns[key] = (lock, users - 1)

    def _find(self, key: Hashable) -> Answer | None:
        until, answer = self._kept.get(key, (0.0, None))
        if answer is None or until <= self._clock():
            return None
        self._kept.move_to_end(key)
        return answer

    def _keep(self, key: Hashable, answer: Answer) -> None:
        self._drop(key)
        if len(answer.body) > MOST_BYTES:
            return
        self._kept[key] = (self._clock() + self._seconds, answer)
        self._bytes += len(answer.body)
        while len(self._kept) > MOST_ANSWERS or self._bytes > MOST_BYTES:
            self._drop(next(iter(self._kept)))

    def _drop(self, key: Hashable) -> None:
        _, answer = self._kept.pop(key, (0.0, None))
        self._bytes -= len(answer.body) if answer else 0
