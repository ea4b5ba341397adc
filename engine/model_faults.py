"""Say pydantic's errors as findings: what is expected, what was found, and the name that was meant."""

from typing import Any

from pydantic import BaseModel, SecretStr, ValidationError
from pydantic_core import ErrorDetails

from engine.document import Document, Where
from engine.errors import did_you_mean

_EXPECTED = {
    "int_type": "a whole number",
    "int_parsing": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "float_parsing": "a number",
    "bool_type": "true or false",
    "bool_parsing": "true or false",
    "string_type": "text",
    "list_type": "a list",
    "tuple_type": "a list",
    "dict_type": "a mapping",
    "model_type": "a mapping of options",
    "mapping_type": "a mapping",
}


def shown(value: Any) -> str:
    """Return a value as it may stand in a message: short, and never a secret."""
    if isinstance(value, SecretStr):
        return "a secret"
    if isinstance(value, dict):
        return "a mapping" if value else "nothing"
    if value is None:
        return "nothing"
    text = f"'{value}'" if isinstance(value, str) else str(value).lower() if isinstance(value, bool) else str(value)
    return text if len(text) <= 80 else text[:77] + "…"


def report(
    document: Document, fault: ValidationError, where: Where, model: type[BaseModel], *, node: str, strip: str = ""
) -> None:
    """Add a finding for each of pydantic's errors; `strip` is the shorthand option that the file does not spell."""
    for error in fault.errors():
        path = tuple(part for part in error["loc"] if not (isinstance(part, str) and _invented(part)))
        spelt = path[1:] if strip and path and path[0] == strip else path
        code, message, hint = _say(error, model, path)
        document.find(code, (*where, *spelt), message, node=node, option=".".join(map(str, spelt)), hint=hint)


def _invented(part: str) -> bool:
    """Tell the names that pydantic puts into locations of unions: they are not in the file."""
    return any(mark in part for mark in "[]()") or part in ("str", "int", "float", "bool")


def _say(error: ErrorDetails, model: type[BaseModel], path: tuple[int | str, ...]) -> tuple[str, str, str]:
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
    if kind in ("expression", "duration", "rate", "size"):
        return kind, f"{error['msg']}; got {shown(value)}", str(context.get("hint") or "")
    said = error["msg"].removeprefix("Value error, ")
    expected = _EXPECTED.get(kind) or said[0].lower() + said[1:]
    return "option-value", f"{expected}; got {shown(value)}", ""


def _options(model: type[BaseModel], path: tuple[int | str, ...]) -> list[str]:
    """Return the option names of the model that a location lies in."""
    found: Any = model
    for part in path:
        annotation = (
            found.model_fields[part].annotation
            if hasattr(found, "model_fields") and part in found.model_fields
            else found
        )
        found = _inner_model(annotation) or found
    return sorted(found.model_fields)


def _inner_model(annotation: Any) -> Any:
    if hasattr(annotation, "model_fields"):
        return annotation
    inner = (_inner_model(argument) for argument in getattr(annotation, "__args__", ()))
    return next((model for model in inner if model), None)
