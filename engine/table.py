"""One declared table: what a flow's `tables:` section says, read without a database."""

import re
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any

import msgspec

from engine.errors import SpecFault, SpecProblem, did_you_mean
from engine.live_spec import is_live, read_live

TYPES = ("serial", "int", "number", "bool", "text", "time", "date", "json", "bytes")
LONGEST_TEXT = 16_000
KEY_BYTES = 3072
ROW_BYTES = 65_000
VIEWS: dict[str, dict[str, str]] = {
    "accounts": {
        "id": "int", "username": "text(150)", "password_hash": "text(255)", "role": "text(20)", "created_at": "time",
    },
}  # fmt: skip

_ALIASES = {
    "integer": "int", "bigint": "int", "long": "int", "float": "number", "double": "number", "real": "number",
    "decimal": "number", "boolean": "bool", "str": "text", "string": "text", "varchar": "text", "char": "text",
    "datetime": "time", "timestamp": "time", "blob": "bytes", "binary": "bytes", "object": "json", "auto": "serial",
}  # fmt: skip
_TABLE_NAME = re.compile(r"[a-z][a-z0-9_]{0,47}")
_COLUMN_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,62}")
_TYPE = re.compile(r"(\w+)\s*(?:\(\s*(\w*)\s*\))?")
_REFERENCE = re.compile(r"(\w+)\.(\w+)")
_RESERVED = re.compile(r"accounts|sqlite_.*|millstream_.*")


class Column(msgspec.Struct, frozen=True):
    """A declared column. A reference has the type `int` until `engine.tables.resolved` gives it that of its target."""

    name: str
    type: str
    length: int | None = None
    references: tuple[str, str] | None = None

    def __str__(self) -> str:
        return f"text({self.length})" if self.length else self.type


class Table(msgspec.Struct, frozen=True):
    """A declared table, or with `view` a read-only view over a table of the system."""

    name: str
    columns: dict[str, Column]
    unique: list[list[str]] = []
    index: list[list[str]] = []
    view: str = ""
    live: tuple[str, ...] = ()
    """What its rows are found by in a running flow; nothing where the flow does not follow them."""

    @property
    def serial(self) -> str | None:
        """Return the name of the column that the database counts: the primary key."""
        return next((column.name for column in self.columns.values() if column.type == "serial"), None)

    @property
    def keys(self) -> list[list[str]]:
        """Return every list of columns whose values can occur only once, the primary key first."""
        return ([[self.serial]] if self.serial else []) + self.unique

    @classmethod
    def parse(cls, name: str, spec: Any) -> "Table":
        """Return the table that the YAML form declares; raises SpecFault with every problem at once."""
        problems = list(_name_problems(name))
        if not isinstance(spec, dict) or not spec:
            raise SpecFault([*problems, SpecProblem((), f"columns like {{id: serial, at: time}}; got {_shown(spec)}")])
        table = _view(name, spec, problems) if "view" in spec else _table(name, spec, problems)
        if problems:
            raise SpecFault(problems)
        return table


def _shown(value: Any) -> str:
    text = "nothing" if value is None or value == {} else f"'{value}'"
    return text if len(text) <= 80 else text[:79] + "…"


def _name_problems(name: Any) -> Iterator[SpecProblem]:
    if not isinstance(name, str) or not _TABLE_NAME.fullmatch(name):
        yield SpecProblem((), f"a table name of a-z, 0-9 and _, a letter first, at most 48; got {_shown(name)}")
    elif _RESERVED.fullmatch(name):
        yield SpecProblem((), f"a table name that the system does not use itself; got '{name}'", "a view can show it")


def _view(name: str, spec: dict[Any, Any], problems: list[SpecProblem]) -> Table:
    source = str(spec["view"])
    problems += [SpecProblem((str(key),), f"a view has no other option; got '{key}'") for key in spec if key != "view"]
    if source not in VIEWS:
        message = f"a table of the system ({', '.join(VIEWS)}); got {_shown(source)}"
        problems.append(SpecProblem(("view",), message, did_you_mean(source, VIEWS)))
    columns = (_column(key, value, problems) for key, value in VIEWS.get(source, {}).items())
    return Table(name, {column.name: column for column in columns if column}, view=source)


def _table(name: str, spec: dict[Any, Any], problems: list[SpecProblem]) -> Table:
    live = is_live(spec.get("live"))
    options = ("unique", "index", "live") if live else ("unique", "index")
    declared = {key: value for key, value in spec.items() if key not in options}
    columns = {}
    for key, value in declared.items():
        problems += _column_name_problems(key)
        if column := _column(str(key), value, problems):
            columns[column.name] = column
    problems += _whole_problems(columns)
    unique, index = (_groups(spec.get(option), option, declared, problems) for option in ("unique", "index"))
    by = read_live(spec.get("live"), columns, unique, problems) if live else ()
    table = Table(name, columns, unique, index, live=by)
    problems += [problem for option in ("unique", "index") for problem in _key_problems(table, option)]
    return table


def _column_name_problems(name: Any) -> Iterator[SpecProblem]:
    if name == "_event":
        yield SpecProblem((name,), "another name: '_event' makes a repeated write harmless")
    elif not isinstance(name, str) or not _COLUMN_NAME.fullmatch(name):
        message = f"a column name of letters, digits and _, a letter first, at most 63; got {_shown(name)}"
        yield SpecProblem((str(name),), message)


def _whole_problems(columns: dict[str, Column]) -> Iterator[SpecProblem]:
    serials = [column.name for column in columns.values() if column.type == "serial"]
    for extra in serials[1:]:
        yield SpecProblem((extra,), f"one serial a table, which is '{serials[0]}'; got another", "did you mean 'int'?")
    folded = Counter(name.lower() for name in columns)
    for name in columns:
        if folded[name.lower()] > 1:
            yield SpecProblem((name,), f"names that differ in more than upper and lower case; got '{name}'")
    size = sum(column.length * 4 + 2 for column in columns.values() if column.length)
    if size > ROW_BYTES:
        yield SpecProblem((), f"texts of at most {ROW_BYTES} bytes together (4 a character); got {size}", "use text")


def _column(name: str, value: Any, problems: list[SpecProblem]) -> Column | None:
    if not isinstance(value, str):
        problems.append(SpecProblem((name,), f"a type like int or text(50), or table.column; got {_shown(value)}"))
        return None
    if found := _REFERENCE.fullmatch(value.strip()):
        return Column(name, "int", references=(found[1], found[2]))
    found = _TYPE.fullmatch(value.strip())
    if found is None or found[1] not in TYPES:
        message = f"one of {', '.join(TYPES)}, or table.column; got '{value}'"
        problems.append(SpecProblem((name,), message, _type_hint(found[1] if found else value)))
        return None
    return _sized(name, found[1], found[2], problems)


def _type_hint(word: str) -> str:
    known = _ALIASES.get(word.lower())
    return f"did you mean '{known}'?" if known else did_you_mean(word.lower(), TYPES)


def _sized(name: str, kind: str, length: str | None, problems: list[SpecProblem]) -> Column:
    if length and kind != "text":
        problems.append(SpecProblem((name,), f"no length for {kind}; got '{length}'"))
    elif length and not (length.isdecimal() and 1 <= int(length) <= LONGEST_TEXT):
        hint = "text without a length takes 65,535 bytes"
        problems.append(SpecProblem((name,), f"a length of 1..{LONGEST_TEXT}; got '{length}'", hint))
    elif length:
        return Column(name, kind, int(length))
    return Column(name, kind)


def _groups(value: Any, option: str, declared: Iterable[Any], problems: list[SpecProblem]) -> list[list[str]]:
    known = [str(name) for name in declared]
    groups = value if isinstance(value, list) else [] if value is None else [value]
    for at, group in enumerate(groups):
        if not isinstance(group, list) or not group:
            hint = f"{option}: [[{group}]]"
            problems.append(SpecProblem((option, at), f"a list of columns; got {_shown(group)}", hint))
            continue
        for place, name in enumerate(group):
            if name not in known:
                message = f"one of {', '.join(known)}; got {_shown(name)}"
                problems.append(SpecProblem((option, at, place), message, did_you_mean(str(name), known)))
            elif name in group[:place]:
                problems.append(SpecProblem((option, at, place), f"each column once; got '{name}' again"))
    return [[str(name) for name in group] for group in groups if isinstance(group, list) and group]


def _key_problems(table: Table, option: str) -> Iterator[SpecProblem]:
    for at, group in enumerate(table.unique if option == "unique" else table.index):
        columns = [table.columns[name] for name in group if name in table.columns]
        for column in columns:
            if column.type in ("json", "bytes"):
                yield SpecProblem((option, at), f"columns that can be compared; '{column.name}' is {column.type}")
            elif column.type == "text" and not column.length:
                yield SpecProblem((option, at), f"texts with a length; '{column.name}' has none", "text(100)")
        size = sum(column.length * 4 if column.length else 8 for column in columns)
        if size > KEY_BYTES:
            yield SpecProblem((option, at), f"at most {KEY_BYTES} bytes (4 a character) in a key; got {size}")
