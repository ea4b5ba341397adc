"""Thousands of dashboards of one channel in one process, and the one who makes the events that they are shown.

Plain sockets and epoll: a frame costs some microseconds here, since this shares the machine with what is measured.
"""

import re
import select
import socket
import time

import msgspec

CONNECTING = 100
MARK, SENT = b'"event":"tick"', re.compile(rb'"sent":(\d+)')
PING = b"\x89\x04"
SAMPLE = 7
"""Of every so many reads one is looked into for the time at which its event was sent."""


class Heard(msgspec.Struct):
    """What the audience has heard: frames of events that were made, and milliseconds from the making, sorted."""

    events: int
    frames: int
    seconds: float
    times: list[float]

    def percentile(self, share: float) -> float:
        """Return milliseconds that so many frames did not pass."""
        return self.times[min(len(self.times) - 1, int(len(self.times) * share))]


class Audience:
    """`count` WebSockets at `path` of a port."""

    def __init__(self, port: int, path: str, count: int) -> None:
        self.count, self.frames, self.made = count, 0, 0
        self._port = port
        self._poll = select.epoll()
        self._links: dict[int, socket.socket] = {}
        self._times: list[float] = []
        self._reads = 0
        request = (
            f"GET {path} HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
        ).encode()
        for first in range(0, count, CONNECTING):
            some = [self._connected() for _ in range(min(CONNECTING, count - first))]
            for link in some:
                link.sendall(request)
            for link in some:
                self._greeted(link)
        self._maker = self._connected()
        self._poll.register(self._maker, select.EPOLLIN)

    def _connected(self) -> socket.socket:
        link = socket.create_connection(("127.0.0.1", self._port), timeout=30)
        link.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return link

    def _greeted(self, link: socket.socket) -> None:
        answer = b""
        while b"\r\n\r\n" not in answer:
            answer += (received := link.recv(4096))
            if not received or not answer.startswith(b"HTTP/1.1 101"):
                raise ConnectionError(f"expected 101; got {answer!r}")
        self._links[link.fileno()] = link
        self._poll.register(link, select.EPOLLIN)

    def at_full_speed(self, seconds: float, ahead: int) -> Heard:
        """Make events as fast as they are heard, `ahead` on their way."""
        return self._run(seconds, lambda passed, heard: heard + ahead)

    def paced(self, seconds: float, rate: float) -> Heard:
        """Make `rate` events a second."""
        return self._run(seconds, lambda passed, heard: int(passed * rate) + 1)

    def _run(self, seconds, due) -> Heard:  # type: ignore[no-untyped-def]  # a function of (seconds, events heard)
        self._times.clear()
        frames, made, begun = self.frames, self.made, time.perf_counter()
        while (passed := time.perf_counter() - begun) < seconds:
            heard = (self.frames - frames) // self.count
            while self.made - made < due(passed, heard):
                self._make()
            self._listen(0.002)
        end = time.perf_counter() + 20
        while self.frames - frames < (self.made - made) * self.count and time.perf_counter() < end:
            self._listen(0.01)
        found = self.frames - frames
        return Heard(self.made - made, found, time.perf_counter() - begun, sorted(self._times))

    def _make(self) -> None:
        body = b'{"n":%d,"sent":%d}' % (100_000_000 + self.made, time.monotonic_ns())
        head = b"POST /tick HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n" % len(body)
        self._maker.sendall(head + body)
        self.made += 1

    def _listen(self, patience: float) -> None:
        maker = self._maker.fileno()
        for number, _ in self._poll.poll(patience):
            if number == maker:
                if not (answers := self._maker.recv(65536)) or b"HTTP/1.1 4" in answers:
                    raise ConnectionError(f"expected 202; got {answers!r}")
            else:
                self._take(self._links[number])

    def _take(self, link: socket.socket) -> None:
        data = link.recv(65536)
        self.frames += data.count(MARK)
        self._reads += 1
        if not data:
            raise ConnectionError("a dashboard was cut")
        if data.startswith(PING):
            link.sendall(b"\x8a\x84\0\0\0\0" + data[2:6])
        elif self._reads % SAMPLE == 0 and (found := SENT.search(data)):
            self._times.append((time.monotonic_ns() - int(found[1])) / 1e6)
