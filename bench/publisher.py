"""A device that publishes JSON at QoS 1 and a steady rate, each message with the monotonic time at which it was sent.

Speaks MQTT 3.1.1 over a plain socket, so that it costs a microsecond or two a message: it shares the machine with what
is measured.
"""

import socket
import struct
import threading
import time

import msgspec

TICK = 0.001
DEVICES = 10
LATE = 0.5  # seconds behind its time-table, from which on it does not try to catch up


class Published(msgspec.Struct):
    """What was sent and what the broker has acknowledged, and for how many seconds it went on."""

    sent: int = 0
    acknowledged: int = 0
    seconds: float = 0.0


def publish(port: int, rate: float, seconds: float, first: int = 0, devices: int = DEVICES) -> Published:
    """Publish `rate` messages a second, numbered from `first` on, and wait until the broker has all of them.

    Each device has a topic of its own, `bench/led00000` and so on.
    """
    done = Published()
    with _connected(port, f"bench-{first}") as link:
        reader = threading.Thread(target=_acknowledgements, args=(link, done), daemon=True)
        reader.start()
        begun = time.monotonic()
        _send(link, done, rate, seconds, first, devices)
        done.seconds = time.monotonic() - begun
        end = time.monotonic() + 10
        while done.acknowledged < done.sent and time.monotonic() < end:
            time.sleep(TICK)
        link.sendall(b"\xe0\x00")
    return done


def _connected(port: int, client: str) -> socket.socket:
    link = socket.create_connection(("127.0.0.1", port), timeout=10)
    link.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    body = struct.pack("!H4sBBH", 4, b"MQTT", 4, 2, 0) + struct.pack("!H", len(client)) + client.encode()
    link.sendall(bytes([0x10, len(body)]) + body)
    if link.recv(4) != b"\x20\x02\x00\x00":
        raise ConnectionError("the broker does not take us")
    link.settimeout(None)
    return link


def _send(link: socket.socket, done: Published, rate: float, seconds: float, first: int, devices: int) -> None:
    begun = time.monotonic()
    while (now := time.monotonic() - begun) < seconds:
        due = int(now * rate) - done.sent
        if due > rate * LATE:
            begun += (due - 1) / rate
            due = 1
        if due > 0:
            link.sendall(b"".join(_packet(first + done.sent + at, devices) for at in range(due)))
            done.sent += due
        time.sleep(TICK)


def _packet(n: int, devices: int) -> bytes:
    device = n % devices
    result = b"DEFECT" if n % 9 == 0 else b"OK"
    payload = b'{"device":"led%d","result":"%s","n":%d,"sent":%d}' % (device, result, n, time.monotonic_ns())
    body = struct.pack("!H", 14) + b"bench/led%05d" % device + struct.pack("!H", n % 65535 + 1) + payload
    return bytes([0x32, len(body)]) + body


def _acknowledgements(link: socket.socket, done: Published) -> None:
    size = 0
    try:
        while received := link.recv(65536):
            size += len(received)
            done.acknowledged = size // 4
    except OSError:
        return
