"""Read the body of a request within its bounds, and check that it is JSON before anything is done with it."""

import asyncio
import re
import zlib
from collections.abc import AsyncIterator, Mapping
from operator import itemgetter
from typing import Any, Protocol

import msgspec

from engine.refusal import Refusal

MAX_DEPTH = 64
MOST_DRAINED = 64 << 20
CODINGS = ("identity", "gzip", "x-gzip", "deflate")
UNPACKED_HERE = 16 << 10
"""Packed bytes below which a body is unpacked on the loop: a thread would cost more."""
_STRING = re.compile(rb'"(?:[^"\\]|\\.)*"', re.DOTALL)
_NOT_BRACKETS = bytes(set(range(256)) - set(b"[]{}"))
_ONE_KIND = bytes.maketrans(b"{}", b"[]")
_ARRAY = msgspec.json.Decoder(list[msgspec.Raw])
_ANY = msgspec.json.Decoder(msgspec.Raw)
_FULL = msgspec.json.Decoder()
_OBJECT = frozenset(b"{")
_first = itemgetter(0)


class BodyRequest(Protocol):
    """What is needed of a request (Starlette's has it)."""

    @property
    def headers(self) -> Mapping[str, str]:
        """Return the headers."""

    def stream(self) -> AsyncIterator[bytes]:
        """Return the body in parts."""


async def read_body(request: BodyRequest, most: int) -> bytes:
    """Return the body, unpacked where it came by gzip or deflate; raises Refusal 413 where it is longer than `most`.

    Another content-encoding is a 415, one that is broken a 400. What is too much is read and thrown away, up to
    MOST_DRAINED: a client that is still sending reads no answer.
    """
    coding = request.headers.get("content-encoding")
    if coding is not None and coding.strip().lower() not in CODINGS:
        message = f"expected content-encoding gzip, deflate or none; got '{coding[:40]}'"
        raise Refusal(415, "unsupported_encoding", message, headers={"Accept-Encoding": "gzip, deflate"})
    declared = request.headers.get("content-length", "0")
    if declared.isdecimal() and (len(declared) > 18 or int(declared) > most + MOST_DRAINED):
        raise too_large(most, close=True)
    parts, size = [], 0
    async for part in request.stream():
        size += len(part)
        if size > most + MOST_DRAINED:
            raise too_large(most, close=True)
        if size <= most:
            parts.append(part)
        else:
            parts.clear()
    if size > most:
        raise too_large(most)
    body = parts[0] if len(parts) == 1 else b"".join(parts)
    return body if coding is None else await _plain(body, coding, most)


async def _plain(body: bytes, coding: str, most: int) -> bytes:
    if coding.strip().lower() == "identity":
        return body
    return unpacked(body, most) if len(body) < UNPACKED_HERE else await asyncio.to_thread(unpacked, body, most)


def unpacked(body: bytes, most: int) -> bytes:
    """Return what gzip (RFC 1952, one member or more), zlib (RFC 1950) or deflate (RFC 1951) has packed.

    Raises Refusal 413 before more than `most` bytes are made, 400 for what is neither, or not whole.
    """
    found: list[bytes] = []
    left = most
    while body or not found:
        unpack = zlib.decompressobj(47 if _has_head(body) else -15)
        try:
            part = unpack.decompress(body, left + 1)
        except zlib.error as fault:
            raise Refusal(400, "invalid_encoding", f"expected what gzip or deflate has packed; {fault}") from None
        left -= len(part)
        if left < 0:
            raise too_large(most)
        if not unpack.eof:
            raise Refusal(400, "invalid_encoding", "expected what gzip or deflate has packed; it ends too early")
        found.append(part)
        body = unpack.unused_data
    return found[0] if len(found) == 1 else b"".join(found)


def _has_head(body: bytes) -> bool:
    """Tell whether this begins like gzip or zlib; what many clients call deflate has no head."""
    return body[:2] == b"\x1f\x8b" or (len(body) > 1 and body[0] & 15 == 8 and (body[0] << 8 | body[1]) % 31 == 0)


def too_large(most: int, *, close: bool = False) -> Refusal:
    """Return the refusal of a body that is longer than allowed; `close` ends the connection of one that goes on."""
    headers = {"Connection": "close"} if close else {}
    return Refusal(413, "too_large", f"expected at most {most} bytes", headers=headers)


def read_object(body: bytes) -> bytes:
    """Return the JSON object in `body` as bytes; raises Refusal 400 (not JSON, too deep) or 422 (not an object)."""
    check_utf8(body)
    return _object(_raw(body), "")


def read_objects(body: bytes) -> list[bytes]:
    """Return the objects of a JSON array, or the one object, each as the bytes that came."""
    check_utf8(body)
    if not body.lstrip(b" \t\r\n").startswith(b"["):
        return [_object(_raw(body), "")]
    try:
        items = list(map(bytes, _ARRAY.decode(body)))
    except (msgspec.DecodeError, RecursionError) as fault:
        raise _broken(fault) from None
    if not _OBJECT.issuperset(map(_first, items)):
        index = next(index for index, item in enumerate(items) if item[0] not in _OBJECT)
        raise not_an_object(f"[{index}]", items[index])
    if body.count(b"{") + body.count(b"[") - len(items) > MAX_DEPTH:
        for item in items:
            check_depth(item)
    return items


def read_lines(body: bytes) -> list[bytes]:
    """Return the objects of NDJSON, one a line; empty lines are passed over."""
    check_utf8(body)
    found = []
    for number, line in enumerate(body.split(b"\n"), 1):
        if text := line.strip():
            found.append(_object(_raw(text, f"line {number}: "), f"line {number}"))
    return found


def read_values(body: bytes) -> dict[str, Any]:
    """Return a JSON object as values; raises as read_object does."""
    value = _FULL.decode(read_object(body))
    return dict(value)


def check_utf8(body: bytes) -> None:
    """Raise Refusal 400 with the position of the first byte that is not UTF-8."""
    if body.isascii():
        return
    try:
        body.decode()
    except UnicodeDecodeError as fault:
        raise Refusal(400, "invalid_json", f"expected UTF-8; byte {fault.start} is not") from None


def check_depth(item: bytes) -> None:
    """Raise Refusal 400 where valid JSON nests deeper than MAX_DEPTH."""
    if item.count(b"{") + item.count(b"[") <= MAX_DEPTH:
        return
    brackets = _STRING.sub(b"", item).translate(_ONE_KIND, _NOT_BRACKETS)
    for _ in range(MAX_DEPTH):
        brackets = brackets.replace(b"[]", b"")
        if not brackets:
            return
    raise _too_deep()


def _raw(body: bytes, place: str = "") -> bytes:
    try:
        return bytes(_ANY.decode(body))
    except (msgspec.DecodeError, RecursionError) as fault:
        raise _broken(fault, place) from None


def _object(item: bytes, place: str) -> bytes:
    if not item.startswith(b"{"):
        raise not_an_object(place, item)
    check_depth(item)
    return item


def _too_deep() -> Refusal:
    return Refusal(400, "too_deep", f"expected JSON nested at most {MAX_DEPTH} deep")


def _broken(fault: Exception, place: str = "") -> Refusal:
    if isinstance(fault, RecursionError):
        return _too_deep()
    return Refusal(400, "invalid_json", f"expected JSON; {place}{fault}")


def not_an_object(place: str, item: bytes) -> Refusal:
    """Return the refusal of JSON that is not an object."""
    got = {b'"': "text", b"[": "an array", b"t": "true", b"f": "false", b"n": "null"}.get(item[:1], "a number")
    where = f"{place}: " if place else ""
    return Refusal(422, "not_an_object", f"{where}expected a JSON object; got {got}")
