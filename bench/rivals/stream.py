"""The messages of a line that inspects cars: 60 bytes of JSON, numbered, the same ones for everybody.

Every 20th message is the trigger that opens a car. Of the others one in a hundred is a DEFECT and one is a TIMEOUT,
which is to be refused; half are in small letters.
"""

import struct

import msgspec

PER_CAR = 20
DEFECT, TIMEOUT, ROUND = 7, 13, 100
GATE, STATION = b"sensor/ult01", b"sensor/result"
WORDS = (b"OK", b"ok")


class Expected(msgspec.Struct):
    """What a part of the stream leaves behind when nothing is lost, doubled or put to the wrong car."""

    rows: int
    numbers: int
    defects: int
    cars: int
    last: int


def is_row(n: int) -> bool:
    """Tell whether a message becomes a row of results."""
    return n % PER_CAR != 0 and n % ROUND != TIMEOUT


def expected(end: int) -> Expected:
    """Return what the messages 0 to `end` (left out) leave behind."""
    rows = [n for n in range(end) if is_row(n)]
    defects = sum(n % ROUND == DEFECT for n in rows)
    return Expected(len(rows), sum(rows), defects, -(-end // PER_CAR), rows[-1] if rows else -1)


def payload(n: int) -> bytes:
    """Return a message's payload."""
    if n % PER_CAR == 0:
        return b'{"device":"ult01","at":"entry","n":%d,"value":%.5f}' % (n, n % 977 / 7)
    kind = n % ROUND
    result = b"DEFECT" if kind == DEFECT else b"TIMEOUT" if kind == TIMEOUT else WORDS[n % 2]
    return b'{"device":"led%d","result":"%s","n":%d,"value":%.5f}' % (n % 8, result, n, 10 + n % 977 / 17)


def packet(n: int) -> bytes:
    """Return a message as an MQTT 3.1.1 PUBLISH with QoS 1."""
    topic, body = GATE if n % PER_CAR == 0 else STATION, payload(n)
    size = 4 + len(topic) + len(body)
    assert size < 128, "the remaining length is one byte"
    head = struct.pack(">BBH", 0x32, size, len(topic))
    return b"".join((head, topic, struct.pack(">H", n % 65_535 + 1), body))
