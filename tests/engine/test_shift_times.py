"""Shifts begin at times of day, also when the clocks are changed."""

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

from hypothesis import given
from hypothesis import strategies as st

from engine.event import MICROSECONDS, microseconds, moment
from engine.shift_times import ShiftTimes

BERLIN = ShiftTimes({"early": "06:00", "late": "14:00", "night": "22:00"}, ZoneInfo("Europe/Berlin"))
HOUR = 3600 * MICROSECONDS


def shift(text: str) -> tuple[str, str, str]:
    start, end, name = BERLIN.at(microseconds(datetime.fromisoformat(text)))
    return f"{moment(start):%d %H:%M}", f"{moment(end):%d %H:%M}", name


def test_a_shift_lasts_until_the_next_begins() -> None:
    assert shift("2026-01-15T05:00:00+01:00") == ("14 21:00", "15 05:00", "night")
    assert shift("2026-01-15T06:00:00+01:00") == ("15 05:00", "15 13:00", "early")
    assert shift("2026-01-15T23:59:59+01:00") == ("15 21:00", "16 05:00", "night")


def test_a_night_is_shorter_or_longer_when_the_clocks_are_changed() -> None:
    lengths = {}
    for night in ("2026-03-28", "2026-06-01", "2026-10-24"):
        start, end, _ = BERLIN.at(microseconds(datetime.fromisoformat(f"{night}T23:00:00+00:00")))
        lengths[night] = (end - start) // HOUR
    assert lengths == {"2026-03-28": 7, "2026-06-01": 8, "2026-10-24": 9}


@given(st.datetimes(datetime(2020, 1, 1), datetime(2030, 1, 1), timezones=st.just(UTC)))
def test_every_time_has_one_shift(time: datetime) -> None:
    now = microseconds(time)
    start, end, _ = BERLIN.at(now)
    assert start <= now < end
    assert BERLIN.at(start)[:2] == (start, end)
    assert BERLIN.at(end)[0] == end
    assert BERLIN.at(start - 1)[1] == start
