"""Ten dashboards: a process with WebSocket clients that note which defect came when."""

import array
import asyncio
import time
from multiprocessing.connection import Connection
from types import TracebackType
from urllib.parse import urlsplit

from bench.rivals.publisher import spawn
from tests.faults.matrix.websocket import listen

CLIENTS = 10
DEFECT, NUMBER = b"sensor_defect", b'"n":'
Seen = list[tuple[int, float]]


class Dashboards:
    """The process, as the bench sees it."""

    def __init__(self, url: str, count: int = CLIENTS) -> None:
        self._ours, theirs = spawn.Pipe()
        self._process = spawn.Process(target=_serve, args=(url, count, theirs), daemon=True)
        self._process.start()
        theirs.close()
        assert self._ours.recv() == "connected", f"{url} lets dashboards in"

    def take(self) -> Seen:
        """Return (number of the message, monotonic seconds) of all clients' defects since the last call."""
        self._ours.send("take")
        numbers, times = array.array("q"), array.array("d")
        numbers.frombytes(self._ours.recv_bytes())
        times.frombytes(self._ours.recv_bytes())
        return list(zip(numbers, times, strict=True))

    def __enter__(self) -> "Dashboards":
        return self

    def __exit__(self, kind: type[BaseException] | None, fault: BaseException | None, at: TracebackType | None) -> None:
        self._ours.close()
        self._process.join(5)
        self._process.kill()


class Seeing:
    """What the clients of this process have seen."""

    def __init__(self) -> None:
        self._clear()

    def _clear(self) -> None:
        self._numbers, self._times = array.array("q"), array.array("d")

    def on_text(self, text: bytes) -> None:
        """Note a defect."""
        if DEFECT in text:
            digits = text[text.index(NUMBER) + len(NUMBER) :].lstrip()
            self._numbers.append(int(digits[: next(at for at, c in enumerate(digits) if not 48 <= c <= 57)]))
            self._times.append(time.monotonic())

    def give(self, theirs: Connection) -> None:
        """Send what was seen, and begin anew."""
        theirs.send_bytes(self._numbers.tobytes())
        theirs.send_bytes(self._times.tobytes())
        self._clear()


def _serve(url: str, count: int, theirs: Connection) -> None:
    asyncio.run(_listen(url, count, theirs))


async def _listen(url: str, count: int, theirs: Connection) -> None:
    seeing, parts, ended = Seeing(), urlsplit(url), asyncio.Event()
    host, port = parts.hostname or "", parts.port or 80
    clients = [await listen(host, port, parts.path, seeing.on_text) for _ in range(count)]
    theirs.send("connected" if all(clients) else "refused")

    def on_command() -> None:
        try:
            theirs.recv()
            seeing.give(theirs)
        except (EOFError, ConnectionResetError):
            ended.set()

    asyncio.get_running_loop().add_reader(theirs.fileno(), on_command)
    await ended.wait()
