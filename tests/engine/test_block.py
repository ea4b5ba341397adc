"""The block: every record comes out as it went in, whole or sliced."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.block import Block, BlockBuilder, decode_block, encode_block
from engine.component import Arrival

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
            block.packets.get(at, 0),
        )
        for at in range(len(block.payloads))
    ]


@given(GROUPS, st.integers(1, 2**62), st.integers(0, 30), st.integers(0, 30))
def test_records_survive_encoding_and_slicing(
    groups: list[tuple[str, list[Arrival]]], first: int, start: int, stop: int
) -> None:
    builder = BlockBuilder()
    for source, arrivals in groups:
        builder.add(source, arrivals)
    block = decode_block(encode_block(builder.block(first, 7)))
    flat = [(s, a.topic, a.payload, a.meta, a.packet) for s, arrivals in groups for a in arrivals]
    expected = [(first + at, *record) for at, record in enumerate(flat)]
    assert records(block) == expected
    assert block.last == first + len(flat) - 1
    assert records(block.slice(start, stop)) == expected[start:stop]


@given(GROUPS, st.data())
def test_a_damaged_block_is_refused_or_read(groups: list[tuple[str, list[Arrival]]], data: st.DataObject) -> None:
    builder = BlockBuilder()
    for source, arrivals in groups:
        builder.add(source, arrivals)
    body = bytearray(encode_block(builder.block(1, 1)))
    body[data.draw(st.integers(0, len(body) - 1))] = data.draw(st.integers(0, 255))
    try:
        decode_block(bytes(body[: data.draw(st.integers(0, len(body)))]))
    except msgspec.DecodeError:
        return


def test_a_meta_that_has_no_stored_form_is_refused() -> None:
    builder = BlockBuilder()
    builder.add("gate", [Arrival(b"", meta={"o": object()})])
    with pytest.raises(TypeError, match="object"):
        encode_block(builder.block(1, 1))
