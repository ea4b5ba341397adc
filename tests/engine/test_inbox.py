"""The inbox: what is told to be committed is there, once, in order, under the offset that was told."""

import asyncio
import contextlib
import threading
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.arrival import Arrival
from engine.errors import EnvironmentFault, EventFault, Unavailable
from engine.event import stream_prefix
from engine.inbox import InboxReader, InboxWriter
from tests.engine.inbox_case import Record, arrivals, put, records, stored, writing

STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("submit"), st.sampled_from(["gate", "station"]), st.integers(0, 9)),
        st.tuples(st.just("read"), st.integers(0, 60), st.integers(1, 12)),
        st.tuples(st.just("commit"), st.just(""), st.just(0)),
        st.tuples(st.just("restart"), st.just(""), st.just(0)),
    ),
    max_size=25,
)


class Play:
    """Submits and reads in any order; everything that is read is compared with what was submitted."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.sent: list[tuple[str, bytes]] = []
        self.told: dict[int, tuple[str, bytes]] = {}
        self.seen: dict[int, Record] = {}
        self.open()

    def open(self) -> None:
        self.writer = InboxWriter(self.path, "flow", commit_records=7)
        self.writer.open()
        self.reader = InboxReader(self.path)

    def close(self) -> None:
        self.writer.close()
        self.reader.close()

    def submit(self, source: str, count: int) -> None:
        new = [b"%d" % number for number in range(len(self.sent), len(self.sent) + count)]
        self.sent += [(source, payload) for payload in new]

        def done(first: int, fault: BaseException | None) -> None:
            assert fault is None
            self.told.update({first + at: (source, payload) for at, payload in enumerate(new)})

        self.writer.submit(source, arrivals(*new), done)

    def read(self, offset: int, limit: int) -> list[Record]:
        found = records(self.reader, min(offset, self.writer.head), limit)
        assert len(found) <= limit
        for record in found:
            assert self.seen.setdefault(record[0], record) == record
        return found

    async def play(self, steps: list[tuple[str, str | int, int]]) -> None:
        for step, first, second in steps:
            if step == "submit":
                self.submit(str(first), second)
            elif step == "read":
                self.read(int(first), second)
            elif step == "commit":
                await put(self.writer, [])
            else:
                self.close()
                await asyncio.sleep(0)
                self.open()
        await put(self.writer, [])


@given(STEPS)
@settings(max_examples=60)
def test_any_interleaving_of_submits_reads_and_restarts_gives_one_sequence(
    steps: list[tuple[str, str | int, int]],
) -> None:
    with TemporaryDirectory() as folder:

        async def run() -> None:
            play = Play(Path(folder) / "inbox.db")
            with contextlib.closing(play):
                await play.play(steps)
                whole = stored(play.path)
                assert [(r[2], r[4]) for r in whole] == play.sent
                assert [r[0] for r in whole] == list(range(1, len(whole) + 1))
                assert play.told == {r[0]: (r[2], r[4]) for r in whole}
                assert all(play.seen[offset] == whole[offset - 1] for offset in play.seen)
                assert [r[1] for r in whole] == sorted(r[1] for r in whole)

        asyncio.run(run())


async def test_one_commit_has_one_time_and_a_later_one_a_later_time(tmp_path: Path) -> None:
    commits: list[tuple[int, int]] = []
    async with writing(tmp_path / "inbox.db", on_commit=lambda head, time: commits.append((head, time))) as writer:
        for _ in range(5):
            await put(writer, arrivals(b"a", b"b"))
        await put(writer, [])
    found = stored(writer.path)
    times = [record[1] for record in found]
    assert times[::2] == times[1::2]
    assert len(set(times)) == 5
    assert times == sorted(times)
    assert [(r[0], r[1]) for r in found[1::2]] == commits[:5]


async def test_what_gathers_during_a_commit_is_committed_together(tmp_path: Path) -> None:
    commits: list[int] = []
    async with writing(tmp_path / "inbox.db", on_commit=lambda head, time: commits.append(head)) as writer:
        waiting = [put(writer, arrivals(b"x")) for _ in range(500)]
        submissions = await asyncio.gather(*waiting)
    assert [s.first for s in submissions] == list(range(1, 501))
    assert len(commits) < 50
    assert len({record[1] for record in stored(writer.path)}) == len(set(commits))


async def test_offsets_times_and_stream_outlive_the_writer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "inbox.db"
    async with writing(path) as writer:
        await put(writer, arrivals(b"a"))
        stream, (head, marked) = writer.stream, writer.mark()
    monkeypatch.setattr(time, "time_ns", lambda: 1_000_000_000)
    async with writing(path) as writer:
        assert (writer.stream, writer.prefix, writer.head) == (stream, stream_prefix(stream), head)
        assert (await put(writer, arrivals(b"b"))).first == 2
        assert writer.mark()[1] > marked
    first, second = stored(path)
    assert second[1] > marked >= first[1]


async def test_another_inbox_of_the_same_flow_is_another_stream(tmp_path: Path) -> None:
    async with writing(tmp_path / "a.db") as a, writing(tmp_path / "b.db") as b:
        assert a.stream.startswith("flow:")
        assert b.stream.startswith("flow:")
        assert a.prefix != b.prefix


async def test_a_mark_holds_for_all_that_comes_later(tmp_path: Path) -> None:
    async with writing(tmp_path / "inbox.db") as writer:
        marks = []
        for number in range(200):
            marks.append(writer.mark())
            writer.submit("gate", arrivals(b"%d" % number), lambda first, fault: None)
            marks.append(writer.mark())
            if number % 3:
                await asyncio.sleep(0)
        await put(writer, [])
        marks.append(writer.mark())
    found = stored(writer.path)
    assert marks == sorted(marks)
    assert marks[-1][0] == len(found)
    for head, marked in marks:
        assert all(record[1] <= marked for record in found[:head])
        assert all(record[1] > marked for record in found[head:])


async def test_an_idle_mark_moves_with_the_clock_and_one_with_work_waiting_does_not(tmp_path: Path) -> None:
    async with writing(tmp_path / "inbox.db") as writer:
        before = time.time_ns() // 1000
        idle = writer.mark()
        assert idle[1] >= before
        with writer._changed:  # the thread cannot take what waits
            writer.submit("gate", arrivals(b"a"), lambda first, fault: None)
            while time.time_ns() // 1000 <= idle[1]:
                pass
            assert writer.mark() == idle
        await put(writer, [])
        assert writer.mark()[1] > idle[1]


async def test_a_full_inbox_refuses_and_takes_again_after_the_commit(tmp_path: Path) -> None:
    async with writing(tmp_path / "inbox.db", capacity=100_000) as writer:
        done = threading.Event()

        def refused() -> int:
            for accepted in range(10_000):
                try:
                    writer.submit("gate", arrivals(bytes(30_000)), lambda first, fault: done.set())
                except Unavailable:
                    return accepted
            raise AssertionError("an inbox without a bound")

        accepted = refused()
        assert accepted >= 3
        with writer._changed:  # the thread cannot take what waits
            accepted += refused()
            with pytest.raises(Unavailable, match="inbox full: "):
                writer.submit("gate", arrivals(bytes(30_000)), lambda first, fault: None)
        while True:
            try:
                await put(writer, arrivals(bytes(30_000)))
                break
            except Unavailable:
                await asyncio.to_thread(done.wait, 5)
        assert writer.head == accepted + 1
        with pytest.raises(EventFault, match="at most 100000"):
            writer.submit("gate", arrivals(bytes(200_000)), lambda first, fault: None)


async def test_a_record_that_cannot_be_stored_costs_itself_only(tmp_path: Path) -> None:
    async with writing(tmp_path / "inbox.db") as writer:
        bad = [Arrival(b"", meta={"x": object()})], [Arrival(b"", "\ud800")], [Arrival(b"", meta={"x": 1 << 70})]
        calls = [put(writer, arrivals(b"a")), *(put(writer, one) for one in bad), put(writer, arrivals(b"b"))]
        results = await asyncio.gather(*calls, return_exceptions=True)
    assert [isinstance(result, EventFault) for result in results] == [False, True, True, True, False]
    assert [record[4] for record in stored(writer.path)] == [b"a", b"b"]


async def test_a_source_that_fails_after_the_commit_harms_no_other(tmp_path: Path) -> None:
    async with writing(tmp_path / "inbox.db") as writer:
        writer.submit("gate", arrivals(b"a"), lambda first, fault: print(first / 0))  # noqa: T201
        assert (await put(writer, arrivals(b"b"))).first == 2


async def test_submits_from_threads_keep_each_threads_order(tmp_path: Path) -> None:
    async with writing(tmp_path / "inbox.db") as writer:

        def send(source: str) -> None:
            for number in range(300):
                writer.submit(source, arrivals(b"%d" % number), lambda first, fault: None)

        await asyncio.gather(*(asyncio.to_thread(send, f"s{number}") for number in range(4)))
        await put(writer, [])
    found = stored(writer.path)
    for number in range(4):
        assert [int(r[4]) for r in found if r[2] == f"s{number}"] == list(range(300))


async def test_more_sources_than_a_block_can_name(tmp_path: Path) -> None:
    async with writing(tmp_path / "inbox.db") as writer:
        await asyncio.gather(*(put(writer, arrivals(b"x"), f"s{number}") for number in range(600)))
    assert [record[2] for record in stored(writer.path)] == [f"s{number}" for number in range(600)]


async def test_close_commits_what_waits_and_then_refuses(tmp_path: Path) -> None:
    async with writing(tmp_path / "inbox.db") as writer:
        for number in range(50):
            writer.submit("gate", arrivals(b"%d" % number), lambda first, fault: None)
    assert len(stored(writer.path)) == 50
    with pytest.raises(Unavailable, match="closed"):
        writer.submit("gate", arrivals(b"x"), lambda first, fault: None)


async def test_trim_drops_what_is_used_and_the_reader_says_so(tmp_path: Path) -> None:
    async with writing(tmp_path / "inbox.db") as writer:
        for _ in range(20):
            await put(writer, arrivals(bytes(5_000), bytes(5_000)))
        writer.used(20)
        writer.trim(0, 0)
        reader = InboxReader(writer.path)
        await _trimmed(writer, first=21)
        with pytest.raises(EnvironmentFault, match=r"offset 1; it was trimmed, the oldest that is kept is 21"):
            reader.read(0)
        assert records(reader, 20)[0][0] == 21
        reader.close()


async def test_a_block_that_is_used_in_part_stays(tmp_path: Path) -> None:
    async with writing(tmp_path / "inbox.db") as writer:
        for _ in range(3):
            await put(writer, arrivals(b"a", b"b", b"c"))
        writer.used(5)
        writer.trim(0, 0)
        await _trimmed(writer, first=4)
        assert len(stored_after(writer.path, 3)) == 6


async def test_trim_keeps_what_is_young_unless_it_is_beyond_the_size(tmp_path: Path) -> None:
    async with writing(tmp_path / "inbox.db") as writer:
        for _ in range(40):
            await put(writer, arrivals(bytes(20_000)))
        writer.used(40)
        writer.trim(3_600_000_000, 1 << 30)
        await put(writer, arrivals(b""))
        assert len(stored(writer.path)) == 41
        writer.trim(3_600_000_000, 400_000)
        await _trimmed(writer, first=20, most=26)


async def test_the_last_block_stays_so_that_offsets_go_on(tmp_path: Path) -> None:
    async with writing(tmp_path / "inbox.db") as writer:
        for _ in range(5):
            await put(writer, arrivals(b"x"))
        writer.used(5)
        writer.trim(0, 0)
        await _trimmed(writer, first=5)
    async with writing(writer.path) as writer:
        assert (await put(writer, arrivals(b"y"))).first == 6


def stored_after(path: Path, offset: int) -> list[Record]:
    with contextlib.closing(InboxReader(path)) as reader:
        return records(reader, offset)


async def _trimmed(writer: InboxWriter, first: int, most: int | None = None) -> None:
    """Wait until the first offset that is kept is `first`, or between `first` and `most`."""
    async with asyncio.timeout(10):
        while True:
            with contextlib.closing(InboxReader(writer.path)) as reader, contextlib.suppress(EnvironmentFault):
                if reader.read(first - 1 if most is None else most - 1):
                    try:
                        reader.read(first - 2)
                    except EnvironmentFault:
                        return
            await asyncio.sleep(0.01)


async def test_reading_while_trimming_and_writing(tmp_path: Path) -> None:
    async with writing(tmp_path / "inbox.db") as writer:
        await put(writer, arrivals(b"0"))
        reader, offset = InboxReader(writer.path), 0
        for number in range(1, 300):
            await put(writer, arrivals(b"%d" % number))
            if number % 5 == 0:
                for record in records(reader, offset, 7):
                    assert record[4] == b"%d" % (record[0] - 1)
                    offset = record[0]
                writer.used(offset)
                writer.trim(0, 0)
        reader.close()
        assert offset > 200


async def test_a_reader_ahead_of_the_inbox_is_told(tmp_path: Path) -> None:
    async with writing(tmp_path / "inbox.db") as writer:
        await put(writer, arrivals(b"a"))
        reader = InboxReader(writer.path)
        assert reader.read(1) == []
        with pytest.raises(EnvironmentFault, match=r"up to offset 5; the inbox ends at 1"):
            reader.read(5)
        reader.close()
