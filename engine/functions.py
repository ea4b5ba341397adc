"""The function library of the expression language: `FUNCTIONS` by name, in the order of the documentation."""

from collections.abc import Mapping
from types import MappingProxyType

from engine import (
    functions_calendar,
    functions_codec,
    functions_items,
    functions_list,
    functions_math,
    functions_number,
    functions_text,
    functions_time,
    functions_writing,
)
from engine.errors import did_you_mean
from engine.function_registry import Function, Parameter, function

SUBJECTS = {
    "Text": (functions_text, functions_writing),
    "Numbers": (functions_number, functions_math),
    "Times": (functions_time, functions_calendar),
    "Lists, dicts, and what is missing": (functions_list, functions_items),
    "Hashes, base64, addresses and JSON": (functions_codec,),
}
"""The modules of the functions by what they are about, in the order of the documentation."""

FUNCTIONS: Mapping[str, Function] = MappingProxyType(
    {
        found.name: found
        for modules in SUBJECTS.values()
        for module in modules
        for found in vars(module).values()
        if isinstance(found, Function)
    }
)

_HABITS = {
    "str": "text", "len": "length", "float": "number", "strip": "trim", "startswith": "starts_with",
    "endswith": "ends_with", "isinstance": "type_of", "type": "type_of", "ifnull": "if_none", "isnull": "exists",
    "average": "mean", "avg": "mean", "sorted": "sort", "set": "unique", "search": "matches", "match": "matches",
    "datetime": "time", "timestamp": "unix", "concat": "join", "strftime": "format_time", "strptime": "parse_time",
    "pow": "power", "ln": "log", "bool": "boolean", "indexof": "index_of", "lpad": "pad", "rpad": "pad",
    "regexp_replace": "replace_pattern", "re_replace": "replace_pattern", "re_find_all": "captures",
    "title": "capitalize", "trim_prefix": "without_start", "removeprefix": "without_start",
    "trim_suffix": "without_end", "removesuffix": "without_end", "date_diff": "elapsed", "datediff": "elapsed",
    "date_add": "later", "dateadd": "later", "date_trunc": "start_of", "items": "pairs", "map": "pluck",
    "assign": "merge", "without": "omit", "distinct": "unique", "cardinality": "length", "stdev": "stddev",
    "quantile": "percentile", "uuid5": "uuid", "to_fixed": "fixed", "tofixed": "fixed",
}  # fmt: skip


def suggestion(name: str) -> str:
    """Return a hint for the name of a function that does not exist, or an empty text."""
    if name in ("now", "today", "utcnow"):
        return "an expression has no clock; use meta.time"
    habit = _HABITS.get(name.lower())
    return f"did you mean '{habit}'?" if habit else did_you_mean(name, FUNCTIONS)


__all__ = ["FUNCTIONS", "SUBJECTS", "Function", "Parameter", "function", "suggestion"]
