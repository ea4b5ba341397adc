"""What the tests of sinks share: events, and surroundings that keep the dead letters."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

from engine.component import Sink
from engine.event import Event, microseconds
from engine.writer import Writer

START = microseconds(datetime(2026, 1, 31, 12, 0, 0, 123456, UTC))


class Surroundings:
    """What a sink sees of its worker."""

    flow = "line"

    def __init__(self) -> None:
        self.letters: list[tuple[str, Event, str, dict[str, Any]]] = []
        self.shown: list[str] = []
        self.lost = 0

    def dead(self, node: str, event: Event, reason: str, values: dict[str, Any]) -> None:
        self.letters.append((node, event, reason, values))

    def show(self, node: str, fault: str) -> None:
        self.shown.append(fault)

    def dropped(self, node: str, number: int) -> None:
        self.lost += number

    async def letters_stored(self) -> None:
        return

    @property
    def reasons(self) -> list[str]:
        return [reason for _, _, reason, _ in self.letters]

    @asynccontextmanager
    async def opened(self, sink: Sink) -> AsyncIterator[Writer]:
        writer = await sink.open(SimpleNamespace(name="out"), self)  # type: ignore[arg-type]
        try:
            yield writer
        finally:
            await writer.close()


def event(number: int, data: dict[str, Any], key: str = "", time: int = START) -> Event:
    return Event(number.to_bytes(16, "big"), time + number, key, "station", "sensor/result", data)


def readings(count: int, first: int = 0) -> list[Event]:
    return [event(n, {"n": n, "device": f"LED{n % 7}"}) for n in range(first, first + count)]
