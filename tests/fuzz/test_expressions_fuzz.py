"""Expressions, mostly valid with hostile leaves: nothing escapes, nothing crashes, and a naive interpreter agrees."""

import ast
import math
import operator
import time
from collections.abc import Callable
from typing import Any, ClassVar

from hypothesis import example, given, settings
from hypothesis import strategies as st

from engine.event import Event
from engine.expressions import WRONG, Expression, ExpressionFault, Scope, parse
from engine.functions import FUNCTIONS

SETTINGS = {"limit": 3, "name": "led", "codes": ["OK", 1, None], "none": None, "half": 0.5}
FIELDS = ["a", "b", "c", "größe", "text", "count"]
PATHS = ["a.b", "b[0]", 'c["x"]', "a.b.c", "meta.topic", "meta.levels[1]", "meta.key", "meta.time", "meta.id",
         "meta.room", "meta.data.a", "settings.limit", "settings.codes", "settings.none", "settings.half"]  # fmt: skip
LITERALS = ["0", "1", "2", "-3", "2.5", '""', '"OK"', '"abc"', "true", "false", "none", "[]", "{}", '[1, "OK"]',
            '{"x": 1}']  # fmt: skip
HOSTILE = [
    "__class__", "().__class__", "a.__dict__", '"a"*10**9', '"a" * 1000000000', "9" * 400, "9223372036854775807",
    "1e308", "1e999", "-0.0", "\0", "\ud800", "ﬁeld", "open", "eval('1')", "__import__('os')", "[" * 60 + "]" * 60,
    "-" * 60 + "1", "lambda: a", "[x for x in a]", "f'{a}'", "(z := 1)", "*a", "a ** b", "a << 900", "a is b", "a if b",
    "upper(a.b", "'\\ud800'", "'''\n'''", "#", "a\\\n", "]+[", "meta", "settings.x", "table.x[a]", "matches(a, '(')",
    "matches(a, '(a+)+$')", "pad(a, 999999999)", "a[::0]", "a[9999999999999999999:]", "json_parse(a)", "a;b",
    "\x0c", "\u2028", "exists(-3)", "coalesce(2 + 3, a)", "exists([])", "(none if true else 3) < 1", "meta.port < 3",
]  # fmt: skip

SIGNS = ["not in", "in", "and", "or", "==", "!=", "<", "<=", ">", ">=", "+", "+", "-", "*", "/", "//", "%"]

leaves = st.sampled_from(FIELDS * 3 + PATHS + LITERALS)


def grown(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    signs = st.sampled_from(SIGNS)
    names = st.sampled_from(sorted(FUNCTIONS))
    return st.one_of(
        st.tuples(inner, signs, inner).map(lambda t: f"({t[0]} {t[1]} {t[2]})"),
        st.tuples(inner, signs, inner, signs, inner).map(lambda t: f"({' '.join(t)})"),
        st.tuples(st.sampled_from(["not ", "-"]), inner).map(lambda t: f"({t[0]}{t[1]})"),
        st.tuples(inner, inner, inner).map(lambda t: f"({t[0]} if {t[1]} else {t[2]})"),
        st.lists(inner, max_size=3).map(lambda items: f"[{', '.join(items)}]"),
        inner.map(lambda value: f'{{"x": {value}}}'),
        st.tuples(inner, inner).map(lambda t: f"{t[0]}[{t[1]}]"),
        inner.map(lambda value: f"({value}).x"),
        st.tuples(inner, inner).map(lambda t: f"({t[0]})[{t[1]}:]"),
        st.tuples(names, st.lists(inner, min_size=1, max_size=3)).map(lambda t: f"{t[0]}({', '.join(t[1])})"),
        st.tuples(st.sampled_from(["coalesce", "if_none"]), inner, inner).map(lambda t: f"{t[0]}({t[1]}, {t[2]})"),
        st.tuples(st.sampled_from(["upper", "length", "exists", "trim", "is_number"]), inner).map(
            lambda t: f"{t[0]}({t[1]})"
        ),
    )


valid = st.recursive(leaves, grown, max_leaves=10)
hostile = st.recursive(st.one_of(leaves, leaves, st.sampled_from(HOSTILE), st.text(max_size=5)), grown, max_leaves=8)

scalars = st.one_of(
    st.none(), st.booleans(), st.integers(-5, 5), st.floats(), st.sampled_from([2**62, -(2**63), 10**30]),
    st.sampled_from(["", "OK", "abc", "12", "2024-05-01", "[1]"]), st.text(max_size=4),
)  # fmt: skip
payloads = st.dictionaries(
    st.sampled_from(FIELDS),
    st.recursive(
        scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("xbc"), inner, max_size=3)
    ),
)


def event_of(data: dict[str, Any]) -> Event:
    return Event(b"\1" * 16, 1_700_000_000_000_000, "key", "gate", "sensor/ult01", data, {"room": "r1"})


def outcome(compute: Callable[[], object]) -> tuple[str, object]:
    """Return ("value", x), or ("fault", None) for a documented error; any other error fails the test."""
    start = time.perf_counter()
    try:
        return "value", compute()
    except WRONG:
        return "fault", None
    finally:
        assert time.perf_counter() - start < 2


def same(one: object, other: object) -> bool:
    """Compare values; NaN is itself, and 1 is not true."""
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, float) and isinstance(other, float) and math.isnan(one):
        return math.isnan(other)
    return type(one) is type(other) and one == other


def parsed(text: str) -> Expression | None:
    try:
        return parse(text, SETTINGS)
    except ExpressionFault as fault:
        problems = fault.faults
    assert all(problem.message and 0 <= problem.column <= len(text) for problem in problems)
    assert len(text) > 200 or "nested too deep" not in {problem.message for problem in problems}
    return None


@settings(max_examples=400, deadline=None)
@given(hostile, payloads)
@example("-" * 39 + "a", {"a": 1})
@example("upper(" * 39 + "a" + ")" * 39, {"a": "x"})
@example("[" * 39 + "a" + "]" * 39, {})
@example("(not " * 39 + "a" + ")" * 39, {})
@example("a < (" * 39 + "a" + ")" * 39, {"a": 1})
@example("coalesce(b, " * 39 + "a" + ")" * 39, {"a": 1})
@example("contains(a, " * 39 + "a" + ")" * 39, {"a": "x"})
@example("(" * 39 + "a" + ".x)" * 39, {"a": "x"})
@example(" * ".join(["a"] * 40), {"a": 2**62})
@example("[" + "a, " * 199 + "a]", {"a": [1] * 1000})
def test_nothing_but_a_fault_or_a_documented_error(text: str, data: dict[str, Any]) -> None:
    start = time.perf_counter()
    expression = parsed(text)
    assert time.perf_counter() - start < 2
    if expression is None:
        return
    event = event_of(data)
    kind, _ = outcome(lambda: expression(event))
    if kind == "fault":
        assert ": " in expression.explain(event)


@settings(max_examples=400, deadline=None)
@given(st.lists(valid, min_size=1, max_size=3), payloads)
def test_inlined_code_gives_the_same(texts: list[str], data: dict[str, Any]) -> None:
    expressions = [expression for text in texts if (expression := parsed(text))]
    scope, event = Scope(), event_of(data)
    lines = ["def run(d, meta, topic, t, key, source, id, outcome):", "    results = []"]
    for expression in expressions:
        lines += ["    try:", f"        results.append(('value', {expression.code(scope)}))"]
        lines += ["    except WRONG:", "        results.append(('fault', None))"]
    names: dict[str, Any] = {**scope.constants, "WRONG": WRONG}
    exec("\n".join([*lines, "    return results"]), names)  # noqa: S102  # that is what is tested
    results = names["run"](
        event.data, event.meta, event.topic, event.time, event.key, event.source, event.id, outcome
    )  # fmt: skip
    for expression, (kind, value) in zip(expressions, results, strict=True):
        expected = outcome(lambda expression=expression: expression(event))  # type: ignore[misc]
        assert kind == expected[0]
        assert same(value, expected[1])


class Naive:
    """The semantics once more, as an interpreter that follows the words of the documentation."""

    ARITHMETIC: ClassVar[dict[Any, Any]] = {
        ast.Sub: operator.sub,
        ast.Mult: operator.mul,
        ast.Div: operator.truediv,
        ast.FloorDiv: operator.floordiv,
        ast.Mod: operator.mod,
    }
    ORDER: ClassVar[dict[Any, Any]] = {
        ast.Lt: operator.lt,
        ast.LtE: operator.le,
        ast.Gt: operator.gt,
        ast.GtE: operator.ge,
    }

    def __init__(self, event: Event) -> None:
        self.excused = False
        self.data = event.data
        self.meta = {"topic": event.topic, "levels": event.topic.split("/"), "key": "key", "id": "01" * 16,
                     "data": event.data, "room": "r1",
                     "time": FUNCTIONS["time"].call(event.time / 1_000_000)}  # fmt: skip

    def of(self, node: Any) -> Any:
        return getattr(self, type(node).__name__.lower())(node)

    def constant(self, node: ast.Constant) -> Any:
        return node.value

    def name(self, node: ast.Name) -> Any:
        roots = {"true": True, "false": False, "none": None, "meta": self.meta, "settings": SETTINGS}
        return roots[node.id] if node.id in roots else self.data.get(node.id)

    def attribute(self, node: ast.Attribute) -> Any:
        base = self.of(node.value)
        return base.get(node.attr) if isinstance(base, dict) else None

    def subscript(self, node: ast.Subscript) -> Any:
        base = self.of(node.value)
        if isinstance(node.slice, ast.Slice):
            start = self.of(node.slice.lower)
            if base is None or start is None:
                return None
            if not isinstance(base, list | str):
                raise TypeError
            return base[start:]
        index = self.of(node.slice)
        if isinstance(base, dict):
            return base.get(index)
        try:
            return base[index] if isinstance(base, list | str) and isinstance(index, int) else None
        except IndexError:
            return None

    def list(self, node: ast.List) -> Any:
        return [self.of(element) for element in node.elts]

    def dict(self, node: ast.Dict) -> Any:
        return {self.of(key): self.of(value) for key, value in zip(node.keys, node.values, strict=True)}

    def boolop(self, node: ast.BoolOp) -> Any:
        for value in node.values:
            result = self.of(value)
            if bool(result) is isinstance(node.op, ast.Or):
                return result
        return result

    def ifexp(self, node: ast.IfExp) -> Any:
        return self.of(node.body) if self.of(node.test) else self.of(node.orelse)

    def unaryop(self, node: ast.UnaryOp) -> Any:
        value = self.of(node.operand)
        if isinstance(node.op, ast.Not):
            return not value
        return None if value is None else -value

    def binop(self, node: ast.BinOp) -> Any:
        left, right = self.of(node.left), self.of(node.right)
        if left is None or right is None:
            return None
        numbers = isinstance(left, int | float) and isinstance(right, int | float)
        if isinstance(node.op, ast.Add):
            if numbers or any(isinstance(left, kind) and isinstance(right, kind) for kind in (str, list)):
                return self.whole(left + right)
            raise TypeError
        if not numbers:
            raise TypeError
        return self.whole(self.ARITHMETIC[type(node.op)](left, right))

    def whole(self, number: Any) -> Any:
        """Note that a number beyond 64 bits came up, which may be refused."""
        self.excused = self.excused or (isinstance(number, int) and abs(number) >= 2**63)
        return number

    def compare(self, node: ast.Compare) -> Any:
        left = self.of(node.left)
        for op, other in zip(node.ops, node.comparators, strict=True):
            right = self.of(other)
            if not self.link(op, left, right):
                return False
            left = right
        return True

    def link(self, op: ast.cmpop, left: Any, right: Any) -> bool:
        if isinstance(op, ast.In | ast.NotIn):
            self.excused = self.excused or isinstance(left, list | dict)  # it can't be looked up in a literal list
            inside = right is not None and not (left is None and isinstance(right, str)) and left in right
            return inside is isinstance(op, ast.In)
        if isinstance(op, ast.Eq | ast.NotEq):
            return (left == right) is isinstance(op, ast.Eq)
        return left is not None and right is not None and self.ORDER[type(op)](left, right)

    def call(self, node: ast.Call) -> Any:
        assert isinstance(node.func, ast.Name)
        if node.func.id in ("coalesce", "if_none"):
            return next((value for argument in node.args if (value := self.of(argument)) is not None), None)
        return FUNCTIONS[node.func.id].call(*map(self.of, node.args))


@settings(max_examples=400, deadline=None)
@given(valid, payloads)
@example("(b and a) or a == (a if b else c)", {"a": 1})
@example("(c == 1) < c", {"c": 0})
@example("((c == 1) - c) < (c < a)", {"c": 0, "a": 1})
def test_a_naive_interpreter_agrees(text: str, data: dict[str, Any]) -> None:
    expression = parsed(text)
    if expression is None:
        return
    event = event_of(data)
    naive = Naive(event)
    expected, wanted = outcome(lambda: naive.of(ast.parse(text, mode="eval").body))
    kind, value = outcome(lambda: expression(event))
    # Where the interpreter fails, a none in the same tree of arithmetic may have spared the expression that part.
    if expected == "value":
        assert same(value, wanted) if kind == "value" else naive.excused
