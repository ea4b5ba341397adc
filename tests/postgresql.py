"""A PostgreSQL server from the distribution's binaries; as root it runs as the user `postgres`, as it must."""

import asyncio
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import asyncpg
import psutil

from tests.process import LOCALHOST, Server, free_port

USER = "postgres"
PLACES = "/usr/lib/postgresql"


class PostgreSQL(Server):
    """A PostgreSQL with the empty database `smart_factory` and the user `millstream`, who may make databases.

    Its data lie in a folder of their own below /tmp, which the user it runs as can reach; `remove` deletes them. Without
    `fsync` it keeps what it has committed over `kill`, not over the end of the machine, and stops quickly.
    """

    def __init__(self, folder: Path, *, fsync: bool = False) -> None:
        super().__init__(folder)
        self.port = free_port()
        self._fsync = fsync
        self._home = Path(tempfile.mkdtemp(prefix="postgresql-"))
        self._data = self._home / "data"
        self.url = self._url("smart_factory")
        if os.geteuid() == 0:
            user = pwd.getpwnam(USER)
            os.chown(self._home, user.pw_uid, user.pw_gid)

    def command(self) -> list[str]:
        settings = {
            "listen_addresses": LOCALHOST, "port": self.port, "unix_socket_directories": self._home,
            "shared_buffers": "64MB", "max_connections": 100, "fsync": "on" if self._fsync else "off",
        }  # fmt: skip
        return [*_as_user(), _program("postgres"), "-D", str(self._data), *(f"--{k}={v}" for k, v in settings.items())]

    def ready(self) -> bool:
        try:
            self.execute("SELECT 1", database="postgres")
        except (OSError, asyncpg.PostgresError):
            return False
        return True

    def install(self) -> None:
        """Lay the server's own files into its data folder, with a user who may do everything in it."""
        secret = self._home / "password"
        secret.write_text("secret\n")
        secret.chmod(0o644)
        command = [*_as_user(), _program("initdb"), "-D", str(self._data), "--no-sync", "--encoding=UTF8"]
        command += ["--locale=C.UTF-8", "--username=millstream", "--auth=scram-sha-256", f"--pwfile={secret}"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, cwd="/")
        assert done.returncode == 0, done.stdout + done.stderr

    def start(self, within: float = 30) -> None:
        first = not self._process
        super().start(within)
        if first:
            self.execute("CREATE DATABASE smart_factory", database="postgres")

    def stop(self) -> int | None:
        """Ask it to end at once, whoever is connected (SIGINT: SIGTERM would wait for them)."""
        return self._end(signal.SIGINT)

    def kill(self) -> None:
        """End it and its processes as `kill -9` does; a server whose children live on cannot be started again."""
        children = psutil.Process(self.pid).children(recursive=True) if self.running() else []
        super().kill()
        for child in children:
            with suppress(psutil.NoSuchProcess):
                child.kill()
        psutil.wait_procs(children, timeout=15)

    def remove(self) -> None:
        """Delete its data."""
        shutil.rmtree(self._home, ignore_errors=True)

    def database(self, name: str) -> str:
        """Make an empty database of this name (dropping an older one) and return its URL."""
        assert name.isidentifier(), name
        self.execute(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)', database="postgres")
        self.execute(f'CREATE DATABASE "{name}"', database="postgres")
        return self._url(name)

    def execute(self, *statements: str, database: str = "smart_factory") -> list[tuple[Any, ...]]:
        """Run statements as `millstream` and return the last one's rows."""
        return asked(self._url(database), *statements)

    def _url(self, database: str) -> str:
        return f"postgresql+asyncpg://millstream:secret@{LOCALHOST}:{self.port}/{database}"


def asked(url: str, *statements: str, values: Sequence[object] = ()) -> list[tuple[Any, ...]]:
    """Run statements, the last one with values for $1, $2, …, by a connection of its own; return its rows."""

    async def run() -> list[tuple[Any, ...]]:
        connection = await asyncpg.connect(url.replace("+asyncpg", ""))
        try:
            for statement in statements[:-1]:
                await connection.execute(statement)
            return [tuple(row) for row in await connection.fetch(statements[-1], *values)]
        finally:
            await connection.close()

    with ThreadPoolExecutor(1) as thread:  # a test may have a loop of its own
        return thread.submit(asyncio.run, run()).result()


def _as_user() -> list[str]:
    return ["setpriv", f"--reuid={USER}", f"--regid={USER}", "--init-groups"] if os.geteuid() == 0 else []


def _program(name: str) -> str:
    """Return a program of the newest version that is installed; Debian keeps them out of the search path."""
    if on_path := shutil.which(name):
        return on_path
    found = sorted(Path(PLACES).glob(f"*/bin/{name}"), key=lambda path: int(path.parts[-3]))
    if not found:
        raise FileNotFoundError(f"{name} is not installed; `make test` installs it")
    return str(found[-1])
