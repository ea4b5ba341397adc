"""`http`: JSON that is posted to the gateway."""

from collections.abc import Iterable
from hashlib import blake2b
from math import ceil
from time import monotonic
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field, PrivateAttr, model_validator
from pydantic_core import PydanticCustomError

from engine.api import (
    Arrivals,
    Duration,
    EventFault,
    Example,
    Flow,
    Intake,
    KeyReused,
    Node,
    Problem,
    Rate,
    Reach,
    Refusal,
    RoutedSource,
    Senders,
    Size,
    Unavailable,
    busy,
    check_path,
    component,
    path_parameters,
    read_body,
    read_lines,
    read_object,
    read_objects,
)

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response

LINES = "application/x-ndjson"
LONGEST_KEY = 255
KEY = {"type": "string", "minLength": 1, "maxLength": LONGEST_KEY}


@component("http")
class Http(RoutedSource):
    """Take JSON objects by HTTP: one, an array of them, or lines (`application/x-ndjson`).

    A body may be packed by gzip or deflate (`Content-Encoding`). Devices show an API key (`millstream accounts key add
    NAME --role viewer`) in `Authorization: Bearer` or `X-API-Key`, people their token.

    Delivery: the events are in the durable inbox before the answer, so an answer of 2xx is a promise. A full inbox is a
    503 with Retry-After, and nothing of the request is kept. A request that is sent again under its `Idempotency-Key`
    (a header, per account and path, known for a day) is stored once and has the answer that it was given first; the key
    of another body is a 422. `meta.account` is who sent it, `meta.params` are the parameters of the path.
    """

    post: str | None = None
    """The path that takes POST, such as `/sensor/result` or `/cars/{car}/result`."""
    put: str | None = None
    """The path that takes PUT."""
    allow: Literal["anyone", "viewer", "employee", "manager", "admin"] = "employee"
    """The least role that may send; or anyone."""
    reply: Literal["accepted", "row", "flow"] = "accepted"
    """`accepted`: 202 after the commit; `row`: 201 with the row that a sink stored; `flow`: what the flow answers."""
    timeout: Duration = Field(10_000_000, gt=0)
    """How long an answer of the flow is waited for; 504 with the event's id after that. The event is kept."""
    most: Size = Field(1 << 20, ge=2)
    """The longest body."""
    array: bool | None = None
    """Whether many objects may come at once; default: where the reply is `accepted`."""
    at_most: Rate | None = None
    """The rate of requests of one sender, such as `100/s`: an account, a key, or else an address. What is beyond it is
    a 429 with Retry-After, and nothing of it is kept; as many as in one second may come at once."""
    time: str | None = None
    """The field that carries the event's own time; default: the arrival counts."""

    _senders: Senders = PrivateAttr(default_factory=lambda: Senders(monotonic))
    guarantee = "at least once into the inbox, once with an Idempotency-Key"
    examples = (
        Example(
            about="A sensor result that a person enters; the stored row is the answer.",
            config="http: {post: /sensor/result, allow: employee, reply: row}",
            given=[{"device": "LED", "result": "OK"}],
            expect=[{"device": "LED", "result": "OK"}],
        ),
        Example(
            about="Devices push many readings in one request.",
            config="http: {post: /readings, allow: viewer, most: 4MiB, at_most: 20/s}",
            given=[{"sensor": "a", "value": 1}, {"sensor": "b", "value": 2}],
            expect=[{"sensor": "a", "value": 1}, {"sensor": "b", "value": 2}],
        ),
    )

    @model_validator(mode="after")
    def _one_path(self) -> "Http":
        if (self.post is None) == (self.put is None):
            raise PydanticCustomError("path", "either post or put, with a path")
        return self

    def check(self, flow: Flow, node: Node) -> Iterable[Problem]:
        """Find a path that cannot be served or is taken, and many events where one answer is waited for."""
        method, path, _ = self.route()
        for message in check_path(path):
            yield Problem("path", method.lower(), message)
        for name, query in flow.queries.items():
            if (query.method, query.path) == (method.lower(), path):
                yield Problem("path-taken", method.lower(), f"a path of its own; {method} {path} is the query '{name}'")
        if self.array and self.reply != "accepted":
            yield Problem(
                "array",
                "array",
                f"reply: accepted; one request has one answer, so reply: {self.reply} takes one object",
            )

    async def probe(self, node: Node, reach: Reach) -> Iterable[Problem]:
        """Try whether the gateway can listen."""
        return await reach.web(self.route()[0].lower())

    def route(self) -> tuple[str, str, str | None]:
        """Return method, path and role."""
        method, path = ("POST", self.post) if self.post is not None else ("PUT", self.put or "")
        return method, path, None if self.allow == "anyone" else self.allow

    async def answer(self, request: "Request", intake: Intake) -> "Response":
        """Check the whole body, commit it, and answer."""
        self._hold_to_rate(request)
        body = await read_body(request, self.most)
        objects = self._objects(body, request.headers.get("content-type", ""))
        if not objects:
            return _accepted(0)
        arrivals = _arrivals(request, body, objects)
        try:
            if self.reply != "accepted":
                ids = await intake.append(arrivals, expect_reply=True)
            else:
                await intake.store(arrivals)
        except Unavailable as fault:
            raise busy(f"the inbox cannot take it now: {fault}") from None
        except EventFault as fault:
            raise Refusal(422, "not_storable", fault.reason) from None
        except KeyReused:
            message = "expected a new Idempotency-Key, or the same body again: this key came with another one"
            raise Refusal(422, "idempotency_key_reused", message) from None
        return await self._flows_answer(ids[0], intake) if self.reply != "accepted" else _accepted(len(objects))

    def _hold_to_rate(self, request: "Request") -> None:
        if self.at_most is None:
            return
        account, client = request.scope.get("account"), request.client
        sender = f"account {account.name}" if account else f"address {client.host if client else ''}"
        if wait := self._senders.take(sender, self.at_most):
            message = "expected fewer requests; Retry-After tells when the next one is taken"
            raise Refusal(429, "too_many_requests", message, headers={"Retry-After": str(ceil(wait))})

    def _objects(self, body: bytes, kind: str) -> list[bytes]:
        many = self.array if self.array is not None else self.reply == "accepted"
        lines = kind.partition(";")[0].strip().lower() == LINES
        if lines and not many:
            raise Refusal(415, "unsupported_type", f"expected one JSON object; got {LINES}")
        return read_lines(body) if lines else read_objects(body) if many else [read_object(body)]

    async def _flows_answer(self, event: bytes, intake: Intake) -> "Response":
        seconds = self.timeout / 1e6
        try:
            reply = await intake.reply(event, seconds)
        except TimeoutError:
            message = f"the event is stored, but the flow did not answer within {seconds:g} s"
            raise Refusal(504, "timeout", message, id=event.hex()) from None
        return _json(reply.body, reply.status)

    def openapi(self) -> dict[str, Any]:
        """Return what OpenAPI says of it: parameters, body, answers."""
        one: dict[str, Any] = {"type": "object"}
        many = self.array if self.array is not None else self.reply == "accepted"
        content = {"application/json": {"schema": {"oneOf": [one, {"type": "array", "items": one}]} if many else one}}
        if many:
            content[LINES] = {"schema": {"type": "string"}}
        return {
            "parameters": [
                {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}
                for name in path_parameters(self.route()[1])
            ]
            + [{"name": "Idempotency-Key", "in": "header", "schema": KEY}],
            "requestBody": {"required": True, "content": content},
            "responses": self._responses(),
            "codes": [400, 413, 415, 422, *self._more_codes()],
        }

    def _more_codes(self) -> Iterable[int]:
        return [code for code, may in ((429, self.at_most), (504, self.reply != "accepted")) if may]

    def _responses(self) -> dict[str, Any]:
        counted = {"type": "object", "required": ["accepted"], "properties": {"accepted": {"type": "integer"}}}
        status, about, schema = {
            "accepted": ("202", "All events are stored durably", counted),
            "row": ("201", "The stored row", {"type": "object"}),
            "flow": ("200", "What the flow answers", {}),
        }[self.reply]
        return {status: {"description": about, "content": {"application/json": {"schema": schema}}}}


def _arrivals(request: "Request", body: bytes, objects: list[bytes]) -> Arrivals:
    """Return what goes into the inbox; the once-key is account, method, path, the request's key, and 0."""
    meta, path = _meta(request), request.scope["path"]
    arrivals = Arrivals(objects, [path] * len(objects), meta)
    if "idempotency_key" in meta:
        once = "\0".join(["http", meta["account"] or "", request.method, path, meta["idempotency_key"], "0"])
        arrivals.keys = {0: (once, blake2b(body, digest_size=16).digest())}
    return arrivals


def _meta(request: "Request") -> dict[str, Any]:
    meta: dict[str, Any] = {
        "account": getattr(request.scope.get("account"), "name", None),
        "params": dict(request.path_params),
    }
    key = request.headers.get("idempotency-key")
    if key is not None:
        if not 0 < len(key) <= LONGEST_KEY:
            raise Refusal(400, "invalid_header", f"expected an Idempotency-Key of 1 to {LONGEST_KEY} characters")
        meta["idempotency_key"] = key
    return meta


def _accepted(count: int) -> "Response":
    return _json(b'{"accepted":%d}' % count, 202)


def _json(body: bytes, status: int) -> "Response":
    from starlette.responses import Response  # only the gateway has it loaded; workers import this module too

    return Response(body, status, media_type="application/json")
