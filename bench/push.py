"""HTTP push through the gateway: events/s, what one costs the gateway, and how long an answer takes."""

import multiprocessing
import select
import socket
import sys
import time
from collections import deque
from collections.abc import Sequence
from multiprocessing.connection import Connection

import msgspec

from bench.gateway import Gateway, Stretch, gateway
from bench.result import Curve, Figure, Section

FLOW = """\
flow: bench
sources: {readings: {http: {post: /readings, allow: viewer, most: 1MiB}}}
operators: {none: {from: readings, where: never}}
sinks: {out: {from: none, log: {}}}
"""
SIZES = {1: "single event", 100: "array of 100", 1_000: "array of 1,000"}
LIMITS = {1: 93.0, 100: 1.3, 1_000: 0.53}
"""Microseconds an event of Starlette on uvicorn, without token, meta or inbox of ours, measured on its own."""
CONNECTIONS, PACED, SECONDS, SHORT = 32, 0.5, 6.0, 1.5
_spawn = multiprocessing.get_context("spawn")


class Answered(msgspec.Struct):
    """What a client saw: answers, and how long each took in milliseconds, sorted."""

    requests: int
    seconds: float
    times: list[float]

    def percentile(self, share: float) -> float:
        """Return milliseconds that so many answers did not pass."""
        return self.times[min(len(self.times) - 1, int(len(self.times) * share))]


def request(size: int, token: str) -> bytes:
    """Return one whole request with `size` events of 60 bytes."""
    events = [b'{"device":"ult01","value":%d.345,"time":1700000000,"unit":"mm"}' % (1000 + at) for at in range(size)]
    body = b"[" + b",".join(events) + b"]" if size > 1 else events[0]
    lines = (
        b"POST /readings HTTP/1.1", b"Host: localhost", b"Authorization: Bearer " + token.encode(),
        b"Content-Type: application/json", b"Content-Length: %d" % len(body), b"", body,
    )  # fmt: skip
    return b"\r\n".join(lines)


class Client:
    """Keep-alive connections that send the same request again and again, in a process of their own."""

    def __init__(self, port: int, data: bytes, connections: int) -> None:
        self._data = data
        self._poll = select.epoll()
        self._links = [socket.create_connection(("127.0.0.1", port), timeout=10) for _ in range(connections)]
        self._by_number = {link.fileno(): link for link in self._links}
        self._sent: dict[int, float] = {}
        for link in self._links:
            link.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._poll.register(link, select.EPOLLIN)
        self._idle = deque(self._by_number)

    def run(self, seconds: float, rate: float = 0.0) -> Answered:
        """Send as fast as answers come, or `rate` requests a second; return what was answered."""
        times: list[float] = []
        begun = now = time.perf_counter()
        end, sent = begun + seconds, 0
        while now < end or self._sent:
            due = int((now - begun) * rate) + 1 - sent if rate else len(self._idle)
            for _ in range(min(due, len(self._idle)) if now < end else 0):
                self._send(self._idle.popleft())
                sent += 1
            for number, _ in self._poll.poll(0.0005 if rate else 1.0):
                times.append(self._answer(number))
            now = time.perf_counter()
        return Answered(len(times), now - begun, sorted(times))

    def _send(self, number: int) -> None:
        self._sent[number] = time.perf_counter()
        self._by_number[number].sendall(self._data)

    def _answer(self, number: int) -> float:
        answer = b""
        while not answer.endswith(b"}"):
            answer += (received := self._by_number[number].recv(65536))
            if not received or not answer.startswith(b"HTTP/1.1 202"):
                raise ConnectionError(f"expected an answer of 202; got {answer[:300]!r}")
        self._idle.append(number)
        return (time.perf_counter() - self._sent.pop(number)) * 1000


def _client(theirs: Connection, port: int, data: bytes, connections: int) -> None:
    client = Client(port, data, connections)
    client.run(0.3)
    theirs.send(None)
    while order := theirs.recv():
        theirs.send(client.run(*order))


class Push:
    """What one size of requests gave: at full speed with many connections, and paced at half of that."""

    def __init__(self, site: Gateway, size: int, token: str, seconds: float) -> None:
        ours, theirs = _spawn.Pipe()
        process = _spawn.Process(
            target=_client, args=(theirs, site.port, request(size, token), CONNECTIONS), daemon=True
        )
        process.start()
        theirs.close()
        ours.recv()
        self.size = size
        self.full, self.cpu = self._run(site, ours, seconds, 0.0)
        self.paced, _ = self._run(site, ours, seconds, self.full.requests / self.full.seconds * PACED)
        ours.send(None)
        process.join(10)

    def _run(self, site: Gateway, client: Connection, seconds: float, rate: float) -> tuple[Answered, float]:
        stretch = Stretch(site)
        client.send((seconds, rate))
        found: Answered = client.recv()
        return found, stretch.end().cpu / (found.requests * self.size) * 1e6

    @property
    def rate(self) -> float:
        """Return events a second at full speed."""
        return self.full.requests * self.size / self.full.seconds


def _figures(push: Push) -> Sequence[Figure]:
    name, limit = SIZES[push.size], LIMITS[push.size]
    speed = f"{CONNECTIONS} connections"
    cost = f"{push.cpu / limit:.2f} of {limit:g} µs: bare Starlette with msgspec and a commit"
    paced = f"at {push.paced.requests * push.size / push.paced.seconds:,.0f} events/s"
    return (
        Figure(f"{name}: pushed", round(push.rate), "events/s", note=speed),
        Figure(f"{name}: the gateway's processor time", round(push.cpu, 2), "µs/event", note=cost),
        Figure(f"{name}: answer, median", round(push.paced.percentile(0.5), 2), "ms", note=paced),
        Figure(f"{name}: answer, 99th percentile", round(push.paced.percentile(0.99), 2), "ms", note=paced),
    )


def measure(short: bool) -> Section:
    """Return rates, cost and latencies for each size of requests."""
    with gateway(FLOW) as site:
        token = site.token()
        found = [Push(site, size, token, SHORT if short else SECONDS) for size in SIZES]
    figures = [figure for push in found for figure in _figures(push)]
    costs = [(float(push.size), push.cpu) for push in found]
    limits = [(float(size), limit) for size, limit in LIMITS.items()]
    lines = {"Millstream": costs, "bare Starlette": limits}
    curve = Curve("HTTP push: processor time by events a request", "events a request", "µs/event", lines, True, True)
    notes = ["Every event is durable before the answer; requests carry a token. The client is a process of its own."]
    return Section("HTTP push", figures, [curve], notes)


if __name__ == "__main__":
    for figure in measure(short="short" in sys.argv).figures:
        print(f"{figure.name:45} {figure.value:12,.2f} {figure.unit:10} {figure.note}")
