"""The bounds of an inbox: what waits for the worker, and the disk; on a disk that is really full."""

import asyncio
import contextlib
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs

from engine.arrival import Arrival
from engine.errors import Unavailable
from engine.inbox import InboxWriter
from engine.inbox_bounds import GRAIN, Backlog, Bounds, Room
from tests.engine.inbox_case import arrivals, put, stored, writing
from tests.process import wait_until

DISK = 24 << 20
EVENT = bytes(64_000)


@given(st.lists(st.tuples(st.integers(1, 50), st.integers(0, GRAIN // 3), st.integers(0, 120)), max_size=200))
def test_the_backlog_is_known_to_about_a_mebibyte(steps: list[tuple[int, int, int]]) -> None:
    backlog, blocks, head, used = Backlog(), list[tuple[int, int]](), 0, 0
    for count, size, more in steps:
        head += count
        blocks.append((head, size))
        backlog.add(head, size)
        used = min(head, used + more)
        backlog.use(used)
        waiting = sum(size for last, size in blocks if last > used)
        assert waiting <= backlog.size <= waiting + 2 * GRAIN
        assert len(backlog._steps) <= waiting // GRAIN * 2 + 3


def test_a_backlog_that_was_found_is_worked_off() -> None:
    backlog = Backlog()
    backlog.restore(100, 1_100, 64_000)
    assert backlog.size == 64_000
    backlog.use(600)
    assert 28_000 <= backlog.size <= 34_000
    backlog.add(1_200, 5_000)
    backlog.use(1_200)
    assert backlog.size == 0


async def until(there: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not there():  # noqa: ASYNC110 - the inbox tells nobody
            await asyncio.sleep(0.01)


def refuses(writer: InboxWriter) -> str:
    try:
        writer.submit("gate", [], lambda first, fault: None)
    except Unavailable as fault:
        return str(fault)
    return ""


async def test_an_inbox_that_is_too_far_ahead_of_its_worker_takes_no_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("engine.inbox.BEAT", 0.02)
    bounds = Bounds(backlog=4 * GRAIN, free=0)
    async with writing(tmp_path / "inbox.db", bounds=bounds) as writer:
        with capture_logs() as logs:
            with contextlib.suppress(Unavailable):
                for _ in range(20):
                    await put(writer, arrivals(bytes(GRAIN // 2)))
            await until(lambda: "bytes wait to be processed, at most 4194304 may" in refuses(writer))
    with capture_logs() as more:
        async with writing(writer.path, bounds=bounds) as writer:
            assert refuses(writer), "what waits is known after a restart"
            writer.used(writer.head)
            await until(lambda: not refuses(writer))
            await put(writer, arrivals(b"x"))
    assert [entry["event"] for entry in logs + more if entry["log_level"] == "warning"] == [
        "inbox takes no more",
        "inbox takes no more",
        "inbox takes again",
    ]


async def test_a_disk_with_little_room_is_not_filled(tmp_path: Path) -> None:
    async with writing(tmp_path / "inbox.db", bounds=Bounds(free=1 << 60)) as writer:
        assert refuses(writer).startswith("disk full: ")


def test_once_a_bound_is_reached_an_eighth_must_be_free_again(tmp_path: Path) -> None:
    room = Room(tmp_path / "inbox.db", Bounds(backlog=800, free=0))
    assert [bool(room.refusal(size)) for size in (800, 801, 701, 700, 750, 801)] == [
        False, True, True, False, False, True,
    ]  # fmt: skip


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 24 MiB of its own."""
    place = tmp_path / "disk"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={DISK}", "millstream-test", str(place)]
    found = subprocess.run(mount, capture_output=True, text=True, check=False)
    if found.returncode:
        pytest.skip(f"no permission to mount a disk: {found.stderr.strip()}")
    try:
        yield place
    finally:
        subprocess.run(["umount", "--lazy", str(place)], check=True)  # noqa: S607 - where it lies differs


def fill(disk: Path, leave: int) -> Path:
    """Fill the disk up but for so many bytes; return the file that does it."""
    filler = disk / "filler"
    with contextlib.suppress(OSError), filler.open("wb", buffering=0) as file:
        while file.write(bytes(4096)) == 4096:
            pass
    with filler.open("r+b") as file:
        file.truncate(max(0, filler.stat().st_size - leave))
    return filler


async def load(writer: InboxWriter, prefix: str, number: int) -> tuple[list[str], int]:
    """Return what of so many keyed events was taken, and how many were refused."""
    taken, refused = [], 0
    for at in range(number):
        name = f"{prefix}{at}"
        try:
            await put(writer, [Arrival(name.encode() + b" " + EVENT, "topic", None, once=name)])
            taken.append(name)
        except Unavailable:
            refused += 1
    return taken, refused


def log_size(path: Path) -> int:
    return Path(f"{path}-wal").stat().st_size


def names(path: Path) -> list[str]:
    return [record[4].split(b" ")[0].decode() for record in stored(path)]


async def test_a_full_disk_loses_nothing_and_the_inbox_goes_on_when_there_is_room(disk: Path) -> None:
    path = disk / "inbox.db"
    async with writing(path, bounds=Bounds(free=0)) as writer:
        before, none = await load(writer, "before", 5)
        filler = fill(disk, 600_000)
        full, refused = await load(writer, "full", 40)
        assert (none, len(before)) == (0, 5)
        assert refused > 10
        assert full
        assert names(path) == before + full
        filler.unlink()
        again, none = await load(writer, "full", 40)
        assert none == 0
        assert sorted(names(path)) == sorted([*before, *again]), "what was taken is not taken again"
        assert log_size(path) < 8 << 20
    assert len(names(path)) == 45


async def test_a_disk_that_gets_full_is_noticed_in_time_and_again_when_there_is_room(
    disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("engine.inbox.BEAT", 0.02)
    async with writing(disk / "inbox.db", bounds=Bounds(free=1 << 20)) as writer:
        await load(writer, "before", 5)
        filler = fill(disk, 900_000)
        await until(lambda: refuses(writer).startswith("disk full: "))
        filler.unlink()
        await until(lambda: not refuses(writer))
        taken, refused = await load(writer, "after", 5)
        assert (len(taken), refused) == (5, 0)
    assert len(names(writer.path)) == 10


async def test_the_log_is_brought_back_when_there_is_room_again(disk: Path) -> None:
    """On a full disk the write-ahead log cannot be brought into the file; it must not stay long for that."""
    path = disk / "inbox.db"
    async with writing(path, bounds=Bounds(free=0)) as writer:
        filler = fill(disk, 7 << 20)
        taken, refused = await load(writer, "a", 120)
        assert refused > 10
        filler.unlink()
        more, none = await load(writer, "b", 10)
        assert none == 0
        async with asyncio.timeout(10):
            while path.stat().st_size < 64_000 * len(taken + more):
                await put(writer, arrivals(b"small"))
                await asyncio.sleep(0.02)
        size = log_size(path)
        await load(writer, "c", 40)
        assert log_size(path) == size, "the log is used again from its beginning"
        assert [name for name in names(path) if name[0] in "ab"] == taken + more


async def test_an_inbox_says_how_full_it_is(tmp_path: Path) -> None:
    async with writing(tmp_path / "inbox.db", bounds=Bounds(backlog=1 << 20)) as writer:
        assert writer.fill == 0.0
        await put(writer, arrivals(b"x" * (1 << 19)))
        await asyncio.to_thread(wait_until, lambda: writer.fill > 0, "its beat has looked", within=10)
        assert 0.4 < writer.fill < 0.7
