"""A model server on a real socket, whose answers and faults a test decides."""

import sys
import threading
from collections.abc import Callable, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import MappingProxyType, TracebackType
from typing import Any, NamedTuple, Self

import msgspec

from tests.process import LOCALHOST


class Asked(NamedTuple):
    """One request as it came."""

    method: str
    path: str
    headers: dict[str, str]
    body: Any


class Said(NamedTuple):
    """What the server answers; `cut`: it closes the connection without an answer."""

    status: int = 200
    body: Any = None
    headers: Mapping[str, str] = MappingProxyType({})
    cut: bool = False


def labels(asked: Asked) -> Said:
    """Answer as the model server of the smart factory does: a label and a score for each reading of a batch."""
    many = asked.body if isinstance(asked.body, list) else [asked.body]
    found = [{"label": "hot" if one["n"] % 3 == 0 else "ok", "score": one["n"] / 1000} for one in many]
    return Said(body=found if isinstance(asked.body, list) else found[0])


class _Quiet(ThreadingHTTPServer):
    """Says nothing of clients that are killed."""

    def handle_error(self, request: Any, client_address: Any) -> None:
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


class ModelServer:
    """Answers with `answer(asked)`; while `held` is cleared no answer leaves it. `asked` holds all requests."""

    def __init__(self, answer: Callable[[Asked], Said] = labels) -> None:
        self.answer = answer
        self.asked: list[Asked] = []
        self.held = threading.Event()
        self.held.set()
        self._most = self._now = 0
        self._lock = threading.Lock()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                outer.handle(self)

            do_GET = do_PUT = do_POST  # noqa: N815 - the base class's names

            def log_message(self, format: str, *args: Any) -> None:
                return

        self._server = _Quiet((LOCALHOST, 0), Handler)
        self._server.daemon_threads = True
        self.port = self._server.server_address[1]
        self.url = f"http://{LOCALHOST}:{self.port}/predict"

    @property
    def at_once(self) -> int:
        """The most requests that were under way at once."""
        return self._most

    def handle(self, handler: BaseHTTPRequestHandler) -> None:
        length = int(handler.headers.get("Content-Length") or 0)
        raw = handler.rfile.read(length)
        asked = Asked(
            handler.command, handler.path, dict(handler.headers.items()), msgspec.json.decode(raw) if raw else None
        )
        with self._lock:
            self.asked.append(asked)
            self._now += 1
            self._most = max(self._most, self._now)
        self.held.wait(30)
        said = self.answer(asked)
        with self._lock:
            self._now -= 1
        if said.cut:
            handler.close_connection = True
            return
        body = said.body if isinstance(said.body, bytes) else msgspec.json.encode(said.body)
        try:
            handler.send_response(said.status)
            for name, value in {"Content-Length": str(len(body)), **said.headers}.items():
                handler.send_header(name, value)
            handler.end_headers()
            handler.wfile.write(body)
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
