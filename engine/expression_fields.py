"""The check of an expression where all fields that it may name are known, with their types."""

import ast
from collections.abc import Callable, Iterable, Mapping

from engine.expression_check import ANY, UNCERTAIN, Type, reference, step_name
from engine.expression_faults import UNKNOWN_FIELD, Fault
from engine.expression_syntax import column_of
from engine.expression_tables import CheckedTables, Rows

SHOWN = 12
Guess = Callable[[str, Iterable[str]], str]
"""What returns "did you mean 'x'?" for a word and the words that are known."""


class CheckedFields(CheckedTables):
    """What is wrong with an expression on events of these fields: a name that is none of them, what can never hold."""

    def __init__(
        self, text: str, tree: ast.expr, settings: Mapping[str, object], fields: Mapping[str, Type],
        tables: Mapping[str, Rows], guess: Guess,
    ) -> None:  # fmt: skip
        self.guess = guess
        super().__init__(text, tree, settings, fields, tables)

    def check_name(self, node: ast.Name) -> Type:
        """Return the field's type; a name that is no field is a fault."""
        found = super().check_name(node)
        return self._known(node, node.id, found) if node.id in self.fields else found

    def _step(self, node: ast.Attribute | ast.Subscript) -> Type:
        found, name = super()._step(node), step_name(node)
        whole = reference(node.value) == ("meta", "data") and name is not None
        return self._known(node, str(name), self.known_fields.get(str(name), ANY)) if whole else found

    def _known(self, node: ast.expr, name: str, found: Type) -> Type:
        if name in self.known_fields:
            return found
        message = f"a field of what comes in here ({listed(self.known_fields)}); got '{name}'"
        hint = self.guess(name, self.known_fields) or None
        self.faults.append(Fault(message, column_of(self.text, node), hint, UNKNOWN_FIELD))
        return ANY

    def check_compare(self, node: ast.Compare) -> Type:
        """Find comparisons that never hold, or always do, whatever the event."""
        found = super().check_compare(node)
        operands = (node.left, *node.comparators)
        for op, left, right in zip(node.ops, operands, operands[1:], strict=False):
            if isinstance(op, ast.Eq | ast.NotEq):
                self._equality(left, right, op)
            elif isinstance(op, ast.In | ast.NotIn):
                self._membership(left, right)
        return found

    def _equality(self, left: ast.expr, right: ast.expr, op: ast.cmpop) -> None:
        one, other = self.types[left], self.types[right]
        self._among(left, right)
        self._among(right, left)
        if not _may_equal(one, other):
            always = "can never be equal" if isinstance(op, ast.Eq) else "are never equal"
            self.fault(right, f"{one.shown} and {other.shown} {always}", _equality_hint({one.shown, other.shown}))

    def _membership(self, member: ast.expr, container: ast.expr) -> None:
        """Find what is looked for among literals of another kind, or in a text without being one."""
        found, inside = self.types[member], self.types[container].shown
        if inside == "text" and found.shown not in (*UNCERTAIN, "text"):
            self.fault(container, f"cannot look for {found.shown} in text")
        for each in container.elts if isinstance(container, ast.List) else ():
            self._among(member, each)
        among = [self.types[one] for one in container.elts] if isinstance(container, ast.List) else []
        if among and not any(_may_equal(found, one) for one in among):
            kinds = " or ".join(dict.fromkeys(one.shown for one in among))
            self.fault(container, f"{found.shown} can never be one of a list of {kinds}")

    def _among(self, node: ast.expr, literal: ast.expr) -> None:
        """Find a literal that is none of the values which a field may have."""
        values, wanted = self.types[node].values, self.literal(literal)
        if values is None or wanted is None or not isinstance(wanted, str | int | float) or wanted in values:
            return
        texts = sorted(str(value) for value in values)
        shown = ", ".join(texts[:SHOWN]) + (", …" if len(texts) > SHOWN else "")
        if _may_equal(self.types[node], self.types[literal]):
            self.fault(literal, f"one of {shown}; got '{wanted}'", self.guess(str(wanted), texts))


def _may_equal(one: Type, other: Type) -> bool:
    """Tell if values of two types may be equal; true and false are 1 and 0."""
    kinds = {one.shown, other.shown}
    return not kinds.isdisjoint(UNCERTAIN) or len(kinds) == 1 or kinds == {"number", "boolean"}


def _equality_hint(kinds: set[str]) -> str | None:
    if kinds == {"number", "text"}:
        return "a number is written without quotes; number(value) reads one from text"
    return 'time("…") reads a time from text' if kinds == {"time", "text"} else None


def listed(fields: Mapping[str, Type]) -> str:
    """Return the names of fields as they may stand in a message."""
    names = list(fields)
    more = f", … {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return (", ".join(names[:SHOWN]) + more) or "it has none"
