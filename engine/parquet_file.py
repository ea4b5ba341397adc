"""Parquet files of records that wait in a file: two passes, so that no more than a row group is in memory.

A record is 4 bytes of length (big endian) and a mapping in MessagePack. A column's type is that of all its values: one
whose values are of several types is text.
"""

from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from engine.errors import EventFault

if TYPE_CHECKING:
    import pyarrow

ROW_GROUP = 20_000
LARGEST = 1 << 63
TEXT, WHOLE, NUMBER, BOOL, TIME, BYTES = "text", "whole", "number", "bool", "time", "bytes"
_KINDS = {str: TEXT, int: WHOLE, float: NUMBER, bool: BOOL, datetime: TIME, bytes: BYTES}
_MIXED = frozenset((WHOLE, NUMBER))
_json = msgspec.json.Encoder(enc_hook=str)


def record(data: dict[str, Any]) -> bytes:
    """Return an event's data as a record; raises EventFault for what cannot be written."""
    try:
        body = msgspec.msgpack.encode(data)
    except (TypeError, ValueError, OverflowError, RecursionError) as fault:
        reason = f"values that a file can hold; {fault}"
    else:
        return len(body).to_bytes(4, "big") + body
    raise EventFault(reason)


def read_records(path: Path, size: int) -> Iterator[dict[str, Any]]:
    """Yield the records of the first `size` bytes of a file."""
    decoder = msgspec.msgpack.Decoder(dict[str, Any])
    with path.open("rb") as file:
        while size > 0:
            length = int.from_bytes(file.read(4), "big")
            yield decoder.decode(file.read(length))
            size -= length + 4


def write_parquet(records: Path, size: int, target: Path) -> None:
    """Write the records of the first `size` bytes of a file as Parquet (zstd), in row groups of 20,000."""
    import pyarrow.parquet

    kinds = column_kinds(records, size)
    schema = pyarrow.schema([(name, _arrow_type(kind)) for name, kind in kinds.items()])
    with pyarrow.parquet.ParquetWriter(target, schema, compression="zstd") as writer:
        for group in _groups(read_records(records, size)):
            columns = [[_written(row.get(name), kind) for row in group] for name, kind in kinds.items()]
            arrays = [pyarrow.array(values, type_.type) for values, type_ in zip(columns, schema, strict=True)]
            writer.write_table(pyarrow.Table.from_arrays(arrays, schema=schema))


def column_kinds(records: Path, size: int) -> dict[str, str]:
    """Return the columns in the order of their first appearance, with what they hold."""
    found: dict[str, set[str]] = {}
    for row in read_records(records, size):
        for name, value in row.items():
            kinds = found.setdefault(name, set())
            if value is not None:
                kinds.add(_kind(value))
    return {name: _common(kinds) for name, kinds in found.items()}


def _kind(value: Any) -> str:
    kind = _KINDS.get(type(value), "json")
    return "json" if kind == WHOLE and not -LARGEST <= value < LARGEST else kind


def _common(kinds: set[str]) -> str:
    if len(kinds) == 1:
        return next(iter(kinds)) if kinds != {"json"} else TEXT
    return NUMBER if kinds and kinds <= _MIXED else TEXT


def _arrow_type(kind: str) -> "pyarrow.DataType":
    import pyarrow

    types = {
        TEXT: pyarrow.string(), WHOLE: pyarrow.int64(), NUMBER: pyarrow.float64(), BOOL: pyarrow.bool_(),
        TIME: pyarrow.timestamp("us", tz="UTC"), BYTES: pyarrow.binary(),
    }  # fmt: skip
    return types[kind]


def _written(value: Any, kind: str) -> Any:
    """Return a value as its column has it; in a column of text, what is none is written as JSON."""
    if value is None:
        return None
    if kind == TEXT:
        return value if isinstance(value, str) else _json.encode(value).decode()
    return float(value) if kind == NUMBER else value


def _groups(rows: Iterator[dict[str, Any]]) -> Iterator[list[dict[str, Any]]]:
    group: list[dict[str, Any]] = []
    for row in rows:
        group.append(row)
        if len(group) == ROW_GROUP:
            yield group
            group = []
    if group:
        yield group
