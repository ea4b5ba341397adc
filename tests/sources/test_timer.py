"""`timer`: ticks on a grid, over clock changes, outages and restarts; each has its number for good."""

from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.arrival import Pull, Reader
from engine.load import load_text
from sources.timer import Timer

SECOND = 1_000_000


def at(text: str) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()) * SECOND


def timer(**options: Any) -> Reader:
    return Timer.model_validate(options).open()


def told(pull: Pull) -> list[str]:
    return [msgspec.json.decode(arrival.payload)["at"] for _, arrival in pull.arrivals]


def local(options: dict[str, Any], start: str, end: str) -> list[str]:
    """Return the local times of the ticks of a stretch of time, read in one go after an outage."""
    pull = timer(on_missed="all", **options).read(at(start), at(end), 1000)
    return [msgspec.json.decode(arrival.payload)["local"] for _, arrival in pull.arrivals]


def test_intervals_lie_on_a_grid_that_a_start_does_not_move() -> None:
    reader = timer(every="10s")
    first = reader.read(None, at("2026-03-01T08:00:03"), 100)
    assert (first.arrivals, first.wake_at) == ([], at("2026-03-01T08:00:10"))
    second = reader.read(first.position, at("2026-03-01T08:00:21"), 100)
    assert told(second) == ["2026-03-01T08:00:10Z", "2026-03-01T08:00:20Z"]
    assert [time for time, _ in second.arrivals] == [at("2026-03-01T08:00:10"), at("2026-03-01T08:00:20")]
    assert reader.read(second.position, at("2026-03-01T08:00:29"), 100).arrivals == []


@pytest.mark.parametrize(
    ("on_missed", "expected", "skipped"),
    [
        ("skip", ["2026-03-01T08:59:50Z", "2026-03-01T09:00:00Z"], 358),
        ("last", ["2026-03-01T08:59:40Z", "2026-03-01T08:59:50Z", "2026-03-01T09:00:00Z"], 357),
    ],
)
def test_what_was_missed_in_an_outage(on_missed: Any, expected: list[str], skipped: int) -> None:
    reader = timer(every="10s", on_missed=on_missed)
    found = reader.read(at("2026-03-01T08:00:00"), at("2026-03-01T09:00:00"), 1000)
    assert (told(found), found.skipped) == (expected, skipped)


def test_a_cron_line_keeps_its_local_hour_over_a_change_of_the_clock() -> None:
    options = {"cron": "0 6 * * *", "zone": "Europe/Berlin"}
    assert local(options, "2026-03-27T12:00:00", "2026-03-30T12:00:00") == [
        "2026-03-28T06:00:00+01:00", "2026-03-29T06:00:00+02:00", "2026-03-30T06:00:00+02:00",
    ]  # fmt: skip


def test_an_hour_that_is_left_out_or_comes_twice() -> None:
    daily = {"cron": "30 2 * * *", "zone": "Europe/Berlin"}
    assert local(daily, "2026-03-28T12:00:00", "2026-03-29T12:00:00") == ["2026-03-29T03:00:00+02:00"]
    assert local(daily, "2026-10-24T12:00:00", "2026-10-25T12:00:00") == ["2026-10-25T02:30:00+02:00"]
    often = {"cron": "*/30 * * * *", "zone": "Europe/Berlin"}
    assert local(often, "2026-10-25T00:00:00", "2026-10-25T02:00:00") == [
        "2026-10-25T02:30:00+02:00", "2026-10-25T02:00:00+01:00", "2026-10-25T02:30:00+01:00",
        "2026-10-25T03:00:00+01:00",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("{cron: '0 6 * *'}", "five fields, as in '0 6 * * mon-fri'; got '0 6 * *'"),
        ("{cron: '61 6 * * *'}", "Bad minute"),
        ("{cron: '0 0 30 2 *'}", "Bad day-of-month"),
        ("{cron: '0 6 * * *', zone: Berlin}", "a time zone such as Europe/Berlin; got 'Berlin'"),
        ("{cron: '0 6 * * *', every: 1s}", "either every or cron"),
        ("{every: 1ms}", "100ms"),
    ],
)
def test_what_is_no_timer(options: str, message: str) -> None:
    flow = load_text(f"flow: f\nsources: {{a: {{timer: {options}}}}}\nsinks: {{z: {{from: a, log: x}}}}\n")
    assert message in str(flow.document.findings[0])


MINUTES = st.integers(0, 400)


@given(st.sampled_from(["skip", "last", "all"]), st.lists(MINUTES, min_size=2, max_size=8), st.integers(1, 5))
def test_a_tick_has_the_same_number_however_it_is_read(on_missed: Any, moments: list[int], limit: int) -> None:
    """Its number is what its event's id comes from; it is that of its place on the grid since the first start."""
    begin = datetime(2026, 10, 25, tzinfo=ZoneInfo("Europe/Berlin"))
    start = int(begin.timestamp()) * SECOND
    options = {"cron": "*/7 * * * *", "zone": "Europe/Berlin"}
    every = [time for time, _ in timer(on_missed="all", **options).read(start, start + 401 * 60 * SECOND, 999).arrivals]
    position: Any = start
    count = 0
    for minutes in sorted(moments):
        now = start + int(timedelta(minutes=minutes).total_seconds()) * SECOND
        pull = timer(on_missed=on_missed, **options).read(position, now, limit)
        count += pull.skipped
        for time, _ in pull.arrivals:
            assert every[count] == time
            count += 1
        position = pull.position
