"""Turn what the inbox holds into events: payloads decoded in C, by the type that the flow's declarations give."""

from base64 import b64encode
from collections.abc import Callable, Iterable
from itertools import groupby
from typing import Any

import msgspec

from engine import text_formats
from engine.block import Block
from engine.dead import DeadLetter
from engine.errors import EventFault
from engine.event import Event
from engine.event_time import event_time
from engine.flow import Flow, Node
from engine.outputs import COUNTS, DEAD
from engine.retry import ENTRY, RETRY, Retried
from engine.topic_levels import levels_of

Run = tuple[str, list[Any]]
Decode = Callable[[list[bytes]], list[Any]]
"""Decodes many payloads; None for one that cannot be decoded."""

UNDECODABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


def json_object(payload: bytes) -> dict[str, Any]:
    """Decode a payload that must be a JSON object."""
    found = _JSON.decode(payload)
    if type(found) is not dict:
        raise msgspec.DecodeError(f"a JSON object; got {_NAMES.get(type(found), type(found).__name__)}")
    return found


def anything(payload: bytes) -> dict[str, Any]:
    """Decode a payload of a trigger: a JSON object as it is, anything else as `{"value": …}`, nothing as `{}`."""
    if not payload.strip():
        return {}
    try:
        found = _JSON.decode(payload)
    except UNDECODABLE:
        found = payload.decode("utf-8", "replace")
    return found if type(found) is dict else {"value": found}


def as_text(payload: bytes) -> dict[str, Any]:
    """Decode a payload that is UTF-8 text."""
    return {"value": payload.decode()}


def as_base64(payload: bytes) -> dict[str, Any]:
    """Take any bytes, written in base64."""
    return {"value": b64encode(payload).decode()}


def msgpack_object(payload: bytes) -> dict[str, Any]:
    """Decode a payload that must be a MessagePack map with names that are text."""
    try:
        found = text_formats.read_msgpack(payload)
    except ValueError as fault:
        raise msgspec.DecodeError(str(fault)) from None
    if type(found) is not dict:
        raise msgspec.DecodeError(f"a MessagePack map; got {_NAMES.get(type(found), type(found).__name__)}")
    return found


_JSON = msgspec.json.Decoder()
_NAMES = {list: "a list", str: "text", int: "a number", float: "a number", bool: "true or false", type(None): "null"}


_DECODERS = {"json": json_object, "any": anything, "text": as_text, "bytes": as_base64, "msgpack": msgpack_object}


def payload_of(node: Node) -> str:
    """Return what the payloads of a source are: json, any, text, bytes or msgpack."""
    return str(getattr(node.component, "payload", "json"))


def decoder_of(node: Node) -> Callable[[bytes], dict[str, Any]]:
    """Return the decoder of a source: `payload: any` takes what comes, the default wants a JSON object."""
    return _DECODERS[payload_of(node)]


def decode_lines(decoder: "msgspec.json.Decoder[Any]", payloads: list[bytes]) -> list[Any]:
    """Decode payloads, None for one that cannot be: as lines of one text unless one of them holds several lines."""
    lines = b"\n".join(payloads)
    if lines.count(b"\n") == len(payloads) - 1:
        try:
            found = decoder.decode_lines(lines)
        except UNDECODABLE:
            pass
        else:
            if len(found) == len(payloads):
                return found
    return [_decode_one(decoder, payload) for payload in payloads]


def _decode_one(decoder: "msgspec.json.Decoder[Any]", payload: bytes) -> Any:
    try:
        return decoder.decode(payload)
    except UNDECODABLE:
        return None


def decode_each(decoder: Callable[[bytes], dict[str, Any]], payloads: list[bytes]) -> list[Any]:
    """Decode payloads that are no JSON, None for one that cannot be."""
    try:
        return [decoder(payload) for payload in payloads]
    except UNDECODABLE:
        return [_decode_with(decoder, payload) for payload in payloads]


def _decode_with(decoder: Callable[[bytes], dict[str, Any]], payload: bytes) -> Any:
    try:
        return decoder(payload)
    except UNDECODABLE:
        return None


class Decoding:
    """The decoders of one flow's sources; `runs(block)` gives (source, events) in the order of arrival."""

    def __init__(self, flow: Flow) -> None:
        self._nodes = flow.nodes
        self._decoders = {node.name: decoder_of(node) for node in flow.section("sources")}
        self._levels = {node.name: levels_of(node.component) for node in flow.section("sources")}
        self._times: dict[str, str | None] = {
            node.name: getattr(node.component, "time", None) for node in flow.section("sources")
        }
        self._completed = {name for name, time in self._times.items() if time or self._levels[name]}

    def runs(self, blocks: Iterable[Block], prefix: bytes) -> list[Run]:
        """Decode blocks; what cannot be decoded goes out as dead letters under "!"."""
        found: list[Run] = []
        for block in blocks:
            if RETRY in block.sources:
                self._mixed(block, prefix, found)
            else:
                self._block(block, prefix, found)
        return found

    def _mixed(self, block: Block, prefix: bytes, found: list[Run]) -> None:
        """Decode a block in which retried letters are among what came from outside."""
        retry, start = block.sources.index(RETRY), 0
        for index, group in groupby(block.source_index):
            part = block.slice(start, start + len(list(group)))
            start += len(part.payloads)
            if index == retry:
                found += [run for payload in part.payloads for run in self._again(payload, block.time)]
            else:
                self._block(part, prefix, found)

    def _again(self, payload: bytes, arrival: int) -> list[Run]:
        """Return the runs of a retried letter: `>node` where it failed, or that of its source, or a letter again."""
        retried = msgspec.msgpack.decode(payload, type=Retried)
        event, node = retried.event(arrival), self._nodes.get(retried.node)
        source = node is not None and node.section == "sources"
        counts: list[Run] = [(COUNTS, [(ENTRY + retried.node, 1)])] if node is not None else []
        try:
            if retried.exact or (node is not None and not source):
                event.data = retried.decoded()
            if node is None:
                raise EventFault(f"a node of this flow; '{retried.node}' is not there any more")
            if source and not retried.exact:
                self._decode(event, retried.data, retried.node)
        except Exception as fault:
            letter = _undecodable(event, retried.data, fault, gone=False)
            letter.node, letter.payload = retried.node, None if retried.exact else retried.data
            return [*counts, (DEAD, [letter])]
        return [*counts, (retried.node, [event])] if source else [(ENTRY + retried.node, [event])]

    def _decode(self, event: Event, payload: bytes, source: str) -> None:
        _check_size(event.meta or {})
        event.data = self._decoders[source](payload)
        self._complete(event)

    def _complete(self, event: Event) -> None:
        """Add the fields that the topic gives, and take the event's own time."""
        if levels := self._levels[event.source]:
            event.data |= levels.fields(event.topic)
        if field := self._times[event.source]:
            event.time = event_time(event.data.get(field), field, event.arrival)

    def _block(self, block: Block, prefix: bytes, found: list[Run]) -> None:
        decoders = [self._decoders.get(name) for name in block.sources]
        names, topics, metas, arrival, offset = block.sources, block.topics, block.metas, block.time, block.first
        last = -1
        events: list[Event] = []
        for index, topic_index, payload in zip(block.source_index, block.topic_index, block.payloads, strict=True):
            event = Event(
                prefix + offset.to_bytes(8, "big"), arrival, "", names[index], topics[topic_index], {}, None, arrival
            )
            if index != last:
                last, events = index, []
                found.append((names[index], events))
            if metas:
                event.meta = metas.get(offset - block.first)
            offset += 1
            try:
                if event.meta is not None:
                    _check_size(event.meta)
                event.data = decoders[index](payload)  # type: ignore[misc]
                if names[index] in self._completed:
                    self._complete(event)
            except Exception as fault:
                found.append((DEAD, [_undecodable(event, payload, fault, decoders[index] is None)]))
                last = -1
            else:
                events.append(event)


def received(blocks: Iterable[Block]) -> list[tuple[str, int]]:
    """Return the counts of the records of each source, as the ledger takes them."""
    found: dict[str, int] = {}
    for block in blocks:
        for index, name in enumerate(block.sources):
            found[f"in {name}"] = found.get(f"in {name}", 0) + block.source_index.count(index)
    return list(found.items())


def _check_size(meta: dict[str, Any]) -> None:
    """Refuse what its source has cut, or could not read."""
    if "oversize" in meta:
        raise EventFault(f"a payload of at most {meta['largest']} bytes; got {meta['oversize']}")
    if "unread" in meta:
        raise EventFault(meta["unread"])


def _undecodable(event: Event, payload: bytes, fault: Exception, gone: bool) -> DeadLetter:
    if gone:
        reason = f"a source of this flow; '{event.source}' is not there any more"
    elif isinstance(fault, EventFault):
        return DeadLetter(event.source, event, fault.reason, fault.values, payload)
    elif isinstance(fault, UnicodeDecodeError):
        reason = f"decode: UTF-8 text; got byte 0x{payload[fault.start]:02x} at {fault.start}"
    elif isinstance(fault, RecursionError):
        reason = "decode: JSON nested less deeply"
    else:
        reason = f"decode: {fault}"
    return DeadLetter(event.source, event, reason, {}, payload)
