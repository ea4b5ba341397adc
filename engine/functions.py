"""The function library of the expression language: `FUNCTIONS` by name, in the order of the documentation."""

from collections.abc import Mapping
from types import MappingProxyType

from engine import functions_codec, functions_list, functions_number, functions_text, functions_time
from engine.errors import did_you_mean
from engine.function_registry import Function, Parameter, function

_MODULES = (functions_text, functions_number, functions_time, functions_list, functions_codec)

FUNCTIONS: Mapping[str, Function] = MappingProxyType(
    {found.name: found for module in _MODULES for found in vars(module).values() if isinstance(found, Function)}
)

_HABITS = {
    "str": "text", "len": "length", "float": "number", "strip": "trim", "startswith": "starts_with",
    "endswith": "ends_with", "isinstance": "type_of", "type": "type_of", "ifnull": "if_none", "isnull": "exists",
    "average": "mean", "avg": "mean", "sorted": "sort", "set": "unique", "search": "matches", "match": "matches",
    "datetime": "time", "timestamp": "unix", "concat": "join", "strftime": "format_time",
}  # fmt: skip


def suggestion(name: str) -> str:
    """Return a hint for the name of a function that does not exist, or an empty text."""
    if name in ("now", "today", "utcnow"):
        return "an expression has no clock; use meta.time"
    habit = _HABITS.get(name.lower())
    return f"did you mean '{habit}'?" if habit else did_you_mean(name, FUNCTIONS)


__all__ = ["FUNCTIONS", "Function", "Parameter", "function", "suggestion"]
