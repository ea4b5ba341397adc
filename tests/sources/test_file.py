"""`file`: lines by position, so that a reader that begins anew goes on where the last one stood."""

import gzip
import os
import signal
import sqlite3
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.arrival import Arrival
from engine.block import Block
from engine.harness import Harness, Sent, block_of
from engine.load import load_text
from engine.testing import START
from sources.file import JUMP, File, Files
from tests.millstream_process import Millstream
from tests.process import wait_until

NOW = START
LATER = 1 << 60
"""A time at which every file has been left alone for long."""


OPEN: list["Read"] = []


@pytest.fixture(autouse=True)
def closed() -> Iterator[None]:
    """Close what a test has read."""
    yield
    while OPEN:
        OPEN.pop().reader.close()


def source(folder: Path, **options: Any) -> File:
    """Return the source as a flow in this folder has it."""
    told = msgspec.json.encode({"path": "data", **options}).decode()
    flow = load_text(
        f"flow: f\nsources: {{a: {{file: {told}}}}}\nsinks: {{z: {{from: a, log: x}}}}\n", folder / "flow.yaml"
    ).raise_findings()
    component = flow.nodes["a"].component
    assert isinstance(component, File)
    return component


class Read:
    """What a worker does with a reader: it reads, makes snapshots, tells that they are durable, and is killed.

    `lines` are those by their number, as a sink knows them that writes each number once.
    """

    def __init__(self, folder: Path, limit: int = 100, **options: Any) -> None:
        self.source, self.limit, self.now = source(folder, every="10ms", **options), limit, LATER
        self.lines: dict[int, Arrival] = {}
        self.times: list[int] = []
        self._stored: tuple[Any, int] = (None, 0)
        self.done = False
        OPEN.append(self)
        self.start()

    def start(self) -> None:
        """Begin anew at the last snapshot."""
        self.position, self.count = msgspec.msgpack.decode(msgspec.msgpack.encode(self._stored))
        reader = self.source.open()
        assert isinstance(reader, Files)
        self.reader = reader

    def kill(self) -> None:
        self.reader.close()
        self.start()

    def pull(self) -> int:
        """Read once; return how many lines came."""
        self.now += 200_000
        pull = self.reader.read(self.position, self.now, self.limit)
        assert len(pull.arrivals) <= self.limit + 1
        self.position, self.count, self.done = pull.position, self.count + pull.skipped, pull.done
        for at, arrival in pull.arrivals:
            self.count += 1
            self.lines.setdefault(self.count, arrival)
            self.times.append(at)
        return len(pull.arrivals)

    def peek(self) -> None:
        """Look and read, before a snapshot is durable."""
        self.pull()
        self.pull()

    def work(self) -> None:
        """Read as long as something comes, with a snapshot at the beginning, and none that is durable at the end."""
        self.pull()
        self.snapshot()
        while self.pull():
            pass

    def snapshot(self) -> None:
        """Make a snapshot that is durable."""
        self._stored = msgspec.msgpack.decode(msgspec.msgpack.encode((self.position, self.count)))
        self.reader.durable()

    def all(self) -> "Read":
        """Read until nothing comes any more."""
        quiet = 0
        while quiet < 4:
            quiet = 0 if self.pull() else quiet + 1
            self.snapshot()
        return self

    @property
    def arrivals(self) -> list[Arrival]:
        return [self.lines[number] for number in sorted(self.lines)]

    @property
    def payloads(self) -> list[bytes]:
        return [arrival.payload for arrival in self.arrivals]

    @property
    def faults(self) -> list[str]:
        """Return why each line could not be read, or ""."""
        return [(arrival.meta or {}).get("unread", "") for arrival in self.arrivals]

    @property
    def places(self) -> list[tuple[str, int]]:
        return [(meta["file"], meta["line"]) for arrival in self.arrivals if (meta := arrival.meta)]


def read_all(folder: Path, **options: Any) -> list[bytes]:
    return Read(folder, **options).all().payloads


def decoded(payloads: list[bytes]) -> list[Any]:
    return [msgspec.json.decode(payload) for payload in payloads]


def test_json_lines_are_taken_as_they_are_without_empty_ones(tmp_path: Path) -> None:
    (tmp_path / "data").write_bytes(b'{"a": 1}\n\n  \n{"a": 2}\r\nno json\n{"a": 3}')
    read = Read(tmp_path).all()
    assert read.payloads == [b'{"a": 1}', b'{"a": 2}\r', b"no json", b'{"a": 3}']
    assert read.places == [("data", 1), ("data", 4), ("data", 5), ("data", 6)]
    assert read.done


def test_csv_has_its_names_in_the_first_line(tmp_path: Path) -> None:
    (tmp_path / "data").write_text('\ufeffdevice,t,note\nled,21.5,"a, b"\nwheel,,007\nshort\nlong,1,2,\n')
    assert decoded(read_all(tmp_path, format="csv")) == [
        {"device": "led", "t": 21.5, "note": "a, b"},
        {"device": "wheel", "t": None, "note": "007"},
        {"device": "short"},
        {"device": "long", "t": 1, "note": 2},
    ]


def test_csv_without_numbers_is_text(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("a,b\n1,\n")
    assert read_all(tmp_path, format="csv", numbers=False) == [b'{"a":"1","b":null}']


def test_csv_of_another_country(tmp_path: Path) -> None:
    (tmp_path / "data").write_bytes("Tür;21,5\n".encode("cp1252"))
    options = {"format": "csv", "separator": ";", "header": ["part", "t"], "encoding": "cp1252"}
    assert decoded(read_all(tmp_path, **options)) == [{"part": "Tür", "t": "21,5"}]


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        (b"caf\xe9,1\n", "encoding: utf-8 text; got byte 0xe9 at 3"),
        (b"x" * 200_000 + b",1\n", "csv: field larger than field limit (131072)"),
        (b'"not closed,1\n', "csv: unexpected end of data"),
        (b"1,2,3\n", "csv: at most 2 values; got 3"),
    ],
    ids=["latin", "wide", "quote", "many"],
)
def test_a_row_that_cannot_be_read_costs_itself(row: bytes, reason: str, tmp_path: Path) -> None:
    (tmp_path / "data").write_bytes(b"a,b\n" + row + b"fine,2\n")
    read = Read(tmp_path, format="csv").all()
    assert read.faults == [reason, ""]
    assert read.payloads == [row.rstrip(b"\n"), b'{"a":"fine","b":2}']


def test_what_could_not_be_read_is_a_dead_letter_with_its_place(tmp_path: Path) -> None:
    (tmp_path / "data").write_bytes(b"a,b\n1,2\n1,2,3\n4,5\n" + b"x" * 2000 + b"\n")
    read = Read(tmp_path, format="csv", largest="1KB").all()
    flow = load_text("flow: f\nsources: {a: {file: {path: data}}}\nsinks: {z: {from: a, log: x}}").raise_findings()
    harness = Harness(flow)
    harness.send([Sent(NOW, "a", arrival.payload, meta=arrival.meta) for arrival in read.arrivals])
    assert [event.data for event in harness.out["z"]] == [{"a": 1, "b": 2}, {"a": 4, "b": 5}]
    assert [(letter.reason, (letter.event.meta or {})["line"]) for letter in harness.dead] == [
        ("csv: at most 2 values; got 3", 3), ("a payload of at most 1000 bytes; got 2000", 5),
    ]  # fmt: skip


def test_a_header_that_is_no_text_is_read_as_far_as_it_can(tmp_path: Path) -> None:
    (tmp_path / "data").write_bytes(b"caf\xe9,b\n1,2\n")
    assert decoded(read_all(tmp_path, format="csv"))[0]["b"] == 2


def test_a_line_that_is_too_long_costs_itself(tmp_path: Path) -> None:
    (tmp_path / "data").write_bytes(b"x" * (9 << 20) + b'\n{"a": 1}\n' + b"y" * 2000)
    read = Read(tmp_path, largest="1KiB").all()
    assert [arrival.meta for arrival in read.arrivals] == [
        {"file": "data", "line": 1, "oversize": 9 << 20, "largest": 1024},
        {"file": "data", "line": 2},
        {"file": "data", "line": 3, "oversize": 2000, "largest": 1024},
    ]
    assert list(map(len, read.payloads)) == [1000, 8, 1000]


def test_lines_of_text_and_whole_files(tmp_path: Path) -> None:
    (tmp_path / "data").write_bytes("\ufeffone\r\ntwo é\n\nb\u2028d\n".encode() + b"\xff\n")
    read = Read(tmp_path, format="text").all()
    assert decoded(read.payloads[:3]) == [{"line": "one"}, {"line": "two é"}, {"line": "b\u2028d"}]
    assert read.faults[3] == "encoding: utf-8 text; got byte 0xff at 0"
    (tmp_path / "data").write_text('{"a":\n 1}')
    assert read_all(tmp_path, format="json") == [b'{"a":\n 1}']
    assert decoded(read_all(tmp_path, format="whole")) == [{"text": '{"a":\n 1}'}]
    [arrival] = Read(tmp_path, format="whole", largest="3B").all().arrivals
    assert arrival.meta == {"file": "data", "oversize": 9, "largest": 3}


def test_packed_files_of_several_members(tmp_path: Path) -> None:
    for number in range(3):
        with gzip.open(tmp_path / f"{number}.gz", "wb") as file:
            file.write(b"a,b\n" + b"".join(b"%d,%d\n" % (number, line) for line in range(40_000)))
    both = (tmp_path / "0.gz").read_bytes() + gzip.compress(b"7,7\n") + bytes(512)
    (tmp_path / "0.gz").write_bytes(both)
    os.utime(tmp_path / "0.gz", (1, 1))
    read = Read(tmp_path, path="*.gz", format="csv", limit=1500)
    while read.pull() or len(read.lines) < 50_000:
        read.snapshot()
    read.kill()
    rows = decoded(read.all().payloads)
    assert [row["b"] for row in rows] == [*range(40_000), 7, *range(40_000), *range(40_000)]
    assert not any(read.faults)


@pytest.mark.parametrize(
    ("content", "lines", "reason"),
    [
        (b"no gzip", [], "gzip: Error -3 while decompressing data: incorrect header check"),
        (gzip.compress(b"a\nb\n")[:-9], ["a", "b"], "gzip: a whole file; it ends in the middle"),
        (gzip.compress(b"a\nb\n")[:-4] + b"\0\0\0\0", [], "gzip: Error -3 while decompressing data: incorrect length check"),
    ],
    ids=["no gzip", "cut", "wrong length"],
)  # fmt: skip
def test_a_packed_file_that_is_broken_costs_itself(
    content: bytes, lines: list[str], reason: str, tmp_path: Path
) -> None:
    (tmp_path / "a.gz").write_bytes(content)
    (tmp_path / "b.gz").write_bytes(gzip.compress(b"fine\n"))
    read = Read(tmp_path, path="*.gz", format="text").all()
    assert [msgspec.json.decode(a.payload)["line"] for a in read.arrivals if "unread" not in (a.meta or {})] == [
        *lines, "fine",
    ]  # fmt: skip
    assert reason in read.faults


def test_a_file_is_taken_when_it_is_there_and_nobody_changes_it(tmp_path: Path) -> None:
    read = Read(tmp_path).all()
    assert (read.payloads, read.done) == ([], False)
    (tmp_path / "data").write_text('{"a": 1}\n')
    read.now = (tmp_path / "data").stat().st_mtime_ns // 1000
    assert read.all().payloads == []
    assert read.now < (tmp_path / "data").stat().st_mtime_ns // 1000 + 2_000_000
    read.now += 2_000_000
    assert read.all().payloads == [b'{"a": 1}']
    assert read.done


def test_a_file_of_tomorrow_is_taken_when_it_does_not_change(tmp_path: Path) -> None:
    """The clock of a file server may be ahead of ours."""
    (tmp_path / "data").write_text("{}\n")
    read = Read(tmp_path)
    read.now = NOW
    assert read.all().payloads == []
    read.now += 2_000_000
    assert read.all().payloads == [b"{}"]
    assert max(read.times) <= read.now


def test_events_have_the_time_of_the_file_or_their_own(tmp_path: Path) -> None:
    (tmp_path / "data").write_text('{"at": "2023-05-01T06:00:00Z"}\n{"at": "soon"}\n')
    changed = (tmp_path / "data").stat().st_mtime_ns // 1000
    read = Read(tmp_path, time="at").all()
    assert read.times == [changed, changed]
    flow = load_text(
        "flow: f\nsources: {a: {file: {path: data, time: at}}}\nsinks: {z: {from: a, log: x}}"
    ).raise_findings()
    harness = Harness(flow)
    harness.send([Sent(changed, "a", payload) for payload in read.payloads])
    assert [(event.time, event.arrival) for event in harness.out["z"]] == [(1_682_920_800_000_000, changed)]
    assert [letter.reason for letter in harness.dead] == ["at: an ISO 8601 time; got 'soon'"]


def test_a_folder_oldest_first_and_new_ones_as_they_come(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    for name, at in (("b", 1), ("a", 2), (".hidden", 1), ("c", 2)):
        (folder / name).write_text(name)
        os.utime(folder / name, (at, at))
    (folder / "more").mkdir()
    (folder / "more" / "d").write_text("d")
    read = Read(tmp_path, path="in", format="text").all()
    assert read.places == [("in/b", 1), ("in/a", 1), ("in/c", 1)]
    (folder / "e").write_text("e\ne")
    read.kill()
    assert read.all().places[3:] == [("in/e", 1), ("in/e", 2)]
    assert not read.done
    assert Read(tmp_path, path="in/**/*", format="text").all().places[-1] in [("in/more/d", 1), ("in/e", 2)]


def test_what_was_read_is_known_again(tmp_path: Path) -> None:
    """A file that is renamed, touched or restored is not read again; one that grows is; one written anew is."""
    lines = "".join(f"line {number} of a file\n" for number in range(9))
    for name in "abcd":
        (tmp_path / name).write_text(name + lines)
    read = Read(tmp_path, path="[a-z]", format="text").all()
    assert len(read.lines) == 36
    (tmp_path / "a").rename(tmp_path / "e")
    os.utime(tmp_path / "b")
    (tmp_path / "copy").write_bytes((tmp_path / "c").read_bytes())
    (tmp_path / "copy").rename(tmp_path / "c")
    with (tmp_path / "d").open("a") as file:
        file.write("more\n")
    read.kill()
    assert read.all().places[36:] == [("d", 10)]
    (tmp_path / "b").write_text("new\n" * 100)
    assert [place[0] for place in read.all().places[37:]] == ["b"] * 100


def test_files_that_are_done_are_taken_away_when_that_is_durable(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    for name in ("a.csv", "b.csv"):
        (tmp_path / "in" / name).write_text("x\n1\n")
    (tmp_path / "done").mkdir()
    (tmp_path / "done" / "a.csv").write_text("of yesterday")
    read = Read(tmp_path, path="in/*.csv", format="csv", when_done="move", into="done")
    read.pull()
    read.snapshot()
    assert read.pull() == 2
    read.pull()
    read.reader.durable()
    assert len(list((tmp_path / "in").iterdir())) == 2, "one snapshot is not enough"
    read.all()
    assert sorted(path.name for path in (tmp_path / "done").iterdir()) == ["a-2.csv", "a.csv", "b.csv"]
    assert not list((tmp_path / "in").iterdir())
    (tmp_path / "in" / "b.csv").write_text("x\n1\n")
    read.kill()
    assert len(read.all().lines) == 3, "the same again is another file"
    (tmp_path / "done" / "a.csv").unlink()
    assert len(Read(tmp_path, path="done/*", format="csv", when_done="delete").all().lines) == 3
    assert not list((tmp_path / "done").iterdir())


def test_lines_are_followed_as_they_are_appended(tmp_path: Path) -> None:
    log = tmp_path / "data"
    read = Read(tmp_path, format="text", follow=True).all()
    log.write_text("one\ntw")
    assert decoded(read.all().payloads) == [{"line": "one"}]
    with log.open("a") as file:
        file.write("o\nthree\n")
    assert decoded(read.all().payloads) == [{"line": "one"}, {"line": "two"}, {"line": "three"}]
    log.write_text("anew\n")
    assert decoded(read.all().payloads)[3:] == [{"line": "anew"}]
    assert max(read.lines) > JUMP, "other numbers than what was cut off may have had"
    assert not read.done


def test_of_a_rotated_file_what_was_left_comes_first(tmp_path: Path) -> None:
    log, old = tmp_path / "data", tmp_path / "data.1"
    log.write_text("1\n")
    read = Read(tmp_path, format="text", follow=True).all()
    with log.open("a") as late:
        late.write("2\n")
        late.flush()
        log.rename(old)
        log.write_text("4\n")
        late.write("3\n")
        late.flush()
        assert [d["line"] for d in decoded(read.all().payloads)] == ["1", "2", "3", "4"]
        late.write("5\n")
    assert [d["line"] for d in decoded(read.all().payloads)] == ["1", "2", "3", "4", "5"]
    (tmp_path / "data.2").write_text("of somebody else")
    with log.open("a") as file:
        file.write("6\n")
    assert len(read.all().lines) == 6


READING = ["peek", "work", "work", "snapshot", "kill"]
ROTATING = st.sampled_from(["append", "append", "part", "rotate", *READING])
WRITING = st.sampled_from(["append", "append", "append", "new", "back", "back", "rotate", *READING])


class Logging:
    """Somebody who writes numbered lines into a log, in parts, and rotates it; or into new files of a folder."""

    def __init__(self, folder: Path, tick: int = 1) -> None:
        self.folder, self.log = folder, folder / "log"
        self._tick, self._now = tick, time.time_ns()
        self.written, self.files = 0, 0
        self._part = b""
        self._target = self.log

    def write(self, text: bytes) -> None:
        with self._target.open("ab") as file:
            file.write(text)
        self._now += self._tick * 1_000_000
        os.utime(self._target, ns=(self._now, self._now))

    def append(self) -> None:
        self.part() if not self._part else None
        self.write(self._part[2:])
        self._part = b""

    def part(self) -> None:
        if not self._part:
            self.written += 1
            self._part = b"%d %s\n" % (self.written, b"x" * (self.written % 5))
            self.write(self._part[:2])

    def rotate(self) -> None:
        if self._part:
            self.append()
        for number in range(8, 0, -1):
            if (there := self.folder / f"log.{number}").exists():
                there.rename(self.folder / f"log.{number + 1}")
        if self.log.exists():
            self.log.rename(self.folder / "log.1")

    def new(self) -> None:
        if self._part:
            self.append()
        self.files += 1
        self._target = self.folder / f"log-{self.files}"

    def back(self) -> None:
        """Go on with the file that was changed first."""
        self.append()
        self._target = min(self.folder.iterdir(), key=lambda path: path.stat().st_mtime_ns)


@settings(max_examples=150, deadline=None)
@given(steps=st.lists(ROTATING, min_size=5, max_size=40), limit=st.integers(1, 4), tick=st.integers(0, 1))
def test_any_appends_rotations_and_restarts_give_each_line_once_in_order(
    tmp_path_factory: pytest.TempPathFactory, steps: list[str], limit: int, tick: int
) -> None:
    folder = tmp_path_factory.mktemp("file")
    logging = Logging(folder, tick)
    read = Read(folder, limit, path="log", format="text", follow=True)
    rotations = 0
    for step in steps:
        rotations += step == "rotate"
        if step in ("append", "part") or (step == "rotate" and rotations < 8):
            getattr(logging, step)()
        elif step in READING:
            getattr(read, step)()
    logging.append()
    found = [int(data["line"].split()[0]) for data in decoded(read.all().payloads)]
    assert found == list(range(found[0], logging.written + 1))
    seen = read.places and found[0] == 1
    assert seen or rotations, "what was rotated away before it was looked at for the first time is not read"


@settings(max_examples=100, deadline=None)
@given(steps=st.lists(WRITING, min_size=5, max_size=40), limit=st.integers(1, 4), follow=st.booleans())
def test_any_files_and_restarts_give_each_line_once(
    tmp_path_factory: pytest.TempPathFactory, steps: list[str], limit: int, follow: bool
) -> None:
    folder = tmp_path_factory.mktemp("files")
    logging = Logging(folder)
    read = Read(folder, limit, path="*", format="text", follow=follow)
    for step in steps:
        getattr(read if step in READING else logging, step)()
    logging.append()
    found = [int(data["line"].split()[0]) for data in decoded(read.all().payloads)]
    assert sorted(found) == list(range(1, logging.written + 1))


def test_a_share_that_is_away_at_the_start_is_waited_for(tmp_path: Path) -> None:
    (tmp_path / "share").mkdir()
    (tmp_path / "share" / "a").write_text("1\n2\n3\n")
    read = Read(tmp_path, 2, path="share/*", format="text")
    read.pull()
    read.snapshot()
    read.pull()
    read.snapshot()
    (tmp_path / "share").rename(tmp_path / "away")
    read.kill()
    assert len(read.all().lines) == 2
    (tmp_path / "away").rename(tmp_path / "share")
    assert [data["line"] for data in decoded(read.all().payloads)] == ["1", "2", "3"]


def test_what_comes_next_is_fixed_before_it_is_read(tmp_path: Path) -> None:
    """Else numbers that were given to lines of one file would be given to those of another after a crash."""
    for name, at in (("a", 1), ("b", 2)):
        (tmp_path / name).write_text(f"{name}\n")
        os.utime(tmp_path / name, (at, at))
    read = Read(tmp_path, 1, path="*", format="text")
    read.peek()
    (tmp_path / "a").write_text("a\nmore\n")
    read.kill()
    assert sorted(read.all().places) == [("a", 1), ("a", 2), ("b", 1)]


def test_the_position_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("engine.file_watch.MOST_KNOWN", 5)
    for number in range(20):
        (tmp_path / f"{number}.x").write_text(f"{number}\n")
        os.utime(tmp_path / f"{number}.x", (number + 1, number + 1))
    read = Read(tmp_path, path="*.x", format="text").all()
    assert [data["line"] for data in decoded(read.payloads)] == [str(number) for number in range(20)]
    assert len(msgspec.msgpack.encode(read.position)) < 5 * 60
    read.kill()
    assert len(read.all().lines) == 20
    (tmp_path / "new.x").write_text("new\n")
    assert len(read.all().lines) == 21


def test_a_position_of_an_earlier_version_is_an_offset(tmp_path: Path) -> None:
    (tmp_path / "data").write_text('{"a": 1}\n{"a": 2}\n')
    read = Read(tmp_path)
    read.position = 9
    assert read.all().payloads == [b'{"a": 2}']


def test_the_same_lines_make_the_same_events(tmp_path: Path) -> None:
    """Ids are counted by event, so what is read again after a crash is known again."""
    (tmp_path / "data").write_text('{"a": 1}\n{"a": 2}\n{"a": 3}\n')
    payloads = read_all(tmp_path, limit=2)
    flow = load_text("flow: f\nsources: {a: {file: {path: data}}}\nsinks: {z: {from: a, log: x}}").raise_findings()

    def ids(blocks: list[Block]) -> list[bytes]:
        harness = Harness(flow)
        harness.read(blocks)
        return [event.id for event in harness.out["z"]]

    at_once = [block_of([Sent(NOW, "a", payload) for payload in payloads], 1, NOW)]
    in_parts = [block_of([Sent(NOW, "a", payload)], number, NOW) for number, payload in enumerate(payloads, 1)]
    assert ids(at_once) == ids(in_parts)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("{path: ../x}", "a file below the flow's folder, or an absolute path; got '../x'"),
        ("{path: x, encoding: utf-16}", "an encoding in which lines end as in ASCII"),
        ("{path: x, encoding: klingon}", "such as utf-8 or cp1252; got 'klingon'"),
        ("{path: x, when_done: move}", "into: a folder, with when_done: move"),
        ("{path: x, into: done}", "into: a folder, with when_done: move"),
        ("{path: in/x, when_done: move, into: in}", "another folder than that of path; got 'in'"),
        ("{path: x, follow: true, when_done: delete}", "keep, as a file that is followed is never done"),
        ("{path: x, follow: true, format: json}", "a format of lines"),
        ("{path: x, separator: ;}", "separator: the format csv; got jsonl"),
    ],
)
def test_what_is_no_file(options: str, message: str) -> None:
    found = load_text(f"flow: f\nsources: {{a: {{file: {options}}}}}\nsinks: {{z: {{from: a, log: x}}}}\n")
    assert any(message in str(finding) for finding in found.document.findings)


FLOW = """\
flow: read
tables: {lines: {id: serial, line: text, file: text}}
sources: {lines: {file: {path: "FOLDER/log*", format: text, every: 20ms, MORE}}}
sinks: {stored: {from: lines, sql: {table: lines, columns: {line: line, file: meta.file}}}}
"""


def stored(process: Millstream) -> list[str]:
    with sqlite3.connect(process.data / "millstream.db") as connection:
        return [row[0] for row in connection.execute("select line from lines order by id")]


def kill_a_worker(process: Millstream) -> None:
    wait_until(process.worker_pids, "a worker is there")
    os.kill(process.worker_pids()[0], signal.SIGKILL)


def write_log(folder: Path, disturb: Callable[[], None]) -> int:
    for number in range(1, 601):
        with (folder / "log").open("a") as file:
            file.write(f"{number}\n")
        if number % 50 == 0:
            (folder / "log").rename(folder / f"log.{number:03}")
        if number in (130, 400):
            disturb()
        time.sleep(0.002)
    return 600


def drop_files(folder: Path, disturb: Callable[[], None]) -> int:
    for number in range(0, 600, 3):
        (folder / ".part").write_text("".join(f"{n}\n" for n in range(number + 1, number + 4)))
        (folder / ".part").rename(folder / f"log{number}")
        if number in (129, 399):
            disturb()
        time.sleep(0.005)
    return 600


@pytest.mark.parametrize(
    ("more", "write"),
    [("follow: true", write_log), ("idle: 50ms, when_done: delete", drop_files)],
    ids=["followed", "dropped"],
)
def test_after_kill_9_every_line_is_there_once(
    more: str, write: Callable[[Path, Callable[[], None]], int], tmp_path: Path
) -> None:
    (folder := tmp_path / "logs").mkdir()
    file = tmp_path / "read.yaml"
    file.write_text(FLOW.replace("FOLDER", str(folder)).replace("MORE", more))
    with Millstream(tmp_path, file) as process:
        count = write(folder, lambda: kill_a_worker(process))
        wait_until(lambda: len(stored(process)) >= count, "all are there", within=40)
        assert sorted(map(int, stored(process))) == list(range(1, count + 1))
        if "delete" in more:
            wait_until(lambda: not list(folder.iterdir()), "what was read is deleted", within=20)
        assert len(stored(process)) == count
