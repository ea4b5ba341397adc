"""What the generated code of expressions calls at run time: kinds of values, look-ups and bounds."""

from datetime import UTC, datetime

import msgspec

from engine import event

SMALLEST, LARGEST = -(2**63), 2**63 - 1
TEXT_LIMIT = 64 * 1024
LIST_LIMIT = 64 * 1024
JSON_LIMIT = 1024 * 1024
KINDS: dict[type, str] = {
    type(None): "none",
    bool: "boolean",
    int: "number",
    float: "number",
    str: "text",
    list: "list",
    dict: "dict",
    datetime: "time",
    bytes: "bytes",
}


def kind_of(value: object) -> str:
    """Name the kind of a value in the words of the flow language ("text", "number", "none", …)."""
    found = KINDS.get(type(value))
    if found:
        return found
    return next((kind for known, kind in KINDS.items() if isinstance(value, known)), type(value).__name__)


def bounded(value: object) -> object:
    """Return `value`; raise ValueError when it is a whole number beyond 64 bits."""
    if isinstance(value, int) and not SMALLEST <= value <= LARGEST:
        raise ValueError("number out of range: more than 64 bits")
    return value


def bounded_text(value: str) -> str:
    """Return `value`; raise ValueError when it is longer than 64 Ki characters."""
    if len(value) > TEXT_LIMIT:
        raise ValueError(f"text too long: {len(value):,} characters, at most {TEXT_LIMIT:,}")
    return value


def add(left: object, right: object) -> object:
    """Add numbers, join two texts or two lists; none with anything is none. Raise TypeError for other pairs."""
    if isinstance(left, (float, int)) and isinstance(right, (float, int)):
        total = left + right
        return total if SMALLEST <= total <= LARGEST else bounded(total)
    if left is None or right is None:
        return None
    if isinstance(left, str) and isinstance(right, str):
        return bounded_text(left + right)
    if isinstance(left, list) and isinstance(right, list):
        if len(left) + len(right) > LIST_LIMIT:
            raise ValueError(f"list too long: more than {LIST_LIMIT:,} items")
        return left + right
    raise TypeError(f"cannot add {kind_of(right)} to {kind_of(left)}")


def item(container: object, key: object) -> object:
    """Look up a dict's key or a list's (or text's) index; none for whatever is not there."""
    if isinstance(container, dict):
        return container.get(key)
    if isinstance(container, (list, str)) and isinstance(key, int) and -len(container) <= key < len(container):
        return container[key]
    return None


def cut(container: object, *bounds: object) -> object:
    """Slice a list or a text; none when it, or a bound that is given, is none. Raise TypeError for other kinds.

    `bounds` are start, stop and step; the ones left out are `...`.
    """
    if container is None or None in bounds:
        return None
    if not isinstance(container, list | str):
        raise TypeError(f"cannot slice {kind_of(container)}")
    start, stop, step = (None if bound is ... else _index(bound) for bound in bounds)
    return container[start:stop:step]


def _index(bound: object) -> int:
    if not isinstance(bound, int):
        raise TypeError(f"cannot slice by {kind_of(bound)}, only by whole numbers")
    return bound


def holds(member: object, container: object) -> bool:
    """Tell if `member in container` when nothing is known about either; nothing is in none, none is in no text."""
    if container is None or (member is None and isinstance(container, str)):
        return False
    return member in container  # type: ignore[operator]  # the wrong kinds raise TypeError, as they shall


def moment(microseconds: int | None) -> datetime | None:
    """Turn an event's time (µs since 1970, UTC) into a time value."""
    return None if microseconds is None else event.moment(microseconds)


def levels(topic: str | None) -> list[str] | None:
    """Split a topic at its slashes."""
    return None if topic is None else topic.split("/")


def identity(event_id: bytes | str | None) -> str | None:
    """Write an event's id as hexadecimal text."""
    return event_id.hex() if isinstance(event_id, bytes) else event_id


def in_utc(value: datetime) -> datetime:
    """Return a time in UTC; one without a zone is taken as UTC."""
    return value.astimezone(UTC) if value.tzinfo else value.replace(tzinfo=UTC)


def as_text(value: object) -> str:
    """Write a value as text; raise TypeError for bytes and what has no text form."""
    if isinstance(value, str):
        return value
    if isinstance(value, datetime):
        return in_utc(value).isoformat().replace("+00:00", "Z")
    return as_json(value)


def as_json(value: object) -> str:
    """Write a value as JSON; raise TypeError when it can't be, ValueError when that takes more than 1 MiB."""
    try:
        written = msgspec.json.encode(value)
    except (TypeError, OverflowError, RecursionError, msgspec.MsgspecError):
        raise TypeError(f"cannot write {kind_of(value)} as text") from None
    if len(written) > JSON_LIMIT:
        raise ValueError(f"text too long: {len(written):,} bytes of JSON, at most {JSON_LIMIT:,}")
    return written.decode()
