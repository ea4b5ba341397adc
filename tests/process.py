"""Processes that tests start: free ports, waiting with a bound, and a server that is ended by its pid."""

from __future__ import annotations

import os
import random
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).parent.parent
LOCALHOST = "127.0.0.1"

_handed_out: set[int] = set()


UNSAFE = frozenset({10_080})
"""Ports in our range to which browsers do not connect (the Fetch standard's "bad ports")."""


def free_port() -> int:
    """Return a TCP port of 127.0.0.1 that nothing listens on, never the same one twice in a process.

    It lies below Linux's ephemeral range: there an outgoing connection could take the port while its server is down,
    and a client that retries could even connect to itself.
    """
    while True:
        port = random.SystemRandom().randrange(10_000, 32_000)
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if port not in _handed_out | UNSAFE and _binds(probe, port):
                _handed_out.add(port)
                return port


def _binds(probe: socket.socket, port: int) -> bool:
    try:
        probe.bind((LOCALHOST, port))
    except OSError:
        return False
    return True


def accepts(port: int) -> bool:
    """Tell whether something accepts connections on the port of 127.0.0.1."""
    try:
        socket.create_connection((LOCALHOST, port), timeout=2).close()
    except OSError:
        return False
    return True


def wait_until(condition: Callable[[], object], what: str, within: float = 30) -> None:
    """Wait for a condition to hold, at most `within` seconds; else raise AssertionError, which names `what`."""
    end = time.monotonic() + within
    while not condition():
        assert time.monotonic() < end, f"waited {within:g} s in vain: {what}"
        time.sleep(0.02)


def binary(*names: str) -> str:
    """Return the path of the first of these programs that the machine has."""
    path = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/sbin"])
    for name in names:
        if found := shutil.which(name, path=path):
            return found
    raise FileNotFoundError(f"{names[0]} is not installed; `make test` installs it")


class Server:
    """A subprocess that the tests own: started and ended by its pid, its output kept in a file."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._log = folder / "output.log"
        self._process: subprocess.Popen[bytes] | None = None

    def command(self) -> list[str]:
        raise NotImplementedError

    def environment(self) -> dict[str, str]:
        return dict(os.environ)

    def ready(self) -> bool:
        raise NotImplementedError

    @property
    def pid(self) -> int:
        assert self._process is not None, "not started"
        return self._process.pid

    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def start(self, within: float = 30) -> None:
        """Start it unless it runs, and wait at most `within` seconds until it is ready."""
        if self.running():
            return
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                self.command(), cwd=ROOT, env=self.environment(), stdout=log, stderr=log, stdin=subprocess.DEVNULL
            )
        try:
            wait_until(lambda: self.ready() or not self.running(), f"{type(self).__name__} is ready", within)
            assert self.running(), f"{type(self).__name__} ended with {self._process.returncode} before it was ready"
        except AssertionError as error:
            self.kill()
            raise AssertionError(f"{error}; its output:\n{self.output()}") from None

    def stop(self) -> int | None:
        """Ask it to end (SIGTERM), wait at most 15 s, and return its exit code."""
        return self._end(signal.SIGTERM)

    def kill(self) -> None:
        """End it as `kill -9` does."""
        self._end(signal.SIGKILL)

    def output(self) -> str:
        """Return all that it has written to stdout and stderr, over all its starts."""
        return self._log.read_text(errors="replace") if self._log.exists() else ""

    def _end(self, how: signal.Signals) -> int | None:
        if self._process is None:
            return None
        self._process.send_signal(how)
        return self._process.wait(timeout=15)
