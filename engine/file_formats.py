"""What the lines of a file are: JSON, rows of CSV, text; what cannot be read says why."""

import codecs
import csv
import io
from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from engine.arrival import Arrival

BOM = b"\xef\xbb\xbf"
UNREAD = "unread"
"""In `meta`: why a source could not make data of what it read."""


class LineFormat:
    """Makes arrivals of the lines of one file; `names` are the columns of CSV, where no line of the file has them."""

    def __init__(
        self, format_: str, encoding: str, *, separator: str = ",", numbers: bool = True, names: Sequence[str] = ()
    ) -> None:
        self._encoding, self._separator, self._numbers = encoding, separator, numbers
        self._names = list(names)
        self.has_header = format_ == "csv" and not names
        formats: dict[str, Callable[[bytes], bytes]] = {"csv": self._row, "jsonl": self._json, "json": self._json}
        self._payload = formats.get(format_, self._text)

    def header(self, line: bytes) -> None:
        """Take the line with the names of the columns; of one that cannot be read, what can be."""
        text = line.removeprefix(BOM).decode(self._encoding, "replace").rstrip("\r")
        try:
            self._names = self._cells(text)
        except csv.Error:
            self._names = text.split(self._separator)

    def arrival(self, line: bytes, meta: dict[str, Any]) -> Arrival:
        """Return the arrival of a line; what is wrong with it stands in its meta."""
        try:
            return Arrival(self._payload(line), "", meta)
        except UnicodeDecodeError as fault:
            reason = f"encoding: {self._encoding} text; got byte 0x{line[fault.start]:02x} at {fault.start}"
        except (csv.Error, ValueError) as fault:
            reason = f"csv: {fault}"
        return Arrival(line, "", meta | {UNREAD: reason})

    def _json(self, line: bytes) -> bytes:
        return line if self._encoding == "utf-8" else line.decode(self._encoding).encode()

    def _text(self, line: bytes) -> bytes:
        return msgspec.json.encode({"line": line.decode(self._encoding).rstrip("\r")})

    def _row(self, line: bytes) -> bytes:
        cells = self._cells(line.decode(self._encoding).rstrip("\r"))
        if any(cells[len(self._names) :]):
            raise ValueError(f"at most {len(self._names)} values; got {len(cells)}")
        pairs = zip(self._names, cells, strict=False)
        return msgspec.json.encode({name: self._value(cell) for name, cell in pairs if name})

    def _cells(self, text: str) -> list[str]:
        return next(csv.reader(io.StringIO(text, newline=""), delimiter=self._separator, strict=True), [])

    def _value(self, cell: str) -> Any:
        if cell == "":
            return None
        if self._numbers:
            try:
                return msgspec.json.decode(cell, type=int | float)
            except (msgspec.DecodeError, UnicodeEncodeError):
                pass
        return cell


def whole_text(content: bytes, encoding: str, meta: dict[str, Any]) -> Arrival:
    """Return the arrival of a whole file of text."""
    try:
        text = content.removeprefix(BOM).decode(encoding)
    except UnicodeDecodeError as fault:
        reason = f"encoding: {encoding} text; got byte 0x{content[fault.start]:02x} at {fault.start}"
        return Arrival(content[:1000], "", meta | {UNREAD: reason})
    return Arrival(msgspec.json.encode({"text": text}), "", meta)


def ends_lines(encoding: str) -> bool:
    """Tell whether an encoding is there, and ends its lines as ASCII does."""
    try:
        return codecs.lookup(encoding) is not None and "\r\n,;".encode(encoding) == b"\r\n,;"
    except (LookupError, UnicodeError, ValueError):
        return False
