"""Functions of the expression language for calculation: powers, angles, scales, bits of a status word."""

import math
import re

from engine.expression_values import bounded
from engine.function_registry import Number, function

HEX = re.compile(r"(?:0[xX])?([0-9A-Fa-f]{1,15})")
TRUTHS = {"true": True, "yes": True, "on": True, "1": True, "false": False, "no": False, "off": False, "0": False}


@function()
def power(number: int | float, exponent: int | float) -> Number:
    """Raise a number to a power.

    >>> power(2, 10)
    1024
    """
    if isinstance(number, int) and isinstance(exponent, int) and exponent >= 0:
        if abs(number) > 1 and exponent > 64:
            raise ValueError("power: number out of range: more than 64 bits")
        whole: int = number**exponent
        bounded(whole)
        return whole
    try:
        return math.pow(number, exponent)
    except (ValueError, OverflowError):
        raise ValueError(f"power: {number:g} to the power of {exponent:g} is no number") from None


@function()
def exp(number: int | float) -> float:
    """Raise e to a power.

    >>> exp(0)
    1.0
    """
    return math.exp(number)


@function()
def log(number: int | float, base: int | float | None = None) -> float:
    """Take the natural logarithm, or that to a base; a number that is not above 0 is an error.

    >>> log(1000, 10)
    3.0
    """
    if number <= 0 or (base is not None and (base <= 0 or base == 1)):
        raise ValueError(f"log: numbers above 0, and no base of 1; got {number:g}")
    if base is None:
        return math.log(number)
    return math.log10(number) if base == 10 else math.log(number) / math.log(base)


@function()
def sign(number: int | float) -> int:
    """Give -1 for a negative number, 1 for a positive one, 0 for 0.

    >>> sign(-2.5)
    -1
    """
    return (number > 0) - (number < 0)


@function()
def sin(angle: int | float) -> float:
    """Take the sine of an angle in radians.

    >>> sin(0)
    0.0
    """
    return math.sin(angle)


@function()
def cos(angle: int | float) -> float:
    """Take the cosine of an angle in radians.

    >>> cos(0)
    1.0
    """
    return math.cos(angle)


@function()
def atan2(y: int | float, x: int | float) -> float:
    """Give the angle (radians, -pi to pi) of the point x, y as seen from 0, 0.

    >>> round(atan2(1, 1), 4)
    0.7854
    """
    return math.atan2(y, x)


@function()
def scale(number: int | float, low: int | float, high: int | float, to_low: int | float, to_high: int | float) -> float:
    """Map a number from one range to another, such as 4 to 20 mA to a temperature; outside of it goes on straight.

    >>> scale(12, 4, 20, 0, 150)
    75.0
    """
    if low == high:
        raise ValueError(f"scale: a range from one number to another; got {low:g} twice")
    return to_low + (number - low) / (high - low) * (to_high - to_low)


@function()
def bit(number: int, index: int) -> bool:
    """Tell if a bit of a whole number, such as a status word, is set; the lowest is 0, the highest 63.

    >>> bit(5, 2)
    true
    """
    if not 0 <= index <= 63:
        raise ValueError(f"bit: an index of 0 to 63; got {index}")
    return bool(number >> index & 1)


@function()
def bit_and(number: int, mask: int) -> int:
    """Keep the bits of a whole number that another has too.

    >>> bit_and(13, 6)
    4
    """
    return number & mask


@function()
def bit_or(number: int, mask: int) -> int:
    """Give the bits that either of two whole numbers has.

    >>> bit_or(12, 3)
    15
    """
    return number | mask


@function()
def bit_xor(number: int, mask: int) -> int:
    """Give the bits that one of two whole numbers has and the other has not.

    >>> bit_xor(13, 6)
    11
    """
    return number ^ mask


@function()
def shift(number: int, places: int) -> int:
    """Move the bits of a whole number to the left, or by negative places to the right.

    >>> shift(1, 4)
    16
    """
    if not -64 <= places <= 64:
        raise ValueError(f"shift: places of -64 to 64; got {places}")
    moved = number << places if places > 0 else number >> -places
    bounded(moved)
    return moved


@function()
def hex_number(text: str) -> int:
    """Read a whole number of up to 15 hexadecimal digits.

    >>> hex_number("0xFF")
    255
    """
    found = HEX.fullmatch(text.strip())
    if found is None:
        raise ValueError(f"hex_number: not a number in hexadecimal: {text[:40]!r}")
    return int(found[1], 16)


@function()
def boolean(value: object) -> bool:
    """Read true or false from 1, 0 and the words true, false, yes, no, on, off in any case.

    >>> boolean("Off")
    false
    """
    if isinstance(value, bool | int | float) and value in (0, 1):
        return bool(value)
    if isinstance(value, str) and (found := TRUTHS.get(value.strip().lower())) is not None:
        return found
    raise ValueError("boolean: one of true, false, yes, no, on, off, 1, 0; got something else")
