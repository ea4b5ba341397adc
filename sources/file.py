"""`file`: lines of a file."""

import csv
import io
from collections.abc import Iterable
from pathlib import Path
from typing import Any, BinaryIO, Literal

import msgspec
from pydantic import PrivateAttr, ValidationInfo, model_validator

from engine.api import Arrival, Example, Flow, Node, Problem, Pull, PulledSource, Reader, component

LONGEST = 1 << 20
LONGEST_PATH = 200


@component("file")
class File(PulledSource):
    """Read a file once, line by line: JSON objects (JSONL), or CSV with a header line.

    It is read by position (byte offset), so after a crash it goes on where the last snapshot stood and doubles
    nothing. CSV values are text, an empty one is null; `numbers` makes numbers of those that look like one. What does
    not decode goes to the dead letters with its line.
    """

    path: str
    """The file, relative to the flow's folder."""
    format: Literal["jsonl", "csv"] = "jsonl"
    """What a line is."""
    numbers: bool = True
    """CSV: whether what looks like a number becomes one."""
    time: str | None = None
    """The field that carries the event's own time; default: when the file was last changed."""

    _folder: Path = PrivateAttr(default=Path())
    guarantee = "exactly once: read again from the last snapshot"
    examples = (
        Example(
            about="Readings of a logger.",
            config="file: {path: readings.csv, format: csv, time: taken}",
            given=[{"taken": "2023-05-01T06:00:00Z", "t": 20}],
            expect=[{"taken": "2023-05-01T06:00:00Z", "t": 20}],
        ),
    )

    @model_validator(mode="after")
    def _placed(self, info: ValidationInfo) -> "File":
        object.__setattr__(self, "_folder", getattr(info.context, "pack", Path()))
        return self

    def check(self, flow: Flow, node: Node) -> Iterable[Problem]:
        """Find a path that leads out of the flow's folder."""
        if not self.path.isprintable() or len(self.path) > LONGEST_PATH:
            yield Problem("option-value", "path", f"a path of at most {LONGEST_PATH} printable characters")
        if ".." in Path(self.path).parts:
            yield Problem(
                "option-value", "path", f"a file below the flow's folder, or an absolute path; got '{self.path}'"
            )

    def open(self) -> Reader:
        """Return a reader whose position is the byte offset; the file may appear later."""
        return Lines(self, self._folder / self.path)


class Lines:
    """Reads the lines of one file."""

    def __init__(self, options: File, path: Path) -> None:
        self.options, self.path = options, path
        self._file: BinaryIO | None = None
        self._names: list[str] = []
        self._at = 0

    def read(self, position: Any, now: int, limit: int) -> Pull:
        """Return up to `limit` lines after `position`; looks again in half a second while the file is not there."""
        if self._file is None:
            if not self.path.is_file():
                return Pull([], position, now + 500_000)
            self._file = self.path.open("rb")
            self._at = self.path.stat().st_mtime_ns // 1000
            if self.options.format == "csv":
                self._names = _names(self._file.readline())
        start = position if position is not None else self._file.tell()
        self._file.seek(start)
        lines = [line for line in (self._file.readline(LONGEST) for _ in range(limit)) if line]
        arrivals = [(self._at, Arrival(self._payload(line))) for line in lines if line.strip()]
        return Pull(arrivals, self._file.tell(), None, done=not lines)

    def _payload(self, line: bytes) -> bytes:
        if self.options.format == "jsonl":
            return line
        try:
            cells = _cells(line)
        except (UnicodeDecodeError, csv.Error):
            return line
        return msgspec.json.encode({name: self._value(cell) for name, cell in zip(self._names, cells, strict=False)})

    def _value(self, cell: str) -> Any:
        if cell == "":
            return None
        if self.options.numbers:
            try:
                return msgspec.json.decode(cell, type=int | float)
            except msgspec.DecodeError:
                pass
        return cell

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()


def _names(line: bytes) -> list[str]:
    """Return the names of the columns; of a header that cannot be read, what can be."""
    try:
        return _cells(line)
    except (UnicodeDecodeError, csv.Error):
        return line.decode("utf-8", "replace").strip().split(",")


def _cells(line: bytes) -> list[str]:
    return next(csv.reader(io.StringIO(line.decode("utf-8-sig"))), [])
