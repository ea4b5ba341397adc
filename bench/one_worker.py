"""A worker process alone with a full inbox: how fast it gets on, from one snapshot to the next."""

import asyncio
import os
import subprocess
import sys
import time
from collections.abc import Iterable, Sequence
from contextlib import closing
from pathlib import Path

import msgspec
import psutil

from engine import inbox_file
from engine.appended import appended_tables
from engine.block import Block, encode_block
from engine.database import open_database
from engine.deployed import record_of, surroundings, write_record
from engine.flow import Flow
from engine.frames import Answer, Push, Report, Tapped
from engine.harness import Sent, block_of
from engine.link_server import LinkServer
from engine.load import load
from engine.settings import Settings, kept_secret, read_environment
from engine.tables import create, to_sqlalchemy

BLOCK, EVERY = 2_000, 4_000
START = 1_760_000_000_000_000
PATIENCE = 180.0


class Passed(msgspec.Struct):
    """Up to where all is durable, when (seconds), and the CPU time of the process up to then."""

    at: float
    offset: int
    cpu: float


class Pace(msgspec.Struct):
    """What a process did between its first snapshot and its last before the end."""

    rate: float
    cpu: float
    pushes: int = 0

    @staticmethod
    def between(passed: list[Passed], pushes: int = 0) -> "Pace":
        """Return events/s and microseconds of CPU an event, from the first of these to the last."""
        first, last = passed[0], passed[-1]
        count = last.offset - first.offset
        assert count > 0, "too few events for two snapshots"
        return Pace(count / (last.at - first.at), (last.cpu - first.cpu) / count * 1e6, pushes)


def blocks_of(records: Sequence[tuple[str, str, bytes]]) -> list[Block]:
    """Return (source, topic, payload) records as an inbox has them: 2,000 every 4 ms, so 500,000 a second."""
    found = []
    for first in range(0, len(records), BLOCK):
        time = START + first // BLOCK * EVERY
        sent = [Sent(time, source, payload, topic) for source, topic, payload in records[first : first + BLOCK]]
        found.append(block_of(sent, first + 1, time))
    return found


def fill(path: Path, flow: str, blocks: Iterable[Block]) -> None:
    """Make an inbox that holds these blocks."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with closing(inbox_file.open_writable(path, flow)) as connection:
        connection.execute("begin")
        rows = ((block.first, len(block.payloads), block.time, encode_block(block)) for block in blocks)
        connection.executemany("insert into block values (?, ?, ?, ?)", rows)
        connection.execute("commit")
        connection.execute("pragma wal_checkpoint(truncate)")


class Downstream:
    """Stands where the gateway is: takes all that the worker sends, and notes when how much is durable."""

    def __init__(self, head: int) -> None:
        self.head, self.passed, self.pushes = head, list[Passed](), 0
        self.process: psutil.Process | None = None
        self.done = asyncio.Event()

    def mark(self, flow: str) -> tuple[int, int]:
        """Return the head and a time."""
        return self.head, START

    def on_push(self, flow: str, pushes: list[Push]) -> None:
        """Count pushes."""
        self.pushes += len(pushes)

    def on_answer(self, flow: str, answers: list[Answer]) -> None:
        """Take no notice."""

    def on_used(self, flow: str, offset: int) -> None:
        """Note it; the snapshot that comes after the end has waited for nothing and does not count."""
        if offset < self.head and self.process is not None and (not self.passed or offset > self.passed[-1].offset):
            times = self.process.cpu_times()
            self.passed.append(Passed(time.perf_counter(), offset, times.user + times.system))
        if offset >= self.head:
            self.done.set()

    def on_report(self, flow: str, report: Report) -> None:
        """Take no notice."""

    def on_tapped(self, flow: str, tapped: Tapped) -> None:
        """Take no notice."""

    def on_state(self, flow: str, connected: bool) -> None:
        """Take no notice."""


class OneWorker:
    """One flow in a data folder of its own, with an inbox that is full before its worker starts."""

    def __init__(self, folder: Path, path: Path, database: str = "") -> None:
        variables = {"MILLSTREAM_DATA": str(folder), **({"MILLSTREAM_DATABASE": database} if database else {})}
        kept = {name: value for name, value in os.environ.items() if not name.startswith("MILLSTREAM_")}
        self.environment = kept | variables
        self.settings: Settings = read_environment(variables)
        self.flow: Flow = load(path, surroundings(self.settings)).raise_findings()
        self._head = 0

    def prepare(self, blocks: list[Block]) -> None:
        """Deploy the flow, make its tables and fill its inbox."""
        self.settings.prepare()
        write_record(self.settings, self.flow.name, record_of(self.flow, {}, {}))
        asyncio.run(self._make_tables())
        fill(self.settings.flow_folder(self.flow.name) / "inbox.db", self.flow.name, blocks)
        self._head = blocks[-1].last

    async def _make_tables(self) -> None:
        engine = open_database(self.settings.database)
        tables = {name: table for name, table in self.flow.tables.items() if not table.view}
        await create(engine, to_sqlalchemy(tables, appended_tables(self.flow)))
        await engine.dispose()

    def run(self) -> Pace:
        """Let the worker process all; raises when it ends before."""
        return asyncio.run(self._run())

    async def _run(self) -> Pace:
        downstream = Downstream(self._head)
        token = kept_secret(self.settings.data / "link.token")
        links = LinkServer(self.settings.data / "link.sock", token, downstream)
        await links.open()
        command = [sys.executable, "-m", "millstream", "worker", self.flow.name]
        worker = await asyncio.create_subprocess_exec(*command, stdin=subprocess.PIPE, env=self.environment)
        ended = asyncio.create_task(worker.wait())
        try:
            downstream.process = psutil.Process(worker.pid)
            finished = asyncio.create_task(downstream.done.wait())
            await asyncio.wait([ended, finished], timeout=PATIENCE, return_when=asyncio.FIRST_COMPLETED)
            assert finished.done(), f"the worker ended or did not finish: {worker.returncode}"
        finally:
            if worker.returncode is None:
                worker.terminate()
            await ended
            await links.close()
        return Pace.between(downstream.passed, downstream.pushes)
