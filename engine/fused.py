"""Take whole chunks of records through the stage of the sources; what fails there goes the careful way."""

from collections.abc import Callable, Iterable, Iterator
from itertools import chain, repeat
from operator import length_hint
from typing import Any
from zlib import crc32

import msgspec

from engine.block import Block
from engine.decode import Decode, Decoding, Run
from engine.errors import EventFault
from engine.event import Event
from engine.flow import Flow
from engine.fused_code import FusedWriter, Unfit
from engine.topic_levels import TopicLevels, levels_of

RAW = "raw"
MOST_FAULTS = 200
NAMES = {"Event": Event, "EventFault": EventFault, "crc32": crc32}
Part = tuple[tuple[list[Any], ...], tuple[list[list[Any]], ...], tuple[tuple[str, int], ...]]


class Raw(msgspec.Struct):
    """Records as they stand in an inbox; `runs` decodes them one by one, `slice` takes some of them."""

    blocks: list[Block]
    prefix: bytes
    decoding: Decoding

    def runs(self) -> list[Run]:
        """Return the events by source, and what could not be decoded."""
        return self.decoding.runs(self.blocks, self.prefix)

    def slice(self, start: int, stop: int) -> "Raw":
        """Return the records at the positions from `start` up to before `stop`."""
        found, at = [], 0
        for block in self.blocks:
            first, last = max(start - at, 0), min(stop - at, len(block.payloads))
            if first < last:
                found.append(block.slice(first, last))
            at += len(block.payloads)
        return Raw(found, self.prefix, self.decoding)


def after_text(flow: Flow, entries: list[str], sinks: list[str], keyed: list[str]) -> tuple[str, dict[str, Any]] | None:
    """Return the function for what follows a keyed node, and the names that it needs; None where it does not fit."""
    writer = FusedWriter(flow, sinks, keyed)
    try:
        return writer.write_after(entries), writer.code.constants | NAMES
    except Unfit:
        return None


class Fused:
    """The function of a flow's sources for whole chunks; `source` is its text, `numbers` has the sources that fit."""

    def __init__(self, flow: Flow, sinks: list[str], keyed: list[str]) -> None:
        writer = FusedWriter(flow, sinks, keyed)
        self.source = writer.write()
        self.numbers = {name: number for number, name in enumerate(writer.sources)}
        self.space = writer.code.constants | NAMES
        self.function: Callable[..., Part]
        self._decoders = list(writer.sources.values())
        self._alone = writer.alone
        levels = [levels_of(flow.nodes[name].component) for name in writer.sources]
        self._levels = levels if any(levels) else []

    def takes(self, blocks: Iterable[Block]) -> bool:
        """Tell whether all records are of sources that fit."""
        return bool(self.numbers) and all(name in self.numbers for block in blocks for name in block.sources)

    def run(self, raw: Raw, careful: Callable[[Raw], Part]) -> Part:
        """Return what the ports get; records for which there is an exception are given to `careful`."""
        columns = _Columns(raw, self.numbers, self._decoders, self._alone, self._levels)
        parts: list[Part] = []
        start, faults, size = 0, 0, columns.size
        while start < size:
            ids = iter(columns.ids[start:])
            try:
                parts.append(self._part(columns, ids, start, size))
                break
            except Exception:
                failed = size - length_hint(ids) - 1
            if failed > start:
                parts.append(self._part(columns, iter(columns.ids[start:failed]), start, failed))
            faults += 1
            start = size if faults > MOST_FAULTS else failed + 1
            parts.append(careful(raw.slice(failed, start)))
        return _joined(parts)

    def _part(self, columns: "_Columns", ids: Iterator[bytes], start: int, stop: int) -> Part:
        return self.function(stop - start, columns.numbers[start:stop], columns.between(ids, start, stop))


class _Columns:
    """The records of a chunk, column by column; what is the same for all is repeated."""

    def __init__(
        self, raw: Raw, numbers: dict[str, int], decoders: list[Decode], alone: bool, levels: list[TopicLevels | None]
    ) -> None:
        blocks, prefix = raw.blocks, raw.prefix
        payloads = blocks[0].payloads if len(blocks) == 1 else list(chain.from_iterable(b.payloads for b in blocks))
        self.size = len(payloads)
        self.ids = [
            prefix + offset.to_bytes(8, "big")
            for block in blocks
            for offset in range(block.first, block.first + len(block.payloads))
        ]
        self.numbers = b"" if alone else b"".join(_numbered(block, numbers) for block in blocks)
        topics = (block.topics[at] for block in blocks for at in block.topic_index)
        self._topics = _column([block.topics for block in blocks], topics)
        self._arrivals = _column([[block.time] for block in blocks], (b.time for b in blocks for _ in b.payloads))
        metas = any(block.metas for block in blocks)
        self._metas: Any = [b.metas.get(at) for b in blocks for at in range(len(b.payloads))] if metas else repeat(None)
        if levels:
            payloads = self._joined(blocks, payloads, levels)
        self._records = self._decoded(payloads, decoders)
        if metas:
            for at, meta in enumerate(self._metas):
                if meta and ("oversize" in meta or "unread" in meta):
                    self._records[at] = None

    def _joined(self, blocks: list[Block], payloads: list[bytes], levels: list[TopicLevels | None]) -> list[bytes]:
        """Return the payloads with the fields that their topics give."""
        topics = (block.topics[at] for block in blocks for at in block.topic_index)
        numbers = self.numbers or bytes(len(payloads))
        return [
            named.joined(payload, topic) if (named := levels[number]) else payload
            for payload, topic, number in zip(payloads, topics, numbers, strict=True)
        ]

    def _decoded(self, payloads: list[bytes], decoders: list[Decode]) -> list[Any]:
        if not self.numbers:
            return decoders[0](payloads)
        found: dict[int, Iterator[Any]] = {}
        for number in set(self.numbers):
            own = [payload for payload, n in zip(payloads, self.numbers, strict=True) if n == number]
            found[number] = iter(decoders[number](own))
        return [next(found[number]) for number in self.numbers]

    def between(self, ids: Iterator[bytes], start: int, stop: int) -> Iterable[Any]:
        """Return the columns of some records, zipped."""
        whole = start == 0 and stop == self.size
        columns = [
            column if whole or isinstance(column, repeat) else column[start:stop]
            for column in (self._records, self._topics, self._arrivals, self._metas)
        ]
        columns.insert(1, ids)
        if self.numbers:
            columns.insert(0, self.numbers[start:stop])
        return zip(*columns, strict=False)


def _column(values: list[list[Any]], each: Iterable[Any]) -> Any:
    """Return one value for all where there is only one, else each record's."""
    first = values[0]
    return repeat(first[0]) if len(first) == 1 and all(other == first for other in values) else list(each)


def _numbered(block: Block, numbers: dict[str, int]) -> bytes:
    table = bytes(numbers[name] for name in block.sources).ljust(256, b"\0")
    return block.source_index.translate(table)


def _joined(parts: list[Part]) -> Part:
    first, *others = parts
    if not others:
        return first
    sinks, keyed, counts = first
    total = dict(counts)
    for more_sinks, more_keyed, more_counts in others:
        for chunk, more in zip(sinks, more_sinks, strict=True):
            chunk += more
        for shards, more_shards in zip(keyed, more_keyed, strict=True):
            for chunk, more in zip(shards, more_shards, strict=True):
                chunk += more
        for name, number in more_counts:
            total[name] = total.get(name, 0) + number
    return sinks, keyed, tuple(total.items())
