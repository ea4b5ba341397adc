"""A dead letter on its way back: through the inbox, as a record of a source of its own, to the node where it failed."""

from typing import Any

import msgspec

from engine.arrival import Arrival
from engine.dead_letters import packed
from engine.event import Event, derived_id
from engine.letter import Letter

RETRY = "!retry"
ENTRY = ">"
CUT = ("oversize", "largest", "unread")
"""Marks in `meta` of a payload that its source has cut, or could not read; edited data are whole."""


class Retried(msgspec.Struct, array_like=True, gc=False, frozen=True):
    """What the inbox holds of a retried letter. `data` is JSON, or MessagePack where `exact`, or a source's payload."""

    id: bytes
    node: str
    time: int
    key: str
    source: str
    topic: str
    meta: dict[str, Any] | None
    data: bytes
    exact: bool = False

    def event(self, arrival: int) -> Event:
        """Return the event that it is, its data still empty."""
        return Event(self.id, self.time, self.key, self.source, self.topic, {}, self.meta, arrival)

    def decoded(self) -> dict[str, Any]:
        """Return the data for a node that is no source; raises msgspec.DecodeError."""
        if self.exact:
            return msgspec.msgpack.decode(self.data, type=dict[str, Any])
        return msgspec.json.decode(self.data, type=dict[str, Any])


def arrival_of(letter: Letter) -> Arrival:
    """Return what goes into the inbox for a letter; `once` lets each of its failures be retried once."""
    data, meta = letter.payload if letter.fixed is None else letter.fixed, letter.meta
    if letter.exact:
        data = _exact(letter)
    if letter.fixed is not None and meta:
        meta = {name: value for name, value in meta.items() if name not in CUT}
    origin = (letter.id, letter.node, letter.event_time, letter.key, letter.source, letter.topic)
    retried = Retried(*origin, meta, data, bool(letter.exact))
    once = f"retry:{letter.id.hex()}:{letter.node}:{letter.time}"
    return Arrival(msgspec.msgpack.encode(retried), letter.topic, once=once)


def is_timer(letter: Letter) -> bool:
    """Tell whether a timer of a node with memory failed, and no event that could be put in again."""
    return letter.id == derived_id(letter.node, letter.key, letter.event_time)


def _exact(letter: Letter) -> bytes:
    """Return the data as they were, with what was edited; fields that were not keep what JSON cannot say."""
    if letter.fixed is None:
        return letter.exact
    whole = msgspec.msgpack.decode(letter.exact)
    shown, fixed = msgspec.json.decode(letter.payload), msgspec.json.decode(letter.fixed)
    kept = {name for name in fixed if name in whole and name in shown and fixed[name] == shown[name]}
    return packed({name: whole[name] if name in kept else value for name, value in fixed.items()})


def exact_of(data: dict[str, Any], shown: bytes) -> bytes:
    """Return data as MessagePack where their JSON says less (times, bytes, no number); else nothing."""
    try:
        same = msgspec.json.decode(shown) == data
    except msgspec.DecodeError:
        same = False
    return b"" if same else packed(data)
