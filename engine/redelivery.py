"""Recognise what an MQTT broker sends again: packets that are stored, but not known to be acknowledged."""

from collections.abc import Iterable, Sequence
from zlib import crc32

from engine.block import Block
from engine.component import Arrival
from engine.once import OnceKeys

Stored = tuple[int, str, int]  # offset, topic, crc32 of the payload


class Unacknowledged:
    """The unacknowledged packets of all sources of an inbox; `fresh` are those of the commit that is being made."""

    def __init__(self) -> None:
        self._known: dict[str, dict[int, Stored]] = {}
        self._fresh: dict[str, dict[int, Stored]] = {}

    def sift(
        self, source: str, arrivals: Sequence[Arrival], first: int, once: OnceKeys | None = None
    ) -> tuple[Sequence[Arrival], dict[int, int]]:
        """Return the arrivals that are new, which begin at offset `first`, and {position: offset} of the repeated.

        Repeated is what has a stored once-key, or comes with `dup`, an unacknowledged packet id, and the topic and
        payload stored under it. MQTT 5 and 3.1.1, 4.4: after a reconnect a broker sends these again under their
        packet ids. Raises KeyReused, and takes nothing then, when a key is stored for something else.
        """
        if not any([arrival.packet or arrival.once for arrival in arrivals]):  # noqa: C419 - a list is faster here
            return arrivals, {}
        if once:
            once.check(arrivals)
        new: list[Arrival] = []
        repeated: dict[int, int] = {}
        known, fresh = self._known.get(source, {}), self._fresh.setdefault(source, {})
        for position, arrival in enumerate(arrivals):
            if once and arrival.once:
                if offset := once.stored(arrival, first + len(new)):
                    repeated[position] = offset
                    continue
            elif packet := arrival.packet:
                crc = crc32(arrival.payload)
                stored = (fresh.get(packet) or known.get(packet)) if arrival.dup else None
                if stored and stored[1] == arrival.topic and stored[2] == crc:
                    repeated[position] = stored[0]
                    continue
                fresh[packet] = (first + len(new), arrival.topic, crc)
            new.append(arrival)
        return new, repeated

    def commit(self) -> None:
        """Take the fresh ones over: they are durable now."""
        for source, packets in self._fresh.items():
            self._known.setdefault(source, {}).update(packets)
        self._fresh.clear()

    def roll_back(self) -> None:
        """Forget the fresh ones: their commit failed."""
        self._fresh.clear()

    def acknowledge(self, source: str, packets: Iterable[int]) -> None:
        """Forget packets whose acknowledgement has reached the broker."""
        known = self._known.get(source, {})
        for packet in packets:
            known.pop(packet, None)

    def ranges(self) -> list[tuple[int, int]]:
        """Return the offsets of all durable ones as (first, last), in order."""
        found: list[tuple[int, int]] = []
        for offset in sorted([stored[0] for packets in self._known.values() for stored in packets.values()]):
            if found and found[-1][1] == offset - 1:
                found[-1] = (found[-1][0], offset)
            else:
                found.append((offset, offset))
        return found

    def restore(self, block: Block, first: int, last: int) -> None:
        """Take the packets of a stored block whose offsets are from `first` to `last`; blocks come in order."""
        for position, packet in block.packets.items():
            offset = block.first + position
            if first <= offset <= last:
                source = block.sources[block.source_index[position]]
                topic = block.topics[block.topic_index[position]]
                crc = crc32(block.payloads[position])
                self._known.setdefault(source, {})[packet] = (offset, topic, crc)
