"""Millstream itself as a process, seen from outside."""

from __future__ import annotations

import contextlib
import http.client
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Protocol

import psutil
import pytest

from tests.process import LOCALHOST, Server, free_port, wait_until


class Millstream(Server):
    """`millstream run PATH…` as operations run it: real processes, a data folder and ports of its own.

    `env` adds variables and overrides ours; settings of the machine's own Millstream (MILLSTREAM_*) are not passed on.
    Starting it again continues with the same data folder and ports. Leaving the context kills whatever still runs.
    """

    password = "administrator of a test"

    def __init__(self, folder: Path, *paths: str | Path, env: Mapping[str, str] | None = None) -> None:
        super().__init__(folder)
        self.paths = [str(path) for path in paths]
        self.port = free_port()
        self.broker_port = free_port()
        self.url = f"http://{LOCALHOST}:{self.port}"
        self.data = folder / "data"
        self._env = dict(env or {})

    def command(self) -> list[str]:
        return [sys.executable, "-m", "millstream", "run", *self.paths]

    def environment(self) -> dict[str, str]:
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("MILLSTREAM_")}
        ours = {
            "MILLSTREAM_DATA": str(self.data),
            "MILLSTREAM_HOST": LOCALHOST,
            "MILLSTREAM_PORT": str(self.port),
            "MILLSTREAM_BROKER_PORT": str(self.broker_port),
            "MILLSTREAM_ADMIN_PASSWORD": self.password,
        }
        return inherited | ours | self._env

    def ready(self) -> bool:
        return self.health() == 200

    def health(self) -> int | None:
        """Return the status of GET /health, or None while nothing answers."""
        connection = http.client.HTTPConnection(LOCALHOST, self.port, timeout=2)
        try:
            connection.request("GET", "/health")
            return connection.getresponse().status
        except (OSError, http.client.HTTPException):
            return None
        finally:
            connection.close()

    def worker_pids(self) -> list[int]:
        """Return the pids of the flows' worker processes."""
        pids = []
        for process in self._processes():
            with contextlib.suppress(psutil.Error):
                if "worker" in process.cmdline():
                    pids.append(process.pid)
        return pids

    def stop(self) -> int | None:
        """Stop it gracefully; raise AssertionError unless it ends with 0 within 15 s and leaves no process behind."""
        try:
            code = super().stop()
        except subprocess.TimeoutExpired:
            raise AssertionError(f"still running 15 s after SIGTERM; its output:\n{self.output()}") from None
        assert code in (0, None), f"ended with {code} after SIGTERM; its output:\n{self.output()}"
        left = [process.cmdline() for process in self._processes()]
        assert not left, f"left behind: {left}"
        return code

    def power_cut(self) -> None:
        """Kill the gateway and all its children at once."""
        for process in self._processes():
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        self.kill()
        wait_until(lambda: not self._processes(), "every process is gone", within=15)

    def _processes(self) -> list[psutil.Process]:
        """Every process that has our data folder: a worker whose gateway was killed is nobody's child any more."""
        return [process for process in psutil.process_iter() if self._is_ours(process)]

    def _is_ours(self, process: psutil.Process) -> bool:
        try:
            return process.environ().get("MILLSTREAM_DATA") == str(self.data) and process.status() != "zombie"
        except psutil.Error:
            return False

    def __enter__(self) -> Millstream:
        try:
            self.start()
        except BaseException:
            self.power_cut()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.power_cut()


class MillstreamFactory(Protocol):
    def __call__(self, *paths: str | Path, env: Mapping[str, str] | None = None) -> Millstream: ...


@pytest.fixture
def millstream_process(tmp_path: Path) -> Iterator[MillstreamFactory]:
    """Start Millstream with the paths given; what still runs when the test ends is killed."""
    started: list[Millstream] = []

    def start(*paths: str | Path, env: Mapping[str, str] | None = None) -> Millstream:
        folder = tmp_path / f"millstream{len(started)}"
        folder.mkdir()
        started.append(Millstream(folder, *paths, env=env))
        started[-1].start()
        return started[-1]

    yield start
    for process in started:
        process.power_cut()
