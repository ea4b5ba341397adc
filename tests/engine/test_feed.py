"""The feed: what a worker reads, in order and from where it stood; when it wakes, and when it asks for the time."""

import contextlib
import os
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from engine.arrival_clock import ArrivalClock
from engine.errors import EnvironmentFault
from engine.event import Event
from engine.feed import IDLE_WAIT, LONGEST_WAIT, Feed, Position
from engine.fused import RAW
from engine.gap import Gap
from engine.given import Answers
from engine.inbox import InboxReader
from engine.keyed import Clock, Mark
from engine.load import load_text
from engine.outputs import COUNTS
from engine.outstanding import Outstanding, Ready
from engine.plan import Plan
from tests.engine.inbox_case import arrivals, put, writing

FLOW = """\
flow: flow
sources:
  gate: {mqtt: {topics: [topic]}}
  log:  {file: {path: lines.jsonl}}
operators: {through: {from: [gate, log], where: true}}
sinks: {out: {from: through, log: {message: it came}}}
"""


class Asked:
    """Counts what the feed asks upstream."""

    def __init__(self) -> None:
        self.marks = 0
        self.may_use, self.told = False, list[int]()

    def used(self, offset: int) -> None:
        assert self.may_use, "only a snapshot tells what is used"
        self.told.append(offset)

    def ask_mark(self) -> None:
        self.marks += 1


class Case:
    """A feed over a folder's inbox and file."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.inbox = folder, folder / "inbox.db"
        self.clock, self.asked = Clock(), Asked()
        self.feeds: list[Feed] = []

    def feed(self, position: Position | None = None, outstanding: Outstanding | None = None, flow: str = FLOW) -> Feed:
        plan = Plan(load_text(flow, self.folder / "flow.yaml").raise_findings())
        inbox = InboxReader(self.inbox)
        feed = Feed(plan, inbox, self.clock, self.asked, position or Position(), outstanding)
        self.feeds.append(feed)
        return feed


@pytest.fixture
async def case(tmp_path: Path) -> Case:
    async with writing(tmp_path / "inbox.db"):
        return Case(tmp_path)


@pytest.fixture(autouse=True)
def closed(case: Case) -> Iterator[None]:
    yield
    for feed in case.feeds:
        feed.close()
        feed._inbox.close()


async def append(case: Case, *numbers: int) -> None:
    async with writing(case.inbox) as writer:
        for number in numbers:
            await put(writer, arrivals(b'{"n":%d}' % number))


def events(found: list[Any]) -> list[Event]:
    runs = [run for item in found if not isinstance(item, Mark) for run in item if run[0] != COUNTS]
    decoded = [made for name, given in runs for made in (given[0].runs() if name == RAW else [(name, given)])]
    return [event for _, given in decoded for event in given]


def numbers(found: list[Any]) -> list[int]:
    return [event.data["n"] for event in events(found)]


def ids(found: list[Any]) -> list[bytes]:
    return [event.id for event in events(found)]


def marks(found: list[Any]) -> list[int]:
    return [item.time for item in found if isinstance(item, Mark)]


async def test_it_reads_on_from_where_it_stood(case: Case) -> None:
    await append(case, 1, 2)
    feed = case.feed()
    assert numbers(feed.next()) == [1, 2]
    assert feed.next() == []
    stood = msgspec.msgpack.decode(msgspec.msgpack.encode(feed.position), type=Position)
    await append(case, 3)
    assert numbers(feed.next()) == [3]
    assert numbers(case.feed(stood).next()) == [3]


async def test_a_position_that_the_inbox_has_never_had_is_told(case: Case) -> None:
    with pytest.raises(EnvironmentFault):
        case.feed(Position(offset=7)).next()


def read_on(feed: Feed) -> list[Any]:
    """Return what comes next, with snapshots that are durable at once."""
    until = time.monotonic() + 10
    while not (found := feed.next()) and time.monotonic() < until:
        feed.used(0)
        feed.wait()
    return found


async def test_a_file_is_read_from_its_position_and_its_events_keep_their_ids(case: Case) -> None:
    lines = case.folder / "lines.jsonl"
    lines.write_bytes(b'{"n":1}\n{"n":2}\n')
    os.utime(lines, (1, 1))
    case.asked.may_use = True
    feed = case.feed()
    assert numbers(feed.next()) == [], "it is read when a snapshot that says so is durable"
    first = read_on(feed)
    assert numbers(first) == [1, 2]
    assert ids(read_on(case.feed())) == ids(first)
    assert numbers(case.feed(feed.position).next()) == []


async def test_a_wake_up_before_the_wait_is_not_lost(case: Case) -> None:
    feed = case.feed()
    assert feed.next() == []
    feed.wake(1, 0)
    begin = time.monotonic()
    feed.wait()
    assert time.monotonic() - begin < LONGEST_WAIT / 2


async def test_a_wake_up_ends_the_wait(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("engine.feed.LONGEST_WAIT", 30.0)
    feed = case.feed()
    feed._wake_at.clear()
    waiting = threading.Thread(target=feed.wait, daemon=True)
    waiting.start()
    feed.wake(1, 0)
    waiting.join(5)
    assert not waiting.is_alive()


async def test_without_a_wake_up_it_looks_again_soon(case: Case) -> None:
    begin = time.monotonic()
    case.feed().wait()
    assert time.monotonic() - begin < LONGEST_WAIT + 1


async def test_it_looks_more_often_while_something_is_not_durable(case: Case) -> None:
    feed = case.feed()
    feed._readers.clear()
    feed._wake_at.clear()
    assert feed._patience() == IDLE_WAIT
    await append(case, 1)
    feed.next()
    assert feed._patience() == LONGEST_WAIT
    case.asked.may_use = True
    feed.used(1)
    assert feed._patience() == IDLE_WAIT


async def test_a_timer_ends_the_wait(case: Case) -> None:
    feed, now = case.feed(), time.time_ns() // 1000
    feed._wake_at.clear()
    case.clock.set("node", "0", now + 60_000_000)
    assert feed._patience() == IDLE_WAIT
    case.clock.set("node", "0", now + 400_000)
    assert feed._patience() < 0.4
    case.clock.set("node", "0", now - 1)
    assert feed._patience() == LONGEST_WAIT


async def test_what_is_durable_is_told_once(case: Case) -> None:
    feed, case.asked.may_use = case.feed(), True
    for offset in (0, 0, 3, 3):
        feed.used(offset)
    assert case.asked.told == [0, 3]


async def test_time_that_nobody_waits_for_is_not_asked_for(case: Case) -> None:
    feed = case.feed()
    assert feed.next() == feed.next() == []
    case.clock.set("node", "0", (time.time_ns() // 1000) + 60_000_000)
    assert feed.next() == []
    assert case.asked.marks == 0


async def test_time_is_asked_for_once_and_passed_on_when_it_comes(case: Case) -> None:
    feed = case.feed()
    case.clock.set("node", "0", 1000)
    assert feed.next() == feed.next() == []
    assert case.asked.marks == 1
    feed.mark(0, 2000)
    assert marks(feed.next()) == [2000]
    feed.next()
    assert case.asked.marks == 2


async def test_time_waits_for_what_came_before_it(case: Case) -> None:
    feed = case.feed()
    case.clock.set("node", "0", 1000)
    feed.mark(1, 2000)
    assert feed.next() == []
    await append(case, 1)
    found = feed.next()
    assert numbers(found) == [1]
    case.clock.set("node", "0", 1500)
    assert marks(feed.next()) == [2000]


async def test_events_bring_their_own_time(case: Case) -> None:
    feed = case.feed()
    case.clock.set("node", "0", 1000)
    await append(case, 1)
    found = feed.next()
    assert numbers(found) == [1]
    assert len(marks(found)) == 1
    assert case.asked.marks == 0


async def test_a_gap_is_known_before_what_comes_after_it(case: Case) -> None:
    now, moments = time.time_ns() // 1000, iter(range(1000))

    def clock(jump: int) -> Callable[[int], ArrivalClock]:
        return lambda last: ArrivalClock(last, lambda: now + jump + next(moments), lambda: next(moments))

    async def append_at(jump: int) -> None:
        async with writing(case.inbox, clock=clock(jump)) as writer:
            await put(writer, arrivals(b'{"n":1}'))

    await append_at(0)
    feed = case.feed()
    assert numbers(feed.next()) == [1]
    assert case.clock.gaps == []
    await append_at(60_000_000)
    assert numbers(feed.next()) == [1]
    assert [round((gap.end - gap.start) / 1e6) for gap in case.clock.gaps] == [60]
    await append_at(120_000_000)
    case.feed().next()
    assert [round((gap.end - gap.start) / 1e6) for gap in case.clock.gaps] == [60, 60]


async def test_a_mark_after_a_gap_brings_the_gap(case: Case) -> None:
    feed = case.feed()
    with contextlib.closing(sqlite3.connect(case.inbox)) as connection, connection:
        connection.execute("insert into gap values (1000000, 5000000)")
    case.clock.set("node", "0", 1000)
    feed.mark(0, 6_000_000)
    assert marks(feed.next()) == [6_000_000]
    assert case.clock.gaps == [Gap(1_000_000, 5_000_000)]


async def test_gaps_are_read_only_when_time_jumps(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    reads: list[int] = []

    def read(_reader: InboxReader, since: int) -> list[Gap]:
        reads.append(since)
        return []

    monkeypatch.setattr(InboxReader, "gaps", read)
    feed = case.feed()
    for at in (2_000_000, 2_500_000, 3_400_000, 3_400_000, 4_400_001):
        feed.mark(0, at)
        feed.next()
    assert len(reads) == 2


async def test_when_the_systems_clock_fell_time_is_asked_for_by_the_inboxs(
    case: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    feed, now = case.feed(), time.time_ns() // 1000
    feed.wake(0, now)
    monkeypatch.setattr("engine.feed._wall", lambda: now - 3_600_000_000)
    case.clock.set("node", "0", now + 50_000)
    feed.next()
    assert case.asked.marks == 0
    deadline = time.monotonic() + 5
    while not case.asked.marks and time.monotonic() < deadline:
        feed.wait()
        feed.next()
    assert case.asked.marks == 1


async def test_lag_is_the_age_of_the_oldest_record_that_was_not_read(case: Case) -> None:
    feed = case.feed()
    assert feed.lag() == 0
    began = time.time()
    feed.wake(1, round((began - 60) * 1e6))
    feed.wake(2, round((began - 5) * 1e6))
    assert 60 <= feed.lag() < 90
    await append(case, 1, 2)
    assert numbers(feed.next()) == [1, 2]
    assert feed.lag() == 0
    feed.wake(3, round((time.time() - 7) * 1e6))
    assert 7 <= feed.lag() < 30


async def test_it_reads_nothing_while_too_much_waits_for_answers_and_tells_of_each_that_came(case: Case) -> None:
    await append(case, 1)
    outstanding = Outstanding(Answers().asker)
    feed = case.feed(outstanding=outstanding)
    outstanding.wake = feed.wake_up
    outstanding.room("asked", False)
    assert feed.next() == []
    outstanding.tell("asked")
    outstanding.tell("asked")
    assert feed._woken.is_set()
    assert feed.next() == [Ready("asked")]
    assert (feed.next(), feed.position.offset) == ([], 0)
    outstanding.room("asked", True)
    assert numbers(feed.next()) == [1]


async def test_time_passes_while_too_much_waits_for_answers(case: Case) -> None:
    outstanding = Outstanding(Answers().asker)
    feed = case.feed(outstanding=outstanding)
    outstanding.room("asked", False)
    case.clock.set("other", "0", 5)
    feed.mark(0, 10)
    assert marks(feed.next()) == [10]


ORDERED = """\
flow: flow
sources:
  gate: {mqtt: {topics: [topic]}}
operators:
  above: {from: gate, window: {every: 1h}}
  made:  {from: [above, gate], number: {}}
sinks: {out: {from: made, log: {message: it came}}}
"""


async def test_a_flow_with_a_node_behind_several_stages_gets_the_time_after_each_read(case: Case) -> None:
    await append(case, 1, 2)
    feed = case.feed(flow=ORDERED)
    found = feed.next()
    assert marks(found) == [events(found)[-1].arrival]
    assert isinstance(found[-1], Mark)
    assert (feed.next(), case.asked.marks) == ([], 0)


async def test_the_time_of_a_commit_has_not_passed_before_all_of_it_is_read(
    case: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("engine.feed.LIMIT", 2)
    async with writing(case.inbox) as writer:
        await put(writer, arrivals(*(b'{"n":%d}' % number for number in range(3))))
    feed = case.feed(flow=ORDERED)
    first, second = feed.next(), feed.next()
    (time,) = {event.arrival for event in events([*first, *second])}
    assert (marks(first), marks(second)) == ([time - 1], [time])
