"""Generate arithmetic: one guard for a whole tree of it, then Python's own operators."""

import ast

from engine import expression_values as values
from engine.expression_check import Type
from engine.expression_operand import Operand, Writer
from engine.expression_refusals import OPERATORS

TEXT = Type("text")


class ArithmeticWriter(Writer):
    """The part of the generator that knows the operators + - * / // % and the sign."""

    def emit_unaryop(self, node: ast.UnaryOp, exact: bool = True) -> str:
        if isinstance(node.op, ast.Not):
            return f"(not {self.emit(node.operand)})"
        return self._arithmetic(node, exact)

    def emit_binop(self, node: ast.BinOp, exact: bool = True) -> str:
        if self._native(node):
            return self._arithmetic(node, exact)
        if self.checked.types[node.left] == self.checked.types[node.right] == TEXT:
            return self._joined(node)
        return f"{self.scope.bind(values.add, 'add')}({self.emit(node.left)}, {self.emit(node.right)})"

    def _joined(self, node: ast.BinOp) -> str:
        """Return a sum of texts that are surely there, bounded once."""
        name = self.scope.temporary()
        source = " + ".join(self.emit(part) for part in self._texts(node))
        slow = f"{self.scope.bind(values.bounded_text, 'bounded_text')}({name})"
        return f"({name} if len({name} := {source}) <= {values.TEXT_LIMIT} else {slow})"

    def _texts(self, node: ast.expr) -> list[ast.expr]:
        if isinstance(node, ast.BinOp) and self.checked.types[node.left] == self.checked.types[node.right] == TEXT:
            return [*self._texts(node.left), *self._texts(node.right)]
        return [node]

    def _native(self, node: ast.expr) -> bool:
        """Tell if a node is arithmetic of which Python's own operators refuse whatever is no number."""
        if isinstance(node, ast.UnaryOp):
            return not isinstance(node.op, ast.Not)
        if not isinstance(node, ast.BinOp):
            return False
        types = self.checked.types
        return not isinstance(node.op, ast.Add) or types[node.left].numeric or types[node.right].numeric

    def _arithmetic(self, node: ast.expr, exact: bool) -> str:
        """Return a tree of arithmetic behind one guard; `exact`: a whole number must not leave it beyond 64 bits."""
        leaves: dict[ast.expr, Operand] = {}
        self._leaves(node, leaves)

        def body() -> str:
            source = self._computed(node, leaves)
            if not (exact and self._grows(node)):
                return source
            name = self.scope.temporary()
            inside = f"{values.SMALLEST} <= ({name} := {source}) <= {values.LARGEST}"
            return f"({name} if {inside} else {self.scope.bind(values.bounded, 'bounded')}({name}))"

        return self.all_of(list(leaves.values()), body, "({body} if {guards} else None)")

    def _leaves(self, node: ast.expr, leaves: dict[ast.expr, Operand]) -> None:
        if isinstance(node, ast.UnaryOp) and self._native(node):
            self._leaves(node.operand, leaves)
        elif isinstance(node, ast.BinOp) and self._native(node):
            self._leaves(node.left, leaves)
            self._leaves(node.right, leaves)
        else:
            leaves[node] = Operand(self, node)

    def _computed(self, node: ast.expr, leaves: dict[ast.expr, Operand]) -> str:
        if node in leaves:
            return leaves[node].once()
        if isinstance(node, ast.UnaryOp):
            return f"(-{self._computed(node.operand, leaves)})"
        return self._operation(node, leaves) if isinstance(node, ast.BinOp) else self.emit(node)

    def _operation(self, node: ast.BinOp, leaves: dict[ast.expr, Operand]) -> str:
        """Return one operation; a sign before an operand of unknown kind makes Python refuse text and lists there."""
        left, right = self.checked.types[node.left], self.checked.types[node.right]
        op = type(node.op)
        repeats = op is ast.Mult and "float" not in (left.kind, right.kind)
        formats = op is ast.Mod or (op is ast.Sub and not right.numeric)
        mark_left = "+" if (repeats or formats) and not left.numeric else ""
        mark_right = "+" if repeats and not right.numeric else ""
        first = self._computed(node.left, leaves)
        return f"({mark_left}{first} {OPERATORS[op]} {mark_right}{self._computed(node.right, leaves)})"

    def _grows(self, node: ast.expr) -> bool:
        """Tell if a whole number may leave 64 bits by more than a literal's worth."""
        if self.checked.types[node].kind == "float" or not isinstance(node, ast.BinOp) or not self._native(node):
            return isinstance(node, ast.UnaryOp) and self._native(node) and self._grows(node.operand)
        if isinstance(node.op, ast.Mult):
            return True
        literal = isinstance(node.left, ast.Constant) or isinstance(node.right, ast.Constant)
        return self._grows(node.left) or self._grows(node.right) or not literal
