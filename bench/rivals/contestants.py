"""Who takes part: each a process of its own that is started with a fresh folder and a fresh database."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

import msgspec

from tests.millstream_process import Millstream
from tests.process import LOCALHOST, Server, accepts, free_port
from tests.services import MariaDB, Mosquitto

HERE = Path(__file__).parent
NODE_RED = HERE / "node_red"
TABLES = (
    "CREATE TABLE {0}.car (id BIGINT PRIMARY KEY, created_at DATETIME(6) NOT NULL)",
    "CREATE TABLE {0}.sensor_result (id BIGINT PRIMARY KEY AUTO_INCREMENT, car_id BIGINT, device VARCHAR(50), "
    "result VARCHAR(10), n BIGINT, created_at DATETIME(6){1})",
)
DATABASE, READY = "car_line", 60.0


class Services:
    """Mosquitto and MariaDB, which all share."""

    def __init__(self, broker: Mosquitto, database: MariaDB) -> None:
        self.broker, self.database = broker, database


class Contestant(Server):
    """One who does the work; `dashboard` is where its defects are pushed."""

    title = ""
    dashboard: str

    def __init__(self, folder: Path, services: Services) -> None:
        super().__init__(folder)
        self.services = services
        self.port = free_port()
        self.dashboard = f"ws://{LOCALHOST}:{self.port}/ws/dashboard"

    def make_tables(self, more: str = "") -> None:
        """Make the tables, as somebody would who sets it up."""
        self.services.database.database(DATABASE)
        self.services.database.execute(*(text.format(DATABASE, more) for text in TABLES))


class MillstreamRuns(Contestant):
    """`millstream run` with a flow."""

    title = "Millstream"

    def __init__(self, folder: Path, services: Services) -> None:
        super().__init__(folder, services)
        env = {"MILLSTREAM_MQTT": services.broker.url, "MILLSTREAM_DATABASE": services.database.database(DATABASE)}
        self._millstream = Millstream(folder, HERE / "car_line.yaml", env=env)
        self.dashboard = self._millstream.url.replace("http", "ws", 1) + "/ws/dashboard"

    def start(self, within: float = READY) -> None:
        self._millstream.start(within)

    @property
    def pid(self) -> int:
        return self._millstream.pid

    def output(self) -> str:
        return self._millstream.output()

    def kill(self) -> None:
        self._millstream.power_cut()


class ByHand(Contestant):
    """The script that was written for this work alone."""

    title = "by hand"

    def start(self, within: float = READY) -> None:
        self.make_tables(", UNIQUE (n)")
        super().start(within)

    def command(self) -> list[str]:
        ports = (self.services.broker.port, self.services.database.port, self.port)
        return [sys.executable, str(HERE / "by_hand.py"), *map(str, ports), str(self.folder)]

    def ready(self) -> bool:
        return accepts(self.port)


class NodeRed(Contestant):
    """Node-RED with a flow of node_red/."""

    flow = ""

    def start(self, within: float = READY) -> None:
        self.make_tables()
        shutil.copy(NODE_RED / f"{self.flow}.json", self.folder / "flows.json")
        credentials = {"database": {"user": "millstream", "password": "secret"}}
        (self.folder / "flows_cred.json").write_bytes(msgspec.json.encode(credentials))
        super().start(within)

    def command(self) -> list[str]:
        modules = NODE_RED / "node_modules"
        node = next(iter(modules.glob("node-linux-*/bin/node")), "node")
        arguments = ["--userDir", self.folder, "--settings", NODE_RED / "settings.js"]
        return list(map(str, [node, modules / "node-red/red.js", *arguments]))

    def environment(self) -> dict[str, str]:
        ports = {"BENCH_MQTT_PORT": self.services.broker.port, "BENCH_DATABASE_PORT": self.services.database.port}
        ports |= {"BENCH_PORT": self.port}
        return {**os.environ, "NODE_ENV": "production"} | {name: str(port) for name, port in ports.items()}

    def ready(self) -> bool:
        return "Connected to broker" in self.output() and accepts(self.port)


class NodeRedOne(NodeRed):
    """One INSERT a message, as its users write it."""

    title, flow = "Node-RED, one INSERT", "one_insert"


class NodeRedBatched(NodeRed):
    """An INSERT for 500 rows, or for those of 100 ms."""

    title, flow = "Node-RED, batched", "batched"


CONTESTANTS: tuple[type[Contestant], ...] = (MillstreamRuns, NodeRedOne, NodeRedBatched, ByHand)
