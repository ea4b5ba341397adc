"""An HTTP server on a real socket, whose answers a test decides; it keeps the requests as they came."""

import socket
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import MappingProxyType, TracebackType
from typing import Any, NamedTuple, Self

import msgspec

from tests.process import LOCALHOST


class Asked(NamedTuple):
    """One request as it came."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return msgspec.json.decode(self.body)


class Said(NamedTuple):
    """What the server answers; `cut`: it closes the connection without an answer."""

    status: int = 204
    body: bytes = b""
    headers: Mapping[str, str] = MappingProxyType({})
    cut: bool = False


def taken(_asked: Asked) -> Said:
    return Said()


class HttpTarget:
    """Answers with `answer(asked)`; while `held` is cleared no answer leaves it. `port` may be one that was in use."""

    def __init__(self, answer: Callable[[Asked], Said] = taken, port: int = 0) -> None:
        self.answer = answer
        self.asked: list[Asked] = []
        self.held = threading.Event()
        self.held.set()
        self.at_once = self._now = 0
        self._lock = threading.Lock()
        self._open: list[socket.socket] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def setup(self) -> None:
                super().setup()
                outer._open.append(self.connection)

            def do_POST(self) -> None:
                outer.handle(self)

            do_PUT = do_PATCH = do_POST  # noqa: N815 - the base class's names

            def log_message(self, format: str, *args: Any) -> None:
                return

        self._server = ThreadingHTTPServer((LOCALHOST, port), Handler)
        self._server.daemon_threads = True
        self.port = self._server.server_address[1]
        self.url = f"http://{LOCALHOST}:{self.port}"

    @property
    def bodies(self) -> list[Any]:
        return [asked.json for asked in self.asked]

    def handle(self, handler: BaseHTTPRequestHandler) -> None:
        raw = handler.rfile.read(int(handler.headers.get("Content-Length") or 0))
        asked = Asked(handler.command, handler.path, dict(handler.headers.items()), raw)
        with self._lock:
            self.asked.append(asked)
            self._now += 1
            self.at_once = max(self.at_once, self._now)
        self.held.wait(30)
        said = self.answer(asked)
        with self._lock:
            self._now -= 1
        if said.cut:
            handler.close_connection = True
            return
        try:
            handler.send_response(said.status)
            for name, value in {"Content-Length": str(len(said.body)), **said.headers}.items():
                handler.send_header(name, value)
            handler.end_headers()
            handler.wfile.write(said.body)
        except OSError:
            handler.close_connection = True

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, daemon=True, args=(0.02,)).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.held.set()
        self._server.shutdown()
        self._server.server_close()
        for connection in self._open:
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
