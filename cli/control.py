"""How commands reach the running gateway: HTTP over the control socket in the data folder."""

import http.client
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

import msgspec

from engine.errors import EnvironmentFault, Finding, FlowInvalid, MillstreamError, UsageFault
from engine.settings import Settings

PATIENCE = 180.0


class _Socket(http.client.HTTPConnection):
    """HTTP over a Unix socket."""

    def __init__(self, path: Path, timeout: float) -> None:
        super().__init__("localhost", timeout=timeout)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))


class Refused(MillstreamError):
    """The gateway refuses a call; `error` is its JSON error."""

    def __init__(self, error: dict[str, Any]) -> None:
        super().__init__(str(error.get("message", "the gateway refuses this")))
        self.error = error


class Control:
    """The gateway on this data folder. Every call raises EnvironmentFault when none runs, Refused when it refuses."""

    def __init__(self, settings: Settings) -> None:
        self._path = settings.data / "control.sock"
        self._data = settings.data

    def get(self, path: str, **query: Any) -> Any:
        """Return the answer of a GET."""
        return self._call("GET", path + _query(query), None)

    def post(self, path: str, body: Any = None, **query: Any) -> Any:
        """Return the answer of a POST with a JSON body."""
        return self._call("POST", path + _query(query), body)

    def lines(self, path: str, **query: Any) -> Iterator[Any]:
        """Yield the lines of a GET that answers with JSON lines as they come, until it ends."""
        connection, response = self._open("GET", path + _query(query), None)
        try:
            self._check(response)
            for line in response:
                if line.strip():
                    yield msgspec.json.decode(line)
        finally:
            connection.close()

    def _call(self, method: str, target: str, body: Any) -> Any:
        connection, response = self._open(method, target, body)
        try:
            self._check(response)
            return msgspec.json.decode(response.read())
        finally:
            connection.close()

    def _open(self, method: str, target: str, body: Any) -> tuple[_Socket, http.client.HTTPResponse]:
        connection = _Socket(self._path, PATIENCE)
        try:
            connection.request(method, target, None if body is None else msgspec.json.encode(body))
            return connection, connection.getresponse()
        except TimeoutError:
            raise EnvironmentFault(f"the gateway on {self._data} did not answer within {PATIENCE:g} s") from None
        except (OSError, http.client.HTTPException) as fault:
            advice = "start one with `millstream gateway` or `millstream run PATH`, or set MILLSTREAM_DATA"
            raise EnvironmentFault(f"no gateway runs on the data folder {self._data}: {advice}") from fault

    def _check(self, response: http.client.HTTPResponse) -> None:
        if response.status < 400:
            return
        try:
            error = msgspec.json.decode(response.read())["error"]
        except (msgspec.DecodeError, KeyError, TypeError):
            error = {"message": f"HTTP {response.status}"}
        if error.get("findings"):
            raise FlowInvalid(msgspec.convert(error["findings"], list[Finding]))
        if error.get("code") in ("not_found", "invalid", "invalid_parameter"):
            raise UsageFault(str(error["message"]))
        if error.get("code") in ("environment", "unavailable"):
            raise EnvironmentFault(str(error["message"]))
        raise Refused(error)


def part(name: str) -> str:
    """Return a name as a part of a path."""
    return quote(name, safe="")


def _query(query: dict[str, Any]) -> str:
    given = {name.rstrip("_"): value for name, value in query.items() if value is not None}
    return f"?{urlencode(given)}" if given else ""
