"""Arrivals: the messages of one source on their way into its inbox, column by column."""

from collections.abc import Collection, Iterator, Sequence
from typing import Any

import msgspec

from engine.arrival import Arrival


class Arrivals(msgspec.Struct):
    """Messages of one source in order; `topics` is as long as `payloads`.

    `metas` are by position; `meta` is that of all which have none there. `packets` (MQTT packet ids, 0: none) is as
    long as `payloads`, or empty; `dups` are the positions of what the broker marks as sent again. `keys` has by
    position the once-key and digest of what begins there and goes on up to the next key: it is stored, or known as
    stored, as a whole; the key "" is none.
    """

    payloads: list[bytes]
    topics: list[str]
    meta: dict[str, Any] | None = None
    metas: dict[int, dict[str, Any]] = {}
    packets: list[int] = []
    dups: Collection[int] = ()
    keys: dict[int, tuple[str, bytes]] = {}

    @classmethod
    def of(cls, arrivals: "Arrivals | Sequence[Arrival]") -> "Arrivals":
        """Return single arrivals as columns."""
        if isinstance(arrivals, Arrivals):
            return arrivals
        packets = [arrival.packet for arrival in arrivals]
        keyed = any([arrival.once for arrival in arrivals])  # noqa: C419 - a list is faster here
        return cls(
            [arrival.payload for arrival in arrivals],
            [arrival.topic for arrival in arrivals],
            metas={at: arrival.meta for at, arrival in enumerate(arrivals) if arrival.meta},
            packets=packets if any(packets) else [],
            dups={at for at, arrival in enumerate(arrivals) if arrival.dup},
            keys={at: (arrival.once, arrival.digest) for at, arrival in enumerate(arrivals)} if keyed else {},
        )

    def __len__(self) -> int:
        return len(self.payloads)

    @property
    def size(self) -> int:
        """Return the bytes of payloads and topics."""
        return sum(map(len, self.payloads)) + sum(map(len, self.topics))

    def meta_of(self, at: int) -> dict[str, Any] | None:
        """Return the meta of one message."""
        return self.metas.get(at, self.meta)

    def groups(self) -> Iterator[tuple[range, str, bytes]]:
        """Yield the positions that stand under one key, the key and its digest; the first key is at 0."""
        starts = sorted(self.keys)
        for at, end in zip(starts, [*starts[1:], len(self)], strict=True):
            yield range(at, end), *self.keys[at]

    def only(self, places: Sequence[int]) -> "Arrivals":
        """Return the messages at these positions, without their keys."""
        metas = {new: self.metas[at] for new, at in enumerate(places) if at in self.metas} if self.metas else {}
        return Arrivals(
            [self.payloads[at] for at in places],
            [self.topics[at] for at in places],
            self.meta,
            metas,
            [self.packets[at] for at in places] if self.packets else [],
            {new for new, at in enumerate(places) if at in self.dups} if self.dups else (),
        )
