"""The check of `table.x[key]` and `table.x[key].column`: a row of a live table, or none where there is no such row."""

import ast
from collections.abc import Callable, Mapping
from typing import Protocol

from engine.errors import did_you_mean
from engine.expression_check import ANY, UNCERTAIN, Checked, Type, reference, step_name

ROW = Type("dict", null=True)


class Rows(Protocol):
    """What an expression knows of a live table; its rows are looked up with `get`."""

    @property
    def get(self) -> Callable[..., object]:
        """Return what looks a row up."""

    @property
    def by(self) -> tuple[str, ...]:
        """Return the columns that make the key."""

    @property
    def types(self) -> Mapping[str, Type]:
        """Return the columns, with what they give."""

    @property
    def hidden(self) -> frozenset[str]:
        """Return the columns that are not read."""


def table_of(node: ast.expr) -> str | None:
    """Return the table of `table.x[key]`, None for other nodes."""
    if not isinstance(node, ast.Subscript):
        return None
    root, name = reference(node.value) or ("", "")
    return name if root == "table" else None


def keys_of(node: ast.Subscript) -> list[ast.expr]:
    """Return the parts of the key: one, or as many as stand between the brackets."""
    return node.slice.elts if isinstance(node.slice, ast.Tuple) else [node.slice]


class CheckedTables(Checked):
    """An expression that may look into live tables; `tables` are those that it does look into."""

    def __init__(
        self,
        text: str,
        tree: ast.expr,
        settings: Mapping[str, object],
        fields: Mapping[str, Type] | None = None,
        tables: Mapping[str, Rows] | None = None,
    ) -> None:
        self.known_tables, self.tables = tables or {}, dict[str, Rows]()
        super().__init__(text, tree, settings, fields)

    def check_subscript(self, node: ast.Subscript) -> Type:
        """Check a row's key, or what any other subscript is."""
        name = table_of(node)
        if name is None:
            return super().check_subscript(node)
        types = [self.check(key) for key in keys_of(node)]
        rows = self.known_tables.get(name)
        if rows is None:
            live = ", ".join(self.known_tables) or "there is none"
            message = f"unknown live table '{name}': expected one of the flow with 'live' ({live})"
            return self.fault(node, message, did_you_mean(name, self.known_tables))
        self.tables[name] = rows
        return self._key(node, rows, types)

    def _key(self, node: ast.Subscript, rows: Rows, types: list[Type]) -> Type:
        if isinstance(node.slice, ast.Slice) or len(types) != len(rows.by):
            return self.fault(node, f"a row is found by {', '.join(rows.by)}; got {len(types)} values")
        for key, column, found in zip(keys_of(node), rows.by, types, strict=True):
            wanted = rows.types[column]
            if found.kind not in UNCERTAIN and found.shown != wanted.shown:
                self.fault(key, f"rows are found by {column}, which is {wanted.shown}; got {found.shown}")
        return ROW

    def _step(self, node: ast.Attribute | ast.Subscript) -> Type:
        name, column = table_of(node.value), step_name(node)
        if name is not None and column is not None:
            self.check(node.value)
            return self._column(node, name, column)
        if reference(node) and isinstance(node.value, ast.Name) and node.value.id == "table":
            return self.fault(node, f"'table.{column}' alone is no value", f"write table.{column}[key]")
        return super()._step(node)

    def _column(self, node: ast.expr, name: str, column: str) -> Type:
        rows = self.known_tables.get(name)
        if rows is None:
            return ANY
        if column in rows.hidden:
            return self.fault(node, f"column '{column}' of table '{name}' is bytes, which live tables leave out")
        if column not in rows.types:
            names = ", ".join(rows.types)
            hint = did_you_mean(column, rows.types)
            return self.fault(node, f"a column of table '{name}' ({names}); got '{column}'", hint)
        return rows.types[column]._replace(null=True)
