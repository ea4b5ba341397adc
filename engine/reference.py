"""The reference pages of components, from their classes."""

import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import zip_longest
from typing import Any

import msgspec
from pydantic import BaseModel
from pydantic_core import PydanticUndefined

from engine.component import Component, Example
from engine.quantities import duration_text


class Picture(msgspec.Struct, frozen=True):
    """A picture in a page: its file beside the page, what it shows, and the YAML that it is of."""

    file: str
    about: str
    config: str = ""

    @property
    def image(self) -> str:
        """Return the picture alone."""
        return f"![{self.about}]({self.file})"

    def __str__(self) -> str:
        config = f"\n\n```yaml\n{self.config}\n```" if self.config else ""
        return f"{self.about}{config}\n\n{self.image}"


def summary(cls: type[Component]) -> str:
    """Return the first sentence of a component's docstring."""
    return inspect.cleandoc(cls.__doc__ or "").split("\n\n")[0].replace("\n", " ").split(". ")[0].rstrip(".")


def markdown(cls: type[Component], pictures: Sequence[Picture] = ()) -> str:
    """Return the page: what it does, options, outputs, delivery, what it looks like, examples.

    `pictures` are those of the examples, in order, then those of what goes in and comes out.
    """
    parts = [f"# {cls.kind} ({cls.section.rstrip('s')})", inspect.cleandoc(cls.__doc__ or "")]
    options = "\n".join(_options(cls))
    if options:
        parts += ["## Options", "| option | type | default | |\n| --- | --- | --- | --- |\n" + options]
    if cls.outputs:
        parts += ["## Side outputs", "\n".join(f"- `.{name}`: {text}" for name, text in cls.outputs.items())]
    if cls.guarantee:
        parts += ["## Delivery", delivery(cls)]
    shown, plots = pictures[: len(cls.examples)], pictures[len(cls.examples) :]
    if plots:
        parts += ["## In and out", *map(str, plots)]
    if cls.examples:
        parts.append("## Examples")
        parts += [_example(example, picture) for example, picture in zip_longest(cls.examples, shown)]
    return "\n\n".join(parts) + "\n"


def delivery(cls: type[Component]) -> str:
    """Return a source's or sink's delivery guarantee as a sentence."""
    return cls.guarantee[:1].upper() + cls.guarantee[1:] + "." if cls.guarantee else ""


def index_page(kinds: Mapping[str, Mapping[str, type[Component]]]) -> str:
    """Return the index of all kinds by section: a line each, side outputs and delivery guarantees."""
    about = "Every kind of source, operator and sink, generated from the classes (`make docs`)."
    parts = ["# Components", about, _OTHER]
    for section, found in kinds.items():
        rows = [(_link(cls), _cell(summary(cls))) for _, cls in sorted(found.items())]
        parts += [f"## {section.capitalize()}", _table(("kind", "what it does"), rows)]
    every = [cls for section in kinds.values() for _, cls in sorted(section.items())]
    outputs = [(_link(cls), f"`.{name}`", _cell(text)) for cls in every for name, text in cls.outputs.items()]
    parts += ["## Side outputs", _ERRORS, _table(("kind", "output", "events"), outputs)]
    promises = [(cls.section.rstrip("s"), _link(cls), _cell(delivery(cls))) for cls in every if cls.guarantee]
    parts += ["## Delivery", _table(("", "kind", "what is promised"), promises)]
    return "\n\n".join(parts) + "\n"


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


_OTHER = (
    "[Functions of expressions](functions.md) · [findings of lint](lint.md) · "
    "[how kinds and options are named](../concepts/components.md)"
)
_ERRORS = "Every node has `.errors` too: copies of the events that failed there, with the field `reason`."


def _link(cls: type[Component]) -> str:
    return f"[{cls.kind}]({cls.section}/{cls.kind}.md)"


def _cell(text: str) -> str:
    return text.replace("\n", " ").replace("|", "\\|")


def _options(cls: type[Component]) -> Iterator[str]:
    """Yield a row an option, and behind one that has options of its own a row for each of those."""
    whole = cls.model_json_schema(mode="validation") if cls.model_fields else {}
    definitions = whole.get("$defs", {})
    for name, field in cls.model_fields.items():
        shown = field.alias or name
        schema = whole["properties"].get(shown, {})
        kind = type_text(schema)
        default = field.get_default(call_default_factory=True)
        yield _row(shown, kind, field.is_required(), default, field.description or "")
        for inner, definition in _inside(shown, schema, definitions):
            yield from _inner(inner, definition)


def _inner(prefix: str, definition: Mapping[str, Any]) -> Iterator[str]:
    for name, schema in definition.get("properties", {}).items():
        required = name in definition.get("required", ())
        default = schema.get("default", PydanticUndefined)
        yield _row(f"{prefix}.{name}", type_text(schema), required, default, schema.get("description", ""))


def _row(name: str, kind: str, required: bool, value: Any, about: str) -> str:
    default = "required" if required else f"`{_default(value, kind)}`" if _default(value, kind) else ""
    about = "" if about == "expression" else about
    return f"| `{name}` | {_cell(kind)} | {_cell(default)} | {_cell(about)} |"


def _inside(name: str, schema: Mapping[str, Any], definitions: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Yield the models that an option holds: itself, in a list (`name[]`) or by a name of one's own (`name.*`)."""
    if "$ref" in schema:
        yield name, definitions[schema["$ref"].rpartition("/")[2]]
    for part in schema.get("anyOf", ()):
        yield from _inside(name, part, definitions)
    if isinstance(schema.get("items"), dict):
        yield from _inside(f"{name}[]", schema["items"], definitions)
    if isinstance(schema.get("additionalProperties"), dict):
        yield from _inside(f"{name}.*", schema["additionalProperties"], definitions)


def _default(value: Any, kind: str) -> str:
    if value is PydanticUndefined or (isinstance(value, BaseModel) and type(value).__str__ is BaseModel.__str__):
        return ""
    if isinstance(value, BaseModel):
        return str(value)
    if kind in QUANTITIES and isinstance(value, int | float) and value:
        return QUANTITIES[kind](value)
    return msgspec.json.encode(value, enc_hook=str).decode()


def _rate_text(value: float) -> str:
    """Return a rate as it is written: so many a second, minute or hour, whole where one of them is."""
    counts = {unit: value * seconds for unit, seconds in (("s", 1), ("m", 60), ("h", 3600))}
    unit = next((unit for unit, count in counts.items() if abs(count - round(count)) < 1e-9), "s")
    return f"{counts[unit]:g}/{unit}"


def _size_text(value: int) -> str:
    unit, size = next(((unit, size) for unit, size in SIZES if value % size == 0), ("B", 1))
    return f"{value // size}{unit}"


SIZES = (("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10))
QUANTITIES: dict[str, Callable[[Any], str]] = {"duration": duration_text, "rate": _rate_text, "size": _size_text}


def type_text(schema: Mapping[str, Any]) -> str:
    """Return a JSON Schema's type for people: `list of expressions`, `text or number`, `duration`."""
    if "enum" in schema or "const" in schema:
        return " | ".join(f"`{value}`" for value in schema.get("enum", [schema.get("const")]))
    parts = schema.get("anyOf") or schema.get("oneOf")
    if parts:
        return _either(type_text(part) for part in parts if part.get("type") != "null")
    if schema.get("title", "") in QUANTITIES:
        return str(schema["title"])
    kind = schema.get("type", "mapping" if "$ref" in schema else "value")
    if isinstance(kind, list):
        return "expression" if set(kind) == EXPRESSION else _either(type_text({"type": one}) for one in kind)
    inner = schema.get("items" if kind == "array" else "additionalProperties")
    of = f" of {_many(type_text(inner))}" if isinstance(inner, dict) and inner else ""
    return {"array": "list", "object": "mapping"}.get(kind, _NAMES.get(kind, str(kind))) + of


def _either(kinds: Iterable[str]) -> str:
    """Return what may be one of several: a number may be a whole one, and text, number or truth are any value."""
    found = dict.fromkeys(kinds)
    if "number" in found:
        found.pop("whole number", None)
    return "value" if found.keys() == {"text", "number", "true or false"} else " or ".join(found)


EXPRESSION = {"string", "number", "boolean"}
_NAMES = {"string": "text", "integer": "whole number", "boolean": "true or false", "null": "none"}


def _many(kind: str) -> str:
    """Return the plural where there is one."""
    return f"{kind}s" if kind in COUNTED else kind


COUNTED = {"expression", "mapping", "number", "whole number", "duration", "list", "value"}


def _example(example: Example, picture: Picture | None) -> str:
    text = f"{example.about}\n\n```yaml\n{example.config}\n```"
    if picture:
        text += f"\n\n{picture.image}"
    if example.given:
        text += "\n\nin:\n\n" + _events(example.given)
        text += "\n\nanswers from outside:\n\n" + _events(example.answers) if example.answers else ""
        text += "\n\nout:\n\n" + _events(example.expect)
    return text


def _events(events: Any) -> str:
    return "```json\n" + "\n".join(msgspec.json.encode(event).decode() for event in events) + "\n```"
