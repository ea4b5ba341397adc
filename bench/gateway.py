"""A real Millstream for a bench: its flow, its processes, and the processor time that its gateway takes."""

import json
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

from tests.millstream_process import Millstream


class Gateway:
    """A Millstream that runs one flow."""

    def __init__(self, process: Millstream) -> None:
        self.process, self.port = process, process.port
        self._own = psutil.Process(process.pid)

    def cpu(self) -> float:
        """Return the seconds of processor time that the gateway has taken, its threads and the kernel's part in it."""
        times = self._own.cpu_times()
        return times.user + times.system

    def memory(self) -> int:
        """Return the gateway's resident memory in bytes."""
        return int(self._own.memory_info().rss)

    def token(self) -> str:
        """Return a token of the administrator."""
        body = json.dumps({"username": "admin", "password": self.process.password}).encode()
        request = urllib.request.Request(f"{self.process.url}/auth/login", body, {"Content-Type": "application/json"})  # noqa: S310 - ours
        with urllib.request.urlopen(request, timeout=10) as answer:  # noqa: S310 - ours
            return str(json.load(answer)["access_token"])


@contextmanager
def gateway(flow: str, env: dict[str, str] | None = None) -> Iterator[Gateway]:
    """Start Millstream with a flow given as text, and end it."""
    with tempfile.TemporaryDirectory(prefix="bench-") as name:
        path = Path(name) / "flow.yaml"
        path.write_text(flow)
        with Millstream(Path(name), path, env=env) as process:
            yield Gateway(process)


class Stretch:
    """What the gateway took between two moments: `seconds` on the wall and `cpu`."""

    def __init__(self, site: Gateway) -> None:
        self._site = site
        self._began, self._cpu = time.perf_counter(), site.cpu()
        self.seconds = self.cpu = 0.0

    def end(self) -> "Stretch":
        """Stop the clocks."""
        self.seconds, self.cpu = time.perf_counter() - self._began, self._site.cpu() - self._cpu
        return self
