"""A real uvicorn with a hub, real accounts in SQLite, and both transports: what the channel tests talk to."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import uvicorn
from sqlalchemy.ext.asyncio import create_async_engine
from starlette.applications import Starlette
from starlette.routing import Mount
from starlette.staticfiles import StaticFiles
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from engine.channels import ChannelSpec
from engine.refusal import Refusal
from web.accounts import add_account, create_tables
from web.channel_events import HttpWire
from web.channel_socketio import SocketIo
from web.channel_websocket import ChannelRoute
from web.channel_wire import Wire
from web.channels import ChannelHub
from web.errors import answer_error
from web.guard import Guard

STATIC = Path(__file__).parent.parent.parent / "web" / "static"
SECRET = b"a secret of these tests, 32 bytes or more"


class Push(msgspec.Struct):
    """What the worker link hands to a hub."""

    event: str
    data: Any = None
    channel: str = "dashboard"
    room: str = ""
    keep: bool = False
    at_most: float = 0.0
    id: bytes = b""
    time: int = 0

    @property
    def body(self) -> bytes:
        return msgspec.json.encode(self.data)


class Pushes:
    """Makes pushes, each with an id of its own."""

    def __init__(self, hub: ChannelHub) -> None:
        self._hub = hub
        self._count = 0

    def __call__(self, event: str, data: Any = None, **options: Any) -> Push:
        self._count += 1
        push = Push(event, data, id=self._count.to_bytes(16, "big"), **options)
        self._hub.publish([push])
        return push


class Site:
    """The running server."""

    def __init__(self, hub: ChannelHub, guard: Guard, server: uvicorn.Server, port: int, sio: SocketIo) -> None:
        self.hub, self.guard, self.server, self.port, self.socketio = hub, guard, server, port, sio
        self.push = Pushes(hub)

    @property
    def url(self) -> str:
        return f"ws://127.0.0.1:{self.port}"

    async def token(self, name: str = "erna") -> str:
        return await self.guard.token_for(name)

    def connect(self, path: str = "/ws/dashboard", **options: Any) -> connect:
        """Return websockets' client for a path; it is an async context manager."""
        return connect(self.url + path, open_timeout=10, **options)


@asynccontextmanager
async def serve(folder: Path, channels: dict[str, Any], **hub_options: Any) -> AsyncIterator[Site]:
    """Run the server in this loop; accounts: ada (admin), erna (employee), vera (viewer)."""
    engine = create_async_engine(f"sqlite+aiosqlite:///{folder / 'accounts.db'}")
    await create_tables(engine)
    await add_account(engine, "ada", "admin", "ada's password")
    await add_account(engine, "erna", "employee", "erna's password")
    await add_account(engine, "vera", "viewer", "vera's password")
    guard = Guard(engine, SECRET)
    hub = ChannelHub("line", {name: ChannelSpec.parse(name, spec) for name, spec in channels.items()}, **hub_options)
    sio = SocketIo(lambda: [hub], guard, ["http://dashboards.example"])
    channels_route = ChannelRoute(lambda: [hub], guard, ["http://dashboards.example"])
    app = Starlette(
        exception_handlers={Refusal: answer_error},
        routes=[channels_route, sio.route(), Mount("/static", StaticFiles(directory=STATIC))],
    )
    with socket.create_server(("127.0.0.1", 0), backlog=512) as listening:
        server = uvicorn.Server(uvicorn.Config(app, http=HttpWire, ws=Wire, log_level="error", lifespan="off"))
        task = asyncio.create_task(server.serve(sockets=[listening]))
        try:
            yield Site(hub, guard, server, listening.getsockname()[1], sio)
        finally:
            hub.close()
            server.should_exit = server.force_exit = True
            await task
            await sio.close()
            await engine.dispose()


async def frame(websocket: ClientConnection, within: float = 10.0) -> dict[str, Any]:
    """Return the next frame."""
    decoded = msgspec.json.decode(await asyncio.wait_for(websocket.recv(), within))
    assert isinstance(decoded, dict)
    return decoded


async def closed(websocket: ClientConnection) -> int:
    """Read to the end and return the close code."""
    try:
        while True:
            await asyncio.wait_for(websocket.recv(), 10)
    except ConnectionClosed as end:
        return end.rcvd.code if end.rcvd else 1006


async def until(condition: Any, what: str, within: float = 20.0) -> None:
    """Wait for a condition, with a bound."""
    end = asyncio.get_running_loop().time() + within
    while not condition():
        assert asyncio.get_running_loop().time() < end, f"waited {within:g} s in vain: {what}"
        await asyncio.sleep(0.01)
