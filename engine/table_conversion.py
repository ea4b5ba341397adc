"""How the values of a column become those of another type: what fits, what it becomes, and what is lost."""

import re
from typing import NamedTuple

from engine.rows import TEXT_BYTES
from engine.table import Column

_KINDS = (
    (r"VARCHAR\((\d+)\)", "text"), (r"LONGTEXT|JSON", "json"), (r"TEXT", "text"), (r"TINYINT\(1\)", "bool"),
    (r"(BIG)?INT(EGER)?", "int"), (r"DOUBLE( PRECISION)?", "number"),
    (r"DATETIME(\(6\))?|TIMESTAMP WITHOUT TIME ZONE", "time"), (r"DATE", "date"), (r"(LONG)?BLOB|BYTEA", "bytes"),
)  # fmt: skip
_SAFE = {("int", "number"), ("int", "text"), ("bool", "int"), ("bool", "number"), ("date", "time"), ("date", "text")}
_DIGITS = {"int": 20, "date": 10}
EXACT = "ABS({x}) <= 9007199254740992"
_WHOLE = "CASE WHEN ABS({x}) < 9.2e18 THEN ROUND({x}) END"
_MOMENT = "REPLACE(REPLACE({x}, 'T', ' '), 'Z', '')"
_DAY = "[0-9][0-9][0-9][0-9]-[0-9][0-9]-[0-9][0-9]"
ROUNDED, EMPTIED, CUT = "would be rounded", "cannot be converted and would be emptied", "are longer and would be cut"


class Conversion(NamedTuple):
    """SQL over a column `{x}`: which values fit, what they become, what the others become, and how to say that.

    For MySQL the new values still have the old type: the column is changed when they fit.
    """

    fits: str
    value: str = "{x}"
    other: str = "NULL"
    loss: str = EMPTIED


_BOTH = {
    ("int", "number"): Conversion(EXACT, other="{x}", loss="are beyond 2^53 and would be rounded"),
    ("int", "bool"): Conversion("{x} IN (0, 1)"),
    ("number", "bool"): Conversion("{x} IN (0, 1)"),
    ("bool", "int"): Conversion("1"),
    ("bool", "number"): Conversion("1"),
    ("text", "bool"): Conversion("{x} IN ('0', '1')"),
}
_SQLITE = {
    ("text", "int"): Conversion("CAST(CAST({x} AS INTEGER) AS TEXT) = {x}", "CAST({x} AS INTEGER)"),
    ("text", "number"): Conversion(
        "CASE WHEN json_valid({x}) THEN json_type({x}) IN ('integer', 'real') END", "CAST({x} AS REAL)"
    ),
    ("text", "date"): Conversion("{x} GLOB '" + _DAY + "' AND date({x}, '+0 days') = {x}"),
    ("text", "time"): Conversion(
        "{x} GLOB '" + _DAY + "[T ][0-9][0-9]:[0-9][0-9]:[0-9][0-9]*'"
        f" AND strftime('%Y-%m-%d %H:%M:%S', {_MOMENT}, '+0 days') = substr({_MOMENT}, 1, 19)",
        f"substr({_MOMENT} || CASE WHEN {{x}} GLOB '*.*' THEN '000000' ELSE '.000000' END, 1, 26)",
    ),
    ("text", "json"): Conversion("json_valid({x})"),
    ("number", "int"): Conversion(
        "{x} = " + _WHOLE, f"CAST({_WHOLE} AS INTEGER)", f"CAST({_WHOLE} AS INTEGER)", ROUNDED
    ),
    ("date", "time"): Conversion("1", "{x} || ' 00:00:00.000000'"),
    ("time", "date"): Conversion(
        "substr({x}, 12) = '00:00:00.000000'",
        "substr({x}, 1, 10)",
        "substr({x}, 1, 10)",
        "would lose their time of day",
    ),
}
_MYSQL = {
    ("text", "int"): Conversion("{x} REGEXP '^-?[0-9]{{1,18}}$'"),
    ("text", "number"): Conversion("{x} REGEXP '^-?[0-9]+([.][0-9]+)?([eE][-+]?[0-9]{{1,2}})?$'"),
    ("text", "date"): Conversion("{x} REGEXP '^" + _DAY + "$' AND CAST({x} AS DATE) IS NOT NULL"),
    ("text", "time"): Conversion(
        f"{_MOMENT} REGEXP '^" + _DAY + " [0-9]{{2}}(:[0-9]{{2}}){{2}}([.][0-9]{{1,6}})?$'"
        f" AND CAST({_MOMENT} AS DATETIME(6)) IS NOT NULL",
        _MOMENT,
    ),
    ("text", "json"): Conversion("JSON_VALID({x})"),
    ("number", "int"): Conversion("{x} = " + _WHOLE, other=_WHOLE, loss=ROUNDED),
    ("date", "time"): Conversion("1"),
    ("time", "date"): Conversion("{x} = DATE({x})", other="DATE({x})", loss="would lose their time of day"),
}


def kind_of(name: str, sql_type: str) -> Column | None:
    """Return the column that a database's type stands for; None: it is none of ours."""
    for pattern, kind in _KINDS:
        if found := re.fullmatch(pattern, sql_type):
            return Column(name, kind, int(found[1]) if kind == "text" and found.groups() else None)
    return None


def widens(old: Column, new: Column) -> bool:
    """Tell whether every value of a type is one of the other, whatever the rows hold."""
    if old.type == new.type == "text":
        return new.length is None or (old.length is not None and new.length >= old.length)
    if (old.type, new.type) not in _SAFE:
        return False
    return new.type != "text" or new.length is None or new.length >= _DIGITS[old.type]


def conversion(old: Column, new: Column, mysql: bool) -> Conversion:
    """Return how values become those of the new type; what is not known to convert is emptied."""
    if new.type == "text" and old.type != "bytes":
        return _to_text(old, new, mysql)
    pair = (old.type, new.type)
    return _BOTH.get(pair) or (_MYSQL if mysql else _SQLITE).get(pair, Conversion("0"))


def _to_text(old: Column, new: Column, mysql: bool) -> Conversion:
    text = "{x}" if old.type == "text" else "CAST({x} AS CHAR)" if mysql else "CAST({x} AS TEXT)"
    length, octets = ("CHAR_LENGTH", "OCTET_LENGTH({0})") if mysql else ("length", "length(CAST({0} AS BLOB))")
    fits = f"{length}({text}) <= {new.length}" if new.length else f"{octets.format(text)} <= {TEXT_BYTES}"
    value = "{x}" if mysql else text
    if old.type == "text" and new.length:
        return Conversion(fits, value, f"substr({{x}}, 1, {new.length})", CUT)
    return Conversion(fits, value)
