"""The gateway process: everything that faces the outside, and the supervisor of the workers.

sources ─▶ intake ─▶ inbox (one a flow) ─▶ worker ─▶ link ─▶ hub ─▶ channels
                                                      └─▶ desk ─▶ HTTP answers
"""

import asyncio
import socket
import sys
import time
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

from starlette.types import ASGIApp

from engine.database import open_database
from engine.deployed import deployed_flows
from engine.deployment import Candidate, Consent
from engine.errors import EnvironmentFault
from engine.flow import Flow
from engine.link_server import LinkServer
from engine.settings import Settings, kept_secret, lock
from engine.statistics import keep_statistics
from engine.supervisor import Process
from web.api import Endpoint, api_routes, control_app
from web.app import WebApp, build_app
from web.beginnings import beginnings
from web.channel_log import ChannelLog
from web.channel_message import Snapshot
from web.channel_socketio import SocketIo
from web.channel_websocket import ChannelRoute
from web.channels import ChannelHub
from web.collector import look_seldom
from web.console import console_routes
from web.console_alerts import alert_page_routes
from web.console_letters import letter_page_routes
from web.dead_letter_api import dead_letter_endpoints
from web.deploy_api import deploy_endpoints
from web.deployer import Deployer
from web.flow_host import FlowHost, cancel, described
from web.inside import Inside
from web.ledger_api import ledger_endpoints
from web.letter_desk import LetterDesk
from web.pages import page_routes
from web.preparation import PATIENCE, Preparation
from web.server import accepts, bound, unix_bound, web_server
from web.tap_api import tap_endpoints
from web.watching import Watching

KEEP_TIME, KEEP_SIZE = 24 * 3600 * 1_000_000, 1 << 30
TRIM_EVERY = 10.0
PORT_PATIENCE = 5.0


class Gateway:
    """One installation; `say` prints a line for people, `ahead` are workers that load already.

    Raises EnvironmentFault when its folder cannot be had.
    """

    def __init__(
        self,
        settings: Settings,
        versions: Sequence[Candidate],
        consent: Consent,
        say: Callable[[str], None],
        watching: Mapping[Path, dict[str, str]] | None = None,
        ahead: Mapping[str, Process] | None = None,
    ) -> None:
        self.settings, self.versions, self.say = settings, versions, say
        self._ahead = dict(ahead or {})
        self.watching = dict(watching or {})
        settings.prepare()
        fault = f"{settings.data}: another gateway runs on this data folder; set MILLSTREAM_DATA to use another"
        self._lock = lock(settings.data / "gateway.lock", fault)
        self.token = kept_secret(settings.data / "link.token")
        self.database = open_database(settings.database)
        self.inside = Inside(settings, self.database)
        self.desk = LetterDesk(self.inside)
        self.preparation = Preparation(self.inside, versions, consent, say)
        self.hosts: dict[str, FlowHost] = {}
        self.deployer: Deployer
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
            await cancel(stopping, serving)
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
            stack.push_async_callback(self._forget_ahead)
            web = stack.enter_context(bound(self.settings.host, self.settings.port))
            await self._start_broker(stack)
            await self.preparation.run()
            await self._open_hosts(stack)
            self.inside.links = links = LinkServer(self.settings.data / "link.sock", self.token, self.inside)
            stack.push_async_callback(links.close)
            await self._start_workers(stack)
            await asyncio.gather(*(self.hosts[f.name].follow(f) for f in self.inside.definitions.values()))
            server = await self._serve(stack, web)
            await links.open()
            await self._start_sources()
            look_seldom()
            self.say(f"console  {self._address()}/console   (Ctrl-C stops everything)")
            tasks = [asyncio.create_task(work) for work in self._upkeep()]
            stack.push_async_callback(cancel, *tasks)
            done, _ = await asyncio.wait([server, *tasks], return_when=asyncio.FIRST_COMPLETED)
            for task in done:
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

    async def _open_hosts(self, stack: AsyncExitStack) -> None:
        stack.push_async_callback(self._close_hosts)
        for name in self.inside.definitions:
            host = FlowHost(name, self.inside, self._told, self._ahead.get(name))
            host.open()
            self.hosts[name] = host

    async def _forget_ahead(self) -> None:
        await asyncio.gather(*(process.stop() for process in self._ahead.values()))

    async def _close_hosts(self) -> None:
        for hub in self.inside.hubs.values():
            hub.close()
        for host in self.hosts.values():
            host.close_inbox()

    async def _serve(self, stack: AsyncExitStack, web: socket.socket) -> asyncio.Task[Any]:
        inside = self.inside
        self.app = build_app(list(inside.definitions.values()), inside, more=page_routes)
        inside.hubs |= {name: self._hub(flow) for name, flow in inside.definitions.items()}
        self.deployer = Deployer(inside, self.hosts, self.app.flow_routes, self._hub, self._told)
        sockets = SocketIo(lambda: inside.hubs.values(), self.app.guard)
        stack.push_async_callback(sockets.close)
        routes = [
            ChannelRoute(lambda: inside.hubs.values(), self.app.guard),
            sockets.route(),
            *console_routes(inside, self.app.guard, self.app.logins),
            *letter_page_routes(inside, self.app.guard),
            *alert_page_routes(inside, self.app.guard),
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
        return [
            *deploy_endpoints(self.deployer, self.inside),
            *tap_endpoints(self.inside),
            *ledger_endpoints(self.inside),
            *dead_letter_endpoints(self.desk),
        ]

    def _hub(self, flow: Flow) -> ChannelHub:
        async def query(name: str, parameters: Mapping[str, str], account: Any) -> Any:
            answer = await self.app.flow_routes.ask(flow.name, name, parameters, account)
            return Snapshot(answer.body, answer.events)

        log = ChannelLog(self.settings.flow_folder(flow.name) / "channels.db", flow.name)
        hub = ChannelHub(flow.name, flow.channels, query=query, on_message=self.inside.receiver(flow), log=log)
        hub.publish(beginnings(flow))
        return hub

    async def _start_workers(self, stack: AsyncExitStack) -> None:
        """Start the workers, or let those go that were started ahead."""

        async def close_all() -> None:
            await asyncio.gather(*(host.close() for host in self.hosts.values()))

        stack.push_async_callback(close_all)
        for name, host in self.hosts.items():
            if name in self.preparation.broken:
                await host.park(self.preparation.broken[name])
            else:
                host.start_worker()

    async def _start_sources(self) -> None:
        for flow in self.inside.definitions.values():
            await self.hosts[flow.name].receive(flow)
            for node in flow.section("sources"):
                self.say(f"source   {flow.name}.{node.name}: {node.kind} {described(node)}")
        others = set(deployed_flows(self.settings)) - self.hosts.keys()
        if others:
            self.say(f"deployed, but not named here: {', '.join(sorted(others))} (`millstream gateway` runs all)")

    def _told(self, process: Process) -> None:
        if process.state in ("running", "parked"):
            detail = f"pid {process.pid}" if process.state == "running" else process.last_error
            label = "broker   " if process is self.broker else f"flow     {process.name}: "
            self.say(f"{label}{process.state}, {detail}")

    def _supervise(self, stack: AsyncExitStack, processes: list[Process]) -> None:
        stack.push_async_callback(cancel, *(asyncio.create_task(process.run()) for process in processes))

    def _upkeep(self) -> Iterator[Coroutine[Any, Any, None]]:
        """Yield what runs beside the web server until the end."""
        yield self._trim()
        yield keep_statistics(self.database)
        yield self.inside.pulse.run(self.inside.processes)
        if self.watching:
            yield Watching(self.watching, self.settings, self.deployer, self.say).run()

    async def _trim(self) -> None:
        while True:
            await asyncio.sleep(TRIM_EVERY)
            for writer in self.inside.inboxes.values():
                writer.trim(KEEP_TIME, KEEP_SIZE)
            self.inside.ledgers.watch()
