"""Bodies: what is accepted is JSON objects of bounded depth; everything else is a Refusal, never anything else."""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.refusal import Refusal
from engine.request_body import MAX_DEPTH, read_lines, read_object, read_objects

LEAVES = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text()
VALUES = st.recursive(
    LEAVES, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4), max_leaves=12
)
OBJECTS = st.dictionaries(st.text(), VALUES, max_size=4)
HOSTILE = st.sampled_from(
    [b"\xff", b"\x00", b"{", b"]", b'"', b"\\u", b"NaN", b"[" * 70, b'{"a":' * 70, b"\n", b",", b"\xed\xa0\x80"]
)


def depth(value: Any) -> int:
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else None
    return 0 if inner is None else 1 + max(map(depth, inner), default=0)


@settings(max_examples=150)
@given(st.lists(OBJECTS, max_size=5))
def test_good_json_is_taken_as_it_came(values: list[dict[str, Any]]) -> None:
    assert [json.loads(item) for item in read_objects(json.dumps(values).encode())] == values
    lines = "\r\n".join(json.dumps(value, ensure_ascii=False) for value in values).encode()
    assert [json.loads(item) for item in read_lines(lines)] == values
    for value in values:
        assert json.loads(read_object(json.dumps(value).encode())) == value


@settings(max_examples=400)
@given(
    st.lists(OBJECTS, max_size=4),
    HOSTILE,
    st.integers(0, 10_000),
    st.sampled_from([read_object, read_objects, read_lines]),
)
def test_hostile_leaves_are_refused_or_harmless(values: Any, leaf: bytes, at: int, read: Any) -> None:
    body = json.dumps(values if read is read_objects else {"v": values}).encode()
    place = at % (len(body) + 1)
    try:
        found = read(body[:place] + leaf + body[place:])
    except Refusal as refusal:
        found = [] if refusal.status in (400, 422) else pytest.fail(str(refusal))
    for item in [found] if isinstance(found, bytes) else found:
        assert depth(json.loads(item, strict=False)) <= MAX_DEPTH


@settings(max_examples=60)
@given(st.integers(MAX_DEPTH - 3, MAX_DEPTH + 3), st.sampled_from(["[", "{"]), st.integers(0, 40))
def test_the_depth_is_exact(deep: int, kind: str, beside: int) -> None:
    inner: Any = []
    for _ in range(deep - 2):
        inner = [inner] if kind == "[" else {"a": inner}
    body = json.dumps([{"beside": [[]] * beside}, {"a": inner}]).encode()
    if deep <= MAX_DEPTH:
        assert len(read_objects(body)) == 2
    else:
        with pytest.raises(Refusal, match="64 deep"):
            read_objects(body)
