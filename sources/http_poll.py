"""`http_poll`: what a server answers, asked again and again."""

import asyncio
import time
from collections.abc import Iterable
from hashlib import blake2b
from typing import Any, Literal
from urllib.parse import urlsplit

import msgspec
from pydantic import Field, SecretStr, field_validator

from engine.api import (
    MICROSECONDS,
    Arrivals,
    Duration,
    EventFault,
    Example,
    Flow,
    HttpAnswer,
    HttpClient,
    Indivisible,
    Intake,
    NoAnswer,
    Node,
    Problem,
    Reach,
    Size,
    Source,
    Unavailable,
    component,
)

AGAIN = 0.5
KEYED = blake2b(b"http_poll", digest_size=16).digest()


@component("http_poll")
class HttpPoll(Source):
    """Ask an HTTP server every so often; an object that it answers is an event, of an array each entry is one.

    The answer is in the durable inbox before the next is asked for. A server that is away or answers with an error is
    asked again at the next time, and shown as waiting; nothing is asked twice to make up for it. With `once` an entry
    whose key was there within a day is left out, so that lists that overlap give each entry once. What is no JSON
    object goes to the dead letters.
    """

    url: str
    """The address, `http://…` or `https://…`."""
    every: Duration = Field(10_000_000, ge=100_000)
    """How often it is asked, on a grid counted from 1970 in UTC."""
    method: Literal["GET", "POST"] = "GET"
    """The method."""
    headers: dict[str, SecretStr | str] = {}
    """Further headers; a secret only as `${setting}` alone."""
    bearer: SecretStr | None = None
    """A token, sent as `Authorization: Bearer …`: a secret setting."""
    query: dict[str, str | int | float] = {}
    """Parameters of the address."""
    body: dict[str, Any] | None = None
    """With POST: what is sent, as JSON."""
    items: str = ""
    """Where the entries are in the answer, such as `data.readings`; by default the answer itself."""
    once: str = ""
    """The field that tells entries apart, such as `id`: one that was there within a day is left out."""
    on_same: Literal["take", "skip"] = "take"
    """What becomes of an answer that is the same as the one before; `skip` asks with its ETag."""
    timeout: Duration = Field(10_000_000, gt=0)
    """How long an answer is waited for."""
    largest: Size = 4 << 20
    """The greatest size of an answer."""
    time: str | None = None
    """The field that carries the event's own time; default: when the answer came."""

    guarantee = "at least once into the inbox, of each answer that came; with once exactly once a day"
    examples = (
        Example(
            about="The state of a weather station, every minute.",
            config="http_poll: {url: 'http://station.local/state.json', every: 1m}",
            given=[{"celsius": 21.5}],
            expect=[{"celsius": 21.5}],
        ),
        Example(
            about="New orders out of a list that overlaps with the one before.",
            config=(
                "http_poll: {url: 'https://erp.example/orders', query: {newest: 100}, items: data.orders, once: number}"
            ),
            given=[{"number": 17, "article": "door"}],
            expect=[{"number": 17, "article": "door"}],
        ),
    )

    @field_validator("url")
    @classmethod
    def _address(cls, url: str) -> str:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError("an address like http://host:port/path")
        return url

    def check(self, flow: Flow, node: Node) -> Iterable[Problem]:
        """Find a time-out that is longer than the interval, and a body that no GET sends."""
        if self.timeout > self.every:
            yield Problem(
                "option-value", "timeout", "at most every: the next request waits for the answer", "timeout: 5s"
            )
        if self.body is not None and self.method == "GET":
            yield Problem("option-value", "body", "method: POST with it; a GET has no body", "method: POST")

    async def probe(self, node: Node, reach: Reach) -> Iterable[Problem]:
        """Try to connect to the server; nothing is asked there."""
        return await reach.url(self.url, "url")

    def told_headers(self) -> dict[str, str]:
        """Return the headers of every request."""
        given = {name: _told(value) for name, value in self.headers.items()}
        token = {} if self.bearer is None else {"Authorization": f"Bearer {self.bearer.get_secret_value()}"}
        kind = {} if self.body is None else {"Content-Type": "application/json"}
        return {"Accept": "application/json", **kind, **token, **given}

    async def run(self, intake: Intake) -> None:
        """Ask until cancelled."""
        client = HttpClient(self.told_headers(), 1, self.largest)
        await client.open()
        intake.state("connecting", "")
        try:
            await Polling(self, client, intake).run()
        finally:
            await client.close()


def _told(value: SecretStr | str) -> str:
    return value if isinstance(value, str) else value.get_secret_value()


class Polling:
    """The requests of one source, one after the other."""

    def __init__(self, options: HttpPoll, client: HttpClient, intake: Intake) -> None:
        self._options, self._client, self._intake = options, client, intake
        self._body = None if options.body is None else msgspec.json.encode(options.body)
        self._query = {name: str(value) for name, value in options.query.items()}
        self._tag, self._last = "", b""

    async def run(self) -> None:
        """Ask at each time of the grid, the first at once."""
        seconds = self._options.every / MICROSECONDS
        while True:
            await self._ask()
            await asyncio.sleep(seconds - time.time() % seconds)

    async def _ask(self) -> None:
        try:
            async with asyncio.timeout(self._options.timeout / MICROSECONDS):
                answer = await self._client.send(
                    self._options.method, self._options.url, self._body, self._query,
                    {"If-None-Match": self._tag} if self._tag else None,
                )  # fmt: skip
            if answer.status != 304 and (refusal := answer.refusal()) is not None:
                raise refusal
        except (NoAnswer, Indivisible, EventFault, TimeoutError) as fault:
            late = f"an answer within {self._options.timeout / MICROSECONDS:g} s; got none"
            self._intake.state("waiting", late if isinstance(fault, TimeoutError) else str(fault))
            return
        self._intake.state("connected", "")
        if not self._is_same(answer):
            await self._store(self._arrivals(answer.body))

    def _is_same(self, answer: HttpAnswer) -> bool:
        """Tell whether the answer is to be left out, since it was the last one too."""
        if self._options.on_same == "take":
            return False
        digest = blake2b(answer.body, digest_size=16).digest()
        same = answer.status == 304 or digest == self._last
        if answer.status != 304:
            self._tag, self._last = answer.tag, digest
        return same

    def _arrivals(self, body: bytes) -> Arrivals:
        """Return the entries of an answer; what cannot be read goes on as it came, to the dead letters."""
        try:
            found = msgspec.json.decode(body)
        except msgspec.DecodeError:
            return Arrivals([body], [""])
        for name in filter(None, self._options.items.split(".")):
            found = found.get(name) if isinstance(found, dict) else None
        entries = found if isinstance(found, list) else [] if found is None else [found]
        arrivals = Arrivals([msgspec.json.encode(entry) for entry in entries], [""] * len(entries))
        if self._options.once:
            arrivals.keys = {at: (self._key(entry), KEYED) for at, entry in enumerate(entries)}
        return arrivals

    def _key(self, entry: Any) -> str:
        value = entry.get(self._options.once) if isinstance(entry, dict) else None
        told = msgspec.json.encode(value).decode()
        return "" if value is None else f"http_poll\0{self._intake.source}\0{told}"

    async def _store(self, arrivals: Arrivals) -> None:
        """Return when all are in the inbox, however long that takes."""
        while len(arrivals):
            try:
                return await self._intake.store(arrivals)
            except Unavailable as fault:
                self._intake.state("waiting", str(fault))
                await asyncio.sleep(AGAIN)
