"""One deployed flow in the gateway: its inbox, what receives for it, and the process that runs it."""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import msgspec
import structlog

from engine.ahead import OPTION, worker_process
from engine.arrival import Intake
from engine.component import ChannelSource, PulledSource, RoutedSource, SocketSource, Source
from engine.database import open_database
from engine.deployed import Deployed
from engine.flow import Flow, Node
from engine.inbox import InboxWriter
from engine.intake import ReplyDesk
from engine.live_table import TABLES, LiveTable
from engine.supervisor import Process
from engine.table_watch import TableWatch
from engine.tables import to_sqlalchemy
from web.inside import Inside

AGAIN, LOAD_TIME, FIRST_ROWS = 5.0, 30.0, 20.0
log = structlog.get_logger()
GATE = RoutedSource | SocketSource | ChannelSource
"""Sources that the web server serves."""
Members = list[tuple[str, Source]]


class FlowHost:
    """What the gateway holds of one flow; the inbox stays open, receivers and worker come and go with deploys."""

    def __init__(
        self, name: str, inside: Inside, told: Callable[[Process], None], ahead: Process | None = None
    ) -> None:
        self.name, self._inside, self._tell = name, inside, told
        self._changed = asyncio.Event()
        self._receivers: dict[type[Source], tuple[Members, asyncio.Task[None]]] = {}
        self._running: asyncio.Task[None] | None = None
        self._followed: list[LiveTable] = []
        self._watching: asyncio.Task[None] | None = None
        self._next = ahead
        if ahead is not None:
            ahead.on_change = self._told

    def open(self) -> None:
        """Open the inbox; raises EnvironmentFault when it cannot be had."""
        folder = self._inside.settings.flow_folder(self.name)
        folder.mkdir(parents=True, exist_ok=True)
        self._writer = InboxWriter(folder / "inbox.db", self.name, on_commit=self._inside.committed(self.name))
        self._writer.open()
        self._inside.open(self.name, self._writer, ReplyDesk(self._writer))

    async def receive(self, flow: Flow) -> None:
        """Receive for exactly the sources of this version; what has not changed goes on untouched."""
        wanted = _members(flow)
        for kind, (members, task) in list(self._receivers.items()):
            if wanted.get(kind) != members:
                del self._receivers[kind]
                await cancel(task)
        for kind, members in wanted.items():
            if kind not in self._receivers:
                taken = [(source, self._inside.intake(self.name, node)) for node, source in members]
                self._receivers[kind] = members, asyncio.create_task(_receive(kind, taken))
        self._inside.forget_sources(self.name, {node.name for node in flow.section("sources")})

    async def follow(self, flow: Flow) -> None:
        """Watch exactly the live tables of this version; return when their rows are known, or after a while."""
        wanted = list(flow.live.tables.values())
        if wanted == self._followed:
            return
        if self._watching is not None:
            await cancel(self._watching)
            self._watching = None
        self._followed = wanted
        if not wanted:
            return
        settings, database = self._inside.settings, open_database(self._inside.settings.database)
        intake = self._inside.intake(self.name, TABLES)
        metadata = to_sqlalchemy(flow.tables, ())
        watch = TableWatch(self.name, wanted, metadata, database, settings.flow_folder(self.name), intake)
        self._watching = asyncio.create_task(_kept_up(watch))
        with suppress(TimeoutError):
            await asyncio.wait_for(watch.known.wait(), FIRST_ROWS)

    async def load_worker(self, record: Deployed) -> None:
        """Start a process beside the one that runs: it loads this version and waits for `start_worker`.

        Raises EnvironmentFault with the process's last words when it cannot load it.
        """
        self._next = worker_process(self.name, self._told)
        await self._next.load(OPTION, msgspec.json.encode(record), LOAD_TIME)

    async def forget_loaded(self) -> None:
        """End a process that waits; none is no error."""
        process, self._next = self._next, None
        if process is not None:
            await process.stop()

    def start_worker(self) -> Process:
        """Start the flow's process, or let the one that waits go, and keep it alive."""
        process, self._next = self._next or worker_process(self.name, self._told), None
        self._inside.processes[self.name] = process
        self._running = asyncio.create_task(process.run())
        return process

    async def park(self, reason: str) -> None:
        """Let the flow not run, for a reason that is shown."""
        await self.forget_loaded()
        process = self._inside.processes[self.name] = worker_process(self.name, self._told)
        process.park(reason)

    def _told(self, process: Process) -> None:
        self._changed.set()
        self._tell(process)

    async def until(self, there: Callable[[Process], bool], seconds: float) -> bool:
        """Wait until something holds of the process; False when it does not within so many seconds."""
        process = self._inside.processes[self.name]
        try:
            async with asyncio.timeout(seconds):
                while not there(process):
                    self._changed.clear()
                    await self._changed.wait()
        except TimeoutError:
            return False
        return True

    async def stop_worker(self) -> None:
        """Let the process write what it has read, and end it."""
        if self._running is not None:
            await cancel(self._running)
            self._running = None

    async def close(self) -> None:
        """Stop the worker, then the receivers."""
        await self.forget_loaded()
        await self.stop_worker()
        await cancel(*(task for _, task in self._receivers.values()))
        self._receivers.clear()
        if self._watching is not None:
            await cancel(self._watching)
        self._watching, self._followed = None, []

    def close_inbox(self) -> None:
        """Commit what waits and close the inbox."""
        self._writer.close()


def _members(flow: Flow) -> dict[type[Source], Members]:
    """Return the sources that run in the gateway, by kind: those of one kind run together."""
    kinds: dict[type[Source], Members] = {}
    for node in flow.section("sources"):
        source = node.component
        if isinstance(source, Source) and not isinstance(source, GATE | PulledSource):
            kinds.setdefault(type(source), []).append((node.name, source))
    return kinds


async def _receive(kind: type[Source], members: list[tuple[Source, Intake]]) -> None:
    """Run the sources of one kind in one flow; when they fail they are tried again."""
    while True:
        try:
            return await kind.run_all(members)
        except Exception as fault:
            for _, intake in members:
                log.exception("source fails, starts again", flow=intake.flow, source=intake.source)
                intake.state("failed", f"{type(fault).__name__}: {fault}")
        await asyncio.sleep(AGAIN)


async def _kept_up(watch: TableWatch) -> None:
    """Watch live tables; what fails for a reason of its own is tried again."""
    while True:
        try:
            return await watch.run()
        except Exception:
            log.exception("live tables are not followed, starts again")
        await asyncio.sleep(AGAIN)


def described(node: Node) -> str:
    """Return what a source listens to, for people."""
    source = node.component
    if isinstance(source, RoutedSource):
        return " ".join(str(part) for part in source.route()[:2])
    if isinstance(source, ChannelSource):
        return source.channel()
    if isinstance(source, SocketSource):
        return source.socket()[0]
    return " ".join(getattr(source, "topics", ()) or ())


async def cancel(*tasks: asyncio.Task[Any]) -> None:
    """Cancel tasks and wait until they have ended."""
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
