"""Recognise what an MQTT broker sends again: packets that are stored, but not known to be acknowledged."""

from collections.abc import Callable, Iterable

from engine.arrivals import Arrivals
from engine.block import Block
from engine.once import OnceKeys

Sight = tuple[str, int]  # the topic of a message and the hash of its payload (of this process: it is in no file)
Look = Callable[[int], Sight | None]


def sight(topic: str, payload: bytes) -> Sight:
    """Return by what a message is known that comes again."""
    return topic, hash(payload)


class Unacknowledged:
    """The unacknowledged packets of all sources of an inbox, and those of the commit that is being made.

    `look` finds what is stored at an offset, None: it is not there any more. Until a packet comes again its offset is
    all that is kept of it.
    """

    def __init__(self, look: Look) -> None:
        self._look = look
        self._known: dict[str, dict[int, int]] = {}
        self._fresh: list[tuple[str, int, Arrivals]] = []
        self._left: dict[int, Sight | None] = {}

    def sift(
        self, source: str, arrivals: Arrivals, first: int, once: OnceKeys | None = None
    ) -> tuple[Arrivals, dict[int, int]]:
        """Return the arrivals that are new, which begin at offset `first`, and {position: offset} of the repeated.

        Repeated is what has a stored once-key, or comes with `dup`, an unacknowledged packet id, and the topic and
        payload stored under it. MQTT 5 and 3.1.1, 4.4: after a reconnect a broker sends these again under their
        packet ids. Raises KeyReused, and takes nothing then, when a key is stored for something else.
        """
        repeated: dict[int, int] = {}
        if arrivals.keys and once:
            repeated = once.sift(arrivals, first)
        elif arrivals.packets and arrivals.dups:
            repeated = self._again(source, arrivals, first)
        if repeated:
            arrivals = arrivals.only([at for at in range(len(arrivals)) if at not in repeated])
        if arrivals.packets:
            self._fresh.append((source, first, arrivals))
        return arrivals, repeated

    def _again(self, source: str, arrivals: Arrivals, first: int) -> dict[int, int]:
        stored = self._stored(source)
        repeated: dict[int, int] = {}
        for at, packet in enumerate(arrivals.packets):
            offset, seen = stored.get(packet, (0, None))
            here = sight(arrivals.topics[at], arrivals.payloads[at])
            if at in arrivals.dups and packet and here == (seen or self._seen(offset)):
                repeated[at] = offset
            else:
                stored[packet] = (first + at - len(repeated), here)
        return repeated

    def _stored(self, source: str) -> dict[int, tuple[int, Sight | None]]:
        """Return offsets by packet id; of what is not durable yet it is known how it looks."""
        stored: dict[int, tuple[int, Sight | None]] = {
            packet: (offset, None) for packet, offset in self._known.get(source, {}).items()
        }
        for of, first, arrivals in self._fresh:
            if of == source:
                looks = map(sight, arrivals.topics, arrivals.payloads)
                stored.update(zip(arrivals.packets, enumerate(looks, first), strict=True))
        return stored

    def _seen(self, offset: int) -> Sight | None:
        if not offset:
            return None
        return self._left[offset] if offset in self._left else self._look(offset)

    def commit(self) -> None:
        """Take the fresh ones over: they are durable now."""
        for source, first, arrivals in self._fresh:
            known = self._known.setdefault(source, {})
            known.update(zip(arrivals.packets, range(first, first + len(arrivals)), strict=True))
            known.pop(0, None)
        self._fresh.clear()

    def roll_back(self) -> None:
        """Forget the fresh ones: their commit failed."""
        self._fresh.clear()

    def acknowledge(self, source: str, packets: Iterable[int]) -> None:
        """Forget packets whose acknowledgement has reached the broker."""
        known = self._known.get(source, {})
        for packet in packets:
            known.pop(packet, None)

    def leave(self, last: int) -> None:
        """Look at what is stored up to an offset, for it will not be there any more."""
        offsets = [offset for offset in self._offsets() if offset <= last]
        self._left = {offset: self._seen(offset) for offset in offsets}

    def _offsets(self) -> list[int]:
        return sorted([offset for packets in self._known.values() for offset in packets.values()])

    def ranges(self) -> list[tuple[int, int]]:
        """Return the offsets of all durable ones as (first, last), in order."""
        found: list[tuple[int, int]] = []
        for offset in self._offsets():
            if found and found[-1][1] == offset - 1:
                found[-1] = (found[-1][0], offset)
            else:
                found.append((offset, offset))
        return found

    def restore(self, block: Block, first: int, last: int) -> None:
        """Take the packets of a stored block whose offsets are from `first` to `last`; blocks come in order."""
        for position, packet in enumerate(block.packets):
            offset = block.first + position
            if packet and first <= offset <= last:
                source = block.sources[block.source_index[position]]
                self._known.setdefault(source, {})[packet] = offset
