"""What a broker sends again is stored once; what only looks like it is stored."""

import asyncio
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from engine.arrival import Arrival
from engine.arrivals import Arrivals
from engine.block import Block, BlockBuilder, decode_block
from engine.redelivery import Look, Sight, Unacknowledged, sight
from tests.engine.inbox_case import count, put, stored, writing


def message(packet: int, payload: bytes = b"x", topic: str = "a", dup: bool = False) -> Arrival:
    return Arrival(payload, topic, None, packet, dup)


async def test_sent_again_after_a_lost_connection_within_one_life(tmp_path: Path) -> None:
    async with writing(tmp_path / "inbox.db") as writer:
        await put(writer, [message(1)])
        assert (await put(writer, [message(1, dup=True)])).offsets() == [1]
        writer.acknowledged("gate", [1])
        assert (await put(writer, [message(1, dup=True)])).offsets() == [2]


async def test_sent_again_before_the_first_is_committed(tmp_path: Path) -> None:
    async with writing(tmp_path / "inbox.db") as writer:
        writer.submit("gate", [message(1)], lambda first, fault: None)
        assert (await put(writer, [message(1, dup=True), message(2)])).offsets() == [1, 2]
    assert len(stored(writer.path)) == 2


async def test_another_payload_topic_source_or_packet_is_new(tmp_path: Path) -> None:
    async with writing(tmp_path / "inbox.db") as writer:
        for number, other in enumerate((b"y", b"x"), 1):
            assert (await put(writer, [message(1, other, dup=True)])).offsets() == [number]
        assert (await put(writer, [message(1, topic="b", dup=True)])).offsets() == [3]
        assert (await put(writer, [message(2, dup=True)])).offsets() == [4]
        assert (await put(writer, [message(2, dup=True)], "station")).offsets() == [5]


async def test_a_reused_packet_id_replaces_what_was_stored_under_it(tmp_path: Path) -> None:
    path = tmp_path / "inbox.db"
    async with writing(path) as writer:
        await put(writer, [message(1, b"old")])
        await put(writer, [message(1, b"new")])
    async with writing(path) as writer:
        assert (await put(writer, [message(1, b"new", dup=True)])).offsets() == [2]
        assert (await put(writer, [message(1, b"old", dup=True)])).offsets() == [3]


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("new"), st.sampled_from("ab"), st.integers(1, 4)),
        st.tuples(st.just("again"), st.sampled_from("ab"), st.integers(1, 4)),
        st.tuples(st.just("acknowledge"), st.sampled_from("ab"), st.integers(1, 4)),
        st.tuples(st.sampled_from(["restart", "trim"]), st.just(""), st.just(0)),
        st.tuples(st.just("fail"), st.sampled_from("ab"), st.integers(1, 4)),
    ),
    max_size=30,
)


def restarted(old: Unacknowledged, look: Look, blocks: list[Block]) -> Unacknowledged:
    known = Unacknowledged(look)
    for first, last in old.ranges():
        for block in blocks:
            known.restore(block, first, last)
    return known


@given(STEPS)
def test_any_history_with_restarts_knows_exactly_the_unacknowledged(steps: list[tuple[str, str, int]]) -> None:
    def look(offset: int) -> Sight | None:
        return sight("a", b"x") if offset > trimmed else None

    known, model, trimmed = Unacknowledged(look), dict[tuple[str, int], int](), 0
    blocks: list[Block] = []
    for what, source, packet in steps:
        offset = len(blocks) + 1
        if what == "restart":
            known = restarted(known, look, blocks[trimmed:])
            model = {key: offset for key, offset in model.items() if offset > trimmed}
        elif what == "trim":
            known.leave(len(blocks) // 2)
            trimmed = max(trimmed, len(blocks) // 2)
        elif what == "acknowledge":
            known.acknowledge(source, [packet])
            model.pop((source, packet), None)
        else:
            new, repeated = known.sift(source, Arrivals.of([message(packet, dup=what == "again")]), offset)
            expected = model.get((source, packet)) if what == "again" else None
            assert repeated == ({} if expected is None else {0: expected})
            if what == "fail":
                known.roll_back()
                continue
            known.commit()
            if new:
                builder = BlockBuilder()
                builder.add(source, new)
                blocks.append(decode_block(builder.encode(offset, offset)))
                model[source, packet] = offset
    covered = [offset for first, last in known.ranges() for offset in range(first, last + 1)]
    assert covered == sorted(model.values())


async def test_what_is_trimmed_away_is_still_known(tmp_path: Path) -> None:
    async with writing(tmp_path / "inbox.db") as writer:
        for packet in range(1, 6):
            await put(writer, [message(packet, b"%d" % packet)])
        writer.used(4)
        writer.trim(0, 0)
        async with asyncio.timeout(10):
            while count(writer.path, "block") > 1:  # noqa: ASYNC110 - the writer's thread tells nobody
                await asyncio.sleep(0.01)
        again = [message(packet, b"%d" % packet, dup=True) for packet in (2, 1, 5)]
        assert (await put(writer, [*again, message(3, b"other", dup=True)])).offsets() == [2, 1, 5, 6]


async def test_many_that_come_again_with_new_ones_between_them(tmp_path: Path) -> None:
    path = tmp_path / "inbox.db"
    async with writing(path, commit_records=7) as writer:
        for first in range(1, 50, 7):
            await put(writer, [message(packet, b"%d" % packet) for packet in range(first, first + 7)])
    async with writing(path) as writer:
        mixed = [message(packet, b"%d" % packet, dup=packet % 2 == 1) for packet in range(1, 50)]
        offsets = (await put(writer, [*mixed, message(0), message(0, dup=True)])).offsets()
    assert offsets[:-2] == [packet if packet % 2 else 49 + packet // 2 for packet in range(1, 50)]
    assert offsets[-2:] == [74, 75]


def test_a_message_of_qos_0_is_not_waited_for() -> None:
    known = Unacknowledged(lambda offset: None)
    known.sift("gate", Arrivals.of([message(0), message(5), message(0)]), 1)
    known.commit()
    assert known.ranges() == [(2, 2)]
