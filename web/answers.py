"""What goes into a query and what comes out: parameters with all their faults told at once, rows as JSON."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Protocol

import msgspec
from starlette.requests import Request

from engine.errors import did_you_mean
from engine.parameters import Parameter, ParameterFault, Scalar, ScalarType, from_json, from_text
from engine.refusal import Field, Refusal, short
from engine.request_body import read_body, read_values
from web.accounts import Account

MOST_BODY = 1 << 20
TOKEN = "token"  # noqa: S105 - the name of a parameter
_ENCODER = msgspec.json.Encoder(enc_hook=str, decimal_format="number")


class Given(msgspec.Struct, frozen=True):
    """The parameters of a call: `text` from path and query string, `values` from a JSON body."""

    text: Mapping[str, str]
    values: Mapping[str, Any] = {}


class Answer(msgspec.Struct, frozen=True):
    """The answer of a query: JSON, status, headers; `events` are the ids of those that its rows come from, if known."""

    body: bytes
    status: int = 200
    headers: Mapping[str, str] = {}
    events: frozenset[bytes] | None = None


class Answering(Protocol):
    """A query that is ready to be asked."""

    async def answer(self, given: Given, account: Account | None) -> Answer:
        """Return the answer; raises Refusal."""


class Faults:
    """Collects what is wrong with the parameters of one call."""

    def __init__(self) -> None:
        self._fields: list[Field] = []

    def add(self, field: str, expected: str, got: object) -> None:
        """Remember one fault."""
        self._fields.append(Field(short(field), expected, short(got)))

    def unknown(self, names: Iterable[str], known: Sequence[str]) -> None:
        """Remember every name that is not known."""
        for name in names:
            if name not in known:
                hint = did_you_mean(name, known)
                expected = f"one of {', '.join(known)}" if known else "no parameters"
                self.add(name, f"{expected} ({hint})" if hint else expected, name)

    def raise_any(self) -> None:
        """Raise Refusal 422 that names every fault."""
        if self._fields:
            message = "; ".join(f"{f.field}: expected {f.expected}; got '{f.got}'" for f in self._fields[:5])
            raise Refusal(422, "invalid_parameter", message, self._fields[:50])


async def read_given(request: Request) -> Given:
    """Return what a call gives; raises Refusal 422 for a parameter that is given twice."""
    faults, text = Faults(), {str(name): str(value) for name, value in request.path_params.items()}
    for name, value in request.query_params.multi_items():
        if name in text:
            faults.add(name, "one value", "more than one")
        elif name != TOKEN:
            text[name] = value
    body = b"" if request.method in ("GET", "HEAD") else await read_body(request, MOST_BODY)
    values = read_values(body) if body.strip() else {}
    for name in values.keys() & text.keys():
        faults.add(name, "one value", "one in the address and one in the body")
    faults.raise_any()
    return Given(text, values)


def read_scalar(faults: Faults, name: str, kind: ScalarType, text: str) -> Scalar | None:
    """Return a typed value, or None after a fault."""
    try:
        return from_text(kind, text)
    except ParameterFault as fault:
        faults.add(name, fault.expected, text)
    return None


def read_parameter(faults: Faults, name: str, parameter: Parameter, given: Given) -> Scalar | None:
    """Return the value that a call gives for a declared parameter, or its default."""
    if name not in given.text and name not in given.values:
        return _default(faults, name, parameter)
    got: Any = given.text.get(name, given.values.get(name))
    if got is None and parameter.optional:
        return None
    try:
        read = from_text(parameter.type, got) if name in given.text else from_json(parameter.type, got)
        return parameter.bounded(read)
    except ParameterFault as fault:
        faults.add(name, fault.expected, "null" if got is None else got)
    return None


def _default(faults: Faults, name: str, parameter: Parameter) -> Scalar | None:
    if parameter.required:
        faults.add(name, "a value; it is required", "nothing")
    default: Scalar | None = parameter.default
    return default if default is None or parameter.moment else from_json(parameter.type, _plain(default))


def _plain(value: Any) -> Any:
    return value.isoformat() if hasattr(value, "isoformat") else value


def to_json(value: Any) -> bytes:
    """Return a value as JSON: times with Z, decimals as numbers, bytes in base64."""
    return _ENCODER.encode(value)


def to_rows(columns: Sequence[str], rows: Iterable[Sequence[Any]], kinds: Mapping[str, str]) -> list[dict[str, Any]]:
    """Return rows as mappings; `kinds` says what a column is where the database itself does not."""
    readers = [_READERS.get(kinds.get(column, ""), _as_it_is) for column in columns]
    return [{column: read(value) for column, read, value in zip(columns, readers, row, strict=True)} for row in rows]


def events_of(columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> frozenset[bytes] | None:
    """Return the ids of the events that rows come from; None: the rows do not have them."""
    if "_event" not in columns:
        return None
    at = list(columns).index("_event")
    return frozenset(row[at] for row in rows if isinstance(row[at], bytes))


def _as_it_is(value: Any) -> Any:
    return value.replace(tzinfo=UTC) if isinstance(value, datetime) and value.tzinfo is None else value


def _as_time(value: Any) -> Any:
    if isinstance(value, str):
        try:
            value = datetime.fromisoformat(value)
        except ValueError:
            return value
    return _as_it_is(value)


def _as_json(value: Any) -> Any:
    try:
        return msgspec.json.decode(value) if isinstance(value, (str, bytes)) else value
    except (msgspec.DecodeError, UnicodeDecodeError):
        return value


def _as_bool(value: Any) -> Any:
    return bool(value) if isinstance(value, int) else value


_READERS: dict[str, Callable[[Any], Any]] = {"time": _as_time, "json": _as_json, "bool": _as_bool}
