"""`websocket`: JSON that devices push over a connection that stays."""

import asyncio
from collections.abc import Iterable
from functools import partial
from hashlib import blake2b
from typing import Any, Literal

from pydantic import Field

from engine.api import (
    Arrivals,
    ClientSocket,
    Duration,
    EventFault,
    Example,
    Flow,
    Intake,
    KeyReused,
    Node,
    Pace,
    Problem,
    Rate,
    Reach,
    Refusal,
    Size,
    SocketSource,
    Unavailable,
    check_path,
    component,
    socket_frames,
)

AGAIN = 0.5
MOST_OPEN, MOST_OPEN_BYTES, MOST_ASKED, MOST_FAULTS = 256, 4 << 20, 64, 20
LONGEST_SESSION = 64
POLICY, TRY_LATER = 1008, 1013


@component("websocket")
class Websocket(SocketSource):
    """Take JSON objects that devices push over a WebSocket, each frame acknowledged when it is stored.

    A client sends text frames, one object or several, under a number of its own choice (a whole number or a text):

        {"id": 7, "data": {"temperature": 21.5}}
        {"id": 8, "data": [{"temperature": 21.6}, {"temperature": 21.7}]}

    and is told, for many frames at once where they come fast, up to which one all that it has sent on this connection
    is stored, or was refused; a frame that is refused has its own answer, and nothing of it is kept:

        {"ack": 8}
        {"id": 9, "error": {"code": "not_an_object", "message": "expected a JSON object; got a number"}}

    Without `id` there is no acknowledgement. With `reply: flow` a frame holds one object, and instead of the
    acknowledgement comes the flow's answer, or an error (`timeout`: it is stored; `unavailable`: it is not):

        {"id": 7, "status": 200, "reply": {"verdict": "OK"}}

    A client that connects with `?session=NAME` (its serial number, say) sends after a reconnect all that was not
    acknowledged once more under the same numbers: what is stored already is acknowledged, not stored again (known for
    a day, over any restart); another body under a number is the error `id_reused`. A device that forgets its numbers
    when it restarts takes a new session then. The token stands in the header (`Authorization`, `X-API-Key`) or in
    `?token=`.

    When the inbox is full, reading stops, and with it, in the end, the sender. Pings go out every 20 s; who does not
    answer within 20 s is cut. Close codes: 1008 too many bad frames, or a session that cannot be; 1009 a frame is too
    large; 1011 no answer to a ping; 1012 the gateway or the flow starts anew, 1013 the inbox cannot be written: come
    again; 4401, 4403 the token or its role does not do. Who is refused at the beginning gets HTTP 401, 403 or 404.
    `meta.account` is who sent it, `meta.params` are the parameters of the path, `meta.session` is the session.

    Delivery: in the durable inbox before the acknowledgement. With a session, exactly once as seen from outside;
    without one, what is sent again is stored again.
    """

    path: str
    """The path that clients connect to, such as `/devices` or `/lines/{line}/devices`."""
    allow: Literal["anyone", "viewer", "employee", "manager", "admin"] = "employee"
    """The least role that may send; or anyone."""
    reply: Literal["accepted", "flow"] = "accepted"
    """`accepted`: acknowledged after the commit; `flow`: what the flow answers."""
    timeout: Duration = Field(10_000_000, gt=0)
    """How long an answer of the flow is waited for."""
    largest: Size = Field(64 << 10, ge=16, le=16 << 20)
    """The largest frame."""
    at_most: Rate | None = None
    """The rate of frames of one connection, such as `100/s`: what is beyond it is read later; nothing is lost."""
    time: str | None = None
    """The field that carries the event's own time; default: the arrival counts."""

    shorthand = "path"
    guarantee = "at least once into the inbox, exactly once as seen from outside with a session"
    examples = (
        Example(
            about="Readings of devices, at most twenty frames a second from each.",
            config="websocket: {path: /devices, allow: viewer, at_most: 20/s}",
            given=[{"device": "a7", "temperature": 21.5}],
            expect=[{"device": "a7", "temperature": 21.5}],
        ),
        Example(
            about="A station asks and waits for the flow's verdict.",
            config='websocket: {path: "/lines/{line}/check", reply: flow, timeout: 2s}',
            given=[{"serial": "K-17", "torque": 4.2}],
            expect=[{"serial": "K-17", "torque": 4.2}],
        ),
    )

    def check(self, flow: Flow, node: Node) -> Iterable[Problem]:
        """Find a path that cannot be served, or is a channel's."""
        for message in check_path(self.path):
            yield Problem("path", "path", message)
        for name, channel in flow.channels.items():
            if channel.path == self.path:
                yield Problem("path-taken", "path", f"a path of its own; {self.path} is the channel '{name}'")

    async def probe(self, node: Node, reach: Reach) -> Iterable[Problem]:
        """Try whether the gateway can listen."""
        return await reach.web("path")

    def socket(self) -> tuple[str, str | None]:
        """Return path and role."""
        return self.path, None if self.allow == "anyone" else self.allow

    async def serve(self, socket: ClientSocket, intake: Intake) -> None:
        """Take what one client sends, until it is gone."""
        session = socket.query.get("session", "")
        if "session" in socket.query and not (0 < len(session) <= LONGEST_SESSION and session.isprintable()):
            await socket.close(POLICY, f"session: 1 to {LONGEST_SESSION} printable characters")
            return
        socket.limit(self.largest)
        await Connection(self, socket, intake, session).run()


class Connection:
    """One client: frames are handed to the inbox without waiting for one another, and answered by a task beside."""

    def __init__(self, options: Websocket, socket: ClientSocket, intake: Intake, session: str) -> None:
        self._options, self._socket, self._intake, self._session = options, socket, intake, session
        self._meta: dict[str, Any] = {"account": socket.account, "params": dict(socket.params)}
        if session:
            self._meta["session"] = session
        self._open = self._open_bytes = self._faults = 0
        self._ack: socket_frames.Number | None = None
        self._frames: list[str] = []
        self._lost = ""
        self._asked: set[asyncio.Task[None]] = set()
        self._told, self._room = asyncio.Event(), asyncio.Event()

    async def run(self) -> None:
        """Read until the client is gone; what it has sent is stored even so."""
        telling = asyncio.create_task(self._tell())
        try:
            await self._read()
        finally:
            for task in (telling, *self._asked):
                task.cancel()
            await asyncio.gather(telling, *self._asked, return_exceptions=True)

    async def _read(self) -> None:
        loop, rate = asyncio.get_running_loop(), self._options.at_most
        pace = Pace(rate or 1.0, loop.time())
        while not self._lost and (message := await self._socket.receive()) is not None:
            if rate is not None and (wait := pace.take(rate, loop.time(), owing=True)):
                await asyncio.sleep(wait)
            while self._crowded:
                self._room.clear()
                await self._room.wait()
            try:
                await self._take(socket_frames.read_frame(message, many=self._options.reply == "accepted"))
                self._faults = 0
            except Refusal as reason:
                self._say(socket_frames.error_frame(reason))
                self._faults += 1
                if self._faults > MOST_FAULTS:
                    await self._socket.close(POLICY, "too many frames that cannot be taken")

    @property
    def _crowded(self) -> bool:
        """Tell whether so much waits for its commit, its answer, or for the client to read that reading stops."""
        most = MOST_ASKED if self._options.reply == "flow" else MOST_OPEN
        waiting = self._open + len(self._frames)
        return self._socket.open and (waiting >= most or self._open_bytes >= MOST_OPEN_BYTES)

    async def _take(self, pushed: socket_frames.Pushed) -> None:
        if not pushed.objects:
            raise Refusal(
                422, "empty", "expected at least one object; got none", more=socket_frames.told(pushed.number)
            )
        self._opened(1, len(pushed.body))
        if self._options.reply == "flow":
            task = asyncio.create_task(self._ask(pushed))
            self._asked.add(task)
            task.add_done_callback(self._asked.discard)
        else:
            await self._store(pushed)

    async def _store(self, pushed: socket_frames.Pushed) -> None:
        """Hand a frame to the inbox; while that is full nothing more is read."""
        arrivals, held = self._arrivals(pushed), False
        while self._socket.open and not self._lost:
            try:
                self._intake.submit(arrivals, partial(self._stored, pushed))
                break
            except EventFault as fault:
                self._stored(pushed, fault)
                break
            except Unavailable:
                self._socket.hold(held := True)
                await asyncio.sleep(AGAIN)
        if held:
            self._socket.hold(False)

    def _arrivals(self, pushed: socket_frames.Pushed) -> Arrivals:
        """Return what goes into the inbox; the once-key is account, path, session and the frame's number."""
        path = self._socket.path
        arrivals = Arrivals(pushed.objects, [path] * len(pushed.objects), self._meta)
        if self._session and pushed.number is not None:
            once = "\0".join(["websocket", self._socket.account or "", path, self._session, repr(pushed.number)])
            arrivals.keys = {0: (once, blake2b(pushed.body, digest_size=16).digest())}
        return arrivals

    def _stored(self, pushed: socket_frames.Pushed, fault: BaseException | None) -> None:
        self._opened(-1, -len(pushed.body))
        self._done(pushed, fault)

    def _done(self, pushed: socket_frames.Pushed, fault: BaseException | None) -> None:
        """Take note of what came of a frame; after one that could not be written nothing is acknowledged any more."""
        if self._lost:
            return
        if isinstance(fault, KeyReused | EventFault):
            self._say(socket_frames.error_frame(_refusal(fault), pushed.number))
        elif fault is not None:
            self._lost = str(fault)
        elif pushed.number is not None:
            self._ack = pushed.number
        self._told.set()

    async def _ask(self, pushed: socket_frames.Pushed) -> None:
        number = pushed.number
        try:
            ids = await self._intake.append(self._arrivals(pushed), expect_reply=True)
            reply = await self._intake.reply(ids[0], self._options.timeout / 1e6)
            self._say(socket_frames.reply_frame(number, reply))
        except (KeyReused, EventFault, Unavailable, TimeoutError) as fault:
            self._say(socket_frames.error_frame(_refusal(fault), number))
        finally:
            self._opened(-1, -len(pushed.body))

    def _opened(self, count: int, size: int) -> None:
        self._open += count
        self._open_bytes += size
        if count < 0:
            self._room.set()

    def _say(self, frame: str) -> None:
        self._frames.append(frame)
        self._told.set()

    async def _tell(self) -> None:
        """Send what there is to say; an acknowledgement stands for all before it."""
        while not self._lost or self._ack is not None or self._frames:
            await self._told.wait()
            self._told.clear()
            frames, self._frames, ack, self._ack = self._frames, [], self._ack, None
            self._room.set()
            for frame in frames:
                await self._socket.send(frame)
            if ack is not None:
                await self._socket.send(socket_frames.ack_frame(ack))
        await self._socket.close(TRY_LATER, "the inbox cannot be written; come again")
        self._room.set()


def _refusal(fault: Exception) -> Refusal:
    if isinstance(fault, KeyReused):
        return Refusal(422, "id_reused", "expected a new id, or the same data again: this one came with others")
    if isinstance(fault, EventFault):
        return Refusal(422, "not_storable", fault.reason)
    if isinstance(fault, Unavailable):
        return Refusal(503, "unavailable", "the inbox cannot take it now; send it again")
    return Refusal(504, "timeout", "it is stored, but the flow did not answer in time")
