"""Functions of the expression language for text and patterns."""

import functools
import re
from collections.abc import Callable
from typing import cast

import re2

from engine.expression_values import TEXT_LIMIT, as_text, bounded
from engine.function_registry import Number, function, wrong

LARGEST_SET = 2_000
LONGEST_PATTERN = 2_000
NUMBER = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]{1,3})?")


def _options() -> re2.Options:
    options = re2.Options()
    options.log_errors = False
    return options


@functools.lru_cache(maxsize=512)
def compile_pattern(pattern: str) -> re2._Regexp:
    """Compile a regular expression (RE2, linear time); raise ValueError that says what is wrong with it."""
    if len(pattern) > LONGEST_PATTERN:
        raise ValueError(f"longer than {LONGEST_PATTERN:,} characters ({len(pattern):,})")
    try:
        return re2.compile(pattern, _options())
    except re2.error as error:
        reason = error.args[0] if error.args else error
        raise ValueError(reason.decode(errors="replace") if isinstance(reason, bytes) else str(reason)) from None


@functools.lru_cache(maxsize=512)
def searcher(pattern: str) -> Callable[[str], object]:
    """Return what gives None when a regular expression is not found in a text; raise ValueError as above.

    A set of one pattern answers six times faster than a search, which finds out where it is. Its automaton could run
    out of memory, unseen, so a large pattern is searched.
    """
    compiled = compile_pattern(pattern)
    if compiled.programsize > LARGEST_SET:
        return cast(Callable[[str], object], compiled.search)
    only = re2.Set.SearchSet(_options())
    only.Add(pattern)
    only.Compile()
    return cast(Callable[[str], object], only.Match)


@function(inline="{0}.upper()")
def upper(text: str) -> str:
    """Turn text into capitals.

    >>> upper("led")
    "LED"
    """
    return text.upper()


@function(inline="{0}.lower()")
def lower(text: str) -> str:
    """Turn text into small letters.

    >>> lower("LED")
    "led"
    """
    return text.lower()


@function(inline="{0}.strip()")
def trim(text: str) -> str:
    """Remove white space at both ends.

    >>> trim("  led ")
    "led"
    """
    return text.strip()


@function(inline="len({0})")
def length(value: str | list[object] | dict[object, object]) -> int:
    """Count the characters of a text or the items of a list or dict.

    >>> length("led")
    3
    """
    return len(value)


@function(inline="{0}.startswith({1})")
def starts_with(text: str, start: str) -> bool:
    """Tell if a text starts with another.

    >>> starts_with("sensor/ult01", "sensor/")
    true
    """
    return text.startswith(start)


@function(inline="{0}.endswith({1})")
def ends_with(text: str, end: str) -> bool:
    """Tell if a text ends with another.

    >>> ends_with("photo.jpg", ".png")
    false
    """
    return text.endswith(end)


@function(inline="({1} in {0})")
def contains(value: str | list[object], part: object) -> bool:
    """Tell if a text contains another, or a list an item.

    >>> contains("TIMEOUT", "TIME")
    true
    """
    if isinstance(value, str) and not isinstance(part, str):
        raise wrong("contains", "text", part)
    return part in value


@function()
def replace(text: str, old: str, new: str) -> str:
    """Replace each occurrence of a text (not a pattern) by another.

    >>> replace("a-b-c", "-", "_")
    "a_b_c"
    """
    if not old:
        raise ValueError("replace: the text to replace is empty")
    if len(new) > len(old) and len(text) + text.count(old) * (len(new) - len(old)) > TEXT_LIMIT:
        raise ValueError(f"replace: text too long: more than {TEXT_LIMIT:,} characters")
    return text.replace(old, new)


@function()
def split(text: str, separator: str | None = None) -> list[str]:
    """Split a text at a separator, or at white space when none is given.

    >>> split("a,b", ",")
    ["a", "b"]
    """
    if separator == "":
        raise ValueError("split: the separator is empty")
    return text.split(separator)


@function()
def join(items: list[object], separator: str = "") -> str:
    """Join the items of a list into one text; none is skipped, numbers are written out.

    >>> join(["a", 1, none, "b"], "-")
    "a-1-b"
    """
    texts = [as_text(entry) for entry in items if entry is not None]
    if sum(map(len, texts)) + len(separator) * len(texts) > TEXT_LIMIT:
        raise ValueError(f"join: text too long: more than {TEXT_LIMIT:,} characters")
    return separator.join(texts)


@function()
def substring(text: str, start: int, length: int | None = None) -> str:
    """Take a part of a text from a position (the first is 0; negative: from the end), to its end or of a length.

    >>> substring("ult01", 3, 2)
    "01"
    """
    if length is not None and length < 0:
        raise ValueError("substring: the length is negative")
    tail = text[start:]
    return tail if length is None else tail[:length]


@function()
def matches(text: str, pattern: str) -> bool:
    """Tell if a regular expression (RE2) is found in a text; anchor it with ^ and $ to match the whole.

    >>> matches("ult01", "^ult[0-9]+$")
    true
    """
    return searcher(pattern)(text) is not None


@function()
def capture(text: str, pattern: str, group: int | str | None = None) -> str | None:
    """Take the first group (or the numbered or named one) that a regular expression (RE2) finds; none if not found.

    >>> capture("line-12/cam", "line-([0-9]+)")
    "12"
    """
    compiled = compile_pattern(pattern)
    found = compiled.search(text)
    if found is None:
        return None
    try:
        part = found.group(group if group is not None else min(1, compiled.groups))
    except (IndexError, KeyError):
        raise ValueError(f"capture: the pattern has no group {group!r}") from None
    return None if part is None else str(part)


@function()
def pad(text: str, width: int, *, fill: str = " ", side: str = "left") -> str:
    """Fill a text up to a width with a character, on its left or right.

    >>> pad("7", 3, fill="0")
    "007"
    """
    if width > TEXT_LIMIT:
        raise ValueError(f"pad: text too long: more than {TEXT_LIMIT:,} characters")
    if len(fill) != 1 or side not in ("left", "right"):
        raise ValueError('pad: fill is one character, side is "left" or "right"')
    return text.rjust(width, fill) if side == "left" else text.ljust(width, fill)


@function()
def text_(value: object) -> str:
    """Write a value as text: numbers, true and false, times (ISO 8601); lists and dicts as JSON.

    >>> text(12.5)
    "12.5"
    """
    return as_text(value)


def as_number(name: str, text: str) -> Number:
    """Read a number from text; raise ValueError in the name of the function."""
    stripped = text.strip()
    if len(stripped) > 64 or not NUMBER.fullmatch(stripped):
        raise ValueError(f"{name}: not a number: {text[:40]!r}")
    if stripped.lstrip("+-").isdigit():
        whole = int(stripped)
        bounded(whole)
        return whole
    return float(stripped)


@function()
def number(value: str | int | float) -> Number:
    """Read a number from text; a number stays what it is.

    >>> number(" 12.5 ")
    12.5
    """
    return as_number("number", value) if isinstance(value, str) else value
