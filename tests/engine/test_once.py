"""What has a key is stored once, whatever comes again, in which order, over restarts and failures."""

import asyncio
import sqlite3
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine import once
from engine.arrival import Arrival, Reply
from engine.arrivals import Arrivals
from engine.errors import KeyReused, Unavailable
from engine.inbox import InboxWriter
from engine.inbox_log import KEEP_KEYS, Submission
from tests.engine.inbox_case import count, put, stored, writing


def keyed(*keys: str, digest: bytes = b"") -> list[Arrival]:
    """Return an arrival for each key; an empty key is none."""
    return [Arrival(key.encode() or b"none", "topic", None, once=key, digest=digest) for key in keys]


async def test_a_key_is_stored_once_over_commits_and_restarts(tmp_path: Path) -> None:
    path = tmp_path / "inbox.db"
    async with writing(path) as writer:
        assert (await put(writer, keyed("a", "b", ""))).offsets() == [1, 2, 3]
        assert (await put(writer, keyed("b", "", "c", "a"))).offsets() == [2, 4, 5, 1]
    async with writing(path) as writer:
        assert (await put(writer, keyed("c"), "another source")).offsets() == [5]
        assert (await put(writer, keyed("d"))).offsets() == [6]
    assert [record[4] for record in stored(path)] == [b"a", b"b", b"none", b"none", b"c", b"d"]


def written(path: Path) -> bytes:
    """Return all that is in the files of an inbox."""
    return b"".join(file.read_bytes() for file in path.parent.iterdir())


async def test_the_key_itself_is_not_in_the_file(tmp_path: Path) -> None:
    async with writing(tmp_path / "inbox.db") as writer:
        await put(writer, [Arrival(b"shown", once="hidden")])
        assert b"hidden" not in written(writer.path)
        assert b"shown" in written(writer.path)


async def test_a_key_that_is_earlier_in_the_same_commit_or_submit(tmp_path: Path) -> None:
    async with writing(tmp_path / "inbox.db") as writer:
        with writer._changed:  # they are committed together
            submissions = [
                writer.submit("gate", keyed(*keys), lambda first, fault: None) for keys in ("ab", "cba", "cc")
            ]
        assert (await put(writer, keyed("d", "d"))).offsets() == [4, 4]
        assert [submission.offsets() for submission in submissions] == [[1, 2], [3, 2, 1], [3, 3]]


async def test_a_key_with_another_digest_is_refused_whole_and_alone(tmp_path: Path) -> None:
    async with writing(tmp_path / "inbox.db") as writer:
        await put(writer, keyed("a", digest=b"1"))
        with writer._changed:
            others = [
                put(writer, keyed("x", digest=b"1")),
                put(writer, keyed("y", "a", digest=b"2")),
                put(writer, keyed("z")),
            ]
            tasks = [asyncio.ensure_future(other) for other in others]
        results = await asyncio.gather(*tasks, return_exceptions=True)
        assert [type(result).__name__ for result in results] == ["Submission", "KeyReused", "Submission"]
        assert (await put(writer, keyed("y", digest=b"2"))).offsets() == [4]
        with pytest.raises(KeyReused):
            await put(writer, keyed("x"))
    assert [record[4] for record in stored(writer.path)] == [b"a", b"x", b"z", b"y"]


async def test_one_key_stands_for_all_up_to_the_next(tmp_path: Path) -> None:
    def group(count: int, **keys: bytes) -> Arrivals:
        begins = {at: ("" if key == "none" else key, digest) for at, (key, digest) in enumerate(keys.items())}
        return Arrivals([b"%d" % at for at in range(count)], ["t"] * count, keys=begins)

    async with writing(tmp_path / "inbox.db") as writer:
        assert (await put(writer, group(3, a=b"1"))).offsets() == [1, 2, 3]
        assert (await put(writer, group(4, b=b"1", a=b"1"))).offsets() == [4, 1, 2, 3]
        assert (await put(writer, group(3, a=b"1"))).offsets() == [1, 2, 3]
        assert (await put(writer, group(3, b=b"1", none=b""))).offsets() == [4, 5, 6]
        with pytest.raises(KeyReused):
            await put(writer, group(3, c=b"1", a=b"2"))
        assert (await put(writer, group(2, c=b"1"))).offsets() == [7, 8]
    async with writing(tmp_path / "inbox.db") as writer:
        assert (await put(writer, group(2, c=b"1"))).offsets() == [7, 8]
    assert (count(writer.path, "once"), len(stored(writer.path))) == (3, 8)


async def test_a_commit_that_fails_forgets_its_keys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with writing(tmp_path / "inbox.db") as writer:

        def full(*_: object) -> None:
            raise sqlite3.OperationalError("database or disk is full")

        with monkeypatch.context() as patch:
            patch.setattr(once.OnceKeys, "write", full)
            with pytest.raises(Unavailable):
                await put(writer, keyed("a"))
        assert stored(writer.path) == []
        assert (await put(writer, keyed("a"))).offsets() == [1]
        assert (await put(writer, keyed("a"))).offsets() == [1]


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("submit"), st.lists(st.sampled_from(["", *"abcdefgh"]), min_size=1, max_size=5)),
        st.tuples(st.sampled_from(["commit", "restart", "fail"]), st.just([""])),
    ),
    max_size=20,
)


async def play(path: Path, steps: list[tuple[str, list[str]]]) -> list[tuple[list[str], Submission]]:
    """Return what was submitted: keys and what became of them."""
    writer, submissions = InboxWriter(path, "flow"), []
    writer.open()
    for step, keys in [*steps, ("commit", [""])]:
        if step == "submit":
            submissions.append((keys, writer.submit("gate", keyed(*keys), lambda first, fault: None)))
        elif step == "fail":
            bad = [*keyed("b"), Arrival(b"", meta={"x": object()})]
            writer.submit("gate", bad, lambda first, fault: None)
        elif step == "commit":
            await put(writer, [])
        else:
            writer.close()
            writer = InboxWriter(path, "flow")
            writer.open()
    writer.close()
    return submissions


@given(STEPS)
@settings(max_examples=60)
def test_in_any_order_of_repeats_each_key_has_one_offset(steps: list[tuple[str, list[str]]]) -> None:
    with TemporaryDirectory() as folder:
        path, offsets = Path(folder) / "inbox.db", dict[str, int]()
        submissions = asyncio.run(play(path, steps))
        whole = {record[0]: record[4] for record in stored(path)}
    assert list(whole) == list(range(1, len(whole) + 1))
    for keys, submission in submissions:
        for key, offset in zip(keys, submission.offsets(), strict=True):
            assert whole[offset] == (key.encode() or b"none")
            assert not key or offsets.setdefault(key, offset) == offset
    assert [payload for payload in whole.values() if payload != b"none"] == [key.encode() for key in offsets]


async def test_an_answer_is_kept_with_its_key_and_only_there(tmp_path: Path) -> None:
    path = tmp_path / "inbox.db"
    async with writing(path) as writer:
        await put(writer, keyed("a", "", "b", "c"))
        await writer.keep(1, Reply(201, b"first"))
        await asyncio.gather(writer.keep(1, Reply(500, b"again")), writer.keep(2, Reply(200, b"no key")))
        await writer.keep(3, Reply(200, bytes(once.LONGEST_ANSWER + 1)))
        await writer.keep(99, Reply(200, b"nothing there"))
        assert (await put(writer, keyed("a"))).answer == Reply(201, b"first")
    assert count(path, "answer") == 1
    async with writing(path) as writer:
        assert (await put(writer, keyed("a"))).answer == Reply(201, b"first")
        assert (await put(writer, keyed("b"))).answer is None
        assert (await put(writer, keyed("a", "b"))).answer is None
    await writer.keep(4, Reply(200, b"after the end"))


async def test_an_answer_that_cannot_be_written_is_written_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, fails = once.OnceKeys.write, [True]

    def write(keys: once.OnceKeys, now: int) -> None:
        if fails[0]:
            raise sqlite3.OperationalError("database or disk is full")
        real(keys, now)

    async with writing(tmp_path / "inbox.db") as writer:
        await put(writer, keyed("a"))
        monkeypatch.setattr(once.OnceKeys, "write", write)
        await asyncio.wait_for(writer.keep(1, Reply(200, b"late")), 5)
        fails.clear()
        fails.append(False)
        assert (await put(writer, keyed("b"))).offsets() == [2]
        assert (await put(writer, keyed("a"))).answer == Reply(200, b"late")


async def test_keys_go_when_they_are_old_or_too_many_and_those_of_a_commit_go_together(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(once, "STEP", 2)
    monkeypatch.setattr(once, "MOST_KEYS", 4)
    path = tmp_path / "inbox.db"
    async with writing(path) as writer:
        await put(writer, keyed("a", "b", "c"))
        await writer.keep(2, Reply(200, b"x"))
        await put(writer, keyed("d", "e"))
        writer.trim(1 << 60, 1 << 60)
        async with asyncio.timeout(10):
            while count(path, "once") > 2:  # noqa: ASYNC110 - the writer's thread tells nobody
                await asyncio.sleep(0.01)
        assert (await put(writer, keyed("d", "e"))).offsets() == [4, 5]
        assert (await put(writer, keyed("a"))).offsets() == [6]
        assert count(path, "answer") == 0
        writer.close()
        keys = once.OnceKeys(sqlite3.connect(path, isolation_level=None))
        oldest = stored(path)[3][1]
        assert not keys.trim_step(oldest)
        assert keys.trim_step(oldest + 1)
        assert count(path, "once") == 1
        assert KEEP_KEYS == 24 * 3600 * 1_000_000


async def test_answers_that_are_too_many_go_before_their_keys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(once, "MOST_ANSWERS", 2_500)
    path = tmp_path / "inbox.db"
    async with writing(path) as writer:
        await put(writer, keyed(*"abcd"))
        for offset in range(1, 5):
            await writer.keep(offset, Reply(200, bytes(1_000)))
        writer.trim(1 << 60, 1 << 60)
        async with asyncio.timeout(10):
            while count(path, "answer") > 2:  # noqa: ASYNC110 - the writer's thread tells nobody
                await asyncio.sleep(0.01)
        assert [(await put(writer, keyed(key))).answer is None for key in "abcd"] == [True, True, False, False]
    assert count(path, "once") == 4
