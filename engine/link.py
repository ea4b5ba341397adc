"""The worker's side of the link to the gateway: pushes and answers that are acknowledged, wake-ups and marks."""

import asyncio
import os
import threading
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec
import structlog
from websockets.asyncio.client import ClientConnection, unix_connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake

from engine.errors import EnvironmentFault, EventFault
from engine.frames import (
    FRAME_LIMIT,
    REFUSED,
    REPLACED,
    URI,
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
    decode_downward,
    encode,
)

BACK_OFF = (0.05, 1.0)  # seconds
FRAME_BYTES = 1 << 20
WINDOW = 8 << 20
ITEM_OVERHEAD = 64
log = structlog.get_logger()


class Waiting(msgspec.Struct):
    """An item that is not yet in a frame; `done` is there on the last one of a push."""

    item: Push | Answer
    size: int
    done: "asyncio.Future[None] | None" = None


class Sent(msgspec.Struct):
    """A frame that is not yet acknowledged, and who waits for that."""

    n: int
    message: bytes
    done: "list[asyncio.Future[None]]"


class LinkClient:
    """The link of one flow's worker. `run` on the loop; `used`, `report` and `ask_mark` from any thread.

    `on_wake(head, time)` and `on_mark(head, time)` are called on the loop, `on_wake` also with each new connection,
    `on_tap(wires)` with the wires to tap, none when the link ends; all may be set after the construction.
    `window` bounds the bytes that wait and those that are unacknowledged.
    """

    def __init__(
        self,
        path: Path,
        flow: str,
        token: str,
        *,
        on_wake: Callable[[int, int], None] = lambda head, time: None,
        on_mark: Callable[[int, int], None] = lambda head, time: None,
        window: int = WINDOW,
    ) -> None:
        self._path, self._flow, self._token, self._window = path, flow, token, window
        self.on_wake, self.on_mark = on_wake, on_mark
        self.on_tap: Callable[[list[str]], None] = lambda wires: None
        self.connected = False
        self._loop: asyncio.AbstractEventLoop | None = None
        self._ready, self._room = asyncio.Event(), asyncio.Event()
        self._room.set()
        self._waiting: deque[Waiting] = deque()
        self._unacknowledged: deque[Sent] = deque()
        self._waiting_bytes = self._sent_bytes = self._number = 0
        self._latest_lock = threading.Lock()
        self._latest: dict[type[Upward], Upward] = {}
        self._used: Used | None = None
        self._asked = False

    async def push(self, items: Sequence[Push | Answer]) -> None:
        """Return when the gateway has handled the items; waits as long as there is no room or no gateway.

        Raises EventFault when an item is larger than a frame can be.
        """
        waiting = [Waiting(item, _size(item)) for item in items]
        if not waiting:
            return
        while not self._room.is_set():
            await self._room.wait()
        done = waiting[-1].done = asyncio.get_running_loop().create_future()
        self._waiting += waiting
        self._waiting_bytes += sum([one.size for one in waiting])
        self._make_room()
        self._ready.set()
        await done

    async def answers(self, items: Sequence[Answer]) -> None:
        """Return when the gateway has the answers; as `push`, in one order with it."""
        await self.push(items)

    def used(self, offset: int) -> None:
        """Tell that everything up to `offset` is durable. Any thread; does not wait."""
        with self._latest_lock:
            self._used = self._latest[Used] = Used(offset)
        self._poke()

    def report(self, report: Report) -> None:
        """Send counters, in place of those that wait; lost when there is no link. Any thread."""
        with self._latest_lock:
            self._latest[Report] = report
        self._poke()

    def tapped(self, frame: Tapped) -> bool:
        """Send samples; False while there is no link or the last ones still wait: nothing is sent then. Any thread."""
        with self._latest_lock:
            if not self.connected or Tapped in self._latest:
                return False
            self._latest[Tapped] = frame
        self._poke()
        return True

    def ask_mark(self) -> None:
        """Ask for a call of `on_mark`; asked again on a new link until it has come. Any thread."""
        with self._latest_lock:
            self._asked, self._latest[AskMark] = True, AskMark()
        self._poke()

    def _poke(self) -> None:
        if self._loop:
            self._loop.call_soon_threadsafe(self._ready.set)

    async def run(self) -> None:
        """Keep the link up until cancelled.

        Raises EnvironmentFault when the gateway refuses the token or another worker has taken the flow's link.
        """
        self._loop = asyncio.get_running_loop()
        wait = BACK_OFF[0]
        while True:
            try:
                if await self._connect():
                    wait = BACK_OFF[0]
            except (OSError, InvalidHandshake, FrameInvalid) as fault:
                log.debug("no link", flow=self._flow, reason=str(fault))
            await asyncio.sleep(wait)
            wait = min(wait * 2, BACK_OFF[1])

    async def _connect(self) -> bool:
        """Connect and talk until the connection ends; True when the gateway had taken us."""
        linked = False
        async with unix_connect(
            str(self._path), URI, compression=None, max_size=FRAME_LIMIT, ping_interval=None, proxy=None
        ) as connection:
            try:
                await connection.send(encode(Hello(self._flow, self._token, os.getpid())))
                self._take(decode_downward(await connection.recv()))
                linked = self.connected = True
                await self._talk(connection)
            except ConnectionClosed as fault:
                self._check_end(connection.close_code, connection.close_reason, fault)
            finally:
                self.connected = False
                self.on_tap([])
        if linked:
            log.warning("link lost", flow=self._flow, code=connection.close_code)
        return linked

    def _check_end(self, code: int | None, reason: str | None, fault: ConnectionClosed) -> None:
        if code in (REFUSED, REPLACED):
            raise EnvironmentFault(f"link of '{self._flow}' at {self._path}: {reason}") from fault

    async def _talk(self, connection: ClientConnection) -> None:
        """Send and receive until one of them fails."""
        with self._latest_lock:
            if self._used:
                self._latest.setdefault(Used, self._used)
            if self._asked:
                self._latest[AskMark] = AskMark()
        tasks = [asyncio.create_task(self._send(connection)), asyncio.create_task(self._receive(connection))]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION)
        finally:
            for task in tasks:
                task.cancel()
            results = await asyncio.gather(*tasks, return_exceptions=True)
        faults = [fault for fault in results if isinstance(fault, Exception)]
        raise next((fault for fault in faults if not isinstance(fault, ConnectionClosed)), faults[0])

    async def _send(self, connection: ClientConnection) -> None:
        for sent in list(self._unacknowledged):
            await connection.send(sent.message)
        self._ready.set()
        while True:
            await self._ready.wait()
            self._ready.clear()
            with self._latest_lock:
                latest, self._latest = self._latest, {}
            for frame in latest.values():
                await connection.send(encode(frame))
            while self._waiting and self._sent_bytes < self._window:
                await connection.send(self._pack())

    def _pack(self) -> bytes:
        """Move what waits, up to a frame full, to the unacknowledged; return it as a message."""
        taken: list[Waiting] = []
        size = 0
        while self._waiting and (not taken or size + self._waiting[0].size <= FRAME_BYTES):
            taken.append(self._waiting.popleft())
            size += taken[-1].size
        self._number += 1
        message = encode(Batch(self._number, [one.item for one in taken]))
        self._unacknowledged.append(Sent(self._number, message, [one.done for one in taken if one.done]))
        self._sent_bytes += len(message)
        self._waiting_bytes -= size
        self._make_room()
        return message

    def _make_room(self) -> None:
        if self._waiting_bytes < self._window:
            self._room.set()
        else:
            self._room.clear()

    async def _receive(self, connection: ClientConnection) -> None:
        while True:
            self._take(decode_downward(await connection.recv()))

    def _take(self, frame: Downward) -> None:
        match frame:
            case Ack():
                self._acknowledged(frame.n)
            case Wake():
                self.on_wake(frame.head, frame.time)
            case Mark():
                self._asked = False
                self.on_mark(frame.head, frame.time)
            case Tap():
                self.on_tap(frame.wires)

    def _acknowledged(self, n: int) -> None:
        while self._unacknowledged and self._unacknowledged[0].n <= n:
            sent = self._unacknowledged.popleft()
            self._sent_bytes -= len(sent.message)
            for done in sent.done:
                if not done.done():
                    done.set_result(None)
        self._ready.set()


def _size(item: Push | Answer) -> int:
    size = len(item.body) + ITEM_OVERHEAD
    if isinstance(item, Push):
        size += len(item.channel) + len(item.event) + len(item.room)
    if size > FRAME_LIMIT // 2:
        raise EventFault(f"{size} bytes at once; the link takes at most {FRAME_LIMIT // 2}")
    return size
