"""The block: all records of one commit of an inbox, column by column, as it is stored and as a worker reads it."""

from collections.abc import Sequence
from typing import Any

import msgspec

from engine.component import Arrival

SOURCES_IN_A_BLOCK = 256


class Block(msgspec.Struct, array_like=True, gc=False):
    """The records from offset `first` on, all of one arrival `time` (microseconds).

    `source_index` (one byte a record) and `topic_index` point into `sources` and `topics`; `metas` and `packets` (MQTT
    packet ids) hold, by position in the block, only the records that have any.
    """

    first: int
    time: int
    sources: list[str]
    source_index: bytes
    topics: list[str]
    topic_index: list[int]
    payloads: list[bytes]
    metas: dict[int, dict[str, Any]]
    packets: dict[int, int]

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
            {at - start: meta for at, meta in self.metas.items() if start <= at < stop},
            {at - start: packet for at, packet in self.packets.items() if start <= at < stop},
        )


class BlockBuilder:
    """Gathers arrivals of up to 256 sources for one block."""

    def __init__(self) -> None:
        self._sources: dict[str, int] = {}
        self._source_index = bytearray()
        self._topics: dict[str, int] = {}
        self._topic_index: list[int] = []
        self._payloads: list[bytes] = []
        self._metas: dict[int, dict[str, Any]] = {}
        self._packets: dict[int, int] = {}

    def __len__(self) -> int:
        return len(self._payloads)

    def add(self, source: str, arrivals: Sequence[Arrival]) -> None:
        """Append arrivals of one source."""
        start, topics = len(self._payloads), self._topics
        index = self._sources.setdefault(source, len(self._sources))
        self._source_index += bytes((index,)) * len(arrivals)
        self._topic_index += [topics.setdefault(arrival.topic, len(topics)) for arrival in arrivals]
        self._payloads += [arrival.payload for arrival in arrivals]
        self._metas.update({at: a.meta for at, a in enumerate(arrivals, start) if a.meta})
        self._packets.update({at: a.packet for at, a in enumerate(arrivals, start) if a.packet})

    def block(self, first: int, time: int) -> Block:
        """Return what was gathered, beginning at offset `first`."""
        return Block(
            first,
            time,
            list(self._sources),
            bytes(self._source_index),
            list(self._topics),
            self._topic_index,
            self._payloads,
            self._metas,
            self._packets,
        )


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(Block)


def encode_block(block: Block) -> bytes:
    """Return a block as MessagePack; raises TypeError, ValueError or OverflowError for a meta that has no such form."""
    return _encoder.encode(block)


def decode_block(body: bytes) -> Block:
    """Return the block of these bytes; raises msgspec.DecodeError."""
    try:
        block = _decoder.decode(body)
    except (UnicodeDecodeError, RecursionError) as fault:
        raise msgspec.DecodeError(str(fault)) from fault
    if not len(block.source_index) == len(block.topic_index) == len(block.payloads):
        raise msgspec.DecodeError("columns of a block differ in length")
    return block
