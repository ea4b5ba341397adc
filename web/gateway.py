"""The gateway process: everything that faces the outside, and the supervisor of the workers.

sources ─▶ intake ─▶ inbox (one a flow) ─▶ worker ─▶ link ─▶ hub ─▶ channels
                                                      └─▶ desk ─▶ HTTP answers
"""

import asyncio
import socket
import sys
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import AsyncExitStack
from typing import Any

import msgspec
import structlog
from sqlalchemy import MetaData
from sqlalchemy.exc import DBAPIError
from starlette.types import ASGIApp

from engine.component import ChannelSource, Intake, Operator, PulledSource, RoutedSource, Source
from engine.database import describe, open_database, place
from engine.deployed import place_flow, read_record, record_of, write_record
from engine.errors import EnvironmentFault, Unavailable
from engine.event import derived_id
from engine.flow import Flow
from engine.frames import Push
from engine.inbox import InboxWriter
from engine.intake import ReplyDesk
from engine.link_server import LinkServer
from engine.settings import Settings, kept_secret, lock
from engine.supervisor import Process
from engine.tables import create, highest, to_sqlalchemy
from engine.worker import appended_tables
from web.accounts import create_tables, first_admin
from web.api import Endpoint, api_routes, control_app
from web.app import WebApp, build_app
from web.channel_message import Snapshot
from web.channel_socketio import SocketIo
from web.channel_websocket import ChannelRoute
from web.channels import ChannelHub
from web.console import console_routes
from web.inside import Inside
from web.pages import page_routes
from web.server import accepts, bound, unix_bound, web_server

KEEP_TIME, KEEP_SIZE = 24 * 3600 * 1_000_000, 1 << 30
TRIM_EVERY = 10.0
PATIENCE, PORT_PATIENCE = 60.0, 5.0
AGAIN = 5.0
log = structlog.get_logger()


class Gateway:
    """One installation; `say` prints a line for people. Raises EnvironmentFault when its folder cannot be had."""

    def __init__(
        self, settings: Settings, flows: list[Flow], overrides: Mapping[str, str], say: Callable[[str], None]
    ) -> None:
        self.settings, self.flows, self.overrides, self.say = settings, flows, dict(overrides), say
        settings.prepare()
        fault = f"{settings.data}: another gateway runs on this data folder; set MILLSTREAM_DATA to use another"
        self._lock = lock(settings.data / "gateway.lock", fault)
        self.token = kept_secret(settings.data / "link.token")
        self.database = open_database(settings.database)
        self.inside = Inside(settings, self.database)
        self.app: WebApp
        self.broker: Process | None = None

    async def run(self, stop: asyncio.Event) -> None:
        """Start everything in order, serve until `stop` is set or a part fails, and stop everything in order."""
        serving, stopping = asyncio.create_task(self._run()), asyncio.create_task(stop.wait())
        try:
            await asyncio.wait([serving, stopping], return_when=asyncio.FIRST_COMPLETED)
        finally:
            if not serving.done():
                self.say("stopping")
            await _cancel(stopping, serving)
        if not serving.cancelled():
            serving.result()

    def kill(self) -> None:
        """End all processes at once."""
        for process in [self.broker, *self.inside.processes.values()]:
            if process is not None:
                process.kill()

    async def _run(self) -> None:
        async with AsyncExitStack() as stack:
            stack.push_async_callback(self.database.dispose)
            web = stack.enter_context(bound(self.settings.host, self.settings.port))
            await self._start_broker(stack)
            await self._patiently(self._prepare)
            self._open_inboxes(stack)
            links = LinkServer(self.settings.data / "link.sock", self.token, self.inside)
            self.inside.links = links
            await links.open()
            stack.push_async_callback(links.close)
            server = await self._serve(stack, web)
            self._start_sources(stack)
            self._start_workers(stack)
            self.say(f"console  {self._address()}/console   (Ctrl-C stops everything)")
            trimming = asyncio.create_task(self._trim())
            stack.push_async_callback(_cancel, trimming)
            await asyncio.wait([server, trimming], return_when=asyncio.FIRST_COMPLETED)
            for task in (server, trimming):
                if task.done():
                    task.result()
            raise EnvironmentFault("the web server ended by itself")

    def _address(self) -> str:
        host = "localhost" if self.settings.host in ("0.0.0.0", "::") else self.settings.host  # noqa: S104 - a comparison
        return f"http://{f'[{host}]' if ':' in host else host}:{self.settings.port}"

    async def _start_broker(self, stack: AsyncExitStack) -> None:
        if self.settings.mqtt_url is not None:
            self.say(f"broker   {self.settings.mqtt().address}")
            return
        port, end = self.settings.broker_port, time.monotonic() + PORT_PATIENCE
        while await accepts(port):  # it may be ours, which ends by itself when its gateway was killed
            if time.monotonic() > end:
                advice = "set MILLSTREAM_BROKER_PORT, or MILLSTREAM_MQTT to use the broker that is there"
                raise EnvironmentFault(f"port {port} is already in use: {advice}")
            await asyncio.sleep(0.1)
        self.broker = Process("broker", [sys.executable, "-m", "engine.broker", "127.0.0.1", str(port)], self._told)
        self._supervise(stack, [self.broker])
        end = time.monotonic() + PATIENCE
        while not await accepts(port):
            if self.broker.state == "parked" or time.monotonic() > end:
                raise EnvironmentFault(f"the embedded broker does not start: {self.broker.last_error}")
            await asyncio.sleep(0.05)
        self.say(f"broker   embedded, mqtt://127.0.0.1:{port}")

    async def _patiently(self, call: Callable[[], Awaitable[None]]) -> None:
        """Call until the database is there, for a minute; a file is there or is not."""
        end, told = time.monotonic() + PATIENCE, ""
        where = place(self.database)
        while True:
            try:
                return await call()
            except (Unavailable, DBAPIError, OSError) as fault:
                reason = str(fault).removeprefix(f"{where}: ") if isinstance(fault, Unavailable) else describe(fault)
                if self.database.dialect.name == "sqlite" or time.monotonic() > end:
                    raise EnvironmentFault(f"{where}: {reason}") from fault
            if reason != told:
                self.say(f"{where} is away, waiting for it: {reason}")
                told = reason
            await asyncio.sleep(1)

    async def _prepare(self) -> None:
        """Make tables and the first account; write what is deployed."""
        await create_tables(self.database)
        for flow in self.flows:
            metadata = to_sqlalchemy(flow.tables, appended_tables(flow))
            views = {name: table.view for name, table in flow.tables.items() if table.view}
            await create(self.database, metadata, views)
            await self._deploy(flow, metadata)
        given = self.settings.admin_password
        password = await first_admin(self.database, given.get_secret_value() if given else None)
        self.say(place(self.database))
        if password and not given:
            self.say(f"account  admin, password {password}   (shown this once)")

    async def _deploy(self, flow: Flow, metadata: MetaData) -> None:
        record = read_record(self.settings, flow.name)
        found = dict(record.highest) if record else {}
        for name, table in metadata.tables.items():
            if name in flow.tables and name not in found and "id" in table.c:
                found[name] = await highest(self.database, table, "id")
        write_record(self.settings, flow.name, record_of(flow, self.overrides, found))
        self.inside.add(place_flow(flow, self.settings, found), metadata)

    def _open_inboxes(self, stack: AsyncExitStack) -> None:
        for flow in self.flows:
            folder = self.settings.flow_folder(flow.name)
            folder.mkdir(parents=True, exist_ok=True)
            writer = InboxWriter(folder / "inbox.db", flow.name, on_commit=self.inside.committed(flow.name))
            writer.open()
            stack.callback(writer.close)
            self.inside.open(flow.name, writer, ReplyDesk())

    async def _serve(self, stack: AsyncExitStack, web: socket.socket) -> asyncio.Task[Any]:
        inside = self.inside
        self.app = build_app(self.flows, inside, more=page_routes)
        inside.hubs = {flow.name: self._hub(flow) for flow in self.flows}
        sockets = SocketIo(lambda: inside.hubs.values(), self.app.guard)
        stack.push_async_callback(sockets.close)
        routes = [
            ChannelRoute(lambda: inside.hubs.values(), self.app.guard),
            sockets.route(),
            *console_routes(inside, self.app.guard, self.app.logins),
            *api_routes(self.endpoints(), self.app.guard),
        ]
        self.app.router.routes[:0] = routes
        task = await self._listen(stack, self.app, web)
        self.say(f"web      {self._address()}")
        control = stack.enter_context(unix_bound(self.settings.data / "control.sock"))
        await self._listen(stack, control_app(self.endpoints()), control)
        return task

    async def _listen(self, stack: AsyncExitStack, app: ASGIApp, on: socket.socket) -> asyncio.Task[Any]:
        server = web_server(app)
        task = asyncio.create_task(server.serve([on]))
        stack.push_async_callback(server.end, task)
        while not server.started:
            if task.done():
                task.result()
                raise EnvironmentFault("the web server does not start")
            await asyncio.sleep(0.01)
        return task

    def endpoints(self) -> list[Endpoint]:
        """Return the calls of the operations' API."""
        return []

    def _hub(self, flow: Flow) -> ChannelHub:
        async def query(name: str, parameters: Mapping[str, str], account: Any) -> Any:
            return Snapshot(await self.app.flow_routes.ask(flow.name, name, parameters, account))

        hub = ChannelHub(flow.name, flow.channels, query=query, on_message=self.inside.receiver(flow))
        hub.publish(beginnings(flow))
        return hub

    def _start_sources(self, stack: AsyncExitStack) -> None:
        tasks = []
        for flow in self.flows:
            kinds: dict[type[Source], list[tuple[Source, Intake]]] = {}
            for node in flow.section("sources"):
                source = node.component
                if isinstance(source, Source) and not isinstance(source, RoutedSource | ChannelSource | PulledSource):
                    intake = self.inside.intake(flow.name, node.name)
                    kinds.setdefault(type(source), []).append((source, intake))
                self.say(f"source   {flow.name}.{node.name}: {node.kind} {_what(source)}")
            tasks += [asyncio.create_task(_receive(kind, members)) for kind, members in kinds.items()]
        stack.push_async_callback(_cancel, *tasks)

    def _start_workers(self, stack: AsyncExitStack) -> None:
        for flow in self.flows:
            command = [sys.executable, "-m", "millstream", "worker", flow.name]
            self.inside.processes[flow.name] = Process(flow.name, command, self._told)
        self._supervise(stack, list(self.inside.processes.values()))

    def _told(self, process: Process) -> None:
        if process.state in ("running", "parked"):
            detail = f"pid {process.pid}" if process.state == "running" else process.last_error
            label = "broker   " if process is self.broker else f"flow     {process.name}: "
            self.say(f"{label}{process.state}, {detail}")

    def _supervise(self, stack: AsyncExitStack, processes: list[Process]) -> None:
        stack.push_async_callback(_cancel, *(asyncio.create_task(process.run()) for process in processes))

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


def _what(source: object) -> str:
    if isinstance(source, RoutedSource):
        return " ".join(str(part) for part in source.route()[:2])
    if isinstance(source, ChannelSource):
        return source.channel()
    return " ".join(getattr(source, "topics", ()) or ())


async def _cancel(*tasks: asyncio.Task[Any]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
