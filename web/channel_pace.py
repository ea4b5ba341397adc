"""Hold events to a rate: the first goes at once, then the latest at the end of each interval; the last one arrives."""

import asyncio
from collections.abc import Callable, Hashable
from functools import partial
from typing import Any, Protocol

MOST = 10_000


class Timer(Protocol):
    """A call that is to come."""

    def cancel(self) -> None:
        """Forget it."""


Later = Callable[[float, Callable[[], None]], Timer]


class _Beat:
    __slots__ = ("timer", "until", "waiting")

    def __init__(self, until: float) -> None:
        self.until = until
        self.waiting: Any = None
        self.timer: Timer | None = None


class Pace:
    """Calls `send` for what is offered, for each key at its rate."""

    def __init__(self, send: Callable[[Any], None], clock: Callable[[], float], later: Later | None = None) -> None:
        self._send, self._clock, self._later = send, clock, later
        self._beats: dict[Hashable, _Beat] = {}

    def offer(self, key: Hashable, item: Any, at_most: float) -> bool:
        """Send now, or when the interval (1 / at_most seconds) ends; True: an older item gave way to this one."""
        now, beat = self._clock(), self._beats.get(key)
        if beat is None or (beat.waiting is None and now >= beat.until):
            self._begin(key, now + 1 / at_most)
            self._send(item)
            return False
        replaced, beat.waiting = beat.waiting is not None, item
        if not replaced:
            later = self._later or asyncio.get_running_loop().call_later
            beat.timer = later(max(0.0, beat.until - now), partial(self._due, key, at_most))
        return replaced

    def waiting(self, key: Hashable) -> Any:
        """Return what is held back for a key, or None."""
        beat = self._beats.get(key)
        return beat.waiting if beat else None

    def held(self) -> list[Any]:
        """Return everything that is held back."""
        return [beat.waiting for beat in self._beats.values() if beat.waiting is not None]

    def close(self) -> None:
        """Forget what is held back."""
        for beat in self._beats.values():
            if beat.timer is not None:
                beat.timer.cancel()
        self._beats.clear()

    def _due(self, key: Hashable, at_most: float) -> None:
        item = self._beats[key].waiting
        self._begin(key, self._clock() + 1 / at_most)
        self._send(item)

    def _begin(self, key: Hashable, until: float) -> None:
        self._beats[key] = _Beat(until)
        if len(self._beats) > MOST:
            now = self._clock()
            idle = [key for key, beat in self._beats.items() if beat.waiting is None and beat.until <= now]
            for key in idle:
                del self._beats[key]
