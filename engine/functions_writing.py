"""Functions of the expression language for how a value is written, and for parts of a text by pattern."""

import re2

from engine.expression_values import LIST_LIMIT, TEXT_LIMIT
from engine.function_registry import function
from engine.functions_text import compile_pattern


@function(inline="{0}.capitalize()")
def capitalize(text: str) -> str:
    """Turn the first letter of a text into a capital and the others into small letters.

    >>> capitalize("oven DOOR")
    "Oven door"
    """
    return text.capitalize()


@function()
def fixed(number: int | float, digits: int = 2) -> str:
    """Write a number with so many digits after the point (0 to 15), for people.

    >>> fixed(21.5)
    "21.50"
    """
    if not 0 <= digits <= 15:
        raise ValueError(f"fixed: digits must be 0 to 15, not {digits}")
    return f"{number:.{digits}f}"


@function()
def repeat(text: str, times: int) -> str:
    """Write a text several times in a row.

    >>> repeat("-", 3)
    "---"
    """
    if len(text) * times > TEXT_LIMIT:
        raise ValueError(f"repeat: text too long: more than {TEXT_LIMIT:,} characters")
    return text * times


@function()
def reverse(items: list[object] | str) -> list[object] | str:
    """Turn a list, or the characters of a text, around.

    >>> reverse([1, 2, 3])
    [3, 2, 1]
    """
    return items[::-1]


@function()
def without_start(text: str, start: str) -> str:
    """Take away what a text starts with; a text that starts otherwise stays what it is.

    >>> without_start("sensor/ult01", "sensor/")
    "ult01"
    """
    return text.removeprefix(start)


@function()
def without_end(text: str, end: str) -> str:
    """Take away what a text ends with; a text that ends otherwise stays what it is.

    >>> without_end("21.5 C", " C")
    "21.5"
    """
    return text.removesuffix(end)


@function()
def find(text: str, part: str) -> int | None:
    """Give the position (the first is 0) at which a text has another; none where it has not.

    >>> find("led=1", "=")
    3
    """
    position = text.find(part)
    return None if position < 0 else position


@function()
def replace_pattern(text: str, pattern: str, new: str) -> str:
    r"""Replace each part that a regular expression (RE2) finds; \1 in the new text stands for the first group.

    >>> replace_pattern("line 12, line 7", "[0-9]+", "#")
    "line #, line #"
    """
    compiled = compile_pattern(pattern)
    if len(new) > 1 and len(text) * len(new) > TEXT_LIMIT * 16:
        raise ValueError(f"replace_pattern: text too long: {len(text):,} characters")
    try:
        changed = compiled.sub(new, text)
    except (re2.error, IndexError, KeyError):
        raise ValueError(f"replace_pattern: the pattern has no such group as {new[:40]!r} names") from None
    if len(changed) > max(TEXT_LIMIT, len(text)):
        raise ValueError(f"replace_pattern: text too long: more than {TEXT_LIMIT:,} characters")
    return str(changed)


@function()
def captures(text: str, pattern: str) -> list[str]:
    """List every part that a regular expression (RE2) finds: its first group, or all of it where it has none.

    >>> captures("t1=20 t2=21", "=([0-9]+)")
    ["20", "21"]
    """
    compiled = compile_pattern(pattern)
    group = min(1, compiled.groups)
    found: list[str] = []
    for match in compiled.finditer(text):
        if len(found) == LIST_LIMIT:
            raise ValueError(f"captures: list too long: more than {LIST_LIMIT:,} items")
        found.append(match.group(group) or "")
    return found
