"""Say why an expression failed on an event: which part, and what it was looking at."""

import ast
from collections.abc import Callable, Iterator

import msgspec

from engine.expression_check import CONSTANTS, reference
from engine.expression_values import kind_of

Evaluate = Callable[[ast.expr], object]
LONGEST_VALUE = 80


def explain(text: str, tree: ast.expr, evaluate: Evaluate) -> str:
    """Return one line: the expression, what is wrong and the values; `evaluate` computes a part of it for the event."""
    culprit = _culprit(tree, evaluate)
    message = _reason(culprit, evaluate) if culprit else "no fault with this event"
    whole = " ".join(text.split())
    part = ast.get_source_segment(f"[\n{text}\n]", culprit) if culprit is not None and culprit is not tree else None
    where = f" in {_shortened(' '.join(part.split()))}" if part else ""
    seen = dict.fromkeys(_values(culprit or tree, evaluate))
    return "; ".join([f"{_shortened(whole, 200)}: {message}{where}", *seen])


def _error(node: ast.expr, evaluate: Evaluate) -> Exception | None:
    try:
        evaluate(node)
    except Exception as error:
        return error
    return None


def _culprit(node: ast.expr, evaluate: Evaluate) -> ast.expr | None:
    """Find the innermost part that fails, looking only at what is evaluated."""
    if _error(node, evaluate) is None:
        return None
    for child in _evaluated(node, evaluate):
        found = _culprit(child, evaluate)
        if found:
            return found
    return node


def _evaluated(node: ast.expr, evaluate: Evaluate) -> Iterator[ast.expr]:
    """Give the parts of a node in order of evaluation; an operand that decides `and`, `or`, … is the last one."""
    if isinstance(node, ast.IfExp):
        yield node.test
        yield node.body if evaluate(node.test) else node.orelse
    elif isinstance(node, ast.BoolOp):
        yield from _until(node.values, lambda part: bool(evaluate(part)) is isinstance(node.op, ast.Or))
    elif isinstance(node, ast.Call):
        lazy = isinstance(node.func, ast.Name) and node.func.id in ("coalesce", "if_none")
        yield from _until(node.args, lambda part: lazy and evaluate(part) is not None)
        yield from (keyword.value for keyword in node.keywords)
    elif not reference(node):
        yield from (child for child in ast.iter_child_nodes(node) if isinstance(child, ast.expr))


def _until(nodes: list[ast.expr], decided: Callable[[ast.expr], bool]) -> Iterator[ast.expr]:
    for node in nodes:
        yield node
        if decided(node):
            return


def _reason(node: ast.expr, evaluate: Evaluate) -> str:
    error = _error(node, evaluate)
    if isinstance(error, TypeError) and not isinstance(node, ast.Call):
        return _mismatch(node, evaluate) or str(error)
    return str(error) or type(error).__name__


def _mismatch(node: ast.expr, evaluate: Evaluate) -> str | None:
    if isinstance(node, ast.Compare):
        kinds = [kind_of(evaluate(operand)) for operand in (node.left, *node.comparators)]
        if isinstance(node.ops[0], ast.In | ast.NotIn):
            return f"cannot look for {kinds[0]} in {'a list of plain values' if kinds[1] == 'list' else kinds[1]}"
        return f"cannot compare {' with '.join(kinds)}"
    if isinstance(node, ast.BinOp):
        left, right = kind_of(evaluate(node.left)), kind_of(evaluate(node.right))
        hint = ", only the unix() of each" if "time" in (left, right) else ""
        return f"cannot {_VERBS.get(type(node.op), 'compute')} {left} and {right}{hint}"
    return f"cannot negate {kind_of(evaluate(node.operand))}" if isinstance(node, ast.UnaryOp) else None


_VERBS: dict[type[ast.operator], str] = {
    ast.Add: "add",
    ast.Sub: "subtract",
    ast.Mult: "multiply",
    ast.Div: "divide",
    ast.FloorDiv: "divide",
    ast.Mod: "divide",
}


def _values(node: ast.expr, evaluate: Evaluate) -> Iterator[str]:
    """Show the value of each field and each part of `meta` that a node reads."""
    root, _ = reference(node) or ("", "")
    if root in ("settings", "table"):
        return
    called = {part.func for part in ast.walk(node) if isinstance(part, ast.Call)}
    path = isinstance(node, ast.Name | ast.Attribute | ast.Subscript)
    if path and _error(node, evaluate) is None:
        if not isinstance(node, ast.Name) or node.id not in CONSTANTS:
            yield f"{ast.unparse(node)} = {_shown(evaluate(node))}"
        return
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.expr) and child not in called:
            yield from _values(child, evaluate)
        elif isinstance(child, ast.keyword):
            yield from _values(child.value, evaluate)


def _shown(value: object) -> str:
    if value is None:
        return "none"
    try:
        return _shortened(msgspec.json.encode(value).decode())
    except (TypeError, ValueError, OverflowError, RecursionError, msgspec.MsgspecError):
        return _shortened(kind_of(value))


def _shortened(text: str, longest: int = LONGEST_VALUE) -> str:
    return text if len(text) <= longest else f"{text[:longest]}…"
