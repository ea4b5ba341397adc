"""What a broker sends again is stored once; what only looks like it is stored."""

from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from engine.block import Block, BlockBuilder
from engine.component import Arrival
from engine.redelivery import Unacknowledged
from tests.engine.inbox_case import put, stored, writing


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
        st.tuples(st.just("restart"), st.just(""), st.just(0)),
        st.tuples(st.just("fail"), st.sampled_from("ab"), st.integers(1, 4)),
    ),
    max_size=30,
)


@given(STEPS)
def test_any_history_with_restarts_knows_exactly_the_unacknowledged(steps: list[tuple[str, str, int]]) -> None:
    known, model = Unacknowledged(), dict[tuple[str, int], int]()
    blocks: list[Block] = []
    for what, source, packet in steps:
        offset = len(blocks) + 1
        if what == "restart":
            ranges, known = known.ranges(), Unacknowledged()
            for first, last in ranges:
                for block in blocks:
                    known.restore(block, first, last)
        elif what == "acknowledge":
            known.acknowledge(source, [packet])
            model.pop((source, packet), None)
        else:
            new, repeated = known.sift(source, [message(packet, dup=what == "again")], offset)
            expected = model.get((source, packet)) if what == "again" else None
            assert repeated == ({} if expected is None else {0: expected})
            if what == "fail":
                known.roll_back()
                continue
            known.commit()
            if new:
                builder = BlockBuilder()
                builder.add(source, new)
                blocks.append(builder.block(offset, offset))
                model[source, packet] = offset
    covered = [offset for first, last in known.ranges() for offset in range(first, last + 1)]
    assert covered == sorted(model.values())
