"""Events/s of an inbox with full durability: appended at 1 to 1,000 a commit, beside bare SQLite, and read."""

import asyncio
import sqlite3
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from statistics import median

from bench.result import Curve, Figure, Section, at_least
from engine.arrivals import Arrivals
from engine.inbox import InboxReader, InboxWriter

SIZES = (1, 10, 100, 200, 1_000)
TARGET_SIZE, TARGET = 200, 500_000
AHEAD, RUNS = 64, 5
COMMITS, MOST_EVENTS = 1_500, 300_000
TOPIC = "sensor/ult01"


def payloads(count: int) -> list[bytes]:
    """Return payloads that all differ, of 60 bytes and a bit."""
    return [b'{"device":"ult01","value":%d.345,"time":1700000000,"unit":"mm"}' % at for at in range(count)]


class Load:
    """Keeps a bounded number of batches on their way, from the loop, as a source does."""

    def __init__(self, writer: InboxWriter, events: list[bytes], size: int, mqtt: bool) -> None:
        self._writer, self._events, self._size, self._mqtt = writer, events, size, mqtt
        self._room = asyncio.Semaphore(AHEAD)

    def _batches(self) -> Iterator[Arrivals]:
        size, packet = self._size, 0
        for at in range(0, len(self._events), size):
            packet = (packet + size) % 60_000
            packets = list(range(packet + 1, packet + 1 + size)) if self._mqtt else []
            yield Arrivals(self._events[at : at + size], [TOPIC] * size, packets=packets)

    def _done(self, arrivals: Arrivals, fault: BaseException | None) -> None:
        assert fault is None
        if self._mqtt:
            self._writer.acknowledged("gate", arrivals.packets)
        self._room.release()

    async def run(self) -> float:
        """Return events/s."""
        begin = time.perf_counter()
        for arrivals in self._batches():
            await self._room.acquire()
            self._writer.submit("gate", arrivals, lambda first, fault, a=arrivals: self._done(a, fault))  # type: ignore[misc]
            await asyncio.sleep(0)
        for _ in range(AHEAD):
            await self._room.acquire()
        return len(self._events) / (time.perf_counter() - begin)


async def append(path: Path, events: list[bytes], size: int, mqtt: bool = False) -> float:
    """Return events/s of appending, `size` events a commit."""
    writer = InboxWriter(path, "bench", commit_records=size)
    writer.open()
    try:
        return await Load(writer, events, size, mqtt).run()
    finally:
        writer.close()


def bare(path: Path, events: list[bytes], size: int) -> float:
    """Return events/s of the least that SQLite (WAL, synchronous FULL) can do: one blob a commit, made before."""
    blobs = [b"".join(events[at : at + size]) for at in range(0, len(events), size)]
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("pragma journal_mode=wal")
        connection.execute("pragma synchronous=full")
        connection.execute("create table block (first integer primary key, body blob not null)")
        begin = time.perf_counter()
        for blob in blobs:
            connection.execute("insert into block (body) values (?)", [blob])
        return len(events) / (time.perf_counter() - begin)


def read(path: Path) -> float:
    """Return events/s of reading a whole inbox in chunks of 2,000."""
    reader, offset, begin = InboxReader(path), 0, time.perf_counter()
    while blocks := reader.read(offset):
        offset = blocks[-1].last
    reader.close()
    return offset / (time.perf_counter() - begin)


class Rates:
    """Events/s for one size of commits, runs of each kind taking turns."""

    def __init__(self, folder: Path, size: int, runs: int, share: float) -> None:
        events = payloads(min(MOST_EVENTS, int(COMMITS * share) * size) // size * size)
        self.plain: list[float] = []
        self.mqtt: list[float] = []
        self.bare: list[float] = []
        self.read: list[float] = []
        for run in range(runs):
            paths = [folder / f"{size}-{run}-{kind}.db" for kind in ("plain", "mqtt", "bare")]
            self.plain.append(asyncio.run(append(paths[0], events, size)))
            self.mqtt.append(asyncio.run(append(paths[1], events, size, mqtt=True)))
            self.bare.append(bare(paths[2], events, size))
            self.read.append(read(paths[0]))
            for path in folder.iterdir():
                path.unlink()

    def of_bare(self) -> float:
        """Return the plain rate in parts of what bare SQLite did, the median of the runs."""
        return median([ours / least for ours, least in zip(self.plain, self.bare, strict=True)])


def measure(short: bool) -> Section:
    """Return the rates for each size; that of 200 a commit has the target."""
    with tempfile.TemporaryDirectory(prefix="bench-") as name:
        found = {size: Rates(Path(name), size, 2 if short else RUNS, 0.2 if short else 1.0) for size in SIZES}
    figures: list[Figure] = []
    for size, rates in found.items():
        title, rate = f"appended, {size:,} a commit", round(median(rates.plain))
        note = f"{rates.of_bare():.2f} of bare SQLite in the same run; best {max(rates.plain):,.0f}"
        target = size == TARGET_SIZE
        figures.append(
            at_least(title, rate, "events/s", TARGET, note) if target else Figure(title, rate, "events/s", note=note)
        )
        figures.append(Figure(f"{title}, of MQTT", round(median(rates.mqtt)), "events/s"))
        figures.append(Figure(f"read, written {size:,} a commit", round(median(rates.read)), "events/s"))
    kinds = {"plain": "appended", "mqtt": "appended, of MQTT", "bare": "bare SQLite", "read": "read"}
    lines = {
        label: [(float(size), median(getattr(rates, kind))) for size, rates in found.items()]
        for kind, label in kinds.items()
    }
    curve = Curve("Inbox: events/s by events a commit", "events a commit", "events/s", lines, log_x=True, log_y=True)
    notes = ["SQLite WAL, synchronous FULL: the rate is that of fsync up to some hundred events a commit."]
    return Section("Inbox: append and read, durable", figures, [curve], notes)


if __name__ == "__main__":
    for figure in measure(short="short" in sys.argv).figures:
        print(f"{figure.name:45} {figure.value:14,.0f} {figure.unit:10} {figure.target:22} {figure.note}")
