"""How PostgreSQL makes values of a column those of another type: what fits, what it becomes, and what is lost."""

from engine.rows import TEXT_BYTES
from engine.table import Column
from engine.table_conversion import CUT, EMPTIED, EXACT, ROUNDED, Conversion

_WHOLE = "(CASE WHEN ABS({x}) < 9.2e18 THEN ROUND({x}) END)"
_DAY = "{x} ~ '^[0-9]{{4}}-[0-9]{{2}}-[0-9]{{2}}$'"
_MOMENT = "{x} ~ '^[0-9]{{4}}-[0-9]{{2}}-[0-9]{{2}}[T ][0-9]{{2}}(:[0-9]{{2}}){{2}}([.][0-9]{{1,6}})?Z?$'"
_IS = "CASE WHEN FORM THEN pg_temp.millstream_is({x}, 'KIND') END"
NONE = Conversion("FALSE", "NULL")
PREPARE = """
CREATE OR REPLACE FUNCTION pg_temp.millstream_is(given text, kind text) RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN
    EXECUTE format('SELECT %L::%s', given, kind);
    RETURN TRUE;
EXCEPTION WHEN data_exception THEN
    RETURN FALSE;
END $$
"""
"""Makes what tells whether a text can be a value of a type, for the session: only version 16 has that by itself."""

_TEXTS = {"bool": "{x}::int::text", "time": "to_char({x}, 'YYYY-MM-DD HH24:MI:SS.US')"}
_CONVERSIONS = {
    ("int", "number"): Conversion(EXACT, "{x}::float8", "{x}::float8", "are beyond 2^53 and would be rounded"),
    ("int", "bool"): Conversion("{x} IN (0, 1)", "{x} = 1"),
    ("number", "bool"): Conversion("{x} IN (0, 1)", "{x} = 1"),
    ("bool", "int"): Conversion("TRUE", "{x}::int::bigint"),
    ("bool", "number"): Conversion("TRUE", "{x}::int::float8"),
    ("text", "bool"): Conversion("{x} IN ('0', '1')", "{x} = '1'"),
    ("text", "int"): Conversion("{x} ~ '^-?[0-9]{{1,18}}$'", "{x}::bigint"),
    ("text", "number"): Conversion("{x} ~ '^-?[0-9]{{1,200}}([.][0-9]+)?([eE][-+]?[0-9]{{1,2}})?$'", "{x}::float8"),
    ("text", "date"): Conversion(_IS.replace("FORM", _DAY).replace("KIND", "date"), "{x}::date"),
    ("text", "time"): Conversion(_IS.replace("FORM", _MOMENT).replace("KIND", "timestamp"), "{x}::timestamp"),
    ("text", "json"): Conversion("pg_temp.millstream_is({x}, 'json')", "{x}::json"),
    ("number", "int"): Conversion("{x} = " + _WHOLE, f"{_WHOLE}::bigint", f"{_WHOLE}::bigint", ROUNDED),
    ("date", "time"): Conversion("TRUE", "{x}::timestamp"),
    ("time", "date"): Conversion(
        "{x} = date_trunc('day', {x})", "{x}::date", "{x}::date", "would lose their time of day"
    ),
}  # fmt: skip


def conversion(old: Column, new: Column) -> Conversion:
    """Return how values become those of the new type; what is not known to convert is emptied."""
    if new.type == "text" and old.type != "bytes":
        return _to_text(old, new)
    return _CONVERSIONS.get((old.type, new.type), NONE)


def _to_text(old: Column, new: Column) -> Conversion:
    text = _TEXTS.get(old.type, "{x}::text")
    fits = f"char_length({text}) <= {new.length}" if new.length else f"octet_length({text}) <= {TEXT_BYTES}"
    if old.type == "text" and new.length:
        return Conversion(fits, text, f"substr({{x}}, 1, {new.length})", CUT)
    return Conversion(fits, text, loss=EMPTIED)
