"""The gateway process: everything that faces the outside, and the supervisor of the workers.

sources ─▶ intake ─▶ inbox (one a flow) ─▶ worker ─▶ link ─▶ hub ─▶ channels
                                                      └─▶ desk ─▶ HTTP answers
"""

import asyncio
import fcntl
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import AsyncExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import msgspec
import structlog
import uvicorn
from sqlalchemy.exc import DBAPIError

from engine.component import ChannelSource, Operator, PulledSource, RoutedSource, Source
from engine.database import open_database, place
from engine.deployed import Deployed, place_flow, read_record, version_of, write_record
from engine.errors import EnvironmentFault, MillstreamError, Unavailable
from engine.event import derived_id
from engine.flow import Flow
from engine.frames import Push
from engine.inbox import InboxWriter
from engine.intake import ReplyDesk
from engine.link_server import LinkServer
from engine.settings import Settings, kept_secret
from engine.supervisor import Process
from engine.tables import create, highest, to_sqlalchemy
from engine.worker import appended_tables
from web.accounts import create_tables, first_admin
from web.app import WebApp, build_app
from web.channel_message import Snapshot
from web.channel_socketio import SocketIo
from web.channel_websocket import ChannelRoute
from web.channel_wire import Wire
from web.channels import ChannelHub
from web.console import console_routes
from web.inside import Inside
from web.pages import page_routes

KEEP_TIME, KEEP_SIZE = 24 * 3600 * 1_000_000, 1 << 30
TRIM_EVERY = 10.0
PATIENCE = 60.0
log = structlog.get_logger()


class Gateway:
    """One installation. `run` serves until cancelled; `say` prints a line for people."""

    def __init__(
        self, settings: Settings, flows: list[Flow], overrides: Mapping[str, str], say: Callable[[str], None]
    ) -> None:
        self.settings, self.flows, self.overrides, self.say = settings, flows, dict(overrides), say
        self.token = kept_secret(settings.data / "link.token")
        self._lock = _locked(settings.data / "gateway.lock")
        self.database = open_database(settings.database)
        self.inside = Inside(settings, self.database)
        self.tasks: list[asyncio.Task[Any]] = []
        self.app: WebApp
        self.broker: Process | None = None

    async def run(self, stop: asyncio.Event) -> None:
        """Start everything in order, serve until `stop` is set or a part fails, and stop everything in order."""
        async with AsyncExitStack() as stack:
            stack.push_async_callback(self.database.dispose)
            await self._start_broker(stack)
            await self._patiently(self._prepare)
            self._open_inboxes(stack)
            links = LinkServer(self.settings.data / "link.sock", self.token, self.inside)
            self.inside.links = links
            await links.open()
            stack.push_async_callback(links.close)
            server = await self._serve(stack)
            self._start_sources(stack)
            self._start_workers(stack)
            self.say(f"console  http://{self.settings.host}:{self.settings.port}/console   (Ctrl-C stops everything)")
            await self._until_stopped(stop, server)
            self.say("stopping")

    async def _until_stopped(self, stop: asyncio.Event, server: asyncio.Task[Any]) -> None:
        stopping = asyncio.create_task(stop.wait())
        trimming = asyncio.create_task(self._trim())
        await asyncio.wait([stopping, server, trimming], return_when=asyncio.FIRST_COMPLETED)
        for task in (stopping, trimming):
            task.cancel()
        if server.done() and not stop.is_set():
            raise EnvironmentFault(f"the web server ended: {server.exception() or 'asked to'}")

    async def _start_broker(self, stack: AsyncExitStack) -> None:
        if self.settings.mqtt_url is not None:
            self.say(f"broker   {self.settings.mqtt().address}")
            return
        if await _accepts(self.settings.broker_port):
            raise EnvironmentFault(
                f"port {self.settings.broker_port} is already in use: set MILLSTREAM_BROKER_PORT, "
                "or MILLSTREAM_MQTT to use the broker that is there"
            )
        command = [sys.executable, "-m", "engine.broker", "127.0.0.1", str(self.settings.broker_port)]
        self.broker = Process("broker", command)
        self._supervise(stack, self.broker)
        async with asyncio.timeout(PATIENCE):
            while not await _accepts(self.settings.broker_port):
                if self.broker.state == "parked":
                    raise EnvironmentFault(f"the embedded broker does not start: {self.broker.last_error}")
                await asyncio.sleep(0.05)
        self.broker.ready(True)
        self.say(f"broker   embedded, mqtt://127.0.0.1:{self.settings.broker_port}")

    async def _patiently(self, call: Callable[[], Any]) -> None:
        """Call until the database is there, for a minute."""
        async with asyncio.timeout(PATIENCE):
            while True:
                try:
                    return await call()  # type: ignore[no-any-return]
                except (Unavailable, DBAPIError, OSError) as fault:
                    self.say(f"database {place(self.database)} is away, trying again: {str(fault).splitlines()[0]}")
                    await asyncio.sleep(2)

    async def _prepare(self) -> None:
        """Make tables and the first account; write what is deployed."""
        await create_tables(self.database)
        for flow in self.flows:
            metadata = to_sqlalchemy(flow.tables, appended_tables(flow))
            views = {name: table.view for name, table in flow.tables.items() if table.view}
            await create(self.database, metadata, views)
            await self._deploy(flow)
        self.say(f"database {place(self.database)}")
        given = self.settings.admin_password
        password = await first_admin(self.database, given.get_secret_value() if given else None)
        if password and not given:
            self.say(f"account  admin, password {password}   (shown this once)")

    async def _deploy(self, flow: Flow) -> None:
        record = read_record(self.settings, flow.name)
        found = dict(record.highest) if record else {}
        metadata = to_sqlalchemy(flow.tables, appended_tables(flow))
        for name, table in metadata.tables.items():
            if name in flow.tables and name not in found and "id" in table.c:
                found[name] = await highest(self.database, table, "id")
        write_record(
            self.settings, flow.name, Deployed(str(flow.path.resolve()), version_of(flow), self.overrides, found)
        )
        self.inside.add(place_flow(flow, self.settings, Deployed("", "", {}, found)), metadata)

    def _open_inboxes(self, stack: AsyncExitStack) -> None:
        for flow in self.flows:
            folder = self.settings.flow_folder(flow.name)
            folder.mkdir(parents=True, exist_ok=True)
            writer = InboxWriter(folder / "inbox.db", flow.name, on_commit=self.inside.committed(flow.name))
            writer.open()
            stack.callback(writer.close)
            self.inside.open(flow.name, writer, ReplyDesk())

    async def _serve(self, stack: AsyncExitStack) -> asyncio.Task[Any]:
        inside = self.inside
        self.app = build_app(self.flows, inside, more=page_routes)
        inside.hubs = {flow.name: self._hub(flow) for flow in self.flows}
        sockets = SocketIo(lambda: inside.hubs.values(), self.app.guard)
        stack.push_async_callback(sockets.close)
        routes = [
            ChannelRoute(lambda: inside.hubs.values(), self.app.guard),
            sockets.route(),
            *console_routes(inside, self.app.guard, self.app.logins),
        ]
        self.app.router.routes[:0] = routes
        config = uvicorn.Config(
            self.app,
            host=self.settings.host,
            port=self.settings.port,
            loop="none",
            http="httptools",
            ws=Wire,
            log_config=None,
            access_log=False,
            server_header=False,
            timeout_graceful_shutdown=3,
            ws_max_size=1 << 20,
        )
        server = _Server(config)
        task = asyncio.create_task(server.serve())
        stack.push_async_callback(_end_server, server, task)
        while not server.started:
            if task.done():
                raise EnvironmentFault(
                    f"port {self.settings.port} of {self.settings.host} is already in use: set MILLSTREAM_PORT"
                )
            await asyncio.sleep(0.01)
        self.say(f"web      http://{self.settings.host}:{self.settings.port}")
        return task

    def _hub(self, flow: Flow) -> ChannelHub:
        async def query(name: str, parameters: Mapping[str, str], account: Any) -> Any:
            return Snapshot(await self.app.flow_routes.ask(flow.name, name, parameters, account))

        hub = ChannelHub(flow.name, flow.channels, query=query, on_message=self.inside.receiver(flow))
        hub.publish(beginnings(flow))
        return hub

    def _start_sources(self, stack: AsyncExitStack) -> None:
        for flow in self.flows:
            for node in flow.section("sources"):
                source = node.component
                if isinstance(source, Source) and not isinstance(source, RoutedSource | ChannelSource | PulledSource):
                    task = asyncio.create_task(source.run(self.inside.intake(flow.name, node.name)))
                    stack.push_async_callback(_cancel, task)
                self.say(f"source   {flow.name}.{node.name}: {node.kind} {_what(source)}")

    def _start_workers(self, stack: AsyncExitStack) -> None:
        for flow in self.flows:
            command = [sys.executable, "-m", "millstream", "worker", flow.name]
            process = Process(flow.name, command, self._told)
            self.inside.processes[flow.name] = process
            self._supervise(stack, process)

    def _told(self, process: Process) -> None:
        if process.state in ("running", "parked"):
            detail = f"pid {process.pid}" if process.state == "running" else process.last_error
            self.say(f"flow     {process.name}: {process.state}, {detail}")

    def _supervise(self, stack: AsyncExitStack, process: Process) -> None:
        stack.push_async_callback(_cancel, asyncio.create_task(process.run()))

    async def _trim(self) -> None:
        while True:
            await asyncio.sleep(TRIM_EVERY)
            for writer in self.inside.inboxes.values():
                writer.trim(KEEP_TIME, KEEP_SIZE)


def beginnings(flow: Flow) -> Iterator[Push]:
    """Yield the kept values that stand before the first event: what an operator says nothing looks like."""
    for node in flow.section("sinks"):
        if getattr(node.component, "keep", "none") == "last":
            operator = flow.nodes[node.inputs[0].node].component
            empty = operator.empty() if isinstance(operator, Operator) else None
            if empty is not None:
                channel, event = getattr(node.component, "name", ""), getattr(node.component, "event", "")
                yield Push(channel, event, derived_id(node.name, "", 0), msgspec.json.encode(empty), keep=True)


class _Server(uvicorn.Server):
    """Uvicorn without signal handlers of its own: the gateway has them."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave signals alone."""
        yield


def _what(source: object) -> str:
    if isinstance(source, RoutedSource):
        return " ".join(str(part) for part in source.route()[:2])
    return " ".join(getattr(source, "topics", ()) or ())


async def _end_server(server: uvicorn.Server, task: asyncio.Task[Any]) -> None:
    server.should_exit = True
    await asyncio.wait([task], timeout=5)
    await _cancel(task)


async def _cancel(task: asyncio.Task[Any]) -> None:
    task.cancel()
    with suppress(asyncio.CancelledError):
        try:
            await task
        except MillstreamError as fault:
            log.error("failed", reason=str(fault))


async def _accepts(port: int) -> bool:
    try:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
    except OSError:
        return False
    writer.close()
    return True


def _locked(path: Path) -> int:
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise EnvironmentFault(
            f"{path.parent}: another gateway runs on this data folder; set MILLSTREAM_DATA to use another"
        ) from None
    return descriptor
