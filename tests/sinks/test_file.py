"""The file sink on a real disk: what is in the files, over crashes at any point, full disks and rotation."""

import asyncio
import csv
import gzip
import json
import os
import random
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow.parquet
import pytest

from engine import file_store
from engine.component import Place
from engine.errors import Unavailable
from engine.file_journal import Journal
from engine.spill import rename_spills
from sinks.file import File
from tests.process import wait_until
from tests.sinks.sink_case import START, Surroundings, event, readings


@pytest.fixture
def outside() -> Surroundings:
    return Surroundings()


def sink(data: Path, **options: Any) -> File:
    return File.model_validate(options).deployed(Place(data))


async def written(outside: Surroundings, data: Path, events: list[Any], **options: Any) -> None:
    async with outside.opened(sink(data, **options)) as writer:
        await writer.write(events)


def numbers(*paths: Path) -> list[int]:
    return [json.loads(line)["n"] for path in paths for line in path.read_text().splitlines()]


def files(data: Path) -> dict[str, Path]:
    folder = data / "files" / "line"
    return {str(path.relative_to(folder)): path for path in sorted(folder.rglob("*")) if path.is_file()}


async def test_lines_of_json(tmp_path: Path, outside: Surroundings) -> None:
    await written(outside, tmp_path, readings(3), path="out/all.jsonl")
    await written(outside, tmp_path, readings(2, 3), path="out/all.jsonl")
    found = files(tmp_path)["out/all.jsonl"].read_text().splitlines()
    assert [json.loads(line) for line in found] == [{"n": n, "device": f"LED{n % 7}"} for n in range(5)]


async def test_rows_of_csv_with_one_header(tmp_path: Path, outside: Surroundings) -> None:
    events = [event(0, {"a": 'x;"y"', "b": None}), event(1, {"a": "line\nend", "b": 1.5}), event(2, {"b": True})]
    options = {"path": "t.csv", "format": "csv", "separator": ";", "fields": ["a", "b"]}
    await written(outside, tmp_path, events[:2], **options)
    await written(outside, tmp_path, events[2:], **options)
    with files(tmp_path)["t.csv"].open(newline="") as file:
        assert list(csv.reader(file, delimiter=";")) == [
            ["a", "b"], ['x;"y"', ""], ["line\nend", "1.5"], ["", "true"],
        ]  # fmt: skip


async def test_columns_are_expressions_and_the_header_can_be_left_out(tmp_path: Path, outside: Surroundings) -> None:
    columns = {"at": "meta.time", "twice": "n * 2"}
    await written(outside, tmp_path, readings(1), path="t.csv", format="csv", columns=columns, header="none")
    assert files(tmp_path)["t.csv"].read_text() == "2026-01-31T12:00:00.123456Z,0\n"


async def test_paths_by_day_key_and_field_stay_apart(tmp_path: Path, outside: Surroundings) -> None:
    day = 86_400_000_000
    keys = ["a/b", "a_b", "..", "", "ü", ".x", "a%2Fb"]
    events = [event(n, {"n": n}, key=key, time=START + n % 2 * day) for n, key in enumerate(keys)]
    await written(outside, tmp_path, events, path="{date}/{key}/{n}.jsonl")
    assert list(files(tmp_path)) == sorted([
        "2026-01-31/a%2Fb/0.jsonl", "2026-02-01/a_b/1.jsonl", "2026-01-31/%2E./2.jsonl", "2026-02-01/%/3.jsonl",
        "2026-01-31/ü/4.jsonl", "2026-02-01/%2Ex/5.jsonl", "2026-01-31/a%252Fb/6.jsonl",
    ])  # fmt: skip
    assert outside.letters == []


async def test_what_has_no_path_or_no_text_costs_itself(tmp_path: Path, outside: Surroundings) -> None:
    events = [event(0, {"n": 0, "k": "x"}), event(1, {"n": 1, "k": "y" * 300}), event(2, {"n": 2, "k": "\ud800"})]
    events += [event(3, {"n": "\ud800", "k": "x"}), event(4, {"n": 4, "k": "x"})]
    await written(outside, tmp_path, events, path="{k}.jsonl")
    assert numbers(*files(tmp_path).values()) == [0, 4]
    assert [letter[1].id[-1] for letter in outside.letters] == [1, 2, 3]


async def test_what_comes_again_is_there_once(tmp_path: Path, outside: Surroundings) -> None:
    await written(outside, tmp_path, readings(50), path="a.jsonl")
    await written(outside, tmp_path, readings(60, 20), path="a.jsonl")
    async with outside.opened(sink(tmp_path, path="a.jsonl")) as writer:
        await writer.write(readings(10, 75) * 2)
    assert numbers(files(tmp_path)["a.jsonl"]) == list(range(85))


async def test_one_event_by_two_branches_is_there_twice(tmp_path: Path, outside: Surroundings) -> None:
    one = event(1, {"n": 1})
    await written(outside, tmp_path, [one, one.derive({"n": 2}), one], path="a.jsonl")
    assert numbers(files(tmp_path)["a.jsonl"]) == [1, 2]


async def test_older_events_are_forgotten(
    tmp_path: Path, outside: Surroundings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("engine.file_journal.KNOWN", 100)
    async with outside.opened(sink(tmp_path, path="a.jsonl")) as writer:
        for first in range(0, 1000, 10):
            await writer.write(readings(10, first))
        await writer.write(readings(100, 900))
        assert numbers(files(tmp_path)["a.jsonl"]) == list(range(1000))
    journal = Journal(tmp_path / "flows" / "line" / "files" / "out.db")
    assert sum(journal.known(b"%016d" % n) for n in range(1000)) == 0
    assert 100 <= len(journal._known) < 120
    journal.close()


async def test_compressed_files_are_whole_at_any_time(tmp_path: Path, outside: Surroundings) -> None:
    for first in range(0, 30, 10):
        await written(outside, tmp_path, readings(10, first), path="a.jsonl.gz")
        lines = gzip.decompress(files(tmp_path)["a.jsonl.gz"].read_bytes()).splitlines()
        assert [json.loads(line)["n"] for line in lines] == list(range(first + 10))


async def test_files_end_by_size(tmp_path: Path, outside: Surroundings) -> None:
    options = {"path": "a.b.csv", "format": "csv", "fields": ["n"], "rotate": {"largest": "100B"}}
    for first in range(0, 200, 40):
        await written(outside, tmp_path, readings(40, first), **options)
    found = files(tmp_path)
    assert list(found) == [f"a.b-{number:06}.csv" for number in range(1, len(found) + 1)]
    rows = [path.read_text().split() for path in found.values()]
    assert all(row[0] == "n" for row in rows)
    assert all(path.stat().st_size <= 102 for path in found.values())
    assert [int(n) for row in rows for n in row[1:]] == list(range(200))


async def test_files_end_by_time(tmp_path: Path, outside: Surroundings, monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1_000_000_000
    monkeypatch.setattr(file_store, "_now", lambda: now)
    options = {"path": "a.jsonl", "rotate": {"every": "1m"}}
    for n in range(6):
        await written(outside, tmp_path, readings(1, n), **options)
        now += 25_000_000
    assert [numbers(path) for path in files(tmp_path).values()] == [[0, 1, 2], [3, 4, 5]]


class CutError(Exception):
    """Power is lost."""


def cut_at(monkeypatch: pytest.MonkeyPatch, step: int) -> Callable[[], int]:
    """Let everything fail from the given system call on, as if the power were lost; bytes may be half written."""
    done = 0
    real: dict[str, Any] = {name: getattr(os, name) for name in ("pwrite", "fsync", "ftruncate", "replace", "open")}
    commit = Journal.commit

    def counted(name: str) -> Callable[..., Any]:
        def call(*arguments: Any, **named: Any) -> Any:
            nonlocal done
            done += 1
            if done > step:
                raise CutError
            if done == step and name == "pwrite":
                return real[name](arguments[0], arguments[1][: len(arguments[1]) // 2], arguments[2])
            return real[name](*arguments, **named)

        return call

    def committed(self: Journal, *arguments: Any) -> None:
        nonlocal done
        done += 1
        if done > step:
            raise CutError
        commit(self, *arguments)

    for name in real:
        monkeypatch.setattr(os, name, counted(name))
    monkeypatch.setattr(Journal, "commit", committed)
    return lambda: done


LAYOUTS: dict[str, dict[str, Any]] = {
    "jsonl": {"path": "{n % 3}.jsonl"},
    "gz": {"path": "{n % 2}.jsonl.gz"},
    "csv": {"path": "a.csv", "format": "csv", "fields": ["n"], "rotate": {"largest": "60B"}},
    "parquet": {"path": "{n % 2}.parquet", "format": "parquet", "rotate": {"largest": "100B"}},
}


def all_numbers(data: Path) -> list[int]:
    found: list[int] = []
    for path in sorted(data.rglob("*")):
        name = path.name
        if name.endswith(".parquet"):
            found += pyarrow.parquet.read_table(path).column("n").to_pylist()
        elif name.endswith(".csv"):
            found += [int(line) for line in path.read_text().split()[1:]]
        elif name.endswith(".gz"):
            found += [json.loads(line)["n"] for line in gzip.decompress(path.read_bytes()).splitlines()]
        elif name.endswith(".jsonl"):
            found += numbers(path)
    return sorted(found)


async def test_a_renamed_sink_knows_its_files(tmp_path: Path, outside: Surroundings) -> None:
    flow = tmp_path / "flows" / "line"
    await written(outside, tmp_path, readings(3), path="a.jsonl")
    (flow / "files" / "other.db").write_bytes(b"of another sink")
    rename_spills(flow, {"out": "other", "other": "out"})
    assert (flow / "files" / "out.db").read_bytes() == b"of another sink"
    (flow / "files" / "out.db").unlink()
    rename_spills(flow, {"other": "out"})
    await written(outside, tmp_path, readings(5), path="a.jsonl")
    assert numbers(files(tmp_path)["a.jsonl"]) == list(range(5))


def test_what_is_closed_touches_no_file(tmp_path: Path) -> None:
    store = file_store.FileStore(tmp_path, tmp_path / "j.db", file_store.Layout())
    store.close()
    with pytest.raises(Unavailable, match="closed"):
        store.write([file_store.Line("a", b"1" * 16, b"1")])
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_cut_at_any_call_loses_and_doubles_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, layout: str
) -> None:
    """Property: whatever call is the last one, after a start that writes again from the last snapshot all is there once."""

    def run(data: Path, step: int) -> bool:
        """Write 36 events in batches, cut at a step, then go on from the snapshot before; tell whether it was cut."""
        options = sink(data, **LAYOUTS[layout])
        path, encode = options.path, options.encoder()
        lines = [file_store.Line(path.fill(one, file_store.safe_name), one.id, encode(one)) for one in readings(36)]
        store, written = file_store.FileStore(data, data / "j.db", options.layout()), 0
        with monkeypatch.context() as patch:
            cut_at(patch, step)
            try:
                for written in range(0, 36, 12):
                    store.write(lines[written : written + 12])
                was_cut = False
            except CutError:
                was_cut = True
        store.close()
        again = file_store.FileStore(data, data / "j.db", options.layout())
        for first in range(max(0, written - 12), 36, 12):
            again.write(lines[first : first + 12])
        if layout == "parquet":
            again.end_all()
        again.close()
        return was_cut

    step, cut = 1, True
    while cut:
        data = tmp_path / str(step)
        cut = run(data, step)
        assert all_numbers(data) == list(range(36)), f"cut at call {step}"
        step += 1
    assert step > 20


async def test_a_disk_that_takes_nothing_is_waited_for(tmp_path: Path, outside: Surroundings) -> None:
    (tmp_path / "files").write_text("in the way")
    async with outside.opened(sink(tmp_path, path="a.jsonl")) as writer:
        with pytest.raises(Unavailable, match="files"):
            await writer.write(readings(5))
        (tmp_path / "files").unlink()
        await writer.write(readings(5))
    assert numbers(files(tmp_path)["a.jsonl"]) == list(range(5))


async def test_a_file_that_was_taken_away_begins_anew(tmp_path: Path, outside: Surroundings) -> None:
    options = {"path": "a.csv", "format": "csv", "fields": ["n"]}
    async with outside.opened(sink(tmp_path, **options)) as writer:
        await writer.write(readings(3))
        files(tmp_path)["a.csv"].unlink()
        await writer.write(readings(2, 3))
    assert files(tmp_path)["a.csv"].read_text() == "n\n3\n4\n"


async def test_without_its_journal_a_file_goes_on_at_its_end(tmp_path: Path, outside: Surroundings) -> None:
    for options in ({"path": "a.jsonl"}, {"path": "b.jsonl", "rotate": {"largest": "60B"}}):
        await written(outside, tmp_path, readings(3), **options)
        for path in (tmp_path / "flows" / "line" / "files").iterdir():
            path.unlink()
        await written(outside, tmp_path, readings(2, 3), **options)
    assert numbers(files(tmp_path)["a.jsonl"]) == list(range(5))
    assert [n for name, path in files(tmp_path).items() if name[0] == "b" for n in numbers(path)] == list(range(5))


async def test_parquet_files_appear_whole_with_types(tmp_path: Path, outside: Surroundings) -> None:
    at = datetime(2026, 1, 31, 12, tzinfo=UTC)
    data: list[dict[str, Any]] = [
        {"i": 1, "f": 1.5, "b": True, "t": "x", "at": at, "mixed": 1, "obj": {"a": [1]}, "big": 2**63, "x": b"\0\1"},
        {"i": 2, "f": 2, "b": None, "t": "ü", "at": None, "mixed": "one", "obj": [2], "new": 1},
    ]
    options = {"path": "t.parquet", "format": "parquet", "rotate": {"every": "200ms"}}
    async with outside.opened(sink(tmp_path, **options)) as writer:
        await writer.write([event(n, row) for n, row in enumerate(data)])
        assert not [name for name in files(tmp_path) if not name.startswith(".")]
        await asyncio.to_thread(wait_until, lambda: "t-000001.parquet" in files(tmp_path), "it is whole", 10)
        await asyncio.to_thread(wait_until, lambda: len(files(tmp_path)) == 1, "what waited is gone", 10)
    table = pyarrow.parquet.read_table(files(tmp_path)["t-000001.parquet"])
    assert {field.name: str(field.type) for field in table.schema} == {
        "i": "int64", "f": "double", "b": "bool", "t": "string", "at": "timestamp[us, tz=UTC]", "mixed": "string",
        "obj": "string", "big": "string", "x": "binary", "new": "int64",
    }  # fmt: skip
    rows = table.to_pylist()
    assert rows[0] | {"at": None} == {
        "i": 1, "f": 1.5, "b": True, "t": "x", "at": None, "mixed": "1", "obj": '{"a":[1]}', "big": str(2**63),
        "x": b"\0\1", "new": None,
    }  # fmt: skip
    assert rows[0]["at"] == at
    assert (rows[1]["f"], rows[1]["mixed"], rows[1]["obj"], rows[1]["new"]) == (2.0, "one", "[2]", 1)


async def test_what_waits_for_its_parquet_file_goes_on_after_a_restart(tmp_path: Path, outside: Surroundings) -> None:
    options = {"path": "t.parquet", "format": "parquet", "rotate": {"every": "1h"}}
    await written(outside, tmp_path, readings(3), **options)
    await written(outside, tmp_path, readings(3, 3), **options)
    async with outside.opened(sink(tmp_path, **options | {"rotate": {"every": "1ms"}})):
        await asyncio.to_thread(wait_until, lambda: "t-000001.parquet" in files(tmp_path), "it is whole", 10)
    assert all_numbers(tmp_path) == list(range(6))


async def test_many_files_are_known_up_to_a_bound(
    tmp_path: Path,
    outside: Surroundings,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(file_store, "MOST_FILES", 20)
    seeded = random.Random(7)
    events = [event(n, {"n": n, "file": seeded.randrange(50)}) for n in range(400)]
    for options in (
        {"path": "{file}.jsonl"},
        {"path": "p/{file}.parquet", "format": "parquet", "rotate": {"every": "1h"}},
    ):
        async with outside.opened(sink(tmp_path, **options)) as writer:
            for first in range(0, 400, 10):
                await writer.write(events[first : first + 10])
            store = writer._store  # type: ignore[attr-defined]
            assert len(store._journal.places) <= 28
            store.end_all()
    assert all_numbers(tmp_path) == sorted([*range(400), *range(400)])
