"""The WebSockets of the deployed flows' sources: who may connect, and each connection as its source sees it."""

import asyncio
from collections.abc import Awaitable, Callable

from starlette.types import Receive, Scope, Send
from starlette.websockets import WebSocket, WebSocketDisconnect

from engine.component import SocketSource
from engine.flow import Node
from engine.refusal import Refusal
from web.channel_entry import Account, Doorkeeper, Guard, close_code, same_origin
from web.channel_websocket import CROSS_SITE, RECHECK, refuse
from web.channel_wire import wire_of
from web.services import Services

GOING_AWAY = 1012


class FlowSocket:
    """Serves the clients of one `websocket` source."""

    def __init__(self, node: Node, source: SocketSource, flow: str, services: Services, guard: Guard) -> None:
        self.path, self._role = source.socket()
        self.source, self._node, self._flow = source, node.name, flow
        self._services, self._door = services, Doorkeeper(guard)
        self._clients: set[Client] = set()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let one client in, or say why not."""
        websocket = WebSocket(scope, receive, send)
        try:
            account = await self._admit(websocket)
        except Refusal as reason:
            await refuse(websocket, reason)
            return
        client = Client(websocket, account, self._admit)
        self._clients.add(client)
        try:
            await websocket.accept()
            await self.source.serve(client, self._services.intake(self._flow, self._node))
        finally:
            self._clients.discard(client)
            client.cut(1000, "")

    async def _admit(self, websocket: WebSocket) -> Account | None:
        if not same_origin(websocket.headers.get("origin"), websocket.headers.get("host")):
            raise Refusal(403, CROSS_SITE, "pages of this origin may not connect")
        return await self._door.admit(websocket, self._role or "anyone")

    def close(self) -> None:
        """Send the clients away: another version of the flow serves them when they come again."""
        for client in list(self._clients):
            client.cut(GOING_AWAY, "the flow starts anew; connect again")


class Client:
    """One connection that was let in; `admit` raises Refusal once its token or its role does not do any more."""

    def __init__(
        self, websocket: WebSocket, account: Account | None, admit: Callable[[WebSocket], Awaitable[Account | None]]
    ) -> None:
        self._websocket, self._admit = websocket, admit
        self._wire = wire_of(websocket.scope)
        self.path, self.params, self.query = websocket.url.path, websocket.path_params, websocket.query_params
        self.account = account.name if account else None
        self._checked = asyncio.get_running_loop().time()

    @property
    def open(self) -> bool:
        """Tell whether it still stands."""
        return not self._wire.close_sent and not self._wire.transport.is_closing()

    def limit(self, largest: int) -> None:
        """Close with 1009 at a message of more than `largest` bytes."""
        self._wire.limit(largest)

    async def receive(self) -> str | bytes | None:
        """Return the next message; who has lost the role is cut, within a minute."""
        loop = asyncio.get_running_loop()
        while True:
            if loop.time() - self._checked >= RECHECK:
                await self._check(loop.time())
            try:
                async with asyncio.timeout(RECHECK):
                    message = await self._websocket.receive()
            except TimeoutError:
                continue
            if message["type"] != "websocket.receive":
                return None
            text: str | bytes | None = message.get("text")
            return text if text is not None else message["bytes"]

    async def _check(self, now: float) -> None:
        self._checked = now
        try:
            await self._admit(self._websocket)
        except Refusal as reason:
            if reason.status < 500:
                self.cut(close_code(reason), reason.message)

    async def send(self, text: str) -> None:
        """Send a text message, waiting for room."""
        try:
            await self._websocket.send_text(text)
        except (WebSocketDisconnect, RuntimeError):  # it is gone; `receive` says so
            return

    async def close(self, code: int, reason: str) -> None:
        """Close."""
        self.cut(code, reason)

    def cut(self, code: int, reason: str) -> None:
        """Close, whether the client reads or not."""
        self._wire.cut(code, reason.encode()[:123].decode(errors="ignore"))

    def hold(self, held: bool) -> None:
        """Send no pings while nothing is read, for the answers are not read either."""
        if held:
            self._wire.stop_keepalive()
        elif self.open:
            self._wire.start_keepalive()
