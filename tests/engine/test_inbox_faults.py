"""The inbox when things go wrong: kill -9, a full disk, a second writer, a file that is something else."""

import asyncio
import contextlib
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from engine import inbox_file
from engine.arrival import Arrival
from engine.errors import EnvironmentFault
from engine.inbox import InboxReader, InboxWriter
from tests.engine.inbox_case import arrivals, put, stored, writing
from tests.process import ROOT, wait_until

PREAMBLE = """
import asyncio, resource, sys, time
from pathlib import Path
from engine.arrival import Arrival
from engine.errors import Unavailable
from engine.inbox import InboxWriter
from tests.engine.inbox_case import arrivals, put
writer = InboxWriter(Path(sys.argv[1]), "flow")
def say(*words): print(*words, flush=True)
def until(condition):
    end = time.monotonic() + 10
    while not condition() and time.monotonic() < end:
        pass
async def main():
    writer.open()
"""
STORE_AND_WAIT = """
    await put(writer, [Arrival(b"one", "a", None, 1), Arrival(b"two", "a", None, 2), Arrival(b"one", "a", None, 3)])
    say("committed")
    await asyncio.sleep(60)
asyncio.run(main())
"""
ACKNOWLEDGE_AND_WAIT = """
    await put(writer, [Arrival(b"one", "a", None, 1), Arrival(b"two", "a", None, 2), Arrival(b"one", "a", None, 3)])
    writer.acknowledged("gate", [1, 3])
    say("acknowledged")
    await asyncio.sleep(60)
asyncio.run(main())
"""
WRITE_FOR_EVER = """
    number = 0
    async def source(name):
        global_number = 0
        while True:
            await put(writer, arrivals(b"%d" % global_number, b"%d" % (global_number + 1)), name)
            global_number += 2
            say(name, global_number)
    await asyncio.gather(*(source(f"s{number}") for number in range(4)))
asyncio.run(main())
"""
FILL_THE_DISK = """
    resource.setrlimit(resource.RLIMIT_FSIZE, (400_000, resource.RLIM_INFINITY))
    committed, refused = [], 0
    for number in range(40):
        try:
            await put(writer, arrivals(b"%d " % number + bytes(20_000)))
            committed.append(number)
        except Unavailable as fault:
            assert "cannot be written" in str(fault)
            refused += 1
    assert refused > 5 and len(committed) > 5, (refused, committed)
    results = await asyncio.gather(*(put(writer, arrivals(bytes(400_000))) for _ in range(40)), return_exceptions=True)
    assert all(isinstance(result, Unavailable) for result in results), results
    told = asyncio.Event()
    writer.submit("gate", arrivals(bytes(400_000)), lambda first, fault: told.set())
    until(lambda: writer._untold)
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    try:
        writer.submit("gate", arrivals(b"before it was told"), lambda first, fault: None)
        raise SystemExit("an order that could change")
    except Unavailable as fault:
        assert "cannot be written" in str(fault)
    await told.wait()
    await asyncio.sleep(0)
    await put(writer, arrivals(b"after "))
    writer.close()
    say(*committed, "after")
asyncio.run(main())
"""


@contextlib.contextmanager
def child(path: Path, code: str) -> Iterator["subprocess.Popen[str]"]:
    """Run the code in a process of its own, which is killed by its pid in the end."""
    command = [sys.executable, "-c", PREAMBLE + code, str(path)]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def line(process: "subprocess.Popen[str]") -> str:
    assert process.stdout
    return process.stdout.readline().strip()


def again(*packets: int, dup: bool = True) -> list[Arrival]:
    """Return the children's messages as a broker sends them after the gateway was killed."""
    payloads = {1: b"one", 2: b"two", 3: b"one"}
    return [Arrival(payloads[packet], "a", None, packet, dup) for packet in packets]


async def test_a_kill_between_commit_and_acknowledgement_doubles_nothing(tmp_path: Path) -> None:
    path = tmp_path / "inbox.db"
    with child(path, STORE_AND_WAIT) as process:
        assert line(process) == "committed"
    async with writing(path) as writer:
        submission = await put(writer, again(1, 2, 3))
        assert submission.offsets() == [1, 2, 3]
        assert (await put(writer, [*again(2), Arrival(b"new", "a", None, 4)])).offsets() == [2, 4]
    assert [record[4] for record in stored(path)] == [b"one", b"two", b"one", b"new"]


async def test_a_kill_after_the_acknowledgement_takes_the_same_packet_id_as_new(tmp_path: Path) -> None:
    path = tmp_path / "inbox.db"
    with child(path, ACKNOWLEDGE_AND_WAIT) as process:
        assert line(process) == "acknowledged"
        reader = inbox_file.open_readable(path)
        wait_until(lambda: inbox_file.progress(reader).unacknowledged == [(2, 2)], "the acknowledgement is kept", 5)
        reader.close()
    async with writing(path) as writer:
        assert (await put(writer, again(1, 2, 3))).offsets() == [4, 2, 5]


async def test_acknowledged_is_kept_with_the_next_commit(tmp_path: Path) -> None:
    async with writing(tmp_path / "inbox.db") as writer:
        await put(writer, again(1, 2, dup=False))
        writer.acknowledged("gate", [1, 2])
        await put(writer, arrivals(b"next"))
        reader = inbox_file.open_readable(writer.path)
        found = inbox_file.progress(reader)
        reader.close()
    assert (found.marker, found.unacknowledged) == (2, [])


@pytest.mark.parametrize("run", range(3))
def test_after_a_kill_all_that_was_told_is_there_once_and_in_order(tmp_path: Path, run: int) -> None:
    path = tmp_path / "inbox.db"
    told: dict[str, int] = {}
    with child(path, WRITE_FOR_EVER) as process:
        for _ in range(40 + 137 * run):
            name, number = line(process).split()
            told[name] = int(number)
        process.kill()
    found = stored(path)
    for name, last in told.items():
        payloads = [int(record[4]) for record in found if record[2] == name]
        assert payloads == list(range(len(payloads)))
        assert len(payloads) >= last
        assert len(payloads) % 2 == 0, "half of a submit"
    assert [record[0] for record in found] == list(range(1, len(found) + 1))


def test_a_full_disk_refuses_whole_submits_and_goes_on_when_there_is_room(tmp_path: Path) -> None:
    path = tmp_path / "inbox.db"
    with child(path, FILL_THE_DISK) as process:
        output, _ = process.communicate(timeout=60)
        assert process.returncode == 0
    assert [record[4].split(b" ")[0].decode() for record in stored(path)] == output.split()[-len(stored(path)) :]
    assert output.split()[-1] == "after"


async def test_two_writers_on_one_inbox_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "inbox.db"
    with child(path, STORE_AND_WAIT) as process:
        assert line(process) == "committed"
        with pytest.raises(EnvironmentFault, match=rf"{path}: expected one writer"):
            InboxWriter(path, "flow").open()
    async with writing(path) as writer:
        with pytest.raises(EnvironmentFault, match="expected one writer"):
            InboxWriter(path, "flow").open()
        assert writer.head == 3


def sqlite(path: Path, *statements: str) -> None:
    with contextlib.closing(sqlite3.connect(path)) as connection, connection:
        for statement in statements:
            connection.execute(statement)


async def refusal(path: Path, flow: str = "flow") -> str:
    """Return what a writer says; a reader says the same, and both let go of the file."""
    with pytest.raises(EnvironmentFault) as refused:
        InboxWriter(path, flow).open()
    with pytest.raises(EnvironmentFault) as again:
        InboxWriter(path, flow).open()
    assert str(refused.value) == str(again.value)
    return str(refused.value).removeprefix(f"{path}: ")


async def test_a_file_that_is_something_else(tmp_path: Path) -> None:
    text, foreign, newer, other = (tmp_path / name for name in ("text.db", "foreign.db", "newer.db", "other.db"))
    text.write_bytes(b"no database at all " * 100)
    sqlite(foreign, "create table t (a)")
    for path in (newer, other):
        async with writing(path):
            pass
    sqlite(newer, "pragma user_version=4")
    assert await refusal(text) == "expected an inbox of version 3; got file is not a database"
    assert await refusal(foreign) == "expected an inbox; got an SQLite file with application id 0x0"
    assert await refusal(newer) == "expected an inbox of version 3; got version 4"
    assert await refusal(other, "b") == "expected the inbox of flow 'b'; got that of 'flow'"


async def test_a_torn_file(tmp_path: Path) -> None:
    path = tmp_path / "inbox.db"
    async with writing(path) as writer:
        for _ in range(30):
            await put(writer, arrivals(bytes(20_000)))
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.execute("pragma wal_checkpoint(truncate)")
    path.write_bytes(path.read_bytes()[:100_000])
    assert "malformed" in await refusal(path)


async def test_a_damaged_block_is_told_with_its_place(tmp_path: Path) -> None:
    path = tmp_path / "inbox.db"
    async with writing(path) as writer:
        await put(writer, arrivals(b"a"))
    sqlite(path, "update block set body = x'c1'")
    with contextlib.closing(InboxReader(path)) as reader, pytest.raises(EnvironmentFault, match=f"{path}: .*malformed"):
        reader.read(0)


def test_a_reader_before_the_inbox_exists_is_told(tmp_path: Path) -> None:
    with pytest.raises(EnvironmentFault, match="there is none"):
        InboxReader(tmp_path / "inbox.db")


async def test_a_reader_reads_what_a_closed_gateway_left(tmp_path: Path) -> None:
    path = tmp_path / "inbox.db"
    async with writing(path) as writer:
        await put(writer, arrivals(b"a"))
    assert len(stored(path)) == 1
    reader = InboxReader(path)
    async with writing(path) as writer:
        await put(writer, arrivals(b"b"))
        assert [block.payloads for block in reader.read(1)] == [[b"b"]]
    reader.close()


async def test_used_is_remembered_within_a_second(tmp_path: Path) -> None:
    async with writing(tmp_path / "inbox.db") as writer:
        await put(writer, arrivals(b"a", b"b"))
        writer.used(2)
        reader = inbox_file.open_readable(writer.path)
        await asyncio.to_thread(wait_until, lambda: inbox_file.progress(reader).used == 2, "used is kept", 3)
        reader.close()
