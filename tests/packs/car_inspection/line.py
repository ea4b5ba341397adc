"""The car inspection line as its users meet it: a broker to publish to, HTTP to ask, a database to look into."""

from __future__ import annotations

import contextlib
import functools
import os
import re
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import httpx2 as httpx
import pymysql

from tests.millstream_process import Millstream
from tests.packs.car_inspection.device import Device, text_of
from tests.postgresql import asked
from tests.process import LOCALHOST, ROOT, binary, wait_until

PACK = "flows/car_inspection"
PATIENCE = 30.0
ENDS_WITH_Z = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z")
Rows = list[dict[str, Any]]
Query = Callable[..., list[tuple[Any, ...]]]


class Letter(NamedTuple):
    """One dead letter."""

    node: str
    topic: str
    reason: str
    payload: bytes


class Backend(NamedTuple):
    """What the pack runs on; `env` is all that differs between the embedded defaults and real services."""

    name: str
    env: Mapping[str, str]
    mqtt_port: int | None

    @property
    def mariadb(self) -> bool:
        """Tell whether the tables are in a MariaDB."""
        return self.url.startswith("mysql")

    @property
    def url(self) -> str:
        """Return the database's address; nothing where it is the embedded one."""
        return self.env.get("MILLSTREAM_DATABASE", "")


class Line:
    """One running pack; every call goes through a socket or, for the tables, through SQL."""

    def __init__(self, process: Millstream, backend: Backend) -> None:
        self.process, self.backend = process, backend
        self.mqtt_port = backend.mqtt_port or process.broker_port
        self.anonymous = httpx.Client(base_url=process.url, timeout=PATIENCE)
        self.http = self.client("admin", process.password)

    def close(self) -> None:
        self.http.close()
        self.anonymous.close()

    # --- accounts

    def token(self, name: str, password: str) -> str:
        """Log in and return the token."""
        answer = self.anonymous.post("/auth/login", json={"username": name, "password": password})
        assert answer.status_code == 200, answer.text
        return str(answer.json()["access_token"])

    @functools.cache  # noqa: B019 - a line lives as long as its module's tests
    def account(self, name: str, role: str = "employee") -> str:
        """Add an account as operations do, once, and return a token for it."""
        password = f"password of {name}"
        command = [sys.executable, "-m", "millstream", "accounts", "add", name, "--role", role, "--password-stdin"]
        done = subprocess.run(
            command,
            cwd=ROOT,
            env=self.process.environment(),
            input=password,
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert done.returncode == 0, done.stderr
        return self.token(name, password)

    def client(self, name: str, password: str) -> httpx.Client:
        """Return an HTTP client that is logged in."""
        return self.bearing(self.token(name, password))

    def bearing(self, token: str) -> httpx.Client:
        """Return an HTTP client that carries a token."""
        return httpx.Client(base_url=self.process.url, timeout=PATIENCE, headers={"Authorization": f"Bearer {token}"})

    # --- devices

    def publish(self, topic: str, *payloads: object, within: float = 60) -> None:
        """Publish with mosquitto_pub at QoS 1, one payload or many lines; return when the broker has acknowledged."""
        command = [binary("mosquitto_pub"), "-h", LOCALHOST, "-p", str(self.mqtt_port), "-t", topic, "-q", "1"]
        texts = [text_of(payload) for payload in payloads]
        command.append("-l" if len(texts) > 1 else "-s" if texts[0] else "-n")
        done = subprocess.run(command, input=b"\n".join(texts), capture_output=True, timeout=within)
        assert done.returncode == 0, done.stderr

    def device(self) -> Device:
        """Return a connection that publishes to several topics in one order."""
        return Device(self.mqtt_port)

    def new_car(self) -> int:
        """Let a car drive in; return its number once its row is there."""
        before = self.count("car")
        self.publish("sensor/ult01", {"distance_cm": 5.5})
        self.until(lambda: self.count("car") == before + 1, "the car's row is there")
        return int(self.query("SELECT MAX(id) FROM car")[0][0])

    def sensor(self, device: str, result: str) -> None:
        """Publish a station's verdict."""
        self.publish("sensor/result", {"device": device, "result": result})

    # --- the tables

    def query(self, sql: str, *values: object) -> list[tuple[Any, ...]]:
        """Return the rows of a statement with ? for values, by a connection of its own."""
        if self.backend.url.startswith("postgresql"):
            numbered = iter(range(1, len(values) + 1))
            return asked(self.backend.url, re.sub(r"\?", lambda _: f"${next(numbered)}", sql), values=values)
        if not self.backend.mariadb:
            with contextlib.closing(sqlite3.connect(self.process.data / "millstream.db", timeout=PATIENCE)) as file:
                return file.execute(sql, values).fetchall()
        url = urlsplit(self.backend.url)
        connection = pymysql.connect(
            host=LOCALHOST, port=url.port or 3306, user=url.username, password=url.password or "", database=url.path[1:]
        )
        with connection, connection.cursor() as cursor:
            cursor.execute(sql.replace("%", "%%").replace("?", "%s"), values)
            return list(cursor.fetchall())

    def count(self, table: str, where: str = "1 = 1") -> int:
        """Return how many rows of a table fulfil a condition."""
        return int(self.query(f"SELECT COUNT(*) FROM {table} WHERE {where}")[0][0])  # noqa: S608 - of the tests

    def of_car(self, car: int) -> list[tuple[str, str]]:
        """Return device and result of a car's sensor results, in the order of their numbers."""
        found = self.query("SELECT device, result FROM sensor_result WHERE car_id = ? ORDER BY id", car)
        return [(str(device), str(result)) for device, result in found]

    def letters(self, flow: str = "car_inspection") -> list[Letter]:
        """Return the dead letters of a flow, oldest first."""
        file = self.process.data / "flows" / flow / "deadletters.db"
        if not file.exists():
            return []
        with contextlib.closing(sqlite3.connect(f"file:{file}?mode=ro", uri=True, timeout=PATIENCE)) as store:
            if not store.execute("SELECT 1 FROM sqlite_master WHERE name = 'dead'").fetchall():
                return []
            found = store.execute("SELECT node, topic, reason, payload FROM dead ORDER BY rowid").fetchall()
        return [Letter(*row) for row in found]

    # --- HTTP

    def get(self, path: str, **parameters: object) -> Any:
        """Return what a path answers to a logged-in client; it must be a 200."""
        answer = self.http.get(path, params={name: str(value) for name, value in parameters.items()})
        assert answer.status_code == 200, answer.text
        return answer.json()

    def statistics(self) -> dict[str, Any]:
        """Return the whole statistics."""
        return dict(self.get("/dashboard/summary"))

    def settled(self) -> dict[str, Any]:
        """Return the statistics once they count every row that is stored."""

        def counts_all() -> bool:
            found = self.statistics()
            counted = (found["total"], found["camera"]["total"], found["cars"])
            return counted == tuple(self.count(table) for table in ("sensor_result", "camera_result", "car"))

        self.until(counts_all, "everything stored is counted")
        return self.statistics()

    def until(self, condition: Callable[[], object], what: str, within: float = PATIENCE) -> None:
        """Wait for a condition with a bound; what the process said is shown when it does not come."""
        try:
            wait_until(condition, what, within)
        except AssertionError as fault:
            raise AssertionError(f"{fault}; the last lines of the log:\n{self.process.output()[-3000:]}") from None


@contextlib.contextmanager
def running_line(folder: Path, backend: Backend, env: Mapping[str, str] | None = None) -> Any:
    """Run the pack on a backend, with more variables of the environment if need be."""
    with Millstream(folder, PACK, env={**backend.env, **(env or {})}) as process:
        line = Line(process, backend)
        try:
            yield line
        finally:
            line.close()


def without_proxies() -> dict[str, str]:
    """Return the environment for a client of this machine's own servers."""
    return {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}
