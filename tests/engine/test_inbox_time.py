"""The time of an inbox: downtime and jumps of the clock are gaps that are stored before anything that comes after."""

import asyncio
import contextlib
import os
import random
import sqlite3
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from engine import inbox_file
from engine.arrival import Arrival
from engine.arrival_clock import ArrivalClock
from engine.arrivals import Arrivals
from engine.gap import Gap
from engine.inbox import InboxReader, InboxWriter
from engine.inbox_log import InboxLog
from tests.engine.inbox_case import arrivals, put, stored, writing

SECOND = 1_000_000
NOON = 1_700_000_000 * SECOND


class System:
    """The clocks of a system, moved by the test."""

    def __init__(self) -> None:
        self.wall, self.monotonic = NOON, 0

    def run(self, time: int, jump: int = 0) -> None:
        self.wall += time + jump
        self.monotonic += time

    def clock(self, last: int) -> ArrivalClock:
        return ArrivalClock(last, lambda: self.wall, lambda: self.monotonic)


@pytest.fixture
def system() -> System:
    return System()


def gaps(path: Path, since: int = 0) -> list[Gap]:
    with contextlib.closing(InboxReader(path)) as reader:
        return reader.gaps(since)


def alive(path: Path, time: int) -> None:
    """Let the last writer of an inbox have lived until then."""
    Path(f"{path}.lock").touch()
    os.utime(f"{path}.lock", ns=(time * 1000, time * 1000))


def heartbeat(path: Path) -> int:
    return Path(f"{path}.lock").stat().st_mtime_ns // 1000


async def until(there: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not there():  # noqa: ASYNC110 - the writer's thread tells nobody
            await asyncio.sleep(0.005)


async def test_downtime_is_a_gap_from_the_last_sign_of_life(tmp_path: Path, system: System) -> None:
    path = tmp_path / "inbox.db"
    async with writing(path, clock=system.clock) as writer:
        await put(writer, arrivals(b"a"))
        assert gaps(path) == []
        system.run(5 * SECOND)
        assert writer.mark() == (1, system.wall)
    last = system.wall
    system.run(3600 * SECOND)
    async with writing(path, clock=system.clock) as writer:
        assert (await put(writer, arrivals(b"b"))).first == 2
    assert gaps(path) == [Gap(last, last + 3600 * SECOND)]
    assert stored(path)[1][1] >= last + 3600 * SECOND
    system.run(60 * SECOND)
    async with writing(path, clock=system.clock) as writer:
        await until(lambda: len(gaps(path)) == 2)
    assert gaps(path, since=last + 3600 * SECOND) == [Gap(last + 3600 * SECOND, system.wall)]


async def test_a_writer_that_was_killed_lived_until_its_last_mark(tmp_path: Path, system: System) -> None:
    """The mark is not in the file; that it was given is known by the time of the lock file."""
    path = tmp_path / "inbox.db"
    async with writing(path, clock=system.clock) as writer:
        await put(writer, arrivals(b"a"))
        system.run(4 * SECOND)
        _, marked = writer.mark()
        with contextlib.closing(inbox_file.open_readable(path)) as connection:
            assert inbox_file.progress(connection).time < marked
        assert heartbeat(path) == marked
        copy = tmp_path / "killed.db"
        with contextlib.closing(sqlite3.connect(path)) as source, contextlib.closing(sqlite3.connect(copy)) as target:
            source.backup(target)
    alive(copy, marked)
    system.run(60 * SECOND)
    async with writing(copy, clock=system.clock):
        await until(lambda: gaps(copy) == [Gap(marked, system.wall)])


async def test_a_new_inbox_and_a_quick_restart_have_no_gap(tmp_path: Path, system: System) -> None:
    path = tmp_path / "inbox.db"
    alive(path, 1)
    for _ in range(3):
        async with writing(path, clock=system.clock) as writer:
            await put(writer, arrivals(b"a"))
        system.run(SECOND // 2)
    assert gaps(path) == []


async def test_a_jump_is_stored_before_the_mark_and_with_the_commit_after_it(tmp_path: Path, system: System) -> None:
    path = tmp_path / "inbox.db"
    async with writing(path, clock=system.clock) as writer:
        await put(writer, arrivals(b"a"))
        before = writer.mark()
        system.run(SECOND, jump=100 * SECOND)
        with writer._changed:  # the thread cannot store it yet
            assert writer.mark() == before
            assert gaps(path) == []
        await until(lambda: writer.mark()[1] == system.wall)
        assert gaps(path) == [Gap(before[1] + SECOND, system.wall)]
        system.run(SECOND, jump=100 * SECOND)
        await put(writer, arrivals(b"b"))
        assert [gap.end for gap in gaps(path)] == [system.wall - 101 * SECOND, system.wall]
    assert stored(path)[1][1] == system.wall


async def test_a_gap_that_cannot_be_stored_lets_no_mark_pass(
    tmp_path: Path, system: System, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "inbox.db"
    tried: list[int] = []

    def full(*_: object) -> None:
        tried.append(1)
        raise sqlite3.OperationalError("database or disk is full")

    async with writing(path, clock=system.clock) as writer:
        await put(writer, arrivals(b"a"))
        before = writer.mark()
        with monkeypatch.context() as patch:
            patch.setattr(inbox_file, "add_gaps", full)
            system.run(SECOND, jump=100 * SECOND)
            writer.mark()
            await until(lambda: len(tried) > 1)
            assert writer.mark() == before
        await until(lambda: writer.mark()[1] == system.wall)
    assert len(gaps(path)) == 1


async def test_when_the_clock_falls_times_still_rise(tmp_path: Path, system: System) -> None:
    path = tmp_path / "inbox.db"
    async with writing(path, clock=system.clock) as writer:
        await put(writer, arrivals(b"a"))
        system.run(0, jump=-3600 * SECOND)
        first = writer.mark()[1]
        system.run(4 * SECOND)
        assert abs(writer.mark()[1] - first - 2 * SECOND) < 10
        await put(writer, arrivals(b"b"))
    found = stored(path)
    assert found[1][1] > first > found[0][1] - 2
    assert gaps(path) == []


async def test_an_inbox_of_version_1_is_read_and_brought_up(tmp_path: Path) -> None:
    path = tmp_path / "inbox.db"
    async with writing(path) as writer:
        stream = writer.stream
        await put(writer, [Arrival(b"a", "topic", None, 7)])
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.executescript("drop table gap; drop table once; drop table answer; pragma user_version=1;")
    assert (gaps(path), len(stored(path))) == ([], 1)
    reader = InboxReader(path)
    async with writing(path) as writer:
        assert (writer.stream, writer.head) == (stream, 1)
        assert (await put(writer, [Arrival(b"a", "topic", None, 7, True)])).offsets() == [1]
        assert (await put(writer, [Arrival(b"b", once="k")])).offsets() == [2]
    assert ([len(block.payloads) for block in reader.read(0)], reader.gaps()) == ([1, 1], [])
    reader.close()
    async with writing(path) as writer:
        assert (await put(writer, [Arrival(b"b", once="k")])).offsets() == [2]


async def test_an_inbox_of_version_2_is_read_and_brought_up(tmp_path: Path) -> None:
    path = tmp_path / "inbox.db"
    async with writing(path) as writer:
        await put(writer, [Arrival(b"b", "topic", once="request\0" + str(at)) for at in range(3)])
    old = [4, 2**60, ["gate"], b"\0", ["topic"], [0], [b"a"], {}, {0: 7}]
    with contextlib.closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("insert into block values (4, 1, ?, ?)", [2**60, msgspec.msgpack.encode(old)])
        connection.execute("pragma user_version=2")
    assert [payload for *_, payload in stored(path)] == [b"b", b"b", b"b", b"a"]
    async with writing(path) as writer:
        assert (await put(writer, [Arrival(b"a", "topic", None, 7, True)])).offsets() == [4]
        whole = Arrivals([b"b"] * 3, ["topic"] * 3, keys={0: ("request\x000", b"")})
        assert (await put(writer, whole)).offsets() == [1, 2, 3]
    with contextlib.closing(sqlite3.connect(path)) as connection:
        assert connection.execute("pragma user_version").fetchone() == (3,)


def test_only_the_latest_gaps_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inbox_file, "MOST_GAPS", 3)
    log = InboxLog(tmp_path / "inbox.db", "flow")
    for number in range(1, 6):
        log.gaps.append(Gap(number * 10, number * 10 + 5))
        log.settle()
    log.close()
    assert gaps(tmp_path / "inbox.db") == [Gap(30, 35), Gap(40, 45), Gap(50, 55)]


async def test_an_inbox_that_is_closed_has_no_heartbeat_and_gives_no_new_time(tmp_path: Path, system: System) -> None:
    async with writing(tmp_path / "inbox.db", clock=system.clock) as writer:
        await put(writer, arrivals(b"a"))
    marked = writer.mark()
    system.run(SECOND)
    assert writer.mark() == marked
    writer._beat()


async def test_the_heartbeat_goes_on_by_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("engine.inbox.BEAT", 0.01)
    writer = InboxWriter(tmp_path / "inbox.db", "flow")
    writer.open()
    first = heartbeat(writer.path)
    await until(lambda: heartbeat(writer.path) > first + 50_000)
    writer.close()


@pytest.mark.parametrize("seed", range(50))
def test_a_time_is_found_by_halves_where_it_is_found_by_looking_at_all(seed: int) -> None:
    draw = random.Random(seed)
    connection = sqlite3.connect(":memory:")
    connection.executescript(inbox_file.SCHEMA)
    first, time = draw.randint(1, 50), draw.randint(0, 5)
    for _ in range(draw.randint(0, 12)):
        count = draw.randint(1, 5)
        connection.execute("insert into block values (?, ?, ?, x'00')", (first, count, time))
        first, time = first + count + draw.choice((0, 0, 0, 4)), time + draw.randint(0, 3)
    for wanted in range(time + 5):
        found = connection.execute("select min(first) from block where time >= ?", [wanted]).fetchone()[0]
        assert inbox_file.first_since(connection, wanted) == found
    connection.close()
