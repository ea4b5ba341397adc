"""The expression language: a safe subset of Python's expression syntax, compiled once.

Bare names are fields of the payload, `meta.x` is the event, `settings.x` a setting. What is missing is none; arithmetic
with none gives none, an ordering comparison with none is false. A wrong kind raises TypeError, a wrong value ValueError
or ArithmeticError; `Expression.explain` says which part it was. Refused when parsing: everything else of Python, and
what could take unbounded time or space.
"""

from collections.abc import Callable, Mapping
from functools import cached_property
from typing import Any

from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import PydanticCustomError, core_schema

from engine import expression_explain
from engine.errors import did_you_mean
from engine.expression_check import META, Type
from engine.expression_code import Code
from engine.expression_faults import ExpressionFault, Fault
from engine.expression_fields import CheckedFields, Guess
from engine.expression_scope import Scope
from engine.expression_syntax import syntax_tree
from engine.expression_tables import CheckedTables, Rows

WRONG = (TypeError, ValueError, ArithmeticError, RecursionError)
"""What evaluating an expression may raise: the event is at fault, not the flow."""

_MARGIN = 20


class Expression:
    """A checked expression: immutable, equal and hashed by its text and the settings it uses.

    Calling it evaluates it on an event; the flow compiler inlines `code` instead. `kind` is the kind of its result
    where that is evident, else "any"; `uses_meta` holds the names after `meta.`.
    """

    text: str
    fields: frozenset[str]
    functions: frozenset[str]
    settings: frozenset[str]
    tables: frozenset[str]
    uses_meta: frozenset[str]
    kind: str

    def __init__(self, text: str, checked: CheckedTables) -> None:
        names: dict[str, object] = {
            "text": text,
            "fields": frozenset(checked.fields),
            "functions": frozenset(checked.functions),
            "settings": frozenset(checked.settings),
            "tables": frozenset(checked.tables),
            "uses_meta": frozenset(checked.meta),
            "kind": checked.types[checked.tree].shown,
            "_checked": checked,
        }
        self.__dict__.update(names)

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"an expression is immutable: {name}")

    def __call__(self, event: Any) -> Any:
        """Evaluate on an event; raise TypeError, ValueError or ArithmeticError when its data are wrong."""
        return self._evaluate(event)

    def code(self, scope: Scope) -> str:
        """Return Python source of the expression that reaches the event and its constants through `scope`."""
        checked = self._known(scope.types)
        return Code(checked, scope).emit(checked.tree)

    def evident(self, types: Mapping[str, Type]) -> Type:
        """Return what is evident of the result where the types of fields are known."""
        return self._known(types).types[self._checked.tree]

    def faults(self, fields: Mapping[str, Type], guess: Guess = did_you_mean) -> tuple[Fault, ...]:
        """Return what is wrong with it on events that have these fields and no others."""
        ours = self._checked
        return tuple(CheckedFields(self.text, ours.tree, ours.settings, fields, ours.tables, guess).faults)

    def _known(self, types: Mapping[str, Type]) -> CheckedTables:
        """Return the check with these types of fields; where it could not succeed with them, nothing is known."""
        if not types:
            return self._checked
        ours = self._checked
        checked = CheckedTables(self.text, ours.tree, ours.settings, types, ours.tables)
        return ours if checked.faults else checked

    def explain(self, event: Any) -> str:
        """Return one line that says which part fails on an event, why, and the values it looked at."""
        parts: dict[Any, Callable[[Any], Any]] = {}

        def evaluate(node: Any) -> object:
            if node not in parts:
                parts[node] = _compiled(self._checked, node)
            return parts[node](event)

        return expression_explain.explain(self.text, self._checked.tree, evaluate)

    @property
    def known_settings(self) -> Mapping[str, object]:
        """Return the settings that it uses, with their values."""
        return self._checked.settings

    @property
    def _checked(self) -> CheckedTables:
        checked: CheckedTables = self.__dict__["_checked"]
        return checked

    @cached_property
    def _evaluate(self) -> Callable[[Any], Any]:
        return _compiled(self._checked, self._checked.tree)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Expression):
            return NotImplemented
        return self.text == other.text and self._checked.settings == other._checked.settings

    def __hash__(self) -> int:
        return hash(self.text)

    def __repr__(self) -> str:
        return f"Expression({self.text!r})"

    def __str__(self) -> str:
        return self.text

    def __reduce__(self) -> tuple[Any, ...]:
        return parse, (self.text, self._checked.settings, self._checked.tables)

    @classmethod
    def __get_pydantic_core_schema__(cls, _source: Any, _handler: GetCoreSchemaHandler) -> core_schema.CoreSchema:
        return core_schema.with_info_plain_validator_function(
            _validated, serialization=core_schema.to_string_ser_schema()
        )

    @classmethod
    def __get_pydantic_json_schema__(cls, _schema: Any, _handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        return {"type": ["string", "number", "boolean"], "description": "expression"}


def parse(
    text: str, settings: Mapping[str, object] | None = None, tables: Mapping[str, Rows] | None = None
) -> Expression:
    """Parse and check an expression; raise ExpressionFault with every problem that was found.

    `settings` are the values of the flow's settings, `tables` its live tables; without them, none is known.
    """
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    checked = CheckedTables(text, syntax_tree(text), settings or {}, None, tables)
    if checked.faults:
        raise ExpressionFault(checked.faults)
    try:
        _compiled(checked, checked.tree, "(" * _MARGIN, ")" * _MARGIN)
    except (SyntaxError, RecursionError, MemoryError):
        raise ExpressionFault([Fault("nested too deep", 0)]) from None
    return Expression(text, checked)


def _compiled(checked: CheckedTables, node: Any, before: str = "", after: str = "") -> Callable[[Any], Any]:
    """Compile a node into a function of an event; `before` and `after` leave room for what it is inlined into."""
    scope = Scope(
        meta="e.meta", topic="e.topic", time="e.time", key="e.key", source="e.source", id="e.id", arrival="e.arrival"
    )
    source = "def expression(e):\n    d = e.data if isinstance(e.data, dict) else {}\n"
    source += f"    return {before}{Code(checked, scope).emit(node)}{after}\n"
    names = dict(scope.constants)
    exec(compile(source, "<expression>", "exec"), names)  # noqa: S102  # generated from a checked tree only
    return names["expression"]  # type: ignore[return-value]


def _validated(value: Any, info: core_schema.ValidationInfo) -> Expression:
    if isinstance(value, Expression):
        return value
    if not isinstance(value, str | int | float):
        context = {"message": "an expression", "column": 0, "hint": None}
        raise PydanticCustomError("expression", "{message}", context)
    text = str(value).lower() if isinstance(value, bool) else value if isinstance(value, str) else repr(value)
    try:
        return parse(text, getattr(info.context, "settings", None), getattr(info.context, "tables", None))
    except ExpressionFault as fault:
        context = {"message": fault.message, "column": fault.column, "hint": fault.hint}
        raise PydanticCustomError("expression", "{message}", context) from None


__all__ = ["META", "WRONG", "Expression", "ExpressionFault", "Fault", "Scope", "parse"]
