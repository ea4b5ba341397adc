"""The parts of Python's expression syntax that the expression language leaves out, and what to write instead."""

import ast

from engine.functions import FUNCTIONS

LONGEST_LITERAL = 200

OPERATORS: dict[type[ast.operator], str] = {
    ast.Add: "+",
    ast.Sub: "-",
    ast.Mult: "*",
    ast.Div: "/",
    ast.FloorDiv: "//",
    ast.Mod: "%",
}

_LOOPS = ("comprehensions are not part of the expression language", None)
_SIGNS: dict[type[ast.operator], tuple[str, str | None]] = {
    ast.Pow: ("**", "write power(x, 2)"),
    ast.LShift: ("<<", "write shift(x, 4)"),
    ast.RShift: (">>", "write shift(x, -4)"),
    ast.BitAnd: ("&", "write 'and', or bit_and(x, mask) for bits"),
    ast.BitOr: ("|", "write 'or', or bit_or(x, mask) for bits"),
    ast.BitXor: ("^", "write power(x, 2) for a power, bit_xor(x, mask) for bits"),
    ast.MatMult: ("@", None),
}

REFUSED: dict[type[ast.AST], tuple[str, str | None]] = {
    ast.Lambda: ("lambda is not part of the expression language", None),
    ast.ListComp: _LOOPS,
    ast.SetComp: _LOOPS,
    ast.DictComp: _LOOPS,
    ast.GeneratorExp: _LOOPS,
    ast.JoinedStr: ("f-strings are not part of the expression language", 'join text by +, as in "a " + text(value)'),
    ast.NamedExpr: ("':=' is not part of the expression language", "to compare, write '=='"),
    ast.Await: ("await is not part of the expression language", None),
    ast.Yield: ("yield is not part of the expression language", None),
    ast.YieldFrom: ("yield is not part of the expression language", None),
    ast.Starred: ("'*' before a value is not part of the expression language", None),
    ast.Tuple: ("tuples are not part of the expression language", "write a list: [a, b]"),
    ast.Set: ("sets are not part of the expression language", "write a list: [a, b]"),
    ast.Slice: ("a slice is not possible here", None),
}


def refused_operator(op: ast.operator) -> tuple[str, str | None]:
    """Return message and hint for an operator that is left out."""
    sign, hint = _SIGNS[type(op)]
    return f"'{sign}' is not part of the expression language", hint


def call_hint(called: ast.expr) -> str | None:
    """Return what to write instead of a method call."""
    if isinstance(called, ast.Attribute) and called.attr in FUNCTIONS:
        return f"write {called.attr}({ast.unparse(called.value)[:60]})"
    return None
