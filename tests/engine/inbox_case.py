"""What the tests of the inbox share: append and wait for the commit, read everything back."""

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Any

from engine.arrival import Arrival
from engine.arrivals import Arrivals
from engine.inbox import InboxReader, InboxWriter
from engine.inbox_log import Submission

Record = tuple[int, int, str, str, bytes]


@asynccontextmanager
async def writing(path: Path, flow: str = "flow", **options: Any) -> AsyncIterator[InboxWriter]:
    """Open an inbox for writing, and close it."""
    writer = InboxWriter(path, flow, **options)
    writer.open()
    try:
        yield writer
    finally:
        writer.close()


async def put(writer: InboxWriter, arrivals: Arrivals | Sequence[Arrival], source: str = "gate") -> Submission:
    """Append, and return after the commit; raises what the writer tells."""
    future: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def done(_first: int, fault: BaseException | None) -> None:
        if fault:
            future.set_exception(fault)
        else:
            future.set_result(None)

    submission = writer.submit(source, arrivals, done)
    async with asyncio.timeout(20):
        await future
    return submission


def arrivals(*payloads: bytes) -> list[Arrival]:
    return [Arrival(payload, "topic") for payload in payloads]


def records(reader: InboxReader, offset: int = 0, limit: int = 2_000) -> list[Record]:
    """Read once: offset, time, source, topic and payload of each record."""
    return [
        (block.first + at, block.time, block.sources[source], block.topics[topic], payload)
        for block in reader.read(offset, limit)
        for at, (source, topic, payload) in enumerate(
            zip(block.source_index, block.topic_index, block.payloads, strict=True)
        )
    ]


def count(path: Path, table: str) -> int:
    """Return how many rows a table of an inbox has."""
    with closing(sqlite3.connect(path)) as connection:
        return int(connection.execute(f"select count(*) from {table}").fetchone()[0])  # noqa: S608 - of the test


def stored(path: Path) -> list[Record]:
    """Return everything that an inbox holds."""
    reader = InboxReader(path)
    try:
        found: list[Record] = []
        while more := records(reader, found[-1][0] if found else 0):
            found += more
        return found
    finally:
        reader.close()
