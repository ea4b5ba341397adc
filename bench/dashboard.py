"""A WebSocket client of a live channel that notes when each event arrives and when it had been sent."""

import array
import socket
import time
from collections.abc import Callable, Iterator

from websockets.client import ClientProtocol
from websockets.uri import parse_uri

LONGEST = 0.25  # seconds between two looks at whether it is to end


class Dashboard:
    """Counts the events that say when they were sent.

    With `keep`, `times` has the monotonic nanoseconds (sent, received) of each.
    """

    def __init__(self, url: str, *, keep: bool = True) -> None:
        self.received, self._keep = 0, keep
        self.times: list[tuple[int, int]] = []
        self._left = b""
        self._socket = _connected(url)

    def run(self, ended: Callable[[int], bool]) -> None:
        """Receive until `ended(how many so far)`."""
        self._socket.settimeout(LONGEST)
        while not ended(self.received):
            try:
                received = self._socket.recv(1 << 16)
            except TimeoutError:
                continue
            if not received:
                return
            now = time.monotonic_ns()
            self._left += received
            times = [(sent, now) for sent in map(_sent, self._frames()) if sent]
            self.received += len(times)
            if self._keep:
                self.times += times

    def _frames(self) -> Iterator[bytes]:
        """Give the payloads of whole frames (RFC 6455, 5.2: a server's are not masked)."""
        data, at = self._left, 0
        while len(data) - at >= 2:
            size, begin = data[at + 1], at + 2
            if size > 125:
                width = 2 if size == 126 else 8
                size, begin = int.from_bytes(data[begin : begin + width]), begin + width
            if begin > len(data) or begin + size > len(data):
                break
            yield data[begin : begin + size]
            at = begin + size
        self._left = data[at:]

    def close(self) -> None:
        """Hang up."""
        self._socket.close()


def _connected(url: str) -> socket.socket:
    uri = parse_uri(url)
    link = socket.create_connection((uri.host, uri.port), timeout=10)
    protocol = ClientProtocol(uri)
    protocol.send_request(protocol.connect())
    link.sendall(b"".join(protocol.data_to_send()))
    answer = b""
    while b"\r\n\r\n" not in answer:
        answer += link.recv(1)
    if b" 101 " not in answer.split(b"\r\n", 1)[0]:
        raise ConnectionError(f"{url}: {answer!r}")
    return link


def _sent(frame: bytes) -> int:
    at = frame.find(b'"sent":')
    return int(frame[at + 7 :].split(b"}", 1)[0].split(b",", 1)[0]) if at >= 0 else 0


def packed(times: list[tuple[int, int]]) -> bytes:
    """Return times as bytes, to go to another process."""
    return array.array("q", [number for pair in times for number in pair]).tobytes()


def unpacked(data: bytes) -> list[tuple[int, int]]:
    """Return what was packed."""
    numbers = array.array("q", data)
    return list(zip(numbers[::2], numbers[1::2], strict=True))
