"""A dashboard: it resumes by the number of the last frame, and checks that no number is missing or comes twice."""

from __future__ import annotations

import asyncio
import time
from urllib.parse import urlsplit

import msgspec

from tests.faults.matrix.websocket import listen

AGAIN = 0.1


class Data(msgspec.Struct):
    """What the checks need of a frame's data."""

    device: str = ""
    n: int = 0
    total: int = 0


class Frame(msgspec.Struct):
    """One frame of a channel."""

    event: str
    data: Data
    id: str = ""


_decode = msgspec.json.Decoder(Frame).decode


class Numbers:
    """Follows the ids of the frames, `<run>-<number>`: counts those that are missing, doubled, or of another run."""

    def __init__(self) -> None:
        self.last = ""
        self.missed, self.doubled, self.resets = 0, 0, 0

    def take(self, now: str) -> None:
        """Compare an id with the one before; a snapshot has the number that it stands at."""
        run, _, digits = now.rpartition("-")
        last_run, _, last_digits = self.last.rpartition("-")
        if run != last_run:
            self.resets += bool(self.last)
        else:
            step = int(digits) - int(last_digits)
            self.missed += max(0, step - 1)
            self.doubled += step < 1
        self.last = now


class Dashboard:
    """One client of the channel, from its first connection to `close`."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self._host, self._port, self._path = parts.hostname or "", parts.port or 80, parts.path
        self.frames, self.total, self.connections = 0, 0, 0
        self.numbers = Numbers()
        self.longest_gap, self._last_at = 0.0, 0.0
        self.seen: dict[str, list[int]] = {}
        self._running = asyncio.create_task(self._listen())

    async def _listen(self) -> None:
        while True:
            after = f"?after={self.numbers.last}" if self.numbers.last else ""
            found = await listen(self._host, self._port, self._path + after, self._take)
            if found is not None:
                self.connections += 1
                try:
                    await found.lost
                finally:
                    found.transport.abort()
            await asyncio.sleep(AGAIN)

    def _take(self, text: bytes) -> None:
        frame, now = _decode(text), time.monotonic()
        self.frames += 1
        self.longest_gap = max(self.longest_gap, now - self._last_at) if self._last_at else 0.0
        self._last_at = now
        if frame.event == "gap":
            return
        self.numbers.take(frame.id)
        if frame.event == "tick":
            self.seen.setdefault(frame.data.device, []).append(frame.data.n)
        elif frame.event == "totals":
            self.total = frame.data.total

    async def close(self) -> None:
        """Leave."""
        self._running.cancel()
        await asyncio.gather(self._running, return_exceptions=True)
