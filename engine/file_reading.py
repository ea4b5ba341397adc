"""One segment of a file while it is read: its lines as arrivals, and whether it still is the file that it was."""

import zlib
from pathlib import Path
from typing import Any, NamedTuple

from engine.arrival import Arrival
from engine.file_formats import BOM, UNREAD, LineFormat, whole_text
from engine.file_stream import CHUNK, KEPT, FileStream, Line, Lines
from engine.file_watch import Segment

CUT_SHORT = "gzip: a whole file; it ends in the middle"
BYTES = 4 << 20
"""The most that one call reads."""


class Terms(NamedTuple):
    """How files are read: as `format` in an encoding, lines or files of at most `largest` bytes."""

    format: str
    encoding: str
    separator: str
    numbers: bool
    names: tuple[str, ...]
    largest: int
    follow: bool

    @property
    def whole(self) -> bool:
        """Tell whether a file is one event."""
        return self.format in ("json", "whole")


class Reading:
    """Reads one segment and moves it on. Raises OSError where the file cannot be opened."""

    def __init__(self, terms: Terms, segment: Segment, path: Path) -> None:
        self.terms, self.segment = terms, segment
        self._stream = FileStream(path, segment.end)
        self._lines = Lines(self._stream, terms.largest)
        self._format = LineFormat(
            terms.format, terms.encoding, separator=terms.separator, numbers=terms.numbers, names=terms.names
        )
        self._seen = self._state()
        self._to_skip = segment.offset
        self.over = False
        if segment.offset and self._format.has_header:
            self._read_header(path)

    def _read_header(self, path: Path) -> None:
        stream = FileStream(path)
        line = Lines(stream, self.terms.largest).next(most=self.terms.largest, last=True)
        stream.close()
        self._format.header(line.text if line else b"")

    @property
    def at(self) -> int:
        """Return when the file was last changed, in microseconds."""
        return self._stream.stat().st_mtime_ns // 1000

    @property
    def done(self) -> tuple[int, int]:
        """Return how many bytes of the file were read, and when it was changed then (nanoseconds)."""
        stat = self._stream.stat()
        return stat.st_size if self.over else self._stream.raw, stat.st_mtime_ns

    def is_same(self) -> bool:
        """Tell whether the file still begins with what was read; it may have been cut or written anew."""
        before, self._seen = self._seen, self._state()
        if self._seen == before:
            return True
        if self._seen[0] < self._stream.raw:
            return False
        return not self.segment.offset or self._stream.mark(self.segment.offset) == self.segment.mark

    def _state(self) -> tuple[int, int]:
        stat = self._stream.stat()
        return stat.st_size, stat.st_mtime_ns

    def take(self, limit: int) -> tuple[list[Arrival], bool]:
        """Return up to `limit` arrivals, and whether that is all there is to the segment by now."""
        if self._to_skip:
            self._to_skip = self._stream.skip(self._to_skip, BYTES)
            return [], False
        taken: list[Arrival] = []
        try:
            ended = self._whole(taken) if self.terms.whole else self._some(taken, limit)
        except zlib.error as fault:
            self.over = ended = True
            taken.append(self._unread(f"gzip: {fault}"))
        except OSError:
            if not taken:
                raise
            ended = False
        if taken or ended:
            self.segment.mark = self._stream.mark(self.segment.offset)
        return taken, ended

    def _some(self, taken: list[Arrival], limit: int) -> bool:
        start, last = self._lines.read, not self.terms.follow
        while len(taken) < limit:
            line = self._lines.next(most=BYTES - (self._lines.read - start), last=last)
            if line is not None:
                taken += self._arrivals(line)
            elif not self._lines.at_end:
                return False
            else:
                if last and not self._stream.complete:
                    taken.append(self._unread(CUT_SHORT))
                return True
        return False

    def _arrivals(self, line: Line) -> list[Arrival]:
        """Return the arrival of a line, none where it is empty or the header."""
        segment = self.segment
        first = segment.offset == 0
        segment.offset, segment.line = segment.offset + line.taken, segment.line + 1
        meta: dict[str, Any] = {"file": segment.path, "line": segment.line}
        text = line.text.removeprefix(BOM) if first else line.text
        if first and self._format.has_header:
            self._format.header(text)
            return []
        if line.length > self.terms.largest:
            return [Arrival(text, "", meta | {"oversize": line.length, "largest": self.terms.largest})]
        return [self._format.arrival(text, meta)] if text.strip() else []

    def _unread(self, reason: str) -> Arrival:
        return Arrival(b"", "", {"file": self.segment.path, "line": self.segment.line, UNREAD: reason})

    def _whole(self, taken: list[Arrival]) -> bool:
        content = bytearray()
        while len(content) <= self.terms.largest and (chunk := self._stream.read(CHUNK)):
            content += chunk
        self.over = True
        self.segment.offset = len(content)
        meta = {"file": self.segment.path}
        if len(content) > self.terms.largest:
            cut = {"oversize": max(self._seen[0], len(content)), "largest": self.terms.largest}
            taken.append(Arrival(bytes(content[:KEPT]), "", meta | cut))
        elif not self._stream.complete:
            taken.append(self._unread(CUT_SHORT))
        elif content:
            taken.append(self._content(bytes(content), meta))
        return True

    def _content(self, content: bytes, meta: dict[str, Any]) -> Arrival:
        if self.terms.format == "whole":
            return whole_text(content, self.terms.encoding, meta)
        return self._format.arrival(content.removeprefix(BOM), meta)

    def close(self) -> None:
        """Close the file."""
        self._stream.close()
