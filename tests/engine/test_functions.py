"""The function library: every example runs, and what goes in wrong comes out as a clear error."""

import time
from datetime import UTC, datetime

import pytest

from engine.event import Event
from engine.expressions import parse
from engine.functions import FUNCTIONS, Function, suggestion
from engine.functions_text import compile_pattern, searcher

NOTHING = Event(b"\0" * 16, 0, "", "", "", {})
OWN_NONE = {"is_number", "min", "max", "coalesce", "if_none", "exists", "default", "type_of"}


def value_of(text: str) -> object:
    return parse(text)(NOTHING)


@pytest.mark.parametrize("function", FUNCTIONS.values(), ids=FUNCTIONS)
def test_the_example_of_each_function_holds(function: Function) -> None:
    code, result = function.example
    assert code, "no example"
    assert f"{function.name}(" in code
    assert value_of(code) == value_of(result)
    assert type(value_of(code)) is type(value_of(result))


@pytest.mark.parametrize("function", FUNCTIONS.values(), ids=FUNCTIONS)
def test_each_function_is_documented_in_one_line(function: Function) -> None:
    assert function.docs.endswith(".")
    assert "\n" not in function.docs


@pytest.mark.parametrize("name", sorted(FUNCTIONS.keys() - OWN_NONE))
def test_none_gives_none(name: str) -> None:
    function = FUNCTIONS[name]
    arguments: list[object] = [None] * function.minimum
    assert function.call(*arguments) is None


@pytest.mark.parametrize("name", sorted(n for n, f in FUNCTIONS.items() if f.parameters[0].classes))
def test_a_wrong_kind_is_named(name: str) -> None:
    function = FUNCTIONS[name]
    expected = function.parameters[0].expected
    with pytest.raises(TypeError, match=f"^{name}: expected {expected}, got boolean$"):
        function.call(True, *["x"] * (function.minimum - 1))


def test_parameters_come_from_the_annotations() -> None:
    pad = FUNCTIONS["pad"]
    assert pad.signature == "pad(text, width, [fill=], [side=])"
    assert (pad.minimum, pad.maximum, set(pad.keywords)) == (2, 2, {"fill", "side"})
    assert FUNCTIONS["min"].maximum is None
    assert FUNCTIONS["unix"].parameters[0].expected == "time or text"
    assert FUNCTIONS["round"].returns == "number"


@pytest.mark.parametrize(
    ("text", "result"),
    [
        ('pad("x", 3, side="right", fill=".")', "x.."),
        ('split("a  b")', ["a", "b"]),
        ('substring("sensor", -3)', "sor"),
        ('capture("a=1", "(?P<key>[a-z])=([0-9])", "key")', "a"),
        ('capture("a=1", "[0-9]")', "1"),
        ('capture("a", "[0-9]")', None),
        ("round(2.567)", 3),
        ("min([])", None),
        ("max(none, 2)", 2),
        ('number("-1e3")', -1000.0),
        ('number("007")', 7),
        ("text(true)", "true"),
        ("text([1, none])", "[1,null]"),
        ("text(meta.time)", "1970-01-01T00:00:00Z"),
        ('sort([{"n": 2}, {"n": 1}, {}], by="n")', [{"n": 1}, {"n": 2}, {}]),
        ("sort([2, none, 1])", [1, 2, None]),
        ("unique([[1], [1], {}, {}])", [[1], {}]),
        ("count([none, 1])", 1),
        ("mean([])", None),
        ("sum([])", 0),
        ('contains([1, "a"], "a")', True),
        ("coalesce(none, 5, 1 / 0)", 5),
        ("if_none(5, 1 / 0)", 5),
        ("default(0, 7)", 0),
        ('time("2024-05-01")', datetime(2024, 5, 1, tzinfo=UTC)),
        ('unix(time("2024-05-01T00:00:10Z")) - unix("2024-05-01")', 10.0),
        ("clamp(-1, 0, 10)", 0),
        ('hex("é")', "c3a9"),
        ("type_of(none)", "none"),
    ],
)
def test_a_call(text: str, result: object) -> None:
    assert value_of(text) == result


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('number("12 kg")', "number: not a number: '12 kg'"),
        ('number("nan")', "number: not a number"),
        (f'number("{"9" * 60}")', "more than 64 bits"),
        ("floor(1e300)", "more than 64 bits"),
        ("sum([9223372036854775807, 1])", "more than 64 bits"),
        ("round(1, 16)", "round: digits must be 0 to 15"),
        ("round(1, -5)", "round: digits must be 0 to 15"),
        ("sqrt(-1)", "sqrt: the number is negative"),
        ('replace("abc", "", "x")', "replace: the text to replace is empty"),
        ('split("abc", "")', "split: the separator is empty"),
        ('pad("a", 1000000000)', "pad: text too long"),
        ('time("yesterday")', "not a time in ISO 8601: 'yesterday'"),
        ("time(1e300)", "not a time in seconds"),
        ('hour(meta.time, "../../etc/passwd")', "unknown time zone"),
        ('format_time(meta.time, "%9999999d")', "format_time: a layout has"),
        ('seconds("soon")', "seconds: not a duration"),
        ('json_parse("{")', "json_parse: "),
        ('json_parse("[" + pad("", 50000, fill="["))', "json_parse: "),
        ('base64_decode("?")', "base64_decode: not base64"),
        ('base64_decode("/w==")', "base64_decode: not base64 of a text"),
        ('capture("a", "a", 3)', "capture: the pattern has no group 3"),
    ],
)
def test_a_wrong_value_is_named(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message.replace("(", r"\(")):
        value_of(text)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('sum([1, "a"])', "sum: expected a list of numbers, got text"),
        ('sort([1, "a"])', r"sort: expected values that can be compared \(number, text\), got list"),
        ('max(1, "a")', r"max: expected values that can be compared \(number, text\)"),
        ('contains("abc", 1)', "contains: expected text, got number"),
        ("substring(text(1), number(2) / 2)", "substring: expected whole number, got number"),
    ],
)
def test_a_wrong_kind_inside_is_named(text: str, message: str) -> None:
    with pytest.raises(TypeError, match=message):
        value_of(text)


def test_growing_text_is_bounded() -> None:
    event = Event(b"\0" * 16, 0, "", "", "", {"long": "a" * 60_000})
    for text in ('replace(long, "a", "bb")', 'join([long, long], "")', "long + long", 'text(long) + "b" + long'):
        with pytest.raises(ValueError, match="text too long"):
            parse(text)(event)
    assert parse('replace(long, "a", "b")')(event) == "b" * 60_000


def test_patterns_take_linear_time() -> None:
    event = Event(b"\0" * 16, 0, "", "", "", {"long": "a" * 30_000 + "!"})
    start = time.perf_counter()
    assert parse('matches(long, "^(a+)+$")')(event) is False
    assert time.perf_counter() - start < 1


@pytest.mark.parametrize("pattern", ["^a+$", "b", r"\bü", "(?i)A$", "", "a|^$", "[^a]", "(a{10}){100}", "ü{2,300}x?"])
@pytest.mark.parametrize("text", ["", "a", "ab", "b\na", "ü", "xüü", "A", "a" * 1000])
def test_the_fast_search_finds_what_the_search_finds(pattern: str, text: str) -> None:
    assert (searcher(pattern)(text) is None) is (compile_pattern(pattern).search(text) is None)


@pytest.mark.parametrize(
    ("name", "hint"),
    [("len", "did you mean 'length'?"), ("uper", "did you mean 'upper'?"), ("now", "use meta.time"), ("zzz", "")],
)
def test_a_missing_function_is_guessed(name: str, hint: str) -> None:
    assert suggestion(name).endswith(hint)
    assert bool(suggestion(name)) is bool(hint)
