"""The option `live` of a table: what its rows are found by in a running flow."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from engine.errors import SpecProblem, did_you_mean

if TYPE_CHECKING:
    from engine.table import Column

KEYS = ("serial", "int", "text", "bool")


def is_live(value: Any) -> bool:
    """Tell whether `live:` is the option, not a column of this name."""
    return not isinstance(value, str)


def read_live(
    value: Any, columns: "dict[str, Column]", unique: list[list[str]], problems: list[SpecProblem]
) -> tuple[str, ...]:
    """Return the columns that rows are found by, none where the table is not live; notes every problem."""
    if value is None or value is False:
        return ()
    keys = [[column.name] for column in columns.values() if column.type == "serial"] + unique
    if value is True:
        if len(keys) == 1:
            return _checked(keys[0], columns, (), problems)
        ways = " or ".join(f"{{by: {_written(key)}}}" for key in keys) or "{by: id} and unique: [[id]]"
        problems.append(SpecProblem(("live",), f"what its rows are found by: {ways}; got true"))
        return ()
    if not isinstance(value, dict) or list(value) != ["by"]:
        problems.append(SpecProblem(("live",), f"true, or {{by: column}}; got {value!r}"))
        return ()
    by = value["by"] if isinstance(value["by"], list) else [value["by"]]
    names = [str(name) for name in by]
    found = _checked(names, columns, ("by",), problems)
    if found and sorted(names) not in [sorted(key) for key in keys]:
        said = f"columns whose values occur only once; {_written(names)} may occur again"
        problems.append(SpecProblem(("live", "by"), said, f"unique: [[{', '.join(names)}]]"))
    return found


def _checked(
    names: list[str], columns: "dict[str, Column]", where: tuple[str, ...], problems: list[SpecProblem]
) -> tuple[str, ...]:
    found = list(_problems(names, columns, ("live", *where)))
    problems += found
    return () if found else tuple(names)


def _problems(names: list[str], columns: "dict[str, Column]", where: tuple[str, ...]) -> Iterator[SpecProblem]:
    if not names:
        yield SpecProblem(where, "a column, or a list of columns; got none")
    for name in names:
        if name not in columns:
            yield SpecProblem(where, f"one of {', '.join(columns)}; got '{name}'", did_you_mean(name, columns))
        elif columns[name].type not in KEYS:
            yield SpecProblem(where, f"a column of text, whole numbers or bool; '{name}' is {columns[name].type}")


def _written(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"[{', '.join(names)}]"
