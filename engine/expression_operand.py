"""What is common to generated code: operands that are evaluated once, branches and guards."""

import ast
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from engine.expression_scope import Scope
from engine.expression_tables import CheckedTables


class Operand:
    """A part that is evaluated once: the first use binds it to a local, the further ones read that."""

    def __init__(self, code: "Writer", node: ast.expr, exact: bool = True) -> None:
        self.code, self.node, self.exact = code, node, exact
        self.type = code.checked.types[node]
        self.name: str | None = None

    def once(self) -> str:
        """Return the source for the only use, or for the last one."""
        return self.name or self.code.emit(self.node, exact=self.exact)

    def take(self) -> str:
        """Return the source for a use that others follow."""
        if self.name:
            return self.name
        source = self.code.emit(self.node, bind=True, exact=self.exact)
        if source.isidentifier() or isinstance(self.node, ast.Constant):
            self.name = source
        elif source.startswith("(f_") and ":=" in source and isinstance(self.node, ast.Name):
            self.name = f"f_{self.node.id}"
        else:
            self.name = self.code.scope.temporary()
            return f"({self.name} := {source})"
        return source

    def guard(self) -> str:
        """Return the test that it is not none, which others follow."""
        return self._test(self.take)

    def test(self) -> str:
        """Return the test that it is not none, as its only use."""
        return self._test(self.once)

    def _test(self, source: Callable[[], str]) -> str:
        if self.code.checked.literal(self.node) is None:
            return "False"
        # What is never none may be a constant, and Python warns of `is` with those.
        return f"{source()} is not None" if self.type.null else f"{source()} != None"


class Writer:
    """What the parts of the generator share: the scope, what is bound, guards."""

    def __init__(self, checked: CheckedTables, scope: Scope) -> None:
        self.checked, self.scope = checked, scope
        self.bound: set[str] = set()

    @contextmanager
    def branch(self) -> Iterator[None]:
        """Forget afterwards what is bound inside: it may not be evaluated."""
        before = set(self.bound)
        yield
        self.bound = before

    def emit(self, node: ast.expr, bind: bool = False, exact: bool = True) -> str:
        """Return the source of a node, in parentheses where it needs them.

        `bind`: a field is bound to a local, others will read it; `exact`: a whole number must be within 64 bits.
        """
        method: Callable[..., str] = getattr(self, f"emit_{type(node).__name__.lower()}")
        if isinstance(node, ast.Name):
            return method(node, bind)
        return method(node, exact) if isinstance(node, ast.BinOp | ast.UnaryOp) else method(node)

    def all_of(self, operands: list[Operand], body: Callable[[], str], form: str) -> str:
        """Return `body` behind guards for the operands that may be none; `form` joins {guards} and {body}."""
        nullable = [operand for operand in operands if operand.type.null]
        if not nullable:
            return f"({body()})"
        guards = [nullable[0].guard()]
        with self.branch():
            for operand in nullable[1:]:
                guard = operand.guard()
                if operand.name is None or operand.name != nullable[0].name:
                    guards.append(guard)
            inner = body()
        return form.format(guards=" and ".join(guards), body=inner)
