"""The JSON Schema of the flow language, generated from the component classes."""

from typing import Any

from engine.channels import ChannelSpec
from engine.component import Component
from engine.flow_tests import FlowTest
from engine.queries import QuerySpec
from engine.reference import summary
from engine.registry import SECTIONS, components

EXPRESSION = {"type": ["string", "number", "boolean"], "description": "expression"}
NAMES = {"pattern": "^[a-z][a-z0-9_]{0,62}$"}
TEXT = {"type": "string"}


def language_schema() -> dict[str, Any]:
    """Return the schema (draft 2020-12) of one flow file."""
    definitions: dict[str, Any] = {}
    properties: dict[str, Any] = {
        "flow": {"type": "string", **NAMES, "description": "The flow's name."},
        "about": TEXT,
        "settings": {"type": "object"},
        "tables": {"type": "object", "additionalProperties": {"type": "object"}},
        "channels": _named(_lifted(ChannelSpec, definitions)),
        "queries": _named(_lifted(QuerySpec, definitions)),
        "pages": {"type": "object", "additionalProperties": TEXT},
        "tests": {"type": "array", "items": _lifted(FlowTest, definitions)},
    }
    for section in SECTIONS:
        properties[section] = _named(_node(section, definitions))
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema", "title": "Millstream flow", "type": "object",
        "properties": properties, "required": ["flow"], "additionalProperties": False, "$defs": definitions,
    }


def _named(schema: dict[str, Any]) -> dict[str, Any]:
    return {"type": "object", "propertyNames": NAMES, "additionalProperties": schema}


def _node(section: str, definitions: dict[str, Any]) -> dict[str, Any]:
    properties: dict[str, Any] = {"about": TEXT, "was": TEXT, "where": EXPRESSION}
    if section != "sinks":
        properties["key"] = EXPRESSION
    if section != "sources":
        properties["from"] = {"anyOf": [TEXT, {"type": "array", "items": TEXT, "minItems": 1}]}
        properties["on_error"] = {"enum": ["dead_letters", "drop"]}
    if section == "operators":
        steps = {
            "type": "object",
            "properties": {name: _kind(cls, definitions) for name, cls in components(section).items()},
        }
        properties["steps"] = {"type": "array", "items": steps, "minItems": 1}
    kinds = {name: _kind(cls, definitions) for name, cls in components(section).items()}
    needed = {} if section == "sources" else {"required": ["from"]}
    return {"type": "object", "properties": properties | kinds, "additionalProperties": False, **needed}


def _kind(cls: type[Component], definitions: dict[str, Any]) -> dict[str, Any]:
    whole = _lifted(cls, definitions)
    if cls.shorthand:
        names = {field.alias or name: name for name, field in cls.model_fields.items()}
        alone = whole["properties"][next(alias for alias, name in names.items() if name == cls.shorthand)]
        whole = dict(alone) if len(cls.model_fields) == 1 else {"anyOf": [whole, alone]}
    return whole | {"description": summary(cls)}


def _lifted(model: Any, definitions: dict[str, Any]) -> dict[str, Any]:
    """Return a model's schema with its definitions moved to those of the whole."""
    schema: dict[str, Any] = model.model_json_schema(ref_template="#/$defs/{model}")
    definitions.update(schema.pop("$defs", {}))
    return schema
