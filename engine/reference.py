"""The reference page of a component, from its class."""

import inspect
from collections.abc import Iterator
from typing import Any

import msgspec
from pydantic_core import PydanticUndefined

from engine.component import Component, Example
from engine.quantities import duration_text


def summary(cls: type[Component]) -> str:
    """Return the first sentence of a component's docstring."""
    return inspect.cleandoc(cls.__doc__ or "").split("\n\n")[0].replace("\n", " ").split(". ")[0].rstrip(".")


def markdown(cls: type[Component]) -> str:
    """Return the page: what it does, options, outputs, delivery, examples."""
    parts = [f"# {cls.kind} ({cls.section.rstrip('s')})", inspect.cleandoc(cls.__doc__ or "")]
    options = "\n".join(_options(cls))
    if options:
        parts += ["## Options", "| option | type | default | |\n| --- | --- | --- | --- |\n" + options]
    if cls.outputs:
        parts += ["## Side outputs", "\n".join(f"- `.{name}`: {text}" for name, text in cls.outputs.items())]
    if cls.guarantee:
        parts += ["## Delivery", cls.guarantee[0].upper() + cls.guarantee[1:] + "."]
    if cls.examples:
        parts += ["## Examples", *(_example(example) for example in cls.examples)]
    return "\n\n".join(parts) + "\n"


def _options(cls: type[Component]) -> Iterator[str]:
    schema = cls.model_json_schema(mode="validation")["properties"] if cls.model_fields else {}
    for name, field in cls.model_fields.items():
        shown = field.alias or name
        kind = _type(schema.get(shown, {})).replace("|", "\\|")
        default = (
            "required" if field.is_required() else f"`{_default(field.get_default(call_default_factory=True), kind)}`"
        )
        about = (field.description or "").replace("\n", " ").replace("|", "\\|")
        yield f"| `{shown}` | {kind} | {default} | {about} |"


def _default(value: Any, kind: str) -> str:
    if kind == "duration" and value:
        return duration_text(value)
    if value is PydanticUndefined:
        return ""
    return msgspec.json.encode(value, enc_hook=str).decode()


def _type(schema: dict[str, Any]) -> str:
    if "enum" in schema:
        return " | ".join(f"`{value}`" for value in schema["enum"])
    if "anyOf" in schema:
        return " or ".join(dict.fromkeys(_type(part) for part in schema["anyOf"] if part.get("type") != "null"))
    title = schema.get("title", "")
    if title in ("duration", "rate", "size"):
        return str(title)
    if schema.get("description") == "expression":
        return "expression"
    kind = schema.get("type", "mapping")
    return {
        "array": "list",
        "object": "mapping",
        "string": "text",
        "integer": "whole number",
        "boolean": "true or false",
    }.get(str(kind), str(kind))


def _example(example: Example) -> str:
    text = f"{example.about}\n\n```yaml\n{example.config}\n```"
    if example.given:
        text += "\n\nin:\n\n" + _events(example.given) + "\n\nout:\n\n" + _events(example.expect)
    return text


def _events(events: Any) -> str:
    return "```json\n" + "\n".join(msgspec.json.encode(event).decode() for event in events) + "\n```"
