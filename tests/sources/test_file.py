"""`file`: lines by position, so that a reader that begins anew goes on where the last one stood."""

from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.arrival import Reader
from engine.block import Block
from engine.harness import Harness, Sent, block_of
from engine.load import load_text
from engine.testing import START
from sources.file import LONGEST, File

NOW = START


def reader(folder: Path, **options: Any) -> Reader:
    """Open the source as a flow in this folder has it."""
    flow = load_text(
        f"flow: f\nsources: {{a: {{file: {msgspec.json.encode({'path': 'data', **options}).decode()}}}}}\n"
        "sinks: {z: {from: a, log: x}}\n",
        folder / "flow.yaml",
    ).raise_findings()
    component = flow.nodes["a"].component
    assert isinstance(component, File)
    return component.open()


def read_all(one: Reader, limit: int = 100) -> list[bytes]:
    found: list[bytes] = []
    position = None
    while True:
        pull = one.read(position, NOW, limit)
        position = pull.position
        found += [arrival.payload for _, arrival in pull.arrivals]
        if pull.done:
            one.close()
            return found


def test_json_lines_are_taken_as_they_are_without_empty_ones(tmp_path: Path) -> None:
    (tmp_path / "data").write_bytes(b'{"a": 1}\n\n  \n{"a": 2}\r\nno json\n{"a": 3}')
    assert read_all(reader(tmp_path)) == [b'{"a": 1}\n', b'{"a": 2}\r\n', b"no json\n", b'{"a": 3}']


def test_csv_has_its_names_in_the_first_line(tmp_path: Path) -> None:
    (tmp_path / "data").write_text('\ufeffdevice,t,note\nled,21.5,"a, b"\nwheel,,007\nshort\nlong,1,2,3\n')
    assert [msgspec.json.decode(payload) for payload in read_all(reader(tmp_path, format="csv"))] == [
        {"device": "led", "t": 21.5, "note": "a, b"},
        {"device": "wheel", "t": None, "note": "007"},
        {"device": "short"},
        {"device": "long", "t": 1, "note": 2},
    ]


def test_csv_without_numbers_is_text(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("a,b\n1,\n")
    assert read_all(reader(tmp_path, format="csv", numbers=False)) == [b'{"a":"1","b":null}']


@pytest.mark.parametrize(
    "row",
    [b"caf\xe9,1\n", b"x" * 200_000 + b",1\n", b'"not closed,1\n', b"a\x00b,1\n"],
    ids=["latin", "wide", "quote", "null"],
)
def test_a_line_that_cannot_be_read_stops_no_other(row: bytes, tmp_path: Path) -> None:
    (tmp_path / "data").write_bytes(b"a,b\n" + row + b"fine,2\n")
    payloads = read_all(reader(tmp_path, format="csv"))
    assert len(payloads) == 2
    assert payloads[-1] == b'{"a":"fine","b":2}'


def test_a_header_that_is_no_text_is_read_as_far_as_it_can(tmp_path: Path) -> None:
    (tmp_path / "data").write_bytes(b"caf\xe9,b\n1,2\n")
    assert msgspec.json.decode(read_all(reader(tmp_path, format="csv"))[0])["b"] == 2


def test_a_line_without_end_comes_in_parts_of_bounded_size(tmp_path: Path) -> None:
    (tmp_path / "data").write_bytes(b"x" * (LONGEST + 10) + b'\n{"a": 1}\n')
    assert [len(payload) for payload in read_all(reader(tmp_path))] == [LONGEST, 11, 9]


def test_a_file_that_is_not_there_yet_is_looked_for_again(tmp_path: Path) -> None:
    one = reader(tmp_path)
    pull = one.read(None, NOW, 10)
    assert (pull.arrivals, pull.position, pull.done, pull.wake_at) == ([], None, False, NOW + 500_000)
    (tmp_path / "data").write_text('{"a": 1}\n')
    assert [arrival.payload for _, arrival in one.read(None, NOW, 10).arrivals] == [b'{"a": 1}\n']
    one.close()


def test_events_have_the_time_of_the_file_or_their_own(tmp_path: Path) -> None:
    (tmp_path / "data").write_text('{"at": "2023-05-01T06:00:00Z"}\n{"at": "soon"}\n')
    changed = (tmp_path / "data").stat().st_mtime_ns // 1000
    one = reader(tmp_path, time="at")
    (at, arrival), (_, bad) = one.read(None, NOW, 10).arrivals
    one.close()
    assert at == changed
    flow = load_text(
        "flow: f\nsources: {a: {file: {path: data, time: at}}}\nsinks: {z: {from: a, log: x}}"
    ).raise_findings()
    harness = Harness(flow)
    harness.send([Sent(at, "a", arrival.payload), Sent(at, "a", bad.payload)])
    assert [(event.time, event.arrival) for event in harness.out["z"]] == [(1_682_920_800_000_000, changed)]
    assert [letter.reason for letter in harness.dead] == ["at: an ISO 8601 time; got 'soon'"]


rows = st.lists(
    st.dictionaries(st.sampled_from("ab"), st.integers(0, 9) | st.text(max_size=3), max_size=2), max_size=12
)


@settings(max_examples=60)
@given(rows=rows, limits=st.lists(st.integers(1, 4), max_size=6), fresh=st.lists(st.booleans(), min_size=6, max_size=6))
def test_a_reader_that_begins_anew_goes_on_where_the_last_one_stood(
    tmp_path_factory: pytest.TempPathFactory, rows: list[dict[str, Any]], limits: list[int], fresh: list[bool]
) -> None:
    folder = tmp_path_factory.mktemp("file")
    (folder / "data").write_bytes(b"".join(msgspec.json.encode(row) + b"\n" for row in rows))
    one, position, found = reader(folder), None, list[bytes]()
    for limit, anew in zip([*limits, 100], [*fresh, True], strict=False):
        if anew:
            one.close()
            one = reader(folder)
        pull = one.read(position, NOW, limit)
        position = msgspec.msgpack.decode(msgspec.msgpack.encode(pull.position))
        found += [arrival.payload for _, arrival in pull.arrivals]
    found += [arrival.payload for _, arrival in one.read(position, NOW, 100).arrivals]
    one.close()
    assert [msgspec.json.decode(payload) for payload in found] == rows


def test_the_same_lines_make_the_same_events(tmp_path: Path) -> None:
    """Ids are counted by event, so what is read again after a crash is known again."""
    (tmp_path / "data").write_text('{"a": 1}\n{"a": 2}\n{"a": 3}\n')
    payloads = read_all(reader(tmp_path), limit=2)
    flow = load_text("flow: f\nsources: {a: {file: {path: data}}}\nsinks: {z: {from: a, log: x}}").raise_findings()

    def ids(blocks: list[Block]) -> list[bytes]:
        harness = Harness(flow)
        harness.read(blocks)
        return [event.id for event in harness.out["z"]]

    at_once = [block_of([Sent(NOW, "a", payload) for payload in payloads], 1, NOW)]
    in_parts = [block_of([Sent(NOW, "a", payload)], number, NOW) for number, payload in enumerate(payloads, 1)]
    assert ids(at_once) == ids(in_parts)
