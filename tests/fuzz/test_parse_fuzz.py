"""`parse` with hostile text: what comes out can be stored as JSON, what does not is a dead letter with a reason."""

import base64
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.errors import EventFault
from engine.harness import Harness
from engine.registry import components
from tests.operators.replay import flow_of, sent

OPTIONS: dict[str, dict[str, Any]] = {
    "json": {},
    "json, typed": {
        "types": {"a": "number", "b": "time", "c": "bool", "d": "int", "e": "text"},
        "fields": ["a", "b", "c", "d", "e", "f"],
    },
    "csv": {"format": "csv"},
    "csv, named": {"format": "csv", "fields": ["a", "b"], "separator": ";", "types": {"a": "number", "b": "time"}},
    "msgpack": {"format": "msgpack"},
    "key_value": {"format": "key_value"},
    "key_value, long": {"format": "key_value", "separator": ", ", "equals": "=>", "types": {"a": "int"}},
    "pattern": {"format": "pattern", "pattern": r"(?P<a>[a-z]*)\W(?P<b>.*)$", "types": {"b": "number"}},
    "line_protocol": {"format": "line_protocol"},
    "line_protocol, s": {"format": "line_protocol", "precision": "s"},
    "query": {"format": "query"},
}
GOOD = [
    '{"a": 1, "b": "2024-05-01"}', "a,b\n1,2\n", "1;2024-05-01", 'a=1 b="x y"', "a=>1, b=>2", "x 12.5", "a=1&b=%20",
    'm,t=1 f=1i,g="x y" 1714525200000000000', "m f=1", "[1, 2]", '{"b": 1e300, "c": "yes", "d": "7"}',
]  # fmt: skip
BITS = ["=", ",", ";", " ", "\\", '"', "\n", "\r", "\0", "{", "}", "[", "&", "%", "%zz", "%ff", "é", "🚀", "9" * 400, "1e999",
        "nan", "-", "#", "T", "+00:00", "0000-00-00", "9999-12-31T23:59:59-23:59", "\u2028", "i", "=>", "a", "b", "1"]  # fmt: skip
hostile = st.lists(st.one_of(st.sampled_from(BITS), st.text(max_size=3)), max_size=12).map("".join)
mutated = st.tuples(st.sampled_from(GOOD), st.integers(0, 40), st.one_of(st.just(""), hostile), st.integers(0, 4)).map(
    lambda t: t[0][: t[1]] + t[2] + t[0][t[1] + t[3] :]
)
packed = st.one_of(
    st.binary(max_size=30),
    st.recursive(
        st.one_of(st.none(), st.integers(-(2**63), 2**64 - 1), st.floats(), st.text(max_size=3), st.binary(max_size=3)),
        lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.one_of(st.text(max_size=2), st.integers(0, 3)), inner, max_size=3)),
        max_leaves=6,
    ).map(msgspec.msgpack.encode),
).map(lambda octets: base64.b64encode(octets).decode())  # fmt: skip
values: st.SearchStrategy[Any] = st.one_of(
    mutated, mutated, hostile, packed, st.sampled_from([None, 1, 2.5, True, [], {}, ["a=1"], b"\xff", b"a=1"])
)


def read(parse: Any, value: Any) -> tuple[Any, str]:
    """Return what was read, and the reason why it was not; nothing else may be raised."""
    try:
        return parse._read(value), ""
    except EventFault as fault:
        return fault.values, fault.reason


@pytest.mark.parametrize("alone", [True, False])
@pytest.mark.parametrize("name", OPTIONS)
@settings(max_examples=150, deadline=None)
@given(value=values)
def test_anything_is_read_or_refused(name: str, alone: bool, value: Any) -> None:
    options = {"of": "text", **OPTIONS[name]} | ({} if alone else {"as": "found"})
    parse = components("operators")["parse"].model_validate(options)
    if value is None:
        return
    found, reason = read(parse, value)
    assert not reason or (reason.startswith("text: ") and len(reason) < 1_000)
    assert reason or not alone or isinstance(found, dict)
    msgspec.json.encode(found)


@pytest.mark.parametrize("name", OPTIONS)
@settings(max_examples=30, deadline=None)
@given(texts=st.lists(mutated, min_size=1, max_size=4))
def test_no_text_stops_a_flow_or_loses_an_event(name: str, texts: list[str]) -> None:
    harness = Harness(flow_of("parse", {"of": "text", **OPTIONS[name]}, key=""))
    harness.send([sent(0, text=text) for text in texts])
    assert len(harness.out["out"]) + len(harness.dead) == len(texts)
    assert len(harness.out["rejected"]) == len(harness.dead)
    assert harness.ledger().remainder == 0


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("json", "[" * 100_000), ("csv", '"' * 100_001), ("csv", "a\n" * 50_000), ("key_value", "a=" * 50_000),
        ("key_value", 'a="' + "\\" * 100_001), ("pattern", "a" * 100_000), ("line_protocol", "m," * 50_000),
        ("line_protocol", "m f=" + "\\ " * 50_000), ("line_protocol", 'm f="' + '\\"' * 50_000), ("query", "a&" * 50_000),
        ("key_value", "=" * 100_000), ("key_value, long", ", " * 50_000), ("line_protocol", "m f=1\n" * 20_000),
    ],
)  # fmt: skip
@pytest.mark.timeout(10)
def test_long_text_takes_time_in_proportion(name: str, text: str) -> None:
    parse = components("operators")["parse"].model_validate({"of": "text", "as": "found", **OPTIONS[name]})
    _, reason = read(parse, text)
    assert len(reason) < 1_000
