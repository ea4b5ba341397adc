"""The reference page of the functions, from their docstrings and annotations."""

from collections.abc import Iterable, Iterator

from engine.function_registry import Parameter
from engine.functions import FUNCTIONS, SUBJECTS, Function

INTRODUCTION = """\
Where an expression stands, these functions can be called. None goes in for what is missing, and none comes out, unless
a function says otherwise; an argument of a wrong kind or value sends the event to the dead letters, with the
expression and the values. A parameter in brackets may be left out, one with `=` is passed by its name. A function
depends on its arguments alone: there is no clock and no randomness, so a replay gives the same.

Patterns are regular expressions of [RE2](https://github.com/google/re2/wiki/Syntax), which take time in proportion to
the text; they are literals or settings. Where a time is taken, ISO 8601 text is taken too."""


def functions_page() -> str:
    """Return the page of all functions, by what they are about."""
    parts = ["# Functions of expressions", INTRODUCTION]
    for subject, modules in SUBJECTS.items():
        names = {found.name for module in modules for found in vars(module).values() if isinstance(found, Function)}
        parts += [f"## {subject}", _table(found for found in FUNCTIONS.values() if found.name in names)]
    return "\n\n".join(parts) + "\n"


def _table(functions: Iterable[Function]) -> str:
    head = "| function | gives | | example | |\n| --- | --- | --- | --- | --- |\n"
    return head + "\n".join(map(_row, functions))


def _row(function: Function) -> str:
    code, result = function.example
    cells = (f"`{function.signature}`", gives(function), function.docs, f"`{code}`", f"`{result}`")
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"


def function_text(function: Function) -> str:
    """Return what one function does: its arguments, what it gives and its example."""
    code, result = function.example
    parts = [f"# {function.signature} (function)", function.docs]
    parts.append("\n".join(_arguments(function)))
    parts += [f"Gives {gives(function)}.", f"```\n{code}\n{result}\n```"]
    return "\n\n".join(part for part in parts if part) + "\n"


def _arguments(function: Function) -> Iterator[str]:
    for parameter in function.parameters:
        yield f"- `{parameter.name}`: {_takes(parameter)}"


def _takes(parameter: Parameter) -> str:
    optional = "" if parameter.required or parameter.variadic else ", may be left out"
    many = ", any number of them" if parameter.variadic else ""
    return f"{parameter.expected}{many}{optional}"


def gives(function: Function) -> str:
    """Name the kind of what comes out."""
    kind = "a value" if function.returns == "any" else "number" if function.returns == "float" else function.returns
    own = any(parameter.takes_none and parameter.required for parameter in function.parameters)
    return f"{kind} or none" if function.returns_none and function.returns != "any" and not own else kind
