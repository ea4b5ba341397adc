"""Write one Python function that makes the rows of a table from events, with every check of a value inlined.

It is the quick way of `engine.rows`: a value that it does not know to be right at once it leaves to `careful`, which
converts the event or tells what is wrong with it. Rows are tuples for SQLite; for MySQL and MariaDB they are what
stands behind VALUES: `(1,'LED',X'00')`.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import nullcontext
from datetime import UTC, date, datetime
from typing import Any

import msgspec

from engine.code_writer import Code
from engine.event import MICROSECONDS, Event, moment
from engine.rows import INT_LIMIT, TEXT_BYTES, converter, time_text
from engine.table import Column

Careful = Callable[[Event], Any]
Encode = Callable[[Sequence[Event], Careful], list[Any]]

REMEMBERED, SHORT = 10_000, 100
YEAR_2100 = 4_102_444_800
_ESCAPES = str.maketrans({
    "\0": "\\0", "\n": "\\n", "\r": "\\r", "\x1a": "\\Z", '"': '\\"', "'": "\\'", "\\": "\\\\",
})  # fmt: skip
_TEXT = ("type({v}) is str and len({v}) <= {most} and ({v}.isascii() or {v}.encode())", "{v}")
_CHECKS: dict[str, tuple[tuple[str, str], ...]] = {
    "serial": (("type({v}) is int and 0 < {v} < INT_LIMIT", "{v}"),),
    "int": (("type({v}) is int and -INT_LIMIT <= {v} < INT_LIMIT", "{v}"),),
    "number": (("type({v}) is float and {v} - {v} == 0.0", "{v}"), ("type({v}) is int", "float({v})")),
    "bool": (("{v} is True", "1"), ("{v} is False", "0")),
    "text": (_TEXT,),
    "time": (
        ("type({v}) is datetime and {v}.tzinfo is UTC", 'f"{{seconds[{v}.timestamp() // 1]}}.{{{v}.microsecond:06d}}"'),
        ("type({v}) is str", "{convert}({v})"),
    ),
    "date": (("type({v}) is str", "date.fromisoformat({v}).isoformat()"),),
    "json": (("True", "to_json({v}).decode()"),),
    "bytes": (("type({v}) is bytes", "{v}"),),
}
_LITERALS = dict.fromkeys(("number", "json", "bytes"), "literal({})") | dict.fromkeys(
    ("time", "date"), '"\'" + {} + "\'"'
)


def literal(value: Any) -> str:
    """Return a value as MySQL and MariaDB read it where a backslash escapes; its text must be UTF-8."""
    if isinstance(value, str):
        return f"'{value.translate(_ESCAPES)}'"
    if isinstance(value, bytes):
        return f"_binary X'{value.hex()}'"
    if isinstance(value, float):
        return repr(value) if "e" in repr(value) else f"{value!r}e0"
    return "NULL" if value is None else str(value)


def literals(values: Iterable[Any]) -> str:
    """Return a row as it stands behind VALUES."""
    return f"({','.join(map(literal, values))})"


def row_encoder(
    columns: Sequence[Column], expressions: Mapping[str, Callable[[Event], Any]], *, as_literals: bool
) -> Encode:
    """Return what gives a row for each event: the columns in their order, then the event's id.

    What is not known to be right goes to `careful`, which returns the row, or None to leave the event out.
    """

    def write(code: Code) -> str:
        parts = [_column(code, column, expressions.get(column.name), as_literals) for column in columns]
        return _row(parts, as_literals)

    return _compiled(write)


def values_encoder(columns: Sequence[Column], expressions: Mapping[str, Callable[[Event], Any]]) -> Encode:
    """Return what gives the values of each event by column, as `RowValues` does: what it does not name is left out."""

    def write(code: Code) -> str:
        code.line("r = {}")
        for column in columns:
            expression = expressions.get(column.name)
            always = expression is not None or column.type == "time"
            with nullcontext() if always else code.block(f"if {column.name!r} in d:"):
                code.line(f"r[{column.name!r}] = {_column(code, column, expression, as_literals=False)}")
        return "r"

    return _compiled(write)


def _compiled(write: Callable[[Code], str]) -> Encode:
    """Return the function: `write` adds the lines for the event `e` with the data `d` and returns the row's source."""
    code = Code()
    code.line("rows = []")
    code.line("add = rows.append")
    with code.block("for e in events:"):
        with code.block("try:"):
            code.line("d = e.data")
            code.line(f"add({write(code)})")
        with code.block("except Exception:"), code.block("if (row := careful(e)) is not None:"):
            code.line("add(row)")
    code.line("return rows")
    names: dict[str, Any] = {
        "datetime": datetime, "date": date, "UTC": UTC, "INT_LIMIT": INT_LIMIT, "to_json": msgspec.json.encode,
        "literal": literal, "seconds": Seconds(),
    }  # fmt: skip
    names |= code.constants
    source = "\n".join(["def encode(events, careful):", *code.lines])
    exec(compile(source, "<rows>", "exec"), names)  # noqa: S102 - written here; values come in by name only
    encode: Encode = names["encode"]
    return encode


def _row(parts: list[str], as_literals: bool) -> str:
    if as_literals:
        return 'f"(' + "".join(f"{{{part}}}," for part in parts) + "X'{e.id.hex()}')\""
    return f"({', '.join([*parts, 'e.id'])},)"


def _column(code: Code, column: Column, expression: Callable[[Event], Any] | None, as_literals: bool) -> str:
    """Write the check of one column; return the variable that holds its value."""
    value = code.name("v")
    code.line(f"{value} = " + (f"{code.bind(expression)}(e)" if expression else f"d.get({column.name!r})"))
    if as_literals and column.type == "text":
        code.line(f"{value} = {code.bind(Quoted(_most(column)))}[{value}]")
        return value
    written = _LITERALS.get(column.type, "{}") if as_literals else "{}"
    with code.block(f"if {value} is None:"):
        if column.type == "time" and expression is None:
            code.line("s, u = divmod(e.time, 1_000_000)")
            code.line(f"{value} = " + written.format('f"{seconds[s]}.{u:06d}"'))
        else:
            code.line(f"{value} = {'NULL' if as_literals else None!r}")
    convert = code.bind(converter(column))
    for condition, right in _CHECKS[column.type]:
        with code.block("elif " + condition.format(v=value, most=_most(column)) + ":"):
            code.line(f"{value} = " + written.format(right.format(v=value, convert=convert)))
    with code.block("else:"):
        code.line("raise ValueError")
    return value


def _most(column: Column) -> int:
    """Return how many characters fit whatever they are."""
    return column.length or TEXT_BYTES // 4


class Quoted(dict[Any, str]):
    """The literal of each text; the short ones are remembered, since devices say the same again and again."""

    def __init__(self, most: int) -> None:
        super().__init__({None: "NULL"})
        self._most = most

    def __missing__(self, text: Any) -> str:
        if type(text) is not str or len(text) > self._most or not (text.isascii() or text.encode()):
            raise ValueError(text)
        made = literal(text)
        if len(text) <= SHORT:
            if len(self) >= REMEMBERED:
                self.clear()
                self[None] = "NULL"
            self[text] = made
        return made


class Seconds(dict[float, str]):
    """The text of each second since 1970 that events had lately, in UTC and without a fraction."""

    def __missing__(self, second: float) -> str:
        if not 0 <= second < YEAR_2100:
            raise ValueError(second)
        if len(self) >= REMEMBERED:
            self.clear()
        self[second] = made = time_text(moment(int(second) * MICROSECONDS))[:19]
        return made
