"""The yardstick: the same work by hand on Bytewax, with the same promises and nothing that can be declared.

    journal (lines of JSON, by offset) ─▶ typed decode of whole blocks ─▶ 16 shards ─▶ window ─▶ idempotent SQLite

`python -m bench.yardstick FOLDER windows|rows` reads FOLDER/journal to its end and prints (seconds, events, seconds of
CPU) at each snapshot. `windows` writes a row a window of ten seconds, `rows` a row an event.
"""

import gc
import sqlite3
import sys
import time
from datetime import timedelta
from pathlib import Path
from typing import Any
from zlib import crc32

import bytewax.operators as op
import msgspec
from bytewax.dataflow import Dataflow
from bytewax.inputs import FixedPartitionedSource, StatefulSourcePartition
from bytewax.outputs import FixedPartitionedSink, StatefulSinkPartition
from bytewax.recovery import RecoveryConfig, init_db_dir
from bytewax.run import cli_main

SHARDS, BYTES, EVERY, LATENESS = 16, 1 << 17, 10.0, 2.0
EPOCH = timedelta(seconds=0.5)
Windows = dict[float, dict[str, list[float]]]
TABLES = {
    "windows": "create table t (device text, start real, n, total, least, most, primary key (device, start))",
    "rows": """create table t (id integer primary key, device text, value real, ts real, event integer);
        create unique index t_event on t (event); create index t_device on t (device); create index t_ts on t (ts)""",
}
WRITES = {
    "windows": "insert or replace into t values (?, ?, ?, ?, ?, ?)",
    "rows": "insert into t (event, device, value, ts) values (?, ?, ?, ?) on conflict do nothing",
}


class Reading(msgspec.Struct, gc=False):
    """What a device sends."""

    device: str
    value: float
    ts: float


class Journal(StatefulSourcePartition[Any, int]):
    """Gives blocks of whole lines, each with the number of events before it; tells what is durable."""

    def __init__(self, path: Path, position: tuple[int, int]) -> None:
        self._file, (self._at, self._count) = path.open("rb"), position
        self._file.seek(self._at)
        self._told = True

    def next_batch(self) -> list[tuple[int, bytes]]:
        if not self._told:
            print(msgspec.json.encode((time.perf_counter(), self._count, time.process_time())).decode(), flush=True)
            self._told = True
        block = self._file.read(BYTES)
        block = block[: block.rfind(b"\n") + 1]
        if not block:
            raise StopIteration
        before, self._count = self._count, self._count + block.count(b"\n")
        self._at += len(block)
        self._file.seek(self._at)
        return [(before, block)]

    def snapshot(self) -> Any:
        self._told = False
        return self._at, self._count


class JournalSource(FixedPartitionedSource[Any, Any]):
    """The one journal."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def list_parts(self) -> list[str]:
        return ["journal"]

    def build_part(self, step_id: str, for_part: str, resume_state: Any) -> Journal:
        return Journal(self._path, resume_state or (0, 0))


class Decode:
    """Decodes blocks; to windows it gives (shard, readings), to rows what is to be written."""

    def __init__(self, rows: bool) -> None:
        self._decoder, self._shards, self._rows = msgspec.json.Decoder(Reading), dict[str, int](), rows

    def __call__(self, blocks: list[tuple[int, bytes]]) -> list[tuple[str, Any]]:
        found: list[tuple[str, Any]] = []
        for before, block in blocks:
            readings = self._decoder.decode_lines(block)
            if self._rows:
                found.append(("0", [(n, r.device, r.value, r.ts) for n, r in enumerate(readings, before + 1)]))
            else:
                found += [(str(shard), chunk) for shard, chunk in enumerate(self._spread(readings)) if chunk]
        return found

    def _spread(self, readings: list[Reading]) -> list[list[Reading]]:
        chunks: list[list[Reading]] = [[] for _ in range(SHARDS)]
        shards = self._shards
        for reading in readings:
            shard = shards.get(reading.device)
            if shard is None:
                shard = shards[reading.device] = crc32(reading.device.encode()) % SHARDS
            chunks[shard].append(reading)
        return chunks


class Window(op.StatefulBatchLogic[Any, Any, bytes]):
    """The windows of one shard: start → device → count, sum, least, most."""

    def __init__(self, snapshot: bytes | None) -> None:
        self._latest, self._windows = 0.0, Windows()
        if snapshot:
            self._latest, self._windows = msgspec.msgpack.decode(snapshot, type=tuple[float, Windows], strict=False)

    def on_batch(self, values: list[list[Reading]]) -> tuple[list[Any], bool]:
        closed = self._latest - LATENESS
        for readings in values:
            self._add(readings, closed)
        closed = self._latest - LATENESS
        return [self._close(start) for start in list(self._windows) if start + EVERY <= closed], False

    def _add(self, readings: list[Reading], closed: float) -> None:
        latest = self._latest
        for reading in readings:
            ts, value = reading.ts, reading.value
            start = ts - ts % EVERY
            if ts > latest:
                latest = ts
            if start + EVERY <= closed:
                continue
            devices = self._windows.setdefault(start, {})
            kept = devices.get(reading.device)
            if kept is None:
                devices[reading.device] = [1, value, value, value]
                continue
            kept[0] += 1
            kept[1] += value
            if value < kept[2]:
                kept[2] = value
            elif value > kept[3]:
                kept[3] = value
        self._latest = latest

    def _close(self, start: float) -> list[tuple[Any, ...]]:
        return [(device, start, *kept) for device, kept in self._windows.pop(start).items()]

    def snapshot(self) -> bytes:
        return msgspec.msgpack.encode((self._latest, self._windows))


class Rows(StatefulSinkPartition[Any, None]):
    """Writes chunks of rows; a transaction an epoch."""

    def __init__(self, path: Path, kind: str) -> None:
        self._connection, self._write = sqlite3.connect(path), WRITES[kind]
        self._connection.executescript(f"pragma journal_mode = wal; pragma synchronous = full; {TABLES[kind]}")

    def write_batch(self, values: list[list[tuple[Any, ...]]]) -> None:
        for rows in values:
            self._connection.executemany(self._write, rows)

    def snapshot(self) -> None:
        self._connection.commit()


class RowsSink(FixedPartitionedSink[Any, None]):
    """The one table."""

    def __init__(self, path: Path, kind: str) -> None:
        self._path, self._kind = path, kind

    def list_parts(self) -> list[str]:
        return ["table"]

    def build_part(self, step_id: str, for_part: str, resume_state: None) -> Rows:
        return Rows(self._path, self._kind)


def main(folder: Path, kind: str) -> None:
    """Run to the end of the journal."""
    flow = Dataflow("yardstick")
    decoded = op.flat_map_batch(
        "decode", op.input("journal", flow, JournalSource(folder / "journal")), Decode(kind == "rows")
    )
    rows = decoded if kind == "rows" else op.stateful_batch("window", decoded, Window)
    op.output("rows", rows, RowsSink(folder / f"{kind}.db", kind))
    (folder / f"{kind}-recovery").mkdir()
    init_db_dir(folder / f"{kind}-recovery", 1)
    gc.freeze()
    gc.disable()
    cli_main(flow, epoch_interval=EPOCH, recovery_config=RecoveryConfig(str(folder / f"{kind}-recovery")))


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
