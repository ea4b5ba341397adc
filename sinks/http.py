"""`http`: send events to a server (a webhook)."""

import asyncio
import binascii
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal
from urllib.parse import quote, urlsplit

import msgspec
from pydantic import BaseModel, Field, PrivateAttr, SecretStr, ValidationInfo, field_validator, model_validator

from engine.api import (
    Component,
    Duration,
    Event,
    EventFault,
    Example,
    Expression,
    Flow,
    HttpClient,
    Indivisible,
    NoAnswer,
    Node,
    Outside,
    Placeholders,
    Problem,
    Reach,
    Retry,
    Sink,
    Type,
    Writer,
    component,
    duration_text,
    outgoing,
    unknown_fields,
    webhooks,
)

TYPES = {"json": "application/json", "jsonl": "application/x-ndjson", "text": "text/plain; charset=utf-8"}
LARGEST_ANSWER = 1 << 20


class Sign(BaseModel):
    """How requests are signed: as Standard Webhooks 1.0 says."""

    model_config = Component.model_config

    secret: SecretStr
    """The secret that the receiver knows too, a secret setting: `whsec_` and base64, or any text."""

    @field_validator("secret")
    @classmethod
    def _key(cls, secret: SecretStr) -> SecretStr:
        try:
            webhooks.signing_key(secret.get_secret_value())
        except binascii.Error:
            raise ValueError("base64 after whsec_") from None
        return secret


@component("http")
class Http(Sink):
    """Send each event to a server over HTTP, by default as JSON: a webhook.

    Delivery: at least once, in order (with `at_once: 1`); the receiver can tell what comes again by `Idempotency-Key`,
    which is the event's id. No answer (no connection, `timeout`, status 408, 425, 429 or 5xx) means that the receiver
    is away: events wait on the disk and are sent when it is back, not before the time that a Retry-After asks for. Any
    other status than 2xx is the event's fault: a dead letter with the status and how the answer begins; a batch that is
    refused with 400, 409, 413, 415 or 422 is sent again in halves to find the event.
    """

    url: Placeholders
    """The address, `http://…` or `https://…`, with expressions in braces where it depends on the event
    (`https://host/device/{id}`); a secret setting where it holds a token."""
    method: Literal["POST", "PUT", "PATCH"] = "POST"
    """The method."""
    headers: dict[str, SecretStr | str] = {}
    """Further headers; a secret only as `${setting}` alone."""
    bearer: SecretStr | None = None
    """A token, sent as `Authorization: Bearer …`: a secret setting."""
    fields: list[str] = []
    """Which fields are sent as JSON (default: all)."""
    body: Expression | dict[str, Expression] | None = None
    """What is sent as JSON in place of the fields: an expression, or names with expressions."""
    text: str | None = None
    """What is sent in place of JSON: a Jinja template over the fields, `meta` and `settings`, as plain text unless
    `headers` have a Content-Type."""
    batch: int | None = Field(default=None, ge=1, le=10_000)
    """The most events in one request; those that come while another request is under way go together. Its
    Idempotency-Key is that of the batch: put `meta.id` into the body where a receiver is to tell events apart."""
    linger: Duration = 0
    """How long the first of a batch waits for others: at most until the flow's next snapshot, after half a second."""
    format: Literal["json", "jsonl"] = "json"
    """What a batch is: a JSON array, or a line of JSON for each event (`application/x-ndjson`)."""
    timeout: Duration = Field(10_000_000, gt=0)
    """How long an answer is waited for, each time."""
    retry: Retry | None = None
    """How often a request without an answer is sent again before its events are dead letters, after which wait, and for
    which `causes`; by default it is sent again until it is taken."""
    at_once: int = Field(default=1, ge=1, le=100)
    """How many requests are under way at once; with more than one, a later event may arrive first."""
    sign: Sign | None = None
    """`{secret: …}`: requests carry `webhook-id`, `webhook-timestamp` and `webhook-signature` (HMAC-SHA256), as
    Standard Webhooks 1.0 says."""

    _around: outgoing.Surroundings = PrivateAttr(default_factory=outgoing.Surroundings)
    guarantee = "at least once; each request carries the event's id as Idempotency-Key"
    examples = (
        Example(
            about="Defects reach another system, with the id by which it knows them.",
            config="http: {url: 'https://mes.example/defects', body: {id: meta.id, device: device, at: meta.time}}",
            given=[{"device": "LED", "result": "DEFECT"}],
            expect=[{"device": "LED", "result": "DEFECT"}],
        ),
        Example(
            about="Readings go in batches, as lines of JSON; what is not taken three times is a dead letter.",
            config="http: {url: 'http://127.0.0.1:9000/line/{line}', batch: 500, format: jsonl, fields: [line, t], "
            "retry: {times: 2, wait: 1s}}",
            given=[{"line": 3, "t": 20.5, "more": 1}, {"line": 3, "t": 21}],
            expect=[{"line": 3, "t": 20.5, "more": 1}, {"line": 3, "t": 21}],
        ),
        Example(
            about="A line of text for a chat.",
            config="http: {url: 'http://127.0.0.1:9000/chat', text: 'Press {{ press }} is at {{ t }} °C.'}",
            given=[{"press": 3, "t": 81}],
            expect=[{"press": 3, "t": 81}],
        ),
    )

    @field_validator("url")
    @classmethod
    def _address(cls, url: Placeholders) -> Placeholders:
        try:
            parts = urlsplit(url.beginning)
            known = parts.scheme in ("http", "https") and parts.hostname and (parts.port or 0) >= 0
        except ValueError:
            known = False
        if not known:
            raise ValueError("an address like http://host:port/path")
        return url

    @model_validator(mode="after")
    def _placed(self, info: ValidationInfo) -> "Http":
        object.__setattr__(self, "_around", outgoing.Surroundings(info))
        return self

    def check(self, flow: Flow, node: Node) -> Iterable[Problem]:
        """Find options that do not go together, and a template that cannot be read."""
        bodies = [name for name in ("fields", "body", "text") if getattr(self, name)]
        if len(bodies) > 1:
            yield Problem("option-value", bodies[1], f"one of fields, body and text; got {' and '.join(bodies)}")
        if self.text is not None:
            yield from outgoing.check_template("text", self.text, self._around)
            if self.batch:
                yield Problem("option-value", "batch", "a body in JSON, in which several events can be; got text")
        for option, given in (("format", self.format == "jsonl"), ("linger", self.linger > 0)):
            if given and not self.batch:
                yield Problem("option-value", option, "batch beside it; got none")

    def check_fields(self, flow: Flow, node: Node, given: Mapping[str, Type]) -> Iterable[Problem]:
        """Find fields that do not come in."""
        named = [(f"fields.{at}", name) for at, name in enumerate(self.fields)]
        return unknown_fields(flow, [*named, *outgoing.template_fields("text", self.text, self._around)], given)

    async def probe(self, node: Node, reach: Reach) -> Iterable[Problem]:
        """Try to connect to the server, where its address does not depend on the event; nothing is sent."""
        host = urlsplit(self.url.beginning)
        whole = not self.url.expressions or host.path
        return await reach.url(f"{host.scheme}://{host.netloc}", "url") if whole else ()

    async def open(self, node: Node, outside: Outside) -> Writer:
        """Return the writer, which connects when it first sends."""
        return await Sender(self, node.name, outside).open()

    def maker(self) -> "Maker":
        """Return what makes bodies of events."""
        if self.text is not None:
            text = outgoing.Text("text", self.text, self._around)
            return Maker(lambda event: text(event).encode(), self.url)
        body = outgoing.body_of("body", self.body if self.body is not None else self.fields or None)
        return Maker(lambda event: outgoing.as_json_bytes(body(event)), self.url)


class Maker(msgspec.Struct):
    """Makes the address and the body of an event; raises EventFault."""

    body: Any
    url: Placeholders

    def __call__(self, event: Event) -> tuple[str, bytes]:
        return self.url.fill(event, lambda value: quote(value, safe="")), self.body(event)


class Sender:
    """Sends batches; what had no answer is sent again when the lane asks again, what was taken is not."""

    def __init__(self, options: Http, node: str, outside: Outside) -> None:
        self._options, self._node, self._outside = options, node, outside
        self.gather = options.batch or 0, options.linger / 1e6
        self._make = options.maker()
        format = "text" if options.text is not None else options.format
        headers = {"Content-Type": TYPES[format], "Accept": "application/json, */*;q=0.5", "User-Agent": "Millstream"}
        headers |= {name: outgoing.opened(value) for name, value in options.headers.items()}
        if options.bearer is not None:
            headers["Authorization"] = f"Bearer {options.bearer.get_secret_value()}"
        self._client = HttpClient(headers, options.at_once, LARGEST_ANSWER)
        self._key = webhooks.signing_key(options.sign.secret.get_secret_value()) if options.sign else None
        self._given: list[Event] | None = None
        self._waiting: list[webhooks.Request] = []
        self._not_before = 0.0

    async def open(self) -> "Sender":
        """Get ready."""
        await self._client.open()
        return self

    async def write(self, events: list[Event]) -> None:
        """Return when the receiver has taken them all, or they are dead letters; raises NoAnswer while it is away."""
        if events is not self._given:
            self._given, self._waiting = events, self._requests(events)
        await asyncio.sleep(self._not_before - time.monotonic())
        while self._waiting:
            wave = self._waiting[: self._options.at_once]
            left = await asyncio.gather(*map(self._deliver, wave), return_exceptions=True)
            again = [request for request, fault in zip(wave, left, strict=True) if isinstance(fault, BaseException)]
            halves = [half for found in left if not isinstance(found, BaseException) for half in found]
            self._waiting = again + halves + self._waiting[len(wave) :]
            for fault in left:
                if isinstance(fault, BaseException):
                    raise fault
        self._given = None

    def _requests(self, events: Sequence[Event]) -> list[webhooks.Request]:
        """Return what is sent for events: neighbours of one address go together, up to `batch`."""
        found: list[webhooks.Request] = []
        for event, (url, body) in outgoing.sound(events, self._make, self._refuse):
            if found and found[-1].url == url and len(found[-1].events) < (self._options.batch or 1):
                found[-1].events.append(event)
                found[-1].bodies.append(body)
            else:
                found.append(webhooks.Request(url, [event], [body]))
        return found

    async def _deliver(self, request: webhooks.Request) -> list[webhooks.Request]:
        """Send one; return what is to be sent in its place. Raises NoAnswer for what is to be sent again."""
        fault = await self._fault(request)
        if isinstance(fault, NoAnswer):
            self._again(request, fault)
        elif isinstance(fault, EventFault):
            if len(request.events) > 1 and not isinstance(fault, Indivisible):
                return request.halves()
            for event in request.events:
                self._refuse(event, fault)
        return []

    async def _fault(self, request: webhooks.Request) -> Exception | None:
        body = self._body(request.bodies)
        try:
            async with asyncio.timeout(self._options.timeout / 1e6):
                headers = self._headers(request.id, body)
                answer = await self._client.send(self._options.method, request.url, body, None, headers)
        except TimeoutError:
            return NoAnswer(f"an answer within {duration_text(self._options.timeout)}; got none", "timeout")
        except (NoAnswer, EventFault) as fault:
            return fault
        return answer.refusal()

    def _again(self, request: webhooks.Request, fault: NoAnswer) -> None:
        """Raise the fault when the request is to be sent again; else its events are dead letters."""
        retry, wait = self._options.retry, 0.0
        if retry is not None:
            if request.tries >= retry.times or fault.cause not in retry.causes:
                for event in request.events:
                    self._refuse(event, EventFault(str(fault), {"cause": fault.cause, "tries": request.tries + 1}))
                return
            wait = retry.pause(request.tries)
        request.tries += 1
        self._not_before = time.monotonic() + max(wait, fault.after)
        raise fault

    def _refuse(self, event: Event, fault: EventFault) -> None:
        self._outside.dead(self._node, event, fault.reason, fault.values)

    def _body(self, bodies: list[bytes]) -> bytes:
        if not self._options.batch:
            return bodies[0]
        return (
            b"".join(body + b"\n" for body in bodies)
            if self._options.format == "jsonl"
            else b"[%b]" % b",".join(bodies)
        )

    def _headers(self, id_: str, body: bytes) -> dict[str, str]:
        headers = {"Idempotency-Key": id_}
        if self._key is not None:
            at = str(int(time.time()))
            headers |= {"webhook-id": id_, "webhook-timestamp": at}
            headers["webhook-signature"] = webhooks.signature(self._key, id_, at, body)
        return headers

    async def close(self) -> None:
        """Close the connections."""
        await self._client.close()
