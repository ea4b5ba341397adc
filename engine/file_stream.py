"""The bytes of a file that may grow or be compressed, its lines, and the mark by which it is known again."""

import os
import zlib
from collections import deque
from hashlib import blake2b
from pathlib import Path
from typing import NamedTuple

CHUNK = 64 << 10
HEAD, BEFORE, HEAD_GZIP = 64, 64, 18  # bytes; the shortest gzip file has a line of one byte in it and 21 bytes
GZIP = 31  # zlib: a gzip header and trailer
KEPT = 1000


class FileStream:
    """The bytes of a file up to `end` (in the file; -1: as far as it goes by now), those of a `.gz` file unpacked.

    Reads again where there was nothing before, so a file may grow. Raises zlib.error where it is no gzip file, OSError.
    """

    def __init__(self, path: Path, end: int = -1) -> None:
        self._file = path.open("rb", buffering=0)
        self._packed, self._end = path.suffix == ".gz", end
        self._unpack, self._tail = zlib.decompressobj(GZIP), b""
        self.raw = 0
        self.complete = True

    def read(self, most: int) -> bytes:
        """Return at most so many bytes, none where there are none by now."""
        return self._read_packed(most) if self._packed else self._read_raw(most)

    def _read_raw(self, most: int) -> bytes:
        found = self._file.read(most if self._end < 0 else min(most, self._end - self.raw)) or b""
        self.raw += len(found)
        return found

    def _read_packed(self, most: int) -> bytes:
        while True:
            given = self._tail or self._read_raw(CHUNK)
            given = given.lstrip(b"\0") if self.complete else given
            found = self._unpack.decompress(given, most)
            self._tail = self._unpack.unconsumed_tail
            self.complete = self.complete and not given
            if self._unpack.eof:
                self._tail = self._unpack.unused_data.lstrip(b"\0")
                self._unpack, self.complete = zlib.decompressobj(GZIP), True
            if found or not given:
                return found

    def skip(self, count: int, most: int) -> int:
        """Go on by `count` bytes; return how many are left to skip where it takes more than `most`."""
        if not self._packed:
            self.raw = self._file.seek(self.raw + count)
            return 0
        while count and most > 0 and (found := self.read(min(count, CHUNK))):
            count, most = count - len(found), most - len(found)
        return count

    def mark(self, offset: int) -> bytes:
        """Return by what the file is known again that was read up to `offset`: its beginning, and what is before that.

        Of a compressed file it is the beginning alone.
        """
        number = self._file.fileno()
        if self._packed:
            return _digest(os.pread(number, HEAD_GZIP, 0))
        before = min(BEFORE, offset)
        return _digest(os.pread(number, min(HEAD, offset), 0) + os.pread(number, before, offset - before))

    def stat(self) -> os.stat_result:
        """Return what the system knows of the file."""
        return os.fstat(self._file.fileno())

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def _digest(found: bytes) -> bytes:
    return blake2b(found, digest_size=8).digest()


class Line(NamedTuple):
    """A line without its end: `length` bytes, of one that is too long only the beginning; `taken` with its end."""

    text: bytes
    length: int
    taken: int


class Lines:
    """The lines of a stream; of one longer than `largest` only the beginning is kept in memory."""

    def __init__(self, stream: FileStream, largest: int) -> None:
        self._stream, self._largest = stream, largest
        self._ready: deque[Line] = deque()
        self._rest, self._length = bytearray(), 0
        self.read = 0
        self.at_end = False

    def next(self, *, most: int, last: bool) -> Line | None:
        """Return the next line; None where there is no whole one by now, or not within `most` bytes.

        With `last` what is left at the end is a line too.
        """
        start, self.at_end = self.read, False
        while not self._ready:
            if self.read - start > most:
                return None
            chunk = self._stream.read(CHUNK)
            if not chunk:
                self.at_end = True
                return self._ended(0) if last and self._length else None
            self.read += len(chunk)
            self._split(chunk)
        return self._ready.popleft()

    def _split(self, chunk: bytes) -> None:
        first, *more = chunk.split(b"\n")
        self._add(first)
        for part in more:
            self._ready.append(self._ended(1))
            self._add(part)

    def _add(self, part: bytes) -> None:
        self._length += len(part)
        if len(self._rest) <= self._largest:
            self._rest += part

    def _ended(self, end: int) -> Line:
        text = bytes(self._rest if self._length <= self._largest else self._rest[:KEPT])
        found = Line(text, self._length, self._length + end)
        self._rest, self._length = bytearray(), 0
        return found
