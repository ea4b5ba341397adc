"""Warnings of shapes that are known to be slow: they run, and each was measured beside what to do instead.

What one component knows about itself is in its `slow`; here is what is about expressions, keys and queries.
The numbers are those of bench/slow_shapes.py; docs/concepts/cost.md lists them.
"""

import ast
import re
from collections.abc import Iterator

from engine.component import Stateful
from engine.document import Where
from engine.errors import Finding
from engine.expression_syntax import syntax_tree
from engine.expressions import Expression
from engine.flow import Flow, Node
from engine.problem import Slow
from engine.queries import TableQuery
from engine.table import Table
from engine.wiring import place_of

CODE, WARNING = "slow", "warning"
_LITERAL = r"[\w /:,;=@#%&!~<>\"'-]+"
_PATTERN = re.compile(rf"(\^?)({_LITERAL})(\$?)")
_CHOICE = re.compile(rf"\^\(({_LITERAL}(?:\|{_LITERAL})+)\)\$")


def slow_shapes(flow: Flow) -> list[Finding]:
    """Return warnings in file order; none where something is wrong with the flow, since that comes first."""
    if flow.document.findings:
        return []
    found = [_warning(flow, place, node.name, slow) for node in flow.nodes.values() for place, slow in _of(flow, node)]
    found += [_warning(flow, ("queries", name, *_path(slow)), "", slow, name) for name, slow in _queries(flow)]
    return sorted(dict.fromkeys(found), key=lambda finding: (finding.line, finding.column))


def _warning(flow: Flow, where: Where, node: str, slow: Slow, name: str = "") -> Finding:
    line, column = flow.document.at(where)
    option = ".".join(part for part in (name, slow.option) if part)
    return Finding(
        code=CODE, severity=WARNING, message=slow.costs, hint=slow.instead, path=flow.document.path, line=line,
        column=column, node=node, option=option,
    )  # fmt: skip


def _path(slow: Slow) -> Iterator[str | int]:
    return (int(part) if part.isdecimal() else part for part in slow.option.split("."))


def _of(flow: Flow, node: Node) -> Iterator[tuple[Where, Slow]]:
    for slow in node.component.slow(flow, node):
        yield place_of(flow, node, node.kind, *_path(slow)), slow
    for path, expression in _expressions(node):
        where, option = _written(flow, node, path)
        for slow in _patterns(option, expression):
            yield where, slow
    yield from _keys(flow, node)


def _expressions(node: Node) -> Iterator[tuple[list[str], Expression]]:
    """Yield the expressions of a node with the path of the option that each is in."""
    yield from (([name], found) for name, found in (("where", node.where), ("key", node.key)) if found is not None)
    for name in type(node.component).model_fields:
        value = getattr(node.component, name)
        for key, part in value.items() if isinstance(value, dict) else (("", value),):
            if isinstance(part, Expression):
                yield ([name, key] if key else [name]), part


def _written(flow: Flow, node: Node, path: list[str]) -> tuple[Where, str]:
    """Return where an expression is written, and its option: beside the kind, under it, or the kind's own value."""
    for steps in (path, [node.kind, *path], [node.kind, *path[1:]]):
        where = place_of(flow, node, *steps)
        if flow.document.has(where):
            return where, ".".join(steps[1:] if steps[0] == node.kind and len(steps) > 1 else steps)
    return place_of(flow, node), ".".join(path)


def _patterns(option: str, expression: Expression) -> Iterator[Slow]:
    """Find regular expressions that are plain comparisons: 1.1 µs, where a comparison takes 0.1 and the others 0.2."""
    if "matches" not in expression.functions:
        return
    for call in ast.walk(syntax_tree(expression.text)):
        if isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and (said := _said(call, call.func.id)):
            yield Slow(option, "a regular expression, which takes 5 times as long as what says the same", said)


def _said(call: ast.Call, function: str) -> str:
    """Return what says the same as a call of `matches`; empty where nothing does."""
    if function != "matches" or len(call.args) != 2 or not isinstance(call.args[1], ast.Constant):
        return ""
    text, pattern = ast.unparse(call.args[0]), str(call.args[1].value)
    if choice := _CHOICE.fullmatch(pattern):
        return f"{text} in [{', '.join(map(_quoted, choice[1].split('|')))}]"
    found = _PATTERN.fullmatch(pattern)
    if found is None:
        return ""
    begin, literal, end = found[1], _quoted(found[2]), found[3]
    if begin and end:
        return f"{text} == {literal}"
    return f"{'starts_with' if begin else 'ends_with' if end else 'contains'}({text}, {literal})"


def _quoted(text: str) -> str:
    return "'" + text + "'" if '"' in text else '"' + text + '"'


def _keys(flow: Flow, node: Node) -> Iterator[tuple[Where, Slow]]:
    """Find keys of which every event has its own: 4 times the time of 1,000 keys, and a state that grows for ever."""
    if node.key is None or "id" not in node.key.uses_meta or not _feeds_state(flow, node):
        return
    costs = "a key of its own for every event: 4 times the time of 1,000 keys, and 30 to 70 bytes of state an event"
    instead = "key by what events have in common; to drop what comes twice, use dedupe"
    yield place_of(flow, node, "key"), Slow("key", costs, instead)


def _feeds_state(flow: Flow, node: Node) -> bool:
    """Tell whether a keyed operator takes its key from this node."""
    operators = (other for other in flow.section("operators") if isinstance(other.component, Stateful))
    return any(other.component.keyed and flow.key_giver(other) is node for other in operators)  # type: ignore[attr-defined]


def _queries(flow: Flow) -> Iterator[tuple[str, Slow]]:
    """Find columns of tables that sinks write, which a query looks up by and no index leads to.

    In a million rows of SQLite: 43 ms a call without an index, 0.1 ms with one.
    """
    growing = {getattr(node.component, "table", "") for node in flow.section("sinks") if node.kind == "sql"}
    for name, query in flow.queries.items():
        if isinstance(query, TableQuery) and query.table in growing:
            yield from ((name, slow) for slow in _unindexed(query, flow.tables[query.table]))


def _unindexed(query: TableQuery, table: Table) -> Iterator[Slow]:
    keys = [*table.keys, *table.index, *([column.name] for column in table.columns.values() if column.references)]
    fixed = {name for name, value in query.where.items() if not isinstance(value, list)}
    asked = [*((f"filters.{at}", name) for at, name in enumerate(query.filters))]
    asked += [(f"where.{name}", name) for name in query.where] + [("newest", query.newest)]
    for option, column in asked:
        if not any(_leads(key, column, fixed) for key in keys):
            costs = f"no index leads to '{column}': each call reads the table, in a million rows 500 times as long"
            yield Slow(option, costs, f"{table.name}: {{index: [[{column}]]}}")


def _leads(key: list[str], column: str, fixed: set[str]) -> bool:
    """Tell whether an index finds a column: it comes first in it, or after columns whose value is given."""
    return column in key and set(key[: key.index(column)]) <= fixed
