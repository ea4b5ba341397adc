"""The devices: a process that publishes the stream at QoS 1, at a steady rate or as fast as the broker acknowledges.

Packets are made before they are sent, and of acknowledgements (MQTT 3.1.1: four bytes each) only the length is looked
at, so that a message costs the machine about a microsecond.
"""

import multiprocessing
import socket
import time
from multiprocessing.connection import Connection
from types import TracebackType

import msgspec

from bench.rivals.stream import packet

WINDOW, AT_ONCE, STEP = 2_000, 500, 0.001
CONNECT = b"\x10\x11\x00\x04MQTT\x04\x02\x00\x00\x00\x05bench"
spawn = multiprocessing.get_context("spawn")


class Order(msgspec.Struct):
    """Publish the messages from `first` on; `rate` a second, or as fast as possible when 0."""

    first: int
    count: int
    rate: float = 0


class Sent(msgspec.Struct):
    """When (monotonic seconds) the first message was due, and the last one acknowledged."""

    begun: float
    ended: float


class Publisher:
    """The process, as the bench sees it."""

    def __init__(self, port: int) -> None:
        self._ours, theirs = spawn.Pipe()
        self._process = spawn.Process(target=_serve, args=(port, theirs), daemon=True)
        self._process.start()
        theirs.close()

    def prepare(self, order: Order) -> None:
        """Make the packets of an order."""
        self._ours.send_bytes(msgspec.msgpack.encode(order))
        assert self._ours.recv_bytes() == b"ready"

    def begin(self) -> None:
        """Publish what was prepared."""
        self._ours.send_bytes(b"go")

    def sent(self) -> Sent:
        """Wait until all is acknowledged."""
        return msgspec.msgpack.decode(self._ours.recv_bytes(), type=Sent)

    def publish(self, order: Order) -> Sent:
        """Prepare, publish and wait."""
        self.prepare(order)
        self.begin()
        return self.sent()

    def __enter__(self) -> "Publisher":
        return self

    def __exit__(self, kind: type[BaseException] | None, fault: BaseException | None, at: TracebackType | None) -> None:
        self._ours.close()
        self._process.join(5)
        self._process.kill()


def _serve(port: int, theirs: Connection) -> None:
    with socket.create_connection(("127.0.0.1", port), timeout=10) as link:
        link.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        link.sendall(CONNECT)
        assert link.recv(4) == b"\x20\x02\x00\x00", "the broker takes us"
        while (order := _order(theirs)) is not None:
            packets = [packet(n) for n in range(order.first, order.first + order.count)]
            theirs.send_bytes(b"ready")
            assert theirs.recv_bytes() == b"go"
            theirs.send_bytes(msgspec.msgpack.encode(_publish(link, packets, order.rate)))


def _order(theirs: Connection) -> Order | None:
    try:
        return msgspec.msgpack.decode(theirs.recv_bytes(), type=Order)
    except (EOFError, ConnectionResetError):
        return None


def _publish(link: socket.socket, packets: list[bytes], rate: float) -> Sent:
    begun, sent, acknowledged, total = time.monotonic(), 0, 0, len(packets)
    while acknowledged < 4 * total:
        room = WINDOW - sent + acknowledged // 4 if not rate else int((time.monotonic() - begun) * rate) + 1 - sent
        end = min(total, sent + max(0, min(room, AT_ONCE)))
        if end > sent:
            link.sendall(b"".join(packets[sent:end]))
            sent = end
        waits = sent == total or (not rate and sent - acknowledged // 4 >= WINDOW)
        acknowledged += _acknowledged(link, None if waits else (STEP if rate else 0))
    return Sent(begun, time.monotonic())


def _acknowledged(link: socket.socket, within: float | None) -> int:
    link.settimeout(within)
    try:
        return len(link.recv(65_536))
    except (TimeoutError, BlockingIOError):
        return 0
    finally:
        link.settimeout(None)
