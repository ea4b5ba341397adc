"""From the text of an expression to a syntax tree that is small enough, with columns of the text."""

import ast
import itertools
import re
import warnings

from engine.expression_faults import ExpressionFault, Fault

LONGEST = 2_000
DEEPEST = 40

_SLIPS = [
    (re.compile(r"&&"), "write 'and'"),
    (re.compile(r"\|\|"), "write 'or'"),
    (re.compile(r"![^=]"), "write 'not'"),
    (re.compile(r"===|!=="), "write '==' or '!='"),
    (re.compile(r"<>"), "write '!='"),
    (re.compile(r"\?"), "write 'a if condition else b'"),
    (re.compile(r"\$"), "a setting is reached by settings.name"),
    (re.compile(r"(?<![=!<>:])=(?!=)"), "to compare, write '=='"),
    (
        re.compile(
            r"\b(?:class|from|import|global|pass|return|while|with|yield|def|del|try|raise|as|assert|async|for)\b"
        ),
        'a field with the name of a Python keyword is reached by meta.data["name"]',
    ),
]


# What Python says of the list that the text is parsed in, or proposes that we refuse.
_MESSAGES = [
    ("invalid syntax", "invalid syntax"),
    ("closing parenthesis ']'", "a bracket is not closed"),
    ("does not match", "brackets do not match"),
    ("unmatched", "brackets do not match"),
    ("integer string conversion", "number too large"),
]


def syntax_tree(text: str) -> ast.expr:
    """Parse the text of one expression, which may run over several lines; raise ExpressionFault."""
    if len(text) > LONGEST:
        raise ExpressionFault([Fault(f"longer than {LONGEST:,} characters ({len(text):,})", 0)])
    if not text.strip():
        raise ExpressionFault([Fault("the expression is empty", 0)])
    if "\0" in text:
        raise ExpressionFault([Fault("a null character", text.index("\0"))])
    tree = _parsed(text)
    if not isinstance(tree, ast.List) or len(tree.elts) != 1 or text.rstrip().endswith(","):
        raise ExpressionFault([Fault("more than one expression", 0)])
    if _depth(tree.elts[0]) > DEEPEST:
        raise ExpressionFault([Fault(f"nested deeper than {DEEPEST} levels", 0)])
    return tree.elts[0]


def _parsed(text: str) -> ast.expr:
    """Parse the text as the only item of a list, so that line breaks and comments are allowed everywhere."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return ast.parse(f"[\n{text}\n]", mode="eval").body
    except SyntaxError as error:
        raise _syntax_fault(text, error) from None
    except (RecursionError, MemoryError):
        raise ExpressionFault([Fault("nested too deep", 0)]) from None
    except ValueError as error:
        raise ExpressionFault([Fault(str(error), 0)]) from None


def _syntax_fault(text: str, error: SyntaxError) -> ExpressionFault:
    message = str(error.msg)
    message = next((ours for theirs, ours in _MESSAGES if theirs in message), message)
    starts, line = line_starts(text), (error.lineno or 2) - 2
    column = (starts[line] if line < len(starts) else len(text)) + max((error.offset or 1) - 1, 0)
    bare = re.sub(r"'[^'\n]*'|\"[^\"\n]*\"", '""', text)
    hint = next((hint for slip, hint in _SLIPS if slip.search(bare)), None)
    return ExpressionFault([Fault(message, min(column, len(text)), hint)])


def line_starts(text: str) -> list[int]:
    """Return the offset at which each line begins."""
    return list(itertools.accumulate((len(line) + 1 for line in text.split("\n")), initial=0))


def column_of(text: str, node: ast.expr) -> int:
    """Return the offset of a node in the text, in characters."""
    start = line_starts(text)[node.lineno - 2]
    line = text[start:].split("\n", 1)[0]
    return start + len(line.encode(errors="surrogatepass")[: node.col_offset].decode(errors="ignore"))


def _depth(tree: ast.AST) -> int:
    deepest, level = 0, [tree]
    while level:
        deepest += any(isinstance(node, ast.expr) for node in level)
        level = [child for node in level for child in ast.iter_child_nodes(node)]
    return deepest
