"""Which files there are, which of them have something to read, and how a snapshot remembers what was read.

Events have numbers by which what is read again after a crash is known again, so it must be read again in the same
order. Files come and grow as they like; therefore what is read next is fixed as *segments*, and a segment is only read
once a snapshot that has it is durable. The last one may be open (`end` -1): its file is read as far as it goes.
"""

import glob
import os
import re
import time
from collections.abc import Callable
from pathlib import Path
from stat import S_ISREG
from typing import NamedTuple
from zlib import crc32

import msgspec

from engine.file_stream import FileStream

MOST_KNOWN = 2_000
MOST_SEGMENTS = 256
SPARING = 10
"""Looking takes at most the tenth part of the time."""
PACKED = (".gz", ".bz2", ".xz", ".zst", ".zip")
_NUMBER = re.compile(r"\.(\d+)$")


class Found(NamedTuple):
    """A file as it is now; `changed` is in nanoseconds."""

    path: str
    inode: int
    size: int
    changed: int


class Segment(msgspec.Struct, array_like=True):
    """What is to be read of a file: from `offset` (unpacked), after so many lines, to `end` (as it lies there)."""

    path: str
    inode: int
    offset: int = 0
    line: int = 0
    end: int = -1
    mark: bytes = b""


class Known(msgspec.Struct, array_like=True):
    """How far a file has been read, and how it was then; `name` is a checksum."""

    name: int
    inode: int
    offset: int
    line: int
    size: int
    changed: int
    mark: bytes

    def unchanged(self, file: Found) -> bool:
        """Tell whether the file is as it was."""
        return (self.size, self.changed) == (file.size, file.changed)


class FilePosition(msgspec.Struct, array_like=True):
    """Where a reader of files stands. Files that changed up to `old` and are not known have been read long ago."""

    segments: list[Segment] = []
    known: list[Known] = []
    old: int = 0
    at: int = 0


class Watch:
    """Looks for files that have something to read. `pattern` is a file, a folder or a glob pattern below `folder`.

    With `follow` files grow, and one without a pattern may be rotated; without, a file counts once it has not changed
    for `idle` microseconds. `leaves`: what was read is taken away, so a file that is there again is another.
    """

    def __init__(
        self, folder: Path, pattern: str, position: FilePosition, *, follow: bool, idle: int, leaves: bool
    ) -> None:
        self.folder, self.pattern, self.position = folder, str(folder / pattern), position
        self._follow, self._idle, self._leaves = follow, idle, leaves
        self._present: dict[int, Found] = {}
        self._since: dict[Found, int] = {}
        self.read: list[Found] = []
        """The files of the last look that have been read, and that nobody changes."""
        self.pause = 0

    @property
    def single(self) -> bool:
        """Tell whether it is about one file."""
        return not glob.has_magic(self.pattern) and not os.path.isdir(self.pattern)

    def at(self, offset: int) -> FilePosition:
        """Return the position of one who has read so many bytes of a single file."""
        file = found(self.pattern)
        if file is None:
            return FilePosition()
        mark = mark_of(file.path, offset)
        return FilePosition([Segment(self.name(file.path), file.inode, offset, 0, file.size, mark)])

    def look(self, now: int) -> list[Segment]:
        """Return what there is to read beside the segments of the position, the oldest first."""
        began = time.monotonic()
        files = self._files()
        self._present = {file.inode: file for file in files}
        self._since = {file: self._since.get(file, now) for file in files}
        self.read = []
        taken = {segment.inode for segment in self.position.segments}
        files.sort(key=_age)
        found = [self._wanted(file, now) for file in files if file.inode not in taken]
        wanted = [segment for segment in found if segment][:MOST_SEGMENTS]
        if self._follow and len(wanted) == 1:
            wanted[0].end = -1
        self.pause = round((time.monotonic() - began) * SPARING * 1e6)
        return wanted

    def _wanted(self, file: Found, now: int) -> Segment | None:
        if not self._follow and not self._quiet(file, now):
            return None
        known = self._known(file)
        if known is None:
            new = file.changed > self.position.old
            return Segment(self.name(file.path), file.inode, end=file.size) if new else None
        if file.size > known.size:
            return Segment(self.name(file.path), file.inode, known.offset, known.line, file.size, known.mark)
        self.read.append(file)
        return None

    def _quiet(self, file: Found, now: int) -> bool:
        """Tell whether nobody has changed the file for a while; a time to come is that of another clock."""
        changed = file.changed // 1000
        return now - (changed if changed <= now else self._since[file]) >= self._idle

    def _known(self, file: Found) -> Known | None:
        """Return what is known of a file; None: it is another than those that were read."""
        name = _checksum(self.name(file.path))
        known = next((known for known in self.position.known if known.inode == file.inode), None)
        if known is None:
            known = next((known for known in self.position.known if known.name == name), None)
            if known is None or known.inode in self._present:
                return None
        if known.inode == file.inode and known.unchanged(file):
            return known
        touched = file.size == known.size
        if touched and not self._follow and (self._leaves or known.name != name):
            return None
        return known if is_same(file.path, known.offset, known.mark, file.size) else None

    def finish(self, segment: Segment, size: int, changed: int) -> None:
        """Take note that a file has been read as far as the segment went, when it had a size and time of change."""
        place, name = self.position, _checksum(segment.path)
        place.known = [known for known in place.known if known.inode != segment.inode]
        if not self._follow:
            place.known = [known for known in place.known if known.name != name or known.inode in self._present]
        place.known.append(Known(name, segment.inode, segment.offset, segment.line, size, changed, segment.mark))
        while len(place.known) > MOST_KNOWN:
            gone = [known for known in place.known if known.inode not in self._present]
            least = min(gone or place.known, key=lambda known: known.changed)
            place.known.remove(least)
            place.old = place.old if gone else max(place.old, least.changed)

    def forget(self, file: Found) -> None:
        """Take note that a file has been taken away."""
        self.position.known = [known for known in self.position.known if known.inode != file.inode]

    def name(self, path: str) -> str:
        """Return a path as the flow's folder has it."""
        return path.removeprefix(f"{self.folder}{os.sep}")

    def locate(self, segment: Segment) -> str | None:
        """Return where the file of a segment is now: it may have been renamed; None: it is not there as it was."""
        path = str(self.folder / segment.path)
        file = found(path)
        if file is not None and file.inode == segment.inode:
            return path if self._is_as_it_was(segment, file) else None
        near = next(iter(_in_folder(path, lambda entry: entry.inode() == segment.inode)), None)
        if near is not None and self._is_as_it_was(segment, near):
            return near.path
        return path if file and segment.offset and self._is_as_it_was(segment, file) else None

    def is_away(self, segment: Segment) -> bool:
        """Tell whether nothing at all is where the file of a segment was, as when a share is not mounted yet."""
        return not _in_folder(str(self.folder / segment.path), lambda entry: not entry.name.startswith("."))

    def _is_as_it_was(self, segment: Segment, file: Found) -> bool:
        return file.size >= segment.end and is_same(file.path, segment.offset, segment.mark, file.size)

    def _files(self) -> list[Found]:
        try:
            if os.path.isdir(self.pattern):
                paths = [entry.path for entry in os.scandir(self.pattern) if not entry.name.startswith(".")]
            elif glob.has_magic(self.pattern):
                paths = glob.glob(self.pattern, recursive=True)
            else:
                return self._rotated() if self._follow else [file for file in [found(self.pattern)] if file]
        except OSError:
            return []
        return [file for path in paths if (file := found(path))]

    def _rotated(self) -> list[Found]:
        """Return the file, and those that had its name before and still may have something to read."""
        place, main = self.position, found(self.pattern)
        files = [main] if main else []
        mine = {known.inode for known in place.known} | {segment.inode for segment in place.segments}
        if not mine or (main and mine == {main.inode}):
            return files
        first = os.path.basename(self.pattern)
        others = _in_folder(self.pattern, lambda entry: entry.name.startswith((f"{first}.", f"{first}-")))
        last = place.segments[-1].inode if place.segments else place.known[-1].inode
        left = next((file for file in others if file.inode == last), None)
        new = left is not None and (main is None or main.inode not in mine)
        files += [
            file for file in others
            if file.inode in mine or (new and left and _age(file) > _age(left) and not file.path.endswith(PACKED))
        ]  # fmt: skip
        there = {file.inode for file in files}
        place.known = [known for known in place.known if known.inode in there] if main else place.known
        return files


def found(path: str) -> Found | None:
    """Return a file as it is now; None where there is none."""
    try:
        stat = os.stat(path)
    except OSError:
        return None
    return Found(path, stat.st_ino, stat.st_size, stat.st_mtime_ns) if S_ISREG(stat.st_mode) else None


def is_same(path: str, offset: int, mark: bytes, size: int) -> bool:
    """Tell whether a file is the one that was read up to an offset."""
    if not offset:
        return True
    if size < offset and not path.endswith(".gz"):
        return False
    try:
        return mark_of(path, offset) == mark
    except OSError:
        return False


def mark_of(path: str, offset: int) -> bytes:
    """Return the mark of a file that was read up to an offset; raises OSError."""
    stream = FileStream(Path(path))
    try:
        return stream.mark(offset)
    finally:
        stream.close()


def _checksum(name: str) -> int:
    return crc32(name.encode(errors="surrogateescape"))


def _in_folder(path: str, taken: Callable[[os.DirEntry[str]], bool]) -> list[Found]:
    """Return some of the files that lie where a file does."""
    try:
        with os.scandir(os.path.dirname(path) or ".") as entries:
            near = [entry.path for entry in entries if taken(entry)]
    except OSError:
        return []
    return [file for other in near if (file := found(other))]


def _age(file: Found) -> tuple[int, int, str]:
    """Return what files are sorted by: those of one moment by their number, where the highest is the oldest."""
    number = _NUMBER.search(file.path)
    return file.changed, -int(number[1]) if number else 1, file.path
