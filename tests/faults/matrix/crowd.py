"""A thousand WebSocket clients, a process of their own: `python -m tests.faults.matrix.crowd SPEC`.

Says `{"connected": …}` when all are there, measures from the line `measure` on, and at `end` says what they have seen.
"""

from __future__ import annotations

import asyncio
import resource
import subprocess
import sys
import time
from pathlib import Path
from urllib.parse import urlsplit

import msgspec

from tests.faults.matrix.websocket import Listening, listen
from tests.process import ROOT, wait_until

AT_ONCE, SMALL = 50, 4096
SENT = b'"t":'


class Spec(msgspec.Struct):
    """How many clients read, and how many do not."""

    board: str
    reading: int
    not_reading: int


class Crowded(msgspec.Struct):
    """How many connected and how many are left, and how late frames were, in milliseconds."""

    connected: int = 0
    left: int = 0
    frames: int = 0
    median: float = 0.0
    late: float = 0.0


class Crowd:
    """All clients; `late` is the 99th percentile of the time from sending an event to seeing it."""

    def __init__(self, spec: Spec) -> None:
        parts = urlsplit(spec.board)
        self._place = (parts.hostname or "", parts.port or 80, parts.path)
        self._spec, self._delays, self._measuring = spec, list[float](), False
        self._reading: list[Listening] = []
        self._silent: list[Listening] = []

    async def connect(self) -> None:
        """Let everybody in."""
        for begin in range(0, self._spec.reading, AT_ONCE):
            some = min(AT_ONCE, self._spec.reading - begin)
            found = await asyncio.gather(*(listen(*self._place, self._take) for _ in range(some)))
            self._reading += [client for client in found if client is not None]
        for _ in range(self._spec.not_reading):
            client = await listen(*self._place, lambda _: None, SMALL)
            if client is not None:
                client.transport.pause_reading()
                self._silent.append(client)

    def _take(self, text: bytes) -> None:
        at = text.find(SENT) if self._measuring else -1
        if at > 0:
            sent = float(text[at + len(SENT) :].split(b",", 1)[0].rstrip(b"}"))
            self._delays.append(time.time() * 1000 - sent)

    def measure(self) -> None:
        """Begin to note delays."""
        self._measuring = True

    def found(self) -> Crowded:
        """Return what they have seen; of those who do not read nobody can tell whether they were cut."""
        delays = sorted(self._delays) or [0.0]
        return Crowded(
            connected=len(self._reading) + len(self._silent),
            left=sum(not client.lost.done() for client in self._reading),
            frames=len(self._delays),
            median=delays[len(delays) // 2],
            late=delays[len(delays) * 99 // 100],
        )


async def main() -> None:
    """Run as SPEC says."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(max(soft, 4096), hard), hard))
    crowd = Crowd(msgspec.json.decode(sys.argv[1], type=Spec))
    commands = asyncio.StreamReader()
    loop = asyncio.get_running_loop()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(commands), sys.stdin)
    await crowd.connect()
    _say(crowd.found())
    while (line := (await commands.readline()).strip()) and line != b"end":
        crowd.measure()
    _say(crowd.found())


def _say(found: Crowded) -> None:
    sys.stdout.buffer.write(msgspec.json.encode(found) + b"\n")
    sys.stdout.buffer.flush()


class CrowdProcess:
    """The process as the matrix sees it."""

    def __init__(self, spec: Spec, output: Path) -> None:
        self._output = output
        command = [sys.executable, "-m", "tests.faults.matrix.crowd", msgspec.json.encode(spec).decode()]
        with output.open("wb") as file:
            self._process = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=file)

    def __enter__(self) -> CrowdProcess:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait(10)
        if self._process.stdin is not None and not self._process.stdin.closed:
            self._process.stdin.close()

    def connected(self) -> Crowded:
        """Wait until everybody is in."""
        wait_until(lambda: self._lines() or self._process.poll() is not None, "all clients have connected", 60)
        return self._lines()[0]

    def measure(self) -> None:
        """Begin to note delays."""
        self._tell(b"measure\n")

    def end(self) -> Crowded:
        """End it and return what it has seen."""
        self._tell(b"end\n")
        self._process.wait(60)
        return self._lines()[-1]

    def _tell(self, command: bytes) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(command)
        self._process.stdin.flush()

    def _lines(self) -> list[Crowded]:
        return [msgspec.json.decode(line, type=Crowded) for line in self._output.read_bytes().splitlines()]


if __name__ == "__main__":
    asyncio.run(main())
