"""Real servers for tests, from the distribution's binaries: on free ports of 127.0.0.1, in temporary folders.

The session's servers live as long as the pytest process (under xdist each worker process has its own). A test may stop,
kill and start one: after every test, those that are down are started again.
"""

import getpass
import json
import os
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

import pymysql
import pytest

from tests.millstream_process import Millstream, MillstreamFactory, millstream_process
from tests.postgresql import PostgreSQL
from tests.process import LOCALHOST, ROOT, Server, accepts, binary, free_port, wait_until

__all__ = [
    "Chromium",
    "MariaDB",
    "Millstream",
    "MillstreamFactory",
    "Mosquitto",
    "Node",
    "PostgreSQL",
    "Server",
    "accepts",
    "free_port",
    "millstream_process",
    "wait_until",
]

BROWSER = ROOT / "tests" / "browser"


class Mosquitto(Server):
    """A broker that speaks MQTT 3.1.1 and 5 and keeps persistent sessions over a restart.

    `stop` saves everything; of what came in the last second before a `kill` Mosquitto itself forgets.
    """

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.port = free_port()
        self.url = f"mqtt://{LOCALHOST}:{self.port}"
        lines = [
            f"listener {self.port} {LOCALHOST}",
            f"user {getpass.getuser()}",
            "allow_anonymous true",
            "persistence true",
            f"persistence_location {folder}/",
            "autosave_interval 1",
            "max_inflight_messages 1000",
            "max_queued_messages 0",
            "set_tcp_nodelay true",
        ]
        (folder / "mosquitto.conf").write_text("\n".join(lines) + "\n")

    def command(self) -> list[str]:
        return [binary("mosquitto"), "-c", str(self.folder / "mosquitto.conf")]

    def ready(self) -> bool:
        return accepts(self.port)


class MariaDB(Server):
    """A MariaDB with the empty database `smart_factory` and the user `millstream`, who may do everything."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.port = free_port()
        self.url = self._url("smart_factory")
        self._data = folder / "data"
        self._grants = folder / "grants.sql"
        self._grants.write_text(
            "CREATE DATABASE IF NOT EXISTS smart_factory;\n"
            "CREATE USER IF NOT EXISTS millstream@'%' IDENTIFIED BY 'secret';\n"
            "GRANT ALL ON *.* TO millstream@'%';\n"
        )

    def command(self) -> list[str]:
        # The socket is relative to the data folder: an absolute path could pass the 107 characters it may have.
        return [
            binary("mariadbd"),
            "--no-defaults",
            f"--user={getpass.getuser()}",
            f"--datadir={self._data}",
            f"--init-file={self._grants}",
            f"--bind-address={LOCALHOST}",
            f"--port={self.port}",
            "--socket=mariadb.sock",
            "--pid-file=mariadb.pid",
            "--skip-name-resolve",
            "--performance-schema=OFF",
            "--character-set-server=utf8mb4",
            "--innodb-buffer-pool-size=64M",
            "--innodb-log-file-size=32M",
        ]

    def ready(self) -> bool:
        try:
            self.execute("SELECT 1")
        except pymysql.err.OperationalError:
            return False
        return True

    def install(self) -> None:
        """Lay the server's own tables into its data folder."""
        command = [binary("mariadb-install-db"), "--no-defaults", f"--datadir={self._data}", "--skip-test-db"]
        command += [f"--user={getpass.getuser()}", "--auth-root-authentication-method=normal"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stdout + done.stderr

    def database(self, name: str) -> str:
        """Make an empty database of this name (dropping an older one) and return its URL."""
        assert name.isidentifier(), name
        self.execute(f"DROP DATABASE IF EXISTS `{name}`", f"CREATE DATABASE `{name}`")
        return self._url(name)

    def execute(self, *statements: str) -> list[tuple[object, ...]]:
        """Run statements as `millstream` and return the last one's rows."""
        connection = pymysql.connect(
            host=LOCALHOST, port=self.port, user="millstream", password="secret", autocommit=True
        )
        with connection, connection.cursor() as cursor:
            for statement in statements:
                cursor.execute(statement)
            return list(cursor.fetchall())

    def _url(self, database: str) -> str:
        return f"mysql+aiomysql://millstream:secret@{LOCALHOST}:{self.port}/{database}"


class Chromium:
    """The distribution's browser: its path, and the flags that let it run without a screen and as root."""

    flags = (
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-background-networking",
        "--disable-dev-shm-usage",
    )

    def __init__(self) -> None:
        self.path = binary("chromium", "chromium-browser", "google-chrome")

    def command(self, profile: Path, *arguments: str) -> list[str]:
        """Return a command line; `profile` is a folder of its own."""
        return [self.path, *self.flags, f"--user-data-dir={profile}", *arguments]


class Node:
    """Runs the scripts of tests/browser; those find the browser by `launch` of launch.mjs."""

    def __init__(self, chromium: Chromium) -> None:
        self.path = binary("node", "nodejs")
        self._environment = {"CHROMIUM": chromium.path, "CHROMIUM_FLAGS": json.dumps(chromium.flags)}
        if not (BROWSER / "node_modules").is_dir():
            raise FileNotFoundError("tests/browser/node_modules is missing; `make test` installs it")

    def run(self, script: str, *arguments: str, within: float = 60) -> str:
        """Run tests/browser/SCRIPT within so many seconds; return its stdout, else raise with its stderr."""
        done = subprocess.run(
            [self.path, script, *arguments],
            cwd=BROWSER, env=os.environ | self._environment, capture_output=True, text=True, timeout=within,
        )  # fmt: skip
        assert done.returncode == 0, f"{script} ended with {done.returncode}:\n{done.stdout}{done.stderr}"
        return done.stdout


@pytest.fixture(scope="session")
def session_servers() -> Iterator[list[Server]]:
    servers: list[Server] = []
    yield servers
    for server in servers:
        server.stop()


@pytest.fixture(autouse=True)
def servers_up_again(session_servers: Sequence[Server]) -> Iterator[None]:
    yield
    for server in session_servers:
        server.start()


@pytest.fixture(scope="session")
def mosquitto(tmp_path_factory: pytest.TempPathFactory, session_servers: list[Server]) -> Mosquitto:
    """A running Mosquitto, shared by the session."""
    broker = Mosquitto(tmp_path_factory.mktemp("mosquitto"))
    session_servers.append(broker)
    broker.start()
    return broker


@pytest.fixture(scope="session")
def mariadb(tmp_path_factory: pytest.TempPathFactory, session_servers: list[Server]) -> MariaDB:
    """A running MariaDB, shared by the session: ask it for a database of your own."""
    server = MariaDB(tmp_path_factory.mktemp("mariadb"))
    server.install()
    session_servers.append(server)
    server.start()
    return server


@pytest.fixture(scope="session")
def postgresql(tmp_path_factory: pytest.TempPathFactory, session_servers: list[Server]) -> Iterator[PostgreSQL]:
    """A running PostgreSQL, shared by the session: ask it for a database of your own."""
    server = PostgreSQL(tmp_path_factory.mktemp("postgresql"))
    server.install()
    session_servers.append(server)
    server.start()
    yield server
    server.stop()
    server.remove()


@pytest.fixture(scope="session")
def chromium() -> Chromium:
    """The browser's path and flags."""
    return Chromium()


@pytest.fixture(scope="session")
def node(chromium: Chromium) -> Node:
    """Runs scripts of tests/browser."""
    return Node(chromium)
