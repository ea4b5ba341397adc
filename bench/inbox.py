"""Print events/s of an inbox, with full durability: appended at 1 to 1,000 a commit, and read."""

import asyncio
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

from engine.component import Arrival
from engine.inbox import InboxReader, InboxWriter

PAYLOAD = b'{"device":"ult01","value":12.345,"time":1700000000,"unit":"mm"}'
SECONDS, AHEAD, RUNS = 1.0, 64, 3


class Load:
    """Keeps a bounded number of batches on their way, from the loop, as a source does."""

    def __init__(self, writer: InboxWriter, size: int, mqtt: bool) -> None:
        self._writer, self._size, self._mqtt = writer, size, mqtt
        self._room = asyncio.Semaphore(AHEAD)
        self._packet = 0

    def _arrivals(self) -> list[Arrival]:
        if not self._mqtt:
            return [Arrival(PAYLOAD, "sensor/ult01") for _ in range(self._size)]
        self._packet = self._packet % 60_000 + self._size
        return [Arrival(PAYLOAD, "sensor/ult01", None, self._packet + at) for at in range(self._size)]

    def _done(self, arrivals: list[Arrival], fault: BaseException | None) -> None:
        assert fault is None
        if self._mqtt:
            self._writer.acknowledged("gate", [arrival.packet for arrival in arrivals])
        self._room.release()

    async def run(self) -> float:
        """Return events/s."""
        begin, count = time.perf_counter(), 0
        while time.perf_counter() - begin < SECONDS:
            await self._room.acquire()
            arrivals = self._arrivals()
            self._writer.submit("gate", arrivals, lambda first, fault, a=arrivals: self._done(a, fault))  # type: ignore[misc]
            count += self._size
            await asyncio.sleep(0)
        for _ in range(AHEAD):
            await self._room.acquire()
        return count / (time.perf_counter() - begin)


async def append(path: Path, size: int, mqtt: bool = False) -> float:
    """Return events/s of appending, `size` events a commit."""
    writer = InboxWriter(path, "bench", commit_records=size)
    writer.open()
    try:
        return await Load(writer, size, mqtt).run()
    finally:
        writer.close()


def read(path: Path) -> float:
    """Return events/s of reading a whole inbox in chunks of 2,000."""
    reader, offset, begin = InboxReader(path), 0, time.perf_counter()
    while blocks := reader.read(offset):
        offset = blocks[-1].last
    reader.close()
    return offset / (time.perf_counter() - begin)


def main() -> None:
    """Print a line for each size."""
    folder = sys.argv[1] if len(sys.argv) > 1 else None
    with tempfile.TemporaryDirectory(dir=folder) as name:
        for size, mqtt in ((1, False), (10, False), (100, False), (200, False), (1_000, False), (200, True)):
            paths = [Path(name) / f"{size}-{mqtt}-{run}.db" for run in range(RUNS)]
            wrote = median([asyncio.run(append(path, size, mqtt)) for path in paths])
            got = median([read(path) for path in paths])
            kind = "MQTT" if mqtt else "    "
            print(f"{size:>5} a commit {kind}  append {wrote:>10,.0f}/s  read {got:>10,.0f}/s", flush=True)


if __name__ == "__main__":
    main()
