"""The influx sink against a server that keeps points as InfluxDB does, and refuses as its versions do."""

from typing import Any

import msgspec
import pytest
from pydantic import ValidationError

from engine.errors import Unavailable
from engine.flow import Flow
from engine.line_protocol import read_lines
from engine.load import load_text
from sinks.influx import Influx
from tests.process import free_port
from tests.sinks.http_target import Asked, HttpTarget, Said
from tests.sinks.sink_case import START, Surroundings, event, readings

V2 = {"bucket": "motors", "org": "plant", "token": "t0ken"}
TAGGED = {"measurement": "'motor'", "tags": ["device"]}


class Database:
    """Points by series and time; a field keeps its type. `version` says how a bad write is answered.

    1 and 2 take what is good of a batch and say only what was wrong first; 3 says which lines.
    """

    def __init__(self, version: int = 2) -> None:
        self.version = version
        self.points: dict[tuple[Any, ...], dict[str, Any]] = {}
        self.types: dict[tuple[str, str], type] = {}

    def __call__(self, asked: Asked) -> Said:
        wrong: list[tuple[int, str]] = []
        for number, line in enumerate(asked.body.decode().splitlines(), 1):
            if fault := self._put(line):
                wrong.append((number, fault))
        if not wrong:
            return Said(204)
        first = f"partial write: {wrong[0][1]} dropped={len(wrong)}"
        if self.version == 3:
            data = [{"error_message": why, "line_number": n, "original_line": "…"} for n, why in wrong]
            return Said(400, msgspec.json.encode({"error": "partial write of line protocol occurred", "data": data}))
        said = {"error": first} if self.version == 1 else {"code": "unprocessable entity", "message": first}
        return Said(400 if self.version == 1 else 422, msgspec.json.encode(said))

    def _put(self, line: str) -> str:
        [point] = read_lines(line, "us")
        name, at = point.pop("measurement"), point.pop("time")
        tags = {tag: point.pop(tag) for tag in ("device", "line") if tag in line.split(" ")[0] and tag in point}
        for field, value in point.items():
            if self.types.setdefault((name, field), type(value)) is not type(value):
                return f'field type conflict: input field "{field}" on measurement "{name}"'
        self.points.setdefault((name, *sorted(tags.items()), at), {}).update(point)
        return ""


@pytest.fixture
def outside() -> Surroundings:
    return Surroundings()


async def written(outside: Surroundings, events: list[Any], **options: Any) -> None:
    async with outside.opened(Influx.model_validate(options)) as writer:
        await writer.write(events)


async def test_points_are_there_once_with_tags_fields_and_times(outside: Surroundings) -> None:
    database = Database()
    with HttpTarget(database) as target:
        for _ in range(2):
            await written(outside, readings(50), url=target.url, **TAGGED, **V2)
    assert len(database.points) == 50
    assert sorted(point["n"] for point in database.points.values()) == list(range(50))
    assert all(type(point["n"]) is float for point in database.points.values())
    asked = target.asked[0]
    assert asked.path == "/api/v2/write?bucket=motors&org=plant&precision=us"
    assert asked.headers["Authorization"] == "Token t0ken"
    assert asked.body.splitlines()[1] == f"motor,device=LED1 n=1.0 {START + 1}".encode()
    assert outside.letters == []


async def test_version_1_has_a_database_and_a_user(outside: Surroundings) -> None:
    with HttpTarget() as target:
        options = {"database": "line/month", "user": "me", "password": "open", "integers": ["n"], "precision": "s"}
        await written(outside, readings(1), url=f"{target.url}/", **TAGGED, **options)
    (asked,) = target.asked
    assert asked.path == "/write?db=line&rp=month&precision=s"
    assert asked.headers["Authorization"] == "Basic bWU6b3Blbg=="
    assert asked.body == f"motor,device=LED0 n=0i {START // 1_000_000}\n".encode()


@pytest.mark.parametrize(("precision", "time"), [("ns", START * 1000), ("us", START), ("ms", START // 1000)])
async def test_times_count_what_is_said(outside: Surroundings, precision: str, time: int) -> None:
    with HttpTarget() as target:
        await written(outside, readings(1), url=target.url, precision=precision, **TAGGED, **V2)
    assert target.asked[0].body.split()[-1] == str(time).encode()


async def test_tags_and_fields_are_expressions_and_text_is_escaped(outside: Surroundings) -> None:
    one = event(0, {"device": "a, b=c ü", "note": 'say "hi"\\\nline 2', "f": 212, "ok": True, "none": None})
    options = {
        "measurement": "'hot, things'", "tags": {"device": "device", "gone": "none"},
        "fields": {"celsius": "(f - 32) / 1.8", "note": "note", "ok": "ok"},
    }  # fmt: skip
    with HttpTarget() as target:
        await written(outside, [one], url=target.url, **options, **V2)
    [point] = read_lines(target.asked[0].body.decode(), "us")
    assert point.pop("time")
    assert point == {
        "measurement": "hot, things", "device": "a, b=c ü", "celsius": 100.0, "note": one.data["note"], "ok": True,
    }  # fmt: skip


@pytest.mark.parametrize("version", [1, 2, 3])
async def test_a_point_that_is_refused_costs_itself(outside: Surroundings, version: int) -> None:
    database = Database(version)
    events = readings(64)
    for at in (5, 33, 34):
        events[at] = event(at, {"n": "text", "device": "LED"})
    with HttpTarget(database) as target:
        await written(outside, events, url=target.url, **TAGGED, **V2)
    assert len(database.points) == 61
    assert [letter[1].data["n"] for letter in outside.letters] == ["text"] * 3
    assert sorted(letter[1].id[-1] for letter in outside.letters) == [5, 33, 34]
    assert all('field type conflict: input field "n"' in reason for reason in outside.reasons)
    assert len(target.asked) == (2 if version == 3 else len(target.asked))


async def test_what_no_line_can_say_costs_itself(outside: Surroundings) -> None:
    events = [event(0, {"n": 1, "device": "a"}), event(1, {"device": "b"}), event(2, {"n": 1, "device": "c\nd"})]
    with HttpTarget() as target:
        await written(outside, events, url=target.url, **TAGGED, **V2)
        await written(outside, events[:1], url=target.url, **TAGGED | {"measurement": "n"}, **V2)
    assert len(target.asked) == 1
    assert [reason.split(";")[0] for reason in outside.reasons] == [
        "a point of InfluxDB: one field or more",
        "a point of InfluxDB: names and tags with text, no line ends, and no \\ at the end",
        "a point of InfluxDB: a measurement that is text",
    ]


@pytest.mark.parametrize("status", [401, 403, 404, 429, 500, 503])
async def test_a_database_that_is_not_ready_is_waited_for(outside: Surroundings, status: int) -> None:
    database, statuses = Database(), [status]
    with HttpTarget(
        lambda asked: Said(statuses.pop(), b'{"message": "not now"}') if statuses else database(asked)
    ) as target:
        async with outside.opened(Influx.model_validate({"url": target.url, **TAGGED, **V2})) as writer:
            events = readings(10)
            with pytest.raises(Unavailable, match=f"status {status}: not now"):
                await writer.write(events)
            await writer.write(events)
    assert len(database.points) == 10
    assert outside.letters == []


async def test_nobody_there_is_waited_for(outside: Surroundings) -> None:
    options = {"url": f"http://127.0.0.1:{free_port()}", **TAGGED, **V2}
    async with outside.opened(Influx.model_validate(options)) as writer:
        with pytest.raises(Unavailable):
            await writer.write(readings(1))


async def test_batches_are_bounded(outside: Surroundings) -> None:
    with HttpTarget() as target:
        await written(outside, readings(25), url=target.url, batch=10, **TAGGED, **V2)
    assert [len(asked.body.splitlines()) for asked in target.asked] == [10, 10, 5]


def flow(**options: Any) -> Flow:
    spec = {
        "flow": "f", "sources": {"s": {"mqtt": {"topics": ["t"]}}},
        "sinks": {"out": {"from": "s", "influx": {"url": "http://h:8086", "measurement": "'m'", **options}}},
    }  # fmt: skip
    return load_text(msgspec.json.encode(spec).decode())


@pytest.mark.parametrize(
    ("options", "finding"),
    [
        ({}, "bucket: either bucket (version 2, 3) or database (version 1); got neither"),
        ({"bucket": "b", "database": "d"}, "bucket: either bucket (version 2, 3) or database (version 1); got both"),
        ({"bucket": "b", "user": "me"}, "user: database beside it; got none"),
        ({"database": "b", "org": "o"}, "org: bucket beside it; got none"),
        ({"bucket": "b", "tags": ["a"], "fields": ["a"]}, "fields: a name that is no tag too; got 'a'"),
        ({"bucket": "b", "fields": ["a"], "integers": ["b"]}, "integers.0: one of the fields; got 'b'"),
    ],
)
def test_what_does_not_go_together_is_found(options: dict[str, Any], finding: str) -> None:
    assert finding in "\n".join(map(str, flow(**options).document.findings))


def test_an_address_is_one() -> None:
    with pytest.raises(ValidationError, match="http://host:8086"):
        Influx.model_validate({"url": "influx.example", "measurement": "'m'", "bucket": "b"})
