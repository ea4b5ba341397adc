"""Read the number that an option's expression has for an event, and write a number as people do."""

from engine.errors import EventFault
from engine.event import Event
from engine.expressions import Expression

EXACT = 1 << 53
LARGEST = 1e100  # its square is still a number


def measured(option: str, of: Expression, event: Event) -> float | None:
    """Return a number, or None where there is none; raise EventFault for anything else."""
    value = of(event)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) < LARGEST:
        shown = value if not isinstance(value, int) else str(value)[:40]
        raise EventFault(f"{option}: a number; got {value!r}"[:200], {option: shown})
    return float(value)


def whole(value: float) -> float | int:
    """Return a number without a fraction as an int, up to where a float has every one of them."""
    return int(value) if value.is_integer() and abs(value) <= EXACT else value
