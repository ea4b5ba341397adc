"""The web server on its port."""

import asyncio
import errno
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import uvicorn
from starlette.types import ASGIApp

from engine.errors import EnvironmentFault
from web.channel_events import HttpWire
from web.channel_wire import Wire

END_TIME = 5.0


class WebServer(uvicorn.Server):
    """Uvicorn without signal handlers of its own: the gateway has them."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave signals alone."""
        yield

    async def end(self, serving: asyncio.Task[Any]) -> None:
        """Stop serving: connections may end by themselves for a moment."""
        self.should_exit = True
        await asyncio.wait([serving], timeout=END_TIME)
        serving.cancel()
        await asyncio.gather(serving, return_exceptions=True)


def web_server(app: ASGIApp) -> WebServer:
    """Return a server for the application; it listens on the sockets that its `serve` is given."""
    config = uvicorn.Config(
        app,
        loop="none",
        http=HttpWire,
        ws=Wire,
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=3,
        ws_max_size=1 << 20,
    )
    return WebServer(config)


async def accepts(port: int) -> bool:
    """Tell whether something listens on the port of this host."""
    try:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
    except OSError:
        return False
    writer.close()
    return True


def bound(host: str, port: int) -> socket.socket:
    """Return a socket that has the port but does not listen yet; raises EnvironmentFault."""
    try:
        family, kind, number, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    except OSError as fault:
        raise EnvironmentFault(f"MILLSTREAM_HOST: an address of this machine; got '{host}': {fault.strerror}") from None
    web = socket.socket(family, kind, number)
    web.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        web.bind(address)
    except OSError as fault:
        web.close()
        taken = fault.errno == errno.EADDRINUSE
        reason = "is already in use: set MILLSTREAM_PORT" if taken else f"cannot be had: {fault.strerror}"
        raise EnvironmentFault(f"port {port} of {host} {reason}") from None
    return web


@contextmanager
def unix_bound(path: Path) -> Iterator[socket.socket]:
    """Give a Unix socket that has mode 0600 from its first moment on; it is removed at the end."""
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    mask = os.umask(0o177)
    try:
        path.unlink(missing_ok=True)
        listening.bind(str(path))
    except OSError as fault:
        listening.close()
        raise EnvironmentFault(f"{path}: a place for a socket; got {fault}") from fault
    finally:
        os.umask(mask)
    try:
        yield listening
    finally:
        listening.close()
        path.unlink(missing_ok=True)
