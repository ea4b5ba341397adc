"""Functions of the expression language for numbers."""

import builtins
import math
from collections.abc import Callable

from engine.expression_values import bounded, kind_of
from engine.function_registry import Number, function, wrong
from engine.functions_text import as_number


@function()
def abs_(number: int | float) -> Number:
    """Drop the sign of a number.

    >>> abs(-3)
    3
    """
    return builtins.abs(number)


@function()
def round_(number: int | float, digits: int = 0) -> Number:
    """Round to a whole number, or to some digits after the point (0 to 15); a half goes to the even side.

    >>> round(21.456, 1)
    21.5
    """
    if not 0 <= digits <= 15:
        raise ValueError(f"round: digits must be 0 to 15, not {digits}")
    return _whole(builtins.round, number) if digits == 0 else builtins.round(number, digits)


@function()
def floor(number: int | float) -> int:
    """Round down to a whole number.

    >>> floor(21.9)
    21
    """
    return _whole(math.floor, number)


@function()
def ceil(number: int | float) -> int:
    """Round up to a whole number.

    >>> ceil(21.1)
    22
    """
    return _whole(math.ceil, number)


@function()
def min_(*values: object | None) -> object | None:
    """Find the smallest of some values or of a list; none is skipped.

    >>> min([3, none, 1])
    1
    """
    return _extreme("min", builtins.min, values)


@function()
def max_(*values: object | None) -> object | None:
    """Find the largest of some values or of a list; none is skipped.

    >>> max(3, 7, 5)
    7
    """
    return _extreme("max", builtins.max, values)


@function()
def clamp(number: int | float, low: int | float, high: int | float) -> Number:
    """Keep a number within bounds.

    >>> clamp(120, 0, 100)
    100
    """
    if low > high:
        raise ValueError(f"clamp: the low bound {low} is above the high bound {high}")
    return low if number < low else high if number > high else number


@function()
def sqrt(number: int | float) -> float:
    """Take the square root; a negative number is an error.

    >>> sqrt(9)
    3.0
    """
    if number < 0:
        raise ValueError(f"sqrt: the number is negative: {number}")
    return math.sqrt(number)


@function()
def is_number(value: object | None) -> bool:
    """Tell if a value is a number; text with digits is not.

    >>> is_number("12")
    false
    """
    return isinstance(value, int | float) and not isinstance(value, bool)


@function()
def int_(value: int | float | str) -> int:
    """Cut off what follows the point; text is read as a number first.

    >>> int("12.9")
    12
    """
    return _whole(math.trunc, as_number("int", value) if isinstance(value, str) else value)


def _whole(rounding: Callable[[Number], int], number: Number) -> int:
    if math.isnan(number):
        raise ValueError("not a number (NaN) has no whole part")
    whole = rounding(number)
    bounded(whole)
    return whole


def _extreme(name: str, find: Callable[..., object], values: tuple[object, ...]) -> object:
    given = values[0] if len(values) == 1 and isinstance(values[0], list) else values
    present = [value for value in given if value is not None]
    try:
        return find(present, default=None)
    except TypeError:
        kinds = ", ".join(sorted({kind_of(value) for value in present}))
        raise wrong(name, f"values that can be compared ({kinds})", given) from None
