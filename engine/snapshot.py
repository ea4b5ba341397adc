"""The snapshot of a shard: its time and the states of its keys, as MessagePack."""

from datetime import datetime
from typing import Any

import msgspec

PAIR = 0x92
"""How MessagePack begins a list of two."""
DEEPEST = 100
HELD = bool | int | float | str | bytes | bytearray | datetime
"""What is stored as it is."""


def encoded(now: int, states: dict[str, Any]) -> bytes:
    """Return [time, keys, states]: as a dict, the states of many keys take half as long again.

    What MessagePack cannot hold (a number of more than 64 bits in an event that waits) is kept as near as it can.
    """
    found = now, list(states), list(states.values())
    try:
        return msgspec.msgpack.encode(found)
    except (OverflowError, TypeError, ValueError, RecursionError):
        return msgspec.msgpack.encode(storable(found))


def decoded(snapshot: bytes, state_type: Any) -> tuple[int, dict[str, Any]]:
    """Return the time and the state of each key; reads what earlier versions wrote too: [time, {key: state}]."""
    if snapshot[0] == PAIR:
        return msgspec.msgpack.decode(snapshot, type=tuple[int, dict[str, state_type]])
    now, keys, states = msgspec.msgpack.decode(snapshot, type=tuple[int, list[str], list[state_type]])
    return now, dict(zip(keys, states, strict=True))


def storable(value: Any, depth: int = 0) -> Any:
    """Return a value in what MessagePack can hold, for states that it refuses."""
    if depth > DEEPEST:
        return None
    if isinstance(value, msgspec.Struct):
        fields = msgspec.structs.asdict(value)
        value = list(fields.values()) if value.__struct_config__.array_like else fields
    if isinstance(value, dict):
        return {key if isinstance(key, int) else str(key): storable(inner, depth + 1) for key, inner in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [storable(inner, depth + 1) for inner in value]
    if isinstance(value, int) and not -(1 << 63) <= value < 1 << 64:
        return float(value) if abs(value) < 1 << 1000 else None
    return value if value is None or isinstance(value, HELD) else str(value)
