"""An open sink, and what brings back what its target lacks."""

from collections import Counter
from typing import Protocol

from engine.event import Event


class Writer(Protocol):
    """An open sink. One that wants many at once has `gather`: how many, and the seconds to wait for them."""

    async def write(self, events: list[Event]) -> None:
        """Return when the effect is durable; raise Unavailable to be called again with the same events."""

    async def close(self) -> None:
        """Release what open() took; never flush here."""


class Mender(Protocol):
    """Writes what a target lacks and leaves what it has; one that is `whole` must get all events, from the first on.

    `there`, `added` and `refused` count rows; `refused` by reason.
    """

    whole: bool
    there: int
    added: int
    refused: Counter[str]

    async def write(self, events: list[Event]) -> None:
        """Take events in order; raises Unavailable when the target is away."""

    async def finish(self, *, from_the_first: bool) -> None:
        """Write what is left after the last event; `from_the_first`: the events began with the flow's first."""

    async def close(self) -> None:
        """Release what the first write took."""
