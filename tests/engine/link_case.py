"""What the tests of the link share: a gateway that records, a worker's client that runs, and waiting with a bound."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

from engine.frames import Answer, Push, Report, Tapped
from engine.link import LinkClient
from engine.link_server import LinkServer

TOKEN = "token of the tests"


class Gateway:
    """Records what workers send. `hold` keeps batches from being handled; `fail` fails that many of them."""

    def __init__(self) -> None:
        self.heard: list[tuple[str, Any]] = []
        self.states: list[tuple[str, bool]] = []
        self.marked = (0, 0)
        self.hold, self.fail = asyncio.Event(), 0
        self.hold.set()

    def mark(self, flow: str) -> tuple[int, int]:
        if flow == "unknown":
            raise KeyError(flow)
        return self.marked

    async def on_push(self, flow: str, pushes: list[Push]) -> None:
        await self.hold.wait()
        if self.fail:
            self.fail -= 1
            raise OSError("the disk of the channels is full")
        self.heard += [(flow, push) for push in pushes]

    def on_answer(self, flow: str, answers: list[Answer]) -> None:
        self.heard += [(flow, answer) for answer in answers]

    def on_used(self, flow: str, offset: int) -> None:
        self.heard.append((flow, offset))

    def on_report(self, flow: str, report: Report) -> None:
        self.heard.append((flow, report))

    def on_tapped(self, flow: str, tapped: Tapped) -> None:
        self.heard.append((flow, tapped))

    def on_state(self, flow: str, connected: bool) -> None:
        self.states.append((flow, connected))

    def pushed(self) -> list[bytes]:
        """Return the ids of the pushes, in order, without those that came again."""
        return list(dict.fromkeys(item.id for _, item in self.heard if isinstance(item, Push)))


@contextlib.asynccontextmanager
async def serving(path: Path, gateway: Gateway) -> AsyncIterator[LinkServer]:
    """Serve the link."""
    server = LinkServer(path, TOKEN, gateway)
    await server.open()
    try:
        yield server
    finally:
        gateway.hold.set()
        await server.close()


@contextlib.asynccontextmanager
async def linked(path: Path, flow: str = "flow", token: str = TOKEN, **options: Any) -> AsyncIterator[LinkClient]:
    """Run a worker's client."""
    client = LinkClient(path, flow, token, **options)
    task = asyncio.create_task(client.run())
    try:
        yield client
    finally:
        task.cancel()
        await asyncio.wait([task])


async def until(condition: Callable[[], object], within: float = 10) -> None:
    """Wait until the condition holds."""
    async with asyncio.timeout(within):
        while not condition():  # noqa: ASYNC110 - conditions of any kind
            await asyncio.sleep(0.005)


def push(number: int, size: int = 2) -> Push:
    return Push("dashboard", "stats", b"%d" % number, b"x" * size)
