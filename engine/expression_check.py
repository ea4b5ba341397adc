"""Check the syntax tree of an expression: what it may name, call and combine, and what kind each part evidently has."""

import ast
import math
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

from engine.errors import did_you_mean
from engine.expression_faults import Fault
from engine.expression_refusals import LONGEST_LITERAL, OPERATORS, REFUSED, call_hint, refused_operator
from engine.expression_syntax import column_of
from engine.expression_types import ANY, META, NONE, UNCERTAIN, Type, union
from engine.expression_values import LARGEST, SMALLEST, kind_of
from engine.functions import FUNCTIONS, Function, suggestion
from engine.functions_text import compile_pattern

CONSTANTS = {"true": True, "false": False, "none": None}
ROOTS = ("meta", "settings", "table")
CHOOSING = ("coalesce", "if_none", "min", "max")
PATTERNED = ("matches", "capture", "captures", "replace_pattern")


def reference(node: ast.expr) -> tuple[str, str] | None:
    """Return root and name of `meta.x`, `settings.x` and `table.x` (or `meta["x"]`); None for other nodes."""
    if not isinstance(node, ast.Attribute | ast.Subscript) or not isinstance(node.value, ast.Name):
        return None
    root, name = node.value.id, step_name(node)
    return (root, name) if root in ROOTS and name is not None else None


def step_name(node: ast.Attribute | ast.Subscript) -> str | None:
    """Return the name that an attribute, or a subscript by a literal text, steps to."""
    if isinstance(node, ast.Attribute):
        return node.attr
    return node.slice.value if isinstance(node.slice, ast.Constant) and isinstance(node.slice.value, str) else None


class Checked:
    """Walk the tree once: collects faults, the names used, and the type of every node."""

    def __init__(
        self, text: str, tree: ast.expr, settings: Mapping[str, object], fields: Mapping[str, Type] | None = None
    ) -> None:
        self.text, self.tree, self.known_settings, self.known_fields = text, tree, settings, fields or {}
        self.faults: list[Fault] = []
        self.types: dict[ast.expr, Type] = {}
        self.fields: Counter[str] = Counter()
        self.functions: set[str] = set()
        self.settings: dict[str, object] = {}
        self.meta: set[str] = set()
        self.check(tree)

    def fault(self, node: ast.expr, message: str, hint: str | None = None) -> Type:
        """Note a problem; what is at fault may be anything."""
        self.faults.append(Fault(message, column_of(self.text, node), hint or None))
        return ANY

    def check(self, node: ast.expr) -> Type:
        """Check a node and what is below it, and return its type."""
        method: Callable[[Any], Type] | None = getattr(self, f"check_{type(node).__name__.lower()}", None)
        if method is None:
            message, hint = REFUSED.get(type(node), ("this is not part of the expression language", None))
            found = self.fault(node, message, hint)
        else:
            found = method(node)
        self.types[node] = found
        return found

    def check_constant(self, node: ast.Constant) -> Type:
        value = node.value
        if value is None:
            return NONE
        if isinstance(value, int) and not SMALLEST <= value <= LARGEST:
            return self.fault(node, "number too large: more than 64 bits")
        if isinstance(value, float) and not math.isfinite(value):
            return self.fault(node, "number too large")
        if isinstance(value, bytes | complex) or value is ...:
            return self.fault(node, f"{type(value).__name__} literals are not part of the expression language")
        return Type("float" if isinstance(value, float) else kind_of(value))

    def check_name(self, node: ast.Name) -> Type:
        if node.id in CONSTANTS:
            return Type(kind_of(CONSTANTS[node.id]), CONSTANTS[node.id] is None)
        if node.id in ROOTS:
            return self.fault(node, f"'{node.id}' alone is no value", f"write {node.id}.name, or meta.data.{node.id}")
        if node.id.startswith("_"):
            return self.fault(node, f"the name '{node.id}' begins with '_'")
        self.fields[node.id] += 1
        return self.known_fields.get(node.id, ANY)

    def check_attribute(self, node: ast.Attribute) -> Type:
        if node.attr.startswith("_"):
            return self.fault(node, f"the name '{node.attr}' begins with '_'")
        return self._step(node)

    def check_subscript(self, node: ast.Subscript) -> Type:
        if reference(node) or not isinstance(node.slice, ast.Slice):
            step = self._step(node)
            self.check(node.slice)
            return step
        for bound in (node.slice.lower, node.slice.upper, node.slice.step):
            if bound and not self.check(bound).numeric and self.types[bound].kind not in UNCERTAIN:
                self.fault(bound, f"a slice by {self.types[bound].shown}; only whole numbers can be used")
        found = self.check(node.value)
        return Type(found.kind if found.kind in ("text", "list") else "any", null=True)

    def _step(self, node: ast.Attribute | ast.Subscript) -> Type:
        root, name = reference(node) or ("", "")
        if root == "meta":
            return self._meta(node, name)
        if root == "settings":
            return self._setting(node, name)
        if isinstance(node.value, ast.Name) and node.value.id == "table":
            return self.fault(node, "live tables are not available here")
        kind, field = self.check(node.value).kind, step_name(node)
        if kind not in ("any", "none", "dict") and (field is not None or kind not in ("list", "text")):
            return self.fault(node, f"nothing can be looked up in {kind} by {'name' if field else 'index'}")
        if reference(node.value) == ("meta", "data") and field is not None:
            self.fields[field] += 0
        return ANY

    def _meta(self, node: ast.expr, name: str) -> Type:
        self.meta.add(name)
        return META.get(name, ANY)

    def _setting(self, node: ast.expr, name: str) -> Type:
        if name not in self.known_settings:
            return self.fault(node, f"unknown setting '{name}'", did_you_mean(name, self.known_settings))
        value = self.known_settings[name]
        if not isinstance(value, str | int | float | list | dict | None):
            return self.fault(node, f"setting '{name}' is a secret or has no value that an expression can read")
        self.settings[name] = value
        return Type("float" if isinstance(value, float) else kind_of(value), value is None)

    def check_list(self, node: ast.List) -> Type:
        if len(node.elts) > LONGEST_LITERAL:
            return self.fault(node, f"a list of more than {LONGEST_LITERAL} items")
        for element in node.elts:
            self.check(element)
        return Type("list")

    def check_dict(self, node: ast.Dict) -> Type:
        if len(node.keys) > LONGEST_LITERAL:
            return self.fault(node, f"a dict of more than {LONGEST_LITERAL} items")
        for key, value in zip(node.keys, node.values, strict=True):
            if not isinstance(key, ast.Constant) or not isinstance(key.value, str | int):
                self.fault(key or value, "the key of a dict must be a literal text or number")
            else:
                self.check(key)
            self.check(value)
        return Type("dict")

    def check_boolop(self, node: ast.BoolOp) -> Type:
        return union([self.check(value) for value in node.values])

    def check_ifexp(self, node: ast.IfExp) -> Type:
        self.check(node.test)
        return union([self.check(node.body), self.check(node.orelse)])

    def check_unaryop(self, node: ast.UnaryOp) -> Type:
        found = self.check(node.operand)
        if isinstance(node.op, ast.Not):
            return Type("boolean")
        if isinstance(node.op, ast.Invert):
            return self.fault(node, "'~' is not part of the expression language", "write 'not'")
        if not found.numeric and found.kind not in UNCERTAIN:
            return self.fault(node, f"cannot negate {found.shown}")
        return Type("float" if found.kind == "float" else "number", found.null)

    def check_binop(self, node: ast.BinOp) -> Type:
        left, right = self.check(node.left), self.check(node.right)
        if type(node.op) not in OPERATORS:
            return self.fault(node, *refused_operator(node.op))
        evident = {one.shown for one in (left, right) if one.kind not in UNCERTAIN}
        adding = isinstance(node.op, ast.Add)
        if not (evident <= {"number", "boolean"} or (adding and evident in ({"text"}, {"list"}))):
            pair = f"{left.shown} {OPERATORS[type(node.op)]} {right.shown}".replace("any", "value")
            return self.fault(node, f"cannot compute {pair}", _arithmetic_hint(node.op, evident))
        if adding and not (left.numeric or right.numeric):
            return Type("any" if not evident else evident.pop(), left.null or right.null)
        is_float = isinstance(node.op, ast.Div) or "float" in (left.kind, right.kind)
        return Type("float" if is_float else "number", left.null or right.null)

    def check_compare(self, node: ast.Compare) -> Type:
        types = [self.check(operand) for operand in (node.left, *node.comparators)]
        for op, left, right, at in zip(node.ops, types, types[1:], node.comparators, strict=False):
            if isinstance(op, ast.Is | ast.IsNot):
                self.fault(at, "'is' is not part of the expression language", "write '== none' or '!= none'")
            elif isinstance(op, ast.In | ast.NotIn):
                if right.shown in ("number", "boolean", "time"):
                    self.fault(at, f"cannot look into {right.shown} with 'in'")
            elif isinstance(op, ast.Lt | ast.LtE | ast.Gt | ast.GtE) and not _comparable(left, right):
                self.fault(at, f"cannot compare {left.shown} with {right.shown}")
        return Type("boolean")

    def check_call(self, node: ast.Call) -> Type:
        types = [self.check(argument) for argument in node.args]
        for keyword in node.keywords:
            self.check(keyword.value)
        if not isinstance(node.func, ast.Name):
            return self.fault(node.func, "only the functions of the library can be called", call_hint(node.func))
        known = FUNCTIONS.get(node.func.id)
        if known is None:
            return self.fault(node.func, f"unknown function '{node.func.id}'", suggestion(node.func.id))
        self.functions.add(known.name)
        self._arguments(node, known, types)
        if known.name in CHOOSING and len(types) > 1:
            return union(types)._replace(null=all(one.null for one in types))
        passing = zip(known.parameters, types, strict=False)
        null = known.returns_none or any(t.null and not p.takes_none for p, t in passing)
        return Type(known.returns, null or bool(node.keywords))

    def _arguments(self, node: ast.Call, known: Function, types: list[Type]) -> None:
        least, most = known.minimum, known.maximum
        if len(types) < least or (most is not None and len(types) > most):
            wanted = least if least == most else f"{least} or more" if most is None else f"{least} to {most}"
            message = f"{known.name}: expected {wanted} argument{'' if wanted == 1 else 's'}, got {len(types)}"
            self.fault(node, message, f"as in {known.example[0]}")
        for parameter, found, argument in zip(known.parameters, types, node.args, strict=False):
            if not parameter.variadic and found.kind not in UNCERTAIN and not parameter.accepts(found.shown):
                self.fault(argument, f"{known.name}: expected {parameter.expected}, got {found.shown}")
        for keyword in node.keywords:
            if keyword.arg not in known.keywords:
                hint = did_you_mean(keyword.arg or "", known.keywords) or f"it is {known.signature}"
                self.fault(keyword.value, f"{known.name}: no argument is named '{keyword.arg or '**'}'", hint)
        if known.name in PATTERNED and len(node.args) > 1:
            self._pattern(node.args[1], known.name)

    def _pattern(self, node: ast.expr, name: str) -> None:
        value = self.literal(node)
        if not isinstance(value, str):
            self.fault(node, f"{name}: the pattern must be a literal text or a setting")
            return
        if "\b" in value:
            self.fault(node, f"{name}: a backspace in the pattern", 'for a word boundary write r"\\b"')
        try:
            compile_pattern(value)
        except ValueError as error:
            self.fault(node, f"{name}: the pattern is wrong: {error}")

    def literal(self, node: ast.expr) -> object:
        """Return the value of a literal or a setting; `...` for other nodes."""
        if isinstance(node, ast.Constant):
            return node.value
        if isinstance(node, ast.Name) and node.id in CONSTANTS:
            return CONSTANTS[node.id]
        root, name = reference(node) or ("", "")
        return self.settings.get(name, ...) if root == "settings" else ...


def _comparable(left: Type, right: Type) -> bool:
    kinds = {one.shown for one in (left, right) if one.kind not in UNCERTAIN}
    return kinds <= {"number", "boolean"} or kinds in ({"text"}, {"list"}, {"time"})


def _arithmetic_hint(op: ast.operator, kinds: set[str]) -> str | None:
    if "time" in kinds:
        return "compute with seconds: unix(meta.time) - unix(started)"
    if isinstance(op, ast.Mod) and "text" in kinds:
        return 'to put a value into text: "a " + text(value)'
    return "text(value) makes text, number(value) a number" if "text" in kinds else None


__all__ = [
    "ANY", "CONSTANTS", "META", "NONE", "ROOTS", "UNCERTAIN", "Checked", "Type", "reference", "step_name", "union",
]  # fmt: skip
