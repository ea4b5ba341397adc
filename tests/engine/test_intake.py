"""The intake of a source: ids after the commit, and answers that find who waits, whenever they come."""

import asyncio
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from engine.arrival import Arrival, Intake, Reply
from engine.errors import KeyReused, Unavailable
from engine.inbox import InboxWriter
from engine.intake import FlowIntake, RecentReplies, ReplyDesk
from engine.mqtt_address import MqttAddress
from engine.settings import MqttPlace
from tests.engine.inbox_case import arrivals, writing

BROKER = MqttPlace(MqttAddress("127.0.0.1", 1883), 4, "millstream")


def intake(writer: InboxWriter, desk: ReplyDesk | None = None, **options: Any) -> Intake:
    """Return the intake of a source; whatever is asked for below is in the protocol."""
    return FlowIntake(writer, desk or ReplyDesk(), "flow", "gate", BROKER, **options)


async def test_append_returns_ids_of_stream_and_offset(tmp_path: Path) -> None:
    async with writing(tmp_path / "inbox.db") as writer:
        source = intake(writer)
        assert await source.append([]) == []
        assert await source.append(arrivals(b"a", b"b")) == [writer.prefix + bytes([0] * 7 + [n]) for n in (1, 2)]
        assert await source.append([Arrival(b"c", "t", None, 5)]) == [writer.prefix + bytes([0] * 7 + [3])]
        assert await source.append([Arrival(b"c", "t", None, 5, True)]) == [writer.prefix + bytes([0] * 7 + [3])]
        source.acknowledged([5])
        assert await source.append([Arrival(b"c", "t", None, 5, True)]) == [writer.prefix + bytes([0] * 7 + [4])]


async def test_submit_tells_after_the_commit_on_the_loop(tmp_path: Path) -> None:
    async with writing(tmp_path / "inbox.db") as writer:
        source, told = intake(writer), asyncio.Queue[tuple[BaseException | None, int]]()
        source.submit(arrivals(b"a"), lambda fault: told.put_nowait((fault, writer.head)))
        assert await asyncio.wait_for(told.get(), 5) == (None, 1)
    with pytest.raises(Unavailable):
        await source.append(arrivals(b"b"))


async def test_a_cancelled_append_harms_nothing(tmp_path: Path) -> None:
    with capture_logs() as logs:
        async with writing(tmp_path / "inbox.db") as writer:
            desk = ReplyDesk()
            source = intake(writer, desk)
            task = asyncio.create_task(source.append(arrivals(b"a"), expect_reply=True))
            await asyncio.sleep(0)
            task.cancel()
            await asyncio.wait([task])
            assert len(await source.append(arrivals(b"b"))) == 1
            assert not desk.answer(writer.prefix + bytes([0] * 7 + [1]), 200, b"")
    assert logs == []


async def test_an_answer_before_the_commit_is_told_is_kept(tmp_path: Path) -> None:
    async with writing(tmp_path / "inbox.db") as writer:
        desk = ReplyDesk()
        source = intake(writer, desk)
        task = asyncio.create_task(source.append(arrivals(b"a"), expect_reply=True))
        await asyncio.sleep(0)
        assert desk.answer(writer.prefix + bytes([0] * 7 + [1]), 201, b"early")
        (event_id,) = await task
        assert await source.reply(event_id, 5) == Reply(201, b"early")


async def test_an_answer_between_append_and_reply_and_one_during_reply(tmp_path: Path) -> None:
    async with writing(tmp_path / "inbox.db") as writer:
        desk = ReplyDesk()
        source = intake(writer, desk)
        first, second = await source.append(arrivals(b"a", b"b"), expect_reply=True)
        assert desk.answer(first, 200, b"1")
        assert desk.answer(first, 500, b"sent again")
        assert await source.reply(first, 5) == Reply(200, b"1")
        waiting = asyncio.create_task(source.reply(second, 5))
        await asyncio.sleep(0)
        assert desk.answer(second, 200, b"2")
        assert await waiting == Reply(200, b"2")
        assert not desk.answer(second, 200, b"2")


async def test_nobody_waits_or_too_long() -> None:
    desk = ReplyDesk()
    assert not desk.answer(b"1", 200, b"")
    with pytest.raises(TimeoutError):
        await desk.wait(b"1", 0.01)
    assert not desk.answer(b"1", 200, b"")


async def test_what_is_kept_is_bounded() -> None:
    desk = ReplyDesk(kept=3)
    desk.expect()
    for number in range(10):
        assert desk.answer(b"%d" % number, 200, b"%d" % number)
    desk.expected([b"%d" % number for number in range(10)])
    with pytest.raises(TimeoutError):
        await desk.wait(b"6", 0.01)
    assert (await desk.wait(b"7", 1)).body == b"7"
    assert [desk.answer(b"%d" % number, 200, b"") for number in (1, 8)] == [False, True]


async def test_state_is_passed_on(tmp_path: Path) -> None:
    heard: list[tuple[str, ...]] = []
    async with writing(tmp_path / "inbox.db") as writer:
        intake(writer, on_state=lambda *state: heard.append(state)).state("connected", "broker")
    assert heard == [("flow", "gate", "connected", "broker")]


def keyed(payload: bytes, key: str) -> list[Arrival]:
    return [Arrival(payload, "t", None, once=key, digest=payload)]


async def test_any_number_may_wait_for_one_answer_and_ask_again(tmp_path: Path) -> None:
    async with writing(tmp_path / "inbox.db") as writer:
        desk = ReplyDesk(writer)
        source = intake(writer, desk)
        first, second = await asyncio.gather(*(source.append(keyed(b"a", "k"), expect_reply=True) for _ in range(2)))
        assert first == second
        waiting = [asyncio.create_task(source.reply(first[0], 5)) for _ in range(3)]
        await asyncio.sleep(0)
        waiting[0].cancel()
        assert desk.answer(first[0], 201, b"row")
        assert [await task for task in waiting[1:]] == [Reply(201, b"row")] * 2
        assert desk.answer(first[0], 500, b"sent again")
        assert await source.append(keyed(b"a", "k"), expect_reply=True) == first
        assert await source.reply(first[0], 0.01) == Reply(201, b"row")
        with pytest.raises(KeyReused):
            await source.append(keyed(b"b", "k"), expect_reply=True)


async def test_an_answer_outlives_the_gateway(tmp_path: Path) -> None:
    path = tmp_path / "inbox.db"
    async with writing(path) as writer:
        desk = ReplyDesk(writer)
        (event_id,) = await intake(writer, desk).append(keyed(b"a", "k"), expect_reply=True)
        desk.answer(event_id, 201, b"row")
        await desk.stored()
    async with writing(path) as writer:
        source = intake(writer, ReplyDesk(writer))
        assert await source.append(keyed(b"a", "k"), expect_reply=True) == [event_id]
        assert await source.reply(event_id, 0.01) == Reply(201, b"row")


async def test_an_answer_that_comes_after_the_gateway_was_killed_is_kept_for_who_asks_again(tmp_path: Path) -> None:
    """The worker gives the answer to a gateway in which nobody waits for it yet."""
    path = tmp_path / "inbox.db"
    async with writing(path) as writer:
        (event_id,) = await intake(writer).append(keyed(b"a", "k"), expect_reply=True)
        await intake(writer).append(arrivals(b"b"), expect_reply=True)
    async with writing(path) as writer:
        desk = ReplyDesk(writer)
        assert not desk.answer(event_id, 201, b"row")
        assert not desk.answer(writer.prefix + bytes([0] * 7 + [2]), 201, b"no key")
        assert not desk.answer(b"of another stream", 201, b"")
        await desk.stored()
        source = intake(writer, desk)
        await source.append(keyed(b"a", "k"), expect_reply=True)
        assert await source.reply(event_id, 0.01) == Reply(201, b"row")


async def test_an_early_answer_to_a_key_stays(tmp_path: Path) -> None:
    async with writing(tmp_path / "inbox.db") as writer:
        desk = ReplyDesk(writer)
        source = intake(writer, desk)
        task = asyncio.create_task(source.append(keyed(b"a", "k"), expect_reply=True))
        await asyncio.sleep(0)
        assert desk.answer(writer.prefix + bytes([0] * 7 + [1]), 201, b"early")
        (event_id,) = await task
        assert [await source.reply(event_id, 0.01) for _ in range(2)] == [Reply(201, b"early")] * 2


def test_recent_answers_are_bounded_in_number_and_bytes() -> None:
    recent = RecentReplies(3, 1_000)
    assert [recent.put(bytes([number]), Reply(200, bytes(100))) for number in (1, 2, 3, 4, 4)] == [True] * 4 + [False]
    assert [recent.get(bytes([number])) is not None for number in (1, 2, 3, 4)] == [False, True, True, True]
    recent.put(b"big", Reply(200, bytes(850)))
    assert [recent.get(key) is not None for key in (bytes([3]), bytes([4]), b"big")] == [False, True, True]
    recent.put(b"too big", Reply(200, bytes(1_001)))
    assert recent.get(b"too big") is None
