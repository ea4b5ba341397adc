"""Functions of the expression language for lists, and for what is missing."""

import builtins
import math

import msgspec

from engine.expression_values import bounded, item, kind_of
from engine.function_registry import Number, function, wrong


@function()
def first(items: list[object]) -> object:
    """Take the first item of a list; none when it is empty.

    >>> first([3, 1, 2])
    3
    """
    return items[0] if items else None


@function()
def last(items: list[object]) -> object:
    """Take the last item of a list; none when it is empty.

    >>> last([3, 1, 2])
    2
    """
    return items[-1] if items else None


@function()
def at(items: list[object] | str, index: int) -> object:
    """Take the item of a list, or the character of a text, at a position (the first is 0); none when there is none.

    >>> at(["a", "b"], 1)
    "b"
    """
    return item(items, index)


@function()
def slice_(items: list[object] | str, start: int, stop: int | None = None) -> list[object] | str:
    """Take the items of a list, or the characters of a text, from a position up to before another.

    >>> slice([1, 2, 3, 4], 1, 3)
    [2, 3]
    """
    return items[start:stop]


@function()
def count(items: list[object], *values: object | None) -> int:
    """Count the items of a list that are not none, or those equal to one of the values.

    >>> count(["OK", none, "DEFECT", "OK"], "OK")
    2
    """
    if not values:
        return len(items) - items.count(None)
    return builtins.sum(entry in values for entry in items)


@function()
def sum_(items: list[object]) -> Number:
    """Add the numbers of a list; none is skipped.

    >>> sum([1, none, 2.5])
    3.5
    """
    total = builtins.sum(numbers_of("sum", items))
    bounded(total)
    return total


@function()
def mean(items: list[object]) -> float | None:
    """Average the numbers of a list; none is skipped, and an empty list gives none.

    >>> mean([1, 2, 6])
    3.0
    """
    numbers = numbers_of("mean", items)
    return math.fsum(numbers) / len(numbers) if numbers else None


@function()
def sort(items: list[object], *, descending: bool = False, by: str | None = None) -> list[object]:
    """Sort a list of numbers, texts or times, or of dicts by a field; none comes last.

    >>> sort([3, 1, 2], descending=true)
    [3, 2, 1]
    """
    keys = [(entry if by is None else item(entry, by), entry) for entry in items]
    present = [pair for pair in keys if pair[0] is not None]
    try:
        present.sort(key=lambda pair: pair[0], reverse=descending)  # type: ignore[arg-type, return-value]  # see except
    except TypeError:
        kinds = ", ".join(sorted({kind_of(key) for key, _ in present}))
        raise wrong("sort", f"values that can be compared ({kinds})", items) from None
    return [entry for _, entry in present] + [entry for key, entry in keys if key is None]


@function()
def unique(items: list[object]) -> list[object]:
    """Drop the items of a list that came before, keeping the order.

    >>> unique(["b", "a", "b"])
    ["b", "a"]
    """
    found: dict[object, object] = {}
    for entry in items:
        found.setdefault(_hashable(entry), entry)
    return list(found.values())


@function()
def coalesce(value: object | None, *others: object | None) -> object | None:
    """Take the first of some values that is not none; what follows it is not computed.

    >>> coalesce(none, none, 3)
    3
    """
    return next((each for each in (value, *others) if each is not None), None)


@function()
def if_none(value: object | None, other: object | None) -> object | None:
    """Take a value, or another when it is none; the other is only computed then.

    >>> if_none(none, "unknown")
    "unknown"
    """
    return other if value is None else value


@function()
def exists(value: object | None) -> bool:
    """Tell if a value is there, that is, not none.

    >>> exists(0)
    true
    """
    return value is not None


@function()
def default(value: object | None, other: object | None) -> object | None:
    """Take a value, or another when it is none or an empty text, list or dict.

    >>> default("", "unknown")
    "unknown"
    """
    return other if value is None or value in ("", [], {}) else value


@function()
def type_of(value: object | None) -> str:
    """Name the kind of a value: "text", "number", "boolean", "list", "dict", "time", "none".

    >>> type_of([1, 2])
    "list"
    """
    return kind_of(value)


def numbers_of(name: str, items: list[object]) -> list[Number]:
    """Return the numbers of a list without what is none; raise TypeError in the name of the function."""
    numbers: list[Number] = []
    for entry in items:
        if isinstance(entry, int | float):
            numbers.append(entry)
        elif entry is not None:
            raise wrong(name, "a list of numbers", entry)
    return numbers


def _hashable(value: object) -> object:
    """Give what identifies a value: itself, or for lists and dicts their sorted JSON."""
    if not isinstance(value, list | dict):
        return value
    try:
        return msgspec.msgpack.encode(value, order="sorted")
    except (OverflowError, RecursionError, msgspec.MsgspecError):
        raise TypeError(f"unique: cannot compare {kind_of(value)} items") from None
