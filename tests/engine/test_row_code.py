"""The written function that makes rows: it gives what `RowValues` gives, and refuses what that refuses."""

from datetime import UTC, date, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.errors import EventFault
from engine.event import Event, microseconds
from engine.row_code import REMEMBERED, Quoted, Seconds, literal, row_encoder, values_encoder
from engine.rows import RowValues
from engine.table import Table

TABLE = Table.parse(
    "reading",
    {
        "id": "serial", "count": "int", "score": "number", "ok": "bool", "device": "text(10)", "note": "text",
        "at": "time", "day": "date", "detail": "json", "picture": "bytes",
    },
)  # fmt: skip
COLUMNS = list(TABLE.columns.values())
START = microseconds(datetime(2026, 1, 31, 12, 0, 0, 123456, UTC))
SEOUL = timezone(timedelta(hours=9))

NUMBERS = st.one_of(
    st.integers(-(2**64), 2**64), st.floats(), st.booleans(), st.sampled_from([0, 1, -0.0, 2**63, -(2**63), 10**400])
)
TEXTS = st.one_of(
    st.text(st.sampled_from("\\N\t\n\r\0\x1a'\"%:?;aü🚗\ud800"), max_size=12),
    st.text(max_size=12),
    st.just("x" * 65_536),
)
TIMES = st.one_of(
    st.datetimes(timezones=st.sampled_from([None, UTC, SEOUL])),
    st.datetimes(timezones=st.sampled_from([None, UTC, SEOUL])).map(datetime.isoformat),
    st.sampled_from(["2026-01-31T12:00:00Z", "0001-01-01T00:00+05", "31.1.2026", "2026-01-31"]),
)
DAYS = st.one_of(st.dates(), st.dates().map(date.isoformat), st.sampled_from(["20260131", "2026-02-30", "2026-W05-6"]))
ANY: st.SearchStrategy[Any] = st.one_of(
    st.none(), NUMBERS, TEXTS, TIMES, DAYS, st.binary(max_size=8), st.binary(max_size=8).map(bytearray),
    st.sampled_from([[], {"a": [1, None]}, {1j: 2}, object(), "AAEC/w==", "no base64!"]),
)  # fmt: skip
FITTING: dict[str, st.SearchStrategy[Any]] = {
    "id": NUMBERS, "count": NUMBERS, "score": NUMBERS, "ok": NUMBERS, "device": TEXTS, "note": TEXTS, "at": TIMES,
    "day": DAYS, "detail": ANY, "picture": ANY,
}  # fmt: skip
DATA = st.fixed_dictionaries({}, optional={name: st.one_of(fit, ANY) for name, fit in FITTING.items()})


def event(data: dict[str, Any], time: int = START) -> Event:
    return Event(bytes(range(16)), time, "", "station", "", data)


def careful(values: RowValues, one: Event) -> tuple[Any, ...] | None:
    try:
        return (*map(values(one).get, TABLE.columns), one.id)
    except EventFault:
        return None


def as_written(row: tuple[Any, ...] | None) -> str | None:
    return None if row is None else f"({','.join(map(literal, row[:-1]))},X'{row[-1].hex()}')"


@given(data=DATA, time=st.integers(0, 4 * 10**15))
def test_rows_are_those_of_the_careful_way(data: dict[str, Any], time: int) -> None:
    values = RowValues(COLUMNS, {})
    one = event(data, time)
    wanted = careful(values, one)
    found = row_encoder(COLUMNS, {}, as_literals=False)([one], lambda bad: careful(values, bad))
    assert [*map(repr, found)] == [repr(wanted)] * (wanted is not None)
    written = row_encoder(COLUMNS, {}, as_literals=True)([one], lambda bad: as_written(careful(values, bad)))
    assert written == [as_written(wanted)] * (wanted is not None)


@given(data=DATA, time=st.integers(0, 4 * 10**15))
def test_values_are_those_of_the_careful_way(data: dict[str, Any], time: int) -> None:
    expressions = {"count": lambda one: one.data.get("score"), "at": lambda one: one.data.get("at")}
    for some in ({}, expressions):
        values, asked = RowValues(COLUMNS, some), list[Event]()
        found = values_encoder(COLUMNS, some)([event(data, time)], asked.append)
        assert found or asked
        for one in found:
            assert repr(sorted(one.items())) == repr(sorted(values(event(data, time)).items()))


def test_what_is_plain_never_goes_the_careful_way() -> None:
    data = {
        "id": 1, "count": -1, "score": 0.5, "ok": True, "device": "LED", "note": "ü", "at": "2026-01-31T12:00:00Z",
        "day": "2026-01-31", "detail": {"a": 1}, "picture": b"\0",
    }  # fmt: skip
    at = datetime(2026, 1, 31, 12, tzinfo=UTC)
    asked: list[Event] = []
    for write in (False, True):
        rows = row_encoder(COLUMNS, {}, as_literals=write)
        found = rows([event(data), event({**data, "at": at, "ok": False, "score": 1}), event({})], asked.append)
        assert len(found) == 3
    assert asked == []
    assert found[2] == f"({'NULL,' * 6}'2026-01-31 12:00:00.123456',{'NULL,' * 3}X'{bytes(range(16)).hex()}')"


def test_expressions_give_the_columns_that_have_one() -> None:
    def faulty(one: Event) -> Any:
        raise EventFault("no")

    asked: list[Event] = []
    encode = row_encoder(COLUMNS[:2], {"count": lambda one: one.data["n"] + 1, "at": faulty}, as_literals=False)
    assert encode([event({"n": 1, "count": 7})], asked.append) == [(None, 2, bytes(range(16)))]
    encode = row_encoder(COLUMNS, {"at": faulty}, as_literals=False)
    encode([event({})], asked.append)
    assert len(asked) == 1


@pytest.mark.parametrize("time", [datetime(1969, 12, 31, 23, 59, 59, 500_000, UTC), datetime(9999, 1, 1, tzinfo=UTC)])
def test_times_that_the_quick_way_does_not_know(time: datetime) -> None:
    values = RowValues(COLUMNS, {})
    asked: list[Event] = []
    row_encoder(COLUMNS, {}, as_literals=False)([event({"at": time}), event({}, microseconds(time))], asked.append)
    assert [values(one)["at"] for one in asked] == [time.replace(tzinfo=None).isoformat(" ", "microseconds")] * 2


def test_what_is_remembered_stays_bounded() -> None:
    texts, seconds = Quoted(50), Seconds()
    for number in range(REMEMBERED + 10):
        assert texts[f"t{number}"] == f"'t{number}'"
        assert len(seconds[number]) == 19
    assert texts[None] == "NULL"
    assert max(len(texts), len(seconds)) <= REMEMBERED
