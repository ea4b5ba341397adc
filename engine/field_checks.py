"""What options that name fields, and the columns of a table, ask of the fields that come in."""

from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING

from engine.expression_check import UNCERTAIN, Type
from engine.expression_fields import listed
from engine.expressions import Expression
from engine.problem import Problem
from engine.table import Column, Table

if TYPE_CHECKING:
    from engine.flow import Flow

TAKES: dict[str, tuple[str, ...]] = {
    "serial": ("number",), "int": ("number",), "number": ("number", "float"), "bool": ("boolean", "number"),
    "text": ("text", "number"), "time": ("time", "text"), "date": ("text",), "bytes": ("bytes", "text"),
}  # fmt: skip
"""The kinds that a column of each type takes; what is computed as a float may still be whole."""


def unknown_fields(flow: "Flow", named: Iterable[tuple[str, str]], given: Mapping[str, Type]) -> Iterator[Problem]:
    """Yield a problem for each (option, field) whose field does not come in."""
    for option, field in named:
        if field not in given:
            message = f"a field of what comes in here ({listed(given)}); got '{field}'"
            yield Problem("unknown-field", option, message, flow.document.guess(field, given))


def unfit_columns(table: Table, expressions: Mapping[str, Expression], given: Mapping[str, Type]) -> Iterator[Problem]:
    """Yield a problem for each column that no value can go into: of the field of its name, or of its expression."""
    for column in table.columns.values():
        expression = expressions.get(column.name)
        if expression is None and column.name not in given:
            continue
        found = given[column.name] if expression is None else expression.evident(given)
        if not takes(column, found):
            whose = "" if expression is None else f" of {expression.text}"
            message = f"a value for column '{column.name}', which is {column}; got {_named(found)}{whose}"
            hint = f"{column.name}: text" if column.type != "text" and found.kind == "text" else ""
            yield Problem("column-type", "table" if expression is None else f"columns.{column.name}", message, hint)


def _named(found: Type) -> str:
    return "number with a fraction" if found.kind == "float" else found.shown


def takes(column: Column, found: Type) -> bool:
    """Tell if some value that is evidently of this type fits a column."""
    if found.kind == "float" and column.type in ("int", "serial"):
        return True
    return found.kind in UNCERTAIN or column.type == "json" or found.kind in TAKES[column.type]
