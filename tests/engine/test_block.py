"""The block: every record comes out as it went in, whole or sliced."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.arrival import Arrival
from engine.arrivals import Arrivals
from engine.block import Block, BlockBuilder, decode_block, encode_block

VALUES = st.integers(-9, 9) | st.text(max_size=4)
METAS = st.none() | st.dictionaries(st.text(max_size=4), VALUES, min_size=1, max_size=2)
TOPICS = st.sampled_from(["", "a", "a/b", "ä"])
ARRIVALS = st.builds(Arrival, st.binary(max_size=9), TOPICS, METAS, st.integers(0, 65_535), st.booleans())
SOURCES = st.sampled_from(["gate", "station", "by_hand"])
GROUPS = st.lists(st.tuples(SOURCES, st.lists(ARRIVALS, max_size=5)), max_size=6)


def records(block: Block) -> list[tuple[object, ...]]:
    return [
        (
            block.first + at,
            block.sources[block.source_index[at]],
            block.topics[block.topic_index[at]],
            block.payloads[at],
            block.metas.get(at),
            block.packets[at] if block.packets else 0,
        )
        for at in range(len(block.payloads))
    ]


@given(GROUPS, st.integers(1, 2**62), st.integers(0, 30), st.integers(0, 30))
def test_records_survive_encoding_and_slicing(
    groups: list[tuple[str, list[Arrival]]], first: int, start: int, stop: int
) -> None:
    builder = BlockBuilder()
    for source, arrivals in groups:
        builder.add(source, Arrivals.of(arrivals))
    block = decode_block(builder.encode(first, 7))
    assert decode_block(encode_block(block)) == block
    flat = [(s, a.topic, a.payload, a.meta, a.packet) for s, arrivals in groups for a in arrivals]
    expected = [(first + at, *record) for at, record in enumerate(flat)]
    assert records(block) == expected
    assert block.last == first + len(flat) - 1
    assert records(block.slice(start, stop)) == expected[start:stop]


@given(GROUPS, st.data())
def test_a_damaged_block_is_refused_or_read(groups: list[tuple[str, list[Arrival]]], data: st.DataObject) -> None:
    builder = BlockBuilder()
    for source, arrivals in groups:
        builder.add(source, Arrivals.of(arrivals))
    body = bytearray(builder.encode(1, 1))
    body[data.draw(st.integers(0, len(body) - 1))] = data.draw(st.integers(0, 255))
    try:
        decode_block(bytes(body[: data.draw(st.integers(0, len(body)))]))
    except msgspec.DecodeError:
        return


def test_a_meta_that_has_no_stored_form_is_refused() -> None:
    builder = BlockBuilder()
    builder.add("gate", Arrivals.of([Arrival(b"", meta={"o": object()})]))
    with pytest.raises(TypeError, match="object"):
        builder.encode(1, 1)


def test_a_block_of_version_2_is_read() -> None:
    old = [5, 7, ["gate", "station"], b"\0\1\0", ["a", "b"], [0, 1, 0], [b"x", b"y", b"z"], {1: {"m": 1}}, {2: 9}]
    block = decode_block(msgspec.msgpack.encode(old))
    assert records(block) == [
        (5, "gate", "a", b"x", None, 0),
        (6, "station", "b", b"y", {"m": 1}, 0),
        (7, "gate", "a", b"z", None, 9),
    ]
    assert (block.time, block.last) == (7, 7)


def test_what_all_arrivals_share_is_stored_once() -> None:
    builder, meta = BlockBuilder(), {"account": "x" * 100}
    builder.add("by_hand", Arrivals([b"1"] * 3, ["t"] * 3, metas={1: {"own": 1}}))
    builder.add("gate", Arrivals([b"2"] * 500, ["t"] * 500, meta, {1: {"own": 2}}))
    body = builder.encode(1, 1)
    assert body.count(b"x" * 100) == 1
    metas = decode_block(body).metas
    assert [metas.get(at) for at in (0, 1, 2, 3, 4, 5, 502)] == [None, {"own": 1}, None, meta, {"own": 2}, meta, meta]


@pytest.mark.parametrize("run", [(1, 3, {}), (2, 1, {}), (-1, 1, {}), (0, 10**15, {})])
def test_a_meta_outside_of_its_block_is_refused(run: tuple[int, int, dict[str, int]]) -> None:
    body = msgspec.msgpack.encode([3, 1, 1, ["s"], b"\0\0", ["t"], [0, 0], [b"a", b"b"], [run], []])
    with pytest.raises(msgspec.DecodeError):
        decode_block(body)
