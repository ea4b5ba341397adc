"""The console on a real uvicorn, with a real flow, real accounts and dead letters, and numbers that the tests set."""

import asyncio
import math
import socket
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import uvicorn
from sqlalchemy.ext.asyncio import create_async_engine
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.routing import Mount
from starlette.staticfiles import StaticFiles

from engine.arrival import Intake
from engine.dead_letters import DeadLetterStore
from engine.flow import Flow
from engine.inbox import InboxWriter
from engine.intake import FlowIntake, ReplyDesk
from engine.ledger import TERMS
from engine.letter import Letter
from engine.load import load_text
from engine.refusal import Refusal
from tests.web.channel_server import SECRET
from tests.web.gateway_site import NO_BROKER
from web import accounts
from web.accounts import add_account, create_tables
from web.api import api_routes
from web.channel_wire import Wire
from web.console import console_routes
from web.console_letters import letter_page_routes
from web.dead_letter_api import dead_letter_endpoints
from web.errors import Shield, answer_error
from web.guard import Guard
from web.letter_desk import LetterDesk
from web.login import Logins
from web.services import FlowState, Footprint, Queue, StepLine

LINE = """
flow: line
about: Stations and a camera judge each car on the line; defects reach the dashboard at once.
sources:
  gate: {mqtt: {topics: [sensor/ult01, sensor/ult02, sensor/ult03], qos: 1, payload: any}}
  station: {mqtt: {topics: [sensor/result], qos: 1}}
  by_hand: {http: {post: /sensor/result, allow: employee}, about: a result that somebody adds by hand}
operators:
  verdict:
    about: only OK and DEFECT get through <b>
    from: [station, by_hand]
    validate:
      device: {type: text, case: upper, max: 50}
      result: {type: text, case: upper, one_of: [OK, DEFECT]}
  on_line: {from: [gate, verdict], group: {opens: meta.topic == "sensor/ult01", as: car_id}}
  rows:
    from: on_line
    where: meta.source != "gate"
    steps:
      - set: {created_at: meta.time}
      - validate: {device: {type: text}, result: {type: text}}
  defects: {from: rows, where: result == "DEFECT"}
sinks:
  results: {from: rows, log: {message: a row}}
  defect_push: {from: defects, channel: {name: dashboard, event: sensor_defect}}
  progress_push: {from: gate, channel: {name: dashboard, event: progress}}
  refused: {from: verdict.rejected, log: {message: a verdict was refused, level: warning}}
channels:
  dashboard: {path: /ws/dashboard, socketio: true}
"""
OFFICE = """
flow: office
about: Attendance and the rooms in which the line's people talk.
sources:
  said: {channel: chat}
operators:
  message: {from: said, validate: {text: {type: text, min: 1, max: 2000}}}
sinks:
  chat_push: {from: message, channel: {name: chat, event: message, room: meta.room}}
channels:
  chat: {path: "/ws/chat/{room}"}
"""


class SampleBoard:
    """What the gateway tells the console; `states` and `counts` are for the tests to change."""

    def __init__(self, folder: Path) -> None:
        flows = [load_text(text).raise_findings() for text in (LINE, OFFICE)]
        self.definitions: dict[str, Flow] = {flow.name: flow for flow in flows}
        self.stores = {flow.name: DeadLetterStore(folder / f"{flow.name}.db") for flow in flows}
        self.states = {
            "line": FlowState(
                state="running", since=time.time() - 93_784, pid=4711, rss=84_000_000, restarts=1, backlog=12
            ),
            "office": FlowState(
                state="parked", since=time.time() - 754, restarts=6, rss=0,
                last_error="RuntimeError: node 'message': <script>alert(1)</script>\n  at engine/worker.py",
            ),
        }  # fmt: skip
        self.asked = 0
        self.inboxes = {flow.name: InboxWriter(folder / f"{flow.name}-inbox.db", flow.name) for flow in flows}
        line = self.states["line"]
        line.ledger = dict.fromkeys(TERMS, 0) | {
            "received": 48_210, "branched": 96_420, "made": 1_204, "stored": 97_303, "state": 47_800, "filtered": 713,
            "dead": 3, "in_flight": 15,
        }  # fmt: skip
        line.sources = {"gate": ("connected", "127.0.0.1:1883"), "station": ("connecting", "127.0.0.1:1883")}
        line.nodes = {name: {"in": 1000, "out": 1000, "dead": 0} for name in self.definitions["line"].nodes}
        line.nodes["verdict"] = {"in": 48_210, "out": 48_090, "dead": 3}
        line.nodes["defects"] = {"in": 47_000, "out": 1_204, "dead": 0}
        line.node_rates = {name: {"in": 120.0, "out": 120.0, "dead": 0.0} for name in line.nodes}
        line.rate_in, line.rate_out = 360.0, 363.2
        line.cpu, line.cpu_seconds, line.lag = 0.42, 800.0, 0.3
        line.steps = [
            StepLine("read", "inbox", ("gate", "station", "by_hand"), 0.05, 90.0, 360.0, 4.2),
            StepLine("stretch", "sources", ("gate", "station", "by_hand", "verdict"), 0.04, 60.0, 360.0, 1.8),
            StepLine("keyed", "on_line", ("on_line",), 0.11, 200.0, 120.0, 9.1, snapshot=0.01, keys=1, state=13),
            StepLine("sink", "results", ("results",), 0.12, 300.0, 120.0, 31.0, 0.62, 1500.0),
            StepLine("rest", "engine", (), 0.1, 150.0),
        ]
        line.queues = [
            Queue("inbox", "inbox", 12, 0.0), Queue("lane", "results", 17_000, 0.85), Queue("lane", "refused"),
            Queue("clients", "dashboard", 3, 0.01),
        ]  # fmt: skip
        line.rates = dict.fromkeys(line.nodes, 120.0) | {"defects": 3.2, "defect_push": 3.2, "refused": 0.0}

    def add_letters(self, flow: str, node: str, count: int) -> None:
        payload, now = b'{"device": "LED", "result": "<img src=x onerror=alert(1)>"}', int(time.time() * 1e6)
        self.stores[flow].add(
            Letter(
                id=n.to_bytes(16, "big"), node=node, time=now - n * 1_000_000, source="station", topic="sensor/result",
                reason="result: one_of OK, DEFECT; got 'TIMEOUT'", details={}, payload=payload, version="1",
            )
            for n in range(count)
        )  # fmt: skip

    def flows(self) -> dict[str, FlowState]:
        for name, state in self.states.items():
            state.dead = self.stores[name].counts().get("new", 0)
        return self.states

    def gateway(self) -> Footprint:
        return Footprint(0.034, 512.0, 142_000_000)

    def intake(self, flow: str, source: str) -> Intake:
        inbox = self.inboxes[flow]
        return FlowIntake(inbox, ReplyDesk(inbox), flow, source, NO_BROKER)

    def letters(self, flow: str) -> DeadLetterStore:
        self.asked += 1
        return self.stores[flow]


class ConsoleSite:
    """The running server; accounts: ada (admin), vera (viewer), their passwords `NAME's password`."""

    def __init__(self, board: SampleBoard, guard: Guard, port: int) -> None:
        self.board, self.guard, self.port = board, guard, port
        self.url = f"http://127.0.0.1:{port}"

    @property
    def looked(self) -> int:
        """Return how often the page of a flow was asked for."""
        return self.board.asked


@asynccontextmanager
async def serve_console(folder: Path, port: int = 0) -> AsyncIterator[ConsoleSite]:
    """Run the console in this loop."""
    engine = create_async_engine(f"sqlite+aiosqlite:///{folder / 'accounts.db'}")
    await create_tables(engine)
    await add_account(engine, "ada", "admin", "ada's password")
    await add_account(engine, "vera", "viewer", "vera's password")
    board, guard, logins = SampleBoard(folder), Guard(engine, SECRET), Logins(engine, accounts.HASHER)
    static = Mount("/static", StaticFiles(directory=Path(__file__).parent.parent.parent / "web" / "static"))
    app = Starlette(
        routes=[
            *console_routes(board, guard, logins),
            *letter_page_routes(board, guard),
            *api_routes(dead_letter_endpoints(LetterDesk(board)), guard),
            static,
        ],
        middleware=[Middleware(Shield)],
        exception_handlers={Refusal: answer_error},
    )
    with socket.create_server(("127.0.0.1", port)) as listening:
        server = uvicorn.Server(uvicorn.Config(app, ws=Wire, log_level="error", lifespan="off"))
        task = asyncio.create_task(server.serve(sockets=[listening]))
        for inbox in board.inboxes.values():
            inbox.open()
        try:
            yield ConsoleSite(board, guard, listening.getsockname()[1])
        finally:
            server.should_exit = server.force_exit = True
            await task
            logins.close()
            for inbox in board.inboxes.values():
                inbox.close()
            for store in board.stores.values():
                store.close()
            await engine.dispose()


async def show(folder: Path, port: int) -> None:
    """Serve changing numbers, to look at."""
    async with serve_console(folder, port) as site:
        site.board.add_letters("line", "verdict", 3)
        state, rates = site.board.states["line"], dict(site.board.states["line"].rates)
        while True:
            wave = 1 + 0.4 * math.sin(time.time() / 6) + 0.15 * math.sin(time.time() * 2)
            state.rates = {name: rate * wave for name, rate in rates.items()}
            for name in state.rates.keys() & state.nodes.keys():
                state.nodes[name]["out"] += round(state.rates[name])
                state.nodes[name]["in"] += round(state.rates[name])
            await asyncio.sleep(1)


if __name__ == "__main__":
    asyncio.run(show(Path(sys.argv[1]), int(sys.argv[2])))
