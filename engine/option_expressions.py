"""The expressions among a component's options, with the path of each as it stands in YAML."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from pydantic import BaseModel

from engine.expressions import Expression
from engine.placeholders import Placeholders


def option_expressions(options: Any, path: str = "") -> Iterator[tuple[str, Expression]]:
    """Yield (path, expression) for each expression in a model, list or mapping, such as `columns.state`."""
    if isinstance(options, Expression):
        yield path, options
        return
    if isinstance(options, Placeholders):
        yield from ((path, expression) for expression in options.expressions.values())
        return
    for name, value in _parts(options):
        yield from option_expressions(value, f"{path}.{name}" if path else str(name))


def _parts(options: Any) -> Iterable[tuple[Any, Any]]:
    if isinstance(options, BaseModel):
        fields = type(options).model_fields
        return [(field.alias or name, getattr(options, name)) for name, field in fields.items()]
    if isinstance(options, Mapping):
        return options.items()
    return enumerate(options) if isinstance(options, list | tuple) else ()
