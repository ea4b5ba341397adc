"""Files that a sink appends to, each event in them once: bytes first, then one commit of lengths and digests.

A path may have parts (`name-000001.csv`, …). What is `whole` appears as a whole: its records wait in a hidden file
beside it, which is turned into the file when the part ends.
"""

import gzip
import os
import re
import sqlite3
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from hashlib import blake2b
from pathlib import Path

import msgspec
import structlog

from engine.errors import EnvironmentFault, EventFault, Unavailable
from engine.file_journal import DIGEST, Journal, Place

MOST_FILES = 10_000
"""How many files are known; of others it is only known how long they are."""
LONGEST_NAME = 200  # bytes of one name in a path, which gets a number and an ending
GZIP_LEVEL = 6
_UNSAFE = re.compile(r'[\x00-\x1f\x7f/\\:*?"<>|%]')
_PART = re.compile(r"-(\d{6,})$")
log = structlog.get_logger()


class Layout(msgspec.Struct, frozen=True):
    """How files are laid out: what they begin with, when a part ends (bytes, microseconds; 0: never), how one is made
    whole of its records (`whole(records, size, target)`; without it they are appended to as they are).
    """

    header: bytes = b""
    largest: int = 0
    every: int = 0
    whole: Callable[[Path, int, Path], None] | None = None

    @property
    def parted(self) -> bool:
        """Tell whether paths have parts."""
        return bool(self.largest or self.every)


class Line(msgspec.Struct, frozen=True):
    """What is written for one event: bytes, at the end of a file whose path is relative to the folder."""

    path: str
    id: bytes
    data: bytes

    def digest(self) -> bytes:
        """Return what tells it from others: an event may come by two branches, with other data or another path."""
        hashed = blake2b(self.id, digest_size=DIGEST)
        hashed.update(self.path.encode())
        hashed.update(self.data)
        return hashed.digest()


def safe_name(value: str) -> str:
    """Return a value as (a part of) one name in a path; different values stay different. Raises EventFault."""
    try:
        name = _UNSAFE.sub(lambda found: f"%{ord(found[0]):02X}", value) or "%"
        if len(name.encode()) <= LONGEST_NAME:
            return "%2E" + name[1:] if name.startswith(".") else name
        reason = f"a value of at most {LONGEST_NAME} bytes in a path; got {value[:60]}…"
    except UnicodeEncodeError:
        reason = f"a value that can be written as UTF-8 in a path; got {value[:60]!r}"
    raise EventFault(reason)


class FileStore:
    """The files of one sink; every call blocks, and may come from any thread.

    Raises Unavailable when the disk does not take or give, EnvironmentFault when the journal is broken.
    """

    def __init__(self, folder: Path, journal: Path, layout: Layout) -> None:
        self._folder, self._layout, self._journal_path = folder, layout, journal
        self._lock = threading.Lock()
        self._journal: Journal | None = None
        self._closed = False

    def write(self, lines: Sequence[Line]) -> None:
        """Append lines that are not there yet, each to its file; returns when they are on the disk."""
        with self._opened() as journal:
            now = _now()
            self._end_parts(journal, now, {line.path for line in lines})
            runs: dict[str, list[bytes]] = {}
            digests: dict[bytes, None] = {}
            for line in lines:
                digest = line.digest()
                if digest not in digests and not journal.known(digest):
                    digests[digest] = None
                    runs.setdefault(line.path, []).append(line.data)
            if runs:
                if new := {path: self._found(path) for path in runs if path not in journal.places}:
                    journal.commit(new)
                places = {path: self._append(journal.places[path], path, run, now) for path, run in runs.items()}
                journal.commit(places, digests)
                self._bound(journal)

    def due(self) -> float | None:
        """Return in how many seconds a file that waits to be whole ends by its time; None: there is none."""
        if self._layout.whole is None or not self._layout.every:
            return None
        with self._opened() as journal:
            ends = [place.began + self._layout.every for place in journal.places.values() if place.length]
        return max(0.0, (min(ends) - _now()) / 1e6) if ends else None

    def end_due(self) -> None:
        """Make whole what is due."""
        with self._opened() as journal:
            self._end_parts(journal, _now(), list(journal.places))

    def end_all(self) -> None:
        """End every file that is written to."""
        with self._opened() as journal:
            for path, place in list(journal.places.items()):
                if place.length:
                    self._end(journal, path, place)

    def close(self) -> None:
        """Close the journal; what is called later finds nothing open: another store may have taken the files over."""
        with self._lock:
            self._closed = True
            if self._journal is not None:
                self._journal.close()
                self._journal = None

    @contextmanager
    def _opened(self) -> Iterator[Journal]:
        with self._lock:
            try:
                if self._closed:
                    raise Unavailable("the files are closed")
                if self._journal is None:
                    self._journal = Journal(self._journal_path)
                    self._resume(self._journal)
                yield self._journal
            except (sqlite3.OperationalError, OSError) as fault:
                raise Unavailable(f"{fault}") from fault
            except sqlite3.DatabaseError as fault:
                advice = "move it away: files go on at their ends, and what comes again may be there twice"
                raise EnvironmentFault(f"{self._journal_path}: what is known of files; {fault}. {advice}") from fault

    def _resume(self, journal: Journal) -> None:
        """Cut off what was not committed, and finish what was being made whole."""
        for path, place in list(journal.places.items()):
            target = self._target(path, place.part)
            if self._layout.whole and place.length and self._final(path, place.part).exists():
                self._end(journal, path, place)
            elif target.exists() and target.stat().st_size > place.length:
                os.truncate(target, place.length)

    def _append(self, place: Place, path: str, run: list[bytes], now: int) -> Place:
        """Append to a path from a place on; return where it is at then."""
        largest = self._layout.largest if self._layout.whole is None else 0
        chunk: list[bytes] = []
        size = 0
        for data in run:
            if largest and place.length + size and place.length + size + len(data) > largest:
                if chunk:
                    self._put(path, place, chunk, now)
                place, chunk, size = Place(place.part + 1), [], 0
            chunk.append(data)
            size += len(data)
        return self._put(path, place, chunk, now)

    def _put(self, path: str, place: Place, chunk: list[bytes], now: int) -> Place:
        """Write at the end that is known, over whatever stands there, and sync."""
        target = self._target(path, place.part)
        new = not target.exists()
        if new:
            target.parent.mkdir(parents=True, exist_ok=True)
        file = os.open(target, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            at = min(place.length, os.fstat(file).st_size)
            data = b"".join(chunk if at else [self._layout.header, *chunk])
            data = gzip.compress(data, GZIP_LEVEL, mtime=0) if path.endswith(".gz") else data
            end = _write_all(file, data, at)
            os.ftruncate(file, end)
            os.fsync(file)
        finally:
            os.close(file)
        if new:
            _sync_folder(target.parent)
        return Place(place.part, end, place.began if at else now)

    def _found(self, path: str) -> Place:
        """Return where a path is at of which nothing is known: at the end of what is there."""
        last = 1
        if self._layout.parted:
            final = self._final(path, 1)
            head, ending = _split(final.name)
            pattern = re.compile(re.escape(_PART.sub("", head)) + r"-(\d{6,})" + re.escape(ending))
            names = os.listdir(final.parent) if final.parent.is_dir() else []
            numbers = [int(found[1]) for name in names if (found := pattern.fullmatch(name))]
            last = max(numbers, default=0) + (1 if self._layout.whole or not numbers else 0)
        target = self._target(path, last)
        return Place(last, target.stat().st_size if target.exists() else 0, _now())

    def _end_parts(self, journal: Journal, now: int, paths: Iterable[str]) -> None:
        """End the parts of these paths that are long or old enough."""
        largest, every = self._layout.largest, self._layout.every
        for path in paths:
            place = journal.places.get(path)
            if place is None or not place.length:
                continue
            if (largest and place.length >= largest) or (every and now >= place.began + every):
                self._end(journal, path, place)

    def _end(self, journal: Journal, path: str, place: Place) -> None:
        records = self._target(path, place.part)
        if self._layout.whole is not None and records.exists():
            final = self._final(path, place.part)
            part = final.with_name(f".{final.name}.part")
            self._layout.whole(records, place.length, part)
            _sync(part)
            part.replace(final)
            _sync_folder(final.parent)
        journal.commit({path: Place(place.part + 1)})
        if self._layout.whole is not None:
            records.unlink(missing_ok=True)

    def _bound(self, journal: Journal) -> None:
        """Forget the files that were not written to for longest."""
        if len(journal.places) > MOST_FILES:
            oldest = list(journal.places.items())[: len(journal.places) - MOST_FILES * 9 // 10]
            for path, place in oldest:
                if self._layout.whole is not None and place.length:
                    self._end(journal, path, place)
            journal.forget(path for path, _ in oldest)

    def _final(self, path: str, part: int) -> Path:
        target = self._folder / path
        if not self._layout.parted:
            return target
        head, ending = _split(target.name)
        return target.with_name(f"{head}-{part:06}{ending}")

    def _target(self, path: str, part: int) -> Path:
        final = self._final(path, part)
        return final if self._layout.whole is None else final.with_name(f".{final.name}.open")


def _split(name: str) -> tuple[str, str]:
    """Return a file's name and its ending, such as `.csv.gz`."""
    compressed = ".gz" if name.endswith(".gz") else ""
    head, dot, ending = name.removesuffix(compressed).rpartition(".")
    return (head, f".{ending}{compressed}") if dot and head else (ending, compressed)


def _write_all(file: int, data: bytes, at: int) -> int:
    """Write at a place; return where it ends."""
    view = memoryview(data)
    while view:
        done = os.pwrite(file, view, at)
        view, at = view[done:], at + done
    return at


def _sync(path: Path) -> None:
    file = os.open(path, os.O_RDONLY)
    try:
        os.fsync(file)
    finally:
        os.close(file)


_sync_folder = _sync


def _now() -> int:
    return time.time_ns() // 1000
