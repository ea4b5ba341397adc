"""`parse` and `encode`: what is read, what is refused and why, and that what was written is read again."""

import base64
import math
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine import line_protocol, text_formats
from engine.harness import Harness
from engine.load import load_text
from tests.operators.replay import flow_of, sent


def run(kind: str, options: Any, *data: dict[str, Any]) -> Harness:
    harness = Harness(flow_of(kind, options, key=""))
    for at, item in enumerate(data):
        harness.send([sent(at, **item)])
    return harness


def read(options: dict[str, Any], text: Any) -> Any:
    """Return what was read of a text, or the reason why not."""
    harness = run("parse", {"of": "text", "as": "found", **options}, {"text": text})
    assert len(harness.dead) == len(harness.out["rejected"])
    return harness.dead[0].reason if harness.dead else harness.out["out"][0].data["found"]


PACKED = base64.b64encode(msgspec.msgpack.encode({"a": [1, None, 2.5]})).decode()


@pytest.mark.parametrize(
    ("options", "text", "found"),
    [
        ({}, ' {"a": [1, null]} ', {"a": [1, None]}),
        ({}, "[1, 2]", [1, 2]),
        ({"encoding": "base64"}, "eyJhIjoxfQ==", {"a": 1}),
        ({"encoding": "hex"}, "7b22 61223a317d", {"a": 1}),
        ({"format": "msgpack"}, PACKED, {"a": [1, None, 2.5]}),
        ({"format": "msgpack", "encoding": "hex"}, "93010203", [1, 2, 3]),
        ({"format": "csv"}, "a,b\n1,2\n\n3,\"x,\n\"\"y\"\n", [{"a": "1", "b": "2"}, {"a": "3", "b": 'x,\n"y'}]),
        ({"format": "csv", "fields": ["a", "b"], "types": {"a": "int"}}, "1,2\r\n,4", [{"a": 1, "b": "2"}, {"a": None, "b": "4"}]),
        ({"format": "csv"}, "", []),
        ({"format": "key_value"}, 'a=1  b="x \\"y\\" \\\\" c= d=e=f', {"a": "1", "b": 'x "y" \\', "c": "", "d": "e=f"}),
        ({"format": "key_value", "separator": ";", "equals": ":"}, "a: 1; b :2;", {"a": "1", "b": "2"}),
        ({"format": "query"}, "?a=1&b=x%20y+z&a=2&c=", {"a": ["1", "2"], "b": "x y z", "c": ""}),
        ({"format": "pattern", "pattern": r"t=(?P<t>\d+)(?P<unit>[CF])?", "types": {"t": "int"}}, "x t=12", {"t": 12, "unit": None}),
        ({"fields": ["b", "z"]}, '{"a": 1, "b": 2}', {"b": 2, "z": None}),
        ({"types": {"t": "time", "on": "bool", "n": "number", "s": "text"}}, '{"t":1714525200000,"on":"off","n":"-1.5e1","s":4}',
         {"t": datetime(2024, 5, 1, 1, tzinfo=UTC), "on": False, "n": -15.0, "s": "4"}),
    ],
)  # fmt: skip
def test_a_text_is_read(options: dict[str, Any], text: str, found: Any) -> None:
    assert read(options, text) == found


@pytest.mark.parametrize(
    ("options", "text", "reason"),
    [
        ({}, "{", "text: JSON (Input data was truncated) in '{'"),
        ({}, 7, "text: text; got 7"),
        ({}, "[" * 5000, "text: JSON nested less deeply in '" + "[" * 59 + "…'"),
        ({"encoding": "base64"}, "e!", "text: base64 in 'e!'"),
        ({"encoding": "hex"}, "7b2", "text: hex in '7b2'"),
        ({"format": "msgpack"}, "gQEC", "text: names that are text; got number in 'gQEC'"),
        ({"format": "msgpack"}, "wQ==", "text: MessagePack (MessagePack data is malformed: invalid opcode '\\xc1' (byte 0)) in 'wQ=='"),
        ({"format": "csv"}, "a,b\n1", "text: 2 values in row 1; got 1 in 'a,b\n1'"),
        ({"format": "csv"}, "a,a\n1,2", 'text: a first row of different names; got ["a","a"] in \'a,a\n1,2\''),
        ({"format": "csv"}, 'a\n"x', "text: CSV (unexpected end of data) in 'a\n\"x'"),
        ({"format": "key_value"}, "a=1 b", "text: name=value at 5 in 'a=1 b'"),
        ({"format": "key_value"}, 'a="1', "text: the end of the text that begins at 3 in 'a=\"1'"),
        ({"format": "query"}, "a", "text: bad query field: 'a' in 'a'"),
        ({"format": "pattern", "pattern": r"^(?P<t>\d+)$"}, "x1", "text: pattern ^(?P<t>\\d+)$ in 'x1'"),
        ({"types": {"a": "int"}}, '{"a": "1.5"}', "text: a: int; got 1.5 in '{\"a\": \"1.5\"}'"),
    ],
)  # fmt: skip
def test_what_cannot_be_read_says_why(options: dict[str, Any], text: Any, reason: str) -> None:
    assert read(options, text) == reason


@pytest.mark.parametrize(
    ("options", "text", "reason"),
    [
        ({}, "[1]", "text: a mapping, as there is no `as`; got list in '[1]'"),
        ({"format": "csv"}, "a\n1\n2", "text: one row, as there is no `as`; got 2 in 'a\n1\n2'"),
        ({"format": "line_protocol"}, "", "text: one row, as there is no `as`; got 0"),
    ],
)
def test_without_a_field_for_it_one_mapping_is_read(options: dict[str, Any], text: str, reason: str) -> None:
    harness = run("parse", {"of": "text", **options}, {"text": text})
    assert [letter.reason for letter in harness.dead] == [reason]


def test_where_there_is_nothing_to_read_the_event_goes_on() -> None:
    assert [event.data for event in run("parse", "text", {"x": 1}, {"text": None}).out["out"]] == [
        {"x": 1},
        {"text": None},
    ]


@pytest.mark.parametrize(
    ("kind", "options", "message"),
    [
        ("parse", {"of": "x", "pattern": "(?P<a>x)"}, "pattern: only for the format pattern, which is json"),
        ("parse", {"of": "x", "format": "pattern", "pattern": "("}, "pattern: a regular expression (missing ): ("),
        (
            "parse",
            {"of": "x", "format": "pattern", "pattern": "(x)"},
            "pattern: a regular expression with named groups",
        ),
        ("parse", {"of": "x", "format": "csv", "separator": "::"}, "separator: one character"),
        ("parse", {"of": "x", "format": "jsn"}, "did you mean 'json'?"),
        ("parse", {"of": "x", "types": {"a": "float"}}, "types.a: one of text, number, int, bool, time"),
        ("parse", {"of": "x", "fields": ["a"], "types": {"b": "int"}}, "types.b: a field that is read (a)"),
        ("encode", {"as": "x", "format": "csv"}, "fields: the fields of a row, as the format is csv"),
        ("encode", {"as": "x", "format": "line_protocol"}, "measurement: an expression"),
        ("encode", {"as": "x", "of": "a", "fields": ["b"]}, "fields: either of or fields"),
        ("encode", {"as": "x", "tags": ["b"]}, "tags: only for the format line_protocol, which is json"),
    ],
)
def test_lint_tells_what_makes_no_sense(kind: str, options: dict[str, Any], message: str) -> None:
    spec = msgspec.json.encode({kind: options}).decode()[1:-1]
    text = f"flow: f\nsources: {{a: {{mqtt: {{topics: [t]}}}}}}\noperators: {{o: {{from: a, {spec}}}}}\n"
    found = [str(finding) for finding in load_text(text + "sinks: {s: {from: o, log: x}}\n").document.findings]
    assert any(message in finding for finding in found), found


@pytest.mark.parametrize(
    ("line", "point"),
    [
        # the reference of InfluxDB v2: docs.influxdata.com, "Line protocol"
        ('myMeasurement,tag1=value1,tag2=value2 fieldKey="fieldValue" 1556813561098000000',
         {"measurement": "myMeasurement", "tag1": "value1", "tag2": "value2", "fieldKey": "fieldValue",
          "time": datetime(2019, 5, 2, 16, 12, 41, 98000, tzinfo=UTC)}),
        ("my\\ Measurement fieldKey=\"string value\"", {"measurement": "my Measurement", "fieldKey": "string value"}),
        ('m f="\\"string\\" within a string"', {"measurement": "m", "f": '"string" within a string'}),
        ("m,tag\\ Key1=tag\\ Value1 fieldKey=100", {"measurement": "m", "tag Key1": "tag Value1", "fieldKey": 100.0}),
        ("m f=1i,g=12485903u,h=-1.234456e+78,i=t,j=FALSE",
         {"measurement": "m", "f": 1, "g": 12485903, "h": -1.234456e78, "i": True, "j": False}),
        ("m,tagKey=🍭 fieldKey=\"Launch 🚀\"", {"measurement": "m", "tagKey": "🍭", "fieldKey": "Launch 🚀"}),
    ],
)  # fmt: skip
def test_line_protocol_as_its_reference_has_it(line: str, point: dict[str, Any]) -> None:
    assert line_protocol.read_lines(f"# a comment\n{line}\n\n") == [point]


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("m", "a space and fields at 2"), ("m,a f=1", "= after 'a'"), ("m f", "= after 'f'"), ("m f=", "a field's value at 5"),
        ("m f=x", "a number, text in quotes, true or false; got x"), ("m f=1 x", "a whole number as time; got x"),
        ('m f="x', "the end of the text that begins at 5"), ("m f=9223372036854775808i", "a number, text"),
        (",a=1 f=1", "a measurement at 1"), ("m f=1 9999999999999999999", "a time before"), ("m f=nan", "a number, text"),
    ],
)  # fmt: skip
def test_line_protocol_that_is_wrong_says_where(line: str, reason: str) -> None:
    if reason.startswith("a time before"):
        assert line_protocol.read_lines(line)[0]["time"].year == 2286
        reason, precision = "a time before the year 10000", "ms"
    else:
        precision = "ns"
    with pytest.raises(ValueError, match="line 2: ") as fault:
        line_protocol.read_lines(f"ok f=1\n{line}", precision)
    assert reason in str(fault.value)


def written(options: dict[str, Any], data: dict[str, Any]) -> Any:
    harness = run("encode", {"as": "text", **options}, data)
    return harness.dead[0].reason if harness.dead else harness.out["out"][0].data["text"]


@pytest.mark.parametrize(
    ("options", "data", "text"),
    [
        ({}, {"a": [1, None]}, '{"a":[1,null]}'),
        ({"of": "a"}, {"a": [1, None]}, "[1,null]"),
        ({"format": "msgpack", "of": "a"}, {"a": [1, 2, 3]}, "kwECAw=="),
        ({"format": "csv", "fields": ["b", "a", "z"]}, {"a": True, "b": 'x,"y'}, '"x,""y",true,'),
        ({"format": "query"}, {"a": [1, 2], "b": "x y&z", "c": None}, "a=1&a=2&b=x%20y%26z"),
        ({"format": "key_value", "fields": ["a", "b"]}, {"b": "x\ny", "a": 1.5}, 'a=1.5 b="x\\ny"'),
        ({"format": "key_value"}, {"a b": 1}, "key_value: names without ' ' and '='; got 'a b'"),
        ({"format": "line_protocol", "measurement": "'m'", "tags": ["t"]}, {"t": "a b,c=d", "x": 'q"\\', "y": 2, "l": [1]},
         'm,t=a\\ b\\,c\\=d x="q\\"\\\\",y=2.0,l="[1]" 1700000000000000000'),
        ({"format": "line_protocol", "measurement": "n"}, {"n": 1}, "line_protocol: a measurement that is text"),
        ({"format": "line_protocol", "measurement": "n"}, {"n": "m", "x": None},
         'm n="m" 1700000000000000000'),
        ({"format": "line_protocol", "measurement": "n", "tags": ["n"]}, {"n": "m"}, "line_protocol: one field or more"),
        ({"format": "line_protocol", "measurement": "'m'", "time": "t", "precision": "ms"}, {"x": 1, "t": "soon"},
         "line_protocol: t: a time; got soon"),
    ],
)  # fmt: skip
def test_fields_are_written(options: dict[str, Any], data: dict[str, Any], text: str) -> None:
    assert written(options, data) == text


texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
marked = st.one_of(texts, st.text(st.sampled_from(' ,="\\\n\r\tax'), max_size=8))
names = st.text(st.sampled_from("abcé_.-,"), min_size=1, max_size=4)
clean = marked.filter(lambda text: text and not text.endswith("\\") and not {"\n", "\r"} & set(text))


@given(st.dictionaries(names, marked, max_size=4), st.sampled_from([" ", ";", "; ", "|"]))
def test_pairs_that_were_written_are_read_again(data: dict[str, str], separator: str) -> None:
    assert text_formats.read_pairs(text_formats.write_pairs(data, separator), separator) == data


@given(st.lists(st.one_of(marked, st.none()), min_size=2, max_size=5), st.sampled_from(",;\t|"))
def test_a_row_that_was_written_is_read_again(row: list[Any], separator: str) -> None:
    fields = [str(at) for at in range(len(row))]
    text = text_formats.write_csv(row, separator)
    assert text_formats.read_csv(text, fields, separator) == [{n: v or "" for n, v in zip(fields, row, strict=True)}]


@given(
    measurement=clean.filter(lambda text: not text.startswith("#")),
    tags=st.dictionaries(clean, clean, max_size=3),
    fields=st.dictionaries(
        clean,
        st.one_of(st.booleans(), st.floats(allow_nan=False, allow_infinity=False), marked),
        min_size=1,
        max_size=3,
    ),
    seconds=st.integers(0, 4_000_000_000),
)
def test_a_point_that_was_written_is_read_again(
    measurement: str, tags: dict[str, str], fields: dict[str, Any], seconds: int
) -> None:
    line = line_protocol.write_line(measurement, tags, fields, seconds * 1000)
    time = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=seconds)
    assert line_protocol.read_lines(line, "ms") == [{"measurement": measurement, **tags, **fields, "time": time}]


def test_a_number_that_is_not_finite_is_no_field() -> None:
    assert line_protocol.write_line("m", {}, {"a": math.nan, "b": 1, "c": 2}, None, frozenset("c")) == "m b=1.0,c=2i"


def test_names_that_are_no_fields_are_found() -> None:
    flow = """
flow: f
sources: {given: {mqtt: {topics: [t]}}}
operators:
  v: {from: given, validate: {device: text, n: int, line: text}}
  e: {from: v, encode: {as: x, format: line_protocol, measurement: devise, tags: [line, lin], fields: [n]}}
  p: {from: v, parse: {of: line, format: pattern, pattern: "(?P<a>.*)-(?P<b>[0-9]*)", types: {b: int}}}
  s: {from: p, where: c > 1, set: {x: b + a}}
sinks: {out: {from: [e, s], log: x}}
"""
    found = [(finding.node, finding.option, finding.code) for finding in load_text(flow).document.findings]
    assert found == [
        ("e", "measurement", "unknown-field"), ("e", "tags.1", "unknown-field"), ("s", "where", "unknown-field"),
        ("s", "x", "expression"),
    ]  # fmt: skip
