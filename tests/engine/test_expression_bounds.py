"""An expression is bounded in cost: each bound of docs/concepts/language.md, and that nothing else grows."""

import re
import time
from pathlib import Path

import pytest

from engine.event import Event
from engine.expression_refusals import LONGEST_LITERAL
from engine.expression_syntax import DEEPEST, LONGEST
from engine.expression_values import JSON_LIMIT, LIST_LIMIT, TEXT_LIMIT
from engine.expressions import WRONG, ExpressionFault, parse
from engine.functions import FUNCTIONS
from engine.functions_text import LONGEST_PATTERN, compile_pattern

PAGE = (Path(__file__).parents[2] / "docs/concepts/language.md").read_text()
LONG = "a" * 60_000
MANY = list(range(60_000))
BOUND = 2.0


def value_of(text: str, **data: object) -> object:
    return parse(text)(Event(b"\0" * 16, 0, "", "", "", data))


def test_the_page_has_the_bounds_that_the_engine_has() -> None:
    bounds = [f"{LONGEST:,} characters, {DEEPEST} levels", f"{LONGEST_LITERAL} items", "64 bits",
              f"{TEXT_LIMIT:,} characters", f"{LIST_LIMIT:,} items", f"{JSON_LIMIT >> 20} MiB",
              f"{LONGEST_PATTERN:,} characters"]  # fmt: skip
    assert re.findall(r"^\| ([\w, ]+) \| ", PAGE.partition("### Bounds")[2].partition("\n## ")[0], re.MULTILINE) == [
        "bound",
        *bounds,
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a" * 2001, "longer than 2,000 characters"),
        ("(" * 41 + "a" + " + 1)" * 41, "nested deeper than 40 levels"),
        ("-" * 41 + "a", "nested deeper than 40 levels"),
        ("upper(" * 41 + "a" + ")" * 41, "nested deeper than 40 levels"),
        ("[" + "1," * 200 + "1]", "a list of more than 200 items"),
        ("{" + "1:1," * 200 + "1:1}", "a dict of more than 200 items"),
        ("9223372036854775808", "number too large"),
        ("a ** 9", "not part of the expression language"),
        ("a << 9", "not part of the expression language"),
        ("[x for x in a]", "comprehensions are not part"),
        ('"a" * 1000000', "cannot compute text \\* number"),
        ('matches(a, "(")', "the pattern is wrong"),
        ("matches(a, b)", "the pattern must be a literal"),
        ("captures(a, b)", "the pattern must be a literal"),
        ('replace_pattern(a, b, "")', "the pattern must be a literal"),
        ('matches(a, "((a{30}){30}){30}")', "the pattern is wrong"),
    ],
)
def test_what_lint_can_see_is_refused(text: str, message: str) -> None:
    with pytest.raises(ExpressionFault, match=message):
        parse(text)


@pytest.mark.parametrize("text", ["a" * 2000, "-" * 39 + "a", "[" + "1," * 199 + "1]", "9223372036854775807"])
def test_up_to_the_bound_it_is_taken(text: str) -> None:
    assert parse(text).text == text


@pytest.mark.parametrize(
    "text",
    [
        "long + long", 'join([long, long], "")', "pad(long, 65537)", "repeat(long, 2)", 'replace(long, "a", "bb")',
        "many + many", "range(0, 65538)", "range(0, -65538, -1)", "flatten([many, many])", 'captures(text(many), "[0-9,]")',
        "json_text([text(many), text(many), text(many), long])", "text([many, many, many, many])",
        "power(2, 63)", "power(10, 10000)", "power(1e200, 2)", "shift(1, 63)", "shift(1, 65)",
        "number(large) * 4", "large + large", "-(large * 4)", 'replace_pattern(long, "a", "bb" + text(many))',
        'replace_pattern(long, "(a+)", "\\\\1\\\\1")', "round(1e300)", "sum([large, large])", "exp(1000)",
    ],
)  # fmt: skip
def test_what_grows_is_stopped(text: str) -> None:
    start = time.perf_counter()
    with pytest.raises((ValueError, ArithmeticError)):
        value_of(text, long=LONG, many=MANY, large=2**62)
    assert time.perf_counter() - start < BOUND


def test_what_stays_within_the_bounds_is_computed() -> None:
    assert value_of("repeat(long, 1)", long=LONG) == LONG
    assert value_of("length(range(0, 65536))") == 65_536
    assert value_of("length(flatten([many]))", many=MANY) == 60_000
    assert value_of("power(2, 62)") == 2**62
    assert value_of("power(1, 100000)") == 1
    assert value_of("length(json_text(many))", many=MANY) == len(str(MANY).replace(" ", ""))


@pytest.mark.parametrize("name", FUNCTIONS)
def test_no_function_takes_long_over_long_text_and_lists(name: str) -> None:
    """Every function with large arguments of each kind answers, or refuses, in bounded time."""
    count = max(1, FUNCTIONS[name].minimum)
    large: list[object] = [LONG, MANY, {str(i): i for i in MANY}, 2**62, 1e300, [LONG] * 1000, "9" * 60_000, -(2**62)]
    start = time.perf_counter()
    for first in large:
        for other in (first, 3, "a", "UTC", [LONG] * 3, 100_000):
            try:
                FUNCTIONS[name].call(first, *[other] * (count - 1))
            except WRONG:
                continue
    assert time.perf_counter() - start < BOUND * 4


def test_a_pattern_from_a_setting_is_bounded_too() -> None:
    with pytest.raises(ExpressionFault, match="the pattern is wrong: longer than 2,000 characters"):
        parse("matches(a, settings.pattern)", {"pattern": "a" * 2001})
    assert compile_pattern("a" * 2000)


@pytest.mark.parametrize("pattern", ["^(a+)+$", "(a|a)*b", "(.*)*x", "(a?){30}a{30}", ".*.*.*.*b"])
@pytest.mark.parametrize("name", ["matches", "capture", "captures"])
def test_a_pattern_takes_linear_time(name: str, pattern: str) -> None:
    start = time.perf_counter()
    value_of(f'{name}(long, "{pattern}")', long=LONG)
    assert time.perf_counter() - start < BOUND
