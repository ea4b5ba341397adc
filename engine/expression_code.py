"""Generate the Python source of a checked expression.

Two rules keep it right. Source is emitted in the order of evaluation, because a field that is used twice is bound by
`:=` where it is evaluated first (`bound` holds what is surely bound at this point; a branch forgets what it bound). And
what may be none is tested by a guard before it is used, so that the fast path is Python's own operator.
"""

import ast

from engine import expression_values as values
from engine.expression_arithmetic import ArithmeticWriter
from engine.expression_check import CONSTANTS, META, Type, reference, step_name
from engine.expression_operand import Operand
from engine.expression_tables import keys_of, table_of
from engine.functions import FUNCTIONS, Function
from engine.functions_text import searcher

COMPARISONS: dict[type[ast.cmpop], str] = {
    ast.Eq: "==", ast.NotEq: "!=", ast.Lt: "<", ast.LtE: "<=", ast.Gt: ">", ast.GtE: ">=",
}  # fmt: skip
SCALARS = (str, int, float, bool, type(None))
NO_ROW: dict[str, object] = {}


class Code(ArithmeticWriter):
    """The generator of one expression for one scope."""

    def constant(self, value: object) -> str:
        """Return the source of a constant: its literal, or a name that is bound to it."""
        return repr(value) if isinstance(value, SCALARS) else self.scope.bind(value)

    def emit_constant(self, node: ast.Constant) -> str:
        return repr(node.value)

    def emit_name(self, node: ast.Name, bind: bool = False) -> str:
        if node.id in CONSTANTS:
            return repr(CONSTANTS[node.id])
        if self.scope.fields is not None:
            return self.scope.fields.get(node.id, "None")
        local = f"f_{node.id}"
        if local in self.bound:
            return local
        read = f"{self.scope.data}.get({node.id!r})"
        if not bind and self.checked.fields[node.id] < 2:
            return read
        self.bound.add(local)
        return f"({local} := {read})"

    def emit_attribute(self, node: ast.Attribute) -> str:
        return self._step(node, node.attr)

    def emit_subscript(self, node: ast.Subscript) -> str:
        if table_of(node) is not None:
            return f"{self._rows(node)})"
        name = step_name(node)
        if name is not None:
            return self._step(node, name)
        if isinstance(node.slice, ast.Slice):
            base = self.emit(node.value)
            bounds = [self.emit(b) if b else "..." for b in (node.slice.lower, node.slice.upper, node.slice.step)]
            return f"{self.scope.bind(values.cut, 'cut')}({base}, {', '.join(bounds)})"
        base = self.emit(node.value)
        return f"{self.scope.bind(values.item, 'item')}({base}, {self.emit(node.slice)})"

    def _rows(self, node: ast.Subscript) -> str:
        """Return the look-up of a row, still open for what stands where there is none."""
        name = str(table_of(node))
        get = self.scope.bind(self.checked.tables[name].get, f"row_{name}")
        keys = [self.emit(key) for key in keys_of(node)]
        return f"{get}({keys[0] if len(keys) == 1 else '(' + ', '.join(keys) + ')'}"

    def emit_tuple(self, node: ast.Tuple) -> str:
        """Write the key of a row, where what fails is looked for."""
        return f"({', '.join(self.emit(element) for element in node.elts)},)"

    def _step(self, node: ast.Attribute | ast.Subscript, name: str) -> str:
        if isinstance(node.value, ast.Subscript) and table_of(node.value) is not None:
            return f"{self._rows(node.value)}, {self.scope.bind(NO_ROW, 'no_row')}).get({name!r})"
        root, named = reference(node) or ("", "")
        if root == "settings":
            return self.constant(self.checked.settings[named])
        if root == "meta":
            return self._meta(named)
        if root == "table":
            return "None"
        base = Operand(self, node.value)
        if base.type == META["data"]:
            return f"{base.once()}.get({name!r})"
        test = f"{base.take()}.__class__ is dict"
        return f"({base.once()}.get({name!r}) if {test} else None)"

    def _meta(self, name: str) -> str:
        scope = self.scope
        if name == "data":
            return scope.data
        if name in ("topic", "key", "source"):
            return str(getattr(scope, name))
        if name == "levels":
            return scope.levels or f"{scope.bind(values.levels, 'levels')}({scope.topic})"
        if name in ("time", "arrival"):
            return f"{scope.bind(values.moment, 'moment')}({getattr(scope, name)})"
        if name == "id":
            return f"{scope.bind(values.identity, 'identity')}({scope.id})"
        return f"({scope.meta}.get({name!r}) if {scope.meta} is not None else None)"

    def emit_list(self, node: ast.List) -> str:
        return f"[{', '.join(self.emit(element) for element in node.elts)}]"

    def emit_dict(self, node: ast.Dict) -> str:
        pairs = [f"{self.emit(k)}: {self.emit(v)}" for k, v in zip(node.keys, node.values, strict=True) if k]
        return f"{{{', '.join(pairs)}}}"

    def emit_boolop(self, node: ast.BoolOp) -> str:
        parts = [self.emit(node.values[0])]
        with self.branch():
            parts += [self.emit(value) for value in node.values[1:]]
        return f"({(' and ' if isinstance(node.op, ast.And) else ' or ').join(parts)})"

    def emit_ifexp(self, node: ast.IfExp) -> str:
        test = self.emit(node.test)
        with self.branch():
            body = self.emit(node.body)
        with self.branch():
            other = self.emit(node.orelse)
        return f"({body} if {test} else {other})"

    def emit_compare(self, node: ast.Compare) -> str:
        operands = [Operand(self, operand, exact=False) for operand in (node.left, *node.comparators)]
        last = len(node.ops) - 1
        parts = [self._link(node.ops[0], operands[0], operands[1], last > 0)]
        with self.branch():
            for index, op in enumerate(node.ops[1:], 1):
                parts.append(self._link(op, operands[index], operands[index + 1], index < last))
        return parts[0] if last == 0 else f"({' and '.join(parts)})"

    def _link(self, op: ast.cmpop, left: Operand, right: Operand, reused: bool) -> str:
        """Return one comparison; `reused`: the right side is needed by the next one of a chain."""
        if isinstance(op, ast.NotIn):
            return f"(not {self._link(ast.In(), left, right, reused)})"
        if isinstance(op, ast.In):
            return self._membership(left, right, reused)

        def body() -> str:
            return f"{left.once()} {COMPARISONS[type(op)]} {right.take() if reused else right.once()}"

        ordering = not isinstance(op, ast.Eq | ast.NotEq)
        return self.all_of([left, right] if ordering else [], body, "({guards} and {body})")

    def _membership(self, left: Operand, right: Operand, reused: bool) -> str:
        literal = None if reused else self._scalars(right.node)
        if literal is not None:
            return f"({left.once()} in {literal})"
        if reused or (right.type.kind in ("any", "none") and left.type.null):
            source = left.once()
            return f"{self.scope.bind(values.holds, 'holds')}({source}, {right.take() if reused else right.once()})"

        def body() -> str:
            return f"{left.once()} in {right.once()}"

        return self.all_of([left, right] if right.type.kind == "text" else [right], body, "({guards} and {body})")

    def _scalars(self, node: ast.expr) -> str | None:
        """Return the source of a set when a list holds scalars only."""
        root, name = reference(node) or ("", "")
        if root == "settings" and isinstance(found := self.checked.settings[name], list):
            return self.scope.bind(frozenset(found)) if all(isinstance(entry, SCALARS) for entry in found) else None
        if not isinstance(node, ast.List):
            return None
        members = [self.checked.literal(element) for element in node.elts]
        if not all(isinstance(member, SCALARS) for member in members):
            return None
        return f"{{{', '.join(map(repr, members))}}}" if members else "()"

    def emit_call(self, node: ast.Call) -> str:
        known = FUNCTIONS[node.func.id]  # type: ignore[attr-defined]  # checked: only names are called
        if known.name in ("coalesce", "if_none"):
            return self._coalesce(node.args)
        if known.name == "exists":
            return f"({Operand(self, node.args[0]).test()})"
        if known.name == "matches":
            return self._matches(node)
        if known.inline and all(isinstance(self.checked.literal(argument), str) for argument in node.args[1:]):
            return self._inlined(known, node)
        arguments = [self.emit(argument) for argument in node.args]
        arguments += [f"{keyword.arg}={self.emit(keyword.value)}" for keyword in node.keywords]
        return f"{self.scope.bind(known.call, known.name)}({', '.join(arguments)})"

    def _coalesce(self, nodes: list[ast.expr]) -> str:
        first = Operand(self, nodes[0])
        if len(nodes) == 1:
            return first.once()
        guard = first.guard()
        with self.branch():
            return f"({first.once()} if {guard} else {self._coalesce(nodes[1:])})"

    def _matches(self, node: ast.Call) -> str:
        search = self.scope.bind(searcher(str(self.checked.literal(node.args[1]))), "search")
        known = FUNCTIONS["matches"]
        text = Operand(self, node.args[0])
        test = f"{text.take()}.__class__ is str"
        slow = f"{self.scope.bind(known.call, known.name)}({text.once()}, '')"
        return f"({search}({text.once()}) is not None if {test} else {slow})"

    def _inlined(self, known: Function, node: ast.Call) -> str:
        first, *others = [Operand(self, argument) for argument in node.args]
        wanted = known.parameters[0].classes[0]
        if first.type == Type(values.KINDS[wanted]):
            return self._filled(known, first, others)
        test = f"{first.take()}.__class__ is {wanted.__name__}"
        with self.branch():
            fast = self._filled(known, first, others)
        with self.branch():
            slow = ", ".join([first.once(), *(other.once() for other in others)])
        return f"({fast} if {test} else {self.scope.bind(known.call, known.name)}({slow}))"

    def _filled(self, known: Function, first: Operand, others: list[Operand]) -> str:
        return str(known.inline).format(first.once(), *(other.once() for other in others))
