"""Fields by name, pattern and path: what `drop` and its kin take out of nested data."""

import fnmatch
from collections.abc import Iterable
from functools import lru_cache
from typing import Any

Path = tuple[str, ...]
Paths = tuple[Path, ...]
ENDS: Paths = ((),)


def paths_of(names: Iterable[str]) -> Paths:
    """Return paths like `a`, `debug_*` or `reading.raw`, split at their dots; raises ValueError for an empty step."""
    found = tuple(tuple(name.split(".")) for name in names)
    for path in found:
        if not all(path):
            raise ValueError(f"names, joined by single dots; got '{'.'.join(path)}'")
    return found


def plain(path: Path) -> bool:
    """Tell whether a path is the name of one field."""
    return len(path) == 1 and not set("*?") & set(path[0])


@lru_cache(maxsize=4096)
def step(paths: Paths, name: str) -> Paths:
    """Return what is left of the paths after a name: ENDS where one of them ends there, nothing where none goes on."""
    rest = tuple(path[1:] for path in paths if fnmatch.fnmatchcase(name, path[0].replace("[", "[[]")))
    return ENDS if () in rest else rest


def without(value: Any, paths: Paths) -> Any:
    """Return data without what the paths lead to; a step goes into each entry of a list."""
    if isinstance(value, list):
        return [without(entry, paths) for entry in value]
    if not isinstance(value, dict):
        return value
    found = {}
    for name, inner in value.items():
        rest = step(paths, name)
        if rest is not ENDS:
            found[name] = without(inner, rest) if rest else inner
    return found


def only(value: Any, paths: Paths) -> Any:
    """Return data with nothing but what the paths lead to."""
    if isinstance(value, list):
        return [only(entry, paths) for entry in value if isinstance(entry, dict | list)]
    found = {}
    for name, inner in value.items():
        rest = step(paths, name)
        if rest is ENDS:
            found[name] = inner
        elif rest and isinstance(inner, dict | list):
            found[name] = only(inner, rest)
    return found
