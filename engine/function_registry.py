"""How a Python function becomes a function of the expression language.

Its annotations are the declaration: they give the number of arguments, the kinds that are accepted and the kind that
comes out. A parameter that may be none says `| None`; for every other parameter, none in gives none out and a wrong
kind raises a TypeError, both before the function itself is called.
"""

import inspect
import types
import typing
from collections.abc import Callable
from dataclasses import dataclass, field

from engine.expression_values import KINDS, kind_of

Number = int | float


@dataclass(frozen=True)
class Parameter:
    """One parameter: the classes it accepts (none listed: any) and whether it takes none itself."""

    name: str
    classes: tuple[type, ...]
    takes_none: bool
    required: bool
    keyword: bool
    variadic: bool

    @property
    def expected(self) -> str:
        """Name the accepted kinds, as in "text or list"."""
        if set(self.classes) == {int}:
            return "whole number"
        return " or ".join(dict.fromkeys(KINDS[cls] for cls in self.classes)) or "anything"

    def accepts(self, kind: str) -> bool:
        """Tell if a value that is evidently of this kind may be passed."""
        return not self.classes or kind in {KINDS[cls] for cls in self.classes}


@dataclass(frozen=True)
class Function:
    """A function of the expression language.

    `call` is pure, passes none through and raises TypeError or ValueError; `inline` is a template for the case that the
    first argument, `{0}`, is of the first class that it accepts and all others are literal texts.
    """

    name: str
    call: Callable[..., typing.Any] = field(repr=False)
    docs: str = field(repr=False)
    example: tuple[str, str] = field(repr=False)
    parameters: tuple[Parameter, ...]
    returns: str
    returns_none: bool
    inline: str | None = None

    @property
    def minimum(self) -> int:
        """Count the arguments it needs."""
        return sum(p.required and not p.keyword for p in self.parameters)

    @property
    def maximum(self) -> int | None:
        """Count the positional arguments it takes; None: any number."""
        if any(p.variadic for p in self.parameters):
            return None
        return sum(not p.keyword for p in self.parameters)

    @property
    def keywords(self) -> dict[str, Parameter]:
        """Give the parameters that are passed by name."""
        return {p.name: p for p in self.parameters if p.keyword}

    @property
    def signature(self) -> str:
        """Write the call as the documentation shows it, as in `round(number, [digits])`."""
        return f"{self.name}({', '.join(_shown(p) for p in self.parameters)})"


def _shown(parameter: Parameter) -> str:
    name = f"{parameter.name}=" if parameter.keyword else parameter.name
    if parameter.variadic:
        return f"{name}, …"
    return name if parameter.required else f"[{name}]"


def function(inline: str | None = None) -> Callable[[Callable[..., object]], Function]:
    """Declare a function; its name loses a trailing underscore, its docstring ends with one `>>>` example."""

    def declare(python: Callable[..., object]) -> Function:
        hints = typing.get_type_hints(python)
        parameters = tuple(_parameter(p, hints[p.name]) for p in inspect.signature(python).parameters.values())
        classes, returns_none = _classes(hints["return"])
        kinds = {"float" if classes == (float,) else KINDS[cls] for cls in classes}
        docs, _, example = inspect.cleandoc(python.__doc__ or "").partition("\n>>> ")
        code, _, result = example.partition("\n")
        name = python.__name__.rstrip("_")
        return Function(
            name=name,
            call=_guarded(name, python, parameters),
            docs=docs.strip(),
            example=(code.strip(), result.strip()),
            parameters=parameters,
            returns=kinds.pop() if len(kinds) == 1 else "any",
            returns_none=returns_none or not classes,
            inline=inline,
        )

    return declare


def _classes(hint: object) -> tuple[tuple[type, ...], bool]:
    union = isinstance(hint, types.UnionType) or typing.get_origin(hint) is typing.Union
    members = typing.get_args(hint) if union else (hint,)
    found = [typing.get_origin(m) or m for m in members if m is not type(None)]
    return () if object in found else tuple(found), type(None) in members


def _parameter(parameter: inspect.Parameter, hint: object) -> Parameter:
    classes, takes_none = _classes(hint)
    variadic = parameter.kind is inspect.Parameter.VAR_POSITIONAL
    return Parameter(
        name=parameter.name,
        classes=classes,
        takes_none=takes_none,
        required=parameter.default is inspect.Parameter.empty and not variadic,
        keyword=parameter.kind is inspect.Parameter.KEYWORD_ONLY,
        variadic=variadic,
    )


def wrong(name: str, expected: str, value: object) -> TypeError:
    """Make the error of a function that got a value of the wrong kind."""
    return TypeError(f"{name}: expected {expected}, got {kind_of(value)}")


def _admits(value: object, classes: tuple[type, ...]) -> bool:
    return isinstance(value, classes) and (not isinstance(value, bool) or bool in classes)


def _guarded(name: str, python: Callable[..., object], parameters: tuple[Parameter, ...]) -> Callable[..., object]:
    """Put the checks of the parameters before a function, as generated source: a loop costs three times more."""
    names: dict[str, object] = {"python": python, "wrong": wrong, "admits": _admits}
    body: list[str] = []
    for p in parameters:
        names[f"{p.name}_default"] = inspect.signature(python).parameters[p.name].default
        if not p.variadic:
            body += _check(name, p, names)
    if not body:
        return python
    passed = ", ".join(_passed(p) for p in parameters)
    lines = [f"def {name}({_heads(parameters)}):", *body, f"    return python({passed})"]
    exec("\n".join(lines), names)  # noqa: S102  # of our own parameters' names only
    return typing.cast(Callable[..., object], names[name])


def _passed(p: Parameter) -> str:
    return f"*{p.name}" if p.variadic else f"{p.name}={p.name}" if p.keyword else p.name


def _heads(parameters: tuple[Parameter, ...]) -> str:
    heads: list[str] = []
    for p in parameters:
        if p.keyword and "*" not in "".join(heads):
            heads.append("*")
        heads.append(f"*{p.name}" if p.variadic else p.name if p.required else f"{p.name}={p.name}_default")
    return ", ".join(heads)


def _check(name: str, p: Parameter, names: dict[str, object]) -> list[str]:
    if not p.classes:
        return [] if p.takes_none else [f"    if {p.name} is None: return None"]
    names[f"{p.name}_classes"] = p.classes
    none = "pass" if p.takes_none else "return None"
    return [
        f"    if {p.name}.__class__ not in {p.name}_classes:",
        f"        if {p.name} is None: {none}",
        f"        elif not admits({p.name}, {p.name}_classes): raise wrong({name!r}, {p.expected!r}, {p.name})",
    ]
