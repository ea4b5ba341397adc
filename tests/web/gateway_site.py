"""A real uvicorn with the web layer on a real database and a real inbox: what the tests of the web layer talk to."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx2
import uvicorn
from argon2 import PasswordHasher
from sqlalchemy import MetaData, insert
from sqlalchemy.ext.asyncio import AsyncEngine

from engine.arrival import Intake
from engine.database import open_database
from engine.flow import Flow
from engine.inbox import InboxReader, InboxWriter
from engine.intake import FlowIntake, ReplyDesk
from engine.load import load_text
from engine.media import MediaStore
from engine.mqtt_address import MqttAddress
from engine.settings import MqttPlace
from engine.tables import create, to_sqlalchemy
from web import accounts
from web.app import WebApp, build_app
from web.channel_wire import Wire
from web.services import FlowState

SECRET = b"a secret of these tests, long enough for HS512 too, so 64 bytes or more"
PASSWORD = "correct horse"
NO_BROKER = MqttPlace(MqttAddress.parse("mqtt://127.0.0.1:9"), 4, "unused")
QUICK = PasswordHasher(time_cost=1, memory_cost=64, parallelism=1)
FLOW = """
flow: line
about: A line for tests.
tables:
  car: {id: serial, created_at: time}
  sensor_result:
    {id: serial, car_id: car.id, device: text(50), result: text(10), good: bool, extra: json, created_at: time}
  attendance: {id: serial, employee: text(64), day: date, note: text(20), at: time, unique: [[employee, day]]}
  employees: {view: accounts}
sources:
  readings: {http: {post: /readings, allow: employee, most: 64KiB}}
  by_hand: {http: {post: "/sensor/{station}/result", reply: row, timeout: 300ms}}
  open: {http: {put: /open, allow: anyone}}
  held: {http: {put: /held, allow: anyone, at_most: 2/m}}
operators:
  named: {from: [readings, by_hand, open, held], where: device}
sinks:
  results: {from: named, sql: {table: sensor_result}}
  stats: {from: named, channel: {name: dashboard, event: stats_update, keep: last}}
channels:
  dashboard: {path: /ws/dashboard}
queries:
  sensor_results: {get: /sensor/result, table: sensor_result, filters: [car_id, device, result, good]}
  defects: {get: /sensor/defects, table: sensor_result, where: {result: DEFECT}, limit: 2, most: 3}
  of_car: {get: "/car/{car_id}/results", table: sensor_result, filters: [car_id]}
  people: {get: /people, allow: manager, table: employees}
  summary: {get: /dashboard/summary, channel: dashboard.stats_update, empty: {total: 0}}
  by_device:
    get: /by-device
    sql: >-
      select device, count(*) as n, max(created_at) as created_at from sensor_result
      where device = :device or :device is null group by device order by device
    params: {device: {type: text, optional: true}}
  counted:
    get: /counted
    cache: 30s
    one: true
    sql: "select count(*) as n, :add as plus from car"
    params: {add: {type: int, default: 0, max: 9}}
  typed:
    get: /typed
    one: true
    allow: anyone
    sql: "select :i as i, :n as n, :t as t, :b as b, :at as at, :d as d"
    params:
      i: int
      n: {type: number, default: 1.5}
      t: {type: text, default: x}
      b: {type: bool, default: true}
      at: {type: time, default: now}
      d: {type: date, default: today}
    columns: {b: bool, at: time}
  one_car:
    {get: "/cars/{id}", one: true, missing: no such car, sql: "select * from car where id = :id", params: {id: int}}
  check_in:
    post: /attendance/check-in
    sql: "insert into attendance (employee, day, note, at) values (:employee, :day, :note, :at)"
    params: {note: {type: text, default: ""}}
    set: {employee: account.name, day: today, at: now}
    status: 201
    conflict: already checked in today
    returns: "select employee, day, note, at from attendance where id = :inserted_id"
  renote:
    patch: "/attendance/{id}"
    sql: "update attendance set note = :note where id = :id and employee = :employee"
    params: {id: int, note: {type: text, max: 20}}
    set: {employee: account.name}
    missing: no such attendance of yours
  whoami:
    get: /whoami
    one: true
    sql: "select :name as name, :role as role"
    set: {name: account.name, role: account.role}
  broken: {get: /broken, sql: "select nothing from nowhere"}
"""


class SiteServices:
    """The services of one site; `kept_values` and `states` are the test's to fill."""

    def __init__(self, folder: Path, database: AsyncEngine) -> None:
        self.database = database
        self.secret = SECRET
        self.media = MediaStore(folder / "media")
        self.inbox = InboxWriter(folder / "inbox.db", "line")
        self.inbox.open()
        self.desk = ReplyDesk(self.inbox)
        self.kept_values: dict[tuple[str, str, str], bytes] = {}
        self.states = {"line": FlowState(state="running")}
        self.reader = InboxReader(folder / "inbox.db")

    def metadata(self, flow: Flow) -> MetaData:
        return to_sqlalchemy(flow.tables, ["sensor_result"])

    def kept(self, flow: str, channel: str, event: str) -> bytes | None:
        return self.kept_values.get((flow, channel, event))

    def flows(self) -> dict[str, FlowState]:
        return self.states

    def intake(self, flow: str, source: str) -> Intake:
        return FlowIntake(self.inbox, self.desk, flow, source, NO_BROKER)

    def events(self) -> list[tuple[str, bytes, dict[str, Any]]]:
        """Return source, payload and meta of everything in the inbox."""
        return [
            (block.sources[block.source_index[at]], payload, block.metas.get(at, {}))
            for block in self.reader.read(0, 100_000)
            for at, payload in enumerate(block.payloads)
        ]


class Site:
    """A running site: `get`, `post` and so on ask as `employee` unless told otherwise."""

    def __init__(self, app: WebApp, services: SiteServices, flow: Flow, port: int) -> None:
        self.app, self.services, self.flow, self.port = app, services, flow, port
        self.url = f"http://127.0.0.1:{port}"
        self.client = httpx2.AsyncClient(base_url=self.url, timeout=20, trust_env=False)
        self.tokens: dict[str, str] = {}

    async def token(self, name: str) -> str:
        """Return a token of an account, logged in once."""
        if name not in self.tokens:
            answer = await self.client.post("/auth/login", json={"username": name, "password": PASSWORD})
            assert answer.status_code == 200, answer.text
            self.tokens[name] = answer.json()["access_token"]
        return self.tokens[name]

    async def ask(self, method: str, path: str, who: str | None = "employee", **options: Any) -> httpx2.Response:
        headers = dict(options.pop("headers", {}))
        if who is not None:
            headers["Authorization"] = f"Bearer {await self.token(who)}"
        return await self.client.request(method, path, headers=headers, **options)

    async def get(self, path: str, who: str | None = "employee", **options: Any) -> httpx2.Response:
        return await self.ask("GET", path, who, **options)

    async def post(self, path: str, who: str | None = "employee", **options: Any) -> httpx2.Response:
        return await self.ask("POST", path, who, **options)

    async def insert(self, table: str, *rows: dict[str, Any]) -> None:
        made = self.services.metadata(self.flow).tables[table]
        async with self.services.database.begin() as connection:
            await connection.execute(insert(made), list(rows))


@asynccontextmanager
async def serving(folder: Path, database: str, text: str = FLOW) -> AsyncIterator[Site]:
    """Run the web layer of one flow on a free port, with an account for each role."""
    engine = open_database(database)
    services = SiteServices(folder, engine)
    flow = load_text(text).raise_findings()
    await accounts.create_tables(engine)
    await create(engine, services.metadata(flow))
    for role in accounts.ROLES:
        await accounts.add_account(engine, role, role, PASSWORD)
    app = build_app([flow], services)
    listener = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(app, log_config=None, lifespan="on", ws=Wire, timeout_graceful_shutdown=2))
    task = asyncio.create_task(server.serve([listener]))
    site = Site(app, services, flow, listener.getsockname()[1])
    try:
        async with site.client:
            yield site
    finally:
        server.should_exit = True
        await asyncio.wait_for(task, 10)
        services.inbox.close()
        services.reader.close()
        await engine.dispose()


def error(answer: httpx2.Response, status: int, code: str) -> dict[str, Any]:
    """Return the error of an answer, which must be of the one shape."""
    assert (answer.status_code, answer.headers["content-type"]) == (status, "application/json"), answer.text
    found: dict[str, Any] = answer.json()
    assert set(found) == {"error"}
    assert set(found["error"]) <= {"code", "message", "fields", "id"}
    assert found["error"]["code"] == code, found
    return dict(found["error"])
