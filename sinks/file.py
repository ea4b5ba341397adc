"""`file`: lines of a file."""

import asyncio
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, Literal

import structlog
from pydantic import BaseModel, Field, PrivateAttr

from engine.api import (
    Component,
    Duration,
    Event,
    EventFault,
    Example,
    Expression,
    Flow,
    Node,
    Outside,
    Place,
    Placeholders,
    Problem,
    Reach,
    Sink,
    Size,
    Type,
    Unavailable,
    Writer,
    component,
    file_store,
    outgoing,
    parquet_file,
    text_formats,
    unknown_fields,
)

LONGEST_PATH = 500
PAUSE = 10.0  # seconds until what the disk did not take is tried again
log = structlog.get_logger()


class Rotate(BaseModel):
    """When a file ends and the next one begins."""

    model_config = Component.model_config

    largest: Size = 0
    """The size that a file does not exceed, unless by its first line."""
    every: Duration = 0
    """How long one file is written to."""


@component("file")
class File(Sink):
    """Append each event to a file: a line of JSON, a row of CSV, or a row of a Parquet file.

    Delivery: exactly once as seen in the files, over a `kill -9` and a full disk: lengths and events are noted together
    after the bytes are on the disk, what was written and not noted is overwritten, and what comes again is known. For
    that nobody else may write to these files, nor move the one that is written to; they lie on a disk, not on a share
    that loses what it was told to keep. While the disk is away or full, events wait.

    With `rotate` a path has numbers (`name-000001.csv`), and only the file with the highest one grows. A Parquet file
    appears under its name when it is complete; what is to be in it waits in a hidden file beside it. Its columns have
    the types of what was written: text, whole or other numbers, booleans, times; what is mixed is text.
    """

    path: Placeholders
    """The file, relative to the folder `files/FLOW` of the data folder (a flow's own may be read-only), or absolute.
    `{date}`, `{year}`, `{month}` and `{hour}` are the event's time in UTC, `{key}`, `{source}` and `{topic}` its own,
    and any other expression stands in braces too, as in `out/{date}/{line}.csv`. What ends in `.gz` is compressed."""
    format: Literal["jsonl", "csv", "parquet"] = "jsonl"
    """What the file is."""
    fields: list[str] = []
    """Which fields are written (default: all); for CSV they are the columns, in this order."""
    columns: dict[str, Expression] = {}
    """In place of `fields`: the columns, each with the expression that fills it."""
    header: Literal["first", "none"] = "first"
    """CSV: whether the first line of each file names the columns."""
    separator: str = Field(",", min_length=1, max_length=1)
    """CSV: what stands between values."""
    rotate: Rotate = Rotate()
    """When the next file begins: `{largest: 100MiB, every: 1h}`, one of them or both; by default never, and for Parquet
    after ten minutes or 64 MiB (before compression)."""

    _data: Path = PrivateAttr(default=Path())
    guarantee = "exactly once as seen in the files"
    examples = (
        Example(
            about="A file of readings for each day and line.",
            config="file: {path: 'readings/{date}/line {line}.csv', format: csv, columns: {at: meta.time, t: t}}",
            given=[{"line": 3, "t": 20.5}, {"line": 4, "t": 21}],
            expect=[{"line": 3, "t": 20.5}, {"line": 4, "t": 21}],
        ),
        Example(
            about="Everything as compressed lines of JSON, a new file each hour or 100 MiB.",
            config="file: {path: all.jsonl.gz, rotate: {largest: 100MiB, every: 1h}}",
            given=[{"device": "LED", "result": "OK"}],
            expect=[{"device": "LED", "result": "OK"}],
        ),
        Example(
            about="Parquet for the analysts, a file for each five minutes.",
            config="file: {path: 'results/{date}.parquet', format: parquet, rotate: {every: 5m}, "
            "fields: [device, result]}",
            given=[{"device": "LED", "result": "OK", "more": 1}],
            expect=[{"device": "LED", "result": "OK", "more": 1}],
        ),
    )

    def check(self, flow: Flow, node: Node) -> Iterable[Problem]:
        """Find a path that leads out of the folder, and options that do not go together."""
        text = str(self.path)
        if not text.isprintable() or not 0 < len(text) <= LONGEST_PATH or text.endswith("/"):
            yield Problem("option-value", "path", f"a file's path of at most {LONGEST_PATH} printable characters")
        if ".." in Path(text).parts:
            yield Problem("option-value", "path", f"a file below the folder, or an absolute path; got '{text}'")
        if self.fields and self.columns:
            yield Problem("option-value", "columns", "either fields or columns; got both")
        if self.format == "csv" and not self.fields and not self.columns:
            yield Problem("option-value", "fields", "the columns of the file, in fields or columns; got neither")
        if self.format == "parquet" and text.endswith(".gz"):
            yield Problem("option-value", "path", "a path without .gz, as Parquet is compressed by itself")
        for option in ("header", "separator"):
            if option in self.model_fields_set and self.format != "csv":
                yield Problem("option-value", option, f"the format csv; got {self.format}")

    def check_fields(self, flow: Flow, node: Node, given: Mapping[str, Type]) -> Iterable[Problem]:
        """Find fields that do not come in."""
        return unknown_fields(flow, ((f"fields.{at}", name) for at, name in enumerate(self.fields)), given)

    async def probe(self, node: Node, reach: Reach) -> Iterable[Problem]:
        """Try whether a file could be made where the path begins."""
        begin = self.path.beginning.rpartition("/")[0]
        return await reach.writable(reach.settings.data / "files" / "flow" / begin / ".tried", "path")

    def deployed(self, place: Place) -> "File":
        """Return the sink with its place."""
        placed = self.model_copy()
        object.__setattr__(placed, "_data", place.data)
        return placed

    async def open(self, node: Node, outside: Outside) -> Writer:
        """Return the writer; files are opened when something is written."""
        journal = self._data / "flows" / outside.flow / "files" / f"{node.name}.db"
        store = file_store.FileStore(self._data / "files" / outside.flow, journal, self.layout())
        return Files(self, store, partial(outside.dead, node.name))

    def layout(self) -> file_store.Layout:
        """Return how its files are laid out."""
        largest, every = self.rotate.largest, self.rotate.every
        if self.format == "parquet":
            unsaid = not largest and not every
            return file_store.Layout(
                b"", largest or (64 << 20), 600_000_000 if unsaid else every, parquet_file.write_parquet
            )
        names = list(self.columns) or self.fields
        header = self.format == "csv" and self.header == "first"
        return file_store.Layout(_row(names, self.separator) if header else b"", largest, every)

    def encoder(self) -> Callable[[Event], bytes]:
        """Return what makes the bytes of an event; raises EventFault."""
        values = outgoing.body_of("columns", self.columns or self.fields or None)
        if self.format == "csv":
            return lambda event: _row(list(values(event).values()), self.separator)
        if self.format == "parquet":
            return lambda event: parquet_file.record(values(event))
        return lambda event: outgoing.as_json_bytes(values(event)) + b"\n"


def _row(values: list[Any], separator: str) -> bytes:
    try:
        return text_formats.write_csv(values, separator).encode() + b"\n"
    except (ValueError, TypeError) as fault:
        reason = f"values that CSV can hold; {fault}"
    raise EventFault(reason)


class Files:
    """Writes batches, and makes files whole when it is time."""

    def __init__(self, options: File, store: file_store.FileStore, dead: Callable[..., None]) -> None:
        self._path, self._encode, self._dead = options.path, options.encoder(), dead
        self._store = store
        self._written = asyncio.Event()
        self._ending = asyncio.create_task(self._end()) if options.format == "parquet" else None

    async def write(self, events: list[Event]) -> None:
        """Return when they are on the disk; raises Unavailable while it does not take them."""
        lines = [line for _, line in outgoing.sound(events, self._line, self._refuse)]
        await asyncio.to_thread(self._store.write, lines)
        self._written.set()

    def _line(self, event: Event) -> file_store.Line:
        return file_store.Line(self._path.fill(event, file_store.safe_name), event.id, self._encode(event))

    def _refuse(self, event: Event, fault: EventFault) -> None:
        self._dead(event, fault.reason, fault.values)

    async def _end(self) -> None:
        """End each file at its time, also where nothing comes any more."""
        while True:
            try:
                due = await asyncio.to_thread(self._store.due)
                if due is None:
                    await self._written.wait()
                    self._written.clear()
                else:
                    await asyncio.sleep(due)
                    await asyncio.to_thread(self._store.end_due)
            except Unavailable as fault:
                log.warning("files wait for their disk", reason=str(fault))
                await asyncio.sleep(PAUSE)

    async def close(self) -> None:
        """Close the journal."""
        if self._ending is not None:
            self._ending.cancel()
            with suppress(asyncio.CancelledError):
                await self._ending
        self._store.close()
