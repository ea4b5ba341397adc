"""`call`: ask a server over HTTP about each event, and go on with its answer."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Literal
from urllib.parse import urlsplit

import msgspec
from pydantic import Field, SecretStr, field_validator

from engine.api import (
    ANY,
    JSON,
    Asked,
    Asking,
    Breaker,
    Duration,
    Event,
    EventFault,
    Example,
    Expression,
    Flow,
    GivenAnswer,
    HttpAnswer,
    HttpClient,
    Indivisible,
    Node,
    Problem,
    Question,
    Reach,
    Retry,
    Size,
    Terms,
    Type,
    beginning,
    component,
    unknown_fields,
)


class Sent(msgspec.Struct, frozen=True):
    """What is sent for one event: its body as JSON (none: no body), and its part of the address."""

    body: bytes | None
    query: dict[str, str] = {}


@component("call")
class Call(Asking):
    """Ask a server over HTTP, such as a model server, and put its answer into the event.

    Events go on in the order of arrival, each when its answer is there; what is behind sees the time of the events, as
    if each answer had been there at once, while the other branches of the flow go on (a node that takes from both sees
    theirs first). Events that wait are part of the state: after a crash or a deploy they are asked for again. So a
    server is asked about each event at least once, and each event goes on once.

    No answer (no connection, `timeout`, status 408, 425, 429, 5xx) is tried again by `retry`, then the event gets
    `fallback`, or is a dead letter where there is none. Any other status than 2xx is the event's fault: a dead letter
    with the status and how the answer begins; a batch is asked again in halves to find the event. A replay into a
    shadow asks nobody: events go on with `fallback`, or as they are. A flow test gives the answers (`answers:`).
    """

    url: str
    """The address, `http://…` or `https://…`."""
    method: Literal["POST", "PUT", "PATCH", "GET", "DELETE"] = "POST"
    """The method; GET and DELETE send no body."""
    headers: dict[str, SecretStr | str] = {}
    """Further headers; a secret only as `${setting}` alone."""
    bearer: SecretStr | None = None
    """A token, sent as `Authorization: Bearer …`: a secret setting."""
    query: dict[str, Expression] = {}
    """Parameters of the address; one whose value is none is left out."""
    body: Expression | list[str] | dict[str, Expression] | None = None
    """What is sent as JSON: an expression, a list of fields, or names with expressions; by default the event's data."""
    batch: int | None = Field(default=None, ge=1, le=10_000)
    """The most events in one request: it is a JSON array then, and so is the answer, as long and in the same order."""
    batch_as: str = ""
    """The name under which the array is sent in an object, such as `instances`; by default the array is the body."""
    linger: Duration = 0
    """How long the first of a batch waits for others."""
    timeout: Duration = Field(10_000_000, gt=0)
    """How long an answer is waited for, each time."""
    retry: Retry = Retry()
    """How often it is asked again, after which wait (doubled each time, up to 30s), and for which `causes`: no
    `connection`, `timeout`, `busy` (408, 425, 429), `server` (5xx)."""
    breaker: Breaker | None = None
    """After how many failed requests in a row the server is left alone, and for how long: events get `fallback`
    at once, then one request is a probe. With a fallback it is `{failures: 5, for: 30s}`."""
    fallback: dict[str, Expression] | None = None
    """Fields and what they are set to where there is no answer, one after the other, so that the event goes on."""
    answer: Expression | None = None
    """What of the JSON that comes back is the answer (with `batch` the list of answers), such as `predictions`."""
    as_: str | None = Field(default=None, alias="as")
    """The field that gets the answer; by default the fields of the answer become fields of the event."""
    fields: list[str] | None = None
    """Which fields of the answer are taken; by default all."""
    at_once: int = Field(default=4, ge=1, le=1_000)
    """How many requests are under way at once."""
    most: int = Field(default=10_000, ge=1, le=1_000_000)
    """How many events wait; what happens beyond it says `when_full`."""
    when_full: Literal["wait", "fallback"] = "wait"
    """The flow's sources wait, or what comes gets `fallback` (and at twice as many the sources wait all the same)."""
    largest: Size = 1 << 20
    """The greatest size of what comes back."""

    examples = (
        Example(
            about="A model server labels batches of readings; while it is away a rule of thumb does.",
            config="call: {url: 'http://127.0.0.1:9000/predict', batch: 32, linger: 20ms, fields: [label, score], "
            'fallback: {label: \'"hot" if temperature > 80 else "ok"\', source: \'"rule"\'}}',
            given=[{"temperature": 20}, {"temperature": 90}, {"temperature": 95}],
            answers=[
                {"body": {"label": "ok", "score": 0.9, "took": 3}},
                {"when": "temperature == 90", "fails": "timeout"},
                {"body": {"label": "worn", "score": 0.8}},
            ],
            expect=[
                {"temperature": 20, "label": "ok", "score": 0.9},
                {"temperature": 90, "label": "hot", "source": "rule"},
                {"temperature": 95, "label": "worn", "score": 0.8},
            ],
        ),
        Example(
            about="A part is looked up by its number; one that the server does not know is a dead letter.",
            config="call: {url: 'http://127.0.0.1:9000/parts', method: GET, query: {number: part}, as: known}",
            given=[{"part": 7}, {"part": 8}],
            answers=[{"when": "part == 7", "body": {"name": "axle"}}, {"status": 404, "body": "no such part"}],
            expect=[{"part": 7, "known": {"name": "axle"}}],
            side={"errors": [{"part": 8, "reason": "an answer; got status 404: no such part"}]},
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
        """Find options that do not go together."""
        bodiless = self.method in ("GET", "DELETE")
        if self.batch and (bodiless or self.query):
            got = f"method {self.method}" if bodiless else "query, which differs from event to event"
            yield Problem("option-value", "batch", f"a body, in which several events can be; got {got}")
        if bodiless and self.body is not None:
            yield Problem("option-value", "body", f"a method that sends one; got {self.method}")
        for option in ("linger", "batch_as"):
            if getattr(self, option) and not self.batch:
                yield Problem("option-value", option, "batch beside it; got none")
        for option, given in (("breaker", self.breaker is not None), ("when_full", self.when_full == "fallback")):
            if given and self.fallback is None:
                yield Problem("option-value", option, "fallback beside it: what events get then; got none")

    def reads(self, given: Mapping[str, Type]) -> Iterator[tuple[str, Expression, Mapping[str, Type]]]:
        """Yield the expressions with the types they see; `answer` looks at what comes back."""
        for option, expression, types in super().reads(given):
            if option != "answer" and not option.startswith("fallback."):
                yield option, expression, types
        types = dict(given)
        for name, expression in (self.fallback or {}).items():
            yield f"fallback.{name}", expression, types
            types = types | {name: expression.evident(types)}

    async def probe(self, node: Node, reach: Reach) -> Iterable[Problem]:
        """Try to connect to the server; nothing is asked there."""
        return await reach.url(self.url, "url")

    def check_fields(self, flow: Flow, node: Node, given: Mapping[str, Type]) -> Iterable[Problem]:
        """Find fields to send that do not come in."""
        named = self.body if isinstance(self.body, list) else []
        return unknown_fields(flow, [(f"body.{at}", field) for at, field in enumerate(named)], given)

    def gives(self, given: Mapping[str, Type] | None, output: str = "") -> Mapping[str, Type] | None:
        """Return what comes in and what the answer or the fallback sets, of which nothing is known."""
        if output or given is None:
            return super().gives(given, output)
        if self.as_ is None and self.fields is None:
            return None
        names = [self.as_] if self.as_ is not None else self.fields or []
        return {**given, **dict.fromkeys([*names, *(self.fallback or {})], ANY)}

    def terms(self) -> Terms:
        """Return how it asks; with a fallback there is a breaker."""
        breaker = self.breaker or (Breaker() if self.fallback is not None else None)
        return Terms(
            batch=self.batch or 1, linger=self.linger, timeout=self.timeout, at_once=self.at_once, most=self.most,
            when_full=self.when_full, retry=self.retry, breaker=breaker,
        )  # fmt: skip

    async def open(self) -> Asked:
        """Return the server, to which a connection is made when it is asked."""
        return await _Server(self).open()

    def request(self, event: Event) -> Sent:
        """Return what is sent for an event."""
        query = {name: _text(value) for name, each in self.query.items() if (value := each(event)) is not None}
        body = None if self.method in ("GET", "DELETE") else _encoder.encode(self._body(event))
        return Sent(body, query)

    def _body(self, event: Event) -> Any:
        if self.body is None:
            return event.data
        if isinstance(self.body, list):
            return {name: event.data.get(name) for name in self.body}
        if isinstance(self.body, dict):
            return {name: expression(event) for name, expression in self.body.items()}
        return self.body(event)

    def merge(self, event: Event, answer: Any) -> Event:
        """Return the event with the answer in one field, or with its fields."""
        if answer is None and self.as_ is None:
            return event
        found = answer if self.as_ is not None and self.fields is None else self._picked(answer)
        return event.derive({**event.data, **(found if self.as_ is None else {self.as_: found})})

    def _picked(self, answer: Any) -> dict[str, Any]:
        if not isinstance(answer, dict):
            hint = "" if self.as_ is not None else ", whose fields go into the event (else `as`)"
            raise EventFault(f"an answer that is an object{hint}; got {beginning(_encoder.encode(answer))}")
        return answer if self.fields is None else {name: answer.get(name) for name in self.fields}

    def fall_back(self, event: Event) -> Event | None:
        """Return the event with its fallback; None where there is none."""
        if self.fallback is None:
            return None
        made = event.derive({**event.data})
        for name, expression in self.fallback.items():
            made.data[name] = expression(made)
        return made

    def given(self, answer: GivenAnswer) -> Any:
        """Return what a flow test gives as the answer to one event."""
        text = answer.body.encode() if isinstance(answer.body, str) else _encoder.encode(answer.body)
        if (fault := HttpAnswer(answer.status, text).refusal()) is not None:
            raise fault
        return answer.body if self.batch else self._part(answer.body)

    def answers(self, came: HttpAnswer, number: int) -> list[Any]:
        """Return the answers to a request about so many events; raises NoAnswer or EventFault."""
        if (fault := came.refusal()) is not None:
            raise fault
        try:
            found = self._part(msgspec.json.decode(came.body) if came.body else None)
        except (msgspec.DecodeError, RecursionError):
            raise Indivisible(f"an answer in JSON; got {beginning(came.body)}", came.seen) from None
        if not self.batch:
            return [found]
        if not isinstance(found, list):
            raise Indivisible(f"a list of {number} answers; got {beginning(came.body)}", came.seen)
        return found

    def _part(self, value: Any) -> Any:
        """Return what of the JSON that came back is the answer."""
        if self.answer is None:
            return value
        if not isinstance(value, dict):
            raise Indivisible(f"an object, for answer: {self.answer}; got {beginning(_encoder.encode(value))}")
        try:
            return self.answer(Event(b"", 0, "", "", "", value))
        except (TypeError, ValueError, ArithmeticError, RecursionError) as fault:
            raise Indivisible(f"answer: {fault}; in {beginning(_encoder.encode(value))}") from None


class _Server:
    """The server of one `call`, on the I/O thread."""

    def __init__(self, call: Call) -> None:
        self._call = call
        headers = JSON | {name: _open(value) for name, value in call.headers.items()}
        if call.bearer is not None:
            headers["Authorization"] = f"Bearer {_open(call.bearer)}"
        self._client = HttpClient(headers, call.at_once, call.largest)

    async def open(self) -> "_Server":
        """Get ready."""
        await self._client.open()
        return self

    async def ask(self, questions: Sequence[Question]) -> list[Any]:
        """Send one request."""
        call, first = self._call, questions[0].request
        body = self._together([question.request.body for question in questions]) if call.batch else first.body
        answer = await self._client.send(call.method, call.url, body, first.query)
        return call.answers(answer, len(questions))

    def _together(self, bodies: list[bytes]) -> bytes:
        array = b"[" + b",".join(bodies) + b"]"
        name = self._call.batch_as
        return b"{" + _encoder.encode(name) + b":" + array + b"}" if name else array

    async def close(self) -> None:
        """Close the connections."""
        await self._client.close()


_encoder = msgspec.json.Encoder(enc_hook=str)


def _open(value: SecretStr | str) -> str:
    return value if isinstance(value, str) else value.get_secret_value()


def _text(value: Any) -> str:
    return value if isinstance(value, str) else _encoder.encode(value).decode().strip('"')
