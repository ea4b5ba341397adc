"""Functions of the expression language for lists of numbers, for dicts, and for lists of dicts."""

import builtins
import math

from engine.expression_values import LIST_LIMIT, item
from engine.function_registry import function
from engine.functions_list import numbers_of


@function()
def median(items: list[object]) -> float | None:
    """Give the middle number of a list, or the mean of the two in the middle; none is skipped.

    >>> median([1, 9, 2])
    2.0
    """
    return _percentile("median", items, 50)


@function()
def percentile(items: list[object], percent: int | float) -> float | None:
    """Give the number below which so many percent of a list are, straight between the two nearest; none is skipped.

    >>> percentile([10, 20, 30, 40], 90)
    37.0
    """
    return _percentile("percentile", items, percent)


def _percentile(name: str, items: list[object], percent: float) -> float | None:
    if not 0 <= percent <= 100:
        raise ValueError(f"{name}: a percentage of 0 to 100; got {percent:g}")
    numbers = sorted(numbers_of(name, items))
    if not numbers:
        return None
    place = (len(numbers) - 1) * percent / 100
    low = math.floor(place)
    high = builtins.min(low + 1, len(numbers) - 1)
    return float(numbers[low] + (numbers[high] - numbers[low]) * (place - low))


@function()
def stddev(items: list[object]) -> float | None:
    """Give the standard deviation of a sample (by n - 1), none for fewer than two numbers; none is skipped.

    >>> stddev([2, 4, 6])
    2.0
    """
    numbers = numbers_of("stddev", items)
    if len(numbers) < 2:
        return None
    middle = math.fsum(numbers) / len(numbers)
    return math.sqrt(math.fsum((each - middle) ** 2 for each in numbers) / (len(numbers) - 1))


@function()
def range_(start: int, stop: int, step: int = 1) -> list[int]:
    """List whole numbers from one up to before another.

    >>> range(0, 6, 2)
    [0, 2, 4]
    """
    if step == 0:
        raise ValueError("range: a step that is not 0")
    numbers = builtins.range(start, stop, step)
    if (stop - start) // step > LIST_LIMIT:
        raise ValueError(f"range: list too long: more than {LIST_LIMIT:,} items")
    return list(numbers)


@function()
def flatten(items: list[object]) -> list[object]:
    """Put the items of lists in a list into one list, one level deep.

    >>> flatten([[1, 2], 3, [4]])
    [1, 2, 3, 4]
    """
    found: list[object] = []
    for entry in items:
        found += entry if isinstance(entry, list) else [entry]
        if len(found) > LIST_LIMIT:
            raise ValueError(f"flatten: list too long: more than {LIST_LIMIT:,} items")
    return found


@function()
def index_of(items: list[object], value: object | None) -> int | None:
    """Give the position (the first is 0) of the first item of a list that is equal to a value; none where none is.

    >>> index_of(["a", "b"], "b")
    1
    """
    return next((index for index, entry in enumerate(items) if entry == value), None)


@function()
def any_(items: list[object]) -> bool:
    """Tell if at least one item of a list holds: is not false, 0, empty or none.

    >>> any([0, 1])
    true
    """
    return builtins.any(items)


@function()
def all_(items: list[object]) -> bool:
    """Tell if every item of a list holds: is not false, 0, empty or none.

    >>> all([0, 1])
    false
    """
    return builtins.all(items)


@function()
def pluck(items: list[object], name: str) -> list[object]:
    """List what each dict of a list has under a name; none where it has nothing.

    >>> pluck([{"t": 20}, {"t": 21}], "t")
    [20, 21]
    """
    return [item(entry, name) for entry in items]


@function()
def keys(value: dict[object, object]) -> list[object]:
    """List the names that a dict has.

    >>> keys({"a": 1, "b": 2})
    ["a", "b"]
    """
    return list(value)


@function()
def values(value: dict[object, object]) -> list[object]:
    """List the values that a dict has.

    >>> values({"a": 1, "b": 2})
    [1, 2]
    """
    return list(value.values())


@function()
def pairs(value: dict[object, object]) -> list[object]:
    """List the entries of a dict as dicts with `name` and `value`, such as for `split`.

    >>> pairs({"t1": 20})
    [{"name": "t1", "value": 20}]
    """
    return [{"name": name, "value": entry} for name, entry in value.items()]


@function()
def merge(value: dict[object, object], other: dict[object, object]) -> dict[object, object]:
    """Put two dicts together; where both have a name, the second one's value stands.

    >>> merge({"a": 1, "b": 2}, {"b": 3})
    {"a": 1, "b": 3}
    """
    return {**value, **other}


@function()
def pick(value: dict[object, object], names: list[object]) -> dict[object, object]:
    """Keep some names of a dict; those that it has not are left out.

    >>> pick({"a": 1, "b": 2}, ["b", "c"])
    {"b": 2}
    """
    wanted = set(_names("pick", names))
    return {name: entry for name, entry in value.items() if name in wanted}


@function()
def omit(value: dict[object, object], names: list[object]) -> dict[object, object]:
    """Leave some names of a dict out.

    >>> omit({"a": 1, "b": 2}, ["b", "c"])
    {"a": 1}
    """
    unwanted = set(_names("omit", names))
    return {name: entry for name, entry in value.items() if name not in unwanted}


def _names(name: str, names: list[object]) -> list[object]:
    if not builtins.all(isinstance(each, str | int) for each in names):
        raise TypeError(f"{name}: expected a list of names")
    return names
