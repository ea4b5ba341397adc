"""An inbox that grows: opening, appending, reading at the head, seeking and trimming over its size on the disk."""

import asyncio
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from statistics import median

import msgspec

from bench.one_worker import BLOCK, EVERY, START, blocks_of, fill
from bench.result import Curve, Figure, Section
from engine import inbox_file
from engine.arrival import Arrival
from engine.block import Block
from engine.inbox import InboxReader, InboxWriter
from engine.inbox_log import InboxLog

FLOW, PAYLOAD = "deep", b'{"device":"ult01","value":12.345,"time":1700000000,"unit":"mm"}'
SIZES, SHORT_SIZES = (20 << 20, 200 << 20, 2 << 30), (2 << 20, 20 << 20)
MANY, SHORT_MANY = 3_300_000, 100_000
A_RECORD, GOLDEN = 70, 0.618_034
A_COMMIT, COMMITS, TIMES = 200, 50, 40
OPERATIONS = ("open", "append 200", "read at the head", "seek", "find a time", "trim")
PAPER = 50e9


class Depth(msgspec.Struct):
    """An inbox of so many bytes and blocks, and the milliseconds that each operation takes there (medians)."""

    size: int
    blocks: int
    ms: dict[str, float]


def grow(path: Path, size: int, records: int) -> None:
    """Fill an inbox with blocks of so many records until it has about so many bytes."""
    with closing(inbox_file.open_writable(path, FLOW)) as connection:
        head, latest = inbox_file.head(connection)
    more(path, head, max(latest, START), records, max(1, (size - path.stat().st_size) // (records * A_RECORD)))


def more(path: Path, head: int, since: int, records: int, count: int) -> None:
    """Add blocks after a head, as a writer leaves them that was stopped: it knows what the broker has heard of."""
    fill(path, FLOW, blocks(head + 1, since, records, count))
    with closing(inbox_file.open_writable(path, FLOW)) as connection:
        last, latest = inbox_file.head(connection)
        inbox_file.remember(connection, inbox_file.Progress(0, latest, last))


def blocks(first: int, since: int, records: int, count: int) -> Iterator[Block]:
    """Yield blocks of so many records, one every 4 ms."""
    one = blocks_of([("gate", "sensor/ult01", PAYLOAD)] * records)[0]
    for at in range(count):
        yield msgspec.structs.replace(one, first=first + at * records, time=since + at * EVERY)


def timed(call: Callable[[], object], times: int = TIMES) -> float:
    """Return the median of so many calls in milliseconds."""
    found = []
    for _ in range(times):
        begun = time.perf_counter()
        call()
        found.append(time.perf_counter() - begun)
    return median(found) * 1e3


def measured(path: Path) -> Depth:
    """Measure every operation on an inbox as it is now."""
    with closing(inbox_file.open_readable(path)) as connection:
        oldest, (head, latest) = inbox_file.oldest(connection), inbox_file.head(connection)
        count = connection.execute("select count(*) from block").fetchone()[0]
        times = spread(START, latest)
        since = timed(lambda: inbox_file.first_since(connection, next(times)))
    opened, appended = asyncio.run(_written(path))
    read = timed(lambda: _read(path, head - BLOCK, BLOCK))
    offsets = spread(oldest, head)
    seek = timed(lambda: _read(path, next(offsets), 1))
    found = (opened, appended, read, seek, since, _trimmed(path, head))
    return Depth(path.stat().st_size, count, dict(zip(OPERATIONS, found, strict=True)))


def spread(least: int, most: int) -> Iterator[int]:
    """Yield numbers all over a range."""
    share = 0.5
    while True:
        yield least + int((most - least) * share)
        share = (share + GOLDEN) % 1


async def _written(path: Path) -> tuple[float, float]:
    """Return the milliseconds of opening for writing, and of a commit of 200 events."""
    begun = time.perf_counter()
    writer = InboxWriter(path, FLOW)
    writer.open()
    opened, spent = (time.perf_counter() - begun) * 1e3, []
    for _ in range(COMMITS):
        begun = time.perf_counter()
        await _commit(writer)
        spent.append(time.perf_counter() - begun)
    writer.close()
    return opened, median(spent) * 1e3


async def _commit(writer: InboxWriter) -> None:
    done: asyncio.Future[BaseException | None] = asyncio.get_running_loop().create_future()
    arrivals = [Arrival(PAYLOAD, "sensor/ult01") for _ in range(A_COMMIT)]
    writer.submit("gate", arrivals, lambda first, fault: done.set_result(fault))
    assert await done is None


def _read(path: Path, offset: int, limit: int) -> None:
    reader = InboxReader(path)
    assert reader.read(offset, limit)
    reader.close()


def _trimmed(path: Path, head: int) -> float:
    """Return the milliseconds of a step of trimming; few enough that little of the inbox goes."""
    log = InboxLog(path, FLOW)
    log.use(head)
    log.settle()
    found = timed(lambda: log.trim_step(1 << 62, 0, 0), 5)
    log.close()
    return found


def measure(short: bool) -> Section:
    """Return milliseconds of each operation over the size, and with as many blocks as 50 GB have."""
    with tempfile.TemporaryDirectory(prefix="bench-") as name:
        found = []
        for size in SHORT_SIZES if short else SIZES:
            grow(Path(name) / "deep.db", size, BLOCK)
            found.append(measured(Path(name) / "deep.db"))
        (Path(name) / "deep.db").unlink()
        many = Path(name) / "many.db"
        more(many, 0, START, 1, SHORT_MANY if short else MANY)
        wide = measured(many)
    figures = [figure for name in OPERATIONS for figure in _figures(name, found, wide)]
    lines = {name: [(depth.size / 1e6, depth.ms[name]) for depth in found] for name in OPERATIONS}
    curve = Curve("An inbox by its size", "MB", "ms", lines, log_x=True, log_y=True)
    return Section("An inbox of 50 GB", figures, [curve], [*NOTES, _paper(found[-1])])


def _figures(name: str, found: list[Depth], wide: Depth) -> list[Figure]:
    first, last = found[0], found[-1]
    smaller = f"{first.ms[name]:.2f} ms at {first.size / 1e6:,.0f} MB"
    return [
        Figure(f"{name}, {last.size / 1e9:,.2f} GB", last.ms[name], "ms", note=smaller),
        Figure(f"{name}, {wide.blocks:,} blocks", wide.ms[name], "ms"),
    ]


def _paper(depth: Depth) -> str:
    each = depth.size / depth.blocks
    count = PAPER / each
    return (
        f"On paper: a block of 2,000 events takes {each / 1e3:,.0f} kB, so 50 GB are {count:,.0f} blocks (at 200 a "
        f"commit {count * 10:,.0f}). A block is found by its offset in a B-tree whose inner pages of 4 kB have 300 to "
        "400 children: three levels at 2 GB, four at 50 GB. So a look-up reads one page more, an append changes the "
        "last leaf, a trim cuts the first ones; nothing walks over the blocks, and a time is found by halving offsets."
    )


NOTES = [
    "Real files up to 2 GB of blocks of 2,000 events, in the page cache; then as many blocks as 50 GB have at 200 "
    "events a commit, each of one event. Medians. A commit of 200 is durable; a step of trimming drops 64 blocks or "
    "1 MiB.",
]


if __name__ == "__main__":
    print(msgspec.json.format(msgspec.json.encode(measure("short" in sys.argv))).decode())
