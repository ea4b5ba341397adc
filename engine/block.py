"""The block: all records of one commit of an inbox, column by column, as it is stored and as a worker reads it."""

from collections.abc import Mapping
from itertools import repeat
from typing import Any

import msgspec

from engine.arrivals import Arrivals

SOURCES_IN_A_BLOCK = 256


class Block(msgspec.Struct, gc=False):
    """The records from offset `first` on, all of one arrival `time` (microseconds).

    `source_index` (one byte a record) and `topic_index` point into `sources` and `topics`; `metas` hold, by position in
    the block, only the records that have any, and records may share one. `packets` has the MQTT packet id of each
    record, 0 where there is none; it is empty where no record has any.
    """

    first: int
    time: int
    sources: list[str]
    source_index: bytes
    topics: list[str]
    topic_index: list[int]
    payloads: list[bytes]
    metas: dict[int, dict[str, Any]]
    packets: list[int]

    @property
    def last(self) -> int:
        """Return the offset of the last record."""
        return self.first + len(self.payloads) - 1

    def slice(self, start: int, stop: int) -> "Block":
        """Return the records at the positions from `start` up to before `stop`."""
        return Block(
            self.first + start,
            self.time,
            self.sources,
            self.source_index[start:stop],
            self.topics,
            self.topic_index[start:stop],
            self.payloads[start:stop],
            {at - start: meta for at, meta in self.metas.items() if start <= at < stop} if self.metas else {},
            self.packets[start:stop] if self.packets else [],
        )


class BlockBuilder:
    """Gathers arrivals of up to 256 sources for one block."""

    def __init__(self) -> None:
        self._sources: dict[str, int] = {}
        self._source_index = bytearray()
        self._topics: dict[str, int] = {}
        self._topic_index: list[int] = []
        self._payloads: list[bytes] = []
        self._metas: list[MetaRun] = []
        self._packets: list[int] = []

    def __len__(self) -> int:
        return len(self._payloads)

    def add(self, source: str, arrivals: Arrivals) -> None:
        """Append arrivals of one source."""
        start, count = len(self._payloads), len(arrivals)
        self._source_index += bytes((self._sources.setdefault(source, len(self._sources)),)) * count
        self._topic_index += self._indexes(arrivals.topics)
        self._payloads += arrivals.payloads
        if arrivals.meta and count:
            self._metas.append((start, start + count, arrivals.meta))
        self._metas += [(start + at, start + at + 1, meta) for at, meta in arrivals.metas.items()]
        if arrivals.packets:
            self._packets += repeat(0, start - len(self._packets))
            self._packets += arrivals.packets

    def _indexes(self, topics: list[str]) -> list[int]:
        known = self._topics
        if topics and topics.count(topics[0]) == len(topics):
            return [known.setdefault(topics[0], len(known))] * len(topics)
        for topic in dict.fromkeys(topics):
            known.setdefault(topic, len(known))
        return [known[topic] for topic in topics]

    def encode(self, first: int, time: int) -> bytes:
        """Return what was gathered as a stored block that begins at offset `first`.

        Raises TypeError, ValueError or OverflowError for a meta that has no such form.
        """
        if self._packets:
            self._packets += repeat(0, len(self) - len(self._packets))
        columns = (bytes(self._source_index), list(self._topics), self._topic_index, self._payloads)
        return _encoder.encode(StoredBlock(first, time, list(self._sources), *columns, self._metas, self._packets))


MetaRun = tuple[int, int, dict[str, Any]]


class StoredBlock(msgspec.Struct, array_like=True, tag=3, gc=False):
    """A block as it is stored: each of `metas` once, for the records from a position up to before another."""

    first: int
    time: int
    sources: list[str]
    source_index: bytes
    topics: list[str]
    topic_index: list[int]
    payloads: list[bytes]
    metas: list[MetaRun]
    packets: list[int]


class OldBlock(msgspec.Struct, array_like=True, gc=False):
    """A block as inboxes up to version 2 have it."""

    first: int
    time: int
    sources: list[str]
    source_index: bytes
    topics: list[str]
    topic_index: list[int]
    payloads: list[bytes]
    metas: dict[int, dict[str, Any]]
    packets: dict[int, int]


OLD = b"\x99"  # a MessagePack array of 9
_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(StoredBlock)
_old_decoder = msgspec.msgpack.Decoder(OldBlock)


def encode_block(block: Block) -> bytes:
    """Return the block as it is stored; raises as BlockBuilder.encode."""
    metas = [(at, at + 1, meta) for at, meta in block.metas.items()]
    columns = (block.source_index, block.topics, block.topic_index, block.payloads)
    return _encoder.encode(StoredBlock(block.first, block.time, block.sources, *columns, metas, list(block.packets)))


def decode_block(body: bytes) -> Block:
    """Return the block of these bytes; raises msgspec.DecodeError."""
    try:
        stored = _old(_old_decoder.decode(body)) if body.startswith(OLD) else _decoder.decode(body)
    except (UnicodeDecodeError, RecursionError) as fault:
        raise msgspec.DecodeError(str(fault)) from fault
    count = len(stored.payloads)
    if not len(stored.source_index) == len(stored.topic_index) == count or len(stored.packets) not in (0, count):
        raise msgspec.DecodeError("columns of a block differ in length")
    columns = (stored.source_index, stored.topics, stored.topic_index, stored.payloads)
    return Block(stored.first, stored.time, stored.sources, *columns, _metas(stored.metas, count), stored.packets)


def _metas(runs: list[MetaRun], count: int) -> dict[int, dict[str, Any]]:
    metas: dict[int, dict[str, Any]] = {}
    for start, stop, meta in runs:
        if not 0 <= start <= stop <= count:
            raise msgspec.DecodeError("a meta of a block lies outside of it")
        metas.update(dict.fromkeys(range(start, stop), meta))
    return metas


def _old(block: OldBlock) -> StoredBlock:
    metas = [(at, at + 1, meta) for at, meta in block.metas.items()]
    packets = _column(block.packets, len(block.payloads)) if block.packets else []
    columns = (block.source_index, block.topics, block.topic_index, block.payloads)
    return StoredBlock(block.first, block.time, block.sources, *columns, metas, packets)


def _column(packets: Mapping[int, int], count: int) -> list[int]:
    return [packets.get(at, 0) for at in range(count)]
