"""The JSON Schema of the flow language, generated from the component classes."""

from pathlib import Path
from typing import Any

from engine.channels import ChannelSpec
from engine.component import Component
from engine.flow_tests import FlowTest
from engine.nodes import ON_ERROR
from engine.queries import METHODS, ChannelQuery, SqlQuery, TableQuery
from engine.reference import summary
from engine.registry import SECTIONS, kinds

EXPRESSION = {"type": ["string", "number", "boolean"], "description": "expression"}
NAMES = {"pattern": "^[a-z][a-z0-9_]{0,62}$"}
FLOW_NAME = {"pattern": r"^([a-z]|\$\{\w+\})([a-z0-9_]|\$\{\w+\}){0,62}$"}
TEXT = {"type": "string"}
SETTING = {"type": "string", "pattern": r"\$\{[^}]+\}", "title": "setting"}
TYPE_ALONE = ("Parameter", "Rule")
ENTRY = {
    "type": "object",
    "properties": {"env": TEXT, "default": {}, "secret": {"type": "boolean"}, "about": TEXT},
    "anyOf": [{"required": ["env"]}, {"required": ["default"]}],
    "additionalProperties": False,
}
ONE_OF_MANY = {"type": ["string", "number", "boolean"]}
FOR_EACH = {
    "description": "One instance of the flow for each entry.",
    "anyOf": [
        {"type": "array", "items": {"type": "object", "propertyNames": NAMES}, "minItems": 1},
        {
            "type": "object",
            "minProperties": 1,
            "additionalProperties": {"anyOf": [TEXT, {"type": "array", "items": ONE_OF_MANY, "minItems": 1}]},
        },
    ],
}
INCLUDE = {
    "type": "object",
    "properties": {"file": TEXT, "with": {"type": "object", "propertyNames": NAMES}},
    "required": ["file"],
    "additionalProperties": False,
}
COLUMNS = {"type": "array", "items": {"type": "array", "items": TEXT, "minItems": 1}}
KEY = {"anyOf": [TEXT, {"type": "array", "items": TEXT, "minItems": 1}]}
LIVE = {
    "anyOf": [
        TEXT,
        {"type": "boolean"},
        {"type": "object", "properties": {"by": KEY}, "required": ["by"], "additionalProperties": False},
    ],
    "description": "Whether running flows see its rows in `table.x[key]` and `lookup`, and what they are found by.",
}
TABLE = {
    "type": "object",
    "properties": {"unique": COLUMNS, "index": COLUMNS, "live": LIVE},
    "additionalProperties": TEXT,
}


def language_schema(pack: Path | None = None) -> dict[str, Any]:
    """Return the schema (draft 2020-12) of one flow file; with a pack's folder, of its own components too."""
    definitions: dict[str, Any] = {}
    properties: dict[str, Any] = {
        "flow": {"type": "string", **FLOW_NAME, "description": "The flow's name, with for_each with a `${…}` in it."},
        "about": TEXT,
        "for_each": FOR_EACH,
        "include": {"type": "array", "items": {"anyOf": [TEXT, INCLUDE]}},
        "settings": _named({"anyOf": [ENTRY, {"not": {"type": "object"}}]}),
        "tables": {"type": "object", "additionalProperties": TABLE},
        "channels": _named(_lifted(ChannelSpec, definitions, "channels")),
        "queries": _named({"anyOf": [_query(kind, definitions) for kind in (TableQuery, ChannelQuery, SqlQuery)]}),
        "pages": {"type": "object", "additionalProperties": TEXT},
        "tests": {"type": "array", "items": _lifted(FlowTest, definitions, "tests")},
    }
    for section in SECTIONS:
        properties[section] = _named(_node(section, definitions, pack))
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema", "title": "Millstream flow", "type": "object",
        "properties": properties, "required": ["flow"], "additionalProperties": False, "$defs": definitions,
    }  # fmt: skip


def _named(schema: dict[str, Any]) -> dict[str, Any]:
    return {"type": "object", "propertyNames": NAMES, "additionalProperties": schema}


def _node(section: str, definitions: dict[str, Any], pack: Path | None) -> dict[str, Any]:
    common: dict[str, Any] = {"about": TEXT, "where": EXPRESSION}
    if section != "sinks":
        common["key"] = EXPRESSION
    found = {name: _kind(cls, definitions) for name, cls in kinds(section, pack)[0].items()}
    properties = {"was": TEXT, **common, **found}
    if section != "sources":
        properties["from"] = {"anyOf": [TEXT, {"type": "array", "items": TEXT, "minItems": 1}]}
        properties["on_error"] = {"enum": list(ON_ERROR)}
    if section == "operators":
        step = {"type": "object", "properties": common | found, "additionalProperties": False}
        properties["steps"] = {"type": "array", "items": step, "minItems": 1}
    needed = {} if section == "sources" else {"required": ["from"]}
    return {"type": "object", "properties": properties, "additionalProperties": False, **needed}


def _kind(cls: type[Component], definitions: dict[str, Any]) -> dict[str, Any]:
    whole = _lifted(cls, definitions, f"{cls.section}.{cls.kind}")
    if cls.shorthand:
        names = {field.alias or name: name for name, field in cls.model_fields.items()}
        alone = whole["properties"][next(alias for alias, name in names.items() if name == cls.shorthand)]
        whole = dict(alone) if len(cls.model_fields) == 1 else {"anyOf": [whole, alone]}
    if not any(field.is_required() for field in cls.model_fields.values()):
        whole = {"anyOf": [whole, {"type": "null"}]}
    return whole | {"description": summary(cls)}


def _query(kind: type[TableQuery] | type[ChannelQuery] | type[SqlQuery], definitions: dict[str, Any]) -> dict[str, Any]:
    """Return the schema of a kind of query, as it is written: `get: /path` is its method and path."""
    schema = _lifted(kind, definitions, f"queries.{kind.kind}")
    methods = METHODS if kind is SqlQuery else ("get",)
    del schema["properties"]["method"]
    schema["properties"] |= dict.fromkeys(methods, schema["properties"].pop("path"))
    schema["required"] = [name for name in schema["required"] if name not in ("method", "path")]
    return schema | {"oneOf": [{"required": [name]} for name in methods]}


def _lifted(model: Any, definitions: dict[str, Any], prefix: str) -> dict[str, Any]:
    """Return a model's schema with its definitions moved to those of the whole."""
    schema: dict[str, Any] = model.model_json_schema(ref_template=f"#/$defs/{prefix}.{{model}}")
    for name, inner in schema.pop("$defs", {}).items():
        told = _settable(inner)
        alone = {"enum": inner["properties"]["type"]["enum"]} if name in TYPE_ALONE else None
        definitions[f"{prefix}.{name}"] = {"anyOf": [told, alone]} if alone else told
    return _settable(schema)


def _settable(schema: dict[str, Any]) -> dict[str, Any]:
    """Return a model's schema in which any option may be `${setting}`."""
    return schema | {"properties": {name: _or_setting(inner) for name, inner in schema.get("properties", {}).items()}}


def _or_setting(schema: dict[str, Any]) -> dict[str, Any]:
    if schema.get("type") == "string" and "pattern" not in schema and "enum" not in schema:
        return schema
    found = dict(schema)
    for part in ("items", "additionalProperties"):
        if isinstance(found.get(part), dict):
            found[part] = _or_setting(found[part])
    told = ("title", "description", "default")
    outer: dict[str, Any] = {name: found.pop(name) for name in told if name in found}
    return {"anyOf": [found, SETTING], **outer} if found else outer
