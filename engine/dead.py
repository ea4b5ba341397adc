"""What goes to the dead letters: one event that could not be processed, with node, reason and values."""

from typing import Any

import msgspec

from engine.errors import EventFault
from engine.event import Event


class DeadLetter(msgspec.Struct, gc=False):
    """One event that failed at one node. `payload` is the raw bytes where they could not be decoded.

    One that is not `kept` (`on_error: drop`) is there only so that a request that waits is answered.
    """

    node: str
    event: Event
    reason: str
    values: dict[str, Any]
    payload: bytes | None = None
    kept: bool = True


def dead_letter(node: str, event: Event, fault: Exception) -> DeadLetter:
    """Return the dead letter for an exception that a node raised on an event."""
    if isinstance(fault, EventFault):
        return DeadLetter(node, event, fault.reason, fault.values)
    return DeadLetter(node, event, f"{type(fault).__name__}: {fault}", {})
