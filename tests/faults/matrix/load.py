"""The load, a process of its own: `python -m tests.faults.matrix.load SPEC` makes events until stdin says so.

It writes a line of JSON to stdout ten times a second, and a last one with everything that was acknowledged and seen.
Commands: `stop` makes no more events and waits until all are acknowledged; `end` (or the end of stdin) ends.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import sys
import time

import msgspec

from tests.faults.matrix.dashboard import Dashboard
from tests.faults.matrix.events import Device
from tests.faults.matrix.poster import Poster
from tests.faults.matrix.publisher import Publisher

BEAT, STATUS = 0.05, 0.1


class Spec(msgspec.Struct):
    """What to do: `rate` events a second in all, half of them by MQTT; `pad` bytes more in what dashboards see."""

    mqtt: str
    http: str
    board: str
    rate: int = 2_000
    devices: int = 4
    every: int = 100
    pad: int = 0
    rubbish: float = 0.0
    dashboards: int = 3


class Status(msgspec.Struct):
    """How it stands: counts since the start; `cpu` in seconds, `gap` is the longest between two frames."""

    acknowledged: int = 0
    by_mqtt: int = 0
    open: int = 0
    frames: int = 0
    ticks: int = 0
    totals: int = 0
    http_errors: int = 0
    busy: int = 0
    cut: int = 0
    last_error: str = ""
    reconnects: int = 0
    gap: float = 0.0
    cpu: float = 0.0
    stopped: bool = False


class Seen(msgspec.Struct):
    """What one dashboard has seen."""

    seen: dict[str, list[int]]
    total: int
    missed: int
    doubled: int
    resets: int
    connections: int


class Final(msgspec.Struct):
    """Everything: ranges of numbers by device, rubbish that was acknowledged, what was sent again."""

    status: Status
    acknowledged: dict[str, list[tuple[int, int]]]
    refused: list[str]
    resent: list[tuple[str, int]]
    dashboards: list[Seen]


class Load:
    """All devices and dashboards."""

    def __init__(self, spec: Spec) -> None:
        self._spec, run = spec, secrets.token_hex(4)
        mqtt, http = ([self._device(f"{kind}{i}", kind == "h") for i in range(spec.devices)] for kind in "mh")
        self._publisher = Publisher(spec.mqtt, mqtt)
        self._posters = [Poster(spec.http, device, run) for device in http]
        self._dashboards = [Dashboard(spec.board) for _ in range(spec.dashboards)]
        self._devices = mqtt + http
        self._stopped = asyncio.Event()

    def _device(self, name: str, objects: bool) -> Device:
        spec = self._spec
        return Device(name, spec.rubbish, objects=objects, every=spec.every, pad=spec.pad)

    async def run(self, commands: asyncio.StreamReader) -> None:
        """Work until told to end."""
        tasks = [asyncio.create_task(self._make()), asyncio.create_task(self._tell())]
        while (line := (await commands.readline()).strip()) and line != b"end":
            self._stopped.set()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.gather(*(board.close() for board in self._dashboards))
        await asyncio.gather(*(poster.close() for poster in self._posters), self._publisher.close())
        _say(self._final())

    async def _make(self) -> None:
        """Make events at an even rate; what a beat was late is made up for by the next, up to a second."""
        share = self._spec.rate / len(self._devices)
        begin, made = time.monotonic(), 0
        while not self._stopped.is_set():
            await asyncio.sleep(BEAT)
            due = int((time.monotonic() - begin) * share) - made
            made += due
            self._publisher.offer(min(due, int(share)))
            for poster in self._posters:
                poster.offer(min(due, int(share)))

    async def _tell(self) -> None:
        while True:
            _say(self.status())
            await asyncio.sleep(STATUS)

    def status(self) -> Status:
        """Return how it stands."""
        boards, posters = self._dashboards, self._posters
        times = os.times()
        waiting = self._publisher.in_flight + sum(poster.open for poster in posters)
        return Status(
            acknowledged=sum(len(device.acknowledged) for device in self._devices),
            by_mqtt=sum(len(device.acknowledged) for device in self._publisher.devices),
            open=waiting,
            frames=sum(board.frames for board in boards),
            ticks=min((sum(map(len, board.seen.values())) for board in boards), default=0),
            totals=min((board.total for board in boards), default=0),
            http_errors=sum(poster.errors for poster in posters),
            busy=sum(poster.busy for poster in posters),
            cut=sum(poster.cut for poster in posters),
            last_error=next((poster.last_error for poster in posters if poster.last_error), ""),
            reconnects=self._publisher.connections - 1,
            gap=max((board.longest_gap for board in boards), default=0.0),
            cpu=times.user + times.system,
            stopped=self._stopped.is_set() and not waiting,
        )

    def _final(self) -> Final:
        boards = [
            Seen(b.seen, b.total, b.numbers.missed, b.numbers.doubled, b.numbers.resets, b.connections)
            for b in self._dashboards
        ]
        return Final(
            status=self.status(),
            acknowledged={device.name: device.acknowledged.ranges() for device in self._devices},
            refused=[text for device in self._devices for text in device.refused],
            resent=sorted(self._publisher.resent),
            dashboards=boards,
        )


def _say(found: Status | Final) -> None:
    sys.stdout.buffer.write(msgspec.json.encode(found) + b"\n")
    sys.stdout.buffer.flush()


async def main() -> None:
    """Run as SPEC says."""
    loop = asyncio.get_running_loop()
    commands = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(commands), sys.stdin)
    await Load(msgspec.json.decode(sys.argv[1], type=Spec)).run(commands)


if __name__ == "__main__":
    asyncio.run(main())
