"""The devices that speak HTTP: a connection each, arrays with an Idempotency-Key, repeated until answered with 2xx."""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from urllib.parse import urlsplit

from tests.faults.matrix.events import Device, Event

ARRAY, WAITING = 20, 1_000
PATIENCE, AGAIN, LONGEST_WAIT = 10.0, 0.05, 1.0
BUSY = (429, 503)


class Poster:
    """Posts for one device, in order: a request must be taken before the next goes out."""

    def __init__(self, url: str, device: Device, run: str) -> None:
        parts = urlsplit(url)
        self._host, self._port, self._path = parts.hostname or "", parts.port or 80, parts.path
        self.device, self._run = device, run
        self.answers: Counter[int] = Counter()
        self.cut, self.last_error = 0, ""
        self._waiting: deque[Event] = deque()
        self._woken = asyncio.Event()
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None
        self._sent = 0
        self.in_flight = 0
        self._running = asyncio.create_task(self._post_all())

    @property
    def errors(self) -> int:
        """Return how many answers were neither 2xx nor a request to come again later."""
        return sum(count for status, count in self.answers.items() if status >= 300 and status not in BUSY)

    @property
    def busy(self) -> int:
        """Return how many answers were 429 or 503."""
        return sum(self.answers[status] for status in BUSY)

    def offer(self, count: int) -> None:
        """Make so many events, unless too many wait."""
        if len(self._waiting) + count <= WAITING:
            self._waiting.extend(self.device.make(count))
            self._woken.set()

    @property
    def open(self) -> int:
        """Return how many events are not acknowledged."""
        return len(self._waiting) + self.in_flight

    async def _post_all(self) -> None:
        while True:
            while not self._waiting:
                self._woken.clear()
                await self._woken.wait()
            events = [self._waiting.popleft() for _ in range(min(ARRAY, len(self._waiting)))]
            self.in_flight = len(events)
            await self._until_taken(b"[" + b",".join(event.payload for event in events) + b"]")
            self.device.taken(events)
            self.in_flight = 0

    async def _until_taken(self, body: bytes) -> None:
        self._sent += 1
        key = f"{self._run}-{self.device.name}-{self._sent}"
        head = (
            f"POST {self._path} HTTP/1.1\r\nHost: {self._host}:{self._port}\r\nContent-Type: application/json\r\n"
            f"Idempotency-Key: {key}\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        while True:
            try:
                status, wait = await asyncio.wait_for(self._once(head.encode() + body), PATIENCE)
            except (OSError, EOFError, TimeoutError):
                self.cut += 1
                self._drop()
                await asyncio.sleep(AGAIN)
                continue
            self.answers[status] += 1
            if 200 <= status < 300:
                return
            await asyncio.sleep(min(wait or AGAIN, LONGEST_WAIT))

    async def _once(self, request: bytes) -> tuple[int, float]:
        if self._streams is None:
            self._streams = await asyncio.open_connection(self._host, self._port)
        reader, writer = self._streams
        writer.write(request)
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
        fields = dict(line.split(": ", 1) for line in head.split("\r\n")[1:] if line)
        answer = await reader.readexactly(int(fields.get("content-length", 0)))
        status = int(head.split(" ", 2)[1])
        if status >= 300:
            self.last_error = f"{status} {answer[:300]!r}"
        if fields.get("connection") == "close":
            self._drop()
        return status, float(fields.get("retry-after", 0))

    def _drop(self) -> None:
        if self._streams is not None:
            self._streams[1].transport.abort()
            self._streams = None

    async def close(self) -> None:
        """End the connection."""
        self._running.cancel()
        await asyncio.gather(self._running, return_exceptions=True)
        self._drop()
