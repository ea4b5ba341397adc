"""Say pydantic's errors as findings: what is expected, what was found, and the name that was meant."""

import re
from typing import Any

import msgspec
from pydantic import BaseModel, SecretStr, ValidationError
from pydantic_core import ErrorDetails

from engine.document import Document, Where
from engine.errors import did_you_mean
from engine.quantities import duration_text, is_duration

_EXPECTED = {
    "int_type": "a whole number",
    "int_parsing": "a whole number",
    "int_parsing_size": "a whole number of at most 64 bits",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "float_parsing": "a number",
    "finite_number": "a finite number",
    "bool_type": "true or false",
    "bool_parsing": "true or false",
    "string_type": "text",
    "list_type": "a list",
    "tuple_type": "a list",
    "dict_type": "a mapping",
    "model_type": "a mapping of options",
    "mapping_type": "a mapping",
    "greater_than": "more than {gt:g}",
    "greater_than_equal": "at least {ge:g}",
    "less_than": "less than {lt:g}",
    "less_than_equal": "at most {le:g}",
    "too_short": "a list of {min_length} or more",
    "too_long": "a list of {max_length} or fewer",
    "string_too_short": "at least {min_length} characters",
    "string_too_long": "at most {max_length} characters",
    "string_pattern_mismatch": "text like {pattern}",
}
_QUANTITIES = ("duration", "rate", "size")
_BOUNDS = ("greater_than", "greater_than_equal", "less_than", "less_than_equal")
_HINT = re.compile(r"(?P<message>.*) \((?P<hint>did you mean '[^']*'\?)\)", re.DOTALL)
Path = tuple[int | str, ...]


def shown(value: Any) -> str:
    """Return a value as it may stand in a message: short, and never a secret."""
    if isinstance(value, SecretStr):
        return "a secret"
    if isinstance(value, dict):
        return "a mapping" if value else "nothing"
    if value is None:
        return "nothing"
    if isinstance(value, list | tuple):
        text = msgspec.json.encode(value, enc_hook=_hidden).decode()
    else:
        text = f"'{value}'" if isinstance(value, str) else str(value).lower() if isinstance(value, bool) else str(value)
    return text if len(text) <= 80 else text[:77] + "…"


def _hidden(value: Any) -> str:
    return "a secret" if isinstance(value, SecretStr) else str(value)


def report(
    document: Document, fault: ValidationError, where: Where, model: type[BaseModel], *, node: str, strip: str = "",
    option: str = "",
) -> None:  # fmt: skip
    """Add a finding for each of pydantic's errors.

    `strip` is the shorthand option that the file does not spell; `option` is what the options' names begin with.
    """
    errors = [(error, _path(document, where, error, model, strip)) for error in fault.errors()]
    said: dict[Path, list[tuple[str, str, str]]] = {}
    for error, path in errors:
        written = _as_written(document, (*where, *_spelt(path, strip)), error)
        said.setdefault(path, []).append(_say(written, model, path))
    misspelt = {hint for found in said.values() for _, _, hint in found}
    for error, path in errors:
        found = said.pop(path, [])
        if not found or (error["type"] == "missing" and f"did you mean '{path[-1]}'?" in misspelt):
            continue
        spelt = _spelt(path, strip)
        (code, message, hint), (text, offset) = _joined(found), _place(error)
        name = ".".join(map(str, (*([option] if option else ()), *spelt)))
        document.find(code, (*where, *spelt), message, node=node, option=name, hint=hint, text=text, offset=offset)


def _spelt(path: Path, strip: str) -> Path:
    return path[1:] if strip and path and path[0] == strip else path


def _as_written(document: Document, where: Where, error: ErrorDetails) -> ErrorDetails:
    """Return an error of a bound with a duration or size as the file has it, not as what it was read to."""
    written = document.said(where) if error["type"] in _BOUNDS and document.has(where) else None
    return {**error, "input": written} if is_duration(written) else error


def _joined(found: list[tuple[str, str, str]]) -> tuple[str, str, str]:
    """Return what the branches of a union expect as one."""
    code, message, hint = found[0]
    _, got, value = message.rpartition("; got ")
    expected = dict.fromkeys(text.rpartition("; got ")[0] or text for _, text, _ in found)
    return (code, f"{', or '.join(expected)}{got}{value}", hint) if len(found) > 1 else found[0]


def _path(document: Document, where: Where, error: ErrorDetails, model: type[BaseModel], strip: str) -> Path:
    """Return where an error is in the file: without the names that pydantic puts in for the parts of unions."""
    found: list[int | str] = []
    own = len(error["loc"]) - 1 if error["type"] in ("extra_forbidden", "missing") else -1
    for number, part in enumerate(error["loc"]):
        spelt = found[1:] if strip and found[:1] == [strip] else found
        spoken = number == own or document.has((*where, *spelt, part))
        if spoken or not (isinstance(part, str) and _invented(part)):
            found.append(part)
    named = tuple(_named(error)[0].split("."))
    spelt = found[1:] if strip and found[:1] == [strip] else found
    if named[0] and (document.has((*where, *spelt, *named)) or named[0] in _options(model, tuple(found))):
        found += named
    return tuple(found)


def _invented(part: str) -> bool:
    return (
        any(mark in part for mark in "[]()")
        or part.startswith("constrained-")
        or part in ("str", "int", "float", "bool")
    )


def _named(error: ErrorDetails) -> tuple[str, str]:
    """Return the option that a model's own check names (`every: longer than nothing`), and what is expected."""
    context = error.get("ctx") or {}
    message = str(context.get("error", error["msg"])) if error["type"] == "value_error" else error["msg"]
    option, colon, rest = message.partition(": ")
    named = bool(colon) and error["type"] == "value_error" and option.replace(".", "").replace("_", "").isalnum()
    return (option, rest) if named else ("", message)


def _place(error: ErrorDetails) -> tuple[str, int | None]:
    """Return the text of an expression that is at fault, and the column in it."""
    value, context = error.get("input"), error.get("ctx") or {}
    if error["type"] != "expression" or not isinstance(value, str):
        return "", None
    return value, int(context.get("column") or 0)


def _say(error: ErrorDetails, model: type[BaseModel], path: Path) -> tuple[str, str, str]:
    kind, value, context = error["type"], error.get("input"), error.get("ctx") or {}
    if kind == "extra_forbidden":
        known = _options(model, path[:-1])
        got = str(path[-1])
        return "unknown-option", f"one of {', '.join(known)}; got '{got}'", did_you_mean(got, known)
    if kind == "missing":
        return "missing-option", "required, but missing", ""
    if kind in ("literal_error", "enum"):
        wanted = str(context.get("expected", "")).replace("'", "").replace(" or ", ", ")
        return "option-value", f"one of {wanted}; got {shown(value)}", did_you_mean(str(value), wanted.split(", "))
    if kind == "expression":
        joint = "in" if isinstance(value, str) else "got"
        return kind, f"{error['msg']}; {joint} {shown(value)}", str(context.get("hint") or "")
    if kind in _QUANTITIES:
        return kind, f"{error['msg']}; got {shown(value)}", ""
    expected = _expected(error, path)
    hinted = _HINT.fullmatch(expected)
    return ("option-value", hinted["message"], hinted["hint"]) if hinted else ("option-value", expected, "")


def _expected(error: ErrorDetails, path: Path) -> str:
    """Return what is expected, and what was found instead where that says more than "a mapping"."""
    template = _EXPECTED.get(error["type"])
    value = error.get("input")
    if template is not None:
        return f"{_bound(template, error.get('ctx') or {}, value)}; got {shown(value)}"
    option, message = _named(error)
    parts = option.split(".") if option else []
    if parts and list(map(str, path[-len(parts) :])) == parts:
        value = _inside(value, parts)
    elif parts:
        message = f"{option}: {message}"
    expected = message[:1].lower() + message[1:]
    return expected if isinstance(value, dict) or "; got " in expected else f"{expected}; got {shown(value)}"


def _bound(template: str, context: dict[str, Any], value: Any) -> str:
    """Return what is expected; the bound of a duration as a flow writes it."""
    bound = next((context[name] for name in ("gt", "ge", "lt", "le") if context.get(name)), None)
    if bound is not None and is_duration(value):
        return template.partition("{")[0] + duration_text(int(bound))
    return template.format(**context)


def _inside(value: Any, parts: list[str]) -> Any:
    for part in parts:
        value = value.get(part) if isinstance(value, dict) else {}
    return value


def _options(model: type[BaseModel], path: Path) -> list[str]:
    """Return the option names of the model that a location lies in."""
    found: Any = model
    for part in path:
        fields = getattr(found, "model_fields", {})
        by_alias = {field.alias or name: field for name, field in fields.items()}
        annotation = by_alias[str(part)].annotation if str(part) in by_alias else found
        found = _inner_model(annotation) or found
    return sorted(field.alias or name for name, field in found.model_fields.items())


def _inner_model(annotation: Any) -> Any:
    if hasattr(annotation, "model_fields"):
        return annotation
    inner = (_inner_model(argument) for argument in getattr(annotation, "__args__", ()))
    return next((model for model in inner if model), None)
