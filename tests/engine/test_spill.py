"""The spill of a sink: what was appended comes back in order and as it was, whatever becomes of process and disk."""

import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, timedelta, timezone
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine import spill as module
from engine.errors import EnvironmentFault, Unavailable
from engine.event import Event
from engine.event_codec import decode_events, encode_events
from engine.load import load_text
from engine.spill import Spill, forget_spills, open_spills, rename_spills, spilled_elsewhere
from tests.disk import SmallDisk, fill
from tests.process import ROOT

FLOW = """\
flow: line
tables: {row: {id: serial, n: int}}
sources:
  ask: {http: {post: /ask, allow: anyone, reply: flow}}
sinks:
  rows:   {from: ask, sql: {table: row}}
  lines:  {from: ask, mqtt: {}}
  pushed: {from: ask, channel: {name: board, event: ask}}
  answer: {from: ask, reply: {}}
channels:
  board: {path: /ws/board, open: true}
"""


def event(number: int, **data: Any) -> Event:
    return Event(number.to_bytes(16, "big"), number, "key", "in", "a/b", {"n": number, **data}, None, number)


def events(*numbers: int) -> list[Event]:
    return [event(number) for number in numbers]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "spill" / "rows.db"


def small(path: Path, **limits: int) -> Spill:
    """Return a spill that does not mind how full the disk is."""
    return Spill(path, **{"keep_free": 0, **limits})


def drained(spill: Spill) -> list[int]:
    """Read and forget everything; return the events' numbers."""
    found: list[int] = []
    while spill.events:
        batch, last = spill.read()
        found += [each.data["n"] for each in batch]
        spill.delete(last)
    return found


def test_what_was_appended_comes_back_in_order(path: Path) -> None:
    spill = small(path)
    spill.append([events(1, 2), events(3)])
    spill.append([[], events(4, 5)])
    assert spill.events == 5
    assert drained(spill) == [1, 2, 3, 4, 5]
    assert (spill.events, spill.size) == (0, 0)


def test_the_file_is_there_only_while_it_holds_something(path: Path) -> None:
    spill = small(path)
    assert not path.exists()
    spill.append([events(1)])
    assert path.exists()
    assert drained(spill) == [1]
    assert list(path.parent.iterdir()) == []
    spill.append([events(2)])
    assert drained(small(path)) == [2]


def test_each_group_has_the_number_of_its_last_batch(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "ROW_EVENTS", 2)
    spill = small(path)
    first, second = spill.append([events(1, 2, 3), events(4)])
    spill.delete(first)
    assert [each.data["n"] for each in spill.read()[0]] == [4]
    spill.append([events(5)])
    spill.delete(second)
    assert drained(spill) == [5]


def test_a_batch_is_read_in_bounded_parts(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "ROW_BYTES", 3000)
    monkeypatch.setattr(module, "READ_BYTES", 5000)
    spill = small(path)
    spill.append([[event(number, text="x" * 1000) for number in range(20)]])
    assert 1 <= len(spill.read()[0]) < 10
    assert drained(spill) == list(range(20))


def test_another_process_goes_on_where_one_was_killed(path: Path) -> None:
    """It is killed as soon as it has said that its events are on the disk."""
    code = (
        "import sys; from pathlib import Path; from engine.spill import Spill; from tests.engine.test_spill import *; "
        "spill = small(Path(sys.argv[1])); spill.append([events(1, 2)]); spill.append([events(3)]); "
        "spill.delete(1); print('done', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, str(path)], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"done\n"
        process.send_signal(signal.SIGKILL)
    spill = small(path)
    assert spill.events == 1
    assert drained(spill) == [3]


def test_a_full_spill_takes_nothing_more_and_keeps_what_it_has(path: Path) -> None:
    spill = small(path, limit=1000)
    spill.append([events(1)])
    with pytest.raises(Unavailable, match="takes at most 1000"):
        spill.append([[event(2, text="x" * 2000)]])
    assert drained(spill) == [1]


def test_the_last_room_on_the_disk_is_for_others(path: Path) -> None:
    spill = small(path, keep_free=1 << 60)
    with pytest.raises(Unavailable, match="bytes left"):
        spill.append([events(1)])
    assert spill.events == 0


def test_a_disk_that_is_full_takes_nothing_and_goes_on_when_there_is_room(small_disk: SmallDisk) -> None:
    disk = small_disk("2m")
    spill, ballast = small(disk / "spill" / "rows.db"), disk / "ballast"
    spill.append([events(1, 2)])
    fill(ballast)
    with pytest.raises(Unavailable, match=r"full|bytes left"):
        spill.append([[event(3, text="x" * 300_000)]])
    batch, last = spill.read()
    assert [each.data["n"] for each in batch] == [1, 2]
    ballast.unlink()
    spill.append([events(3)])
    spill.delete(last)
    assert drained(spill) == [3]


def test_what_is_written_is_forgotten_on_a_full_disk_too(
    small_disk: SmallDisk, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = small_disk("2m")
    spill = small(disk / "spill" / "rows.db")
    monkeypatch.setattr(module, "READ_EVENTS", 1)
    spill.append([events(1), [event(2, text="x" * 100_000)], events(3)])
    fill(disk / "ballast")
    assert drained(spill) == [1, 2, 3]
    assert not spill.path.exists()


@pytest.mark.parametrize(
    ("damage", "text"),
    [
        (lambda path: path.write_bytes(b"no spill" * 1000), "file is not a database"),
        (lambda path: sqlite3.connect(path).execute("create table t (x)").close(), "another kind or version"),
    ],
)
def test_a_file_that_is_no_spill_is_told(path: Path, damage: Callable[[Path], object], text: str) -> None:
    path.parent.mkdir()
    damage(path)
    with pytest.raises(EnvironmentFault, match=text) as caught:
        small(path)
    assert str(path) in str(caught.value)
    assert "--repair rows" in str(caught.value)


def test_a_batch_that_cannot_be_read_is_told(path: Path) -> None:
    spill = small(path)
    spill.append([events(1)])
    spill.close()
    with sqlite3.connect(path) as connection:
        connection.execute("update batch set body = x'c1'")
    connection.close()
    with pytest.raises(EnvironmentFault, match="--repair rows"):
        spill.read()


def test_answers_and_channels_do_not_spill(tmp_path: Path) -> None:
    flow = load_text(FLOW).raise_findings()
    spills = open_spills(flow, tmp_path)
    assert {name: spill.path for name, spill in spills.items()} == {
        "rows": tmp_path / "spill" / "rows.db",
        "lines": tmp_path / "spill" / "lines.db",
    }
    assert not (tmp_path / "spill").exists()


def test_what_sinks_that_are_gone_have_left_is_found(tmp_path: Path) -> None:
    for name, numbers in (("rows", (1, 2)), ("gone", (3, 4, 5))):
        small(tmp_path / "spill" / f"{name}.db").append([events(*numbers)])
    (tmp_path / "spill" / "begun.db").touch()
    assert spilled_elsewhere(tmp_path, {"rows"}) == {"gone": 3}
    assert spilled_elsewhere(tmp_path, {"rows", "gone"}) == {}
    assert spilled_elsewhere(tmp_path / "nowhere", set()) == {}
    assert drained(small(tmp_path / "spill" / "gone.db")) == [3, 4, 5]


def test_a_broken_spill_of_a_sink_that_is_gone_is_told(tmp_path: Path) -> None:
    (tmp_path / "spill").mkdir()
    (tmp_path / "spill" / "gone.db").write_bytes(b"no spill" * 1000)
    with pytest.raises(EnvironmentFault, match="--repair gone"):
        spilled_elsewhere(tmp_path, set())


TEXT = st.text(st.characters(codec=None), max_size=5)
SIMPLE = st.one_of(
    st.none(), st.booleans(), st.floats(allow_nan=False), TEXT, st.binary(max_size=5), st.integers(-(1 << 80), 1 << 80)
)
TIMES = st.datetimes(timezones=st.sampled_from([None, UTC, timezone(timedelta(hours=5, minutes=30))])).map(
    lambda time: time.replace(fold=0)
)
NAMES = st.text(max_size=5)
DATA = st.dictionaries(
    NAMES,
    st.recursive(SIMPLE | TIMES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner)),
    max_size=4,
)


@given(st.binary(min_size=16, max_size=16), st.integers(0, 1 << 60), TEXT, DATA, st.none() | DATA)
def test_events_come_back_exactly(identity: bytes, time: int, key: str, data: dict[str, Any], meta: Any) -> None:
    before = Event(identity, time, key, "source", key, data, meta, time + 1)
    [after] = decode_events(encode_events([before]))
    assert after == before
    assert repr(after) == repr(before)


def test_what_is_no_data_becomes_text_and_what_is_too_deep_is_left_out() -> None:
    deep: dict[str, Any] = {}
    for _ in range(300):
        deep = {"in": deep}
    [after] = decode_events(encode_events([event(1, pair=(1, 2), path=Path("a"), deep=deep)]))
    assert after.data["pair"] == [1, 2]
    assert after.data["path"] == "a"
    assert str(after.data["deep"]).count("in") == 99


@given(st.binary(max_size=50))
def test_bytes_that_are_no_events_are_refused(body: bytes) -> None:
    try:
        found = decode_events(body)
    except (msgspec.DecodeError, TypeError, ValueError):
        return
    assert isinstance(found, list)


def test_a_renamed_sink_goes_on_with_what_waits(path: Path) -> None:
    folder = path.parent.parent
    for name in ("rows", "lines"):
        left = small(path.with_stem(name))  # not closed, as after a kill: its write-ahead log is still there
        left.append([events(1, 2) if name == "rows" else events(3)])
    rename_spills(folder, {"rows": "entries", "gone": "other"})
    assert spilled_elsewhere(folder, []) == {"entries": 2, "lines": 1}
    assert drained(small(path.with_stem("entries"))) == [1, 2]
    forget_spills(folder, ["lines", "none"])
    assert list(path.parent.iterdir()) == []
