"""Events as bytes and back, exactly: MessagePack, and extensions of ours for what it cannot hold as it is."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import msgspec

from engine.event import Event

DEEPEST = 100
_TIME, _BIG, _TEXT = 1, 2, 3
_INT = range(-(1 << 63), 1 << 64)
_AS_IT_IS = frozenset({type(None), bool, float, bytes})
_encoder = msgspec.msgpack.Encoder()


def encode_events(events: Sequence[Event]) -> bytes:
    """Return events as bytes. Times keep their zone or that they have none, whole numbers all their digits.

    A tuple or set becomes a list, what is no data its text; what is nested deeper than 100 levels, and what is no
    UTF-8 in the name of a field, is left out.
    """
    return _encoder.encode([[_packed(field) for field in msgspec.structs.astuple(event)] for event in events])


def decode_events(body: bytes) -> list[Event]:
    """Return the events; raises msgspec.DecodeError, TypeError or ValueError for what encode_events did not make."""
    return [Event(*fields) for fields in _decoder.decode(body)]


def _packed(value: Any, depth: int = 0) -> Any:
    kind = type(value)
    if kind in _AS_IT_IS or (kind is str and value.isascii()):
        return value
    if kind is int:
        return value if value in _INT else msgspec.msgpack.Ext(_BIG, hex(value).encode())
    if kind is str:
        return _text(value)
    if isinstance(value, datetime):
        return msgspec.msgpack.Ext(_TIME, value.isoformat().encode())
    return _container(value, depth + 1)


def _container(value: Any, depth: int) -> Any:
    if depth > DEEPEST:
        return None
    if isinstance(value, dict):
        return {_key(key): _packed(inner, depth) for key, inner in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_packed(inner, depth) for inner in value]
    return _text(str(value))


def _key(key: Any) -> str:
    return key if type(key) is str and key.isascii() else str(key).encode(errors="replace").decode()


def _text(value: str) -> Any:
    """Return text that is no UTF-8, as a half of a surrogate pair is none, by its bytes."""
    try:
        value.encode()
    except UnicodeEncodeError:
        return msgspec.msgpack.Ext(_TEXT, value.encode(errors="surrogatepass"))
    return value


def _unpacked(code: int, body: memoryview) -> Any:
    text = bytes(body).decode(errors="surrogatepass")
    if code == _TIME:
        return datetime.fromisoformat(text)
    if code == _BIG:
        return int(text, 16)
    if code == _TEXT:
        return text
    raise ValueError(f"extension {code} is none of ours")


_decoder = msgspec.msgpack.Decoder(list[list[Any]], ext_hook=_unpacked)
