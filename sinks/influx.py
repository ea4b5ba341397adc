"""`influx`: points in InfluxDB, and in what takes its line protocol over HTTP."""

import asyncio
import base64
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal
from urllib.parse import urlsplit

import msgspec
from pydantic import Field, SecretStr, field_validator

from engine.api import (
    Duration,
    Event,
    EventFault,
    Example,
    Expression,
    Flow,
    HttpAnswer,
    HttpClient,
    NoAnswer,
    Node,
    Outside,
    Problem,
    Reach,
    Sink,
    Type,
    Unavailable,
    Writer,
    component,
    duration_text,
    line_protocol,
    outgoing,
    unknown_fields,
)

LARGEST_ANSWER = 4 << 20
REFUSED = (400, 413, 422)
"""What is said of points; every other status than 2xx is said of the whole database."""


class Refusal(msgspec.Struct):
    """What InfluxDB 3 says of one line of a write (400), counted from 1."""

    error_message: str = ""
    line_number: int = 0


class Refusals(msgspec.Struct):
    """What the versions say of a refused write: 1 has `error`, 2 `message`, 3 `error` and `data`, line by line."""

    error: str = ""
    message: str = ""
    data: list[Refusal] | None = None


@component("influx")
class Influx(Sink):
    """Write each event as a point to InfluxDB: version 2 and 3 with `bucket`, version 1 with `database`.

    Delivery: exactly once as seen in the database, which holds one point for a measurement, a set of tags and a time: a
    repeated write changes nothing. So two events with the same tags and time are one point; where that can be, add a
    tag that tells them apart. A point that is refused (400, 413, 422, also where others of its batch were taken) is a
    dead letter; anything else, also a token or a bucket that is not there, is waited for: events wait on the disk.
    """

    url: str
    """The address of the server, `http://host:8086`."""
    bucket: str | None = None
    """Version 2 and 3: the bucket."""
    org: str = ""
    """Version 2: the organization."""
    token: SecretStr | None = None
    """Version 2 and 3: the token, a secret setting."""
    database: str | None = None
    """Version 1: the database, with its retention policy where it is not the default one: `line/month`."""
    user: str = ""
    """Version 1: the user."""
    password: SecretStr | None = None
    """Version 1: the password, a secret setting."""
    measurement: Expression
    """The measurement: an expression, so a fixed one is quoted text."""
    tags: list[str] | dict[str, Expression] = []
    """The tags, which are indexed: fields, or names with expressions. One without a value is left out."""
    fields: list[str] | dict[str, Expression] = []
    """The fields of the point: fields of the event, or names with expressions (default: all that are no tags)."""
    integers: list[str] = []
    """The fields that are whole numbers in the database; all other numbers are floats, as the type of a field cannot
    change there."""
    precision: Literal["ns", "us", "ms", "s"] = "us"
    """What the times of points count; they are the events' own times."""
    batch: int = Field(default=5_000, ge=1, le=50_000)
    """The most points in one request."""
    timeout: Duration = Field(10_000_000, gt=0)
    """How long an answer is waited for."""

    guarantee = "exactly once as seen in the database: a repeated point replaces itself"
    examples = (
        Example(
            about="Readings of a motor by line; the parts are whole numbers.",
            config="influx: {url: 'http://127.0.0.1:8086', org: plant, bucket: motors, measurement: \"'motor'\", "
            "tags: [line], integers: [parts]}",
            given=[{"line": 3, "rpm": 1500, "parts": 12}],
            expect=[{"line": 3, "rpm": 1500, "parts": 12}],
        ),
        Example(
            about="Version 1; the tags and fields are computed.",
            config="influx: {url: 'http://127.0.0.1:8086', database: line/month, measurement: kind, "
            "tags: {device: lower(device)}, fields: {celsius: (f - 32) / 1.8}, precision: s}",
            given=[{"kind": "oven", "device": "A7", "f": 451}],
            expect=[{"kind": "oven", "device": "A7", "f": 451}],
        ),
    )

    @field_validator("url")
    @classmethod
    def _address(cls, url: str) -> str:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.query:
            raise ValueError("an address like http://host:8086")
        return url.rstrip("/")

    def check(self, flow: Flow, node: Node) -> Iterable[Problem]:
        """Find options of two versions together, and what is both tag and field."""
        if (self.bucket is None) == (self.database is None):
            got = "neither" if self.bucket is None else "both"
            yield Problem("option-value", "bucket", f"either bucket (version 2, 3) or database (version 1); got {got}")
        others = ("user", "password") if self.database is None else ("org", "token")
        for name in others:
            if getattr(self, name):
                wanted = "database" if self.database is None else "bucket"
                yield Problem("option-value", name, f"{wanted} beside it; got none")
        for name in sorted(set(self.tags) & set(self.fields)):
            yield Problem("option-value", "fields", f"a name that is no tag too; got '{name}'")
        if self.fields:
            for at, name in enumerate(self.integers):
                if name not in self.fields:
                    yield Problem("option-value", f"integers.{at}", f"one of the fields; got '{name}'")

    def check_fields(self, flow: Flow, node: Node, given: Mapping[str, Type]) -> Iterable[Problem]:
        """Find fields that do not come in."""
        for option, names in (("tags", self.tags), ("fields", self.fields)):
            if isinstance(names, list):
                yield from unknown_fields(flow, ((f"{option}.{at}", name) for at, name in enumerate(names)), given)

    async def probe(self, node: Node, reach: Reach) -> Iterable[Problem]:
        """Try to connect to the server; nothing is written."""
        return await reach.url(self.url, "url")

    async def open(self, node: Node, outside: Outside) -> Writer:
        """Return the writer, which connects when it first writes."""
        return await Points(self, node.name, outside).open()

    def target(self) -> tuple[str, dict[str, str], dict[str, str]]:
        """Return address, parameters and headers of a write."""
        headers = {"Content-Type": "text/plain; charset=utf-8", "User-Agent": "Millstream"}
        if self.database is None:
            if self.token is not None:
                headers["Authorization"] = f"Token {self.token.get_secret_value()}"
            query = {"bucket": self.bucket or "", "org": self.org, "precision": self.precision}
            return f"{self.url}/api/v2/write", query, headers
        if self.password is not None:
            pair = f"{self.user}:{self.password.get_secret_value()}".encode()
            headers["Authorization"] = f"Basic {base64.b64encode(pair).decode()}"
        database, _, policy = self.database.partition("/")
        precision = {"us": "u"}.get(self.precision, self.precision)
        return f"{self.url}/write", {"db": database, "rp": policy, "precision": precision}, headers


Point = tuple[Event, bytes]


class Points:
    """Writes batches; of a refused one the points that are at fault are found by what the answer says, or in halves."""

    def __init__(self, options: Influx, node: str, outside: Outside) -> None:
        self._options, self._node, self._outside = options, node, outside
        self._url, query, headers = options.target()
        self._query = {name: value for name, value in query.items() if value}
        self._client = HttpClient(headers, 1, LARGEST_ANSWER)
        self._measurement = outgoing.evaluated("measurement", options.measurement)
        self._tags = outgoing.body_of("tags", options.tags)
        self._fields = outgoing.body_of("fields", options.fields) if options.fields else self._rest
        self._integers = frozenset(options.integers)
        self._per_second = line_protocol.UNITS[options.precision]

    async def open(self) -> "Points":
        """Get ready."""
        await self._client.open()
        return self

    async def write(self, events: list[Event]) -> None:
        """Return when all are points or dead letters; raises Unavailable while the database is away."""
        points = list(outgoing.sound(events, self._line, self._refuse))
        refused: list[tuple[Event, EventFault]] = []
        for begin in range(0, len(points), self._options.batch):
            refused += await self._put(points[begin : begin + self._options.batch])
        for event, fault in refused:
            self._refuse(event, fault)

    def _rest(self, event: Event) -> dict[str, Any]:
        return {name: value for name, value in event.data.items() if name not in self._options.tags}

    def _line(self, event: Event) -> bytes:
        measurement, tags, fields = self._measurement(event), self._tags(event), self._fields(event)
        try:
            if not isinstance(measurement, str):
                raise ValueError("a measurement that is text")
            at = event.time * self._per_second // 1_000_000
            return line_protocol.write_line(measurement, tags, fields, at, self._integers).encode() + b"\n"
        except (ValueError, TypeError) as fault:
            reason = f"a point of InfluxDB: {fault}"
        raise EventFault(reason)

    async def _put(self, points: Sequence[Point]) -> list[tuple[Event, EventFault]]:
        """Write points; return those that are refused, with the reason."""
        if not points:
            return []
        answer = await self._send(points)
        if 200 <= answer.status < 300:
            return []
        if answer.status not in REFUSED:
            said = f"an answer; got status {answer.status}: {_said(answer)}"
            raise NoAnswer(said, "busy" if answer.after else "server", answer.after)
        if len(points) == 1:
            return [(points[0][0], EventFault(f"a point that InfluxDB takes; {_said(answer)}", answer.seen))]
        if (named := _named(answer, len(points))) and len(named) < len(points):
            sure = [(points[at][0], EventFault(f"a point that InfluxDB takes; {why}")) for at, why in named.items()]
            return sure + await self._put([point for at, point in enumerate(points) if at not in named])
        middle = len(points) // 2
        return await self._put(points[:middle]) + await self._put(points[middle:])

    async def _send(self, points: Sequence[Point]) -> HttpAnswer:
        body = b"".join(line for _, line in points)
        try:
            async with asyncio.timeout(self._options.timeout / 1e6):
                return await self._client.send("POST", self._url, body, self._query)
        except TimeoutError:
            reason = f"an answer within {duration_text(self._options.timeout)}; got none"
        except EventFault as fault:
            reason = fault.reason
        raise Unavailable(reason)

    def _refuse(self, event: Event, fault: EventFault) -> None:
        self._outside.dead(self._node, event, fault.reason, fault.values)

    async def close(self) -> None:
        """Close the connection."""
        await self._client.close()


def _refusals(answer: HttpAnswer) -> Refusals:
    try:
        return msgspec.json.decode(answer.body, type=Refusals)
    except (msgspec.DecodeError, RecursionError):
        return Refusals()


def _said(answer: HttpAnswer) -> str:
    found = _refusals(answer)
    return (found.message or found.error or answer.body.decode(errors="replace"))[:300].strip() or "no reason"


def _named(answer: HttpAnswer, number: int) -> dict[int, str]:
    """Return the places of the lines that the answer names, with the reasons; none of a version that names none."""
    lines = _refusals(answer).data or []
    return {line.line_number - 1: line.error_message for line in lines if 0 < line.line_number <= number}
