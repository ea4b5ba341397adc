"""What devices send: numbered events, some of them rubbish, and which of them were acknowledged."""

from __future__ import annotations

import time
from collections.abc import Iterable

DEFECTS = 10
RUBBISH = (
    b'{"device":"%s","n":"rubbish %d","t":%d,"result":"OK"}',
    b'{"device":"%s","rubbish":%d,"t":%d,"result":"OK"}',
    b'{"device":"%s","n":-%d,"t":%d,"result":"OK"}',
    b'{"device":"%s","n":%d,"t":%d,"result":"TIMEOUT"}',
    b'{"device":"%s","n":%d,"t":"%d o\'clock","result":"OK"}',
)
"""Each is a JSON object, so that HTTP takes it too."""
BROKEN = (b'{"device": "%s", "n": %d, "t": %d', b"%s %d %d \xff\xfe", b'["%s", %d, %d]')
"""None of these is one."""


class Acknowledged:
    """The numbers of one device that its senders need not send again: all up to one, and some beyond it."""

    def __init__(self) -> None:
        self._upto = 0
        self._beyond: set[int] = set()

    def __len__(self) -> int:
        return self._upto + len(self._beyond)

    def add(self, numbers: Iterable[int]) -> None:
        """Take in numbers from 1 on, in any order."""
        self._beyond.update(numbers)
        while self._upto + 1 in self._beyond:
            self._upto += 1
            self._beyond.discard(self._upto)

    def ranges(self) -> list[tuple[int, int]]:
        """Return (first, last) pairs."""
        return ([(1, self._upto)] if self._upto else []) + [(n, n) for n in sorted(self._beyond)]


class Event:
    """One event as it is sent; `n` is 0 for rubbish."""

    __slots__ = ("n", "payload")

    def __init__(self, n: int, payload: bytes) -> None:
        self.n, self.payload = n, payload


class Device:
    """Makes the events of one device, and keeps what was acknowledged."""

    def __init__(self, name: str, rubbish: float, *, objects: bool, every: int, pad: int) -> None:
        self.name, self.acknowledged = name, Acknowledged()
        self.refused: list[str] = []
        self._kinds = RUBBISH if objects else RUBBISH + BROKEN
        self._rubbish, self._every, self._pad = rubbish, every, b"x" * pad
        self._n, self._made, self._bad = 0, 0, 0

    def make(self, count: int) -> list[Event]:
        """Return the next events."""
        now = int(time.time() * 1000)
        return [self._next(now) for _ in range(count)]

    def _next(self, now: int) -> Event:
        self._made += 1
        if self._bad < int(self._made * self._rubbish):
            self._bad += 1
            return Event(0, self._kinds[self._bad % len(self._kinds)] % (self.name.encode(), self._bad, now))
        self._n += 1
        result = b"DEFECT" if self._n % DEFECTS == 0 else b"OK"
        pad = b',"pad":"%s"' % self._pad if self._pad and self._n % self._every == 0 else b""
        form = b'{"device":"%s","n":%d,"t":%d,"result":"%s"%s}'
        return Event(self._n, form % (self.name.encode(), self._n, now, result, pad))

    def taken(self, events: Iterable[Event]) -> None:
        """Note that these were acknowledged."""
        self.acknowledged.add(event.n for event in events if event.n)
        self.refused.extend(event.payload.decode("latin-1") for event in events if not event.n)
