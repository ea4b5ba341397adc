"""Text from Jinja templates in a sandbox: compiled once, nothing but the event, bounded output."""

import re
from collections.abc import Callable, Mapping
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engine.expression_values import as_json, as_text
from engine.functions import FUNCTIONS

if TYPE_CHECKING:
    from jinja2.sandbox import SandboxedEnvironment

MOST_REPEATED = 10_000
MOST_PIECES = 100_000
REMOVED = ("batch", "pprint", "random", "slice", "urlize", "xmlattr")
"""Filters that are random, make much of a number in the data, or show Python's own text."""
GLOBALS = ("cycler", "dict", "joiner", "namespace", "range")
WIDENING = frozenset(("center", "expandtabs", "format", "format_map", "ljust", "replace", "rjust", "zfill", "join"))
_WIDE = re.compile(r"%[^%a-zA-Z]*(?:\d{4,}|\*)")


class TemplateFault(ValueError):
    """A template cannot be read, or cannot be filled in for an event; `line` is where it says so."""

    def __init__(self, message: str, line: int = 0) -> None:
        super().__init__(message)
        self.line = line


class Template:
    """A compiled template. `names` are what it reads; rendering depends on nothing but its arguments."""

    def __init__(self, text: str, folder: Path, *, html: bool, largest: int) -> None:
        from jinja2 import TemplateError, meta

        self.largest = largest
        environment = _environment(folder, html)
        try:
            self._template = environment.from_string(text)
            self.names = frozenset(meta.find_undeclared_variables(environment.parse(text)))
        except RecursionError:
            raise TemplateFault("a template nested less deeply") from None
        except TemplateError as fault:
            raise TemplateFault(str(fault.message or fault), getattr(fault, "lineno", 0) or 0) from None

    def render(self, data: Mapping[str, Any], extra: Mapping[str, Any]) -> str:
        """Return the text for the fields of an event; raises TemplateFault with what is wrong."""
        found: list[str] = []
        size = 0
        try:
            for number, piece in enumerate(self._template.generate({**data, **extra} if extra else data)):
                size += len(piece)
                if size > self.largest or number > MOST_PIECES:
                    raise TemplateFault(f"a text of at most {self.largest} characters")
                found.append(piece)
        except TemplateFault:
            raise
        except Exception as fault:
            message = getattr(fault, "message", None) or str(fault) or type(fault).__name__
            reason = "a template that ends" if isinstance(fault, RecursionError) else str(message)
        else:
            return "".join(found)
        raise TemplateFault(reason[:200])


def _shown(value: Any) -> Any:
    """Return a value as a template writes it: nothing for none, true, and times in ISO 8601."""
    if value is None:
        return ""
    return as_text(value) if isinstance(value, bool | datetime | dict | list) else value


@cache
def _sandbox() -> type["SandboxedEnvironment"]:
    """Return the class of the sandbox; Jinja is imported where a flow has a template."""
    from jinja2 import exceptions
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    class Sandbox(ImmutableSandboxedEnvironment):
        intercepted_binops = frozenset(("*", "**", "%"))

        def is_safe_attribute(self, obj: Any, attr: str, value: Any) -> bool:
            widening = isinstance(obj, str) and attr in WIDENING
            return not widening and super().is_safe_attribute(obj, attr, value)

        def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
            sized = isinstance(left, str | list | tuple) or isinstance(right, str | list | tuple)
            if operator == "*" and sized and _product(left, right) > MOST_REPEATED:
                raise exceptions.SecurityError(f"a text or list of at most {MOST_REPEATED}, repeated")
            if operator == "**" and max(abs(left), abs(right)) > MOST_REPEATED:
                raise exceptions.SecurityError(f"powers of numbers up to {MOST_REPEATED}")
            if operator == "%" and isinstance(left, str):
                return formatted(left, right)
            return super().call_binop(context, operator, left, right)

    return Sandbox


def _product(left: Any, right: Any) -> int:
    sizes = [max(value, 0) if isinstance(value, int) else len(value) for value in (left, right)]
    return sizes[0] * sizes[1]


def formatted(layout: str, *values: Any) -> str:
    """Return a text with values by %; a width is at most 999."""
    if _WIDE.search(layout):
        raise ValueError("a layout with widths of at most 999")
    return str(layout) % (values[0] if len(values) == 1 and isinstance(values[0], tuple | dict) else values)


def _centered(value: Any, width: int = 80) -> str:
    return str(value).center(min(width, MOST_REPEATED))


def _replaced(value: Any, old: str, new: str) -> str:
    text = str(value)
    if text.count(old) * len(new) > MOST_REPEATED * 100:
        raise ValueError(f"a text of at most {MOST_REPEATED * 100} characters, after replace")
    return text.replace(old, new)


@cache
def _filters() -> dict[str, Callable[..., Any]]:
    """Return what may stand behind `|`: Jinja's filters, and the functions of expressions that Jinja has none for."""
    from jinja2.filters import FILTERS

    standard = {name: call for name, call in FILTERS.items() if name not in REMOVED}
    own = {name: _passing(known.call) for name, known in FUNCTIONS.items()}
    return own | standard | {"format": formatted, "center": _centered, "replace": _replaced}


def _passing(call: Callable[..., Any]) -> Callable[..., Any]:
    """Return a function of expressions as a filter: what is missing is none."""
    from jinja2 import Undefined

    return lambda *values: call(*(None if isinstance(value, Undefined) else value for value in values))


def _environment(folder: Path, html: bool) -> "SandboxedEnvironment":
    """Return an environment that reads files of the pack only, without what is random."""
    from jinja2 import ChainableUndefined, FileSystemLoader

    found = _sandbox()(
        loader=FileSystemLoader(folder), undefined=ChainableUndefined, autoescape=html, finalize=_shown,
        auto_reload=False,
    )  # fmt: skip
    found.filters = _filters()
    found.globals = {name: found.globals[name] for name in GLOBALS}
    found.policies["json.dumps_function"] = lambda value, **_: as_json(value)
    return found
