"""The frames of the `websocket` source, read and written without I/O."""

from typing import Annotated

import msgspec

from engine.arrival import Reply
from engine.refusal import Refusal
from engine.request_body import read_object, read_objects

Number = int | str
LONGEST_NUMBER = 64
NUMBER = "id"


class _Frame(msgspec.Struct, forbid_unknown_fields=True):
    data: msgspec.Raw
    id: (
        Annotated[int, msgspec.Meta(ge=0, le=(1 << 63) - 1)]
        | Annotated[str, msgspec.Meta(min_length=1, max_length=LONGEST_NUMBER)]
        | None
    ) = None


class _Numbered(msgspec.Struct):
    id: Number | None = None


_frame = msgspec.json.Decoder(_Frame)
_numbered = msgspec.json.Decoder(_Numbered)
_encode = msgspec.json.Encoder().encode


class Pushed(msgspec.Struct):
    """What a client sent in one frame: its own number, the JSON objects, and the bytes that they came in."""

    number: Number | None
    objects: list[bytes]
    body: bytes


def read_frame(text: str | bytes, *, many: bool) -> Pushed:
    """Return what a frame holds; raises Refusal, with the frame's number where that can be read."""
    if isinstance(text, bytes):
        raise Refusal(400, "invalid_frame", "expected a text frame with JSON; got a binary frame")
    try:
        raw = text.encode()
        frame = _frame.decode(raw)
    except (msgspec.DecodeError, RecursionError, UnicodeError) as fault:
        message = f'expected {{"id": number, "data": object}}; {str(fault)[:200]}'
        raise Refusal(400, "invalid_frame", message, more=told(number_of(text))) from None
    body = bytes(frame.data)
    try:
        return Pushed(frame.id, read_objects(body) if many else [read_object(body)], body)
    except Refusal as reason:
        reason.more = told(frame.id)
        raise


def number_of(text: str) -> Number | None:
    """Return the number of a frame that cannot be taken otherwise; None where there is none to be found."""
    try:
        found = _numbered.decode(text).id
    except (msgspec.DecodeError, RecursionError, UnicodeError):
        return None
    return None if isinstance(found, str) and len(found) > LONGEST_NUMBER else found


def told(number: Number | None) -> dict[str, Number]:
    """Return what a Refusal has in `more`, so that its frame has the number."""
    return {} if number is None else {NUMBER: number}


def ack_frame(number: Number) -> str:
    """Return the frame that says: this one, and all that were sent before it, are stored or were refused."""
    return _text(b'{"ack":', _encode(number), b"}")


def error_frame(reason: Refusal, number: Number | None = None) -> str:
    """Return the frame that tells why one was not taken."""
    if number is None:
        number = reason.more.get(NUMBER)
    error = {"code": reason.code, "message": reason.message}
    return _text(_head(number), b'"error":', _encode(error), b"}")


def reply_frame(number: Number | None, reply: Reply) -> str:
    """Return the frame with a flow's answer."""
    return _text(_head(number), b'"status":%d,"reply":' % reply.status, reply.body or b"null", b"}")


def _head(number: Number | None) -> bytes:
    return b"{" if number is None else b'{"id":' + _encode(number) + b","


def _text(*parts: bytes) -> str:
    return b"".join(parts).decode()
