"""Requests to servers outside, over HTTP: what comes back, and whose fault it is when that is no answer."""

import time
from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any

import msgspec

from engine.asking import Indivisible, NoAnswer
from engine.errors import EventFault

if TYPE_CHECKING:
    import aiohttp

BUSY = (408, 425, 429)
OF_THE_EVENT = (400, 409, 413, 415, 422)
SHOWN = 200
LONGEST_AFTER = 86_400  # seconds
JSON = {"Content-Type": "application/json", "Accept": "application/json"}


class HttpAnswer(msgspec.Struct, frozen=True):
    """What came back; `after` are the seconds that a Retry-After asks to wait, `tag` is the ETag."""

    status: int
    body: bytes
    after: float = 0.0
    tag: str = ""

    @property
    def seen(self) -> dict[str, object]:
        """Return what a dead letter says of it."""
        return {"status": self.status, "body": beginning(self.body)}

    def refusal(self) -> Exception | None:
        """Return what it means: nobody is there (now), this event is at fault, or all of the request; None: it is one.

        An event is at fault where another one in its place might be taken: 400, 409, 413, 415, 422.
        """
        if 200 <= self.status < 300:
            return None
        said = f"an answer; got status {self.status}" + (f": {beginning(self.body)}" if self.body else "")
        if self.status in BUSY:
            return NoAnswer(said, "busy", self.after)
        if self.status >= 500:
            return NoAnswer(said, "server", self.after)
        return (EventFault if self.status in OF_THE_EVENT else Indivisible)(said, self.seen)


class HttpClient:
    """Connections to one server, on the loop that opens it. aiohttp is only imported then: few flows need it."""

    def __init__(self, headers: Mapping[str, str], connections: int, largest: int) -> None:
        self._headers, self._connections, self._largest = dict(headers), connections, largest
        self._session: aiohttp.ClientSession
        self._failures: tuple[type[Exception], ...] = ()

    async def open(self) -> None:
        """Get ready; nothing connects yet."""
        import aiohttp

        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=self._connections), headers=self._headers,
            cookie_jar=aiohttp.DummyCookieJar(), timeout=aiohttp.ClientTimeout(total=None),
            skip_auto_headers=("User-Agent",),
        )  # fmt: skip
        self._failures = (aiohttp.ClientError, OSError)

    async def send(
        self, method: str, url: str, body: bytes | None, query: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> HttpAnswer:  # fmt: skip
        """Return what comes back; no redirect is followed. Raises NoAnswer where the connection fails."""
        try:
            async with self._session.request(
                method, url, data=body, params=query or None, headers=headers, allow_redirects=False
            ) as response:
                found = await self._read(response)
                after, tag = _seconds(response.headers.get("Retry-After")), response.headers.get("ETag", "")
                return HttpAnswer(response.status, found, after, tag)
        except self._failures as fault:
            raise NoAnswer(f"an answer; {type(fault).__name__}: {fault}", "connection") from None

    async def _read(self, response: Any) -> bytes:
        found = bytearray()
        async for chunk in response.content.iter_any():
            found += chunk
            if len(found) > self._largest:
                raise Indivisible(f"an answer of at most {self._largest} bytes; got more", {"status": response.status})
        return bytes(found)

    async def close(self) -> None:
        """Close the connections."""
        await self._session.close()


def beginning(body: bytes) -> str:
    """Return how a text begins, for people."""
    text = body[: SHOWN * 4].decode(errors="replace")
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}…"


def _seconds(text: str | None) -> float:
    """Return how long a Retry-After says (RFC 9110, 10.2.3: seconds or a date), at most a day; 0 for none."""
    if not text:
        return 0.0
    if text.isascii() and text.isdigit():
        return float(min(int(text[:9]), LONGEST_AFTER))
    try:
        left = parsedate_to_datetime(text).timestamp() - time.time()
    except (ValueError, OverflowError):
        return 0.0
    return min(max(left, 0.0), float(LONGEST_AFTER))
