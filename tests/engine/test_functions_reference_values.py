"""What functions compute, against independent libraries and published values (named at each)."""

import math
import statistics
from datetime import UTC, datetime, timedelta

import numpy
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.event import Event
from engine.expressions import parse
from engine.functions import FUNCTIONS

NOTHING = Event(b"\0" * 16, 0, "", "", "", {})
numbers = st.lists(st.floats(-1e6, 1e6) | st.integers(-1000, 1000), min_size=2, max_size=40)


def value_of(text: str) -> object:
    return parse(text)(NOTHING)


@given(numbers, st.floats(0, 100))
def test_percentiles_are_those_of_numpy(items: list[float], percent: float) -> None:
    expected = float(numpy.percentile(items, percent))
    assert FUNCTIONS["percentile"].call(items, percent) == pytest.approx(expected, rel=1e-9, abs=1e-6)


@given(numbers)
def test_median_and_deviation_are_those_of_the_standard_library(items: list[float]) -> None:
    assert FUNCTIONS["median"].call(items) == pytest.approx(statistics.median(items), rel=1e-9, abs=1e-6)
    assert FUNCTIONS["stddev"].call(items) == pytest.approx(statistics.stdev(items), rel=1e-6, abs=1e-6)


@given(st.floats(-100, 100), st.floats(-50, 50))
def test_powers_and_logarithms(number: float, exponent: float) -> None:
    assert FUNCTIONS["exp"].call(FUNCTIONS["log"].call(abs(number) + 1)) == pytest.approx(abs(number) + 1)
    assert FUNCTIONS["power"].call(abs(number) + 1, exponent) == pytest.approx((abs(number) + 1) ** exponent)
    assert FUNCTIONS["log"].call(8, 2) == pytest.approx(3)
    assert FUNCTIONS["sin"].call(number) ** 2 + FUNCTIONS["cos"].call(number) ** 2 == pytest.approx(1)


@given(st.integers(-(2**63), 2**63 - 1), st.integers(0, 63))
def test_bits_are_those_of_two_s_complement(number: int, index: int) -> None:
    pattern = format(number & (2**64 - 1), "064b")
    assert FUNCTIONS["bit"].call(number, index) is (pattern[63 - index] == "1")


@pytest.mark.parametrize(
    ("text", "result"),
    [
        # FIPS 180-4 and RFC 1321, examples for "abc"; RFC 4231, test case 2
        ('sha1("abc")', "a9993e364706816aba3e25717850c26c9cd0d89d"),
        ('md5("abc")', "900150983cd24fb0d6963f7d28e17f72"),
        ('substring(sha512("abc"), 0, 32)', "ddaf35a193617abacc417349ae204131"),
        ('hmac_sha256("what do ya want for nothing?", "Jefe")',
         "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"),
        # RFC 3986, 2.1 and 2.2
        ('url_encode("a b/ü&")', "a%20b%2F%C3%BC%26"),
        ('url_decode("a%20b%2F%C3%BC%26")', "a b/ü&"),
        # ISO 8601: the week of 2008-12-29 is the first of 2009, that of 2010-01-03 the 53rd of 2009
        ('week("2008-12-29")', 1),
        ('week("2010-01-03")', 53),
        ('day_of_year("2023-12-31")', 365),
        # 4 to 20 mA over 0 to 10 bar (NAMUR NE 43 names 3.8 and 20.5 mA as the ends of the range)
        ("scale(20.5, 4, 20, 0, 10)", 10.3125),
        ("scale(3.8, 4, 20, 0, 10)", -0.125),
        ("hex_number(hex(48879))", 48879),
        ("shift(shift(5, 10), -10)", 5),
        ("bit_or(bit_and(43690, 255), 1)", 171),
    ],
)  # fmt: skip
def test_published_values(text: str, result: object) -> None:
    assert value_of(text) == pytest.approx(result) if isinstance(result, float) else value_of(text) == result


@given(st.datetimes(datetime(1970, 1, 2), datetime(2100, 1, 1)), st.sampled_from(["15m", "1h", "8h", "1d"]))
def test_the_start_of_a_stretch_is_at_most_its_length_away(moment: datetime, length: str) -> None:
    time = moment.replace(tzinfo=UTC)
    start = FUNCTIONS["start_of"].call(time, length)
    assert isinstance(start, datetime)
    seconds = float(str(FUNCTIONS["seconds"].call(length)))
    assert start <= time < start + timedelta(seconds=seconds)
    assert math.remainder(start.timestamp(), seconds) == 0


def test_a_day_begins_at_midnight_of_its_zone_also_when_clocks_change() -> None:
    assert value_of('start_of("2026-03-29T12:00:00Z", "1d", "Europe/Berlin")') == datetime(2026, 3, 28, 23, tzinfo=UTC)
    assert value_of('start_of("2026-03-30T12:00:00Z", "1d", "Europe/Berlin")') == datetime(2026, 3, 29, 22, tzinfo=UTC)


@given(st.integers(0, 10**15))
def test_a_written_duration_is_read_again(microseconds: int) -> None:
    seconds = microseconds / 1_000_000
    assert FUNCTIONS["seconds"].call(FUNCTIONS["duration"].call(seconds)) == pytest.approx(seconds, abs=1e-6)


@pytest.mark.parametrize(
    ("text", "result"),
    [
        ("duration(0)", "0s"),
        ("duration(-90.5)", "-1m30.5s"),
        ("duration(0.000001)", "0.000001s"),
        ('later("2026-01-01", -60)', datetime(2025, 12, 31, 23, 59, tzinfo=UTC)),
        ('parse_time("12:30", "%H:%M")', datetime(1900, 1, 1, 12, 30, tzinfo=UTC)),
        ('parse_time("2026-01-01 +0200", "%Y-%m-%d %z")', datetime(2025, 12, 31, 22, tzinfo=UTC)),
        ('boolean(" YES ")', True),
        ("boolean(0.0)", False),
        ('find("abc", "x")', None),
        ('replace_pattern("a1b22", "([0-9]+)", "<\\\\1>")', "a<1>b<22>"),
        ('captures("a1", "x")', []),
        ("median([none])", None),
        ("stddev([1])", None),
        ("range(3, 0, -2)", [3, 1]),
        ("any([])", False),
        ("all([])", True),
        ('pluck([{"t": 1}, {}, 3], "t")', [1, None, None]),
        ('index_of([1, "1"], "1")', 1),
    ],
)
def test_at_the_edges(text: str, result: object) -> None:
    assert value_of(text) == result


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("log(0)", "log: numbers above 0"),
        ("log(2, 1)", "no base of 1"),
        ("power(-8, 0.5)", "is no number"),
        ("power(0, -1)", "is no number"),
        ("scale(1, 2, 2, 0, 1)", "scale: a range"),
        ("bit(1, 64)", "bit: an index"),
        ('hex_number("xyz")', "hex_number: not a number"),
        ('boolean("maybe")', "boolean: one of"),
        ('boolean("falsehood")', "boolean: one of"),
        ("percentile([1], 101)", "percentile: a percentage"),
        ("range(0, 9, 0)", "range: a step"),
        ('start_of("2026-01-01", 0)', "start_of: a duration above 0"),
        ('start_of("2026-01-01", "soon")', "start_of: not a duration"),
        ('parse_time("x", "%d%d")', "parse_time: not a time like"),
        ('parse_time("x", "%Q")', "parse_time: a layout has"),
        ('replace_pattern("a", "a", "\\\\7")', "the pattern has no such group"),
        ('url_decode("%ff")', "can't decode"),
        ("fixed(1, 16)", "fixed: digits"),
    ],
)
def test_what_cannot_be_computed(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        value_of(text)
