"""Text that devices and programs write and read: CSV, name=value, URL queries, values in MessagePack."""

import csv
import io
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any
from urllib.parse import parse_qsl, quote, urlencode

import msgspec

from engine.expression_values import as_text, in_utc, kind_of

MOST_PAIRS = 1_000
LONGEST_TOLD = 200  # characters of what is wrong: the fault may hold the whole text
_QUOTED = re.compile(r'"((?:[^"\\]|\\.)*)"', re.DOTALL)
_ESCAPES = {"n": "\n", "r": "\r", "t": "\t"}
_MARKS = {"\n": "\\n", "\r": "\\r", "\t": "\\t", '"': '\\"', "\\": "\\\\"}
_SCALARS = (str, int, float, bool, datetime, bytes, type(None))


def read_csv(text: str, fields: Sequence[str] = (), separator: str = ",") -> list[dict[str, Any]]:
    """Return the rows of a text as mappings; without `fields` the first row has the names. Raises ValueError."""
    try:
        rows = [row for row in csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True) if row]
    except csv.Error as fault:
        raise ValueError(f"CSV ({fault})") from None
    names = list(fields)
    if not names:
        names, rows = (rows[0], rows[1:]) if rows else ([], [])
        twice = [name for name, times in Counter(names).items() if times > 1]
        if twice or "" in names:
            raise ValueError(f"a first row of different names; got {as_text(names)[:80]}")
    for number, row in enumerate(rows, 1):
        if len(row) != len(names):
            raise ValueError(f"{len(names)} values in row {number}; got {len(row)}")
    return [dict(zip(names, row, strict=True)) for row in rows]


def write_csv(values: Sequence[Any], separator: str = ",") -> str:
    """Return one row, without a line end; none is nothing, lists and mappings are JSON."""
    found = io.StringIO(newline="")
    csv.writer(found, delimiter=separator).writerow([_cell(value) for value in values])
    return found.getvalue().removesuffix("\r\n")


def _cell(value: Any) -> str:
    return "" if value is None else as_text(value)


def read_pairs(text: str, separator: str = " ", equals: str = "=") -> dict[str, str]:
    r"""Return names and values of `a=1 b="two words"`; in quotes there may be \" \\ \n \r \t. Raises ValueError."""
    found: dict[str, str] = {}
    at = 0
    while at < len(text):
        if text.startswith(separator, at):
            at += len(separator)
            continue
        middle, end = text.find(equals, at), text.find(separator, at)
        name = text[at:middle].strip()
        if middle < 0 or 0 <= end < middle or not name:
            raise ValueError(f"name{equals}value at {at + 1}")
        found[name], at = _pair_value(text, middle + len(equals), separator)
    return found


def _pair_value(text: str, at: int, separator: str) -> tuple[str, int]:
    if not text.startswith('"', at):
        end = text.find(separator, at)
        end = len(text) if end < 0 else end
        return text[at:end].strip(), end
    match = _QUOTED.match(text, at)
    if match is None or not (match.end() == len(text) or text.startswith(separator, match.end())):
        raise ValueError(f"the end of the text that begins at {at + 1}")
    return re.sub(r"\\(.)", lambda m: _ESCAPES.get(m[1], m[1]), match[1], flags=re.DOTALL), match.end()


def write_pairs(data: Mapping[str, Any], separator: str = " ", equals: str = "=") -> str:
    """Return `a=1 b="two words"`; what is none is left out. Raises ValueError for a name that cannot be read again."""
    found = []
    for name, value in data.items():
        if name != name.strip() or not name or separator in name or equals in name:
            raise ValueError(f"names without '{separator}' and '{equals}'; got {name[:40]!r}")
        if value is not None:
            found.append(f"{name}{equals}{_quoted(as_text(value), separator)}")
    return separator.join(found)


def _quoted(text: str, separator: str) -> str:
    bare = text == text.strip() and separator not in text and not set('"\n\r\t') & set(text)
    return text if bare else '"' + "".join(_MARKS.get(mark, mark) for mark in text) + '"'


def _pairs(text: str) -> list[tuple[str, str]]:
    try:
        return parse_qsl(
            text.removeprefix("?"), keep_blank_values=True, strict_parsing=bool(text), errors="strict",
            max_num_fields=MOST_PAIRS,
        )  # fmt: skip
    except ValueError as fault:
        raise ValueError(str(fault)[:LONGEST_TOLD]) from None


def read_query(text: str) -> dict[str, Any]:
    """Return the values of `a=1&b=two%20words`; a name that stands there twice has a list. Raises ValueError."""
    found: dict[str, Any] = {}
    for name, value in _pairs(text):
        if name in found:
            found[name] = [*found[name], value] if isinstance(found[name], list) else [found[name], value]
        else:
            found[name] = value
    return found


def read_json(text: str | bytes) -> Any:
    """Return the value of a JSON text; raises ValueError."""
    try:
        return msgspec.json.decode(text)
    except RecursionError:
        raise ValueError("JSON nested less deeply") from None
    except (msgspec.DecodeError, UnicodeError) as fault:
        raise ValueError(f"JSON ({fault})") from None


def read_msgpack(octets: bytes) -> Any:
    """Return the value of bytes in MessagePack, as JSON could have it; raises ValueError."""
    try:
        return _plain(msgspec.msgpack.decode(octets))
    except RecursionError:
        raise ValueError("MessagePack nested less deeply") from None
    except (msgspec.DecodeError, UnicodeError) as fault:
        raise ValueError(f"MessagePack ({fault})") from None


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        wrong = next((name for name in value if not isinstance(name, str)), None)
        if wrong is not None:
            raise ValueError(f"names that are text; got {kind_of(wrong)}")
        return {name: _plain(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [_plain(entry) for entry in value]
    if not isinstance(value, _SCALARS):
        raise ValueError(f"values without {kind_of(value)}")
    return in_utc(value) if isinstance(value, datetime) else value


def write_query(data: Mapping[str, Any]) -> str:
    """Return `a=1&b=two%20words`; what is none is left out, a list gives its name several times."""
    pairs = [(name, value) for name, value in data.items() if value is not None]
    flat = [(name, one) for name, value in pairs for one in (value if isinstance(value, list) else [value])]
    return urlencode([(name, as_text(one)) for name, one in flat], quote_via=quote)
