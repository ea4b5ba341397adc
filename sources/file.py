"""`file`: lines of files."""

import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal

import msgspec
import structlog
from pydantic import Field, PrivateAttr, ValidationInfo, model_validator

from engine.api import (
    Duration,
    Example,
    Flow,
    Node,
    Problem,
    Pull,
    PulledSource,
    Reach,
    Reader,
    Size,
    component,
    file_formats,
    file_leaving,
    file_reading,
    file_watch,
)

LONGEST_PATH = 200
JUMP = 1 << 32
"""What is added to the count of events where lines that were counted cannot be read again."""
SOON = 20_000  # microseconds
LONGEST_READ = 0.05  # seconds
log = structlog.get_logger()


@component("file")
class File(PulledSource):
    """Read files line by line: JSON objects (JSONL), rows of CSV, or text; or each file as one event.

    The worker reads them and remembers in its snapshot how far, so after a crash it goes on there and doubles nothing.
    A file is taken once it has not changed for `idle`, the oldest first; what is added to it later is read too. With
    `follow` lines are taken as they are appended; one without its end waits for it. Files are known by their inode and
    what they begin with, so a renamed one is not read again; one that is cut or written anew is read from its
    beginning. Where a followed file is rotated (renamed to `name.1`, `name-20261121`, …, and begun anew), what was left
    of the old one comes first. What cannot be read goes to the dead letters with its line; empty lines are left out.

    `meta.file` is the file, `meta.line` the number of the line in it. What lies in a folder, and is not taken away, is
    remembered: of more than 2000 files those that changed last.
    """

    path: str
    """The file, a folder (all files there, but hidden ones) or a pattern such as `in/*.csv` or `in/**/*.csv`, relative
    to the flow's folder. What ends in `.gz` is unpacked."""
    format: Literal["jsonl", "csv", "text", "json", "whole"] = "jsonl"
    """What is read: lines that are JSON objects, rows of CSV, lines of text (as `line`), files that are one JSON object
    each, or files of text (as `text`)."""
    follow: bool = False
    """Lines are read as they are appended."""
    header: Literal["first"] | list[str] = "first"
    """CSV: the first line of each file names the columns, or these do."""
    separator: str = Field(",", min_length=1, max_length=1)
    """CSV: what stands between values."""
    numbers: bool = True
    """CSV: whether what looks like a number becomes one; what is empty is none."""
    encoding: str = "utf-8"
    """How text is written, such as `latin-1` or `cp1252`."""
    largest: Size = Field(1 << 20, gt=0)
    """The greatest size of a line or of a file that is one event."""
    every: Duration = Field(500_000, ge=10_000)
    """How often it looks for new files and lines."""
    idle: Duration = 2_000_000
    """Without `follow`: how long a file must not have changed before it is taken."""
    when_done: Literal["keep", "move", "delete"] = "keep"
    """What becomes of a file that has been read, once that is durable."""
    into: str | None = None
    """With `when_done: move`: the folder, on the same disk."""
    time: str | None = None
    """The field that carries the event's own time; default: when the file was last changed."""

    _folder: Path = PrivateAttr(default=Path())
    guarantee = "exactly once: read again from the last snapshot, in the same order"
    examples = (
        Example(
            about="Readings of a logger.",
            config="file: {path: readings.csv, format: csv, time: taken}",
            given=[{"taken": "2023-05-01T06:00:00Z", "t": 20}],
            expect=[{"taken": "2023-05-01T06:00:00Z", "t": 20}],
        ),
        Example(
            about="Files that a machine drops into a folder, moved when they have been read.",
            config=(
                "file: {path: in/*.csv, format: csv, separator: ;, header: [part, width], encoding: cp1252, "
                "when_done: move, into: done}"
            ),
            given=[{"part": 17, "width": 20.5}],
            expect=[{"part": 17, "width": 20.5}],
        ),
        Example(
            about="The lines of a log as they are written.",
            config="file: {path: /var/log/press.log, format: text, follow: true}",
            given=[{"line": "2026-11-21 08:00:01 cycle 4711 ok"}],
            expect=[{"line": "2026-11-21 08:00:01 cycle 4711 ok"}],
        ),
    )

    @model_validator(mode="after")
    def _placed(self, info: ValidationInfo) -> "File":
        object.__setattr__(self, "_folder", getattr(info.context, "pack", Path()))
        return self

    def check(self, flow: Flow, node: Node) -> Iterable[Problem]:
        """Find paths that lead out of the flow's folder, and options that do not go together."""
        for option, path in (("path", self.path), ("into", self.into or "")):
            if not path.isprintable() or len(path) > LONGEST_PATH:
                yield Problem("option-value", option, f"a path of at most {LONGEST_PATH} printable characters")
            if ".." in Path(path).parts:
                expected = f"a file below the flow's folder, or an absolute path; got '{path}'"
                yield Problem("option-value", option, expected)
        if not file_formats.ends_lines(self.encoding):
            expected = f"an encoding in which lines end as in ASCII, such as utf-8 or cp1252; got '{self.encoding}'"
            yield Problem("option-value", "encoding", expected)
        yield from self._unfit()

    def _unfit(self) -> Iterable[Problem]:
        if (self.when_done == "move") != (self.into is not None):
            yield Problem("option-value", "into", "a folder, with when_done: move", "into: done")
        elif self.into is not None and Path(self.path).parent == Path(self.into):
            yield Problem("option-value", "into", f"another folder than that of path; got '{self.into}'")
        if self.follow and self.when_done != "keep":
            yield Problem("option-value", "when_done", "keep, as a file that is followed is never done")
        if self.follow and self.terms().whole:
            yield Problem("option-value", "follow", "a format of lines; a file that is one event is read at once")
        for option in ("header", "separator", "numbers"):
            if option in self.model_fields_set and self.format != "csv":
                yield Problem("option-value", option, f"the format csv; got {self.format}")

    async def probe(self, node: Node, reach: Reach) -> Iterable[Problem]:
        """Try to read the file; a folder or a pattern may be empty."""
        if not self.watch(file_watch.FilePosition()).single:
            return ()
        return await reach.readable(self._folder / self.path, "path")

    def terms(self) -> file_reading.Terms:
        """Return how files are read."""
        names = () if self.header == "first" else tuple(self.header)
        return file_reading.Terms(
            self.format, self.encoding.lower(), self.separator, self.numbers, names, self.largest, self.follow
        )

    def watch(self, position: file_watch.FilePosition) -> file_watch.Watch:
        """Return what looks for files."""
        return file_watch.Watch(
            self._folder, self.path, position, follow=self.follow, idle=self.idle, leaves=self.when_done != "keep"
        )

    def open(self) -> Reader:
        """Return a reader whose position is what is to be read next, and what has been; files may appear later."""
        return Files(self, self._folder)


class Files:
    """Reads the segments of its position one after the other, each once a snapshot that has it is durable."""

    def __init__(self, options: File, folder: Path) -> None:
        self.options, self._folder, self._terms = options, folder, options.terms()
        self._watch = options.watch(file_watch.FilePosition())
        self._begun = False
        self._open: file_reading.Reading | None = None
        self._sure = self._looked = self._pause = 0
        into = None if options.into is None else folder / options.into
        self._leaving = None if options.when_done == "keep" else file_leaving.Leaving(into)
        self._fault = ""

    @property
    def _segments(self) -> list[file_watch.Segment]:
        return self._watch.position.segments

    def read(self, position: Any, now: int, limit: int) -> Pull:
        """Return up to `limit` lines of what is sure to be read next; at its end fix what comes after."""
        if not self._begun:
            self._begin(position)
        pull = Pull([], self._watch.position)
        until, more = time.monotonic() + LONGEST_READ, True
        while more and self._sure and len(pull.arrivals) < limit and time.monotonic() < until:
            more = self._step(pull, now, limit)
        if not self._segments and not pull.arrivals:
            self._segments.extend(self._look(now))
        if not pull.arrivals:
            soon = now if more and self._sure else now + SOON
            pull.wake_at = soon if more and self._segments else max(self._looked + self._pause, soon)
            pull.done = self._is_done()
        return pull

    def _begin(self, position: Any) -> None:
        self._begun = True
        if isinstance(position, int):  # a byte offset: what an earlier version stored
            self._watch.position = self._watch.at(position)
        elif position is not None:
            self._watch.position = msgspec.convert(position, file_watch.FilePosition)
        self._sure = len(self._segments)

    def _step(self, pull: Pull, now: int, limit: int) -> bool:
        """Read on in the first segment; return whether to go on at once."""
        segment = self._segments[0]
        try:
            if not self._is_there(segment):
                if self._open is None and self._watch.is_away(segment):
                    raise FileNotFoundError(0, "nothing is in its folder")
                return not pull.arrivals and self._lose(segment, pull)
            ended = self._take(pull, now, limit)
            if ended and segment.end < 0 and self._open and not self._open.over:
                return self._go_over(pull, now, limit)
            if ended:
                self._finish(segment)
        except OSError as fault:
            self._tell(f"{segment.path}: {fault.strerror or fault}")
            self._close()
            return False
        self._tell("")
        return True

    def _is_there(self, segment: file_watch.Segment) -> bool:
        if self._open is not None:
            return self._open.is_same()
        path = self._watch.locate(segment)
        if path is not None:
            self._open = file_reading.Reading(self._terms, segment, Path(path))
        return path is not None

    def _take(self, pull: Pull, now: int, limit: int) -> bool:
        """Take what the open segment has; return whether that is all by now."""
        if self._open is None:
            return False
        arrivals, ended = self._open.take(limit - len(pull.arrivals))
        place = self._watch.position
        place.at = max(place.at, min(self._open.at, now))
        pull.arrivals += [(place.at, arrival) for arrival in arrivals]
        return ended

    def _go_over(self, pull: Pull, now: int, limit: int) -> bool:
        """Where other files have something to read, fix that; not before the open one is at its end even then."""
        others = self._look(now)
        if others and self._take(pull, now, limit) and not pull.arrivals:
            self._finish(self._segments[0])
            self._segments.extend(others)
        return False

    def _look(self, now: int) -> list[file_watch.Segment]:
        if 0 <= now - self._looked < self._pause:
            return []
        found = self._watch.look(now)
        self._looked, self._pause = now, max(self.options.every, self._watch.pause)
        if self._leaving is not None:
            self._leaving.see(self._watch.read)
        return found

    def _finish(self, segment: file_watch.Segment) -> None:
        if self._open is not None:
            self._watch.finish(segment, *self._open.done)
        self._drop()

    def _lose(self, segment: file_watch.Segment, pull: Pull) -> bool:
        """Go over to the next segment, with other numbers than what was read of this one after the last snapshot."""
        log.warning("a file is not what it was: it is read from its beginning, if it is there", file=segment.path)
        pull.skipped += JUMP
        self._drop()
        return True

    def _drop(self) -> None:
        self._close()
        del self._segments[0]
        self._sure -= 1

    def _is_done(self) -> bool:
        once = not self.options.follow and self.options.when_done == "keep" and self._watch.single
        return once and not self._segments and bool(self._watch.read)

    def durable(self) -> None:
        """Read what the position had fixed; take away what has been read."""
        self._sure = len(self._segments)
        try:
            for file in self._leaving.durable() if self._leaving else ():
                self._watch.forget(file)
        except OSError as fault:
            self._tell(f"{fault.filename}: {fault.strerror or fault}")

    def _tell(self, fault: str) -> None:
        """Say once what cannot be read or taken away."""
        if fault and fault != self._fault:
            log.warning("file waits", reason=fault)
        self._fault = fault

    def _close(self) -> None:
        if self._open is not None:
            self._open.close()
        self._open = None

    def close(self) -> None:
        """Close what is open."""
        self._close()
