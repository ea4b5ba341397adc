"""`for_each`: one instance of a flow for each entry of a list, a range or a CSV file."""

import csv
import itertools
import re
from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

from engine.bundle import Files
from engine.document import Document, Where
from engine.model_faults import shown

MOST = 1_000
_NAME = re.compile(r"[a-z][a-z0-9_]{0,62}")
_RANGE = re.compile(r"(\d{1,9})\.\.(\d{1,9})|([A-Za-z])\.\.([A-Za-z])")
_NUMBER = re.compile(r"-?(0|[1-9]\d{0,17})(\.\d+)?")
WHERE: Where = ("for_each",)


class Instances(msgspec.Struct):
    """The entries of `for_each`: names with values; `keys` are the names that tell entries apart.

    Where something is wrong there are no entries, but the names of their values as far as they are known.
    """

    entries: list[dict[str, Any]] = []
    keys: tuple[str, ...] = ()
    names: tuple[str, ...] = ()

    def key(self, entry: Mapping[str, Any]) -> dict[str, str]:
        """Return what chooses an entry, as `--set` says it."""
        return {name: str(entry[name]) for name in self.keys}

    def chosen(self, document: Document, overrides: Mapping[str, str]) -> list[dict[str, Any]]:
        """Return the entries that `--set` leaves: all where it names none of their values."""
        if not self.entries:
            return [dict.fromkeys(self.names, "0")] if self.names else []
        given = {name: text for name, text in overrides.items() if name in self.entries[0]}
        found = [entry for entry in self.entries if all(str(entry[name]) == text for name, text in given.items())]
        if not found:
            named = ", ".join(f"{name}={text}" for name, text in given.items())
            document.find("for-each", WHERE, f"an entry for {named}; there is none")
        return found or self.entries[:1]


def read_instances(document: Document, spec: Any, files: Files) -> Instances:
    """Return the entries of a flow's `for_each`; what is wrong with it stands in the document."""
    if spec is None:
        return Instances()
    if isinstance(spec, list):
        found = _listed(document, spec)
    elif isinstance(spec, dict) and spec.keys() == {"csv"}:
        found = _from_csv(document, spec["csv"], files)
    elif isinstance(spec, dict) and spec:
        found = _product(document, spec)
    else:
        form = "{line: 1..40}, {site: [A, B]}, {csv: lines.csv} or a list of mappings"
        document.find("for-each", WHERE, f"{form}; got {shown(spec)}")
        return Instances()
    return found if _sound(document, found) else Instances(names=tuple(found.entries[0]))


def _sound(document: Document, found: Instances) -> bool:
    if len(found.entries) > MOST:
        document.find("for-each", WHERE, f"at most {MOST} entries; got {len(found.entries)}")
        return False
    for name in found.entries[0] if found.entries else ():
        if not _NAME.fullmatch(name):
            document.find("for-each", WHERE, f"names of small letters, digits and _; got '{name}'")
            return False
    seen: set[tuple[str, ...]] = set()
    for entry in found.entries:
        key = tuple(found.key(entry).values())
        if key in seen:
            document.find("for-each", WHERE, f"each entry once; {', '.join(key)} comes again")
            return False
        seen.add(key)
    return True


def _listed(document: Document, spec: list[Any]) -> Instances:
    names = list(spec[0]) if spec and isinstance(spec[0], dict) else []
    for number, entry in enumerate(spec):
        if not isinstance(entry, dict) or list(entry) != names or not names:
            expected = f"a mapping with {', '.join(names)}" if names else "mappings of names, all with the same"
            document.find("for-each", (*WHERE, number), f"{expected}; got {shown(entry)}")
            return Instances(names=tuple(names))
    return Instances(spec, tuple(names[:1]))


def _from_csv(document: Document, name: Any, files: Files) -> Instances:
    text = files.text(document, name, (*WHERE, "csv"))
    if text is None:
        return Instances()
    rows = [row for row in csv.reader(text.splitlines()) if row]
    if len(rows) < 2:
        document.find(
            "for-each", (*WHERE, "csv"), f"a line of names, and a line for each entry; {name} has {len(rows)}"
        )
        return Instances(names=tuple(rows[0]) if rows else ())
    for number, row in enumerate(rows[1:], 2):
        if len(row) != len(rows[0]):
            document.find("for-each", (*WHERE, "csv"), f"{name}, line {number}: {len(rows[0])} values; got {len(row)}")
            return Instances(names=tuple(rows[0]) if rows else ())
    entries = [dict(zip(rows[0], map(_value, row), strict=True)) for row in rows[1:]]
    return Instances(entries, tuple(rows[0][:1]))


def _value(text: str) -> Any:
    """Return a CSV value: a number where it is written like one."""
    number = _NUMBER.fullmatch(text)
    return text if number is None else float(text) if number[2] else int(text)


def _product(document: Document, spec: dict[str, Any]) -> Instances:
    values = {name: list(_values(document, name, value)) for name, value in spec.items()}
    if not all(values.values()):
        return Instances(names=tuple(spec))
    count = 1
    for found in values.values():
        count *= len(found)
    if count > MOST:
        document.find("for-each", WHERE, f"at most {MOST} entries; got {count}")
        return Instances(names=tuple(spec))
    return Instances(
        [dict(zip(values, row, strict=True)) for row in itertools.product(*values.values())], tuple(values)
    )


def _values(document: Document, name: str, value: Any) -> Iterator[Any]:
    """Yield the values of a list or of a range `1..40`, `A..F`."""
    found = _RANGE.fullmatch(value) if isinstance(value, str) else None
    ranged = found is not None and (int(found[1]) <= int(found[2]) if found[1] else found[3] <= found[4])
    if found and found[1] and ranged:
        yield from range(int(found[1]), min(int(found[2]), int(found[1]) + MOST) + 1)
        return
    if found and ranged:
        yield from map(chr, range(ord(found[3]), ord(found[4]) + 1))
        return
    if isinstance(value, list) and value and not any(isinstance(one, dict | list) or one is None for one in value):
        yield from value
        return
    document.find("for-each", (*WHERE, name), f"a list of values, or a range like 1..40 or A..F; got {shown(value)}")
