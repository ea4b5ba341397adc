"""Listeners of the live events: a plain WebSocket, and an unmodified socket.io-client in node."""

from __future__ import annotations

import json
import queue
import subprocess
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, Protocol, Self
from urllib.parse import urlencode

from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

from tests.packs.car_inspection.line import Line, without_proxies
from tests.services import BROWSER, Node

WITHIN = 20.0
TRANSPORTS: dict[str, list[str]] = {
    "socketio": ["polling", "websocket"], "socketio-polling": ["polling"], "socketio-websocket": ["websocket"],
}  # fmt: skip


class Happening(NamedTuple):
    """One event as a client got it; `at` in seconds of the client's own clock."""

    event: str
    data: Any
    at: float
    id: str = ""


class Live:
    """What a client hears: `next` waits for an event and passes over others; `seen` has all that it looked at."""

    def __init__(self) -> None:
        self._heard: queue.Queue[Happening] = queue.Queue()
        self.seen: list[Happening] = []

    def hear(self, happening: Happening) -> None:
        self._heard.put(happening)

    def next(self, event: str, where: Callable[[Any], object] = lambda data: True, within: float = WITHIN) -> Any:
        """Return the data of the next event of this name for which `where` holds; AssertionError after `within` s."""
        return self.await_next(event, where, within).data

    def all_of(self, *events: str) -> list[Any]:
        """Return the data of the first of each of these events, in whichever order they come."""
        first: dict[str, Any] = {}
        while set(events) - set(first):
            happening = self._take(WITHIN, f"{events}")
            first.setdefault(happening.event, happening.data)
        return [first[event] for event in events]

    def await_next(self, event: str, where: Callable[[Any], object], within: float = WITHIN) -> Happening:
        end = time.monotonic() + within
        while True:
            happening = self._take(max(0.0, end - time.monotonic()), f"'{event}'")
            if happening.event == event and where(happening.data):
                return happening

    def _take(self, within: float, what: str) -> Happening:
        try:
            self.seen.append(self._heard.get(timeout=within))
        except queue.Empty:
            last = [(h.event, h.data) for h in self.seen[-5:]]
            raise AssertionError(f"waited in vain for {what}; the last heard: {last}") from None
        return self.seen[-1]

    def close(self) -> None:
        raise NotImplementedError

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Socket(Live):
    """A plain WebSocket; its end is heard as `close` with code and reason."""

    def __init__(self, line: Line, path: str = "/ws/dashboard", token: str | None = None) -> None:
        super().__init__()
        query = "?" + urlencode({"token": token}) if token is not None else ""
        url = line.process.url.replace("http", "ws", 1) + path + query
        self.connection: ClientConnection = connect(url, open_timeout=WITHIN, proxy=None)
        self.frames: list[dict[str, Any]] = []
        self._thread = threading.Thread(target=self._listen, daemon=True)
        self._thread.start()

    def _listen(self) -> None:
        try:
            while True:
                frame = json.loads(self.connection.recv())
                self.frames.append(frame)
                self.hear(Happening(frame["event"], frame["data"], time.monotonic(), frame.get("id", "")))
        except ConnectionClosed as end:
            code, reason = (end.rcvd.code, end.rcvd.reason) if end.rcvd else (0, "")
            self.hear(Happening("close", {"code": code, "reason": reason}, time.monotonic()))

    def send(self, text: str | bytes | dict[str, Any]) -> None:
        """Send a frame; a mapping as JSON."""
        self.connection.send(json.dumps(text) if isinstance(text, dict) else text)

    def close(self) -> None:
        self.connection.close()
        self._thread.join(WITHIN)


class SocketIoClient(Live):
    """`socket.io-client` in node; `connect`, `connect_error` and `disconnect` are heard as events of those names."""

    def __init__(self, line: Line, node: Node, transports: list[str], token: str | None = None) -> None:
        super().__init__()
        options: dict[str, Any] = {"transports": transports}
        if token is not None:
            options["auth"] = {"token": token}
        self._process = subprocess.Popen(
            [node.path, "line_events.mjs", line.process.url, json.dumps(options)],
            cwd=BROWSER, env=without_proxies(), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        self._thread = threading.Thread(target=self._listen, daemon=True)
        self._thread.start()

    def _listen(self) -> None:
        assert self._process.stdout is not None
        for text in self._process.stdout:
            what, *more = json.loads(text)
            if what == "event":
                name, data, at = more
                self.hear(Happening(name, data, at / 1000))
            else:
                self.hear(Happening(what, more, time.monotonic()))

    def close(self) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        try:
            self._process.wait(WITHIN)
        finally:
            self._process.kill()
            self._thread.join(WITHIN)
            self._process.stdout.close()


class Listen(Protocol):
    """Opens a listener of the dashboard's events by one of the transports."""

    def __call__(self, line: Line, token: str | None = None) -> Live: ...


def listener(transport: str, node: Callable[[], Node]) -> Listen:
    """Return what opens a listener by this transport; `node` is asked for only where it is needed."""

    def listen(line: Line, token: str | None = None) -> Live:
        if transport == "websocket":
            return Socket(line, token=token)
        return SocketIoClient(line, node(), TRANSPORTS[transport], token)

    return listen


FOUR = {"total", "ok", "defect", "defect_rate"}
WHOLE = {"total", "ok", "defect", "defect_rate", "by_device", "by_car", "cars", "camera", "updated_at"}


def four(ok: int, defect: int) -> Mapping[str, float]:
    """Return the four counts that every part of the statistics has."""
    total = ok + defect
    return {"total": total, "ok": ok, "defect": defect, "defect_rate": round(defect / total, 6) if total else 0}
