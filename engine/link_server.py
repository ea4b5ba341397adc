"""The gateway's side of the link: workers connect to a Unix socket, push, answer and report; commits wake them."""

import asyncio
import hmac
import os
import socket
from collections import deque
from collections.abc import Awaitable
from pathlib import Path
from typing import Any, Protocol

import structlog
from websockets.asyncio.server import Server, ServerConnection, unix_serve
from websockets.exceptions import ConnectionClosed

from engine.errors import EnvironmentFault
from engine.frames import (
    FRAME_LIMIT,
    REFUSED,
    REPLACED,
    Ack,
    Answer,
    AskMark,
    Batch,
    Downward,
    FrameInvalid,
    Hello,
    Mark,
    Push,
    Report,
    Tap,
    Tapped,
    Upward,
    Used,
    Wake,
    decode_upward,
    encode,
)

HELLO_TIMEOUT = 10.0  # seconds
log = structlog.get_logger()


class LinkHandlers(Protocol):
    """What the gateway does with what workers send; all are called on the loop, in the order of sending.

    A batch is acknowledged when what `on_push` and `on_answer` return is done, and so for all before it; meanwhile they
    are called with the next ones. When one raises, the link is closed and the worker sends again what was not
    acknowledged: they are called again with the same ids.
    """

    def mark(self, flow: str) -> tuple[int, int]:
        """Return (head, time) as InboxWriter.mark; raises KeyError when there is no such flow."""

    def on_push(self, flow: str, pushes: list[Push]) -> Awaitable[None] | None:
        """Take channel events."""

    def on_answer(self, flow: str, answers: list[Answer]) -> Awaitable[None] | None:
        """Take answers to requests."""

    def on_used(self, flow: str, offset: int) -> None:
        """Take note that the inbox may be trimmed up to `offset`."""

    def on_report(self, flow: str, report: Report) -> None:
        """Take a worker's counters."""

    def on_tapped(self, flow: str, tapped: Tapped) -> None:
        """Take what passed the wires that are tapped."""

    def on_state(self, flow: str, connected: bool) -> None:
        """Take note that the flow's worker is linked, or is not any more."""


class Link:
    """One worker's connection. What is to be sent to it waits in a place for each kind, where the latest wins."""

    def __init__(self, connection: ServerConnection, flow: str) -> None:
        self.connection, self.flow = connection, flow
        self._pending: dict[type[Downward], Downward] = {}
        self._ready = asyncio.Event()
        self._handled: deque[tuple[int, asyncio.Future[Any] | None]] = deque()
        self._ending: asyncio.Task[None] | None = None

    def put(self, frame: Downward) -> None:
        """Send a frame soon, in place of one of its kind that has not been sent yet."""
        self._pending[type(frame)] = frame
        self._ready.set()

    def acknowledge(self, n: int, work: "asyncio.Future[Any] | None") -> None:
        """Acknowledge a batch when the work is done, and that of all before it."""
        self._handled.append((n, work))
        if work is None:
            self._settle()
        else:
            work.add_done_callback(lambda _: self._settle())

    def _settle(self) -> None:
        while self._handled and self._ending is None:
            n, work = self._handled[0]
            if work is not None and not work.done():
                return
            self._handled.popleft()
            if work is not None and not work.cancelled() and (fault := work.exception()):
                log.error("link closed: a frame could not be handled", flow=self.flow, exc_info=fault)
                self._ending = asyncio.ensure_future(self.connection.close(1011, "not handled"))
            elif work is None or not work.cancelled():
                self.put(Ack(n))

    async def send(self) -> None:
        """Send until the connection ends."""
        try:
            while True:
                await self._ready.wait()
                self._ready.clear()
                pending, self._pending = self._pending, {}
                for frame in pending.values():
                    await self.connection.send(encode(frame))
        except ConnectionClosed:
            return


class LinkServer:
    """Serves the link at `path` (mode 0600); who connects has to know `token`. One link a flow: a new one replaces."""

    def __init__(self, path: Path, token: str, handlers: LinkHandlers) -> None:
        self._path, self._token, self._handlers = path, token, handlers
        self._links: dict[str, Link] = {}
        self._server: Server | None = None
        self._closing: set[asyncio.Task[None]] = set()

    async def open(self) -> None:
        """Listen; raises EnvironmentFault when the socket cannot be made."""
        self._server = await unix_serve(
            self._serve,
            sock=_listening(self._path),
            compression=None,
            max_size=FRAME_LIMIT,
            max_queue=4,
            ping_interval=None,  # the kernel tells when a process on this host has gone; a busy one is not gone
            server_header=None,
        )

    async def close(self) -> None:
        """Close all links and the socket; one that was never opened is no error."""
        if self._server is None:
            return
        self._server.close()
        await self._server.wait_closed()
        self._path.unlink(missing_ok=True)

    def connected(self, flow: str) -> bool:
        """Tell whether the flow's worker is linked."""
        return flow in self._links

    def wake(self, flow: str, head: int, time: int) -> None:
        """Tell the flow's worker that its inbox was committed; at most one such frame waits. On the loop."""
        if link := self._links.get(flow):
            link.put(Wake(head, time))

    def tap(self, flow: str, wires: list[str]) -> None:
        """Let the flow's worker, if one is linked, tap these wires and no others. On the loop."""
        if link := self._links.get(flow):
            link.put(Tap(wires))

    async def _serve(self, connection: ServerConnection) -> None:
        flow = await self._greeted(connection)
        if flow is None:
            return
        link = self._enter(connection, flow)
        sender = asyncio.create_task(link.send())
        try:
            await self._receive(link)
        finally:
            sender.cancel()
            if self._links.get(flow) is link:
                del self._links[flow]
                self._handlers.on_state(flow, False)

    async def _greeted(self, connection: ServerConnection) -> str | None:
        """Return the flow of a worker that says who it is and knows the token; else close and return None."""
        try:
            async with asyncio.timeout(HELLO_TIMEOUT):
                hello = decode_upward(await connection.recv())
        except (ConnectionClosed, TimeoutError, FrameInvalid) as fault:
            await _refuse(connection, 1002, f"no hello: {fault}")
            return None
        if not isinstance(hello, Hello) or not hmac.compare_digest(hello.token.encode(), self._token.encode()):
            await _refuse(connection, REFUSED, "expected a hello with the token of this gateway")
            return None
        try:
            wake = Wake(*self._handlers.mark(hello.flow))
        except KeyError:
            await _refuse(connection, 1013, f"no flow '{hello.flow}' here")
            return None
        try:
            await connection.send(encode(wake))
        except ConnectionClosed:
            return None
        return hello.flow

    def _enter(self, connection: ServerConnection, flow: str) -> Link:
        old, link = self._links.get(flow), Link(connection, flow)
        self._links[flow] = link
        if old:
            log.warning("a new link replaces the old one", flow=flow)
            task = asyncio.create_task(old.connection.close(REPLACED, "another worker has linked for this flow"))
            self._closing.add(task)
            task.add_done_callback(self._closing.discard)
        link.put(Wake(*self._handlers.mark(flow)))  # a commit may have come while the greeting was sent
        self._handlers.on_state(flow, True)
        return link

    async def _receive(self, link: Link) -> None:
        try:
            async for message in link.connection:
                if self._links.get(link.flow) is not link:
                    return
                self._handle(link, decode_upward(message))
        except ConnectionClosed:
            return
        except FrameInvalid as fault:
            log.warning("link closed: malformed frame", flow=link.flow, reason=str(fault))
            await link.connection.close(1007, "malformed frame")
        except Exception:
            log.exception("link closed: a frame could not be handled", flow=link.flow)
            await link.connection.close(1011, "not handled")

    def _handle(self, link: Link, frame: Upward) -> None:
        match frame:
            case Batch():
                self._handle_batch(link, frame)
            case Used():
                self._handlers.on_used(link.flow, frame.offset)
            case Report():
                self._handlers.on_report(link.flow, frame)
            case Tapped():
                self._handlers.on_tapped(link.flow, frame)
            case AskMark():
                link.put(Mark(*self._handlers.mark(link.flow)))
            case Hello():
                raise FrameInvalid("a second hello")

    def _handle_batch(self, link: Link, batch: Batch) -> None:
        pushes = [item for item in batch.items if isinstance(item, Push)]
        answers = [item for item in batch.items if isinstance(item, Answer)]
        given = [
            self._handlers.on_push(link.flow, pushes) if pushes else None,
            self._handlers.on_answer(link.flow, answers) if answers else None,
        ]
        pending = [work for work in given if work]
        link.acknowledge(batch.n, asyncio.gather(*pending) if pending else None)


async def _refuse(connection: ServerConnection, code: int, reason: str) -> None:
    log.warning("link refused", reason=reason)
    await connection.close(code, reason[:100])


def _listening(path: Path) -> socket.socket:
    """Return a socket that has mode 0600 from its first moment on."""
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    mask = os.umask(0o177)
    try:
        if path.is_socket():
            path.unlink()
        listening.bind(str(path))
    except OSError as fault:
        listening.close()
        raise EnvironmentFault(f"{path}: expected a place for the link's socket; got {fault}") from fault
    finally:
        os.umask(mask)
    return listening
