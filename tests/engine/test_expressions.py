"""The expression language: what it computes, what it refuses, and what it says."""

import copy
import pickle
import warnings
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import pytest
from pydantic import BaseModel, ConfigDict, SecretStr, TypeAdapter, ValidationError

from engine.event import Event
from engine.expressions import WRONG, Expression, ExpressionFault, Scope, parse

SETTINGS = {"limit": 38, "codes": ["OK", "DEFECT"], "nested": {"a": [1]}, "nothing": None, "secret": SecretStr("s")}
EVENT = Event(
    id=bytes(range(16)),
    time=1_700_000_000_500_000,
    key="led",
    source="gate",
    topic="sensor/ult01",
    data={
        "temperature": 40,
        "result": "DEFECT",
        "hot": "hot",
        "half": 0.5,
        "tags": ["x", "y"],
        "device": {"name": "led", "_id": 5},
        "empty": None,
        "class": "a",
        "größe": 3,
        "yes": True,
        "layout": "%999999d",
        "great": 2**62,
    },
    meta={"params": {"room": "r1"}, "port": "late"},
    arrival=1_700_000_001_000_000,
)


def inlined(expression: Expression, event: Event = EVENT) -> object:
    """Evaluate the source as the flow compiler does: in a function with other locals."""
    scope = Scope()
    lines = ["def run(d, meta, topic, t, key, source, id, arrival):", f"    return {expression.code(scope)}"]
    names = dict(scope.constants)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        exec("\n".join(lines), names)  # noqa: S102  # that is what is tested
    run: Any = names["run"]
    return run(event.data, event.meta, event.topic, event.time, event.key, event.source, event.id, event.arrival)


@pytest.mark.parametrize(
    ("text", "result"),
    [
        ('temperature > 38 and result == "DEFECT"', True),
        ("temperature > settings.limit", True),
        ("not (temperature > 38)", False),
        ("temperature if yes else half", 40),
        # look-ups
        ("missing", None),
        ("device.name", "led"),
        ('device["_id"]', 5),
        ("device.name.first.second", None),
        ("missing.name", None),
        ("temperature.name", None),
        ("tags[0]", "x"),
        ("tags[-1]", "y"),
        ("tags[2]", None),
        ("tags[missing]", None),
        ("missing[0]", None),
        ("result[0:3]", "DEF"),
        ("tags[1:]", ["y"]),
        ("tags[::-1]", ["y", "x"]),
        ("missing[0:3]", None),
        ("tags[missing:]", None),
        ("größe", 3),
        # the event
        ("meta.topic", "sensor/ult01"),
        ("meta.levels[1]", "ult01"),
        ("meta.levels[5]", None),
        ("meta.key", "led"),
        ("meta.source", "gate"),
        ("meta.id", "000102030405060708090a0b0c0d0e0f"),
        ("meta.time", datetime(2023, 11, 14, 22, 13, 20, 500_000, tzinfo=UTC)),
        ("meta.arrival > meta.time", True),
        ("meta.params.room", "r1"),
        ('meta["params"]["room"]', "r1"),
        ("meta.port", "late"),
        ("meta.account", None),
        ("meta.account.name", None),
        ('meta.data["class"]', "a"),
        ("meta.data.result", "DEFECT"),
        # settings
        ("result in settings.codes", True),
        ("settings.nested.a[0]", 1),
        ("settings.nothing", None),
        # literals
        ("[true, True, false, none, None]", [True, True, False, None, None]),
        ('{"a": temperature, "b": [result]}', {"a": 40, "b": ["DEFECT"]}),
        ('"a" "b"', "ab"),
        # arithmetic
        ("temperature * 9 / 5 + 32", 104.0),
        ("-temperature", -40),
        ("- - temperature", 40),
        ("7 // 2 + 7 % 4", 6),
        ("temperature + missing", None),
        ("missing * missing", None),
        ("-missing", None),
        ("missing / 0", None),
        ('hot + "ter"', "hotter"),
        ("tags + [1]", ["x", "y", 1]),
        ("tags + missing", None),
        ("temperature * half - half * temperature", 0.0),
        ("great * 2 > great", True),
        # comparisons
        ("missing > 38", False),
        ("missing < 38", False),
        ("not missing < 38", True),
        ("missing == none", True),
        ("missing != none", False),
        ("empty == missing", True),
        ("temperature == 40.0", True),
        ('temperature == "40"', False),
        ("1 < temperature <= 40 < 50", True),
        ("1 < missing < 50", False),
        ("1 == 1 < temperature != missing", True),
        ("temperature > half > missing", False),
        ("temperature + 1 > 40 > half - 1", True),
        # in
        ('result in ["OK", "DEFECT"]', True),
        ("missing in [none, 1]", True),
        ("missing in []", False),
        ("result not in [temperature, 1]", True),
        ('"x" in tags', True),
        ('"x" in missing', False),
        ('"x" not in missing', True),
        ("missing in missing", False),
        ("missing in hot", False),
        ('missing in "abc"', False),
        ('"o" in hot', True),
        ('"name" in device', True),
        ("hot not in hot == true", False),
        ('hot in tags == [] or "y" in tags', True),
        ('missing not in upper(hot) == "HOT"', True),
        # and, or, if: a field that is bound in one branch is not needed from another
        ("(missing and temperature) or temperature", 40),
        ("(half if missing else temperature) + temperature + half", 80.5),
        ("(missing > temperature) or temperature > half", True),
        ("(temperature == 1) < temperature", True),
        ('missing or "unknown"', "unknown"),
        # functions
        ("upper(hot)", "HOT"),
        ("upper(missing)", None),
        ("upper(lower(result))", "DEFECT"),
        ('starts_with(meta.topic, "sensor/")', True),
        ('matches(hot, r"^h\\w+$")', True),
        ('matches(missing, "a")', None),
        ("coalesce(missing, empty, half)", 0.5),
        ("exists(missing) or exists(half)", True),
        ("if_none(missing, temperature) + temperature", 80),
        ("round(half * 7, 1)", 3.5),
        ('length(tags) + length("abc")', 5),
        ('hour(meta.time, "Asia/Seoul")', 7),
        # layout
        ("\n  temperature > 38   # too hot\n  and\n  result == 'DEFECT'\n", True),
    ],
)
def test_evaluates(text: str, result: object) -> None:
    expression = parse(text, SETTINGS)
    assert expression(EVENT) == result
    assert type(expression(EVENT)) is type(result)
    assert inlined(expression) == result


@pytest.mark.parametrize(
    ("text", "explanation"),
    [
        ("hot > 38", 'hot > 38: cannot compare text with number; hot = "hot"'),
        (
            'result == "DEFECT" and hot > 38',
            'result == "DEFECT" and hot > 38: cannot compare text with number in hot > 38; hot = "hot"',
        ),
        ("hot - 1", 'hot - 1: cannot subtract text and number; hot = "hot"'),
        ("hot * 2", 'hot * 2: cannot multiply text and number; hot = "hot"'),
        ("2 * tags", '2 * tags: cannot multiply number and list; tags = ["x","y"]'),
        ("tags * half", 'tags * half: cannot multiply list and number; tags = ["x","y"]; half = 0.5'),
        ("result % 3", 'result % 3: cannot divide text and number; result = "DEFECT"'),
        ("layout % 3", 'layout % 3: cannot divide text and number; layout = "%999999d"'),
        ('hot * 2 == "hothot"', 'hot * 2 == "hothot": cannot multiply text and number in hot * 2; hot = "hot"'),
        ("2 * hot == 1", '2 * hot == 1: cannot multiply number and text in 2 * hot; hot = "hot"'),
        ("hot + 1", 'hot + 1: cannot add text and number; hot = "hot"'),
        ("hot + temperature", 'hot + temperature: cannot add text and number; hot = "hot"; temperature = 40'),
        ("-hot", '-hot: cannot negate text; hot = "hot"'),
        ("hot in temperature", 'hot in temperature: cannot look for text in number; hot = "hot"; temperature = 40'),
        ("tags in ['a']", """tags in ['a']: cannot look for list in a list of plain values; tags = ["x","y"]"""),
        ("1 / (half - 0.5)", "1 / (half - 0.5): float division by zero; half = 0.5"),
        ("upper(temperature)", "upper(temperature): upper: expected text, got number; temperature = 40"),
        ("great * 8", f"great * 8: number out of range: more than 64 bits; great = {2**62}"),
        ("great + great", f"great + great: number out of range: more than 64 bits; great = {2**62}"),
        ("great * 8 // 1", f"great * 8 // 1: number out of range: more than 64 bits in great * 8; great = {2**62}"),
        ("[great * 8]", f"[great * 8]: number out of range: more than 64 bits in great * 8; great = {2**62}"),
        ("meta.time > 5 + temperature", None),
        ("meta.topic > temperature", 'meta.topic > temperature: cannot compare text with number; '
         'meta.topic = "sensor/ult01"; temperature = 40'),
        ("(yes or hot > 38) and hot < device.name and hot > half", '(yes or hot > 38) and hot < device.name and hot > '
         'half: cannot compare text with number in hot > half; hot = "hot"; half = 0.5'),
    ],
)  # fmt: skip
def test_explains_what_is_wrong_with_an_event(text: str, explanation: str | None) -> None:
    try:
        expression = parse(text)
    except ExpressionFault:
        assert explanation is None, "refused when parsing"
        return
    with pytest.raises(WRONG):
        expression(EVENT)
    with pytest.raises(WRONG):
        inlined(expression)
    assert expression.explain(EVENT) == explanation


def test_times_in_the_payload_are_subtracted_as_seconds() -> None:
    day = datetime(2024, 5, 1, tzinfo=UTC)
    event = EVENT.derive({"start": day, "end": day.replace(hour=1)})
    with pytest.raises(TypeError):
        parse("end - start")(event)
    assert "cannot subtract time and time, only the unix() of each" in parse("end - start").explain(event)
    assert parse("unix(end) - unix(start)")(event) == 3600.0
    assert parse("end > start and date(end) == date(start)")(event) is True


def test_an_explanation_is_short() -> None:
    event = EVENT.derive({"hot": "x" * 10_000})
    assert len(parse("hot > 38").explain(event)) < 200


@pytest.mark.parametrize(
    ("text", "message", "column", "hint"),
    [
        ("", "the expression is empty", 0, None),
        ("  \n ", "the expression is empty", 0, None),
        ("a, b", "more than one expression", 0, None),
        ("a,", "more than one expression", 0, None),
        ("a] + [b", "more than one expression", 0, None),
        ("a) + (b", "brackets do not match", 1, None),
        ("upper(a", "a bracket is not closed", 7, None),
        ("a\0b", "a null character", 1, None),
        ("a = 3", "invalid syntax", 0, "to compare, write '=='"),
        ("a && b", "invalid syntax", 3, "write 'and'"),
        ("a ? 1 : 2", "invalid syntax", 2, "write 'a if condition else b'"),
        (
            'class == "?"',
            "invalid syntax",
            0,
            'a field with the name of a Python keyword is reached by meta.data["name"]',
        ),
        ("9" * 30, "number too large: more than 64 bits", 0, None),
        ("1e999", "number too large", 0, None),
        ("2j", "complex literals are not part of the expression language", 0, None),
        ("b'a'", "bytes literals are not part of the expression language", 0, None),
        ("lenght(a)", "unknown function 'lenght'", 0, "did you mean 'length'?"),
        ("eval('1')", "unknown function 'eval'", 0, "did you mean 'values'?"),
        ("now()", "unknown function 'now'", 0, "an expression has no clock; use meta.time"),
        ("name.upper()", "only the functions of the library can be called", 0, "write upper(name)"),
        ("upper(a)(b)", "only the functions of the library can be called", 0, None),
        ("upper()", "upper: expected 1 argument, got 0", 0, 'as in upper("led")'),
        ("round(a, 1, 2)", "round: expected 1 to 2 arguments, got 3", 0, "as in round(21.456, 1)"),
        ("upper(a, text=a)", "upper: no argument is named 'text'", 14, "it is upper(text)"),
        ("pad(a, 3, fil='0')", "pad: no argument is named 'fil'", 14, "did you mean 'fill'?"),
        ("upper(5)", "upper: expected text, got number", 6, None),
        ("upper(a, **b)", "upper: no argument is named '**'", 11, "it is upper(text)"),
        ("upper(*a)", "'*' before a value is not part of the expression language", 6, None),
        ("matches(a, '(')", "matches: the pattern is wrong: missing ): (", 11, None),
        ("matches(a, b)", "matches: the pattern must be a literal text or a setting", 11, None),
        ("matches(a, '\\bx')", "matches: a backspace in the pattern", 11, r'for a word boundary write r"\b"'),
        ("_a", "the name '_a' begins with '_'", 0, None),
        ("a.__class__", "the name '__class__' begins with '_'", 0, None),
        ("meta", "'meta' alone is no value", 0, "write meta.name, or meta.data.meta"),
        ("meta._x", "the name '_x' begins with '_'", 0, None),
        ("settings.limt", "unknown setting 'limt'", 0, "did you mean 'limit'?"),
        ("settings.secret", "setting 'secret' is a secret or has no value that an expression can read", 0, None),
        (
            "table.car[a].name",
            "unknown live table 'car': expected one of the flow with 'live' (there is none)",
            0,
            None,
        ),
        ("lambda: 1", "lambda is not part of the expression language", 0, None),
        ("[x for x in y]", "comprehensions are not part of the expression language", 0, None),
        ("f'{a}'", "f-strings are not part of the expression language", 0, 'join text by +, as in "a " + text(value)'),
        ("(a := 1)", "':=' is not part of the expression language", 1, "to compare, write '=='"),
        ("await a", "await is not part of the expression language", 0, None),
        ("(a, b)", "tuples are not part of the expression language", 0, "write a list: [a, b]"),
        ("{1, 2}", "sets are not part of the expression language", 0, "write a list: [a, b]"),
        ("a ** 9", "'**' is not part of the expression language", 0, "write power(x, 2)"),
        ("1 << 9", "'<<' is not part of the expression language", 0, "write shift(x, 4)"),
        ("a & b", "'&' is not part of the expression language", 0, "write 'and', or bit_and(x, mask) for bits"),
        ("~a", "'~' is not part of the expression language", 0, "write 'not'"),
        ("a is none", "'is' is not part of the expression language", 5, "write '== none' or '!= none'"),
        ('"a" * 1000000', "cannot compute text * number", 0, "text(value) makes text, number(value) a number"),
        ('"%s" % a', "cannot compute text % value", 0, 'to put a value into text: "a " + text(value)'),
        (
            "meta.time - time(a)",
            "cannot compute time - time",
            0,
            "compute with seconds: unix(meta.time) - unix(started)",
        ),
        ('5 > "x"', "cannot compare number with text", 4, None),
        ("{} < {}", "cannot compare dict with dict", 5, None),
        ("a in 5", "cannot look into number with 'in'", 5, None),
        ("-'a'", "cannot negate text", 0, None),
        ("'a'.b", "nothing can be looked up in text by name", 0, None),
        ("(5)[0]", "nothing can be looked up in number by index", 0, None),
        ("{a: 1}", "the key of a dict must be a literal text or number", 1, None),
        ("{**a}", "the key of a dict must be a literal text or number", 3, None),
        ("größe > ÿ.__x", "the name '__x' begins with '_'", 8, None),
        ("a and\n  __b", "the name '__b' begins with '_'", 8, None),
        ("a" * 2_001, "longer than 2,000 characters (2,001)", 0, None),
        ("-" * 41 + "a", "nested deeper than 40 levels", 0, None),
        ("(" * 900 + ")" * 900, "too many nested parentheses", None, None),
        ("not " * 499 + "a", None, 0, None),
        (f"[{'1,' * 201}]", "a list of more than 200 items", 0, None),
    ],
)
def test_refuses(text: str, message: str | None, column: int | None, hint: str | None) -> None:
    with pytest.raises(ExpressionFault) as caught:
        parse(text, SETTINGS)
    assert message is None or caught.value.message == message
    assert column is None or caught.value.column == column
    assert caught.value.hint == hint


def test_reports_every_problem_in_order() -> None:
    with pytest.raises(ExpressionFault) as caught:
        parse("uper(a) == _b or settings.x > len(c)")
    assert [(fault.column, fault.message) for fault in caught.value.faults] == [
        (0, "unknown function 'uper'"),
        (11, "the name '_b' begins with '_'"),
        (17, "unknown setting 'x'"),
        (30, "unknown function 'len'"),
    ]
    assert caught.value.message.count(";") == 3


def test_forty_levels_are_allowed_and_compile_inside_other_code() -> None:
    for text in ("-" * 39 + "a", "not " * 39 + "a", "[" * 39 + "a" + "]" * 39, "upper(" * 20 + "a" + ")" * 20):
        expression = parse(text)
        scope = Scope()
        compile(
            f"def run(d):\n  for i in d:\n    try:\n      x = [({expression.code(scope)})]\n    finally: pass",
            "",
            "exec",
        )


def test_tells_what_it_uses() -> None:
    text = 'upper(device.name) == settings.limit and meta.levels[0] == meta.account.name and meta.data["class"] == none'
    expression = parse(text, SETTINGS)
    assert expression.fields == {"device", "class"}
    assert expression.functions == {"upper"}
    assert expression.settings == {"limit"}
    assert expression.uses_meta == {"levels", "account", "data"}
    assert expression.kind == "boolean"
    assert parse("a + 1").kind == "number"
    assert parse("a + b").kind == "any"


def test_is_a_value() -> None:
    expression = parse("a > settings.limit", {"limit": 5, "other": 1})
    assert expression == parse("a > settings.limit", {"limit": 5})
    assert expression != parse("a > settings.limit", {"limit": 6})
    assert hash(expression) == hash(parse("a > settings.limit", {"limit": 5}))
    assert pickle.loads(pickle.dumps(expression)) == expression  # noqa: S301  # our own
    assert copy.deepcopy(expression)(EVENT.derive({"a": 6})) is True
    assert str(expression) == "a > settings.limit"
    with pytest.raises(AttributeError, match="immutable"):
        expression.text = "b"


def test_a_payload_that_is_no_dict_has_no_fields() -> None:
    assert parse("a == none")(SimpleNamespace(data=b"\xff")) is True


def test_expressions_share_a_scope() -> None:
    scope = Scope(data="row", levels="parts")
    first, second = (
        parse("upper(a) == upper(b + c)").code(scope),
        parse("upper(b + c) and meta.levels[0] == a").code(scope),
    )
    temporaries = {f"v{n}" for n in range(1, scope.temporaries + 1)}
    assert not {v for v in temporaries if f"{v} :=" in first} & {v for v in temporaries if f"{v} :=" in second}
    names = dict(scope.constants)
    exec(f"def run(row, parts): return [{first}, {second}]", names)  # noqa: S102  # that is what is tested
    assert names["run"]({"a": "x", "b": "X", "c": ""}, ["x"]) == [True, True]  # type: ignore[operator]
    assert len(scope.constants) == len(set(map(id, scope.constants.values())))


def test_the_fast_path_is_pythons_own() -> None:
    code = parse('temperature > 38 and result == "DEFECT"').code(Scope())
    assert code == (
        "(((f_temperature := d.get('temperature')) is not None and f_temperature > 38)"
        " and (d.get('result') == 'DEFECT'))"
    )


class Node(BaseModel):
    """A component's config with expressions."""

    model_config = ConfigDict(frozen=True)
    where: Expression
    key: Expression | None = None


def test_is_a_field_of_a_model() -> None:
    node = Node.model_validate({"where": "a > settings.limit", "key": True}, context=SimpleNamespace(settings=SETTINGS))
    assert node.where(EVENT.derive({"a": 39})) is True
    assert node.key is not None
    assert node.key(EVENT) is True
    assert Node.model_validate({"where": 0.5, "key": -3}).key == parse("-3")
    assert node.model_dump(mode="json") == {"where": "a > settings.limit", "key": "true"}
    assert Node.model_validate(node.model_dump(), context=SimpleNamespace(settings=SETTINGS)) == node
    assert hash(node.where) == hash("a > settings.limit")


def test_a_fault_is_a_validation_error() -> None:
    with pytest.raises(ValidationError) as caught:
        Node.model_validate({"where": "lenght(a) > 3", "key": [1]})
    first, second = caught.value.errors()
    assert (first["type"], first["msg"]) == ("expression", "unknown function 'lenght'")
    assert first["ctx"] == {"message": "unknown function 'lenght'", "column": 0, "hint": "did you mean 'length'?"}
    assert second["type"] == "expression"


def test_has_a_json_schema() -> None:
    schema = {"type": ["string", "number", "boolean"], "description": "expression"}
    assert TypeAdapter(Expression).json_schema() == schema
